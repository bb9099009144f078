//! A small world of things that are on or off, what may go wrong on the way to them, and the step kinds that switch them.

use std::{
    collections::{BTreeMap, VecDeque},
    marker::PhantomData,
    sync::{Arc, Mutex, MutexGuard},
};

use async_trait::async_trait;
use dr_core::{
    AppTier, Binding, Catalog, Cause, DatabaseProbe, Grade, GroupName, Handler, Input, Kind, Look, ManagedDatabase,
    Millis, NodeId, Notifier, Observed, Outcome, ProviderError, RunId, Step, StepCx, StepError, Timestamp, Touch,
    base::{Digest, IdempotencyKey, Role},
    contract::{
        AppReading, AskedLoss, Capabilities, Class, Consent, Description, DrainRequest, Fact, Lack, LongTransaction,
        Loss, LossBound, MemberProvider, NotDone, Notice, OpHandle, OpProgress, PositionReading, PositionSample,
        Providers, Query, Replication, Resolved, ResourceKind, ResourceRef, ResumeRequest, Retry, Rows, Runtime,
        ServicePace, Sessions, Shortfall, SnapshotOffer, SnapshotRequest, WriteProbe, admit, verb,
    },
    plan::{Effect, Polled, Prepared, Ready, StepErrorClass},
    run::{Event, Record},
};
use dr_testkit::{MemoryJournal, VirtualRuntime};
use serde::{Deserialize, Serialize};

/// What becomes of one call.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Fate {
    /// Done, and answered so.
    Done,
    /// Done; the answer is lost.
    Lost,
    /// Not done; the answer is lost.
    Nothing,
    /// The answer is lost; done this much later.
    Late(Millis),
    /// Done at once; answered this much later.
    Slow(Millis),
    /// Accepted with this handle; done this much later.
    Accepted(&'static str, Millis),
    /// Accepted, and never done.
    Stalled(&'static str),
    /// Half of it is done; the answer is lost.
    Half,
    /// Surely not done; it may be tried after this.
    Busy(Millis),
    /// Surely not done, for good.
    No,
    /// Done, and then the handler stumbles over something else.
    Stumble(StepErrorClass),
}

/// What one look sees, or how long it takes.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Sight {
    /// What is true.
    Truth,
    /// What is true when it begins, answered this much later.
    Slow(Millis),
    /// No trace, whatever is true.
    Absent,
    /// Nobody can say.
    Unknown,
    /// Under way, with this handle.
    InProgress(&'static str),
    /// All but the grade, until two people accept that.
    Short,
    /// Somebody else is at work.
    Conflict,
    /// It never answers.
    Never,
    /// The handler panics.
    Panic,
}

/// What one look at an operation sees.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Report {
    /// Going on.
    Pending(Millis),
    /// The provider says it failed.
    Failed,
    /// The provider does not know the handle.
    Forgotten,
}

/// A call that reached the cloud.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Sent {
    pub(crate) thing: String,
    pub(crate) on: bool,
    pub(crate) engine: String,
    pub(crate) at: Timestamp,
}

/// What a panic carries: whoever drops it meets the next one.
struct Bomb(String);

impl Drop for Bomb {
    fn drop(&mut self) {
        assert!(std::thread::panicking(), "{} panics once more", self.0);
    }
}

#[derive(Debug, Default)]
struct Inner {
    on: BTreeMap<String, bool>,
    half: BTreeMap<String, bool>,
    sent: Vec<Sent>,
    changes: Vec<(String, bool)>,
    looks: Vec<(String, Timestamp)>,
    fates: BTreeMap<(String, bool), VecDeque<Fate>>,
    forever: BTreeMap<(String, bool), Fate>,
    sights: BTreeMap<String, VecDeque<Sight>>,
    sights_forever: BTreeMap<String, Sight>,
    reports: BTreeMap<String, VecDeque<Report>>,
    not_ready: BTreeMap<String, u32>,
    before_the_gate: BTreeMap<String, Millis>,
    facts: Vec<Fact>,
    unreadable_facts: u32,
    facts_take: VecDeque<Millis>,
    notices: Vec<Notice>,
    fail_fast: u32,
    stray: Option<Sight>,
    strangers: Vec<String>,
    wrong: Vec<String>,
}

