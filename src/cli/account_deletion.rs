//! `smarthome user delete`.

use std::sync::Arc;

use super::{database, operator, output};
use crate::account_deletion::delete_account;
use crate::audit::RequestContext;
use crate::clock::Clock;
use crate::error::Error;
use crate::homes::{Homes, HomesDependencies, LeavingPlan, RegistryListener};
use crate::ids::{DeviceId, HomeId};
use crate::revocation::Revocations;
use crate::settings::{DatabaseSettings, Environment};
use crate::throttle::Throttle;
use crate::users::EmailVerification;
use anyhow::{Context, bail};
use clap::Args;

#[derive(Args)]
pub(super) struct Delete {
    /// The login name.
    #[arg(long)]
    email: String,
    /// Make a member the owner of a home that has no other: the home's id and the member's login name.
    #[arg(long, value_name = "ID=EMAIL", value_parser = hand_over)]
    hand_over: Vec<(HomeId, String)>,
    /// Delete a home with all its data.
    #[arg(long, value_name = "ID")]
    delete_home: Vec<HomeId>,
}

/// A command has no caches and no streams. Servers learn of its changes from the database.
struct NoListener;

impl RegistryListener for NoListener {
    fn device_changed(&self, _: HomeId, _: DeviceId) {}
    fn home_changed(&self, _: HomeId) {}
}

impl Delete {
    pub(super) async fn run(self) -> anyhow::Result<()> {
        let users = operator::users(operator::any_key()).await?;
        let clock = Clock::system();
        let homes = Homes::new(HomesDependencies {
            pool: database::open(&DatabaseSettings::read(&Environment)?).await?,
            clock: clock.clone(),
            listener: Arc::new(NoListener),
            hubs: Arc::new([]),
            revocations: Revocations::new(clock),
            throttle: Throttle::new(false),
            homes_per_user: u32::MAX,
            email_verification: EmailVerification { is_demanded: false },
        });
        let who = users.operator_as(&self.email).await?;
        let mut plan = LeavingPlan { delete: self.delete_home, ..LeavingPlan::default() };
        for (home, email) in &self.hand_over {
            let member = users.operator_as(email).await.with_context(|| format!("hand over home {home} to {email}"))?;
            plan.hand_over.push((*home, member.user));
        }
        let by = RequestContext::new(&who, None);
        match delete_account(&users, &homes, who, by, plan, None).await {
            Ok(()) => {
                let done = format!(
                    "deleted the account {}; servers purge the data of deleted homes within minutes\n",
                    self.email
                );
                output::print(&done)?;
            }
            Err(Error::OnlyOwner { homes }) => {
                let ids: Vec<_> = homes.iter().map(ToString::to_string).collect();
                bail!(
                    "homes would have no owner: {}. Name each with --hand-over ID=EMAIL or --delete-home ID",
                    ids.join(", ")
                );
            }
            Err(error) => return Err(error.into()),
        }
        Ok(())
    }
}

fn hand_over(text: &str) -> Result<(HomeId, String), String> {
    let (home, email) = text.split_once('=').ok_or("expected the id of a home, =, and a login name")?;
    Ok((home.parse().map_err(|_| format!("{home:?} is no id of a home"))?, email.to_owned()))
}
