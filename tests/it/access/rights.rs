//! The rights that the policy names, the relations of actors to a home, and the outcome of a request for each pair.

/// The right that a request needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Right {
    /// None: no sign-in is needed, and a refused token does no harm.
    Anybody,
    /// Any valid token, also of an integration. The request names no home.
    Signed,
    /// A signed-in user, for their own account. The request names no home.
    Account,
    /// See that the home or the device exists.
    Identity,
    /// Read the home, its rooms, its devices and their states.
    Read,
    /// Read the members of the home.
    People,
    /// Read readings.
    Telemetry,
    /// Read commands.
    Commands,
    /// Read configurations.
    Config,
    /// Send commands.
    Control,
    /// Push configurations.
    PushConfig,
    /// Change devices, rooms, members and settings.
    Configure,
    /// Delete the home and make owners.
    Own,
    /// Nobody has this right: the field exists for another path.
    Never,
}

/// The roles, lowest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Role {
    Guest,
    Member,
    Admin,
    Owner,
}

/// The scopes that a token can have today.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Scope {
    DevicesRead,
    TelemetryRead,
    CommandsSend,
    ConfigPush,
}

impl Scope {
    pub(super) const ALL: [Self; 4] = [Self::DevicesRead, Self::TelemetryRead, Self::CommandsSend, Self::ConfigPush];

    /// The name in the API.
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::DevicesRead => "DEVICES_READ",
            Self::TelemetryRead => "TELEMETRY_READ",
            Self::CommandsSend => "COMMANDS_SEND",
            Self::ConfigPush => "CONFIG_PUSH",
        }
    }
}

/// The relation of an actor to the home of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Relation {
    SignedOut,
    /// Signed in, but never or no longer a member.
    NonMember,
    Member(Role),
    /// An integration of the home with one scope.
    Token(Scope),
    /// An integration of the home with all scopes, but only for another device.
    RestrictedToken,
    /// A revoked token of an integration.
    RevokedToken,
}

/// The outcome of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Outcome {
    /// A response without errors.
    Allowed,
    /// An error with this code.
    Refused(&'static str),
}

pub(super) const NOT_FOUND: Outcome = Outcome::Refused("NOT_FOUND");
pub(super) const FORBIDDEN: Outcome = Outcome::Refused("FORBIDDEN");
pub(super) const UNAUTHENTICATED: Outcome = Outcome::Refused("UNAUTHENTICATED");

impl Right {
    /// The lowest role with this right. `None` if the request names no home.
    pub(super) fn lowest_role(self) -> Option<Role> {
        match self {
            Self::Anybody | Self::Signed | Self::Account | Self::Never => None,
            Self::Identity | Self::Read | Self::People | Self::Telemetry | Self::Commands | Self::Config => {
                Some(Role::Guest)
            }
            Self::Control => Some(Role::Member),
            Self::PushConfig | Self::Configure => Some(Role::Admin),
            Self::Own => Some(Role::Owner),
        }
    }

    /// Whether this scope gives the right to an integration.
    fn is_granted_by(self, scope: Scope) -> bool {
        match self {
            Self::Anybody | Self::Signed | Self::Identity => true,
            Self::Read => scope == Scope::DevicesRead,
            Self::Telemetry => scope == Scope::TelemetryRead,
            Self::Commands | Self::Control => scope == Scope::CommandsSend,
            Self::Config | Self::PushConfig => scope == Scope::ConfigPush,
            Self::Account | Self::People | Self::Configure | Self::Own | Self::Never => false,
        }
    }
}

impl Relation {
    /// The outcome of a request that needs this right in the home.
    pub(super) fn outcome(self, right: Right) -> Outcome {
        match (right, self) {
            (Right::Anybody, _) => Outcome::Allowed,
            (_, Self::RevokedToken) => UNAUTHENTICATED,
            (_, Self::SignedOut) => UNAUTHENTICATED,
            (right, Self::Token(scope)) => allowed(right.is_granted_by(scope)),
            (right, Self::RestrictedToken) => allowed(Scope::ALL.into_iter().any(|scope| right.is_granted_by(scope))),
            (Right::Signed | Right::Account, _) => Outcome::Allowed,
            (_, Self::NonMember) => NOT_FOUND,
            (Right::Never, Self::Member(_)) => FORBIDDEN,
            (right, Self::Member(role)) => allowed(right.lowest_role().is_some_and(|least| role >= least)),
        }
    }

    /// Whether the actor may see that the home exists.
    pub(super) fn can_see_home(self) -> bool {
        matches!(self, Self::Member(_) | Self::Token(_) | Self::RestrictedToken)
    }

    /// The outcome of a request about an object that does not exist or is not visible to the actor.
    pub(super) fn outcome_if_missing(self, right: Right) -> Outcome {
        match self.outcome(right) {
            UNAUTHENTICATED => UNAUTHENTICATED,
            // An integration has no account, so the object is not looked up.
            FORBIDDEN if right == Right::Account => FORBIDDEN,
            _ => NOT_FOUND,
        }
    }
}

fn allowed(is_allowed: bool) -> Outcome {
    if is_allowed { Outcome::Allowed } else { FORBIDDEN }
}
