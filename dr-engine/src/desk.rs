//! Where a run's steps get their providers: everything that the opened groups name, by immutable id.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
};

use async_trait::async_trait;
use dr_core::{
    Cause, GroupName, Notice, Notifier, PositionSample, ProviderError, Providers, Resolved, ResourceKind, ResourceRef,
    RunId, Timestamp,
};

use crate::{
    backends::Bindings,
    journal::{Samples, SqliteJournal},
    runtime::wall,
};

/// The providers of an engine. Opening a group puts its resources here; a plan's bindings find them again by id.
#[derive(Debug)]
pub(crate) struct Desk {
    open: Mutex<BTreeMap<(String, ResourceKind, String), Resolved>>,
    notifiers: Vec<Arc<dyn Notifier>>,
    samples: Samples,
}

impl Desk {
    pub(crate) fn new(samples: Samples, journal: &SqliteJournal, notifiers: Vec<Arc<dyn Notifier>>) -> Self {
        let once = |inner| Arc::new(Once { inner, journal: journal.clone() }) as Arc<dyn Notifier>;
        Self { open: Mutex::default(), notifiers: notifiers.into_iter().map(once).collect(), samples }
    }

    /// Takes in what a group names. What is there already stays: a run may be using it.
    pub(crate) fn put(&self, bindings: &Bindings) {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        for (reference, resolved) in bindings.by_name.values() {
            open.insert(key(reference), resolved.clone());
        }
    }

    pub(crate) fn samples_of(&self) -> &Samples {
        &self.samples
    }
}

fn key(reference: &ResourceRef) -> (String, ResourceKind, String) {
    (reference.provider.clone(), reference.kind, reference.id.to_string())
}

#[async_trait]
impl Providers for Desk {
    async fn resolve(&self, wanted: &ResourceRef) -> Result<Resolved, ProviderError> {
        let open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        open.get(&key(wanted)).cloned().ok_or_else(|| ProviderError::Refused {
            verb: "resolve",
            why: format!("no opened group names {} ({})", wanted.id, wanted.provider),
        })
    }

    fn notifiers(&self) -> Vec<Arc<dyn Notifier>> {
        self.notifiers.clone()
    }

    async fn samples(&self, group: &GroupName, since: Timestamp) -> Result<Vec<PositionSample>, ProviderError> {
        let samples = self.samples.since(group, since).await;
        samples.map_err(|error| ProviderError::unreachable("samples", Cause::chain(&error)))
    }
}

/// A notifier that says each thing once, also across restarts (D32). If that cannot be looked up, it says it again.
#[derive(Debug)]
struct Once {
    inner: Arc<dyn Notifier>,
    journal: SqliteJournal,
}

#[async_trait]
impl Notifier for Once {
    async fn notify(&self, notice: Notice) -> Result<(), ProviderError> {
        let key = self.key(&notice.key);
        if !self.first(&key, &notice.run).await {
            return Ok(());
        }
        self.inner.notify(notice).await
    }
}

impl Once {
    async fn first(&self, key: &str, run: &RunId) -> bool {
        self.journal.first_notice(key, run, wall()).await.unwrap_or(true)
    }

    /// Several notifiers get the same notice: each remembers for itself.
    fn key(&self, notice: &str) -> String {
        format!("{:?} {notice}", self.inner)
    }
}
