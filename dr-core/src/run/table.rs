//! The transitions, as data: every row has a stable number and a sentence. What is no row is refused.

use super::{EventKind as E, NodePhase as N, Phase as P};

/// A transition of the run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Row {
    /// Stable, with gaps.
    pub number: u16,
    /// From.
    pub from: P,
    /// The event.
    pub event: E,
    /// To.
    pub to: P,
    /// What it means, for people.
    pub sentence: &'static str,
}

/// A transition of one step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NodeRow {
    /// Stable, with gaps.
    pub number: u16,
    /// From.
    pub from: N,
    /// The event.
    pub event: E,
    /// To.
    pub to: N,
    /// What it means, for people.
    pub sentence: &'static str,
}

const fn row(number: u16, from: P, event: E, to: P, sentence: &'static str) -> Row {
    Row { number, from, event, to, sentence }
}

const fn node(number: u16, from: N, event: E, to: N, sentence: &'static str) -> NodeRow {
    NodeRow { number, from, event, to, sentence }
}

const RUN: &[Row] = &[
    row(101, P::New, E::Started, P::Running, "the run began"),
    row(103, P::Running, E::LeaseTaken, P::Running, "an engine drives the run"),
    row(104, P::Paused, E::LeaseTaken, P::Paused, "an engine holds the paused run"),
    row(105, P::Aborting, E::LeaseTaken, P::Aborting, "an engine goes on turning back"),
    row(106, P::Parked, E::LeaseTaken, P::Parked, "an engine waits with the parked run"),
    row(111, P::Running, E::PauseSet, P::Paused, "paused: nothing new begins"),
    row(112, P::Paused, E::PauseSet, P::Running, "going on"),
    row(
        121,
        P::Running,
        E::CancelAsked,
        P::Running,
        "asked to turn back; what is under way is driven to a known end first",
    ),
    row(122, P::Paused, E::CancelAsked, P::Paused, "asked to turn back while paused"),
    row(131, P::Running, E::DrainOverBudget, P::Running, "the drain has outlived its budget"),
    row(132, P::Paused, E::DrainOverBudget, P::Paused, "the drain has outlived its budget while paused"),
    row(133, P::Aborting, E::DrainOverBudget, P::Aborting, "the drain has outlived its budget while turning back"),
    row(134, P::Running, E::SpaceLow, P::Running, "the journal's disk is full; the reserve is in use"),
    row(135, P::Paused, E::SpaceLow, P::Paused, "the journal's disk is full while paused"),
    row(136, P::Aborting, E::SpaceLow, P::Aborting, "the journal's disk is full while turning back"),
    row(137, P::Parked, E::SpaceLow, P::Parked, "the journal's disk is full while parked"),
    row(138, P::Parked, E::DrainOverBudget, P::Parked, "the drain has outlived its budget while parked"),
    row(141, P::Running, E::Aborting, P::Aborting, "turning back: what was taken is given back, the latest first"),
    row(142, P::Paused, E::Aborting, P::Aborting, "turning back from a pause"),
    row(151, P::Running, E::Parked, P::Parked, "parked: a person must decide"),
    row(152, P::Paused, E::Parked, P::Parked, "parked while paused: a person must decide"),
    row(153, P::Aborting, E::Parked, P::Parked, "parked while turning back: a person must decide"),
    row(161, P::Parked, E::Decided, P::Running, "a person decided; the run goes on"),
    row(171, P::Running, E::Answered, P::Running, "an answer counts"),
    row(172, P::Paused, E::Answered, P::Paused, "an answer counts while paused"),
    row(173, P::Parked, E::Answered, P::Parked, "a decision counts"),
    row(174, P::Running, E::TurnedAway, P::Running, "a message did not count"),
    row(175, P::Paused, E::TurnedAway, P::Paused, "a message did not count while paused"),
    row(176, P::Parked, E::TurnedAway, P::Parked, "a message did not count while parked"),
    row(177, P::Aborting, E::TurnedAway, P::Aborting, "a message did not count while turning back"),
    row(181, P::Running, E::Ended, P::Ended, "over"),
    row(182, P::Aborting, E::Ended, P::Ended, "over: turned back"),
    row(183, P::Parked, E::Ended, P::Ended, "over: handed over"),
    row(184, P::Paused, E::Ended, P::Ended, "over while paused: nothing was left to begin"),
];

