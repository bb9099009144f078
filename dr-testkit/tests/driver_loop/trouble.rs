//! A journal that is full or read-only: what cannot be recorded does not happen, what happened is recorded.

use dr_core::{
    StepExt, millis, minutes,
    run::{
        DriveError,
        EventKind::{Finished, Intended, NotDone, SpaceLow},
        JournalError, NodePhase, RunOutcome,
    },
    seconds,
};
use dr_testkit::JournalTrouble;

use crate::{
    rig::Rig,
    stubborn::{Append, Stubborn},
    world::{Check, Drain, Flip, Once, Promote, Switches, Turn, Undrain},
};

/// The create and the lease are the appends 1 and 2 of every run; the first step's intent is the 3rd.
const INTENT: u64 = 3;
const OUTCOME: u64 = 4;

fn full_from(append: u64) -> JournalTrouble {
    JournalTrouble { full_from: Some(append), reserve: Some(100), ..JournalTrouble::default() }
}

fn read_only_from(append: u64) -> JournalTrouble {
    JournalTrouble { read_only_from: Some(append), ..JournalTrouble::default() }
}

fn two() -> Rig {
    Rig::new(|plan| {
        let a = plan.add("a", Flip::on("a"));
        plan.add("b", Turn::on("b").after(&a));
    })
}

#[test]
fn on_a_full_disk_no_intent_is_recorded_and_nothing_is_sent() {
    let rig = two();
    rig.trouble(full_from(INTENT));
    let outcome = rig.go();
    assert!(
        matches!(&outcome, RunOutcome::Refused { reason } if reason.contains("the journal's disk is full")),
        "{outcome:?}"
    );
    assert_eq!((rig.world.sent().len(), rig.count(Intended), rig.count(SpaceLow)), (0, 0, 1));
}

#[test]
fn on_a_full_disk_what_is_held_is_given_back_through_the_reserve() {
    let rig = Rig::new(|plan| {
        let drain = plan.hold("drain", Drain::on("drain").within(seconds(20)), Undrain::off("drain"));
        let a = plan.add("a", Turn::on("a").after(&drain));
        plan.release(drain, &a);
    });
    rig.trouble(full_from(OUTCOME + 1));
    let outcome = rig.go();
    assert!(matches!(outcome, RunOutcome::Aborted { .. }), "{outcome:?}");
    assert_eq!(rig.world.changes(), [("drain".to_owned(), true), ("drain".to_owned(), false)]);
    assert_eq!(rig.world.sends("a", true), 0);
    rig.assert_sound();
}

#[test]
fn on_a_full_disk_the_outcome_of_an_effect_is_recorded_through_the_reserve() {
    let rig = Rig::new(|plan| {
        let a = plan.hold("a", Turn::on("a"), Flip::off("a"));
        let b = plan.add("b", Turn::on("b").after(&a));
        plan.release(a, &b);
    });
    rig.trouble(full_from(OUTCOME));
    let outcome = rig.go();
    assert!(matches!(outcome, RunOutcome::Aborted { .. }), "{outcome:?}");
    assert_eq!(rig.story("a"), [Intended, Finished]);
    assert_eq!((rig.world.sends("b", true), rig.world.is_on("a")), (0, false), "nothing new is sent; it turns back");
}

/// A reserve of one line: the outcome goes in, the rest waits for room.
#[test]
fn an_engine_waits_for_room_when_the_reserve_is_spent() {
    let rig = Rig::new(|plan| drop(plan.add("a", Turn::on("a"))));
    rig.trouble(JournalTrouble { full_from: Some(OUTCOME), ..JournalTrouble::default() });
    let ended = rig.engine().spawn_start();
    rig.rt.pass(minutes(10)).unwrap();
    assert_eq!(rig.story("a"), [Intended, Finished]);
    assert!(rig.state().outcome.is_none());
    rig.trouble(JournalTrouble::default());
    assert_eq!(rig.wait_end(&ended).unwrap(), RunOutcome::Succeeded);
    assert_eq!(rig.world.sends("a", true), 1);
}

