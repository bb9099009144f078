//! What a step declares about itself, so that the rules over plans name no step kind and read no parameter.
//!
//! ```text
//!  Lock ► Look ► Check ► Ask ► Shorten ► Hold ► Fence ► Prove ► Change ► Clear ► Confirm ► Move ► Recheck ► Open ► After
//!                                                                                  └► Owe (nobody waits for it but what follows on the former primary)
//! ```

use serde::{Deserialize, Serialize};

use crate::{
    contract::{Binding, Grade},
    plan::Purpose,
};

/// Where in a change of the writer a step has its place. Every step of a stage waits for every step of the stages before it (DR163).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Stage {
    /// Nobody else operates this group.
    Lock,
    /// Who is who, and who answers.
    Look,
    /// Whether the change can be made, and what it would cost.
    Check,
    /// People are asked.
    Ask,
    /// After the answer and before writes stop: looking once more, and whatever makes the gap short.
    Shorten,
    /// Writes of applications are held back.
    Hold,
    /// The former primary is kept from writing.
    Fence,
    /// What the candidate has, or what will be lost.
    Prove,
    /// The promotion or swap.
    Change,
    /// The new writer is made ready for its applications: freed of what the fence of its predecessor left with it, its sequences raised.
    Clear,
    /// There is exactly one writer.
    Confirm,
    /// A fence that could not be had before the promotion. Nothing waits for it but what is done to the former primary afterwards.
    Owe,
    /// Applications are pointed at the writer.
    Move,
    /// The writer, once more, before applications are let through.
    Recheck,
    /// Applications write again.
    Open,
    /// What nobody waits for: serving, loss, notices, the way back to a pair.
    After,
}

impl Stage {
    /// Why a step of this stage may not come before those of the stages before it.
    #[must_use]
    pub const fn why(self) -> &'static str {
        match self {
            Self::Lock => "",
            Self::Look => "another orchestrator may change what it sees",
            Self::Check => "it may look at the wrong member",
            Self::Ask => "people would be asked before it is known whether the change can be made",
            Self::Shorten => {
                "what changes while people think would not be found, or something would begin that nobody agreed to"
            }
            Self::Hold => "an obstacle would be found, or time be lost, while writes are held back",
            Self::Fence => "clients would see errors instead of waiting",
            Self::Prove => "writes go on",
            Self::Change => "there would be no way back from what is found too late",
            Self::Clear => "something would be taken from, or set on, a member that is not the writer yet",
            Self::Confirm => "the writer before the change would be confirmed",
            Self::Owe => "the former primary may still be the writer",
            Self::Move => "applications would be sent to a writer that is not confirmed",
            Self::Recheck => "what moves slowly, or is still cold, would come after the last look",
            Self::Open => "applications would be sent to a writer that was not looked at again",
            Self::After => "it would see what was so before, or slow the writer down while clients wait",
        }
    }
}

/// What a plan needs a step for, where the step's class does not say it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Duty {
    /// Locks the group at the resource itself.
    GroupLock,
    /// Sees both sides as they were expected.
    Sides,
    /// Sees the candidate of a failover as it was expected.
    Candidate,
    /// Sees that the primary is silent.
    Silence,
    /// Sees that the candidate receives.
    Replication,
    /// Sees that the candidate is not far behind.
    Lag,
    /// Sees that no transaction is old.
    Transactions,
    /// Sees that applications find the same engine there.
    Parity,
    /// Rehearses what the change needs, before people are asked.
    Rehearsal,
    /// Rehearses it once more after their answer.
    RehearsalAgain,
    /// Reads the sequences of the primary of a logical copy.
    SequencesRead,
    /// Raises the sequences of a logical copy that was promoted.
    SequencesRaised,
    /// Bounds what a failover may lose.
    LossBound,
    /// Tells people.
    Notice,
    /// Keeps what a server has.
    Snapshot,
    /// Makes the gap short.
    Settling,
    /// Looks at the writer once more.
    WriterStill,
    /// Sees what a route serves.
    Serving,
    /// Measures the loss.
    LossMeasured,
    /// Makes the former primary a standby.
    Rejoin,
    /// Makes another standby follow the new writer, or sees a member do so. Nothing that a member has can be lost by it.
    Follow,
}

/// Where a plan that changes the writer must have a step for a duty.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Needed {
    /// Before people are asked, in planned changes.
    BeforePlanned,
    /// Before people are asked, in failovers.
    BeforeForced,
    /// Before people are asked.
    Before,
    /// After their answer.
    Again,
    /// After the promotion.
    After,
    /// Where another rule says so, or nowhere.
    Elsewhere,
}

impl Duty {
    /// All duties.
    pub const ALL: [Self; 21] = [
        Self::GroupLock,
        Self::Sides,
        Self::Candidate,
        Self::Silence,
        Self::Replication,
        Self::Lag,
        Self::Transactions,
        Self::Parity,
        Self::Rehearsal,
        Self::RehearsalAgain,
        Self::SequencesRead,
        Self::SequencesRaised,
        Self::LossBound,
        Self::Notice,
        Self::Snapshot,
        Self::Settling,
        Self::WriterStill,
        Self::Serving,
        Self::LossMeasured,
        Self::Rejoin,
        Self::Follow,
    ];

