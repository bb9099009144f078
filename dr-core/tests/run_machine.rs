//! The run machine against its own table, and its decisions in the situations that matter (G03, G07, G12, E19, C03, J10).

#![expect(clippy::unwrap_used, clippy::panic, reason = "tests")]

use std::collections::{BTreeMap, BTreeSet};

use dr_core::{
    Actor, Cause, Grade, GroupName, Kind, Millis, NodeId, Plan, Purpose, RunId, RunbookId, Target, Timestamp,
    base::{Digest, Epoch, IdempotencyKey, Json, ResourceAddress, Role, SystemId},
    contract::{Accepted, Class, Given, Lineage, Loss, OpHandle, Waived},
    plan::{Call, Effect, Hold, Marks, Node, OnFailure, PLAN_FORMAT, Policy, Promotion, RULES_VERSION},
    run::{
        Ask, Command, Event, EventKind, Head, NodePhase, NodeWhen, Phase, Record, RunOutcome, RunState, When, decide,
        node_rows, run_rows,
    },
};

fn call(kind: &'static str, class: Class, effect: Effect) -> Call {
    Call {
        kind: Kind::new(kind, 1),
        class,
        effect,
        output: "dr.nothing".into(),
        params: Json(serde_json::json!({})),
        sentence: kind.into(),
        touches: Vec::new(),
        manual: Vec::new(),
        marks: Marks::default(),
    }
}

fn node(class: Class, effect: Effect, after: &[&str]) -> Node {
    Node {
        call: call("test.step", class, effect),
        after: after.iter().map(|id| NodeId::new(*id)).collect(),
        why: None,
        within: Millis::minutes(1),
        every: Millis::seconds(1),
        visibility: Millis::seconds(1),
        attempts: 3,
        on_failure: OnFailure::Stop,
        about: None,
    }
}

/// look → drain (held) → fence (held) → promote → release-drain, and a rejoin that may fail.
fn plan() -> Plan {
    let mut nodes = BTreeMap::new();
    let mut order = Vec::new();
    let mut put = |id: &str, node: Node| {
        nodes.insert(NodeId::new(id), node);
        order.push(NodeId::new(id));
    };
    put("look", node(Class::Guard, Effect::ReadOnly, &[]));
    put("drain", node(Class::Drain, Effect::Idempotent, &["look"]));
    put("fence", node(Class::Fence, Effect::Reconcilable, &["drain"]));
    put("promote", node(Class::Pivot, Effect::AtMostOnce, &["fence"]));
    put("release-drain", node(Class::Resume, Effect::Idempotent, &["promote"]));
    let mut rejoin = node(Class::Rejoin, Effect::Reconcilable, &["release-drain"]);
    rejoin.on_failure = OnFailure::Debt { text: "rejoin neu".into(), owner: Role::new("dba") };
    put("rejoin", rejoin);
    let undo = |kind, class| call(kind, class, Effect::Idempotent);
    Plan {
        format: PLAN_FORMAT,
        rules: RULES_VERSION,
        fence_travels: false,
        runbook: RunbookId::new("test.runbook", 1),
        purpose: Purpose::Switchover,
        group: GroupName::new("orders"),
        environment: "test".into(),
        group_digest: Digest::zero(),
        expects: Target {
            member: "neu".into(),
            address: ResourceAddress::new("neu-1"),
            identity: None,
            lineage: Lineage { system: SystemId::new("s"), generation: 1 },
            receives: None,
        },
        to: Some("weu".into()),
        loss: Loss::Nothing,
        facts: Vec::new(),
        bindings: BTreeMap::new(),
        lineages: BTreeMap::new(),
        leaves_out: BTreeMap::new(),
        allow: BTreeSet::new(),
        policy: Policy {
            gap_budget: Millis::minutes(1),
            client_limit: None,
            proof_age: Millis::minutes(1),
            fact_age: Millis::minutes(1),
            fence: Grade::Confirmed,
            unguarded: false,
            automatic: None,
        },
        nodes,
        order,
        holds: BTreeMap::from([
            (
                NodeId::new("drain"),
                Hold { released_by: Some("release-drain".into()), undo: undo("test.undrain", Class::Resume) },
            ),
            (NodeId::new("fence"), Hold { released_by: None, undo: undo("test.unfence", Class::ReleaseFence) }),
        ]),
        receives: BTreeMap::new(),
    }
}

