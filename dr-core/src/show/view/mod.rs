//! What people see of a run: the whole truth each time, so nothing has to be folded. The same text serves terminal, log and
//! platform.

mod page;
mod step;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use serde::Serialize;

pub(crate) use step::person;
pub use step::{StepTook, StepView, took};

use crate::{
    base::{Actor, Digest, Epoch, GroupName, MemberId, Millis, NodeId, RunId, RunbookId, Timestamp},
    contract::{Class, Given},
    plan::Purpose,
    run::{Ask, AskKind, NodePhase, Phase, RunOutcome, RunState, node_rows, run_rows},
};

/// Where a run stands, as people need to know it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case", tag = "is")]
pub enum Standing {
    /// Going on.
    Running,
    /// Waits for the answer of people before it changes anything.
    Asking,
    /// Waits for a person: it cannot go on by itself.
    Parked,
    /// Nothing new begins, because a person wanted so.
    Paused,
    /// Gives back what it took.
    TurningBack,
    /// Over.
    Done {
        /// How it ended.
        outcome: RunOutcome,
    },
}

/// What the run does now, in words.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Sentence {
    /// The words.
    pub text: String,
    /// The transition that led here; its sentence stands in the documentation.
    pub rule: u16,
    /// Since when.
    pub since: Timestamp,
}

/// When the run is expected to end: learnt from earlier runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Eta {
    /// Not before.
    pub earliest: Timestamp,
    /// Not after, if nothing unusual happens.
    pub latest: Timestamp,
}

/// How far the run is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Progress {
    /// Steps that need nothing more.
    pub done: usize,
    /// All steps of the plan.
    pub total: usize,
    /// The expected end; absent while people are waited for, and when nothing is known about a step that is left.
    pub eta: Option<Eta>,
}

/// Something that is held right now: what the application feels.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct HeldView {
    /// The step that took it.
    pub node: NodeId,
    /// What kind of step.
    pub class: Class,
    /// Since when, at the latest.
    pub since: Timestamp,
    /// How long it has been held.
    pub lasts: Millis,
}

/// A run as people see it. `Display` is the terminal's page.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub struct View {
    /// The run.
    pub run: RunId,
    /// Its group.
    pub group: GroupName,
    /// Which runbook made the plan.
    pub runbook: RunbookId,
    /// What the plan is for.
    pub purpose: Purpose,
    /// The writer at the beginning.
    pub from: MemberId,
    /// The member that becomes the writer, if the plan changes it.
    pub to: Option<MemberId>,
    /// The hash of the plan.
    pub plan: Digest,
    /// Who asked for it.
    pub by: Actor,
    /// Why.
    pub because: String,
    /// Where it stands.
    pub state: Standing,
    /// What it does now.
    pub sentence: Sentence,
    /// The steps in the author's order, then what is given back while turning back.
    pub steps: Vec<StepView>,
    /// How far it is.
    pub progress: Progress,
    /// What is held right now, the earliest first.
    pub held: Vec<HeldView>,
    /// Whether the point of no return is passed: from there the run only goes forward or parks.
    pub no_return: bool,
    /// Whether somebody asked it to turn back, and why.
    pub cancel: Option<String>,
    /// Whether nothing is left but work for which nobody waits: applications write, and the run can be ended early.
    pub only_owed_left: bool,
    /// Whether somebody asked it to end early, and why.
    pub finish: Option<String>,
    /// What people are asked now.
    pub ask: Option<Ask>,
    /// The digest that an answer must quote.
    pub ask_digest: Option<Digest>,
    /// Who answered so far.
    pub given: Vec<Given>,
    /// The engine that drives the run, or drove it last.
    pub epoch: Epoch,
    /// When this was true.
    pub now: Timestamp,
    /// The last event; ask again from here after a reconnect.
    pub seq: u32,
}

