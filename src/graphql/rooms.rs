//! Rooms.

use std::borrow::Cow;
use std::sync::Arc;

use async_graphql::parser::types::SelectionSet;
use async_graphql::{Context, ID, InputObject, Object, OutputType};

use super::context::ContextExt;
use super::devices::{Device, selects_state};
use super::error::Result;
use super::homes::Home;
use super::mutation_input::{Deprecated, input_or};
use super::paging::load_list;
use super::rows::{Row, Write, leaf};
use super::scalars::{int, parse_id};
use crate::devices::Counted;
use crate::error::Error;
use crate::homes::{self, Permission};

pub(super) struct Room(pub(super) Arc<homes::Room>);

/// A room of a home. A device is in at most one room.
#[Object(serial)]
impl Room {
    /// The ID of the room.
    async fn id(&self) -> ID {
        self.0.id.into()
    }

    /// The display name, unique in the home.
    async fn name(&self) -> &str {
        &self.0.name
    }

    /// The home of the room.
    async fn home(&self, ctx: &Context<'_>) -> Result<Home> {
        let home = ctx.loaders().homes.get(ctx.batch_scope(), ctx.viewer()?.user, self.0.home).await?;
        Ok(Home(home.ok_or(Error::NotFound("home"))?))
    }

    /// The number of devices in the room that you may see.
    async fn device_count(&self, ctx: &Context<'_>) -> Result<i32> {
        self.count(ctx, Counted::All).await
    }

    /// The number of devices in the room that you may see and that are online.
    async fn online_count(&self, ctx: &Context<'_>) -> Result<i32> {
        self.count(ctx, Counted::Online).await
    }

    /// The devices in the room, in order of registration.
    async fn devices(&self, ctx: &Context<'_>) -> Result<Vec<Device>> {
        let group = (ctx.viewer()?.user, selects_state(&ctx.item.node.selection_set));
        let devices = ctx.loaders().devices_in.get(ctx.batch_scope(), group, self.0.id);
        Ok(load_list(ctx, devices).await?.iter().cloned().map(Device::new).collect())
    }
}

impl Room {
    async fn count(&self, ctx: &Context<'_>, counted: Counted) -> Result<i32> {
        let group = (ctx.viewer()?.user, counted);
        let n = ctx.loaders().room_counts.get(ctx.batch_scope(), group, self.0.id).await?;
        Ok(int(n.unwrap_or_default()))
    }
}

impl Row for homes::Room {
    fn type_name() -> Cow<'static, str> {
        <Room as OutputType>::type_name()
    }

    fn writer(name: &str, _: &SelectionSet) -> Option<Write<Self>> {
        match name {
            "id" => leaf(|room: &Self, out| out.id(room.id)),
            "name" => leaf(|room: &Self, out| out.value(&room.name)),
            _ => None,
        }
    }
}

/// A room to create.
#[derive(InputObject)]
pub(super) struct CreateRoomInput {
    /// The ID of the home.
    home_id: ID,
    /// The display name: 1 to 100 characters.
    name: String,
}

/// The new name of a room.
#[derive(InputObject)]
pub(super) struct RenameRoomInput {
    /// The ID of the room.
    id: ID,
    /// The display name: 1 to 100 characters.
    name: String,
}

#[derive(Default)]
pub(super) struct RoomMutation;

#[Object]
impl RoomMutation {
    /// Creates a room in a home. Requires the role ADMIN or OWNER. Fails with CONFLICT if the name is taken.
    async fn create_room(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "The room to create.")] input: Option<CreateRoomInput>,
        #[graphql(desc = "The ID of the home.", deprecation = "Use `input`.")] home_id: Option<ID>,
        #[graphql(desc = "The display name: 1 to 100 characters.", deprecation = "Use `input`.")] name: Option<String>,
    ) -> Result<Room> {
        let (homes, viewer) = (&ctx.services().homes, ctx.viewer()?);
        let given = [Deprecated::required("homeId", home_id.as_ref()), Deprecated::required("name", name.as_ref())];
        let deprecated = home_id.zip(name).map(|(home_id, name)| CreateRoomInput { home_id, name });
        let CreateRoomInput { home_id, name } = input_or(ctx, input, &given, deprecated)?;
        let access = homes.access(viewer, parse_id(&home_id, "home")?, Permission::Configure).await?;
        Ok(Room(Arc::new(homes.create_room(access, &ctx.request_context()?, &name).await?)))
    }

    /// Renames a room. Requires the role ADMIN or OWNER.
    async fn rename_room(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "The new name.")] input: Option<RenameRoomInput>,
        #[graphql(desc = "The ID of the room.", deprecation = "Use `input`.")] id: Option<ID>,
        #[graphql(desc = "The display name: 1 to 100 characters.", deprecation = "Use `input`.")] name: Option<String>,
    ) -> Result<Room> {
        let (homes, viewer) = (&ctx.services().homes, ctx.viewer()?);
        let given = [Deprecated::required("id", id.as_ref()), Deprecated::required("name", name.as_ref())];
        let deprecated = id.zip(name).map(|(id, name)| RenameRoomInput { id, name });
        let RenameRoomInput { id, name } = input_or(ctx, input, &given, deprecated)?;
        let id = parse_id(&id, "room")?;
        let access = homes.room_access(viewer, id, Permission::Configure).await?;
        Ok(Room(Arc::new(homes.rename_room(access, &ctx.request_context()?, id, &name).await?)))
    }

    /// Deletes a room. Its devices remain in the home, without a room. Requires the role ADMIN or OWNER.
    async fn delete_room(&self, ctx: &Context<'_>, #[graphql(desc = "The ID of the room.")] id: ID) -> Result<bool> {
        let (homes, viewer) = (&ctx.services().homes, ctx.viewer()?);
        let id = parse_id(&id, "room")?;
        let access = homes.room_access(viewer, id, Permission::Configure).await?;
        homes.delete_room(access, &ctx.request_context()?, id).await?;
        Ok(true)
    }
}