struct Run {
    state: RunState,
    head: Head,
    clock: i64,
}

impl Run {
    fn started() -> Self {
        let plan = plan();
        let hash = plan.hash().unwrap();
        let event = Event::Started {
            plan: Box::new(plan),
            hash,
            by: Actor::local("mira").authenticated("a test", "mira"),
            because: "test".into(),
        };
        let record = Record::after(Head::EMPTY, Timestamp::from_millis(0), Epoch::new(1), event);
        let line = record.line().unwrap();
        let state = RunState::begin(RunId::new(GroupName::new("orders"), 1), &record).unwrap();
        Self { state, head: Head { seq: line.seq, hash: line.hash }, clock: 0 }
    }

    /// Every step is done, but for the rejoin.
    fn only_the_rejoin_is_left(&mut self, as_it_is: NodePhase) {
        for id in self.state.plan.order.clone() {
            let phase = if id.as_str() == "rejoin" { as_it_is } else { NodePhase::Done };
            self.state.nodes.entry(id).or_default().phase = phase;
        }
    }

    fn record(&mut self, event: Event) -> Record {
        self.clock += 1000;
        Record::after(self.head, Timestamp::from_millis(self.clock), Epoch::new(1), event)
    }

    fn apply(&mut self, event: Event) -> &mut Self {
        let record = self.record(event);
        // What is applied is what was read back from the journal.
        let line = record.line().unwrap();
        let read = Record::parse(&line).unwrap();
        assert_eq!(read, record);
        self.state.apply(&read).unwrap_or_else(|error| panic!("{error}"));
        self.head = Head { seq: line.seq, hash: line.hash };
        self
    }

    fn intend(&mut self, id: &str) -> &mut Self {
        self.apply(of_kind(EventKind::Intended, id))
    }

    fn finish(&mut self, id: &str) -> &mut Self {
        self.apply(of_kind(EventKind::Finished, id))
    }

    fn fail(&mut self, id: &str, doubt: bool) -> &mut Self {
        self.apply(Event::Failed { node: id.into(), cause: Cause::new("it broke"), doubt })
    }

    fn done(&mut self, id: &str) -> &mut Self {
        self.intend(id).finish(id)
    }

    fn only(&self) -> Command {
        let commands = decide(&self.state);
        assert_eq!(commands.len(), 1, "{commands:?}");
        commands.into_iter().next().unwrap()
    }

    /// Follows decisions that need nothing but the state.
    fn settle(&mut self) -> &mut Self {
        while let [Command::Record(event)] = decide(&self.state).as_slice() {
            self.apply((**event).clone());
        }
        self
    }
}

fn begin(id: &str) -> Command {
    Command::Begin(NodeId::new(id))
}

/// What the run asks when nobody knows whether the promotion happened.
fn ask() -> Box<Ask> {
    let mut run = Run::started();
    run.finish("look").done("drain").done("fence").intend("promote").fail("promote", true);
    let Command::Record(event) = run.only() else { panic!("nothing to record") };
    let Event::Parked { ask } = *event else { panic!("{event:?}") };
    ask
}

/// Some event of this kind.
fn waived() -> Box<Waived> {
    Box::new(Waived {
        run: RunId::new(GroupName::new("orders"), 1),
        plan: Digest::zero(),
        ask: Digest::zero(),
        given: Vec::new(),
        reason: "neu does not answer".into(),
        accepts: Accepted::Grade(Grade::Unconfirmable),
        owes: Some("fence neu".into()),
        expires: Timestamp::from_millis(1_000_000),
    })
}

