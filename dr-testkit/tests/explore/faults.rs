//! Faults that the matrices do not name one by one: a second engine, a dead primary that returns, a standby on another history.

use dr_core::{
    Catalog, MemberId, PlannedSwitchover, millis, minutes,
    plan::preview,
    run::{Event, EventKind, Record},
    seconds,
};
use dr_testkit::{Broken, Drift, Explorer, FailsHow, Fault, FaultPlan, Flavour, Law, Setup, Stage, sim};

use crate::{
    matrix::{failover, switchover},
    tell,
};

fn rivals(explorer: &Explorer) {
    let verdict = explorer.two_orchestrators();
    tell(&format!("two engines, one takes over at each call: {verdict}"));
    assert!(verdict.schedules > 30, "{verdict}");
    assert_eq!(verdict.ends.get("success"), Some(&verdict.schedules), "{verdict}");
    verdict.assert_clean();
}

/// F17: the first engine stands still at a call, another one takes the run over, the first one wakes up and sends nothing more.
#[test]
fn a_switchover_that_a_second_engine_takes_over_at_any_call_comes_to_the_same_end() {
    rivals(&switchover(Flavour::Separate));
}

#[test]
fn a_failover_that_a_second_engine_takes_over_at_any_call_comes_to_the_same_end() {
    rivals(&failover(Flavour::Separate));
}

/// F23: the dead primary's server comes back while the failover runs. Its fence keeps it down; it is never a second writer.
#[test]
fn a_primary_that_returns_in_a_failover_is_never_a_second_writer() {
    let returns = ["weu.promote", "traffic:route-0.apply", "secret.patch"];
    for plan in returns.map(|call| FaultPlan::one(call, Fault::Zombie)) {
        let played = failover(Flavour::Separate).play(&plan);
        assert_eq!((played.end.class(), played.violations.len()), ("success", 0), "{plan}: {:?}", played.violations);
        assert_eq!(played.state.promotions, 1, "{plan}");
    }
    let early = failover(Flavour::Separate).then(|cloud| cloud.comes_back("neu", millis(1)));
    let played = early.play(&FaultPlan::none());
    assert_eq!((played.end.class(), played.violations), ("turned back", Vec::new()));
    assert_eq!((played.state.promotions, played.state.routes), (0, vec![MemberId::new("neu")]));
}

/// F25: the standby turns out to be on another history, or stalls; before the drain nothing is held back for it.
#[test]
fn a_standby_on_another_history_is_not_promoted() {
    for how in [Broken::Diverged, Broken::Stalled, Broken::MetricFrozen] {
        let explorer = switchover(Flavour::Separate).then(move |cloud| cloud.break_replication("weu", how));
        let played = explorer.play(&FaultPlan::none());
        assert_eq!(played.end.class(), "turned back", "{how:?}: {}", played.end.words());
        assert_eq!(played.violations, [], "{how:?}");
        assert!(!played.calls.iter().any(|call| call.name.contains("fence.engage")), "{how:?}");
        assert!(played.state.app_open && played.state.promotions == 0, "{how:?}");
    }
}

/// F25: found only after the fence. Whether the old primary may write again is then for people: the candidate is not in recovery on
/// the old timeline, which a release has to see.
#[test]
fn a_standby_that_parts_from_its_history_after_the_fence_parks_the_run_with_no_writer() {
    let plan = FaultPlan::one("neu.fence.engage/1-deny", Fault::Replication(Broken::Diverged));
    let played = switchover(Flavour::Separate).play(&plan);
    assert_eq!((played.end.class(), played.violations), ("parked", Vec::new()), "{}", played.end.words());
    assert_eq!(played.state.promotions, 0);
    assert!(played.end.words().contains("fence"), "{}", played.end.words());
    let released = played.calls.iter().any(|call| call.name.contains("fence.release"));
    assert!(!released, "{}", played.end.words());
}

/// F22: somebody lifts the fence while secret and routes are moved. The applications are not let through beside a second writer.
#[test]
fn a_fence_that_is_lifted_while_traffic_moves_keeps_the_applications_held_back() {
    for call in ["secret.patch", "traffic:route-0.apply"] {
        let played = switchover(Flavour::Separate).play(&FaultPlan::one(call, Fault::Drift(Drift::Fence)));
        let words = played.end.words();
        assert_eq!(played.end.class(), "parked", "{call}: {words}");
        assert!(words.contains("fence"), "{call}: {words}");
        assert!(!played.calls.iter().any(|call| call.name.starts_with("app.resume")), "{call}: {words}");
    }
}

