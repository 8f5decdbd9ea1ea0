//! The whole server over TLS to PostgreSQL, with the certificate verified.

use std::process::Command;
use std::time::Duration;

use serde_json::json;
use smarthome::db;

use super::support::app::{Database, TestApp};
use super::support::broker::folder;
use super::support::services::services;

#[tokio::test(flavor = "multi_thread")]
async fn every_connection_is_encrypted_and_the_certificate_verified() {
    let database = Database::create().await;
    let name = database.url().rsplit_once('/').expect("a URL").1.to_owned();
    let authority = services().database_authority().display().to_string();
    let by_tcp = services().database_url_by_tcp("localhost", &name);
    let url = format!("{by_tcp}?sslmode=verify-full&sslrootcert={authority}");
    let app = TestApp::builder().set("DATABASE_URL", &url).start().await;
    let (home, owner) = app.home().await;
    let device = app.device(&owner, &home, "dev").await;
    let mut readings =
        owner.subscribe("subscription($h: ID!) { telemetry(homeId: $h) { id } }", json!({"h": home.id})).await;
    app.publish(&device, "telemetry", json!({"sensors": {"temperature": 1}}).to_string()).await;
    readings.next().await;
    let seen = "select count(*) filter (where ssl), count(*) from pg_stat_ssl join pg_stat_activity using (pid) \
                where datname = $1 and client_addr is not null";
    let row = database.client().await.query_one(seen, &[&name]).await.expect("an answer");
    let (encrypted, all): (i64, i64) = (row.get(0), row.get(1));
    assert!(all >= 4 && encrypted == all, "{encrypted} of {all}");

    // Another authority, the system's authorities, another name than the certificate's.
    let elsewhere = folder();
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/docker/mosquitto/tls.sh");
    let made = Command::new("bash").arg(script).arg(&elsewhere).arg("ca").status().expect("bash runs");
    assert!(made.success());
    let other = elsewhere.join("ca.crt").display().to_string();
    let port = by_tcp.rsplit_once(':').and_then(|(_, rest)| rest.split_once('/')).expect("a port").0;
    for refused in [
        format!("{by_tcp}?sslmode=verify-full&sslrootcert={other}"),
        format!("{by_tcp}?sslmode=require"),
        format!(
            "host=db.example hostaddr=127.0.0.1 port={port} user=smarthome dbname={name} sslmode=verify-full sslrootcert={authority}"
        ),
    ] {
        let error = db::connect(&refused, Some(Duration::from_secs(5))).await.err().expect(&refused);
        assert!(error.to_string().contains("error performing TLS handshake"), "{refused}: {error}");
    }
    let unencrypted = format!("{by_tcp}?sslmode=disable");
    assert!(db::connect(&unencrypted, None).await.is_ok(), "the database accepts both");
}