fn of_kind(kind: EventKind, node: &str) -> Event {
    let node = NodeId::new(node);
    let cause = Cause::new("cause");
    let row = || "row-1".to_owned();
    let by = || Actor::local("ana");
    match kind {
        EventKind::Started => {
            let plan = plan();
            let hash = plan.hash().unwrap();
            Event::Started { plan: Box::new(plan), hash, by: by(), because: String::new() }
        }
        EventKind::LeaseTaken => Event::LeaseTaken { holder: "engine".into() },
        EventKind::Began => Event::Began { node },
        EventKind::Intended => Event::Intended {
            key: IdempotencyKey::new(format!("orders-1/{node}")),
            node,
            attempt: 1,
            facts: Vec::new(),
            pre_image: None,
            request: Digest::zero(),
        },
        EventKind::Accepted => Event::Accepted { node, handle: OpHandle::new("op-1").unwrap(), calls: Vec::new() },
        EventKind::Finished => Event::Finished { node, output: Json(serde_json::json!(null)), calls: Vec::new() },
        EventKind::NotDone => Event::NotDone { node, cause, again_in: Millis::ZERO, sent: true },
        EventKind::InDoubt => Event::InDoubt { node, cause, calls: Vec::new() },
        EventKind::Absent => Event::Absent { node },
        EventKind::Progressed => Event::Progressed { node, percent: 10 },
        EventKind::Failed => Event::Failed { node, cause, doubt: false },
        EventKind::Owed => Event::Owed { node, cause },
        EventKind::Asked => Event::Asked { node, ask: ask() },
        EventKind::Answered => Event::Answered {
            row: row(),
            given: Given { by: by(), role: None, choice: "look".into(), at: Timestamp::from_millis(0), note: None },
        },
        EventKind::TurnedAway => Event::TurnedAway { row: row(), why: "why".into() },
        EventKind::Waived => Event::Waived { node, waived: waived() },
        EventKind::Voided => Event::Voided { node, diff: vec!["lag".into()] },
        EventKind::PauseSet => Event::PauseSet { row: row(), by: by(), on: true, because: None },
        EventKind::CancelAsked => Event::CancelAsked { row: row(), by: by(), because: "because".into() },
        EventKind::FinishAsked => Event::FinishAsked { row: row(), by: by(), because: "because".into() },
        EventKind::RestOwed => Event::RestOwed { cause },
        EventKind::DrainOverBudget => Event::DrainOverBudget,
        EventKind::ClientsTurnedAway => Event::ClientsTurnedAway,
        EventKind::SpaceLow => Event::SpaceLow,
        EventKind::Aborting => Event::Aborting { reason: "reason".into() },
        EventKind::Parked => Event::Parked { ask: ask() },
        EventKind::Decided => Event::Decided { choice: "look".into(), by: Vec::new() },
        EventKind::Ended => Event::Ended { outcome: RunOutcome::Succeeded },
    }
}

#[test]
fn the_table_has_one_row_per_number_and_per_pair() {
    let numbers: Vec<u16> =
        run_rows().iter().map(|row| row.number).chain(node_rows().iter().map(|row| row.number)).collect();
    assert_eq!(numbers.len(), numbers.iter().collect::<BTreeSet<_>>().len(), "a number stands twice");
    let pairs: BTreeSet<_> = run_rows().iter().map(|row| (row.from, row.event, row.when)).collect();
    assert_eq!(pairs.len(), run_rows().len(), "a pair of the run stands twice");
    let pairs: BTreeSet<_> = node_rows().iter().map(|row| (row.from, row.event, row.when)).collect();
    assert_eq!(pairs.len(), node_rows().len(), "a pair of a step stands twice");
    // A row without a condition beside one with a condition would hide it, or be hidden.
    let always: BTreeSet<_> =
        run_rows().iter().filter(|row| row.when == When::Always).map(|row| (row.from, row.event)).collect();
    assert!(run_rows().iter().all(|row| row.when == When::Always || !always.contains(&(row.from, row.event))));
    let always: BTreeSet<_> =
        node_rows().iter().filter(|row| row.when == NodeWhen::Always).map(|row| (row.from, row.event)).collect();
    assert!(node_rows().iter().all(|row| row.when == NodeWhen::Always || !always.contains(&(row.from, row.event))));
}

