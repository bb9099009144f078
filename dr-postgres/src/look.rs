//! Looks at a server: identity, positions, replication, what would hurt a switchover.

use std::{collections::BTreeMap, sync::PoisonError, time::Duration};

use tokio::time::Instant;
use tokio_postgres::types::{PgLsn, Type};

use crate::{
    client::Session,
    error::PgError,
    lsn::{Fork, Lsn, Timeline, forks},
};

/// Who a server is and what it does at this instant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// Equal on all physical copies.
    pub system_identifier: u64,
    /// Whether it replays and cannot write.
    pub in_recovery: bool,
    /// The timeline it writes on, or the one it received last. The control file is not asked on a primary: it is stale after a promotion.
    pub timeline: Timeline,
    /// Its position: written and flushed on a primary, replayed on a standby.
    pub position: Lsn,
    /// What it has on disk: the same on a primary, received and flushed on a standby.
    pub durable: Lsn,
    /// `server_version_num`.
    pub version: u32,
}

/// A row of `pg_stat_replication`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sender {
    /// The standby's `application_name`.
    pub name: String,
    /// Its address; none over a socket.
    pub address: Option<String>,
    /// The slot it uses.
    pub slot: Option<String>,
    /// Whether it is in state `streaming`.
    pub streaming: bool,
    /// What it has flushed.
    pub flushed: Option<Lsn>,
    /// What it has replayed.
    pub replayed: Option<Lsn>,
    /// `async`, `sync`, `quorum` or `potential`.
    pub sync_state: String,
}

/// A standby's side of replication.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Receiver {
    /// The timeline that it receives; none without a running receiver.
    pub timeline: Option<Timeline>,
    /// Whether the receiver is in state `streaming`.
    pub streaming: bool,
    /// How long ago the primary was heard.
    pub heard: Option<Duration>,
    /// What was received and flushed.
    pub received: Option<Lsn>,
    /// What was replayed.
    pub replayed: Lsn,
    /// Time since the last replayed commit. Meaningless while idle.
    pub since_replay: Option<Duration>,
    /// Whether replay is paused.
    pub paused: bool,
}

/// How old the primary's last word may be before a standby's own lag reading is worth nothing.
pub const FRESH: Duration = Duration::from_secs(10);

impl Receiver {
    /// Whether the primary was heard a moment ago.
    #[must_use]
    pub fn is_fresh(&self) -> bool {
        self.heard.is_some_and(|ago| ago <= FRESH)
    }

    /// The lag that the standby alone can vouch for. With the receiver down "received = replayed" also holds, so a reading without a
    /// fresh word of the primary is unknown, never zero; and the time since the last commit says nothing on an idle system.
    #[must_use]
    pub fn lag(&self) -> Option<Duration> {
        if !self.streaming || !self.is_fresh() {
            return None;
        }
        match self.received {
            Some(received) if received <= self.replayed => Some(Duration::ZERO),
            Some(_) | None => self.since_replay,
        }
    }
}

/// A session that holds a transaction open.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LongTransaction {
    /// Process id.
    pub pid: i32,
    /// Role.
    pub user: String,
    /// Application name.
    pub application: String,
    /// Age of the transaction.
    pub age: Duration,
    /// What the session does: `active`, `idle in transaction`.
    pub state: String,
}

/// A replication slot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Slot {
    /// Name.
    pub name: String,
    /// Whether somebody uses it.
    pub active: bool,
    /// `reserved`, `extended`, `unreserved` or `lost`.
    pub wal_status: Option<String>,
    /// Bytes of log that it keeps back.
    pub retained: u64,
}

/// A client session that a fence would end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientSession {
    /// Process id.
    pub pid: i32,
    /// Role.
    pub user: String,
    /// Application name.
    pub application: String,
}

