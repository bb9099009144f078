//! What happened, one line per event.

use serde::Serialize;

use crate::{
    base::{NodeId, Timestamp},
    run::{Event, Record, RunState},
    show::view::{ended, node_sentence, person, run_sentence},
};

/// One thing that happened.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Moment {
    /// When it was recorded.
    pub at: Timestamp,
    /// Its record.
    pub seq: u32,
    /// The step, if it is about one.
    pub node: Option<NodeId>,
    /// The transition.
    pub rule: u16,
    /// What happened, in words.
    pub text: String,
}

/// Whether an event is worth a line: progress in percent is not.
pub(super) fn tells(event: &Event) -> bool {
    !matches!(event, Event::Progressed { .. } | Event::Absent { .. })
}

/// The moment of `record`, which `state` has taken in already.
pub(super) fn moment(state: &RunState, record: &Record) -> Moment {
    let node = record.event.node().cloned();
    let rule = node.as_ref().and_then(|id| state.nodes.get(id)).map_or(state.rule, |node| node.rule);
    let sentence = if node.is_some() { node_sentence(rule) } else { run_sentence(rule) };
    let text = match said(&record.event) {
        Some(said) => format!("{sentence}: {said}"),
        None => sentence.to_owned(),
    };
    Moment { at: record.at, seq: record.seq, node, rule, text }
}

/// What the event adds to the sentence of its transition.
fn said(event: &Event) -> Option<String> {
    match event {
        Event::Started { hash, by, because, .. } => Some(format!("plan {hash}, for {by}: {because}")),
        Event::LeaseTaken { holder } => Some(holder.clone()),
        Event::Intended { attempt, .. } => (*attempt > 1).then(|| format!("attempt {attempt}")),
        Event::Accepted { handle, .. } => (!handle.is_none()).then(|| format!("operation {handle}")),
        Event::NotDone { cause, .. }
        | Event::InDoubt { cause, .. }
        | Event::Failed { cause, .. }
        | Event::Owed { cause, .. }
        | Event::RestOwed { cause } => Some(cause.to_string()),
        Event::Asked { ask, .. } | Event::Parked { ask } => Some(ask.question.clone()),
        Event::Answered { given, .. } => {
            let note = given.note.as_ref().map(|note| format!(": {note}")).unwrap_or_default();
            Some(format!("{} by {}{note}", given.choice, person(given)))
        }
        Event::TurnedAway { why, .. } => Some(why.clone()),
        Event::Waived { waived, .. } => Some(format!(
            "{} by {}: {}",
            waived.accepts,
            waived.given.iter().map(person).collect::<Vec<_>>().join(", "),
            waived.reason
        )),
        Event::Voided { diff, .. } => Some(diff.join("; ")),
        Event::PauseSet { by, because: None, .. } => Some(by.to_string()),
        Event::PauseSet { by, because: Some(because), .. }
        | Event::CancelAsked { by, because, .. }
        | Event::FinishAsked { by, because, .. } => Some(format!("{by}: {because}")),
        Event::Aborting { reason } => Some(reason.clone()),
        Event::Decided { choice, by } if by.is_empty() => Some(choice.clone()),
        Event::Decided { choice, by } => Some(format!("{choice} ({})", by.join(", "))),
        Event::Ended { outcome } => Some(ended(outcome)),
        Event::Began { .. }
        | Event::Finished { .. }
        | Event::Absent { .. }
        | Event::Progressed { .. }
        | Event::DrainOverBudget
        | Event::ClientsTurnedAway
        | Event::SpaceLow => None,
    }
}
