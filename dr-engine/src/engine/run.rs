//! One run: watching it, answering it, reporting on it. All of it works from any process that can open the journal.

use std::{collections::VecDeque, time::Duration};

use super::{Engine, drive::fresh, lock};
use crate::{Error, runtime::wall};
use dr_core::{
    Actor, Answer, Report, RunId, View,
    base::Digest,
    contract::admit,
    run::{
        AnswerRefused, Ask, BadRecord, Event, Head, JournalError, Line, Record, Request, RunOutcome, RunState, judge,
    },
    show::{StepTook, took},
};

/// A run. It goes on whether or not anybody has this value.
#[derive(Clone, Debug)]
pub struct Run {
    engine: Engine,
    id: RunId,
}

impl Run {
    pub(super) fn new(engine: Engine, id: RunId) -> Self {
        Self { engine, id }
    }

    /// Its name.
    #[must_use]
    pub fn id(&self) -> &RunId {
        &self.id
    }

    /// What is true now.
    ///
    /// # Errors
    /// [`Error::UnknownRun`], [`Error::Journal`].
    pub async fn view(&self) -> Result<View, Error> {
        let tail = Tail::read(&self.engine, &self.id).await?;
        let history = self.history().await?;
        Ok(View::of(&tail.state, wall(), &history))
    }

    /// The whole truth each time it changes: nothing to fold. It owns what it needs.
    #[must_use]
    pub fn watch(&self) -> Watch {
        self.watch_from(0)
    }

    /// As [`Run::watch`], for somebody who has seen everything up to `seq` already.
    #[must_use]
    pub fn watch_from(&self, seq: u64) -> Watch {
        Watch { run: self.clone(), tail: None, history: Vec::new(), shown: seq, over: false }
    }

    /// Every record after `from`, for logs.
    #[must_use]
    pub fn events(&self, from: u64) -> Events {
        Events { run: self.clone(), next: from, queue: VecDeque::new(), over: false }
    }

    /// Completes when the run is over.
    ///
    /// # Errors
    /// [`Error::Stopped`] and [`Error::Bug`] when this engine stopped driving it before that.
    pub async fn wait(&self) -> Result<RunOutcome, Error> {
        let mut watch = self.watch();
        let mut last = None;
        while let Some(view) = watch.next().await? {
            last = view.outcome().cloned();
        }
        last.ok_or_else(|| Error::UnknownRun(self.id.clone()))
    }

    /// Completes when the notices of a run that is over were given, or refused, by everybody who is told; at the latest after `within`. A
    /// program that ends before that cuts them off, and an incident stays open that the end of the run would have closed.
    pub async fn all_told(&self, within: Duration) {
        let told = async {
            // Its driver tells the end last.
            if lock(&self.engine.inner().drives).contains_key(&self.id) {
                self.engine.stopped_driving(&self.id).await;
            }
            tokio::time::sleep(BEGIN_TELLING).await;
            self.engine.inner().desk.all_told().await;
        };
        // What was not told by then is not waited for.
        let _all = tokio::time::timeout(within, told).await.is_ok();
    }

    /// Answers what the run asks; the driver counts it, now or when it is resumed. The same answer twice is one answer.
    ///
    /// # Errors
    /// [`Error::Answer`], with the rule that it breaks and what is asked now.
    pub async fn answer(&self, answer: Answer) -> Result<Ask, Error> {
        let tail = Tail::read(&self.engine, &self.id).await?;
        let earlier = tail.asks.iter().find(|(digest, _)| *digest == answer.to).map(|(_, ask)| ask.clone());
        let open = tail.state.ask.clone();
        let is_open = open.as_ref().is_some_and(|ask| ask.digest().ok() == Some(answer.to));
        let Some(ask) = open.filter(|_| is_open) else {
            return self.too_late(&tail, earlier, &answer);
        };
        match judge(&ask, &tail.state.given, &answer, wall()) {
            Ok(_) => {
                let who = answer.by.identities.first().map_or_else(|| answer.by.name.clone(), ToString::to_string);
                let id = format!("answer-{}-{who}-{}", answer.to.hex(), answer.choice);
                self.engine.post(&self.id, &id, Request::Answer(answer)).await?;
                Ok(ask)
            }
            Err(AnswerRefused::Twice { .. }) if said_before(&tail.state, &answer) => Ok(ask),
            Err(refused) => Err(Error::Answer { refused, ask: Some(Box::new(ask)) }),
        }
    }

