//! Whether the primary is down, where more than its candidate follows it.

use super::{
    seen,
    world::{Call, World, now, pair, target, three},
};
use crate::{
    base::Millis,
    contract::Tri,
    plan::{
        Look,
        steps::{CheckPrimaryDown, down::PrimaryDown},
    },
};

fn look(world: &std::sync::Arc<World>) -> &'static str {
    let step = CheckPrimaryDown { primary: target("a", 1), candidate: target("b", 1) };
    seen(&now(PrimaryDown.look(&Call::of(world).cx(), &step)))
}

/// The region of the primary is cut off from us and from the candidate.
fn cut_off(world: &World) {
    world.set("a", |a| a.dark = true);
    world.set("b", |b| b.streaming = Tri::No);
}

/// A follower went on receiving from a primary that only the candidate and the engine had lost, and the primary was called down.
#[test]
fn bug_a_follower_that_still_receives_shows_that_the_primary_is_alive() {
    let world = three();
    cut_off(&world);
    assert_eq!(look(&world), "conflict", "`c` receives from it");
    world.set("c", |c| c.follows = Some("a:5432".into()));
    assert_eq!(look(&world), "conflict", "a dark primary tells no endpoint, and `c` receives from no other standby");
}

/// A follower vetoes; it is no fourth place for silence, and what it receives from elsewhere says nothing of the primary.
#[test]
fn what_another_standby_says_only_ever_speaks_for_life() {
    type Change = fn(&World);
    let table: [(&str, Change, &str); 6] = [
        ("it receives nothing either", |w| w.set("c", |c| c.streaming = Tri::No), "done"),
        ("it does not answer", |w| w.set("c", |c| c.dark = true), "done"),
        ("its reading is too old", |w| w.set("c", |c| c.metric.1 = Millis::minutes(5)), "done"),
        ("it is a standby of the candidate", |w| w.set("c", |c| c.follows = Some("res-b".into())), "done"),
        ("the same, by endpoint", |w| w.set("c", |c| c.follows = Some("b:5432".into())), "done"),
        ("it follows nobody", |w| w.set("c", |c| c.follows = None), "done"),
    ];
    for (name, change, want) in table {
        let world = three();
        cut_off(&world);
        change(&world);
        assert_eq!(look(&world), want, "{name}");
    }
    let world = pair();
    cut_off(&world);
    assert_eq!(look(&world), "done", "a pair");
}

/// One late reading said that the stream lives, and the failover of a dead primary was refused at once.
#[test]
fn bug_one_late_reading_of_a_live_stream_refuses_no_failover() {
    let world = pair();
    cut_off(&world);
    world.set("b", |b| b.streaming = Tri::Yes);
    *world.meanwhile.lock().unwrap() = Some(|b| b.streaming = Tri::No);
    assert_eq!(look(&world), "not yet", "two looks differ: it is looked at again");
    assert_eq!(look(&world), "done", "and then seen down twice");
}

/// A primary that comes back between the looks is looked at again, and refused when it is seen alive twice.
#[test]
fn a_primary_that_comes_back_between_two_looks_is_not_down() {
    let world = pair();
    cut_off(&world);
    *world.meanwhile.lock().unwrap() = Some(|b| b.streaming = Tri::Yes);
    assert_eq!(look(&world), "not yet");
    assert_eq!(look(&world), "conflict");
}