/// The world; clones share it. It outlives every engine.
#[derive(Clone, Debug)]
pub(crate) struct World {
    inner: Arc<Mutex<Inner>>,
    rt: VirtualRuntime,
    journal: MemoryJournal,
    run: RunId,
}

impl World {
    pub(crate) fn new(rt: VirtualRuntime, journal: MemoryJournal, run: RunId) -> Self {
        Self { inner: Arc::default(), rt, journal, run }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap()
    }

    /// The next calls that switch `thing` on end like this; later ones are done.
    pub(crate) fn fates(&self, thing: &str, fates: &[Fate]) {
        self.lock().fates.entry((thing.into(), true)).or_default().extend(fates);
    }

    /// Every call that switches `thing` to `on` ends like this.
    pub(crate) fn forever(&self, thing: &str, on: bool, fate: Fate) {
        self.lock().forever.insert((thing.into(), on), fate);
    }

    /// As if nothing had been said about switching `thing` to `on`.
    pub(crate) fn heal(&self, thing: &str, on: bool) {
        self.lock().forever.remove(&(thing.into(), on));
    }

    /// The next looks at `thing` see this; later ones see what is true.
    pub(crate) fn sights(&self, thing: &str, sights: &[Sight]) {
        self.lock().sights.entry(thing.into()).or_default().extend(sights);
    }

    /// Every look at `thing` sees this, once those of [`World::sights`] are over.
    pub(crate) fn always_sees(&self, thing: &str, sight: Sight) {
        self.lock().sights_forever.insert(thing.into(), sight);
    }

    /// From now on the application tier and the notifier do not answer, or panic.
    pub(crate) fn strays(&self, how: Sight) {
        self.lock().stray = Some(how);
    }

    async fn may_stray(&self, who: &str) {
        let how = self.lock().stray;
        match how {
            Some(Sight::Never) => std::future::pending().await,
            Some(Sight::Panic) => std::panic::panic_any(Bomb(who.to_owned())),
            Some(_) | None => {}
        }
    }

    /// The next looks at operations on `thing` see this; later ones see what is true.
    pub(crate) fn reports(&self, thing: &str, reports: &[Report]) {
        self.lock().reports.entry(thing.into()).or_default().extend(reports);
    }

    /// The next `times` preparations of steps on `thing` say "not ready".
    pub(crate) fn not_ready(&self, thing: &str, times: u32) {
        self.lock().not_ready.insert(thing.into(), times);
    }

    /// Between its intent and its gate a step on `thing` waits this long: proofs are admitted there.
    pub(crate) fn before_the_gate(&self, thing: &str, wait: Millis) {
        self.lock().before_the_gate.insert(thing.into(), wait);
    }

    /// What people are shown.
    pub(crate) fn facts(&self, facts: Vec<Fact>) {
        self.lock().facts = facts;
    }

    /// The next readings of what people are shown take this long each.
    pub(crate) fn facts_take(&self, times: &[Millis]) {
        self.lock().facts_take.extend(times);
    }

    /// The next `times` readings of what people are shown fail.
    pub(crate) fn unreadable_facts(&self, times: u32) {
        self.lock().unreadable_facts = times;
    }

    /// The binding is another resource than it was.
    pub(crate) fn replace(&self, binding: &str) {
        self.lock().strangers.push(format!("{binding}-1"));
    }

    pub(crate) fn set(&self, thing: &str, on: bool) {
        self.lock().on.insert(thing.into(), on);
    }

    pub(crate) fn is_on(&self, thing: &str) -> bool {
        self.lock().on.get(thing).copied().unwrap_or_default()
    }

