//! Clients that apps are made with, unmodified: each signs in, lists devices with fragments and variables, sends a command,
//! receives a reading that was published at the real broker, and meets errors.

mod examples;
mod outages;

use std::time::Duration;

use serde_json::{Value, json};

use crate::support::app::TestApp;
use crate::support::node::{node, node_within, python};
use crate::support::user::{Device, Home, User};

const READING: &str = r#"{"sensors": {"temperature": 21.5}}"#;

/// A home with two devices that report, its owner, and a member without the right to see invitations.
struct Fixture {
    app: TestApp,
    home: Home,
    owner: User,
    member: User,
    devices: [Device; 2],
}

impl Fixture {
    async fn start() -> Self {
        // Some clients ask for the schema.
        let app = TestApp::builder().set("GRAPHQL_INTROSPECTION", "on").start().await;
        let (home, owner) = app.home().await;
        let member = app.member(&home, &owner).await;
        let devices = [app.device(&owner, &home, "ESP32_001").await, app.device(&owner, &home, "ESP32_002").await];
        app.publish(&devices[0], "telemetry", READING).await;
        owner.latest_reading(&devices[0]).await;
        Self { app, home, owner, member, devices }
    }

    /// What the scripts need to know, as JSON.
    fn setup(&self) -> Value {
        let addr = self.app.addr();
        json!({
            "url": format!("http://{addr}/graphql"),
            "socketUrl": format!("ws://{addr}/graphql"),
            "email": self.owner.email,
            "password": self.owner.password,
            "homeId": self.home.id,
            "deviceIds": self.devices.each_ref().map(|device| &device.id),
            "memberToken": self.member.token(),
        })
    }

    /// Publishes readings for as long as the clients run.
    async fn while_devices_report<T>(&self, clients: impl Future<Output = T>) -> T {
        let report = async {
            let mut pace = tokio::time::interval(Duration::from_millis(100));
            loop {
                pace.tick().await;
                self.app.publish(&self.devices[0], "telemetry", READING).await;
            }
        };
        tokio::select! {
            () = report => unreachable!("devices report until the clients end"),
            outcome = clients => outcome,
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn javascript_clients_work_unmodified() {
    let fixture = Fixture::start().await;
    let setup = fixture.setup().to_string();
    let output = fixture.while_devices_report(node("clients/run.mjs", &[&setup])).await;
    let text = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{text}");
    fixture.app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_python_client_works_unmodified() {
    let fixture = Fixture::start().await;
    let setup = fixture.setup().to_string();
    let output = fixture.while_devices_report(python("gql_client.py", &[&setup])).await;
    let text = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{text}");
    fixture.app.stop().await;
}

/// graphql-codegen and gql.tada generate types from schema.graphql, and the TypeScript compiler accepts apps that use
/// them. The apps state by `@ts-expect-error` what it must refuse.
#[tokio::test]
async fn code_generators_read_the_schema() {
    let output = node_within("types/check.mjs", &[], Duration::from_secs(120)).await;
    let text = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{text}");
}
