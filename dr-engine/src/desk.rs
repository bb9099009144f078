//! Where a run's steps get their providers: everything that the opened groups name, by group file and address.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use async_trait::async_trait;
use dr_core::{
    Cause, GroupName, GroupSpec, Notifier, ProviderError, Timestamp,
    base::{Digest, ResourceAddress},
    contract::{Notice, PositionSample, Providers, Resolved, ResourceKind, ResourceRef},
    run::Registry,
};
use tokio::sync::watch;

use crate::{
    backends::Bindings,
    runtime::{forget, wall},
};

/// The providers of an engine. Opening a group puts its resources here; a plan's bindings find them again by the digest of
/// the group file that it was made with: a run goes on with the fences and clients of its own file when another version is opened.
#[derive(Debug)]
pub(crate) struct Desk {
    open: Mutex<BTreeMap<Key, Resolved>>,
    /// Who is told by what a group file says, beside those of the program.
    told: Mutex<BTreeMap<Digest, Vec<Arc<dyn Notifier>>>>,
    registry: Arc<dyn Registry>,
    notifiers: Vec<Arc<dyn Notifier>>,
    /// How many notices are being given.
    telling: watch::Sender<usize>,
}

impl Desk {
    pub(crate) fn new(registry: &Arc<dyn Registry>, notifiers: Vec<Arc<dyn Notifier>>) -> Self {
        let notifiers = notifiers.into_iter().enumerate();
        let telling = watch::Sender::new(0);
        let once = |(place, inner): (usize, _)| Once::of(inner, place.to_string(), registry, &telling);
        Self {
            open: Mutex::default(),
            told: Mutex::default(),
            registry: Arc::clone(registry),
            notifiers: notifiers.map(once).collect(),
            telling,
        }
    }

    /// Takes in what a group file names. Each plan and each resumed run gets providers of its own, which remember nothing of an earlier
    /// run; one that goes on keeps those that it has.
    pub(crate) fn put(&self, group: &GroupSpec, bindings: &Bindings) {
        // A file that has no digest makes no plan, so nothing asks for what it names.
        let Ok(group) = group.digest() else { return };
        let told = bindings.notifiers.iter().enumerate();
        let told = told
            .map(|(place, inner)| Once::of(Arc::clone(inner), format!("group {place}"), &self.registry, &self.telling));
        self.told.lock().unwrap_or_else(PoisonError::into_inner).insert(group, told.collect());
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        for (reference, resolved) in bindings.by_name.values() {
            open.insert(key(group, reference), resolved.clone());
        }
    }

    /// Completes when no notice is being given.
    pub(crate) async fn all_told(&self) {
        // An error means that nobody can tell any more.
        let _told = self.telling.subscribe().wait_for(|now| *now == 0).await.is_ok();
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
        let samples = self.registry.samples(group, since).await;
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
    registry: Arc<dyn Registry>,
    telling: watch::Sender<usize>,
}

/// One notice that is being given: counted until it is dropped.
struct Counted(watch::Sender<usize>);

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.send_modify(|now| *now = now.saturating_sub(1));
    }
}

impl Once {
    fn of(
        inner: Arc<dyn Notifier>,
        place: String,
        registry: &Arc<dyn Registry>,
        telling: &watch::Sender<usize>,
    ) -> Arc<dyn Notifier> {
        Arc::new(Self { inner, place, registry: Arc::clone(registry), telling: telling.clone() })
    }
}

#[async_trait]
impl Notifier for Once {
    /// A step waits for two seconds and a mail takes longer, so the attempt has a task of its own: it goes on when nobody waits any more.
    async fn notify(&self, notice: Notice) -> Result<(), ProviderError> {
        self.telling.send_modify(|now| *now = now.saturating_add(1));
        let counted = Counted(self.telling.clone());
        let key = format!("{} {}", self.place, notice.key);
        let (inner, registry) = (Arc::clone(&self.inner), Arc::clone(&self.registry));
        let attempt = tokio::spawn(async move {
            let _counted = counted;
            if registry.was_told(&key).await.unwrap_or(false) {
                return Ok(());
            }
            let run = notice.run.clone();
            match tokio::time::timeout(PATIENCE, inner.notify(notice)).await {
                Ok(answer) => answer?,
                Err(_) => return Err(ProviderError::unreachable("notify", "no answer within 1 min")),
            }
            // A record that cannot be kept means one notice too many, never one too few.
            let _kept = registry.told(&key, &run, wall()).await.is_ok();
            Ok(())
        });
        attempt.await.unwrap_or_else(|failed| {
            forget(failed);
            Err(ProviderError::unreachable("notify", "the notifier failed"))
        })
    }

    fn closes(&self) -> bool {
        self.inner.closes()
    }
}

/// How long one attempt may take, whatever the notifier's own limit is.
const PATIENCE: Duration = Duration::from_secs(60);

#[cfg(test)]
mod tests {
    use dr_core::RunId;

    use super::*;

    fn registry(dir: &std::path::Path) -> Arc<dyn Registry> {
        Arc::new(crate::SqliteJournal::open(dir).unwrap())
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
        let registry = registry(dir.path());
        let bells = [Arc::new(Bell::default()), Arc::new(Bell::default())];
        *bells[0].fails.lock().unwrap() = 1;
        let all = bells.iter().map(|bell| Arc::clone(bell) as Arc<dyn Notifier>).collect();
        let desk = Desk::new(&registry, all);
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

    /// A mail that took longer than a step waits was cut off, and so was every notice of the end of a run: nobody was told.
    #[tokio::test]
    async fn bug_a_notice_that_nobody_waits_for_is_given_all_the_same() {
        #[derive(Debug)]
        struct Slow(tokio::sync::Semaphore, Bell);
        #[async_trait]
        impl Notifier for Slow {
            async fn notify(&self, notice: Notice) -> Result<(), ProviderError> {
                drop(self.0.acquire().await.unwrap());
                self.1.notify(notice).await
            }
        }
        let dir = tempfile::tempdir().unwrap();
        let registry = registry(dir.path());
        let slow = Arc::new(Slow(tokio::sync::Semaphore::new(0), Bell::default()));
        let told: Arc<dyn Notifier> = Arc::<Slow>::clone(&slow);
        let all = vec![told];
        let desk = Desk::new(&registry, all);
        let run = RunId::new(GroupName::new("orders"), 1);
        let occasion = dr_core::contract::Occasion::EndedWell;
        let notice = Notice { key: "k".into(), run, urgent: false, occasion, text: "over".into() };
        let notifier = desk.notifiers(Digest::zero()).remove(0);
        {
            let mut told = std::pin::pin!(notifier.notify(notice));
            let once = std::future::poll_fn(|cx| std::task::Poll::Ready(told.as_mut().poll(cx).is_pending()));
            assert!(once.await, "it is slow");
        }
        assert!(slow.1.rings.lock().unwrap().is_empty());
        slow.0.add_permits(1);
        desk.all_told().await;
        assert_eq!(slow.1.rings.lock().unwrap().as_slice(), ["over"]);
    }

    /// A group file was edited while a run of its older version was about to begin: the run then held the fences of the new one.
    #[tokio::test]
    async fn bug_an_edited_group_file_does_not_replace_what_a_run_holds() {
        let dir = tempfile::tempdir().unwrap();
        let registry = registry(dir.path());
        let desk = Desk::new(&registry, Vec::new());
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
