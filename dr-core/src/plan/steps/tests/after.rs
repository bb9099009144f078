//! The writer is confirmed, clients are sent to it, the former primary comes back.

use std::sync::Arc;

use super::{
    ready, seen, sent,
    world::{
        Call, Server, World, at, consent, fence_receipt, from, lineage, now, pair, plan, promoted, resolved, run,
        target, token, value,
    },
};
use crate::{
    base::{Actor, Digest, Endpoint, Epoch, Json, MemberId, SecretVersion, Timestamp, canonical},
    contract::{
        Accepted, Given, Grade, NotDone, OpHandle, Outcome, Parted, Planes, PromotionReceipt, Retry, SecretReference,
        Shape, Target, Tri, Waived, WriterOrigin, WriterReceipt,
    },
    plan::{
        Attempted, Handler, Look, Observed, Polled,
        steps::{
            AttachStandby, AwaitRejoined, AwaitSnapshot, BeginSnapshot, CheckWriter, ConfirmWriter, Drain,
            FinalSnapshot, FollowWriter, PointSecret, RejoinMember, ResumeWrites, RetireMemberFence, SnapshotBegun,
            attach::Attaching,
            before::{Snapshot, SnapshotBegins, SnapshotEnds},
            confirm::{Confirming, WriterStill},
            drain::{Draining, Resuming},
            fence::Retiring,
            follow::Following,
            rejoin::{Rejoined, Rejoining},
            secret::Pointing,
        },
    },
    run::{Event, Head, Record, RunState},
};

pub(super) fn promotion(shape: Shape) -> PromotionReceipt {
    PromotionReceipt {
        run: run(),
        target: target("b", 2),
        was: lineage(1),
        parted_at: Parted::At(at(100)),
        not_compared: None,
        shape,
        attribution: None,
        claimed_by: Vec::new(),
        asked_at: Timestamp::default(),
        at: Timestamp::default(),
    }
}

pub(super) fn writer() -> WriterReceipt {
    WriterReceipt {
        run: run(),
        target: Target { lineage: lineage(2), ..target("b", 2) },
        endpoint: Endpoint::new("b:5432"),
        origin: WriterOrigin::Observed,
        old_side: Grade::Confirmed,
        waived: None,
        at: Timestamp::default(),
    }
}

/// Covers S1, D16, E01: with a fence of our own, the fence is what the other side is worth.
#[test]
fn one_writer_beside_a_fence() {
    type Change = fn(&World);
    let table: [(&str, Change, &str); 8] = [
        ("one writer", |_| (), "done"),
        ("its provider still shows an edge", |w| w.set("b", |b| b.follows = Some("res-a".into())), "not yet"),
        ("it refuses a write", |w| w.set("b", |b| b.accepts = Tri::No), "not yet"),
        ("a write hangs", |w| w.set("b", |b| b.accepts = Tri::Unknown), "not yet"),
        ("it was promoted once more", |w| w.set("b", |b| b.generation = 3), "conflict"),
        ("it is another resource", |w| w.set("b", |b| b.address = "res-x".into()), "conflict"),
        ("it was made anew under its name", |w| w.set("b", |b| b.identity = "uid-x".into()), "conflict"),
        ("the fence was lifted", |w| w.set("a", |a| a.planes = Planes::default()), "conflict"),
    ];
    for (name, change, want) in table {
        let world = pair();
        world.set("a", |a| a.planes = Planes::all(Grade::Confirmed));
        world.set("b", promoted);
        change(&world);
        let step = ConfirmWriter::of(&from("promote"), &target("a", 1)).fenced_by(&from("fence"));
        let step = resolved(
            &step,
            &[("promote", value(&promotion(Shape::SeparateFence))), ("fence", value(&fence_receipt(None)))],
        );
        assert_eq!(seen(&now(Confirming.look(&Call::of(&world).cx(), &step))), want, "{name}");
    }
}

