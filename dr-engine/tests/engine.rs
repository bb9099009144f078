//! The public API against a simulated pair: what an embedder does in story 1, and what can go wrong around it.
mod common;

use std::sync::{Arc, atomic::Ordering};

use common::{House, LightUp, answer, dba};
use dr_core::{
    APPROVE, Actor, Answer, AppTier, Backend, Fence, GroupSpec, SecretStore,
    base::ResourceAddress,
    contract::{AppSpec, ConfigError, FenceSpec, MemberSpec, Opened, Provider, Route, SecretSpec, TrafficSpec},
    run::{AnswerRefused, REJECT, RunOutcome},
    show::Standing,
};
use dr_engine::{
    Engine, Error, Run, Start,
    runbook::{PlannedSwitchover, UnplannedFailover},
};
use dr_testkit::{Broken, CallKind, Condition, Drift, SimBackend};

#[tokio::test]
async fn a_run_is_planned_asked_for_done_and_reported() {
    let house = House::new();
    let engine = house.engine().await;
    let run = house.begin(&engine).await.unwrap();
    assert_eq!(run.id().to_string(), "orders-1");
    answer(&run, "ana", APPROVE).await.unwrap();
    assert_eq!(run.wait().await.unwrap(), RunOutcome::Succeeded);
    assert_eq!(house.lamp.switched.load(Ordering::SeqCst), 2, "on, and off again at its release");
    let report = run.report().await.unwrap();
    assert_eq!(report.outcome, Some(RunOutcome::Succeeded));
    assert!(report.to_string().contains("CHG-1"), "{report}");
    assert!(report.to_html().contains("orders-1"));
    assert_eq!(house.begin(&engine).await.unwrap().id().to_string(), "orders-2");
}

/// A forced plan in a dark region was approved as "fenced first"; its fence could not be reached, and the run turned back.
#[tokio::test]
async fn bug_a_plan_in_a_dark_region_promised_a_fence_in_that_region() {
    let house = House::new();
    let engine = house.engine().await;
    let group = house.group(&engine);
    engine.situation(&group).await.unwrap();
    house.cloud.suffer(Condition::ControlOutage("region-neu".into()), None);
    house.cloud.suffer(Condition::DataOutage("neu".into()), None);
    let Err(Error::Refused(refusal)) = engine.plan(&group, UnplannedFailover::to("weu")).await else {
        panic!("it is planned with a fence")
    };
    let [finding] = refusal.findings.as_slice() else { panic!("{refusal}") };
    assert!(finding.what.contains("sim.stop cannot be reached"), "{}", finding.what);
    assert!(finding.helps.contains("--without-fence"), "{}", finding.helps);
    engine.plan(&group, UnplannedFailover::to("weu").without_fence("region-neu is dark")).await.unwrap();
}

/// Covers row 1 of the answer table: stale, not yours, settled; and the same answer twice is one answer.
#[tokio::test]
async fn answers_that_do_not_count_say_which_rule_they_break() {
    let house = House::new();
    let engine = house.engine().await;
    let run = house.begin(&engine).await.unwrap();
    let refused = |result: Result<dr_core::run::Ask, Error>| match result {
        Err(Error::Answer { refused, .. }) => refused,
        other => panic!("{other:?}"),
    };
    assert!(matches!(refused(answer(&run, "mira", APPROVE).await), AnswerRefused::Requester { .. }));
    assert!(matches!(refused(answer(&run, "ana", "perhaps").await), AnswerRefused::NoSuchChoice { .. }));
    let seen = run.view().await.unwrap().ask_digest.unwrap();
    let nobody = Answer::choose(APPROVE, seen, Actor::local("tom"));
    assert!(matches!(refused(run.answer(nobody).await), AnswerRefused::WrongRole { .. }));
    let other = Answer::choose(APPROVE, dr_core::base::Digest::zero(), dba("ana"));
    assert!(matches!(refused(run.answer(other).await), AnswerRefused::Stale { .. }));

    answer(&run, "ana", APPROVE).await.unwrap();
    run.wait().await.unwrap();
    run.answer(Answer::choose(APPROVE, seen, dba("ana"))).await.expect("the same choice again is no error");
    let against = run.answer(Answer::choose(REJECT, seen, dba("ben"))).await;
    assert!(matches!(refused(against), AnswerRefused::Settled { choice } if choice == APPROVE));
}

