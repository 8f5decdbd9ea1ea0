//! The tasks that work beside requests and messages.

use super::Parts;
use super::clock_check;
use super::tasks::Tasks;
use crate::mqtt::cleanup::Cleaner;
use crate::mqtt::provision::Provisioner;
use crate::settings::Provisioning;
use crate::{audit, db, homes, ingest};

pub(super) fn start(parts: &Parts, tasks: &Tasks) {
    let Parts { settings, base, hubs, services, migrated } = parts;
    let (pool, migrated, stop) = (|| base.pool.clone(), || migrated.clone(), || tasks.stop.clone());
    tasks.critical("the retention of the audit log", audit::run_retention(pool(), migrated(), stop()));
    tasks.critical("the deletion of homes", homes::run_deletion_worker(pool(), migrated(), stop()));
    tasks.critical("the cleanup of tokens", services.users.clone().run_token_cleanup(migrated(), stop()));
    tasks.critical(
        "the deletion of sessions that are not used",
        ingest::run_session_retention(pool(), migrated(), stop()),
    );
    if services.users.sends_mail() {
        let mails = services.users.clone().run_account_mails(migrated(), stop());
        tasks.critical("the mails about accounts", mails);
    }
    let partitions = hubs.partitions.clone().run(settings.database.clone(), base.clock.clone(), migrated(), stop());
    tasks.critical("the task for partitions", partitions);
    let is_current = base.metrics.revocations_followed.clone();
    let revocations = base.revocations.clone().follow(settings.database.clone(), is_current, stop());
    tasks.critical("the poll for revocations", revocations);
    let watch = base.frozen.clone().watch(settings.database.clone(), stop());
    tasks.critical("the watch on the database", watch);
    let clocks = clock_check::watch_clock(pool(), base.clock.clone(), base.metrics.clone(), migrated(), stop());
    tasks.critical("the comparison of clocks", clocks);
    let refresh = services.devices.clone().run_registry_cache_refresh(migrated(), stop());
    tasks.critical("the refresh of the registry cache", refresh);
    if let Some(provisioner) = provisioner(parts) {
        let (migrated, stop) = (migrated(), stop());
        tasks.critical("the provisioning of broker accounts", async move {
            if stop.run_until_cancelled(migrated.wait()).await.is_some() {
                provisioner.run(stop).await;
            }
        });
    }
    let cleaner = Cleaner {
        mqtt: settings.mqtt.clone(),
        database: settings.database.clone(),
        cleanups: services.devices.cleanups(),
        metrics: base.metrics.clone(),
    };
    let cancelled = (migrated(), stop());
    tasks.critical("the cleanup of deleted devices at the broker", async move {
        let (migrated, stop) = cancelled;
        if stop.run_until_cancelled(migrated.wait()).await.is_some() {
            cleaner.run(stop).await;
        }
    });
    let (database, migrated) = (settings.database.clone(), migrated());
    tasks.spawn(stop().run_until_cancelled_owned(async move {
        migrated.wait().await;
        db::warn_about_message_language(&database).await;
    }));
}

/// Keeps the broker's accounts up to date, if this installation's broker has accounts of its own.
fn provisioner(parts: &Parts) -> Option<Provisioner> {
    let mqtt = &parts.settings.mqtt;
    let Provisioning::Dynsec(account) = &mqtt.provisioning else { return None };
    Some(Provisioner {
        mqtt: mqtt.clone(),
        account: account.clone(),
        database: parts.settings.database.clone(),
        changes: parts.services.devices.account_changes()?,
        metrics: parts.base.metrics.clone(),
    })
}
