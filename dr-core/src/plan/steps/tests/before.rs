//! Checks, facts and the question.

use super::{
    seen,
    world::{Call, World, now, pair, target},
};
use crate::{
    base::Millis,
    contract::{Tri, admit::differences},
    plan::{
        Handler, Look, Prepared,
        steps::{
            AskConsent, CheckCandidate, CheckLag, CheckReplication, CheckSides, FactSpec, TakeGroupLock,
            checks::{Candidate, Lag, ReplicationHealth, Sides},
            consent::Asking,
            facts,
            lock::GroupLock,
        },
    },
};

type Change = fn(&World);

/// Covers D01, E02, E03, E07: what is violated for good stops, what may come is waited for.
#[test]
fn both_sides_are_what_the_plan_expects() {
    let table: [(&str, Change, &str); 13] = [
        ("as planned", |_| (), "done"),
        ("the primary follows", |w| w.set("a", |a| a.follows = Some("res-b".into())), "conflict"),
        ("the primary is in recovery", |w| w.set("a", |a| a.in_recovery = Tri::Yes), "conflict"),
        ("the primary has another history", |w| w.set("a", |a| a.generation = 2), "conflict"),
        ("the primary is another resource", |w| w.set("a", |a| a.address = "res-x".into()), "conflict"),
        ("the primary was made anew", |w| w.set("a", |a| a.identity = "uid-x".into()), "conflict"),
        ("the standby was made anew", |w| w.set("b", |b| b.identity = "uid-x".into()), "conflict"),
        ("the primary is ill", |w| w.set("a", |a| a.healthy = Tri::No), "not yet"),
        ("the provider is at work", |w| w.set("a", |a| a.busy = Some("patching".into())), "not yet"),
        ("the candidate is no replica", |w| w.set("b", |b| b.follows = None), "conflict"),
        ("the candidate follows another", |w| w.set("b", |b| b.follows = Some("res-x".into())), "conflict"),
        ("the candidate writes", |w| w.set("b", |b| b.in_recovery = Tri::No), "conflict"),
        ("the primary is silent", |w| w.set("a", |a| a.dark = true), "error"),
    ];
    let step = CheckSides { primary: target("a", 1), candidate: target("b", 1) };
    for (name, change, want) in table {
        let world = pair();
        change(&world);
        assert_eq!(seen(&now(Sides.look(&Call::of(&world).cx(), &step))), want, "{name}");
    }
    let world = pair();
    world.set("a", |a| a.dark = true);
    let step = CheckCandidate { primary: target("a", 1), candidate: target("b", 1) };
    assert_eq!(
        seen(&now(Candidate.look(&Call::of(&world).cx(), &step))),
        "done",
        "a failover asks the candidate alone"
    );
}

/// Covers D02, D03, X13: an unknown lag is no small one and may come to be known, a large one may shrink, another history never becomes the right one.
#[test]
fn replication_and_lag() {
    let receives: [(&str, Change, &str); 4] = [
        ("streams", |_| (), "done"),
        ("detached", |w| w.set("b", |b| b.streaming = Tri::No), "not yet"),
        ("nobody can say", |w| w.set("b", |b| b.streaming = Tri::Unknown), "not yet"),
        ("diverged", |w| w.set("b", |b| b.generation = 2), "conflict"),
    ];
    for (name, change, want) in receives {
        let world = pair();
        change(&world);
        let step = CheckReplication { candidate: target("b", 1) };
        assert_eq!(seen(&now(ReplicationHealth.look(&Call::of(&world).cx(), &step))), want, "{name}");
    }
    for (lag, want) in [(Some(9), "done"), (Some(10), "done"), (Some(11), "not yet"), (None, "not yet")] {
        let world = pair();
        world.set("b", |b| b.lag = lag.map(Millis::seconds));
        let step = CheckLag { candidate: target("b", 1), at_most: Millis::seconds(10) };
        assert_eq!(seen(&now(Lag.look(&Call::of(&world).cx(), &step))), want, "{lag:?}");
    }
}

