//! The sequences of a logical copy that becomes the writer.

use std::{collections::BTreeMap, sync::Arc};

use super::{
    after::promotion,
    ready, seen, sent,
    world::{Call, World, from, lineage, now, pair, promoted, resolved, target, value},
};
use crate::{
    base::{Int64, Timestamp},
    contract::{DrainReceipt, PromotionReceipt, Sequences, Shape, Target},
    plan::{
        Handler, Look, Observed, Ref,
        steps::{
            RaiseSequences, ReadSequences, SequencesSeen,
            sequences::{Raising, Reading},
        },
    },
};

fn at(last: i64) -> Option<BTreeMap<String, i64>> {
    Some([("public.ids".to_owned(), last)].into())
}

fn copy() -> Target {
    Target { receives: Some(lineage(1)), ..target("b", 1) }
}

fn read_at(world: &Arc<World>) -> SequencesSeen {
    let found = now(Reading.look(&Call::of(world).cx(), &ReadSequences::of(&target("a", 1))));
    match found {
        Ok(Observed::Done(seen)) => seen,
        other => panic!("{other:?}"),
    }
}

fn raise(seen: Option<&SequencesSeen>) -> RaiseSequences {
    let (promote, read): (Ref<PromotionReceipt>, Ref<SequencesSeen>) = (from("promote"), from("read"));
    let mut outputs = vec![("promote", value(&promotion(Shape::SeparateFence)))];
    let step = RaiseSequences::of(&copy(), &promote);
    match seen {
        Some(seen) => {
            outputs.push(("read", value(seen)));
            resolved(&step.beyond(&read), &outputs)
        }
        None => resolved(&step, &outputs),
    }
}

/// What may not be read is found while nothing is held back, and what was true before writes were held back counts for nothing.
#[test]
fn the_primary_is_read_whole_and_behind_the_drain() {
    let world = pair();
    let look = |step: &ReadSequences| seen(&now(Reading.look(&Call::of(&world).cx(), step)));
    let plain = ReadSequences::of(&target("a", 1));
    assert_eq!(look(&plain), "error", "its probe tells none");
    world.set("a", |a| a.sequences = at(41));
    assert_eq!(read_at(&world).sequences.values["public.ids"], Some(Int64(41)));
    let drained = |at: Timestamp| {
        let drain: Ref<DrainReceipt> = from("drain");
        let receipt = DrainReceipt { at, budget: crate::seconds(60), detail: "drained".into() };
        resolved(&plain.clone().behind(&drain), &[("drain", value(&receipt))])
    };
    assert_eq!(look(&drained(world.now())), "done");
    assert_eq!(look(&drained(world.now() + crate::seconds(1))), "not yet", "as of a moment before the drain");
    world.set("a", |a| a.unread = Some("public.secret"));
    assert_eq!(look(&plain), "conflict");
}

/// It is sent even where nothing seems to be behind, for rows tell more than a floor; what was sent is judged by a look.
#[test]
fn the_new_writer_is_raised_and_read_again() {
    let world = pair();
    world.set("a", |a| a.sequences = at(41));
    let floors = read_at(&world);
    world.set("b", promoted);
    world.set("b", |b| b.sequences = at(0));
    let (step, cx) = (raise(Some(&floors)), || Call::of(&world).intended().may("b", "raise-sequences").cx());
    assert_eq!(seen(&now(Raising.observe(&Call::of(&world).cx(), &step))), "not started");
    assert_eq!(ready(&now(Raising.prepare(&Call::of(&world).cx(), &step))), "ready");
    world.obeys.store(false, std::sync::atomic::Ordering::Relaxed);
    assert_eq!(sent(&now(Raising.submit(&cx(), &step))), "accepted", "it says done, and nothing was raised");
    world.obeys.store(true, std::sync::atomic::Ordering::Relaxed);
    assert_eq!(seen(&now(Raising.observe(&cx(), &step))), "not started", "so it is sent again");
    assert_eq!(sent(&now(Raising.submit(&cx(), &step))), "done");
    assert_eq!(seen(&now(Raising.observe(&cx(), &step))), "done");
}

/// Without floors nothing tells what was raised: the provider's word counts.
#[test]
fn above_rows_alone_the_answer_counts() {
    let world = pair();
    world.set("b", promoted);
    let (step, cx) = (raise(None), || Call::of(&world).intended().may("b", "raise-sequences").cx());
    assert_eq!(seen(&now(Raising.observe(&cx(), &step))), "not started");
    assert_eq!(sent(&now(Raising.submit(&cx(), &step))), "done");
}

/// The member that was promoted, and no other resource that answers under its name.
#[test]
fn another_resource_is_not_raised() {
    let world = pair();
    world.set("b", promoted);
    world.set("b", |b| b.identity = "uid-other".into());
    assert_eq!(ready(&now(Raising.prepare(&Call::of(&world).cx(), &raise(None)))), "conflict");
}

#[test]
fn a_sequence_is_behind_where_it_would_hand_a_number_out_again() {
    let of = |values: &[(&str, Option<i64>)]| Sequences {
        values: values.iter().map(|(name, last)| ((*name).to_owned(), last.map(Int64))).collect(),
        down: ["down".to_owned()].into(),
        ..Sequences::none(Timestamp::from_millis(0))
    };
    let floors = of(&[("up", Some(5)), ("down", Some(-5)), ("unused", None), ("gone", Some(1))]);
    let here = of(&[("up", Some(4)), ("down", Some(-4)), ("unused", None)]);
    assert_eq!(floors.ahead_of(&here), ["down", "gone", "up"]);
    let here = of(&[("up", Some(5)), ("down", Some(-6)), ("gone", Some(2))]);
    assert_eq!(floors.ahead_of(&here), Vec::<String>::new());
    assert_eq!(floors.ahead_of(&of(&[("up", None), ("down", Some(-6)), ("gone", Some(2))])), ["up"], "never used here");
}