#[test]
fn every_pair_of_run_phase_and_event_is_a_row_or_refused() {
    for from in Phase::ALL.into_iter().filter(|phase| *phase != Phase::New) {
        for kind in EventKind::ALL {
            let mut event = of_kind(kind, "look");
            if event.node().is_some() {
                continue;
            }
            if let Event::PauseSet { on, .. } = &mut event {
                *on = from == Phase::Running;
            }
            let mut run = Run::started();
            run.state.phase = from;
            if kind == EventKind::RestOwed {
                run.only_the_rejoin_is_left(NodePhase::Waiting);
            }
            let record = run.record(event);
            let row = run_rows().iter().find(|row| row.from == from && row.event == kind);
            let applied = run.state.apply(&record);
            assert_eq!(applied.is_ok(), row.is_some(), "{from:?} + {kind:?}: {applied:?}");
            if let Some(row) = row {
                assert_eq!((run.state.phase, run.state.rule), (row.to, row.number), "{from:?} + {kind:?}");
            }
        }
    }
}

#[test]
fn every_pair_of_step_phase_and_event_is_a_row_or_refused() {
    for from in NodePhase::ALL {
        for kind in EventKind::ALL {
            let event = of_kind(kind, "fence");
            if event.node().is_none() {
                continue;
            }
            let mut run = Run::started();
            run.state.nodes.entry("fence".into()).or_default().phase = from;
            let record = run.record(event);
            let row = node_rows().iter().find(|row| row.from == from && row.event == kind);
            let applied = run.state.apply(&record);
            assert_eq!(applied.is_ok(), row.is_some(), "{from:?} + {kind:?}: {applied:?}");
            if let Some(row) = row {
                assert_eq!(run.state.phase_of(&"fence".into()), row.to, "{from:?} + {kind:?}");
            }
        }
    }
}

/// Events of the run that move steps: a new engine, turning back, a decision. Each is a row, with its number in the state.
#[test]
fn an_event_of_the_run_moves_steps_by_rows_too() {
    let rows = [
        (EventKind::LeaseTaken, "look", NodePhase::Intended, false, NodePhase::InDoubt, 561),
        (EventKind::Aborting, "look", NodePhase::Looking, false, NodePhase::Waiting, 562),
        (EventKind::Aborting, "look", NodePhase::Asking, false, NodePhase::Waiting, 563),
        (EventKind::Decided, "look", NodePhase::Failed, true, NodePhase::InDoubt, 571),
        (EventKind::Decided, "look", NodePhase::Failed, false, NodePhase::Waiting, 572),
        (EventKind::Decided, "retry", NodePhase::Failed, true, NodePhase::Waiting, 572),
        (EventKind::Decided, "it-was-ours", NodePhase::Failed, true, NodePhase::InDoubt, 573),
    ];
    let moved: BTreeSet<u16> = rows.iter().map(|row| row.5).collect();
    let others = node_rows().iter().filter(|row| row.event != EventKind::RestOwed);
    let listed = others.filter(|row| of_kind(row.event, "fence").node().is_none());
    assert_eq!(moved, listed.map(|row| row.number).collect(), "every such row is played here");
    for (kind, choice, from, may_stand, to, number) in rows {
        let mut run = Run::started();
        run.state.phase = if kind == EventKind::Decided { Phase::Parked } else { Phase::Running };
        let node = run.state.nodes.entry("fence".into()).or_default();
        (node.phase, node.may_stand, node.attempt) = (from, may_stand, 1);
        run.state.nodes.entry("drain".into()).or_default().phase = NodePhase::Done;
        let mut event = of_kind(kind, "fence");
        if let Event::Decided { choice: chosen, .. } = &mut event {
            *chosen = choice.to_owned();
        }
        run.apply(event);
        let node = run.state.node(&"fence".into());
        assert_eq!((node.phase, node.rule), (to, number), "{from:?} + {kind:?}");
        assert_eq!(run.state.phase_of(&"drain".into()), NodePhase::Done, "a settled step stays settled");
    }
}

