//! Homes in the graph.

use std::sync::Arc;

use async_graphql::{Context, ID, InputObject, Object};

use super::context::ContextExt;
use super::devices::{self, Device, DeviceFilter};
use super::error::Result;
use super::integrations::IntegrationToken;
use super::invitations::OpenInvitation;
use super::members::HomeMember;
use super::paging::{Page, PageSize};
use super::rooms::Room;
use super::scalars::{HomeRole, Instant, parse_id};
use crate::audit::RequestContext;
use crate::homes::{self, NewHome, Permission};
use crate::ids::HomeId;

/// A home: the unit of tenancy. Nothing is readable or writable across homes.
pub(super) struct Home(pub(super) Arc<homes::Home>);

/// A home: the unit of tenancy. Nothing is readable or writable across homes.
#[Object(serial)]
impl Home {
    /// The home's id.
    async fn id(&self) -> ID {
        self.0.id.into()
    }

    /// Its name in topics (`smarthome/{key}/…`): unique on the server, its id until one is chosen.
    async fn key(&self) -> &str {
        &self.0.key
    }

    /// What people call it.
    async fn name(&self) -> Result<&str> {
        Ok(&self.read()?.name)
    }

    /// IANA time zone, for people: every instant of the API is in UTC.
    async fn timezone(&self) -> Result<&str> {
        Ok(&self.read()?.timezone)
    }

    /// When it was made.
    async fn created_at(&self) -> Result<Instant> {
        Ok(self.read()?.created_at.into())
    }

    /// What you may do in it. An integration reads GUEST here: what it may do, its scopes say.
    async fn my_role(&self) -> HomeRole {
        self.0.my_role().into()
    }

    /// Who may do what in it, in the order they joined.
    #[graphql(complexity = "super::paging::list_complexity(10, child_complexity)")]
    async fn members(&self, ctx: &Context<'_>) -> Result<Vec<HomeMember>> {
        let access = self.0.allow(Permission::ReadPeople)?;
        let members = ctx.loaders().members.get(ctx.batch_scope(), access.user(), access).await?;
        ctx.charge_objects(members.as_ref().map_or(0, |members| members.len())).await;
        Ok(members.into_iter().flat_map(|members| members.to_vec()).map(HomeMember).collect())
    }

    /// Who has been invited into it and has not accepted yet, oldest first. For admins and owners.
    #[graphql(complexity = "super::paging::list_complexity(10, child_complexity)")]
    async fn invitations(&self, ctx: &Context<'_>) -> Result<Vec<OpenInvitation>> {
        let access = self.0.allow(Permission::Configure)?;
        let open = ctx.loaders().invitations.get(ctx.batch_scope(), access.user(), access).await?;
        ctx.charge_objects(open.as_ref().map_or(0, |open| open.len())).await;
        Ok(open.iter().flat_map(|open| open.iter()).map(OpenInvitation::from).collect())
    }

    /// The tokens of its integrations that have not ended, oldest first. For admins and owners.
    #[graphql(complexity = "super::paging::list_complexity(10, child_complexity)")]
    async fn integration_tokens(&self, ctx: &Context<'_>) -> Result<Vec<IntegrationToken>> {
        let access = self.0.allow(Permission::Configure)?;
        let live = ctx.loaders().integrations.get(ctx.batch_scope(), access.user(), access).await?;
        ctx.charge_objects(live.as_ref().map_or(0, |live| live.len())).await;
        Ok(live.iter().flat_map(|live| live.iter()).map(IntegrationToken::from).collect())
    }

    /// Its rooms, by name.
    #[graphql(complexity = "super::paging::list_complexity(10, child_complexity)")]
    async fn rooms(&self, ctx: &Context<'_>) -> Result<Vec<Room>> {
        let access = self.0.allow(Permission::Read)?;
        let rooms = ctx.loaders().rooms_of.get(ctx.batch_scope(), access.user(), access).await?;
        ctx.charge_objects(rooms.as_ref().map_or(0, |rooms| rooms.len())).await;
        Ok(rooms.into_iter().flat_map(|rooms| rooms.to_vec()).map(Room).collect())
    }