/// On a standby the receiver knows the timeline. When it has ended with the primary, the control file may be older than what was
/// replayed, so the segment that holds the last replayed byte counts too. A promotion that is under way has made the first segment,
/// the history and the control file of the *next* timeline before recovery ends: a timeline counts only if replay has passed the
/// point at which it begins. It is asked often inside a write gap: `pg_settings` would make it five times as slow.
const IDENTITY: &str = r"SELECT s.system_identifier::text, pg_is_in_recovery(), current_setting('server_version_num')::int,
       CASE WHEN pg_is_in_recovery() THEN pg_last_wal_replay_lsn() ELSE pg_current_wal_flush_lsn() END,
       CASE WHEN pg_is_in_recovery() THEN (SELECT received_tli FROM pg_stat_wal_receiver)
            ELSE ('x' || substr(pg_walfile_name(pg_current_wal_lsn()), 1, 8))::bit(32)::int END,
       CASE WHEN pg_is_in_recovery() THEN
         greatest((SELECT timeline_id FROM pg_control_checkpoint()),
           (SELECT max(t.tli) FROM (
              SELECT min_recovery_end_timeline AS tli FROM pg_control_recovery() UNION
              SELECT ('x' || substr(name, 1, 8))::bit(32)::int FROM pg_ls_waldir()
              WHERE NOT EXISTS (SELECT FROM pg_stat_wal_receiver) AND name ~ '^[0-9A-F]{24}$' AND substr(name, 9) = upper(
                lpad(to_hex(b.segment / (4294967296 / b.size)), 8, '0') || lpad(to_hex(b.segment % (4294967296 / b.size)), 8, '0'))) t
            WHERE t.tli = 1 OR (
              SELECT max(fork[1]::pg_lsn) FROM regexp_matches(
                pg_read_file('pg_wal/' || upper(lpad(to_hex(t.tli), 8, '0')) || '.history', 0, 1048576, true),
                '^[0-9]+\s+([0-9A-F]+/[0-9A-F]+)', 'gn') fork) < pg_last_wal_replay_lsn()))
       END,
       (SELECT flushed_lsn FROM pg_stat_wal_receiver), CASE WHEN pg_is_in_recovery() THEN pg_last_wal_receive_lsn() END
FROM pg_control_system() s,
     (SELECT size, div(coalesce(pg_last_wal_replay_lsn(), '0/1') - '0/1'::pg_lsn, size::numeric)::int8 AS segment
      FROM (SELECT pg_size_bytes(current_setting('wal_segment_size')) AS size) setting) b";

/// One row for each look that saw it replay; the last look counts. `pg_sleep` rounds up to a millisecond.
pub(crate) const STILL_REPLAYS: &str = "\
SELECT count(*) = 100 FROM generate_series(1, 100)
WHERE CASE WHEN pg_is_in_recovery() THEN pg_sleep(0.0005) IS NOT NULL ELSE false END";

const SENDERS: &str = "\
SELECT r.application_name, s.slot_name::text, r.state = 'streaming', r.flush_lsn, r.replay_lsn, r.sync_state, host(r.client_addr)
FROM pg_stat_replication r LEFT JOIN pg_replication_slots s ON s.active_pid = r.pid
WHERE r.state <> 'backup' AND r.application_name NOT IN ('pg_basebackup', 'pg_receivewal') ORDER BY r.application_name";

const RECEIVER: &str = "\
SELECT r.received_tli, coalesce(r.status = 'streaming', false),
       extract(epoch FROM clock_timestamp() - r.last_msg_receipt_time)::float8,
       coalesce(r.flushed_lsn, pg_last_wal_receive_lsn()), pg_last_wal_replay_lsn(),
       extract(epoch FROM clock_timestamp() - pg_last_xact_replay_timestamp())::float8,
       CASE WHEN pg_is_in_recovery() THEN pg_is_wal_replay_paused() ELSE false END
FROM (SELECT 1) one LEFT JOIN pg_stat_wal_receiver r ON true";

const LONG: &str = "\
SELECT pid, coalesce(usename::text, ''), coalesce(application_name, ''), extract(epoch FROM clock_timestamp() - xact_start)::float8,
       coalesce(state, '')
FROM pg_stat_activity
WHERE backend_type = 'client backend' AND pid <> pg_backend_pid() AND xact_start < clock_timestamp() - make_interval(secs => $1)
ORDER BY xact_start";

const SLOTS: &str = "\
SELECT slot_name::text, active, wal_status,
       greatest(0, coalesce(pg_wal_lsn_diff(CASE WHEN pg_is_in_recovery() THEN pg_last_wal_replay_lsn()
                                                 ELSE pg_current_wal_lsn() END, restart_lsn), 0))::int8
FROM pg_replication_slots ORDER BY slot_name";

const SESSIONS: &str = "\
SELECT pid, coalesce(usename::text, ''), coalesce(application_name, '') FROM pg_stat_activity
WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()
  AND NOT (usename = current_user AND starts_with(application_name, 'dr/')) ORDER BY pid";

