//! TLS. Outgoing connections require TLS 1.2 or newer and a certificate for the server's name, signed by a trusted authority;
//! the health check of the local server requires the server's own certificate. Verification can't be turned off.

mod pinned;
mod server;

use std::path::Path;
use std::sync::{Arc, LazyLock};

use rustls::client::WantsClientCert;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::{ClientConfig, ConfigBuilder, RootCertStore};

pub use pinned::pinned_client_config;
pub use server::{ServerFile, ServerPem};

/// Certificates that can't be used, and why.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct TlsError(String);

impl TlsError {
    fn new(problem: impl std::fmt::Display) -> Self {
        Self(problem.to_string())
    }
}

/// The authorities of the system or of `SSL_CERT_FILE`. They are read once: on Debian from some 300 files.
static SYSTEM_ROOTS: LazyLock<Arc<RootCertStore>> = LazyLock::new(|| {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    Arc::new(roots)
});

/// A client configuration that trusts only the authorities in this PEM file; without a file, those of the system or
/// of `SSL_CERT_FILE`.
pub fn client_config(ca_file: Option<&Path>) -> Result<ConfigBuilder<ClientConfig, WantsClientCert>, TlsError> {
    let roots = match ca_file {
        Some(path) => Arc::new(roots_in(path)?),
        None => SYSTEM_ROOTS.clone(),
    };
    let config = ClientConfig::builder_with_provider(Arc::new(provider()));
    Ok(config.with_safe_default_protocol_versions().map_err(TlsError::new)?.with_root_certificates(roots))
}

fn provider() -> CryptoProvider {
    rustls::crypto::aws_lc_rs::default_provider()
}

fn roots_in(path: &Path) -> Result<RootCertStore, TlsError> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates(path)? {
        roots.add(certificate).map_err(TlsError::new)?;
    }
    Ok(roots)
}

/// The certificates in a PEM file, at least one.
pub fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let found: Vec<_> = CertificateDer::pem_file_iter(path).and_then(Iterator::collect).map_err(TlsError::new)?;
    if found.is_empty() { Err(TlsError::new("the file contains no certificate")) } else { Ok(found) }
}
