//! Single faults at the calls and appends of both runbooks, over all flavours. The suite plays a sample; `DR_EXPLORE=all` plays
//! every one of them. What they found is kept here by name. Covers G04 and section 5 of the safety notes.

use dr_testkit::{Drift, Explorer, Fault, FaultPlan, Flavour};

use crate::{
    matrix::{failover, switchover},
    tell,
};

/// One fault of so many is played where not all are.
const SAMPLE: usize = 7;

fn single_faults(explorer: &Explorer) {
    let all = std::env::var("DR_EXPLORE").is_ok_and(|wanted| wanted == "all");
    let verdict = if all { explorer.single_faults() } else { explorer.every_nth_fault(SAMPLE) };
    tell(&format!("single faults ({}): {verdict}", if all { "all" } else { "a sample" }));
    assert!(verdict.schedules > 400 / SAMPLE, "the positions are generated: {verdict}");
    verdict.assert_clean();
}

#[test]
fn switchover_with_a_separate_fence_obeys_the_laws_under_single_faults() {
    single_faults(&switchover(Flavour::Separate));
}

#[test]
fn switchover_by_role_swap_obeys_the_laws_under_single_faults() {
    single_faults(&switchover(Flavour::RoleSwap));
}

#[test]
fn switchover_with_a_storage_fence_obeys_the_laws_under_single_faults() {
    single_faults(&switchover(Flavour::StorageFence));
}

#[test]
fn failover_with_a_separate_fence_obeys_the_laws_under_single_faults() {
    single_faults(&failover(Flavour::Separate));
}

#[test]
fn failover_by_role_swap_obeys_the_laws_under_single_faults() {
    single_faults(&failover(Flavour::RoleSwap));
}

#[test]
fn failover_with_a_storage_fence_obeys_the_laws_under_single_faults() {
    single_faults(&failover(Flavour::StorageFence));
}

/// A stranger promotes the candidate after people agreed: the lag is unknown from then on, and people would have been asked for ever.
#[test]
fn bug_a_candidate_that_a_stranger_promoted_ends_the_run_with_nothing_fenced() {
    let played = switchover(Flavour::Separate).play(&FaultPlan::one("neu.snapshot", Fault::Drift(Drift::Role)));
    assert_eq!(played.end.class(), "turned back", "{}", played.end.words());
    assert!(played.end.words().contains("lag is unknown"), "{}", played.end.words());
    assert_eq!(played.violations, []);
    assert!(!played.calls.iter().any(|call| call.name.contains("fence.engage") || call.name.contains("promote")));
}
