//! What `pg_controldata` says about a data directory.

use std::collections::BTreeMap;

use dr_sql::{Lsn, PgError, Timeline};

/// The state that the control file names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ClusterState {
    /// Created, never started.
    StartingUp,
    /// Stopped cleanly as a primary: the shutdown checkpoint is written.
    ShutDown,
    /// Stopped cleanly as a standby.
    ShutDownInRecovery,
    /// Writing its shutdown checkpoint.
    ShuttingDown,
    /// Replaying after a crash.
    InCrashRecovery,
    /// Replaying as a standby.
    InArchiveRecovery,
    /// Running as a primary, or killed while it did.
    InProduction,
}

impl ClusterState {
    fn read(text: &str) -> Option<Self> {
        Some(match text {
            "starting up" => Self::StartingUp,
            "shut down" => Self::ShutDown,
            "shut down in recovery" => Self::ShutDownInRecovery,
            "shutting down" => Self::ShuttingDown,
            "in crash recovery" => Self::InCrashRecovery,
            "in archive recovery" => Self::InArchiveRecovery,
            "in production" => Self::InProduction,
            _ => return None,
        })
    }
}

impl ClusterState {
    /// Whether the server was a standby when it wrote this.
    #[must_use]
    pub const fn is_standby(self) -> bool {
        match self {
            Self::ShutDownInRecovery | Self::InArchiveRecovery => true,
            Self::StartingUp | Self::ShutDown | Self::ShuttingDown | Self::InCrashRecovery | Self::InProduction => {
                false
            }
        }
    }
}

/// The facts of a control file that decisions rest on.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ControlData {
    /// What the server last said about itself.
    pub state: ClusterState,
    /// The identity shared by all physical copies.
    pub system_identifier: u64,
    /// Where the latest checkpoint record begins.
    pub checkpoint: Lsn,
    /// Where replay from that checkpoint begins. Equal to `checkpoint` after a clean stop.
    pub redo: Lsn,
    /// The timeline of that checkpoint. Stale between a promotion and its first checkpoint.
    pub timeline: Timeline,
    /// Where a standby must arrive before it is consistent.
    pub min_recovery: Lsn,
    /// The timeline of that position; zero on a primary.
    pub min_recovery_timeline: Timeline,
    /// Whether pages carry checksums, one of the two conditions of `pg_rewind`.
    pub checksums: bool,
    /// `wal_log_hints`, the other one.
    pub wal_log_hints: bool,
    /// Size of a log segment in bytes.
    pub segment_bytes: u64,
}

impl ControlData {
    /// Reads the text that `pg_controldata` prints under `LC_ALL=C`.
    ///
    /// # Errors
    /// A label is missing or its value is not understood.
    pub fn parse(server: &str, text: &str) -> Result<Self, PgError> {
        let fields = Fields { server, all: text.lines().filter_map(|line| line.split_once(':')).collect() };
        let state = fields.text("Database cluster state")?;
        Ok(Self {
            state: ClusterState::read(state).ok_or_else(|| fields.wrong("Database cluster state", state))?,
            system_identifier: fields.value("Database system identifier")?,
            checkpoint: fields.value("Latest checkpoint location")?,
            redo: fields.value("Latest checkpoint's REDO location")?,
            timeline: Timeline::new(fields.value("Latest checkpoint's TimeLineID")?),
            min_recovery: fields.value("Minimum recovery ending location")?,
            min_recovery_timeline: Timeline::new(fields.value("Min recovery ending loc's timeline")?),
            checksums: fields.value::<u32>("Data page checksum version")? != 0,
            wal_log_hints: fields.text("wal_log_hints setting")? == "on",
            segment_bytes: fields.value("Bytes per WAL segment")?,
        })
    }

    /// Whether the server was stopped cleanly as a primary, and the control file proves it: state `shut down`, and the last record is
    /// the shutdown checkpoint (checkpoint and redo position are one).
    #[must_use]
    pub fn is_clean_primary_stop(&self) -> bool {
        self.state == ClusterState::ShutDown && self.checkpoint == self.redo
    }
}

struct Fields<'t> {
    server: &'t str,
    all: BTreeMap<&'t str, &'t str>,
}

impl<'t> Fields<'t> {
    fn text(&self, label: &'static str) -> Result<&'t str, PgError> {
        self.all.get(label).map(|value| value.trim()).ok_or_else(|| self.wrong(label, "nothing"))
    }

    fn value<V: std::str::FromStr>(&self, label: &'static str) -> Result<V, PgError> {
        let text = self.text(label)?;
        text.parse().map_err(|_| self.wrong(label, text))
    }

    fn wrong(&self, label: &'static str, saw: &str) -> PgError {
        PgError::Unreadable { server: self.server.into(), what: label, saw: saw.into() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STOPPED: &str = "\
pg_control version number:            1300
Database system identifier:           7412345678901234567
Database cluster state:               shut down
pg_control last modified:             Fri 01 Aug 2025 10:00:00 AM UTC
Latest checkpoint location:           0/5000028
Latest checkpoint's REDO location:    0/5000028
Latest checkpoint's TimeLineID:       3
Latest checkpoint's PrevTimeLineID:   3
Minimum recovery ending location:     0/0
Min recovery ending loc's timeline:   0
wal_log_hints setting:                off
Bytes per WAL segment:                16777216
Data page checksum version:           1
";

    #[test]
    fn a_clean_stop_is_read() {
        let data = ControlData::parse("pg1", STOPPED).unwrap();
        assert!(data.is_clean_primary_stop());
        assert_eq!(data.checkpoint, Lsn::new(0x500_0028));
        assert_eq!(data.timeline, Timeline::new(3));
        assert_eq!(data.system_identifier, 7_412_345_678_901_234_567);
        assert!(data.checksums && !data.wal_log_hints);
    }

    #[test]
    fn a_crash_or_a_standby_is_no_clean_stop_of_a_primary() {
        for (state, expected) in
            [("in production", ClusterState::InProduction), ("shut down in recovery", ClusterState::ShutDownInRecovery)]
        {
            let data = ControlData::parse("pg1", &STOPPED.replace("shut down", state)).unwrap();
            assert_eq!(data.state, expected);
            assert!(!data.is_clean_primary_stop());
        }
        let late = STOPPED.replace("REDO location:    0/5000028", "REDO location:    0/4000028");
        assert!(!ControlData::parse("pg1", &late).unwrap().is_clean_primary_stop());
    }

    #[test]
    fn an_unknown_word_is_an_error_that_names_it() {
        let error = ControlData::parse("pg1", &STOPPED.replace("shut down", "hibernating")).unwrap_err();
        assert_eq!(error.to_string(), "pg1: Database cluster state says `hibernating`, which is not understood");
        assert!(ControlData::parse("pg1", "").is_err());
    }
}
