//! The stores of this crate, and many wrong ones, held to what every store promises.
#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::wildcard_enum_match_arm,
    reason = "tests; a mistake changes few calls"
)]

use std::{
    collections::BTreeMap,
    path::PathBuf,
    sync::{Arc, Mutex},
    time::Duration,
};

use async_trait::async_trait;
use dr_core::{
    GroupName, RunId, Timestamp,
    base::{Digest, Epoch, ResourceAddress},
    contract::PositionSample,
    run::{
        Closed, DebtId, Head, InboxRow, Journal, JournalError, KeptGroup, LastWriter, Lease, LeaseError, LeaseRequest,
        LeaseStore, Line, Registry, Store,
    },
};
use dr_engine::{FileLeases, SqliteJournal, TokioRuntime, VolatileStore};
use dr_testkit::stores::{Damage, Place, Report, Subject, hold_to};
use tempfile::TempDir;

const TERM: Duration = Duration::from_millis(200);

/// The files of a host.
struct Files;

struct InFiles(TempDir);

#[async_trait]
impl Subject for Files {
    async fn fresh(&self) -> Result<Box<dyn Place>, String> {
        Ok(Box::new(InFiles(tempfile::tempdir().map_err(|error| error.to_string())?)))
    }

    fn term(&self) -> Duration {
        TERM
    }
}

#[async_trait]
impl Place for InFiles {
    async fn open(&self) -> Result<Store, String> {
        let dir: PathBuf = self.0.path().into();
        let journal = Arc::new(SqliteJournal::open(&dir).map_err(|error| error.to_string())?);
        let leases = FileLeases::open(dir.join("leases")).map_err(|error| error.to_string())?;
        let leases = Arc::new(leases.for_journal(&dir).lasting(TERM));
        Ok(Store { journal: Arc::<SqliteJournal>::clone(&journal), leases, registry: journal })
    }

    async fn damage(&self, run: &RunId, how: &Damage) -> bool {
        let file = rusqlite::Connection::open(self.0.path().join("journal.db")).unwrap();
        let run = run.to_string();
        let changed = match how {
            Damage::Edits(seq, text) => file.execute(
                "UPDATE lines SET text = ?3 WHERE run = ?1 AND seq = ?2",
                rusqlite::params![run, *seq as i64, text],
            ),
            Damage::Loses(seq) => {
                file.execute("DELETE FROM lines WHERE run = ?1 AND seq = ?2", rusqlite::params![run, *seq as i64])
            }
        };
        changed.unwrap() == 1
    }
}

/// Memory.
struct Volatile;

struct InMemory(VolatileStore);

#[async_trait]
impl Subject for Volatile {
    async fn fresh(&self) -> Result<Box<dyn Place>, String> {
        Ok(Box::new(InMemory(VolatileStore::new().lasting(TERM))))
    }

    fn term(&self) -> Duration {
        TERM
    }
}

#[async_trait]
impl Place for InMemory {
    async fn open(&self) -> Result<Store, String> {
        Ok(self.0.clone().into())
    }

    async fn damage(&self, _: &RunId, _: &Damage) -> bool {
        false
    }
}

