//! Fetches a small document by https, from the one address that configuration names.

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

/// How long an issuer may take for all of its answer.
const FETCH_TIMEOUT: Duration = Duration::from_secs(5);

/// A client for one URL. It follows no redirect: who answers is what the configuration says.
pub(super) struct Fetcher {
    client: Client<HttpsConnector<HttpConnector>, Empty<Bytes>>,
    uri: Uri,
}

impl Fetcher {
    /// Trusts the system's authorities, or the one in the file alone.
    pub(super) fn new(url: &Url, ca_file: Option<&Path>) -> Result<Self, String> {
        let verifying = tls::client_config(ca_file).map_err(|error| match ca_file {
            Some(path) => format!("caFile {}: {error}", path.display()),
            None => error.to_string(),
        })?;
        let config = verifying.with_no_client_auth();
        let connector = HttpsConnectorBuilder::new().with_tls_config(config).https_only().enable_http1().build();
        // Asked once in a long while: a connection kept open would only be found dead.
        let client = Client::builder(TokioExecutor::new()).pool_max_idle_per_host(0).build(connector);
        let uri = url.as_str().parse().map_err(|_| format!("{url} is no URL to ask"))?;
        Ok(Self { client, uri })
    }

    /// The document, of at most so many bytes, or why there is none.
    pub(super) async fn get(&self, most: usize) -> Result<Bytes, String> {
        let asked = tokio::time::timeout(FETCH_TIMEOUT, self.ask(most)).await;
        asked.unwrap_or_else(|_| Err(format!("no answer within {} s", FETCH_TIMEOUT.as_secs())))
    }

    async fn ask(&self, most: usize) -> Result<Bytes, String> {
        let request = Request::get(self.uri.clone())
            .header(header::ACCEPT, "application/jwk-set+json, application/json")
            .header(header::USER_AGENT, "smarthome")
            .body(Empty::new())
            .map_err(|error| error.to_string())?;
        let answer = self.client.request(request).await.map_err(|error| with_causes(&error))?;
        if answer.status() != StatusCode::OK {
            return Err(format!("it answered {}", answer.status()));
        }
        let body = Limited::new(answer.into_body(), most).collect().await;
        body.map(|body| body.to_bytes()).map_err(|error| format!("its answer broke off or is too long: {error}"))
    }
}

/// The client's own text says only that something failed.
fn with_causes(error: &dyn std::error::Error) -> String {
    let (mut text, mut cause) = (error.to_string(), error.source());
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}
