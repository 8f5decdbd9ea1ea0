//! Starts what `dev` consists of: database, broker, demo home, server, simulation, in this order. Stops them in
//! the reverse order.

use std::io::{self, Write};
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, bail};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio_util::sync::CancellationToken;

use super::broker::{self, Access, AccountAccess, Broker, ConnectedDevices, SERVER_USER};
use super::demo::{Demo, Setup};
use super::folder::{Folder, random_secret};
use super::postgres::Postgres;
use super::startup_banner::{BannerDetails, ConnectionFile};
use crate::app::{self, App, Options};
use crate::clock::Clock;
use crate::db;
use crate::devices::{CredentialCache, Logins};
use crate::settings::{Environment, Secret, Settings, Source};
use crate::simulator::{Credentials as Login, Fleet, FleetConfig, VirtualDevice};

/// Connections for the setup of the demo and the embedded broker, beside the server's own pool.
const SIDE_POOL_SIZE: u32 = 2;
/// How long to wait for `/readyz` before the banner is printed anyway.
const READY_TIMEOUT: Duration = Duration::from_secs(15);
const READY_POLL: Duration = Duration::from_millis(20);
/// How often to check that PostgreSQL still runs.
const WATCH_EVERY: Duration = Duration::from_secs(1);
/// How long the simulated devices may take to disconnect.
const FLEET_STOP: Duration = Duration::from_secs(2);

/// Run the whole product on this machine, with a demo home, nothing to set up.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Simulated devices; 0 for none.
    #[arg(long, value_name = "N", default_value_t = 6, value_parser = clap::value_parser!(u16).range(0..=400))]
    simulate: u16,
    /// Delete the data of earlier runs first.
    #[arg(long)]
    reset: bool,
    /// Where HTTP listens.
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:4000")]
    http_addr: SocketAddr,
    /// Where the MQTT broker listens.
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:1883")]
    mqtt_addr: SocketAddr,
    /// Where the broker takes MQTT over WebSocket [default: 127.0.0.1:9001, or a free port].
    #[arg(long, value_name = "ADDR")]
    mqtt_ws_addr: Option<SocketAddr>,
    /// Require the credentials of a device to connect to the broker.
    #[arg(long)]
    mqtt_auth: bool,
    /// Serve devices and phones in the local network, at this address of this machine. Devices need their credentials.
    #[arg(long, value_name = "ADDRESS", value_parser = lan_address)]
    lan: Option<IpAddr>,
    /// Where to keep the data.
    #[arg(long, value_name = "DIR", default_value = ".smarthome")]
    dir: PathBuf,
}

/// One address of this machine, so that nobody serves a network by mistake.
fn lan_address(text: &str) -> Result<IpAddr, String> {
    let address: IpAddr = text.parse().map_err(|_| "not an IP address".to_owned())?;
    if address.is_unspecified() || address.is_multicast() {
        return Err("give one address of this machine, such as 192.168.1.10: `hostname -I` lists them".to_owned());
    }
    match std::net::UdpSocket::bind((address, 0)) {
        Ok(_) => Ok(address),
        Err(_) => Err("this machine does not have this address: `hostname -I` lists those that it has".to_owned()),
    }
}

impl Args {
    /// With `--lan` everything listens at that address, and the broker has accounts.
    fn with_lan(mut self) -> Self {
        if let Some(address) = self.lan {
            self.http_addr.set_ip(address);
            self.mqtt_addr.set_ip(address);
            if let Some(ws) = &mut self.mqtt_ws_addr {
                ws.set_ip(address);
            }
            self.mqtt_auth = true;
        }
        self
    }
}

/// The setting of the server's client id, and its default here.
const CLIENT_ID: (&str, &str) = ("MQTT_CLIENT_ID", "smarthome-dev");

/// Pages that development servers of this machine serve may call the API.
const LOCAL_ORIGINS: &str = "http://localhost:*,http://127.0.0.1:*,http://[::1]:*,https://localhost:*";

/// The address and account of the broker in use.
struct BrokerInUse {
    url: String,
    login: Option<(String, Secret)>,
    /// Absent where `MQTT_BROKER_URL` names another broker.
    embedded: Option<Box<dyn Broker>>,
}

/// Runs until `stop`, or until a part ends without which nothing works.
pub async fn run(args: Args, stop: CancellationToken) -> anyhow::Result<()> {
    let args = args.with_lan();
    if args.lan.is_none() && !args.http_addr.ip().is_loopback() {
        bail!(
            "{} is not a loopback address: `dev` is for this machine alone. Use --lan with this machine's address in your \
             network, or `smarthome serve`",
            args.http_addr
        );
    }
    if args.lan.is_some() && Environment.get("MQTT_BROKER_URL").is_some() {
        bail!(
            "--lan serves devices with the broker of `dev`: unset MQTT_BROKER_URL, which names another one, or leave out --lan"
        );
    }
    let folder = Folder::lock(&args.dir)?;
    folder.remove("dev.json")?;
    check_http(args.http_addr).await?;
    if Environment.get("MQTT_BROKER_URL").is_none() {
        broker::check(args.mqtt_addr, args.mqtt_ws_addr, args.lan).await?;
    }
    if args.reset {
        folder.reset()?;
    }
    let root = folder.path().to_owned();
    let mut postgres = tokio::task::spawn_blocking(move || Postgres::start(&root)).await??;
    let result = with_database(&args, &folder, &mut postgres, &stop).await;
    folder.remove("dev.json")?;
    let stopped = tokio::task::spawn_blocking(move || postgres.stop()).await?;
    result?;
    Ok(stopped?)
}

