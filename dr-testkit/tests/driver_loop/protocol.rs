//! The protocol of one step: intent, send, doubt, looks, deadlines (DESIGN section 5, safety section 7).

use dr_core::{
    StepExt, millis, minutes,
    plan::StepErrorClass,
    run::{
        Event,
        EventKind::{Absent, Accepted, Began, Failed, Finished, InDoubt, Intended, NotDone},
        NodePhase, Phase, RunOutcome,
    },
    seconds,
};
use dr_testkit::JournalTrouble;

use crate::{
    rig::Rig,
    world::{Check, Fate, Flip, Once, Pause, Promote, Report, Sight, Switches, Turn},
};

/// A plan of one step that is looked at before it may be said again.
fn turn() -> Rig {
    Rig::new(|plan| drop(plan.add("a", Turn::on("a").within(minutes(5)).visibility(seconds(3)))))
}

/// G12: the intent is durable before its call leaves, and sealed before one that must happen at most once.
#[test]
fn an_intent_is_durable_before_its_call_leaves_and_sealed_before_one_that_must_happen_once() {
    let rig = Rig::new(|plan| {
        let a = plan.add("a", Flip::on("a"));
        let b = plan.add("b", Turn::on("b").after(&a));
        plan.add("c", Once::on("c").after(&b));
    });
    assert_eq!(rig.go(), RunOutcome::Succeeded);
    rig.assert_sound();
    for thing in ["a", "b", "c"] {
        assert_eq!((rig.story(thing), rig.world.sends(thing, true)), (vec![Intended, Finished], 1), "{thing}");
    }
    let intent = rig
        .records()
        .into_iter()
        .find(|record| matches!(&record.event, Event::Intended { node, .. } if node.as_str() == "c"));
    assert_eq!(rig.journal.seals(), [(rig.run.clone(), u64::from(intent.unwrap().seq))]);
    assert_eq!(rig.leases.held(), [], "the lease is given back");
}

#[test]
fn what_is_so_already_is_not_sent() {
    let rig = turn();
    rig.world.set("a", true);
    assert_eq!(rig.go(), RunOutcome::Succeeded);
    assert_eq!((rig.story("a"), rig.world.sent().len()), (vec![Finished], 0));
}

#[test]
fn after_a_lost_answer_only_a_look_decides() {
    let rig = turn();
    rig.world.fates("a", &[Fate::Lost]);
    // The first look is that of `prepare`.
    rig.world.sights("a", &[Sight::Truth, Sight::Unknown, Sight::Unknown, Sight::Unknown]);
    assert_eq!(rig.go(), RunOutcome::Succeeded);
    rig.assert_sound();
    assert_eq!((rig.story("a"), rig.world.sends("a", true)), (vec![Intended, InDoubt, Finished], 1));
    assert_eq!(rig.world.looks("a").len(), 5);
}

#[test]
fn it_is_sent_again_only_after_two_spaced_looks_saw_no_trace() {
    let rig = turn();
    rig.world.fates("a", &[Fate::Nothing]);
    assert_eq!(rig.go(), RunOutcome::Succeeded);
    rig.assert_sound();
    assert_eq!(rig.story("a"), [Intended, InDoubt, Absent, NotDone, Intended, Finished]);
    let looks = rig.world.looks("a");
    let [_before, first, second, _again] = looks.as_slice() else { panic!("{looks:?}") };
    assert!(second.since(*first) >= seconds(3), "{looks:?}");
    assert_eq!(rig.world.sends("a", true), 2);
}

/// One look that sees nothing is never enough: a view may lag behind.
#[test]
fn one_look_without_a_trace_decides_nothing() {
    let rig = turn();
    rig.world.fates("a", &[Fate::Lost]);
    rig.world.sights("a", &[Sight::Truth, Sight::Absent]);
    assert_eq!(rig.go(), RunOutcome::Succeeded);
    assert_eq!((rig.story("a"), rig.world.sends("a", true)), (vec![Intended, InDoubt, Absent, Finished], 1));
}

