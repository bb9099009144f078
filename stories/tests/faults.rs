//! Story 4: the runbook of story 2 under every single fault, as an ordinary test; and handlers with planted bugs, which are found.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use async_trait::async_trait;
use dr_core::{Catalog, Cause, Handler, Observed, Outcome, plan::{Prepared, Ready}, contract::{Query, Rows}, StepCx, StepError};
use dr_testkit::{ChangeKind, Explorer, Fault, FaultPlan, Law, SimService, Truth, Verdict, sim};

/// The same file as in the library: Rust lets a trait be implemented for somebody else's type only in the trait's own crate.
#[path = "../src/acme.rs"]
mod acme;

use acme::{ConsumerControl, ConsumerSwitch, ControlError, LedgerComparer, SetConsumers, SettledSwitchover};

/// Our own service as a part of the world: each call is a fault point, each effect a line of the truth.
#[derive(Debug)]
struct Kafka {
    group: String,
    running: bool,
}

impl Kafka {
    fn running(group: &str) -> Self {
        Self { group: group.into(), running: true }
    }

    fn set(&mut self, group: &str, running: bool) {
        assert_eq!(group, self.group, "another consumer group is touched");
        self.running = running;
    }
}

#[async_trait]
impl ConsumerControl for SimService<Kafka> {
    async fn set(&self, group: &str, running: bool) -> Result<(), ControlError> {
        let group = group.to_owned(); // a late effect outlives its caller
        let set = self.mutate("set", move |kafka| kafka.set(&group, running)).await;
        set.map_err(|error| ControlError(error.to_string()))
    }

    async fn is_running(&self, _group: &str) -> Result<bool, ControlError> {
        self.read("is_running", |kafka| kafka.running).await.map_err(|error| ControlError(error.to_string()))
    }
}

/// A drain that the provider delivers late, after that, is stopped by nobody: it ends by its own budget.
fn let_through(truth: &Truth<'_>) -> bool {
    truth.app().is_open()
        || truth.log().iter().any(|line| line.by.starts_with("app.resume") && line.kind == ChangeKind::Resumed)
}

const PAUSED: &str = "consumers are paused while the writer changes";

fn runbook() -> SettledSwitchover {
    let ledger = Query::new("ledger-total", "select sum(amount) from ledger");
    SettledSwitchover { consumers: "billing".into(), ledger }
}

fn explorer() -> Explorer<SimService<Kafka>> {
    Explorer::new(sim::pair("orders", "neu", "weu"), runbook())
        .outside(|world| world.service("kafka", Kafka::running("billing"))) // survives a crash
        .inside(|kafka| Catalog::built_in().with(ConsumerSwitch(Arc::new(kafka.clone()))).looking(LedgerComparer)) // does not
        .answer("ledger-total", |db| Rows::one(db.acknowledged().count()))
        .always(PAUSED, |truth, kafka| !truth.writer_is_changing() || kafka.look(|kafka| !kafka.running))
        .finally("consumers run again", |_, kafka| kafka.look(|kafka| kafka.running))
        .finally("the application writes again", |truth, _| let_through(truth))
}

#[test]
fn no_single_fault_hurts_a_settled_switchover() {
    let verdict = explorer().single_faults();
    println!("{verdict}");
    assert!(verdict.schedules > 500, "{} schedules", verdict.schedules);
    verdict.assert_clean();
}

/// Plays every single fault that can strike a call of our own service.
fn at_kafka(explorer: &Explorer<SimService<Kafka>>) -> Vec<Verdict> {
    let baseline = explorer.play(&FaultPlan::none());
    let positions = explorer.positions(&baseline).into_iter().filter(|(call, _)| call.starts_with("kafka."));
    let lines = positions.map(|(call, fault)| format!("{} {}", explorer.scenario(), FaultPlan::one(call, fault)));
    lines.map(|line| explorer.replay(&line).unwrap()).collect()
}

/// Drops the error and claims that it was done.
struct Careless(SimService<Kafka>);

#[async_trait]
impl Handler for Careless {
    type Step = SetConsumers;

    async fn submit(&self, _cx: &StepCx, step: &SetConsumers) -> Result<Outcome<()>, StepError> {
        let (group, running) = step.wanted();
        drop(ConsumerControl::set(&self.0, group, running).await);
        Ok(Outcome::Done(()))
    }

    async fn observe(&self, _cx: &StepCx, _step: &SetConsumers) -> Result<Observed<()>, StepError> {
        Ok(Observed::NotStarted)
    }
}

#[test]
fn a_careless_handler_is_found() {
    let careless = explorer().inside(|kafka| Catalog::built_in().with(Careless(kafka.clone())).looking(LedgerComparer));
    assert!(careless.play(&FaultPlan::none()).violations.is_empty(), "without a fault nobody notices");
    let verdicts = at_kafka(&careless);
    let broken =
        verdicts.iter().filter(|verdict| verdict.failures.iter().any(|failure| failure.law == Law::Own(PAUSED.into())));
    println!("careless: {} of {} schedules at kafka break the law", broken.clone().count(), verdicts.len());
    let shown: Vec<String> = broken.map(ToString::to_string).collect();
    // The page names the law, the fault and the line that plays it again.
    let replay = format!("DR_REPLAY='{} kafka.set#1:F1'", careless.scenario());
    assert!(shown.iter().any(|page| page.contains(&replay) && page.contains(PAUSED)), "{shown:?}");
}

/// Remembers in memory what it did; after a crash it remembers nothing.
struct Forgetful(SimService<Kafka>, AtomicBool);

#[async_trait]
impl Handler for Forgetful {
    type Step = SetConsumers;

    async fn prepare(&self, _cx: &StepCx, _step: &SetConsumers) -> Result<Prepared<()>, StepError> {
        Ok(Prepared::Ready(Ready::default()))
    }

    async fn submit(&self, _cx: &StepCx, step: &SetConsumers) -> Result<Outcome<()>, StepError> {
        let (group, running) = step.wanted();
        ConsumerControl::set(&self.0, group, running).await?;
        self.1.store(true, Ordering::SeqCst);
        Ok(Outcome::accepted())
    }

    async fn observe(&self, _cx: &StepCx, _step: &SetConsumers) -> Result<Observed<()>, StepError> {
        let known = self.1.swap(false, Ordering::SeqCst);
        Ok(if known { Observed::Done(()) } else { Observed::Unknown(Cause::new("I do not remember")) })
    }
}

#[test]
fn a_forgetful_handler_is_found_and_a_park_may_be_declared() {
    let forgetful = explorer().inside(|kafka| {
        Catalog::built_in().with(Forgetful(kafka.clone(), AtomicBool::new(false))).looking(LedgerComparer)
    });
    assert_eq!(forgetful.play(&FaultPlan::none()).end.class(), "success");
    let line = format!("{} kafka.set#2:F16-after", forgetful.scenario());
    let verdict = forgetful.replay(&line).unwrap();
    assert_eq!(verdict.failures.first().map(|failure| failure.law.clone()), Some(Law::L3), "{verdict}");
    let declared = forgetful.may_park("kafka.set", Fault::CrashAfter).replay(&line).unwrap();
    println!("{declared}");
    assert!(declared.ends.contains_key("parked") && declared.is_clean(), "{declared}");
}
