//! A drain never outlives its budget unseen (DESIGN section 5).

use dr_core::{
    Millis, NodeId, PlanBuilder, StepExt, millis, minutes,
    plan::Policy,
    run::{
        EventKind::{self, ClientsTurnedAway, DrainOverBudget, Parked},
        NodePhase, Phase, Record, Request, RunOutcome,
    },
    seconds,
};

use crate::{
    rig::{Rig, person, policy},
    world::{Check, Drain, Fate, Fence, Promote, Sight, Switches, Undrain, Unfence},
};

/// The gap budget of these plans.
const BUDGET: Millis = seconds(30);

/// drain, fence, (wait,) promote, wait, release of the drain.
fn rig() -> Rig {
    Rig::new(steps)
}

fn steps(plan: &mut PlanBuilder) {
    let drain = plan.hold("drain", Drain::on("drain").within(seconds(20)), Undrain::off("drain"));
    let fence = plan.hold("fence", Fence::on("fence").after(&drain), Unfence::off("fence"));
    let caught = plan.add("caught-up", Check::on("a").after(&fence));
    let promote = plan.add("promote", Promote::on("weu").after(&caught));
    let writer = plan.add("writer", Check::on("b").after(&promote));
    plan.release(drain, &writer);
    plan.retired(fence, &writer);
}

fn changes(rig: &Rig) -> Vec<String> {
    rig.world.changes().into_iter().map(|(thing, on)| format!("{thing} {}", if on { "on" } else { "off" })).collect()
}

#[test]
fn a_drain_over_budget_before_the_promotion_is_given_back() {
    let rig = rig();
    let outcome = rig.go();
    assert!(
        matches!(&outcome, RunOutcome::Aborted { reason } if reason.contains("the drain has outlived its budget")),
        "{outcome:?}"
    );
    assert_eq!(changes(&rig), ["drain on", "fence on", "fence off", "drain off"]);
    assert_eq!((rig.now(), rig.world.failed_fast()), (BUDGET, 0));
    rig.assert_sound();
}

/// What a fence looks at before it begins is looked at while the drain is being taken; what is older than a second, once more.
#[test]
fn a_fence_is_prepared_while_the_drain_is_taken() {
    for (takes, again) in [(millis(500), 0), (seconds(2), 1)] {
        let rig = rig();
        rig.world.fates("drain", &[Fate::Slow(takes)]);
        drop(rig.go());
        let at = |kind: EventKind, node: &str| {
            let of = |record: &&Record| record.event.kind() == kind && record.event.node() == Some(&NodeId::new(node));
            rig.records().iter().find(of).map(|record| record.at).unwrap()
        };
        let (drained, intended) = (at(EventKind::Finished, "drain"), at(EventKind::Intended, "fence"));
        let looks = rig.world.looks("fence");
        let before = looks.iter().filter(|look| **look < drained).count();
        let between = looks.iter().filter(|look| (drained..=intended).contains(*look)).count();
        assert_eq!((before, between), (1, again), "a drain that takes {takes:?}");
        rig.assert_sound();
    }
}

#[test]
fn a_drain_whose_own_answer_is_lost_is_on_the_clock_from_its_intent() {
    let rig = rig();
    rig.world.fates("drain", &[Fate::Slow(seconds(19))]);
    assert!(matches!(rig.go(), RunOutcome::Aborted { .. }));
    assert_eq!((changes(&rig).last().unwrap().as_str(), rig.now()), ("drain off", BUDGET));
}

#[test]
fn a_call_under_way_is_driven_to_its_end_before_the_drain_is_given_back() {
    let rig = rig();
    rig.world.fates("fence", &[Fate::Accepted("op-1", seconds(60))]);
    assert!(matches!(rig.go(), RunOutcome::Aborted { .. }));
    assert_eq!(changes(&rig), ["drain on", "fence on", "fence off", "drain off"]);
}

#[test]
fn the_clock_of_a_drain_goes_on_over_a_restart() {
    let rig = rig();
    let first = rig.engine();
    drop(first.spawn_start());
    rig.wait_node("caught-up", NodePhase::Looking);
    rig.rt.pass(seconds(20)).unwrap();
    first.die();
    let second = rig.engine();
    assert!(matches!(second.run(second.resume()), Ok(RunOutcome::Aborted { .. })));
    assert!(rig.now() < seconds(31), "{:?}", rig.now());
}

#[test]
fn a_pause_does_not_stop_the_clock_of_a_drain() {
    let rig = rig();
    let ended = rig.engine().spawn_start();
    rig.wait_node("caught-up", NodePhase::Looking);
    rig.post("1", &Request::Pause { by: person("ana"), because: "look first".into() });
    assert!(matches!(rig.wait_end(&ended).unwrap(), RunOutcome::Aborted { .. }));
    assert_eq!(changes(&rig).last().unwrap(), "drain off");
}

