//! Appending: durable or not at all, fenced by the epoch, with the reserve when the disk is full.

use super::{DriveError, Driver, INTENT_PATIENCE, OUTCOME_PATIENCE};
use crate::{
    Head, Journal, JournalError, Line, Millis, RunId,
    run::{Event, Phase, Record},
};

/// What a full disk means for an append.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Full {
    /// The reserve is opened.
    Reserve,
    /// It is not stored, and that is an answer.
    Refuse,
}

/// An append whose answer was lost may have been stored: then the journal ends in exactly these lines.
async fn stored_already(journal: &dyn Journal, run: &RunId, after: u64, lines: &[Line]) -> bool {
    journal.read(run, after).await.is_ok_and(|found| found == lines)
}

impl Driver {
    /// Makes events durable, then part of the state. What cannot be stored did not happen: the driver goes on trying and sends
    /// nothing meanwhile.
    pub(super) async fn append(&mut self, events: Vec<Event>) -> Result<(), DriveError> {
        self.append_or(events, Full::Reserve).await.map(drop)
    }

    /// Makes an intent durable; if it cannot be, nothing is sent. On a full disk the reserve is kept for outcomes and for turning
    /// back: a forward intent before the point of no return answers `false` and the run says that space is low.
    pub(super) async fn append_intent(&mut self, intent: Event) -> Result<bool, DriveError> {
        let forward = self.state.aborting.is_none() && !self.state.promote_intended;
        if self.append_or(vec![intent], if forward { Full::Refuse } else { Full::Reserve }).await? {
            return Ok(true);
        }
        self.append(vec![Event::SpaceLow]).await?;
        Ok(false)
    }

    async fn append_or(&mut self, events: Vec<Event>, full: Full) -> Result<bool, DriveError> {
        let run = self.drive.run.clone();
        let now = self.drive.runtime.now_wall();
        let mut head = self.head;
        let mut records = Vec::with_capacity(events.len());
        let mut lines: Vec<Line> = Vec::with_capacity(events.len());
        for event in events {
            let record = Record::after(head, now, self.drive.lease.epoch, event);
            let line = record.line().map_err(|source| DriveError::Canonical { run: run.clone(), source })?;
            head = Head { seq: line.seq, hash: line.hash };
            lines.push(line);
            records.push(record);
        }
        // The events are checked against the table before they are stored: a journal never holds what cannot be replayed.
        let mut next = self.state.clone();
        for record in &records {
            let seq = u64::from(record.seq);
            next.apply(record).map_err(|source| DriveError::Illegal { run: run.clone(), seq, source })?;
        }
        let was = self.state.phase;
        let intent = records.iter().any(|record| record.event.precedes_effect());
        if !self.store(lines, intent, full).await? {
            return Ok(false);
        }
        self.head = head;
        self.state = next;
        self.announce(was);
        Ok(true)
    }

    async fn store(&mut self, lines: Vec<Line>, intent: bool, on_full: Full) -> Result<bool, DriveError> {
        let run = self.drive.run.clone();
        let began = self.drive.runtime.now_mono();
        let patience = if intent { INTENT_PATIENCE } else { OUTCOME_PATIENCE };
        let mut pause = Millis::new(20);
        loop {
            let epoch = self.drive.lease.epoch;
            let Err(error) = self.drive.journal.append(&run, epoch, self.head.seq, lines.clone()).await else {
                return Ok(true);
            };
            let JournalError::Store { full, .. } = &error else {
                // Fenced off means that nothing may be sent on the strength of these lines, stored earlier or not.
                let fenced = matches!(error, JournalError::Fenced { .. });
                if !fenced && stored_already(self.drive.journal.as_ref(), &run, self.head.seq, &lines).await {
                    return Ok(true);
                }
                return Err(DriveError::journal(&run, error));
            };
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
        let text = match self.state.phase {
            Phase::Parked => {
                let question = self.state.ask.as_ref().map(|ask| ask.question.clone()).unwrap_or_default();
                format!("parked, a person must decide: {question}")
            }
            Phase::Aborting => format!("turning back: {}", self.state.aborting.clone().unwrap_or_default()),
            Phase::Ended => "over".to_owned(),
            Phase::New | Phase::Running | Phase::Paused => return,
        };
        self.notify(&format!("{:?}", self.state.phase).to_lowercase(), &text);
    }
}
