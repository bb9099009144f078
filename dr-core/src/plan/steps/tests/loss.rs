//! Bounds and counts of what is lost (covers E10, S3).

use super::world::{Call, at, lineage, now, pair, target};
use crate::{
    base::{Millis, Timestamp},
    contract::{LagSample, Loss, PositionSample, Replication, Tri},
    plan::{
        Look, Observed,
        steps::{
            BoundLoss, lags,
            loss::{Bounding, Until, bound, counted},
        },
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
        lags: Vec::new(),
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

fn lag(member: &str, measured: i64, behind: u64, cadence: u64) -> LagSample {
    let lineage = Some(lineage(1));
    LagSample {
        member: member.into(),
        lineage,
        behind: Millis::new(behind),
        cadence: Millis::new(cadence),
        measured: Timestamp::from_millis(measured),
    }
}

fn with_lags(lags: Vec<LagSample>) -> PositionSample {
    PositionSample { lags, ..sample(0, None) }
}

fn from_lags(samples: &[PositionSample], until: Until) -> Option<(Millis, Timestamp)> {
    match lags::bound(samples, &target("a", 1), &"b".into(), until)? {
        (Loss::AtMost { time, .. }, Some(at)) => Some((time, at)),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_lag_bounds_the_loss_from_when_it_was_measured() {
    let samples = [
        with_lags(vec![lag("b", 60_000, 400, 60_000), lag("c", 90_000, 0, 0)]),
        // Published out of order, and one that was measured when the old side was fenced already.
        with_lags(vec![lag("b", 0, 0, 60_000)]),
        with_lags(vec![lag("b", 130_000, 0, 60_000)]),
        with_lags(vec![LagSample { lineage: Some(lineage(2)), ..lag("b", 100_000, 0, 60_000) }]),
    ];
    let (time, sampled) = from_lags(&samples, fenced(120)).unwrap();
    assert_eq!(time, Millis::new(400 + 60_000 + 60_000), "behind, since the measurement, and one interval");
    assert_eq!(sampled, Timestamp::from_millis(60_000));
    assert_eq!(from_lags(&samples[3..], fenced(120)), None, "another history's lag says nothing");
}

/// MI and Aurora tell how far a standby is behind, and no positions: the loss was called unknown.
#[test]
fn bug_a_loss_without_positions_is_bounded_by_the_lag() {
    let world = pair();
    world.set("b", |b| b.positions = false);
    let step = BoundLoss::before_fence(&target("a", 1), &target("b", 1), Millis::minutes(5), Millis::minutes(1));
    let looked = || {
        let Observed::Done(bound) = now(Bounding.look(&Call::of(&world).cx(), &step)).unwrap() else { panic!("none") };
        bound
    };
    let Loss::Unknown { because } = looked().loss else { panic!("no sample has a lag") };
    assert_eq!(because, "the data plane of b tells no positions, and no sample has a lag of it");
    *world.samples.lock().unwrap() = vec![with_lags(vec![lag("b", 940_000, 2_000, 60_000)])];
    let Loss::AtMost { time, amount: None, because } = looked().asked.unwrap().now else { panic!("unknown") };
    assert_eq!(time, Millis::seconds(2 + 60 + 60));
    let words = "b was 2 s behind when its provider measured it at 1970-01-01T00:15:40";
    assert!(because.starts_with(words), "{because}");
}

#[test]
fn the_lag_of_a_stream_that_stopped_is_no_sample() {
    let reading = Replication {
        streaming: Tri::Yes,
        lineage: Some(lineage(1)),
        received: None,
        applied: None,
        lag: Some(Millis::new(400)),
        cadence: Millis::ZERO,
        at: time(20),
    };
    let kept = |reading: &Replication| LagSample::of(&"b".into(), reading, time(10));
    assert_eq!(kept(&reading).unwrap().measured, time(10), "nothing is measured later than it is read");
    assert_eq!(kept(&Replication { streaming: Tri::No, ..reading.clone() }), None);
    assert_eq!(kept(&Replication { streaming: Tri::Unknown, ..reading.clone() }), None);
    assert_eq!(kept(&Replication { lag: None, ..reading }), None);
}

/// Numbers that are the same for one seed.
struct Dice(u64);

impl Dice {
    fn up_to(&mut self, most: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % (most + 1)
    }
}

/// A standby that hangs, catches up and hangs again; a metric of it that is published late, with points left out and out of order, each
/// stamped anywhere within its interval. Whatever is promoted when: the bound is never below what is lost.
#[test]
fn no_metric_that_is_old_makes_the_bound_too_small() {
    for seed in 0..3_000 {
        let mut dice = Dice(seed);
        let cadence = [1, 1_000, 5_000, 60_000][usize::try_from(dice.up_to(3)).unwrap()];
        let (stop, late) = (600_000 + dice.up_to(600_000), dice.up_to(300_000));
        // What the standby has at each second: everything up to some moment, which only grows.
        let mut has = vec![0_u64];
        for second in 1..=stop / 1_000 {
            let (before, newest) = (*has.last().unwrap(), second * 1_000);
            let stuck = dice.up_to(3) == 0;
            has.push(if stuck { before } else { before + dice.up_to(newest - before) });
        }
        let mut samples = Vec::new();
        let mut measured = dice.up_to(cadence);
        while measured + late <= stop {
            if dice.up_to(4) > 0 {
                let behind = measured - has[usize::try_from(measured / 1_000).unwrap()].min(measured);
                // The point is stamped with the begin or the end of its interval, or any moment between.
                let stamped = measured + dice.up_to(cadence);
                let one = lag("b", i64::try_from(stamped).unwrap(), behind, cadence);
                samples.insert(usize::try_from(dice.up_to(samples.len() as u64)).unwrap(), with_lags(vec![one]));
            }
            measured += cadence.max(1_000);
        }
        let until = Until { stop: Timestamp::from_millis(i64::try_from(stop).unwrap()), fenced: dice.up_to(1) == 0 };
        let lost = stop - *has.last().unwrap();
        if let Some((bound, _)) = from_lags(&samples, until) {
            assert!(bound.count() >= lost, "seed {seed}: {} ms bounded, {lost} ms lost", bound.count());
        }
    }
}
