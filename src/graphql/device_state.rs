//! The state that a device last reported.

use std::borrow::Cow;

use async_graphql::parser::types::SelectionSet;
use async_graphql::{Context, Object, OutputType};

use super::context::ContextExt;
use super::rows::{Row, Write, leaf};
use super::scalars::{Instant, Json};
use crate::devices::Reported;

pub(super) struct DeviceState(pub(super) Reported);

/// What a device reported itself to be: whether it is on, how bright, which colour. What it was told is in its commands
/// and its configuration.
#[Object(serial)]
impl DeviceState {
    /// The fields of its last status, as the device names them, for example `{"power": true, "brightness": 80}`.
    async fn reported(&self, ctx: &Context<'_>) -> Json {
        ctx.charge_bytes(self.0.state_bytes()).await;
        self.0.state().into()
    }

    /// The time of that status: from the clock of the device if it is usable, otherwise the time of receipt.
    async fn reported_at(&self) -> Instant {
        self.0.at.into()
    }
}

impl Row for Reported {
    fn type_name() -> Cow<'static, str> {
        <DeviceState as OutputType>::type_name()
    }

    fn writer(name: &str, _: &SelectionSet) -> Option<Write<Self>> {
        match name {
            "reported" => leaf(|reported: &Self, out| {
                out.charge(reported.state_bytes());
                out.value(&reported.state());
            }),
            "reportedAt" => leaf(|reported: &Self, out| out.instant(reported.at)),
            _ => None,
        }
    }
}
