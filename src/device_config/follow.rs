//! Following a home's configurations. A reader that falls behind in the hub is caught up from the
//! database by the time of change: a state may be read twice there, but is told once, and none is skipped.

use std::collections::VecDeque;
use std::num::NonZeroUsize;
use std::sync::Arc;

use chrono::{DateTime, TimeDelta, Utc};
use futures_util::Stream;
use futures_util::stream::unfold;
use lru::LruCache;

use super::{DeviceConfig, DeviceConfigs, store};
use crate::db::spawn_and_join;
use crate::error::Error;
use crate::hub::{HubEvent, HubReceiver};
use crate::ids::{DeviceId, HomeId};

/// Versions read from the database at a time.
const PAGE: i64 = 500;
/// Seconds by which the time of a change may come before that of a commit that was seen already: longer
/// than any transaction takes.
const OVERLAP: TimeDelta = TimeDelta::seconds(60);
/// Versions whose last told change is remembered, so that none is told twice or out of order.
const REMEMBERED: NonZeroUsize = NonZeroUsize::new(1_024).expect("positive");

/// A place in the order of changes.
#[derive(Debug, Clone, Copy)]
pub(super) struct Mark {
    pub(super) at: DateTime<Utc>,
    pub(super) device: i64,
    pub(super) version: i32,
}

impl Mark {
    /// Before whatever changed about then.
    fn before(at: DateTime<Utc>) -> Self {
        Self { at: at - OVERLAP, device: 0, version: 0 }
    }

    fn of(config: &DeviceConfig) -> Self {
        Self { at: config.updated_at, device: config.device.get(), version: config.version }
    }
}

struct State {
    configs: DeviceConfigs,
    home: HomeId,
    device: Option<DeviceId>,
    listener: HubReceiver<DeviceConfig>,
    /// The latest change seen, by the database's clock.
    newest: DateTime<Utc>,
    told: LruCache<(DeviceId, i32), DateTime<Utc>>,
    page: VecDeque<DeviceConfig>,
    mode: Mode,
}

enum Mode {
    CatchUp(Mark),
    Live,
    Ended,
}

impl DeviceConfigs {
    /// Changes of the configurations of a home, or of one device of it, from now on. Ends when the home
    /// is closed, or after an error.
    pub async fn follow(
        &self,
        home: HomeId,
        device: Option<DeviceId>,
    ) -> Result<impl Stream<Item = Result<Arc<DeviceConfig>, Error>> + Send + 'static + use<>, Error> {
        let listener = self.hub.subscribe(home);
        let pool = self.pool.clone();
        let newest = spawn_and_join(async move { Ok::<_, Error>(store::now(&mut *pool.get().await?).await?) }).await?;
        let configs = self.clone();
        let (told, page, mode) = (LruCache::new(REMEMBERED), VecDeque::new(), Mode::Live);
        let state = State { configs, home, device, listener, newest, told, page, mode };
        Ok(unfold(state, |mut state| async move { state.next().await.map(|item| (item, state)) }))
    }

    async fn changed(&self, home: HomeId, device: Option<DeviceId>, after: Mark) -> Result<Vec<DeviceConfig>, Error> {
        let pool = self.pool.clone();
        let page = async move {
            let mut conn = pool.get().await?;
            Ok::<_, Error>(store::changed(&mut conn, home, device, after, PAGE).await?)
        };
        let page = spawn_and_join(page).await?;
        self.metrics.subscription_catch_ups.inc_by(page.len() as u64);
        Ok(page)
    }
}

impl State {
    async fn next(&mut self) -> Option<Result<Arc<DeviceConfig>, Error>> {
        loop {
            if let Some(config) = self.page.pop_front() {
                self.newest = self.newest.max(config.updated_at);
                if self.is_news(&config) {
                    return Some(Ok(Arc::new(config)));
                }
                continue;
            }
            match self.mode {
                Mode::Ended => return None,
                Mode::CatchUp(after) => match self.configs.changed(self.home, self.device, after).await {
                    Ok(page) => {
                        let is_full = i64::try_from(page.len()).is_ok_and(|n| n >= PAGE);
                        self.mode = match page.last() {
                            Some(last) if is_full => Mode::CatchUp(Mark::of(last)),
                            _ => Mode::Live,
                        };
                        self.page = page.into();
                    }
                    Err(error) => {
                        self.mode = Mode::Ended;
                        return Some(Err(error));
                    }
                },
                Mode::Live => match self.listener.recv().await {
                    HubEvent::Published(config) => {
                        self.newest = self.newest.max(config.updated_at);
                        if self.is_news(&config) {
                            return Some(Ok(config));
                        }
                    }
                    HubEvent::Lagged(_) => self.mode = Mode::CatchUp(Mark::before(self.newest)),
                    HubEvent::Closed => self.mode = Mode::Ended,
                },
            }
        }
    }

    /// Whether it is wanted and newer than what was told of it: two who publish may overtake each other.
    fn is_news(&mut self, config: &DeviceConfig) -> bool {
        let key = (config.device, config.version);
        let is_wanted = self.device.is_none_or(|device| device == config.device);
        if !is_wanted || self.told.get(&key).is_some_and(|told| *told >= config.updated_at) {
            return false;
        }
        self.told.put(key, config.updated_at);
        true
    }
}
