//! Who may do what, in words: the rights that the rows of the policy name, and what comes of asking
//! with one's standing.

/// What somebody must be to get an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Right {
    /// Nobody has to be signed in.
    Anybody,
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

/// Where somebody stands to the home that is named.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Standing {
    /// Not signed in.
    Nobody,
    /// Signed in, and no member: not yet, or no more.
    Outsider,
    /// A member.
    Member(Role),
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
            Self::Anybody | Self::Account | Self::Never => None,
            Self::Identity | Self::Read | Self::People | Self::Telemetry | Self::Commands | Self::Config => {
                Some(Role::Guest)
            }
            Self::Control => Some(Role::Member),
            Self::PushConfig | Self::Configure => Some(Role::Admin),
            Self::Own => Some(Role::Owner),
        }
    }
}

impl Standing {
    /// What comes of asking for something in the home one stands to like this.
    pub(super) fn asks(self, right: Right) -> Outcome {
        match (right, self) {
            (Right::Anybody, _) => Outcome::Allowed,
            (_, Self::Nobody) => UNAUTHENTICATED,
            (Right::Account, _) => Outcome::Allowed,
            (_, Self::Outsider) => NOT_FOUND,
            (Right::Never, Self::Member(_)) => FORBIDDEN,
            (right, Self::Member(role)) => {
                if right.least().is_some_and(|least| role >= least) {
                    Outcome::Allowed
                } else {
                    FORBIDDEN
                }
            }
        }
    }

    /// What comes of naming what is not there, or not for them.
    pub(super) fn misses(self, right: Right) -> Outcome {
        match self.asks(right) {
            UNAUTHENTICATED => UNAUTHENTICATED,
            _ => NOT_FOUND,
        }
    }
}