    /// Where a plan must have it. The only list of duties: a new one answers here.
    pub(crate) const fn needed(self) -> Needed {
        match self {
            Self::GroupLock | Self::Rehearsal => Needed::Before,
            Self::Sides | Self::Replication | Self::Lag | Self::Transactions | Self::Parity => Needed::BeforePlanned,
            Self::Candidate | Self::Silence | Self::LossBound => Needed::BeforeForced,
            Self::RehearsalAgain => Needed::Again,
            Self::WriterStill | Self::LossMeasured => Needed::After,
            // DR164; DR162 by route; DR162 by member; DR167; only time is lost without the others.
            Self::Notice
            | Self::Serving
            | Self::Rejoin
            | Self::Follow
            | Self::SequencesRead
            | Self::SequencesRaised
            | Self::Snapshot
            | Self::Settling => Needed::Elsewhere,
        }
    }

    /// Whether a plan for this purpose must have it before people are asked.
    pub(crate) fn before(self, purpose: Purpose) -> bool {
        let planned = purpose.is_planned_change();
        let forced = purpose == Purpose::Failover;
        match self.needed() {
            Needed::Before => planned || forced,
            Needed::BeforePlanned => planned,
            Needed::BeforeForced => forced,
            Needed::Again | Needed::After | Needed::Elsewhere => false,
        }
    }

    /// For people: what such a step does.
    #[must_use]
    pub const fn words(self) -> &'static str {
        match self {
            Self::GroupLock => "locks the group",
            Self::Sides => "sees both sides",
            Self::Candidate => "sees the candidate",
            Self::Silence => "sees that the primary is silent",
            Self::Replication => "sees that the candidate receives",
            Self::Lag => "looks at the lag",
            Self::Transactions => "looks for old transactions",
            Self::Parity => "compares versions and extensions",
            Self::Rehearsal => "rehearses the change",
            Self::RehearsalAgain => "rehearses the change again after the answer",
            Self::SequencesRead => "reads the sequences of the primary",
            Self::SequencesRaised => "raises the sequences of the new writer",
            Self::LossBound => "bounds the loss",
            Self::Notice => "tells people",
            Self::Snapshot => "takes a snapshot",
            Self::Settling => "settles a server",
            Self::WriterStill => "looks at the writer once more",
            Self::Serving => "sees what a route serves",
            Self::LossMeasured => "measures the loss",
            Self::Rejoin => "makes the former primary a standby",
            Self::Follow => "sees a standby follow the writer",
        }
    }
}

/// What a step declares. It is derived from the step's data, stands in the plan, and is derived again when the plan is verified (DR104).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Marks {
    /// Its stage. Several, where one kind has a place before and after the answer or the promotion: the last one that it has reached
    /// counts. None: it may stand anywhere.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub stages: Vec<Stage>,
    /// What a plan needs it for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub duty: Option<Duty>,
    /// The least grade of a fence that it is content with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub asks_for: Option<Grade>,
    /// The risk of a second writer that it takes, or shows to people: the reason.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub risk: Option<String>,
    /// How many people it asks.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub people: Option<u8>,
    /// The route or the member that it is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub looks_at: Option<Binding>,
}

impl Marks {
    /// A step of one stage.
    #[must_use]
    pub fn at(stage: Stage) -> Self {
        Self { stages: vec![stage], ..Self::default() }
    }

    /// A check, which may be made once more after the answer, and after everything.
    #[must_use]
    pub fn check(duty: Duty) -> Self {
        Self::at(Stage::Check).or(Stage::Shorten).or(Stage::After).duty(duty)
    }

    /// A step that may stand in this stage, too, later on.
    #[must_use]
    pub fn or(mut self, stage: Stage) -> Self {
        self.stages.push(stage);
        self
    }

    /// What a plan needs it for. Only kinds of this library may have a duty (DR112).
    #[must_use]
    pub fn duty(self, duty: Duty) -> Self {
        Self { duty: Some(duty), ..self }
    }

    /// The least grade that it is content with.
    #[must_use]
    pub fn asks_for(self, grade: Grade) -> Self {
        Self { asks_for: Some(grade), ..self }
    }

    /// The risk that it takes or shows, if it does.
    #[must_use]
    pub fn risk(self, reason: Option<String>) -> Self {
        Self { risk: reason, ..self }
    }

    /// How many people it asks.
    #[must_use]
    pub fn people(self, people: u8) -> Self {
        Self { people: Some(people), ..self }
    }

    /// The binding that it looks at.
    #[must_use]
    pub fn looks_at(self, binding: impl Into<Binding>) -> Self {
        Self { looks_at: Some(binding.into()), ..self }
    }
}
