//! The lease table and its transactions.

use std::{collections::BTreeMap, time::Duration};

use dr_core::{
    Timestamp,
    base::{Epoch, ResourceAddress},
    run::{Lease, LeaseError, LeaseRequest},
};
use rusqlite::{Connection, OptionalExtension as _, Row, Transaction, TransactionBehavior, params};

use super::holder::{Holder, Life, boot, uptime};
use crate::{
    journal::sql::{signed, unsigned},
    store::Schema,
};

/// A row outlives its lease: the epoch must not start again.
pub(super) const SCHEMA: Schema = Schema {
    application: 0x6472_6c73, // "drls"
    version: 1,
    what: "lease store",
    tables: "
        CREATE TABLE leases (
            key       TEXT    PRIMARY KEY,
            epoch     INTEGER NOT NULL,
            run       TEXT,
            journal   TEXT    NOT NULL,
            holder    TEXT    NOT NULL,
            since     INTEGER NOT NULL,
            process   TEXT    NOT NULL,
            boot      TEXT    NOT NULL,
            until     INTEGER NOT NULL,
            contested INTEGER NOT NULL
        ) STRICT, WITHOUT ROWID;
    ",
};

/// What was decided about a request.
pub(super) enum Grant {
    /// It is theirs, with this epoch.
    Given(Epoch),
    /// Somebody else has it.
    Refused(Box<LeaseError>),
    /// The holder was told; its time runs out after this long.
    Wait(Duration),
}

/// Who asks, beyond what the request says.
pub(super) struct Claim<'a> {
    pub(super) journal: &'a str,
    pub(super) holder: &'a Holder,
    pub(super) term: Duration,
}

struct Held {
    run: String,
    journal: String,
    holder: String,
    since: Timestamp,
    process: String,
    boot: String,
    until: Duration,
}

impl Held {
    /// The time that the holder was promised; none after a restart of the host.
    fn left(&self) -> Duration {
        if self.boot == boot() { self.until.saturating_sub(uptime()) } else { Duration::ZERO }
    }

    fn is_gone(&self, me: &Holder) -> bool {
        match me.life(&self.process) {
            Life::Dead => true,
            Life::Alive => false,
            Life::Unproved => self.left().is_zero(),
        }
    }
}

pub(super) fn acquire(
    connection: &mut Connection,
    request: &LeaseRequest,
    claim: &Claim<'_>,
) -> Result<Grant, rusqlite::Error> {
    let change = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let run = request.run.to_string();
    let mut wait = Duration::ZERO;
    for key in &request.keys {
        let Some(held) = holder_of(&change, key)?.filter(|held| !held.is_gone(claim.holder)) else { continue };
        if held.run != run || held.journal != claim.journal || !request.take_over {
            return Ok(Grant::Refused(Box::new(busy(key, held, request))));
        }
        wait = wait.max(held.left());
        change.execute("UPDATE leases SET contested = 1 WHERE key = ?1", [key.as_str()])?;
    }
    if !wait.is_zero() {
        change.commit()?;
        return Ok(Grant::Wait(wait));
    }
    claim.holder.lock().map_err(|source| rusqlite::Error::ToSqlConversionFailure(Box::new(source)))?;
    let epoch = next_epoch(&change, request)?;
    free(&change, &run, claim.journal)?;
    for key in &request.keys {
        grant(&change, key, epoch, request, claim)?;
    }
    claim.holder.sweep(&processes(&change)?);
    change.commit()?;
    Ok(Grant::Given(epoch))
}

pub(super) fn renew(
    connection: &mut Connection,
    lease: &Lease,
    journal: &str,
    until: Duration,
) -> Result<bool, rusqlite::Error> {
    // A renewal that a power failure takes back belonged to a process that is dead as well: no flush is waited for.
    connection.pragma_update(None, "synchronous", "normal")?;
    let renewed = extend(connection, lease, journal, until);
    connection.pragma_update(None, "synchronous", "full")?;
    renewed
}

pub(super) fn release(connection: &mut Connection, lease: &Lease, journal: &str) -> Result<(), rusqlite::Error> {
    connection.execute(
        "UPDATE leases SET run = NULL, contested = 0 WHERE run = ?1 AND journal = ?2 AND epoch = ?3",
        params![lease.run.to_string(), journal, signed(lease.epoch.number())],
    )?;
    Ok(())
}