impl View {
    /// The view of a run at `now`; `history` holds how long steps took in earlier runs of the group.
    #[must_use]
    pub fn of(state: &RunState, now: Timestamp, history: &[StepTook]) -> Self {
        let steps = step::of(state, now, history);
        let held = state.held().into_iter().map(|thing| HeldView {
            lasts: now.since(thing.since),
            node: thing.node,
            class: thing.class,
            since: thing.since,
        });
        let standing = standing(state);
        Self {
            run: state.run.clone(),
            group: state.plan.group.clone(),
            runbook: state.plan.runbook.clone(),
            purpose: state.plan.purpose,
            from: state.plan.expects.member.clone(),
            to: state.plan.to.clone(),
            plan: state.hash,
            by: state.by.clone(),
            because: state.because.clone(),
            sentence: sentence(state, &standing),
            progress: progress(state, &standing, now, history),
            state: standing,
            steps,
            held: held.collect(),
            no_return: state.pivot_stands(),
            cancel: state.cancel.clone(),
            only_owed_left: state.pivot_stands() && state.only_owed_left(),
            finish: state.finish.clone(),
            ask: state.ask.clone(),
            ask_digest: state.ask.as_ref().and_then(|ask| ask.digest().ok()),
            given: state.given.clone(),
            epoch: state.epoch,
            now,
            seq: state.seq,
        }
    }

    /// What an answer is confirmed with: people type it, so that nobody approves what they did not read.
    #[must_use]
    pub fn code(&self) -> Option<String> {
        self.ask_digest.map(|digest| digest.code())
    }

    /// Whether a person has to do something before the run goes on.
    #[must_use]
    pub fn waits_for_people(&self) -> bool {
        matches!(self.state, Standing::Asking | Standing::Parked | Standing::Paused)
    }

    /// Whether applications cannot write because of this run.
    #[must_use]
    pub fn writes_stopped(&self) -> bool {
        self.held.iter().any(|held| held.class == Class::Drain)
    }

    /// How the run ended, if it did.
    #[must_use]
    pub fn outcome(&self) -> Option<&RunOutcome> {
        match &self.state {
            Standing::Done { outcome } => Some(outcome),
            Standing::Running | Standing::Asking | Standing::Parked | Standing::Paused | Standing::TurningBack => None,
        }
    }
}

fn standing(state: &RunState) -> Standing {
    match (state.phase, &state.outcome) {
        (Phase::Ended, Some(outcome)) => Standing::Done { outcome: outcome.clone() },
        (Phase::Parked, _) => Standing::Parked,
        (Phase::Paused, _) => Standing::Paused,
        (Phase::Aborting, _) => Standing::TurningBack,
        (Phase::New | Phase::Running | Phase::Ended, _) => {
            if state.ask.is_some() {
                Standing::Asking
            } else {
                Standing::Running
            }
        }
    }
}

fn sentence(state: &RunState, standing: &Standing) -> Sentence {
    let of_run = |text: String| Sentence { text, rule: state.rule, since: state.since };
    match standing {
        Standing::Running => active(state).unwrap_or_else(|| of_run(run_sentence(state.rule).into())),
        Standing::Asking => {
            let asked = state.ask.as_ref().map(|ask| Sentence {
                text: format!("waits for people: {}", ask.question),
                rule: ask.rule.unwrap_or(if ask.kind == AskKind::Waiver { 556 } else { 551 }),
                since: ask.since,
            });
            asked.unwrap_or_else(|| of_run("people are asked".into()))
        }
        Standing::Parked => {
            let question = state.ask.as_ref().map(|ask| ask.question.clone());
            of_run(question.unwrap_or_else(|| run_sentence(state.rule).into()))
        }
        Standing::Paused => of_run(run_sentence(state.rule).into()),
        Standing::TurningBack => of_run(match &state.aborting {
            Some(reason) => format!("turning back: {reason}"),
            None => run_sentence(state.rule).into(),
        }),
        Standing::Done { outcome } => of_run(ended(outcome)),
    }
}

