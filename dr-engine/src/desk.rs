//! Where a run's steps get their providers: everything that the opened groups name, by group file and address.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
};

use async_trait::async_trait;
use dr_core::{
    Cause, GroupName, GroupSpec, Notifier, ProviderError, Timestamp,
    base::{Digest, ResourceAddress},
    contract::{Notice, PositionSample, Providers, Resolved, ResourceKind, ResourceRef},
};

use crate::{
    backends::Bindings,
    journal::{Samples, SqliteJournal},
    runtime::wall,
};

/// The providers of an engine. Opening a group puts its resources here; a plan's bindings find them again by the digest of
/// the group file that it was made with: a run goes on with the fences and clients of its own file when another version is opened.
#[derive(Debug)]
pub(crate) struct Desk {
    open: Mutex<BTreeMap<Key, Resolved>>,
    /// Who is told by what a group file says, beside those of the program.
    told: Mutex<BTreeMap<Digest, Vec<Arc<dyn Notifier>>>>,
    journal: SqliteJournal,
    notifiers: Vec<Arc<dyn Notifier>>,
    samples: Samples,
}

impl Desk {
    pub(crate) fn new(samples: Samples, journal: &SqliteJournal, notifiers: Vec<Arc<dyn Notifier>>) -> Self {
        let notifiers = notifiers.into_iter().enumerate();
        let once = |(place, inner): (usize, _)| Once::of(inner, place.to_string(), journal);
        Self {
            open: Mutex::default(),
            told: Mutex::default(),
            journal: journal.clone(),
            notifiers: notifiers.map(once).collect(),
            samples,
        }
    }

    /// Takes in what a group file names. Each plan and each resumed run gets providers of its own, which remember nothing of an earlier
    /// run; one that goes on keeps those that it has.
    pub(crate) fn put(&self, group: &GroupSpec, bindings: &Bindings) {
        // A file that has no digest makes no plan, so nothing asks for what it names.
        let Ok(group) = group.digest() else { return };
        let told = bindings.notifiers.iter().enumerate();
        let told = told.map(|(place, inner)| Once::of(Arc::clone(inner), format!("group {place}"), &self.journal));
        self.told.lock().unwrap_or_else(PoisonError::into_inner).insert(group, told.collect());
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        for (reference, resolved) in bindings.by_name.values() {
            open.insert(key(group, reference), resolved.clone());
        }
    }

    pub(crate) fn samples_of(&self) -> &Samples {
        &self.samples
    }
}

/// What tells two opened resources apart.
type Key = (Digest, String, ResourceKind, ResourceAddress);

fn key(group: Digest, reference: &ResourceRef) -> Key {
    (group, reference.provider.clone(), reference.kind, reference.address.clone())
}

#[async_trait]
impl Providers for Desk {
    async fn resolve(&self, group: Digest, wanted: &ResourceRef) -> Result<Resolved, ProviderError> {
        let open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        open.get(&key(group, wanted)).cloned().ok_or_else(|| ProviderError::Refused {
            verb: "resolve",
            why: format!("no opened group names {} ({})", wanted.address, wanted.provider),
        })
    }

    fn notifiers(&self, group: Digest) -> Vec<Arc<dyn Notifier>> {
        let told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        self.notifiers.iter().chain(told.get(&group).into_iter().flatten()).cloned().collect()
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
    /// Several notifiers get the same notice: each is known by its place in its list.
    place: String,
    journal: SqliteJournal,
}

impl Once {
    fn of(inner: Arc<dyn Notifier>, place: String, journal: &SqliteJournal) -> Arc<dyn Notifier> {
        Arc::new(Self { inner, place, journal: journal.clone() })
    }
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
            for notifier in desk.notifiers(Digest::zero()) {
                let (occasion, text) = (dr_core::contract::Occasion::Parked, "parked".into());
                let notice = Notice { key: "k".into(), run: run.clone(), urgent: true, occasion, text };
                let _may_fail = notifier.notify(notice).await;
            }
        }
        let rings: Vec<usize> = bells.iter().map(|bell| bell.rings.lock().unwrap().len()).collect();
        assert_eq!(rings, [1, 1]);
    }

    /// A group file was edited while a run of its older version was about to begin: the run then held the fences of the new one.
    #[tokio::test]
    async fn bug_an_edited_group_file_does_not_replace_what_a_run_holds() {
        let dir = tempfile::tempdir().unwrap();
        let journal = SqliteJournal::open(dir.path()).unwrap();
        let desk = Desk::new(journal.samples().unwrap(), &journal, Vec::new());
        let cloud = dr_testkit::SimCloud::new(
            dr_testkit::Setup::pair("orders", "neu", "weu"),
            Arc::new(crate::TokioRuntime::current().unwrap()),
        );
        let older = cloud.group().unwrap();
        let mut newer = older.clone();
        newer.limits.gap_budget = newer.limits.gap_budget.saturating_sub(dr_core::Millis::seconds(1));
        let wanted = cloud.member_ref("neu");
        let mut opened = Vec::new();
        for spec in [&older, &newer] {
            let resolved = cloud.providers().resolve(spec.digest().unwrap(), &wanted).await.unwrap();
            let Resolved::Member(member) = &resolved else { continue };
            opened.push(Arc::clone(&member.database));
            let by_name = BTreeMap::from([("neu".into(), (wanted.clone(), resolved))]);
            desk.put(spec, &Bindings { by_name, notifiers: Vec::new() });
        }
        for (spec, database) in [(&older, 0), (&newer, 1)] {
            let found = desk.resolve(spec.digest().unwrap(), &wanted).await.unwrap();
            assert!(matches!(found, Resolved::Member(member) if Arc::ptr_eq(&member.database, &opened[database])));
        }
    }
}