    /// All calls that reached the cloud.
    pub(crate) fn sent(&self) -> Vec<Sent> {
        self.lock().sent.clone()
    }

    /// How often `thing` was told to be on (or off), whether it did or not.
    pub(crate) fn sends(&self, thing: &str, on: bool) -> usize {
        self.lock().sent.iter().filter(|sent| sent.thing == thing && sent.on == on).count()
    }

    /// What changed, in order.
    pub(crate) fn changes(&self) -> Vec<(String, bool)> {
        self.lock().changes.clone()
    }

    /// When `thing` was looked at.
    pub(crate) fn looks(&self, thing: &str) -> Vec<Timestamp> {
        self.lock().looks.iter().filter(|(seen, _)| seen == thing).map(|(_, at)| *at).collect()
    }

    pub(crate) fn notices(&self) -> Vec<Notice> {
        self.lock().notices.clone()
    }

    pub(crate) fn failed_fast(&self) -> u32 {
        self.lock().fail_fast
    }

    pub(crate) fn wrong(&self) -> Vec<String> {
        self.lock().wrong.clone()
    }

    fn apply(&self, thing: &str, on: bool) {
        let mut inner = self.lock();
        if inner.on.insert(thing.to_owned(), on).unwrap_or_default() != on {
            inner.changes.push((thing.to_owned(), on));
        }
        inner.half.remove(thing);
    }

    fn apply_later(&self, thing: &str, on: bool, after: Millis) {
        let (world, thing) = (self.clone(), thing.to_owned());
        self.rt.spawn_detached(Box::pin(async move {
            world.rt.sleep_until(world.rt.now_mono() + after).await;
            world.apply(&thing, on);
        }));
    }

    /// A call reached the cloud: its intent must be the last that the journal knows of its step, and sealed if it must happen once.
    fn arrived(&self, thing: &str, on: bool, key: &IdempotencyKey, engine: &str) {
        let lines = self.journal.lines(&self.run);
        let parse = |line| Record::parse(line).unwrap();
        let node = NodeId::new(key.as_str().rsplit_once('/').unwrap().1.split_once('#').unwrap().0);
        let last = lines.iter().rev().map(parse).find(|record| record.event.node() == Some(&node));
        let mut wrong = Vec::new();
        match last {
            Some(Record { event: Event::Intended { .. }, seq, .. }) => {
                let Some(Event::Started { plan, .. }) = lines.first().map(|line| parse(line).event) else { return };
                let once = plan.call(&node).is_some_and(|call| call.effect == Effect::AtMostOnce);
                let sealed = self.journal.seals().iter().any(|(_, sealed)| *sealed >= u64::from(seq));
                if once && !sealed {
                    wrong.push(format!("`{node}` was sent before its intent was sealed"));
                }
            }
            other => wrong.push(format!("`{node}` was sent without a durable intent; the journal has {other:?}")),
        }
        let mut inner = self.lock();
        inner.wrong.extend(wrong);
        let at = self.rt.now_wall();
        inner.sent.push(Sent { thing: thing.into(), on, engine: engine.into(), at });
    }

    fn fate(&self, thing: &str, on: bool) -> Fate {
        let mut inner = self.lock();
        let key = (thing.to_owned(), on);
        if let Some(fate) = inner.fates.get_mut(&key).and_then(VecDeque::pop_front) {
            return fate;
        }
        inner.forever.get(&key).copied().unwrap_or(Fate::Done)
    }