/// The promoted server left recovery and took a write, then its provider restarted it under the applications.
#[test]
fn bug_the_writer_was_confirmed_before_its_restart() {
    let world = pair();
    world.set("a", |a| a.planes = Planes::all(Grade::Confirmed));
    world.set("b", promoted);
    world.set("b", |b| b.busy = Some("backing-up".into()));
    let step = ConfirmWriter::of(&from("promote"), &target("a", 1)).fenced_by(&from("fence"));
    let outputs = [("promote", value(&promotion(Shape::SeparateFence))), ("fence", value(&fence_receipt(None)))];
    let look = |step: &ConfirmWriter| seen(&now(Confirming.look(&Call::of(&world).cx(), &resolved(step, &outputs))));
    assert_eq!(look(&step), "done", "nothing follows where the offer says so");
    assert_eq!(look(&step.clone().after_its_restart()), "not yet");
    world.set("b", |b| b.busy = None);
    assert_eq!(look(&step.after_its_restart()), "done");
}

/// A fence that lets nobody in was confirmed, and the server writes all the same: the reading was about something else. It is fenced
/// again at once, and the run stops with both names.
#[test]
fn bug_a_write_that_passes_behind_a_silent_fence_is_a_second_writer() {
    let world = pair();
    world.set("a", |a| a.planes = Planes::all(Grade::Confirmed));
    world.set("b", promoted);
    let fence = crate::contract::FenceReceipt { silent: true, ..fence_receipt(None) };
    let outputs = [
        ("promote", value(&promotion(Shape::SeparateFence))),
        ("fence", value(&fence)),
        ("confirm-writer", value(&writer())),
    ];
    let confirm = ConfirmWriter::of(&from("promote"), &target("a", 1)).fenced_by(&from("fence"));
    let looked = now(Confirming.look(&Call::of(&world).cx(), &resolved(&confirm, &outputs)));
    let Ok(Observed::Conflict(cause)) = &looked else { panic!("{looked:?}") };
    let words = cause.to_string();
    assert!(words.contains("two writers: `a`") && words.contains("it was fenced again at once"), "{words}");
    let check = CheckWriter::of(&from("confirm-writer")).fenced_by(&from("fence"), Grade::Confirmed);
    assert_eq!(seen(&now(WriterStill.look(&Call::of(&world).cx(), &resolved(&check, &outputs)))), "conflict");
    assert_eq!(world.sent().len(), 2, "each look fenced it again: {:?}", world.sent());
    world.set("a", |a| a.accepts = Tri::No);
    assert_eq!(seen(&now(Confirming.look(&Call::of(&world).cx(), &resolved(&confirm, &outputs)))), "done");
}

/// Covers S1: after a swap the other side is read back; a second writer is never waited out.
#[test]
fn one_writer_after_a_swap() {
    type Change = fn(&World);
    let demoted: Change = |w| {
        w.set("a", |a| {
            a.follows = Some("res-b".into());
            a.in_recovery = Tri::Yes;
            a.accepts = Tri::No;
        });
    };
    let refuses: Change = |w| w.set("a", |a| a.accepts = Tri::No);
    let told: Change = |w| {
        w.set("a", |a| {
            a.accepts = Tri::No;
            a.swap_fence = Some(Planes::all(Grade::Enforced));
        });
    };
    let table: [(&str, Change, Grade, &str); 8] = [
        ("demoted under the writer", demoted, Grade::RoleSwap, "done"),
        ("two writers", |_| (), Grade::Unconfirmable, "conflict"),
        ("refuses writes, but follows nobody", refuses, Grade::Confirmed, "not yet"),
        ("dark", |w| w.set("a", |a| a.dark = true), Grade::Enforced, "not yet"),
        ("dark, and people took the risk", |w| w.set("a", |a| a.dark = true), Grade::Unconfirmable, "done"),
        ("the provider tells of its fence", told, Grade::Enforced, "done"),
        ("that fence is not enough", told, Grade::Confirmed, "not yet"),
        (
            "called a follower, but not in recovery",
            |w| w.set("a", |a| (a.follows = Some("res-b".into()), a.accepts = Tri::No).1),
            Grade::Confirmed,
            "not yet",
        ),
    ];
    for (name, change, minimum, want) in table {
        let world = pair();
        world.set("b", promoted);
        change(&world);
        let step = ConfirmWriter::of(&from("swap"), &target("a", 1)).at_least(minimum);
        let step = resolved(&step, &[("swap", value(&promotion(Shape::BuiltInFence)))]);
        assert_eq!(seen(&now(Confirming.look(&Call::of(&world).cx(), &step))), want, "{name}");
    }
}

