//! What every store promises, as trials: one body for each guarantee that [`Journal`](dr_core::run::Journal),
//! [`LeaseStore`](dr_core::run::LeaseStore) and [`Registry`](dr_core::run::Registry) document.
//!
//! ```text
//!   your Subject ──fresh──► Place ──open──► a handle, as one process has it
//!                             │   └─open──► another one, as another process or host has it
//!                             └──damage───► what is stored, changed behind the store's back
//! ```
//!
//! Each trial gets a place of its own. A store enrols with three lines:
//!
//! ```text
//! let report = dr_testkit::stores::hold_to(&MyStore, Arc::new(TokioRuntime::current()?)).await;
//! assert!(report.failed().is_empty(), "{report}");
//! ```

mod journal;
mod leases;
mod registry;

use std::{fmt, future::Future, pin::Pin, sync::Arc, time::Duration};

use async_trait::async_trait;
use dr_core::{
    Millis, RunId,
    base::canonical,
    contract::Runtime,
    run::{Head, Line, Store},
};
use futures_util::future::{Either, select};

/// A kind of store that is held to its word.
#[async_trait]
pub trait Subject: Send + Sync {
    /// Makes an empty place.
    ///
    /// # Errors
    /// There is none; the text says why.
    async fn fresh(&self) -> Result<Box<dyn Place>, String>;

    /// How long its leases last without being renewed: a fraction of a second, because trials wait for it.
    fn term(&self) -> Duration;
}

/// What handles share: a directory, a database.
#[async_trait]
pub trait Place: Send + Sync {
    /// Opens it as another process would. Dropping the handle is that process' death.
    ///
    /// # Errors
    /// It cannot be opened; the text says why.
    async fn open(&self) -> Result<Store, String>;

    /// Changes what is stored of a run behind the store's back; `false` where nobody can.
    async fn damage(&self, run: &RunId, how: &Damage) -> bool;
}

/// A change behind a store's back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Damage {
    /// The text of a line becomes another one.
    Edits(u64, String),
    /// A line is gone.
    Loses(u64),
}

/// What one trial works with.
pub(crate) struct Case {
    place: Box<dyn Place>,
    /// One process.
    a: Store,
    /// Another one.
    b: Store,
    runtime: Arc<dyn Runtime>,
    term: Duration,
}

/// Why a trial did not hold, or was not made.
pub(crate) enum Stop {
    Failed(String),
    Skipped(&'static str),
}

impl<T: fmt::Display> From<T> for Stop {
    fn from(why: T) -> Self {
        Self::Failed(why.to_string())
    }
}

pub(crate) type Held<'a> = Pin<Box<dyn Future<Output = Result<(), Stop>> + Send + 'a>>;

/// One guarantee.
pub(crate) struct Trial {
    name: &'static str,
    body: for<'a> fn(&'a Case) -> Held<'a>,
}

/// Lists bodies under their own names.
macro_rules! trials {
    ($($name:ident),* $(,)?) => {
        &[$(crate::stores::Trial { name: stringify!($name), body: |case| Box::pin($name(case)) }),*]
    };
}
pub(crate) use trials;

/// Ends a trial unless something holds.
macro_rules! holds {
    ($what:expr, $($say:tt)+) => {
        if !$what {
            return Err(crate::stores::Stop::Failed(format!($($say)+)));
        }
    };
}
pub(crate) use holds;

/// How a trial ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The guarantee holds.
    Holds,
    /// It does not, and why.
    Fails(String),
    /// It could not be tried here, and why.
    Skipped(&'static str),
}

/// How all trials ended.
#[derive(Clone, Debug)]
pub struct Report {
    trials: Vec<(&'static str, Verdict)>,
}

impl Report {
    /// Every trial with its verdict.
    #[must_use]
    pub fn trials(&self) -> &[(&'static str, Verdict)] {
        &self.trials
    }

    /// The names of the trials that failed.
    #[must_use]
    pub fn failed(&self) -> Vec<&'static str> {
        let failed = self.trials.iter().filter(|(_, verdict)| matches!(verdict, Verdict::Fails(_)));
        failed.map(|(name, _)| *name).collect()
    }

