//! The transitions, as data: every row has a stable number and a sentence. What is no row is refused.
//!
//! A row says when it counts besides phase and event, and what it does besides changing the phase. An event of the run also moves
//! every step that has a row for it: a new engine puts what may have left in doubt, a decision takes up what failed.

use super::{
    Event, EventKind as E, NodePhase as N, NodeState, Phase as P, RunState,
    decide::{LOOK, OURS, TURN_BACK},
};
use crate::{base::NodeId, plan::Effect};

/// A transition of the run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Row {
    /// Stable, with gaps: 400 to 499.
    pub number: u16,
    /// From.
    pub from: P,
    /// The event.
    pub event: E,
    /// What must be so besides.
    pub when: When,
    /// To.
    pub to: P,
    /// What is remembered besides the phase.
    pub does: &'static [Does],
    /// What it means, for people.
    pub sentence: &'static str,
}

/// A transition of one step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NodeRow {
    /// Stable, with gaps: 500 to 599.
    pub number: u16,
    /// From.
    pub from: N,
    /// The event: one of the step, or one of the run that moves every step in this phase.
    pub event: E,
    /// What must be so besides.
    pub when: NodeWhen,
    /// To.
    pub to: N,
    /// What is remembered besides the phase.
    pub does: &'static [NodeDoes],
    /// What it means, for people.
    pub sentence: &'static str,
}

/// What must be so, besides phase and event, for a row of the run to count.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum When {
    /// Nothing.
    Always,
    /// The message asks for a pause.
    PauseOn,
    /// The message ends a pause.
    PauseOff,
    /// The run did not turn back when it parked.
    ParkedGoingForward,
    /// The run turned back when it parked.
    ParkedTurningBack,
    /// No promotion may stand.
    BeforePromotion,
    /// The choice is to turn back.
    ChoseBack,
    /// Nothing is left but work for which nobody waits.
    OnlyOwedLeft,
}

impl When {
    /// For people.
    #[must_use]
    pub const fn words(self) -> &'static str {
        match self {
            Self::Always => "",
            Self::PauseOn => "it says: pause",
            Self::PauseOff => "it says: go on",
            Self::ParkedGoingForward => "the run did not turn back when it parked, and goes on",
            Self::ParkedTurningBack => "the run turned back when it parked",
            Self::BeforePromotion => "no promotion may stand",
            Self::ChoseBack => "the choice is to turn back",
            Self::OnlyOwedLeft => "nothing is left but work for which nobody waits",
        }
    }

    fn holds(self, state: &RunState, event: &Event) -> bool {
        let pause = |wanted: bool| matches!(event, Event::PauseSet { on, .. } if *on == wanted);
        let back = || state.parked_from != P::Aborting && chose(event, TURN_BACK);
        match self {
            Self::Always => true,
            Self::PauseOn => pause(true),
            Self::PauseOff => pause(false),
            Self::ParkedGoingForward => state.parked_from != P::Aborting && !back(),
            Self::ParkedTurningBack => state.parked_from == P::Aborting,
            Self::BeforePromotion => !state.pivot_stands(),
            Self::ChoseBack => back(),
            Self::OnlyOwedLeft => state.only_owed_left(),
        }
    }
}

/// What must be so, besides phase and event, for a row of a step to count.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum NodeWhen {
    /// Nothing.
    Always,
    /// The decision is to look again, and an effect of the step may stand.
    LookAgain,
    /// The decision is that the change was this run's, and an effect of the step may stand.
    ItWasOurs,
    /// The decision is another one but to turn back, or nothing of the step can stand.
    TryAgain,
}

impl NodeWhen {
    /// For people.
    #[must_use]
    pub const fn words(self) -> &'static str {
        match self {
            Self::Always => "",
            Self::LookAgain => "the choice is to look, and an effect may stand",
            Self::ItWasOurs => "the choice is that it was this run's change, and an effect may stand",
            Self::TryAgain => "the choice is to go on otherwise, or no effect can stand",
        }
    }

    fn holds(self, state: &RunState, id: &NodeId, node: &NodeState, event: &Event) -> bool {
        let mutates = || state.plan.call(id).is_some_and(|call| call.effect != Effect::ReadOnly);
        let look = || node.may_stand && chose(event, LOOK) && mutates();
        let ours = || node.may_stand && chose(event, OURS) && mutates();
        match self {
            Self::Always => true,
            Self::LookAgain => look(),
            Self::ItWasOurs => ours(),
            Self::TryAgain => !look() && !ours() && !chose(event, TURN_BACK),
        }
    }
}

