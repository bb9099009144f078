//! Cancel, pause, turning back, and what is left to people (G03, J10).

use dr_core::{
    APPROVE, Answer, StepExt,
    base::Digest,
    millis, minutes,
    run::{
        Event,
        EventKind::{Accepted, Finished, InDoubt, Intended, Parked},
        NodePhase, Phase, Request, RunOutcome,
    },
    seconds,
};

use crate::{
    rig::{Ended, Rig, asked, person},
    world::{AskPeople, Check, Drain, Fate, Fence, Flip, Promote, Switches, Turn, Undrain, Unfence},
};

fn cancel() -> Request {
    Request::Cancel { by: person("ana"), because: "not today".into() }
}

fn cancelled(rig: &Rig, ended: &Ended) {
    let outcome = rig.wait_end(ended).unwrap();
    let reason = "cancelled by ana: not today";
    assert_eq!(outcome, RunOutcome::Cancelled { reason: reason.into() });
    assert!(rig.state().held().is_empty());
    rig.assert_sound();
}

/// A drain is held while `b` is waited for; then it is released.
fn drained() -> Rig {
    Rig::new(|plan| {
        let drain = plan.hold("drain", Drain::on("drain").within(seconds(20)), Undrain::off("drain"));
        let seen = plan.add("seen", Check::on("b").within(seconds(20)).after(&drain));
        plan.release(drain, &seen);
    })
}

fn changes(rig: &Rig) -> Vec<String> {
    let word = |on| if on { "on" } else { "off" };
    rig.world.changes().into_iter().map(|(thing, on)| format!("{thing} {}", word(on))).collect()
}

#[test]
fn a_cancel_before_any_change_touches_nothing() {
    let rig = Rig::with(asked(), |plan| {
        let ask = plan.add("ask", AskPeople::of(1));
        plan.add("a", Turn::on("a").after(&ask));
    });
    let ended = rig.engine().spawn_start();
    rig.wait_node("ask", NodePhase::Asking);
    rig.post("1", &cancel());
    cancelled(&rig, &ended);
    assert_eq!(rig.world.sent(), []);
}

/// Any account could pause a run in the write gap, and turn it back.
#[test]
fn bug_whoever_has_no_role_steers_no_run() {
    let rig = Rig::with(asked(), |plan| {
        let ask = plan.add("ask", AskPeople { roles: vec!["dba".into()], ..AskPeople::of(1) });
        let seen = plan.add("seen", Check::on("b").within(minutes(5)).after(&ask));
        plan.add("a", Turn::on("a").after(&seen));
    });
    let ended = rig.engine().spawn_start();
    rig.wait_node("ask", NodePhase::Asking);
    rig.answer("1", APPROVE, &person("ana").with_role("dba"));
    let eve = person("eve");
    rig.post("2", &Request::Pause { by: eve.clone(), because: "lunch".into() });
    rig.post("3", &Request::Cancel { by: eve, because: "not mine".into() });
    rig.rt.pass(seconds(5)).unwrap();
    assert_eq!(rig.turned_away(), ["DR303  this needs one of dba; eve has none of them"; 2]);
    rig.post("4", &Request::Pause { by: person("ben").with_role("dba"), because: "look first".into() });
    rig.wait("a pause", |rig| rig.state().phase == Phase::Paused);
    // Whoever asked for the run may let it go on, without a role.
    rig.post("5", &Request::Resume { by: rig.state().by });
    rig.world.set("b", true);
    assert_eq!(rig.wait_end(&ended).unwrap(), RunOutcome::Succeeded);
    rig.assert_sound();
}

#[test]
fn a_cancel_gives_back_what_is_held() {
    let rig = drained();
    let ended = rig.engine().spawn_start();
    rig.wait_node("seen", NodePhase::Looking);
    rig.post("1", &cancel());
    cancelled(&rig, &ended);
    assert_eq!(changes(&rig), ["drain on", "drain off"]);
}