/// A metric that is measured once a minute was never fresh enough, and one missing point of it ended the run.
#[test]
fn bug_a_slow_metric_is_fresh_for_two_of_its_measurements() {
    for (cadence, age, want) in [(0, 60, "done"), (0, 61, "not yet"), (60, 110, "done"), (60, 121, "not yet")] {
        let world = pair();
        let metric = (Millis::seconds(cadence), Millis::seconds(age));
        for member in ["a", "b"] {
            world.set(member, |server| server.metric = metric);
        }
        let cx = || Call::of(&world).cx();
        let (primary, candidate) = (target("a", 1), target("b", 1));
        let lag = CheckLag { candidate: candidate.clone(), at_most: Millis::seconds(10) };
        assert_eq!(seen(&now(Lag.look(&cx(), &lag))), want, "lag, {metric:?}");
        let receives = CheckReplication { candidate: candidate.clone() };
        assert_eq!(seen(&now(ReplicationHealth.look(&cx(), &receives))), want, "replication, {metric:?}");
        assert_eq!(seen(&now(Sides.look(&cx(), &CheckSides { primary, candidate }))), want, "sides, {metric:?}");
    }
}

#[test]
fn the_lock_is_held_by_one_orchestrator() {
    let world = pair();
    let step = TakeGroupLock { at: "b".into() };
    assert_eq!(seen(&now(GroupLock.look(&Call::of(&world).cx(), &step))), "done");
    world.set("b", |b| b.locked = true);
    assert_eq!(seen(&now(GroupLock.look(&Call::of(&world).cx(), &step))), "conflict");
}

/// Covers E02, E04: a consent is void when a material fact changes, and only then.
#[test]
fn facts_are_compared_as_they_are_declared() {
    let member = |name: &str| crate::base::MemberId::new(name);
    let step = AskConsent {
        rehearsed: None,
        loss_limit: None,
        people_beyond: 2,
        question: "switch over?".into(),
        watch: vec![
            FactSpec::Writer { member: member("a") },
            FactSpec::Candidate { member: member("b") },
            FactSpec::Streaming { member: member("b") },
            FactSpec::Lag { member: member("b"), at_most: Millis::seconds(10) },
            FactSpec::Transactions { member: member("a"), limit: Millis::seconds(30) },
            FactSpec::Positions { primary: member("a"), candidate: member("b") },
            FactSpec::Backup { member: member("a") },
        ],
        loss: None,
        people: 1,
        roles: Vec::new(),
        expires_in: Millis::minutes(15),
    };
    let changes: [(&str, Change, &[&str]); 6] = [
        ("nothing", |_| (), &[]),
        ("positions move", |w| w.set("a", |a| a.durable = 500), &[]),
        ("the lag stays small", |w| w.set("b", |b| b.lag = Some(Millis::seconds(10))), &[]),
        ("the lag grows", |w| w.set("b", |b| b.lag = Some(Millis::seconds(11))), &["lag"]),
        ("the lag is lost", |w| w.set("b", |b| b.lag = None), &["lag"]),
        (
            "somebody promotes",
            |w| w.set("b", |b| (b.streaming = Tri::No, b.generation = 2).1),
            &["candidate", "streaming"],
        ),
    ];
    for (name, change, want) in changes {
        let world = pair();
        let cx = Call::of(&world).cx();
        let Prepared::Ready(shown) = now(Asking.prepare(&cx, &step)).unwrap() else { panic!("no facts") };
        change(&world);
        let again = now(facts::read(&cx, &step.watch)).unwrap();
        let found = differences(&shown.facts, &again);
        assert_eq!(found.len(), want.len(), "{name}: {found:?}");
        assert!(found.iter().zip(want).all(|(line, fact)| line.starts_with(fact)), "{name}: {found:?}");
    }
    let world = pair();
    world.set("a", |a| a.dark = true);
    assert!(now(step.gather(&Call::of(&world).cx())).is_err(), "a material fact that cannot be read is no fact");
}