/// What a row of the run remembers besides the phase.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Does {
    /// The inbox row became an event.
    NoteRow,
    /// Who wants the run to turn back, and why.
    NoteCancel,
    /// Keeps who ends the run before its rest is done.
    NoteFinish,
    /// The drain has outlived its budget.
    NoteOverBudget,
    /// Clients got errors instead of waiting.
    NoteTurnedAway,
    /// The drain may outlive its budget: a person knows.
    AcceptOverBudget,
    /// The journal's disk is full.
    NoteSpaceLow,
    /// Why the run turns back.
    NoteReason,
    /// The phase in which the run parked.
    NotePhase,
    /// People are asked; earlier answers are forgotten.
    OpenQuestion,
    /// Nobody is asked any more.
    CloseQuestion,
    /// One more answer to the open question.
    KeepAnswer,
    /// How the run ended.
    KeepOutcome,
}

impl Does {
    /// For people.
    #[must_use]
    pub const fn words(self) -> &'static str {
        match self {
            Self::NoteRow => "notes the inbox row",
            Self::NoteCancel => "notes who cancels",
            Self::NoteFinish => "notes who ends it early",
            Self::NoteOverBudget => "notes the overrun",
            Self::NoteTurnedAway => "notes that clients know",
            Self::AcceptOverBudget => "takes the overrun as accepted",
            Self::NoteSpaceLow => "notes the full disk",
            Self::NoteReason => "keeps the reason",
            Self::NotePhase => "notes the phase",
            Self::OpenQuestion => "opens the question",
            Self::CloseQuestion => "closes the question",
            Self::KeepAnswer => "keeps the answer",
            Self::KeepOutcome => "keeps the outcome",
        }
    }
}

/// What a row of a step remembers besides the phase.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum NodeDoes {
    /// Nothing waits for a next attempt.
    NoPause,
    /// The attempt, the first intent and its pre-image; an effect may stand from now on.
    KeepAttempt,
    /// The intent of a promotion is the run's point of no return.
    PassNoReturn,
    /// What to ask the provider with.
    KeepHandle,
    /// What the step leaves behind.
    KeepOutput,
    /// Why it is where it is.
    KeepCause,
    /// The engine that sent it is the cause.
    BlameLostEngine,
    /// When it is tried again; an attempt of which nothing left does not count.
    PlanAgain,
    /// The provider proved that the first attempt did nothing. After a doubt the proof is two looks, and a late effect is possible.
    NothingStands,
    /// An effect may stand only if the event says so, or an earlier attempt may have left one.
    JudgeDoubt,
    /// When the first of two looks saw no trace.
    NoteAbsence,
    /// No look has seen its absence.
    ForgetAbsence,
    /// How far it is.
    KeepPercent,
    /// Output and times are void.
    Forget,
    /// Its time begins anew, and its last attempt does not count.
    Restart,
    /// The run asks people; earlier answers are forgotten.
    OpenQuestion,
    /// The run asks nobody any more.
    CloseQuestion,
    /// What people accepted.
    KeepWaiver,
    /// Who said that the change was this run's.
    KeepClaim,
}

impl NodeDoes {
    /// For people.
    #[must_use]
    pub const fn words(self) -> &'static str {
        match self {
            Self::NoPause => "ends the pause",
            Self::KeepAttempt => "keeps attempt and pre-image",
            Self::PassNoReturn => "passes the point of no return, if it promotes",
            Self::KeepHandle => "keeps the handle",
            Self::KeepOutput => "keeps the output",
            Self::KeepCause => "keeps the cause",
            Self::BlameLostEngine => "names the lost engine as cause",
            Self::PlanAgain => "plans the next attempt",
            Self::NothingStands => "nothing of a first attempt stands",
            Self::JudgeDoubt => "nothing of a first attempt stands, if the event is sure",
            Self::NoteAbsence => "notes the first look",
            Self::ForgetAbsence => "forgets earlier looks",
            Self::KeepPercent => "keeps the percentage",
            Self::Forget => "forgets output and times",
            Self::Restart => "restarts its time",
            Self::OpenQuestion => "opens the question",
            Self::CloseQuestion => "closes the question",
            Self::KeepWaiver => "keeps what people accepted",
            Self::KeepClaim => "keeps who said so",
        }
    }
}

