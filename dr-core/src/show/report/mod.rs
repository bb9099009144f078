//! What a run came to: outcome, write gap, time by phase, loss, timeline and what is owed. Computed from its records and nothing
//! else, so the same journal gives the same report anywhere.

mod html;
mod measure;
mod page;
mod timeline;

use std::path::PathBuf;

use serde::{Serialize, Serializer};

pub use measure::{Measured, PhaseName, PhaseTook};
pub use timeline::Moment;

use crate::{
    base::{Digest, GroupName, MemberId, Millis, NodeId, RunId, RunbookId, Timestamp},
    contract::{Class, Consent, Dropped, Loss, LossBound, LossMeasurement},
    plan::{Output, Purpose, steps::Rehearsed},
    run::{Debt, Illegal, NodePhase, Record, RunOutcome, RunState},
};

/// The version of [`Report::to_json`]'s form.
const SCHEMA: &str = "dr.report/2";

/// What a run came to. `Display` is the terminal's page.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Report {
    /// The form's name and version.
    pub schema: &'static str,
    /// The run.
    pub run: RunId,
    /// Its group.
    pub group: GroupName,
    /// Which runbook made the plan.
    pub runbook: RunbookId,
    /// What the plan was for.
    pub purpose: Purpose,
    /// The writer at the beginning.
    pub from: MemberId,
    /// The member that was to become the writer, if the plan changes it.
    pub to: Option<MemberId>,
    /// The hash of the plan.
    pub plan: Digest,
    /// Who asked for it.
    pub by: String,
    /// Why.
    pub because: String,
    /// When it began.
    pub started: Timestamp,
    /// When it ended, if it did.
    pub ended: Option<Timestamp>,
    /// How it ended; absent while it goes on.
    pub outcome: Option<RunOutcome>,
    /// How long applications could not write, counted from the intent to hold them back until they were let through again: never
    /// less than it was. Absent when nothing was held back, or it still is.
    pub write_gap: Option<Millis>,
    /// Since when applications' writes are held back, if they still are.
    pub held_since: Option<Timestamp>,
    /// How long the run took, by phase.
    pub rto: Measured,
    /// Acknowledged writes that were lost.
    pub lost: Loss,
    /// How `lost` is known.
    pub lost_by: String,
    /// What the change dropped although the log lost nothing, as the last rehearsal counted it: `lost` covers the log alone. Empty when
    /// nothing was promoted.
    pub dropped: Vec<Dropped>,
    /// What happened, in order.
    pub timeline: Vec<Moment>,
    /// What is left to do.
    pub follow_ups: Vec<Debt>,
    /// Where the evidence is, if it was kept.
    #[serde(serialize_with = "shown_path")]
    pub evidence: Option<PathBuf>,
    /// The target of the group for the write gap, if the reader knows it.
    pub target: Option<Millis>,
}

/// The records are not those of one run.
#[derive(Debug, thiserror::Error)]
pub enum NotReportable {
    /// There is none.
    #[error("the journal of {0} is empty")]
    Empty(RunId),
    /// One does not follow from those before it.
    #[error("record {seq} of {run} does not follow from those before it")]
    Illegal {
        /// The run.
        run: RunId,
        /// The record.
        seq: u32,
        /// Why.
        source: Illegal,
    },
}

