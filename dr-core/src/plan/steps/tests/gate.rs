//! What the gate itself holds back, whatever a step has decided.

use std::sync::Arc;

use super::world::{Call, World, consent, now, pair, run, target};
use crate::{
    base::{Epoch, Millis},
    contract::{Loss, LossBound, Outcome, SnapshotRequest, SwapRequest, Touch, admit},
    plan::{StepCx, steps::facts::at_pivot},
};

/// A forced swap whose proofs were admitted just now.
fn swap(world: &Arc<World>, cx: &StepCx) -> SwapRequest {
    let consent = consent(world, &["ana"]);
    let loss = Loss::AtMost { time: Millis::seconds(3), amount: None, because: "sampled".into() };
    let bound = LossBound { run: run(), loss, sampled_at: None, fenced_at: None, asked: None };
    let facts = now(at_pivot(cx, &consent, &"b".into())).unwrap();
    let consented = admit::consented(&cx.door(), &consent, &facts).unwrap();
    let bounded = admit::loss_bounded(&cx.door(), &bound, &consent).unwrap();
    SwapRequest::forced(cx.key(), target("a", 1), target("b", 1), bounded, consented)
}

/// Sends the swap through the gate; why it was held back, if it was.
fn held(cx: &StepCx, swap: SwapRequest) -> Option<String> {
    match now(cx.database(&"b".into()).unwrap().swap_roles(swap)) {
        Outcome::NotDone(reason) => Some(reason.cause.to_string()),
        Outcome::Done(()) | Outcome::Accepted(_) => None,
        other @ (Outcome::Unknown(_) | Outcome::Conflict(_)) => panic!("{other:?}"),
    }
}

/// A step could call any verb on anything: no test asked for the list of what it declares.
#[test]
fn bug_a_verb_that_a_step_does_not_declare_does_not_pass() {
    for allowed in [None, Some(("a", "swap-roles")), Some(("b", "promote")), Some(("b", "snapshot"))] {
        let world = pair();
        let call = Call::of(&world).intended();
        let cx = match allowed {
            Some((resource, verb)) => call.may(resource, verb),
            None => call,
        }
        .cx();
        let why = held(&cx, swap(&world, &cx));
        let want = format!("held at the gate: the step does not declare `{}`", Touch::new("b", "swap-roles"));
        assert_eq!(why, Some(want), "allowed: {allowed:?}");
        assert_eq!(world.sent(), [""; 0], "allowed: {allowed:?}");
    }
    let world = pair();
    let cx = Call::of(&world).intended().may("b", "swap-roles").cx();
    let swap = swap(&world, &cx);
    let why = held(&cx, swap).unwrap_or_default();
    assert!(why.contains("does not declare `a swap-roles`"), "whom it demotes is hidden: {why}");
    let world = pair();
    let cx = Call::of(&world).intended().may("b", "snapshot").cx();
    let ask = SnapshotRequest { target: target("a", 1), name: "s".into(), key: cx.key() };
    let sent = now(cx.database(&"a".into()).unwrap().snapshot(ask));
    assert!(matches!(sent, Outcome::NotDone(_)), "another member's: {sent:?}");
    assert!(world.snapshots.lock().unwrap().is_empty());
}

/// Proofs are admitted, and then the engine hangs for a minute, or loses its lease and wins it anew: no test saw the gate ask.
#[test]
fn bug_the_gate_asks_proofs_for_their_age_and_epoch() {
    let table = [
        ("fresh", Millis::seconds(60), Epoch::new(1), None),
        ("old", Millis::new(60_001), Epoch::new(1), Some("the proof is 60001 ms old, the limit is 60000 ms")),
        ("another epoch", Millis::ZERO, Epoch::new(2), Some("the proof was made under epoch 1, this is 2")),
    ];
    for (name, waits, epoch, want) in table {
        let world = pair();
        let cx = Call::of(&world).intended().may("b", "swap-roles").may("a", "swap-roles").driven_under(epoch).cx();
        let swap = swap(&world, &cx);
        now(cx.pause(waits));
        let why = held(&cx, swap);
        assert_eq!(why, want.map(|want| format!("held at the gate: {want}")), "{name}");
        assert_eq!(world.sent().len(), usize::from(want.is_none()), "{name}");
    }
}
