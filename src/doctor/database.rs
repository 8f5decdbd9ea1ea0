//! The checks of the database: reachable, migrated, its clock; and where it stores its data.

use super::disk::Place;
use super::report::Check;
use crate::clock::{Clock, ClockDifference};
use crate::db::{self, Connection};
use crate::error::Chain;
use crate::settings::DatabaseSettings;

pub(super) async fn check(settings: &DatabaseSettings, clock: &Clock) -> (Vec<Check>, Place) {
    let place = settings.place();
    match db::connect(settings.url.reveal(), Some(db::STATEMENT_TIMEOUT)).await {
        Ok(mut conn) => {
            let reached = Check::ok("database", format!("{place} accepts the account"));
            let checks = vec![reached, migrations(&mut conn).await, clocks(&mut conn, clock).await];
            let folder = match db::data_folder(&mut conn).await {
                Ok((true, Some(folder))) => Place::Folder(folder.into()),
                Ok((true, None)) => Place::ThisMachine,
                Ok((false, _)) | Err(_) => Place::Elsewhere,
            };
            (checks, folder)
        }
        Err(error) => {
            let rest =
                ["migrations", "clock"].map(|name| Check::not_checked(name, "there is no connection to the database"));
            let folder = if settings.is_on_this_machine() { Place::ThisMachine } else { Place::Elsewhere };
            ([unusable(&place, &error)].into_iter().chain(rest).collect(), folder)
        }
    }
}

fn unusable(place: &str, error: &db::ConnectError) -> Check {
    let cure = match error.sqlstate() {
        "3D000" => "create it (`createdb`), or correct the name in DATABASE_URL",
        code if code.starts_with("28") => {
            "correct user and password in DATABASE_URL; PostgreSQL's pg_hba.conf decides who may connect"
        }
        "42501" => "grant the account the right to connect: `grant connect on database … to …`",
        "53300" => "PostgreSQL has no free connection: raise max_connections, or lower DATABASE_POOL_SIZE",
        _ => "start PostgreSQL; check host and port in DATABASE_URL, its listen_addresses, and firewalls on the way",
    };
    Check::fault("database", format!("no connection to {place}: {error}"), cure)
}

async fn migrations(conn: &mut Connection) -> Check {
    const CURE: &str = "run `smarthome migrate`, or start the server without --no-migrate";
    match db::pending(conn).await {
        Ok(pending) if pending.is_empty() => newer(conn).await,
        Ok(pending) => {
            let (n, first) = (pending.len(), &pending[0]);
            Check::fault("migrations", format!("{n} are missing, the first is {first}"), CURE)
        }
        Err(error) => {
            Check::fault("migrations", format!("the list of migrations can't be read: {}", Chain(&error)), CURE)
        }
    }
}

/// Migrations that this version does not have.
async fn newer(conn: &mut Connection) -> Check {
    match db::newer(conn).await {
        Ok(newer) if !newer.is_empty() => Check::note(
            "migrations",
            format!("the database is of a newer version: {}", newer.join(", ")),
            "start the newer version, or let it revert its migrations: `smarthome migrate --revert-to`",
        ),
        _ => Check::ok("migrations", "the schema is up to date"),
    }
}

async fn clocks(conn: &mut Connection, clock: &Clock) -> Check {
    let asked_at = clock.now();
    let database = match db::clock(conn).await {
        Ok(database) => database,
        Err(error) => return Check::not_checked("clock", format!("the database did not answer: {error}")),
    };
    let difference = ClockDifference::measured(asked_at, database, clock.now());
    let seconds = difference.ahead.as_seconds_f64();
    if !difference.is_large() {
        return Check::ok("clock", format!("{:.0} ms from the database's", seconds.abs() * 1e3));
    }
    let side = if seconds > 0.0 { "ahead of" } else { "behind" };
    Check::fault(
        "clock",
        format!(
            "this machine's clock is {:.0} s {side} the database's: commands expire too early or too late, and readings get \
             wrong times",
            seconds.abs()
        ),
        "synchronize both machines with NTP (`timedatectl set-ntp true`)",
    )
}