    /// The cloud's side of a call.
    async fn switch(&self, thing: &str, on: bool, key: &IdempotencyKey, engine: &str) -> Outcome<()> {
        self.arrived(thing, on, key, engine);
        match self.fate(thing, on) {
            Fate::Done => {
                self.apply(thing, on);
                Outcome::Done(())
            }
            Fate::Lost => {
                self.apply(thing, on);
                Outcome::unknown("the answer is lost")
            }
            Fate::Nothing => Outcome::unknown("the answer is lost"),
            Fate::Late(after) => {
                self.apply_later(thing, on, after);
                Outcome::unknown("the answer is lost")
            }
            Fate::Slow(after) => {
                self.apply(thing, on);
                self.rt.sleep_until(self.rt.now_mono() + after).await;
                Outcome::Done(())
            }
            Fate::Accepted(handle, after) => {
                self.apply_later(thing, on, after);
                Outcome::accepted_as(handle)
            }
            Fate::Stalled(handle) => Outcome::accepted_as(handle),
            Fate::Half => {
                self.lock().half.insert(thing.into(), on);
                Outcome::unknown("the answer is lost")
            }
            Fate::Busy(wait) => Outcome::not_done_yet("too many requests", wait),
            Fate::No => Outcome::refused("not with this thing"),
            Fate::Stumble(_) => {
                self.apply(thing, on);
                Outcome::unknown("the handler says more")
            }
        }
    }

    fn stumbles(&self, thing: &str, on: bool) -> Option<StepErrorClass> {
        let inner = self.lock();
        let next = inner.fates.get(&(thing.to_owned(), on)).and_then(VecDeque::front);
        if let Some(Fate::Stumble(class)) = next { Some(*class) } else { None }
    }

    async fn look(&self, cx: &StepCx, thing: &str, on: bool) -> Observed<()> {
        let sight = {
            let mut inner = self.lock();
            inner.looks.push((thing.to_owned(), self.rt.now_wall()));
            let next = inner.sights.get_mut(thing).and_then(VecDeque::pop_front);
            next.or_else(|| inner.sights_forever.get(thing).copied()).unwrap_or(Sight::Truth)
        };
        let truth = {
            let inner = self.lock();
            if inner.on.get(thing).copied().unwrap_or_default() == on {
                Observed::Done(())
            } else if inner.half.get(thing) == Some(&on) {
                Observed::Partial { done: "one half".into(), missing: "the other half".into() }
            } else {
                Observed::NotStarted
            }
        };
        match sight {
            Sight::Truth => truth,
            Sight::Slow(time) => {
                cx.pause(time).await;
                truth
            }
            Sight::Absent => Observed::NotStarted,
            Sight::Unknown => Observed::Unknown(Cause::new("no answer")),
            Sight::InProgress(handle) => Observed::InProgress { handle: OpHandle::new(handle).unwrap(), percent: None },
            Sight::Short => short(cx),
            Sight::Conflict => Observed::Conflict(Cause::new("somebody else is at work")),
            Sight::Never => std::future::pending().await,
            Sight::Panic => panic!("a planted panic at {thing}"),
        }
    }
}

/// Done once people accepted what is measured.
fn short(cx: &StepCx) -> Observed<()> {
    let measured = Grade::Unconfirmable;
    match cx.waived().map(|waived| admit::waiver(&cx.door(), waived, measured)) {
        Some(Ok(_waiver)) => Observed::Done(()),
        Some(Err(_)) | None => Observed::Short(Shortfall {
            lack: Lack::Grade { measured, needed: Grade::Enforced },
            why: Cause::new("neu does not answer"),
            owes: Some("fence neu".into()),
        }),
    }
}

/// The way of one engine to the world.
#[derive(Debug)]
pub(crate) struct Cloud {
    pub(crate) world: World,
    pub(crate) engine: String,
}

