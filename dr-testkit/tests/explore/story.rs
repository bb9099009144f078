//! A user's own runbook and service under faults, as an ordinary test; and handlers with planted bugs that must be found.

use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicU64, Ordering},
};

use async_trait::async_trait;
use dr_core::{
    Catalog, Handler, Observed, Outcome, StepCx, StepError,
    contract::{Query, Rows},
};
use dr_testkit::{Explorer, Fault, FaultPlan, Law, SimService, sim};

use crate::acme::{ConsumerControl, ConsumerSwitch, ControlError, LedgerComparer, SetConsumers, SettledSwitchover};

#[derive(Debug)]
struct Kafka {
    running: bool,
}

#[async_trait]
impl ConsumerControl for SimService<Kafka> {
    async fn set(&self, _group: &str, running: bool) -> Result<(), ControlError> {
        self.mutate("set", move |kafka| kafka.running = running).await.map_err(|error| ControlError(error.to_string()))
    }

    async fn is_running(&self, _group: &str) -> Result<bool, ControlError> {
        self.read("is_running", |kafka| kafka.running).await.map_err(|error| ControlError(error.to_string()))
    }
}

fn runbook() -> SettledSwitchover {
    let ledger = Query::new("ledger-total", "select sum(amount) from ledger");
    SettledSwitchover { consumers: "billing".into(), ledger }
}

fn explorer() -> Explorer<SimService<Kafka>> {
    Explorer::new(sim::pair("orders", "neu", "weu"), runbook())
        .outside(|world| world.service("kafka", Kafka { running: true }))
        .inside(|kafka| Catalog::built_in().with(ConsumerSwitch(Arc::new(kafka.clone()))).looking(LedgerComparer))
        .answer("ledger-total", |db| Rows::one(db.acknowledged().count()))
        .always("consumers are paused while the writer changes", |truth, kafka| {
            !truth.writer_is_changing() || kafka.look(|kafka| !kafka.running)
        })
        .finally("consumers run again", |_, kafka| kafka.look(|kafka| kafka.running))
        .finally("the application writes again", |truth, _| truth.app().is_open())
}

fn at_kafka(explorer: &Explorer<SimService<Kafka>>) -> Vec<FaultPlan> {
    let baseline = explorer.play(&FaultPlan::none());
    let positions = explorer
        .positions(&baseline)
        .into_iter()
        .filter(|(call, fault)| call.starts_with("kafka.") && Fault::OF_CALLS.contains(fault));
    positions.map(|(call, fault)| FaultPlan::one(call, fault)).collect()
}

#[test]
fn no_single_fault_at_our_own_service_hurts_a_settled_switchover() {
    let explorer = explorer();
    let plans = at_kafka(&explorer);
    assert!(plans.len() > 15, "{} positions", plans.len());
    for plan in &plans {
        let verdict = explorer.replay(&format!("{} {plan}", explorer.scenario())).unwrap();
        assert!(verdict.is_clean(), "{verdict}");
    }
}

/// Drops the error and claims that it was done.
struct Careless(SimService<Kafka>);

#[async_trait]
impl Handler for Careless {
    type Step = SetConsumers;

    async fn submit(&self, _cx: &StepCx, step: &SetConsumers) -> Result<Outcome<()>, StepError> {
        drop(self.0.set("billing", step.is_running()).await);
        Ok(Outcome::Done(()))
    }

    async fn observe(&self, _cx: &StepCx, _step: &SetConsumers) -> Result<Observed<()>, StepError> {
        Ok(Observed::NotStarted)
    }
}

#[test]
fn a_careless_handler_is_found_by_a_refusal_before_the_effect() {
    let careless = explorer().inside(|kafka| Catalog::built_in().with(Careless(kafka.clone())).looking(LedgerComparer));
    assert!(careless.play(&FaultPlan::none()).violations.is_empty(), "without a fault nobody notices");
    let line = format!("{} kafka.set#1:F1", careless.scenario());
    let verdict = careless.replay(&line).unwrap();
    let failure = verdict.failures.first().unwrap();
    assert_eq!(failure.law, Law::Own("consumers are paused while the writer changes".into()));
    let shown = verdict.to_string();
    assert!(shown.contains(&format!("DR_REPLAY='{line}'")) && shown.contains("weu.promote#1"), "{shown}");
    assert!(careless.replay("orders/separate/another@1 kafka.set#1:F1").is_err());
}

/// Remembers in memory what it did; after a crash it remembers nothing.
struct Forgetful(SimService<Kafka>, AtomicBool);

#[async_trait]
impl Handler for Forgetful {
    type Step = SetConsumers;

    async fn submit(&self, _cx: &StepCx, step: &SetConsumers) -> Result<Outcome<()>, StepError> {
        self.0.set("billing", step.is_running()).await?;
        self.1.store(true, Ordering::SeqCst);
        Ok(Outcome::accepted())
    }

    async fn observe(&self, _cx: &StepCx, _step: &SetConsumers) -> Result<Observed<()>, StepError> {
        let known = self.1.swap(false, Ordering::SeqCst);
        Ok(if known { Observed::Done(()) } else { Observed::Unknown(dr_core::Cause::new("I do not remember")) })
    }

    async fn prepare(&self, _cx: &StepCx, _step: &SetConsumers) -> Result<dr_core::plan::Prepared<()>, StepError> {
        Ok(dr_core::plan::Prepared::Ready(dr_core::plan::Ready::default()))
    }
}

#[test]
fn a_handler_that_remembers_in_memory_breaks_the_law_of_transient_faults() {
    let forgetful = explorer().inside(|kafka| {
        Catalog::built_in().with(Forgetful(kafka.clone(), AtomicBool::new(false))).looking(LedgerComparer)
    });
    assert_eq!(forgetful.play(&FaultPlan::none()).end.class(), "success");
    let line = format!("{} kafka.set#1:F16-after", forgetful.scenario());
    let verdict = forgetful.replay(&line).unwrap();
    assert_eq!(verdict.failures.first().map(|failure| failure.law.clone()), Some(Law::L3), "{verdict}");
    let allowed = forgetful.may_park("kafka.set", Fault::CrashAfter).replay(&line).unwrap();
    let parked = allowed.ends.contains_key("parked");
    assert_eq!(allowed.is_clean(), parked, "a park may be declared, an abort not: {allowed}");
}

/// A runbook that turns back in every schedule was called clean: each comparison with the run without faults proved nothing.
#[test]
fn bug_a_runbook_that_never_succeeds_was_called_clean() {
    let never = || {
        let asked = AtomicU64::new(0);
        explorer().answer("ledger-total", move |_| Rows::one(asked.fetch_add(1, Ordering::SeqCst)))
    };
    let verdict = never().random(7, 0);
    let [failure] = verdict.failures.as_slice() else { panic!("{verdict}") };
    assert!(failure.law == Law::L3 && failure.text.contains("it ends as `turned back`"), "{verdict}");
    never().expect_refusal().random(7, 0).assert_clean();
}
