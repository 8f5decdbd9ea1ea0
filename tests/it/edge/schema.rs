//! The small schema: fields and streams of every kind that a transport must carry.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use async_graphql::{Context, Error, ErrorExtensions, SimpleObject};
use futures_util::{Stream, StreamExt, stream};
use smarthome::clock::Clock;
use smarthome::graphql::Viewer;

/// Running streams: zero when every subscription has ended.
#[derive(Clone, Default)]
pub(crate) struct LiveStreams(Arc<AtomicUsize>);

struct Alive(LiveStreams);

impl LiveStreams {
    fn enter(&self) -> Alive {
        self.0.fetch_add(1, Ordering::SeqCst);
        Alive(self.clone())
    }

    pub(crate) fn count(&self) -> usize {
        self.0.load(Ordering::SeqCst)
    }
}

impl Drop for Alive {
    fn drop(&mut self) {
        self.0.0.fetch_sub(1, Ordering::SeqCst);
    }
}

/// The query root.
pub(crate) struct Query;

#[derive(SimpleObject)]
struct Leaf {
    id: i32,
}

struct Node(i32);

#[async_graphql::Object]
impl Node {
    async fn id(&self) -> i32 {
        self.0
    }

    async fn child(&self) -> Node {
        Node(self.0 + 1)
    }

    async fn leaves(&self, first: i32) -> Vec<Leaf> {
        (0..first.clamp(0, 10)).map(|id| Leaf { id }).collect()
    }
}

#[async_graphql::Object]
impl Query {
    async fn hello(&self) -> &str {
        "world"
    }

    async fn echo(&self, text: String) -> String {
        text
    }

    /// Text of that many KiB.
    async fn text(&self, kib: usize) -> String {
        "x".repeat(kib << 10)
    }

    async fn node(&self) -> Node {
        Node(0)
    }

    async fn nodes(&self) -> Vec<Node> {
        vec![Node(0), Node(1)]
    }

    async fn me(&self, ctx: &Context<'_>) -> async_graphql::Result<String> {
        match &ctx.data::<Viewer>()?.0 {
            Some(principal) => Ok(principal.user.to_string()),
            None => Err(Error::new("sign in").extend_with(|_, e| e.set("code", "UNAUTHENTICATED"))),
        }
    }

    async fn uncoded(&self) -> async_graphql::Result<String> {
        Err(Error::new("host=10.0.0.7 password=hunter2"))
    }

    async fn panics(&self) -> String {
        std::convert::identity(None::<String>).expect("on purpose")
    }

    async fn never(&self) -> String {
        std::future::pending().await
    }
}

/// The mutation root.
pub(crate) struct Mutation;

#[async_graphql::Object]
impl Mutation {
    async fn bump(&self, by: i32) -> i32 {
        by + 1
    }

    async fn login(&self, password: String) -> bool {
        password.is_empty()
    }
}

/// The subscription root.
pub(crate) struct Subscription;

#[async_graphql::Subscription]
impl Subscription {
    /// Counts from zero, as fast as it is read.
    async fn count(&self, ctx: &Context<'_>, to: i32) -> impl Stream<Item = i32> + use<> {
        let alive = ctx.data_unchecked::<LiveStreams>().enter();
        stream::iter(0..to).map(move |n| {
            let _ = &alive;
            n
        })
    }

    /// One item, then none.
    async fn once(&self, ctx: &Context<'_>) -> impl Stream<Item = i32> + use<> {
        let alive = ctx.data_unchecked::<LiveStreams>().enter();
        stream::iter([1]).chain(stream::pending()).map(move |n| {
            let _ = &alive;
            n
        })
    }

    /// Large items without end.
    async fn flood(&self, ctx: &Context<'_>) -> impl Stream<Item = String> + use<> {
        let alive = ctx.data_unchecked::<LiveStreams>().enter();
        stream::repeat_with(move || {
            let _ = &alive;
            "x".repeat(16 << 10)
        })
    }

    /// Texts of that many KiB.
    async fn texts(&self, kib: Vec<usize>) -> impl Stream<Item = String> + use<> {
        stream::iter(kib).map(|kib| "x".repeat(kib << 10))
    }

    /// Counts from zero; at three the wall clock advances by an hour.
    async fn ages(&self, ctx: &Context<'_>) -> impl Stream<Item = i32> + use<> {
        let clock = ctx.data_unchecked::<Clock>().clone();
        stream::iter(0..1_000).map(move |n| {
            if n == 3 {
                clock.advance(chrono::TimeDelta::hours(1));
            }
            n
        })
    }

    /// Can't be started by any caller.
    async fn forbidden(&self) -> async_graphql::Result<stream::Empty<i32>> {
        Err(Error::new("not yours").extend_with(|_, e| e.set("code", "NOT_FOUND")))
    }

    /// Two events, the second of which fails.
    async fn falters(&self) -> impl Stream<Item = async_graphql::Result<i32>> + use<> {
        let lagged = Error::new("too slow").extend_with(|_, e| e.set("code", "LAGGED"));
        stream::iter([Ok(1), Err(lagged)])
    }
}
