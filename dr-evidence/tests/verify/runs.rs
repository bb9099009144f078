//! Runs of the simulated cloud, as their journals tell them.

use dr_core::{
    Actor, Catalog, Cause, PlannedSwitchover, RunId, Timestamp,
    base::Epoch,
    contract::Given,
    minutes,
    plan::Plan,
    run::{Command, Event, Head, Line, Record, RunState, decide, replay},
};
use dr_evidence::{
    Bundle, PublicKey, RunKey, Sealing, SecretKey, Verifier,
    bundle::{self},
    note::Note,
    seal,
};
use dr_testkit::{Fault, FaultPlan, Setup, Stage};

/// One run with what vouches for it.
pub(crate) struct Sealed {
    pub(crate) run: RunId,
    pub(crate) lines: Vec<Line>,
    pub(crate) key: RunKey,
    pub(crate) root: PublicKey,
}

pub(crate) fn root() -> SecretKey {
    SecretKey::from_seed("example.com/dr-root", &[7; 32]).unwrap()
}

impl Sealed {
    pub(crate) fn of(run: RunId, lines: Vec<Line>) -> Self {
        let at = Record::parse(&lines[0]).unwrap().at;
        let key = RunKey::issue(&root(), (&run, lines[0].hash), at, minutes(600)).unwrap();
        Self { run, lines, key, root: root().public().clone() }
    }

    pub(crate) fn sealed_at(&self) -> Timestamp {
        Record::parse(self.lines.last().unwrap()).unwrap().at + minutes(1)
    }

    /// Checkpoints over beginnings of the run.
    pub(crate) fn notes(&self, sizes: &[usize]) -> Vec<Note> {
        sizes.iter().map(|size| bundle::checkpoint(&self.run, &self.lines[..*size], &self.key).unwrap()).collect()
    }

    pub(crate) fn bundle(&self, sizes: &[usize]) -> Bundle {
        let checkpoints = self.notes(sizes);
        let with = Sealing {
            run: &self.run,
            key: &self.key,
            checkpoints: &checkpoints,
            at: self.sealed_at(),
            program: "tests 1",
        };
        seal(&self.lines, &with).unwrap()
    }

    pub(crate) fn verifier(&self) -> Verifier {
        Verifier::new([self.root.clone()])
    }

    pub(crate) fn records(&self) -> Vec<Record> {
        self.lines.iter().map(|line| Record::parse(line).unwrap()).collect()
    }

    /// How long the journal was when the intent to promote was in it.
    pub(crate) fn promotion(&self) -> usize {
        let promotes = |record: &Record| matches!(&record.event, Event::Intended { node, .. } if node.as_str().contains("promote"));
        self.records().iter().position(promotes).unwrap() + 1
    }
}

/// A planned switchover with faults.
pub(crate) fn switchover(faults: &FaultPlan) -> Sealed {
    let stage = Stage::new(Setup::pair("orders", "neu", "weu"));
    let plan = stage.plan(&PlannedSwitchover::to("weu"), &Catalog::built_in()).unwrap();
    stage.faults(faults);
    stage.drive(&plan, &Catalog::built_in);
    Sealed::of(stage.run.clone(), stage.journal.lines(&stage.run))
}

pub(crate) fn succeeded() -> Sealed {
    switchover(&FaultPlan::none())
}

pub(crate) fn turned_back() -> Sealed {
    switchover(&FaultPlan::one("weu.promote#1", Fault::Refused))
}

/// The promotion failed, and may have done something.
pub(crate) fn parked() -> Sealed {
    let whole = succeeded();
    let lines = whole.lines[..whole.promotion()].to_vec();
    let Event::Intended { node, .. } = Record::parse(lines.last().unwrap()).unwrap().event else { panic!() };
    let failed = Event::Failed { node, cause: Cause::new("the server went away"), doubt: true };
    Sealed::of(whole.run.clone(), go_on(&whole.run, lines, [failed]))
}

/// A person took the parked run over.
pub(crate) fn handed_over() -> Sealed {
    let parked = parked();
    let by = Actor::local("mira").authenticated("tests", "mira");
    let at = parked.sealed_at();
    let given = Given { by, role: None, choice: "hand-over".into(), at, note: None };
    let decided = Event::Answered { row: "r1".into(), given };
    Sealed::of(parked.run.clone(), go_on(&parked.run, parked.lines.clone(), [decided]))
}

/// Goes on with a journal by events, and then by what the machine itself decides to record.
fn go_on(run: &RunId, mut lines: Vec<Line>, events: impl IntoIterator<Item = Event>) -> Vec<Line> {
    let add = |lines: &mut Vec<Line>, event: Event| {
        let last = lines.last().unwrap();
        let before = Record::parse(last).unwrap();
        let head = Head { seq: last.seq, hash: last.hash };
        lines.push(Record::after(head, before.at + dr_core::millis(5), before.epoch, event).line().unwrap());
    };
    for event in events {
        add(&mut lines, event);
    }
    loop {
        let (state, _) = replay(run, &lines).unwrap();
        let next = decide(&state)
            .into_iter()
            .find_map(|command| if let Command::Record(event) = command { Some(*event) } else { None });
        let Some(event) = next else { return lines };
        add(&mut lines, event);
    }
}

/// Somebody cancelled it while it looked.
pub(crate) fn cancelled() -> Sealed {
    let whole = succeeded();
    let mut lines = whole.lines.clone();
    lines.truncate(2);
    let cancel = Event::CancelAsked { row: "r1".into(), by: Actor::local("mira"), because: "the wrong day".into() };
    Sealed::of(whole.run.clone(), go_on(&whole.run, lines, [cancel]))
}

/// The smallest run that there is: a plan without steps.
pub(crate) fn smallest() -> Sealed {
    let whole = succeeded();
    let Event::Started { plan, by, because, .. } = Record::parse(&whole.lines[0]).unwrap().event else { panic!() };
    let mut plan: Plan = *plan;
    plan.nodes.clear();
    plan.order.clear();
    plan.holds.clear();
    plan.allow.clear();
    plan.facts.clear();
    plan.bindings.clear();
    plan.lineages.clear();
    let hash = plan.hash().unwrap();
    let started = Event::Started { plan: Box::new(plan), hash, by, because };
    let first = Record::after(Head::EMPTY, Timestamp::from_millis(1_764_600_000_000), Epoch::new(1), started);
    let lines = vec![first.line().unwrap()];
    let lease = Event::LeaseTaken { holder: "engine-1".into() };
    Sealed::of(whole.run.clone(), go_on(&whole.run, lines, [lease]))
}

pub(crate) fn state(of: &Sealed) -> RunState {
    replay(&of.run, &of.lines).unwrap().0
}
