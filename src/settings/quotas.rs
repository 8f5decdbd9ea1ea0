//! Settings of what one user and one device may store.

use super::{SettingsError, Source, number};

const DEFAULT_HOMES: u64 = 100;
/// Largest value: a query of all homes of a user must stay answerable.
const MAX_HOMES: u64 = 10_000;

/// What one user may store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Quotas {
    /// `HOMES_PER_USER`: homes that one user may own, at least 1.
    pub homes_per_user: u32,
}

impl Quotas {
    pub(super) fn read(source: &impl Source) -> Result<Self, SettingsError> {
        let homes = number(source, "HOMES_PER_USER", DEFAULT_HOMES, 1..=MAX_HOMES)?;
        Ok(Self { homes_per_user: u32::try_from(homes).expect("bounded above") })
    }
}
