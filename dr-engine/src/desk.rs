//! Where a run's steps get their providers: everything that the group of its plan names, by immutable id.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use async_trait::async_trait;
use dr_core::{
    Cause, Digest, GroupName, Notice, Notifier, PositionSample, ProviderError, Providers, Resolved, ResourceRef,
    Timestamp,
};

use crate::{
    backends::Bindings,
    journal::{Samples, SqliteJournal},
    runtime::wall,
};

/// The providers of an engine, by the group file that they were opened from.
#[derive(Debug)]
pub(crate) struct Desk {
    open: Mutex<BTreeMap<Digest, Bindings>>,
    notifiers: Vec<Arc<dyn Notifier>>,
    samples: Samples,
}

impl Desk {
    pub(crate) fn new(samples: Samples, journal: &SqliteJournal, notifiers: Vec<Arc<dyn Notifier>>) -> Self {
        let once = |(place, inner)| Arc::new(Once { inner, place, journal: journal.clone() }) as Arc<dyn Notifier>;
        Self { open: Mutex::default(), notifiers: notifiers.into_iter().enumerate().map(once).collect(), samples }
    }

    /// Takes in what the group of this digest names. What is there already stays: a run may be using it.
    pub(crate) fn put(&self, group: Digest, bindings: Bindings) {
        self.lock().entry(group).or_insert(bindings);
    }

    /// The providers for plans that were made from the group of this digest. An edited file of the same group is another group: it may
    /// list other fences for the same member.
    pub(crate) fn of(self: &Arc<Self>, group: Digest) -> Arc<dyn Providers> {
        Arc::new(OfGroup { desk: Arc::clone(self), group })
    }

    pub(crate) fn samples_of(&self) -> &Samples {
        &self.samples
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<Digest, Bindings>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What one group names, for the plans that were made from it.
#[derive(Debug)]
struct OfGroup {
    desk: Arc<Desk>,
    group: Digest,
}

#[async_trait]
impl Providers for OfGroup {
    async fn resolve(&self, wanted: &ResourceRef) -> Result<Resolved, ProviderError> {
        let same = |(reference, _): &&(ResourceRef, Resolved)| {
            reference.provider == wanted.provider && reference.kind == wanted.kind && reference.id == wanted.id
        };
        let open = self.desk.lock();
        let found = open.get(&self.group).and_then(|bindings| bindings.by_name.values().find(same));
        found.map(|(_, resolved)| resolved.clone()).ok_or_else(|| ProviderError::Refused {
            verb: "resolve",
            why: format!("the group of the plan does not name {} ({})", wanted.id, wanted.provider),
        })
    }

    fn notifiers(&self) -> Vec<Arc<dyn Notifier>> {
        self.desk.notifiers.clone()
    }

    async fn samples(&self, group: &GroupName, since: Timestamp) -> Result<Vec<PositionSample>, ProviderError> {
        let samples = self.desk.samples.since(group, since).await;
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
    use dr_core::{AppTier, RunId};
    use dr_testkit::{Setup, SimCloud, VirtualRuntime};

    use super::*;

    /// Providers were found by resource alone: whoever planned an edited group file replaced what a run of the older one bound a moment
    /// later, its fences among them.
    #[tokio::test]
    async fn bug_an_edited_group_file_changes_nothing_for_a_plan_of_the_older_one() {
        let dir = tempfile::tempdir().unwrap();
        let journal = SqliteJournal::open(dir.path()).unwrap();
        let desk = Arc::new(Desk::new(journal.samples().unwrap(), &journal, Vec::new()));
        let clouds = [(); 3].map(|()| SimCloud::new(Setup::pair("g", "a", "b"), Arc::new(VirtualRuntime::new())));
        let wanted = clouds[0].app_ref();
        let mut tiers: Vec<Arc<dyn AppTier>> = Vec::new();
        for cloud in &clouds {
            let Resolved::App(tier) = cloud.providers().resolve(&wanted).await.unwrap() else { panic!("no app tier") };
            tiers.push(tier);
        }
        let [older, edited] = [[1; 32], [2; 32]].map(Digest::new);
        for (group, tier) in [(older, &tiers[0]), (edited, &tiers[1]), (older, &tiers[2])] {
            let bound = (wanted.clone(), Resolved::App(Arc::clone(tier)));
            desk.put(group, Bindings { by_name: [("app".to_owned(), bound)].into() });
        }
        for (group, tier) in [(older, &tiers[0]), (edited, &tiers[1])] {
            let Resolved::App(found) = desk.of(group).resolve(&wanted).await.unwrap() else { panic!("no app tier") };
            assert!(Arc::ptr_eq(&found, tier), "{group}");
        }
        let nobody = desk.of(Digest::zero()).resolve(&wanted).await.unwrap_err();
        assert!(nobody.to_string().contains("the group of the plan does not name"), "{nobody}");
    }

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
        let desk = Arc::new(Desk::new(samples, &journal, all)).of(Digest::zero());
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
