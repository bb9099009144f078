//! What the owner of the keys himself recorded wrongly: the events do not follow from each other.

use dr_core::{
    RunId, Timestamp, millis,
    run::{Event, Head, Line, Record, RunOutcome},
};
use dr_evidence::{Class, Code};
use dr_testkit::{Fault, FaultPlan};

use crate::runs::{self, Sealed};

/// A chain of these events, each at its time.
fn chained(events: impl IntoIterator<Item = (Timestamp, Event)>) -> Vec<Line> {
    let mut head = Head::EMPTY;
    let mut lines = Vec::new();
    for (at, event) in events {
        let line = Record::after(head, at, dr_core::base::Epoch::new(1), event).line().unwrap();
        head = Head { seq: line.seq, hash: line.hash };
        lines.push(line);
    }
    lines
}

fn told(run: &RunId, lines: Vec<Line>) -> Vec<Code> {
    let run = Sealed::of(run.clone(), lines);
    let verdict = run.verifier().check(&run.bundle(&[]));
    verdict.findings.iter().map(|finding| finding.code).collect()
}

fn events(run: &Sealed) -> Vec<(Timestamp, Event)> {
    run.records().into_iter().map(|record| (record.at, record.event)).collect()
}

/// Covers I10: a promotion that was sent before its fence, its consent and its checks is told, although the machine knows the step.
#[test]
fn step_before_its_turn_is_told() {
    let run = runs::succeeded();
    let all = events(&run);
    let early = [&all[..2], &all[run.promotion() - 1..run.promotion()]].concat();
    assert!(told(&run.run, chained(early)).contains(&Code::StepOutOfOrder));
}

#[test]
fn success_that_nothing_led_to_is_told() {
    let run = runs::succeeded();
    let all = events(&run);
    let ended = (all[1].0, Event::Ended { outcome: RunOutcome::Succeeded });
    let codes = told(&run.run, chained(all[..2].iter().cloned().chain([ended])));
    assert_eq!(codes, [Code::EndDoesNotFollow]);
}

#[test]
fn clock_that_went_back_is_a_gap() {
    let run = runs::cancelled();
    let mut all = events(&run);
    all[1].0 = all[1].0 + millis(3_600_000);
    let codes = told(&run.run, chained(all));
    assert_eq!(codes, [Code::ClockWentBack]);
    assert_eq!(Code::ClockWentBack.class(), Class::ValidWithGaps);
}

/// Nothing is told of runs that the engine drove itself, whatever went wrong on the way.
#[test]
fn nothing_is_told_of_honest_runs() {
    let faults = [
        ("weu.promote#1", Fault::LostReply),
        ("weu.promote#1", Fault::FailBefore),
        ("weu.promote#1", Fault::CrashAfter),
        ("weu.promote#1", Fault::Duplicate),
        ("weu.promote#1", Fault::Rival),
        ("app.drain#1", Fault::Late),
        ("app.drain#1", Fault::Refused),
        ("app.drain#1", Fault::CrashBefore),
        ("neu.fence.engage/1-block#1", Fault::LostReply),
        ("neu.describe#3", Fault::StaleRead),
        ("neu.describe#4", Fault::Partition),
        ("journal.append#5", Fault::CrashAfter),
        ("journal.append#12", Fault::CrashBefore),
        ("journal.append#20", Fault::CrashAfter),
    ];
    let mut lengths = std::collections::BTreeSet::new();
    for (call, fault) in faults {
        let run = runs::switchover(&FaultPlan::one(call, fault));
        let verdict = run.verifier().check(&run.bundle(&[]));
        let wrong = verdict
            .findings
            .iter()
            .find(|finding| !matches!(finding.code, Code::NoCheckpointBeforePromotion | Code::NotOver));
        assert!(wrong.is_none(), "{call} {fault:?}: {verdict}");
        assert_eq!(verdict.checked.replayed, run.lines.len());
        lengths.insert(run.lines.len());
    }
    assert!(lengths.len() > 4, "the faults change what happens: {lengths:?}");
}