/// A run is ended before its rest is done only where nothing but owed work is left, of which no call is on its way.
#[test]
fn what_nobody_waits_for_is_owed_when_a_person_ends_the_run() {
    let rows = [
        (NodePhase::Waiting, 581),
        (NodePhase::Looking, 582),
        (NodePhase::Accepted, 583),
        (NodePhase::InDoubt, 584),
        (NodePhase::Backoff, 585),
    ];
    for (from, number) in rows {
        let mut run = Run::started();
        run.only_the_rejoin_is_left(from);
        run.state.finish = Some("ana: the other region is going down".into());
        let commands = decide(&run.state);
        let [Command::Record(event)] = commands.as_slice() else { panic!("{from:?}: {commands:?}") };
        run.apply((**event).clone());
        let node = run.state.node(&"rejoin".into());
        assert_eq!((node.phase, node.rule), (NodePhase::Owed, number), "{from:?}");
        assert!(node.cause.unwrap().as_str().contains("ana: the other region is going down"));
        let ends =
            matches!(decide(&run.state).as_slice(), [Command::Record(event)] if event.kind() == EventKind::Ended);
        assert!(ends, "{from:?}: {:?}", decide(&run.state));
    }
    // A call that this engine sent is answered first.
    let mut run = Run::started();
    run.only_the_rejoin_is_left(NodePhase::Intended);
    run.state.finish = Some("ana: now".into());
    assert!(matches!(decide(&run.state).as_slice(), [Command::Begin(_)]));
    // What others wait for is never owed, whoever says so.
    let mut run = Run::started();
    run.only_the_rejoin_is_left(NodePhase::Waiting);
    run.state.nodes.entry("release-drain".into()).or_default().phase = NodePhase::Looking;
    let record = run.record(of_kind(EventKind::RestOwed, "fence"));
    assert!(run.state.apply(&record).is_err());
}

/// A run that parked while it turned back goes on turning back.
#[test]
fn a_decision_goes_back_to_where_the_run_parked() {
    for (from, to, number) in [(Phase::Running, Phase::Running, 461), (Phase::Aborting, Phase::Aborting, 462)] {
        let mut run = Run::started();
        (run.state.phase, run.state.parked_from) = (Phase::Parked, from);
        run.apply(of_kind(EventKind::Decided, "fence"));
        assert_eq!((run.state.phase, run.state.rule), (to, number));
    }
}

/// A pause that is said twice is refused: the second one is no row.
#[test]
fn a_pause_is_not_said_twice() {
    let mut run = Run::started();
    run.apply(of_kind(EventKind::PauseSet, "fence"));
    let again = run.record(of_kind(EventKind::PauseSet, "fence"));
    assert!(run.state.apply(&again).is_err());
}

#[test]
fn a_step_that_is_not_in_the_plan_is_refused() {
    let mut run = Run::started();
    let record = run.record(of_kind(EventKind::Began, "stranger"));
    assert!(run.state.apply(&record).unwrap_err().to_string().contains("no step of the plan"));
}

#[test]
fn an_undo_is_refused_while_the_run_goes_forward() {
    let mut run = Run::started();
    run.finish("look").done("drain");
    let record = run.record(of_kind(EventKind::Intended, "drain.undo"));
    assert!(run.state.apply(&record).unwrap_err().to_string().contains("does not turn back"));
}

#[test]
fn steps_begin_when_everything_before_them_is_settled() {
    let mut run = Run::started();
    assert_eq!(run.only(), begin("look"));
    run.finish("look");
    assert_eq!(run.only(), begin("drain"));
}

/// Covers G03: before the point of no return, what was taken is given back, the latest first; the fence before the drain.
#[test]
fn a_failure_before_the_promotion_gives_everything_back_in_reverse() {
    let mut run = Run::started();
    run.finish("look").done("drain").done("fence").fail("promote", false).settle();
    assert_eq!(run.state.phase, Phase::Aborting);
    assert_eq!(run.only(), begin("fence.undo"));
    run.done("fence.undo");
    assert_eq!(run.only(), begin("drain.undo"));
    run.done("drain.undo").settle();
    assert!(matches!(run.state.outcome, Some(RunOutcome::Aborted { .. })), "{:?}", run.state.outcome);
    assert!(run.state.held().is_empty());
}