/// After the promote intent there is no way back, so the reserve serves the way forward.
#[test]
fn on_a_full_disk_a_promotion_that_was_asked_for_is_brought_to_its_end() {
    let rig = Rig::new(|plan| {
        let drain = plan.hold("drain", Drain::on("drain").within(seconds(20)), Undrain::off("drain"));
        let promote = plan.add("promote", Promote::on("weu").after(&drain));
        plan.release(drain, &promote);
    });
    rig.trouble(full_from(OUTCOME + 2));
    assert_eq!(rig.go(), RunOutcome::Succeeded);
    assert_eq!((rig.world.is_on("weu"), rig.world.is_on("drain")), (true, false));
    rig.assert_sound();
}

#[test]
fn on_a_read_only_journal_nothing_is_sent_and_the_run_can_be_resumed() {
    let rig = two();
    rig.trouble(read_only_from(INTENT));
    let first = rig.engine();
    let ended = first.spawn_start();
    let failed = rig.wait_end(&ended);
    assert!(
        matches!(&failed, Err(DriveError::Journal { source: JournalError::Store { full: false, .. }, .. })),
        "{failed:?}"
    );
    assert!(rig.now() < seconds(10), "an intent is not waited for long: {:?}", rig.now());
    assert_eq!((rig.world.sent().len(), rig.leases.held().len()), (0, 0));
    let before = rig.journal.lines(&rig.run);
    rig.trouble(JournalTrouble::default());
    let second = rig.engine();
    assert_eq!(second.run(second.resume()), Ok(RunOutcome::Succeeded));
    assert_eq!(rig.journal.lines(&rig.run).get(..before.len()).unwrap(), before);
    rig.assert_sound();
}

#[test]
fn while_an_outcome_cannot_be_recorded_nothing_new_is_sent() {
    let rig = two();
    rig.trouble(read_only_from(OUTCOME));
    let ended = rig.engine().spawn_start();
    rig.rt.pass(minutes(10)).unwrap();
    assert_eq!((rig.world.sends("a", true), rig.world.sends("b", true)), (1, 0));
    assert_eq!(rig.story("a"), [Intended]);
    rig.trouble(JournalTrouble::default());
    assert_eq!(rig.wait_end(&ended).unwrap(), RunOutcome::Succeeded);
    assert_eq!((rig.world.sends("a", true), rig.world.sends("b", true)), (1, 1));
    rig.assert_sound();
}

#[test]
fn an_engine_that_gives_up_on_an_outcome_leaves_it_to_the_next_one() {
    let rig = two();
    rig.trouble(read_only_from(OUTCOME));
    let ended = rig.engine().spawn_start();
    rig.rt.pass(minutes(59)).unwrap();
    assert!(ended.lock().unwrap().is_none(), "it goes on trying");
    let failed = rig.wait_end(&ended);
    assert!(matches!(failed, Err(DriveError::Journal { .. })), "{failed:?}");
    rig.trouble(JournalTrouble::default());
    let second = rig.engine();
    assert_eq!(second.run(second.resume()), Ok(RunOutcome::Succeeded));
    assert_eq!(rig.world.sends("a", true), 1);
}

#[test]
fn a_seal_that_fails_sends_nothing_and_does_not_count_as_an_attempt() {
    let mut rig = Rig::new(|plan| drop(plan.add("a", Once::on("a"))));
    let stubborn = Stubborn::new(&rig.journal, &rig.rt);
    stubborn.seals_fail(3);
    rig.stubborn = Some(stubborn);
    assert_eq!(rig.go(), RunOutcome::Succeeded);
    assert_eq!(rig.story("a"), [Intended, NotDone, Intended, NotDone, Intended, NotDone, Intended, Finished]);
    assert_eq!((rig.world.sends("a", true), rig.now()), (1, seconds(3)));
    rig.assert_sound();
}

/// The answer of an append is lost, or a retry finds the line there already: it was stored, once.
#[test]
fn an_append_whose_answer_is_lost_is_stored_once() {
    for lie in [Append::StoredWithError, Append::StoredWithConflict] {
        let mut rig = two();
        let stubborn = Stubborn::new(&rig.journal, &rig.rt);
        stubborn.next(&[Append::Well, lie, lie, lie]);
        rig.stubborn = Some(stubborn);
        assert_eq!(rig.go(), RunOutcome::Succeeded, "{lie:?}");
        assert_eq!((rig.story("a"), rig.story("b")), (vec![Intended, Finished], vec![Intended, Finished]), "{lie:?}");
        rig.assert_sound();
    }
}

