//! Step kinds whose parameters say everything, so that a test can change any part of a plan and the plan stays honest.

use std::{collections::BTreeMap, fmt::Debug, marker::PhantomData};

use async_trait::async_trait;
use dr_core::{
    Catalog, Kind, Look, NodeId, Observed, Plan, Step, StepCx, StepError, Touch,
    base::Json,
    contract::{
        CatchUpReceipt, Class, Consent, DrainReceipt, FenceReceipt, LossBound, LossMeasurement, PromotionReceipt,
        QuiesceReceipt, WriterReceipt,
    },
    plan::{Attempted, Duty, Effect, Marks, Output, Stage},
};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

/// What every test step says of itself: what it touches, which outputs it takes, and anything else.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Says {
    pub(crate) touch: Vec<Touch>,
    pub(crate) takes: BTreeMap<String, Value>,
    #[serde(flatten)]
    pub(crate) more: BTreeMap<String, Json>,
}

/// What the kind of the library declares, with what the parameters of a test step say.
fn marks(kind: &str, says: &Says) -> Marks {
    let places = match kind {
        "dr.group-lock" => Marks::at(Stage::Lock).duty(Duty::GroupLock),
        "dr.check-sides" => Marks::at(Stage::Look).or(Stage::Shorten).duty(Duty::Sides),
        "dr.check-candidate" => Marks::at(Stage::Look).or(Stage::Shorten).duty(Duty::Candidate),
        "dr.check-primary-down" => Marks::at(Stage::Look).or(Stage::Shorten).duty(Duty::Silence),
        "dr.check-replication" => Marks::check(Duty::Replication),
        "dr.check-lag" => Marks::check(Duty::Lag),
        "dr.check-transactions" => Marks::check(Duty::Transactions),
        "dr.check-parity" => Marks::check(Duty::Parity),
        "dr.rehearse" => Marks::at(Stage::Check).duty(Duty::Rehearsal),
        "dr.rehearse-again" => Marks::at(Stage::Shorten).duty(Duty::RehearsalAgain),
        "dr.bound-loss" if says.takes.contains_key("fence") => Marks::at(Stage::Prove).duty(Duty::LossBound),
        "dr.bound-loss" => Marks::at(Stage::Check).duty(Duty::LossBound),
        "dr.ask" => Marks::at(Stage::Ask),
        "dr.settle" => Marks::at(Stage::Shorten).duty(Duty::Settling),
        "dr.notify" => Marks::default().duty(Duty::Notice),
        "dr.final-snapshot" => Marks::at(Stage::After).duty(Duty::Snapshot),
        "dr.begin-snapshot" => Marks::at(Stage::Check).duty(Duty::Snapshot),
        "dr.drain" => Marks::at(Stage::Hold),
        "dr.fence" => Marks::at(Stage::Fence).or(Stage::Owe),
        "dr.catch-up" | "dr.quiesced" => Marks::at(Stage::Prove),
        "dr.promote" | "dr.swap-roles" => Marks::at(Stage::Change),
        "dr.clear-fence" => Marks::at(Stage::Clear),
        "dr.confirm-writer" | "dr.observe-writer" => Marks::at(Stage::Confirm),
        "dr.point-secret" | "dr.shift-traffic" | "dr.warm-up" => Marks::at(Stage::Move),
        "dr.check-writer" => Marks::at(Stage::Recheck).duty(Duty::WriterStill),
        "dr.resume-writes" => Marks::at(Stage::Open),
        "dr.verify-serving" => Marks::at(Stage::After).duty(Duty::Serving),
        "dr.measure-loss" => Marks::at(Stage::After).duty(Duty::LossMeasured),
        "dr.rejoin" => Marks::at(Stage::After).duty(Duty::Rejoin),
        "dr.retire-fence" => Marks::at(Stage::After),
        "acme.lag" => Marks::default().duty(Duty::Lag),
        _ => Marks::default(),
    };
    let more = |name: &str| says.more.get(name).map(|json| json.0.clone());
    Marks {
        asks_for: more("minimum").and_then(|grade| serde_json::from_value(grade).ok()),
        people: more("people").and_then(|people| serde_json::from_value(people).ok()),
        risk: more("risk").and_then(|reason| serde_json::from_value(reason).ok()),
        looks_at: more("route").and_then(|route| serde_json::from_value(route).ok()),
        ..places
    }
}

/// Sees nothing: rules never ask a handler.
pub(crate) struct Blind<S>(PhantomData<fn() -> S>);

#[async_trait]
impl<S: Step> Look for Blind<S> {
    type Step = S;
    async fn look(&self, _cx: &StepCx, _step: &S) -> Result<Observed<S::Output>, StepError> {
        Ok(Observed::NotStarted)
    }
}

macro_rules! kinds {
    ($($step:ident = $name:literal, $class:ident, $effect:ident, $output:ty;)*) => {
        $(
            #[derive(Clone, Debug, Default, Serialize, Deserialize)]
            #[serde(transparent)]
            pub(crate) struct $step(pub(crate) Says);

            impl Step for $step {
                const KIND: Kind = Kind::new($name, 1);
                const EFFECT: Effect = Effect::$effect;
                const CLASS: Class = Class::$class;
                type Output = $output;
                fn sentence(&self) -> String {
                    format!("do {}", $name)
                }
                fn touches(&self) -> Vec<Touch> {
                    self.0.touch.clone()
                }
                fn marks(&self) -> Marks {
                    marks($name, &self.0)
                }
            }

            impl From<Says> for $step {
                fn from(says: Says) -> Self {
                    Self(says)
                }
            }
        )*

        /// All test kinds.
        pub(crate) fn catalog() -> Catalog {
            Catalog::empty()$(.looking(Blind::<$step>(PhantomData)))*
        }
    };
}