    /// An answer to something that is not asked now: decided already, changed since, or never asked.
    fn too_late(&self, tail: &Tail, earlier: Option<Ask>, answer: &Answer) -> Result<Ask, Error> {
        let now = tail.state.ask.clone().map(Box::new);
        let Some(shown) = earlier else {
            let refused = match &now {
                Some(_) => AnswerRefused::Stale { diff: Vec::new() },
                None => AnswerRefused::NothingAsked,
            };
            return Err(Error::Answer { refused, ask: now });
        };
        if let Some(ask) = now.filter(|ask| ask.node == shown.node && ask.kind == shown.kind) {
            let diff = admit::differences(&shown.facts, &ask.facts);
            return Err(Error::Answer { refused: AnswerRefused::Stale { diff }, ask: Some(ask) });
        }
        match tail.choices.iter().find(|(digest, _)| *digest == answer.to) {
            Some((_, choice)) if *choice == answer.choice => Ok(shown),
            Some((_, choice)) => {
                Err(Error::Answer { refused: AnswerRefused::Settled { choice: choice.clone() }, ask: None })
            }
            None => Err(Error::Answer { refused: AnswerRefused::NothingAsked, ask: None }),
        }
    }

    /// Decides what a parked run does: answers the question with the digest `to`.
    ///
    /// # Errors
    /// As [`Run::answer`].
    pub async fn decide(&self, choice: &str, to: Digest, by: Actor) -> Result<Ask, Error> {
        self.answer(Answer::choose(choice, to, by)).await
    }

    /// Tells whether somebody may pause this run, let it go on, turn it back, or take it from another engine: whoever asked for it, and
    /// whoever has a role of its approval.
    ///
    /// # Errors
    /// [`Error::Answer`] with the roles that it needs; [`Error::UnknownRun`], [`Error::Journal`].
    pub async fn may_steer(&self, by: &Actor) -> Result<(), Error> {
        let tail = Tail::read(&self.engine, &self.id).await?;
        tail.state.may_steer(by).map_err(|refused| Error::Answer { refused, ask: None })
    }

    /// Asks that nothing new begins. What the run holds stays held meanwhile: in the write gap, applications wait or fail until it goes on.
    ///
    /// # Errors
    /// [`Error::Over`], [`Error::UnknownRun`], [`Error::Journal`]; [`Error::Answer`] for somebody without a role of the run's approval who
    /// did not ask for it.
    pub async fn pause(&self, by: Actor, because: impl Into<String>) -> Result<(), Error> {
        self.ask_for("pause", &by.clone(), Request::Pause { by, because: because.into() }).await
    }

    /// Asks that a paused run goes on. A run that nobody drives needs [`Engine::resume_run`].
    ///
    /// # Errors
    /// As [`Run::pause`].
    pub async fn unpause(&self, by: Actor) -> Result<(), Error> {
        self.ask_for("unpause", &by.clone(), Request::Resume { by }).await
    }

    /// Asks that the run turns back, if it still can.
    ///
    /// # Errors
    /// As [`Run::pause`].
    pub async fn cancel(&self, by: Actor, because: impl Into<String>) -> Result<(), Error> {
        self.ask_for("cancel", &by.clone(), Request::Cancel { by, because: because.into() }).await
    }

    /// Asks that the run ends as soon as only work is left for which nobody waits: the way back to a pair, a snapshot, a second look. What is
    /// left then is owed by name, and another run of the group can begin. What is under way at a provider goes on there.
    ///
    /// # Errors
    /// As [`Run::pause`].
    pub async fn finish(&self, by: Actor, because: impl Into<String>) -> Result<(), Error> {
        self.ask_for("finish", &by.clone(), Request::Finish { by, because: because.into() }).await
    }

    async fn ask_for(&self, kind: &str, by: &Actor, request: Request) -> Result<(), Error> {
        let tail = Tail::read(&self.engine, &self.id).await?;
        if tail.state.outcome.is_some() {
            return Err(Error::Over(self.id.clone()));
        }
        tail.state.may_steer(by).map_err(|refused| Error::Answer { refused, ask: None })?;
        self.engine.post(&self.id, &fresh(kind, wall()), request).await
    }

