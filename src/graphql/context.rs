//! What resolvers take from their context, typed: nobody else digs in the bag.

use async_graphql::Context;

use super::error::Result;
use super::loaders::Loaders;
use super::{Services, Viewer};
use crate::auth::Principal;
use crate::error::Error;

/// Typed access to a resolver's context.
pub(super) trait ContextExt<'a> {
    /// The services.
    fn services(&self) -> &'a Services;
    /// The batching loaders.
    fn loaders(&self) -> &'a Loaders;
    /// Who asks; an error for nobody.
    fn viewer(&self) -> Result<&'a Principal>;
}

impl<'a> ContextExt<'a> for Context<'a> {
    fn services(&self) -> &'a Services {
        self.data_unchecked()
    }

    fn loaders(&self) -> &'a Loaders {
        self.data_unchecked()
    }

    fn viewer(&self) -> Result<&'a Principal> {
        let viewer = self.data_opt::<Viewer>().and_then(|viewer| viewer.0.as_ref());
        Ok(viewer.ok_or(Error::Unauthenticated("sign in first: no valid access token came with the request"))?)
    }
}