#[test]
fn an_effect_that_comes_late_is_found_by_the_second_look() {
    let rig = turn();
    rig.world.fates("a", &[Fate::Late(seconds(2))]);
    assert_eq!(rig.go(), RunOutcome::Succeeded);
    assert_eq!((rig.story("a"), rig.world.sends("a", true)), (vec![Intended, InDoubt, Absent, Finished], 1));
}

/// The space between two looks lies between the end of the first one and the beginning of the second one.
#[test]
fn a_slow_second_look_that_began_too_early_proves_nothing() {
    let rig = turn();
    rig.world.fates("a", &[Fate::Late(seconds(4))]);
    rig.world.sights("a", &[Sight::Truth, Sight::Truth, Sight::Slow(seconds(5))]);
    let first = rig.engine();
    drop(first.spawn_start());
    rig.wait("one look without a trace", |rig| rig.begun() && rig.story("a").contains(&Absent));
    first.die();
    let second = rig.engine();
    assert_eq!(second.run(second.resume()), Ok(RunOutcome::Succeeded));
    assert_eq!(rig.world.sends("a", true), 1);
}

#[test]
fn an_idempotent_call_is_sent_again_at_once() {
    let rig = Rig::new(|plan| drop(plan.add("a", Flip::on("a"))));
    rig.world.fates("a", &[Fate::Nothing]);
    assert_eq!(rig.go(), RunOutcome::Succeeded);
    assert_eq!(rig.story("a"), [Intended, InDoubt, NotDone, Intended, Finished]);
    assert_eq!(rig.now(), millis(0));
    rig.assert_sound();
}

#[test]
fn what_is_half_done_is_completed_forward() {
    let rig = turn();
    rig.world.fates("a", &[Fate::Half]);
    assert_eq!(rig.go(), RunOutcome::Succeeded);
    assert_eq!(rig.story("a"), [Intended, InDoubt, NotDone, Intended, Finished]);
    assert!(rig.world.is_on("a"));
    rig.assert_sound();
}

/// Promotions and the like: one second attempt, and never a third one.
#[test]
fn what_must_happen_once_is_sent_again_at_most_once() {
    let rig = Rig::new(|plan| drop(plan.add("a", Once::on("a"))));
    rig.world.forever("a", true, Fate::Nothing);
    drop(rig.engine().spawn_start());
    rig.wait_phase(Phase::Parked);
    rig.rt.pass(minutes(60)).unwrap();
    assert_eq!(rig.world.sends("a", true), 2);
    assert_eq!(rig.journal.seals().len(), 2, "each attempt is sealed");
    rig.assert_sound();
}

#[test]
fn a_lost_handle_is_a_doubt() {
    let rig = turn();
    rig.world.fates("a", &[Fate::Accepted("op-1", seconds(2))]);
    rig.world.reports("a", &[Report::Pending(millis(100)), Report::Forgotten]);
    assert_eq!(rig.go(), RunOutcome::Succeeded);
    assert_eq!(rig.story("a"), [Intended, Accepted, InDoubt, Absent, Finished]);
    assert_eq!(rig.world.sends("a", true), 1);
}

#[test]
fn an_operation_that_failed_although_its_effect_stands_is_found_done_by_a_look() {
    let rig = turn();
    rig.world.fates("a", &[Fate::Accepted("op-1", millis(50))]);
    rig.world.reports("a", &[Report::Pending(millis(100)), Report::Failed]);
    assert_eq!(rig.go(), RunOutcome::Succeeded);
    assert_eq!((rig.story("a"), rig.world.sends("a", true)), (vec![Intended, Accepted, InDoubt, Finished], 1));
}

#[test]
fn an_operation_that_failed_without_a_trace_is_sent_again_after_two_looks() {
    let rig = turn();
    rig.world.fates("a", &[Fate::Stalled("op-1")]);
    rig.world.reports("a", &[Report::Failed]);
    assert_eq!(rig.go(), RunOutcome::Succeeded);
    assert_eq!(rig.story("a"), [Intended, Accepted, InDoubt, Absent, NotDone, Intended, Finished]);
    assert_eq!(rig.world.sends("a", true), 2);
}

