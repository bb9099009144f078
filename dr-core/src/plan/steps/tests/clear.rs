//! The new writer is freed of what the fence of its predecessor left with it.

use super::{
    after::promotion,
    ready, seen, sent,
    world::{Call, World, fence_receipt, from, now, pair, promoted, resolved, target, value},
};
use crate::{
    contract::{FenceReceipt, Grade, Planes, PromotionReceipt, Shape, Target},
    plan::{
        Handler, Look, Observed, Ref,
        steps::{ClearFence, ConfirmWriter, FenceMember, clear::Clearing, confirm::Confirming, fence::Fencing},
    },
};

fn promote() -> Ref<PromotionReceipt> {
    from("promote")
}

/// `b` was promoted, and the fence of `a` has come with the history.
fn travelled() -> std::sync::Arc<World> {
    let world = pair();
    world.set("a", |a| (a.planes, a.travels) = (Planes::all(Grade::Confirmed), true));
    world.set("b", promoted);
    world.set("b", |b| (b.travels, b.carries) = (true, vec!["role `app` may not log in".into()]));
    world
}

fn step(of: &Target) -> ClearFence {
    let fence: Ref<FenceReceipt> = from("fence");
    let outputs = [("promote", value(&promotion(Shape::SeparateFence))), ("fence", value(&fence_receipt(None)))];
    resolved(&ClearFence::of(of, &promote()).fenced_by(&fence), &outputs)
}

/// One call, with nothing asked before it: applications wait meanwhile.
#[test]
fn the_new_writer_is_cleared_by_one_call() {
    let world = travelled();
    let (step, cx) = (step(&target("b", 1)), || Call::of(&world).intended().may("b", "clear-fence").cx());
    world.set("b", |b| b.dark = true);
    assert_eq!(ready(&now(Clearing.prepare(&cx(), &step))), "ready", "it is not asked");
    world.set("b", |b| b.dark = false);
    assert_eq!(seen(&now(Clearing.observe(&Call::of(&world).cx(), &step))), "not started");
    assert_eq!(sent(&now(Clearing.submit(&cx(), &step))), "done");
    assert_eq!(world.sent(), ["clear b (res-b, identity uid-b, lineage sys/2) of sys/1"]);
    assert_eq!(seen(&now(Clearing.observe(&cx(), &step))), "done");
}

/// A reply that was lost, or a call that hangs: a look tells, and only a look.
#[test]
fn a_lost_reply_is_decided_by_what_the_member_carries() {
    let world = travelled();
    let (step, cx) = (step(&target("b", 1)), || Call::of(&world).intended().may("b", "clear-fence").cx());
    assert_eq!(seen(&now(Clearing.observe(&cx(), &step))), "not started");
    world.set("b", |b| b.dark = true);
    assert_eq!(seen(&now(Clearing.observe(&cx(), &step))), "error", "nobody can say");
    world.set("b", |b| (b.dark, b.carries) = (false, Vec::new()));
    assert_eq!(seen(&now(Clearing.observe(&cx(), &step))), "done");
}

/// What was promoted is cleared, nobody else: that would lift the fence of a member that may still write.
#[test]
fn nobody_but_the_promoted_member_is_cleared() {
    let world = travelled();
    let step = step(&target("a", 1));
    let cx = Call::of(&world).intended().may("a", "clear-fence").cx();
    assert_eq!(ready(&now(Clearing.prepare(&cx, &step))), "conflict");
    assert_eq!(world.sent(), Vec::<String>::new());
}

/// Whatever the call answered, a writer that still refuses its applications is not confirmed, and people read why.
#[test]
fn a_writer_that_still_carries_a_fence_is_not_confirmed() {
    let world = travelled();
    let confirm = ConfirmWriter::of(&promote(), &target("a", 1)).fenced_by(&from("fence")).cleared_by(&from("clear"));
    let outputs = [
        ("promote", value(&promotion(Shape::SeparateFence))),
        ("fence", value(&fence_receipt(None))),
        ("clear", value(&())),
    ];
    let confirm = resolved(&confirm, &outputs);
    let look = || now(Confirming.look(&Call::of(&world).cx(), &confirm));
    let words = "the fence of the former primary travelled to `b` and still keeps its applications out: role `app` may not log in";
    let first = look();
    assert!(matches!(&first, Ok(Observed::Unknown(why)) if why.to_string() == words), "{first:?}");
    world.set("b", |b| b.carries.clear());
    assert_eq!(seen(&look()), "done");
}

/// A plan that was made without knowing that the fence travels has nothing that lets the applications in: it may not fence.
#[test]
fn a_travelling_fence_is_not_engaged_by_a_plan_that_does_not_clear() {
    let world = pair();
    let step = FenceMember::of(&target("a", 1), Grade::Confirmed);
    let prepared = || ready(&now(Fencing.prepare(&Call::of(&world).cx(), &step)));
    assert_eq!(prepared(), "ready");
    world.set("a", |a| a.travels = true);
    assert_eq!(prepared(), "conflict");
}