impl Session {
    /// Who the server is. On a standby whose receiver has ended with the primary the control file may be older than what was replayed,
    /// so the segment that holds the last replayed byte is looked up too.
    ///
    /// # Errors
    /// The server cannot be asked.
    pub async fn identity(&self) -> Result<Identity, PgError> {
        let asked = Instant::now();
        let mut last = self.last_identity.lock().await;
        // Whoever waited for its turn takes the answer that was asked for meanwhile: it is no older than the question.
        if let Some((_, found)) = last.as_ref().filter(|(began, _)| *began >= asked) {
            return Ok(found.clone());
        }
        // Looks that were begun together get in line first.
        tokio::task::yield_now().await;
        let began = Instant::now();
        let found = self.ask_identity().await?;
        *last = Some((began, found.clone()));
        Ok(found)
    }

    async fn ask_identity(&self) -> Result<Identity, PgError> {
        const WHAT: &str = "tell who it is";
        let row = self.row(WHAT, IDENTITY, &[]).await?;
        let text: &str = self.get(WHAT, &row, 0)?;
        let unreadable = |what, saw: String| PgError::Unreadable { server: self.label().into(), what, saw };
        let received: Option<i32> = self.get(WHAT, &row, 4)?;
        let recorded: Option<i32> = self.get(WHAT, &row, 5)?;
        let timeline = received.max(recorded).and_then(|t| u32::try_from(t).ok());
        let version: i32 = self.get(WHAT, &row, 2)?;
        let position: Option<PgLsn> = self.get(WHAT, &row, 3)?;
        let position = position.map(Lsn::from).unwrap_or_default();
        let receiving: Option<PgLsn> = self.get(WHAT, &row, 6)?;
        let received: Option<PgLsn> = self.get(WHAT, &row, 7)?;
        let durable = receiving.or(received).map_or(position, Lsn::from).max(position);
        Ok(Identity {
            system_identifier: text.parse().map_err(|_| unreadable("system_identifier", text.into()))?,
            in_recovery: self.get(WHAT, &row, 1)?,
            timeline: Timeline::new(timeline.ok_or_else(|| unreadable("timeline", "nothing".into()))?),
            position,
            durable,
            version: u32::try_from(version).unwrap_or(0),
        })
    }

    /// Whether the server replays; the cheapest look there is.
    ///
    /// # Errors
    /// The server cannot be asked.
    pub async fn in_recovery(&self) -> Result<bool, PgError> {
        const WHAT: &str = "tell whether it replays";
        let row = self.row(WHAT, "SELECT pg_is_in_recovery()", &[]).await?;
        self.get(WHAT, &row, 0)
    }

    /// Whether the server still replays after a while: it looks each millisecond by itself and answers when it has stopped replaying,
    /// or after some 100 ms. A wait on the server's side is woken sooner than one that asks again and again.
    ///
    /// # Errors
    /// The server cannot be asked.
    pub async fn still_replays(&self) -> Result<bool, PgError> {
        const WHAT: &str = "tell whether it still replays";
        let row = self.row(WHAT, STILL_REPLAYS, &[]).await?;
        self.get(WHAT, &row, 0)
    }

    /// How far a standby has replayed; none on a server that never replayed.
    ///
    /// # Errors
    /// The server cannot be asked.
    pub async fn replayed(&self) -> Result<Option<Lsn>, PgError> {
        const WHAT: &str = "tell how far it has replayed";
        let row = self.row(WHAT, "SELECT pg_last_wal_replay_lsn()", &[]).await?;
        let lsn: Option<PgLsn> = self.get(WHAT, &row, 0)?;
        Ok(lsn.map(Lsn::from))
    }

    /// Where the server's timeline left its parents, oldest first. Empty on the first timeline.
    ///
    /// # Errors
    /// The file cannot be read (`pg_read_server_files` is needed).
    pub async fn history(&self, timeline: Timeline) -> Result<Vec<Fork>, PgError> {
        const WHAT: &str = "read a timeline's history";
        // A history never changes once it is there.
        let known = self.histories.lock().unwrap_or_else(PoisonError::into_inner).get(&timeline).cloned();
        if let Some(known) = known {
            return Ok(known);
        }
        let name = format!("pg_wal/{}", timeline.history_file());
        let sql = "SELECT pg_read_file($1, 0, 1048576, true)";
        let row = self.row(WHAT, sql, &[(&name, Type::TEXT)]).await?;
        let text: Option<&str> = self.get(WHAT, &row, 0)?;
        let found = text.map(forks).unwrap_or_default();
        if !found.is_empty() {
            self.histories.lock().unwrap_or_else(PoisonError::into_inner).insert(timeline, found.clone());
        }
        Ok(found)
    }

