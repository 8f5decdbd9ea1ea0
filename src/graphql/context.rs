//! Typed access to the context of a resolver. Only this module reads the untyped request data.

use std::net::IpAddr;

use async_graphql::{Context, ContextSelectionSet, SelectionField};
use prometheus_client::metrics::counter::Counter;

use super::error::Result;
use super::limits::budget::Budget;
use super::live::Handover;
use super::loader::BatchScope;
use super::loaders::Loaders;
use super::scalars::Json;
use super::{Peer, Services, Viewer};
use crate::audit::RequestContext;
use crate::auth::{Actor, Principal};
use crate::db::JsonText;
use crate::error::{CredentialsError, Error};
use crate::homes::PEOPLE_ONLY;

pub(super) trait ContextExt<'a> {
    fn services(&self) -> &'a Services;
    fn loaders(&self) -> &'a Loaders;
    /// The scope in which this field shares a batch.
    fn batch_scope(&self) -> BatchScope<'a>;
    fn budget(&self) -> &'a Budget;
    /// Takes the events of a subscription, if it shares its responses.
    fn handover(&self) -> Option<&'a Handover>;
    /// Charges the objects of this field's list, or ends the operation.
    fn charge_objects(&self, n_objects: usize) -> impl Future<Output = ()> + Send;
    /// Charges the objects of a page before it is read, or ends the operation.
    fn reserve_page(&self, n_objects: usize) -> impl Future<Output = ()> + Send;
    /// Refunds the objects that a page does not hold, and charges the fields of those that it holds.
    fn refund_page(&self, n_reserved: usize, n_objects: usize) -> impl Future<Output = ()> + Send;
    /// Stored JSON, with its keys in their order. Ends the operation if it exceeds the budget.
    fn json(&self, text: &JsonText) -> impl Future<Output = Json> + Send;
    /// Charges bytes, or ends the operation.
    fn charge_bytes(&self, bytes: usize) -> impl Future<Output = ()> + Send;
    /// The client's network address, if known.
    fn address(&self) -> Option<IpAddr>;
    /// The authenticated principal. Fails with UNAUTHENTICATED if there is none.
    fn viewer(&self) -> Result<&'a Principal>;
    /// The actor, credential and address for the audit log.
    fn request_context(&self) -> Result<RequestContext> {
        Ok(RequestContext::new(self.viewer()?, self.address()))
    }
    /// The authenticated user, for operations that no scope allows. Fails with FORBIDDEN for an integration.
    fn person(&self) -> Result<&'a Principal>;
}

impl<'a> ContextExt<'a> for Context<'a> {
    fn services(&self) -> &'a Services {
        self.data_unchecked()
    }

    fn loaders(&self) -> &'a Loaders {
        self.data_unchecked()
    }

    fn batch_scope(&self) -> BatchScope<'a> {
        BatchScope::of(self, self.budget(), exhausted(self))
    }

    fn budget(&self) -> &'a Budget {
        self.data_unchecked()
    }

    fn handover(&self) -> Option<&'a Handover> {
        self.data_opt()
    }

    fn charge_objects(&self, n_objects: usize) -> impl Future<Output = ()> + Send {
        let (budget, exhausted) = (self.budget(), exhausted(self));
        let n_fields = n_objects.saturating_mul(n_fields(&self.field()));
        async move {
            budget.charge_objects(n_objects, exhausted).await;
            budget.charge_fields(n_fields, exhausted).await;
        }
    }

    fn reserve_page(&self, n_objects: usize) -> impl Future<Output = ()> + Send {
        self.budget().charge_objects(n_objects, exhausted(self))
    }

    fn refund_page(&self, n_reserved: usize, n_objects: usize) -> impl Future<Output = ()> + Send {
        self.budget().refund(n_reserved.saturating_sub(n_objects));
        self.budget().charge_fields(n_objects.saturating_mul(n_fields(&self.field())), exhausted(self))
    }

    fn json(&self, text: &JsonText) -> impl Future<Output = Json> + Send {
        let charged = self.charge_bytes(text.value_bytes());
        async move {
            charged.await;
            Json::from(text)
        }
    }

    fn charge_bytes(&self, bytes: usize) -> impl Future<Output = ()> + Send {
        self.budget().charge_bytes(bytes, exhausted(self))
    }

    fn address(&self) -> Option<IpAddr> {
        self.data_opt::<Peer>().and_then(|peer| peer.0)
    }

    fn viewer(&self) -> Result<&'a Principal> {
        let viewer = self.data_opt::<Viewer>().and_then(|viewer| viewer.0.as_ref());
        Ok(viewer.ok_or(Error::Unauthenticated(
            CredentialsError::TokenMissing,
            "sign in first: no valid access token came with the request",
        ))?)
    }

    fn person(&self) -> Result<&'a Principal> {
        let viewer = self.viewer()?;
        match viewer.actor {
            Actor::Integration(_) => Err(Error::Forbidden(PEOPLE_ONLY).into()),
            Actor::Session(_) | Actor::Operator | Actor::External(_) => Ok(viewer),
        }
    }
}

fn exhausted<'a>(ctx: &Context<'a>) -> &'a Counter {
    &ctx.services().metrics.graphql_budget_exhausted
}

/// The bytes that may still be charged to the operation's budget.
pub(super) fn bytes_left(ctx: &ContextSelectionSet<'_>) -> usize {
    ctx.data_unchecked::<Budget>().memory().left()
}

/// Bytes that the operation has loaded since the last call.
pub(super) fn take_new_bytes(ctx: &ContextSelectionSet<'_>) -> usize {
    ctx.data_unchecked::<Budget>().memory().take_new_bytes()
}

/// Charges objects that were written as rows, and their JSON, or ends the operation.
pub(super) async fn charge_row(ctx: &ContextSelectionSet<'_>, bytes: usize, json_bytes: usize) {
    let exhausted = &ctx.data_unchecked::<Services>().metrics.graphql_budget_exhausted;
    ctx.data_unchecked::<Budget>().charge_row(bytes, json_bytes, exhausted).await;
}

/// The number of fields selected below a field, each counted once.
fn n_fields(field: &SelectionField<'_>) -> usize {
    field.selection_set().map(|field| 1 + n_fields(&field)).sum()
}
