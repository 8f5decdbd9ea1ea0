//! Who may do what, in words: the rights that the rows of the policy name, and what comes of asking
//! with one's standing.

/// What somebody must be to get an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Right {
    /// Nobody has to be signed in.
    Anybody,
    /// Whoever is signed in, an integration too; no home is named.
    Signed,
    /// A person who is signed in, for themselves; no home is named.
    Account,
    /// Whoever sees the home at all: which home, which device.
    Identity,
    /// Sees the home: its rooms, its devices and their states.
    Read,
    /// Sees the people of the home.
    People,
    /// Sees readings.
    Telemetry,
    /// Sees commands.
    Commands,
    /// Sees configurations.
    Config,
    /// Sends commands.
    Control,
    /// Makes configurations.
    PushConfig,
    /// Changes devices, rooms, members and settings.
    Configure,
    /// Deletes and transfers.
    Own,
    /// What nobody may: it is there for somebody else.
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

/// What an integration's token may be made for today.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Scope {
    DevicesRead,
    TelemetryRead,
    CommandsSend,
    ConfigPush,
}

impl Scope {
    pub(super) const ALL: [Self; 4] = [Self::DevicesRead, Self::TelemetryRead, Self::CommandsSend, Self::ConfigPush];

    /// As the API spells it.
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::DevicesRead => "DEVICES_READ",
            Self::TelemetryRead => "TELEMETRY_READ",
            Self::CommandsSend => "COMMANDS_SEND",
            Self::ConfigPush => "CONFIG_PUSH",
        }
    }
}

/// Where somebody stands to the home that is named.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Standing {
    /// Not signed in.
    Nobody,
    /// Signed in, and no member: not yet, or no more.
    Outsider,
    /// A member.
    Member(Role),
    /// An integration of the home, with one scope.
    Token(Scope),
    /// An integration of the home with every scope, for another device than the one that is named.
    Narrowed,
    /// Holds a token that was revoked.
    Revoked,
}

/// What comes of asking.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Outcome {
    /// An answer without an error.
    Allowed,
    /// An error of this code.
    Refused(&'static str),
}

pub(super) const NOT_FOUND: Outcome = Outcome::Refused("NOT_FOUND");
pub(super) const FORBIDDEN: Outcome = Outcome::Refused("FORBIDDEN");
pub(super) const UNAUTHENTICATED: Outcome = Outcome::Refused("UNAUTHENTICATED");

impl Right {
    /// The lowest role that has it; `None` where no home is named.
    pub(super) fn least(self) -> Option<Role> {
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

    /// Whether an integration has it by this scope.
    fn is_in(self, scope: Scope) -> bool {
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

impl Standing {
    /// What comes of asking for something in the home one stands to like this.
    pub(super) fn asks(self, right: Right) -> Outcome {
        match (right, self) {
            (_, Self::Revoked) => UNAUTHENTICATED,
            (Right::Anybody, _) => Outcome::Allowed,
            (_, Self::Nobody) => UNAUTHENTICATED,
            (right, Self::Token(scope)) => allowed(right.is_in(scope)),
            (right, Self::Narrowed) => allowed(Scope::ALL.into_iter().any(|scope| right.is_in(scope))),
            (Right::Signed | Right::Account, _) => Outcome::Allowed,
            (_, Self::Outsider) => NOT_FOUND,
            (Right::Never, Self::Member(_)) => FORBIDDEN,
            (right, Self::Member(role)) => allowed(right.least().is_some_and(|least| role >= least)),
        }
    }

    /// Whether the home's own things may be seen at all.
    pub(super) fn is_inside(self) -> bool {
        matches!(self, Self::Member(_) | Self::Token(_) | Self::Narrowed)
    }

    /// What comes of naming what is not there, or not for them.
    pub(super) fn misses(self, right: Right) -> Outcome {
        match self.asks(right) {
            UNAUTHENTICATED => UNAUTHENTICATED,
            // What is a person's own is not looked for on behalf of an integration.
            FORBIDDEN if right == Right::Account => FORBIDDEN,
            _ => NOT_FOUND,
        }
    }
}

fn allowed(is_allowed: bool) -> Outcome {
    if is_allowed { Outcome::Allowed } else { FORBIDDEN }
}
