//! TLS of the server's own listener.

use std::path::Path;
use std::sync::Arc;

use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use x509_cert::Certificate;
use x509_cert::der::Decode;

use super::{TlsError, provider};

/// Which of the two files can't be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ServerFile {
    Certificate,
    Key,
}

/// The PEM texts of a certificate with its chain, and of its key.
#[derive(Clone, PartialEq, Eq)]
pub struct ServerPem {
    certificate: Vec<u8>,
    key: Vec<u8>,
}

impl ServerPem {
    pub fn read(certificate: &Path, key: &Path) -> Result<Self, (ServerFile, TlsError)> {
        let read = |path: &Path, file| std::fs::read(path).map_err(|error| (file, TlsError::new(error)));
        Ok(Self { certificate: read(certificate, ServerFile::Certificate)?, key: read(key, ServerFile::Key)? })
    }

    /// When the first certificate of the chain expires, in seconds since 1970.
    pub fn expires_at(&self) -> Option<i64> {
        let chain = CertificateDer::pem_slice_iter(&self.certificate).filter_map(Result::ok);
        let expiry = |der: CertificateDer<'_>| {
            let certificate = Certificate::from_der(&der).ok()?;
            i64::try_from(certificate.tbs_certificate.validity.not_after.to_unix_duration().as_secs()).ok()
        };
        chain.filter_map(expiry).min()
    }

    /// For TLS 1.2 or newer, and HTTP/1.1. Fails where the key is not the certificate's.
    pub fn config(&self) -> Result<ServerConfig, (ServerFile, TlsError)> {
        let of_certificate = |error: &dyn std::fmt::Display| (ServerFile::Certificate, TlsError::new(error));
        let chain = CertificateDer::pem_slice_iter(&self.certificate).collect::<Result<Vec<_>, _>>();
        let chain = chain.map_err(|error| of_certificate(&error))?;
        if chain.is_empty() {
            return Err(of_certificate(&"the file contains no certificate"));
        }
        let key = PrivateKeyDer::from_pem_slice(&self.key);
        let key = key.map_err(|error| (ServerFile::Key, TlsError::new(error)))?;
        let config = ServerConfig::builder_with_provider(Arc::new(provider())).with_safe_default_protocol_versions();
        let config = config.map_err(|error| of_certificate(&error))?.with_no_client_auth();
        let mut config = config.with_single_cert(chain, key).map_err(|error| of_certificate(&error))?;
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(config)
    }
}