pub(super) fn accepted(world: &Arc<World>, people: &[&str], until: i64) -> Waived {
    let given = |name: &&str| Given {
        by: Actor::local(*name).authenticated("a test", *name),
        role: None,
        choice: crate::run::APPROVE.into(),
        at: world.now(),
        note: None,
    };
    Waived {
        run: run(),
        plan: plan().hash().unwrap(),
        ask: Digest::zero(),
        given: people.iter().map(given).collect(),
        reason: "its region is dark".into(),
        accepts: Accepted::Grade(Grade::Unconfirmable),
        owes: Some("fence a".into()),
        expires: Timestamp::from_millis(world.now().millis() + until),
    }
}

/// A forced swap whose former primary does not answer parked behind the promotion for good.
#[test]
fn bug_a_grade_that_nothing_raises_is_asked_about() {
    type Change = fn(&World);
    type Said = Option<(&'static [&'static str], i64)>;
    let dark: Change = |w| w.set("a", |a| a.dark = true);
    let table: [(&str, Change, bool, Said, &str); 8] = [
        ("it is dark", dark, true, None, "short"),
        ("nobody may accept less", dark, false, None, "not yet"),
        ("two accepted it", dark, true, Some((&["ana", "ben"], 0)), "done"),
        ("one accepted it", dark, true, Some((&["ana"], 0)), "short"),
        ("one accepted it twice", dark, true, Some((&["ana", "ana"], 0)), "short"),
        ("what they said has expired", dark, true, Some((&["ana", "ben"], -1)), "short"),
        ("it says that it is a writer", |w| w.set("a", |a| a.accepts = Tri::Unknown), true, None, "not yet"),
        ("it takes a write", |_| (), true, Some((&["ana", "ben"], 0)), "conflict"),
    ];
    for (name, change, asks, waived, want) in table {
        let world = pair();
        world.set("b", promoted);
        change(&world);
        let step = ConfirmWriter::of(&from("swap"), &target("a", 1)).at_least(Grade::Enforced);
        let step = if asks { step.or_accepted() } else { step };
        let step = resolved(&step, &[("swap", value(&promotion(Shape::BuiltInFence)))]);
        let call = Call::of(&world);
        let call = match waived {
            Some((people, until)) => call.waived(accepted(&world, people, until)),
            None => call,
        };
        let found = now(Confirming.look(&call.cx(), &step));
        assert_eq!(seen(&found), want, "{name}: {found:?}");
        if let Ok(Observed::Done(receipt)) = found {
            assert_eq!(receipt.waived.map(|waived| waived.accepts), Some(Accepted::Grade(receipt.old_side)), "{name}");
        }
    }
}

#[test]
fn a_writer_is_checked_once_more_before_the_applications() {
    let world = pair();
    world.set("b", promoted);
    let step = resolved(&CheckWriter::of(&from("writer")), &[("writer", value(&writer()))]);
    let look = || seen(&now(WriterStill.look(&Call::of(&world).cx(), &step)));
    assert_eq!(look(), "done");
    world.set("b", |b| b.accepts = Tri::Unknown);
    assert_eq!(look(), "not yet");
    world.set("b", |b| b.generation = 3);
    assert_eq!(look(), "conflict");
}