    /// How many guarantees hold.
    #[must_use]
    pub fn held(&self) -> usize {
        self.trials.iter().filter(|(_, verdict)| *verdict == Verdict::Holds).count()
    }

    /// The names of the trials that could not be made.
    #[must_use]
    pub fn skipped(&self) -> Vec<&'static str> {
        let skipped = self.trials.iter().filter(|(_, verdict)| matches!(verdict, Verdict::Skipped(_)));
        skipped.map(|(name, _)| *name).collect()
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (name, verdict) in &self.trials {
            match verdict {
                Verdict::Holds => writeln!(f, "holds    {name}")?,
                Verdict::Fails(why) => writeln!(f, "FAILS    {name}: {why}")?,
                Verdict::Skipped(why) => writeln!(f, "skipped  {name}: {why}")?,
            }
        }
        Ok(())
    }
}

/// Makes every trial on a kind of store.
pub async fn hold_to(subject: &dyn Subject, runtime: Arc<dyn Runtime>) -> Report {
    let mut trials = Vec::new();
    for trial in journal::TRIALS.iter().chain(leases::TRIALS).chain(registry::TRIALS) {
        trials.push((trial.name, verdict(subject, &runtime, trial).await));
    }
    Report { trials }
}

async fn verdict(subject: &dyn Subject, runtime: &Arc<dyn Runtime>, trial: &Trial) -> Verdict {
    let late = runtime.sleep_until(runtime.now_mono() + AT_MOST);
    let trying = async {
        let place = subject.fresh().await?;
        let (a, b) = (place.open().await?, place.open().await?);
        let case = Case { place, a, b, runtime: Arc::clone(runtime), term: subject.term() };
        (trial.body)(&case).await
    };
    match select(Box::pin(trying), late).await {
        Either::Left((Ok(()), _)) => Verdict::Holds,
        Either::Left((Err(Stop::Failed(why)), _)) => Verdict::Fails(why),
        Either::Left((Err(Stop::Skipped(why)), _)) => Verdict::Skipped(why),
        Either::Right(_) => Verdict::Fails(format!("it did not end within {} s", AT_MOST.count() / 1000)),
    }
}

impl Case {
    /// Waits for `call`, and says whether it ended within [`SOON`].
    async fn soon(&self, call: impl Future<Output = ()> + Send) -> bool {
        let late = self.runtime.sleep_until(self.runtime.now_mono() + SOON);
        matches!(select(Box::pin(call), late).await, Either::Left(_))
    }

    async fn pause(&self, time: Millis) {
        self.runtime.sleep_until(self.runtime.now_mono() + time).await;
    }
}

/// The run of all trials.
pub(crate) fn run() -> RunId {
    RunId::new(dr_core::GroupName::new("orders"), 1)
}

/// Another one, of the same group.
pub(crate) fn next_run() -> RunId {
    RunId::new(dr_core::GroupName::new("orders"), 2)
}

/// Lines after `head`, with `words` inside.
pub(crate) fn lines(mut head: Head, words: &[&str]) -> Vec<Line> {
    let mut all = Vec::new();
    for word in words {
        let seq = head.seq.saturating_add(1);
        let text = format!(r#"{{"prev":"{}","seq":"{seq}","word":"{word}"}}"#, head.hash.hex());
        let hash = canonical::leaf_hash(text.as_bytes());
        head = Head { seq, hash };
        all.push(Line { seq, text, hash });
    }
    all
}

/// Where lines end.
pub(crate) fn end(lines: &[Line]) -> Head {
    lines.last().map_or(Head::EMPTY, |line| Head { seq: line.seq, hash: line.hash })
}

/// No trial takes longer.
const AT_MOST: Millis = Millis::seconds(30);
/// What is to happen by itself happens within this time, also on a slow machine.
const SOON: Millis = Millis::seconds(5);
