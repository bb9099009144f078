//! A journal in memory that really stores, refuses and breaks like a durable one.

use std::{
    collections::{BTreeMap, BTreeSet},
    future::Future,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, Waker},
};

use async_trait::async_trait;
use dr_core::{
    RunId,
    base::{Epoch, canonical},
    run::{Head, InboxRow, Journal, JournalError, Line},
};

use crate::crash::CrashSwitch;

/// What the injected trouble of a journal is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct JournalTrouble {
    /// From this append on (counted from 1 over all runs), the disk is full. There is one reserve.
    pub full_from: Option<u64>,
    /// How many appends the reserve lets through once it is opened; without a number, one.
    pub reserve: Option<u32>,
    /// From this append on, the store is read-only.
    pub read_only_from: Option<u64>,
    /// The process crashes before these appends are stored.
    pub crash_before: BTreeSet<u64>,
    /// The process crashes after these appends are stored and before they are answered.
    pub crash_after: BTreeSet<u64>,
}

/// The stored side; survives the process. Clones share it.
#[derive(Clone, Debug, Default)]
pub struct MemoryJournal {
    store: Arc<Mutex<Store>>,
    switch: CrashSwitch,
}

#[derive(Debug, Default)]
struct Store {
    runs: BTreeMap<RunId, Stored>,
    order: Vec<RunId>,
    trouble: JournalTrouble,
    appends: u64,
    reserve: u32,
    reserve_open: u32,
    seals: Vec<(RunId, u64)>,
}

#[derive(Debug, Default)]
struct Stored {
    epoch: Epoch,
    lines: Vec<Line>,
    inbox: Vec<InboxRow>,
    inbox_ids: BTreeSet<String>,
    version: u64,
    wakers: Vec<Waker>,
}

impl Stored {
    fn touch(&mut self) {
        self.version = self.version.saturating_add(1);
        for waker in self.wakers.drain(..) {
            waker.wake();
        }
    }

    fn head(&self) -> Head {
        self.lines.last().map_or(Head::EMPTY, |line| Head { seq: line.seq, hash: line.hash })
    }
}

impl MemoryJournal {
    /// An empty store with one reserve against a full disk.
    #[must_use]
    pub fn new() -> Self {
        let journal = Self::default();
        journal.lock().reserve = 1;
        journal
    }

    /// The same store as another process sees it.
    #[must_use]
    pub fn for_process(&self, switch: CrashSwitch) -> Self {
        Self { store: Arc::clone(&self.store), switch }
    }

    /// Injects trouble; replaces earlier trouble.
    pub fn trouble(&self, trouble: JournalTrouble) {
        self.lock().trouble = trouble;
    }

    /// How often something was appended (or a run was created), refused attempts included.
    #[must_use]
    pub fn appends(&self) -> u64 {
        self.lock().appends
    }

    /// How many lines are stored, over all runs.
    #[must_use]
    pub fn durable(&self) -> u64 {
        let lines: usize = self.lock().runs.values().map(|stored| stored.lines.len()).sum();
        u64::try_from(lines).unwrap_or(u64::MAX)
    }

    /// All lines of a run, without any check or injected trouble.
    #[must_use]
    pub fn lines(&self, run: &RunId) -> Vec<Line> {
        self.lock().runs.get(run).map(|stored| stored.lines.clone()).unwrap_or_default()
    }

    /// The lines of a run after the first `skip` ones, without any check or injected trouble.
    #[must_use]
    pub fn lines_after(&self, run: &RunId, skip: usize) -> Vec<Line> {
        self.lock().runs.get(run).and_then(|stored| stored.lines.get(skip..)).map(<[Line]>::to_vec).unwrap_or_default()
    }

    /// The lines that were stored since `heard`, which counts the lines of each run.
    pub(crate) fn news(&self, heard: &mut BTreeMap<RunId, usize>) -> Vec<Line> {
        let mut news = Vec::new();
        for (run, stored) in &self.lock().runs {
            let known = heard.entry(run.clone()).or_insert(0);
            news.extend(stored.lines.get(*known..).unwrap_or_default().iter().cloned());
            *known = stored.lines.len();
        }
        news
    }