async fn held(subject: &dyn Subject) -> Report {
    hold_to(subject, Arc::new(TokioRuntime::current().unwrap())).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_files_of_a_host_keep_every_promise() {
    let report = held(&Files).await;
    assert!(report.failed().is_empty() && report.skipped().is_empty(), "{report}");
    assert_eq!(report.held(), PROMISES);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_volatile_store_keeps_every_promise_that_can_be_tried() {
    let report = held(&Volatile).await;
    assert!(report.failed().is_empty(), "{report}");
    assert_eq!(report.skipped(), ["damage_is_found_and_nothing_shorter_is_read"]);
}

/// A mistake that the author of a store may make, and the trial that finds it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Wrong {
    CreatesOver,
    ListsByName,
    AppendsUnderAnyEpoch,
    SkipsAhead,
    AppendsInParts,
    RaisesToAnyEpoch,
    ForgetsTheEpoch,
    ReadsNothingOfTheUnknown,
    ReadsAll,
    ReadsShort,
    SealsNothing,
    KeepsEachRequest,
    NeverWakes,
    SharesAResource,
    TakesInPart,
    NamesTheAsker,
    NeverFrees,
    StartsEpochsAgain,
    PromisesNothing,
    TakesFromItself,
    TakesFromOthers,
    WaitsForNobody,
    RenewsTheLost,
    RefusesToForget,
    GivesBackWhatIsNotItsOwn,
    CallsAllDriven,
    KeepsTheFirstFile,
    KeepsTheLastWord,
    BelievesTheLastSight,
    TellsTwice,
    MixesSamples,
    KeepsAnHour,
    LosesRaces,
    MissesTheMark,
}

/// Every mistake, with the only trial that it fails.
const MISTAKES: &[(Wrong, &str)] = &[
    (Wrong::CreatesOver, "a_run_is_created_once"),
    (Wrong::ListsByName, "runs_are_listed_in_the_order_of_their_creation"),
    (Wrong::AppendsUnderAnyEpoch, "an_append_under_another_epoch_is_fenced"),
    (Wrong::SkipsAhead, "an_append_at_another_end_conflicts"),
    (Wrong::AppendsInParts, "an_append_is_all_or_nothing"),
    (Wrong::RaisesToAnyEpoch, "a_take_over_needs_a_larger_epoch"),
    (Wrong::ForgetsTheEpoch, "the_epoch_is_the_one_that_may_append"),
    (Wrong::ReadsNothingOfTheUnknown, "what_does_not_exist_is_unknown"),
    (Wrong::ReadsAll, "a_read_answers_what_follows"),
    (Wrong::ReadsShort, "damage_is_found_and_nothing_shorter_is_read"),
    (Wrong::SealsNothing, "only_what_is_there_is_sealed"),
    (Wrong::KeepsEachRequest, "a_request_is_kept_once_and_in_order"),
    (Wrong::NeverWakes, "news_of_another_process_wakes"),
    (Wrong::SharesAResource, "one_shared_resource_refuses_the_whole_request"),
    (Wrong::TakesInPart, "one_shared_resource_refuses_the_whole_request"),
    (Wrong::NamesTheAsker, "the_refusal_names_the_holder"),
    (Wrong::NeverFrees, "what_was_given_back_is_free"),
    (Wrong::StartsEpochsAgain, "an_epoch_is_larger_than_every_earlier_one"),
    (Wrong::PromisesNothing, "a_renewal_tells_how_long_it_lasts"),
    (Wrong::TakesFromItself, "the_same_run_is_refused_while_its_holder_lives"),
    (Wrong::TakesFromOthers, "a_take_over_never_takes_from_another_run"),
    (Wrong::WaitsForNobody, "a_take_over_waits_for_what_was_promised"),
    (Wrong::RenewsTheLost, "a_holder_that_was_taken_over_learns_it"),
    (Wrong::RefusesToForget, "a_lost_lease_gives_nothing_back"),
    (Wrong::GivesBackWhatIsNotItsOwn, "a_lost_lease_gives_nothing_back"),
    (Wrong::CallsAllDriven, "a_run_is_driven_as_long_as_its_holder_lives"),
    (Wrong::KeepsTheFirstFile, "the_newest_file_of_a_group_counts"),
    (Wrong::KeepsTheLastWord, "the_first_word_on_a_debt_counts"),
    (Wrong::BelievesTheLastSight, "the_latest_sight_of_a_writer_counts"),
    (Wrong::TellsTwice, "a_notice_is_remembered"),
    (Wrong::MixesSamples, "samples_come_in_order_and_per_group"),
    (Wrong::KeepsAnHour, "samples_are_kept_for_a_day"),
    (Wrong::LosesRaces, "of_appends_at_one_end_one_is_stored"),
    (Wrong::MissesTheMark, "news_between_the_mark_and_the_wait_is_not_missed"),
];

const PROMISES: usize = 38;

/// A right store with one mistake.
#[derive(Clone, Debug)]
struct Mistaken {
    wrong: Wrong,
    inner: Store,
    /// Shared by all handles: what was granted last of each resource, and what people said last.
    seen: Arc<Mutex<Seen>>,
}

#[derive(Debug, Default)]
struct Seen {
    granted: BTreeMap<ResourceAddress, Lease>,
    words: BTreeMap<String, Closed>,
    sights: BTreeMap<GroupName, LastWriter>,
    epochs: BTreeMap<RunId, Epoch>,
}

impl Mistaken {
    fn is(&self, wrong: Wrong) -> bool {
        self.wrong == wrong
    }

    fn seen(&self) -> std::sync::MutexGuard<'_, Seen> {
        self.seen.lock().unwrap()
    }

    fn granted(&self, key: &ResourceAddress) -> Option<Lease> {
        self.seen().granted.get(key).cloned()
    }

    async fn take(&self, request: LeaseRequest) -> Result<Lease, LeaseError> {
        let lease = self.inner.leases.acquire(request).await?;
        for key in &lease.keys {
            self.seen().granted.insert(key.clone(), lease.clone());
        }
        Ok(lease)
    }

    /// Takes the resource from its holder first.
    async fn rob(&self, key: &ResourceAddress, request: LeaseRequest) -> Result<Lease, LeaseError> {
        if let Some(lease) = self.granted(key) {
            self.inner.leases.release(&lease).await?;
        }
        self.take(request).await
    }
}

