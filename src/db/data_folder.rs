//! Where PostgreSQL stores its data.

use diesel::QueryResult;
use diesel::sql_types::{Bool, Nullable, Text};
use diesel_async::RunQueryDsl;

use super::{Connection, statement};

statement! {
    struct ReadDataFolder("sql/data_folder.sql") -> (Bool, Nullable<Text>) {}
}

/// Whether PostgreSQL runs on this machine, and its folder if the account may know it.
pub async fn data_folder(conn: &mut Connection) -> QueryResult<(bool, Option<String>)> {
    ReadDataFolder {}.get_result(conn).await
}