#[tokio::test]
async fn one_no_ends_the_run_and_changes_nothing() {
    let house = House::new();
    let engine = house.engine().await;
    let run = house.begin(&engine).await.unwrap();
    answer(&run, "ana", REJECT).await.unwrap();
    assert!(matches!(run.wait().await.unwrap(), RunOutcome::Refused { .. }));
    assert_eq!(house.lamp.switched.load(Ordering::SeqCst), 0);
}

/// Covers G06: the same servers in two journals; the second run is refused by the name of the first.
#[tokio::test]
async fn two_journals_exclude_each_other() {
    let house = House::new();
    let (one, two) = (house.engine().await, house.builder("other").start().await.unwrap());
    let run = house.begin(&one).await.unwrap();
    let busy = house.begin(&two).await.unwrap_err();
    assert!(matches!(&busy, Error::Busy { run, by, .. } if run.to_string() == "orders-1" && by == "a test"), "{busy}");
    assert!(two.runs().await.unwrap().is_empty(), "a refused run leaves nothing behind");
    run.cancel(dba("ana"), "not today").await.unwrap();
    assert!(matches!(run.wait().await.unwrap(), RunOutcome::Cancelled { .. }));
    // Another journal cannot see that the run is over, only that its lease is given back a moment later.
    loop {
        match house.begin(&two).await {
            Err(Error::Busy { .. }) => tokio::task::yield_now().await,
            Err(other) => panic!("{other}"),
            Ok(_) => break,
        }
    }
}

/// Covers "an approval given while no engine lives is still seen" and G01: another process watches, answers and resumes.
#[tokio::test]
async fn an_answer_given_while_no_engine_lives_is_seen_on_resume() {
    let house = House::new();
    let engine = house.engine().await;
    let id = house.begin(&engine).await.unwrap().id().clone();
    let mut watch = engine.run(&id).unwrap().watch();
    while watch.next().await.unwrap().unwrap().ask_digest.is_none() {}
    drop(watch);
    engine.close().await;

    let console = house.builder("journal").start().await.unwrap();
    let run = console.run(&id).unwrap();
    assert!(!run.is_driven().await.unwrap());
    answer(&run, "ana", APPROVE).await.unwrap();
    assert_eq!(house.lamp.switched.load(Ordering::SeqCst), 0, "opening and answering drive nothing");

    let resumed = console.resume().await.unwrap();
    assert_eq!((resumed.runs.as_slice(), resumed.broken.len()), ([id].as_slice(), 0));
    assert_eq!(run.wait().await.unwrap(), RunOutcome::Succeeded);
    assert!(console.resume().await.unwrap().runs.is_empty(), "nothing is left");
}

/// Covers "one broken run never blocks the others".
#[tokio::test]
async fn a_damaged_run_is_listed_and_the_others_are_resumed() {
    let house = House::new();
    let engine = house.engine().await;
    let first = house.begin(&engine).await.unwrap();
    answer(&first, "ana", APPROVE).await.unwrap();
    first.wait().await.unwrap();
    let second = house.begin(&engine).await.unwrap();
    let id = second.id().clone();
    engine.close().await;
    drop((first, second));
    let file = rusqlite::Connection::open(house.dir.path().join("journal/journal.db")).unwrap();
    file.execute_batch("DELETE FROM lines WHERE run = 'orders-1' AND seq = 2").unwrap();

    let engine = house.engine().await;
    let resumed = engine.resume().await.unwrap();
    assert_eq!(resumed.runs, [id]);
    assert_eq!(resumed.broken.len(), 1);
    assert!(resumed.broken[0].1.to_string().contains("damaged at line 2"), "{}", resumed.broken[0].1);
    let list = engine.runs().await.unwrap();
    assert!(list[0].fault.as_ref().is_some_and(|fault| fault.contains("line 2")), "{list:?}");
    assert!(list[1].fault.is_none());
}

#[tokio::test]
async fn a_pause_holds_the_next_step_back_until_it_is_lifted() {
    let house = House::new();
    let engine = house.engine().await;
    let run = house.begin(&engine).await.unwrap();
    let mut watch = run.watch();
    while watch.next().await.unwrap().unwrap().ask_digest.is_none() {}
    run.pause(dba("ana"), "look first").await.unwrap();
    while watch.next().await.unwrap().unwrap().state != Standing::Paused {}
    answer(&run, "ben", APPROVE).await.unwrap();
    loop {
        let view = watch.next().await.unwrap().unwrap();
        if view.steps.iter().any(|step| step.id.as_str() == "consent" && step.state == dr_core::run::NodePhase::Done) {
            assert_eq!(view.state, Standing::Paused);
            break;
        }
    }
    assert_eq!(house.lamp.switched.load(Ordering::SeqCst), 0);
    run.unpause(dba("ana")).await.unwrap();
    assert_eq!(run.wait().await.unwrap(), RunOutcome::Succeeded);
    assert!(matches!(run.pause(dba("ana"), "look first").await, Err(Error::Over(_))));
}