/// A fence that fell while secret and routes were moved keeps the applications held back.
#[test]
fn a_fence_is_looked_at_once_more_before_the_applications() {
    type Change = fn(&World);
    let table: [(&str, Change, &str); 3] = [
        ("it holds", |_| (), "done"),
        ("it was lifted", |w| w.set("a", |a| a.planes = Planes::default()), "conflict"),
        ("it is worth less", |w| w.set("a", |a| a.planes = Planes::all(Grade::Partial)), "conflict"),
    ];
    for (name, change, want) in table {
        let world = pair();
        world.set("a", |a| a.planes = Planes::all(Grade::Confirmed));
        world.set("b", promoted);
        change(&world);
        let step = CheckWriter::of(&from("writer")).fenced_by(&from("fence"), Grade::Confirmed);
        let inputs = [("writer", value(&writer())), ("fence", value(&fence_receipt(None)))];
        assert_eq!(seen(&now(WriterStill.look(&Call::of(&world).cx(), &resolved(&step, &inputs)))), want, "{name}");
    }
}

/// Covers D17, A06, B24: one new version, compared and set; nothing when the writer is named already.
#[test]
fn a_secret_is_compared_and_set() {
    let world = pair();
    world.set("b", promoted);
    let step = resolved(&PointSecret::at(&"orders".into(), &from("writer")), &[("writer", value(&writer()))]);
    let crate::plan::Prepared::Ready(prepared) = now(Pointing.prepare(&Call::of(&world).cx(), &step)).unwrap() else {
        panic!("not ready")
    };
    let image = prepared.pre_image.unwrap();
    let call = |attempt: u8| {
        Call::of(&world).intended().recorded(image.clone()).attempt(attempt).may("secret:orders", "patch").cx()
    };

    // Somebody wrote between the look and the send: nothing of theirs is overwritten.
    world.secret.lock().unwrap().version = SecretVersion::new("v1-theirs");
    assert_eq!(sent(&now(Pointing.submit(&call(1), &step))), "conflict");
    assert_eq!(seen(&now(Pointing.observe(&call(1), &step))), "not started");
    // A person saw it and chose to try again.
    assert_eq!(sent(&now(Pointing.submit(&call(2), &step))), "done");
    assert_eq!(world.sent(), ["patch v1", "patch v1-theirs"]);
    assert_eq!(seen(&now(Pointing.observe(&call(2), &step))), "done");
    assert_eq!(ready(&now(Pointing.prepare(&Call::of(&world).cx(), &step))), "already done");

    world.secret.lock().unwrap().endpoint = None;
    world.secret.lock().unwrap().rotating = Tri::Yes;
    assert_eq!(ready(&now(Pointing.prepare(&Call::of(&world).cx(), &step))), "not ready");
    world.set("b", |b| b.in_recovery = Tri::Yes);
    assert_eq!(ready(&now(Pointing.prepare(&Call::of(&world).cx(), &step))), "conflict", "no writer any more");
}

/// A second journal's `g-1` met the snapshot and the secret version of the first one's, of which services keep the names for years: the
/// snapshot was "there already", and a secret that names another member was "done".
#[test]
fn bug_a_run_of_another_journal_does_not_meet_this_ones_work() {
    let world = pair();
    world.set("b", promoted);
    let [first, second] = [origin(1), origin(2)];
    let snapshot = FinalSnapshot { target: target("a", 1) };
    let may = || Call::of(&world).intended().may("a", "snapshot").origin(first).cx();
    assert_eq!(sent(&now(Snapshot.submit(&may(), &snapshot))), "done");
    let point = resolved(&PointSecret::at(&"orders".into(), &from("writer")), &[("writer", value(&writer()))]);
    let ours = Call::of(&world).origin(first).cx().key();
    *world.secret.lock().unwrap() =
        SecretReference { version: SecretVersion::new("v2"), endpoint: None, token: Some(ours), rotating: Tri::No };

    for (origin, want) in [(first, "done"), (second, "not started")] {
        let cx = Call::of(&world).origin(origin).cx();
        assert_eq!(seen(&now(Snapshot.observe(&cx, &snapshot))), want, "the snapshot");
        assert_eq!(seen(&now(Pointing.observe(&cx, &point))), want, "the secret");
    }
}

