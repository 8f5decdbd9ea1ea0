//! The caller's own account.

use std::sync::Arc;

use async_graphql::{Context, InputObject, MaybeUndefined, Object};

use super::context::ContextExt;
use super::error::Result;
use super::members::User;
use super::scalars::changed;
use crate::users::ProfileChange;

/// The fields of your account to change. Absent fields stay unchanged. `name` and `email` cannot be null.
#[derive(InputObject)]
pub(super) struct UpdateMeInput {
    /// The display name: 1 to 100 characters.
    name: MaybeUndefined<String>,
    /// The e-mail address with which you sign in. Case is ignored.
    email: MaybeUndefined<String>,
    /// Your password. Required for another e-mail address.
    current_password: Option<String>,
}

#[derive(Default)]
pub(super) struct AccountMutation;

#[Object]
impl AccountMutation {
    /// Changes your display name, your e-mail address or both. Another e-mail address needs your password, ends all your
    /// other sessions and closes their connections. Fails with CONFLICT if the address has an account already, and with
    /// FORBIDDEN if an external issuer verifies the addresses of its domain: then the operator changes it.
    async fn update_me(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "The fields to change.")] input: UpdateMeInput,
    ) -> Result<User> {
        let (name, email) = (changed("name", input.name)?, changed("email", input.email)?);
        let current_password = input.current_password.as_deref();
        let change = ProfileChange { name: name.as_deref(), email: email.as_deref(), current_password };
        let user = ctx.services().users.update(ctx.person()?, change, ctx.address()).await?;
        Ok(User { viewer: user.id, user: Arc::new(user) })
    }
}