    /// Its devices, in the order they were registered.
    #[graphql(complexity = "super::paging::page_complexity(first, super::devices::PAGE, child_complexity)")]
    async fn devices(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "Only those that match all of it.")] filter: Option<DeviceFilter>,
        #[graphql(desc = "Items of a page, 0 to 500.", default_with = "Some(PageSize::from(50))")] first: Option<
            PageSize,
        >,
        #[graphql(desc = "Cursor of the last item of the page before.")] after: Option<String>,
    ) -> Result<Page<Device>> {
        let access = self.0.allow(Permission::Read)?;
        devices::page(ctx, access.user(), access.home(), filter, first, after).await
    }
}

impl Home {
    /// All of it, where the viewer may see more than that it is there.
    fn read(&self) -> Result<&homes::Home> {
        self.0.allow(Permission::Read)?;
        Ok(&self.0)
    }
}

/// A home to make.
#[derive(InputObject)]
pub(super) struct CreateHomeInput {
    /// What to call it: 1 to 100 characters.
    name: String,
    /// Its name in topics, unique on the server: 1 to 64 letters, digits, `_`, `.`, `-`; no number.
    /// Its id by default. It never changes.
    key: Option<String>,
    /// IANA time zone.
    #[graphql(default_with = "Some(\"UTC\".to_owned())")]
    timezone: Option<String>,
}

/// What to change about a home; what is absent stays.
#[derive(InputObject)]
pub(super) struct UpdateHomeInput {
    /// What to call it: 1 to 100 characters.
    name: Option<String>,
    /// IANA time zone.
    timezone: Option<String>,
}

/// Queries of homes.
#[derive(Default)]
pub(super) struct HomeQuery;

#[Object]
impl HomeQuery {
    /// The homes of which you are a member.
    #[graphql(complexity = "super::paging::list_complexity(10, child_complexity)")]
    async fn homes(&self, ctx: &Context<'_>) -> Result<Vec<Home>> {
        let homes = ctx.services().homes.visible(ctx.viewer()?.user, None).await?;
        ctx.charge_objects(homes.len()).await;
        Ok(homes.into_iter().map(|home| Home(Arc::new(home))).collect())
    }

    /// A home of which you are a member; NOT_FOUND for every other.
    async fn home(&self, ctx: &Context<'_>, #[graphql(desc = "The home's id.")] id: ID) -> Result<Option<Home>> {
        let viewer = ctx.viewer()?.user;
        let id: HomeId = parse_id(&id, "home")?;
        let home = ctx.loaders().homes.get(ctx.batch_scope(), viewer, id).await?;
        Ok(Some(Home(home.ok_or(crate::error::Error::NotFound("home"))?)))
    }
}

/// Mutations of homes.
#[derive(Default)]
pub(super) struct HomeMutation;

#[Object]
impl HomeMutation {
    /// Makes a home; you are its owner. CONFLICT where the key is taken.
    async fn create_home(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "The home to make.")] input: CreateHomeInput,
    ) -> Result<Home> {
        let timezone = input.timezone.unwrap_or_else(|| "UTC".to_owned());
        let new = NewHome { name: input.name, key: input.key, timezone };
        let by = RequestContext::new(ctx.person()?, ctx.address());
        let home = ctx.services().homes.create(&by, new).await?;
        Ok(Home(Arc::new(home)))
    }

    /// Changes a home's settings. For admins and owners.
    async fn update_home(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "The home's id.")] id: ID,
        #[graphql(desc = "What to change.")] input: UpdateHomeInput,
    ) -> Result<Home> {
        let homes = &ctx.services().homes;
        let access = homes.access(ctx.viewer()?, parse_id(&id, "home")?, Permission::Configure).await?;
        let home =
            homes.update(access, &ctx.request_context()?, input.name.as_deref(), input.timezone.as_deref()).await?;
        Ok(Home(Arc::new(home)))
    }

    /// Deletes a home with everything in it, readings included, and ends its subscriptions. For owners.
    async fn delete_home(&self, ctx: &Context<'_>, #[graphql(desc = "The home's id.")] id: ID) -> Result<bool> {
        let homes = &ctx.services().homes;
        let access = homes.access(ctx.viewer()?, parse_id(&id, "home")?, Permission::Own).await?;
        homes.delete(access, &ctx.request_context()?).await?;
        Ok(true)
    }
}
