//! An issuer that serves its keys over https with an authority of its own, rotates them, and becomes unreachable.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use chrono::TimeDelta;
use futures_util::future::join_all;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

use super::super::mosquitto_tls::made;
use super::super::support::app::TestApp;
use super::super::support::{eventually, soon};
use super::{Folder, ISSUER, REFUSED, Signer, set, whose};

/// Serves a JWK set over https and counts the requests.
struct Keys {
    addr: SocketAddr,
    ca_file: PathBuf,
    /// The whole response.
    answer: Arc<Mutex<String>>,
    n_asked: Arc<AtomicUsize>,
    task: tokio::task::JoinHandle<()>,
}

impl Keys {
    async fn serve(folder: &Path, names: &str, answer: String) -> Self {
        made(folder, &["ca"]);
        made(folder, &["broker", names]);
        let chain = CertificateDer::pem_file_iter(folder.join("tls/server.crt")).unwrap();
        let chain = chain.collect::<Result<Vec<_>, _>>().unwrap();
        let key = PrivateKeyDer::from_pem_file(folder.join("tls/server.key")).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = rustls::ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
        let config = config.unwrap().with_no_client_auth().with_single_cert(chain, key).unwrap();
        let (acceptor, listener) =
            (TlsAcceptor::from(Arc::new(config)), TcpListener::bind("127.0.0.1:0").await.unwrap());
        let addr = listener.local_addr().unwrap();
        let (answer, n_asked) = (Arc::new(Mutex::new(answer)), Arc::new(AtomicUsize::new(0)));
        let (served, counted) = (answer.clone(), n_asked.clone());
        let task = tokio::spawn(async move {
            while let Ok((tcp, _)) = listener.accept().await {
                counted.fetch_add(1, Ordering::SeqCst);
                let Ok(mut stream) = acceptor.accept(tcp).await else { continue };
                let _ = stream.read(&mut [0; 4096]).await;
                let answer = served.lock().unwrap().clone();
                let _ = stream.write_all(answer.as_bytes()).await;
                let _ = stream.shutdown().await;
            }
        });
        Self { addr, ca_file: folder.join("tls/ca.crt"), answer, n_asked, task }
    }

    fn respond_with(&self, answer: String) {
        *self.answer.lock().unwrap() = answer;
    }

    fn n_asked(&self) -> usize {
        self.n_asked.load(Ordering::SeqCst)
    }

    async fn trusted(&self, host: &str, ca_file: bool) -> TestApp {
        let mut issuer = json!({"issuer": ISSUER, "audience": "home"});
        issuer["jwks"] = json!(format!("https://{host}:{}/keys", self.addr.port()));
        if ca_file {
            issuer["caFile"] = json!(self.ca_file);
        }
        TestApp::builder().set("JWT_TRUSTED_ISSUERS", json!([issuer]).to_string()).start().await
    }
}

fn ok(body: &str) -> String {
    format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len())
}

#[tokio::test(flavor = "multi_thread")]
async fn an_issuer_may_rotate_its_keys_and_become_unreachable() {
    let (folder, old, new, evil) = (Folder::new(), Signer::new("old"), Signer::new("new"), Signer::new("evil"));
    let keys = Keys::serve(&folder.0, "localhost,127.0.0.1", ok(&set(&[&old]))).await;
    let app = keys.trusted("localhost", true).await;
    let ann = app.user().await;
    app.app().services().users.link(&ann.email, ISSUER, "a").await.unwrap();
    let holds =
        async |signer: &Signer| whose(&app, &signer.token(&app, "a", 600, &json!({}))).await == Ok(ann.id.clone());
    let later = |seconds| app.clock().advance(TimeDelta::seconds(seconds));
    assert_eq!(keys.n_asked(), 0, "nobody came yet");
    assert!(holds(&old).await && holds(&old).await);
    assert_eq!(keys.n_asked(), 1);
    // Tokens with unknown keys cause no second request within a minute, sequential or parallel.
    let tokens: Vec<_> = (0..20).map(|_| evil.token(&app, "a", 600, &json!({}))).collect();
    let all = join_all(tokens.iter().map(|token| whose(&app, token))).await;
    assert!(all.iter().all(|id| *id == Err(REFUSED.to_owned())));
    assert_eq!(keys.n_asked(), 1);
    keys.respond_with(ok(&set(&[&old, &new])));
    later(61);
    assert!(holds(&new).await && holds(&old).await && !holds(&evil).await);
    assert_eq!(keys.n_asked(), 2);
    // A withdrawn key is refused once the set is 15 minutes old. The request that finds it old does not wait...
    keys.respond_with(ok(&set(&[&new])));
    later(15 * 60 + 1);
    assert!(holds(&old).await, "it holds while it is asked for");
    let gone = || async { (!holds(&old).await).then_some(()) };
    eventually("the old key is refused", gone).await;
    assert_eq!(keys.n_asked(), 3);
    // ... unless the set is twice as old: the key may have been withdrawn long ago.
    keys.respond_with(ok(&set(&[&old, &new])));
    later(61);
    assert!(holds(&old).await && keys.n_asked() == 4);
    keys.respond_with(ok(&set(&[&new])));
    later(30 * 60 + 1);
    assert!(!holds(&old).await && holds(&new).await);
    assert_eq!(keys.n_asked(), 5);
    // A set without keys is valid as well.
    keys.respond_with(ok("{\"keys\": []}"));
    later(61);
    assert!(!holds(&evil).await && !holds(&new).await);
    keys.respond_with(ok(&set(&[&new])));
    later(61);
    assert!(holds(&new).await);
    // After any invalid response the last keys stay valid.
    let elsewhere = format!(
        "HTTP/1.1 302 Found\r\nLocation: https://localhost:{}/x\r\nContent-Length: 0\r\n\r\n",
        keys.addr.port()
    );
    let padded = format!("{{\"padding\": \"{}\", \"keys\": [{}]}}", "x".repeat(300 << 10), evil.jwk());
    let in_error = ok(&set(&[&evil])).replace("200 OK", "500 Oh");
    for answer in [elsewhere, ok(&padded), in_error, ok("<html>"), String::new()] {
        keys.respond_with(answer);
        later(61);
        let n_asked = keys.n_asked();
        assert!(!holds(&evil).await && holds(&new).await);
        assert_eq!(keys.n_asked(), n_asked + 1);
    }
    keys.task.abort();
    later(15 * 60 + 61);
    assert!(!holds(&evil).await && holds(&new).await && !holds(&old).await);
    later(60 * 60);
    assert!(holds(&new).await, "the reading failed");
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_are_fetched_only_from_the_configured_host() {
    let signer = Signer::new("k");
    // The certificate is for another name, or of an untrusted authority.
    for (names, ca_file) in [("other.test.example", true), ("localhost,127.0.0.1", false)] {
        let folder = Folder::new();
        let keys = Keys::serve(&folder.0, names, ok(&set(&[&signer]))).await;
        let app = keys.trusted("localhost", ca_file).await;
        let ann = app.user().await;
        app.app().services().users.link(&ann.email, ISSUER, "a").await.unwrap();
        let asked = soon("the refusal", whose(&app, &signer.token(&app, "a", 600, &json!({})))).await;
        assert_eq!((asked, keys.n_asked()), (Err(REFUSED.to_owned()), 1), "{names}");
        keys.task.abort();
        app.stop().await;
    }
}