/// After the promote intent clients get errors instead of waiting, and are let in when the writer is ready: nobody has to decide.
#[test]
fn bug_a_drain_over_budget_after_the_promotion_was_asked_for_fails_fast_and_goes_on() {
    let rig = rig();
    rig.world.set("a", true);
    rig.world.fates("weu", &[Fate::Accepted("op-1", seconds(60))]);
    let ended = rig.engine().spawn_start();
    rig.rt.pass(BUDGET.saturating_add(Millis::new(10))).unwrap();
    assert_eq!((rig.world.failed_fast(), rig.count(ClientsTurnedAway)), (1, 1));
    assert_eq!(rig.state().phase, Phase::Running, "the promotion is under way");
    assert!(rig.world.notices().iter().any(|notice| notice.urgent && notice.text.contains("clients now get errors")));
    rig.rt.pass(minutes(4)).unwrap();
    assert!(rig.world.is_on("weu"));
    assert!(!rig.world.changes().contains(&("fence".into(), false)), "nothing is un-fenced");
    assert_eq!((rig.state().phase, rig.count(Parked)), (Phase::Running, 0));
    rig.world.set("b", true);
    assert_eq!(rig.wait_end(&ended).unwrap(), RunOutcome::Succeeded);
    assert_eq!(changes(&rig), ["drain on", "fence on", "weu on", "drain off"]);
    assert_eq!((rig.count(Parked), rig.count(DrainOverBudget)), (0, 0), "the budget ends with the promote intent");
    assert_eq!((rig.world.failed_fast(), rig.count(ClientsTurnedAway)), (1, 1));
}

/// Clients wait longer than a drain may last before the promotion: they are told when they would give up, and not sooner. One clock
/// for both turned them away with the budget.
#[test]
fn bug_clients_that_wait_longer_than_the_budget_are_not_turned_away_with_it() {
    let policy = Policy { client_limit: Some(minutes(2)), ..policy() };
    for takes in [seconds(100), minutes(3)] {
        let rig = Rig::with(policy.clone(), steps);
        rig.world.set("a", true);
        rig.world.set("b", true);
        rig.world.fates("weu", &[Fate::Accepted("op-1", takes)]);
        let ended = rig.engine().spawn_start();
        rig.rt.pass(seconds(119)).unwrap();
        assert_eq!((rig.world.failed_fast(), rig.count(ClientsTurnedAway)), (0, 0), "{takes:?}");
        assert_eq!(rig.wait_end(&ended).unwrap(), RunOutcome::Succeeded, "{takes:?}");
        let told = u32::from(takes > minutes(2));
        assert_eq!(
            (rig.world.failed_fast(), rig.count(ClientsTurnedAway)),
            (told, usize::try_from(told).unwrap()),
            "{takes:?}"
        );
        assert_eq!((rig.count(Parked), rig.count(DrainOverBudget)), (0, 0), "{takes:?}");
        assert_eq!(changes(&rig).last().map(String::as_str), Some("drain off"), "they are let in");
        rig.assert_sound();
    }
}

/// A fence that is slow to be given back keeps clients waiting no longer than they can.
#[test]
fn clients_are_told_while_the_run_turns_back() {
    let policy = Policy { client_limit: Some(minutes(2)), ..policy() };
    let rig = Rig::with(policy, steps);
    rig.world.forever("fence", false, Fate::Accepted("op-2", minutes(3)));
    let ended = rig.engine().spawn_start();
    rig.rt.pass(seconds(119)).unwrap();
    assert_eq!((rig.state().phase, rig.world.failed_fast(), rig.count(DrainOverBudget)), (Phase::Aborting, 0, 1));
    assert!(matches!(rig.wait_end(&ended).unwrap(), RunOutcome::Aborted { .. }));
    assert_eq!((rig.world.failed_fast(), rig.count(ClientsTurnedAway)), (1, 1));
    assert_eq!(changes(&rig).last().map(String::as_str), Some("drain off"));
}

/// An engine died just after it had let the applications through. The clock of the drain ran on, and whoever resumed the run turned
/// clients away that had been writing all the time.
#[test]
fn bug_clients_that_write_again_are_not_turned_away_by_a_clock_that_ran_on() {
    let rig = rig();
    rig.world.set("a", true);
    rig.world.set("b", true);
    rig.world.forever("drain", false, Fate::Accepted("op-2", seconds(1)));
    let first = rig.engine();
    let _ended = first.spawn_start();
    rig.wait_node("release-drain", NodePhase::Accepted);
    first.die();
    rig.rt.pass(minutes(2)).unwrap();
    let second = rig.engine();
    assert_eq!(second.run(second.resume()).unwrap(), RunOutcome::Succeeded);
    assert_eq!((rig.world.failed_fast(), rig.count(DrainOverBudget), rig.count(Parked)), (0, 0, 0));
    rig.assert_sound();
}

