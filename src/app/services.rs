//! The features over the base and the hubs: the same for `serve`, `dev` and the tests.

use tokio::time::Instant;

use super::{Base, Hubs};
use crate::auth::IssuerDomains;
use crate::commands::{self, Commands};
use crate::device_config::{self, DeviceConfigs, KeyRing};
use crate::devices::{Devices, DevicesDependencies};
use crate::graphql::Services;
use crate::homes::{self, Homes, Integrations};
use crate::settings::Settings;
use crate::telemetry::LiveReadings;
use crate::telemetry::history::Readings;
use crate::users::{self, EmailVerification, Users};

impl Services {
    pub fn build(base: &Base, hubs: &Hubs, settings: &Settings) -> Self {
        let Base { clock, metrics, pool, throttle, tokens, revocations, .. } = base;
        let (clock, metrics, pool) = (|| clock.clone(), || metrics.clone(), || pool.clone());
        let email_verification = EmailVerification { is_demanded: settings.email_verification };
        Self {
            users: Users::new(users::UsersDependencies {
                pool: pool(),
                clock: clock(),
                tokens: tokens.clone(),
                revocations: revocations.clone(),
                throttle: throttle.clone(),
                registration_open: settings.auth.registration_open,
                issuer_domains: IssuerDomains::new(&settings.auth),
                mailer: base.mailer.clone(),
                reset_link: settings.reset_link.clone(),
                email_verification,
                verification_link: settings.verification_link.clone(),
            }),
            homes: Homes::new(homes::HomesDependencies {
                pool: pool(),
                clock: clock(),
                listener: hubs.registry_listener.clone(),
                hubs: hubs.of_streams(),
                revocations: revocations.clone(),
                throttle: throttle.clone(),
                homes_per_user: settings.quotas.homes_per_user,
                email_verification,
            }),
            integrations: Integrations::new(pool(), clock(), tokens.clone(), revocations.clone(), throttle.clone()),
            devices: Devices::new(
                DevicesDependencies {
                    pool: pool(),
                    clock: clock(),
                    listener: hubs.registry_listener.clone(),
                    hubs: hubs.of_streams(),
                    registry_cache: hubs.registry_cache.clone(),
                    daily_storage: settings.quotas.device_daily_bytes,
                },
                &settings.mqtt,
            ),
            readings: Readings::new(pool()),
            live_readings: LiveReadings::new(pool(), hubs.readings.clone(), metrics()),
            commands: Commands::new(commands::CommandsDependencies {
                pool: pool(),
                clock: clock(),
                hub: hubs.commands.clone(),
                expectations: hubs.expectations.clone(),
                wake: hubs.command_wake.clone(),
                metrics: metrics(),
            }),
            states: hubs.states.clone(),
            configs: DeviceConfigs::new(device_config::DeviceConfigsDependencies {
                pool: pool(),
                clock: clock(),
                hub: hubs.configs.clone(),
                key_ring: KeyRing::new(&settings.encryption),
                wake: hubs.config_wake.clone(),
                metrics: metrics(),
            }),
            standby: hubs.standby.clone(),
            revocations: revocations.clone(),
            subscription_turns: base.subscription_turns.clone(),
            metrics: metrics(),
            clock: clock(),
            pool: pool(),
            started: Instant::now(),
        }
    }
}