/// A call that the provider has taken is all that the question waits for; the end is another step's business.
#[test]
fn a_snapshot_is_begun_and_awaited_apart() {
    let world = pair();
    let begin = BeginSnapshot { target: target("a", 1) };
    let cx = Call::of(&world).intended().may("a", "snapshot").cx();
    assert_eq!(seen(&now(SnapshotBegins.observe(&cx, &begin))), "not started");
    let ends = |begun: &Attempted<SnapshotBegun>| {
        let of = AwaitSnapshot::of(&target("a", 1), &from::<Attempted<SnapshotBegun>>("begin-snapshot"));
        resolved(&of, &[("begin-snapshot", value(begun))])
    };
    let begun = SnapshotBegun { name: cx.key().slug() };
    let wait = ends(&Attempted::Done(begun.clone()));
    assert_eq!(seen(&now(SnapshotEnds.look(&cx, &wait))), "not yet");
    assert_eq!(now(SnapshotBegins.submit(&cx, &begin)).unwrap(), Outcome::Done(begun));
    assert_eq!(seen(&now(SnapshotEnds.look(&cx, &wait))), "done");
    let owed = ends(&Attempted::Owed("the provider refused it".into()));
    assert_eq!(seen(&now(SnapshotEnds.look(&Call::of(&pair()).cx(), &owed))), "done", "there is no end to wait for");
}

/// What a run of the same number and plan has as its origin, in a journal that began at this time.
fn origin(at: i64) -> Digest {
    let plan = super::world::plan();
    let hash = plan.hash().unwrap();
    let started = Event::Started { plan: Box::new(plan), hash, by: Actor::local("mira"), because: "a test".into() };
    let record = Record::after(Head::EMPTY, Timestamp::from_millis(at), Epoch::new(1), started);
    RunState::begin(run(), &record).unwrap().origin
}

/// Covers D10, D20: the budget lies below the clients' limit, and nobody else's drain is taken over.
#[test]
fn a_drain_is_ours_and_within_the_clients_limit() {
    let step =
        Drain { app: "api".into(), budget: crate::base::Millis::seconds(60), within: crate::base::Millis::seconds(30) };
    let world = pair();
    let prepare = || ready(&now(Draining.prepare(&Call::of(&world).cx(), &step)));
    assert_eq!(prepare(), "conflict", "somebody else drained");
    assert_eq!(ready(&now(Draining.prepare(&Call::of(&world).intended().cx(), &step))), "ready", "we did");
    world.drained.lock().unwrap().0 = Tri::No;
    assert_eq!(prepare(), "ready");
    world.drained.lock().unwrap().1 = crate::base::Millis::seconds(60);
    assert_eq!(prepare(), "conflict", "clients would give up first");
}

/// Covers D20: the same give-back resumes onto the old primary before any promote intent, onto the new writer after it.
#[test]
fn writes_resume_where_the_writer_is() {
    let step = ResumeWrites { app: "api".into(), before: MemberId::new("a"), after: MemberId::new("b") };
    let world = pair();
    let cx = Call::of(&world).intended().may("app:api", "resume").cx();
    assert_eq!(sent(&now(Resuming.submit(&cx, &step))), "done");
    let cx = Call::of(&world).intended().past_the_pivot().may("app:api", "resume").cx();
    assert_eq!(sent(&now(Resuming.submit(&cx, &step))), "done");
    assert_eq!(world.sent(), ["resume onto a", "resume onto b"]);
}

