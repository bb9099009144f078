//! The gate between steps and providers: one mutating verb per intent, on what the plan allows, under a live epoch.
//!
//! ```text
//!  handler ──► gated provider ──► check: budget, allow-list, lease, cancel, proof age ──same poll──► provider
//!                                        └─ no: the verb answers "not done", nothing was sent
//! ```

mod wrap;

use std::{
    fmt,
    future::poll_fn,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    task::Poll,
};

use crate::{
    base::{BindingName, Epoch, GroupName, MemberId, Millis, Mono, Timestamp},
    contract::{
        AppTier, Binding, Bound, Certified, DatabaseProbe, Fence, ManagedDatabase, MemberProvider, Notifier, Outcome,
        PositionSample, ProviderError, Providers, ReadersRouter, Resolved, Runtime, SecretStore, Touch, TrafficRouter,
        Verb,
        contain::{self, NoAnswer},
    },
    plan::{StepError, Survey, handler::stop},
};

/// Whether the engine that drives a run may still act. Shared by the driver, which renews it, and every gate.
#[derive(Debug)]
pub struct Liveness {
    epoch: Epoch,
    until: AtomicU64,
    cancelled: AtomicBool,
}

impl Liveness {
    /// An engine that may act under `epoch` until the lease is renewed for the first time.
    #[must_use]
    pub fn new(epoch: Epoch) -> Self {
        Self { epoch, until: AtomicU64::new(0), cancelled: AtomicBool::new(false) }
    }

    /// The lease lasts until `until`.
    pub fn lasts(&self, until: Mono) {
        let nanos = u64::try_from(until.since_start().as_nanos()).unwrap_or(u64::MAX);
        self.until.store(nanos, Ordering::SeqCst);
    }

    /// Nothing may be sent any more: the lease is lost.
    pub fn lost(&self) {
        self.until.store(0, Ordering::SeqCst);
    }

    /// No forward mutation may be sent any more; releases may.
    pub fn cancel(&self, cancelled: bool) {
        self.cancelled.store(cancelled, Ordering::SeqCst);
    }

    fn left(&self, now: Mono) -> Millis {
        let until = Mono::new(std::time::Duration::from_nanos(self.until.load(Ordering::SeqCst)));
        Millis::of(until.since(now))
    }
}

/// One call that went through a gate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GateCall {
    /// The resource and the verb.
    pub touch: Touch,
    /// When.
    pub at: Timestamp,
    /// Why it was not let through, if so.
    pub refused: Option<String>,
}

struct Inner {
    bound: Arc<Bound>,
    providers: Arc<dyn Providers>,
    runtime: Arc<dyn Runtime>,
    live: Arc<Liveness>,
    allow: Vec<Touch>,
    undo: bool,
    attempt_timeout: Millis,
    spent: AtomicBool,
    calls: Mutex<Vec<GateCall>>,
}

/// The only way from a step to a provider. One gate lives for one call of one node.
#[derive(Clone)]
pub struct MutationGate {
    inner: Arc<Inner>,
}

impl fmt::Debug for MutationGate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MutationGate").field("allow", &self.inner.allow).finish_non_exhaustive()
    }
}

/// What a gate is made of.
#[derive(Debug)]
pub(crate) struct GateParts {
    pub(crate) bound: Arc<Bound>,
    pub(crate) providers: Arc<dyn Providers>,
    pub(crate) runtime: Arc<dyn Runtime>,
    pub(crate) live: Arc<Liveness>,
    /// Empty for calls that only look.
    pub(crate) allow: Vec<Touch>,
    pub(crate) undo: bool,
    pub(crate) attempt_timeout: Millis,
}

impl MutationGate {
    pub(crate) fn new(parts: GateParts) -> Self {
        let inner = Inner {
            bound: parts.bound,
            providers: parts.providers,
            runtime: parts.runtime,
            live: parts.live,
            allow: parts.allow,
            undo: parts.undo,
            attempt_timeout: parts.attempt_timeout,
            spent: AtomicBool::new(false),
            calls: Mutex::new(Vec::new()),
        };
        Self { inner: Arc::new(inner) }
    }

