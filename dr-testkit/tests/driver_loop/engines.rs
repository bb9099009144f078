//! Two engines, take-overs, crashes at every append, and refusals that leave everything as it was (G07, G12, E19).

use std::{
    future::poll_fn,
    pin::{Pin, pin},
    task::Poll,
};

use dr_core::{
    APPROVE, GroupName, StepExt,
    base::Epoch,
    contract::Runtime,
    minutes,
    run::{
        DriveError,
        EventKind::{Intended, LeaseTaken},
        LeaseError, LeaseRequest, LeaseStore, NodePhase, Phase, RunOutcome, drive, lease_keys,
    },
    seconds,
};
use dr_testkit::{Halt, JournalTrouble};

use crate::{
    rig::{Engine, Rig, asked, fact, person, policy},
    world::{AskPeople, Check, Drain, Fate, Fence, Flip, Note, Once, Promote, Sent, Switches, Turn, Undrain, Unfence},
};

fn two() -> Rig {
    Rig::new(|plan| {
        let a = plan.add("a", Turn::on("a"));
        plan.add("b", Turn::on("b").after(&a));
    })
}

fn by(rig: &Rig, engine: &str) -> Vec<Sent> {
    rig.world.sent().into_iter().filter(|sent| sent.engine == engine).collect()
}

/// Takes the run from a living engine, on an operator's word.
fn take_over(engine: &Engine) -> crate::rig::Ended {
    let taker = engine.clone();
    engine.spawn(async move { drive(taker.resumed(true).await.unwrap()).await })
}

#[test]
fn a_second_engine_gets_the_run_only_after_the_first_one_died() {
    let rig = two();
    rig.world.fates("a", &[Fate::Accepted("op-1", seconds(10))]);
    let first = rig.engine();
    drop(first.spawn_start());
    rig.wait_node("a", NodePhase::Accepted);
    let second = rig.engine();
    let busy = rig.rt.run(second.resumed(false)).unwrap();
    let Err(LeaseError::Busy { run, holder, .. }) = &busy else { panic!("{busy:?}") };
    assert_eq!((run, holder.as_str()), (&rig.run, "engine-1"));
    first.die();
    assert_eq!(second.run(second.resume()), Ok(RunOutcome::Succeeded));
    assert_eq!((by(&rig, "engine-1").len(), by(&rig, "engine-2").len()), (1, 1));
    rig.assert_sound();
}

/// Covers G07: the next append of the engine that was taken over is fenced off, and it sends nothing more.
#[test]
fn an_engine_that_was_taken_over_sends_nothing_more() {
    let rig = two();
    rig.world.fates("a", &[Fate::Accepted("op-1", seconds(10))]);
    let first = rig.engine();
    let old = first.spawn_start();
    rig.wait_node("a", NodePhase::Accepted);
    let new = take_over(&rig.engine());
    assert!(matches!(rig.wait_end(&old), Err(DriveError::TakenOver { .. })));
    assert_eq!(rig.wait_end(&new).unwrap(), RunOutcome::Succeeded);
    rig.rt.pass(minutes(60)).unwrap();
    let things: Vec<String> = by(&rig, "engine-1").into_iter().map(|sent| sent.thing).collect();
    assert_eq!(things, ["a"], "sent before the take-over");
    assert_eq!((rig.world.sends("a", true), rig.world.sends("b", true)), (1, 1));
    assert_eq!(rig.count(LeaseTaken), 2);
    rig.assert_sound();
}

/// Its intent is durable, its call has not left: it is held at the gate once the engine learns that it lost the lease.
#[test]
fn a_call_of_an_engine_that_lost_its_lease_is_held_at_the_gate() {
    let rig = two();
    rig.leases.lasts(std::time::Duration::from_secs(30));
    rig.world.before_the_gate("a", seconds(60));
    let old = rig.engine().spawn_start();
    rig.wait_node("a", NodePhase::Intended);
    rig.rt.pass(seconds(1)).unwrap();
    rig.world.before_the_gate("a", seconds(0));
    let new = take_over(&rig.engine());
    assert!(matches!(rig.wait_end(&old), Err(DriveError::TakenOver { .. })));
    assert!(rig.now() < seconds(11), "the loss is seen at the next renewal: {:?}", rig.now());
    assert_eq!(rig.wait_end(&new).unwrap(), RunOutcome::Succeeded);
    rig.rt.pass(minutes(5)).unwrap();
    assert_eq!(by(&rig, "engine-1"), []);
    rig.assert_sound();
}