#[test]
fn a_cancel_waits_for_the_call_that_is_under_way() {
    let rig = drained();
    rig.world.fates("drain", &[Fate::Accepted("op-1", seconds(10))]);
    let ended = rig.engine().spawn_start();
    rig.wait_node("drain", NodePhase::Accepted);
    rig.post("1", &cancel());
    cancelled(&rig, &ended);
    assert_eq!(changes(&rig), ["drain on", "drain off"]);
    assert_eq!(rig.story("drain"), [Intended, Accepted, Finished]);
}

/// A provider that answers a signed URL: nothing of it is kept, nobody knows what became of the call, and a look finds out.
#[test]
fn bug_a_signed_url_never_reaches_the_journal() {
    let rig = Rig::new(|plan| drop(plan.add("a", Turn::on("a").within(seconds(60)))));
    rig.world.fates("a", &[Fate::Accepted("https://cloud/op/1?sig=s3cret", seconds(1))]);
    let ended = rig.engine().spawn_start();
    assert_eq!(rig.wait_end(&ended).unwrap(), RunOutcome::Succeeded);
    let story = rig.story("a");
    assert_eq!((story.first(), story.get(1), story.last()), (Some(&Intended), Some(&InDoubt), Some(&Finished)));
    let kept = format!("{:?}", rig.records());
    assert!(!kept.contains("s3cret"), "{kept}");
    assert!(kept.contains("has a `?`"), "{kept}");
}

/// Its intent is durable, but it has not passed the gate: it does not leave any more.
#[test]
fn a_cancel_holds_a_call_that_has_not_left() {
    let rig = drained();
    rig.world.before_the_gate("drain", seconds(10));
    let ended = rig.engine().spawn_start();
    rig.wait_node("drain", NodePhase::Intended);
    rig.post("1", &cancel());
    cancelled(&rig, &ended);
    assert_eq!(rig.world.sends("drain", true), 0);
}

/// drain, fence, promote, release of the drain; past the promotion the fence is retired.
fn promotion() -> Rig {
    Rig::new(|plan| {
        let drain = plan.hold("drain", Drain::on("drain").within(seconds(20)), Undrain::off("drain"));
        let fence = plan.hold("fence", Fence::on("fence").after(&drain), Unfence::off("fence"));
        let promote = plan.add("promote", Promote::on("weu").after(&fence));
        let rejoin = plan.add("rejoin", Flip::on("c").after(&promote));
        plan.release(drain, &promote);
        plan.retired(fence, &rejoin);
    })
}

#[test]
fn a_cancel_after_the_promote_intent_is_turned_away() {
    let rig = promotion();
    rig.world.fates("weu", &[Fate::Accepted("op-1", seconds(10))]);
    let ended = rig.engine().spawn_start();
    rig.wait_node("promote", NodePhase::Accepted);
    rig.post("1", &cancel());
    assert_eq!(rig.wait_end(&ended).unwrap(), RunOutcome::Succeeded);
    assert_eq!(rig.turned_away(), ["the promotion was asked for: this run only goes forward"]);
    let seen = changes(&rig);
    assert_eq!(seen.get(..3).unwrap(), ["drain on", "fence on", "weu on"]);
    assert_eq!(seen.len(), 5, "{seen:?}");
}

#[test]
fn a_pause_begins_nothing_new_and_drives_what_is_under_way_to_its_end() {
    let rig = Rig::new(|plan| {
        let a = plan.add("a", Turn::on("a"));
        plan.add("b", Turn::on("b").after(&a));
    });
    rig.world.fates("a", &[Fate::Accepted("op-1", seconds(10))]);
    let ended = rig.engine().spawn_start();
    rig.wait_node("a", NodePhase::Accepted);
    rig.post("1", &Request::Pause { by: person("ana"), because: "look first".into() });
    rig.wait_phase(Phase::Paused);
    rig.post("2", &Request::Pause { by: person("ana"), because: "look first".into() });
    rig.rt.pass(minutes(60)).unwrap();
    assert_eq!((rig.state().phase_of(&"a".into()), rig.world.sends("b", true)), (NodePhase::Done, 0));
    assert_eq!(rig.turned_away(), ["it cannot be paused now"]);
    rig.post("3", &Request::Resume { by: person("ana") });
    assert_eq!(rig.wait_end(&ended).unwrap(), RunOutcome::Succeeded);
    rig.assert_sound();
}

