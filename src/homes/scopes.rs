//! Scopes: what an integration's token may do.

use std::fmt;

use crate::text_enum::text_enum;

text_enum! {
    /// One scope. The order of declaration is the order of the bits in the database.
    pub enum Scope {
        /// Read the home, its rooms, its devices and their states.
        DevicesRead = "DEVICES_READ",
        /// Read readings.
        TelemetryRead = "TELEMETRY_READ",
        /// Send, cancel and read commands.
        CommandsSend = "COMMANDS_SEND",
        /// Push and read configurations.
        ConfigPush = "CONFIG_PUSH",
        /// Read, acknowledge and resolve alerts. No token receives it before alerts exist.
        AlertsManage = "ALERTS_MANAGE",
    }
}

impl Scope {
    const fn bit(self) -> i16 {
        1 << self as u8
    }
}

/// A set of scopes, never empty.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Scopes(i16);

impl Scopes {
    /// `None` for an empty set.
    pub fn of(scopes: impl IntoIterator<Item = Scope>) -> Option<Self> {
        let bits = scopes.into_iter().fold(0, |bits, scope| bits | scope.bit());
        (bits != 0).then_some(Self(bits))
    }

    pub fn contains(self, scope: Scope) -> bool {
        self.0 & scope.bit() != 0
    }

    pub fn iter(self) -> impl Iterator<Item = Scope> {
        Scope::ALL.iter().copied().filter(move |scope| self.contains(*scope))
    }

    pub(super) fn bits(self) -> i16 {
        self.0
    }

    /// From the database. Unknown bits, written by a newer version, are ignored.
    pub(super) fn from_bits(bits: i16) -> Self {
        Self(bits)
    }
}

impl fmt::Debug for Scopes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.iter()).finish()
    }
}