/// `a` hangs between its intent and its gate while `b` goes on beside it.
fn beside() -> Rig {
    let rig = Rig::new(|plan| {
        plan.add("a", Turn::on("a"));
        let b = plan.add("b", Turn::on("b"));
        plan.add("c", Turn::on("c").after(&b));
    });
    rig.world.before_the_gate("a", seconds(60));
    rig
}

#[test]
fn a_call_of_an_engine_whose_append_was_fenced_off_is_held_at_the_gate() {
    let rig = beside();
    rig.world.fates("b", &[Fate::Accepted("op-1", seconds(5))]);
    let old = rig.engine().spawn_start();
    rig.wait_node("b", NodePhase::Accepted);
    rig.world.before_the_gate("a", seconds(0));
    let new = take_over(&rig.engine());
    assert!(matches!(rig.wait_end(&old), Err(DriveError::TakenOver { .. })));
    assert_eq!(rig.wait_end(&new).unwrap(), RunOutcome::Succeeded);
    rig.rt.pass(minutes(5)).unwrap();
    assert!(by(&rig, "engine-1").iter().all(|sent| sent.thing == "b"), "{:?}", by(&rig, "engine-1"));
}

/// The lease is given back when the journal cannot be used: nothing may leave after that.
#[test]
fn bug_a_call_of_an_engine_that_gave_up_is_held_at_the_gate() {
    let rig = beside();
    // create, lease, the intents of `a` and `b`, the outcome of `b`, and then the intent of `c`.
    rig.trouble(JournalTrouble { read_only_from: Some(6), ..JournalTrouble::default() });
    let ended = rig.engine().spawn_start();
    let failed = rig.wait_end(&ended);
    assert!(matches!(failed, Err(DriveError::Journal { .. })), "{failed:?}");
    assert_eq!((rig.story("a"), rig.leases.held().len()), (vec![Intended], 0));
    rig.rt.pass(minutes(5)).unwrap();
    assert_eq!(rig.world.sends("a", true), 0);
}

/// Polls `future` for this long, then drops it.
async fn for_a_while<F: Future>(engine: &Engine, time: dr_core::Millis, future: F) -> Option<F::Output> {
    let mut future = pin!(future);
    let mut over = engine.rt.sleep_until(engine.rt.now_mono() + time);
    poll_fn(|cx| {
        if let Poll::Ready(output) = future.as_mut().poll(cx) {
            return Poll::Ready(Some(output));
        }
        Pin::new(&mut over).poll(cx).map(|()| None)
    })
    .await
}

/// Dropping a drive is the same as a crash, although its process and its calls live on.
#[test]
fn bug_a_call_of_a_drive_that_was_dropped_is_held_at_the_gate() {
    let rig = two();
    rig.world.before_the_gate("a", seconds(60));
    let first = rig.engine();
    assert!(first.rt.run(for_a_while(&first, seconds(5), first.start())).unwrap().is_none());
    first.leases.die();
    rig.world.before_the_gate("a", seconds(0));
    let second = rig.engine();
    assert_eq!(second.run(second.resume()), Ok(RunOutcome::Succeeded));
    rig.rt.pass(minutes(5)).unwrap();
    assert_eq!(by(&rig, "engine-1"), []);
}

#[test]
fn the_same_resources_under_two_group_names_are_refused_to_the_second_run() {
    let rig = two();
    rig.world.fates("a", &[Fate::Accepted("op-1", minutes(4))]);
    drop(rig.engine().spawn_start());
    rig.wait_node("a", NodePhase::Accepted);
    let other = Rig::of(&GroupName::new("sales"), "", policy(), |plan| drop(plan.add("a", Turn::on("a"))));
    let apart = Rig::of(&GroupName::new("sales"), "sales-", policy(), |plan| drop(plan.add("a", Turn::on("a"))));
    let ask = |of: &Rig| LeaseRequest {
        keys: lease_keys(&of.plan),
        run: of.run.clone(),
        holder: "engine-of-sales".into(),
        above: Epoch::default(),
        take_over: true,
        at: rig.rt.now_wall(),
    };
    let second = rig.leases.process();
    let busy = rig.rt.run(second.acquire(ask(&other))).unwrap();
    let Err(LeaseError::Busy { run, holder, key, .. }) = &busy else { panic!("{busy:?}") };
    assert_eq!((run, holder.as_str()), (&rig.run, "engine-1"));
    assert!(lease_keys(&rig.plan).contains(key));
    rig.rt.run(second.acquire(ask(&apart))).unwrap().unwrap();
}