#[tokio::test]
async fn watching_and_reading_go_on_from_any_place_and_end() {
    let house = House::new();
    let engine = house.engine().await;
    let run = house.begin(&engine).await.unwrap();
    answer(&run, "ana", APPROVE).await.unwrap();
    run.wait().await.unwrap();
    let mut events = run.events(0);
    let mut seqs = Vec::new();
    while let Some(record) = events.next().await.unwrap() {
        seqs.push(record.seq);
    }
    assert_eq!(seqs, (1..=u32::try_from(seqs.len()).unwrap()).collect::<Vec<_>>(), "every record, in order, once");
    let last = u64::from(*seqs.last().unwrap());
    assert!(run.events(last).next().await.unwrap().is_none());
    assert_eq!(run.events(last - 1).next().await.unwrap().unwrap().seq, *seqs.last().unwrap());
    let mut watch = run.watch_from(last);
    assert!(watch.next().await.unwrap().unwrap().outcome().is_some(), "the end is shown to everybody once");
    assert!(watch.next().await.unwrap().is_none());
}

/// Opens every member at another address than its plan was made for.
#[derive(Debug)]
struct Elsewhere(SimBackend);

impl Backend for Elsewhere {
    fn prefix(&self) -> &'static str {
        self.0.prefix()
    }

    fn open(&self, group: &GroupSpec, member: &MemberSpec) -> Result<Provider, ConfigError> {
        let mut opened = self.0.open(group, member)?;
        opened.database.address = ResourceAddress::new(format!("{}/elsewhere", opened.database.address));
        Ok(opened)
    }

    fn fence(&self, group: &GroupSpec, fence: &FenceSpec, member: &MemberSpec) -> Result<Arc<dyn Fence>, ConfigError> {
        self.0.fence(group, fence, member)
    }

    fn secret(&self, group: &GroupSpec, secret: &SecretSpec) -> Result<Opened<dyn SecretStore>, ConfigError> {
        self.0.secret(group, secret)
    }

    fn route(&self, group: &GroupSpec, route: &TrafficSpec) -> Result<Route, ConfigError> {
        self.0.route(group, route)
    }

    fn app(&self, group: &GroupSpec, app: &AppSpec) -> Result<Opened<dyn AppTier>, ConfigError> {
        self.0.app(group, app)
    }
}

/// A driver that stopped between a watcher's look and its wait was waited for, for ever. The run can be resumed.
#[tokio::test]
async fn a_driver_that_stops_while_a_watcher_looks_is_noticed() {
    let house = House::new();
    let engine = house.engine().await;
    let run = house.begin(&engine).await.unwrap();
    engine.close().await;
    // Its backend opens the members somewhere else, so the plan's bindings are not found and the driver stops at once.
    let lost = house.builder("journal").backend(Elsewhere(house.cloud.backend())).start().await.unwrap();
    let stopped = lost.resume_run(run.id(), false).await.unwrap();
    // Many watchers, each at another place between look and wait, while the driver stops.
    let watchers: Vec<_> = (0..200)
        .map(|_| {
            let run = stopped.clone();
            tokio::spawn(async move { run.wait().await })
        })
        .collect();
    for watcher in watchers {
        let failed = watcher.await.unwrap().unwrap_err();
        assert!(matches!(failed, Error::Stopped { .. }), "{failed}");
    }
    lost.close().await;
    let engine = house.engine().await;
    let run = engine.resume_run(run.id(), false).await.unwrap();
    answer(&run, "ana", APPROVE).await.unwrap();
    assert_eq!(run.wait().await.unwrap(), RunOutcome::Succeeded);
}

/// A handler that panics once did end the driver. Its look says nothing, and the next one decides.
#[tokio::test]
async fn a_handler_that_panics_is_asked_again() {
    let house = House::new();
    let engine = house.engine().await;
    let run = house.begin(&engine).await.unwrap();
    house.lamp.panics.store(1, Ordering::SeqCst);
    answer(&run, "ana", APPROVE).await.unwrap();
    assert_eq!(run.wait().await.unwrap(), RunOutcome::Succeeded);
    assert_eq!(house.lamp.switched.load(Ordering::SeqCst), 2, "on, and off again at its release");
}