#[test]
fn a_paused_run_stays_paused_for_a_new_engine() {
    let rig = Rig::new(|plan| {
        let a = plan.add("a", Check::on("a"));
        plan.add("b", Turn::on("b").after(&a));
    });
    let first = rig.engine();
    drop(first.spawn_start());
    rig.wait_node("a", NodePhase::Looking);
    rig.post("1", &Request::Pause { by: person("ana"), because: "look first".into() });
    rig.wait_phase(Phase::Paused);
    first.die();
    rig.world.set("a", true);
    let ended = rig.engine().spawn_resume();
    rig.rt.pass(minutes(10)).unwrap();
    assert_eq!(rig.world.sent(), []);
    rig.post("2", &Request::Resume { by: person("ana") });
    assert_eq!(rig.wait_end(&ended).unwrap(), RunOutcome::Succeeded);
}

/// The time of a step that is not ready does not go by while the run is paused.
#[test]
fn bug_a_pause_is_not_charged_to_the_step_that_was_about_to_begin() {
    let rig = Rig::new(|plan| drop(plan.add("a", Turn::on("a").within(seconds(10)))));
    rig.world.not_ready("a", 5);
    let ended = rig.engine().spawn_start();
    rig.rt.pass(seconds(2)).unwrap();
    rig.post("1", &Request::Pause { by: person("ana"), because: "look first".into() });
    rig.rt.pass(minutes(60)).unwrap();
    rig.world.not_ready("a", 5);
    rig.post("2", &Request::Resume { by: person("ana") });
    assert_eq!(rig.wait_end(&ended).unwrap(), RunOutcome::Succeeded);
}

#[test]
fn a_paused_run_hears_an_answer_and_waits_with_it() {
    let rig = Rig::with(asked(), |plan| {
        let ask = plan.add("ask", AskPeople::of(1));
        plan.add("a", Turn::on("a").after(&ask));
    });
    let ended = rig.engine().spawn_start();
    rig.wait_node("ask", NodePhase::Asking);
    rig.post("1", &Request::Pause { by: person("ben"), because: "look first".into() });
    rig.wait_phase(Phase::Paused);
    rig.answer("2", APPROVE, &person("ana"));
    rig.rt.pass(minutes(10)).unwrap();
    assert_eq!((rig.state().phase_of(&"ask".into()), rig.world.sent().len()), (NodePhase::Done, 0));
    rig.post("3", &Request::Resume { by: person("ben") });
    assert_eq!(rig.wait_end(&ended).unwrap(), RunOutcome::Succeeded);
}

#[test]
fn a_cancel_turns_a_paused_run_back() {
    let rig = drained();
    let ended = rig.engine().spawn_start();
    rig.wait_node("seen", NodePhase::Looking);
    rig.post("1", &Request::Pause { by: person("ana"), because: "look first".into() });
    rig.wait_phase(Phase::Paused);
    rig.post("2", &cancel());
    cancelled(&rig, &ended);
    assert_eq!(changes(&rig), ["drain on", "drain off"]);
}

/// Covers G03: the latest first, one at a time.
#[test]
fn a_failure_before_the_promotion_gives_back_in_reverse() {
    let rig = promotion();
    rig.world.fates("weu", &[Fate::No]);
    // It is not even ready: nothing is sent.
    rig.world.not_ready("weu", u32::MAX);
    let ended = rig.engine().spawn_start();
    let outcome = rig.wait_end(&ended).unwrap();
    assert!(matches!(outcome, RunOutcome::Aborted { .. }), "{outcome:?}");
    assert_eq!(changes(&rig), ["drain on", "fence on", "fence off", "drain off"]);
    rig.assert_sound();
}

