//! Who a server is, what it replays, and where its history parted.

use std::{sync::PoisonError, sync::atomic::Ordering, time::Duration};

use dr_core::contract::{Parted, Tier};
use tokio::time::{Instant, sleep};
use tokio_postgres::{
    Row,
    error::SqlState,
    types::{PgLsn, Type},
};

use crate::{
    act::literal,
    client::Session,
    error::PgError,
    lsn::{Fork, Lsn, Timeline, forks},
    reading::position,
    target::Rights,
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
    /// The rights with which this was read.
    pub tier: Tier,
}

/// The question who a server is, with what a standby's control file and log directory say of its timeline. It is asked often inside a
/// write gap: `pg_settings` would make it five times as slow.
macro_rules! identity {
    (control: $control:literal, recorded: $recorded:literal, listed: $listed:literal) => {
        concat!(
            r"SELECT s.system_identifier::text, pg_is_in_recovery(), current_setting('server_version_num')::int,
       CASE WHEN pg_is_in_recovery() THEN pg_last_wal_replay_lsn() ELSE pg_current_wal_flush_lsn() END,
       CASE WHEN pg_is_in_recovery() THEN (SELECT received_tli FROM pg_stat_wal_receiver)
            ELSE ('x' || substr(pg_walfile_name(pg_current_wal_lsn()), 1, 8))::bit(32)::int END,
       CASE WHEN pg_is_in_recovery() THEN greatest((",
            $control,
            r"), (",
            $recorded,
            r")) END,
       (SELECT flushed_lsn FROM pg_stat_wal_receiver), CASE WHEN pg_is_in_recovery() THEN pg_last_wal_receive_lsn() END,
       CASE WHEN pg_is_in_recovery() THEN (",
            $listed,
            r") END
FROM pg_control_system() s,
     (SELECT size, div(coalesce(pg_last_wal_replay_lsn(), '0/1') - '0/1'::pg_lsn, size::numeric)::int8 AS segment
      FROM (SELECT pg_size_bytes(current_setting('wal_segment_size')) AS size) setting) b"
        )
    };
}

/// On a standby the receiver knows the timeline. When it has ended with the primary, the control file may be older than what was
/// replayed, so the segment that holds the last replayed byte counts too. A promotion that is under way has made the first segment,
/// the history and the control file of the *next* timeline before recovery ends: a timeline counts only if replay has passed the
/// point at which it begins.
const IDENTITY: &str = identity!(
    control: "SELECT timeline_id FROM pg_control_checkpoint()",
    recorded: r"SELECT max(t.tli) FROM (
              SELECT min_recovery_end_timeline AS tli FROM pg_control_recovery() UNION
              SELECT ('x' || substr(name, 1, 8))::bit(32)::int FROM pg_ls_waldir()
              WHERE NOT EXISTS (SELECT FROM pg_stat_wal_receiver) AND name ~ '^[0-9A-F]{24}$' AND substr(name, 9) = upper(
                lpad(to_hex(b.segment / (4294967296 / b.size)), 8, '0') || lpad(to_hex(b.segment % (4294967296 / b.size)), 8, '0'))) t
            WHERE t.tli = 1 OR (
              SELECT max(fork[1]::pg_lsn) FROM regexp_matches(
                pg_read_file('pg_wal/' || upper(lpad(to_hex(t.tli), 8, '0')) || '.history', 0, 1048576, true),
                '^[0-9]+\s+([0-9A-F]+/[0-9A-F]+)', 'gn') fork) < pg_last_wal_replay_lsn()",
    listed: "NULL::int"
);

/// The same for a role that may not execute `pg_read_file`. The control file counts as far as replay has passed what it speaks of,
/// which a promotion's own record has not been; the segments are answered apart, and count while recovery waits for log.
const IDENTITY_WITHOUT_FILES: &str = identity!(
    control: "SELECT timeline_id FROM pg_control_checkpoint()",
    recorded: r"SELECT min_recovery_end_timeline FROM pg_control_recovery() WHERE min_recovery_end_lsn <= pg_last_wal_replay_lsn()",
    listed: r"SELECT max(('x' || substr(name, 1, 8))::bit(32)::int) FROM pg_ls_waldir()
              WHERE NOT EXISTS (SELECT FROM pg_stat_wal_receiver) AND name ~ '^[0-9A-F]{24}$' AND substr(name, 9) = upper(
                lpad(to_hex(b.segment / (4294967296 / b.size)), 8, '0') || lpad(to_hex(b.segment % (4294967296 / b.size)), 8, '0'))"
);

/// The same for an ordinary role of a managed service: no log directory and no file. Without a receiver the control file tells the
/// timeline, as far as replay has passed what it speaks of.
const IDENTITY_MANAGED: &str = identity!(
    control: "SELECT timeline_id FROM pg_control_checkpoint()",
    recorded: r"SELECT min_recovery_end_timeline FROM pg_control_recovery() WHERE min_recovery_end_lsn <= pg_last_wal_replay_lsn()",
    listed: "NULL::int"
);

/// The same where the service keeps the control file to itself but for the system identifier: only a receiver tells a standby's timeline.
const IDENTITY_BY_RECEIVER: &str = identity!(control: "NULL::int", recorded: "NULL::int", listed: "NULL::int");

/// Whether recovery waits for log. Once a promotion has begun it never does again, so whatever lay in the log directory before this
/// answer was received or restored, and not made by a promotion.
const WAITS_FOR_LOG: &str = "\
SELECT EXISTS (SELECT FROM pg_stat_activity WHERE backend_type = 'startup' AND wait_event IN
  ('RecoveryWalStream', 'RecoveryWalAll', 'RecoveryRetrieveRetryInterval', 'RecoveryPause', 'RecoveryApplyDelay'))";

/// How often a standby is asked again while its recovery is at work and its log directory holds a newer timeline.
const LOOKS: u32 = 50;

/// One row for each look that saw it replay; the last look counts. `pg_sleep` rounds up to a millisecond.
pub(crate) const STILL_REPLAYS: &str = "\
SELECT count(*) = 100 FROM generate_series(1, 100)
WHERE CASE WHEN pg_is_in_recovery() THEN pg_sleep(0.0005) IS NOT NULL ELSE false END";

const WHO: &str = "tell who it is";

impl Session {
    /// Who the server is. On a standby whose receiver has ended with the primary the control file may be older than what was replayed,
    /// so the segment that holds the last replayed byte is looked up too.
    ///
    /// # Errors
    /// The server cannot be asked, or with [`Rights::Managed`] keeps the system identifier or a standby's timeline to itself.
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
        match self.rights() {
            Rights::Server => self.ask_with_files().await,
            Rights::Managed { .. } => self.ask_managed().await,
        }
    }

    async fn ask_with_files(&self) -> Result<Identity, PgError> {
        if !self.is_lesser() {
            match self.row(WHO, IDENTITY, &[]).await {
                Ok(row) => return self.read_identity(&row).map(|(who, _)| who),
                Err(e) if e.is_denied() => self.note_lesser(),
                Err(e) => return Err(e),
            }
        }
        let mut looks = 0;
        loop {
            let (mut who, listed) = self.read_identity(&self.row(WHO, IDENTITY_WITHOUT_FILES, &[]).await?)?;
            let Some(listed) = listed.filter(|listed| who.in_recovery && *listed > who.timeline) else {
                return Ok(who);
            };
            let waits: bool = self.get(WHO, &self.row(WHO, WAITS_FOR_LOG, &[]).await?, 0)?;
            looks += 1;
            if waits || looks > LOOKS {
                who.timeline = if waits { listed } else { who.timeline };
                return Ok(who);
            }
            sleep(Duration::from_millis(1)).await;
        }
    }

    async fn ask_managed(&self) -> Result<Identity, PgError> {
        self.must_see_statistics().await?;
        if !self.is_lesser() {
            match self.row(WHO, IDENTITY_MANAGED, &[]).await {
                Ok(row) => return self.read_identity(&row).map(|(who, _)| who),
                Err(e) if e.is_not_given() => self.note_lesser(),
                Err(e) => return Err(e),
            }
        }
        match self.row(WHO, IDENTITY_BY_RECEIVER, &[]).await {
            Ok(row) => self.read_identity(&row).map(|(who, _)| who),
            Err(e) if e.is_not_given() => {
                Err(self.lacks("read the system identifier", "GRANT EXECUTE ON FUNCTION pg_control_system() TO ROLE"))
            }
            Err(e) => Err(e),
        }
    }

    /// The answer, and the newest timeline in the log directory where that was asked apart.
    fn read_identity(&self, row: &Row) -> Result<(Identity, Option<Timeline>), PgError> {
        let text: &str = self.get(WHO, row, 0)?;
        let unreadable = |what, saw: String| PgError::Unreadable { server: self.label().into(), what, saw };
        let number = |column| {
            let found: Option<i32> = self.get(WHO, row, column)?;
            Ok::<_, PgError>(found.and_then(|t| u32::try_from(t).ok()).map(Timeline::new))
        };
        let timeline = number(4)?.max(number(5)?);
        let version: i32 = self.get(WHO, row, 2)?;
        let lsn = |column| Ok::<_, PgError>(self.get::<Option<PgLsn>>(WHO, row, column)?.map(Lsn::from));
        let position = lsn(3)?.unwrap_or_default();
        let durable = lsn(6)?.or(lsn(7)?).unwrap_or(position).max(position);
        let untold = || match self.rights() {
            Rights::Server => unreadable("timeline", "nothing".into()),
            Rights::Managed { .. } => self.lacks(
                "read the control file, and no receiver runs that would tell the timeline",
                "GRANT EXECUTE ON FUNCTION pg_control_checkpoint(), pg_control_recovery() TO ROLE",
            ),
        };
        let who = Identity {
            system_identifier: text.parse().map_err(|_| unreadable("system_identifier", text.into()))?,
            in_recovery: self.get(WHO, row, 1)?,
            timeline: timeline.ok_or_else(untold)?,
            position,
            durable,
            version: u32::try_from(version).unwrap_or(0),
            tier: self.rights().tier(),
        };
        Ok((who, number(8)?))
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

    /// When the recovery at work began, in microseconds since 1970: a restart, also the one after a crash of a child, begins another.
    /// A role that may not see it is told when the server was started.
    ///
    /// # Errors
    /// The server cannot be asked.
    pub async fn recovery_began(&self) -> Result<i64, PgError> {
        const WHAT: &str = "tell when its recovery began";
        const SQL: &str = "\
SELECT (extract(epoch FROM coalesce((SELECT backend_start FROM pg_stat_activity WHERE backend_type = 'startup'),
                                    pg_postmaster_start_time())) * 1000000)::int8";
        let row = self.row(WHAT, SQL, &[]).await?;
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
    /// The file cannot be read: that needs `EXECUTE` on `pg_read_file`, or on a primary `pg_read_server_files`.
    pub async fn history(&self, timeline: Timeline) -> Result<Vec<Fork>, PgError> {
        if timeline == Timeline::FIRST {
            return Ok(Vec::new());
        }
        // A history never changes once it is there.
        let known = self.histories.lock().unwrap_or_else(PoisonError::into_inner).get(&timeline).cloned();
        if let Some(known) = known {
            return Ok(known);
        }
        let found = forks(&self.history_text(timeline).await?);
        if !found.is_empty() {
            self.histories.lock().unwrap_or_else(PoisonError::into_inner).insert(timeline, found.clone());
        }
        Ok(found)
    }

    async fn history_text(&self, timeline: Timeline) -> Result<String, PgError> {
        const WHAT: &str = "read a timeline's history";
        let name = format!("pg_wal/{}", timeline.history_file());
        if !self.is_lesser() {
            match self.row(WHAT, "SELECT pg_read_file($1, 0, 1048576, true)", &[(&name, Type::TEXT)]).await {
                Ok(row) => return Ok(self.get::<Option<String>>(WHAT, &row, 0)?.unwrap_or_default()),
                Err(e) if e.is_denied() => self.note_lesser(),
                Err(e) => return Err(e),
            }
        }
        // A primary can copy the file into a table of this transaction, which needs no more than `pg_read_server_files`.
        let copy = format!(
            "SET LOCAL transaction_read_only = off; CREATE TEMP TABLE dr_history (line text) ON COMMIT DROP; \
             COPY dr_history FROM {} (FORMAT csv, DELIMITER E'\\x01', QUOTE E'\\x02'); SELECT line FROM dr_history",
            literal(&name)
        );
        match self.text_rows(WHAT, &copy).await {
            Ok(rows) => Ok(rows.iter().filter_map(|row| row.get("line")).flat_map(|line| [line, "\n"]).collect()),
            Err(e) if e.sql_state() == Some(&SqlState::UNDEFINED_FILE) => Ok(String::new()),
            Err(e) => Err(e),
        }
    }

    /// Where the server's own history left its parent, as far as its rights and its state tell.
    ///
    /// # Errors
    /// The server cannot be asked, or with [`Rights::Server`] its history cannot be read.
    pub async fn parted(&self, who: &Identity) -> Result<Parted, PgError> {
        if who.in_recovery {
            return Ok(Parted::untold("a standby is not asked where its history parted"));
        }
        if who.timeline == Timeline::FIRST {
            return Ok(Parted::untold("the first timeline left no other"));
        }
        match self.rights() {
            Rights::Managed { .. } => {
                let why = "an ordinary role of a managed service reads no timeline history (pg_read_file)";
                Ok(Parted::untold(why))
            }
            Rights::Server => Ok(match self.history(who.timeline).await?.last() {
                Some(fork) => Parted::At(position(who.system_identifier, fork.at)),
                None => Parted::untold(format!("{} is empty or gone", who.timeline.history_file())),
            }),
        }
    }

    /// Refuses a role that does not see what others do: it would be told of no receiver and of no session, and that reads as "none".
    async fn must_see_statistics(&self) -> Result<(), PgError> {
        const WHAT: &str = "tell what its role may see";
        if self.sees_statistics.load(Ordering::Relaxed) {
            return Ok(());
        }
        let row = self.row(WHAT, "SELECT pg_has_role('pg_read_all_stats', 'usage')", &[]).await?;
        if !self.get::<bool>(WHAT, &row, 0)? {
            return Err(self.hides());
        }
        self.sees_statistics.store(true, Ordering::Relaxed);
        Ok(())
    }

    /// What the role is not shown.
    pub(crate) fn hides(&self) -> PgError {
        self.lacks("see the sessions and the replication of others", "GRANT pg_monitor TO ROLE")
    }

    /// Whether the role was seen to lack a right for the fuller question who the server is; `pg_read_file`, with [`Rights::Server`].
    fn is_lesser(&self) -> bool {
        self.lesser.load(Ordering::Relaxed)
    }

    fn note_lesser(&self) {
        self.lesser.store(true, Ordering::Relaxed);
    }

    /// Reads through the catalogue: how quickly tells how warm the server is.
    ///
    /// # Errors
    /// The server cannot be asked.
    pub async fn synthetic_read(&self) -> Result<(), PgError> {
        self.rows("answer a synthetic read", "SELECT count(*) FROM pg_class", &[]).await.map(drop)
    }
}
