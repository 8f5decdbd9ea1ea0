//! What resolvers take from their context, typed: nobody else digs in the bag.

use std::net::IpAddr;

use async_graphql::{Context, SelectionField};
use prometheus_client::metrics::counter::Counter;
use serde_json::Value;

use super::budget::Budget;
use super::error::Result;
use super::loader::Wave;
use super::loaders::Loaders;
use super::{Peer, Services, Viewer};
use crate::audit::Origin;
use crate::auth::{Actor, Principal};
use crate::db::JsonText;
use crate::error::Error;
use crate::homes::FOR_PEOPLE;

/// Typed access to a resolver's context.
pub(super) trait ContextExt<'a> {
    /// The services.
    fn services(&self) -> &'a Services;
    /// The batching loaders.
    fn loaders(&self) -> &'a Loaders;
    /// With whom this field shares its batch.
    fn wave(&self) -> Wave<'a>;
    /// What the operation may still ask for.
    fn budget(&self) -> &'a Budget;
    /// Takes the objects of this field's list, or ends the operation.
    fn spend(&self, n_objects: usize) -> impl Future<Output = ()> + Send;
    /// Takes the objects of a page before it is read, or ends the operation.
    fn reserve(&self, n_objects: usize) -> impl Future<Output = ()> + Send;
    /// Gives back what the page was taken to hold and does not.
    fn settle(&self, n_reserved: usize, n_objects: usize) -> impl Future<Output = ()> + Send;
    /// A value of its text; ends the operation where that takes too much.
    fn json(&self, text: &JsonText) -> impl Future<Output = Value> + Send;
    /// Takes so many bytes, or ends the operation.
    fn hold(&self, bytes: usize) -> impl Future<Output = ()> + Send;
    /// The client's network address, if it is known.
    fn address(&self) -> Option<IpAddr>;
    /// Who asks; an error for nobody.
    fn viewer(&self) -> Result<&'a Principal>;
    /// Who asks, by what and from where, for whatever leaves an entry in the audit log.
    fn origin(&self) -> Result<Origin> {
        Ok(Origin::new(self.viewer()?, self.address()))
    }
    /// Who asks, for what no scope gives: an error for an integration.
    fn person(&self) -> Result<&'a Principal>;
}

impl<'a> ContextExt<'a> for Context<'a> {
    fn services(&self) -> &'a Services {
        self.data_unchecked()
    }

    fn loaders(&self) -> &'a Loaders {
        self.data_unchecked()
    }

    fn wave(&self) -> Wave<'a> {
        Wave::of(self, self.budget(), exhausted(self))
    }

    fn budget(&self) -> &'a Budget {
        self.data_unchecked()
    }

    fn spend(&self, n_objects: usize) -> impl Future<Output = ()> + Send {
        let (budget, exhausted) = (self.budget(), exhausted(self));
        let n_fields = n_objects.saturating_mul(n_fields(&self.field()));
        async move {
            budget.spend(n_objects, exhausted).await;
            budget.fill(n_fields, exhausted).await;
        }
    }

    fn reserve(&self, n_objects: usize) -> impl Future<Output = ()> + Send {
        self.budget().spend(n_objects, exhausted(self))
    }

    fn settle(&self, n_reserved: usize, n_objects: usize) -> impl Future<Output = ()> + Send {
        self.budget().give_back(n_reserved.saturating_sub(n_objects));
        self.budget().fill(n_objects.saturating_mul(n_fields(&self.field())), exhausted(self))
    }

    fn json(&self, text: &JsonText) -> impl Future<Output = Value> + Send {
        let taken = self.hold(text.value_bytes());
        async move {
            taken.await;
            text.parse()
        }
    }

    fn hold(&self, bytes: usize) -> impl Future<Output = ()> + Send {
        self.budget().hold(bytes, exhausted(self))
    }

    fn address(&self) -> Option<IpAddr> {
        self.data_opt::<Peer>().and_then(|peer| peer.0)
    }

    fn viewer(&self) -> Result<&'a Principal> {
        let viewer = self.data_opt::<Viewer>().and_then(|viewer| viewer.0.as_ref());
        Ok(viewer.ok_or(Error::Unauthenticated("sign in first: no valid access token came with the request"))?)
    }

    fn person(&self) -> Result<&'a Principal> {
        let viewer = self.viewer()?;
        match viewer.actor {
            Actor::Integration(_) => Err(Error::Forbidden(FOR_PEOPLE).into()),
            Actor::Session(_) | Actor::Operator | Actor::Outside(_) => Ok(viewer),
        }
    }
}

fn exhausted<'a>(ctx: &Context<'a>) -> &'a Counter {
    &ctx.services().metrics.graphql_exhausted
}

/// What is selected of a field's object and of all below it, each once.
fn n_fields(field: &SelectionField<'_>) -> usize {
    field.selection_set().map(|field| 1 + n_fields(&field)).sum()
}
