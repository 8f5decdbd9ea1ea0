//! Why a connection to the broker failed, classified by what an operator can do.

use std::error::Error;
use std::{fmt, io};

use rumqttc::{ConnectReturnCode, ConnectionError, StateError};
use rustls::{AlertDescription, CertificateError};

use super::ANSWER_TIMEOUT;
use crate::error::Chain;
use crate::mqtt::options::TlsFileError;
use crate::settings::Transport;

/// Why there is no TCP connection to the broker.
#[derive(Debug, thiserror::Error)]
pub enum Unreachable {
    /// The name of the host has no address.
    #[error("{0}")]
    UnknownName(io::Error),
    #[error("{0}")]
    NoConnection(io::Error),
}

/// Why a TCP connection did not become an MQTT connection.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ConnectFault {
    /// A file of the settings can't be used.
    #[error("{0}")]
    File(String),
    #[error("the port speaks {}", protocol(*.0))]
    OtherTransport(Transport),
    #[error("{0}")]
    Certificate(CertificateFault),
    #[error("{0}")]
    Refused(Refusal),
    /// What came back, if anything, is not MQTT by the transport of the URL.
    #[error("no answer of an MQTT broker: {0}")]
    NoMqtt(String),
}

/// Why the TLS handshake failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CertificateFault {
    #[error("the broker's certificate is signed by an authority that is not trusted")]
    UnknownAuthority,
    #[error("the broker's certificate is for {}", .0.join(", "))]
    WrongName(Vec<String>),
    #[error("the broker's certificate has expired")]
    Expired,
    #[error("the broker's certificate is not valid yet")]
    NotYetValid,
    /// The broker requires a certificate of the client, or refuses the one it got.
    #[error("the broker does not accept this client's certificate: {0}")]
    OfClient(String),
    #[error("the TLS handshake failed: {0}")]
    Other(String),
}

/// Why the broker refuses the client.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// User name, password, or the account's rights.
    #[error("the broker refuses the account")]
    Account,
    #[error("the broker refuses the client id for this account")]
    ClientId,
    #[error("the broker does not speak MQTT 5")]
    Version,
    #[error("the broker refuses the connection: {0}")]
    Other(String),
}

/// Why a request on an open connection has no answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RequestError {
    #[error("the broker did not answer within {} s", ANSWER_TIMEOUT.as_secs())]
    NoAnswer,
    #[error("the broker ended the connection during the checks: {0}")]
    Ended(String),
    #[error("{0}")]
    Other(String),
}

impl RequestError {
    pub(super) fn other(error: impl fmt::Display) -> Self {
        Self::Other(error.to_string())
    }
}

impl From<ConnectionError> for RequestError {
    fn from(error: ConnectionError) -> Self {
        Self::Ended(Chain(&error).to_string())
    }
}

/// The protocol of a transport.
pub fn protocol(transport: Transport) -> &'static str {
    match transport {
        Transport::Tcp => "MQTT without TLS",
        Transport::Tls => "MQTT over TLS",
        Transport::WebSocket => "MQTT over WebSocket without TLS",
        Transport::WebSocketTls => "MQTT over WebSocket and TLS",
    }
}

impl ConnectFault {
    /// Whether the port may speak another protocol.
    pub(super) fn is_of_transport(&self) -> bool {
        matches!(self, Self::NoMqtt(_))
    }
}

impl From<TlsFileError> for ConnectFault {
    fn from(error: TlsFileError) -> Self {
        Self::File(error.to_string())
    }
}

impl From<ConnectionError> for ConnectFault {
    fn from(error: ConnectionError) -> Self {
        if let ConnectionError::ConnectionRefused(code) = error {
            return Self::Refused(code.into());
        }
        // A broker that requires a certificate says so after the handshake (TLS 1.3).
        let cause: &(dyn Error + 'static) = match &error {
            ConnectionError::MqttState(StateError::Deserialization(rumqttc::Error::Io(error))) => error,
            _ => &error,
        };
        match tls_error(cause).and_then(certificate_fault) {
            Some(fault) => Self::Certificate(fault),
            None => Self::NoMqtt(Chain(&error).to_string()),
        }
    }
}

impl From<ConnectReturnCode> for Refusal {
    fn from(code: ConnectReturnCode) -> Self {
        use ConnectReturnCode::{
            BadClientId, BadUserNamePassword, ClientIdentifierNotValid, NotAuthorized, RefusedProtocolVersion,
            UnsupportedProtocolVersion,
        };
        match code {
            BadUserNamePassword | NotAuthorized => Self::Account,
            BadClientId | ClientIdentifierNotValid => Self::ClientId,
            RefusedProtocolVersion | UnsupportedProtocolVersion => Self::Version,
            other => Self::Other(format!("{other:?}")),
        }
    }
}

/// The error of rustls among the causes.
fn tls_error<'a>(error: &'a (dyn Error + 'static)) -> Option<&'a rustls::Error> {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(found) = error.downcast_ref() {
            return Some(found);
        }
        // The source of an I/O error is the source of what it wraps.
        next = match error.downcast_ref::<io::Error>().and_then(io::Error::get_ref) {
            Some(wrapped) => Some(wrapped),
            None => error.source(),
        };
    }
    None
}

/// `None` if the other side does not speak TLS.
fn certificate_fault(error: &rustls::Error) -> Option<CertificateFault> {
    use rustls::Error::{AlertReceived, InvalidCertificate, InvalidMessage};
    let fault = match error {
        InvalidMessage(_) => return None,
        InvalidCertificate(CertificateError::UnknownIssuer | CertificateError::BadSignature) => {
            CertificateFault::UnknownAuthority
        }
        InvalidCertificate(CertificateError::NotValidForName) => CertificateFault::WrongName(Vec::new()),
        InvalidCertificate(CertificateError::NotValidForNameContext { presented, .. }) => {
            CertificateFault::WrongName(presented.clone())
        }
        InvalidCertificate(CertificateError::Expired | CertificateError::ExpiredContext { .. }) => {
            CertificateFault::Expired
        }
        InvalidCertificate(CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. }) => {
            CertificateFault::NotYetValid
        }
        AlertReceived(
            AlertDescription::CertificateRequired
            | AlertDescription::BadCertificate
            | AlertDescription::UnsupportedCertificate
            | AlertDescription::CertificateRevoked
            | AlertDescription::CertificateExpired
            | AlertDescription::CertificateUnknown
            | AlertDescription::UnknownCA
            | AlertDescription::HandshakeFailure,
        ) => CertificateFault::OfClient(error.to_string()),
        other => CertificateFault::Other(other.to_string()),
    };
    Some(fault)
}