#[test]
fn an_operation_that_a_look_finds_under_way_is_followed() {
    let rig = turn();
    rig.world.fates("a", &[Fate::Late(seconds(10))]);
    rig.world.sights("a", &[Sight::Truth, Sight::InProgress("op-7")]);
    rig.world.reports("a", &[Report::Pending(seconds(11))]);
    assert_eq!(rig.go(), RunOutcome::Succeeded);
    assert_eq!((rig.story("a"), rig.world.sends("a", true)), (vec![Intended, InDoubt, Accepted, Finished], 1));
}

/// A timeout abandons a handle: what the call says later is not listened to.
#[test]
fn an_answer_after_the_timeout_is_ignored() {
    let rig = Rig::new(|plan| {
        let a = plan.add("a", Turn::on("a").within(seconds(5)));
        plan.add("later", Check::on("b").after(&a));
    });
    rig.world.fates("a", &[Fate::Slow(seconds(20))]);
    let ended = rig.engine().spawn_start();
    rig.rt.pass(seconds(30)).unwrap();
    rig.world.set("b", true);
    assert_eq!(rig.wait_end(&ended).unwrap(), RunOutcome::Succeeded);
    assert_eq!(rig.story("a"), [Intended, InDoubt, Finished]);
    let found = rig.records().into_iter().find(|record| record.event.kind() == Finished).unwrap();
    assert_eq!(found.at, rig.at(seconds(5)), "the look decided, not the answer");
}

/// A call that hung between its intent and its gate may not leave after looks have decided that it never did.
#[test]
fn bug_a_call_that_had_not_left_at_its_timeout_never_leaves() {
    let rig = Rig::new(|plan| drop(plan.add("a", Turn::on("a").within(seconds(5)))));
    rig.world.before_the_gate("a", seconds(20));
    drop(rig.engine().spawn_start());
    rig.wait_phase(Phase::Parked);
    assert!(rig.now() < seconds(10), "parked after {:?}", rig.now());
    rig.rt.pass(minutes(1)).unwrap();
    assert_eq!(rig.world.sent(), []);
}

#[test]
fn a_deadline_ends_a_wait_only_after_a_look_that_began_after_it() {
    let rig = Rig::new(|plan| drop(plan.add("a", Check::on("a").within(seconds(10)).every(seconds(9)))));
    rig.world.sights("a", &[Sight::Truth, Sight::Slow(seconds(5))]);
    let ended = rig.engine().spawn_start();
    rig.rt.pass(seconds(12)).unwrap();
    rig.world.set("a", true);
    assert_eq!(rig.wait_end(&ended).unwrap(), RunOutcome::Succeeded);
    assert_eq!(rig.world.looks("a"), [rig.at(millis(0)), rig.at(seconds(9)), rig.at(seconds(14))]);
}

#[test]
fn a_wait_whose_look_began_after_the_deadline_is_over() {
    let rig = Rig::new(|plan| drop(plan.add("a", Check::on("a").within(seconds(10)).every(seconds(3)))));
    let outcome = rig.go();
    assert!(matches!(&outcome, RunOutcome::Refused { reason } if reason.contains("its time is over")), "{outcome:?}");
    assert_eq!(rig.now(), seconds(10));
    assert_eq!(rig.story("a"), [Began, Failed]);
}

#[test]
fn bug_a_doubt_ends_only_after_a_look_that_began_after_the_deadline() {
    let step = || Turn::on("a").within(seconds(10)).every(seconds(9));
    let rig = Rig::new(|plan| drop(plan.add("a", step())));
    rig.world.fates("a", &[Fate::Late(seconds(12))]);
    rig.world.sights("a", &[Sight::Truth, Sight::Unknown, Sight::Slow(seconds(5))]);
    assert_eq!(rig.go(), RunOutcome::Succeeded);
    assert_eq!((rig.story("a"), rig.world.sends("a", true)), (vec![Intended, InDoubt, Finished], 1));
}

