//! Ten accounts that use their homes as people do, each a [`Person`] with connected devices. What they meet goes into
//! [`Figures`].

use std::collections::HashMap;
use std::net::Ipv4Addr;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use anyhow::{Context, Result};
use tokio::task::JoinHandle;
use tokio::time::{Instant, Interval};
use tokio_util::sync::CancellationToken;

use super::account::{Account, Login};
use super::device::{self, Behaviour, Device};
use super::figures::Figures;
use super::person::{COMMAND_EVERY, Person, QUERY_EVERY, SIGN_IN_EVERY};
use super::tabs;
use super::world::World;

pub(super) const ACCOUNTS: u8 = 10;
/// Devices of the first account that are stolen, one in each window.
const STOLEN: [&str; 2] = ["stolen-1", "stolen-2"];
/// The first account's device that is away and comes back.
const AWAY: &str = "away";
/// After a window: time for commands that are on their way.
const LAST_ANSWERS: Duration = Duration::from_secs(5);
/// The broker learns of the devices of all accounts.
const ENTRY: Duration = Duration::from_secs(60);

/// A quiet account with its connected devices.
pub(super) struct Neighbour {
    pub(super) account: Account,
    pub(super) devices: Vec<Device>,
    /// Those of [`STOLEN`], on the first account.
    pub(super) stolen: Vec<Device>,
    /// The device that is [`AWAY`], on the first account.
    pub(super) away: Option<Login>,
}

/// The address of an account.
pub(super) fn address(number: u8) -> Ipv4Addr {
    Ipv4Addr::new(127, 0, 1, number + 1)
}

/// Makes the accounts and connects their devices.
pub(super) async fn move_in(world: &World) -> Result<Vec<Neighbour>> {
    let mut accounts = Vec::new();
    for number in 0..ACCOUNTS {
        let mut keys = vec!["lamp", "heater"];
        if number == 0 {
            keys.extend(STOLEN);
            keys.push(AWAY);
        }
        accounts.push(Account::create(world.addr, address(number), &format!("quiet{number}"), &keys).await?);
    }
    let mut neighbours = Vec::new();
    for account in accounts {
        neighbours.push(Neighbour::connect(world, account).await?);
    }
    Ok(neighbours)
}

impl Neighbour {
    async fn connect(world: &World, account: Account) -> Result<Self> {
        let (mut devices, mut stolen, mut away) = (Vec::new(), Vec::new(), None);
        for login in &account.devices {
            let behaviour = match login.key.as_str() {
                "lamp" => Behaviour::Acknowledges,
                "heater" => Behaviour::ShowsEffect,
                AWAY => {
                    // It was there, and it left.
                    drop(device::enter(world.mqtt_port, login, ENTRY).await?);
                    away = Some(login.clone());
                    continue;
                }
                _ => Behaviour::Connected,
            };
            let device = Device::start(world.mqtt_port, login, behaviour, ENTRY).await?;
            if behaviour == Behaviour::Connected { stolen.push(device) } else { devices.push(device) }
        }
        Ok(Self { account, devices, stolen, away })
    }
}

/// The ordinary work of all accounts, until [`Quiet::end`].
pub(super) struct Quiet {
    shared: Arc<Shared>,
    tasks: Vec<JoinHandle<()>>,
    sockets: Vec<JoinHandle<()>>,
}

/// What all accounts write into.
#[derive(Default)]
pub(super) struct Shared {
    figures: Mutex<Figures>,
    /// Commands on their way, by what links them to their events: when they were sent, and whether by effect.
    pending: Mutex<HashMap<String, (Instant, bool)>>,
    stop: CancellationToken,
}

impl Shared {
    pub(super) fn figures(&self) -> MutexGuard<'_, Figures> {
        self.figures.lock().expect("nobody panics with it")
    }

    pub(super) fn pending(&self) -> MutexGuard<'_, HashMap<String, (Instant, bool)>> {
        self.pending.lock().expect("nobody panics with it")
    }

    /// The next time of a pace, `None` at the end of the window.
    pub(super) async fn tick(&self, pace: &mut Interval) -> Option<()> {
        self.stop.run_until_cancelled(pace.tick()).await.map(drop)
    }
}

impl Quiet {
    pub(super) async fn start(neighbours: &[Neighbour]) -> Result<Self> {
        let shared = Arc::new(Shared::default());
        let (mut tasks, mut sockets) = (Vec::new(), Vec::new());
        for (number, neighbour) in (0u32..).zip(neighbours) {
            let account = &neighbour.account;
            let person = Person::new(shared.clone(), &account.client);
            let socket = person.subscribe(&account.home).await.context("subscribe")?;
            sockets.push(tokio::spawn(person.clone().listens(account.home.clone(), socket)));
            // Not all at the same moment.
            let part = |every: Duration| every * number / u32::from(ACCOUNTS);
            tasks.push(tokio::spawn(person.clone().looks(part(QUERY_EVERY))));
            let devices = [0, 1].map(|n| account.devices[n].id.clone());
            tasks.push(tokio::spawn(person.clone().commands(devices, part(COMMAND_EVERY))));
            tasks.push(tokio::spawn(person.signs_in(account.email.clone(), part(SIGN_IN_EVERY))));
            let tabs = tabs::refresh(shared.clone(), account.client.clone(), account.email.clone(), part(tabs::EVERY));
            tasks.push(tokio::spawn(tabs));
        }
        Ok(Self { shared, tasks, sockets })
    }

    /// Ends the work, waits for what is on its way, and returns what was met.
    pub(super) async fn end(self) -> Figures {
        self.shared.stop.cancel();
        for task in self.tasks {
            if task.await.is_err() {
                eprintln!("a quiet account failed");
            }
        }
        let ended = Instant::now();
        while !self.shared.pending().is_empty() && ended.elapsed() < LAST_ANSWERS {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        self.sockets.iter().for_each(JoinHandle::abort);
        let mut figures = std::mem::take(&mut *self.shared.figures());
        figures.unanswered += self.shared.pending().len();
        figures
    }
}
