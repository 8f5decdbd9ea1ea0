//! Invitations, and changes of memberships.

use std::sync::Arc;

use async_graphql::{Context, ID, InputObject, Object, SimpleObject};

use super::context::ContextExt;
use super::error::Result;
use super::homes::Home;
use super::members::HomeMember;
use super::mutation_input::{Deprecated, input_or};
use super::scalars::{HomeRole, Instant, parse_id};
use crate::audit::RequestContext;
use crate::homes::{self, Permission};

/// A new invitation. Its token is shown only once.
#[derive(SimpleObject)]
#[graphql(serial)]
pub(super) struct Invitation {
    /// The ID of the invitation.
    id: ID,
    /// The e-mail address of the account that may accept the invitation.
    email: String,
    /// The role that the new member gets.
    role: HomeRole,
    /// The token for `acceptInvitation`, valid for one use. Give it to the invited user. It is never shown again.
    token: String,
    /// The time at which the invitation expires.
    expires_at: Instant,
}

/// An invitation that was not accepted yet.
#[derive(SimpleObject)]
#[graphql(serial)]
pub(super) struct OpenInvitation {
    /// The ID of the invitation.
    id: ID,
    /// The e-mail address of the account that may accept the invitation.
    email: String,
    /// The role that the new member gets.
    role: HomeRole,
    /// The time at which the invitation was created.
    created_at: Instant,
    /// The time at which the invitation expires.
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

/// A user to invite.
#[derive(InputObject)]
pub(super) struct InviteMemberInput {
    /// The ID of the home.
    home_id: ID,
    /// The e-mail address of the account that may accept the invitation. The account may be created later.
    email: String,
    /// The role that the new member gets.
    #[graphql(default_with = "HomeRole::Member")]
    role: HomeRole,
}

/// The new role of a member.
#[derive(InputObject)]
pub(super) struct SetMemberRoleInput {
    /// The ID of the home.
    home_id: ID,
    /// The user ID of the member.
    user_id: ID,
    /// The new role.
    role: HomeRole,
}

/// A member to remove.
#[derive(InputObject)]
pub(super) struct RemoveMemberInput {
    /// The ID of the home.
    home_id: ID,
    /// The user ID of the member. Use your own to leave the home.
    user_id: ID,
}

#[derive(Default)]
pub(super) struct MembershipMutation;

#[Object]
impl MembershipMutation {
    /// Invites a user to a home. The invitation is valid for seven days and replaces an earlier one for the same
    /// address. Requires the role ADMIN or OWNER. Only an owner may invite an owner or replace such an
    /// invitation. The server sends no e-mail.
    async fn invite_member(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "The user to invite.")] input: InviteMemberInput,
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

    /// Revokes an invitation, so that its token becomes invalid. Requires the role ADMIN or OWNER.
    async fn revoke_invitation(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "The ID of the invitation.")] id: ID,
    ) -> Result<bool> {
        let viewer = ctx.viewer()?;
        ctx.services().homes.revoke_invitation(viewer, &ctx.request_context()?, parse_id(&id, "invitation")?).await?;
        Ok(true)
    }

    /// Accepts an invitation and makes you a member of the home. Fails with BAD_USER_INPUT, always with the same
    /// message, if the token is unknown, used, expired, or was created for another e-mail address, and with FORBIDDEN if
    /// your e-mail address is to be verified first.
    async fn accept_invitation(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "The token that `inviteMember` returned.")] token: String,
    ) -> Result<Home> {
        let by = RequestContext::new(ctx.person()?, ctx.address());
        let home = ctx.services().homes.accept_invitation(&by, &token).await?;
        Ok(Home(Arc::new(home)))
    }

    /// Changes the role of a member. Requires the role ADMIN or OWNER. Only an owner may give or take the role
    /// OWNER. Fails with CONFLICT if the home would be left without an owner.
    async fn set_member_role(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "The member and the new role.")] input: Option<SetMemberRoleInput>,
        #[graphql(desc = "The ID of the home.", deprecation = "Use `input`.")] home_id: Option<ID>,
        #[graphql(desc = "The user ID of the member.", deprecation = "Use `input`.")] user_id: Option<ID>,
        #[graphql(desc = "The new role.", deprecation = "Use `input`.")] role: Option<HomeRole>,
    ) -> Result<HomeMember> {
        let (homes, viewer) = (&ctx.services().homes, ctx.viewer()?);
        let given = [
            Deprecated::required("homeId", home_id.as_ref()),
            Deprecated::required("userId", user_id.as_ref()),
            Deprecated::required("role", role.as_ref()),
        ];
        let deprecated = home_id.zip(user_id).zip(role);
        let deprecated = deprecated.map(|((home_id, user_id), role)| SetMemberRoleInput { home_id, user_id, role });
        let SetMemberRoleInput { home_id, user_id, role } = input_or(ctx, input, &given, deprecated)?;
        let access = homes.access(viewer, parse_id(&home_id, "home")?, Permission::Configure).await?;
        let user = parse_id(&user_id, "member")?;
        let member = homes.set_role(access, &ctx.request_context()?, user, role.into()).await?;
        Ok(HomeMember { home: access.home(), member })
    }

    /// Removes a member from a home and ends their subscriptions to it. Every member may leave. Removing others
    /// requires the role ADMIN or OWNER, and removing an owner the role OWNER. Fails with CONFLICT for the last
    /// owner.
    async fn remove_member(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "The member to remove.")] input: Option<RemoveMemberInput>,
        #[graphql(desc = "The ID of the home.", deprecation = "Use `input`.")] home_id: Option<ID>,
        #[graphql(desc = "The user ID of the member. Use your own to leave the home.", deprecation = "Use `input`.")]
        user_id: Option<ID>,
    ) -> Result<bool> {
        let (homes, viewer) = (&ctx.services().homes, ctx.viewer()?);
        let given =
            [Deprecated::required("homeId", home_id.as_ref()), Deprecated::required("userId", user_id.as_ref())];
        let deprecated = home_id.zip(user_id).map(|(home_id, user_id)| RemoveMemberInput { home_id, user_id });
        let RemoveMemberInput { home_id, user_id } = input_or(ctx, input, &given, deprecated)?;
        let access = homes.access(viewer, parse_id(&home_id, "home")?, Permission::ReadPeople).await?;
        homes.remove_member(access, &ctx.request_context()?, parse_id(&user_id, "member")?).await?;
        Ok(true)
    }
}
