//! The caller's own account.

use std::sync::Arc;

use async_graphql::{Context, ID, InputObject, MaybeUndefined, Object};

use super::context::ContextExt;
use super::error::Result;
use super::members::User;
use super::scalars::{changed, parse_id};
use crate::account_deletion::delete_account;
use crate::homes::LeavingPlan;
use crate::ids::{HomeId, UserId};
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

/// A new password for an account whose password was forgotten.
#[derive(InputObject)]
pub(super) struct ResetPasswordInput {
    /// The token from the mail of `requestPasswordReset`, or from the operator. It is valid for one use and for an hour.
    token: String,
    /// The new password: 12 to 128 characters. Common passwords are refused.
    new_password: String,
}

/// A home that gets another owner.
#[derive(InputObject)]
pub(super) struct HandOverInput {
    /// The ID of the home, of which you are an owner.
    home_id: ID,
    /// The ID of a member of the home. The member becomes an owner.
    user_id: ID,
}

impl HandOverInput {
    fn parse(&self) -> Result<(HomeId, UserId)> {
        // A malformed ID is that of no member. It is found out when the home was checked.
        let member = self.user_id.parse().unwrap_or(UserId::from_database(0));
        Ok((parse_id(&self.home_id, "home")?, member))
    }
}

/// The deletion of your account.
#[derive(InputObject)]
pub(super) struct DeleteAccountInput {
    /// Your password.
    password: String,
    /// Homes that another member is to own.
    hand_over: Option<Vec<HandOverInput>>,
    /// The IDs of homes that are to be deleted with all their data.
    delete_home_ids: Option<Vec<ID>>,
}

impl DeleteAccountInput {
    fn plan(&self) -> Result<LeavingPlan> {
        let hand_over = self.hand_over.iter().flatten().map(HandOverInput::parse);
        let delete = self.delete_home_ids.iter().flatten().map(|id| parse_id(id, "home"));
        Ok(LeavingPlan { hand_over: hand_over.collect::<Result<_>>()?, delete: delete.collect::<Result<_>>()? })
    }
}

#[derive(Default)]
pub(super) struct AccountMutation;

#[Object]
impl AccountMutation {
    /// Changes your display name, your e-mail address or both. Another e-mail address needs your password, ends all your
    /// other sessions and closes their connections; if this server verifies addresses, it gets a mail. Fails with CONFLICT if the address has an account already, and with
    /// FORBIDDEN if registration is closed or an external issuer verifies the addresses of its domain: then the operator
    /// changes it.
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

    /// Sends a mail with a token for `verifyEmail` to your e-mail address. Returns true without a mail if the address is
    /// verified, and if five such tokens of your account are valid.
    async fn request_email_verification(&self, ctx: &Context<'_>) -> Result<bool> {
        ctx.services().users.request_email_verification(ctx.person()?, ctx.address()).await?;
        Ok(true)
    }

    /// Verifies the e-mail address of the account that the token was sent for. You need not be signed in. Fails with
    /// BAD_USER_INPUT if the token is unknown, used, expired or for an earlier address of the account.
    async fn verify_email(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "The token from the mail. It is valid for one use and for a day.")] token: String,
    ) -> Result<bool> {
        ctx.services().users.verify_email(&token, ctx.address()).await?;
        Ok(true)
    }

    /// Sends a mail with a token for `resetPassword` to the account with this e-mail address. The answer is the same if
    /// there is none. Fails with FORBIDDEN if this server sends no mail: then ask the operator for a token.
    async fn request_password_reset(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "The e-mail address of the account. Case is ignored.")] email: String,
    ) -> Result<bool> {
        ctx.services().users.request_password_reset(&email, ctx.address())?;
        Ok(true)
    }

    /// Sets a new password without the old one, ends all sessions of the account and closes their connections. Fails with
    /// BAD_USER_INPUT if the token is unknown, used or expired.
    async fn reset_password(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "The token and the new password.")] input: ResetPasswordInput,
    ) -> Result<bool> {
        ctx.services().users.reset_password(&input.token, &input.new_password, ctx.address()).await?;
        Ok(true)
    }

    /// Deletes your account, ends all your sessions and closes their connections. You leave all homes; what you did in them
    /// stays in their history. Homes of which you are the only owner must be handed over or deleted: if the input does
    /// not name each of them, nothing is changed, and the error CONFLICT has their IDs in `homeIds`. A deletion can't be
    /// undone.
    async fn delete_account(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "Your password, and what happens to your homes.")] input: DeleteAccountInput,
    ) -> Result<bool> {
        let (viewer, services) = (ctx.viewer()?.clone(), ctx.services());
        let (by, plan) = (ctx.request_context()?, input.plan()?);
        delete_account(&services.users, &services.homes, viewer, by, plan, Some(&input.password)).await?;
        Ok(true)
    }
}