    /// What became of it; an interim report while it goes on.
    ///
    /// # Errors
    /// [`Error::UnknownRun`], [`Error::Journal`], [`Error::Report`].
    pub async fn report(&self) -> Result<Report, Error> {
        let registry = &self.engine.inner().store.registry;
        let tail = Tail::read(&self.engine, &self.id).await?;
        let report = Report::of(&self.id, &tail.records)?;
        let kept = registry.group(tail.state.plan.group_digest).await?;
        Ok(match kept.and_then(|kept| kept.spec.objectives.rto) {
            Some(target) => report.with_target(target),
            None => report,
        })
    }

    /// What is written from here on moves the journal past this mark.
    fn mark(&self) -> u64 {
        self.engine.inner().store.journal.mark(&self.id)
    }

    /// Whether an engine drives the run now, as far as the leases tell.
    ///
    /// # Errors
    /// [`Error::Lease`].
    pub async fn is_driven(&self) -> Result<bool, Error> {
        Ok(self.engine.inner().store.leases.is_driven(&self.id).await?)
    }

    /// How long the steps of the last runs of this group took.
    async fn history(&self) -> Result<Vec<StepTook>, Error> {
        let runs = self.engine.inner().store.journal.runs().await?;
        let mut times = Vec::new();
        let earlier = runs.iter().rev().filter(|run| run.group() == self.id.group() && **run != self.id);
        for run in earlier.take(LEARN_FROM) {
            // A run that cannot be read teaches nothing.
            let Ok(tail) = Tail::read(&self.engine, run).await else { continue };
            if tail.state.outcome.as_ref().is_some_and(RunOutcome::success) {
                times.extend(took(&tail.state));
            }
        }
        Ok(times)
    }
}

/// How long the tasks that tell may take to begin.
const BEGIN_TELLING: Duration = Duration::from_millis(50);

fn said_before(state: &RunState, answer: &Answer) -> bool {
    state.given.iter().any(|given| given.by.may_be(&answer.by) && given.choice == answer.choice)
}

/// A run as its journal tells it, and where that ends.
#[derive(Debug)]
pub(super) struct Tail {
    pub(super) state: RunState,
    pub(super) records: Vec<Record>,
    head: Head,
    /// Every question that was ever asked.
    asks: Vec<(Digest, Ask)>,
    /// What was chosen, by question.
    choices: Vec<(Digest, String)>,
}

impl Tail {
    pub(super) async fn read(engine: &Engine, run: &RunId) -> Result<Self, Error> {
        let lines = engine.inner().store.journal.read(run, 0).await?;
        let (first, rest) = lines.split_first().ok_or_else(|| Error::UnknownRun(run.clone()))?;
        let record = parse(run, first)?;
        let state = RunState::begin(run.clone(), &record).map_err(|error| damaged(run, first.seq, &error))?;
        let head = Head { seq: first.seq, hash: first.hash };
        let mut tail = Self { state, records: vec![record], head, asks: Vec::new(), choices: Vec::new() };
        tail.extend(rest)?;
        Ok(tail)
    }

    /// Takes in what was appended since. Answers whether there was anything.
    async fn catch_up(&mut self, engine: &Engine) -> Result<bool, Error> {
        let lines = engine.inner().store.journal.read(&self.state.run, self.head.seq).await?;
        self.extend(&lines)?;
        Ok(!lines.is_empty())
    }

    fn extend(&mut self, lines: &[Line]) -> Result<(), Error> {
        let run = self.state.run.clone();
        for line in lines {
            let record = parse(&run, line)?;
            self.settle(&record.event);
            self.state.apply(&record).map_err(|error| damaged(&run, line.seq, &error))?;
            if let Event::Asked { ask, .. } | Event::Parked { ask } = &record.event
                && let Ok(digest) = ask.digest()
            {
                self.asks.push((digest, (**ask).clone()));
            }
            self.records.push(record);
            self.head = Head { seq: line.seq, hash: line.hash };
        }
        Ok(())
    }