#[async_trait]
impl Providers for Cloud {
    async fn resolve(&self, _group: Digest, wanted: &ResourceRef) -> Result<Resolved, ProviderError> {
        if self.world.lock().strangers.iter().any(|stranger| stranger == wanted.address.as_str()) {
            let why = format!("{} is another resource now", wanted.address);
            return Err(ProviderError::Refused { verb: "resolve", why });
        }
        let thing = wanted.address.as_str().trim_end_matches("-1").to_owned();
        let one = Arc::new(Thing { world: self.world.clone(), engine: self.engine.clone(), thing });
        Ok(match wanted.kind {
            ResourceKind::App => Resolved::App(one),
            ResourceKind::Database
            | ResourceKind::Secret
            | ResourceKind::Traffic
            | ResourceKind::Readers
            | ResourceKind::Custom => Resolved::Member(MemberProvider {
                database: Arc::clone(&one) as Arc<dyn ManagedDatabase>,
                probe: one,
                fence: None,
                late_fence: None,
                pace: ServicePace::CAUTIOUS,
            }),
        })
    }

    fn notifiers(&self, _group: Digest) -> Vec<Arc<dyn Notifier>> {
        vec![Arc::new(Bell(self.world.clone()))]
    }

    async fn samples(&self, _group: &GroupName, _since: Timestamp) -> Result<Vec<PositionSample>, ProviderError> {
        Ok(Vec::new())
    }
}

#[derive(Debug)]
struct Bell(World);

#[async_trait]
impl Notifier for Bell {
    async fn notify(&self, notice: Notice) -> Result<(), ProviderError> {
        self.0.lock().notices.push(notice);
        self.0.may_stray("the notifier").await;
        Ok(())
    }
}

/// A thing behind the provider traits: a snapshot called `on` switches it on, one called `off` switches it off.
#[derive(Debug)]
struct Thing {
    world: World,
    engine: String,
    thing: String,
}

fn not_here<T>(verb: &'static str) -> Result<T, ProviderError> {
    Err(ProviderError::Unsupported { verb })
}

#[async_trait]
impl ManagedDatabase for Thing {
    async fn capabilities(&self) -> Result<Capabilities, ProviderError> {
        let snapshot = Some(SnapshotOffer { takes: Millis::seconds(5), blocks_promotion: false });
        Ok(Capabilities { snapshot, ..Capabilities::none() })
    }

    async fn describe(&self) -> Result<Description, ProviderError> {
        not_here("describe")
    }

    async fn replication(&self) -> Result<Replication, ProviderError> {
        not_here("replication")
    }

    async fn poll(&self, _op: &OpHandle) -> Result<OpProgress, ProviderError> {
        not_here("poll")
    }

    async fn snapshot(&self, request: SnapshotRequest) -> Outcome<()> {
        self.world.switch(&self.thing, request.name == "on", &request.key, &self.engine).await
    }

    fn manual(&self, _verb: &str) -> Vec<String> {
        Vec::new()
    }
}

#[async_trait]
impl DatabaseProbe for Thing {
    async fn write(&self) -> Result<WriteProbe, ProviderError> {
        not_here("write")
    }

    async fn position(&self) -> Result<PositionReading, ProviderError> {
        not_here("position")
    }

    async fn extensions(&self) -> Result<BTreeMap<String, String>, ProviderError> {
        not_here("extensions")
    }

    async fn available_extensions(&self) -> Result<BTreeMap<String, Vec<String>>, ProviderError> {
        not_here("available-extensions")
    }

    async fn long_transactions(&self, _limit: Millis) -> Result<Vec<LongTransaction>, ProviderError> {
        not_here("long-transactions")
    }

    async fn writing_sessions(&self) -> Result<Sessions, ProviderError> {
        not_here("writing-sessions")
    }

    async fn ask(&self, _query: &Query) -> Result<Rows, ProviderError> {
        not_here("ask")
    }

    async fn warm_up(&self) -> Result<Millis, ProviderError> {
        not_here("warm-up")
    }
}

#[async_trait]
impl AppTier for Thing {
    async fn limit(&self) -> Result<Millis, ProviderError> {
        Ok(Millis::minutes(2))
    }

    fn drain_expires_by_itself(&self) -> bool {
        false
    }