    /// What went through, in order.
    #[must_use]
    pub fn calls(&self) -> Vec<GateCall> {
        self.inner.calls.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Lets one verb of the table through, or says why not. What it changes beside the resource on which it is called is in `also`, and
    /// must be declared, too.
    pub(crate) fn pass(
        &self,
        resource: &Binding,
        verb: Verb,
        certified: Option<&Certified>,
        also: &[Touch],
    ) -> Result<(), Blocked> {
        let touch = verb.on(resource);
        let refused = if verb.certified() && certified.is_none() {
            Some(Blocked::never(format!("`{touch}` brings no proofs")))
        } else {
            self.refuse(&touch, also, certified)
        };
        let call = GateCall {
            touch,
            at: self.inner.runtime.now_wall(),
            refused: refused.as_ref().map(|blocked| blocked.why.clone()),
        };
        self.inner.calls.lock().unwrap_or_else(PoisonError::into_inner).push(call);
        refused.map_or(Ok(()), Err)
    }

    fn refuse(&self, touch: &Touch, also: &[Touch], certified: Option<&Certified>) -> Option<Blocked> {
        let now = self.inner.runtime.now_mono();
        let mut all = std::iter::once(touch).chain(also);
        if let Some(undeclared) = all.find(|touch| !self.inner.allow.contains(touch)) {
            return Some(Blocked::never(format!("the step does not declare `{undeclared}`")));
        }
        if self.inner.live.cancelled.load(Ordering::SeqCst) && !self.inner.undo {
            return Some(Blocked::never("the run is being cancelled".into()));
        }
        let left = self.inner.live.left(now);
        if left < self.inner.attempt_timeout {
            let need = self.inner.attempt_timeout.count();
            return Some(Blocked::later(format!("the lease lasts {} ms, the call may take {need} ms", left.count())));
        }
        if let Some(why) = certified.and_then(|certified| certified.refuse(now, self.inner.live.epoch)) {
            return Some(Blocked::later(why));
        }
        self.inner
            .spent
            .swap(true, Ordering::SeqCst)
            .then(|| Blocked::never("the step has used its one mutating verb for this intent".into()))
    }

    /// Looks through a provider, which has [`Survey::PATIENCE`] to answer. The calls to a dark region hang for as long as their
    /// clients wait, and a step that looks at both sides would never come to its end.
    pub(crate) async fn read<T>(
        &self,
        verb: &'static str,
        call: impl Future<Output = Result<T, ProviderError>> + Send,
    ) -> Result<T, ProviderError> {
        contain::within(self.inner.runtime.as_ref(), Survey::PATIENCE, call).await.unwrap_or_else(|silent| {
            Err(match silent {
                late @ NoAnswer::Late(_) => ProviderError::unreachable(verb, late),
                NoAnswer::Panic(words) => ProviderError::Strange { verb, saw: format!("a panic: {words}") },
            })
        })
    }

    /// Drives a call that was let through for as long as the lease lasts. A verb may be several calls of its provider, and a process that
    /// stood still between two of them is not the holder any more when it goes on: what is left to send is not sent.
    pub(crate) async fn while_mine<T>(&self, call: impl Future<Output = Outcome<T>> + Send) -> Outcome<T> {
        let mut call = std::pin::pin!(call);
        poll_fn(|cx| {
            if self.inner.live.left(self.inner.runtime.now_mono()) == Millis::ZERO {
                let why = "the lease ended while the call was under way; what was left to send was not sent";
                return Poll::Ready(Outcome::unknown(why));
            }
            call.as_mut().poll(cx)
        })
        .await
    }

    /// Lets nothing through any more.
    pub(crate) fn close(&self) {
        self.inner.spent.store(true, Ordering::SeqCst);
    }

    fn resolved(&self, name: &Binding) -> Result<&Resolved, StepError> {
        self.inner.bound.by_name.get(name).ok_or_else(|| stop(format_args!("the plan binds nothing to `{name}`")))
    }

    fn member(&self, name: &MemberId) -> Result<&MemberProvider, StepError> {
        match self.resolved(&name.into())? {
            Resolved::Member(member) => Ok(member),
            Resolved::Secret(_) | Resolved::Traffic(_) | Resolved::Readers(_) | Resolved::App(_) => {
                Err(stop(format_args!("`{name}` is bound to something that is no member")))
            }
        }
    }

    pub(crate) fn database(&self, member: &MemberId) -> Result<Arc<dyn ManagedDatabase>, StepError> {
        let inner = Arc::clone(&self.member(member)?.database);
        Ok(Arc::new(wrap::Database { inner, gate: self.clone(), name: member.into() }))
    }

    pub(crate) fn probe(&self, member: &MemberId) -> Result<Arc<dyn DatabaseProbe>, StepError> {
        let inner = Arc::clone(&self.member(member)?.probe);
        Ok(Arc::new(wrap::Probe { inner, gate: self.clone() }))
    }

    pub(crate) fn fence(&self, member: &MemberId) -> Result<Arc<dyn Fence>, StepError> {
        let fence = self.member(member)?.fence.clone();
        let inner = fence.ok_or_else(|| stop(format_args!("`{member}` has no fence; the group file lists none")))?;
        Ok(Arc::new(wrap::GatedFence { inner, gate: self.clone(), name: member.into() }))
    }

    pub(crate) fn late_fence(&self, member: &MemberId) -> Result<Arc<dyn Fence>, StepError> {
        let fence = self.member(member)?.late_fence.clone();
        let inner = fence.ok_or_else(|| stop(format_args!("`{member}` has no fence for after the promotion")))?;
        Ok(Arc::new(wrap::GatedFence { inner, gate: self.clone(), name: member.into() }))
    }

    /// Engages a fence that this run has engaged before: no allow-list and no intent of its own, and never under a lost lease.
    pub(crate) async fn engage_again(
        &self,
        member: &MemberId,
        request: crate::contract::EngageFence,
    ) -> Result<Outcome<()>, StepError> {
        let fence = self.member(member)?.fence.clone();
        let fence = fence.ok_or_else(|| stop(format_args!("`{member}` has no fence")))?;
        if self.inner.live.left(self.inner.runtime.now_mono()) == Millis::ZERO {
            return Ok(Outcome::refused("the lease of this engine is lost"));
        }
        Ok(fence.engage(request).await)
    }

    pub(crate) fn secret(&self, name: &BindingName) -> Result<Arc<dyn SecretStore>, StepError> {
        let name = Binding::Secret(name.clone());
        match self.resolved(&name)? {
            Resolved::Secret(inner) => {
                Ok(Arc::new(wrap::Secret { inner: Arc::clone(inner), gate: self.clone(), name }))
            }
            Resolved::Member(_) | Resolved::Traffic(_) | Resolved::Readers(_) | Resolved::App(_) => {
                Err(stop(format_args!("`{name}` is bound to no secret store")))
            }
        }
    }

    pub(crate) fn traffic(&self, name: &BindingName) -> Result<Arc<dyn TrafficRouter>, StepError> {
        let name = Binding::Traffic(name.clone());
        match self.resolved(&name)? {
            Resolved::Traffic(inner) => {
                Ok(Arc::new(wrap::Traffic { inner: Arc::clone(inner), gate: self.clone(), name }))
            }
            Resolved::Member(_) | Resolved::Secret(_) | Resolved::Readers(_) | Resolved::App(_) => {
                Err(stop(format_args!("`{name}` is bound to no route")))
            }
        }
    }

    pub(crate) fn readers(&self, name: &BindingName) -> Result<Arc<dyn ReadersRouter>, StepError> {
        let name = Binding::Readers(name.clone());
        match self.resolved(&name)? {
            Resolved::Readers(inner) => {
                Ok(Arc::new(wrap::Readers { inner: Arc::clone(inner), gate: self.clone(), name }))
            }
            Resolved::Member(_) | Resolved::Secret(_) | Resolved::Traffic(_) | Resolved::App(_) => {
                Err(stop(format_args!("`{name}` is bound to no route for readers")))
            }
        }
    }

    pub(crate) fn app(&self, name: &BindingName) -> Result<Arc<dyn AppTier>, StepError> {
        let name = Binding::App(name.clone());
        match self.resolved(&name)? {
            Resolved::App(inner) => Ok(Arc::new(wrap::App { inner: Arc::clone(inner), gate: self.clone(), name })),
            Resolved::Member(_) | Resolved::Secret(_) | Resolved::Traffic(_) | Resolved::Readers(_) => {
                Err(stop(format_args!("`{name}` is bound to no application tier")))
            }
        }
    }

    pub(crate) fn notifiers(&self, group: crate::base::Digest) -> Vec<Arc<dyn Notifier>> {
        self.inner.providers.notifiers(group)
    }

    pub(crate) async fn samples(
        &self,
        group: &GroupName,
        since: Timestamp,
    ) -> Result<Vec<PositionSample>, ProviderError> {
        self.inner.providers.samples(group, since).await
    }
}

/// Why a verb was not let through; nothing was sent.
#[derive(Debug)]
pub(crate) struct Blocked {
    pub(crate) why: String,
    again: Option<Millis>,
}

impl Blocked {
    fn never(why: String) -> Self {
        Self { why, again: None }
    }

    fn later(why: String) -> Self {
        Self { why, again: Some(Millis::new(100)) }
    }

    pub(crate) fn outcome<T>(self) -> Outcome<T> {
        match self.again {
            Some(wait) => Outcome::not_done_yet(format_args!("held at the gate: {}", self.why), wait),
            None => Outcome::refused(format_args!("held at the gate: {}", self.why)),
        }
    }
}
