//! Homes.

use std::borrow::Cow;
use std::sync::Arc;

use async_graphql::parser::types::SelectionSet;
use async_graphql::{Context, ID, InputObject, MaybeUndefined, Object, OutputType};

use super::context::ContextExt;
use super::device_filter::{DeviceFilter, DeviceOrder};
use super::device_list;
use super::devices::Device;
use super::error::Result;
use super::inputs::IntInput;
use super::integrations::IntegrationToken;
use super::invitations::OpenInvitation;
use super::members::HomeMember;
use super::mutation_input::id_or;
use super::paging::{Page, PageArguments, load_list};
use super::rooms::Room;
use super::rows::{Direct, JsonWriter, NotWritten, Row, Write, leaf};
use super::scalars::{HomeRole, Instant, changed, int, parse_id};
use crate::audit::RequestContext;
use crate::devices::Counted;
use crate::homes::{self, NewHome, Permission};
use crate::ids::HomeId;

pub(super) struct Home(pub(super) Arc<homes::Home>);

/// A home: a tenant of the server. Its data is visible only to its members and integrations.
#[Object(serial)]
impl Home {
    /// The ID of the home.
    async fn id(&self) -> ID {
        self.0.id.into()
    }

    /// The name of the home in topics (`smarthome/{key}/…`), unique on the server. By default it is the ID.
    async fn key(&self) -> &str {
        &self.0.key
    }

    /// The display name.
    async fn name(&self) -> Result<Option<&str>> {
        Ok(Some(&self.read()?.name))
    }

    /// The IANA time zone of the home, for display. All times in the API are in UTC.
    async fn timezone(&self) -> Result<Option<&str>> {
        Ok(Some(&self.read()?.timezone))
    }

    /// The time at which the home was created.
    async fn created_at(&self) -> Result<Option<Instant>> {
        Ok(Some(self.read()?.created_at.into()))
    }

    /// Your role in the home. For an integration it is GUEST; the rights of an integration are its scopes.
    async fn my_role(&self) -> HomeRole {
        self.0.my_role().into()
    }

    /// The members of the home, in the order in which they joined.
    async fn members(&self, ctx: &Context<'_>) -> Result<Option<Vec<HomeMember>>> {
        let access = self.0.allow(Permission::ReadPeople)?;
        let members = ctx.loaders().members.get(ctx.batch_scope(), access.user(), access);
        let member = |member: &homes::Member| HomeMember { home: access.home(), member: member.clone() };
        Ok(Some(load_list(ctx, members).await?.iter().map(member).collect()))
    }

    /// The invitations that were not accepted yet, oldest first. Requires the role ADMIN or OWNER.
    async fn invitations(&self, ctx: &Context<'_>) -> Result<Option<Vec<OpenInvitation>>> {
        let access = self.0.allow(Permission::Configure)?;
        let open = ctx.loaders().invitations.get(ctx.batch_scope(), access.user(), access);
        Ok(Some(load_list(ctx, open).await?.iter().map(OpenInvitation::from).collect()))
    }

    /// The valid integration tokens of the home, oldest first. Requires the role ADMIN or OWNER.
    async fn integration_tokens(&self, ctx: &Context<'_>) -> Result<Option<Vec<IntegrationToken>>> {
        let access = self.0.allow(Permission::Configure)?;
        let tokens = ctx.loaders().integrations.get(ctx.batch_scope(), access.user(), access);
        Ok(Some(load_list(ctx, tokens).await?.iter().map(IntegrationToken::from).collect()))
    }

    /// The rooms of the home, sorted by name.
    async fn rooms(&self, ctx: &Context<'_>) -> Result<Option<Vec<Room>>> {
        let access = self.0.allow(Permission::Read)?;
        let rooms = ctx.loaders().rooms_of.get(ctx.batch_scope(), access.user(), access);
        Ok(Some(load_list(ctx, rooms).await?.iter().cloned().map(Room).collect()))
    }

    /// The number of devices of the home that you may see.
    async fn device_count(&self, ctx: &Context<'_>) -> Result<Option<i32>> {
        self.count(ctx, Counted::All).await
    }

    /// The number of devices of the home that you may see and that are online.
    async fn online_count(&self, ctx: &Context<'_>) -> Result<Option<i32>> {
        self.count(ctx, Counted::Online).await
    }

    /// The devices of the home, in order of registration or of `orderBy`.
    async fn devices(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "Lists only devices that match the filter.")] filter: Option<DeviceFilter>,
        #[graphql(desc = "The order of the list. By default devices come in order of registration.")] order_by: Option<
            DeviceOrder,
        >,
        #[graphql(desc = "The page size, from 0 to 500.", default_with = "Some(IntInput::default_of(50))")]
        first: Option<IntInput>,
        #[graphql(desc = "The cursor of the last item of the previous page.")] after: Option<String>,
    ) -> Result<Option<Direct<Page<Device>>>> {
        let access = self.0.allow(Permission::Read)?;
        let page = PageArguments { first, after };
        Ok(Some(device_list::page(ctx, access.user(), access.home(), filter, order_by, page).await?))
    }
}

impl Home {
    async fn count(&self, ctx: &Context<'_>, counted: Counted) -> Result<Option<i32>> {
        let access = self.0.allow(Permission::Read)?;
        let n = ctx.loaders().device_counts.get(ctx.batch_scope(), (access.user(), counted), access).await?;
        Ok(Some(int(n.unwrap_or_default())))
    }

