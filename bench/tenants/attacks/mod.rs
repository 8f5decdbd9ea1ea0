//! What one account, or one address, does to the others. Each attack has its number in the review that found it.

mod broker;
mod commands;
mod devices;
mod load;
mod responses;
mod sessions;
mod sign_ins;

use std::net::Ipv4Addr;
use std::time::Duration;

use anyhow::Result;
use tokio::net::TcpStream;
use tokio::time::Instant;

use super::account::{Account, Login};
use super::device::{Behaviour, Device};
use super::quiet::Neighbour;
use super::world::World;
use crate::stage::Stage;

/// The address of the attacking account.
const ADDRESS: Ipv4Addr = Ipv4Addr::new(127, 0, 2, 1);
/// The broker learns of the attacker's devices.
const ENTRY: Duration = Duration::from_secs(60);

/// See the module.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Attack {
    /// Ends 100,000 integration tokens.
    EndedTokens,
    /// Asks for 8 MiB on 120 connections and reads nothing.
    UnreadResponses,
    /// 60 sign-ins at once, again and again.
    SignInBurst,
    /// Registers 4,000 devices.
    Registrations,
    /// Subscribes to everything at the broker.
    Eavesdropper,
    /// Expects effects of 12,000 commands.
    Expectations,
    /// 50 heavy queries a second on 200 connections.
    HeavyQueries,
    /// 12 connections with heavy queries, while others refresh their sessions.
    BusyServer,
    /// Guesses from 90 addresses.
    ManyGuessers,
    /// Guesses behind the address of an owner.
    NearGuesser,
    /// Sends large messages while the server is away.
    LargeMessages,
    /// 12,000 commands to devices that are away.
    Undeliverable,
}

pub(super) const ALL: [(&str, &str, Attack); 12] = [
    ("A2", "ends 100,000 integration tokens", Attack::EndedTokens),
    ("A3", "120 responses of 8 MiB that nobody reads", Attack::UnreadResponses),
    ("A4", "60 sign-ins at once", Attack::SignInBurst),
    ("A5", "registers 4,000 devices", Attack::Registrations),
    ("A6", "a device subscribes to everything", Attack::Eavesdropper),
    ("A7", "expects effects of 12,000 commands", Attack::Expectations),
    ("A8", "50 heavy queries a second on 200 connections", Attack::HeavyQueries),
    ("A9", "heavy queries on 12 connections, beside refreshes of sessions", Attack::BusyServer),
    ("A10", "guesses passwords from 90 addresses", Attack::ManyGuessers),
    ("A11", "guesses behind an owner's address", Attack::NearGuesser),
    ("A12", "large messages while the server is away", Attack::LargeMessages),
    ("A13", "12,000 commands to devices that are away", Attack::Undeliverable),
];

/// The attacking account, prepared.
pub(super) struct Attacker {
    attack: Attack,
    account: Account,
    /// Devices beside the first one.
    devices: Vec<Login>,
    /// Those that are connected.
    connected: Vec<Device>,
    /// E-mails of the quiet accounts.
    victims: Vec<String>,
    owner: Ipv4Addr,
    /// A connection to the broker that stays open.
    subscribed: Option<TcpStream>,
}

impl Attacker {
    /// What takes time and hurts nobody yet.
    pub(super) async fn prepare(attack: Attack, world: &World, quiet: &[Neighbour]) -> Result<Self> {
        let account = Account::create(world.addr, ADDRESS, "attacker", &["first"]).await?;
        let victims = quiet.iter().map(|neighbour| neighbour.account.email.clone()).collect();
        let owner = quiet.first().map_or(ADDRESS, |neighbour| neighbour.account.client.from);
        let (devices, connected) = (Vec::new(), Vec::new());
        let mut attacker = Self { attack, account, devices, connected, victims, owner, subscribed: None };
        match attack {
            Attack::UnreadResponses | Attack::HeavyQueries | Attack::BusyServer => {
                responses::store_readings(&attacker, world).await?
            }
            Attack::Expectations => attacker.register(world, commands::DEVICES, Some(Behaviour::Ignores)).await?,
            Attack::Undeliverable => attacker.register(world, commands::DEVICES, None).await?,
            _ => {}
        }
        Ok(attacker)
    }

    async fn register(&mut self, world: &World, n: usize, connected: Option<Behaviour>) -> Result<()> {
        let keys: Vec<_> = (0..n).map(|n| format!("own-{n}")).collect();
        self.devices = self.account.register(&keys).await?;
        if let Some(behaviour) = connected {
            for login in &self.devices {
                self.connected.push(Device::start(world.mqtt_port, login, behaviour, ENTRY).await?);
            }
        }
        Ok(())
    }

    /// What can't be repeated within seconds: the first minutes of an attack, or one while the server is away.
    pub(super) async fn before(&mut self, stage: &Stage, world: &World) -> Result<String> {
        match self.attack {
            Attack::EndedTokens => sessions::store_ended(&mut self.account, stage, world).await,
            Attack::LargeMessages => broker::send_while_away(&self.account, world).await,
            Attack::Eavesdropper => {
                let (stream, note) = broker::subscribe_to_all(&self.account, world).await?;
                self.subscribed = Some(stream);
                Ok(note)
            }
            _ => Ok(String::new()),
        }
    }

    /// The same account with another attack that needs no more preparation.
    pub(super) fn with_attack(mut self, attack: Attack) -> Self {
        self.attack = attack;
        self
    }

    /// The attack, until a moment or until it is done; says how far it got.
    pub(super) async fn run(&self, world: &World, until: Instant) -> Result<String> {
        let (account, devices) = (&self.account, &self.devices);
        match self.attack {
            Attack::EndedTokens => Ok(sessions::end_tokens(account, until).await),
            Attack::UnreadResponses => Ok(responses::leave_unread(account, until).await),
            Attack::SignInBurst => Ok(sign_ins::burst(&account.client, until).await),
            Attack::Registrations => devices::register_many(account).await,
            Attack::Expectations => Ok(commands::send_many(account, devices, true, until).await),
            Attack::HeavyQueries => Ok(responses::query_heavily(account, 200, until).await),
            Attack::BusyServer => Ok(responses::query_heavily(account, 12, until).await),
            Attack::ManyGuessers => Ok(sign_ins::guess_from_many(world.addr, &self.victims, until).await),
            Attack::NearGuesser => Ok(sign_ins::guess_nearby(world.addr, self.owner, &self.victims[0], until).await),
            Attack::LargeMessages | Attack::Eavesdropper => Ok(String::new()),
            Attack::Undeliverable => Ok(commands::send_many(account, devices, false, until).await),
        }
    }
}
