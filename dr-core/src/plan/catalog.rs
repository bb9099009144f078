//! All step kinds that an engine knows, by name and version.

use std::{collections::BTreeMap, fmt, sync::Arc};

use async_trait::async_trait;
use serde::Serialize;
use serde_json::Value;

use crate::{
    base::{Json, Kind, canonical},
    contract::{Cause, Class, OpHandle, Outcome},
    plan::{
        Call, Effect, Handler, Look, Marks, Observed, Output, Polled, Prepared, Step, StepCx, StepError,
        StepErrorClass, stop,
    },
};

/// What a kind declares; a rule compares it with what a plan says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Declared {
    /// Its part in the safety rules.
    pub class: Class,
    /// What repeating it does.
    pub effect: Effect,
    /// The type of its output.
    pub output: String,
}

/// A handler whose step type is forgotten: parameters and outputs are JSON.
#[async_trait]
pub(crate) trait ErasedHandler: Send + Sync {
    async fn observe(&self, cx: &StepCx, params: &Value) -> Result<Observed<Json>, StepError>;
    async fn prepare(&self, cx: &StepCx, params: &Value) -> Result<Prepared<Json>, StepError>;
    async fn submit(&self, cx: &StepCx, params: &Value) -> Result<Outcome<Json>, StepError>;
    async fn poll(&self, cx: &StepCx, params: &Value, handle: &OpHandle) -> Result<Polled<Json>, StepError>;
}

/// What is derived from the data alone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Derived {
    /// What the step says to people.
    pub sentence: String,
    /// What it may change.
    pub touches: Vec<crate::contract::Touch>,
    /// What the rules go by.
    pub marks: Marks,
}

type Derive = fn(&Value) -> Result<Derived, String>;

#[derive(Clone)]
struct Entry {
    declared: Declared,
    derive: Derive,
    handler: Arc<dyn ErasedHandler>,
}

/// The step kinds that an engine can run. A kind that is missing is a refusal before anything is touched.
#[derive(Clone, Default)]
pub struct Catalog {
    entries: BTreeMap<Kind, Entry>,
}

impl fmt::Debug for Catalog {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.entries.keys().map(ToString::to_string)).finish()
    }
}

impl Catalog {
    /// A catalogue without any kind. [`Catalog::built_in`] is what engines start from.
    #[must_use]
    pub fn empty() -> Self {
        Self::default()
    }

    /// Adds a handler. A later one for the same kind replaces the earlier one.
    #[must_use]
    pub fn with<H: Handler>(mut self, handler: H) -> Self {
        self.insert::<H::Step>(Arc::new(Erased(handler)));
        self
    }

    /// Adds a kind that only looks.
    #[must_use]
    pub fn looking<L: Look>(mut self, look: L) -> Self {
        self.insert::<L::Step>(Arc::new(Erased(Looking(look))));
        self
    }

    /// Everything of `other`, too.
    #[must_use]
    pub fn and(mut self, other: Self) -> Self {
        self.entries.extend(other.entries);
        self
    }

    fn insert<S: Step>(&mut self, handler: Arc<dyn ErasedHandler>) {
        let declared =
            Declared { class: S::CLASS, effect: S::EFFECT, output: <S::Output as Output>::type_name().into_owned() };
        self.entries.insert(S::KIND, Entry { declared, derive: derive::<S>, handler });
    }

    /// What a kind declares.
    #[must_use]
    pub fn declared(&self, kind: &Kind) -> Option<&Declared> {
        self.entries.get(kind).map(|entry| &entry.declared)
    }

    /// What a call says of itself when its data is read again: the parameters must parse, every input must be a reference of the
    /// declared type.
    ///
    /// # Errors
    /// Words that name the field and what was expected there.
    pub fn derive(&self, call: &Call) -> Result<Derived, String> {
        let entry = self.entries.get(&call.kind).ok_or_else(|| format!("no step kind `{}` is known", call.kind))?;
        (entry.derive)(&call.params.0)
    }

    /// All kinds.
    pub fn kinds(&self) -> impl Iterator<Item = &Kind> {
        self.entries.keys()
    }

