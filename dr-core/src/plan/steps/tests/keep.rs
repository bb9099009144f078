//! What nobody waits for: protections of the new writer, and a copy of what the former one lost. And who may be destroyed.

use super::{
    after::{promotion, writer},
    ready, seen, sent,
    world::{Call, World, from, now, pair, promoted, resolved, target, value},
};
use crate::{
    contract::{
        Hardening, ManagedDatabase, Protection, Protections, RecoveryPoint, RestoreReceipt, Shape, Tri,
        admit::{self, Refused},
    },
    plan::{
        Handler,
        steps::{
            HardenWriter, PreserveOldSide,
            keep::{Hardened, Preserving},
        },
    },
};

const AVAILABLE: Hardening =
    Hardening { high_availability: true, deletion_protection: false, point_in_time: false, retention: None };

const BARE: Protections = Protections {
    high_availability: Tri::No,
    deletion_protection: Tri::No,
    point_in_time: Tri::No,
    retention: None,
    at: crate::base::Timestamp::from_millis(0),
};

fn harden() -> HardenWriter {
    resolved(&HardenWriter::of(&"b".into(), &from("writer"), AVAILABLE), &[("writer", value(&writer()))])
}

fn after_the_change() -> std::sync::Arc<World> {
    let world = pair();
    world.set("b", promoted);
    world.set("b", |b| (b.protections, b.can) = (Some(BARE), vec![Protection::HighAvailability]));
    world
}

#[test]
fn the_confirmed_writer_gets_what_it_lacks_and_nobody_else() {
    type Change = fn(&World);
    let table: [(&str, Change, &str); 6] = [
        ("it lacks something", |_| (), "ready"),
        ("it has it", |w| w.set("b", |b| b.protections.as_mut().unwrap().high_availability = Tri::Yes), "already done"),
        ("its provider does not tell", |w| w.set("b", |b| b.protections = None), "error"),
        ("it cannot be turned on from here", |w| w.set("b", |b| b.can.clear()), "conflict"),
        ("it is another resource", |w| w.set("b", |b| b.identity = "uid-x".into()), "conflict"),
        ("it is dark", |w| w.set("b", |b| b.dark = true), "error"),
    ];
    for (name, change, want) in table {
        let world = after_the_change();
        change(&world);
        assert_eq!(ready(&now(Hardened.prepare(&Call::of(&world).cx(), &harden()))), want, "{name}");
    }
    // Another member than the confirmed one is never protected.
    let other = resolved(&HardenWriter::of(&"a".into(), &from("writer"), AVAILABLE), &[("writer", value(&writer()))]);
    assert_eq!(ready(&now(Hardened.prepare(&Call::of(&after_the_change()).cx(), &other))), "conflict");
}

#[test]
fn protections_count_when_they_are_seen() {
    let world = after_the_change();
    let may = || Call::of(&world).intended().may("b", "harden").cx();
    assert_eq!(seen(&now(Hardened.observe(&Call::of(&world).cx(), &harden()))), "not started");
    world.obeys.store(false, std::sync::atomic::Ordering::SeqCst);
    assert_eq!(sent(&now(Hardened.submit(&may(), &harden()))), "accepted", "it says done, and nothing is seen of it");
    assert_eq!(seen(&now(Hardened.observe(&may(), &harden()))), "not yet");
    world.obeys.store(true, std::sync::atomic::Ordering::SeqCst);
    assert_eq!(sent(&now(Hardened.submit(&may(), &harden()))), "done");
    assert_eq!(world.sent(), ["harden b [HighAvailability]"; 2]);
}

#[test]
fn what_was_lost_is_copied_once_its_provider_keeps_it() {
    let world = after_the_change();
    let step = PreserveOldSide::of(&target("a", 1), &from("promote"));
    let step = resolved(&step, &[("promote", value(&promotion(Shape::BuiltInFence)))]);
    let may = || Call::of(&world).intended().may("a", "preserve").cx();
    assert_eq!(seen(&now(Preserving.observe(&may(), &step))), "not started");
    assert_eq!(sent(&now(Preserving.submit(&may(), &step))), "not done", "the member has not come back");
    world.set("a", |a| a.keeps = true);
    assert_eq!(sent(&now(Preserving.submit(&may(), &step))), "done");
    assert_eq!(seen(&now(Preserving.observe(&may(), &step))), "done");
}

