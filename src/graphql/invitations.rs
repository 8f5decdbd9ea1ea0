//! Who may become a member, and what becomes of members, in the graph.

use std::sync::Arc;

use async_graphql::{Context, ID, InputObject, Object, SimpleObject};

use super::context::ContextExt;
use super::error::Result;
use super::homes::Home;
use super::members::HomeMember;
use super::scalars::{HomeRole, Instant, parse_id};
use crate::audit::RequestContext;
use crate::homes::{self, Permission};

/// A fresh invitation, with the token that is shown this once.
#[derive(SimpleObject)]
#[graphql(serial)]
pub(super) struct Invitation {
    /// The invitation's id.
    id: ID,
    /// Whose account may accept it.
    email: String,
    /// What they will be.
    role: HomeRole,
    /// For `acceptInvitation`: good once. Hand it to the invited person; it is never shown again.
    token: String,
    /// When it ends.
    expires_at: Instant,
}

/// An invitation that nobody has accepted yet.
#[derive(SimpleObject)]
#[graphql(serial)]
pub(super) struct OpenInvitation {
    /// The invitation's id.
    id: ID,
    /// Whose account may accept it.
    email: String,
    /// What they will be.
    role: HomeRole,
    /// When it was made.
    created_at: Instant,
    /// When it ends.
    expires_at: Instant,
}

impl From<&homes::Invitation> for OpenInvitation {
    fn from(open: &homes::Invitation) -> Self {
        Self {
            id: open.id.into(),
            email: open.email.clone(),
            role: open.role.into(),
            created_at: open.created_at.into(),
            expires_at: open.expires_at.into(),
        }
    }
}

/// Whom to invite.
#[derive(InputObject)]
pub(super) struct InviteMemberInput {
    /// The home's id.
    home_id: ID,
    /// Login name of the account that may accept; it need not exist yet.
    email: String,
    /// What they will be.
    #[graphql(default_with = "HomeRole::Member")]
    role: HomeRole,
}

/// Mutations of memberships.
#[derive(Default)]
pub(super) struct MembershipMutation;

#[Object]
impl MembershipMutation {
    /// Invites the account of an e-mail into a home, for seven days; a second invitation takes the place
    /// of the first. For admins and owners; owners are invited by owners alone, who alone replace an owner's
    /// invitation. No mail is sent.
    async fn invite_member(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "Whom to invite.")] input: InviteMemberInput,
    ) -> Result<Invitation> {
        let homes = &ctx.services().homes;
        let access = homes.access(ctx.viewer()?, parse_id(&input.home_id, "home")?, Permission::Configure).await?;
        let (made, token) = homes.invite(access, &ctx.request_context()?, &input.email, input.role.into()).await?;
        Ok(Invitation {
            id: made.id.into(),
            email: made.email,
            role: made.role.into(),
            token: token.reveal().to_owned(),
            expires_at: made.expires_at.into(),
        })
    }

    /// Takes an invitation back: its token is good for nothing. For admins and owners.
    async fn revoke_invitation(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "The invitation's id.")] id: ID,
    ) -> Result<bool> {
        let viewer = ctx.viewer()?;
        ctx.services().homes.revoke_invitation(viewer, &ctx.request_context()?, parse_id(&id, "invitation")?).await?;
        Ok(true)
    }

    /// Makes you a member of the home you were invited into. The token must have been made for your
    /// e-mail; one that is wrong, used, expired or somebody else's is BAD_USER_INPUT, with one text.
    async fn accept_invitation(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "The token that `inviteMember` has given.")] token: String,
    ) -> Result<Home> {
        let by = RequestContext::new(ctx.person()?, ctx.address());
        let home = ctx.services().homes.accept_invitation(&by, &token).await?;
        Ok(Home(Arc::new(home)))
    }

    /// Gives a member another role. Admins do so up to their own; only owners make and unmake owners.
    /// CONFLICT where the last owner would step down.
    async fn set_member_role(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "The home's id.")] home_id: ID,
        #[graphql(desc = "The member's user id.")] user_id: ID,
        #[graphql(desc = "The new role.")] role: HomeRole,
    ) -> Result<HomeMember> {
        let homes = &ctx.services().homes;
        let access = homes.access(ctx.viewer()?, parse_id(&home_id, "home")?, Permission::Configure).await?;
        Ok(HomeMember(
            homes.set_role(access, &ctx.request_context()?, parse_id(&user_id, "member")?, role.into()).await?,
        ))
    }

    /// Takes a member out of a home and ends their subscriptions of it. Everybody may leave; others are
    /// removed by admins and owners, owners by owners alone. CONFLICT where the last owner would leave.
    async fn remove_member(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "The home's id.")] home_id: ID,
        #[graphql(desc = "The member's user id; your own to leave.")] user_id: ID,
    ) -> Result<bool> {
        let homes = &ctx.services().homes;
        let access = homes.access(ctx.viewer()?, parse_id(&home_id, "home")?, Permission::ReadPeople).await?;
        homes.remove_member(access, &ctx.request_context()?, parse_id(&user_id, "member")?).await?;
        Ok(true)
    }
}
