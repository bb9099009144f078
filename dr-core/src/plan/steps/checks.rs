//! Checks before anything is changed: both sides, the candidate, its replication, its lag (D01, D02, D03, E03, E07).

use async_trait::async_trait;
use futures_util::future::join;
use serde::{Deserialize, Serialize};

use super::read::{Seen, conflict, not_yet, see, stale};
use crate::{
    base::{Endpoint, Kind, Millis, text},
    contract::{Class, Description, PositionReading, Replication, Target, Tri},
    plan::{Duty, Effect, Look, Marks, Observed, Output, Stage, Step, StepCx, StepError},
};

/// What was seen of both sides before anything was changed: the system's state for the evidence (D34).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SidesSeen {
    /// The primary; `None` when it is silent.
    pub primary: Option<Description>,
    /// The candidate.
    pub candidate: Description,
    /// Where the candidate was, if its data plane tells.
    pub position: Option<PositionReading>,
}

impl Output for SidesSeen {
    fn type_name() -> std::borrow::Cow<'static, str> {
        "dr.sides-seen".into()
    }
}

/// Reads both sides again: the expected writer writes, the candidate follows it, both are healthy and idle (D01, D02, E03, E07).
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CheckSides {
    /// The expected writer.
    pub primary: Target,
    /// The member that shall become the writer.
    pub candidate: Target,
}

impl Step for CheckSides {
    const KIND: Kind = Kind::new("dr.check-sides", 1);
    const EFFECT: Effect = Effect::ReadOnly;
    const CLASS: Class = Class::Guard;
    type Output = SidesSeen;

    fn sentence(&self) -> String {
        format!("read both sides again: {} writes, {} follows it", self.primary.member, self.candidate.member)
    }

    fn marks(&self) -> Marks {
        Marks::at(Stage::Look).or(Stage::Shorten).duty(Duty::Sides)
    }
}

/// Reads the candidate alone, when the primary is silent: it is a replica of the expected writer, on its lineage, and healthy (D01, E03, E07).
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CheckCandidate {
    /// The last known writer.
    pub primary: Target,
    /// The member that shall become the writer.
    pub candidate: Target,
}

impl Step for CheckCandidate {
    const KIND: Kind = Kind::new("dr.check-candidate", 1);
    const EFFECT: Effect = Effect::ReadOnly;
    const CLASS: Class = Class::Guard;
    type Output = SidesSeen;

    fn sentence(&self) -> String {
        format!("see {} as a healthy replica of {}", self.candidate.member, self.primary.member)
    }

    fn marks(&self) -> Marks {
        Marks::at(Stage::Look).or(Stage::Shorten).duty(Duty::Candidate)
    }
}

/// The candidate receives the primary's history.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CheckReplication {
    /// The standby, with the lineage that it must receive.
    pub candidate: Target,
}

impl Step for CheckReplication {
    const KIND: Kind = Kind::new("dr.check-replication", 1);
    const EFFECT: Effect = Effect::ReadOnly;
    const CLASS: Class = Class::Guard;
    type Output = ();

    fn sentence(&self) -> String {
        format!("see {} receive lineage {}", self.candidate.member, self.candidate.holds())
    }

    fn marks(&self) -> Marks {
        Marks::check(Duty::Replication)
    }
}

/// The candidate is not too far behind. An unknown lag stops.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CheckLag {
    /// The standby.
    pub candidate: Target,
    /// How far it may be behind.
    pub at_most: Millis,
}

impl Step for CheckLag {
    const KIND: Kind = Kind::new("dr.check-lag", 1);
    const EFFECT: Effect = Effect::ReadOnly;
    const CLASS: Class = Class::Guard;
    type Output = ();

    fn sentence(&self) -> String {
        format!("see {} at most {} behind", self.candidate.member, text::human(self.at_most))
    }

    fn marks(&self) -> Marks {
        Marks::check(Duty::Lag)
    }
}

pub(super) struct Sides;

#[async_trait]
impl Look for Sides {
    type Step = CheckSides;

    async fn look(&self, cx: &StepCx, step: &CheckSides) -> Result<Observed<SidesSeen>, StepError> {
        let (primary, candidate) = join(see(cx, &step.primary.member), see(cx, &step.candidate.member)).await;
        let (primary, candidate) = (primary?, candidate?);
        let sides = (&step.primary, &step.candidate);
        if let Some(verdict) = writes(cx, &primary, &step.primary)
            .or_else(|| follows(cx, &candidate, sides, Some(&primary.description.endpoint)))
        {
            return Ok(verdict);
        }
        let seen = SidesSeen {
            primary: Some(primary.description),
            candidate: candidate.description,
            position: candidate.position,
        };
        Ok(Observed::Done(seen))
    }
}

pub(super) struct Candidate;

#[async_trait]
impl Look for Candidate {
    type Step = CheckCandidate;

    async fn look(&self, cx: &StepCx, step: &CheckCandidate) -> Result<Observed<SidesSeen>, StepError> {
        let candidate = see(cx, &step.candidate.member).await?;
        // The primary is silent: what the group file says of it is all that is known.
        let endpoint = cx.database(&step.primary.member)?.known_endpoint();
        if let Some(verdict) = follows(cx, &candidate, (&step.primary, &step.candidate), endpoint.as_ref()) {
            return Ok(verdict);
        }
        let seen = SidesSeen { primary: None, candidate: candidate.description, position: candidate.position };
        Ok(Observed::Done(seen))
    }
}