/// Covers E01: a fence is retired only from a member that is seen to receive the writer's history.
#[test]
fn a_fence_is_retired_from_a_standby_only() {
    let world = pair();
    world.set("a", |a| a.planes = Planes::all(Grade::Confirmed));
    let step = RetireMemberFence::of(&"a".into(), &from("fence"), &from("writer"), &from("rejoin"));
    let step = |rejoined: &Attempted<()>| {
        let outputs =
            [("fence", value(&fence_receipt(None))), ("writer", value(&writer())), ("rejoin", value(rejoined))];
        resolved(&step, &outputs)
    };
    let cx = || {
        Call::of(&world).intended().recorded(Json(canonical::to_value(&token()).unwrap())).may("a", "retire-fence").cx()
    };
    let owed = step(&Attempted::Owed("it is dark".into()));
    let done = step(&Attempted::Done(()));
    assert_eq!(ready(&now(Retiring.prepare(&cx(), &owed))), "conflict");
    assert_eq!(ready(&now(Retiring.prepare(&cx(), &done))), "not ready", "it follows nobody");
    assert_eq!(sent(&now(Retiring.submit(&cx(), &done))), "not done");
    world.set("a", |a| (a.follows = Some("res-b".into()), a.streaming = Tri::Yes).1);
    assert_eq!(ready(&now(Retiring.prepare(&cx(), &done))), "not ready", "it receives the old history");
    world.set("a", |a| a.generation = 2);
    assert_eq!(ready(&now(Retiring.prepare(&cx(), &done))), "ready");
    assert_eq!(sent(&now(Retiring.submit(&cx(), &done))), "done");
    assert_eq!(world.sent(), ["retire a (res-a, identity uid-a, lineage sys/2)"]);
}

/// A fence whose state before it could not be read was retired as if nothing had stood there.
#[test]
fn bug_a_fence_of_which_nothing_was_known_ended_without_a_debt() {
    let world = pair();
    world.set("a", |a| (a.planes, a.generation) = (Planes::all(Grade::Confirmed), 2));
    world.set("a", |a| (a.follows, a.streaming) = (Some("res-b".into()), Tri::Yes));
    let step = RetireMemberFence::of(&"a".into(), &from("fence"), &from("writer"), &from("rejoin"));
    let mut receipt = fence_receipt(None);
    receipt.token.known = false;
    let outputs = [("fence", value(&receipt)), ("writer", value(&writer())), ("rejoin", value(&Attempted::Done(())))];
    let step = resolved(&step, &outputs);
    let cx = || {
        Call::of(&world).intended().recorded(Json(canonical::to_value(&token()).unwrap())).may("a", "retire-fence").cx()
    };
    let outcome = now(Retiring.submit(&cx(), &step));
    let words = "what stood before the fence was not readable; compare with the configuration";
    assert!(matches!(&outcome, Ok(Outcome::Conflict(cause)) if cause.to_string() == words), "{outcome:?}");
    assert_eq!(world.sent().len(), 1, "it is retired for all that");
    world.set("a", |a| a.planes = Planes::default());
    let seen = now(Retiring.observe(&cx(), &step));
    assert!(matches!(&seen, Ok(Observed::Conflict(cause)) if cause.to_string() == words), "{seen:?}");
}

/// A receiver that connected anew between two looks left the fence standing for good, as a debt.
#[test]
fn bug_a_fence_is_retired_later_when_the_member_receives_nothing_for_a_moment() {
    let world = pair();
    world.set("a", |a| (a.planes, a.generation) = (Planes::all(Grade::Confirmed), 2));
    world.set("a", |a| (a.follows, a.streaming) = (Some("res-b".into()), Tri::No));
    let step = RetireMemberFence::of(&"a".into(), &from("fence"), &from("writer"), &from("rejoin"));
    let outputs =
        [("fence", value(&fence_receipt(None))), ("writer", value(&writer())), ("rejoin", value(&Attempted::Done(())))];
    let step = resolved(&step, &outputs);
    let cx = Call::of(&world)
        .intended()
        .recorded(Json(canonical::to_value(&token()).unwrap()))
        .may("a", "retire-fence")
        .cx();
    let outcome = now(Retiring.submit(&cx, &step));
    let again = matches!(&outcome, Ok(Outcome::NotDone(NotDone { retry: Retry::After(_), .. })));
    assert!(again, "{outcome:?}");
}