/// The intent was stored, its answer was lost, and another engine has the run: the intent is that engine's to judge.
#[test]
fn bug_an_intent_of_an_engine_that_was_taken_over_is_not_sent() {
    let mut rig = two();
    let stubborn = Stubborn::new(&rig.journal, &rig.rt);
    stubborn.next(&[Append::Well, Append::StoredAndTakenOver]);
    rig.stubborn = Some(stubborn);
    let ended = rig.engine().spawn_start();
    let failed = rig.wait_end(&ended);
    assert!(matches!(failed, Err(DriveError::TakenOver { .. })), "{failed:?}");
    assert_eq!((rig.story("a"), rig.world.sent().len()), (vec![Intended], 0));
}

/// An outcome may become durable a moment after it is known, and not later: nobody has to send something else first.
#[test]
fn an_outcome_is_recorded_while_the_next_step_only_waits() {
    let rig = Rig::new(|plan| {
        let a = plan.add("a", Flip::on("a"));
        plan.add("b", Check::on("b").after(&a));
    });
    let ended = rig.engine().spawn_start();
    rig.wait_node("b", NodePhase::Looking);
    rig.rt.pass(millis(1)).unwrap();
    assert_eq!(rig.story("a"), [Intended, Finished]);
    rig.world.set("b", true);
    assert_eq!(rig.wait_end(&ended).unwrap(), RunOutcome::Succeeded);
}

/// A journal may keep outcomes back for a while: they go with the next intent, or alone when the while is over.
#[test]
fn an_outcome_lingers_no_longer_than_the_journal_says() {
    let mut rig = Rig::new(|plan| {
        let a = plan.add("a", Flip::on("a"));
        let b = plan.add("b", Flip::on("b").after(&a));
        plan.add("c", Check::on("c").after(&b));
    });
    let slow = Stubborn::new(&rig.journal, &rig.rt);
    slow.lingers(millis(100));
    rig.stubborn = Some(slow);
    let ended = rig.engine().spawn_start();
    rig.rt.pass(millis(99)).unwrap();
    assert_eq!((rig.story("a"), rig.story("b")), (vec![Intended, Finished], vec![Intended]));
    assert_eq!(rig.journal.appends(), 4, "create, lease, the intent of `a`, its outcome with the intent of `b`");
    rig.rt.pass(millis(2)).unwrap();
    assert_eq!(rig.story("b"), [Intended, Finished]);
    rig.world.set("c", true);
    assert_eq!(rig.wait_end(&ended).unwrap(), RunOutcome::Succeeded);
}

/// The outcome of `a` and the intent of `b` were stored in one go, and the answer was lost.
#[test]
fn bug_a_longer_append_whose_answer_is_lost_is_recognised() {
    for lie in [Append::StoredWithError, Append::StoredWithConflict] {
        let mut rig = two();
        let stubborn = Stubborn::new(&rig.journal, &rig.rt);
        stubborn.lingers(millis(100));
        stubborn.next(&[Append::Well, Append::Well, lie]);
        rig.stubborn = Some(stubborn);
        assert_eq!(rig.go(), RunOutcome::Succeeded, "{lie:?}");
        assert_eq!((rig.story("a"), rig.story("b")), (vec![Intended, Finished], vec![Intended, Finished]), "{lie:?}");
        rig.assert_sound();
    }
}

#[test]
fn a_look_goes_on_when_the_disk_is_full() {
    let rig = Rig::new(|plan| {
        let a = plan.add("a", Check::on("a"));
        plan.add("b", Flip::on("b").after(&a));
    });
    let ended = rig.engine().spawn_start();
    rig.wait_node("a", NodePhase::Looking);
    rig.trouble(full_from(0));
    rig.world.set("a", true);
    let outcome = rig.wait_end(&ended).unwrap();
    assert!(matches!(outcome, RunOutcome::Refused { .. }), "{outcome:?}");
    assert_eq!(rig.world.sent(), []);
}
