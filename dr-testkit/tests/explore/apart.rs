//! The writer and the applications, one without the other: a promotion that leaves the applications out, and a redirect that promotes
//! nobody. The kill matrix and single faults over each, and what refuses them.

use dr_core::{
    Catalog,
    base::known,
    plan::{MemberFacts, MemberRole, Presence, PromotionOnly, Redirect, roles},
    seconds,
};
use dr_testkit::{Drift, Explorer, FaultPlan, Flavour, RunEnd, Stage, sim};

use crate::tell;

/// One fault of so many is played.
const SAMPLE: usize = 7;

fn promotion(flavour: Flavour) -> Explorer {
    let runbook = PromotionOnly::to("weu", "the shop team moves its own clients");
    Explorer::new(sim::pair("orders", "neu", "weu"), runbook).on(flavour)
}

/// Somebody pointed the applications at the standby: they are brought back to the writer.
fn redirect(flavour: Flavour) -> Explorer {
    let explorer = Explorer::new(sim::pair("orders", "neu", "weu"), Redirect::to("neu")).on(flavour);
    explorer.given(|cloud| cloud.point_at("weu"))
}

fn survives(what: &str, explorer: &Explorer) {
    let kills = explorer.crashes();
    let faults = explorer.every_nth_fault(SAMPLE);
    tell(&format!("{what}: kill matrix: {kills}"));
    tell(&format!("{what}: single faults (a sample): {faults}"));
    assert_eq!(kills.ends.get("success"), Some(&kills.schedules), "{kills}");
    assert!(kills.schedules > 20 && faults.schedules > 10, "the positions are generated: {kills}");
    kills.assert_clean();
    faults.assert_clean();
}

#[test]
fn a_promotion_alone_survives_every_kill_with_a_separate_fence() {
    let explorer = promotion(Flavour::Separate).finally("the applications are where they were", |truth, ()| {
        truth.primary().is_some_and(|writer| writer.as_str() == "weu")
    });
    let played = explorer.play(&FaultPlan::none());
    let RunEnd::Ended(outcome) = &played.end else { panic!("{}", played.end.words()) };
    let words = format!("{outcome:?}");
    assert!(words.contains("point secret:main at weu, the writer: the shop team moves its own clients"), "{words}");
    assert!(words.contains("point traffic:route-0 at weu"), "{words}");
    assert!(!played.calls.iter().any(|call| call.name.starts_with("secret.patch")), "the secret stays");
    survives("promotion only, separate fence", &explorer);
}

#[test]
fn a_promotion_alone_survives_every_kill_by_role_swap() {
    survives("promotion only, role swap", &promotion(Flavour::RoleSwap));
}

#[test]
fn a_redirect_survives_every_kill() {
    let explorer = redirect(Flavour::Separate);
    let played = explorer.play(&FaultPlan::none());
    assert_eq!((played.end.class(), played.state.promotions), ("success", 0), "{}", played.end.words());
    survives("redirect", &explorer);
}

/// The other region is dark, and applications are pointed at it: they were stuck there, because nobody could say whether its member still
/// writes. Two people accept that, and its fence is owed.
#[test]
fn bug_a_redirect_beside_a_dark_region_asks_two_people() {
    let explorer = redirect(Flavour::RoleSwap).given(|cloud| {
        cloud.point_at("weu");
        cloud.lose_region("weu");
    });
    let played = explorer.play(&FaultPlan::none());
    assert_eq!((played.end.class(), played.asked), ("success", 2), "{}", played.end.words());
    let RunEnd::Ended(outcome) = &played.end else { panic!("{}", played.end.words()) };
    assert!(format!("{outcome:?}").contains("fence weu as soon as it answers"), "{outcome:?}");
    assert_eq!(played.violations, []);
    survives("redirect beside a dark region", &explorer);
}

#[test]
fn a_redirect_to_a_member_that_is_no_writer_is_refused() {
    let stage = Stage::new(sim::pair("orders", "neu", "weu"));
    let refused = stage.plan(&Redirect::to("weu"), &Catalog::built_in()).unwrap_err();
    let rules: Vec<u16> = refused.findings.iter().map(|finding| finding.rule).collect();
    assert_eq!(rules, [known::IS_NO_WRITER.number], "{refused}");
    stage.cloud.break_down("neu");
    stage.pass(seconds(2));
    let refused = stage.plan(&Redirect::to("neu"), &Catalog::built_in()).unwrap_err();
    assert_eq!(refused.findings.first().map(|finding| finding.rule), Some(known::SILENT_WRITER.number), "{refused}");
}

/// A second writer that is there before the plan refuses it; one that comes after it turns the run back before anything is pointed.
#[test]
fn a_redirect_with_two_writers_is_refused_and_turns_back() {
    let stage = Stage::new(sim::pair("orders", "neu", "weu"));
    stage.cloud.drift(Drift::Role);
    stage.pass(seconds(2));
    let refused = stage.plan(&Redirect::to("neu"), &Catalog::built_in()).unwrap_err();
    assert_eq!(refused.findings.first().map(|finding| finding.rule), Some(known::SEVERAL_WRITERS.number), "{refused}");

    let played = redirect(Flavour::Separate).then(|cloud| cloud.drift(Drift::Role)).play(&FaultPlan::none());
    assert_eq!(played.end.class(), "turned back", "{}", played.end.words());
    assert!(played.end.words().contains("two writers"), "{}", played.end.words());
    let pointed = |name: &str| name.starts_with("secret.patch") || name.contains(".apply#");
    assert!(!played.calls.iter().any(|call| pointed(&call.name)), "nothing was pointed anywhere");
}

/// What the survey sees of `weu` once it is deleted, and of which role it is.
fn deleted(planned: bool) -> (Vec<MemberFacts>, MemberRole) {
    let stage = Stage::new(sim::pair("orders", "neu", "weu"));
    let providers = stage.cloud.providers();
    let members = stage.runtime.run(async {
        let mut group = stage.cloud.group().unwrap();
        group
            .members
            .iter_mut()
            .filter(|member| member.name.as_str() == "weu")
            .for_each(|member| member.planned = planned);
        let survey = stage.cloud.survey(group, providers.as_ref()).await.unwrap();
        stage.cloud.delete("weu");
        let members = survey.members().await;
        let situation = survey.situation().await.unwrap();
        assert!(situation.standbys.is_empty() && situation.missing.len() == 1, "{:?}", situation.standbys);
        members
    });
    let members = members.unwrap();
    let role = roles(&members, None).unwrap().members.remove(&"weu".into()).unwrap();
    (members, role)
}

/// "There is no such resource" is an answer: a member that was lost is no silent one, and one that is not created yet was not lost.
#[test]
fn a_member_that_its_provider_does_not_know_is_absent_or_planned() {
    for (planned, presence) in [(false, Presence::Absent), (true, Presence::Planned)] {
        let (members, role) = deleted(planned);
        let seen: Vec<Presence> = members.iter().map(|member| member.presence).collect();
        assert_eq!((seen, role), (vec![Presence::Seen, presence], MemberRole::Absent));
    }
}