    /// Reads through the catalogue: how quickly tells how warm the server is.
    ///
    /// # Errors
    /// The server cannot be asked.
    pub async fn synthetic_read(&self) -> Result<(), PgError> {
        self.rows("answer a synthetic read", "SELECT count(*) FROM pg_class", &[]).await.map(drop)
    }

    /// The databases that can be connected to; templates are left out.
    ///
    /// # Errors
    /// The server cannot be asked.
    pub async fn databases(&self) -> Result<Vec<String>, PgError> {
        const SQL: &str =
            "SELECT datname::text FROM pg_database WHERE datallowconn AND NOT datistemplate ORDER BY datname";
        self.names("list its databases", SQL).await
    }

    /// The standbys that the server sends to.
    ///
    /// # Errors
    /// The server cannot be asked.
    pub async fn senders(&self) -> Result<Vec<Sender>, PgError> {
        const WHAT: &str = "tell its standbys";
        let rows = self.rows(WHAT, SENDERS, &[]).await?;
        let read = |row| {
            let lsn = |column| self.get::<Option<PgLsn>>(WHAT, row, column).map(|l| l.map(Lsn::from));
            Ok(Sender {
                name: self.get(WHAT, row, 0)?,
                slot: self.get(WHAT, row, 1)?,
                streaming: self.get(WHAT, row, 2)?,
                flushed: lsn(3)?,
                replayed: lsn(4)?,
                sync_state: self.get(WHAT, row, 5)?,
                address: self.get(WHAT, row, 6)?,
            })
        };
        rows.iter().map(read).collect()
    }

    /// A standby's side of replication.
    ///
    /// # Errors
    /// The server cannot be asked.
    pub async fn receiver(&self) -> Result<Receiver, PgError> {
        const WHAT: &str = "tell how it receives";
        let row = self.row(WHAT, RECEIVER, &[]).await?;
        let seconds = |column| {
            let value: Option<f64> = self.get(WHAT, &row, column)?;
            Ok::<_, PgError>(value.map(|s| Duration::try_from_secs_f64(s.max(0.0)).unwrap_or(Duration::MAX)))
        };
        let timeline: Option<i32> = self.get(WHAT, &row, 0)?;
        let received: Option<PgLsn> = self.get(WHAT, &row, 3)?;
        let replayed: Option<PgLsn> = self.get(WHAT, &row, 4)?;
        Ok(Receiver {
            timeline: timeline.and_then(|t| u32::try_from(t).ok()).map(Timeline::new),
            streaming: self.get(WHAT, &row, 1)?,
            heard: seconds(2)?,
            received: received.map(Lsn::from),
            replayed: replayed.map(Lsn::from).unwrap_or_default(),
            since_replay: seconds(5)?,
            paused: self.get(WHAT, &row, 6)?,
        })
    }

    /// The transactions older than `age`, oldest first, without our own.
    ///
    /// # Errors
    /// The server cannot be asked.
    pub async fn long_transactions(&self, age: Duration) -> Result<Vec<LongTransaction>, PgError> {
        const WHAT: &str = "tell its long transactions";
        let rows = self.rows(WHAT, LONG, &[(&age.as_secs_f64(), Type::FLOAT8)]).await?;
        let read = |row| {
            Ok(LongTransaction {
                pid: self.get(WHAT, row, 0)?,
                user: self.get(WHAT, row, 1)?,
                application: self.get(WHAT, row, 2)?,
                age: Duration::try_from_secs_f64(self.get::<f64>(WHAT, row, 3)?.max(0.0)).unwrap_or(Duration::MAX),
                state: self.get(WHAT, row, 4)?,
            })
        };
        rows.iter().map(read).collect()
    }

    /// The prepared transactions. They survive restart and promotion, hold their locks and block vacuum.
    ///
    /// # Errors
    /// The server cannot be asked.
    pub async fn prepared_transactions(&self) -> Result<Vec<String>, PgError> {
        self.names("tell its prepared transactions", "SELECT gid FROM pg_prepared_xacts ORDER BY gid").await
    }