#[async_trait]
impl Journal for Mistaken {
    async fn create(&self, run: &RunId, epoch: Epoch, lines: Vec<Line>) -> Result<Head, JournalError> {
        let made = self.inner.journal.create(run, epoch, lines).await;
        self.seen().epochs.entry(run.clone()).or_insert(epoch);
        match made {
            Err(JournalError::Conflict { .. }) if self.is(Wrong::CreatesOver) => Ok(Head::EMPTY),
            other => other,
        }
    }

    async fn take_over(&self, run: &RunId, epoch: Epoch) -> Result<(), JournalError> {
        match self.inner.journal.take_over(run, epoch).await {
            Err(JournalError::Fenced { .. }) if self.is(Wrong::RaisesToAnyEpoch) => Ok(()),
            other => other,
        }
    }

    async fn epoch(&self, run: &RunId) -> Result<Epoch, JournalError> {
        let epoch = self.inner.journal.epoch(run).await?;
        let first = self.seen().epochs.get(run).copied();
        Ok(first.filter(|_| self.is(Wrong::ForgetsTheEpoch)).unwrap_or(epoch))
    }

    async fn append(&self, run: &RunId, epoch: Epoch, expected: u64, lines: Vec<Line>) -> Result<Head, JournalError> {
        let said = self.inner.journal.append(run, epoch, expected, lines.clone()).await;
        match said {
            Err(JournalError::Fenced { held, .. }) if self.is(Wrong::AppendsUnderAnyEpoch) => {
                self.inner.journal.append(run, held, expected, lines).await
            }
            Err(JournalError::Conflict { found, .. }) if self.is(Wrong::SkipsAhead) && expected > found => {
                Ok(Head::EMPTY)
            }
            Err(JournalError::Conflict { found: 4, .. }) if self.is(Wrong::LosesRaces) => Ok(Head::EMPTY),
            Err(error @ JournalError::Corrupt { .. }) if self.is(Wrong::AppendsInParts) && lines.len() > 1 => {
                self.inner.journal.append(run, epoch, expected, lines[..1].to_vec()).await?;
                Err(error)
            }
            other => other,
        }
    }

    async fn seal(&self, run: &RunId, seq: u64) -> Result<(), JournalError> {
        if self.is(Wrong::SealsNothing) { Ok(()) } else { self.inner.journal.seal(run, seq).await }
    }

    async fn use_reserve(&self, run: &RunId) -> bool {
        self.inner.journal.use_reserve(run).await
    }

    async fn read(&self, run: &RunId, from: u64) -> Result<Vec<Line>, JournalError> {
        let from = if self.is(Wrong::ReadsAll) && from == 1 { 0 } else { from };
        match self.inner.journal.read(run, from).await {
            Err(JournalError::Unknown(_)) if self.is(Wrong::ReadsNothingOfTheUnknown) => Ok(Vec::new()),
            Err(JournalError::Corrupt { .. }) if self.is(Wrong::ReadsShort) => Ok(Vec::new()),
            other => other,
        }
    }

    async fn runs(&self) -> Result<Vec<RunId>, JournalError> {
        let mut runs = self.inner.journal.runs().await?;
        if self.is(Wrong::ListsByName) {
            runs.sort_by_key(ToString::to_string);
        }
        Ok(runs)
    }