#[tokio::test]
async fn status_check_and_list_say_what_is_true() {
    let house = House::new();
    let engine = house.engine().await;
    let group = house.group(&engine);
    let status = engine.status(&group).await.unwrap();
    assert_eq!(status.writer.unwrap().as_str(), "neu");
    assert!(status.run.is_none() && status.findings.is_empty());
    let run = house.begin(&engine).await.unwrap();
    let status = engine.status(&group).await.unwrap();
    assert_eq!(status.run.unwrap().run, *run.id());
    assert!(status.driven);
    assert_eq!(engine.known_groups().await.unwrap()[0].0.as_str(), "orders");
    assert!(engine.runs().await.unwrap()[0].driven);
}

#[tokio::test]
async fn an_unknown_run_and_an_unknown_backend_are_named() {
    let house = House::new();
    let engine = house.engine().await;
    let nobody = engine.run(&"orders-9".parse().unwrap()).unwrap();
    assert!(matches!(nobody.view().await, Err(Error::UnknownRun(run)) if run.to_string() == "orders-9"));
    let text = std::fs::read_to_string(house.dir.path().join("orders.toml")).unwrap();
    let file = house.dir.path().join("typo.toml");
    std::fs::write(&file, text.replacen("backend = \"sim\"", "backend = \"simm\"", 1)).unwrap();
    let error = engine.group(&file).unwrap_err().to_string();
    assert!(error.contains("typo.toml:14") && error.contains("did you mean `sim`?"), "{error}");
}

/// A target that is no replica of the writer, or no member: refused by number, nothing is touched, no run is left behind.
#[tokio::test]
async fn a_target_that_cannot_take_over_is_refused_and_nothing_is_touched() {
    type Trouble = fn(&dr_testkit::SimCloud);
    let rows: [(&str, &str, Trouble, &str); 3] = [
        ("on another history", "weu", |cloud| cloud.break_replication("weu", Broken::Diverged), "DR213"),
        // DR203 as long as the provider's view lags and still shows it as a follower, DR204 afterwards.
        ("a writer of its own", "weu", |cloud| cloud.drift(Drift::Role), "DR20"),
        ("no member", "wue", |_| (), "wue"),
    ];
    for (name, target, trouble, words) in rows {
        let house = House::new();
        let engine = house.watching().await;
        let group = house.group(&engine);
        trouble(&house.cloud);
        let refused = engine.plan(&group, PlannedSwitchover::to(target)).await.unwrap_err();
        assert!(refused.is_refusal() && refused.to_string().contains(words), "{name}: {refused}");
        let changes = house.cloud.calls().into_iter().filter(|call| call.kind != CallKind::Read);
        assert_eq!(changes.count(), 0, "{name}");
        assert!(engine.runs().await.unwrap().is_empty(), "{name}");
    }
}

/// An instance was deleted and made again under its old name: every check of the plan held, and the run spoke of another database.
#[tokio::test]
async fn bug_a_member_that_was_made_anew_under_its_name_is_refused_before_anything_is_touched() {
    let house = House::new();
    let engine = house.watching().await;
    let plan = engine.plan(&house.group(&engine), PlannedSwitchover::to("weu")).await.unwrap();
    house.cloud.drift(Drift::Identity);
    let refused = engine.start(plan, Start::by(dba("mira"))).await.unwrap_err();
    assert!(refused.is_refusal(), "{refused}");
    assert!(refused.to_string().contains("`weu` at sim:orders/weu was made anew"), "{refused}");
    assert!(house.cloud.calls().into_iter().all(|call| call.kind == CallKind::Read));
    assert!(engine.runs().await.unwrap().is_empty());
    // What is there now can be planned from.
    engine.plan(&house.group(&engine), PlannedSwitchover::to("weu")).await.unwrap();
}

/// The same while people are asked: the checks before the first change compare again.
#[tokio::test]
async fn a_member_that_was_made_anew_while_people_were_asked_is_refused_before_anything_is_touched() {
    let house = House::new();
    let engine = house.watching().await;
    let plan = engine.plan(&house.group(&engine), PlannedSwitchover::to("weu")).await.unwrap();
    let run = engine.start(plan, Start::by(dba("mira"))).await.unwrap();
    let mut watch = run.watch();
    while watch.next().await.unwrap().unwrap().ask_digest.is_none() {}
    house.cloud.drift(Drift::Identity);
    answer(&run, "ana", APPROVE).await.unwrap();
    let outcome = run.wait().await.unwrap();
    assert!(!matches!(outcome, RunOutcome::Succeeded | RunOutcome::SucceededWithDebt { .. }), "{outcome:?}");
    house.cloud.look(|truth| {
        assert_eq!(truth.primary().unwrap().as_str(), "neu");
        assert!(truth.app().is_open());
    });
    assert!(house.cloud.violations().is_empty(), "{:?}", house.cloud.violations());
}