/// What is under way: the earliest step that is.
fn active(state: &RunState) -> Option<Sentence> {
    let busy = state.nodes.iter().filter(|(_, node)| match node.phase {
        NodePhase::Looking
        | NodePhase::Intended
        | NodePhase::Accepted
        | NodePhase::InDoubt
        | NodePhase::Backoff
        | NodePhase::Failed => true,
        NodePhase::Waiting | NodePhase::Asking | NodePhase::Done | NodePhase::Owed => false,
    });
    let (id, node) = busy.min_by_key(|(_, node)| node.started)?;
    let what = state.plan.call(id).map_or_else(|| id.to_string(), |call| call.sentence.clone());
    let text = match node.phase {
        NodePhase::Looking | NodePhase::Intended | NodePhase::Accepted => what,
        NodePhase::InDoubt | NodePhase::Backoff | NodePhase::Failed => format!("{what}: {}", node_sentence(node.rule)),
        NodePhase::Waiting | NodePhase::Asking | NodePhase::Done | NodePhase::Owed => return None,
    };
    Some(Sentence { text, rule: node.rule, since: node.started.unwrap_or(state.since) })
}

/// The sentence of a run's transition.
pub(crate) fn run_sentence(rule: u16) -> &'static str {
    run_rows().iter().find(|row| row.number == rule).map_or("", |row| row.sentence)
}

/// The sentence of a step's transition.
pub(crate) fn node_sentence(rule: u16) -> &'static str {
    node_rows().iter().find(|row| row.number == rule).map_or("", |row| row.sentence)
}

/// How a run ended, in words.
pub(crate) fn ended(outcome: &RunOutcome) -> String {
    match outcome {
        RunOutcome::Succeeded => "done".into(),
        RunOutcome::SucceededWithDebt { debts } => format!("done, and owed: {}", debts.join("; ")),
        RunOutcome::Refused { reason } => format!("refused, nothing was changed: {reason}"),
        RunOutcome::Aborted { reason } => format!("turned back, everything taken was given back: {reason}"),
        RunOutcome::Cancelled { reason } => format!("cancelled, everything taken was given back: {reason}"),
        RunOutcome::HandedOver { reason } => format!("handed over, the rest is done by hand: {reason}"),
    }
}

fn progress(state: &RunState, standing: &Standing, now: Timestamp, history: &[StepTook]) -> Progress {
    let done = state.plan.order.iter().filter(|id| state.phase_of(id).settled()).count();
    let total = state.plan.order.len();
    let waits = done == total || !matches!(standing, Standing::Running);
    let eta = if waits { None } else { eta(state, now, history) };
    Progress { done, total, eta }
}

/// The critical path over what is left, once with the shortest and once with the longest times seen.
fn eta(state: &RunState, now: Timestamp, history: &[StepTook]) -> Option<Eta> {
    let mut ends: BTreeMap<NodeId, (u64, u64)> = BTreeMap::new();
    for id in state.plan.topological() {
        let node = state.plan.nodes.get(&id)?;
        let before = node.before_it();
        let begins = |high: bool| {
            let end = |id: &NodeId| ends.get(id).map_or(0, |(low, late)| if high { *late } else { *low });
            before.iter().map(end).max().unwrap_or(0)
        };
        let (low, high) = if state.phase_of(&id).settled() {
            (0, 0)
        } else if node.call.class == Class::Consent {
            return None;
        } else {
            let (low, high) = step::usual(&node.call.kind, node.about, history)?;
            let spent = state.node(&id).started.map_or(Millis::ZERO, |started| now.since(started));
            (low.saturating_sub(spent).count(), high.saturating_sub(spent).count())
        };
        let end = (begins(false).saturating_add(low), begins(true).saturating_add(high));
        ends.insert(id, end);
    }
    let low = ends.values().map(|end| end.0).max()?;
    let high = ends.values().map(|end| end.1).max()?;
    Some(Eta { earliest: now + Millis::new(low), latest: now + Millis::new(high) })
}
