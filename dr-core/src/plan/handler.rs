//! Handlers are code: they look, prepare and submit one kind of step through gated providers.

use std::{fmt, sync::Arc};

use async_trait::async_trait;

use crate::{
    base::{BindingName, Digest, Epoch, GroupName, IdempotencyKey, Json, MemberId, Millis, NodeId, RunId, Timestamp},
    contract::{
        AppTier, Cause, DatabaseProbe, Fact, Fence, ManagedDatabase, NotDone, Notifier, OpHandle, Outcome,
        PositionSample, ProviderError, ReadersRouter, Retry, Runtime, SecretStore, Shortfall, TrafficRouter, Waived,
        admit::Door,
    },
    plan::{Plan, Policy, Step, Unresolved, gate::MutationGate},
};

/// What is true now, as one look saw it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Observed<T> {
    /// What the step wants is not so, and nothing works on it.
    NotStarted,
    /// Some of a compound change is so; it is completed forward.
    Partial {
        /// What is so.
        done: String,
        /// What is not.
        missing: String,
    },
    /// The provider works on it.
    InProgress {
        /// What to ask with.
        handle: OpHandle,
        /// As far as the provider tells.
        percent: Option<u8>,
    },
    /// What the step wants is so.
    Done(T),
    /// Nobody can say now.
    Unknown(Cause),
    /// Another state, or someone else's work, stands in the way.
    Conflict(Cause),
    /// The provider says that it took the call and gave it up, and both sides were seen as they were before it. Two such looks prove
    /// that nothing of the call stands.
    GivenUp(Cause),
    /// All that the step wants is so, but the former primary is worth less than the plan asks for. The driver asks two people whether
    /// they accept what was measured.
    Short(Shortfall),
}

/// What a handler found out before the intent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Prepared<T> {
    /// It is so already: nothing is sent.
    AlreadyDone(T),
    /// Ready to be sent.
    Ready(Ready),
    /// Not now; try again later, or never.
    NotReady(NotDone),
    /// Another state, or someone else's work, stands in the way.
    Conflict(Cause),
}

/// What is recorded with the intent, before anything is sent.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ready {
    /// The facts that the decision rests on.
    pub facts: Vec<Fact>,
    /// What was there before, for the release.
    pub pre_image: Option<Json>,
}

/// What one look at a running operation saw.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Polled<T> {
    /// Still going on; look again after this.
    Pending {
        /// The pause.
        again_in: Millis,
        /// As far as the provider tells.
        percent: Option<u8>,
    },
    /// It ended, one way or another.
    Ended(Outcome<T>),
}

/// Why a handler could not answer. It is deliberately no `std::error::Error`, so that a bare `?` on any error means the safe thing:
/// nobody knows.
#[derive(Debug)]
pub struct StepError {
    /// How to read it.
    pub class: StepErrorClass,
    /// The words.
    pub cause: Cause,
}

/// How to read a [`StepError`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StepErrorClass {
    /// Nobody knows whether anything happened.
    Unknown,
    /// Nothing happened; it may be tried again.
    NotDone(Retry),
    /// Nothing happened, and the run must not go on with this step.
    Stop,
}

impl<E: std::error::Error + 'static> From<E> for StepError {
    fn from(error: E) -> Self {
        let any: &(dyn std::error::Error + 'static) = &error;
        let class = if any.is::<Unresolved>() {
            StepErrorClass::Stop
        } else if let Some(provider) = any.downcast_ref::<ProviderError>() {
            match provider.retry() {
                Retry::Never => StepErrorClass::Stop,
                Retry::After(_) | Retry::ReadFirst => StepErrorClass::Unknown,
            }
        } else {
            StepErrorClass::Unknown
        };
        Self { class, cause: Cause::chain(any) }
    }
}

/// Says on purpose: nothing happened, and it may be tried again after a second.
pub fn not_done(why: impl fmt::Display) -> StepError {
    StepError { class: StepErrorClass::NotDone(Retry::After(Millis::seconds(1))), cause: Cause::new(why) }
}

/// Says on purpose: nothing happened, and the run must not go on with this step.
pub fn stop(why: impl fmt::Display) -> StepError {
    StepError { class: StepErrorClass::Stop, cause: Cause::new(why) }
}