pub(super) fn held(connection: &Connection) -> Result<Vec<Lease>, rusqlite::Error> {
    let mut query = connection
        .prepare("SELECT key, epoch, run, holder, since, journal FROM leases WHERE run IS NOT NULL ORDER BY key")?;
    let mut leases: BTreeMap<(String, u64), Lease> = BTreeMap::new();
    let mut rows = query.query([])?;
    while let Some(row) = rows.next()? {
        let (key, name, journal): (String, String, String) = (row.get(0)?, row.get(2)?, row.get(5)?);
        let Ok(run) = name.parse() else { continue };
        let epoch = unsigned(row.get(1)?);
        let fresh = Lease {
            keys: Vec::new(),
            run,
            epoch: Epoch::new(epoch),
            holder: row.get(3)?,
            since: Timestamp::from_millis(row.get(4)?),
        };
        leases.entry((format!("{journal}\n{name}"), epoch)).or_insert(fresh).keys.push(ResourceAddress::new(key));
    }
    Ok(leases.into_values().collect())
}

/// Whether a holder of the run is not provably dead.
pub(super) fn is_driven(
    connection: &Connection,
    run: &str,
    journal: &str,
    me: &Holder,
) -> Result<bool, rusqlite::Error> {
    let mut query = connection.prepare_cached(&format!("{HELD} WHERE run = ?1 AND journal = ?2"))?;
    let held = query.query_map([run, journal], held_row)?.collect::<Result<Vec<_>, _>>()?;
    Ok(held.iter().any(|held| !held.is_gone(me)))
}

fn extend(connection: &Connection, lease: &Lease, journal: &str, until: Duration) -> Result<bool, rusqlite::Error> {
    let renewed = connection
        .prepare_cached(
            "UPDATE leases SET until = ?4, boot = ?5 WHERE run = ?1 AND journal = ?2 AND epoch = ?3 AND contested = 0",
        )?
        .execute(params![lease.run.to_string(), journal, signed(lease.epoch.number()), millis(until), boot()])?;
    Ok(renewed == lease.keys.len())
}

fn holder_of(change: &Transaction<'_>, key: &ResourceAddress) -> Result<Option<Held>, rusqlite::Error> {
    change
        .prepare_cached(&format!("{HELD} WHERE key = ?1 AND run IS NOT NULL"))?
        .query_row([key.as_str()], held_row)
        .optional()
}

fn held_row(row: &Row<'_>) -> Result<Held, rusqlite::Error> {
    Ok(Held {
        run: row.get(0)?,
        journal: row.get(1)?,
        holder: row.get(2)?,
        since: Timestamp::from_millis(row.get(3)?),
        process: row.get(4)?,
        boot: row.get(5)?,
        until: Duration::from_millis(unsigned(row.get(6)?)),
    })
}

/// Larger than every earlier epoch of any key, and than the one stored with the journal.
fn next_epoch(change: &Transaction<'_>, request: &LeaseRequest) -> Result<Epoch, rusqlite::Error> {
    let mut largest = request.above;
    for key in &request.keys {
        let earlier: Option<i64> =
            change.query_row("SELECT epoch FROM leases WHERE key = ?1", [key.as_str()], |row| row.get(0)).optional()?;
        largest = largest.max(Epoch::new(earlier.map_or(0, unsigned)));
    }
    Ok(largest.next())
}

fn free(change: &Transaction<'_>, run: &str, journal: &str) -> Result<(), rusqlite::Error> {
    change.execute("UPDATE leases SET run = NULL WHERE run = ?1 AND journal = ?2", [run, journal])?;
    Ok(())
}

fn grant(
    change: &Transaction<'_>,
    key: &ResourceAddress,
    epoch: Epoch,
    request: &LeaseRequest,
    claim: &Claim<'_>,
) -> Result<(), rusqlite::Error> {
    change.execute(
        "INSERT INTO leases (key, epoch, run, journal, holder, since, process, boot, until, contested)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, 0)
         ON CONFLICT (key) DO UPDATE SET epoch = ?2, run = ?3, journal = ?4, holder = ?5, since = ?6, process = ?7,
             boot = ?8, until = ?9, contested = 0",
        params![
            key.as_str(),
            signed(epoch.number()),
            request.run.to_string(),
            claim.journal,
            request.holder,
            request.at.millis(),
            claim.holder.name(),
            boot(),
            millis(uptime().saturating_add(claim.term)),
        ],
    )?;
    Ok(())
}

fn processes(change: &Transaction<'_>) -> Result<Vec<String>, rusqlite::Error> {
    let mut query = change.prepare("SELECT DISTINCT process FROM leases WHERE run IS NOT NULL")?;
    query.query_map([], |row| row.get(0))?.collect()
}

fn busy(key: &ResourceAddress, held: Held, request: &LeaseRequest) -> LeaseError {
    LeaseError::Busy {
        key: key.clone(),
        run: held.run.parse().unwrap_or_else(|_| request.run.clone()),
        holder: held.holder,
        since: held.since,
    }
}

/// The columns of [`held_row`].
const HELD: &str = "SELECT run, journal, holder, since, process, boot, until FROM leases";

fn millis(time: Duration) -> i64 {
    i64::try_from(time.as_millis()).unwrap_or(i64::MAX)
}
