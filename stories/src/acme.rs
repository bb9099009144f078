//! Story 2: a database team writes two steps and a runbook of its own.
//!
//! While applications are drained, pause the Kafka consumers that write into the same database, wait until a ledger total is equal on
//! both sides, then let the built-in hand-over go on.

use std::{fmt::Debug, sync::Arc};

use async_trait::async_trait;
use dr_core::{contract::{DrainReceipt, Query, Rows}, plan::{Effect, Output, phase}, Handler, Input, Kind, Look, MemberId, Observed, Outcome, PlanBuilder, Purpose, base::Refusal, Runbook, RunbookId, Situation, Step, StepCx, StepError, StepExt as _, Timestamp, Touch, millis, minutes};
use serde::{Deserialize, Serialize};

/// Sets a consumer group running or paused: absolute, so saying it twice is harmless.
#[derive(Debug, Serialize, Deserialize)]
pub struct SetConsumers {
    group: String,
    running: bool,
}

impl SetConsumers {
    pub fn paused(group: &str) -> Self {
        Self { group: group.into(), running: false }
    }

    pub fn running(group: &str) -> Self {
        Self { group: group.into(), running: true }
    }

    /// What is wanted of which consumer group.
    pub fn wanted(&self) -> (&str, bool) {
        (&self.group, self.running)
    }
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

/// The broker did not do what it was asked, or did not say.
#[derive(Debug)]
pub struct ControlError(pub String);

impl std::fmt::Display for ControlError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "the consumer control failed: {}", self.0)
    }
}

impl std::error::Error for ControlError {}

/// Our own client.
#[async_trait]
pub trait ConsumerControl: Send + Sync + 'static {
    async fn set(&self, group: &str, running: bool) -> Result<(), ControlError>;
    async fn is_running(&self, group: &str) -> Result<bool, ControlError>;
}

pub struct ConsumerSwitch(pub Arc<dyn ConsumerControl>);

#[async_trait]
impl Handler for ConsumerSwitch {
    type Step = SetConsumers;

    async fn submit(&self, _cx: &StepCx, step: &SetConsumers) -> Result<Outcome<()>, StepError> {
        self.0.set(&step.group, step.running).await?; // a bare `?` means "nobody knows": the safe reading
        Ok(Outcome::accepted()) // asked; whether it is so, observe says
    }

    async fn observe(&self, _cx: &StepCx, step: &SetConsumers) -> Result<Observed<()>, StepError> {
        let running = self.0.is_running(&step.group).await?;
        Ok(if running == step.running { Observed::Done(()) } else { Observed::NotStarted })
    }
}

/// What the ledger said on both sides.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Settled {
    pub total: Rows,
    pub drained_at: Timestamp,
}

impl Output for Settled {
    fn type_name() -> std::borrow::Cow<'static, str> {
        "acme.settled".into()
    }
}

/// Waits until one query answers the same on two members.
#[derive(Debug, Serialize, Deserialize)]
pub struct CompareLedger {
    left: MemberId,
    right: MemberId,
    query: Query,
    drained: Input<DrainReceipt>,
}

impl Step for CompareLedger {
    const KIND: Kind = Kind::new("acme.compare-ledger", 1);
    const EFFECT: Effect = Effect::ReadOnly;
    type Output = Settled;

    fn sentence(&self) -> String {
        format!("compare {} on {} and {}", self.query.name, self.left, self.right)
    }
}

pub struct LedgerComparer;

#[async_trait]
impl Look for LedgerComparer {
    type Step = CompareLedger;

    async fn look(&self, cx: &StepCx, step: &CompareLedger) -> Result<Observed<Settled>, StepError> {
        let drained_at = step.drained.get()?.at; // the receipt of an earlier step, with its type
        let left = cx.probe(&step.left)?.ask(&step.query).await?;
        let right = cx.probe(&step.right)?.ask(&step.query).await?;
        Ok(if left == right { Observed::Done(Settled { total: left, drained_at }) } else { Observed::NotStarted })
    }
}

#[derive(Debug)]
pub struct SettledSwitchover {
    pub consumers: String,
    pub ledger: Query,
}

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
        let consumers = plan.hold(
            "consumers",
            SetConsumers::paused(&self.consumers)
                .after_all(&drained.edges())
                .because("a consumer must not read two histories")
                .every(millis(20)),
            SetConsumers::running(&self.consumers),
        );
        let compare = CompareLedger {
            left: now.primary.name.clone(),
            right: ready.target.member.clone(),
            query: self.ledger.clone(),
            drained: Input::of(drained.receipt()),
        };
        let settled = plan.add("ledger-settled", compare.after(&consumers).within(minutes(2)).every(millis(20)));
        let handed = phase::hand_over(plan, now, &ready, &drained, &[&settled]); // either promotion shape
        let traffic = phase::repoint(plan, now, &handed); // secret, routes, warm-up
        plan.release(consumers, &traffic);
        let opened = phase::reopen(plan, drained, &traffic);
        phase::finish(plan, now, &handed, &opened);
        phase::bring_along(plan, now, &handed, &opened);
        phase::rejoin(plan, now, handed, &opened);
        Ok(())
    }
}