/// Every resource that the plan binds, sorted, each once.
#[test]
fn a_lease_covers_every_binding() {
    let rig = two();
    let keys = lease_keys(&rig.plan);
    assert_eq!(keys.len(), rig.plan.bindings.len());
    assert!(keys.is_sorted());
    assert!(rig.plan.bindings.values().all(|binding| keys.contains(&binding.address)));
}

/// Refused before anything is touched: the journal is the same to the byte, and the lease is given back.
fn refused(rig: &Rig, change: impl Fn(&mut dr_core::run::Drive), right: impl Fn(&DriveError) -> bool) {
    let first = rig.engine();
    drop(first.spawn_start());
    rig.wait_node("a", NodePhase::Looking);
    first.die();
    let before = rig.journal.lines(&rig.run);
    let second = rig.engine();
    let mut with = rig.rt.run(second.resumed(false)).unwrap().unwrap();
    change(&mut with);
    let error = second.rt.run(drive(with)).unwrap().unwrap_err();
    assert!(right(&error), "{error:?}");
    assert!(error.to_string().contains("nothing was touched"), "{error}");
    assert_eq!(rig.journal.lines(&rig.run), before);
    assert_eq!((rig.world.sent().len(), rig.leases.held().len()), (0, 0));
}

fn looks_then_sends() -> Rig {
    Rig::new(|plan| {
        let a = plan.add("a", Check::on("a"));
        plan.add("b", Turn::on("b").after(&a));
    })
}

#[test]
fn bug_a_missing_step_kind_leaves_the_run_as_it_was_and_gives_the_lease_back() {
    let rig = looks_then_sends();
    let without = |with: &mut dr_core::run::Drive| with.catalog = dr_core::Catalog::empty();
    refused(&rig, without, |error| {
        matches!(error, DriveError::MissingKinds { kinds } if kinds.len() == 2)
            && error.to_string().contains("trial.turn@1")
    });
    rig.world.set("a", true);
    let third = rig.engine();
    assert_eq!(third.run(third.resume()), Ok(RunOutcome::Succeeded));
}

#[test]
fn bug_a_binding_that_is_another_resource_leaves_the_run_as_it_was_and_gives_the_lease_back() {
    let rig = looks_then_sends();
    let world = rig.world.clone();
    refused(
        &rig,
        move |_| world.replace("b"),
        |error| matches!(error, DriveError::Binding { name, .. } if **name == dr_core::Binding::from("b")),
    );
}

#[test]
fn a_run_that_is_over_is_not_driven_again() {
    let rig = two();
    assert_eq!(rig.go(), RunOutcome::Succeeded);
    let before = rig.journal.lines(&rig.run);
    let second = rig.engine();
    assert_eq!(second.run(second.resume()), Ok(RunOutcome::Succeeded));
    assert_eq!(rig.journal.lines(&rig.run), before);
    assert_eq!(rig.leases.held(), []);
}

/// A plan with everything in it: a look, people, a note, holds, a promotion, releases, a debt.
fn whole(fate_of_weu: Fate, attempts: u8) -> Rig {
    let rig = Rig::with(asked(), |plan| {
        let look = plan.add("look", Check::off("a"));
        let ask = plan.add("ask", AskPeople::of(2).after(&look));
        let note = plan.add("note", Note::on("neu").after(&ask));
        let drain = plan.hold("drain", Drain::on("drain").within(seconds(20)).after(&note), Undrain::off("drain"));
        let fence = plan.hold("fence", Fence::on("fence").after(&drain).visibility(seconds(5)), Unfence::off("fence"));
        let promote = plan.add(
            "promote",
            Promote::on("weu").within(seconds(25)).visibility(seconds(5)).attempts(attempts).after(&fence),
        );
        let b = plan.add("b", Turn::on("b").after(&promote));
        let c = plan.add("c", Flip::on("c").after(&promote));
        let rejoin = plan.attempt("rejoin", Once::on("a").after(&b), "rejoin a by hand", "dba");
        plan.release(drain, &c);
        plan.retired(fence, &rejoin);
    });
    rig.world.facts(vec![fact("writer", "neu")]);
    rig.world.fates("fence", &[Fate::Accepted("op-1", seconds(2))]);
    rig.world.fates("weu", &[fate_of_weu]);
    rig.world.forever("a", true, Fate::No);
    rig
}

