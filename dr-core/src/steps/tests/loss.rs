//! Bounds and counts of what is lost (covers E10, S3).

use super::world::{Call, at, lineage, now, pair, target};
use crate::{
    Look, Loss, Millis, Observed, PositionSample, Timestamp,
    steps::{
        BoundLoss,
        loss::{Bounding, Until, bound, counted},
    },
};

fn time(second: i64) -> Timestamp {
    Timestamp::from_millis(second * 1000)
}

fn sample(second: i64, primary: Option<u64>) -> PositionSample {
    PositionSample {
        primary: primary.map(at),
        standby: None,
        applied: None,
        lineage: Some(lineage(1)),
        at: time(second),
    }
}

fn fenced(second: i64) -> Until {
    Until { stop: time(second), fenced: true }
}

#[test]
fn without_a_sample_the_loss_is_unknown_and_never_nothing() {
    let nothing = bound(&[], &target("a", 1), &at(100), fenced(10));
    assert!(matches!(nothing, (Loss::Unknown { .. }, None)), "{nothing:?}");
    let silent = bound(&[sample(1, None), sample(2, None)], &target("a", 1), &at(100), fenced(10));
    assert!(matches!(silent, (Loss::Unknown { .. }, None)), "{silent:?}");
    let foreign = bound(&[sample(1, Some(90))], &target("a", 2), &at(100), fenced(10));
    assert!(matches!(foreign, (Loss::Unknown { .. }, None)), "another lineage's sample says nothing: {foreign:?}");
    let behind = bound(&[sample(1, Some(150))], &target("a", 1), &at(100), fenced(10));
    assert!(matches!(behind, (Loss::Unknown { .. }, Some(_))), "{behind:?}");
}

#[test]
fn the_bound_reaches_from_the_last_covered_sample_to_the_fence() {
    let samples = [sample(1, Some(50)), sample(2, Some(100)), sample(3, Some(120)), sample(4, None)];
    let (loss, sampled) = bound(&samples, &target("a", 1), &at(100), fenced(10));
    assert_eq!(sampled, Some(time(3)));
    let Loss::AtMost { time, amount, .. } = loss else { panic!("{loss:?}") };
    // The candidate has all of second 2; a sample may be a second older than it says.
    assert_eq!(time, Millis::seconds(8 + 1));
    // 20 behind at second 3, then 7 s at the fastest pace seen, 50 a second.
    assert_eq!(amount.unwrap().value, 20 + 7 * 50 + 1);
}

#[test]
fn growth_stops_when_the_fence_takes_effect() {
    let samples = [sample(1, Some(50)), sample(2, Some(100))];
    let bounded = |until| match bound(&samples, &target("a", 1), &at(100), until).0 {
        Loss::AtMost { time, .. } => time,
        other @ (Loss::Nothing | Loss::Unknown { .. }) => panic!("{other:?}"),
    };
    assert!(bounded(fenced(3)) < bounded(Until { stop: time(60), fenced: false }));
    assert_eq!(bounded(fenced(2)), Millis::seconds(1), "nothing but the sampling's own blur");
}

#[test]
fn what_is_counted_replaces_the_bound() {
    let before = Loss::AtMost { time: Millis::seconds(3), amount: None, because: "bound".into() };
    let none = counted(Some(&at(100)), Some(&at(100)), before.clone()).0;
    assert_eq!(none, Loss::Nothing);
    let Loss::AtMost { amount, .. } = counted(Some(&at(100)), Some(&at(130)), before.clone()).0 else {
        panic!("not counted")
    };
    assert_eq!(amount.unwrap().value, 30);
    assert_eq!(counted(None, Some(&at(130)), before.clone()).0, before);
    assert_eq!(counted(Some(&at(100)), None, before.clone()).0, before);
    let unbounded = Loss::Unknown { because: "no samples".into() };
    assert!(matches!(counted(Some(&at(100)), Some(&at(130)), unbounded).0, Loss::Unknown { .. }));
}

/// People were shown what would be lost if they took twice the time that they have: at most 31 minutes, where 9 seconds were meant.
#[test]
fn bug_people_see_the_loss_of_now_and_agree_to_what_it_may_grow_to() {
    let world = pair();
    *world.samples.lock().unwrap() = vec![sample(990, Some(50)), sample(992, Some(100)), sample(993, Some(120))];
    let (answer, closing) = (Millis::minutes(5), Millis::minutes(1));
    let step = BoundLoss::before_fence(&target("a", 1), &target("b", 1), answer, closing);
    let Observed::Done(bound) = now(Bounding.look(&Call::of(&world).cx(), &step)).unwrap() else { panic!("no bound") };
    let asked = bound.asked.unwrap();
    let at_most = |loss: &Loss| match loss {
        Loss::AtMost { time, .. } => *time,
        Loss::Nothing | Loss::Unknown { .. } => panic!("{loss:?}"),
    };
    // It is second 1000, the candidate has all of second 992, and a sample may be a second older than it says.
    assert_eq!(at_most(&asked.now), Millis::seconds(8 + 1));
    assert_eq!(at_most(&bound.loss), Millis::seconds(8 + 1).saturating_add(answer).saturating_add(closing));
    assert_eq!(asked.good_until, time(1000) + answer);
}