/// Who may be destroyed: a standby of the writer that nobody follows, as the resource that the plan means.
#[test]
fn only_a_member_that_has_nothing_of_its_own_may_be_destroyed() {
    type Change = fn(&World);
    let table: [(&str, Change, Option<&str>); 10] = [
        ("a standby", |_| (), None),
        ("it is another resource", |w| w.set("b", |b| b.identity = "uid-x".into()), Some("uid-x")),
        ("it follows nobody", |w| w.set("b", |b| b.follows = None), Some("does not follow")),
        ("it follows a stranger", |w| w.set("b", |b| b.follows = Some("res-x".into())), Some("does not follow")),
        ("it is followed", |w| w.set("b", |b| b.followers = vec!["res-c"]), Some("is followed by")),
        ("its provider does not say", |w| w.set("b", |b| b.writable = Tri::Unknown), Some("unknown")),
        ("its provider calls it a writer", |w| w.set("b", |b| b.writable = Tri::Yes), Some("yes")),
        ("it accepts a write", |w| w.set("b", |b| b.accepts = Tri::Yes), Some("was accepted")),
        ("a write hangs", |w| w.set("b", |b| b.accepts = Tri::Unknown), Some("unknown")),
        ("it is dark", |w| w.set("b", |b| b.dark = true), Some("could not be looked at")),
    ];
    for (name, change, refused) in table {
        let world = pair();
        world.set("b", |b| b.writable = Tri::No);
        change(&world);
        let cx = Call::of(&world).cx();
        let (database, probe) = (cx.database(&"b".into()).unwrap(), cx.probe(&"b".into()).unwrap());
        let (standby, primary) = (target("b", 1), target("a", 1));
        let proof = now(admit::not_writer(&cx.door(), database.as_ref(), probe.as_ref(), &standby, (&primary, None)));
        match (proof, refused) {
            (Ok(proof), None) => assert_eq!(proof.target(), &standby),
            (Err(error), Some(words)) => assert!(error.to_string().contains(words), "{name}: {error}"),
            (proof, _) => panic!("{name}: {proof:?}"),
        }
    }
    // Without an identity nobody knows what would be destroyed.
    let world = pair();
    world.set("b", |b| b.writable = Tri::No);
    let cx = Call::of(&world).cx();
    let (database, probe) = (cx.database(&"b".into()).unwrap(), cx.probe(&"b".into()).unwrap());
    let unpinned = crate::contract::Target { identity: None, ..target("b", 1) };
    let proof =
        now(admit::not_writer(&cx.door(), database.as_ref(), probe.as_ref(), &unpinned, (&target("a", 1), None)));
    assert!(matches!(proof, Err(Refused::Lost { .. })), "{proof:?}");
}

/// What a run restored it may destroy again, and nothing that another run restored or that was made anew under the address.
#[test]
fn a_run_may_destroy_what_it_made() {
    let world = pair();
    let cx = Call::of(&world).cx();
    let database = cx.database(&"b".into()).unwrap();
    let point = RecoveryPoint { source: target("a", 1), at: crate::base::Timestamp::default() };
    let mine = RestoreReceipt {
        run: super::world::run(),
        target: target("b", 1),
        point,
        at: crate::base::Timestamp::default(),
    };
    let admit = |receipt: &RestoreReceipt| {
        let database: &dyn ManagedDatabase = database.as_ref();
        now(admit::own_making(&cx.door(), database, receipt))
    };
    assert_eq!(admit(&mine).unwrap().target(), &mine.target);
    let other = RestoreReceipt { run: crate::base::RunId::new("other".into(), 9), ..mine.clone() };
    assert!(matches!(admit(&other), Err(Refused::Foreign { .. })));
    world.set("b", |b| b.identity = "uid-x".into());
    assert!(matches!(admit(&mine), Err(Refused::Lost { .. })));
}