/// A swap of three minutes, a gap budget of one and clients that wait for two: one clock for both ended in a run over its budget. The
/// run goes on, clients are told when they would give up, and are let in once the writer is confirmed.
#[test]
fn bug_a_swap_that_takes_longer_than_clients_wait_ends_well() {
    let mut setup = Setup::pair("orders", "neu", "weu").flavour(Flavour::RoleSwap);
    setup.timing.swap = minutes(3);
    (setup.gap_budget, setup.drain_limit) = (Some(seconds(60)), minutes(2));
    setup.drain_expires = false;
    let stage = Stage::new(setup);
    let catalog = Catalog::built_in();
    let plan = stage.plan(&PlannedSwitchover::to("weu"), &catalog).unwrap();
    let page = preview::text(plan.plan(), plan.hash());
    assert!(page.contains("clients that wait at most 2 min will see errors for"), "{page}");
    let end = stage.drive(&plan, &Catalog::built_in);
    assert_eq!(end.class(), "success", "{}", end.words());
    let lines = stage.journal.lines(&stage.run);
    let records: Vec<Record> = lines.iter().map(|line| Record::parse(line).unwrap()).collect();
    let when = |kind| records.iter().filter(|record| record.event.kind() == kind).map(|record| record.at).next();
    let drained =
        records.iter().find(|record| matches!(&record.event, Event::Intended { node, .. } if node.as_str() == "drain"));
    let told = when(EventKind::ClientsTurnedAway).unwrap().since(drained.unwrap().at);
    assert!((minutes(2)..seconds(123)).contains(&told), "{told:?}");
    assert_eq!((when(EventKind::DrainOverBudget), when(EventKind::Parked)), (None, None));
    stage.cloud.look(|truth| assert_eq!(truth.violations(), []));
}

/// A swap that the provider refuses, or takes and gives up with both sides as before, parked the run with the applications held back.
/// It turns back by itself, and the swap is not sent again.
#[test]
fn bug_a_swap_that_did_not_happen_is_turned_back() {
    for flavour in [Flavour::RoleSwap, Flavour::StorageFence] {
        for fault in [Fault::Refused, Fault::OperationFails(FailsHow::Absent), Fault::OperationFails(FailsHow::Partial)]
        {
            let played = switchover(flavour).play(&FaultPlan::one("weu.swap-roles", fault));
            assert_eq!(played.end.class(), "turned back", "{fault}: {}", played.end.words());
            assert_eq!(played.violations, [], "{fault}");
            let swaps = played.calls.iter().filter(|call| call.name.contains("swap-roles")).count();
            assert_eq!((swaps, played.state.promotions), (1, 0), "{fault}: {}", played.end.words());
        }
    }
}

/// The same, with one more fault at every call behind it: never two writers, and nothing acknowledged is lost.
#[test]
fn a_swap_that_was_given_up_obeys_the_laws_under_a_second_fault() {
    let explorer = switchover(Flavour::RoleSwap);
    let given_up = FaultPlan::one("weu.swap-roles", Fault::OperationFails(FailsHow::Absent));
    let baseline = explorer.play(&given_up);
    let from = baseline.calls.iter().position(|call| call.name.contains("swap-roles")).unwrap();
    let mut played = 0;
    for call in baseline.calls.iter().skip(from + 1) {
        for fault in Fault::OF_CALLS.into_iter().filter(|fault| fault.suits(call.kind)) {
            let plan = given_up.clone().and(call.name.clone(), fault);
            let run = explorer.play(&plan);
            assert_eq!(run.violations, [], "{plan}: {}", run.end.words());
            played += 1;
        }
    }
    tell(&format!("a swap that was given up, and one more fault: {played} schedules"));
    assert!(played > 20, "{played}");
}

/// A provider that lies: what it said to have given up happens a while later. Where that is between the two looks, the run sees it and
/// goes on; later, roles change in one call of the provider. There are never two writers, and nothing acknowledged is lost.
#[test]
fn a_swap_that_comes_after_it_was_given_up_makes_no_second_writer() {
    let late = Fault::OperationFails(FailsHow::Late);
    for timeout in [20, 30, 40, 60, 100, 200, 1000] {
        let mut setup = sim::pair("orders", "neu", "weu");
        setup.timing.timeout = millis(timeout);
        let explorer = Explorer::new(setup, PlannedSwitchover::to("weu")).on(Flavour::RoleSwap);
        let played = explorer.play(&FaultPlan::one("weu.swap-roles", late));
        let laws: Vec<Law> = played.violations.iter().map(|violation| violation.law.clone()).collect();
        // That roles changed although the run turned back (S6) is the provider's lie.
        assert!(laws.iter().all(|law| *law == Law::S6), "{timeout}: {:?}", played.violations);
        tell(&format!("a swap that comes {timeout} ms late: {} {laws:?}", played.end.words()));
    }
}
