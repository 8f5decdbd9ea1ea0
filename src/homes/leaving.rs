//! Leaving all homes, before an account is deleted. A home always has an owner: one that has no other is handed over to a
//! member or deleted, as its owner says.

use std::collections::HashMap;

use super::{Access, HomeRole, Homes, Permission, leaving_store, members_store};
use crate::audit::RequestContext;
use crate::auth::Principal;
use crate::error::Error;
use crate::ids::{HomeId, UserId};

/// Homes that are left between two readings of the list.
const CHUNK: i64 = 1_000;

/// What happens to homes that have no other owner.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LeavingPlan {
    /// Homes with the member who becomes an owner.
    pub hand_over: Vec<(HomeId, UserId)>,
    /// Homes to delete.
    pub delete: Vec<HomeId>,
}

impl LeavingPlan {
    fn names(&self, home: HomeId) -> bool {
        self.delete.contains(&home) || self.hand_over.iter().any(|(handed_over, _)| *handed_over == home)
    }
}

impl Homes {
    /// Fails unless the plan names every home of which the user is the only owner, and only homes that the user owns and
    /// that their members may take.
    pub async fn check_leaving(&self, who: &Principal, plan: &LeavingPlan) -> Result<(), Error> {
        let mut named: Vec<_> =
            plan.hand_over.iter().map(|(home, _)| *home).chain(plan.delete.iter().copied()).collect();
        named.sort_unstable();
        if named.windows(2).any(|pair| pair[0] == pair[1]) {
            return Err(Error::bad_input("deleteHomeIds", "handOver and deleteHomeIds must name each home once"));
        }
        if plan.hand_over.iter().any(|(_, member)| *member == who.user) {
            return Err(Error::bad_input("handOver", "a home can't be handed over to the account that is deleted"));
        }
        for home in named {
            self.access(who, home, Permission::Own).await?;
        }
        self.check_hand_over(plan).await?;
        let only_owned = {
            let mut conn = self.pool.get().await?;
            leaving_store::find_only_owned(&mut conn, who.user).await?
        };
        match only_owned.into_iter().filter(|home| !plan.names(*home)).collect::<Vec<_>>() {
            homes if homes.is_empty() => Ok(()),
            homes => Err(Error::OnlyOwner { homes }),
        }
    }

    /// Fails unless each home is handed over to one of its members, who may own all that they get.
    async fn check_hand_over(&self, plan: &LeavingPlan) -> Result<(), Error> {
        let mut n_new = HashMap::new();
        let mut conn = self.pool.get().await?;
        for (home, member) in &plan.hand_over {
            if members_store::role_of(&mut conn, *home, *member).await? == HomeRole::Owner {
                continue;
            }
            let n_homes = n_new.entry(*member).or_insert(0);
            *n_homes += 1;
            self.homes_limit.check_all(&mut conn, *member, "this member owns", *n_homes).await?;
        }
        Ok(())
    }

    /// Carries out a plan that was checked, and leaves all homes. The large tables of deleted homes are purged later, by
    /// [`run_deletion_worker`](super::run_deletion_worker). Each home is a transaction of its own: after a failure the
    /// caller can repeat it for what is left.
    pub async fn leave_all(&self, who: &Principal, by: &RequestContext, plan: &LeavingPlan) -> Result<(), Error> {
        for (home, member) in &plan.hand_over {
            let access = self.access(who, *home, Permission::Own).await?;
            self.set_role(access, by, *member, HomeRole::Owner).await?;
        }
        for home in &plan.delete {
            let access = self.access(who, *home, Permission::Own).await?;
            self.decide_deletion(access, by.clone()).await?;
        }
        loop {
            let homes = {
                let mut conn = self.pool.get().await?;
                leaving_store::page(&mut conn, who.user, CHUNK).await?
            };
            if homes.is_empty() {
                return Ok(());
            }
            for home in homes {
                self.leave(who, by, home).await?;
            }
        }
    }

    /// Leaves a home, which may be deleted by others at the same time.
    async fn leave(&self, who: &Principal, by: &RequestContext, home: HomeId) -> Result<(), Error> {
        let left = async {
            let access: Access = self.access(who, home, Permission::Read).await?;
            self.remove_member(access, by, who.user).await
        };
        match left.await {
            Err(Error::NotFound(_)) => Ok(()),
            // The other owner has left since the check.
            Err(Error::Conflict(_)) => Err(Error::OnlyOwner { homes: vec![home] }),
            left => left,
        }
    }
}
