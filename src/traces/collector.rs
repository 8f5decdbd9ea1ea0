//! The HTTP client of the exporter.

use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use http_body_util::{BodyExt, Full, Limited};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use opentelemetry_http::{Bytes, HttpClient, HttpError, Request, Response};

use crate::error::Chain;
use crate::settings::{SettingsError, TraceSettings};
use crate::tls;

/// Longest response that is read: it says which spans the collector did not take.
const MAX_RESPONSE_BYTES: usize = 64 << 10;

type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// Why the last request failed. Cheap to clone; all clones share it.
#[derive(Debug, Clone, Default)]
pub(super) struct LastFailure(Arc<Mutex<Option<String>>>);

impl LastFailure {
    pub(super) fn take(&self) -> Option<String> {
        self.0.lock().expect("failure lock").take()
    }

    fn set(&self, failure: String) {
        *self.0.lock().expect("failure lock") = Some(failure);
    }
}

/// Posts to the collector.
#[derive(Debug)]
pub(super) struct CollectorClient {
    client: Client<HttpsConnector<HttpConnector>, Full<Bytes>>,
    timeout: Duration,
    failure: LastFailure,
}

impl CollectorClient {
    /// Trusts the system's authorities, or only those in the configured file.
    pub(super) fn new(settings: &TraceSettings) -> Result<Self, SettingsError> {
        let verifying = tls::client_config(settings.ca_file.as_deref()).map_err(|error| SettingsError {
            name: "OTEL_EXPORTER_OTLP_CERTIFICATE".to_owned(),
            problem: error.to_string(),
        })?;
        let config = verifying.with_no_client_auth();
        let connector = HttpsConnectorBuilder::new().with_tls_config(config).https_or_http().enable_http1().build();
        let client = Client::builder(TokioExecutor::new()).pool_max_idle_per_host(1).build(connector);
        Ok(Self { client, timeout: settings.timeout, failure: LastFailure::default() })
    }

    pub(super) fn last_failure(&self) -> LastFailure {
        self.failure.clone()
    }

    async fn send(&self, request: Request<Bytes>) -> Result<Response<Bytes>, HttpError> {
        let response = self.client.request(request.map(Full::new)).await?;
        let (head, body) = response.into_parts();
        Ok(Response::from_parts(head, Limited::new(body, MAX_RESPONSE_BYTES).collect().await?.to_bytes()))
    }

    async fn send_in_time(&self, request: Request<Bytes>) -> Result<Response<Bytes>, HttpError> {
        let sent = tokio::time::timeout(self.timeout, self.send(request)).await;
        let sent = sent.unwrap_or_else(|_| Err("no response in time".into()));
        match &sent {
            // The error names neither the address nor a header.
            Err(error) => self.failure.set(Chain(&**error).to_string()),
            Ok(response) if !response.status().is_success() => {
                self.failure.set(format!("the response has status {}", response.status()));
            }
            Ok(_) => drop(self.failure.take()),
        }
        sent
    }
}

impl HttpClient for CollectorClient {
    fn send_bytes<'life, 'future>(
        &'life self,
        request: Request<Bytes>,
    ) -> BoxFuture<'future, Result<Response<Bytes>, HttpError>>
    where
        'life: 'future,
        Self: 'future,
    {
        Box::pin(self.send_in_time(request))
    }
}
