//! Steps are data: everything that a preview, a hash, a rule or a person needs, without a client, a clock or async.

use std::{borrow::Cow, fmt::Debug};

use serde::{Deserialize, Serialize, de::DeserializeOwned};

use crate::{
    base::Kind,
    contract::{
        CatchUpReceipt, Class, Consent, DrainReceipt, FenceReceipt, LossBound, LossMeasurement, PromotionReceipt,
        QuiesceReceipt, RestoreReceipt, Touch, WriterReceipt,
    },
    plan::Marks,
};

/// What happens when a call is made twice, or its answer is lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Effect {
    /// It only looks. It may be abandoned at any time.
    ReadOnly,
    /// Saying it twice is harmless: the wanted state is absolute.
    Idempotent,
    /// It must not be repeated blindly, but a look tells whether it happened.
    Reconcilable,
    /// It must happen at most once; its intent is sealed before it is sent.
    AtMostOnce,
}

/// What a step leaves behind for later steps. The name is part of every plan, so that a reference says what it carries.
pub trait Output: Serialize + DeserializeOwned + Debug + Clone + Send + Sync + 'static {
    /// The name, with its owner: `dr.fence-receipt`.
    fn type_name() -> Cow<'static, str>;
}

macro_rules! outputs {
    ($($type:ty => $name:literal),* $(,)?) => {
        $(impl Output for $type {
            fn type_name() -> Cow<'static, str> {
                Cow::Borrowed($name)
            }
        })*
    };
}

outputs! {
    () => "dr.nothing",
    DrainReceipt => "dr.drain-receipt",
    FenceReceipt => "dr.fence-receipt",
    CatchUpReceipt => "dr.catch-up-receipt",
    QuiesceReceipt => "dr.quiesce-receipt",
    PromotionReceipt => "dr.promotion-receipt",
    WriterReceipt => "dr.writer-receipt",
    RestoreReceipt => "dr.restore-receipt",
    Consent => "dr.consent",
    LossBound => "dr.loss-bound",
    LossMeasurement => "dr.loss-measurement",
}

/// The output of a step that was allowed to fail. No dangerous parameter accepts it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "is", content = "of")]
pub enum Attempted<T> {
    /// It worked.
    Done(T),
    /// It did not, and somebody owes it.
    Owed(String),
}

impl<T: Output> Output for Attempted<T> {
    fn type_name() -> Cow<'static, str> {
        Cow::Owned(format!("attempted {}", T::type_name()))
    }
}

/// One step: what is to be done, as data.
pub trait Step: Serialize + DeserializeOwned + Debug + Send + Sync + 'static {
    /// Name and version. A change of meaning or of fields is a new version.
    const KIND: Kind;
    /// What repeating it does.
    const EFFECT: Effect;
    /// Its part in the safety rules.
    const CLASS: Class = Class::Other;
    /// What it leaves behind.
    type Output: Output;

    /// One sentence for people, in the imperative: `pause consumer group billing`.
    fn sentence(&self) -> String;

    /// What the rules go by: where it has its place, what a plan needs it for, the grade that it asks for, the risk that it takes.
    fn marks(&self) -> Marks {
        Marks::default()
    }

    /// Everything that it may change. The gate lets nothing else through.
    fn touches(&self) -> Vec<Touch> {
        Vec::new()
    }
}
