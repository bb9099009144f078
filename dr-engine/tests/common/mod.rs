//! A simulated pair in a temporary directory, and a runbook small enough to be read at one look: ask, then switch something.
#![expect(clippy::unwrap_used, reason = "tests")]
#![allow(dead_code, clippy::allow_attributes, reason = "each test program uses a part of it")]

use std::{
    io::Write as _,
    path::{Path, PathBuf},
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, AtomicU32, Ordering},
    },
};

use async_trait::async_trait;
use dr_core::{
    Actor, Answer, Catalog, Handler, Input, Kind, Millis, Observed, Outcome, PlanBuilder, Purpose, Runbook, RunbookId,
    Situation, Step, StepCx, StepError, StepExt, Touch,
    base::{Refusal, Role},
    contract::{Class, Consent, IntendedRole, LossBound},
    plan::{Effect, Prepared, Ready, Verified},
};
use dr_engine::{Engine, EngineBuilder, Error, Group, Run, Start, TokioRuntime};
use dr_testkit::{Setup, SimCloud};
use serde::{Deserialize, Serialize};
use tempfile::TempDir;

/// Asks people, as the driver wants a consent to be.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct AskPeople {
    question: String,
    loss: Option<Input<LossBound>>,
    people: u8,
    roles: Vec<Role>,
    expires_in: Millis,
}

impl Step for AskPeople {
    const KIND: Kind = Kind::new("dr.toy-ask", 1);
    const EFFECT: Effect = Effect::ReadOnly;
    const CLASS: Class = Class::Consent;
    type Output = Consent;

    fn sentence(&self) -> String {
        self.question.clone()
    }
}

/// Answers "nothing to add" to the driver, which asks the people itself.
pub(crate) struct Asking;

#[async_trait]
impl Handler for Asking {
    type Step = AskPeople;

    async fn observe(&self, _cx: &StepCx, _step: &AskPeople) -> Result<Observed<Consent>, StepError> {
        Ok(Observed::NotStarted)
    }

    async fn prepare(&self, _cx: &StepCx, _step: &AskPeople) -> Result<Prepared<Consent>, StepError> {
        Ok(Prepared::Ready(Ready::default()))
    }

    async fn submit(&self, _cx: &StepCx, _step: &AskPeople) -> Result<Outcome<Consent>, StepError> {
        Ok(Outcome::accepted())
    }
}

/// Switches the world's lamp on or off.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct SetLamp {
    on: bool,
}

impl Step for SetLamp {
    const KIND: Kind = Kind::new("toy.set-lamp", 1);
    const EFFECT: Effect = Effect::Idempotent;
    type Output = ();

    fn sentence(&self) -> String {
        format!("switch the lamp {}", if self.on { "on" } else { "off" })
    }

    fn touches(&self) -> Vec<Touch> {
        vec![Touch::new("lamp:hall", "set")]
    }
}

/// The lamp: what a step changes, outside of any engine.
#[derive(Clone, Debug, Default)]
pub(crate) struct Lamp {
    pub(crate) on: Arc<AtomicBool>,
    pub(crate) switched: Arc<AtomicU32>,
    /// How many looks panic before one answers.
    pub(crate) panics: Arc<AtomicU32>,
    /// When another program fills the disk, with which file.
    pub(crate) fills: Arc<OnceLock<(Moment, PathBuf)>>,
}

/// A moment of one call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Moment {
    BeforeTheIntent,
    AfterTheEffect,
}

impl Lamp {
    fn at(&self, now: Moment) {
        if let Some((_, file)) = self.fills.get().filter(|(moment, file)| *moment == now && !file.exists()) {
            fill(file);
        }
    }
}

/// Writes until the disk takes no byte more.
pub(crate) fn fill(path: &Path) {
    let mut file = std::fs::File::create(path).unwrap();
    for size in [65_536, 4_096, 1] {
        while file.write_all(&vec![0; size]).is_ok() {}
    }
}

#[async_trait]
impl Handler for Lamp {
    type Step = SetLamp;

    async fn observe(&self, _cx: &StepCx, step: &SetLamp) -> Result<Observed<()>, StepError> {
        let panics = self.panics.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1));
        assert!(panics.is_err(), "the lamp is broken");
        self.at(Moment::BeforeTheIntent);
        Ok(if self.on.load(Ordering::SeqCst) == step.on { Observed::Done(()) } else { Observed::NotStarted })
    }

    async fn submit(&self, _cx: &StepCx, step: &SetLamp) -> Result<Outcome<()>, StepError> {
        self.on.store(step.on, Ordering::SeqCst);
        self.switched.fetch_add(1, Ordering::SeqCst);
        self.at(Moment::AfterTheEffect);
        Ok(Outcome::Done(()))
    }
}

/// Ask one person, then switch the lamp on.
#[derive(Debug)]
pub(crate) struct LightUp;

impl Runbook for LightUp {
    fn id(&self) -> RunbookId {
        RunbookId::new("toy.light-up", 1)
    }

    fn purpose(&self) -> Purpose {
        Purpose::Drill
    }