async fn with_database(
    args: &Args,
    folder: &Folder,
    postgres: &mut Postgres,
    stop: &CancellationToken,
) -> anyhow::Result<()> {
    let clock = Clock::system();
    let prefix = Environment.get("MQTT_TOPIC_PREFIX").unwrap_or_else(|| "smarthome".to_owned());
    let database = crate::settings::DatabaseSettings { url: Secret::new(postgres.url()), pool_size: SIDE_POOL_SIZE };
    db::migrate(&database).await.context("migrate the database")?;
    let side_pool = db::pool(&database, db::Frozen::default(), db::PoolMetrics::default());
    let logins = Logins::new(side_pool.clone(), clock.clone(), CredentialCache::default());
    let broker = start_broker(args, folder, prefix, logins).await?;
    let result = async {
        let settings = settings(args, folder, postgres.url(), &broker)?;
        let setup = Setup::new(side_pool, clock.clone(), &settings)?;
        let demo = setup.prepare(folder, args.simulate.into()).await?;
        let options = Options {
            clock: clock.clone(),
            // In a network GraphiQL is not signed in: whoever opens it would be the owner of the demo home.
            graphiql_token: args.lan.is_none().then(|| Secret::new(demo.token.clone())),
            ..Options::default()
        };
        let app = App::start(settings.clone(), options).await?;
        let running = Running { args, folder, broker: &broker, settings: &settings, demo: &demo, app: &app };
        let result = running.run(postgres, stop).await;
        app.stop().await;
        result
    }
    .await;
    if let Some(embedded) = broker.embedded {
        embedded.stop().await;
    }
    result
}

/// What runs beside the database, from the start of the server to its stop.
struct Running<'a> {
    args: &'a Args,
    folder: &'a Folder,
    broker: &'a BrokerInUse,
    settings: &'a Settings,
    demo: &'a Demo,
    app: &'a App,
}

impl Running<'_> {
    /// Starts the simulation, prints the banner, and runs until the stop or until the server ends.
    async fn run(&self, postgres: &mut Postgres, stop: &CancellationToken) -> anyhow::Result<()> {
        let http = self.app.http_addr();
        tokio::select! {
            ready = tokio::time::timeout(READY_TIMEOUT, wait_until_ready(http)) => {
                if ready.is_err() {
                    tracing::warn!("not everything is ready yet: see http://{http}/readyz");
                }
            }
            () = stop.cancelled() => return Ok(()),
        }
        // The first status of each device would be lost before the server has subscribed for the first time.
        let fleet = simulate(self.broker, self.settings, self.demo)?;
        self.print_banner(postgres)?;
        let result = self.watch(postgres, stop).await;
        if let Some(fleet) = fleet {
            fleet.stop();
            let _ = tokio::time::timeout(FLEET_STOP, fleet.finished()).await;
        }
        result
    }

    fn print_banner(&self, postgres: &Postgres) -> anyhow::Result<()> {
        let connection = ConnectionFile::new(self.app.http_addr(), self.broker.url.clone(), postgres.url(), self.demo);
        let details = BannerDetails {
            psql: postgres.psql(),
            data: postgres.directory().parent().unwrap_or(self.folder.path()).display().to_string(),
            connection_file: self.folder.file("dev.json").display().to_string(),
            mqtt_ws: self.broker.embedded.as_ref().map(|broker| broker.ws_addr()),
            mqtt_auth: self.args.mqtt_auth,
            lan: self.args.lan,
            n_simulated: self.demo.simulated.len(),
            prefix: self.settings.mqtt.prefix.clone(),
            has_graphiql: self.settings.http.graphiql,
        };
        self.folder.write_json("dev.json", &connection)?;
        // A closed pipe is no reason to stop.
        let _ = writeln!(io::stdout(), "{}", connection.banner(&details, self.demo));
        Ok(())
    }

    /// Restarts PostgreSQL when it ends; returns when the server ends or is to stop.
    async fn watch(&self, postgres: &mut Postgres, stop: &CancellationToken) -> anyhow::Result<()> {
        let mut watch = tokio::time::interval(WATCH_EVERY);
        let ended = self.app.ended();
        tokio::pin!(ended);
        loop {
            tokio::select! {
                () = stop.cancelled() => return Ok(()),
                () = &mut ended => bail!("a part of the server ended; its reason is in the log above"),
                _ = watch.tick() => if !postgres.is_running() {
                    tracing::error!("PostgreSQL ended; starting it again");
                    tokio::task::block_in_place(|| postgres.restart())?;
                }
            }
        }
    }
}

