//! Permission as a value: whatever reads or changes a home's data takes an [`Access`], and only a
//! membership that the database holds at this moment can make one.

use std::str::FromStr;

use crate::error::Error;
use crate::ids::{HomeId, UserId};

/// What a member may do; each role may do all that the ones below it may.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum HomeRole {
    /// Reads.
    Guest,
    /// Also sends commands.
    Member,
    /// Also configures: devices, rooms, settings of the home.
    Admin,
    /// Also deletes and transfers.
    Owner,
}

/// What is about to be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Permission {
    /// Look at the home and its devices.
    Read,
    /// Make a device do something.
    Control,
    /// Change devices, rooms and settings; see what was rejected.
    Configure,
    /// Delete the home.
    Own,
}

/// One row of the memberships: who is what in which home. Only the database makes it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Membership {
    user: UserId,
    home: HomeId,
    role: HomeRole,
}

/// Proof that a user may do something in a home.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Access {
    user: UserId,
    home: HomeId,
    role: HomeRole,
}

impl HomeRole {
    /// All of them, lowest first.
    pub const ALL: [Self; 4] = [Self::Guest, Self::Member, Self::Admin, Self::Owner];

    /// As the database and the API spell it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Guest => "GUEST",
            Self::Member => "MEMBER",
            Self::Admin => "ADMIN",
            Self::Owner => "OWNER",
        }
    }

    /// Whether the role includes the permission.
    pub fn may(self, permission: Permission) -> bool {
        let least = match permission {
            Permission::Read => Self::Guest,
            Permission::Control => Self::Member,
            Permission::Configure => Self::Admin,
            Permission::Own => Self::Owner,
        };
        self >= least
    }
}

/// The text is no role.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a role")]
pub struct RoleError;

impl FromStr for HomeRole {
    type Err = RoleError;

    fn from_str(text: &str) -> Result<Self, RoleError> {
        Self::ALL.into_iter().find(|role| role.as_str() == text).ok_or(RoleError)
    }
}

impl Membership {
    pub(super) fn new(user: UserId, home: HomeId, role: HomeRole) -> Self {
        Self { user, home, role }
    }

    /// The member.
    pub fn user(&self) -> UserId {
        self.user
    }

    /// The home.
    pub fn home(&self) -> HomeId {
        self.home
    }

    /// The member's role.
    pub fn role(&self) -> HomeRole {
        self.role
    }

    /// Access, where the role includes the permission.
    pub fn allow(self, permission: Permission) -> Result<Access, Error> {
        if !self.role.may(permission) {
            return Err(Error::Forbidden(match permission {
                Permission::Read => "not allowed in this home",
                Permission::Control => "your role in this home may only read",
                Permission::Configure => "only admins and owners of this home may do that",
                Permission::Own => "only an owner of this home may do that",
            }));
        }
        Ok(Access { user: self.user, home: self.home, role: self.role })
    }
}

impl Access {
    /// Who.
    pub fn user(&self) -> UserId {
        self.user
    }

    /// Where.
    pub fn home(&self) -> HomeId {
        self.home
    }

    /// As what.
    pub fn role(&self) -> HomeRole {
        self.role
    }

    /// The same person in the same home, asked for more.
    pub fn require(self, permission: Permission) -> Result<Self, Error> {
        Membership { user: self.user, home: self.home, role: self.role }.allow(permission)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn roles_by_permissions() {
        let table: Vec<String> = HomeRole::ALL
            .into_iter()
            .map(|role| {
                let may = |permission| if role.may(permission) { 'x' } else { '-' };
                let row: String = [Permission::Read, Permission::Control, Permission::Configure, Permission::Own]
                    .map(may)
                    .iter()
                    .collect();
                format!("{} {row}", role.as_str())
            })
            .collect();
        assert_eq!(table, ["GUEST x---", "MEMBER xx--", "ADMIN xxx-", "OWNER xxxx"]);
    }

    #[test]
    fn a_role_too_low_is_forbidden_not_hidden() {
        let guest = Membership::new(UserId::from_database(1), HomeId::from_database(2), HomeRole::Guest);
        assert!(guest.allow(Permission::Read).is_ok());
        assert_eq!(guest.allow(Permission::Control).unwrap_err().code(), "FORBIDDEN");
        assert_eq!(guest.allow(Permission::Read).unwrap().require(Permission::Own).unwrap_err().code(), "FORBIDDEN");
    }
}