    /// The extensions of the connected database with their versions.
    ///
    /// # Errors
    /// The server cannot be asked.
    pub async fn extensions(&self) -> Result<BTreeMap<String, String>, PgError> {
        const WHAT: &str = "tell its extensions";
        let rows = self.rows(WHAT, "SELECT extname::text, extversion FROM pg_extension", &[]).await?;
        rows.iter().map(|row| Ok((self.get(WHAT, row, 0)?, self.get(WHAT, row, 1)?))).collect()
    }

    /// The extensions that could be created here, with their versions.
    ///
    /// # Errors
    /// The server cannot be asked.
    pub async fn available_extensions(&self) -> Result<BTreeMap<String, Vec<String>>, PgError> {
        const WHAT: &str = "tell the available extensions";
        let rows = self.rows(WHAT, "SELECT name::text, version FROM pg_available_extension_versions", &[]).await?;
        let mut all: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for row in &rows {
            all.entry(self.get(WHAT, row, 0)?).or_default().push(self.get(WHAT, row, 1)?);
        }
        Ok(all)
    }

    /// A setting as `SHOW` prints it; none if the server does not know it.
    ///
    /// # Errors
    /// The server cannot be asked.
    pub async fn setting(&self, name: &str) -> Result<Option<String>, PgError> {
        const WHAT: &str = "tell a setting";
        let row = self.row(WHAT, "SELECT current_setting($1, true)", &[(&name, Type::TEXT)]).await?;
        self.get(WHAT, &row, 0)
    }

    /// The replication slots.
    ///
    /// # Errors
    /// The server cannot be asked.
    pub async fn slots(&self) -> Result<Vec<Slot>, PgError> {
        const WHAT: &str = "tell its slots";
        let rows = self.rows(WHAT, SLOTS, &[]).await?;
        let read = |row| {
            Ok(Slot {
                name: self.get(WHAT, row, 0)?,
                active: self.get(WHAT, row, 1)?,
                wal_status: self.get(WHAT, row, 2)?,
                retained: u64::try_from(self.get::<i64>(WHAT, row, 3)?).unwrap_or(0),
            })
        };
        rows.iter().map(read).collect()
    }

    /// The client sessions that are not control sessions of our own role. Log senders are not clients.
    ///
    /// # Errors
    /// The server cannot be asked.
    pub async fn client_sessions(&self) -> Result<Vec<ClientSession>, PgError> {
        const WHAT: &str = "tell its client sessions";
        let rows = self.rows(WHAT, SESSIONS, &[]).await?;
        let read = |row| {
            Ok(ClientSession {
                pid: self.get(WHAT, row, 0)?,
                user: self.get(WHAT, row, 1)?,
                application: self.get(WHAT, row, 2)?,
            })
        };
        rows.iter().map(read).collect()
    }

    pub(crate) async fn names(&self, what: &'static str, sql: &'static str) -> Result<Vec<String>, PgError> {
        let rows = self.rows(what, sql, &[]).await?;
        rows.iter().map(|row| self.get(what, row, 0)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn receiver() -> Receiver {
        Receiver {
            timeline: Some(Timeline::new(1)),
            streaming: true,
            heard: Some(Duration::from_secs(1)),
            received: Some(Lsn::new(100)),
            replayed: Lsn::new(100),
            since_replay: Some(Duration::from_secs(14)),
            paused: false,
        }
    }

    #[test]
    fn an_idle_standby_that_hears_its_primary_has_no_lag() {
        assert_eq!(receiver().lag(), Some(Duration::ZERO));
    }

    #[test]
    fn a_standby_without_a_receiver_never_reports_zero() {
        assert_eq!(Receiver { streaming: false, heard: None, ..receiver() }.lag(), None);
        assert_eq!(Receiver { heard: Some(Duration::from_secs(11)), ..receiver() }.lag(), None);
    }

    #[test]
    fn a_standby_that_still_replays_tells_the_age_of_its_last_commit() {
        let behind = Receiver { replayed: Lsn::new(90), since_replay: Some(Duration::from_secs(2)), ..receiver() };
        assert_eq!(behind.lag(), Some(Duration::from_secs(2)));
        // It has replayed no commit since its start: it streams, and its lag is unknown.
        let started = Receiver { since_replay: None, ..behind };
        assert_eq!((started.lag(), started.is_fresh()), (None, true));
    }
}
