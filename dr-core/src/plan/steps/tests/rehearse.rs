//! What a rehearsal stops, what it shows, and what the second one compares.

use super::{
    seen, sent,
    world::{Call, World, from, now, pair, resolved, target, value},
};
use crate::{
    contract::{Dropped, NotDone, Outcome, Rehearsal, Retry, Tolerance},
    plan::{
        Handler, Look, Observed,
        steps::{
            Rehearse, RehearseAgain, Rehearsed, SettleMember,
            before::Settle,
            rehearse::{Rehearsing, RehearsingAgain},
        },
    },
};

type Change = fn(&World);

fn planned() -> Rehearse {
    Rehearse::planned(&target("a", 1), &target("b", 1))
}

fn forced() -> Rehearse {
    Rehearse::forced(&target("a", 1), &target("b", 1))
}

fn says(world: &World, part: &'static str, found: impl FnOnce(&mut Rehearsal)) {
    let mut rehearsal = Rehearsal::default();
    found(&mut rehearsal);
    world.rehearsals.lock().unwrap().insert(part, Some(rehearsal));
}

/// An obstacle of any part stops a planned change; a forced one only where nobody could write, or two could.
#[test]
fn obstacles_stop_a_change() {
    let table: [(&str, Change, &str, &str); 9] = [
        ("ready", |_| (), "done", "done"),
        (
            "settings of the writer",
            |w| says(w, "writer", |r| r.always("commits wait", "why", "fix")),
            "conflict",
            "conflict",
        ),
        (
            "archiving of the writer",
            |w| says(w, "writer", |r| r.planned("no archive", "why", "fix")),
            "conflict",
            "done",
        ),
        ("the way back", |w| says(w, "standby", |r| r.planned("no slot", "why", "fix")), "conflict", "done"),
        ("the fence", |w| says(w, "fence", |r| r.always("another server", "why", "fix")), "conflict", "done"),
        ("the secret", |w| says(w, "secret", |r| r.planned("other form", "why", "fix")), "conflict", "done"),
        ("only something dropped", |w| says(w, "writer", |r| r.drops("unlogged", "2 tables")), "done", "done"),
        (
            "the candidate is silent",
            |w| drop(w.rehearsals.lock().unwrap().insert("writer", None)),
            "not yet",
            "not yet",
        ),
        ("the secret is silent", |w| drop(w.rehearsals.lock().unwrap().insert("secret", None)), "not yet", "done"),
    ];
    for (name, change, want, want_forced) in table {
        let world = pair();
        change(&world);
        let cx = Call::of(&world).cx();
        assert_eq!(seen(&now(Rehearsing.look(&cx, &planned()))), want, "{name}");
        assert_eq!(seen(&now(Rehearsing.look(&cx, &forced()))), want_forced, "{name}, forced");
    }
}

/// What does not stop a forced change is shown, and so is a part that was silent.
#[test]
fn a_forced_change_shows_what_it_passes_over() {
    let world = pair();
    says(&world, "writer", |found| found.planned("no archive", "no restore to a point in time", "turn it on"));
    world.rehearsals.lock().unwrap().insert("secret", None);
    let Ok(Observed::Done(shown)) = now(Rehearsing.look(&Call::of(&world).cx(), &forced())) else { panic!("not done") };
    let told = shown.untried.join("; ");
    assert!(told.contains("no archive (turn it on)") && told.contains("the secret `orders`: "), "{told}");
}

/// A new thing that is dropped is another question; the same thing with another count is not.
#[test]
fn what_is_dropped_is_a_fact_that_people_agree_to() {
    let world = pair();
    says(&world, "writer", |found| found.drops("unlogged rows of app", "1 table, about 1000 rows"));
    let Ok(Observed::Done(shown)) = now(Rehearsing.look(&Call::of(&world).cx(), &planned())) else {
        panic!("not done")
    };
    let fact = &shown.facts()[0];
    assert_eq!(
        (fact.tolerance, fact.value.as_str()),
        (Tolerance::Equal, "unlogged rows of app (1 table, about 1000 rows)")
    );
    let again = |shown: &Rehearsed| {
        let step = RehearseAgain::of(planned(), &from::<Rehearsed>("rehearse"));
        resolved(&step, &[("rehearse", value(shown))])
    };
    says(&world, "writer", |found| found.drops("unlogged rows of app", "1 table, about 1200 rows"));
    assert_eq!(seen(&now(RehearsingAgain.look(&Call::of(&world).cx(), &again(&shown)))), "done");
    let unseen = Rehearsed { drops: vec![Dropped { what: "slot cdc".into(), detail: "idle".into() }], ..shown };
    let looked = now(RehearsingAgain.look(&Call::of(&world).cx(), &again(&unseen)));
    let Ok(Observed::Conflict(cause)) = &looked else { panic!("{looked:?}") };
    assert!(cause.to_string().contains("unlogged rows of app"), "{cause}");
}

/// A candidate that would hang after its promotion was found while settling, and the run went on.
#[test]
fn bug_a_refusal_while_settling_stops_the_run() {
    let world = pair();
    let step = SettleMember { member: "b".into() };
    let cx = || Call::of(&world).intended().may("b", "settle").cx();
    assert_eq!(sent(&now(Settle.submit(&cx(), &step))), "done");
    says(&world, "settle", |found| found.always("every commit would wait", "", ""));
    let answer = now(Settle.submit(&cx(), &step));
    assert!(matches!(&answer, Ok(Outcome::NotDone(NotDone { retry: Retry::Never, .. }))), "{answer:?}");
}

/// Nothing known is said in words: a fact that is missing would look like one that was not read.
#[test]
fn nothing_dropped_is_a_fact_too() {
    let world = pair();
    let Ok(Observed::Done(shown)) = now(Rehearsing.look(&Call::of(&world).cx(), &planned())) else {
        panic!("not done")
    };
    assert_eq!(shown.facts().len(), 1);
    assert_eq!(shown.facts()[0].value, "nothing known, beyond the log");
}
