//! Appending: durable or not at all, fenced by the epoch, with the reserve when the disk is full.

use std::{future::Future, pin::Pin, sync::Arc};

use futures_util::{
    StreamExt as _,
    future::{Either, select},
};

use super::{Drive, DriveError, Driver, INTENT_PATIENCE, OUTCOME_PATIENCE, task::Happened};
use crate::{
    base::{Millis, RunId},
    contract::Occasion,
    run::{Event, Head, Journal, JournalError, Line, Phase, Record, RunOutcome},
};

/// What a full disk means for an append.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Full {
    /// The reserve is opened.
    Reserve,
    /// It is not stored, and that is an answer.
    Refuse,
}

/// Whether an event may become durable a moment later. After a crash without it the intent before it is looked at, as after a
/// crash just before an append.
fn may_wait(event: &Event) -> bool {
    matches!(event, Event::Accepted { .. } | Event::Began { .. } | Event::Finished { .. } | Event::Progressed { .. })
}

/// An append whose answer was lost may have been stored: then the journal goes on with these lines. More lines may follow them, when
/// it was a longer append that was lost; they are this engine's too, for another one would have fenced it off.
async fn stored_already(journal: &dyn Journal, run: &RunId, after: u64, lines: &[Line]) -> bool {
    journal.read(run, after).await.is_ok_and(|found| found.starts_with(lines))
}

/// An append of outcomes that goes on while the driver waits for the next thing.
pub(super) struct Saving {
    upto: Head,
    answer: Pin<Box<dyn Future<Output = Result<Head, JournalError>> + Send>>,
}

impl Driver {
    /// Makes events part of the run. Outcomes are durable with the next intent, or after a short wait; everything else is durable
    /// when this answers. What cannot be stored did not happen: the driver goes on trying and sends nothing meanwhile.
    pub(super) async fn append(&mut self, events: Vec<Event>) -> Result<(), DriveError> {
        self.append_or(events, Full::Reserve).await.map(drop)
    }

    /// Makes an intent durable; if it cannot be, nothing is sent. On a full disk the reserve is kept for outcomes and for turning
    /// back: a forward intent before the point of no return answers `false` and the run says that space is low.
    pub(super) async fn append_intent(&mut self, intent: Event) -> Result<bool, DriveError> {
        let forward = self.state.aborting.is_none() && !self.state.pivot_stands();
        let full = if forward { Full::Refuse } else { Full::Reserve };
        let in_reserve = forward && self.space_checked;
        if !in_reserve && self.append_or(vec![intent], full).await? {
            return Ok(true);
        }
        self.append(vec![Event::SpaceLow]).await?;
        Ok(false)
    }

    async fn append_or(&mut self, events: Vec<Event>, full: Full) -> Result<bool, DriveError> {
        let may_wait = events.iter().all(may_wait);
        let (records, lines, head) = self.lines_of(events)?;
        // The events are checked against the table before they are stored: a journal never holds what cannot be replayed.
        let mut next = self.state.clone();
        for record in &records {
            let (run, seq) = (self.drive.run.clone(), u64::from(record.seq));
            next.apply(record).map_err(|source| DriveError::Illegal { run, seq, source })?;
        }
        let was = self.state.phase;
        if may_wait {
            if self.unsaved.is_empty() {
                self.unsaved_since = self.drive.runtime.now_mono();
            }
            self.unsaved.extend(lines);
        } else {
            let intent = records.iter().any(|record| record.event.precedes_effect());
            if !self.store_all(lines, intent, full).await? {
                return Ok(false);
            }
            self.durable = head;
        }
        self.head = head;
        self.state = next;
        self.announce(was);
        Ok(true)
    }

    fn lines_of(&self, events: Vec<Event>) -> Result<(Vec<Record>, Vec<Line>, Head), DriveError> {
        let now = self.drive.runtime.now_wall();
        let mut head = self.head;
        let mut records = Vec::with_capacity(events.len());
        let mut lines: Vec<Line> = Vec::with_capacity(events.len());
        for event in events {
            let record = Record::after(head, now, self.drive.lease.epoch, event);
            let failed = |source| DriveError::Canonical { run: self.drive.run.clone(), source };
            let line = record.line().map_err(failed)?;
            head = Head { seq: line.seq, hash: line.hash };
            lines.push(line);
            records.push(record);
        }
        Ok((records, lines, head))
    }

    /// Waits for the next thing to happen; outcomes that have waited long enough become durable meanwhile.
    pub(super) async fn next_job(&mut self) -> Result<Option<Happened>, DriveError> {
        loop {
            if self.saving.is_none() && !self.unsaved.is_empty() {
                let due = self.drive.runtime.sleep_until(self.unsaved_since + self.drive.journal.linger());
                if let Either::Right((happened, _)) = select(due, self.jobs.next()).await {
                    return Ok(happened);
                }
                self.saving = Some(self.save());
            }
            let Some(saving) = &mut self.saving else { return Ok(self.jobs.next().await) };
            let stored = match select(&mut saving.answer, self.jobs.next()).await {
                Either::Left((stored, _)) => stored,
                Either::Right((happened, _)) => return Ok(happened),
            };
            if !self.saved(&stored) {
                self.flush().await?;
            }
        }
    }