/// After a crash in a rejoin the server was still stopped and told nothing of replication; that was taken for "nobody knows", and the
/// rejoin was owed instead of done again.
#[test]
fn bug_a_stopped_member_has_not_rejoined() {
    let world = pair();
    world.set("a", |a| (a.follows, a.mute) = (None, true));
    let outputs = [("writer", value(&writer())), ("promote", value(&promotion(Shape::SeparateFence)))];
    let step = resolved(&RejoinMember::of(&target("a", 1), &from("writer"), &from("promote")), &outputs);
    let look = || now(Rejoining.observe(&Call::of(&world).intended().cx(), &step));
    assert!(matches!(look(), Ok(Observed::NotStarted)), "{:?}", look());
    world.set("a", |a| a.follows = Some("res-b".into()));
    assert!(look().is_err(), "it follows, and nobody can say more");
}

/// The debt of a member that never comes back by itself said "it is not so" and no more.
#[test]
fn bug_a_member_that_does_not_come_back_is_told_by_name() {
    let world = pair();
    world.set("a", |a| a.follows = None);
    let step = resolved(&AwaitRejoined::of(&"a".into(), &from("writer")), &[("writer", value(&writer()))]);
    let looked = now(Rejoined.look(&Call::of(&world).cx(), &step));
    assert!(matches!(&looked, Ok(Observed::Unknown(why)) if why.as_str() == "`a` does not follow `b`"), "{looked:?}");
}

/// A rejoin whose orchestrator was killed in the middle was waited for until its time was over.
#[test]
fn bug_a_rejoin_that_nobody_works_on_is_a_doubt_and_no_wait() {
    let world = pair();
    world.set("a", |a| (a.follows, a.mute) = (None, true));
    let outputs = [("writer", value(&writer())), ("promote", value(&promotion(Shape::SeparateFence)))];
    let step = resolved(&RejoinMember::of(&target("a", 1), &from("writer"), &from("promote")), &outputs);
    let poll = || now(Rejoining.poll(&Call::of(&world).intended().cx(), &step, &OpHandle::new("rejoin/b").unwrap()));
    assert!(matches!(poll(), Ok(Polled::Ended(Outcome::Unknown(_)))));
    world.set("a", |a| a.mute = false);
    assert!(matches!(poll(), Ok(Polled::Pending { .. })), "somebody works on it");
}

/// A debt that is paid later: the writer is looked at again before anything is sent, and what is there decides the rest.
#[test]
fn a_member_is_attached_to_the_writer_of_the_plan_only() {
    type Change = fn(&World);
    let step = AttachStandby::of(&"a".into(), &target("b", 2), &from("consent")).discarding();
    let table: [(&str, Change, &str, &str); 5] = [
        ("stopped, it follows nobody", |w| w.set("a", |a| a.mute = true), "ready", "accepted"),
        ("dark", |w| w.set("a", |a| a.dark = true), "ready", "accepted"),
        (
            "it streams already",
            |w| w.set("a", |a| (a.follows, a.streaming, a.generation) = (Some("res-b".into()), Tri::Yes, 2)),
            "already done",
            "accepted",
        ),
        ("the writer is on another history", |w| w.set("b", |b| b.generation = 3), "conflict", "not done"),
        (
            "the writer is a standby now",
            |w| w.set("b", |b| (b.in_recovery, b.follows) = (Tri::Yes, Some("res-x".into()))),
            "conflict",
            "not done",
        ),
    ];
    for (name, change, prepared, submitted) in table {
        let world = pair();
        world.set("b", promoted);
        change(&world);
        let step = resolved(&step, &[("consent", value(&consent(&world, &["ana"])))]);
        let cx = || Call::of(&world).intended().may("a", "rejoin").cx();
        assert_eq!(ready(&now(Attaching.prepare(&cx(), &step))), prepared, "{name}");
        assert_eq!(sent(&now(Attaching.submit(&cx(), &step))), submitted, "{name}");
        let told = world.sent().into_iter().all(|call| call.contains("to b discarding true"));
        assert!(told && world.sent().len() == usize::from(submitted == "accepted"), "{name}: {:?}", world.sent());
    }
}

