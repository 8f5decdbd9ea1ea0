//! Settings of the database.

use std::net::IpAddr;

use tokio_postgres::config::Host;

use super::{DatabaseUrl, Secret, SettingsError, SettingsErrors, Source, all, bad, required_secret, small_number};

#[derive(Debug, Clone)]
pub struct DatabaseSettings {
    /// `DATABASE_URL`: a PostgreSQL URL or keyword string, see [`DatabaseUrl`].
    pub url: Secret,
    /// `DATABASE_POOL_SIZE`: connections of the API. Ingest and background tasks have their own.
    pub pool_size: u32,
}

impl DatabaseSettings {
    pub fn read(source: &impl Source) -> Result<Self, SettingsErrors> {
        all!(Self { url: url(source), pool_size: small_number(source, "DATABASE_POOL_SIZE", 10, 1..=1000) })
    }
}

impl DatabaseSettings {
    /// Host and database, without user and password.
    pub fn place(&self) -> String {
        let config: tokio_postgres::Config = DatabaseUrl::split(self.url.reveal()).url.parse().unwrap_or_default();
        // One port is for all hosts.
        let mut ports = config.get_ports().iter().cycle();
        let hosts: Vec<_> = config.get_hosts().iter().map(|host| address(host, ports.next())).collect();
        let database = config.get_dbname().or(config.get_user()).unwrap_or_default();
        format!("{}/{database}", hosts.join(","))
    }

    /// Whether the URL names this machine alone: by a socket or by the loopback.
    pub fn is_on_this_machine(&self) -> bool {
        let config: tokio_postgres::Config = DatabaseUrl::split(self.url.reveal()).url.parse().unwrap_or_default();
        config.get_hosts().iter().all(|host| match host {
            Host::Tcp(name) => is_loopback(name),
            Host::Unix(_) => true,
        })
    }
}

/// Whether a host in a URL is this machine.
pub fn is_loopback(host: &str) -> bool {
    host == "localhost" || host.parse::<IpAddr>().is_ok_and(|addr| addr.is_loopback())
}

fn address(host: &Host, port: Option<&u16>) -> String {
    let host = match host {
        Host::Tcp(name) => name.clone(),
        Host::Unix(path) => path.display().to_string(),
    };
    port.map_or_else(|| host.clone(), |port| format!("{host}:{port}"))
}

fn url(source: &impl Source) -> Result<Secret, SettingsError> {
    let url = required_secret(source, "DATABASE_URL")?;
    let split = DatabaseUrl::split(url.reveal());
    let parsed: Result<tokio_postgres::Config, _> = split.url.parse();
    // The parser's own message may quote the URL with its password.
    parsed.map_err(|_| bad("DATABASE_URL", "not a PostgreSQL URL, e.g. postgres://user:password@host/database"))?;
    if let Some(path) = split.root_cert.filter(|path| std::fs::File::open(path).is_err()) {
        return Err(bad("DATABASE_URL", format!("sslrootcert: can't read {}", path.display())));
    }
    Ok(url)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_place_of_a_database_has_no_password() {
        let place = |url: &str| DatabaseSettings { url: Secret::new(url), pool_size: 1 }.place();
        assert_eq!(place("postgres://me:secret@db.example.com/home"), "db.example.com:5432/home");
        assert_eq!(place("postgres://me:secret@db:5433/home?sslmode=verify-full"), "db:5433/home");
        assert_eq!(place("postgres://me:secret@a,b:5433/home"), "a:5432,b:5433/home");
        assert_eq!(place("host=/run/postgresql user=me password=secret"), "/run/postgresql/me");
    }

    #[test]
    fn a_socket_and_the_loopback_are_this_machine() {
        let is_here = |url: &str| DatabaseSettings { url: Secret::new(url), pool_size: 1 }.is_on_this_machine();
        for url in ["host=/run/postgresql user=me", "postgres://me@localhost/home", "postgres://me@127.0.0.1:5433/home"]
        {
            assert!(is_here(url), "{url}");
        }
        for url in ["postgres://me@db.example.com/home", "postgres://me@localhost,b/home"] {
            assert!(!is_here(url), "{url}");
        }
    }
}