    async fn post(&self, run: &RunId, mut row: InboxRow) -> Result<(), JournalError> {
        if self.is(Wrong::KeepsEachRequest) {
            let earlier = self.inner.journal.inbox(run).await.unwrap_or_default();
            while earlier.iter().any(|one| one.id == row.id) {
                row.id.push('\'');
            }
        }
        self.inner.journal.post(run, row).await
    }

    async fn inbox(&self, run: &RunId) -> Result<Vec<InboxRow>, JournalError> {
        self.inner.journal.inbox(run).await
    }

    fn mark(&self, run: &RunId) -> u64 {
        self.inner.journal.mark(run)
    }

    async fn changed(&self, run: &RunId, since: u64) {
        if self.is(Wrong::MissesTheMark) {
            return self.inner.journal.changed(run, self.mark(run)).await;
        }
        // What was changed before it was asked is seen; nothing else ever.
        if self.is(Wrong::NeverWakes) && self.mark(run) == since {
            std::future::pending::<()>().await;
        }
        self.inner.journal.changed(run, since).await;
    }
}

#[async_trait]
impl LeaseStore for Mistaken {
    async fn acquire(&self, request: LeaseRequest) -> Result<Lease, LeaseError> {
        let mut request = request;
        if self.is(Wrong::StartsEpochsAgain) {
            request.above = Epoch::new(0);
        }
        if self.is(Wrong::WaitsForNobody) && request.take_over {
            let held = request.keys.first().and_then(|key| self.granted(key)).filter(|held| held.run == request.run);
            if let Some(held) = held {
                self.inner.leases.release(&held).await?;
            }
        }
        let said = self.take(request.clone()).await;
        let Err(LeaseError::Busy { key, run, holder, since }) = said else { return said };
        let busy = LeaseError::Busy { key: key.clone(), run: run.clone(), holder, since };
        let others: Vec<ResourceAddress> = request.keys.iter().filter(|one| **one != key).cloned().collect();
        let alone = request.keys.len() == 1;
        match self.wrong {
            Wrong::SharesAResource if others.first().is_some_and(|one| one.as_str() == "aaa") => {
                self.take(LeaseRequest { keys: others, ..request }).await
            }
            Wrong::TakesInPart if others.first().is_some_and(|one| one.as_str() == "aaa") => {
                self.take(LeaseRequest { keys: others, ..request }).await?;
                Err(busy)
            }
            Wrong::NamesTheAsker => {
                Err(LeaseError::Busy { key, run: request.run, holder: request.holder, since: request.at })
            }
            Wrong::TakesFromItself if alone && run == request.run => self.rob(&key, request).await,
            Wrong::TakesFromOthers if alone && run != request.run && request.take_over => self.rob(&key, request).await,
            _ => Err(busy),
        }
    }

    async fn renew(&self, lease: &Lease) -> Result<Duration, LeaseError> {
        match self.inner.leases.renew(lease).await {
            Err(LeaseError::Lost { .. }) if self.is(Wrong::RenewsTheLost) => Ok(TERM),
            Ok(left) if self.is(Wrong::PromisesNothing) => Ok(left.saturating_sub(TERM)),
            other => other,
        }
    }

    async fn release(&self, lease: &Lease) -> Result<(), LeaseError> {
        if self.is(Wrong::NeverFrees) && lease.keys.len() == 2 && lease.epoch == Epoch::new(1) {
            return Ok(());
        }
        let now = lease.keys.first().and_then(|key| self.granted(key)).filter(|now| now.epoch != lease.epoch);
        match now {
            Some(_) if self.is(Wrong::RefusesToForget) => Err(LeaseError::Lost { run: lease.run.clone() }),
            Some(now) if self.is(Wrong::GivesBackWhatIsNotItsOwn) => self.inner.leases.release(&now).await,
            _ => self.inner.leases.release(lease).await,
        }
    }

    async fn is_driven(&self, run: &RunId) -> Result<bool, LeaseError> {
        Ok(self.is(Wrong::CallsAllDriven) || self.inner.leases.is_driven(run).await?)
    }
}

#[async_trait]
impl Registry for Mistaken {
    async fn keep_group(&self, group: &KeptGroup) -> Result<(), JournalError> {
        let known = self.inner.registry.group(group.spec.digest().unwrap()).await?;
        if known.is_some() && self.is(Wrong::KeepsTheFirstFile) {
            return Ok(());
        }
        self.inner.registry.keep_group(group).await
    }

