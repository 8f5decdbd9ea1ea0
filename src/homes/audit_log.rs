//! Reading a home's audit log.

use super::{Access, Homes, Permission};
use crate::audit::{self, StoredEntry};
use crate::error::Error;
use crate::ids::AuditEntryId;

impl Homes {
    /// Up to `limit` entries after the cursor, newest first. Needs
    /// [`Permission::Configure`].
    pub async fn audit_log(
        &self,
        access: Access,
        after: Option<AuditEntryId>,
        limit: i64,
    ) -> Result<Vec<StoredEntry>, Error> {
        let home = access.require(Permission::Configure)?.home();
        audit::page(&self.pool, home, after, limit).await
    }
}