/// A standby is pointed at the writer that was confirmed, once it is seen to be a standby; nothing else is ever touched.
#[test]
fn a_standby_follows_the_confirmed_writer_only() {
    type Change = fn(&World);
    let step = FollowWriter::of(&"a".into(), &from("writer"), &from("promote"));
    let standby = |a: &mut Server| (a.follows, a.in_recovery) = (Some("res-x".into()), Tri::Yes);
    let table: [(&str, Change, &str, &str); 5] = [
        ("it follows another one", |_| (), "ready", "accepted"),
        ("it follows nobody", |w| w.set("a", |a| a.follows = None), "conflict", "accepted"),
        ("the provider works on it", |w| w.set("a", |a| a.busy = Some("backup".into())), "not ready", "accepted"),
        (
            "it streams from the writer already",
            |w| w.set("a", |a| (a.follows, a.streaming, a.generation) = (Some("res-b".into()), Tri::Yes, 2)),
            "already done",
            "accepted",
        ),
        (
            "the writer is a standby now",
            |w| w.set("b", |b| (b.in_recovery, b.follows) = (Tri::Yes, Some("res-x".into()))),
            "conflict",
            "accepted",
        ),
    ];
    for (name, change, prepared, submitted) in table {
        let world = pair();
        world.set("b", promoted);
        world.set("a", standby);
        change(&world);
        let outputs = [("writer", value(&writer())), ("promote", value(&promotion(Shape::SeparateFence)))];
        let step = resolved(&step, &outputs);
        let cx = || Call::of(&world).intended().may("a", "follow").cx();
        assert_eq!(ready(&now(Following.prepare(&cx(), &step))), prepared, "{name}");
        assert_eq!(sent(&now(Following.submit(&cx(), &step))), submitted, "{name}");
        assert!(world.sent().iter().all(|call| call.contains("to b")), "{name}: {:?}", world.sent());
    }
    let world = pair();
    world.set("a", |a| a.identity = "uid-other".into());
    let outputs = [("writer", value(&writer())), ("promote", value(&promotion(Shape::SeparateFence)))];
    let cx = Call::of(&world).intended().may("a", "follow").cx();
    assert_eq!(sent(&now(Following.submit(&cx, &resolved(&step, &outputs)))), "not done", "another resource");
    assert_eq!(world.sent(), Vec::<String>::new());
}

/// After a swap nobody looked at the former primary again before the applications were let through.
#[test]
fn bug_a_swapped_primary_is_read_back_once_more_before_the_applications() {
    let check = CheckWriter::of(&from("confirm-writer")).swapped(&from("promote"), &target("a", 1), Grade::Confirmed);
    let outputs = [("promote", value(&promotion(Shape::BuiltInFence))), ("confirm-writer", value(&writer()))];
    let step = resolved(&check, &outputs);
    let world = pair();
    world.set("b", promoted);
    world.set("a", |a| {
        (a.follows, a.in_recovery, a.accepts) = (Some("res-b".into()), Tri::Yes, Tri::No);
    });
    let look = || seen(&now(WriterStill.look(&Call::of(&world).cx(), &step)));
    assert_eq!(look(), "done");
    world.set("a", |a| a.dark = true);
    assert_eq!(look(), "not yet", "nobody can say what it is worth");
    world.set("a", |a| (a.dark, a.accepts) = (false, Tri::Yes));
    assert_eq!(look(), "conflict", "two writers");
}