/// The same, and the candidate is never ready: the run turns back.
fn turned_back() -> Rig {
    let rig = whole(Fate::Done, 2);
    rig.world.not_ready("weu", u32::MAX);
    rig
}

/// Two people who agree to whatever is asked, at once, whether an engine lives or not.
fn agree(rig: &Rig) {
    let (rt, journal, run) = (rig.rt.clone(), rig.journal.clone(), rig.run.clone());
    rig.rt.spawn_detached(Box::pin(async move {
        let mut answered = std::collections::BTreeSet::new();
        let mut appends = 0;
        loop {
            rt.sleep_until(rt.now_mono() + seconds(1)).await;
            if std::mem::replace(&mut appends, journal.appends()) == journal.appends() {
                continue;
            }
            let Ok((state, _)) = dr_core::run::replay(&run, &journal.lines(&run)) else { continue };
            let Some(ask) = state.ask.filter(|ask| ask.node.is_some()) else { continue };
            let digest = ask.digest().unwrap();
            if !answered.insert(digest.hex()) {
                continue;
            }
            for who in ["ana", "ben"] {
                let answer = dr_core::Answer::choose(APPROVE, digest, person(who));
                let request = serde_json::to_value(dr_core::run::Request::Answer(answer)).unwrap();
                let row = dr_core::run::InboxRow {
                    id: format!("{who}-{}", digest.hex()),
                    at: rt.now_wall(),
                    request: dr_core::base::Json(request),
                };
                dr_core::run::Journal::post(&journal, &run, row).await.unwrap();
            }
        }
    }));
}

/// What a run came to.
#[derive(Debug, PartialEq, Eq)]
struct End {
    kind: String,
    changes: Vec<(String, bool)>,
    held: Vec<String>,
}

/// Its outcome without the words, what changed in the world, what is held.
fn end(rig: &Rig, outcome: &RunOutcome) -> End {
    let kind = format!("{outcome:?}").split([' ', '{']).next().unwrap().to_owned();
    let mut changes = rig.world.changes();
    // What comes after the promotion goes on side by side.
    changes.sort();
    let held = rig.state().held().into_iter().map(|held| held.node.to_string()).collect();
    End { kind, changes, held }
}

/// Drives with these troubles one after the other, a new engine each time, then without any.
fn through(rig: &Rig, troubles: &[JournalTrouble]) -> (RunOutcome, bool) {
    agree(rig);
    for trouble in troubles {
        rig.trouble(trouble.clone());
        let engine = rig.engine();
        let ended = if rig.begun() { engine.run(engine.resume()) } else { engine.run(engine.start()) };
        match ended {
            Ok(outcome) => return (outcome, false),
            Err(Halt::Crashed(_)) => {}
            Err(halt) => panic!("{trouble:?}: {halt}"),
        }
    }
    rig.trouble(JournalTrouble::default());
    let engine = rig.engine();
    let ended = if rig.begun() { engine.run(engine.resume()) } else { engine.run(engine.start()) };
    (ended.unwrap(), true)
}

fn assert_same(rig: &Rig, outcome: &RunOutcome, wanted: &End, at: &str) {
    assert_eq!(&end(rig, outcome), wanted, "{at}");
    assert_eq!(rig.world.wrong(), Vec::<String>::new(), "{at}");
    for sent in rig.world.sent() {
        if !wanted.changes.contains(&(sent.thing.clone(), sent.on)) {
            // Refused by the provider: nothing of it ever stood, however often it was asked.
            continue;
        }
        let times = rig.world.sends(&sent.thing, sent.on);
        assert_eq!(times, 1, "{at}: {} was switched {} times", sent.thing, times);
    }
}

