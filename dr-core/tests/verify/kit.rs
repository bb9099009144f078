//! Step kinds whose parameters say everything, so that a test can change any part of a plan and the plan stays honest.

use std::{collections::BTreeMap, fmt::Debug, marker::PhantomData};

use async_trait::async_trait;
use dr_core::{
    Attempted, Catalog, CatchUpReceipt, Class, Consent, DrainReceipt, Effect, FenceReceipt, Json, Kind, Look,
    LossBound, LossMeasurement, NodeId, Observed, Output, Plan, PromotionReceipt, QuiesceReceipt, Step, StepCx,
    StepError, Touch, WriterReceipt,
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
    Confirm = "dr.confirm-writer", ConfirmWriter, ReadOnly, WriterReceipt;
    PointSecret = "dr.point-secret", Secret, Idempotent, ();
    WarmUp = "dr.warm-up", Other, ReadOnly, ();
    CheckWriter = "dr.check-writer", Guard, ReadOnly, ();
    Snapshot = "dr.final-snapshot", Harmless, Idempotent, ();
    ShiftTraffic = "dr.shift-traffic", Traffic, Idempotent, ();
    Serving = "dr.verify-serving", Guard, ReadOnly, ();
    Measure = "dr.measure-loss", Other, ReadOnly, LossMeasurement;
    Rejoin = "dr.rejoin", Rejoin, Reconcilable, ();
    Retire = "dr.retire-fence", RetireFence, Reconcilable, ();
    Other = "acme.set", Other, Idempotent, ();
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
    call.params.0 = serde_json::to_value(says).unwrap();
}
