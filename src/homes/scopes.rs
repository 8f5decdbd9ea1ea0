//! What an integration may do, as its token says.

use std::fmt;

/// One thing that an integration's token may be made for. The order is that of the bits in the database.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    /// See the home, its rooms, its devices and their states.
    DevicesRead,
    /// Read what devices have measured.
    TelemetryRead,
    /// Send commands, take them back and follow them.
    CommandsSend,
    /// Push configurations and read them.
    ConfigPush,
    /// Read, acknowledge and resolve alerts. Given to nobody as long as there are none.
    AlertsManage,
}

impl Scope {
    /// All of them.
    pub const ALL: [Self; 5] =
        [Self::DevicesRead, Self::TelemetryRead, Self::CommandsSend, Self::ConfigPush, Self::AlertsManage];

    /// As the API spells it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::DevicesRead => "DEVICES_READ",
            Self::TelemetryRead => "TELEMETRY_READ",
            Self::CommandsSend => "COMMANDS_SEND",
            Self::ConfigPush => "CONFIG_PUSH",
            Self::AlertsManage => "ALERTS_MANAGE",
        }
    }

    const fn bit(self) -> i16 {
        1 << self as u8
    }
}

/// A set of scopes, never empty.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Scopes(i16);

impl Scopes {
    /// The set of these; `None` for none.
    pub fn of(scopes: impl IntoIterator<Item = Scope>) -> Option<Self> {
        let bits = scopes.into_iter().fold(0, |bits, scope| bits | scope.bit());
        (bits != 0).then_some(Self(bits))
    }

    /// Whether the set has it.
    pub fn contains(self, scope: Scope) -> bool {
        self.0 & scope.bit() != 0
    }

    /// Those in the set.
    pub fn iter(self) -> impl Iterator<Item = Scope> {
        Scope::ALL.into_iter().filter(move |scope| self.contains(*scope))
    }

    pub(super) fn bits(self) -> i16 {
        self.0
    }

    /// As it is kept. Bits of a newer version of ours give nothing here.
    pub(super) fn from_bits(bits: i16) -> Self {
        Self(bits)
    }
}

impl fmt::Debug for Scopes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.iter()).finish()
    }
}
