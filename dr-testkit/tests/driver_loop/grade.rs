//! A measured grade that is less than the plan asks for: two people accept it, or the run stops there.

use dr_core::{
    APPROVE, Grade, StepExt,
    base::Role,
    contract::Lack,
    minutes,
    run::{
        AskKind,
        EventKind::{Asked, Waived},
        NodePhase, REJECT, RunOutcome,
    },
    seconds,
};

use crate::{
    rig::{Ended, Rig, person},
    world::{AskPeople, Check, Sight, Switches, Turn},
};

/// `b` is measured, and less than is needed; then `a` is switched on.
fn rig() -> Rig {
    let rig = Rig::new(|plan| {
        let seen = plan.add("seen", Check::on("b").within(minutes(5)).every(seconds(1)).visibility(seconds(5)));
        plan.add("a", Turn::on("a").after(&seen));
    });
    rig.world.always_sees("b", Sight::Short);
    rig
}

fn begin(rig: &Rig) -> Ended {
    let ended = rig.engine().spawn_start();
    rig.wait("a question", |rig| rig.begun() && rig.count(Asked) == 1);
    ended
}

fn succeeds(rig: &Rig, ended: &Ended) {
    assert_eq!(rig.wait_end(ended).unwrap(), RunOutcome::Succeeded);
    rig.assert_sound();
}

fn refused(rig: &Rig, ended: &Ended, why: &str) {
    let outcome = rig.wait_end(ended).unwrap();
    assert!(matches!(&outcome, RunOutcome::Refused { reason } if reason.contains(why)), "{outcome:?}");
    assert_eq!((rig.world.sent(), rig.count(Waived)), (Vec::new(), 0), "nothing is touched");
}

#[test]
fn two_people_accept_what_was_measured() {
    let rig = rig();
    let ended = begin(&rig);
    assert!(rig.now() >= seconds(5), "what is not visible yet is waited for: {:?}", rig.now());
    let ask = rig.state().ask.unwrap();
    assert_eq!((ask.kind, ask.people), (AskKind::Waiver, 2));
    assert_eq!(
        ask.short.map(|short| short.lack),
        Some(Lack::Grade { measured: Grade::Unconfirmable, needed: Grade::Enforced })
    );
    let shown: Vec<&str> = ask.facts.iter().map(|fact| fact.value.as_str()).collect();
    assert_eq!(shown, ["neu does not answer", "fence neu"]);
    rig.answer("1", APPROVE, &person("ana"));
    rig.rt.pass(minutes(1)).unwrap();
    rig.answer("2", APPROVE, &person("ana"));
    rig.rt.pass(minutes(1)).unwrap();
    assert_eq!((rig.world.sent(), rig.count(Waived)), (Vec::new(), 0), "one person is not enough");
    rig.answer("3", APPROVE, &person("ben"));
    succeeds(&rig, &ended);
    assert_eq!((rig.count(Asked), rig.count(Waived)), (1, 1));
    let waived = rig.state().node(&"seen".into()).waived.unwrap();
    let people: Vec<&str> = waived.given.iter().map(|given| given.by.name.as_str()).collect();
    assert_eq!((people, waived.owes.as_deref()), (vec!["ana", "ben"], Some("fence neu")));
}

#[test]
fn one_person_says_no_to_what_was_measured() {
    let rig = rig();
    let ended = begin(&rig);
    rig.answer("1", APPROVE, &person("ana"));
    rig.answer("2", REJECT, &person("ben"));
    refused(&rig, &ended, "ben said no");
}

#[test]
fn nobody_answers_what_was_measured() {
    let rig = rig();
    let ended = begin(&rig);
    refused(&rig, &ended, "nobody answered until");
    assert!(rig.now() >= minutes(60) && rig.now() < minutes(61), "{:?}", rig.now());
}

/// A region that comes back answers the question by itself.
#[test]
fn what_comes_true_meanwhile_needs_no_answer() {
    let rig = rig();
    let ended = begin(&rig);
    rig.answer("1", APPROVE, &person("ana"));
    rig.rt.pass(minutes(10)).unwrap();
    rig.world.set("b", true);
    rig.world.always_sees("b", Sight::Truth);
    succeeds(&rig, &ended);
    assert_eq!(rig.count(Waived), 0);
    assert!(rig.state().ask.is_none());
}

/// What is measured changes to a conflict: what people would accept is not so any more.
#[test]
fn a_conflict_meanwhile_ends_the_question() {
    let rig = rig();
    let ended = begin(&rig);
    rig.world.always_sees("b", Sight::Conflict);
    refused(&rig, &ended, "somebody else is at work");
}

#[test]
fn another_engine_goes_on_with_the_question_and_its_answers() {
    let rig = rig();
    let first = rig.engine();
    drop(first.spawn_start());
    rig.wait("a question", |rig| rig.begun() && rig.count(Asked) == 1);
    rig.answer("1", APPROVE, &person("ana"));
    rig.rt.pass(seconds(5)).unwrap();
    first.die();
    rig.rt.pass(minutes(10)).unwrap();
    let ended = rig.engine().spawn_resume();
    rig.rt.pass(minutes(1)).unwrap();
    assert_eq!(rig.state().phase_of(&"seen".into()), NodePhase::Asking);
    rig.answer("2", APPROVE, &person("ben"));
    succeeds(&rig, &ended);
    assert_eq!((rig.count(Asked), rig.count(Waived)), (1, 1));
}

/// Whoever may approve the failover may accept what was measured, and nobody else.
#[test]
fn the_roles_of_the_approval_are_asked_for() {
    let rig = Rig::with(crate::rig::asked(), |plan| {
        let ask = plan.add("ask", AskPeople { roles: vec![Role::new("dba")], ..AskPeople::of(1) });
        let seen = plan.add("seen", Check::on("b").after(&ask).visibility(seconds(5)));
        plan.add("a", Turn::on("a").after(&seen));
    });
    rig.world.always_sees("b", Sight::Short);
    let ended = begin(&rig);
    rig.answer("1", APPROVE, &person("ana").with_role("dba"));
    rig.wait("the second question", |rig| rig.count(Asked) == 2);
    rig.answer("2", APPROVE, &person("mira").with_role("dba"));
    rig.answer("3", APPROVE, &person("cem").with_role("support"));
    rig.rt.pass(seconds(5)).unwrap();
    let away = rig.turned_away().concat();
    assert!(away.contains("DR305") && away.contains("DR303"), "{away}");
    rig.answer("4", APPROVE, &person("ben").with_role("dba"));
    rig.answer("5", APPROVE, &person("ana").with_role("dba"));
    succeeds(&rig, &ended);
}
