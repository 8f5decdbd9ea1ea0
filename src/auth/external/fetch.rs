//! Fetches a small document over https from a configured URL.

use std::path::Path;
use std::time::Duration;

use http_body_util::{BodyExt, Empty, Limited};
use hyper::body::Bytes;
use hyper::{Request, StatusCode, Uri, header};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use url::Url;

use crate::tls;

/// Time for the whole response.
const FETCH_TIMEOUT: Duration = Duration::from_secs(5);

/// A client for one URL. It follows no redirects, so that only the configured host can provide keys.
pub(super) struct Fetcher {
    client: Client<HttpsConnector<HttpConnector>, Empty<Bytes>>,
    uri: Uri,
}

impl Fetcher {
    /// Trusts the system's authorities, or only those in the file.
    pub(super) fn new(url: &Url, ca_file: Option<&Path>) -> Result<Self, String> {
        let verifying = tls::client_config(ca_file).map_err(|error| match ca_file {
            Some(path) => format!("caFile {}: {error}", path.display()),
            None => error.to_string(),
        })?;
        let config = verifying.with_no_client_auth();
        let connector = HttpsConnectorBuilder::new().with_tls_config(config).https_only().enable_http1().build();
        // Requests are rare: an idle connection would be closed by the issuer before it is used again.
        let client = Client::builder(TokioExecutor::new()).pool_max_idle_per_host(0).build(connector);
        let uri = url.as_str().parse().map_err(|_| format!("{url} is not a valid URL"))?;
        Ok(Self { client, uri })
    }

    /// The document, of at most `max_bytes`, or the reason why it could not be fetched.
    pub(super) async fn get(&self, max_bytes: usize) -> Result<Bytes, String> {
        let fetched = tokio::time::timeout(FETCH_TIMEOUT, self.fetch(max_bytes)).await;
        fetched.unwrap_or_else(|_| Err(format!("no response within {} s", FETCH_TIMEOUT.as_secs())))
    }

    async fn fetch(&self, max_bytes: usize) -> Result<Bytes, String> {
        let request = Request::get(self.uri.clone())
            .header(header::ACCEPT, "application/jwk-set+json, application/json")
            .header(header::USER_AGENT, "smarthome")
            .body(Empty::new())
            .map_err(|error| error.to_string())?;
        let response = self.client.request(request).await.map_err(|error| with_causes(&error))?;
        if response.status() != StatusCode::OK {
            return Err(format!("the response has status {}", response.status()));
        }
        let body = Limited::new(response.into_body(), max_bytes).collect().await;
        body.map(|body| body.to_bytes()).map_err(|error| format!("the response is incomplete or too long: {error}"))
    }
}

/// An error with its sources: the client's own message says only that something failed.
fn with_causes(error: &dyn std::error::Error) -> String {
    let (mut text, mut cause) = (error.to_string(), error.source());
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}
