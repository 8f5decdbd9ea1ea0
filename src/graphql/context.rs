//! What resolvers take from their context, typed: nobody else digs in the bag.

use std::net::IpAddr;

use async_graphql::Context;

use super::budget::Budget;
use super::error::Result;
use super::loader::Wave;
use super::loaders::Loaders;
use super::{Peer, Services, Viewer};
use crate::auth::{Actor, Principal};
use crate::error::Error;
use crate::homes::FOR_PEOPLE;

/// Typed access to a resolver's context.
pub(super) trait ContextExt<'a> {
    /// The services.
    fn services(&self) -> &'a Services;
    /// The batching loaders.
    fn loaders(&self) -> &'a Loaders;
    /// With whom this field shares its batch.
    fn wave(&self) -> Wave;
    /// What the operation may still ask for.
    fn budget(&self) -> Result<&'a Budget>;
    /// Takes so many objects of a list, or refuses the operation.
    fn spend(&self, n_objects: usize) -> Result<()> {
        self.budget()?.spend(n_objects, &self.services().metrics.graphql_exhausted)
    }
    /// The client's network address, if it is known.
    fn address(&self) -> Option<IpAddr>;
    /// Who asks; an error for nobody.
    fn viewer(&self) -> Result<&'a Principal>;
    /// The same, for what no scope gives: an error for an integration.
    fn person(&self) -> Result<&'a Principal>;
}

impl<'a> ContextExt<'a> for Context<'a> {
    fn services(&self) -> &'a Services {
        self.data_unchecked()
    }

    fn loaders(&self) -> &'a Loaders {
        self.data_unchecked()
    }

    fn wave(&self) -> Wave {
        Wave::of(self)
    }

    fn budget(&self) -> Result<&'a Budget> {
        Ok(self.data_opt().ok_or_else(|| Error::internal("an operation without a budget"))?)
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
            Actor::Session(_) | Actor::Operator => Ok(viewer),
        }
    }
}