/// The embedded broker, or the one that `MQTT_BROKER_URL` names.
async fn start_broker(args: &Args, folder: &Folder, prefix: String, logins: Logins) -> anyhow::Result<BrokerInUse> {
    if let Some(url) = Environment.get("MQTT_BROKER_URL") {
        return Ok(BrokerInUse { url, login: None, embedded: None });
    }
    let password = random_secret()?;
    let access = if args.mqtt_auth {
        let server_client_id = Environment.get(CLIENT_ID.0).unwrap_or_else(|| CLIENT_ID.1.to_owned());
        let (server_password, connected) = (password.clone(), ConnectedDevices::default());
        Access::Accounts(Box::new(AccountAccess { prefix, server_password, server_client_id, logins, connected }))
    } else {
        Access::Anonymous
    };
    let data = folder.file("broker");
    let broker = broker::start(&data, args.mqtt_addr, args.mqtt_ws_addr, args.lan, access).await?;
    let url = format!("mqtt://{}", broker.tcp_addr());
    Ok(BrokerInUse { url, login: Some((SERVER_USER.to_owned(), password)), embedded: Some(broker) })
}

/// The settings that `serve` would read, with the values of `dev` in front of the environment.
fn settings(args: &Args, folder: &Folder, database_url: String, broker: &BrokerInUse) -> anyhow::Result<Settings> {
    let mut ours = vec![
        ("DATABASE_URL", database_url),
        ("MQTT_BROKER_URL", broker.url.clone()),
        ("HTTP_ADDR", args.http_addr.to_string()),
        ("JWT_SECRET", folder.secret("jwt-secret")?.reveal().to_owned()),
        ("ENCRYPTION_KEY", folder.key("encryption-key")?.reveal().to_owned()),
    ];
    if let Some((username, password)) = &broker.login {
        ours.push(("MQTT_USERNAME", username.clone()));
        ours.push(("MQTT_PASSWORD", password.reveal().to_owned()));
        ours.push(("MQTT_PROVISIONING", "embedded".to_owned()));
    }
    let defaults = [CLIENT_ID, ("REGISTRATION", "open"), ("GRAPHQL_INTROSPECTION", "on"), ("GRAPHIQL", "on")];
    let source = move |name: &str| {
        if let Some((_, value)) = ours.iter().find(|(ours, _)| *ours == name) {
            return Some(value.clone());
        }
        // The secret files of `serve` would override these values.
        if ours.iter().any(|(ours, _)| name.strip_suffix("_FILE") == Some(*ours)) {
            return None;
        }
        // The addresses that are printed begin with http.
        if name.starts_with("HTTP_TLS_") {
            return None;
        }
        if name == "CORS_ORIGINS" {
            return Some(format!("{LOCAL_ORIGINS},{}", Environment.get(name).unwrap_or_default()));
        }
        let default = defaults.iter().find(|(default, _)| *default == name);
        Environment.get(name).or_else(|| default.map(|(_, value)| (*value).to_owned()))
    };
    let settings = Settings::read(&source)?;
    app::check(&settings)?;
    Ok(settings)
}

fn simulate(broker: &BrokerInUse, settings: &Settings, demo: &Demo) -> anyhow::Result<Option<Fleet>> {
    if demo.simulated.is_empty() {
        return Ok(None);
    }
    let mut devices = Vec::new();
    for key in &demo.simulated {
        let mut device = VirtualDevice::new(key.clone());
        // Each device has an account on the embedded broker; the accounts of another broker are not known here.
        let login = demo.credentials.iter().find(|login| login.key == *key && broker.embedded.is_some());
        device.client_id = login.map(|login| login.client_id.clone());
        device.credentials =
            login.map(|login| Login { username: login.username.clone(), password: Secret::new(&login.password) });
        devices.push(device);
    }
    let mut config = FleetConfig::new(settings.mqtt.broker.clone(), demo.home_key.clone(), devices);
    config.prefix = settings.mqtt.prefix.clone();
    Ok(Some(Fleet::start(config, &CancellationToken::new())?))
}

/// Fails before anything is started when the address is taken.
async fn check_http(addr: SocketAddr) -> anyhow::Result<()> {
    match tokio::net::TcpListener::bind(addr).await {
        Ok(_) => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::AddrInUse => {
            bail!(
                "the HTTP address {addr} is taken: stop the program that listens there, or choose another one with --http-addr"
            )
        }
        Err(error) => Err(error).with_context(|| format!("the HTTP address {addr}")),
    }
}

/// Waits until `/readyz` answers 200.
async fn wait_until_ready(addr: SocketAddr) {
    let ask = async || -> io::Result<bool> {
        let mut stream = tokio::net::TcpStream::connect(addr).await?;
        stream
            .write_all(format!("GET /readyz HTTP/1.1\r\nhost: {addr}\r\nconnection: close\r\n\r\n").as_bytes())
            .await?;
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).await?;
        Ok(answer.starts_with(b"HTTP/1.1 200"))
    };
    while !ask().await.unwrap_or(false) {
        tokio::time::sleep(READY_POLL).await;
    }
}