    pub(crate) fn handler(&self, kind: &Kind) -> Option<Arc<dyn ErasedHandler>> {
        self.entries.get(kind).map(|entry| Arc::clone(&entry.handler))
    }
}

fn parse<S: Step>(params: &Value) -> Result<S, String> {
    serde_path_to_error::deserialize(params).map_err(|error| {
        let path = error.path().to_string();
        if path == "." { error.inner().to_string() } else { format!("field `{path}`: {}", error.inner()) }
    })
}

fn derive<S: Step>(params: &Value) -> Result<Derived, String> {
    let step: S = parse(params)?;
    Ok(Derived { sentence: step.sentence(), touches: step.touches(), marks: step.marks() })
}

struct Erased<H>(H);

impl<H: Handler> Erased<H> {
    fn step(params: &Value) -> Result<H::Step, StepError> {
        parse(params).map_err(stop)
    }
}

fn json<T: Serialize>(output: &T) -> Result<Json, StepError> {
    canonical::to_value(output)
        .map(Json)
        .map_err(|error| StepError { class: StepErrorClass::Stop, cause: Cause::chain(&error) })
}

#[async_trait]
impl<H: Handler> ErasedHandler for Erased<H> {
    async fn observe(&self, cx: &StepCx, params: &Value) -> Result<Observed<Json>, StepError> {
        let step = Self::step(params)?;
        Ok(match self.0.observe(cx, &step).await? {
            Observed::Done(output) => Observed::Done(json(&output)?),
            Observed::NotStarted => Observed::NotStarted,
            Observed::Partial { done, missing } => Observed::Partial { done, missing },
            Observed::InProgress { handle, percent } => Observed::InProgress { handle, percent },
            Observed::Unknown(cause) => Observed::Unknown(cause),
            Observed::Conflict(cause) => Observed::Conflict(cause),
            Observed::GivenUp(cause) => Observed::GivenUp(cause),
            Observed::Short(short) => Observed::Short(short),
        })
    }

    async fn prepare(&self, cx: &StepCx, params: &Value) -> Result<Prepared<Json>, StepError> {
        let step = Self::step(params)?;
        Ok(match self.0.prepare(cx, &step).await? {
            Prepared::AlreadyDone(output) => Prepared::AlreadyDone(json(&output)?),
            Prepared::Ready(ready) => Prepared::Ready(ready),
            Prepared::NotReady(reason) => Prepared::NotReady(reason),
            Prepared::Conflict(cause) => Prepared::Conflict(cause),
        })
    }

    async fn submit(&self, cx: &StepCx, params: &Value) -> Result<Outcome<Json>, StepError> {
        let step = Self::step(params)?;
        erase(self.0.submit(cx, &step).await?)
    }

    async fn poll(&self, cx: &StepCx, params: &Value, handle: &OpHandle) -> Result<Polled<Json>, StepError> {
        let step = Self::step(params)?;
        Ok(match self.0.poll(cx, &step, handle).await? {
            Polled::Pending { again_in, percent } => Polled::Pending { again_in, percent },
            Polled::Ended(outcome) => Polled::Ended(erase(outcome)?),
        })
    }
}

fn erase<T: Serialize>(outcome: Outcome<T>) -> Result<Outcome<Json>, StepError> {
    Ok(match outcome {
        Outcome::Done(output) => Outcome::Done(json(&output)?),
        Outcome::Accepted(handle) => Outcome::Accepted(handle),
        Outcome::NotDone(reason) => Outcome::NotDone(reason),
        Outcome::Unknown(cause) => Outcome::Unknown(cause),
        Outcome::Conflict(cause) => Outcome::Conflict(cause),
    })
}

struct Looking<L>(L);

#[async_trait]
impl<L: Look> Handler for Looking<L> {
    type Step = L::Step;

    async fn observe(
        &self,
        cx: &StepCx,
        step: &Self::Step,
    ) -> Result<Observed<<Self::Step as Step>::Output>, StepError> {
        self.0.look(cx, step).await
    }

    async fn submit(
        &self,
        _cx: &StepCx,
        _step: &Self::Step,
    ) -> Result<Outcome<<Self::Step as Step>::Output>, StepError> {
        Ok(Outcome::accepted())
    }
}