    async fn group(&self, digest: Digest) -> Result<Option<KeptGroup>, JournalError> {
        self.inner.registry.group(digest).await
    }

    async fn group_files(&self) -> Result<Vec<(GroupName, String)>, JournalError> {
        self.inner.registry.group_files().await
    }

    async fn saw_writer(&self, group: &GroupName, seen: &LastWriter) -> Result<(), JournalError> {
        self.seen().sights.insert(group.clone(), seen.clone());
        self.inner.registry.saw_writer(group, seen).await
    }

    async fn last_writer(&self, group: &GroupName) -> Result<Option<LastWriter>, JournalError> {
        if self.is(Wrong::BelievesTheLastSight) {
            return Ok(self.seen().sights.get(group).cloned());
        }
        self.inner.registry.last_writer(group).await
    }

    async fn keep_sample(&self, group: &GroupName, sample: &PositionSample) -> Result<(), JournalError> {
        let all = GroupName::new("all");
        let group = if self.is(Wrong::MixesSamples) { &all } else { group };
        self.inner.registry.keep_sample(group, sample).await
    }

    async fn samples(&self, group: &GroupName, since: Timestamp) -> Result<Vec<PositionSample>, JournalError> {
        let all = GroupName::new("all");
        let group = if self.is(Wrong::MixesSamples) { &all } else { group };
        let mut found = self.inner.registry.samples(group, since).await?;
        if let Some(last) = found.last().map(|last| last.at).filter(|_| self.is(Wrong::KeepsAnHour)) {
            found.retain(|one| last.since(one.at) <= dr_core::minutes(60));
        }
        Ok(found)
    }

    async fn told(&self, key: &str, run: &RunId, at: Timestamp) -> Result<(), JournalError> {
        if self.is(Wrong::TellsTwice) { Ok(()) } else { self.inner.registry.told(key, run, at).await }
    }

    async fn was_told(&self, key: &str) -> Result<bool, JournalError> {
        self.inner.registry.was_told(key).await
    }

    async fn close_debt(&self, id: &DebtId, closed: &Closed) -> Result<(), JournalError> {
        self.seen().words.insert(id.to_string(), closed.clone());
        self.inner.registry.close_debt(id, closed).await
    }

    async fn closed_debts(&self) -> Result<Vec<Closed>, JournalError> {
        if self.is(Wrong::KeepsTheLastWord) {
            return Ok(self.seen().words.values().cloned().collect());
        }
        self.inner.registry.closed_debts().await
    }
}

/// The places of a right store, seen through a mistake.
struct Mistakes(Wrong);

struct MistakenPlace(Wrong, Box<dyn Place>, Arc<Mutex<Seen>>);

#[async_trait]
impl Subject for Mistakes {
    async fn fresh(&self) -> Result<Box<dyn Place>, String> {
        // Memory cannot be damaged, so a reader that hides damage stands on files.
        let place = if self.0 == Wrong::ReadsShort { Files.fresh().await? } else { Volatile.fresh().await? };
        Ok(Box::new(MistakenPlace(self.0, place, Arc::default())))
    }

    fn term(&self) -> Duration {
        TERM
    }
}

#[async_trait]
impl Place for MistakenPlace {
    async fn open(&self) -> Result<Store, String> {
        let inner = self.1.open().await?;
        Ok(Store::of(Mistaken { wrong: self.0, inner, seen: Arc::clone(&self.2) }))
    }

    async fn damage(&self, run: &RunId, how: &Damage) -> bool {
        self.1.damage(run, how).await
    }
}

/// A suite that passes everything shows nothing: each mistake is found by its own trial, and by no other.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_mistake_is_found_by_its_own_trial_and_by_no_other() {
    let mut found = tokio::task::JoinSet::new();
    for (wrong, trial) in MISTAKES {
        found.spawn(async move { (*wrong, *trial, held(&Mistakes(*wrong)).await) });
    }
    let mut faults = Vec::new();
    while let Some(one) = found.join_next().await {
        let (wrong, trial, report) = one.unwrap();
        if report.failed() != [trial] {
            faults.push(format!("{wrong:?} should fail {trial} alone:\n{report}"));
        }
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}