/// A call in flight is driven to a known end before anything is given back.
#[test]
fn nothing_is_given_back_while_a_call_is_in_doubt() {
    let mut run = Run::started();
    run.finish("look").done("drain").intend("fence").apply(of_kind(EventKind::InDoubt, "fence"));
    run.apply(of_kind(EventKind::CancelAsked, "fence"));
    assert_eq!(run.only(), Command::Observe("fence".into()));
    run.finish("fence").settle();
    assert_eq!(run.only(), begin("fence.undo"));
}

/// A fence whose attempt was seen not to be done may still take effect late: it is released all the same.
#[test]
fn what_was_in_doubt_once_is_given_back() {
    let mut run = Run::started();
    run.finish("look").done("drain").intend("fence").apply(of_kind(EventKind::InDoubt, "fence"));
    run.apply(of_kind(EventKind::Absent, "fence")).apply(of_kind(EventKind::NotDone, "fence"));
    run.apply(of_kind(EventKind::CancelAsked, "fence")).settle();
    assert_eq!(run.only(), begin("drain.undo"), "the applications do not wait for a fence that nobody has seen");
    run.done("drain.undo").settle();
    assert_eq!(run.only(), begin("fence.undo"));
}

/// Covers C03, J10: after the promote intent there is no way back, only forward or a person.
#[test]
fn a_failure_after_the_promote_intent_parks() {
    let mut run = Run::started();
    run.finish("look").done("drain").done("fence").intend("promote").fail("promote", true).settle();
    assert_eq!(run.state.phase, Phase::Parked);
    let ask = run.state.ask.clone().unwrap();
    assert!(ask.question.contains("automatic rollback is not possible"), "{}", ask.question);
    assert!(ask.choices.iter().all(|choice| choice.name != "abort"));
    assert!(decide(&run.state).is_empty(), "a parked run does nothing by itself");
}

#[test]
fn a_parked_run_looks_again_when_a_person_says_so() {
    let mut run = Run::started();
    run.finish("look").done("drain").done("fence").intend("promote").fail("promote", true).settle();
    run.apply(of_kind(EventKind::Answered, "promote")).settle();
    assert_eq!(run.only(), Command::Observe("promote".into()));
}

/// Where histories are not counted, two people may say that the change was the run's own. One is not enough, and it is no other step's choice.
#[test]
fn two_people_say_that_a_change_was_this_runs() {
    let mut run = Run::started();
    let mut plan = (*run.state.plan).clone();
    plan.expects.lineage.generation = 0;
    run.state.plan = std::sync::Arc::new(plan);
    run.finish("look").done("drain").done("fence").intend("promote").fail("promote", true).settle();
    let choices: Vec<String> = run.state.ask.clone().unwrap().choices.into_iter().map(|choice| choice.name).collect();
    assert_eq!(choices, ["look", "retry", "it-was-ours", "hand-over"]);
    for (person, decided) in [("ana", false), ("ben", true)] {
        let by = Actor::local(person).authenticated("a test", person);
        let given = Given { by, role: None, choice: "it-was-ours".into(), at: run.state.last, note: None };
        run.state.given.push(given);
        assert_eq!(!decide(&run.state).is_empty(), decided, "{person}");
    }
    run.settle();
    assert_eq!(run.only(), Command::Observe("promote".into()));
    assert_eq!(run.state.node(&"promote".into()).claimed_by, ["ana", "ben"]);
}

#[test]
fn a_drain_over_budget_turns_back_before_and_goes_on_after_the_promote_intent() {
    let mut before = Run::started();
    before.finish("look").done("drain").apply(Event::DrainOverBudget).settle();
    assert_eq!(before.state.phase, Phase::Aborting);
    let mut after = Run::started();
    after.finish("look").done("drain").done("fence").intend("promote");
    let budget = after.record(Event::DrainOverBudget);
    assert!(after.state.clone().apply(&budget).is_err(), "the budget ends with the promote intent");
    after.apply(Event::ClientsTurnedAway);
    assert!(after.state.clients_turned_away);
    assert!(
        !decide(&after.state).iter().any(|command| matches!(command, Command::Record(_))),
        "the promotion is in flight"
    );
    after.finish("promote").settle();
    assert_eq!(after.state.phase, Phase::Running, "clients were turned away; going on lets them in soonest");
}