/// Tells whether a person made this choice.
fn chose(event: &Event, wanted: &str) -> bool {
    matches!(event, Event::Decided { choice, .. } if choice == wanted)
}

macro_rules! rows {
    ($row:ident, $from:ident, $when:ident, $does:ident:
     $($number:literal $was:ident $event:ident [$cond:ident] $to:ident [$($do:ident)*] $sentence:literal)*) => {
        &[$($row {
            number: $number,
            from: $from::$was,
            event: E::$event,
            when: $when::$cond,
            to: $from::$to,
            does: &[$($does::$do),*],
            sentence: $sentence,
        }),*]
    };
}

const RUN: &[Row] = rows! { Row, P, When, Does:
    401 New      Started         [Always] Running  []
        "the run began"
    403 Running  LeaseTaken      [Always] Running  []
        "an engine drives the run"
    404 Paused   LeaseTaken      [Always] Paused   []
        "an engine holds the paused run"
    405 Aborting LeaseTaken      [Always] Aborting []
        "an engine goes on turning back"
    406 Parked   LeaseTaken      [Always] Parked   []
        "an engine waits with the parked run"
    411 Running  PauseSet        [PauseOn] Paused   [NoteRow]
        "paused: nothing new begins"
    412 Paused   PauseSet        [PauseOff] Running  [NoteRow]
        "going on"
    421 Running  CancelAsked     [Always] Running  [NoteRow NoteCancel]
        "asked to turn back; what is under way is driven to a known end first"
    422 Paused   CancelAsked     [Always] Paused   [NoteRow NoteCancel]
        "asked to turn back while paused"
    423 Running  FinishAsked     [Always] Running  [NoteRow NoteFinish]
        "asked to end as soon as only work is left for which nobody waits"
    424 Paused   FinishAsked     [Always] Paused   [NoteRow NoteFinish]
        "asked to end early while paused"
    425 Running  RestOwed        [OnlyOwedLeft] Running  []
        "what is left is owed"
    426 Paused   RestOwed        [OnlyOwedLeft] Paused   []
        "what is left is owed, while paused"
    431 Running  DrainOverBudget [BeforePromotion] Running  [NoteOverBudget]
        "the drain has outlived its budget"
    432 Paused   DrainOverBudget [BeforePromotion] Paused   [NoteOverBudget]
        "the drain has outlived its budget while paused"
    433 Aborting DrainOverBudget [BeforePromotion] Aborting [NoteOverBudget]
        "the drain has outlived its budget while turning back"
    434 Running  SpaceLow        [Always] Running  [NoteSpaceLow]
        "the journal's disk is full; the reserve is in use"
    435 Paused   SpaceLow        [Always] Paused   [NoteSpaceLow]
        "the journal's disk is full while paused"
    436 Aborting SpaceLow        [Always] Aborting [NoteSpaceLow]
        "the journal's disk is full while turning back"
    437 Parked   SpaceLow        [Always] Parked   [NoteSpaceLow]
        "the journal's disk is full while parked"
    438 Parked   DrainOverBudget [BeforePromotion] Parked   [NoteOverBudget]
        "the drain has outlived its budget while parked"
    491 Running  ClientsTurnedAway [Always] Running  [NoteTurnedAway]
        "clients were told instead of left waiting; the run goes on"
    492 Paused   ClientsTurnedAway [Always] Paused   [NoteTurnedAway]
        "clients were told instead of left waiting, while paused"
    493 Aborting ClientsTurnedAway [Always] Aborting [NoteTurnedAway]
        "clients were told instead of left waiting, while turning back"
    494 Parked   ClientsTurnedAway [Always] Parked   [NoteTurnedAway]
        "clients were told instead of left waiting, while parked"
    441 Running  Aborting        [Always] Aborting [NoteReason CloseQuestion]
        "turning back: what was taken is given back, the latest first"
    442 Paused   Aborting        [Always] Aborting [NoteReason CloseQuestion]
        "turning back from a pause"
    451 Running  Parked          [Always] Parked   [NotePhase OpenQuestion]
        "parked: a person must decide"
    452 Paused   Parked          [Always] Parked   [NotePhase OpenQuestion]
        "parked while paused: a person must decide"
    453 Aborting Parked          [Always] Parked   [NotePhase OpenQuestion]
        "parked while turning back: a person must decide"
    461 Parked   Decided         [ParkedGoingForward] Running  [CloseQuestion AcceptOverBudget]
        "a person decided; the run goes on"
    462 Parked   Decided         [ParkedTurningBack] Aborting [CloseQuestion AcceptOverBudget]
        "a person decided; the run goes on turning back"
    463 Parked   Decided         [ChoseBack] Aborting [NoteReason CloseQuestion AcceptOverBudget]
        "a person decided to turn back: nothing of the promotion stands"
    471 Running  Answered        [Always] Running  [NoteRow KeepAnswer]
        "an answer counts"
    472 Paused   Answered        [Always] Paused   [NoteRow KeepAnswer]
        "an answer counts while paused"
    473 Parked   Answered        [Always] Parked   [NoteRow KeepAnswer]
        "a decision counts"
    474 Running  TurnedAway      [Always] Running  [NoteRow]
        "a message did not count"
    475 Paused   TurnedAway      [Always] Paused   [NoteRow]
        "a message did not count while paused"
    476 Parked   TurnedAway      [Always] Parked   [NoteRow]
        "a message did not count while parked"
    477 Aborting TurnedAway      [Always] Aborting [NoteRow]
        "a message did not count while turning back"
    481 Running  Ended           [Always] Ended    [KeepOutcome CloseQuestion]
        "over"
    482 Aborting Ended           [Always] Ended    [KeepOutcome CloseQuestion]
        "over: turned back"
    483 Parked   Ended           [Always] Ended    [KeepOutcome CloseQuestion]
        "over: handed over"
    484 Paused   Ended           [Always] Ended    [KeepOutcome CloseQuestion]
        "over while paused: nothing was left to begin"
};

