//! Rooms of a home. Names are unique within the home, regardless of case.

use super::{Access, Homes, Permission, members_store, rooms_store};
use crate::audit::{self, Action, Details, Entry, RequestContext};
use crate::auth::Principal;
use crate::db;
use crate::error::Error;
use crate::ids::{HomeId, RoomId, UserId};
use crate::validation;

/// Most rooms of one home.
pub(super) const MAX_ROOMS_PER_HOME: i64 = 500;

#[derive(Debug, Clone, PartialEq)]
pub struct Room {
    pub id: RoomId,
    pub home: HomeId,
    pub name: String,
}

impl Homes {
    /// Rooms of each home, ordered by name.
    pub async fn rooms(&self, homes: &[Access]) -> Result<Vec<Room>, Error> {
        let ids: Vec<_> = homes.iter().map(Access::home).collect();
        let mut conn = self.pool.get().await?;
        Ok(rooms_store::of_homes(&mut conn, &ids).await?)
    }

    /// The rooms of `ids` that belong to the viewer's homes.
    pub async fn visible_rooms(&self, viewer: UserId, ids: &[RoomId]) -> Result<Vec<Room>, Error> {
        let mut conn = self.pool.get().await?;
        let rooms = rooms_store::visible(&mut conn, viewer, ids).await?;
        Ok(rooms.into_iter().map(|(room, _)| room).collect())
    }

    /// The viewer's proof of a permission in the home of a room.
    pub async fn room_access(&self, who: &Principal, id: RoomId, permission: Permission) -> Result<Access, Error> {
        let mut conn = self.pool.get().await?;
        let found = rooms_store::visible(&mut conn, who.user, &[id]).await?.pop();
        let (_, membership) = found.ok_or(Error::NotFound("room"))?;
        membership.allow(permission)
    }

    /// Adds a room. Needs [`Permission::Configure`].
    pub async fn create_room(&self, access: Access, by: &RequestContext, name: &str) -> Result<Room, Error> {
        let home = access.require(Permission::Configure)?.home();
        let name = validation::name("name", name)?;
        let (now, by) = (self.clock.now(), by.clone());
        db::transaction(&self.pool, move |conn| {
            Box::pin(async move {
                // One creation at a time: otherwise concurrent ones would all count before one of them inserts.
                if !members_store::lock_home(conn, home).await? {
                    return Err(Error::NotFound("home"));
                }
                if rooms_store::count(conn, home).await? >= MAX_ROOMS_PER_HOME {
                    return Err(Error::Conflict(format!("the home has {MAX_ROOMS_PER_HOME} rooms, the most allowed")));
                }
                let id = rooms_store::insert(conn, home, &name, now).await?.ok_or_else(|| taken(&name))?;
                let details = Details::of(&id).with("name", &name);
                audit::record(conn, &by, home, &[Entry::new(Action::RoomCreate, target(id, &name), details)]).await?;
                Ok(Room { id, home, name })
            })
        })
        .await
    }

    /// Renames a room of the home. Needs [`Permission::Configure`].
    pub async fn rename_room(
        &self,
        access: Access,
        by: &RequestContext,
        id: RoomId,
        name: &str,
    ) -> Result<Room, Error> {
        let (home, by) = (access.require(Permission::Configure)?.home(), by.clone());
        let name = validation::name("name", name)?;
        db::transaction(&self.pool, move |conn| {
            Box::pin(async move {
                let old = rooms_store::lock(conn, home, id).await?.ok_or(Error::NotFound("room"))?;
                match rooms_store::rename(conn, home, id, &name).await {
                    Ok(0) => return Err(Error::NotFound("room")),
                    Ok(_) => {}
                    Err(error) if db::is_unique_violation(&error) => return Err(taken(&name)),
                    Err(error) => return Err(error.into()),
                }
                let details = Details::of(&id).change("name", &old, &name);
                if details.is_change() {
                    audit::record(conn, &by, home, &[Entry::new(Action::RoomRename, target(id, &name), details)])
                        .await?;
                }
                Ok(Room { id, home, name })
            })
        })
        .after_commit(self.notify_rooms_change(home))
        .await
    }

    /// Runs after the commit of a change of a room that may have devices.
    fn notify_rooms_change<T>(&self, home: HomeId) -> impl FnOnce(T) -> T + Send + 'static + use<T> {
        let listener = self.listener.clone();
        move |changed| {
            listener.rooms_changed(home);
            changed
        }
    }

    /// Deletes a room of the home. Its devices remain, without a room. Needs [`Permission::Configure`].
    pub async fn delete_room(&self, access: Access, by: &RequestContext, id: RoomId) -> Result<(), Error> {
        let (home, by) = (access.require(Permission::Configure)?.home(), by.clone());
        db::transaction(&self.pool, move |conn| {
            Box::pin(async move {
                let name = rooms_store::delete(conn, home, id).await?.ok_or(Error::NotFound("room"))?;
                let details = Details::of(&id).with("name", &name);
                audit::record(conn, &by, home, &[Entry::new(Action::RoomDelete, target(id, &name), details)]).await
            })
        })
        .after_commit(self.notify_rooms_change(home))
        .await
    }
}

/// The room as the target of an audit entry.
fn target(id: RoomId, name: &str) -> String {
    format!("room {id} ({name})")
}

fn taken(name: &str) -> Error {
    Error::Conflict(format!("name {name:?} is taken by another room of this home"))
}
