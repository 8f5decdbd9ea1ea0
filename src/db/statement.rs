//! Statements kept in `.sql` files: psql runs each after a `\set` for each `:name`, and `tests/it/statements.rs`
//! explains each against the real schema.
//!
//! A file names its parameters as psql does (`:now`, `:device_ids`); [`statement!`](crate::db::statement!)
//! declares a struct with one field a parameter and splits the file at the names, once in the process's life.
//! The struct is a Diesel query with a static id, so the connection prepares it once, which
//! `diesel::sql_query` never does.

use diesel::QueryResult;
use diesel::pg::Pg;
use diesel::query_builder::AstPass;

/// The text of a statement, cut at its parameters.
pub struct Template {
    /// Text, and the index of the parameter that follows it.
    parts: Vec<(&'static str, Option<usize>)>,
}

impl Template {
    /// Cuts `sql` at `:name` for each of `names`. `::type` is a cast; comments are left out.
    ///
    /// # Panics
    ///
    /// When the file names a parameter that is not declared, or lacks one that is: a fault of the program, found
    /// by the first test that runs the statement.
    pub fn new(sql: &'static str, names: &[&str]) -> Self {
        let (mut parts, mut start, mut used) = (Vec::new(), 0, vec![false; names.len()]);
        for (at, name) in parameters(sql) {
            let index = names.iter().position(|known| *known == name);
            let index = index.unwrap_or_else(|| panic!("parameter :{name} is not declared: {sql}"));
            used[index] = true;
            parts.push((&sql[start..at], Some(index)));
            start = at + 1 + name.len();
        }
        let unused: Vec<_> = names.iter().zip(used).filter(|(_, used)| !used).map(|(name, _)| name).collect();
        assert!(unused.is_empty(), "parameters {unused:?} are not in the statement: {sql}");
        parts.push((sql[start..].trim_end().trim_end_matches(';'), None));
        Self { parts }
    }

    /// Writes the statement; `bind` pushes the parameter of an index.
    pub fn walk<'b>(
        &self,
        mut out: AstPass<'_, 'b, Pg>,
        bind: impl Fn(usize, &mut AstPass<'_, 'b, Pg>) -> QueryResult<()>,
    ) -> QueryResult<()> {
        for (text, parameter) in &self.parts {
            out.push_sql(text);
            if let Some(index) = parameter {
                bind(*index, &mut out)?;
            }
        }
        Ok(())
    }
}

/// The parameters of a statement and where each stands (its colon), in order. Quoted text, comments and casts
/// hold none.
pub fn parameters(sql: &str) -> Vec<(usize, &str)> {
    let bytes = sql.as_bytes();
    let (mut found, mut at) = (Vec::new(), 0);
    while at < bytes.len() {
        match bytes[at] {
            b'\'' => at += 1 + sql[at + 1..].find('\'').expect("a closing quote"),
            b'-' if bytes.get(at + 1) == Some(&b'-') => at += sql[at..].find('\n').unwrap_or(sql.len() - at),
            b':' if bytes.get(at + 1) == Some(&b':') => at += 1,
            b':' => {
                let rest = &sql[at + 1..];
                let len = rest.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(rest.len());
                if len > 0 && !rest.starts_with(|c: char| c.is_ascii_digit()) {
                    found.push((at, &rest[..len]));
                }
                at += len;
            }
            _ => {}
        }
        at += 1;
    }
    found
}

/// The statement with `$1`, `$2`, … for its parameters, as PREPARE takes it, and the name of each.
pub fn numbered(sql: &str) -> (String, Vec<&str>) {
    let (mut text, mut names, mut end) = (String::new(), Vec::new(), 0);
    for (at, name) in parameters(sql) {
        let number = names.iter().position(|known| *known == name).unwrap_or_else(|| {
            names.push(name);
            names.len() - 1
        });
        text.push_str(&sql[end..at]);
        text.push_str(&format!("${}", number + 1));
        end = at + 1 + name.len();
    }
    text.push_str(sql[end..].trim_end().trim_end_matches(';'));
    (text, names)
}

/// Parameters that several statements have in common, as one field of their structs.
pub trait Parameters {
    const NAMES: &'static [&'static str];

    /// Pushes the parameter of an index of `NAMES`.
    fn bind<'b>(&'b self, index: usize, out: &mut AstPass<'_, 'b, Pg>) -> QueryResult<()>;
}

