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