    async fn read(&self) -> Result<AppReading, ProviderError> {
        self.world.may_stray("the tier").await;
        Ok(AppReading {
            drained: dr_core::Tri::from(self.world.is_on("drain")),
            stragglers: Vec::new(),
            expires: None,
            detail: "the trial's applications".into(),
            at: Timestamp::from_millis(0),
        })
    }

    async fn drain(&self, _request: DrainRequest) -> Outcome<()> {
        Outcome::unsupported("drain")
    }

    async fn resume(&self, _request: ResumeRequest) -> Outcome<()> {
        Outcome::unsupported("resume")
    }

    async fn fail_fast(&self) -> Outcome<()> {
        self.world.lock().fail_fast += 1;
        self.world.may_stray("the tier").await;
        Outcome::Done(())
    }

    fn poll_every(&self) -> Millis {
        Millis::new(10)
    }

    fn manual(&self, _verb: &str) -> Vec<String> {
        Vec::new()
    }
}

/// A step that switches a thing.
pub(crate) trait Switches: Step<Output = ()> {
    fn new(thing: &str, on: bool) -> Self;

    fn on(thing: &str) -> Self {
        Self::new(thing, true)
    }

    fn off(thing: &str) -> Self {
        Self::new(thing, false)
    }

    fn thing(&self) -> &str;
    fn wants(&self) -> bool;
    /// Whether it goes round the gate, through a client of its own.
    const OWN_CLIENT: bool;
}

