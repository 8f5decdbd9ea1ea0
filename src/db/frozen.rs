//! Notices that the database is frozen: it keeps its connections and answers nothing, as a stopped process or a machine
//! behind a broken network does. No error would end a wait then. A database that refuses or closes connections is not
//! frozen: every wait for it ends by itself. Nor is one that answers, but can't write because its storage hangs.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use diesel_async::SimpleAsyncConnection;
use tokio::sync::watch;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

use super::{Connection, connect};
use crate::settings::DatabaseSettings;

/// Pause between two questions.
const PAUSE: Duration = Duration::from_millis(200);
/// After so long without an answer the database counts as frozen, so that requests are answered within two seconds.
const FROZEN_AFTER: Duration = Duration::from_millis(1200);
/// How long a question waits for its answer before the next one is asked on a new connection.
const GIVE_UP_AFTER: Duration = Duration::from_secs(5);

/// Whether the database is frozen. Cheap to clone; all clones see the same. The default is not, until one clone watches.
#[derive(Clone)]
pub struct Frozen(Arc<watch::Sender<bool>>);

impl Default for Frozen {
    fn default() -> Self {
        Self(Arc::new(watch::Sender::new(false)))
    }
}

impl Frozen {
    /// Waits until it is frozen.
    pub(super) async fn wait(&self) {
        self.0.subscribe().wait_for(|is_frozen| *is_frozen).await.expect("a sender is here");
    }

    /// Asks the database again and again, on a connection of its own, until the stop.
    pub async fn watch(self, settings: DatabaseSettings, stop: CancellationToken) {
        let watching = async {
            let mut conn = None;
            loop {
                // First, so that it does not compete with what the start needs.
                sleep(PAUSE).await;
                conn = self.ask_once(&settings, conn).await;
            }
        };
        stop.run_until_cancelled(watching).await;
    }

    /// Asks once; the connection, if the database answered on it.
    async fn ask_once(&self, settings: &DatabaseSettings, conn: Option<Connection>) -> Option<Connection> {
        let mut asking = pin!(ask(settings, conn));
        if let Ok(answer) = timeout(FROZEN_AFTER, &mut asking).await {
            self.set(false);
            return answer;
        }
        self.set(true);
        // Only an answer ends it now: an attempt to connect fails by a limit of its own while the database is frozen.
        let answer = timeout(GIVE_UP_AFTER, asking).await.ok()??;
        self.set(false);
        Some(answer)
    }

    fn set(&self, is_frozen: bool) {
        let is_change = self.0.send_if_modified(|was| std::mem::replace(was, is_frozen) != is_frozen);
        match is_frozen {
            _ if !is_change => {}
            true => tracing::error!("the database does not answer: requests are refused until it does"),
            false => tracing::info!("the database answers again"),
        }
    }
}

/// The connection, unless it is refused or closed.
async fn ask(settings: &DatabaseSettings, conn: Option<Connection>) -> Option<Connection> {
    let mut conn = match conn {
        Some(conn) => conn,
        None => connect(settings.url.reveal(), Some(GIVE_UP_AFTER)).await.ok()?,
    };
    conn.batch_execute("select 1").await.ok()?;
    Some(conn)
}