const NODE: &[NodeRow] = &[
    node(201, N::Waiting, E::Began, N::Looking, "looking"),
    node(202, N::Looking, E::Finished, N::Done, "seen"),
    node(203, N::Waiting, E::Finished, N::Done, "it is so already"),
    node(204, N::Looking, E::Failed, N::Failed, "the look ended badly"),
    node(205, N::Looking, E::Owed, N::Owed, "not seen in time; somebody owes it"),
    node(211, N::Waiting, E::Intended, N::Intended, "the intent is durable; the call may leave"),
    node(212, N::Backoff, E::Intended, N::Intended, "the next attempt's intent is durable"),
    node(213, N::Intended, E::Accepted, N::Accepted, "the provider works on it"),
    node(214, N::Intended, E::Finished, N::Done, "done and read back"),
    node(215, N::Intended, E::NotDone, N::Backoff, "not done; it will be tried again"),
    node(216, N::Intended, E::InDoubt, N::InDoubt, "sent, and nobody knows; only a look decides"),
    node(217, N::Intended, E::Failed, N::Failed, "not done, for good"),
    node(218, N::Intended, E::Owed, N::Owed, "not done; somebody owes it"),
    node(221, N::Accepted, E::Progressed, N::Accepted, "under way"),
    node(222, N::Accepted, E::Accepted, N::Accepted, "under way, with another handle"),
    node(223, N::Accepted, E::Finished, N::Done, "ended well and read back"),
    node(224, N::Accepted, E::InDoubt, N::InDoubt, "the operation cannot be followed; only a look decides"),
    node(225, N::Accepted, E::Failed, N::Failed, "did not end in time, or badly"),
    node(226, N::Accepted, E::Owed, N::Owed, "did not end in time, or badly; somebody owes it"),
    node(231, N::InDoubt, E::Absent, N::InDoubt, "one look saw no trace; a second one decides"),
    node(232, N::InDoubt, E::Accepted, N::Accepted, "a look found it under way"),
    node(233, N::InDoubt, E::Finished, N::Done, "a look found it done"),
    node(234, N::InDoubt, E::NotDone, N::Backoff, "seen not to be done; it will be tried again"),
    node(235, N::InDoubt, E::Failed, N::Failed, "still unknown, or seen not to be done, for good"),
    node(236, N::InDoubt, E::Owed, N::Owed, "still unknown; somebody owes it"),
    node(241, N::Backoff, E::Finished, N::Done, "before the next attempt it was seen to be so"),
    node(242, N::Backoff, E::Failed, N::Failed, "no attempt is left"),
    node(243, N::Backoff, E::Owed, N::Owed, "no attempt is left; somebody owes it"),
    node(244, N::Waiting, E::Failed, N::Failed, "it cannot begin"),
    node(245, N::Waiting, E::Owed, N::Owed, "it cannot begin; somebody owes it"),
    node(251, N::Waiting, E::Asked, N::Asking, "people are asked"),
    node(252, N::Asking, E::Asked, N::Asking, "people are asked again: a fact changed"),
    node(253, N::Asking, E::Finished, N::Done, "people agreed"),
    node(254, N::Asking, E::Failed, N::Failed, "people refused, or nobody answered in time"),
    node(255, N::Done, E::Voided, N::Waiting, "what people agreed to does not hold any more"),
];

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

/// The row for a phase and an event.
pub(super) fn of_run(from: P, event: E) -> Option<&'static Row> {
    RUN.iter().find(|row| row.from == from && row.event == event)
}

/// The row for a step's phase and an event.
pub(super) fn of_node(from: N, event: E) -> Option<&'static NodeRow> {
    NODE.iter().find(|row| row.from == from && row.event == event)
}
