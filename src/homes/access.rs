//! Permission as a value: whatever reads or changes a home's data takes an [`Access`], and only a
//! membership that the database holds at this moment can make one.

use std::str::FromStr;

use super::scopes::{Scope, Scopes};
use crate::error::Error;
use crate::ids::{HomeId, UserId};

/// What a person may do in a home; each role may do all that the ones below it may.
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

/// What is about to be done. What the roles and the scopes allow is told here and nowhere else.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Permission {
    /// Know that the home, or a device by its id, is there: its id and key, no more.
    Find,
    /// Look at the home, its rooms, its devices and their states.
    Read,
    /// See who the members are, and who has done what.
    ReadPeople,
    /// Read what devices have measured.
    ReadTelemetry,
    /// Read what devices were told to do.
    ReadCommands,
    /// Read what devices are configured like.
    ReadConfig,
    /// Make a device do something.
    Control,
    /// Change a device's configuration.
    PushConfig,
    /// Change members, devices, rooms, settings and integrations; see what was rejected and what was done.
    Configure,
    /// Delete the home.
    Own,
}

/// One row of the memberships: who may do what in which home. Only the database makes it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Membership {
    user: UserId,
    home: HomeId,
    role: HomeRole,
    /// Of an integration, which has no other rights.
    scopes: Option<Scopes>,
}

/// Proof that somebody may do something in a home.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Access(Membership);

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
        self >= least
    }
}

impl Permission {
    /// All of them.
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

    /// What an integration needs for it. `Err`: none is enough.
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
            Err(()) => Err(Error::Forbidden(FOR_PEOPLE)),
        }
    }
}

/// What an integration is told where no scope would be enough.
pub const FOR_PEOPLE: &str = "only people may do that: an integration's token can't, whatever its scopes";

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
    pub(super) fn new(user: UserId, home: HomeId, role: HomeRole, scopes: Option<Scopes>) -> Self {
        Self { user, home, role, scopes }
    }

    /// The member.
    pub fn user(&self) -> UserId {
        self.user
    }

    /// The home.
    pub fn home(&self) -> HomeId {
        self.home
    }

    /// The member's role; of an integration the lowest, which says nothing of its scopes.
    pub fn role(&self) -> HomeRole {
        self.role
    }

    /// Whether it is an integration's, which may reach some devices only.
    pub fn is_integration(&self) -> bool {
        self.scopes.is_some()
    }

    /// Access, where the role or the scopes include the permission.
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
    /// Who.
    pub fn user(&self) -> UserId {
        self.0.user
    }

    /// Where.
    pub fn home(&self) -> HomeId {
        self.0.home
    }

    /// As what.
    pub fn role(&self) -> HomeRole {
        self.0.role
    }

    /// Whether it is an integration's, which may reach some devices only.
    pub fn is_integration(&self) -> bool {
        self.0.is_integration()
    }

    /// The same one in the same home, asked for more.
    pub fn require(self, permission: Permission) -> Result<Self, Error> {
        self.0.allow(permission)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn roles_by_permissions() {
        let table: Vec<String> = HomeRole::ALL
            .into_iter()
            .map(|role| format!("{} {}", row(membership(role, None)), role.as_str()))
            .collect();
        assert_eq!(table, ["xxxxxx---- GUEST", "xxxxxxx--- MEMBER", "xxxxxxxxx- ADMIN", "xxxxxxxxxx OWNER"]);
    }

    #[test]
    fn scopes_by_permissions_whatever_the_role() {
        let table: Vec<String> = Scope::ALL
            .into_iter()
            .map(|scope| {
                let scopes = Scopes::of([scope]);
                assert_eq!(row(membership(HomeRole::Guest, scopes)), row(membership(HomeRole::Owner, scopes)));
                format!("{} {}", row(membership(HomeRole::Guest, scopes)), scope.as_str())
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
        assert_eq!(row(membership(HomeRole::Guest, Scopes::of(Scope::ALL))), "xx-xxxxx--");
    }

    fn membership(role: HomeRole, scopes: Option<Scopes>) -> Membership {
        Membership::new(UserId::from_database(1), HomeId::from_database(2), role, scopes)
    }

    fn row(membership: Membership) -> String {
        Permission::ALL.map(|permission| if membership.allow(permission).is_ok() { 'x' } else { '-' }).iter().collect()
    }

    #[test]
    fn a_role_too_low_is_forbidden_not_hidden() {
        let guest = membership(HomeRole::Guest, None);
        assert!(guest.allow(Permission::Read).is_ok());
        assert_eq!(guest.allow(Permission::Control).unwrap_err().code(), "FORBIDDEN");
        assert_eq!(guest.allow(Permission::Read).unwrap().require(Permission::Own).unwrap_err().code(), "FORBIDDEN");
    }
}
