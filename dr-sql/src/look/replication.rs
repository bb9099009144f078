//! Who sends to whom: senders, the receiver of a standby, slots.

use std::time::Duration;

use tokio_postgres::types::PgLsn;

use crate::{
    client::Session,
    error::PgError,
    lsn::{Lsn, Timeline},
};

/// Who reads from a sender.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reader {
    /// A standby: it replays what it is sent, or has not answered yet.
    Standby,
    /// A program that keeps the log and replays nothing: `pg_receivewal`, a base backup, a backup tool.
    Log,
    /// A consumer of decoded changes: a subscription, a change-data-capture tool.
    Changes,
}

/// A row of `pg_stat_replication`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sender {
    /// Who reads.
    pub reader: Reader,
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
    /// How long replay lately took after it was written here; none while nothing is written.
    pub replay_lag: Option<Duration>,
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
    /// What the primary had flushed when it last spoke.
    pub announced: Option<Lsn>,
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

    /// Whether the receiver's own word counts at all. With the receiver down "received = replayed" also holds.
    #[must_use]
    pub fn vouches(&self) -> bool {
        self.streaming && self.is_fresh()
    }

    /// The end of the log that this standby knows of: what a look later must have replayed to have kept up.
    #[must_use]
    pub fn known_end(&self) -> Option<Lsn> {
        self.received.max(self.announced)
    }

    /// The lag that the standby alone can vouch for, from one look. A reading without a fresh word of the primary is unknown, never
    /// zero. While something is not replayed yet this is the age of the last replayed commit: never too small, and far too large
    /// after an idle time, so a second look a moment later says more.
    #[must_use]
    pub fn lag(&self) -> Option<Duration> {
        match self.known_end().filter(|_| self.vouches()) {
            Some(end) if end <= self.replayed => Some(Duration::ZERO),
            Some(_) => self.since_replay,
            None => None,
        }
    }
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

/// A walsender that is connected to a database decodes changes. One that was told of written log and of no replay keeps the log only:
/// a standby tells both at once.
const SENDERS: &str = "\
SELECT coalesce(r.application_name, ''), s.slot_name::text, coalesce(r.state, '') = 'streaming', r.flush_lsn, r.replay_lsn, coalesce(r.sync_state, ''), host(r.client_addr),
       extract(epoch FROM r.replay_lag)::float8,
       CASE WHEN s.slot_type = 'logical' OR a.datid <> 0 THEN 'changes'
            WHEN r.state = 'backup' OR r.application_name IN ('pg_basebackup', 'pg_receivewal')
              OR (r.write_lsn IS NOT NULL AND r.replay_lsn IS NULL) THEN 'log'
            ELSE 'standby' END, r.state IS NULL
FROM pg_stat_replication r LEFT JOIN pg_replication_slots s ON s.active_pid = r.pid
     LEFT JOIN LATERAL pg_stat_get_activity(r.pid) a ON true
ORDER BY r.application_name";

const RECEIVER: &str = "\
SELECT r.received_tli, coalesce(r.status = 'streaming', false),
       extract(epoch FROM clock_timestamp() - r.last_msg_receipt_time)::float8,
       coalesce(r.flushed_lsn, pg_last_wal_receive_lsn()), pg_last_wal_replay_lsn(),
       extract(epoch FROM clock_timestamp() - pg_last_xact_replay_timestamp())::float8,
       CASE WHEN pg_is_in_recovery() THEN pg_is_wal_replay_paused() ELSE false END, r.latest_end_lsn, r.pid IS NOT NULL AND r.status IS NULL
FROM (SELECT 1) one LEFT JOIN pg_stat_wal_receiver r ON true";

const SLOTS: &str = "\
SELECT slot_name::text, active, wal_status,
       greatest(0, coalesce(pg_wal_lsn_diff(CASE WHEN pg_is_in_recovery() THEN pg_last_wal_replay_lsn()
                                                 ELSE pg_current_wal_lsn() END, restart_lsn), 0))::int8
FROM pg_replication_slots ORDER BY slot_name";

