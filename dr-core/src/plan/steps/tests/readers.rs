//! Readers find standbys of the new writer, or the writer.

use std::{collections::BTreeSet, sync::Arc};

use super::{
    after::writer,
    ready, seen, sent,
    world::{Call, World, from, now, pair, promoted, resolved, value},
};
use crate::{
    base::MemberId,
    contract::Tri,
    plan::{
        Handler,
        steps::{ShiftReaders, readers::Spreading},
    },
};

/// `b` was promoted, and `a` may have become its standby.
fn changed(rejoined: bool) -> Arc<World> {
    let world = pair();
    world.set("b", promoted);
    if rejoined {
        world.set("a", |a| (a.follows, a.streaming) = (Some("res-b".into()), Tri::Yes));
    }
    world
}

fn step() -> ShiftReaders {
    let members = ["a", "b", "far"].map(MemberId::new);
    resolved(&ShiftReaders::of(&"reports".into(), members, &from("writer")), &[("writer", value(&writer()))])
}

fn names(list: &[&str]) -> BTreeSet<MemberId> {
    list.iter().map(|name| MemberId::new(*name)).collect()
}

/// Where readers are sent, given where the route sent them: never to a member that does not receive from the writer. What the plan does not
/// bind (`far`) stays as it is.
#[test]
fn readers_are_sent_to_standbys_that_receive_and_else_to_the_writer() {
    let table: [(&str, bool, &[&str], &[&str]); 6] = [
        ("the former primary is away", false, &["a"], &["b"]),
        ("the route led to the writer already", false, &["b"], &["b"]),
        ("the former primary follows", true, &["b"], &["a"]),
        ("a member that is not bound stays, and is enough", false, &["far"], &["far"]),
        ("a member that is not bound stays beside the standby", true, &["b", "far"], &["a", "far"]),
        ("nobody was named", true, &[], &["a"]),
    ];
    for (name, rejoined, before, after) in table {
        let world = changed(rejoined);
        *world.readers.lock().unwrap() = (names(before), Tri::Yes);
        let cx = || Call::of(&world).intended().may("readers:reports", "spread").cx();
        let there = names(before) == names(after);
        assert_eq!(seen(&now(Spreading.observe(&cx(), &step()))), if there { "done" } else { "not started" }, "{name}");
        assert_eq!(
            ready(&now(Spreading.prepare(&cx(), &step()))),
            if there { "already done" } else { "ready" },
            "{name}"
        );
        assert_eq!(sent(&now(Spreading.submit(&cx(), &step()))), "done", "{name}");
        assert_eq!(world.readers.lock().unwrap().0, names(after), "{name}");
    }
}

#[test]
fn a_standby_that_does_not_stream_gets_no_readers() {
    let world = changed(true);
    world.set("a", |a| a.streaming = Tri::Unknown);
    let cx = || Call::of(&world).intended().may("readers:reports", "spread").cx();
    assert_eq!(sent(&now(Spreading.submit(&cx(), &step()))), "done");
    assert_eq!(world.readers.lock().unwrap().0, names(&["b"]));
    // A stranger among the origins: it is not done until the route says that it sends to members only.
    *world.readers.lock().unwrap() = (names(&["b"]), Tri::No);
    assert_eq!(seen(&now(Spreading.observe(&cx(), &step()))), "in progress");
    assert_eq!(ready(&now(Spreading.prepare(&cx(), &step()))), "ready");
    *world.readers.lock().unwrap() = (names(&["b"]), Tri::Unknown);
    assert_eq!(seen(&now(Spreading.observe(&cx(), &step()))), "not yet");
}

#[test]
fn readers_follow_no_writer_that_is_none_any_more() {
    let world = changed(true);
    world.set("b", |b| b.in_recovery = Tri::Yes);
    assert_eq!(ready(&now(Spreading.prepare(&Call::of(&world).cx(), &step()))), "conflict");
}
