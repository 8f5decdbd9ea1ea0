//! TLS to PostgreSQL: whose certificates are taken.

use std::path::Path;
use std::sync::Arc;

use diesel::{ConnectionError, ConnectionResult};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::{ClientConfig, RootCertStore};
use tokio_postgres_rustls::MakeRustlsConnect;

/// Certificates are verified against the authorities of this PEM file; without one against the system's
/// (or `SSL_CERT_FILE`).
pub(super) fn connector(root_cert: Option<&Path>) -> ConnectionResult<MakeRustlsConnect> {
    let mut roots = RootCertStore::empty();
    match root_cert {
        Some(path) => {
            let unusable = |_| ConnectionError::BadConnection("sslrootcert: no certificates in this file".to_owned());
            let certificates = CertificateDer::pem_file_iter(path).map_err(unusable)?;
            roots.add_parsable_certificates(certificates.collect::<Result<Vec<_>, _>>().map_err(unusable)?);
        }
        None => drop(roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs)),
    }
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| ConnectionError::BadConnection(error.to_string()))?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(MakeRustlsConnect::new(config))
}