/// Nobody knows whether the fence ever came to be, and its way back fails: the applications are let go all the same, and before.
#[test]
fn bug_a_fence_in_doubt_does_not_keep_the_drain() {
    let mut run = Run::started();
    run.finish("look").done("drain").intend("fence").fail("fence", true).settle();
    assert_eq!(run.state.phase, Phase::Aborting);
    assert_eq!(run.only(), Command::Begin("drain.undo".into()), "the drain before a fence that nobody has seen");
    run.done("drain.undo").settle();
    assert_eq!(run.only(), Command::Begin("fence.undo".into()));
    run.intend("fence.undo").fail("fence.undo", true).settle();
    assert_eq!(run.state.phase, Phase::Parked);
    let ask = run.state.ask.clone().unwrap();
    assert!(ask.question.contains("`fence` could not be given back"), "{}", ask.question);
    assert_eq!(run.state.held().len(), 1, "only the fence is held");
}

/// The fence stands for certain: it is given back first, so that clients that are let go find a writer.
#[test]
fn a_fence_that_stands_is_given_back_before_the_drain() {
    let mut run = Run::started();
    run.finish("look").done("drain").done("fence").apply(Event::DrainOverBudget).settle();
    assert_eq!(run.only(), Command::Begin("fence.undo".into()));
    run.intend("fence.undo").fail("fence.undo", true).settle();
    assert_eq!(
        run.only(),
        Command::Begin("drain.undo".into()),
        "one that cannot be given back does not keep the other"
    );
    run.done("drain.undo").settle();
    assert_eq!(run.state.phase, Phase::Parked);
}

/// A promotion that its provider refused, or took and gave up with a proof, left the run parked with the applications held back: nobody
/// could let them go on where they were.
#[test]
fn bug_a_promotion_that_does_not_stand_is_turned_back() {
    let mut run = Run::started();
    run.finish("look").done("drain").done("fence").intend("promote");
    assert_eq!(run.state.promotion(), Promotion::MayStand);
    run.fail("promote", false).settle();
    assert_eq!((run.state.phase, run.state.promotion()), (Phase::Aborting, Promotion::Disproved));
    assert_eq!(run.only(), begin("fence.undo"));
    run.done("fence.undo").done("drain.undo").settle();
    assert!(matches!(run.state.outcome, Some(RunOutcome::Aborted { .. })), "{:?}", run.state.outcome);
}

/// The proof is about the only attempt: an earlier one that nobody saw end may still take effect.
#[test]
fn a_promotion_that_was_in_doubt_once_is_not_turned_back() {
    let mut run = Run::started();
    run.finish("look").done("drain").done("fence").intend("promote").apply(of_kind(EventKind::InDoubt, "promote"));
    run.apply(of_kind(EventKind::NotDone, "promote"));
    let mut again = of_kind(EventKind::Intended, "promote");
    if let Event::Intended { attempt, .. } = &mut again {
        *attempt = 2;
    }
    run.apply(again).fail("promote", false).settle();
    assert_eq!((run.state.phase, run.state.promotion()), (Phase::Parked, Promotion::MayStand));
    let choices: Vec<String> = run.state.ask.unwrap().choices.into_iter().map(|choice| choice.name).collect();
    assert_eq!(choices, ["look", "retry", "hand-over"]);
}

/// In a failover people wait for a writer: they are asked whether it is tried again, and may turn back.
#[test]
fn a_failover_whose_promotion_does_not_stand_asks_and_may_turn_back() {
    let mut run = Run::started();
    let mut plan = (*run.state.plan).clone();
    plan.purpose = Purpose::Failover;
    run.state.plan = std::sync::Arc::new(plan);
    run.finish("look").done("drain").intend("promote").fail("promote", false).settle();
    assert_eq!(run.state.phase, Phase::Parked);
    let ask = run.state.ask.clone().unwrap();
    let choices: Vec<&str> = ask.choices.iter().map(|choice| choice.name.as_str()).collect();
    assert_eq!(choices, ["retry", "turn-back", "hand-over"]);
    assert!(!ask.question.contains("rollback is not possible"), "{}", ask.question);
    run.apply(Event::Decided { choice: "turn-back".into(), by: Vec::new() });
    assert_eq!((run.state.phase, run.state.rule), (Phase::Aborting, 463));
    assert_eq!(run.state.phase_of(&"promote".into()), NodePhase::Failed, "what failed is not tried again");
    assert!(run.state.aborting.as_ref().unwrap().contains("`promote` failed"), "{:?}", run.state.aborting);
    assert_eq!(run.only(), begin("drain.undo"));
}