macro_rules! switches {
    ($($(#[$doc:meta])* $name:ident = $kind:literal, $class:ident, $effect:ident, $verb:literal, $own:literal;)*) => {$(
        $(#[$doc])*
        #[derive(Clone, Debug, Serialize, Deserialize)]
        #[serde(deny_unknown_fields)]
        pub(crate) struct $name {
            thing: String,
            on: bool,
        }

        impl Step for $name {
            const KIND: Kind = Kind::new($kind, 1);
            const EFFECT: Effect = Effect::$effect;
            const CLASS: Class = Class::$class;
            type Output = ();

            fn sentence(&self) -> String {
                format!("switch {} {}", self.thing, if self.on { "on" } else { "off" })
            }

            fn touches(&self) -> Vec<Touch> {
                if Effect::$effect == Effect::ReadOnly {
                    return Vec::new();
                }
                let tiers = verb::ALL.iter().filter(|verb| verb.of() == ResourceKind::App);
                let tier = tiers.filter(|verb| verb.class() == Some(Class::$class)).map(|verb| verb.on(Binding::app("api")));
                std::iter::once(Touch::new(self.thing.as_str(), $verb)).chain(tier).collect()
            }
        }

        impl Switches for $name {
            const OWN_CLIENT: bool = $own;

            fn new(thing: &str, on: bool) -> Self {
                Self { thing: thing.into(), on }
            }

            fn thing(&self) -> &str {
                &self.thing
            }

            fn wants(&self) -> bool {
                self.on
            }
        }
    )*};
}

switches! {
    /// Only looks.
    Check = "trial.check", Guard, ReadOnly, "", false;
    /// May be said twice.
    Flip = "trial.flip", Other, Idempotent, "snapshot", false;
    /// May be said again only after looks.
    Turn = "trial.turn", Other, Reconcilable, "snapshot", false;
    /// Must happen at most once.
    Once = "trial.once", Other, AtMostOnce, "snapshot", false;
    /// Leaves nothing to give back.
    Note = "trial.note", Harmless, Idempotent, "snapshot", false;
    /// Reaches its service with a client of its own.
    Pause = "trial.pause", Other, Reconcilable, "pause", true;
    Drain = "dr.trial-drain", Drain, Idempotent, "snapshot", false;
    Undrain = "dr.trial-undrain", Resume, Idempotent, "snapshot", false;
    Fence = "dr.trial-fence", Fence, Reconcilable, "snapshot", false;
    Unfence = "dr.trial-unfence", ReleaseFence, Reconcilable, "snapshot", false;
    Promote = "dr.trial-promote", Pivot, AtMostOnce, "snapshot", false;
}

/// The code of all of them.
struct Hands<S> {
    world: World,
    step: PhantomData<fn() -> S>,
}

fn hands<S: Switches>(world: &World) -> Hands<S> {
    Hands { world: world.clone(), step: PhantomData }
}

#[async_trait]
impl<S: Switches> Handler for Hands<S> {
    type Step = S;

    async fn observe(&self, cx: &StepCx, step: &S) -> Result<Observed<()>, StepError> {
        Ok(self.world.look(cx, step.thing(), step.wants()).await)
    }

    async fn prepare(&self, cx: &StepCx, step: &S) -> Result<Prepared<()>, StepError> {
        let not_ready = {
            let mut inner = self.world.lock();
            let left = inner.not_ready.entry(step.thing().to_owned()).or_default();
            let not_ready = *left > 0;
            *left = left.saturating_sub(1);
            not_ready
        };
        if not_ready {
            let reason = NotDone { cause: Cause::new("not ready yet"), retry: Retry::After(Millis::seconds(1)) };
            return Ok(Prepared::NotReady(reason));
        }
        Ok(match self.observe(cx, step).await? {
            Observed::Done(()) => Prepared::AlreadyDone(()),
            Observed::NotStarted | Observed::Partial { .. } => Prepared::Ready(Ready::default()),
            Observed::InProgress { .. } => Prepared::Conflict(Cause::new("somebody else's operation")),
            Observed::Unknown(cause) | Observed::GivenUp(cause) | Observed::Short(Shortfall { why: cause, .. }) => {
                Prepared::NotReady(NotDone { cause, retry: Retry::After(Millis::seconds(1)) })
            }
            Observed::Conflict(cause) => Prepared::Conflict(cause),
        })
    }

    async fn submit(&self, cx: &StepCx, step: &S) -> Result<Outcome<()>, StepError> {
        let wait = self.world.lock().before_the_gate.get(step.thing()).copied();
        if let Some(wait) = wait {
            cx.pause(wait).await;
        }
        let stumbles = self.world.stumbles(step.thing(), step.wants());
        let name = if step.wants() { "on" } else { "off" };
        let outcome = if S::OWN_CLIENT {
            self.world.switch(step.thing(), step.wants(), &cx.key(), "own client").await
        } else {
            let target = dr_core::Target { member: step.thing().into(), ..cx.plan().expects.clone() };
            let request = SnapshotRequest { target, name: name.into(), key: cx.key() };
            cx.database(&step.thing().into())?.snapshot(request).await
        };
        match stumbles {
            Some(class) => Err(StepError { class, cause: Cause::new("stumbled over something else") }),
            None => Ok(outcome),
        }
    }

    async fn poll(&self, cx: &StepCx, step: &S, handle: &OpHandle) -> Result<Polled<()>, StepError> {
        let report = self.world.lock().reports.get_mut(step.thing()).and_then(VecDeque::pop_front);
        Ok(match report {
            Some(Report::Pending(again_in)) => Polled::Pending { again_in, percent: None },
            Some(Report::Failed) => Polled::Ended(Outcome::refused(format_args!("{handle} failed"))),
            Some(Report::Forgotten) => Polled::Ended(Outcome::unknown(format_args!("{handle} is not known"))),
            None => match self.observe(cx, step).await? {
                Observed::Done(()) => Polled::Ended(Outcome::Done(())),
                Observed::Conflict(cause) => Polled::Ended(Outcome::Conflict(cause)),
                Observed::NotStarted
                | Observed::Partial { .. }
                | Observed::InProgress { .. }
                | Observed::Unknown(_)
                | Observed::GivenUp(_)
                | Observed::Short(_) => Polled::Pending { again_in: cx.every(), percent: None },
            },
        })
    }
}

struct Eyes(World);

#[async_trait]
impl Look for Eyes {
    type Step = Check;

    async fn look(&self, cx: &StepCx, step: &Check) -> Result<Observed<()>, StepError> {
        Ok(self.0.look(cx, step.thing(), step.wants()).await)
    }
}

/// Bounds a loss that grows by a second each second from when time began.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Stake {
    /// How long people may take to answer.
    pub(crate) answer: Millis,
}

impl Step for Stake {
    const KIND: Kind = Kind::new("test.stake", 1);
    const EFFECT: Effect = Effect::ReadOnly;
    const CLASS: Class = Class::Guard;
    type Output = LossBound;

    fn sentence(&self) -> String {
        "bound the loss".into()
    }
}

struct Grows;

#[async_trait]
impl Look for Grows {
    type Step = Stake;

    async fn look(&self, cx: &StepCx, step: &Stake) -> Result<Observed<LossBound>, StepError> {
        let grown = cx.now().since(VirtualRuntime::ORIGIN);
        let at_most = |time| Loss::AtMost { time, amount: None, because: "it grows".into() };
        let asked = AskedLoss { now: at_most(grown), answer: step.answer, good_until: cx.now() + step.answer };
        let loss = at_most(grown.saturating_add(step.answer));
        let run = cx.run().clone();
        Ok(Observed::Done(LossBound { run, loss, sampled_at: None, fenced_at: None, asked: Some(asked) }))
    }
}

/// Asks people.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct AskPeople {
    pub(crate) question: String,
    pub(crate) loss: Option<Input<LossBound>>,
    pub(crate) people: u8,
    pub(crate) roles: Vec<Role>,
    pub(crate) expires_in: Millis,
}

