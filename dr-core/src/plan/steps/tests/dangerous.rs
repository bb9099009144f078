//! Fences, catch-up, promotions, swaps and their proofs.

use std::sync::{Arc, atomic::Ordering};

use super::{
    ready, seen, sent,
    world::{
        Call, Server, World, at, consent, fence_receipt, from, lineage, now, pair, promoted, resolved, run, target,
        token, value,
    },
};
use crate::{
    base::{Json, Millis, Timestamp, canonical},
    contract::{
        CatchUpReceipt, DrainReceipt, Ends, FenceReceipt, Grade, Loss, LossBound, Outcome, Parted, Planes,
        QuiesceReceipt, Sessions, Tri, verb,
    },
    plan::{
        Handler, Look, Observed,
        steps::{
            AwaitCatchUp, AwaitQuiesced, FenceMember, Promote, ReleaseFence, SwapRoles,
            catch_up::{CatchUp, Quiescing},
            down::{Vantages, Verdict},
            fence::{Fencing, Releasing},
            promote::Promoting,
            swap::Swapping,
        },
    },
};

fn image() -> Json {
    Json(canonical::to_value(&token()).unwrap())
}

fn caught_up(end: u64) -> CatchUpReceipt {
    CatchUpReceipt { run: run(), target: target("b", 1), end: at(end), applied: at(end), at: Timestamp::default() }
}

fn bound() -> LossBound {
    let loss = Loss::AtMost { time: Millis::seconds(3), amount: None, because: "sampled".into() };
    LossBound { run: run(), loss, sampled_at: None, fenced_at: None, asked: None }
}

/// The primary stopped and fenced, its history at an end.
fn fenced() -> Arc<World> {
    let world = pair();
    world.set("a", |a| {
        a.planes = Planes::all(Grade::Confirmed);
        a.end = Some(100);
        a.dark = true;
    });
    world
}

fn planned(world: &Arc<World>) -> Promote {
    let step = Promote::planned(&target("b", 1), &from("fence"), &from("catch-up"), &from("consent"));
    resolved(
        &step,
        &[
            ("fence", value(&fence_receipt(Some(100)))),
            ("catch-up", value(&caught_up(100))),
            ("consent", value(&consent(world, &["ana"]))),
        ],
    )
}

fn forced(world: &Arc<World>) -> Promote {
    let step = Promote::forced(&target("b", 1), &from("fence"), &from("bound"), &from("consent"));
    let consent = consent(world, &["ana"]);
    resolved(
        &step,
        &[("fence", value(&fence_receipt(Some(100)))), ("bound", value(&bound())), ("consent", value(&consent))],
    )
}

fn dangerous(world: &Arc<World>, people: &[&str]) -> Promote {
    let ends = Ends { from: target("a", 1), to: target("b", 1) };
    let step = Promote::dangerous(ends, &from("bound"), &from("consent"), "the region is dark");
    resolved(&step, &[("bound", value(&bound())), ("consent", value(&consent(world, people)))])
}

/// Covers D14, D16, E09: a promotion counts only with our own intent, a child of the right history and all that was proved.
#[test]
fn a_promotion_is_ours_or_a_strangers() {
    type Change = fn(&mut Server);
    let table: [(&str, Change, bool, &str); 11] = [
        ("standby, nothing sent", |_| (), false, "not started"),
        ("standby, sent", |_| (), true, "not started"),
        ("the provider is at work", |b| b.busy = Some("promoting".into()), true, "in progress"),
        ("promoted by a stranger", promoted, false, "conflict"),
        ("promoted by us", promoted, true, "done"),
        ("parted before the proof", |b| (promoted(b), b.parted = Some(99)).1, true, "conflict"),
        ("where it parted is not told", |b| (promoted(b), b.parted = None).1, true, "done"),
        ("writes on the old generation", |b| (promoted(b), b.generation = 1).1, true, "not yet"),
        ("writes on an older generation", |b| (promoted(b), b.generation = 0).1, true, "conflict"),
        ("follows another generation", |b| b.generation = 2, true, "conflict"),
        ("nobody can say", |b| b.in_recovery = Tri::Unknown, true, "not yet"),
    ];
    for (name, change, intended, want) in table {
        let world = fenced();
        let step = planned(&world);
        world.set("b", change);
        let call = Call::of(&world);
        let cx = if intended { call.intended() } else { call }.cx();
        assert_eq!(seen(&now(Promoting.observe(&cx, &step))), want, "{name}");
        assert_eq!(world.sent(), [""; 0]);
    }
}