/// The code of one kind of step.
///
/// ```text
///  prepare ──► intent is durable ──► submit ──► Done | Accepted ──► poll … ──► Done
///                                         └──► Unknown ──► observe …  (only a look decides)
/// ```
///
/// A step that only looks never gets an intent: the driver calls `observe` until it answers `Done`, a conflict, or its deadline is over.
#[async_trait]
pub trait Handler: Send + Sync + 'static {
    /// The step it handles.
    type Step: Step;

    /// What is true now. Changes nothing, and may be called at any time, also long after a crash.
    ///
    /// # Errors
    /// A bare `?` means that nobody knows; it is asked again.
    async fn observe(
        &self,
        cx: &StepCx,
        step: &Self::Step,
    ) -> Result<Observed<<Self::Step as Step>::Output>, StepError>;

    /// Evaluates guards and collects what is recorded with the intent. Changes nothing.
    ///
    /// # Errors
    /// As for `observe`.
    async fn prepare(
        &self,
        cx: &StepCx,
        step: &Self::Step,
    ) -> Result<Prepared<<Self::Step as Step>::Output>, StepError> {
        Ok(match self.observe(cx, step).await? {
            Observed::Done(output) => Prepared::AlreadyDone(output),
            Observed::NotStarted | Observed::Partial { .. } => Prepared::Ready(Ready::default()),
            Observed::InProgress { .. } => Prepared::Conflict(Cause::new("somebody else's operation is going on")),
            Observed::Unknown(cause) | Observed::GivenUp(cause) | Observed::Short(Shortfall { why: cause, .. }) => {
                Prepared::NotReady(NotDone { cause, retry: Retry::After(Millis::seconds(1)) })
            }
            Observed::Conflict(cause) => Prepared::Conflict(cause),
        })
    }

    /// Sends once. Proofs are admitted here, after the intent; the gate lets one mutating verb through.
    ///
    /// # Errors
    /// A bare `?` means that nobody knows whether it was done.
    async fn submit(&self, cx: &StepCx, step: &Self::Step) -> Result<Outcome<<Self::Step as Step>::Output>, StepError>;

    /// One look at an operation that was accepted; never a loop. The default asks `observe`.
    ///
    /// # Errors
    /// A bare `?` means that nobody knows; it is asked again.
    async fn poll(
        &self,
        cx: &StepCx,
        step: &Self::Step,
        _handle: &OpHandle,
    ) -> Result<Polled<<Self::Step as Step>::Output>, StepError> {
        Ok(match self.observe(cx, step).await? {
            Observed::Done(output) => Polled::Ended(Outcome::Done(output)),
            Observed::NotStarted
            | Observed::Partial { .. }
            | Observed::Unknown(_)
            | Observed::GivenUp(_)
            | Observed::Short(_) => Polled::Pending { again_in: cx.every(), percent: None },
            Observed::InProgress { percent, .. } => Polled::Pending { again_in: cx.every(), percent },
            Observed::Conflict(cause) => Polled::Ended(Outcome::Conflict(cause)),
        })
    }
}

/// The code of a kind of step that only looks.
#[async_trait]
pub trait Look: Send + Sync + 'static {
    /// The step it handles.
    type Step: Step;

    /// What is true now: `Done` ends the step, `NotStarted` means "not yet".
    ///
    /// # Errors
    /// A bare `?` means that nobody knows; it is asked again until the deadline.
    async fn look(&self, cx: &StepCx, step: &Self::Step) -> Result<Observed<<Self::Step as Step>::Output>, StepError>;
}

/// A run knows one of three things of its promotion.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Promotion {
    /// None was asked for.
    NotAsked,
    /// One was asked for, and it was proved that nothing of it stands.
    Disproved,
    /// One was asked for, and it may stand: past this point there is no way back.
    MayStand,
}