    fn plan(&self, _now: &Situation, plan: &mut PlanBuilder) -> Result<(), Refusal> {
        let ask = AskPeople {
            question: "light the hall?".into(),
            loss: None,
            people: 1,
            roles: vec![Role::new("dba")],
            expires_in: Millis::minutes(5),
        };
        let consent = plan.add("consent", ask.within(Millis::minutes(10)));
        let lamp = plan.hold("lamp", SetLamp { on: true }.after(&consent), SetLamp { on: false });
        plan.release(lamp, &consent);
        Ok(())
    }
}

/// A temporary journal, lease directory and simulated pair.
pub(crate) struct House {
    pub(crate) dir: TempDir,
    pub(crate) cloud: SimCloud,
    pub(crate) lamp: Lamp,
}

impl House {
    pub(crate) fn new() -> Self {
        Self::of(Setup::pair("orders", "neu", "weu").fast())
    }

    /// Its drains do not end by themselves.
    pub(crate) fn that_drains_for_ever() -> Self {
        let mut setup = Setup::pair("orders", "neu", "weu").fast();
        setup.drain_expires = false;
        Self::of(setup)
    }

    /// Its fence leaves the server running.
    pub(crate) fn behind_a_network_rule() -> Self {
        Self::of(Setup { network_fence: true, ..Setup::pair("orders", "neu", "weu").fast() })
    }

    /// A third member follows, and a fourth one reads.
    pub(crate) fn of_four() -> Self {
        let setup = Setup::pair("orders", "neu", "weu").with("uks", IntendedRole::Follower);
        let more = r#"
[[member]]
name    = "uks"
region  = "region-uks"
role    = "follower"
backend = "sim"
at      = { instance = "uks" }

[[member]]
name    = "bi"
region  = "region-bi"
role    = "reader"
backend = "sim"
at      = { instance = "bi" }

[limits]"#;
        let file = GROUP.replacen("\n[limits]", more, 1);
        let file = file.replacen("weu = \"weu\" }", "weu = \"weu\", uks = \"uks\", bi = \"bi\" }", 1);
        Self::with(setup.with("bi", IntendedRole::Reader).fast(), &file)
    }

    fn of(setup: Setup) -> Self {
        Self::with(setup, GROUP)
    }

    fn with(setup: Setup, file: &str) -> Self {
        let cloud = SimCloud::new(setup, Arc::new(TokioRuntime::current().unwrap()));
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("orders.toml"), file).unwrap();
        Self { dir, cloud, lamp: Lamp::default() }
    }

    /// An engine on the journal called `journal`; all of them use one lease directory.
    pub(crate) fn builder(&self, journal: &str) -> EngineBuilder {
        Engine::open(self.dir.path().join(journal))
            .backend(self.cloud.backend())
            .steps(Catalog::empty().with(Asking).with(self.lamp.clone()))
            .leases(self.dir.path().join("leases"))
            .holder("a test")
            .without_watcher()
            .unguarded()
    }

    /// An engine that lacks the step kinds of this house.
    pub(crate) async fn without_steps(&self) -> Engine {
        let bare = Engine::open(self.dir.path().join("journal")).backend(self.cloud.backend()).without_watcher();
        bare.leases(self.dir.path().join("leases")).unguarded().start().await.unwrap()
    }

    /// An engine whose guard is `program`.
    pub(crate) fn guarded(&self, program: Option<&str>) -> EngineBuilder {
        let builder = Engine::open(self.dir.path().join("journal")).backend(self.cloud.backend()).without_watcher();
        let builder = builder.leases(self.dir.path().join("leases"));
        match program {
            Some(program) => builder.guarded_by(program, []),
            None => builder,
        }
    }

    /// An engine that samples positions.
    pub(crate) async fn watching(&self) -> Engine {
        let house = Engine::open(self.dir.path().join("journal")).backend(self.cloud.backend()).unguarded();
        house.leases(self.dir.path().join("leases")).start().await.unwrap()
    }

    pub(crate) async fn engine(&self) -> Engine {
        self.builder("journal").start().await.unwrap()
    }

    pub(crate) fn group(&self, engine: &Engine) -> Group {
        engine.group(self.dir.path().join("orders.toml")).unwrap()
    }

    pub(crate) async fn plan(&self, engine: &Engine) -> Verified {
        engine.plan(&self.group(engine), LightUp).await.unwrap()
    }

    pub(crate) async fn begin(&self, engine: &Engine) -> Result<Run, Error> {
        engine
            .start(
                self.plan(engine).await,
                Start::by(Actor::local("mira").authenticated("a test", "mira")).because("CHG-1"),
            )
            .await
    }
}

/// Waits until the run asks, and answers as `who`.
pub(crate) async fn answer(run: &Run, who: &str, choice: &str) -> Result<dr_core::run::Ask, Error> {
    let mut watch = run.watch();
    loop {
        let view = watch.next().await?.unwrap();
        if let Some(to) = view.ask_digest {
            return run.answer(Answer::choose(choice, to, dba(who))).await;
        }
    }
}

pub(crate) fn dba(name: &str) -> Actor {
    Actor::local(name).with_role("dba").authenticated("a test", name)
}

const GROUP: &str = r#"
format      = 2
name        = "orders"
environment = "test"
home        = "neu"
allow       = ["lamp:hall set"]

[objectives]
rto = "1 min"

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

[limits]
gap_budget = "5 s"

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
roles = ["dba"]

[approval.failover]
roles = ["dba"]
"#;