/// Covers E01, E03, E09: whatever speaks against a promotion is said before its intent, when there is still a way back.
#[test]
fn a_promotion_is_refused_before_its_intent() {
    type Change = fn(&World);
    let table: [(&str, Change, &str); 9] = [
        ("all is well", |_| (), "ready"),
        ("the fence was lifted", |w| w.set("a", |a| a.planes = Planes::default()), "conflict"),
        ("the fence is too weak", |w| w.set("a", |a| a.planes = Planes::all(Grade::Enforced)), "conflict"),
        ("the fenced history grew", |w| w.set("a", |a| a.end = Some(120)), "conflict"),
        ("the candidate lost ground", |w| w.set("b", |b| b.applied = 90), "not ready"),
        ("the candidate is another one", |w| w.set("b", |b| b.address = "res-c".into()), "conflict"),
        ("the candidate was made anew", |w| w.set("b", |b| b.identity = "uid-x".into()), "conflict"),
        ("another orchestrator is at work", |w| w.set("b", |b| b.locked = true), "conflict"),
        ("somebody promoted it", |w| w.set("b", promoted), "conflict"),
    ];
    for (name, change, want) in table {
        let world = fenced();
        let step = planned(&world);
        change(&world);
        let cx = Call::of(&world).cx();
        assert_eq!(ready(&now(Promoting.prepare(&cx, &step))), want, "{name}");
        assert_eq!(world.sent(), [""; 0], "{name}");
    }
}

#[test]
fn a_promotion_is_sent_once_and_read_back_by_polling() {
    let world = fenced();
    let step = planned(&world);
    let cx = Call::of(&world).intended().may("b", "promote").cx();
    assert_eq!(sent(&now(Promoting.submit(&cx, &step))), "accepted");
    assert_eq!(world.sent(), ["promote b from a"]);
    let crate::plan::Polled::Ended(crate::contract::Outcome::Done(receipt)) =
        now(Promoting.poll(&cx, &step, &crate::contract::OpHandle::none())).unwrap()
    else {
        panic!("not promoted")
    };
    assert_eq!((receipt.target.lineage, receipt.was), (lineage(2), lineage(1)));
    assert_eq!(receipt.parted_at, Parted::At(at(100)));
    assert_eq!(receipt.not_compared, None);
    // The same gate lets nothing else through.
    assert_eq!(sent(&now(Promoting.submit(&cx, &step))), "not done");
    assert_eq!(world.sent().len(), 1);
}

/// A role that may not read the history skips the comparison "parted at or past the proof", and the receipt says so.
#[test]
fn bug_a_promotion_that_was_not_compared_looked_as_if_it_was() {
    let world = fenced();
    let step = planned(&world);
    world.set("b", |b| (promoted(b), b.parted = None).1);
    let cx = Call::of(&world).intended().cx();
    let Observed::Done(receipt) = now(Promoting.observe(&cx, &step)).unwrap() else { panic!("not promoted") };
    assert_eq!(receipt.parted_at, Parted::untold("the role may not read it"));
    assert_eq!(receipt.not_compared.as_deref(), Some("the role may not read it"));
    let told = crate::plan::steps::loss::planned(&receipt, Some(&at(100)));
    assert!(told.ends_with("was not compared: the role may not read it"), "the report repeats it: {told}");
}

/// A fence that fell between the intent and the send: nothing is sent, however late.
#[test]
fn proofs_are_asked_for_again_after_the_intent() {
    for promotion in [planned as fn(&Arc<World>) -> Promote, forced] {
        let world = fenced();
        let step = promotion(&world);
        let cx = Call::of(&world).intended().may("b", "promote").cx();
        world.set("a", |a| a.planes = Planes::default());
        assert_eq!(sent(&now(Promoting.submit(&cx, &step))), "not done");
        assert_eq!(world.sent(), [""; 0]);
    }
}

