//! The feed of configurations. A catch-up reads by the time of the last change, which is not the order of
//! commits: it starts well before the last change that was sent, and skips what was sent already.

use std::collections::VecDeque;
use std::sync::Arc;

use chrono::{DateTime, Utc};
use futures_util::Stream;

use super::store::{self, ChangeCursor};
use super::{DeviceConfig, DeviceConfigs};
use crate::db::{self, spawn_and_join};
use crate::error::Error;
use crate::follow::{Feed, Followed, MAX_COMMIT_DELAY, Page, PageRead, SentChanges, follow};
use crate::homes::{Access, Permission};
use crate::ids::{DeviceId, HomeId};
use crate::turns::Turns;

/// Versions read from the database at a time.
const PAGE: i64 = 500;

impl DeviceConfigs {
    /// Changes of the configurations of a home, or of one of its devices, from the moment of this call. Needs
    /// [`Permission::ReadConfig`].
    pub async fn follow(
        &self,
        access: Access,
        device: Option<DeviceId>,
        turns: &Turns,
    ) -> Result<impl Stream<Item = Result<Followed<Arc<DeviceConfig>>, Error>> + Send + 'static + use<>, Error> {
        let access = access.require(Permission::ReadConfig)?;
        let home = access.home();
        let receiver = self.hub.subscribe(home, device);
        let pool = self.pool.clone();
        // Changes carry the time of the database's clock.
        let last = spawn_and_join(async move { Ok::<_, Error>(db::clock(&mut *pool.get().await?).await?) }).await?;
        let feed = ConfigFeed { configs: self.clone(), home, device, last, sent: SentChanges::default() };
        Ok(follow(feed, receiver, None, turns.of(access.user()), &self.metrics))
    }

    async fn changed(
        &self,
        home: HomeId,
        device: Option<DeviceId>,
        after: ChangeCursor,
    ) -> Result<Vec<DeviceConfig>, Error> {
        let mut conn = self.pool.get().await?;
        Ok(store::changed(&mut conn, home, device, after, PAGE).await?)
    }
}

struct ConfigFeed {
    configs: DeviceConfigs,
    home: HomeId,
    device: Option<DeviceId>,
    /// The change received last. It need not be the one with the latest time: the database's clock may be set back.
    last: DateTime<Utc>,
    sent: SentChanges<(DeviceId, i32)>,
}

impl Feed for ConfigFeed {
    type Event = DeviceConfig;
    type Item = Arc<DeviceConfig>;
    type Cursor = ChangeCursor;

    fn resume(&self, first: &DeviceConfig) -> ChangeCursor {
        ChangeCursor::before(self.last.max(first.updated_at) - MAX_COMMIT_DELAY)
    }

    fn page(&self, after: ChangeCursor) -> PageRead<Arc<DeviceConfig>, ChangeCursor> {
        let (configs, home, device) = (self.configs.clone(), self.home, self.device);
        Box::pin(async move {
            let configs = configs.changed(home, device, after).await?;
            let configs: VecDeque<_> = configs.into_iter().map(Arc::new).collect();
            Ok(Page::limited(configs, PAGE, |last| ChangeCursor::of(last)))
        })
    }

    async fn item(&mut self, config: &Arc<DeviceConfig>) -> Result<Option<Arc<DeviceConfig>>, Error> {
        Ok(self.accept(config).then(|| config.clone()))
    }

    fn accept(&mut self, config: &Arc<DeviceConfig>) -> bool {
        self.last = config.updated_at;
        self.sent.advance((config.device, config.version), config.updated_at)
    }
}