/// Story 1: all futures may move between threads, and a watch outlives the handler that made it.
#[test]
fn every_future_is_send() {
    fn send<T: Send>(_: &T) {}
    fn embedder(engine: &Engine, run: &Run, plan: dr_core::plan::Verified, group: &dr_engine::Group) {
        let answer = || Answer::choose(APPROVE, dr_core::base::Digest::zero(), dba("ana"));
        send(&Engine::open("x").start());
        send(&engine.resume());
        send(&engine.plan(group, LightUp));
        send(&engine.start(plan, Start::by(dba("mira"))));
        send(&engine.status(group));
        send(&engine.check(group));
        send(&run.watch().next());
        send(&run.events(0).next());
        send(&run.answer(answer()));
        send(&run.decide(APPROVE, dr_core::base::Digest::zero(), dba("ana")));
        send(&run.cancel(dba("ana"), "no"));
        send(&run.report());
        send(&run.wait());
        let _outlives_its_maker: Box<dyn std::any::Any + Send> = Box::new(run.watch());
    }
    let _compiling_it_is_the_test: fn(&Engine, &Run, dr_core::plan::Verified, &dr_engine::Group) = embedder;
}

/// A run that needs step kinds which the new engine was started without stood in `runs`, as if it were driven, and nobody was told.
#[tokio::test]
async fn bug_a_run_whose_step_kinds_are_missing_was_called_resumed() {
    let house = House::new();
    let engine = house.engine().await;
    let id = house.begin(&engine).await.unwrap().id().clone();
    engine.close().await;

    let bare = house.without_steps().await;
    let resumed = bare.resume().await.unwrap();
    assert!(resumed.runs.is_empty(), "{resumed:?}");
    let [(broken, why)] = resumed.broken.as_slice() else { panic!("{resumed:?}") };
    assert_eq!(*broken, id);
    assert!(why.to_string().contains("does not have the step kinds dr.toy-ask@1"), "{why}");
    assert!(matches!(bare.resume_run(&id, false).await, Err(Error::Stopped(_))));
    bare.close().await;

    let engine = house.engine().await;
    assert_eq!(engine.resume().await.unwrap().runs, [id], "an engine that has them goes on");
}

/// A saved plan started although its group file had been tightened since: an old plan was a way round a stricter approval.
#[tokio::test]
async fn bug_a_plan_started_under_a_group_file_that_was_changed_since() {
    let house = House::new();
    let engine = house.engine().await;
    let file = house.dir.path().join("orders.toml");
    let before = std::fs::read_to_string(&file).unwrap();
    let tighter = |text: &str| {
        let tightened = text.replace("gap_budget = \"5 s\"", "gap_budget = \"4 s\"");
        assert_ne!(tightened, text);
        tightened
    };
    let plan = async || engine.plan(&engine.group(&file).unwrap(), LightUp).await.unwrap();
    let refused = async |plan| {
        let Err(Error::Refused(refusal)) =
            engine.start(plan, Start::by(Actor::local("mira").authenticated("a test", "mira"))).await
        else {
            panic!("the plan started")
        };
        let [finding] = refusal.findings.as_slice() else { panic!("{refusal:?}") };
        assert_eq!(finding.rule, 607, "{finding}");
        finding.what.clone()
    };

    let tightened = plan().await;
    std::fs::write(&file, tighter(&before)).unwrap();
    assert!(refused(tightened).await.contains("was changed after this plan was made"));

    std::fs::write(&file, &before).unwrap();
    let unread = plan().await;
    std::fs::write(&file, "format = ").unwrap();
    assert!(refused(unread).await.contains("cannot be read"));

    std::fs::write(&file, format!("# only a comment\n{before}")).unwrap();
    let run =
        engine.start(plan().await, Start::by(Actor::local("mira").authenticated("a test", "mira"))).await.unwrap();
    // What runs goes on under what was approved, whatever the file says by then.
    std::fs::write(&file, tighter(&before)).unwrap();
    engine.close().await;
    let engine = house.engine().await;
    assert_eq!(engine.resume().await.unwrap().runs, [run.id().clone()]);
}