    /// The home, if the viewer may see more than its id and key.
    fn read(&self) -> Result<&homes::Home> {
        self.0.allow(Permission::Read)?;
        Ok(&self.0)
    }
}

impl Row for homes::Home {
    fn type_name() -> Cow<'static, str> {
        <Home as OutputType>::type_name()
    }

    fn writer(name: &str, _: &SelectionSet) -> Option<Write<Self>> {
        match name {
            "id" => leaf(|home: &Self, out| out.id(home.id)),
            "key" => leaf(|home: &Self, out| out.value(&home.key)),
            "name" => readable(|home, out| out.value(&home.name)),
            "timezone" => readable(|home, out| out.value(&home.timezone)),
            "createdAt" => readable(|home, out| out.instant(home.created_at)),
            _ => None,
        }
    }
}

/// Writes a field that only a viewer who may read the home gets.
fn readable(write: fn(&homes::Home, &mut JsonWriter)) -> Option<Write<homes::Home>> {
    Some(Box::new(move |home, out| {
        home.allow(Permission::Read).map_err(|_| NotWritten::NeedsObjects)?;
        write(home, out);
        Ok(())
    }))
}

/// A home to create.
#[derive(InputObject)]
pub(super) struct CreateHomeInput {
    /// The display name: 1 to 100 characters.
    name: String,
    /// The name of the home in topics, unique on the server: 1 to 64 letters, digits, `_`, `.`, `-`, but not a
    /// number. By default it is the ID of the home. It cannot be changed later.
    key: Option<String>,
    /// The IANA time zone, for example `Europe/Berlin`.
    #[graphql(default_with = "Some(\"UTC\".to_owned())")]
    timezone: Option<String>,
}

/// The fields of a home to change. Absent fields stay unchanged. None of them can be null.
#[derive(InputObject)]
pub(super) struct UpdateHomeInput {
    /// The ID of the home. Required, unless the deprecated argument `id` has it.
    id: Option<ID>,
    /// The display name: 1 to 100 characters.
    name: MaybeUndefined<String>,
    /// The IANA time zone, for example `Europe/Berlin`.
    timezone: MaybeUndefined<String>,
}

#[derive(Default)]
pub(super) struct HomeQuery;

#[Object]
impl HomeQuery {
    /// The homes in which you are a member.
    async fn homes(&self, ctx: &Context<'_>) -> Result<Vec<Home>> {
        let homes = ctx.services().homes.visible(ctx.viewer()?.user, None).await?;
        ctx.charge_objects(homes.len()).await;
        Ok(homes.into_iter().map(|home| Home(Arc::new(home))).collect())
    }

    /// A home in which you are a member. Fails with NOT_FOUND for any other home.
    async fn home(&self, ctx: &Context<'_>, #[graphql(desc = "The ID of the home.")] id: ID) -> Result<Option<Home>> {
        let viewer = ctx.viewer()?.user;
        let id: HomeId = parse_id(&id, "home")?;
        let home = ctx.loaders().homes.get(ctx.batch_scope(), viewer, id).await?;
        Ok(Some(Home(home.ok_or(crate::error::Error::NotFound("home"))?)))
    }
}

#[derive(Default)]
pub(super) struct HomeMutation;

#[Object]
impl HomeMutation {
    /// Creates a home with you as its owner. Fails with CONFLICT if another home has the key, or had it and was deleted
    /// after devices were registered in it, and with FORBIDDEN if your e-mail address is to be verified first.
    async fn create_home(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "The home to create.")] input: CreateHomeInput,
    ) -> Result<Home> {
        let timezone = input.timezone.unwrap_or_else(|| "UTC".to_owned());
        let new = NewHome { name: input.name, key: input.key, timezone };
        let by = RequestContext::new(ctx.person()?, ctx.address());
        let home = ctx.services().homes.create(&by, new).await?;
        Ok(Home(Arc::new(home)))
    }

    /// Changes the settings of a home. Requires the role ADMIN or OWNER.
    async fn update_home(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "The home, and the fields to change.")] input: UpdateHomeInput,
        #[graphql(desc = "The ID of the home.", deprecation = "Use `id` of `input`.")] id: Option<ID>,
    ) -> Result<Home> {
        let (homes, viewer) = (&ctx.services().homes, ctx.viewer()?);
        let id = id_or::<UpdateHomeInput>(input.id, id)?;
        let access = homes.access(viewer, parse_id(&id, "home")?, Permission::Configure).await?;
        let (name, timezone) = (changed("name", input.name)?, changed("timezone", input.timezone)?);
        let home = homes.update(access, &ctx.request_context()?, name.as_deref(), timezone.as_deref()).await?;
        Ok(Home(Arc::new(home)))
    }

    /// Deletes a home with all its data, including readings, and ends its subscriptions. Requires the role OWNER.
    async fn delete_home(&self, ctx: &Context<'_>, #[graphql(desc = "The ID of the home.")] id: ID) -> Result<bool> {
        let homes = &ctx.services().homes;
        let access = homes.access(ctx.viewer()?, parse_id(&id, "home")?, Permission::Own).await?;
        homes.delete(access, &ctx.request_context()?).await?;
        Ok(true)
    }
}
