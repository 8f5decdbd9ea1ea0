//! An account with a home and devices, made through the API.

use std::net::{Ipv4Addr, SocketAddr};

use anyhow::{Context, Result};
use serde_json::{Value, json};

use super::http::Client;
use crate::server::text;

/// Of every account: what is measured is not how good it is.
pub(super) const PASSWORD: &str = "a password for the benchmark alone";
/// Well below any limit of a request's size.
const DEVICES_A_REQUEST: usize = 200;
const LOGIN: &str = "mutation($input: LoginInput!) { login(input: $input) { accessToken refreshToken } }";
const REGISTER_DEVICES: &str = "mutation($input: RegisterDevicesInput!) { registerDevices(input: $input) { \
                                device { id key } credentials { username password clientId } } }";

/// What a device is given.
#[derive(Clone)]
pub(super) struct Login {
    pub(super) id: String,
    pub(super) key: String,
    pub(super) username: String,
    pub(super) password: String,
    pub(super) client_id: String,
}

impl Login {
    pub(super) fn home_key(&self) -> &str {
        self.username.split('/').next().unwrap_or_default()
    }
}

/// See the module.
pub(super) struct Account {
    pub(super) client: Client,
    pub(super) email: String,
    pub(super) home: String,
    pub(super) home_key: String,
    pub(super) devices: Vec<Login>,
}

impl Account {
    /// A new account at this address, with devices of these keys.
    pub(super) async fn create(addr: SocketAddr, from: Ipv4Addr, name: &str, keys: &[&str]) -> Result<Self> {
        let mut client = Client::new(addr, from);
        let email = format!("{name}@example.com");
        let query = "mutation($input: RegisterInput!) { register(input: $input) { accessToken } }";
        let input = json!({"email": email, "password": PASSWORD, "name": name});
        let registered = client.ask(query, &json!({ "input": input })).await.context("register")?;
        client.token = Some(text(&registered["register"]["accessToken"])?);
        let query = "mutation($input: CreateHomeInput!) { createHome(input: $input) { id key } }";
        let input = json!({"name": name, "key": format!("home-{name}")});
        let home = client.ask(query, &json!({ "input": input })).await.context("create a home")?;
        let (home, home_key) = (text(&home["createHome"]["id"])?, text(&home["createHome"]["key"])?);
        let mut account = Self { client, email, home, home_key, devices: Vec::new() };
        account.devices = account.register(keys).await?;
        Ok(account)
    }

    /// Registers more devices in the home.
    pub(super) async fn register<K: AsRef<str>>(&self, keys: &[K]) -> Result<Vec<Login>> {
        let (mut client, mut logins) = (self.client.clone(), Vec::new());
        for some in keys.chunks(DEVICES_A_REQUEST) {
            let new: Vec<_> = some.iter().map(|key| json!({"key": key.as_ref(), "name": key.as_ref()})).collect();
            let input = json!({"homeId": self.home, "devices": new});
            let made = client.ask(REGISTER_DEVICES, &json!({ "input": input })).await.context("register devices")?;
            for one in made["registerDevices"].as_array().context("a list of devices")? {
                logins.push(login_of(one)?);
            }
        }
        Ok(logins)
    }
}

/// From `device` and `credentials`.
pub(super) fn login_of(made: &Value) -> Result<Login> {
    let (device, credentials) = (&made["device"], &made["credentials"]);
    Ok(Login {
        id: text(&device["id"])?,
        key: text(&device["key"])?,
        username: text(&credentials["username"])?,
        password: text(&credentials["password"])?,
        client_id: text(&credentials["clientId"])?,
    })
}

/// The query and the variables of a sign-in.
pub(super) fn sign_in(email: &str, password: &str) -> (&'static str, Value) {
    (LOGIN, json!({"input": {"email": email, "password": password}}))
}