impl Session {
    /// The standbys that the server sends to.
    ///
    /// # Errors
    /// The server cannot be asked.
    pub async fn senders(&self) -> Result<Vec<Sender>, PgError> {
        let all = self.readers().await?;
        Ok(all.into_iter().filter(|row| row.reader == Reader::Standby).collect())
    }

    /// Everybody that the server sends its log or its changes to.
    ///
    /// # Errors
    /// The server cannot be asked, or the role is not shown them.
    pub async fn readers(&self) -> Result<Vec<Sender>, PgError> {
        const WHAT: &str = "tell its standbys";
        let rows = self.rows(WHAT, SENDERS, &[]).await?;
        let read = |row| {
            if self.get(WHAT, row, 9)? {
                return Err(self.hides());
            }
            let lsn = |column| self.get::<Option<PgLsn>>(WHAT, row, column).map(|l| l.map(Lsn::from));
            Ok(Sender {
                reader: match self.get(WHAT, row, 8)? {
                    "changes" => Reader::Changes,
                    "log" => Reader::Log,
                    _ => Reader::Standby,
                },
                name: self.get(WHAT, row, 0)?,
                slot: self.get(WHAT, row, 1)?,
                streaming: self.get(WHAT, row, 2)?,
                flushed: lsn(3)?,
                replayed: lsn(4)?,
                sync_state: self.get(WHAT, row, 5)?,
                address: self.get(WHAT, row, 6)?,
                replay_lag: self.get::<Option<f64>>(WHAT, row, 7)?.map(seconds),
            })
        };
        rows.iter().map(read).collect()
    }

    /// A standby's side of replication.
    ///
    /// # Errors
    /// The server cannot be asked, or the role is not shown it.
    pub async fn receiver(&self) -> Result<Receiver, PgError> {
        const WHAT: &str = "tell how it receives";
        let row = self.row(WHAT, RECEIVER, &[]).await?;
        if self.get(WHAT, &row, 8)? {
            return Err(self.hides());
        }
        let age = |column| Ok::<_, PgError>(self.get::<Option<f64>>(WHAT, &row, column)?.map(seconds));
        let timeline: Option<i32> = self.get(WHAT, &row, 0)?;
        let received: Option<PgLsn> = self.get(WHAT, &row, 3)?;
        let replayed: Option<PgLsn> = self.get(WHAT, &row, 4)?;
        Ok(Receiver {
            timeline: timeline.and_then(|t| u32::try_from(t).ok()).map(Timeline::new),
            streaming: self.get(WHAT, &row, 1)?,
            heard: age(2)?,
            received: received.map(Lsn::from),
            announced: self.get::<Option<PgLsn>>(WHAT, &row, 7)?.map(Lsn::from),
            replayed: replayed.map(Lsn::from).unwrap_or_default(),
            since_replay: since(self.get(WHAT, &row, 5)?),
            paused: self.get(WHAT, &row, 6)?,
        })
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
}

/// The age of a commit counts from the primary's clock to the standby's. One that lies in the future tells of clocks, not of a lag.
fn since(age: Option<f64>) -> Option<Duration> {
    const SKEW: f64 = -1.0;
    age.filter(|age| *age > SKEW).map(seconds)
}

/// Seconds as the server counts them.
fn seconds(value: f64) -> Duration {
    Duration::try_from_secs_f64(value.max(0.0)).unwrap_or(Duration::MAX)
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
            announced: Some(Lsn::new(100)),
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

    /// What is on its way counts: a slow network is no small lag.
    #[test]
    fn a_standby_that_has_not_received_what_was_announced_is_behind() {
        let behind = Receiver { announced: Some(Lsn::new(200)), ..receiver() };
        assert_eq!(behind.lag(), Some(Duration::from_secs(14)));
        assert_eq!(behind.known_end(), Some(Lsn::new(200)));
    }

    /// A standby whose clock is late would else be behind by nothing, however long it is stalled.
    #[test]
    fn a_commit_from_the_future_tells_no_lag() {
        assert_eq!(since(Some(-90.0)), None);
        assert_eq!(since(Some(-0.01)), Some(Duration::ZERO));
        assert_eq!(since(Some(2.0)), Some(Duration::from_secs(2)));
        assert_eq!(since(None), None);
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