    /// What was sealed, in order.
    #[must_use]
    pub fn seals(&self) -> Vec<(RunId, u64)> {
        self.lock().seals.clone()
    }

    /// Replaces a stored line: damage for tests of readers.
    pub fn tamper(&self, run: &RunId, seq: u64, text: &str) {
        if let Some(line) =
            self.lock().runs.get_mut(run).and_then(|stored| stored.lines.iter_mut().find(|line| line.seq == seq))
        {
            line.text = text.to_owned();
        }
    }

    fn lock(&self) -> MutexGuard<'_, Store> {
        self.store.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts an append and answers its injected fate.
    fn fate(&self, doing: &str) -> Result<Fate, JournalError> {
        let mut store = self.lock();
        store.appends = store.appends.saturating_add(1);
        let nth = store.appends;
        let trouble = store.trouble.clone();
        let reached = |from: Option<u64>| from.is_some_and(|from| nth >= from);
        if reached(trouble.read_only_from) {
            return Err(broken(doing, false, "the store is read-only"));
        }
        if reached(trouble.full_from) {
            if store.reserve_open == 0 {
                return Err(broken(doing, true, "no space left on device"));
            }
            store.reserve_open = store.reserve_open.saturating_sub(1);
        }
        Ok(Fate {
            nth,
            crash_before: trouble.crash_before.contains(&nth),
            crash_after: trouble.crash_after.contains(&nth),
        })
    }

    async fn store<T: Send>(
        &self,
        doing: String,
        write: impl FnOnce(&mut Store) -> Result<T, JournalError> + Send,
    ) -> Result<T, JournalError> {
        let fate = self.fate(&doing)?;
        if fate.crash_before {
            return self.switch.die(&format!("journal.append#{}/before", fate.nth)).await;
        }
        let written = write(&mut self.lock());
        if fate.crash_after {
            return self.switch.die(&format!("journal.append#{}/after", fate.nth)).await;
        }
        written
    }
}

struct Fate {
    nth: u64,
    crash_before: bool,
    crash_after: bool,
}

fn broken(doing: &str, full: bool, why: &str) -> JournalError {
    let kind = if full { std::io::ErrorKind::StorageFull } else { std::io::ErrorKind::ReadOnlyFilesystem };
    JournalError::Store { doing: doing.to_owned(), full, source: Box::new(std::io::Error::new(kind, why.to_owned())) }
}

fn check_lines(run: &RunId, after: u64, lines: &[Line]) -> Result<(), JournalError> {
    for (expected, line) in (after.saturating_add(1)..).zip(lines) {
        if line.seq != expected {
            let what = format!("line {} follows where {expected} was expected", line.seq);
            return Err(JournalError::Corrupt { run: run.clone(), seq: expected, what });
        }
        if canonical::leaf_hash(line.text.as_bytes()) != line.hash {
            let what = "the text does not match its hash".to_owned();
            return Err(JournalError::Corrupt { run: run.clone(), seq: expected, what });
        }
    }
    Ok(())
}

#[async_trait]
impl Journal for MemoryJournal {
    async fn create(&self, run: &RunId, epoch: Epoch, lines: Vec<Line>) -> Result<Head, JournalError> {
        check_lines(run, 0, &lines)?;
        self.store(format!("create {run}"), |store| {
            if let Some(stored) = store.runs.get(run) {
                let found = stored.head().seq;
                return Err(JournalError::Conflict { run: run.clone(), expected: 0, found });
            }
            let stored = Stored { epoch, lines, ..Stored::default() };
            let head = stored.head();
            store.runs.insert(run.clone(), stored);
            store.order.push(run.clone());
            Ok(head)
        })
        .await
    }

    async fn take_over(&self, run: &RunId, epoch: Epoch) -> Result<(), JournalError> {
        let mut store = self.lock();
        let stored = store.runs.get_mut(run).ok_or_else(|| JournalError::Unknown(run.clone()))?;
        if epoch <= stored.epoch {
            return Err(JournalError::Fenced { held: stored.epoch, mine: epoch });
        }
        stored.epoch = epoch;
        stored.touch();
        Ok(())
    }

