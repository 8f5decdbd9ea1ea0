//! Measures one statement: prepared as the server prepares it, executed by `explain (analyze)` in a transaction that is
//! rolled back.

use anyhow::{Context, Result, ensure};
use diesel::QueryableByName;
use diesel::sql_types::{Json, Nullable, Text};
use diesel_async::{RunQueryDsl, SimpleAsyncConnection};
use serde_json::Value;
use smarthome::db::Connection;

use super::cases::{Case, Entry, numbered};
use super::plan::Execution;
use super::report::{Figures, Report};

/// Runs after the one that reads everything into memory; their median counts.
const RUNS: usize = 5;

/// A row of `explain (format json)`.
#[derive(QueryableByName)]
struct Explained {
    #[diesel(sql_type = Json)]
    #[diesel(column_name = "QUERY PLAN")]
    plans: Value,
}

#[derive(QueryableByName)]
struct Argument {
    #[diesel(sql_type = Nullable<Text>)]
    value: Option<String>,
}

pub(super) async fn measure(conn: &mut Connection, entry: &Entry, report: &mut Report) -> Result<()> {
    let (sql, names) = numbered(&entry.sql);
    conn.batch_execute(&format!("prepare measured as {sql}")).await?;
    for case in &entry.cases {
        let execution = execution(conn, case, &names).await.with_context(|| case.name.clone())?;
        let figures = figures(conn, &execution).await.with_context(|| case.name.clone())?;
        report.add(&entry.name, case, &figures);
    }
    Ok(conn.batch_execute("deallocate measured").await?)
}

/// The statement that executes it with the arguments of a case: constants, as a client sends them.
async fn execution(conn: &mut Connection, case: &Case, names: &[&str]) -> Result<String> {
    ensure!(case.arguments.len() == names.len(), "its parameters are {names:?}");
    let mut values = Vec::new();
    for name in names {
        let (_, expression) = case.arguments.iter().find(|(known, _)| known == name).context(format!("no {name}"))?;
        let query = diesel::sql_query(format!("select ({expression})::text as value"));
        let argument: Argument = query.get_result(conn).await.with_context(|| expression.clone())?;
        let quoted = |value: String| format!("'{}'", value.replace('\'', "''"));
        values.push(argument.value.map_or_else(|| "null".to_owned(), quoted));
    }
    let values = if values.is_empty() { String::new() } else { format!("({})", values.join(", ")) };
    // The time of each step is not taken: taking it would be part of the time.
    Ok(format!("explain (analyze, buffers, timing off, format json) execute measured{values}"))
}

async fn figures(conn: &mut Connection, execution: &str) -> Result<Figures> {
    let mut runs = Vec::new();
    for _ in 0..=RUNS {
        conn.batch_execute("begin").await?;
        let explained = diesel::sql_query(execution).get_result::<Explained>(conn).await;
        conn.batch_execute("rollback").await?;
        let [run] = serde_json::from_value::<[Execution; 1]>(explained?.plans)?;
        runs.push(run);
    }
    let last = &runs[RUNS].plan;
    let (rows, read, buffers) = (last.n_returned(), last.n_read(), last.n_pages());
    let mut ms: Vec<f64> = runs[1..].iter().map(|run| run.ms).collect();
    ms.sort_by(f64::total_cmp);
    Ok(Figures { rows, read, ms: ms[RUNS / 2], buffers })
}