/// What speaks against `seen` being the writer that the plan expects.
fn writes(cx: &StepCx, seen: &Seen, expected: &Target) -> Option<Observed<SidesSeen>> {
    let member = &expected.member;
    if let Some(why) = seen.differs(expected) {
        return Some(conflict(format_args!("{why}; make a new plan")));
    }
    if let Some(upstream) = &seen.description.follows {
        return Some(conflict(format_args!("`{member}` is no writer: it follows {upstream}; make a new plan")));
    }
    if seen.in_recovery() == Tri::Yes {
        return Some(conflict(format_args!("`{member}` is no writer: it is in recovery; make a new plan")));
    }
    unfit(cx, seen, expected)
}

/// What speaks against `seen` being a standby of the primary that could become the writer.
fn follows(
    cx: &StepCx,
    seen: &Seen,
    sides: (&Target, &Target),
    endpoint: Option<&Endpoint>,
) -> Option<Observed<SidesSeen>> {
    let (primary, candidate) = sides;
    let member = &candidate.member;
    if let Some(why) = seen.differs(candidate) {
        return Some(conflict(format_args!("{why}; make a new plan")));
    }
    match &seen.description.follows {
        Some(_) if seen.description.follows(&primary.address, endpoint) => {}
        Some(upstream) => {
            let wanted = &primary.member;
            return Some(conflict(format_args!(
                "`{member}` follows {upstream}, not `{wanted}`; a cascade is not promoted"
            )));
        }
        None => {
            return Some(conflict(format_args!(
                "`{member}` is no replica: it follows nobody ({})",
                seen.description.status
            )));
        }
    }
    if seen.description.is_copy() != candidate.is_copy() {
        let how = if candidate.is_copy() { "is no logical copy any more" } else { "is fed with changes of rows now" };
        return Some(conflict(format_args!("`{member}` {how}; make a new plan")));
    }
    if seen.in_recovery() == Tri::No {
        let why = if candidate.is_copy() { "it takes writes" } else { "it is not in recovery" };
        return Some(conflict(format_args!("`{member}` is no replica: {why}")));
    }
    unfit(cx, seen, candidate)
}

fn unfit(cx: &StepCx, seen: &Seen, target: &Target) -> Option<Observed<SidesSeen>> {
    let member = &target.member;
    if let Some(why) = stale(cx, &seen.description, member) {
        return Some(not_yet(why));
    }
    if let Some(busy) = &seen.description.busy {
        return Some(not_yet(format_args!("the provider is at work on `{member}` ({busy}); wait for its end")));
    }
    match seen.description.healthy {
        Tri::Yes => None,
        Tri::No => Some(not_yet(format_args!("`{member}` is not healthy: {}", seen.description.status))),
        Tri::Unknown => {
            Some(not_yet(format_args!("nobody can say whether `{member}` is healthy: {}", seen.description.status)))
        }
    }
}

pub(super) struct ReplicationHealth;

#[async_trait]
impl Look for ReplicationHealth {
    type Step = CheckReplication;

    async fn look(&self, cx: &StepCx, step: &CheckReplication) -> Result<Observed<()>, StepError> {
        let reading = cx.database(&step.candidate.member)?.replication().await?;
        Ok(receives(cx, &reading, &step.candidate))
    }
}

/// Whether a standby receives the lineage that it should, freshly seen.
fn receives(cx: &StepCx, reading: &Replication, candidate: &Target) -> Observed<()> {
    let member = &candidate.member;
    if let Some(found) = reading.lineage.as_ref().filter(|found| *found != candidate.holds()) {
        return conflict(format_args!(
            "`{member}` receives lineage {found}, the primary's is {}: it has diverged and needs a rebuild",
            candidate.holds()
        ));
    }
    let age = cx.now().since(reading.at);
    if age > cx.policy().fact_age_of(reading.cadence) {
        return not_yet(format_args!("the replication state of `{member}` is {} old", text::human(age)));
    }
    match reading.streaming {
        Tri::Yes => Observed::Done(()),
        Tri::No => not_yet(format_args!("`{member}` is not attached to its primary")),
        Tri::Unknown => not_yet(format_args!("nobody can say whether `{member}` receives anything")),
    }
}

pub(super) struct Lag;

#[async_trait]
impl Look for Lag {
    type Step = CheckLag;

    async fn look(&self, cx: &StepCx, step: &CheckLag) -> Result<Observed<()>, StepError> {
        let reading = cx.database(&step.candidate.member)?.replication().await?;
        let member = &step.candidate.member;
        let limit = text::human(step.at_most);
        let Some(lag) = reading.lag else {
            // One missing point of a metric ends no run; the step's time does.
            return Ok(not_yet(format_args!(
                "the lag of `{member}` is not known, the limit is {limit}; an unknown lag is no small one"
            )));
        };
        let age = cx.now().since(reading.at);
        Ok(if age > cx.policy().fact_age_of(reading.cadence) {
            not_yet(format_args!("the lag of `{member}` was read {} ago", text::human(age)))
        } else if lag > step.at_most {
            not_yet(format_args!("`{member}` is {} behind, the limit is {limit}", text::human(lag)))
        } else {
            Observed::Done(())
        })
    }
}