impl Report {
    /// The report of a run's records, complete or so far.
    ///
    /// # Errors
    /// [`NotReportable`] when the records are not those of one run.
    pub fn of(run: &RunId, records: &[Record]) -> Result<Self, NotReportable> {
        let (first, rest) = records.split_first().ok_or_else(|| NotReportable::Empty(run.clone()))?;
        let illegal = |seq, source| NotReportable::Illegal { run: run.clone(), seq, source };
        let mut state = RunState::begin(run.clone(), first).map_err(|source| illegal(first.seq, source))?;
        let mut timeline = vec![timeline::moment(&state, first)];
        for record in rest {
            state.apply(record).map_err(|source| illegal(record.seq, source))?;
            if timeline::tells(&record.event) {
                timeline.push(timeline::moment(&state, record));
            }
        }
        let (lost, lost_by) = lost(&state);
        Ok(Self {
            schema: SCHEMA,
            run: run.clone(),
            group: state.plan.group.clone(),
            runbook: state.plan.runbook.clone(),
            purpose: state.plan.purpose,
            from: state.plan.expects.member.clone(),
            to: state.plan.to.clone(),
            plan: state.hash,
            by: state.by.name.clone(),
            because: state.because.clone(),
            started: state.started,
            ended: state.outcome.as_ref().map(|_| state.last),
            outcome: state.outcome.clone(),
            write_gap: measure::write_gap(&state),
            held_since: state.drained_since(),
            rto: measure::rto(&state),
            lost,
            lost_by,
            dropped: dropped(&state),
            timeline,
            follow_ups: Debt::of(&state),
            evidence: None,
            target: None,
        })
    }

    /// Says where the evidence was kept.
    #[must_use]
    pub fn with_evidence(mut self, place: impl Into<PathBuf>) -> Self {
        self.evidence = Some(place.into());
        self
    }

    /// Says which write gap the group aims at, so that a miss is shown.
    #[must_use]
    pub fn with_target(mut self, target: Millis) -> Self {
        self.target = Some(target);
        self
    }

    /// The report as JSON; the form is named in `schema` and changes only with it.
    #[must_use]
    pub fn to_json(&self) -> serde_json::Value {
        serde_json::to_value(self).unwrap_or_default()
    }

    /// The report as one HTML file that needs nothing else.
    #[must_use]
    pub fn to_html(&self) -> String {
        html::page(self)
    }
}

fn shown_path<S: Serializer>(path: &Option<PathBuf>, serializer: S) -> Result<S::Ok, S::Error> {
    path.as_ref().map(|path| path.to_string_lossy()).serialize(serializer)
}

/// The outputs of all finished steps whose output is `T`.
fn outputs<T: Output>(state: &RunState) -> Vec<T> {
    let name = T::type_name();
    let is = |output: &str| output == name || output.strip_prefix("attempted ") == Some(&*name);
    let of = |id: &NodeId| {
        state.plan.call(id).filter(|call| is(&call.output))?;
        serde_json::from_value(state.nodes.get(id)?.output.as_ref()?.0.clone()).ok()
    };
    state.plan.order.iter().filter_map(of).collect()
}

const NOT_PROMOTED: &str = "nothing was promoted";

/// What was lost, by the best evidence there is: counted, bounded, agreed to, promised by the plan. Nothing was promoted: nothing lost.
fn lost(state: &RunState) -> (Loss, String) {
    if !state.pivot_stands() {
        return (Loss::Nothing, NOT_PROMOTED.into());
    }
    if let Some(measured) = outputs::<LossMeasurement>(state).pop() {
        return (measured.loss, measured.how);
    }
    if let Some(bound) = outputs::<LossBound>(state).pop() {
        return (bound.loss, "bounded before the promotion; not counted afterwards".into());
    }
    let caught_up = state
        .plan
        .nodes
        .iter()
        .any(|(id, node)| matches!(node.call.class, Class::CatchUp) && state.phase_of(id) == NodePhase::Done);
    if caught_up && state.plan.loss == Loss::Nothing {
        return (Loss::Nothing, "the candidate had everything before it was promoted".into());
    }
    if let Some(consent) = outputs::<Consent>(state).pop().filter(|consent| consent.loss != Loss::Nothing) {
        return (consent.loss, "accepted by those who approved; not counted afterwards".into());
    }
    let because = "no proof that the candidate had everything was recorded";
    (Loss::Unknown { because: because.into() }, "not counted".into())
}

/// What went with the promotion beyond the log, as it was shown before it.
fn dropped(state: &RunState) -> Vec<Dropped> {
    let rehearsed = outputs::<Rehearsed>(state).pop().filter(|_| state.pivot_stands());
    rehearsed.map(|rehearsed| rehearsed.drops).unwrap_or_default()
}