    async fn epoch(&self, run: &RunId) -> Result<Epoch, JournalError> {
        let store = self.lock();
        store.runs.get(run).map(|stored| stored.epoch).ok_or_else(|| JournalError::Unknown(run.clone()))
    }

    async fn append(&self, run: &RunId, epoch: Epoch, expected: u64, lines: Vec<Line>) -> Result<Head, JournalError> {
        check_lines(run, expected, &lines)?;
        self.store(format!("append to {run}"), |store| {
            let stored = store.runs.get_mut(run).ok_or_else(|| JournalError::Unknown(run.clone()))?;
            if epoch != stored.epoch {
                return Err(JournalError::Fenced { held: stored.epoch, mine: epoch });
            }
            let found = stored.head().seq;
            if found != expected {
                return Err(JournalError::Conflict { run: run.clone(), expected, found });
            }
            stored.lines.extend(lines);
            stored.touch();
            Ok(stored.head())
        })
        .await
    }

    async fn seal(&self, run: &RunId, seq: u64) -> Result<(), JournalError> {
        let mut store = self.lock();
        let stored = store.runs.get(run).ok_or_else(|| JournalError::Unknown(run.clone()))?;
        if stored.head().seq < seq {
            return Err(broken(&format!("seal {run} up to {seq}"), false, "the lines are not there"));
        }
        store.seals.push((run.clone(), seq));
        Ok(())
    }

    async fn use_reserve(&self, _run: &RunId) -> bool {
        let mut store = self.lock();
        if store.reserve == 0 {
            return false;
        }
        store.reserve = store.reserve.saturating_sub(1);
        store.reserve_open = store.trouble.reserve.unwrap_or(1);
        true
    }

    async fn read(&self, run: &RunId, from: u64) -> Result<Vec<Line>, JournalError> {
        let store = self.lock();
        let stored = store.runs.get(run).ok_or_else(|| JournalError::Unknown(run.clone()))?;
        check_lines(run, 0, &stored.lines)?;
        Ok(stored.lines.iter().filter(|line| line.seq > from).cloned().collect())
    }

    async fn runs(&self) -> Result<Vec<RunId>, JournalError> {
        Ok(self.lock().order.clone())
    }

    async fn post(&self, run: &RunId, row: InboxRow) -> Result<(), JournalError> {
        let mut store = self.lock();
        let stored = store.runs.get_mut(run).ok_or_else(|| JournalError::Unknown(run.clone()))?;
        if stored.inbox_ids.insert(row.id.clone()) {
            stored.inbox.push(row);
        }
        stored.touch();
        Ok(())
    }

    async fn inbox(&self, run: &RunId) -> Result<Vec<InboxRow>, JournalError> {
        let store = self.lock();
        let stored = store.runs.get(run).ok_or_else(|| JournalError::Unknown(run.clone()))?;
        Ok(stored.inbox.clone())
    }

    fn mark(&self, run: &RunId) -> u64 {
        self.lock().runs.get(run).map_or(0, |stored| stored.version)
    }

    async fn changed(&self, run: &RunId, since: u64) {
        Changed { journal: self.clone(), run: run.clone(), seen: since }.await;
    }
}

struct Changed {
    journal: MemoryJournal,
    run: RunId,
    seen: u64,
}

