//! Deleting an account: its homes are handed over, deleted or left, then the account goes with its sessions.

use crate::audit::RequestContext;
use crate::auth::{Actor, Principal};
use crate::db;
use crate::error::Error;
use crate::homes::{Homes, LeavingPlan, PEOPLE_ONLY};
use crate::users::Users;

/// Attempts to delete an account that joins homes at the same time.
const MAX_ATTEMPTS: usize = 3;

/// Deletes the account of `who`, even if the caller disconnects. The plan must name every home of which the account is the
/// only owner; otherwise nothing is changed. Only an operator needs no password.
pub async fn delete_account(
    users: &Users,
    homes: &Homes,
    who: Principal,
    by: RequestContext,
    plan: LeavingPlan,
    password: Option<&str>,
) -> Result<(), Error> {
    homes.check_leaving(&who, &plan).await?;
    if matches!(who.actor, Actor::Integration(_)) {
        return Err(Error::Forbidden(PEOPLE_ONLY));
    }
    let password = match password {
        Some(password) => Some(users.verify_for_deletion(&who, password, by.address).await?),
        None => None,
    };
    let (users, homes) = (users.clone(), homes.clone());
    db::run_to_completion(async move {
        homes.leave_all(&who, &by, &plan).await?;
        for _ in 0..MAX_ATTEMPTS {
            if users.delete(who.user, password.as_ref()).await? {
                return Ok(());
            }
            homes.leave_all(&who, &by, &LeavingPlan::default()).await?;
        }
        Err(Error::Conflict("the account keeps joining homes: try again".to_owned()))
    })
    .await
}
