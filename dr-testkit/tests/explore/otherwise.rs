//! Members that are otherwise than they look, with an honest backend: a fence that was told another directory than the server's,
//! applications that are not let in, settings of a former life, things that only the old primary has. Single faults and the kill matrix
//! over each of them break no law. The suite plays a sample of the faults; `DR_EXPLORE=all` plays every one.

use dr_core::{Catalog, PlannedSwitchover, Runbook, UnplannedFailover, minutes, seconds};
use dr_testkit::{
    Access, Drift, Explorer, Fault, FaultPlan, Flavour, FormerLife, Keeps, Place, Played, Setup, Stage, Timing, Tweak,
    sim,
};

use crate::{
    matrix::{failover, switchover},
    tell,
};

/// One fault of so many is played where not all are.
const SAMPLE: usize = 7;

pub(crate) const LIVES: [FormerLife; 3] =
    [FormerLife::LeavesRecovery, FormerLife::DoesNotReplay, FormerLife::DoesNotStart];

pub(crate) fn kept() -> [Keeps; 2] {
    [Keeps::Unlogged { table: "carts".into(), rows: 12 }, Keeps::Slot { name: "billing".into() }]
}

/// A world in which a wait of minutes takes few looks.
pub(crate) fn unhurried() -> Setup {
    let timing = Timing { poll: seconds(2), ..Timing::brisk() };
    Setup { drain_limit: minutes(20), ..sim::pair("orders", "neu", "weu").timing(timing) }
}

/// Single faults and the kill matrix break no law, and every kill comes to the `end` of the run without faults.
fn clean(what: &str, explorer: &Explorer, end: &str) {
    let all = std::env::var("DR_EXPLORE").is_ok_and(|wanted| wanted == "all");
    let faults = if all { explorer.single_faults() } else { explorer.every_nth_fault(SAMPLE) };
    let kills = explorer.crashes();
    tell(&format!("{what}: single faults ({}): {faults}", if all { "all" } else { "a sample" }));
    tell(&format!("{what}: kill matrix: {kills}"));
    assert_eq!(kills.ends.get(end), Some(&kills.schedules), "{what}: {kills}");
    assert!(faults.schedules > 10 && kills.schedules > 10, "{what}: the positions are generated: {faults}");
    faults.assert_clean();
    kills.assert_clean();
}

/// What the plan is refused for, when `tweak` is so before it is made.
fn refused(member: &str, tweak: Tweak, runbook: &dyn Runbook) -> String {
    let stage = Stage::new(sim::pair("orders", "neu", "weu"));
    stage.cloud.tweak(member, tweak);
    if runbook.purpose() == dr_core::Purpose::Failover {
        stage.cloud.break_down("neu");
    }
    stage.pass(seconds(2));
    stage.plan(runbook, &Catalog::built_in()).map(drop).unwrap_err().to_string()
}

fn nothing_was_touched(played: &Played) {
    assert_eq!((played.end.class(), played.violations.len()), ("turned back", 0), "{}", played.end.words());
    let touched =
        |verb: &str| played.calls.iter().any(|call| call.touch.as_ref().is_some_and(|touch| touch.verb == verb));
    assert!(!touched("drain") && !touched("fence") && !touched("promote"), "{}", played.end.words());
    assert!(played.state.app_open && played.state.promotions == 0);
}

#[test]
fn a_fence_that_was_told_another_directory_than_the_servers_refuses_the_plan() {
    for place in [Place::Copy, Place::Nobody, Place::Of("weu".into())] {
        let why = refused("neu", Tweak::Place(place.clone()), &PlannedSwitchover::to("weu"));
        assert!(why.contains("the directory that the fence of `neu` was told"), "{place:?}: {why}");
    }
}

#[test]
fn a_candidate_that_refuses_the_applications_role_refuses_every_plan() {
    for access in [Access::Refused, Access::Full, Access::ReadOnly] {
        for runbook in [&PlannedSwitchover::to("weu") as &dyn Runbook, &UnplannedFailover::to("weu")] {
            let why = refused("weu", Tweak::Access(access), runbook);
            assert!(why.contains(access.refusal().unwrap()), "{access:?}, {}: {why}", runbook.id());
        }
    }
}

#[test]
fn settings_of_a_former_life_refuse_a_planned_change() {
    for life in LIVES {
        let why = refused("neu", Tweak::FormerLife(life), &PlannedSwitchover::to("weu"));
        assert!(why.contains(life.trouble().unwrap()), "{life:?}: {why}");
    }
}

/// The directory is another one after the plan was made: the run's own rehearsal finds it, and nothing is touched.
#[test]
fn a_fence_whose_place_is_not_the_servers_turns_the_run_back_before_anything_is_held() {
    for place in [Place::Copy, Place::Nobody, Place::Of("weu".into())] {
        let told = place.clone();
        let explorer = switchover(Flavour::Separate)
            .then(move |cloud| cloud.tweak("neu", Tweak::Place(told.clone())))
            .expect_refusal();
        nothing_was_touched(&explorer.play(&FaultPlan::none()));
        clean(&format!("place {place:?}"), &explorer, "turned back");
    }
}

