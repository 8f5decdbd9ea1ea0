//! Rooms in the graph.

use std::sync::Arc;

use async_graphql::{Context, ID, Object};

use super::context::ContextExt;
use super::devices::Device;
use super::error::Result;
use super::homes::Home;
use super::scalars::parse_id;
use crate::error::Error;
use crate::homes::{self, Permission};

/// A room of a home; a device stands in at most one.
pub(super) struct Room(pub(super) Arc<homes::Room>);

/// A room of a home; a device stands in at most one.
#[Object(serial)]
impl Room {
    /// The room's id.
    async fn id(&self) -> ID {
        self.0.id.into()
    }

    /// What people call it, unique in its home.
    async fn name(&self) -> &str {
        &self.0.name
    }

    /// The home it belongs to.
    async fn home(&self, ctx: &Context<'_>) -> Result<Home> {
        let home = ctx.loaders().homes.get(ctx.batch_scope(), ctx.viewer()?.user, self.0.home).await?;
        Ok(Home(home.ok_or(Error::NotFound("home"))?))
    }

    /// The devices in it, in the order they were registered.
    #[graphql(complexity = "super::paging::list_complexity(20, child_complexity)")]
    async fn devices(&self, ctx: &Context<'_>) -> Result<Vec<Device>> {
        let devices = ctx.loaders().devices_in.get(ctx.batch_scope(), ctx.viewer()?.user, self.0.id).await?;
        ctx.charge_objects(devices.as_ref().map_or(0, |devices| devices.len())).await;
        Ok(devices.into_iter().flat_map(|devices| devices.to_vec()).map(Device).collect())
    }
}

/// Mutations of rooms.
#[derive(Default)]
pub(super) struct RoomMutation;

#[Object]
impl RoomMutation {
    /// Adds a room to a home. For admins and owners. CONFLICT where the home has one of that name.
    async fn create_room(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "The home's id.")] home_id: ID,
        #[graphql(desc = "What to call it: 1 to 100 characters.")] name: String,
    ) -> Result<Room> {
        let homes = &ctx.services().homes;
        let access = homes.access(ctx.viewer()?, parse_id(&home_id, "home")?, Permission::Configure).await?;
        Ok(Room(Arc::new(homes.create_room(access, &ctx.request_context()?, &name).await?)))
    }

    /// Renames a room. For admins and owners.
    async fn rename_room(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "The room's id.")] id: ID,
        #[graphql(desc = "What to call it: 1 to 100 characters.")] name: String,
    ) -> Result<Room> {
        let (homes, viewer) = (&ctx.services().homes, ctx.viewer()?);
        let id = parse_id(&id, "room")?;
        let access = homes.room_access(viewer, id, Permission::Configure).await?;
        Ok(Room(Arc::new(homes.rename_room(access, &ctx.request_context()?, id, &name).await?)))
    }

    /// Deletes a room; its devices stay, without a room. For admins and owners.
    async fn delete_room(&self, ctx: &Context<'_>, #[graphql(desc = "The room's id.")] id: ID) -> Result<bool> {
        let (homes, viewer) = (&ctx.services().homes, ctx.viewer()?);
        let id = parse_id(&id, "room")?;
        let access = homes.room_access(viewer, id, Permission::Configure).await?;
        homes.delete_room(access, &ctx.request_context()?, id).await?;
        Ok(true)
    }
}