#[test]
fn a_doubt_that_stays_one_ends_in_a_failure_that_may_stand() {
    let rig = Rig::new(|plan| drop(plan.add("a", Turn::on("a").within(seconds(10)))));
    rig.world.fates("a", &[Fate::Lost]);
    let mut sights = vec![Sight::Truth];
    sights.extend([Sight::Unknown; 100]);
    rig.world.sights("a", &sights);
    drop(rig.engine().spawn_start());
    rig.wait_phase(Phase::Parked);
    let looks = rig.world.looks("a");
    assert!(*looks.last().unwrap() >= rig.at(seconds(10)), "{looks:?}");
    assert!(rig.events().iter().any(|event| matches!(event, Event::Failed { doubt: true, .. })));
    assert_eq!(rig.world.sends("a", true), 1);
}

#[test]
fn after_a_restart_a_deadline_is_judged_only_after_a_look() {
    let rig = turn();
    rig.world.fates("a", &[Fate::Slow(minutes(30))]);
    let first = rig.engine();
    drop(first.spawn_start());
    rig.wait_node("a", NodePhase::Intended);
    first.die();
    rig.rt.pass(minutes(60)).unwrap();
    let second = rig.engine();
    assert_eq!(second.run(second.resume()), Ok(RunOutcome::Succeeded));
    assert_eq!((rig.story("a"), rig.world.sends("a", true)), (vec![Intended, Finished], 1));
}

#[test]
fn after_a_restart_an_operation_is_followed_before_its_deadline_is_judged() {
    let rig = turn();
    rig.world.fates("a", &[Fate::Accepted("op-1", minutes(10))]);
    let first = rig.engine();
    drop(first.spawn_start());
    rig.wait_node("a", NodePhase::Accepted);
    first.die();
    rig.rt.pass(minutes(60)).unwrap();
    let second = rig.engine();
    assert_eq!(second.run(second.resume()), Ok(RunOutcome::Succeeded));
    assert_eq!(rig.story("a"), [Intended, Accepted, Finished]);
}

#[test]
fn a_step_that_is_not_ready_is_tried_again_without_a_word_in_the_journal() {
    let rig = turn();
    rig.world.not_ready("a", 20);
    assert_eq!(rig.go(), RunOutcome::Succeeded);
    assert_eq!(rig.story("a"), [Intended, Finished]);
    assert_eq!(rig.events().len(), 5, "started, lease taken, intended, finished, ended");
    assert_eq!(rig.now(), seconds(20));
}

#[test]
fn a_step_that_is_never_ready_fails_when_its_time_is_over_and_nothing_was_sent() {
    let rig = Rig::new(|plan| drop(plan.add("a", Turn::on("a").within(seconds(10)))));
    rig.world.not_ready("a", u32::MAX);
    let outcome = rig.go();
    assert!(matches!(&outcome, RunOutcome::Refused { reason } if reason.contains("not ready yet")), "{outcome:?}");
    assert_eq!((rig.story("a"), rig.world.sent().len()), (vec![Failed], 0));
}

#[test]
fn a_wait_says_once_that_it_began_and_nothing_when_its_first_look_sees_the_end() {
    let rig = Rig::new(|plan| {
        let a = plan.add("a", Check::on("a"));
        plan.add("b", Check::on("b").after(&a));
    });
    rig.world.set("a", true);
    let ended = rig.engine().spawn_start();
    rig.rt.pass(seconds(5)).unwrap();
    rig.world.set("b", true);
    assert_eq!(rig.wait_end(&ended).unwrap(), RunOutcome::Succeeded);
    assert_eq!((rig.story("a"), rig.story("b")), (vec![Finished], vec![Began, Finished]));
}

#[test]
fn a_call_that_surely_did_nothing_is_tried_again_after_the_pause_that_was_named() {
    let rig = turn();
    rig.world.fates("a", &[Fate::Busy(seconds(7))]);
    assert_eq!(rig.go(), RunOutcome::Succeeded);
    assert_eq!(rig.story("a"), [Intended, NotDone, Intended, Finished]);
    assert_eq!(rig.now(), seconds(7));
}