/// A promotion that is refused at its only attempt did not happen: the run turns back by itself.
#[test]
fn bug_a_promotion_that_is_refused_is_turned_back() {
    let rig = promotion();
    rig.world.fates("weu", &[Fate::No]);
    let outcome = rig.go();
    assert!(matches!(outcome, RunOutcome::Aborted { .. }), "{outcome:?}");
    assert_eq!(changes(&rig), ["drain on", "fence on", "fence off", "drain off"]);
    assert_eq!(rig.world.sends("weu", true), 1);
    rig.assert_sound();
}

/// Covers C03, J10: after a promotion of which an attempt may still arrive the run goes forward or parks, whatever the provider says.
#[test]
fn a_promotion_that_is_refused_after_a_doubt_parks_and_keeps_what_is_held() {
    let rig = promotion();
    rig.world.fates("weu", &[Fate::Nothing, Fate::No]);
    drop(rig.engine().spawn_start());
    rig.wait_phase(Phase::Parked);
    rig.rt.pass(minutes(30)).unwrap();
    let state = rig.state();
    let ask = state.ask.unwrap();
    assert!(ask.question.contains("automatic rollback is not possible"), "{}", ask.question);
    let held: Vec<&str> = ask.facts.iter().map(|fact| fact.name.as_str()).collect();
    assert_eq!(held, ["held: drain", "held: fence"]);
    assert_eq!(changes(&rig), ["drain on", "fence on"]);
    assert_eq!(rig.world.sends("weu", true), 2);
    assert!(rig.world.notices().iter().any(|notice| notice.urgent && notice.text.contains("parked")));
}

#[test]
fn a_parked_run_is_handed_over_on_a_persons_word() {
    let rig = promotion();
    rig.world.fates("weu", &[Fate::Nothing, Fate::No]);
    let ended = rig.engine().spawn_start();
    rig.wait_phase(Phase::Parked);
    rig.post("0", &cancel());
    rig.post("1", &Request::Answer(Answer::choose("hand-over", Digest::zero(), person("ana"))));
    rig.rt.pass(minutes(1)).unwrap();
    assert_eq!(rig.state().phase, Phase::Parked, "an answer to another question does not count");
    rig.answer("2", "hand-over", &person("ana"));
    let outcome = rig.wait_end(&ended).unwrap();
    assert!(matches!(outcome, RunOutcome::HandedOver { .. }), "{outcome:?}");
    assert_eq!(rig.leases.held(), []);
}

#[test]
fn a_parked_step_is_tried_again_on_a_persons_word() {
    let rig = promotion();
    rig.world.fates("weu", &[Fate::Nothing, Fate::No]);
    let ended = rig.engine().spawn_start();
    rig.wait_phase(Phase::Parked);
    rig.answer("1", "retry", &person("ana"));
    assert_eq!(rig.wait_end(&ended).unwrap(), RunOutcome::Succeeded);
    assert_eq!(rig.world.sends("weu", true), 3);
}

/// What was released by the plan itself is not given back a second time, and a release needs no way back.
#[test]
fn bug_what_was_released_already_is_not_given_back_again() {
    let rig = Rig::new(|plan| {
        let drain = plan.hold("drain", Drain::on("drain").within(seconds(20)), Undrain::off("drain"));
        let released = plan.release(drain, &plan_edge());
        plan.add("seen", Check::on("b").within(seconds(5)).after(&released));
    });
    let outcome = rig.go();
    assert!(matches!(outcome, RunOutcome::Aborted { .. }), "{outcome:?}");
    assert_eq!((rig.world.sends("drain", true), rig.world.sends("drain", false)), (1, 1));
}

/// The release comes right after the drain.
fn plan_edge() -> impl dr_core::plan::Edge {
    struct Drained;
    impl dr_core::plan::Edge for Drained {
        fn to(&self) -> dr_core::NodeId {
            "drain".into()
        }
    }
    Drained
}

