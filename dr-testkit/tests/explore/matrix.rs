//! The kill matrix: the orchestrator dies at every position, inside compound verbs and around every append, and a new one resumes.
//! The positions are generated from the run without faults. Covers G02, G04, C03, J10.

use dr_core::{PlannedSwitchover, UnplannedFailover};
use dr_testkit::{Explorer, Fault, FaultPlan, Flavour, sim};

use crate::tell;

pub(crate) fn switchover(flavour: Flavour) -> Explorer {
    Explorer::new(sim::pair("orders", "neu", "weu"), PlannedSwitchover::to("weu")).on(flavour)
}

/// The primary's server died; where the provider attaches it again by itself, it comes back after the swap.
pub(crate) fn failover(flavour: Flavour) -> Explorer {
    let explorer = Explorer::new(sim::pair("orders", "neu", "weu"), UnplannedFailover::to("weu")).on(flavour);
    let explorer = explorer.given(|cloud| cloud.break_down("neu"));
    match flavour {
        Flavour::Separate | Flavour::StorageFence => explorer,
        Flavour::RoleSwap => explorer.then(|cloud| cloud.comes_back("neu", dr_core::seconds(5))),
    }
}

/// Every kill comes to the end of the run without one. The laws say the rest: never two writers (S1), nothing lost (S2) or not more
/// than was said (S3), one promotion (S6), the same members, secret, routes and writes at the end (S12).
fn kill_everywhere(explorer: &Explorer) {
    let verdict = explorer.crashes();
    let positions = verdict.schedules - 1;
    tell(&format!("kill matrix: {positions} positions, and the run without one: {verdict}"));
    let positions_of = |part: &str| {
        let baseline = explorer.play(&FaultPlan::none());
        explorer.crash_positions(&baseline).iter().filter(|(call, _)| call.contains(part)).count()
    };
    assert!(positions > 50 && positions_of("journal.append#") > 30, "the list is generated: {verdict}");
    assert_eq!(verdict.ends.get("success"), Some(&verdict.schedules), "{verdict}");
    verdict.assert_clean();
}

#[test]
pub(crate) fn switchover_with_a_separate_fence_survives_every_kill() {
    kill_everywhere(&switchover(Flavour::Separate));
}

#[test]
pub(crate) fn switchover_by_role_swap_survives_every_kill() {
    kill_everywhere(&switchover(Flavour::RoleSwap));
}

#[test]
pub(crate) fn switchover_with_a_storage_fence_survives_every_kill() {
    kill_everywhere(&switchover(Flavour::StorageFence));
}

#[test]
fn failover_with_a_separate_fence_survives_every_kill() {
    kill_everywhere(&failover(Flavour::Separate));
}

#[test]
fn failover_by_role_swap_survives_every_kill() {
    kill_everywhere(&failover(Flavour::RoleSwap));
}

#[test]
fn failover_with_a_storage_fence_survives_every_kill() {
    kill_everywhere(&failover(Flavour::StorageFence));
}

/// The positions where a lost or refused answer hurts most: each change of a switchover, each such fault (F1, F2, F5, F6, F8).
#[test]
fn no_transient_fault_at_a_change_turns_a_switchover_into_anything_else() {
    let explorer = switchover(Flavour::Separate);
    let baseline = explorer.play(&FaultPlan::none());
    let reads = |call: &str| call.contains("probe") || call.contains("describe") || call.contains("read");
    let hurts = |fault: &Fault| {
        matches!(fault, Fault::FailBefore | Fault::LostReply | Fault::Throttled | Fault::Slow | Fault::HandleLost)
    };
    let changes: Vec<String> = baseline
        .calls
        .iter()
        .filter(|call| call.touch.is_some() && !reads(&call.name))
        .map(|call| call.name.clone())
        .collect();
    let mut played = 0;
    for (call, fault) in
        explorer.positions(&baseline).into_iter().filter(|(call, fault)| changes.contains(call) && hurts(fault))
    {
        let line = format!("{} {call}:{fault}", explorer.scenario());
        let verdict = explorer.replay(&line).unwrap();
        assert!(verdict.is_clean(), "{verdict}");
        played += 1;
    }
    tell(&format!("transient faults: {played} at {} changes of a switchover", changes.len()));
    assert!(played >= changes.len() * 3);
}