/// The name of an operation belongs to the attempt that it was given to.
#[test]
fn a_new_attempt_forgets_the_operation_of_the_one_before() {
    let mut run = Run::started();
    run.finish("look").done("drain").done("fence").intend("promote").apply(of_kind(EventKind::Accepted, "promote"));
    assert!(run.state.node(&"promote".into()).handle.is_some());
    run.apply(of_kind(EventKind::InDoubt, "promote")).apply(of_kind(EventKind::NotDone, "promote")).intend("promote");
    assert_eq!(run.state.node(&"promote".into()).handle, None);
}

#[test]
fn a_cancel_after_the_promote_intent_changes_nothing() {
    let mut run = Run::started();
    run.finish("look").done("drain").done("fence").intend("promote");
    run.state.cancel = Some("ana".into());
    run.finish("promote");
    assert_eq!(run.only(), begin("release-drain"));
}

#[test]
fn a_debt_lets_the_run_end_well_and_is_named() {
    let mut run = Run::started();
    run.finish("look").done("drain").done("fence").done("promote").done("release-drain");
    run.apply(of_kind(EventKind::Owed, "rejoin")).settle();
    let Some(RunOutcome::SucceededWithDebt { debts }) = &run.state.outcome else { panic!("{:?}", run.state.outcome) };
    assert_eq!(debts, &["rejoin neu (owed by dba): cause"]);
}

#[test]
fn a_new_engine_doubts_what_the_old_one_may_have_sent() {
    let mut run = Run::started();
    run.finish("look").intend("drain").apply(of_kind(EventKind::LeaseTaken, "drain"));
    assert_eq!(run.only(), Command::Observe("drain".into()));
}

#[test]
fn a_full_disk_turns_back_before_the_promote_intent_only() {
    let mut before = Run::started();
    before.finish("look").done("drain").apply(Event::SpaceLow).settle();
    assert_eq!(before.state.phase, Phase::Aborting);
    let mut after = Run::started();
    after.finish("look").done("drain").done("fence").intend("promote").apply(Event::SpaceLow).finish("promote");
    assert_eq!(after.only(), begin("release-drain"));
}

#[test]
fn held_things_are_visible_until_they_are_given_back() {
    let mut run = Run::started();
    assert!(run.finish("look").state.held().is_empty());
    run.intend("drain");
    assert_eq!(run.state.held().len(), 1, "an intent counts: it may stand");
    assert!(!run.state.fence_intended());
    run.finish("drain").intend("fence");
    assert!(run.state.fence_intended());
}

#[test]
fn a_line_of_another_version_is_refused() {
    let mut run = Run::started();
    let line = run.record(Event::DrainOverBudget).line().unwrap();
    let text = line.text.replace("\"v\":1", "\"v\":2");
    let hash = dr_core::base::canonical::leaf_hash(text.as_bytes());
    let error = Record::parse(&dr_core::run::Line { text, hash, ..line }).unwrap_err();
    assert!(error.to_string().contains("version 2"), "{error}");
}

#[test]
fn a_plan_that_is_not_the_one_its_hash_names_is_refused() {
    let plan = plan();
    let event = Event::Started {
        plan: Box::new(plan),
        hash: Digest::zero(),
        by: Actor::local("mira").authenticated("a test", "mira"),
        because: String::new(),
    };
    let record = Record::after(Head::EMPTY, Timestamp::from_millis(0), Epoch::new(1), event);
    let refused = RunState::begin(RunId::new(GroupName::new("orders"), 1), &record);
    assert!(refused.unwrap_err().to_string().contains("whose hash is not"));
}