/// Covers: never stranded silently. Giving back is tried for all of its time, however often; then a person is told what is held.
#[test]
fn bug_a_give_back_that_fails_is_tried_until_its_time_is_over_and_then_parks() {
    let rig = Rig::new(|plan| {
        let drain = plan.hold("drain", Drain::on("drain").within(seconds(29)), Undrain::off("drain"));
        let seen = plan.add("seen", Check::on("b").within(seconds(1)).after(&drain));
        plan.release(drain, &seen);
    });
    rig.world.forever("drain", false, Fate::Busy(millis(1)));
    let ended = rig.engine().spawn_start();
    rig.wait_phase(Phase::Parked);
    assert!(rig.now() >= seconds(30), "given up after {:?}", rig.now());
    assert!(rig.world.sends("drain", false) > 255, "{}", rig.world.sends("drain", false));
    let ask = rig.state().ask.unwrap();
    assert!(ask.question.contains("`drain` could not be given back"), "{}", ask.question);
    assert!(ask.facts.iter().any(|fact| fact.name == "held: drain"), "{:?}", ask.facts);
    rig.world.heal("drain", false);
    rig.answer("1", ask.choices[0].name.as_str(), &person("ana"));
    let outcome = rig.wait_end(&ended).unwrap();
    assert!(matches!(outcome, RunOutcome::Aborted { .. }), "{outcome:?}");
    assert_eq!(changes(&rig), ["drain on", "drain off"]);
    assert_eq!(rig.count(Parked), 1);
}

#[test]
fn a_give_back_whose_answer_is_lost_is_looked_at() {
    let rig = drained();
    rig.world.forever("drain", false, Fate::Lost);
    let outcome = rig.go();
    assert!(matches!(outcome, RunOutcome::Aborted { .. }), "{outcome:?}");
    assert_eq!(rig.world.sends("drain", false), 1);
}

#[test]
fn what_may_fail_becomes_a_debt_with_an_owner() {
    let rig = Rig::new(|plan| {
        let a = plan.add("a", Turn::on("a"));
        let b = plan.attempt("b", Turn::on("b").after(&a), "switch b on by hand", "dba");
        plan.add("c", Turn::on("c").after(&b));
    });
    rig.world.fates("b", &[Fate::No]);
    let outcome = rig.go();
    let RunOutcome::SucceededWithDebt { debts } = &outcome else { panic!("{outcome:?}") };
    assert_eq!(debts, &["switch b on by hand (owed by dba): not with this thing"]);
    assert!(rig.world.is_on("c"), "the run goes on");
    assert!(rig.events().iter().any(|event| matches!(event, Event::Owed { .. })));
}

#[test]
fn what_has_no_way_back_parks_the_run_that_turns_back() {
    let rig = Rig::new(|plan| {
        let a = plan.add("a", Turn::on("a"));
        plan.add("b", Check::on("b").within(seconds(5)).after(&a));
    });
    drop(rig.engine().spawn_start());
    rig.wait_phase(Phase::Parked);
    assert!(rig.state().ask.unwrap().question.contains("`a` was done and has no way back"));
}

fn finish() -> Request {
    Request::Finish { by: person("ana"), because: "the other region is going down".into() }
}

const ENDED: &str = "the run was ended before it was done, by ana: the other region is going down";

