//! Why a month has no partition that takes its readings.

use diesel::result::Error as DieselError;

use crate::telemetry::Month;

/// Never the fault of a reading, so the batch is retried until the month has its partition.
#[derive(Debug, thiserror::Error)]
pub(super) enum MonthError {
    #[error("the table {0} is not a partition of telemetry")]
    Detached(Month),
    #[error("the partition {0} cannot be created")]
    NotCreated(Month, #[source] DieselError),
}

impl From<MonthError> for DieselError {
    /// An error of this kind is retried.
    fn from(error: MonthError) -> Self {
        Self::QueryBuilderError(Box::new(error))
    }
}

impl MonthError {
    /// What an error of the writer says of a month, if that is its reason.
    pub(super) fn of(error: &DieselError) -> Option<&Self> {
        match error {
            DieselError::QueryBuilderError(error) => error.downcast_ref(),
            _ => None,
        }
    }
}