    /// Remembers what was chosen before the state forgets the question.
    fn settle(&mut self, event: &Event) {
        let Event::Answered { given, .. } = event else { return };
        if let Some(digest) = self.state.ask.as_ref().and_then(|ask| ask.digest().ok()) {
            self.choices.retain(|(asked, _)| *asked != digest);
            self.choices.push((digest, given.choice.clone()));
        }
    }
}

/// The views of a run, one for each change.
#[derive(Debug)]
pub struct Watch {
    run: Run,
    tail: Option<Tail>,
    history: Vec<StepTook>,
    /// The last line that was shown.
    shown: u64,
    over: bool,
}

impl Watch {
    /// The next view; `None` after the one that says how the run ended.
    ///
    /// # Errors
    /// [`Error::UnknownRun`], [`Error::Journal`]; [`Error::Stopped`] and [`Error::Bug`] when this engine stopped driving the
    /// run before its end: resume it, and ask again.
    pub async fn next(&mut self) -> Result<Option<View>, Error> {
        if self.over {
            return Ok(None);
        }
        loop {
            let mark = self.run.mark();
            let ended = self.run.engine.ended(&self.run.id);
            if let Some(view) = self.look().await? {
                self.over = view.outcome().is_some();
                self.shown = u64::from(view.seq);
                return Ok(Some(view));
            }
            if let Some(Err(error)) = ended {
                return Err(error);
            }
            wait(&self.run, mark).await;
        }
    }

    /// The view, if there is something that was not shown.
    async fn look(&mut self) -> Result<Option<View>, Error> {
        let tail = match &mut self.tail {
            Some(tail) => {
                tail.catch_up(&self.run.engine).await?;
                tail
            }
            None => {
                self.history = self.run.history().await?;
                self.tail.insert(Tail::read(&self.run.engine, &self.run.id).await?)
            }
        };
        let news = tail.head.seq > self.shown || (tail.state.outcome.is_some() && !self.over);
        Ok(news.then(|| View::of(&tail.state, wall(), &self.history)))
    }
}

/// The records of a run, one by one.
#[derive(Debug)]
pub struct Events {
    run: Run,
    next: u64,
    queue: VecDeque<Record>,
    over: bool,
}

impl Events {
    /// The next record; `None` after the last one of a run that is over.
    ///
    /// # Errors
    /// As [`Watch::next`].
    pub async fn next(&mut self) -> Result<Option<Record>, Error> {
        loop {
            if let Some(record) = self.queue.pop_front() {
                self.next = u64::from(record.seq);
                self.over |= matches!(record.event, Event::Ended { .. });
                return Ok(Some(record));
            }
            if self.over {
                return Ok(None);
            }
            let mark = self.run.mark();
            let ended = self.run.engine.ended(&self.run.id);
            let lines = self.run.engine.inner().store.journal.read(&self.run.id, self.next).await?;
            if lines.is_empty() {
                if self.is_over().await? {
                    return Ok(None);
                }
                if let Some(Err(error)) = ended {
                    return Err(error);
                }
                wait(&self.run, mark).await;
            }
            for line in &lines {
                self.queue.push_back(parse(&self.run.id, line)?);
            }
        }
    }

    /// Whether somebody who starts after the last record would wait for ever.
    async fn is_over(&mut self) -> Result<bool, Error> {
        let tail = Tail::read(&self.run.engine, &self.run.id).await?;
        self.over = tail.state.outcome.is_some() && tail.head.seq <= self.next;
        Ok(self.over)
    }
}

/// Until something may have been written, or this engine stopped driving the run.
async fn wait(run: &Run, mark: u64) {
    tokio::select! {
        () = run.engine.inner().store.journal.changed(&run.id, mark) => {}
        () = run.engine.stopped_driving(&run.id) => {}
    }
}

fn parse(run: &RunId, line: &Line) -> Result<Record, Error> {
    let bad = |BadRecord { seq, what }: BadRecord| JournalError::Corrupt { run: run.clone(), seq, what };
    Ok(Record::parse(line).map_err(bad)?)
}

fn damaged(run: &RunId, seq: u64, error: &dyn std::error::Error) -> Error {
    JournalError::Corrupt { run: run.clone(), seq, what: error.to_string() }.into()
}

/// How many earlier runs an expected end is learnt from.
const LEARN_FROM: usize = 20;