#[test]
fn a_candidate_that_lets_the_applications_in_no_more_turns_the_run_back_before_anything_is_held() {
    for access in [Access::Refused, Access::Full, Access::ReadOnly] {
        let explorer =
            switchover(Flavour::Separate).then(move |cloud| cloud.tweak("weu", Tweak::Access(access))).expect_refusal();
        nothing_was_touched(&explorer.play(&FaultPlan::none()));
        clean(&format!("access {access:?}"), &explorer, "turned back");
    }
    let forced =
        failover(Flavour::Separate).then(|cloud| cloud.tweak("weu", Tweak::Access(Access::Refused))).expect_refusal();
    nothing_was_touched(&forced.play(&FaultPlan::none()));
    clean("access Refused, forced", &forced, "turned back");
}

#[test]
fn settings_of_a_former_life_turn_a_planned_run_back_before_anything_is_held() {
    for life in LIVES {
        let explorer = switchover(Flavour::Separate)
            .then(move |cloud| cloud.tweak("neu", Tweak::FormerLife(life)))
            .expect_refusal();
        nothing_was_touched(&explorer.play(&FaultPlan::none()));
        clean(&format!("former life {life:?}"), &explorer, "turned back");
    }
}

/// Nobody rehearses the way back of a dead primary: the run says who owes a standby, and leaves no second writer.
#[test]
fn a_former_primary_with_settings_of_a_former_life_is_owed_after_a_failover_and_never_a_second_writer() {
    for life in LIVES {
        let explorer = Explorer::new(unhurried(), UnplannedFailover::to("weu"))
            .given(|cloud| cloud.break_down("neu"))
            .then(move |cloud| cloud.tweak("neu", Tweak::FormerLife(life)));
        let played = explorer.play(&FaultPlan::none());
        let words = played.end.words();
        assert!(words.contains("SucceededWithDebt") && words.contains("neu has not become one"), "{life:?}: {words}");
        tell(&format!("failover, former life {life:?}: {} calls, {words}", played.calls.len()));
        assert_eq!(played.violations, [], "{life:?}");
        clean(&format!("failover, former life {life:?}"), &explorer, "success");
    }
}

/// S24: unlogged rows and logical slots stand in what people agree to.
#[test]
fn what_a_switchover_drops_beside_the_log_is_shown_before_people_agree() {
    let keeps = |cloud: &dr_testkit::SimCloud| kept().into_iter().for_each(|one| cloud.tweak("neu", Tweak::Keeps(one)));
    let explorer = switchover(Flavour::Separate).given(keeps);
    let played = explorer.play(&FaultPlan::none());
    assert_eq!(played.state.gone, ["the logical slot `billing`", "the rows of the unlogged table `carts`"]);
    clean("drops", &explorer, "success");
    clean("drops, forced", &failover(Flavour::Separate).given(keeps), "success");
}

/// What appears after people agreed was not agreed to: the second rehearsal turns the run back.
#[test]
fn what_is_dropped_beyond_what_people_were_shown_turns_the_run_back() {
    let slot = || Tweak::Keeps(Keeps::Slot { name: "billing".into() });
    let stage = Stage::new(sim::pair("orders", "neu", "weu"));
    stage.pass(seconds(2));
    let plan = stage.plan(&PlannedSwitchover::to("weu"), &Catalog::built_in()).unwrap();
    let (cloud, runtime) = (stage.cloud.clone(), stage.runtime.clone());
    // People think for a while; the slot is made meanwhile.
    dr_core::contract::Runtime::spawn_detached(
        &stage.runtime,
        Box::pin(async move {
            let at = dr_core::contract::Runtime::now_mono(&runtime) + dr_core::millis(200);
            dr_core::contract::Runtime::sleep_until(&runtime, at).await;
            cloud.tweak("neu", slot());
        }),
    );
    let end = stage.drive(&plan, &Catalog::built_in);
    assert_eq!(end.class(), "turned back", "{}", end.words());
    assert!(end.words().contains("the logical slot `billing`"), "{}", end.words());
    assert_eq!(stage.cloud.violations(), []);
}

/// The candidate stops letting the applications in at each change of the run, one after the other: before the writes are held back the
/// run turns back, after the promotion it does not end as a success that no application can use.
#[test]
fn applications_that_are_let_in_no_more_at_any_change_are_noticed() {
    let explorer = Explorer::new(unhurried(), PlannedSwitchover::to("weu"));
    let baseline = explorer.play(&FaultPlan::none());
    assert_eq!((baseline.end.class(), baseline.violations.len()), ("success", 0), "{}", baseline.end.words());
    let changes: Vec<String> =
        baseline.calls.iter().filter(|call| call.touch.is_some()).map(|call| call.name.clone()).collect();
    let mut ends = std::collections::BTreeMap::new();
    for call in &changes {
        let played = explorer.play(&FaultPlan::one(call.clone(), Fault::Drift(Drift::Access)));
        assert_eq!(played.violations, [], "{call}: {}", played.end.words());
        *ends.entry(played.end.class()).or_insert(0) += 1;
    }
    tell(&format!("the applications' role is refused at each of {} changes: {ends:?}", changes.len()));
    assert!(ends.contains_key("parked"), "{ends:?}");
}
