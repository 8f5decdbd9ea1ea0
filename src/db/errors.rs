//! What the error of a failed statement says, and the language in which PostgreSQL reports errors.

use diesel::QueryResult;
use diesel::result::{DatabaseErrorKind, Error as DieselError};
use diesel::sql_types::Text;
use diesel_async::RunQueryDsl;

use super::pool::STATEMENT_TIMEOUT;
use super::{connect, statement};
use crate::error::Chain;
use crate::settings::DatabaseSettings;

/// Whether a statement failed because a value must be unique and is not.
pub fn is_unique_violation(error: &DieselError) -> bool {
    matches!(error, DieselError::DatabaseError(DatabaseErrorKind::UniqueViolation, _))
}

/// The foreign key that a statement would have violated: the row it refers to has been deleted meanwhile.
pub fn violated_foreign_key(error: &DieselError) -> Option<&str> {
    match error {
        DieselError::DatabaseError(DatabaseErrorKind::ForeignKeyViolation, info) => {
            Some(info.constraint_name().unwrap_or_default())
        }
        _ => None,
    }
}

/// Warns if PostgreSQL does not report errors in English: some are told apart by their text, because no SQLSTATE
/// reaches us (see [`crate::error`]).
pub async fn warn_about_message_language(settings: &DatabaseSettings) {
    statement! { struct ShowMessageLanguage("sql/message_language.sql") -> Text {} }
    let language: QueryResult<String> = match connect(settings.url.reveal(), Some(STATEMENT_TIMEOUT)).await {
        Ok(mut conn) => ShowMessageLanguage {}.get_result(&mut conn).await,
        Err(error) => return tracing::debug!(error = %Chain(&error), "the language of messages is not known"),
    };
    match language {
        Ok(language) if is_english(&language) => {}
        Ok(language) => tracing::warn!(
            lc_messages = language,
            "PostgreSQL reports errors in another language than English: a deadlock or a time-out is then reported \
             to clients as INTERNAL instead of UNAVAILABLE. As its superuser: alter role … set lc_messages = 'C'"
        ),
        Err(error) => tracing::debug!(error = %Chain(&error), "the language of messages is not known"),
    }
}

fn is_english(language: &str) -> bool {
    ["C", "POSIX"].contains(&language) || language.starts_with("C.") || language.starts_with("en")
}
