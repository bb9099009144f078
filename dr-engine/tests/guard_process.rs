//! The drain guard as a process of its own: the orchestrator is killed in the gap and never restarted.
//!
//! This program is all of them: the trial, the orchestrator (`orchestrate`), and the guard (`__guard`).
#![expect(clippy::unwrap_used, clippy::expect_used, clippy::print_stdout, reason = "tests")]

use std::{
    ffi::OsString,
    io::{BufRead as _, BufReader, Write as _},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::Arc,
    time::{Duration, Instant},
};

use async_trait::async_trait;
use dr_core::{
    Actor, Answer, Catalog, Kind, Look, Millis, Observed, PlanBuilder, Purpose, RunId, Runbook, RunbookId, Situation,
    Step, StepCx, StepError, StepExt,
    base::Refusal,
    plan::{Effect, phase},
    run::{GuardEnd, Journal as _, NodePhase, Record, replay},
    seconds,
};
use dr_engine::{Engine, EngineBuilder, GUARD_VERB, SqliteJournal, Start, TokioRuntime};
use dr_testkit::{Setup, SimCloud};
use serde::{Deserialize, Serialize};

fn main() {
    let args: Vec<OsString> = std::env::args_os().skip(1).collect();
    let word = |index: usize| args.get(index).and_then(|word| word.to_str()).unwrap_or_default();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    if word(0) == "orchestrate" {
        runtime.block_on(orchestrate(Path::new(word(1))));
    } else if word(1) == GUARD_VERB {
        // house __guard --journal DIR --leases DIR --run RUN
        assert_eq!((word(2), word(4), word(6)), ("--journal", "--leases", "--run"));
        let end = runtime.block_on(guard(Path::new(word(0)), &word(7).parse().unwrap()));
        std::fs::write(Path::new(word(0)).join("guard-end"), format!("{end:?}")).unwrap();
    } else if !args.iter().any(|arg| arg == "--list") {
        runtime.block_on(killed_in_the_gap());
        println!("test the_guard_resumes_after_the_orchestrator_was_killed ... ok");
    }
}

fn cloud(house: &Path) -> SimCloud {
    let mut setup = Setup::pair("orders", "neu", "weu").fast();
    setup.drain_expires = false;
    SimCloud::open(&house.join("cloud.json"), setup, Arc::new(TokioRuntime::current().unwrap())).unwrap()
}

fn builder(house: &Path) -> EngineBuilder {
    Engine::open(house.join("journal"))
        .backend(cloud(house).backend())
        .steps(Catalog::built_in().looking(Dawdling))
        .leases(house.join("leases"))
        .guarded_by(std::env::current_exe().unwrap(), [house.as_os_str().to_owned()])
}

async fn guard(house: &Path, run: &RunId) -> GuardEnd {
    builder(house).guard(run).await.unwrap()
}

/// Looks for something that never comes: it keeps the run between its drain and its fence.
#[derive(Debug, Serialize, Deserialize)]
struct Dawdle {}

impl Step for Dawdle {
    const KIND: Kind = Kind::new("toy.dawdle", 1);
    const EFFECT: Effect = Effect::ReadOnly;
    type Output = ();

    fn sentence(&self) -> String {
        "wait for what never comes".into()
    }
}

struct Dawdling;

#[async_trait]
impl Look for Dawdling {
    type Step = Dawdle;

    async fn look(&self, _: &StepCx, _: &Dawdle) -> Result<Observed<()>, StepError> {
        Ok(Observed::NotStarted)
    }
}

/// A planned switchover that stays in its gap.
#[derive(Debug)]
struct SlowSwitchover;

impl Runbook for SlowSwitchover {
    fn id(&self) -> RunbookId {
        RunbookId::new("toy.slow-switchover", 1)
    }

    fn purpose(&self) -> Purpose {
        Purpose::Switchover
    }

    fn plan(&self, now: &Situation, plan: &mut PlanBuilder) -> Result<(), Refusal> {
        let ready = phase::ready_for(plan, now, &"weu".into())?;
        let drained = phase::drain(plan, now, &ready);
        let dawdle = plan.add("dawdle", Dawdle {}.after_all(&drained.edges()).within(seconds(60)));
        let handed = phase::hand_over(plan, now, &ready, &drained, &[&dawdle]);
        let traffic = phase::repoint(plan, now, &handed);
        let opened = phase::reopen(plan, drained, &traffic);
        phase::finish(plan, now, &handed, &opened);
        phase::bring_along(plan, now, &handed, &opened);
        phase::rejoin(plan, now, handed, &opened);
        Ok(())
    }
}

