//! What subscribers have made of one event, shared by those that want the same.
//!
//! The first subscriber that asks for a rendering makes it, the others wait for it. A failure is not shared: then each
//! makes its own.

use std::sync::{Arc, Mutex, OnceLock};
use std::time::Instant;

use bytes::Bytes;
use tokio::sync::watch;

use crate::traces::TraceContext;

/// Identifies what is made of an event, and for whom.
pub type RenderingKey = [u8; 32];

/// Different renderings of one event that are kept.
const MAX_RENDERINGS: usize = 64;
/// Largest rendering that is kept, in bytes.
const MAX_RENDERING_BYTES: usize = 16 << 10;
/// Bytes of all kept renderings of one event.
const MAX_EVENT_BYTES: usize = 128 << 10;

/// The renderings of one event. They live as long as a subscriber has not received the event.
#[derive(Debug)]
pub struct Renderings {
    /// The first one that is made: mostly all subscribers want it. They read it without the lock.
    first: OnceLock<(RenderingKey, Bytes)>,
    kept: Mutex<Kept>,
    published: Published,
}

/// The publication of an event.
#[derive(Debug, Clone, Copy)]
pub struct Published {
    pub at: Instant,
    /// The trace of the message that caused the event.
    pub trace: Option<TraceContext>,
}

impl Default for Renderings {
    fn default() -> Self {
        Self::new(None)
    }
}

#[derive(Debug, Default)]
struct Kept {
    renderings: Vec<(RenderingKey, watch::Receiver<Progress>)>,
    n_bytes: usize,
}

#[derive(Debug, Clone)]
enum Progress {
    Rendering,
    Rendered(Bytes),
    /// Each subscriber makes its own.
    NotShared,
}

/// The part of a subscriber in a rendering.
pub enum Part {
    /// It is made already.
    Rendered(Bytes),
    /// Another one is making it.
    Waiting(WaitingPart),
    /// This one makes it, for the others too.
    Leading(LeadingPart),
    /// This one makes it for itself.
    Alone,
}

pub struct WaitingPart(watch::Receiver<Progress>);

/// Dropped without a result, the others make their own.
pub struct LeadingPart {
    event: Arc<Renderings>,
    key: RenderingKey,
    progress: watch::Sender<Progress>,
}

impl Renderings {
    /// None yet, of an event that is published now.
    pub(super) fn new(trace: Option<TraceContext>) -> Self {
        let published = Published { at: Instant::now(), trace };
        Self { first: OnceLock::new(), kept: Mutex::default(), published }
    }

    pub fn published(&self) -> Published {
        self.published
    }

    /// The first rendering, if it is the one with this key.
    pub fn rendered(&self, key: &RenderingKey) -> Option<Bytes> {
        self.first.get().filter(|(first, _)| first == key).map(|(_, bytes)| bytes.clone())
    }

    /// Joins the rendering with this key.
    pub fn join(self: &Arc<Self>, key: &RenderingKey) -> Part {
        if let Some(bytes) = self.rendered(key) {
            return Part::Rendered(bytes);
        }
        let mut kept = self.kept.lock().expect("renderings lock");
        if let Some((_, progress)) = kept.renderings.iter().find(|(present, _)| present == key) {
            let present = progress.borrow().clone();
            return match present {
                Progress::Rendered(bytes) => Part::Rendered(bytes),
                Progress::Rendering => Part::Waiting(WaitingPart(progress.clone())),
                Progress::NotShared => Part::Alone,
            };
        }
        if kept.renderings.len() >= MAX_RENDERINGS {
            return Part::Alone;
        }
        let (sender, receiver) = watch::channel(Progress::Rendering);
        kept.renderings.push((*key, receiver));
        Part::Leading(LeadingPart { event: self.clone(), key: *key, progress: sender })
    }
}

impl WaitingPart {
    /// The rendering, once the other one has made it; `None` if it is not shared.
    pub async fn rendered(mut self) -> Option<Bytes> {
        match self.0.wait_for(|progress| !matches!(progress, Progress::Rendering)).await.as_deref() {
            Ok(Progress::Rendered(bytes)) => Some(bytes.clone()),
            _ => None,
        }
    }
}

impl LeadingPart {
    /// Gives the rendering to the others, unless it is too large to be kept.
    pub fn share(self, rendering: &Bytes) {
        let mut kept = self.event.kept.lock().expect("renderings lock");
        if rendering.len() <= MAX_RENDERING_BYTES && kept.n_bytes + rendering.len() <= MAX_EVENT_BYTES {
            kept.n_bytes += rendering.len();
            let _ = self.event.first.set((self.key, rendering.clone()));
            self.progress.send_replace(Progress::Rendered(rendering.clone()));
        }
    }
}

impl Drop for LeadingPart {
    fn drop(&mut self) {
        self.progress.send_if_modified(|progress| {
            let is_unfinished = matches!(progress, Progress::Rendering);
            if is_unfinished {
                *progress = Progress::NotShared;
            }
            is_unfinished
        });
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    const KEY: RenderingKey = [1; 32];

    fn leading(event: &Arc<Renderings>, key: &RenderingKey) -> LeadingPart {
        match event.join(key) {
            Part::Leading(leading) => leading,
            _ => panic!("not the first"),
        }
    }

    fn waiting(event: &Arc<Renderings>) -> WaitingPart {
        match event.join(&KEY) {
            Part::Waiting(waiting) => waiting,
            _ => panic!("nobody renders"),
        }
    }

    #[test]
    fn one_renders_for_all_who_want_the_same() {
        let event = Arc::<Renderings>::default();
        let leader = leading(&event, &KEY);
        let mut waiting = Box::pin(waiting(&event).rendered());
        assert_eq!((&mut waiting).now_or_never(), None);
        leading(&event, &[2; 32]).share(&Bytes::from_static(b"other"));
        leader.share(&Bytes::from_static(b"json"));
        assert_eq!(waiting.now_or_never(), Some(Some(Bytes::from_static(b"json"))));
        assert!(matches!(event.join(&KEY), Part::Rendered(bytes) if bytes == "json"));
    }

    #[test]
    fn a_failed_or_too_large_rendering_is_not_shared() {
        for rendering in [None, Some(Bytes::from(vec![b' '; MAX_RENDERING_BYTES + 1]))] {
            let event = Arc::<Renderings>::default();
            let leader = leading(&event, &KEY);
            let waiting = waiting(&event);
            match rendering {
                Some(rendering) => leader.share(&rendering),
                None => drop(leader),
            }
            assert_eq!(waiting.rendered().now_or_never(), Some(None));
            assert!(matches!(event.join(&KEY), Part::Alone));
        }
    }

    #[test]
    fn an_event_keeps_a_bounded_number_of_renderings() {
        let event = Arc::<Renderings>::default();
        for n in 0..MAX_RENDERINGS {
            drop(leading(&event, &[n as u8; 32]));
        }
        assert!(matches!(event.join(&[255; 32]), Part::Alone));
    }
}