/// What a handler is given: the run it works for, the providers behind a gate, and time.
#[derive(Clone, Debug)]
pub struct StepCx {
    pub(crate) run: RunId,
    pub(crate) node: NodeId,
    pub(crate) attempt: u8,
    pub(crate) epoch: Epoch,
    pub(crate) plan: Arc<Plan>,
    pub(crate) hash: Digest,
    pub(crate) origin: Digest,
    pub(crate) every: Millis,
    pub(crate) intended_at: Option<Timestamp>,
    pub(crate) waived: Option<Waived>,
    pub(crate) claimed_by: Vec<String>,
    pub(crate) pre_image: Option<Json>,
    pub(crate) promotion: Promotion,
    pub(crate) handle: Option<OpHandle>,
    pub(crate) acknowledged: bool,
    pub(crate) runtime: Arc<dyn Runtime>,
    pub(crate) gate: MutationGate,
}

impl StepCx {
    /// The run.
    #[must_use]
    pub fn run(&self) -> &RunId {
        &self.run
    }

    /// The group that the run works on.
    #[must_use]
    pub fn group(&self) -> &GroupName {
        self.run.group()
    }

    /// The node.
    #[must_use]
    pub fn node(&self) -> &NodeId {
        &self.node
    }

    /// Which attempt this is, from 1.
    #[must_use]
    pub fn attempt(&self) -> u8 {
        self.attempt
    }

    /// The epoch of the engine that drives the run.
    #[must_use]
    pub fn epoch(&self) -> Epoch {
        self.epoch
    }

    /// The plan.
    #[must_use]
    pub fn plan(&self) -> &Plan {
        &self.plan
    }

    /// The plan's limits.
    #[must_use]
    pub fn policy(&self) -> &Policy {
        &self.plan.policy
    }

    /// The key for the calls of this node: stable over attempts, restarts and engines, and no other run's.
    #[must_use]
    pub fn key(&self) -> IdempotencyKey {
        self.run.key(&self.origin, &self.node)
    }

    /// The pause between two looks.
    #[must_use]
    pub fn every(&self) -> Millis {
        self.every
    }

    /// What people accepted instead of the grade that the step asks for; [`admit::waiver`](crate::contract::admit::waiver) says whether it counts.
    #[must_use]
    pub fn waived(&self) -> Option<&Waived> {
        self.waived.as_ref()
    }

    /// The people who said that a change of which the provider's record tells nothing was this run's.
    #[must_use]
    pub fn claimed_by(&self) -> &[String] {
        &self.claimed_by
    }

    /// When the first intent of this node became durable; `None` means that nothing was ever sent by us.
    #[must_use]
    pub fn intended_at(&self) -> Option<Timestamp> {
        self.intended_at
    }

    /// What was recorded with the intent (for an undo: with the intent of the node that took the hold).
    #[must_use]
    pub fn pre_image(&self) -> Option<&Json> {
        self.pre_image.as_ref()
    }

    /// What is known of this run's promotion.
    #[must_use]
    pub fn promotion(&self) -> Promotion {
        self.promotion
    }

    /// Under which name the provider works on the last attempt of this node, if it accepted that one.
    pub(crate) fn handle(&self) -> Option<&OpHandle> {
        self.handle.as_ref().filter(|handle| !handle.is_none())
    }

    /// Whether the provider itself answered the last attempt of this node that it took the call; seeing somebody at work is no answer.
    pub(crate) fn acknowledged(&self) -> bool {
        self.acknowledged
    }

