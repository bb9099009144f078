//! Where a run's steps get their providers: everything that the opened groups name, by immutable id.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
};

use async_trait::async_trait;
use dr_core::{
    Cause, GroupName, Notice, Notifier, PositionSample, ProviderError, Providers, Resolved, ResourceKind, ResourceRef,
    Timestamp,
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
        let once = |(place, inner)| Arc::new(Once { inner, place, journal: journal.clone() }) as Arc<dyn Notifier>;
        Self { open: Mutex::default(), notifiers: notifiers.into_iter().enumerate().map(once).collect(), samples }
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

/// A notifier that says each thing at least once, and not again once it was heard, also across restarts (D32). What failed is said again
/// by whoever has it to say next; if the record cannot be looked up, too.
#[derive(Debug)]
struct Once {
    inner: Arc<dyn Notifier>,
    /// Several notifiers get the same notice: each is known by its place in the list.
    place: usize,
    journal: SqliteJournal,
}

#[async_trait]
impl Notifier for Once {
    async fn notify(&self, notice: Notice) -> Result<(), ProviderError> {
        let key = format!("{} {}", self.place, notice.key);
        if self.journal.was_told(&key).await.unwrap_or(false) {
            return Ok(());
        }
        let run = notice.run.clone();
        self.inner.notify(notice).await?;
        // A record that cannot be kept means one notice too many, never one too few.
        let _kept = self.journal.told(&key, &run, wall()).await.is_ok();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use dr_core::RunId;

    use super::*;

    #[derive(Debug, Default)]
    struct Bell {
        fails: Mutex<u32>,
        rings: Mutex<Vec<String>>,
    }

    #[async_trait]
    impl Notifier for Bell {
        async fn notify(&self, notice: Notice) -> Result<(), ProviderError> {
            let mut fails = self.fails.lock().unwrap();
            if *fails > 0 {
                *fails -= 1;
                return Err(ProviderError::unreachable("notify", "the wire is cut"));
            }
            self.rings.lock().unwrap().push(notice.text);
            Ok(())
        }
    }

    /// A notice was marked as given before it was: one that failed was never given again. And a notifier was known by what `Debug`
    /// printed of it, which stood in the journal and changed with its state.
    #[tokio::test]
    async fn bug_a_notice_that_failed_is_given_again_and_then_once() {
        let dir = tempfile::tempdir().unwrap();
        let journal = SqliteJournal::open(dir.path()).unwrap();
        let bells = [Arc::new(Bell::default()), Arc::new(Bell::default())];
        *bells[0].fails.lock().unwrap() = 1;
        let samples = journal.samples().unwrap();
        let all = bells.iter().map(|bell| Arc::clone(bell) as Arc<dyn Notifier>).collect();
        let desk = Desk::new(samples, &journal, all);
        let run = RunId::new(GroupName::new("orders"), 1);
        for _ in 0..3 {
            for notifier in desk.notifiers() {
                let notice = Notice { key: "k".into(), run: run.clone(), urgent: true, text: "parked".into() };
                let _may_fail = notifier.notify(notice).await;
            }
        }
        let rings: Vec<usize> = bells.iter().map(|bell| bell.rings.lock().unwrap().len()).collect();
        assert_eq!(rings, [1, 1]);
    }
}
