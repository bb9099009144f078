//! What stands beside the runs, in memory.

use std::collections::{BTreeMap, BTreeSet};

use async_trait::async_trait;
use dr_core::{
    GroupName, RunId, Timestamp,
    base::Digest,
    contract::PositionSample,
    run::{Closed, DebtId, JournalError, KeptGroup, LastWriter, Registry, SAMPLES_KEPT},
};

use super::VolatileStore;

#[derive(Debug, Default)]
pub(super) struct Beside {
    groups: BTreeMap<String, KeptGroup>,
    writers: BTreeMap<GroupName, LastWriter>,
    samples: BTreeMap<GroupName, Vec<PositionSample>>,
    told: BTreeSet<String>,
    closed: BTreeMap<String, Closed>,
}

#[async_trait]
impl Registry for VolatileStore {
    async fn keep_group(&self, group: &KeptGroup) -> Result<(), JournalError> {
        let failed = |source| JournalError::Store {
            doing: format!("keep the group {}", group.spec.name),
            full: false,
            source: Box::new(source),
        };
        let digest = group.spec.digest().map_err(failed)?.hex();
        let mut shelf = self.shelf();
        if shelf.beside.groups.get(&digest).is_none_or(|kept| kept.at <= group.at) {
            shelf.beside.groups.insert(digest, group.clone());
        }
        Ok(())
    }

    async fn group(&self, digest: Digest) -> Result<Option<KeptGroup>, JournalError> {
        Ok(self.shelf().beside.groups.get(&digest.hex()).cloned())
    }

    async fn group_files(&self) -> Result<Vec<(GroupName, String)>, JournalError> {
        let mut newest: BTreeMap<GroupName, KeptGroup> = BTreeMap::new();
        for group in self.shelf().beside.groups.values() {
            if newest.get(&group.spec.name).is_none_or(|kept| kept.at <= group.at) {
                newest.insert(group.spec.name.clone(), group.clone());
            }
        }
        Ok(newest.into_iter().map(|(name, group)| (name, group.file)).collect())
    }

    async fn saw_writer(&self, group: &GroupName, seen: &LastWriter) -> Result<(), JournalError> {
        let mut shelf = self.shelf();
        if shelf.beside.writers.get(group).is_none_or(|known| known.at <= seen.at) {
            shelf.beside.writers.insert(group.clone(), seen.clone());
        }
        Ok(())
    }

    async fn last_writer(&self, group: &GroupName) -> Result<Option<LastWriter>, JournalError> {
        Ok(self.shelf().beside.writers.get(group).cloned())
    }

    async fn keep_sample(&self, group: &GroupName, sample: &PositionSample) -> Result<(), JournalError> {
        let mut shelf = self.shelf();
        let samples = shelf.beside.samples.entry(group.clone()).or_default();
        samples.retain(|kept| sample.at.since(kept.at) <= SAMPLES_KEPT);
        let place = samples.partition_point(|kept| kept.at <= sample.at);
        samples.insert(place, sample.clone());
        Ok(())
    }

    async fn samples(&self, group: &GroupName, since: Timestamp) -> Result<Vec<PositionSample>, JournalError> {
        let shelf = self.shelf();
        let samples = shelf.beside.samples.get(group).into_iter().flatten();
        Ok(samples.filter(|sample| sample.at >= since).cloned().collect())
    }

    async fn told(&self, key: &str, _: &RunId, _: Timestamp) -> Result<(), JournalError> {
        self.shelf().beside.told.insert(key.to_owned());
        Ok(())
    }

    async fn was_told(&self, key: &str) -> Result<bool, JournalError> {
        Ok(self.shelf().beside.told.contains(key))
    }

    async fn close_debt(&self, id: &DebtId, closed: &Closed) -> Result<(), JournalError> {
        self.shelf().beside.closed.entry(id.to_string()).or_insert_with(|| closed.clone());
        Ok(())
    }

    async fn closed_debts(&self) -> Result<Vec<Closed>, JournalError> {
        Ok(self.shelf().beside.closed.values().cloned().collect())
    }
}
