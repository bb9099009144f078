//! Position samples, kept beside the journal and outside of the databases being moved, never in the way of an append.

use std::path::Path;

use dr_core::{GroupName, Timestamp, base::canonical, contract::PositionSample, run::SAMPLES_KEPT};
use rusqlite::params;

use crate::store::{OpenError, Schema, Store, StoreError, reserve::Reserve};

/// The samples of all groups, through a connection of their own.
///
/// *Guarantees.* A sample costs the journal no flush: it becomes durable with the journal's next one. While the reserve is
/// given up, none is written: that room is for outcomes.
#[derive(Debug, Clone)]
pub(super) struct Samples {
    store: Store,
    reserve: Reserve,
}

/// Why a sample was not kept.
#[derive(Debug, thiserror::Error)]
pub(super) enum SampleError {
    #[error("no samples are kept while the disk is full")]
    NoRoom,
    #[error("the sample cannot be written as canonical JSON")]
    Form(#[source] canonical::CanonicalError),
    #[error("the samples could not be reached")]
    Store(#[source] StoreError),
}

impl Samples {
    pub(super) fn open(file: &Path, schema: Schema, reserve: Reserve) -> Result<Self, OpenError> {
        Ok(Self { store: Store::open_relaxed(file, schema)?, reserve })
    }

    /// Keeps a sample, and drops those older than [`SAMPLES_KEPT`].
    pub(super) async fn keep(&self, group: &GroupName, sample: &PositionSample) -> Result<(), SampleError> {
        if !self.reserve.is_kept() {
            return Err(SampleError::NoRoom);
        }
        let text = canonical::to_string(sample).map_err(SampleError::Form)?;
        let (name, at) = (group.to_string(), sample.at.millis());
        let oldest = at.saturating_sub(i64::try_from(SAMPLES_KEPT.count()).unwrap_or(i64::MAX));
        let job = move |connection: &mut rusqlite::Connection| {
            let change = connection.transaction_with_behavior(rusqlite::TransactionBehavior::Immediate)?;
            change
                .prepare_cached("INSERT INTO samples (name, at, sample) VALUES (?1, ?2, ?3)")?
                .execute(params![name, at, text])?;
            change.prepare_cached("DELETE FROM samples WHERE name = ?1 AND at < ?2")?.execute(params![name, oldest])?;
            change.commit()
        };
        self.store.call(job).await.map_err(SampleError::Store)
    }

    /// The samples not older than `since`, oldest first. One that this version cannot read is left out: it is not a
    /// smaller gap, only one sample fewer.
    pub(super) async fn since(&self, group: &GroupName, since: Timestamp) -> Result<Vec<PositionSample>, SampleError> {
        let name = group.to_string();
        let job = move |connection: &mut rusqlite::Connection| {
            let mut query = connection
                .prepare_cached("SELECT sample FROM samples WHERE name = ?1 AND at >= ?2 ORDER BY at, number")?;
            query
                .query_map(params![name, since.millis()], |row| row.get::<_, String>(0))?
                .collect::<Result<Vec<_>, _>>()
        };
        let texts = self.store.call(job).await.map_err(SampleError::Store)?;
        Ok(texts.iter().filter_map(|text| serde_json::from_str(text).ok()).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::SqliteJournal;

    fn at(ms: i64) -> PositionSample {
        let at = Timestamp::from_millis(ms);
        PositionSample { primary: None, standby: None, applied: None, lineage: None, lags: Vec::new(), at }
    }

    #[tokio::test]
    async fn samples_are_kept_per_group_in_order_and_for_a_day() {
        let dir = tempfile::tempdir().unwrap();
        let samples = SqliteJournal::open(dir.path()).unwrap().samples;
        let (orders, billing) = (GroupName::new("orders"), GroupName::new("billing"));
        for ms in [1_000, 3_000, 2_000] {
            samples.keep(&orders, &at(ms)).await.unwrap();
        }
        samples.keep(&billing, &at(9_000)).await.unwrap();
        let times = |found: Vec<PositionSample>| found.iter().map(|one| one.at.millis()).collect::<Vec<_>>();
        assert_eq!(times(samples.since(&orders, Timestamp::from_millis(2_000)).await.unwrap()), [2_000, 3_000]);

        samples.keep(&orders, &at(2_000 + 24 * 3_600_000)).await.unwrap();
        assert_eq!(times(samples.since(&orders, Timestamp::from_millis(0)).await.unwrap()), [2_000, 3_000, 86_402_000]);
        assert_eq!(samples.since(&billing, Timestamp::from_millis(0)).await.unwrap().len(), 1);
    }

    #[tokio::test]
    async fn no_sample_takes_the_room_that_was_given_up_for_outcomes() {
        use dr_core::run::Journal as _;
        let dir = tempfile::tempdir().unwrap();
        let journal = SqliteJournal::open(dir.path()).unwrap();
        let samples = journal.samples.clone();
        assert!(journal.use_reserve(&"orders-1".parse().unwrap()).await);
        let refused = samples.keep(&GroupName::new("orders"), &at(1)).await.unwrap_err();
        assert_eq!(refused.to_string(), "no samples are kept while the disk is full");
    }
}
