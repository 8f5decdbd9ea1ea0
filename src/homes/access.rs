//! Permission as a value: every function that reads or changes a home's data takes an [`Access`]. Only a
//! [`Membership`] read from the database creates one.
//!
//! What a role allows is [`HomeRole::may`]; what a scope allows is [`Permission::scope`]. `docs/roles.md` shows the
//! result for every operation and field.

use super::scopes::{Scope, Scopes};
use crate::error::Error;
use crate::ids::{HomeId, UserId};
use crate::text_enum::text_enum;

text_enum! {
    /// A person's role in a home. Each role includes the permissions of the roles before it.
    #[derive(PartialOrd, Ord)]
    pub enum HomeRole {
        /// Reads.
        Guest = "GUEST",
        /// Also sends commands.
        Member = "MEMBER",
        /// Also configures devices, rooms and the home.
        Admin = "ADMIN",
        /// Also deletes the home and transfers ownership.
        Owner = "OWNER",
    }
}

/// What a caller wants to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Permission {
    /// Learn that the home, or a device given by its id, exists: id and key only.
    Find,
    /// Read the home, its rooms, its devices and their states.
    Read,
    /// Read the members and who sent or changed something.
    ReadPeople,
    /// Read readings.
    ReadTelemetry,
    /// Read commands.
    ReadCommands,
    /// Read configurations.
    ReadConfig,
    /// Send and cancel commands.
    Control,
    /// Push and roll back configurations.
    PushConfig,
    /// Change members, devices, rooms, settings and integrations; read rejected messages and the audit log.
    Configure,
    /// Delete the home.
    Own,
}

/// One row of `memberships`. Only the store creates it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Membership {
    user: UserId,
    home: HomeId,
    role: HomeRole,
    /// An integration's scopes, which replace the role.
    scopes: Option<Scopes>,
}

/// Proof of a permission in a home.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Access(Membership);

impl HomeRole {
    /// Whether the role includes the permission.
    pub fn may(self, permission: Permission) -> bool {
        let lowest = match permission {
            Permission::Find
            | Permission::Read
            | Permission::ReadPeople
            | Permission::ReadTelemetry
            | Permission::ReadCommands
            | Permission::ReadConfig => Self::Guest,
            Permission::Control => Self::Member,
            Permission::PushConfig | Permission::Configure => Self::Admin,
            Permission::Own => Self::Owner,
        };
        self >= lowest
    }
}

impl Permission {
    /// All permissions.
    pub const ALL: [Self; 10] = [
        Self::Find,
        Self::Read,
        Self::ReadPeople,
        Self::ReadTelemetry,
        Self::ReadCommands,
        Self::ReadConfig,
        Self::Control,
        Self::PushConfig,
        Self::Configure,
        Self::Own,
    ];

    /// The scope that gives an integration this permission: `Ok(None)` if every integration has it, `Err` if no
    /// scope gives it.
    fn scope(self) -> Result<Option<Scope>, ()> {
        match self {
            Self::Find => Ok(None),
            Self::Read => Ok(Some(Scope::DevicesRead)),
            Self::ReadTelemetry => Ok(Some(Scope::TelemetryRead)),
            Self::ReadCommands | Self::Control => Ok(Some(Scope::CommandsSend)),
            Self::ReadConfig | Self::PushConfig => Ok(Some(Scope::ConfigPush)),
            Self::ReadPeople | Self::Configure | Self::Own => Err(()),
        }
    }
}

impl Scopes {
    fn allow(self, permission: Permission) -> Result<(), Error> {
        match permission.scope() {
            Ok(None) => Ok(()),
            Ok(Some(scope)) if self.contains(scope) => Ok(()),
            Ok(Some(scope)) => Err(Error::Forbidden(match scope {
                Scope::DevicesRead => "this token lacks the scope DEVICES_READ",
                Scope::TelemetryRead => "this token lacks the scope TELEMETRY_READ",
                Scope::CommandsSend => "this token lacks the scope COMMANDS_SEND",
                Scope::ConfigPush => "this token lacks the scope CONFIG_PUSH",
                Scope::AlertsManage => "this token lacks the scope ALERTS_MANAGE",
            })),
            Err(()) => Err(Error::Forbidden(PEOPLE_ONLY)),
        }
    }
}