/// Covers E10: more loss than was accepted, no promotion.
#[test]
fn a_forced_promotion_stays_within_the_accepted_loss() {
    let world = fenced();
    let mut consent = consent(&world, &["ana"]);
    let step = Promote::forced(&target("b", 1), &from("fence"), &from("bound"), &from("consent"));
    let fence = value(&fence_receipt(Some(100)));
    for (accepted, want) in [(3, "ready"), (2, "conflict")] {
        consent.loss = Loss::AtMost { time: Millis::seconds(accepted), amount: None, because: "shown".into() };
        let outputs = [("fence", fence.clone()), ("bound", value(&bound())), ("consent", value(&consent))];
        let step = resolved(&step, &outputs);
        assert_eq!(ready(&now(Promoting.prepare(&Call::of(&world).cx(), &step))), want, "{accepted} s");
    }
}

/// Covers E08: without a fence, a primary that answers stops it, and one person alone may not take the risk.
#[test]
fn a_promotion_without_a_fence_needs_two_people_and_a_silent_primary() {
    let dark = || {
        let world = pair();
        world.set("a", |a| a.dark = true);
        world.set("b", |b| b.streaming = Tri::No);
        world
    };
    let world = dark();
    let alone = dangerous(&world, &["ana"]);
    assert_eq!(ready(&now(Promoting.prepare(&Call::of(&world).cx(), &alone))), "conflict");
    let both = dangerous(&world, &["ana", "ben"]);
    assert_eq!(ready(&now(Promoting.prepare(&Call::of(&world).cx(), &both))), "ready");
    world.set("a", |a| a.dark = false);
    assert_eq!(ready(&now(Promoting.prepare(&Call::of(&world).cx(), &both))), "conflict");
    let cx = Call::of(&world).intended().may("b", "promote").cx();
    assert_eq!(sent(&now(Promoting.submit(&cx, &both))), "not done");
    assert_eq!(world.sent(), [""; 0]);
}

/// Covers E01: a fence is what is read back, never what was asked for.
#[test]
fn a_fence_is_worth_what_is_read_back() {
    type Change = fn(&mut Server);
    let table: [(&str, Change, bool, &str); 6] = [
        ("never asked for", |a| a.planes = Planes::all(Grade::Confirmed), false, "not started"),
        ("not engaged", |_| (), true, "not started"),
        ("good enough", |a| a.planes = Planes::all(Grade::Confirmed), true, "done"),
        ("below the grade", |a| a.planes = Planes::all(Grade::Enforced), true, "partial"),
        (
            "one way to write is open",
            |a| a.planes = Planes { restart: Grade::Unconfirmable, ..Planes::all(Grade::RoleSwap) },
            true,
            "partial",
        ),
        (
            "another history is fenced",
            |a| (a.planes = Planes::all(Grade::Confirmed), a.generation = 2).1,
            true,
            "conflict",
        ),
    ];
    let step = FenceMember::of(&target("a", 1), Grade::Confirmed);
    for (name, change, intended, want) in table {
        let world = pair();
        world.set("a", change);
        let call = Call::of(&world).recorded(image());
        let cx = if intended { call.intended() } else { call }.cx();
        assert_eq!(seen(&now(Fencing.observe(&cx, &step))), want, "{name}");
    }
}

