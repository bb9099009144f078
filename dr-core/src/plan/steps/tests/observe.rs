//! One writer where nobody was promoted.

use super::{
    after::accepted,
    seen,
    world::{Call, World, now, pair, promoted, target},
};
use crate::{
    contract::{Grade, Planes, Tri, WriterOrigin},
    plan::{
        Look, Observed,
        steps::{ObserveWriter, observe::Observing},
    },
};

/// Covers S1 without a promotion: the expected writer writes, and whatever else there is does not.
#[test]
fn one_writer_is_observed_or_the_step_says_why_not() {
    type Change = fn(&World);
    let fenced = |w: &World| {
        w.set("b", promoted);
        w.set("b", |b| b.accepts = Tri::No);
    };
    let table: [(&str, Change, &str); 14] = [
        ("a pair", |_| (), "done"),
        ("the writer refuses a write", |w| w.set("a", |a| a.accepts = Tri::No), "not yet"),
        ("a write on the writer hangs", |w| w.set("a", |a| a.accepts = Tri::Unknown), "not yet"),
        ("the provider is at work on the writer", |w| w.set("a", |a| a.busy = Some("backing-up".into())), "not yet"),
        ("the writer follows somebody", |w| w.set("a", |a| a.follows = Some("res-b".into())), "conflict"),
        ("the writer is in recovery", |w| w.set("a", |a| a.in_recovery = Tri::Yes), "conflict"),
        ("the writer was promoted meanwhile", |w| w.set("a", |a| a.generation = 2), "conflict"),
        ("the writer is another resource", |w| w.set("a", |a| a.identity = "uid-x".into()), "conflict"),
        ("the other one accepts a write", |w| w.set("b", |b| b.accepts = Tri::Yes), "conflict"),
        ("the other one is another resource", |w| w.set("b", |b| b.identity = "uid-x".into()), "conflict"),
        ("the other one is not in recovery", |w| w.set("b", |b| b.in_recovery = Tri::No), "not yet"),
        ("the other one follows a stranger", |w| w.set("b", |b| b.follows = Some("res-x".into())), "not yet"),
        ("the other one is dark", |w| w.set("b", |b| b.dark = true), "not yet"),
        ("the other one follows nobody", fenced, "not yet"),
    ];
    for (name, change, want) in table {
        let world = pair();
        change(&world);
        let step = ObserveWriter::of(&target("a", 1), Grade::Confirmed);
        assert_eq!(seen(&now(Observing.look(&Call::of(&world).cx(), &step))), want, "{name}");
    }
}

/// A former primary that stands fenced beside the writer is worth what its fence is.
#[test]
fn a_member_that_follows_nobody_is_worth_its_fence() {
    let world = pair();
    world.set("a", |a| a.accepts = Tri::No);
    world.set("b", promoted);
    let look = |minimum| {
        let call = Call::of(&world);
        now(Observing.look(&call.cx(), &ObserveWriter::of(&target("b", 2), minimum)))
    };
    assert_eq!(seen(&look(Grade::Confirmed)), "not yet", "no fence is engaged");
    world.set("a", |a| a.planes = Planes::all(Grade::Enforced));
    assert_eq!(seen(&look(Grade::Confirmed)), "not yet");
    let Ok(Observed::Done(receipt)) = look(Grade::Enforced) else { panic!("{:?}", look(Grade::Enforced)) };
    assert_eq!((receipt.old_side, receipt.origin), (Grade::Enforced, WriterOrigin::Observed));
}

/// A member of a dark region, which no fence vouches for, kept applications from ever being pointed at the writer. Two people may accept
/// what does not answer, and never what answers.
#[test]
fn bug_a_redirect_beside_a_dark_member_is_asked_about() {
    type Change = fn(&World);
    let dark: Change = |w| w.set("b", |b| b.dark = true);
    let table: [(&str, Change, bool, bool, &str); 7] = [
        ("nobody may accept it", dark, false, true, "not yet"),
        ("nobody has accepted it", dark, true, false, "short"),
        ("two people accepted it", dark, true, true, "done"),
        ("it answers, and follows nobody", |w| w.set("b", |b| b.follows = None), true, true, "not yet"),
        ("its server answers", |w| w.set("b", |b| (b.healthy, b.follows) = (Tri::No, None)), true, true, "not yet"),
        ("it accepts a write", |w| w.set("b", |b| b.accepts = Tri::Yes), true, true, "conflict"),
        (
            "the writer is dark, too",
            |w| {
                w.set("a", |a| a.dark = true);
                w.set("b", |b| b.dark = true);
            },
            true,
            true,
            "error",
        ),
    ];
    for (name, change, asks, said, want) in table {
        let world = pair();
        change(&world);
        let step = ObserveWriter::of(&target("a", 1), Grade::Confirmed);
        let step = if asks { step.or_accepted() } else { step };
        let call = Call::of(&world);
        let call = if said { call.waived(accepted(&world, &["ana", "ben"], 60_000)) } else { call };
        let answer = now(Observing.look(&call.cx(), &step));
        assert_eq!(seen(&answer), want, "{name}: {answer:?}");
        match answer {
            Ok(Observed::Done(receipt)) => {
                assert_eq!((receipt.old_side, receipt.waived.is_some()), (Grade::Unconfirmable, true), "{name}");
            }
            Ok(Observed::Short(short)) => assert!(short.owes.unwrap().starts_with("fence b as soon as"), "{name}"),
            _ => {}
        }
    }
}