fn crash(nth: u64, after: bool) -> JournalTrouble {
    if after {
        JournalTrouble { crash_after: [nth].into(), ..JournalTrouble::default() }
    } else {
        JournalTrouble { crash_before: [nth].into(), ..JournalTrouble::default() }
    }
}

/// Kills the engine at every append of the run, generated from the run itself; answers how many places there were.
fn kill_everywhere(make: impl Fn() -> Rig) -> u64 {
    let rig = make();
    let (outcome, _) = through(&rig, &[]);
    let wanted = end(&rig, &outcome);
    let appends = rig.journal.appends();
    let mut places = 0;
    for nth in 1..=appends {
        for after in [false, true] {
            let rig = make();
            let (outcome, crashed) = through(&rig, &[crash(nth, after)]);
            assert!(crashed, "the run has {appends} appends and did not crash at {nth}");
            assert_same(&rig, &outcome, &wanted, &format!("killed at append {nth}, after: {after}"));
            places += 1;
        }
    }
    places
}

/// Covers G12, E19: crash before and after every append; a new engine brings the run to the same end, each effect once.
#[test]
fn a_run_that_is_killed_at_any_append_comes_to_the_same_end() {
    for fate in [Fate::Done, Fate::Lost, Fate::Accepted("op-2", seconds(3))] {
        let places = kill_everywhere(|| whole(fate, 2));
        assert!(places > 40, "{places}");
        eprintln!("promotion {fate:?}: killed at {places} places");
    }
}

#[test]
fn a_run_that_turns_back_and_is_killed_at_any_append_comes_to_the_same_end() {
    let places = kill_everywhere(turned_back);
    assert!(places > 30, "{places}");
    eprintln!("turning back: killed at {places} places");
}

/// The second engine is killed, too. The promotion may be tried often enough to outlast both.
#[test]
fn a_run_that_is_killed_twice_comes_to_the_same_end() {
    for make in [|| whole(Fate::Done, 3), turned_back] {
        let rig = make();
        let (outcome, _) = through(&rig, &[]);
        let wanted = end(&rig, &outcome);
        let mut places = 0;
        for first in 1..=rig.journal.appends() {
            for more in [1, 2, 4] {
                let rig = make();
                let (outcome, _) = through(&rig, &[crash(first, true), crash(first + more, more % 2 == 0)]);
                assert_same(&rig, &outcome, &wanted, &format!("killed at appends {first} and {}", first + more));
                places += 1;
            }
        }
        eprintln!("killed twice at {places} places");
    }
}

/// Two engines died between the intent of the promotion and its outcome: whatever the looks say, a third attempt is a person's.
#[test]
fn a_promotion_whose_engine_died_twice_is_left_to_a_person() {
    let rig = Rig::new(|plan| drop(plan.add("promote", Promote::on("weu"))));
    for nth in [3, 7] {
        let engine = rig.engine();
        rig.trouble(crash(nth, true));
        let halted = if rig.begun() { engine.run(engine.resume()) } else { engine.run(engine.start()) };
        assert!(matches!(halted, Err(Halt::Crashed(_))), "{halted:?}");
    }
    rig.trouble(JournalTrouble::default());
    drop(rig.engine().spawn_resume());
    rig.wait_phase(Phase::Parked);
    assert_eq!((rig.story("promote").iter().filter(|kind| **kind == Intended).count(), rig.world.sent().len()), (2, 0));
}

/// What parked stays parked for a new engine, with the same question.
#[test]
fn a_parked_run_stays_parked_for_a_new_engine() {
    let rig = Rig::new(|plan| drop(plan.add("a", Once::on("a"))));
    rig.world.forever("a", true, Fate::Nothing);
    let first = rig.engine();
    drop(first.spawn_start());
    rig.wait_phase(Phase::Parked);
    let asked = rig.state().ask.unwrap();
    first.die();
    drop(rig.engine().spawn_resume());
    rig.rt.pass(minutes(60)).unwrap();
    assert_eq!(
        (rig.state().phase, rig.state().ask.unwrap().digest().unwrap()),
        (Phase::Parked, asked.digest().unwrap())
    );
    assert_eq!(rig.world.sends("a", true), 2);
}
