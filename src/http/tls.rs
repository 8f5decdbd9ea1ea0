//! TLS of the listener: the handshake, and the certificate, which follows its files.
//!
//! A connection keeps the certificate with which it began, so a renewal ends none. Sessions that clients could resume are
//! forgotten then: their next handshake is a full one, with the new certificate.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use rustls::ServerConfig;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::watch;
use tokio::time::{sleep, timeout};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tokio_util::sync::CancellationToken;

use crate::metrics::{Metrics, Status};
use crate::settings::{SettingsError, TlsFiles};
use crate::tls::{self, ServerFile, ServerPem};

/// How often the files are read.
const READ_EVERY: Duration = Duration::from_secs(5);
const OK: &str = "ok";
const FAILED: &str = "failed";
/// The values of the label `status`.
pub(super) const HANDSHAKES: [&str; 2] = [OK, FAILED];

/// The certificate with its key, as the files are now.
#[derive(Clone)]
pub struct ServerTls {
    files: TlsFiles,
    metrics: Metrics,
    /// What the files contained when they were last usable.
    pem: ServerPem,
    config: watch::Sender<Arc<ServerConfig>>,
}

impl ServerTls {
    /// Fails where the files can't be used.
    pub fn read(files: &TlsFiles, metrics: Metrics) -> Result<Self, SettingsError> {
        let pem = read(files)?;
        let config = config(&pem)?;
        let tls = Self { files: files.clone(), metrics, pem, config: watch::Sender::new(config) };
        tls.report_expiry();
        Ok(tls)
    }

    /// Reads the files now and then, and uses a new certificate for the connections after that. Files that can't be used change
    /// nothing: they may be half written.
    pub async fn follow_files(self, stop: CancellationToken) {
        stop.run_until_cancelled(self.follow()).await;
    }

    async fn follow(mut self) {
        let mut last_error = None;
        loop {
            sleep(READ_EVERY).await;
            let files = self.files.clone();
            let Ok(pem) = tokio::task::spawn_blocking(move || read(&files)).await else { continue };
            match pem.and_then(|pem| self.replace(pem)) {
                Ok(()) => last_error = None,
                Err(error) if last_error.as_ref() == Some(&error) => {}
                Err(error) => {
                    tracing::warn!(%error, "the new TLS certificate can't be used; the one before is still in use");
                    last_error = Some(error);
                }
            }
        }
    }

    fn replace(&mut self, pem: ServerPem) -> Result<(), SettingsError> {
        if pem != self.pem {
            self.config.send_replace(config(&pem)?);
            self.pem = pem;
            self.report_expiry();
            tracing::info!("the TLS certificate has changed: new connections use the new one");
        }
        Ok(())
    }

    fn report_expiry(&self) {
        self.metrics.tls_certificate_expires.set_or_clear(self.pem.expires_at());
    }

    /// Accepts a connection. Fails if the handshake takes longer than `limit`.
    pub(super) async fn accept<T: AsyncRead + AsyncWrite + Unpin>(
        &self,
        io: T,
        limit: Duration,
    ) -> io::Result<TlsStream<T>> {
        let acceptor = TlsAcceptor::from(self.config.borrow().clone());
        let accepted =
            timeout(limit, acceptor.accept(io)).await.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()));
        let status = if accepted.is_ok() { OK } else { FAILED };
        self.metrics.tls_handshakes.get_or_create(&Status { status }).inc();
        accepted
    }
}

fn read(files: &TlsFiles) -> Result<ServerPem, SettingsError> {
    ServerPem::read(&files.cert, &files.key).map_err(bad)
}

fn config(pem: &ServerPem) -> Result<Arc<ServerConfig>, SettingsError> {
    pem.config().map(Arc::new).map_err(bad)
}

fn bad((file, problem): (ServerFile, tls::TlsError)) -> SettingsError {
    let name = match file {
        ServerFile::Certificate => "HTTP_TLS_CERT_FILE",
        ServerFile::Key => "HTTP_TLS_KEY_FILE",
    };
    SettingsError { name: name.to_owned(), problem: problem.to_string() }
}

#[cfg(test)]
mod tests {
    use std::path::{Path, PathBuf};
    use std::process::Command;

    use super::*;

    /// A certificate that signs itself.
    fn make(folder: &Path) -> TlsFiles {
        std::fs::create_dir_all(folder).unwrap();
        let files = TlsFiles { cert: folder.join("cert"), key: folder.join("key") };
        let mut command = Command::new("openssl");
        command.args([
            "req",
            "-x509",
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:P-256",
            "-nodes",
            "-subj",
            "/CN=a",
        ]);
        let output = command.arg("-keyout").arg(&files.key).arg("-out").arg(&files.cert).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        files
    }

    fn folder(name: &str) -> PathBuf {
        std::env::temp_dir().join(format!("smarthome-tls-{}-{name}", std::process::id()))
    }

    #[test]
    fn only_a_whole_pair_of_files_is_used() {
        let folders = ["used", "next"].map(folder);
        let [used, next] = folders.each_ref().map(|folder| make(folder));
        let mut tls = ServerTls::read(&used, Metrics::new()).unwrap();
        let first = tls.config.borrow().clone();
        let name = |result: Result<(), SettingsError>| result.expect_err("unusable").name;
        // The key comes before its certificate, then half of the certificate.
        std::fs::copy(&next.key, &used.key).unwrap();
        assert_eq!(name(read(&used).and_then(|pem| tls.replace(pem))), "HTTP_TLS_CERT_FILE");
        let whole = std::fs::read(&next.cert).unwrap();
        std::fs::write(&used.cert, &whole[..whole.len() / 2]).unwrap();
        assert_eq!(name(read(&used).and_then(|pem| tls.replace(pem))), "HTTP_TLS_CERT_FILE");
        std::fs::write(&used.key, "no key").unwrap();
        std::fs::write(&used.cert, &whole).unwrap();
        assert_eq!(name(read(&used).and_then(|pem| tls.replace(pem))), "HTTP_TLS_KEY_FILE");
        std::fs::remove_file(&used.key).unwrap();
        assert_eq!(name(read(&used).and_then(|pem| tls.replace(pem))), "HTTP_TLS_KEY_FILE");
        assert!(Arc::ptr_eq(&first, &tls.config.borrow()));
        std::fs::copy(&next.key, &used.key).unwrap();
        read(&used).and_then(|pem| tls.replace(pem)).unwrap();
        assert!(!Arc::ptr_eq(&first, &tls.config.borrow()));
        for folder in folders {
            std::fs::remove_dir_all(folder).unwrap();
        }
    }
}
