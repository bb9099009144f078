//! A runbook of one's own, with two steps of one's own: while applications are drained, pause the consumers that write into the same
//! database, wait until a ledger total is equal on both sides, and let the built-in hand-over go on. The same phases, the same guards.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::Result;
use async_trait::async_trait;
use clap::Parser;
use dr_core::{
    Catalog, Handler, Input, Kind, Look, MemberId, Observed, Outcome, PlanBuilder, Purpose, Refusal, Runbook,
    RunbookId, Situation, Step, StepCx, StepError, StepExt as _, Touch,
    contract::{DrainReceipt, Query, Rows},
    millis, minutes,
    plan::{Effect, phase},
};
use dr_engine::Start;
use dr_examples::{Board, People, Shown, Stage, follow, requester};
use dr_testkit::Setup;
use serde::{Deserialize, Serialize};

/// Sets a consumer group running or paused: absolute, so saying it twice is harmless. A step is data.
#[derive(Debug, Serialize, Deserialize)]
struct SetConsumers {
    group: String,
    running: bool,
}

impl Step for SetConsumers {
    const KIND: Kind = Kind::new("acme.set-consumers", 1);
    const EFFECT: Effect = Effect::Idempotent;
    type Output = ();

    fn sentence(&self) -> String {
        format!("{} consumer group {}", if self.running { "start" } else { "pause" }, self.group)
    }

    fn touches(&self) -> Vec<Touch> {
        vec![Touch::new(format!("kafka:{}", self.group), "set-running")]
    }
}

/// The code of that step: a handler has the clients. Here the broker is one flag.
struct ConsumerSwitch(Arc<AtomicBool>);

#[async_trait]
impl Handler for ConsumerSwitch {
    type Step = SetConsumers;

    async fn submit(&self, _cx: &StepCx, step: &SetConsumers) -> Result<Outcome<()>, StepError> {
        self.0.store(step.running, Ordering::SeqCst);
        Ok(Outcome::accepted()) // asked; whether it is so, observe says
    }

    async fn observe(&self, _cx: &StepCx, step: &SetConsumers) -> Result<Observed<()>, StepError> {
        let running = self.0.load(Ordering::SeqCst);
        Ok(if running == step.running { Observed::Done(()) } else { Observed::NotStarted })
    }
}

/// Waits until one query answers the same on two members. It only looks.
#[derive(Debug, Serialize, Deserialize)]
struct CompareLedger {
    left: MemberId,
    right: MemberId,
    drained: Input<DrainReceipt>,
}

impl Step for CompareLedger {
    const KIND: Kind = Kind::new("acme.compare-ledger", 1);
    const EFFECT: Effect = Effect::ReadOnly;
    type Output = ();

    fn sentence(&self) -> String {
        format!("compare the ledger of {} and {}", self.left, self.right)
    }
}

struct LedgerComparer;

#[async_trait]
impl Look for LedgerComparer {
    type Step = CompareLedger;

    async fn look(&self, cx: &StepCx, step: &CompareLedger) -> Result<Observed<()>, StepError> {
        step.drained.get()?; // the receipt of an earlier step, with its type
        let total = Query::new("ledger-total", "select sum(amount) from ledger");
        let left = cx.probe(&step.left)?.ask(&total).await?; // a bare `?` means "nobody knows": the safe reading
        let right = cx.probe(&step.right)?.ask(&total).await?;
        Ok(if left == right { Observed::Done(()) } else { Observed::NotStarted })
    }
}

#[derive(Debug)]
struct SettledSwitchover;

impl Runbook for SettledSwitchover {
    fn id(&self) -> RunbookId {
        RunbookId::new("acme.settled-switchover", 1)
    }

    fn purpose(&self) -> Purpose {
        Purpose::Switchover
    }

    fn plan(&self, now: &Situation, plan: &mut PlanBuilder) -> Result<(), Refusal> {
        let ready = phase::ready(plan, now)?; // look, prechecks, consent
        let drained = phase::drain(plan, now, &ready);
        let consumers = |running| SetConsumers { group: "billing".into(), running };
        let pause = consumers(false).after_all(&drained.edges()).because("nobody reads two histories").every(millis(5));
        let paused = plan.hold("consumers", pause, consumers(true));
        let (left, right) = (now.primary.name.clone(), ready.target.member.clone());
        let ledger = CompareLedger { left, right, drained: Input::of(drained.receipt()) };
        let settled = plan.add("ledger-settled", ledger.after(&paused).within(minutes(2)).every(millis(5)));
        let handed = phase::hand_over(plan, now, &ready, &drained, &[&settled]); // either promotion shape
        let traffic = phase::repoint(plan, now, &handed); // secret, warm-up, routes
        plan.release(paused, &traffic);
        let opened = phase::reopen(plan, drained, &traffic);
        phase::finish(plan, now, &handed, &opened);
        phase::bring_along(plan, now, &handed, &opened);
        phase::rejoin(plan, now, handed, &opened);
        Ok(())
    }
}

/// A switchover with steps of one's own, on the simulated cloud.
#[derive(Debug, Parser)]
struct Args {
    /// Writes one JSON object to standard output; progress goes to standard error.
    #[arg(long)]
    json: bool,
}

#[tokio::main]
async fn main() -> Result<()> {
    let args = Args::parse();
    let consumers = Arc::new(AtomicBool::new(true));
    let stage = Stage::open(None, Setup::pair("orders", "neu", "weu").fast())?;
    stage.cloud.answer("ledger-total", |member| Rows::one(member.acknowledged().count()));
    let steps = Catalog::built_in().with(ConsumerSwitch(Arc::clone(&consumers))).looking(LedgerComparer);
    let engine = stage.engine_with(steps).start().await?;
    let plan = engine.plan(&engine.group(stage.group_file())?, SettledSwitchover).await?;
    let mut board = Board::new();
    board.say(&plan.preview());
    let run = engine.start(plan, Start::by(requester()).because("pause the consumers, too")).await?;
    let followed = follow(&run, &mut board, &mut People::new(!args.json)).await?;
    let running = consumers.load(Ordering::SeqCst);
    Shown::of(&stage.cloud, followed.report).with("consumers_running", running).print(args.json)
}
