//! The tracing subscriber: text for people, or JSON with `LOG_FORMAT=json`.

use std::io::IsTerminal;

use tracing_subscriber::EnvFilter;

use crate::settings::{SettingsError, Source};

/// A measured figure as lines of the log show it: with at most two decimals.
pub fn rounded(figure: f64) -> f64 {
    (figure * 100.0).round() / 100.0
}

/// Starts logging to standard error. `LOG` is a filter such as `info` or `smarthome=debug,info`.
pub fn start(source: &impl Source) -> Result<(), SettingsError> {
    let bad = |name: &str, problem: &str| SettingsError { name: name.to_owned(), problem: problem.to_owned() };
    let filter = source.get("LOG").unwrap_or_else(|| "info".to_owned());
    // Debug output of these libraries is off unless asked for. Some of it contains secrets: tokio_postgres logs the
    // parameters of every statement, tungstenite every message of a socket.
    const QUIET: &str = "rumqttc=off,mqtt5=error,tokio_postgres=info,tungstenite=info";
    let filter = EnvFilter::try_new(format!("{QUIET},{filter}"))
        .map_err(|_| bad("LOG", "expected a filter such as info or smarthome=debug,info"))?;
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    match source.get("LOG_FORMAT").as_deref() {
        Some("json") => builder.json().flatten_event(true).init(),
        None | Some("text") => {
            builder.with_target(false).with_ansi(std::io::stderr().is_terminal()).init();
        }
        Some(_) => return Err(bad("LOG_FORMAT", "expected `json` or `text`")),
    }
    Ok(())
}