/// Starts a switchover, and says when it is in the gap.
async fn orchestrate(house: &Path) {
    let engine = builder(house).start().await.unwrap();
    let group = engine.group(house.join("orders.toml")).unwrap();
    let plan = engine.plan(&group, SlowSwitchover).await.unwrap();
    let run = engine.start(plan, Start::by(Actor::local("mira").authenticated("a test", "mira"))).await.unwrap();
    let mut watch = run.watch();
    while let Some(view) = watch.next().await.unwrap() {
        if let Some(to) = view.ask_digest {
            let ana = Actor::local("ana").with_role("dba").authenticated("a test", "ana");
            run.answer(Answer::choose(dr_core::APPROVE, to, ana)).await.unwrap();
        }
        if view.steps.iter().any(|step| step.id.as_str() == "dawdle" && step.state == NodePhase::Looking) {
            println!("drained");
            std::io::stdout().flush().unwrap();
        }
    }
}

/// Covers "the orchestrator killed during the gap and never restarted: the guard resumes writes on the old primary".
async fn killed_in_the_gap() {
    let dir = tempfile::tempdir().unwrap();
    let house: PathBuf = dir.path().to_path_buf();
    std::fs::write(house.join("orders.toml"), GROUP).unwrap();
    let mut orchestrator = Command::new(std::env::current_exe().unwrap())
        .args([OsString::from("orchestrate"), house.clone().into_os_string()])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let output = BufReader::new(orchestrator.stdout.take().unwrap());
    let drained = output.lines().map_while(Result::ok).any(|line| line == "drained");
    orchestrator.kill().unwrap();
    orchestrator.wait().unwrap();
    assert!(drained, "the orchestrator ended before its drain");
    cloud(&house).look(|truth| assert!(truth.app().is_drained()));
    let killed = Instant::now();

    let end = loop {
        if let Ok(end) = std::fs::read_to_string(house.join("guard-end")) {
            break end;
        }
        assert!(killed.elapsed() < Duration::from_secs(20), "no guard came");
        tokio::time::sleep(Duration::from_millis(20)).await;
    };
    assert!(end.starts_with("Resumed { onto: MemberId(\"neu\")"), "{end}");
    assert!(killed.elapsed() < GAP, "writes were stopped for {:?} after the kill", killed.elapsed());
    cloud(&house).look(|truth| assert!(truth.app().is_open() && truth.lost_acknowledged().is_empty()));

    let run: RunId = "orders-1".parse().unwrap();
    let journal = SqliteJournal::open(house.join("journal")).unwrap();
    let lines = journal.read(&run, 0).await.unwrap();
    let (state, _) = replay(&run, &lines).unwrap();
    assert!(state.gap_over && !state.promote_intended && !state.fence_intended());
    let last = Record::parse(lines.last().unwrap()).unwrap();
    assert_eq!(format!("{:?}", last.event.kind()), "DrainOverBudget");

    resumed_it_turns_back(&house, &run).await;
}

/// The run that nobody drove is resumed later, and ends as a clean abort: everything is as it was.
async fn resumed_it_turns_back(house: &Path, run: &RunId) {
    let engine = builder(house).start().await.unwrap();
    assert_eq!(engine.resume().await.unwrap().runs, std::slice::from_ref(run));
    let outcome = tokio::time::timeout(Duration::from_secs(30), engine.run(run).unwrap().wait()).await;
    let outcome = outcome.expect("it ends").unwrap();
    assert!(matches!(outcome, dr_core::run::RunOutcome::Aborted { .. }), "{outcome:?}");
    let lines = engine_lines(house, run).await;
    let (state, _) = replay(run, &lines).unwrap();
    assert!(state.held().is_empty() && state.nodes.values().all(|node| node.phase != NodePhase::InDoubt));
    cloud(house).look(|truth| {
        assert!(truth.app().is_open());
        assert_eq!(truth.primary().unwrap().as_str(), "neu");
        assert!(truth.lost_acknowledged().is_empty() && truth.lost_time() == Millis::ZERO);
    });
}

async fn engine_lines(house: &Path, run: &RunId) -> Vec<dr_core::run::Line> {
    SqliteJournal::open(house.join("journal")).unwrap().read(run, 0).await.unwrap()
}

const GAP: Duration = Duration::from_secs(5);
const GROUP: &str = r#"
format      = 2
name        = "orders"
environment = "test"
home        = "neu"

[limits]
gap_budget = "5 s"

[[member]]
name    = "neu"
region  = "region-neu"
backend = "sim"
at      = { instance = "neu" }

[[member]]
name    = "weu"
region  = "region-weu"
backend = "sim"
at      = { instance = "weu" }

[[secret]]
name  = "orders"
store = "sim"
set   = { host = "{writer.endpoint}" }

[[app]]
name = "api"
tier = "sim"

[[traffic]]
name   = "public"
router = "sim"
member = { neu = "neu", weu = "weu" }

[approval.switchover]
people = 1
roles  = ["dba"]
"#;