kinds! {
    Sides = "dr.check-sides", Guard, ReadOnly, ();
    Candidate = "dr.check-candidate", Guard, ReadOnly, ();
    Replication = "dr.check-replication", Guard, ReadOnly, ();
    Lag = "dr.check-lag", Guard, ReadOnly, ();
    Transactions = "dr.check-transactions", Guard, ReadOnly, ();
    Parity = "dr.check-parity", Guard, ReadOnly, ();
    Rehearse = "dr.rehearse", Guard, ReadOnly, ();
    RehearseAgain = "dr.rehearse-again", Guard, ReadOnly, ();
    Down = "dr.check-primary-down", Guard, ReadOnly, ();
    Lock = "dr.group-lock", Guard, ReadOnly, ();
    Bound = "dr.bound-loss", Guard, ReadOnly, LossBound;
    Ask = "dr.ask", Consent, ReadOnly, Consent;
    Settle = "dr.settle", Harmless, Idempotent, ();
    Notify = "dr.notify", Harmless, Idempotent, ();
    Drain = "dr.drain", Drain, Idempotent, DrainReceipt;
    Resume = "dr.resume-writes", Resume, Idempotent, ();
    Fence = "dr.fence", Fence, Reconcilable, FenceReceipt;
    Unfence = "dr.release-fence", ReleaseFence, Reconcilable, ();
    CatchUp = "dr.catch-up", CatchUp, ReadOnly, CatchUpReceipt;
    Quiet = "dr.quiesced", CatchUp, ReadOnly, QuiesceReceipt;
    Promote = "dr.promote", Pivot, AtMostOnce, PromotionReceipt;
    Swap = "dr.swap-roles", Pivot, AtMostOnce, PromotionReceipt;
    Clear = "dr.clear-fence", ClearFence, Reconcilable, ();
    Confirm = "dr.confirm-writer", ConfirmWriter, ReadOnly, WriterReceipt;
    Observe = "dr.observe-writer", ConfirmWriter, ReadOnly, WriterReceipt;
    PointSecret = "dr.point-secret", Secret, Idempotent, ();
    WarmUp = "dr.warm-up", Other, ReadOnly, ();
    CheckWriter = "dr.check-writer", Guard, ReadOnly, ();
    Snapshot = "dr.final-snapshot", Harmless, Idempotent, ();
    BeginSnapshot = "dr.begin-snapshot", Harmless, Idempotent, ();
    ShiftTraffic = "dr.shift-traffic", Traffic, Idempotent, ();
    Serving = "dr.verify-serving", Guard, ReadOnly, ();
    Measure = "dr.measure-loss", Other, ReadOnly, LossMeasurement;
    Rejoin = "dr.rejoin", Rejoin, Reconcilable, ();
    Retire = "dr.retire-fence", RetireFence, Reconcilable, ();
    Other = "acme.set", Other, Idempotent, ();
    OwnCheck = "acme.check", Guard, ReadOnly, ();
    OwnLag = "acme.lag", Guard, ReadOnly, ();
    Imposter = "acme.promote", Pivot, AtMostOnce, PromotionReceipt;
    Wipe = "acme.wipe", Destroy, AtMostOnce, ();
    Grow = "acme.add-replica", Topology, Idempotent, ();
}

/// A reference to the output of `node`.
pub(crate) fn reference<T: Output>(node: &str) -> Value {
    json!({ "$ref": node, "type": T::type_name() })
}

/// What a step touches.
pub(crate) fn touching(touches: &[(&str, &str)]) -> Says {
    let touch = touches.iter().map(|(resource, verb)| Touch::new(*resource, *verb)).collect();
    Says { touch, ..Says::default() }
}

impl Says {
    /// It takes the output of `node`.
    pub(crate) fn taking<T: Output>(mut self, input: &str, node: &str) -> Self {
        self.takes.insert(input.into(), reference::<T>(node));
        self
    }

    /// It takes what `node`, which may fail, leaves behind.
    pub(crate) fn taking_attempt<T: Output>(self, input: &str, node: &str) -> Self {
        self.taking::<Attempted<T>>(input, node)
    }

    /// Another parameter.
    pub(crate) fn with(mut self, name: &str, value: Value) -> Self {
        self.more.insert(name.into(), Json(value));
        self
    }
}

/// Changes what a step of a plan says, touches included, so that only the rule in question has something against it.
pub(crate) fn say(plan: &mut Plan, node: &str, change: impl FnOnce(&mut Says)) {
    let call = &mut plan.nodes.get_mut(&NodeId::new(node)).unwrap().call;
    let mut says: Says = serde_json::from_value(call.params.0.clone()).unwrap();
    change(&mut says);
    call.touches.clone_from(&says.touch);
    call.marks = marks(call.kind.name(), &says);
    call.params.0 = serde_json::to_value(says).unwrap();
}