impl AskPeople {
    /// `people` of any role, within an hour.
    pub(crate) fn of(people: u8) -> Self {
        Self {
            question: "switch it on?".into(),
            loss: None,
            people,
            roles: Vec::new(),
            expires_in: Millis::minutes(60),
        }
    }
}

impl Step for AskPeople {
    const KIND: Kind = Kind::new("dr.trial-consent", 1);
    const EFFECT: Effect = Effect::ReadOnly;
    const CLASS: Class = Class::Consent;
    type Output = Consent;

    fn sentence(&self) -> String {
        format!("ask {} people", self.people)
    }
}

struct Asking(World);

#[async_trait]
impl Handler for Asking {
    type Step = AskPeople;

    async fn observe(&self, _cx: &StepCx, _step: &AskPeople) -> Result<Observed<Consent>, StepError> {
        Ok(Observed::NotStarted)
    }

    async fn prepare(&self, cx: &StepCx, _step: &AskPeople) -> Result<Prepared<Consent>, StepError> {
        let takes = self.0.lock().facts_take.pop_front();
        if let Some(takes) = takes {
            cx.pause(takes).await;
        }
        let mut inner = self.0.lock();
        if inner.unreadable_facts > 0 {
            inner.unreadable_facts -= 1;
            return Err(StepError { class: StepErrorClass::Unknown, cause: Cause::new("metrics do not answer") });
        }
        Ok(Prepared::Ready(Ready { facts: inner.facts.clone(), pre_image: None }))
    }

    async fn submit(&self, _cx: &StepCx, _step: &AskPeople) -> Result<Outcome<Consent>, StepError> {
        Ok(Outcome::refused("people are asked by the driver"))
    }
}

/// All kinds of these tests.
pub(crate) fn catalog(world: &World) -> Catalog {
    Catalog::empty()
        .looking(Eyes(world.clone()))
        .looking(Grows)
        .with(hands::<Flip>(world))
        .with(hands::<Turn>(world))
        .with(hands::<Once>(world))
        .with(hands::<Note>(world))
        .with(hands::<Pause>(world))
        .with(hands::<Drain>(world))
        .with(hands::<Undrain>(world))
        .with(hands::<Fence>(world))
        .with(hands::<Unfence>(world))
        .with(hands::<Promote>(world))
        .with(Asking(world.clone()))
}