#[test]
fn a_call_that_was_refused_for_good_leaves_nothing_to_give_back() {
    let rig = turn();
    rig.world.fates("a", &[Fate::No]);
    let outcome = rig.go();
    assert!(
        matches!(&outcome, RunOutcome::Aborted { reason } if reason.contains("not with this thing")),
        "{outcome:?}"
    );
    assert_eq!((rig.story("a"), rig.world.sends("a", true)), (vec![Intended, Failed], 1));
}

#[test]
fn somebody_elses_work_stops_the_run() {
    let rig = turn();
    rig.world.fates("a", &[Fate::Nothing]);
    rig.world.sights("a", &[Sight::Truth, Sight::Conflict]);
    drop(rig.engine().spawn_start());
    rig.wait_phase(Phase::Parked);
    assert_eq!((rig.story("a"), rig.world.sends("a", true)), (vec![Intended, InDoubt, Failed], 1));
}

/// The same state without an intent of our own is a stranger's act.
#[test]
fn a_promotion_that_was_not_ours_stops_the_run() {
    let rig = Rig::new(|plan| drop(plan.add("promote", Promote::on("weu"))));
    rig.world.set("weu", true);
    let outcome = rig.go();
    assert!(matches!(&outcome, RunOutcome::Refused { reason } if reason.contains("somebody else")), "{outcome:?}");
    assert_eq!(rig.world.sent(), []);
}

/// A handler that sent and then stumbled with a bare `?` does not know; with an error that says "stop" it does not know either.
#[test]
fn bug_an_error_after_the_send_is_a_doubt_whatever_its_class() {
    for class in [StepErrorClass::Unknown, StepErrorClass::Stop] {
        let rig = turn();
        rig.world.fates("a", &[Fate::Stumble(class)]);
        assert_eq!(rig.go(), RunOutcome::Succeeded, "{class:?}");
        assert_eq!((rig.story("a"), rig.world.sends("a", true)), (vec![Intended, InDoubt, Finished], 1), "{class:?}");
    }
}

/// A step with a client of its own goes round the gate: that the gate saw nothing leave proves nothing.
#[test]
fn bug_an_error_of_a_client_that_goes_round_the_gate_is_a_doubt() {
    let rig = Rig::new(|plan| drop(plan.add("queue", Pause::on("queue:billing"))));
    rig.world.fates("queue:billing", &[Fate::Stumble(StepErrorClass::Unknown)]);
    assert_eq!(rig.go(), RunOutcome::Succeeded);
    assert_eq!(rig.story("queue"), [Intended, InDoubt, Finished]);
    assert_eq!(rig.world.sends("queue:billing", true), 1);
    rig.assert_sound();
}

#[test]
fn bug_attempts_of_a_client_that_goes_round_the_gate_are_counted() {
    let rig = Rig::new(|plan| drop(plan.add("queue", Pause::on("queue:billing"))));
    rig.world.forever("queue:billing", true, Fate::Busy(millis(10)));
    drop(rig.engine().spawn_start());
    rig.wait("the end of its attempts", |rig| rig.begun() && rig.story("queue").contains(&Failed));
    assert_eq!(rig.world.sends("queue:billing", true), 4);
}

/// A crash between the intent and the call, and one between the call and its outcome, look the same and end the same.
#[test]
fn an_intent_without_an_outcome_is_a_doubt() {
    for trouble in [
        JournalTrouble { crash_after: [3].into(), ..JournalTrouble::default() },
        JournalTrouble { crash_before: [4].into(), ..JournalTrouble::default() },
    ] {
        let rig = turn();
        rig.trouble(trouble.clone());
        let first = rig.engine();
        assert!(first.run(first.start()).is_err());
        assert_eq!(rig.story("a"), [Intended], "{trouble:?}");
        rig.trouble(JournalTrouble::default());
        let second = rig.engine();
        assert_eq!(second.run(second.resume()), Ok(RunOutcome::Succeeded));
        assert_eq!(rig.world.changes(), [("a".to_owned(), true)], "{trouble:?}");
        rig.assert_sound();
    }
}