/// Declares a statement whose text is a `.sql` file beside the invoking file: a struct with one field a
/// parameter, usable with every method of `diesel_async::RunQueryDsl`.
///
/// ```ignore
/// statement! {
///     /// Devices for which a command waits.
///     struct FindDue<'a>("sql/find_due.sql") -> BigInt {
///         now: Timestamptz = DateTime<Utc>,
///         busy: Array<BigInt> = &'a [DeviceId],
///         limit: BigInt = i64,
///     }
/// }
/// let due: Vec<DeviceId> = FindDue { now, busy, limit }.load(conn).await?;
/// ```
///
/// The type behind `->` is the SQL type of a row: a type or tuple where columns are read by position, `Untyped`
/// where a `QueryableByName` struct reads them by name or nothing is read.
///
/// `..filter: DeviceFilter = &'a DeviceFilter` before the other fields stands for all [`Parameters`] of that type.
///
/// `struct Commit = "commit"` declares a statement of constant text, without parameters and rows.
#[macro_export]
macro_rules! statement {
    ($(#[$doc:meta])* $vis:vis struct $name:ident $(<$life:lifetime>)? ($file:literal) -> $row:ty {
        $(..$shared:ident: $parameters:ty = $shared_type:ty,)?
        $($field:ident: $sql_type:ty = $type:ty),* $(,)?
    }) => {
        $(#[$doc])*
        $vis struct $name $(<$life>)? {
            $($vis $shared: $shared_type,)?
            $($vis $field: $type,)*
        }

        impl $(<$life>)? diesel::query_builder::QueryFragment<diesel::pg::Pg> for $name $(<$life>)? {
            fn walk_ast<'b>(
                &'b self,
                out: diesel::query_builder::AstPass<'_, 'b, diesel::pg::Pg>,
            ) -> diesel::QueryResult<()> {
                static TEMPLATE: std::sync::LazyLock<$crate::db::Template> = std::sync::LazyLock::new(|| {
                    let names: &[&str] = &[$(stringify!($field)),*];
                    $(let names = &[names, <$parameters as $crate::db::Parameters>::NAMES].concat();)?
                    $crate::db::Template::new(include_str!($file), names)
                });
                TEMPLATE.walk(out, |index, out| {
                    let next = 0;
                    $(
                        if index == next {
                            return out.push_bind_param::<$sql_type, _>(&self.$field);
                        }
                        let next = next + 1;
                    )*
                    $(
                        if index >= next {
                            return <$parameters as $crate::db::Parameters>::bind(self.$shared, index - next, out);
                        }
                    )?
                    let _ = (index, next, out);
                    Ok(())
                })
            }
        }

        impl $(<$life>)? diesel::query_builder::QueryId for $name $(<$life>)? {
            type QueryId = $crate::statement!(@id $name $($life)?);
            const HAS_STATIC_QUERY_ID: bool = true;
        }

        impl $(<$life>)? diesel::query_builder::Query for $name $(<$life>)? {
            type SqlType = $row;
        }
    };
    ($(#[$doc:meta])* $vis:vis struct $name:ident = $text:expr) => {
        $(#[$doc])*
        $vis struct $name;

        impl diesel::query_builder::QueryFragment<diesel::pg::Pg> for $name {
            fn walk_ast<'b>(
                &'b self,
                mut out: diesel::query_builder::AstPass<'_, 'b, diesel::pg::Pg>,
            ) -> diesel::QueryResult<()> {
                out.push_sql($text);
                Ok(())
            }
        }

        impl diesel::query_builder::QueryId for $name {
            type QueryId = Self;
            const HAS_STATIC_QUERY_ID: bool = true;
        }
    };
    (@id $name:ident) => { $name };
    (@id $name:ident $life:lifetime) => { $name<'static> };
}

pub use statement;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_are_told_from_casts_quotes_and_comments() {
        let sql = "select ':no', :a::text -- :no\n from t where b = :b_2 and c = 'it''s :no' and a[1:2] = :a";
        let names: Vec<_> = parameters(sql).into_iter().map(|(_, name)| name).collect();
        assert_eq!(names, ["a", "b_2", "a"]);
    }
}