/// A client without a timeout never answered a look at what was accepted: neither the step's time nor the budget ended it, and the
/// applications were held back for ever. The same when the handler panicked: the driver died with the drain held.
#[test]
fn bug_a_look_that_hangs_or_panics_does_not_hold_the_drain_for_ever() {
    for sight in [Sight::Never, Sight::Panic] {
        let rig = rig();
        rig.world.fates("fence", &[Fate::Accepted("op-1", seconds(5))]);
        // The look before it is sent, and then none any more.
        rig.world.sights("fence", &[Sight::Truth]);
        rig.world.always_sees("fence", sight);
        let ended = rig.engine().spawn_start();
        rig.wait("the drain is given back", |rig| !rig.world.is_on("drain") && rig.count(EventKind::Aborting) > 0);
        assert!(rig.now() < minutes(8), "{sight:?}: {:?}", rig.now());
        rig.wait_phase(Phase::Parked);
        let question = rig.state().ask.unwrap().question;
        assert!(question.contains("`fence` could not be given back"), "{sight:?}: {question}");
        assert!(ended.lock().unwrap().is_none(), "{sight:?}: the driver lives, and waits for a person");
    }
}

/// A drain that cannot be given back left the run parked for a person, and every client waiting without an error.
#[test]
fn bug_a_parked_run_that_holds_the_drain_beyond_its_budget_turns_clients_away() {
    let rig = rig();
    rig.world.forever("drain", false, Fate::No);
    let ended = rig.engine().spawn_start();
    rig.wait_phase(Phase::Parked);
    rig.rt.pass(minutes(1)).unwrap();
    assert!(rig.world.is_on("drain") && ended.lock().unwrap().is_none());
    assert_eq!((rig.world.failed_fast(), rig.count(DrainOverBudget)), (1, 1), "once");
    assert!(rig.world.notices().iter().any(|notice| notice.urgent && notice.text.contains("clients now get errors")));
}

/// A person let the clients through by hand and answered nothing yet. Whoever resumed the run cut them off without a look.
#[test]
fn bug_clients_that_a_person_let_through_are_not_turned_away_by_a_restart() {
    let rig = rig();
    rig.world.forever("drain", false, Fate::No);
    let first = rig.engine();
    let _ended = first.spawn_start();
    rig.wait_phase(Phase::Parked);
    rig.rt.pass(minutes(1)).unwrap();
    assert_eq!(rig.world.failed_fast(), 1);
    first.die();
    rig.world.set("drain", false);
    let second = rig.engine();
    let _resumed = second.spawn_resume();
    rig.rt.pass(minutes(1)).unwrap();
    assert_eq!((rig.world.failed_fast(), rig.state().phase), (1, Phase::Parked));
}

/// Past the promotion nothing can be given back: the run parks with what it knows, and does not wait for ever.
#[test]
fn bug_a_look_that_hangs_or_panics_past_the_promotion_parks() {
    for (sight, words) in [(Sight::Never, "gave no answer within"), (Sight::Panic, "a planted panic at weu")] {
        let rig = rig();
        rig.world.set("a", true);
        rig.world.fates("weu", &[Fate::Accepted("op-1", seconds(5))]);
        // The look before the promotion, and then none any more.
        rig.world.sights("weu", &[Sight::Truth]);
        rig.world.always_sees("weu", sight);
        let _ended = rig.engine().spawn_start();
        rig.wait_phase(Phase::Parked);
        let question = rig.state().ask.unwrap().question;
        assert!(question.contains(words), "{question}");
    }
}

/// A check before the promotion that never answers ends with the budget at the latest.
#[test]
fn bug_a_check_that_never_answers_is_turned_back_with_the_budget() {
    for sight in [Sight::Never, Sight::Panic] {
        let rig = rig();
        rig.world.always_sees("a", sight);
        assert!(matches!(rig.go(), RunOutcome::Aborted { .. }));
        assert_eq!((rig.now(), changes(&rig).last().map(String::as_str)), (BUDGET, Some("drain off")), "{sight:?}");
    }
}

/// A tier or a notifier that never answers, or panics (even once more when what its panic carries is dropped), keeps no drain: before
/// the promotion the budget gives it back, past it clients are turned away and the run goes on. The panic of a tier ended the driver.
#[test]
fn bug_a_tier_or_notifier_that_hangs_or_panics_ends_no_run() {
    for sight in [Sight::Never, Sight::Panic] {
        let rig = rig();
        rig.world.strays(sight);
        assert!(matches!(rig.go(), RunOutcome::Aborted { .. }), "{sight:?}");
        assert_eq!(changes(&rig).last().map(String::as_str), Some("drain off"), "{sight:?}");
        assert!(rig.now() <= BUDGET.saturating_add(seconds(3)), "{sight:?}: {:?}", rig.now());
    }
    for sight in [Sight::Never, Sight::Panic] {
        let rig = rig();
        rig.world.strays(sight);
        rig.world.set("a", true);
        rig.world.fates("weu", &[Fate::Accepted("op-1", seconds(60))]);
        let ended = rig.engine().spawn_start();
        rig.rt.pass(minutes(1)).unwrap();
        assert_eq!((rig.world.failed_fast(), rig.state().phase), (1, Phase::Running), "{sight:?}");
        rig.world.set("b", true);
        assert_eq!(rig.wait_end(&ended).unwrap(), RunOutcome::Succeeded, "{sight:?}");
    }
}