const NODE: &[NodeRow] = rows! { NodeRow, N, NodeWhen, NodeDoes:
    501 Waiting  Began           [Always] Looking  [NoPause]
        "looking"
    502 Looking  Finished        [Always] Done     [KeepOutput]
        "seen"
    503 Waiting  Finished        [Always] Done     [KeepOutput]
        "it is so already"
    504 Looking  Failed          [Always] Failed   [KeepCause JudgeDoubt]
        "the look ended badly"
    505 Looking  Owed            [Always] Owed     [KeepCause]
        "not seen in time; somebody owes it"
    511 Waiting  Intended        [Always] Intended [KeepAttempt PassNoReturn]
        "the intent is durable; the call may leave"
    512 Backoff  Intended        [Always] Intended [KeepAttempt PassNoReturn]
        "the next attempt's intent is durable"
    513 Intended Accepted        [Always] Accepted [KeepHandle]
        "the provider works on it"
    514 Intended Finished        [Always] Done     [KeepOutput]
        "done and read back"
    515 Intended NotDone         [Always] Backoff  [KeepCause NothingStands PlanAgain]
        "not done; it will be tried again"
    516 Intended InDoubt         [Always] InDoubt  [KeepCause ForgetAbsence]
        "sent, and nobody knows; only a look decides"
    517 Intended Failed          [Always] Failed   [KeepCause JudgeDoubt]
        "not done, for good"
    518 Intended Owed            [Always] Owed     [KeepCause]
        "not done; somebody owes it"
    521 Accepted Progressed      [Always] Accepted [KeepPercent]
        "under way"
    522 Accepted Accepted        [Always] Accepted [KeepHandle]
        "under way, with another handle"
    523 Accepted Finished        [Always] Done     [KeepOutput]
        "ended well and read back"
    524 Accepted InDoubt         [Always] InDoubt  [KeepCause ForgetAbsence]
        "the operation cannot be followed; only a look decides"
    525 Accepted Failed          [Always] Failed   [KeepCause JudgeDoubt]
        "did not end in time, or badly"
    526 Accepted Owed            [Always] Owed     [KeepCause]
        "did not end in time, or badly; somebody owes it"
    531 InDoubt  Absent          [Always] InDoubt  [NoteAbsence]
        "one look saw no trace; a second one decides"
    532 InDoubt  Accepted        [Always] Accepted [KeepHandle]
        "a look found it under way"
    533 InDoubt  Finished        [Always] Done     [KeepOutput]
        "a look found it done"
    534 InDoubt  NotDone         [Always] Backoff  [KeepCause PlanAgain]
        "seen not to be done; it will be tried again"
    535 InDoubt  Failed          [Always] Failed   [KeepCause JudgeDoubt]
        "still unknown, or seen not to be done, for good"
    536 InDoubt  Owed            [Always] Owed     [KeepCause]
        "still unknown; somebody owes it"
    541 Backoff  Finished        [Always] Done     [KeepOutput]
        "before the next attempt it was seen to be so"
    542 Backoff  Failed          [Always] Failed   [KeepCause JudgeDoubt]
        "no attempt is left"
    543 Backoff  Owed            [Always] Owed     [KeepCause]
        "no attempt is left; somebody owes it"
    544 Waiting  Failed          [Always] Failed   [KeepCause JudgeDoubt]
        "it cannot begin"
    545 Waiting  Owed            [Always] Owed     [KeepCause]
        "it cannot begin; somebody owes it"
    551 Waiting  Asked           [Always] Asking   [NoPause OpenQuestion]
        "people are asked"
    552 Asking   Asked           [Always] Asking   [NoPause OpenQuestion]
        "people are asked again: a fact changed"
    553 Asking   Finished        [Always] Done     [KeepOutput CloseQuestion]
        "people agreed, or what they were asked about came true"
    554 Asking   Failed          [Always] Failed   [KeepCause JudgeDoubt CloseQuestion]
        "people refused, nobody answered in time, or it cannot be so any more"
    556 Looking  Asked           [Always] Asking   [OpenQuestion]
        "all holds but what people may accept or attest; two people are asked"
    557 Asking   Waived          [Always] Looking  [KeepWaiver CloseQuestion Restart]
        "two people accepted or attested it; a look confirms it"
    555 Done     Voided          [Always] Waiting  [Forget]
        "what people agreed to does not hold any more"
    561 Intended LeaseTaken      [Always] InDoubt  [ForgetAbsence BlameLostEngine]
        "the engine that sent it is gone; only a look decides"
    562 Looking  Aborting        [Always] Waiting  []
        "the run turns back; nobody looks any more"
    563 Asking   Aborting        [Always] Waiting  []
        "the run turns back; nobody is asked any more"
    571 Failed   Decided         [LookAgain] InDoubt  [ForgetAbsence Restart]
        "a person decided to look again"
    573 Failed   Decided         [ItWasOurs] InDoubt  [ForgetAbsence Restart KeepClaim]
        "two people said that the change was this run's; a look confirms what it led to"
    572 Failed   Decided         [TryAgain] Waiting  [ForgetAbsence Restart]
        "a person decided to try again"
    581 Waiting  RestOwed        [Always] Owed     [KeepCause]
        "not begun; a person ended the run, and somebody owes it"
    582 Looking  RestOwed        [Always] Owed     [KeepCause]
        "not seen yet; a person ended the run, and somebody owes it"
    583 Accepted RestOwed        [Always] Owed     [KeepCause]
        "still under way at the provider; a person ended the run, and somebody owes it"
    584 InDoubt  RestOwed        [Always] Owed     [KeepCause]
        "unknown; a person ended the run, and somebody owes it"
    585 Backoff  RestOwed        [Always] Owed     [KeepCause]
        "not done; a person ended the run, and somebody owes it"
};

/// The transitions of the run.
#[must_use]
pub fn run_rows() -> &'static [Row] {
    RUN
}

/// The transitions of a step.
#[must_use]
pub fn node_rows() -> &'static [NodeRow] {
    NODE
}

/// The row for a run's state and an event.
pub(super) fn of_run(state: &RunState, event: &Event) -> Option<&'static Row> {
    let kind = event.kind();
    RUN.iter().find(|row| row.from == state.phase && row.event == kind && row.when.holds(state, event))
}

/// The row for a step's state and an event, of the step or of the run.
pub(super) fn of_node(state: &RunState, id: &NodeId, event: &Event) -> Option<&'static NodeRow> {
    let (node, kind) = (state.node(id), event.kind());
    NODE.iter().find(|row| row.from == node.phase && row.event == kind && row.when.holds(state, id, &node, event))
}
