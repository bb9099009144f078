//! Faults that the matrices do not name one by one: a second engine, a dead primary that returns, a standby on another history.

use dr_core::{MemberId, millis};
use dr_testkit::{Broken, Drift, Explorer, Fault, FaultPlan, Flavour};

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
