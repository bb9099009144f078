//! Whether what the run did follows from what it recorded: the events go through the pure run machine once more.

use std::collections::BTreeSet;

use dr_core::{
    RunId, Timestamp,
    base::Digest,
    contract::Class as StepClass,
    run::{Command, Event, Head, Line, NodePhase, Phase, Record, RunOutcome, RunState, decide},
};

use super::{Code, Place, Work};
use crate::{
    bundle::{Claim, KeyClaim, PLAN, RUN_KEY, STATEMENT, Standing},
    tree,
};

/// What was signed of the run.
pub(super) struct Signed {
    pub(super) certificate: Option<KeyClaim>,
    pub(super) claim: Option<Claim>,
}

impl Work<'_> {
    /// Replays the lines, and answers them as records if the machine takes them all.
    pub(super) fn replay(
        &mut self,
        run: &RunId,
        lines: &[Line],
        signed: &Signed,
        sizes: &BTreeSet<u64>,
    ) -> Vec<Record> {
        if lines.is_empty() {
            self.find(Code::EventsCut, Place::event(0), "there is no event at all");
        }
        let Some((state, records)) = self.play(run, lines) else { return Vec::new() };
        self.checked.replayed = records.len();
        self.plan(&state);
        self.signed(&state, lines, signed);
        self.promotions(&state, &records, sizes);
        self.end(&state);
        records
    }

    fn play(&mut self, run: &RunId, lines: &[Line]) -> Option<(RunState, Vec<Record>)> {
        let mut records = Vec::new();
        let mut state: Option<RunState> = None;
        let mut last: Option<Timestamp> = None;
        for (index, line) in lines.iter().enumerate() {
            let record = Record::parse(line).ok()?;
            let stepped = match &mut state {
                None => RunState::begin(run.clone(), &record).map(|begun| state = Some(begun)),
                Some(state) => {
                    if let Some((code, what)) = contradicts(state, &record.event) {
                        self.find(code, Place::event(index), what);
                    }
                    state.apply(&record)
                }
            };
            if let Err(error) = stepped {
                self.find(Code::EventIllegal, Place::event(index), error);
                return None;
            }
            if last.is_some_and(|last| record.at < last) {
                let what = format!("it was recorded at {}, before the event in front of it", record.at);
                self.find(Code::ClockWentBack, Place::event(index), what);
            }
            last = Some(record.at);
            records.push(record);
        }
        state.map(|state| (state, records))
    }

    fn plan(&mut self, state: &RunState) {
        let Some(bytes) = self.bundle.file(PLAN) else { return };
        if state.plan.canonical().ok().as_deref().map(str::as_bytes) != Some(bytes) {
            self.in_file(Code::PlanDiffers, PLAN, "the run began with another plan (event 1)");
        }
    }

    fn signed(&mut self, state: &RunState, lines: &[Line], signed: &Signed) {
        if let Some(claim) = &signed.claim {
            let leaves: Vec<Digest> = lines.iter().map(|line| line.hash).collect();
            let head = lines.last().map_or(Head::EMPTY, |line| Head { seq: line.seq, hash: line.hash });
            let events = Claim::of(state, head, tree::root(&leaves), (claim.sealed, &claim.program));
            if events != *claim {
                self.in_file(Code::StatementClaim, STATEMENT, "it says something else of the run than the events");
            }
        }
        if self.accused(RUN_KEY) && signed.certificate.is_some() && self.changed.contains(RUN_KEY) {
            return;
        }
        let Some(certificate) = &signed.certificate else { return };
        if certificate.run != state.run || certificate.origin != state.origin {
            let what = format!("the key was certified for {}, and this run is {}", certificate.run, state.run);
            self.in_file(Code::CertificateOfOtherRun, RUN_KEY, what);
        }
        if let Some(claim) = &signed.claim
            && (claim.sealed < certificate.from || claim.sealed > certificate.until)
        {
            let what = format!(
                "the key was certified from {} to {}, and the bundle sealed at {}",
                certificate.from, certificate.until, claim.sealed
            );
            self.in_file(Code::KeyOutOfTime, STATEMENT, what);
        }
    }

    /// E04: the record that the promotion was decided on is signed before the call leaves.
    fn promotions(&mut self, state: &RunState, records: &[Record], sizes: &BTreeSet<u64>) {
        for (index, record) in records.iter().enumerate() {
            let Event::Intended { node, .. } = &record.event else { continue };
            if state.plan.call(node).is_none_or(|call| call.class != StepClass::Pivot) {
                continue;
            }
            let mut later = records.iter().skip(index.saturating_add(1));
            let next = later.find(|later| later.event.node() == Some(node)).map_or(u32::MAX, |later| later.seq);
            if sizes.range(u64::from(record.seq)..u64::from(next)).next().is_none() {
                let what = format!("no checkpoint was signed between this intent of `{node}` and its outcome");
                self.find(Code::NoCheckpointBeforePromotion, Place::event(index), what);
            }
        }
    }

    fn end(&mut self, state: &RunState) {
        let last = usize::try_from(state.seq).unwrap_or(usize::MAX).saturating_sub(1);
        if Standing::of(state.phase) != Standing::Ended {
            let what = if state.phase == Phase::Parked {
                "the run waited for a person when it was sealed; what came later is not in this record"
            } else {
                "the run was not over when it was sealed; what came later is not in this record"
            };
            self.find(Code::NotOver, Place::event(last), what);
        } else if !matches!(state.outcome, Some(RunOutcome::HandedOver { .. })) {
            for (node, _) in state.nodes.iter().filter(|(_, node)| node.phase == NodePhase::Intended) {
                let what = format!("the run is over, and the intent of `{node}` has no outcome");
                self.find(Code::IntentWithoutOutcome, Place::event(last), what);
            }
        }
    }
}

/// Whether an event does not follow from the state before it, although the machine knows such a transition.
fn contradicts(state: &RunState, event: &Event) -> Option<(Code, String)> {
    if let Event::Intended { node, .. } = event
        && matches!(state.phase, Phase::Running | Phase::Paused)
    {
        let before = state.plan.nodes.get(node)?.before_it();
        let open = before.iter().find(|before| !state.phase_of(before).settled())?;
        return Some((
            Code::StepOutOfOrder,
            format!("`{node}` was sent while `{open}`, which comes before it, was not done"),
        ));
    }
    let ends = matches!(event, Event::Ended { .. });
    let follows = || decide(state).iter().any(|command| matches!(command, Command::Record(own) if **own == *event));
    (ends && !follows())
        .then(|| (Code::EndDoesNotFollow, "what was recorded before it leads to another end".to_owned()))
}