/// The error text for an integration where no scope gives the permission.
pub const PEOPLE_ONLY: &str = "only people may do that: an integration's token can't, whatever its scopes";

impl Membership {
    pub(super) fn new(user: UserId, home: HomeId, role: HomeRole, scopes: Option<Scopes>) -> Self {
        Self { user, home, role, scopes }
    }

    pub fn user(&self) -> UserId {
        self.user
    }

    pub fn home(&self) -> HomeId {
        self.home
    }

    /// The member's role. An integration has [`HomeRole::Guest`], whatever its scopes.
    pub fn role(&self) -> HomeRole {
        self.role
    }

    /// Whether it belongs to an integration, which may be limited to some devices.
    pub fn is_integration(&self) -> bool {
        self.scopes.is_some()
    }

    /// The proof, if the role or the scopes include the permission; else `FORBIDDEN`.
    pub fn allow(self, permission: Permission) -> Result<Access, Error> {
        if let Some(scopes) = self.scopes {
            scopes.allow(permission)?;
        } else if !self.role.may(permission) {
            return Err(Error::Forbidden(match permission {
                Permission::Control => "your role in this home may only read",
                Permission::PushConfig | Permission::Configure => "only admins and owners of this home may do that",
                Permission::Own => "only an owner of this home may do that",
                _ => "not allowed in this home",
            }));
        }
        Ok(Access(self))
    }
}

impl Access {
    pub fn user(&self) -> UserId {
        self.0.user
    }

    pub fn home(&self) -> HomeId {
        self.0.home
    }

    pub fn role(&self) -> HomeRole {
        self.0.role
    }

    /// Whether it belongs to an integration, which may be limited to some devices.
    pub fn is_integration(&self) -> bool {
        self.0.is_integration()
    }

    /// What it was made from.
    pub(crate) fn membership(&self) -> Membership {
        self.0
    }

    /// The same user in the same home with another permission.
    pub fn require(self, permission: Permission) -> Result<Self, Error> {
        self.0.allow(permission)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_role_has_these_permissions() {
        let table: Vec<String> =
            HomeRole::ALL.iter().map(|role| format!("{} {role}", row(membership(*role, None)))).collect();
        assert_eq!(table, ["xxxxxx---- GUEST", "xxxxxxx--- MEMBER", "xxxxxxxxx- ADMIN", "xxxxxxxxxx OWNER"]);
    }

    #[test]
    fn each_scope_has_these_permissions_whatever_the_role() {
        let table: Vec<String> = Scope::ALL
            .iter()
            .map(|scope| {
                let scopes = Scopes::of([*scope]);
                assert_eq!(row(membership(HomeRole::Guest, scopes)), row(membership(HomeRole::Owner, scopes)));
                format!("{} {scope}", row(membership(HomeRole::Guest, scopes)))
            })
            .collect();
        assert_eq!(
            table,
            [
                "xx-------- DEVICES_READ",
                "x--x------ TELEMETRY_READ",
                "x---x-x--- COMMANDS_SEND",
                "x----x-x-- CONFIG_PUSH",
                "x--------- ALERTS_MANAGE",
            ]
        );
        assert_eq!(row(membership(HomeRole::Guest, Scopes::of(Scope::ALL.iter().copied()))), "xx-xxxxx--");
    }

    fn membership(role: HomeRole, scopes: Option<Scopes>) -> Membership {
        Membership::new(UserId::from_database(1), HomeId::from_database(2), role, scopes)
    }

    fn row(membership: Membership) -> String {
        Permission::ALL.map(|permission| if membership.allow(permission).is_ok() { 'x' } else { '-' }).iter().collect()
    }

    #[test]
    fn a_lower_role_is_forbidden_not_hidden() {
        let guest = membership(HomeRole::Guest, None);
        assert!(guest.allow(Permission::Read).is_ok());
        assert_eq!(guest.allow(Permission::Control).unwrap_err().code(), "FORBIDDEN");
        assert_eq!(guest.allow(Permission::Read).unwrap().require(Permission::Own).unwrap_err().code(), "FORBIDDEN");
    }
}
