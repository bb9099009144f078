//! The kill matrix: the orchestrator dies at every position, inside compound verbs and around every append, and a new one resumes.
//! The positions are generated from the run without faults. Covers G02, G04, C03, J10.

use dr_core::{PlannedSwitchover, UnplannedFailover};
use dr_testkit::{Explorer, Fault, FaultPlan, Flavour, sim};

fn switchover(flavour: Flavour) -> Explorer {
    Explorer::new(sim::pair("orders", "neu", "weu"), PlannedSwitchover::to("weu")).on(flavour)
}

/// The primary's server died; where the provider attaches it again by itself, it comes back after the swap.
fn failover(flavour: Flavour) -> Explorer {
    let explorer = Explorer::new(sim::pair("orders", "neu", "weu"), UnplannedFailover::to("weu")).on(flavour);
    let explorer = explorer.given(|cloud| cloud.break_down("neu"));
    match flavour {
        Flavour::Separate | Flavour::StorageFence => explorer,
        Flavour::RoleSwap => explorer.then(|cloud| cloud.comes_back("neu", dr_core::seconds(5))),
    }
}

fn kill_everywhere(explorer: &Explorer) {
    let verdict = explorer.crashes();
    println!("{verdict}");
    assert!(verdict.schedules > 50, "the list of positions is generated: {verdict}");
    assert_eq!(verdict.ends.get("success"), Some(&verdict.schedules), "{verdict}");
    verdict.assert_clean();
}

#[test]
fn switchover_with_a_separate_fence_survives_every_kill() {
    kill_everywhere(&switchover(Flavour::Separate));
}

#[test]
fn switchover_by_role_swap_survives_every_kill() {
    kill_everywhere(&switchover(Flavour::RoleSwap));
}

#[test]
fn switchover_with_a_storage_fence_survives_every_kill() {
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
    println!("{played} transient faults at {} changes", changes.len());
    assert!(played >= changes.len() * 3);
}
