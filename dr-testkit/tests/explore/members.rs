//! Groups of more than two members: every standby follows the new writer or is owed, a reader is left alone, and nobody is promoted who
//! is not meant to be.

use dr_core::{MemberId, PlannedSwitchover, UnplannedFailover, contract::IntendedRole, seconds};
use dr_testkit::{Broken, Condition, Explorer, Fault, FaultPlan, Flavour, Setup, SimCloud, Truth, sim};

use crate::tell;

/// `neu` writes, `weu` is the other candidate, `uks` follows, `bi` reads.
fn three() -> Setup {
    sim::pair("orders", "neu", "weu").with("uks", IntendedRole::Follower).with("bi", IntendedRole::Reader)
}

fn switchover(flavour: Flavour) -> Explorer {
    Explorer::new(three(), PlannedSwitchover::to("weu")).on(flavour)
}

/// The primary died; `weu` is the most advanced candidate.
fn failover(flavour: Flavour) -> Explorer {
    let explorer = Explorer::new(three(), UnplannedFailover::to("weu")).on(flavour);
    let explorer = explorer.given(|cloud| cloud.break_down("neu"));
    match flavour {
        Flavour::Separate | Flavour::StorageFence => explorer,
        Flavour::RoleSwap => explorer.then(|cloud| cloud.comes_back("neu", seconds(5))),
    }
}

fn follows(truth: &Truth<'_>, member: &str, writer: &str) -> bool {
    let member = truth.member(member);
    member.is_some_and(|found| {
        found.follows() == Some(&MemberId::new(writer)) && found.is_streaming() && found.lineage() == truth.lineage()
    })
}

#[test]
fn every_standby_follows_the_new_writer_and_a_reader_is_left_alone() {
    for flavour in [Flavour::Separate, Flavour::RoleSwap, Flavour::StorageFence] {
        for explorer in [switchover(flavour), failover(flavour)] {
            let explorer = explorer.finally("uks follows", |truth, ()| follows(truth, "uks", "weu"));
            let played = explorer.play(&FaultPlan::none());
            assert_eq!(played.violations, [], "{flavour}: {}", played.end.words());
            assert_eq!(played.end.class(), "success", "{flavour}: {}", played.end.words());
            assert!(!played.calls.iter().any(|call| call.name.starts_with("bi.follow")), "{flavour}");
            let asked = played.calls.iter().any(|call| call.name.starts_with("uks.follow#"));
            assert_eq!(asked, flavour == Flavour::Separate, "{flavour}: who finds the writer by itself is not asked");
        }
    }
}

/// Whatever meets the calls that take the third member along, the run ends with the change, and the member follows or is owed.
#[test]
fn no_single_fault_at_the_third_member_keeps_the_change_from_its_end() {
    for explorer in [switchover(Flavour::Separate), failover(Flavour::Separate)] {
        let baseline = explorer.play(&FaultPlan::none());
        let after = |call: &str| call.starts_with("uks.follow") || call.starts_with("uks.poll");
        let own = |fault: &Fault| !Fault::OF_THE_WORLD.contains(fault);
        let positions = explorer.positions(&baseline).into_iter().filter(|(call, fault)| after(call) && own(fault));
        let positions: Vec<(String, Fault)> = positions.collect();
        assert!(positions.len() > 8, "{positions:?}");
        for (call, fault) in &positions {
            let line = format!("{} {}", explorer.scenario(), FaultPlan::one(call.clone(), *fault));
            let verdict = explorer.replay(&line).unwrap();
            assert_eq!(verdict.ends.get("success"), Some(&verdict.schedules), "{call} {fault:?}: {verdict}");
            verdict.assert_clean();
        }
        tell(&format!("{}: {} single faults at the third member", explorer.scenario(), positions.len()));
    }
}

#[test]
fn a_switchover_of_three_members_survives_every_fifth_kill() {
    let verdict = switchover(Flavour::Separate).every_nth_crash(5);
    assert_eq!(verdict.ends.get("success"), Some(&verdict.schedules), "{verdict}");
    verdict.assert_clean();
}

/// A failover looked at the candidate's stream only: a primary that nobody reached, and whose candidate had lost its stream, was called down
/// while another standby received from it.
#[test]
fn bug_the_live_stream_of_another_standby_is_proof_of_life() {
    let blind = |cloud: &SimCloud| {
        cloud.suffer(Condition::ControlOutage("neu".into()), None);
        cloud.suffer(Condition::DataOutage("neu".into()), None);
        cloud.break_replication("weu", Broken::Stalled);
    };
    let failover =
        UnplannedFailover::to("weu").although_behind("neu was fenced by hand").without_fence("nobody reaches neu");
    let played = Explorer::new(three(), failover).given(blind).expect_refusal().play(&FaultPlan::none());
    let words = played.end.words();
    assert_eq!((played.state.promotions, &played.violations), (0, &Vec::new()), "{words}");
    assert!(words.contains("is alive") && words.contains("stream: yes"), "{words}");
}