    /// The wall clock, for records.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        self.runtime.now_wall()
    }

    /// The clocks, for a part of a look that has a limit of its own.
    pub(crate) fn runtime(&self) -> &dyn crate::contract::Runtime {
        self.runtime.as_ref()
    }

    /// Waits. Only for the space between two looks of one call; waiting for an end belongs to the driver.
    pub async fn pause(&self, pause: Millis) {
        self.runtime.sleep_until(self.runtime.now_mono() + pause).await;
    }

    /// The place from which receipts are admitted.
    #[must_use]
    pub fn door(&self) -> Door<'_> {
        Door {
            run: &self.run,
            plan: self.hash,
            epoch: self.epoch,
            max_age: self.plan.policy.proof_age,
            runtime: self.runtime.as_ref(),
        }
    }

    /// The management plane of a member.
    ///
    /// # Errors
    /// The name is bound to nothing, or to something else.
    pub fn database(&self, member: &MemberId) -> Result<Arc<dyn ManagedDatabase>, StepError> {
        self.gate.database(member)
    }

    /// The data plane of a member.
    ///
    /// # Errors
    /// The name is bound to nothing, or to something else.
    pub fn probe(&self, member: &MemberId) -> Result<Arc<dyn DatabaseProbe>, StepError> {
        self.gate.probe(member)
    }

    /// The fence of a member.
    ///
    /// # Errors
    /// The name is bound to nothing, or the member has no fence.
    pub fn fence(&self, member: &MemberId) -> Result<Arc<dyn Fence>, StepError> {
        self.gate.fence(member)
    }

    /// The fence of a member that can be engaged only after the promotion.
    ///
    /// # Errors
    /// The name is bound to nothing, or the member has no such fence.
    pub fn late_fence(&self, member: &MemberId) -> Result<Arc<dyn Fence>, StepError> {
        self.gate.late_fence(member)
    }

    /// Engages the fence of a member again that was seen to write although this run had fenced it; answers what became of that, in
    /// words. It is the one mutation without an intent of its own: the intent of the fence is durable, engaging it again changes
    /// nothing else, and no moment is to be lost.
    pub(crate) async fn fence_again(&self, receipt: &crate::contract::FenceReceipt) -> String {
        /// A fence that takes longer is no longer waited for; it goes on by itself.
        const PATIENCE: Millis = Millis::seconds(5);
        let node = self.plan.nodes.iter().find(|(_, node)| node.call.class == crate::contract::Class::Fence);
        let Some((node, _)) = node.filter(|_| receipt.run == self.run) else {
            return "no fence of this run can be engaged again".into();
        };
        let request = crate::contract::EngageFence {
            target: receipt.target.clone(),
            token: receipt.token.clone(),
            key: self.run.key(&self.origin, node),
        };
        let engaged = self.gate.engage_again(&receipt.target.member, request);
        let late = self.runtime.sleep_until(self.runtime.now_mono() + PATIENCE);
        match futures_util::future::select(Box::pin(engaged), late).await {
            futures_util::future::Either::Left((Ok(outcome), _)) => match outcome {
                Outcome::Done(()) | Outcome::Accepted(_) => "it was fenced again at once".into(),
                Outcome::NotDone(reason) => format!("fencing it again was refused ({})", reason.cause),
                Outcome::Unknown(cause) | Outcome::Conflict(cause) => {
                    format!("fencing it again has no known end ({cause})")
                }
            },
            futures_util::future::Either::Left((Err(error), _)) => {
                format!("it could not be fenced again ({})", error.cause)
            }
            futures_util::future::Either::Right(((), _)) => "fencing it again has no answer yet".into(),
        }
    }

    /// Returns the connection secret of this name.
    ///
    /// # Errors
    /// The plan binds none of this name.
    pub fn secret(&self, name: &BindingName) -> Result<Arc<dyn SecretStore>, StepError> {
        self.gate.secret(name)
    }

    /// Returns the route of this name.
    ///
    /// # Errors
    /// The plan binds none of this name.
    pub fn traffic(&self, name: &BindingName) -> Result<Arc<dyn TrafficRouter>, StepError> {
        self.gate.traffic(name)
    }

    /// Returns the route for readers of this name.
    ///
    /// # Errors
    /// The plan binds none of this name.
    pub fn readers(&self, name: &BindingName) -> Result<Arc<dyn ReadersRouter>, StepError> {
        self.gate.readers(name)
    }

    /// Returns the application tier of this name.
    ///
    /// # Errors
    /// The plan binds none of this name.
    pub fn app(&self, name: &BindingName) -> Result<Arc<dyn AppTier>, StepError> {
        self.gate.app(name)
    }

    /// Who is told.
    #[must_use]
    pub fn notifiers(&self) -> Vec<Arc<dyn Notifier>> {
        self.gate.notifiers(self.plan.group_digest)
    }

    /// The samples that a watcher kept outside the patient, oldest first.
    ///
    /// # Errors
    /// They could not be read.
    pub async fn samples(&self, since: Timestamp) -> Result<Vec<PositionSample>, StepError> {
        Ok(self.gate.samples(self.group(), since).await?)
    }
}
