//! Settings of the database.

use super::{DatabaseUrl, Secret, SettingsError, Source, bad, number, required_secret};

#[derive(Debug, Clone)]
pub struct DatabaseSettings {
    /// `DATABASE_URL`: a PostgreSQL URL or keyword string, see [`DatabaseUrl`].
    pub url: Secret,
    /// `DATABASE_POOL_SIZE`: connections of the API. Ingest and background tasks have their own.
    pub pool_size: u32,
}

impl DatabaseSettings {
    pub fn read(source: &impl Source) -> Result<Self, SettingsError> {
        let url = required_secret(source, "DATABASE_URL")?;
        let split = DatabaseUrl::split(url.reveal());
        let parsed: Result<tokio_postgres::Config, _> = split.url.parse();
        // The parser's own message may quote the URL with its password.
        parsed.map_err(|_| bad("DATABASE_URL", "not a PostgreSQL URL, e.g. postgres://user:password@host/database"))?;
        if let Some(path) = split.root_cert.filter(|path| std::fs::File::open(path).is_err()) {
            return Err(bad("DATABASE_URL", format!("sslrootcert: can't read {}", path.display())));
        }
        let pool_size = number(source, "DATABASE_POOL_SIZE", 10, 1..=1000)?;
        Ok(Self { url, pool_size: u32::try_from(pool_size).expect("bounded above") })
    }
}