impl Future for Changed {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let mut store = self.journal.lock();
        match store.runs.get_mut(&self.run) {
            Some(stored) if stored.version == self.seen => {
                if !stored.wakers.iter().any(|waker| waker.will_wake(cx.waker())) {
                    stored.wakers.push(cx.waker().clone());
                }
                Poll::Pending
            }
            Some(_) | None => Poll::Ready(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Halt, VirtualRuntime};
    use dr_core::{GroupName, Timestamp, base::Json, contract::Runtime, seconds};

    fn run_id() -> RunId {
        RunId::new(GroupName::new("orders"), 17)
    }

    fn line(seq: u64, text: &str) -> Line {
        Line { seq, text: text.into(), hash: canonical::leaf_hash(text.as_bytes()) }
    }

    fn on<T>(work: impl Future<Output = T>) -> T {
        VirtualRuntime::new().run(work).unwrap()
    }

    #[test]
    fn appends_are_conditional_and_fenced_by_the_epoch() {
        let journal = MemoryJournal::new();
        on(async {
            let run = run_id();
            journal.create(&run, Epoch::new(1), vec![line(1, "{}")]).await.unwrap();
            let late = journal.append(&run, Epoch::new(1), 0, vec![line(1, "{}")]).await;
            assert!(matches!(late, Err(JournalError::Conflict { found: 1, .. })), "{late:?}");
            journal.take_over(&run, Epoch::new(2)).await.unwrap();
            let stale = journal.append(&run, Epoch::new(1), 1, vec![line(2, "{}")]).await;
            assert!(matches!(stale, Err(JournalError::Fenced { .. })), "{stale:?}");
            let again = journal.take_over(&run, Epoch::new(2)).await;
            assert!(matches!(again, Err(JournalError::Fenced { .. })), "{again:?}");
            journal.append(&run, Epoch::new(2), 1, vec![line(2, "[]")]).await.unwrap();
            assert_eq!(journal.read(&run, 1).await.unwrap(), [line(2, "[]")]);
            journal.tamper(&run, 1, "[1]");
            let torn = journal.read(&run, 0).await;
            assert!(matches!(torn, Err(JournalError::Corrupt { seq: 1, .. })), "{torn:?}");
        });
    }

    #[test]
    fn a_full_disk_lets_one_reserve_through() {
        let journal = MemoryJournal::new();
        on(async {
            let run = run_id();
            journal.trouble(JournalTrouble { full_from: Some(2), ..JournalTrouble::default() });
            journal.create(&run, Epoch::new(1), vec![line(1, "{}")]).await.unwrap();
            let full = journal.append(&run, Epoch::new(1), 1, vec![line(2, "{}")]).await;
            assert!(matches!(full, Err(JournalError::Store { full: true, .. })), "{full:?}");
            assert_eq!(journal.lines(&run).len(), 1);
            assert!(journal.use_reserve(&run).await);
            journal.append(&run, Epoch::new(1), 1, vec![line(2, "{}")]).await.unwrap();
            assert!(!journal.use_reserve(&run).await);
            let full = journal.append(&run, Epoch::new(1), 2, vec![line(3, "{}")]).await;
            assert!(matches!(full, Err(JournalError::Store { full: true, .. })), "{full:?}");
        });
    }

    #[test]
    fn a_crash_before_an_append_stores_nothing_and_one_after_it_stores_it() {
        for (trouble, stored) in [
            (JournalTrouble { crash_before: BTreeSet::from([2]), ..JournalTrouble::default() }, 1),
            (JournalTrouble { crash_after: BTreeSet::from([2]), ..JournalTrouble::default() }, 2),
        ] {
            let rt = VirtualRuntime::new();
            let disk = MemoryJournal::new();
            let journal = disk.for_process(rt.crash_switch());
            disk.trouble(trouble);
            let halt = rt.run(async move {
                let run = run_id();
                journal.create(&run, Epoch::new(1), vec![line(1, "{}")]).await.unwrap();
                journal.append(&run, Epoch::new(1), 1, vec![line(2, "{}")]).await
            });
            assert!(matches!(halt, Err(Halt::Crashed(_))), "{halt:?}");
            assert_eq!(disk.lines(&run_id()).len(), stored);
        }
    }

    #[test]
    fn a_posted_row_wakes_and_the_same_id_is_one_row() {
        let rt = VirtualRuntime::new();
        let journal = MemoryJournal::new();
        let (clock, poster) = (rt.clone(), journal.clone());
        rt.run(async move {
            let run = run_id();
            journal.create(&run, Epoch::new(1), vec![line(1, "{}")]).await.unwrap();
            let (late, wall) = (clock.clone(), clock.now_wall());
            clock.spawn_detached(Box::pin(async move {
                late.sleep_until(late.now_mono() + seconds(3)).await;
                for _ in 0..2 {
                    let row = InboxRow { id: "a".into(), at: Timestamp::from_millis(0), request: Json::default() };
                    poster.post(&run_id(), row).await.unwrap();
                }
            }));
            journal.changed(&run, journal.mark(&run)).await;
            assert_eq!(clock.now_wall(), wall + seconds(3));
            assert_eq!(journal.inbox(&run).await.unwrap().len(), 1);
        })
        .unwrap();
    }
}