#[test]
fn a_fence_is_prepared_with_its_record_and_engaged_with_it() {
    let world = pair();
    let step = FenceMember::of(&target("a", 1), Grade::Confirmed);
    let crate::plan::Prepared::Ready(prepared) = now(Fencing.prepare(&Call::of(&world).cx(), &step)).unwrap() else {
        panic!("not ready")
    };
    let cx = Call::of(&world).intended().recorded(prepared.pre_image.unwrap()).may("a", "fence").cx();
    assert_eq!(sent(&now(Fencing.submit(&cx, &step))), "done");
    assert_eq!(world.sent(), [r#"fence a with {"was":"running"}"#]);
    // A record that is missing stops it before anything is sent.
    let cx = Call::of(&world).intended().may("a", "fence").cx();
    assert_eq!(sent(&now(Fencing.submit(&cx, &step))), "error");
    assert_eq!(world.sent().len(), 1);
}

#[test]
fn a_fence_is_refused_before_anything_is_changed() {
    type Change = fn(&World);
    let table: [(&str, Change, &str); 6] = [
        ("all is well", |_| (), "ready"),
        ("it promises too little", |w| w.set("a", |a| a.promises = Planes::all(Grade::Partial)), "conflict"),
        ("another history", |w| w.set("a", |a| a.generation = 2), "conflict"),
        ("another resource", |w| w.set("a", |a| a.address = "res-x".into()), "conflict"),
        ("made anew under its name", |w| w.set("a", |a| a.identity = "uid-x".into()), "conflict"),
        ("another orchestrator", |w| w.set("b", |b| b.locked = true), "conflict"),
    ];
    let step = FenceMember::of(&target("a", 1), Grade::Confirmed);
    for (name, change, want) in table {
        let world = pair();
        change(&world);
        assert_eq!(ready(&now(Fencing.prepare(&Call::of(&world).cx(), &step))), want, "{name}");
    }
    let world = pair();
    world.set("a", |a| a.dark = true);
    assert_eq!(ready(&now(Fencing.prepare(&Call::of(&world).cx(), &step))), "error", "a planned fence asks who it is");
    let silent = step.silent();
    assert_eq!(ready(&now(Fencing.prepare(&Call::of(&world).cx(), &silent))), "ready", "a forced one cannot");
}

/// Covers S9: a fence is given back only before any promote intent, and only with the candidate seen twice as a standby.
#[test]
fn a_fence_is_given_back_only_while_nothing_was_promoted() {
    let step = ReleaseFence::of(&target("a", 1), &target("b", 1));
    let world = fenced();
    let call = || Call::of(&world).recorded(image());
    assert_eq!(ready(&now(Releasing.prepare(&call().cx(), &step))), "ready");
    assert_eq!(ready(&now(Releasing.prepare(&call().past_the_pivot().cx(), &step))), "conflict");
    assert_eq!(ready(&now(Releasing.prepare(&Call::of(&world).cx(), &step))), "error", "its record is missing");
    let cx = call().intended().may("a", "release-fence").cx();
    assert_eq!(sent(&now(Releasing.submit(&cx, &step))), "done");
    assert_eq!(world.sent(), ["release a by AbortBeforePromotion"]);

    // Promoted by a stranger between the two looks.
    *world.meanwhile.lock().unwrap() = Some(promoted);
    assert_eq!(ready(&now(Releasing.prepare(&call().cx(), &step))), "conflict");
    let cx = call().intended().may("a", "release-fence").cx();
    assert_eq!(sent(&now(Releasing.submit(&cx, &step))), "not done");
    assert_eq!(world.sent().len(), 1);

    let dark = fenced();
    dark.set("b", |b| b.dark = true);
    let cx = Call::of(&dark).recorded(image()).cx();
    assert_eq!(ready(&now(Releasing.prepare(&cx, &step))), "error", "silence is no standby");
}

/// Covers P3 and S9: the applications do not wait for a candidate that died past the fence, if it is proved to be stopped as a standby.
#[test]
fn bug_a_candidate_that_died_past_the_fence_kept_the_writes_stopped() {
    type Change = fn(&mut super::world::Server);
    let step = ReleaseFence::of(&target("a", 1), &target("b", 1));
    let table: [(&str, Change, &str); 5] = [
        ("stopped as a standby", |_| (), "ready"),
        ("not proved on every plane", |b| b.planes.restart = Grade::Partial, "error"),
        ("not known to be silent", |b| b.silent = false, "error"),
        ("it wrote a history of its own", |b| b.end = Some(101), "error"),
        ("it carries another history", |b| b.generation = 2, "error"),
    ];
    for (name, change, want) in table {
        let world = fenced();
        world.set("b", |b| {
            (b.dark, b.silent, b.planes) = (true, true, Planes::all(Grade::Confirmed));
            change(b);
        });
        let cx = Call::of(&world).recorded(image()).cx();
        assert_eq!(ready(&now(Releasing.prepare(&cx, &step))), want, "{name}");
    }
}

/// A fence that stops the server and tells no end: the stopped server was asked until the budget was over, with the writes held back.
#[test]
fn bug_an_end_that_nobody_can_tell_is_not_waited_for() {
    for (silent, want) in [(true, "conflict"), (false, "error")] {
        let world = pair();
        world.set("a", |a| a.dark = true);
        let receipt = FenceReceipt { silent, ..fence_receipt(None) };
        let step = resolved(&AwaitCatchUp::of(&target("b", 1), &from("fence")), &[("fence", value(&receipt))]);
        assert_eq!(seen(&now(CatchUp.look(&Call::of(&world).cx(), &step))), want, "silent: {silent}");
    }
}

/// Covers C04: the end is that of the fenced history; a catch-up that never comes is never called done.
#[test]
fn a_catch_up_reaches_the_end_of_the_fenced_history() {
    type Change = fn(&World);
    let table: [(&str, Option<u64>, Change, &str); 8] = [
        ("there", Some(100), |_| (), "done"),
        ("behind", Some(101), |_| (), "not yet"),
        ("received is not applied", Some(100), |w| w.set("b", |b| b.applied = 99), "not yet"),
        ("the end is read from the fenced server", None, |w| w.set("a", |a| a.durable = 100), "done"),
        ("the fenced server has more", None, |w| w.set("a", |a| a.durable = 200), "not yet"),
        ("the fenced server is silent", None, |w| w.set("a", |a| a.dark = true), "error"),
        ("another history", Some(100), |w| w.set("b", |b| b.generation = 2), "conflict"),
        ("promoted by a stranger", Some(100), |w| w.set("b", |b| b.in_recovery = Tri::No), "conflict"),
    ];
    for (name, end, change, want) in table {
        let world = pair();
        change(&world);
        let step = AwaitCatchUp::of(&target("b", 1), &from("fence"));
        let step = resolved(&step, &[("fence", value(&fence_receipt(end)))]);
        assert_eq!(seen(&now(CatchUp.look(&Call::of(&world).cx(), &step))), want, "{name}");
    }
}

fn drained() -> serde_json::Value {
    value(&DrainReceipt { at: Timestamp::default(), budget: Millis::seconds(60), detail: "drained".into() })
}

fn counted(in_transaction: u32, idle: u32) -> Option<Sessions> {
    Some(Sessions { in_transaction, idle })
}

/// Covers D11: nothing writes, seen at the applications and at the server, and both sides are equal.
#[test]
fn quiet_is_seen_from_both_ends() {
    type Change = fn(&World);
    let table: [(&str, Change, &str); 8] = [
        ("quiet and equal", |_| (), "done"),
        ("a transaction is open", |w| w.set("a", |a| a.sessions = counted(1, 0)), "not yet"),
        ("an idle session is left", |w| w.set("a", |a| a.sessions = counted(0, 1)), "not yet"),
        ("nobody can count the sessions", |w| w.set("a", |a| a.sessions = None), "error"),
        ("the applications write again", |w| w.drained.lock().unwrap().0 = Tri::No, "conflict"),
        ("nobody knows about the applications", |w| w.drained.lock().unwrap().0 = Tri::Unknown, "not yet"),
        ("the candidate is behind", |w| w.set("b", |b| b.applied = 99), "not yet"),
        ("another history", |w| w.set("a", |a| a.generation = 3), "conflict"),
    ];
    for (name, change, want) in table {
        let world = pair();
        change(&world);
        let step = AwaitQuiesced::of(&target("a", 1), &target("b", 1), &from("drain"));
        let step = resolved(&step, &[("drain", drained())]);
        assert_eq!(seen(&now(Quiescing.look(&Call::of(&world).cx(), &step))), want, "{name}");
    }
}

/// The provider stops the writes and waits for the candidate: idle sessions of a pool, sessions that nobody can count and a primary
/// whose data plane is silent kept such a swap from being asked for.
#[test]
fn bug_sessions_that_the_providers_swap_ends_are_not_waited_for() {
    type Change = fn(&World);
    let table: [(&str, Change, Option<Sessions>); 6] = [
        ("no session", |_| (), counted(0, 0)),
        ("a pool of idle sessions", |w| w.set("a", |a| a.sessions = counted(0, 20)), counted(0, 20)),
        ("an open transaction", |w| w.set("a", |a| a.sessions = counted(2, 0)), counted(2, 0)),
        ("nobody can count", |w| w.set("a", |a| a.sessions = None), None),
        ("a silent primary", |w| w.set("a", |a| a.dark = true), None),
        ("the candidate is behind", |w| w.set("b", |b| b.applied = 99), counted(0, 0)),
    ];
    for (name, change, want) in table {
        let world = pair();
        world.set("b", |b| b.catches_up = true);
        change(&world);
        let step = AwaitQuiesced::of(&target("a", 1), &target("b", 1), &from("drain")).by_provider();
        let step = resolved(&step, &[("drain", drained())]);
        let receipt = match now(Quiescing.look(&Call::of(&world).cx(), &step)) {
            Ok(Observed::Done(receipt)) => receipt,
            other => panic!("{name}: {other:?}"),
        };
        assert_eq!((receipt.sessions, &receipt.position), (want, &None), "{name}");
        world.set("a", |a| a.dark = false);
        let step = SwapRoles::planned(&target("a", 1), &target("b", 1), &from("quiesced"), &from("consent"));
        let given = [("quiesced", value(&receipt)), ("consent", value(&consent(&world, &["ana"])))];
        let step = resolved(&step, &given);
        assert_eq!(ready(&now(Swapping.prepare(&Call::of(&world).cx(), &step))), "ready", "{name}");
    }
}

/// The tier is drained where there is one, whoever waits for the candidate.
#[test]
fn applications_are_held_back_before_the_providers_swap() {
    for (drained_now, want) in [(Tri::No, "conflict"), (Tri::Unknown, "not yet")] {
        let world = pair();
        world.set("b", |b| b.catches_up = true);
        world.drained.lock().unwrap().0 = drained_now;
        let step = AwaitQuiesced::of(&target("a", 1), &target("b", 1), &from("drain")).by_provider();
        let step = resolved(&step, &[("drain", drained())]);
        assert_eq!(seen(&now(Quiescing.look(&Call::of(&world).cx(), &step))), want);
    }
}

/// Covers C02, E08: a planned swap wants quiet, a forced one a silent primary.
#[test]
fn a_swap_is_refused_before_its_intent() {
    let world = pair();
    let receipt = QuiesceReceipt {
        run: run(),
        primary: target("a", 1),
        target: target("b", 1),
        sessions: counted(0, 0),
        position: Some(at(100)),
        at: Timestamp::default(),
    };
    let step = SwapRoles::planned(&target("a", 1), &target("b", 1), &from("quiesced"), &from("consent"));
    let step = resolved(&step, &[("quiesced", value(&receipt)), ("consent", value(&consent(&world, &["ana"])))]);
    assert_eq!(ready(&now(Swapping.prepare(&Call::of(&world).cx(), &step))), "ready");
    world.set("a", |a| a.sessions = counted(1, 1));
    assert_eq!(ready(&now(Swapping.prepare(&Call::of(&world).cx(), &step))), "not ready");

    let step = SwapRoles::forced(&target("a", 1), &target("b", 1), &from("bound"), &from("consent"));
    let step = resolved(&step, &[("bound", value(&bound())), ("consent", value(&consent(&world, &["ana"])))]);
    assert_eq!(ready(&now(Swapping.prepare(&Call::of(&world).cx(), &step))), "conflict", "the primary answers");
    world.set("a", |a| a.dark = true);
    world.set("b", |b| b.streaming = Tri::No);
    assert_eq!(ready(&now(Swapping.prepare(&Call::of(&world).cx(), &step))), "ready");
    let cx = Call::of(&world).intended().may("b", "swap-roles").may("a", "swap-roles").cx();
    assert_eq!(sent(&now(Swapping.submit(&cx, &step))), "accepted");
    assert_eq!(world.sent(), ["swap a to b"]);
    assert_eq!(seen(&now(Swapping.observe(&cx, &step))), "not started");
    world.set("b", promoted);
    assert!(matches!(now(Swapping.observe(&cx, &step)).unwrap(), Observed::Done(_)));
    assert!(world.obeys.load(Ordering::SeqCst));
}

/// Covers D09, X04: two of three places, and never against the server's own answer.
#[test]
fn a_primary_is_down_for_two_of_three() {
    let (yes, no, unknown) = (Tri::Yes, Tri::No, Tri::Unknown);
    let table = [
        ((no, no, no), Verdict::Down),
        ((yes, no, no), Verdict::Down),
        ((no, no, unknown), Verdict::Down),
        ((no, unknown, no), Verdict::Down),
        ((no, yes, no), Verdict::Alive),
        ((no, no, yes), Verdict::Alive),
        ((yes, yes, yes), Verdict::Alive),
        ((unknown, no, unknown), Verdict::Unclear),
        ((yes, no, unknown), Verdict::Unclear),
        ((yes, unknown, unknown), Verdict::Unclear),
    ];
    for ((management, inside, stream), want) in table {
        let vantages = Vantages { management, inside, stream, attested: false };
        assert_eq!(vantages.verdict(), want, "{vantages:?}");
    }
}

/// The server was restarted between the request and its effect, and has forgotten it: a look decides at once, and not when the time of
/// the step is over.
#[test]
fn bug_a_promotion_that_nobody_works_on_is_looked_at() {
    let world = fenced();
    let step = planned(&world);
    let polled = |world: &Arc<World>| {
        let cx = Call::of(world).intended().past_the_pivot().cx();
        now(Promoting.poll(&cx, &step, &crate::contract::OpHandle::new("op-1").unwrap())).unwrap()
    };
    assert!(matches!(polled(&world), crate::plan::Polled::Pending { .. }));
    world.set("b", |b| b.mute = true);
    let answer = polled(&world);
    let crate::plan::Polled::Ended(Outcome::Unknown(cause)) = &answer else { panic!("{answer:?}") };
    assert!(cause.to_string().contains("nobody works on it any more"), "{cause}");
}

/// A verb that wants proofs never passes the gate without them, whatever the plan allows; one that the step does not declare passes never.
#[test]
fn a_promotion_without_proofs_is_held_at_the_gate() {
    let world = pair();
    let pass = |declared: &str, verb, certified| {
        Call::of(&world).may("b", declared).cx().gate.pass(&"b".into(), verb, certified, &[])
    };
    assert!(pass("promote", verb::PROMOTE, None).unwrap_err().why.contains("brings no proofs"));
    assert!(pass("snapshot", verb::SETTLE, None).unwrap_err().why.contains("does not declare"));
    assert!(pass("snapshot", verb::SNAPSHOT, None).is_ok());
}

/// A fence that cannot be reached any more was tried for all that, and the run parked with a fence of which nobody knew.
#[test]
fn bug_a_fence_that_became_unreachable_was_tried() {
    let silent = || FenceMember::of(&target("a", 1), Grade::Enforced).silent();
    let world = pair();
    world.set("a", |a| (a.far, a.dark) = (true, true));
    let refused = now(Fencing.prepare(&Call::of(&world).cx(), &silent()));
    let Ok(crate::plan::Prepared::Conflict(why)) = &refused else { panic!("{refused:?}") };
    for words in ["fake.stop cannot be reached", "dr plan failover g --to b --without-fence <reason>"] {
        assert!(why.to_string().contains(words), "{why}");
    }
    let owed = now(Fencing.prepare(&Call::of(&world).past_the_pivot().cx(), &silent()));
    assert_eq!(ready(&owed), "not ready", "what is owed may be had later");
    world.set("a", |a| a.dark = false);
    assert_eq!(ready(&now(Fencing.prepare(&Call::of(&world).cx(), &silent()))), "ready");
    world.set("a", |a| (a.far, a.dark) = (false, true));
    assert_eq!(ready(&now(Fencing.prepare(&Call::of(&world).cx(), &silent()))), "ready", "it takes no closed way");
}

/// One look that failed says nothing of the way.
#[test]
fn a_way_is_closed_when_two_looks_say_so() {
    let world = pair();
    world.set("b", |b| (b.far, b.dark) = (true, true));
    *world.meanwhile.lock().unwrap() = Some(|b| b.dark = false);
    let step = FenceMember::of(&target("b", 1), Grade::Enforced).silent();
    let cx = Call::of(&world).cx();
    let fence = cx.fence(&"b".into()).unwrap();
    assert_eq!(now(Fencing::beyond_reach(&cx, &step, fence.as_ref())).unwrap(), None);
}