    fn save(&self) -> Saving {
        let Drive { journal, run, lease, .. } = &self.drive;
        let (journal, run, epoch) = (Arc::clone(journal), run.clone(), lease.epoch);
        let (at, lines) = (self.durable.seq, self.unsaved.clone());
        let upto = lines.last().map_or(self.durable, |line| Head { seq: line.seq, hash: line.hash });
        Saving { upto, answer: Box::pin(async move { journal.append(&run, epoch, at, lines).await }) }
    }

    /// Takes in how the append under way ended. One that failed leaves its lines among the unsaved ones.
    fn saved(&mut self, stored: &Result<Head, JournalError>) -> bool {
        let Some(saving) = self.saving.take().filter(|_| stored.is_ok()) else { return false };
        self.durable = saving.upto;
        self.unsaved.retain(|line| line.seq > saving.upto.seq);
        true
    }

    async fn end_saving(&mut self) {
        if let Some(saving) = &mut self.saving {
            let stored = (&mut saving.answer).await;
            self.saved(&stored);
        }
    }

    /// Makes all outcomes durable, however long it takes.
    pub(super) async fn flush(&mut self) -> Result<(), DriveError> {
        self.end_saving().await;
        if !self.unsaved.is_empty() {
            let lines = self.unsaved.clone();
            self.store(lines, false, Full::Reserve).await?;
            self.durable = self.head;
            self.unsaved.clear();
        }
        Ok(())
    }

    /// Tries once to make outcomes durable, when the run is not driven any more.
    pub(super) async fn leave(&mut self) {
        self.end_saving().await;
        let lines = self.unsaved.clone();
        if !lines.is_empty() {
            // What cannot be stored now the next engine finds out by looking.
            drop(self.attempt(&lines).await);
        }
    }

    /// Stores `lines`, and the outcomes before them, in one go where that works.
    async fn store_all(&mut self, lines: Vec<Line>, intent: bool, full: Full) -> Result<bool, DriveError> {
        self.end_saving().await;
        if !self.unsaved.is_empty() {
            let together: Vec<Line> = self.unsaved.iter().chain(&lines).cloned().collect();
            if self.attempt(&together).await.is_ok() {
                self.unsaved.clear();
                return Ok(true);
            }
            // Outcomes must be stored whatever it takes; what is new may be refused.
            self.flush().await?;
            if full == Full::Refuse && self.space_checked {
                return Ok(false);
            }
        }
        self.store(lines, intent, full).await
    }

    /// One append; one whose answer was lost counts when its lines are there.
    async fn attempt(&mut self, lines: &[Line]) -> Result<(), JournalError> {
        let Drive { journal, run, lease, .. } = &self.drive;
        let Err(error) = journal.append(run, lease.epoch, self.durable.seq, lines.to_vec()).await else {
            return Ok(());
        };
        let undecided = !matches!(error, JournalError::Store { .. } | JournalError::Fenced { .. });
        if undecided && stored_already(journal.as_ref(), run, self.durable.seq, lines).await {
            return Ok(());
        }
        Err(error)
    }

    async fn store(&mut self, lines: Vec<Line>, intent: bool, on_full: Full) -> Result<bool, DriveError> {
        let run = self.drive.run.clone();
        let began = self.drive.runtime.now_mono();
        let patience = if intent { INTENT_PATIENCE } else { OUTCOME_PATIENCE };
        let mut pause = Millis::new(20);
        loop {
            // Fenced off means that nothing may be sent on the strength of these lines, stored earlier or not.
            let Err(error) = self.attempt(&lines).await else { return Ok(true) };
            let JournalError::Store { full, .. } = &error else { return Err(DriveError::journal(&run, error)) };
            let full = *full;
            if full && on_full == Full::Refuse {
                return Ok(false);
            }
            if full && !self.space_checked {
                self.space_checked = true;
                if self.drive.journal.use_reserve(&run).await {
                    continue;
                }
            }
            if Millis::of(self.drive.runtime.now_mono().since(began)) >= patience {
                return Err(DriveError::journal(&run, error));
            }
            self.drive.runtime.sleep_until(self.drive.runtime.now_mono() + pause).await;
            pause = Millis::new((pause.count() * 2).min(1000));
        }
    }

    /// After the reserve was opened, the run says so once: before the point of no return it turns back.
    pub(super) async fn say_space_is_low(&mut self) -> Result<(), DriveError> {
        if self.space_checked && !self.state.space_low && self.state.outcome.is_none() {
            self.append(vec![Event::SpaceLow]).await?;
        }
        Ok(())
    }

    fn announce(&self, was: Phase) {
        if self.state.phase == was {
            return;
        }
        let well = self.state.outcome.as_ref().is_some_and(RunOutcome::success);
        let (occasion, text) = match self.state.phase {
            Phase::Parked => {
                let question = self.state.ask.as_ref().map(|ask| ask.question.clone()).unwrap_or_default();
                (Occasion::Parked, format!("parked, a person must decide: {question}"))
            }
            Phase::Aborting => {
                let why = self.state.aborting.clone().unwrap_or_default();
                (Occasion::TurningBack, format!("turning back: {why}"))
            }
            Phase::Ended if well => (Occasion::EndedWell, "over".to_owned()),
            Phase::Ended => (Occasion::Ended, "over, without success".to_owned()),
            Phase::New | Phase::Running | Phase::Paused => return,
        };
        self.notify(&format!("{:?}", self.state.phase).to_lowercase(), occasion, &text);
    }
}