/// A run whose applications wrote again held the group for as long as it waited for a way back, for hours: a second failure in that time
/// had to wait for it.
#[test]
fn bug_a_run_that_only_waits_can_be_ended() {
    let rig = Rig::new(|plan| {
        let a = plan.add("a", Turn::on("a"));
        let back = plan.attempt("back", Turn::on("b").within(minutes(60)).after(&a), "switch b on by hand", "dba");
        plan.attempt("afterwards", Turn::on("c").after(&back), "switch c on by hand", "dba");
    });
    rig.world.fates("b", &[Fate::Stalled("op-1")]);
    let ended = rig.engine().spawn_start();
    rig.wait_node("back", NodePhase::Accepted);
    rig.post("1", &finish());
    let RunOutcome::SucceededWithDebt { debts } = rig.wait_end(&ended).unwrap() else { panic!("{:?}", rig.events()) };
    assert_eq!(
        debts,
        [format!("switch b on by hand (owed by dba): {ENDED}"), format!("switch c on by hand (owed by dba): {ENDED}")]
    );
    assert_eq!(changes(&rig), ["a on"], "what had not begun was not sent");
    rig.assert_sound();
}

/// What the run still needs is done first; only then what nobody waits for is left.
#[test]
fn a_run_is_ended_only_when_nothing_is_left_that_anybody_waits_for() {
    let rig = Rig::new(|plan| {
        let seen = plan.add("seen", Check::on("b").within(minutes(5)));
        plan.add("a", Turn::on("a").after(&seen));
        plan.attempt("back", Turn::on("c").within(minutes(60)), "see it", "dba");
    });
    rig.world.fates("c", &[Fate::Stalled("op-1")]);
    let ended = rig.engine().spawn_start();
    rig.wait_node("seen", NodePhase::Looking);
    rig.post("1", &finish());
    rig.wait("the request", |rig| rig.state().finish.is_some());
    assert_eq!(rig.state().phase, Phase::Running);
    rig.world.set("b", true);
    let RunOutcome::SucceededWithDebt { debts } = rig.wait_end(&ended).unwrap() else { panic!("{:?}", rig.events()) };
    assert_eq!((debts, rig.world.is_on("a")), (vec![format!("see it (owed by dba): {ENDED}")], true));
    rig.assert_sound();
}

/// A call that is on its way is answered before the run ends; an operation that the provider has taken goes on there, and is owed.
#[test]
fn a_run_that_is_ended_early_leaves_no_call_behind() {
    for (fate, story) in [(Fate::Slow(seconds(2)), Finished), (Fate::Stalled("op-1"), Accepted)] {
        let rig = Rig::new(|plan| {
            plan.attempt("a", Turn::on("a").within(minutes(60)), "switch a on by hand", "dba");
            plan.attempt("back", Turn::on("c").within(minutes(60)), "see it", "dba");
        });
        rig.world.fates("a", &[fate]);
        rig.world.fates("c", &[Fate::Stalled("op-2")]);
        let ended = rig.engine().spawn_start();
        rig.wait_node("back", NodePhase::Accepted);
        rig.wait("the call", |rig| rig.story("a").contains(&Intended));
        rig.post("1", &finish());
        let outcome = rig.wait_end(&ended).unwrap();
        assert!(matches!(outcome, RunOutcome::SucceededWithDebt { .. }), "{outcome:?}");
        assert!(rig.story("a").contains(&story), "{fate:?}: {:?}", rig.story("a"));
        rig.assert_sound();
    }
}

/// Whoever has no role of the run ends none.
#[test]
fn a_run_is_ended_by_those_who_may_steer_it() {
    let rig = Rig::with(asked(), |plan| {
        let ask = plan.add("ask", AskPeople { roles: vec!["dba".into()], ..AskPeople::of(1) });
        plan.attempt("back", Turn::on("b").within(seconds(60)).after(&ask), "see b on", "dba");
    });
    rig.world.fates("b", &[Fate::Accepted("op-1", seconds(20))]);
    let ended = rig.engine().spawn_start();
    rig.wait_node("ask", NodePhase::Asking);
    rig.answer("1", APPROVE, &person("ana").with_role("dba"));
    rig.wait_node("back", NodePhase::Accepted);
    rig.post("2", &Request::Finish { by: person("eve"), because: "not mine".into() });
    rig.wait("the refusal", |rig| !rig.turned_away().is_empty());
    assert_eq!(rig.wait_end(&ended).unwrap(), RunOutcome::Succeeded);
}
