//! The way of one process to the cloud: latency, fault points, outcomes.

use dr_core::{
    Binding, Cause, MemberId, Millis, Outcome, ProviderError, Timestamp, Touch,
    base::ResourceIdentity,
    contract::{NotDone, Retry},
};

use super::{Broken, CallKind, Drift, Fault, FaultPlan, SimCloud, ms};
use crate::{
    crash::CrashSwitch,
    journal::MemoryJournal,
    world::{Access, Condition, Due, Effect, Fate, Flavour, Law, Reply, World},
};

/// One call as it was made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CallRecord {
    /// From 1, over all processes.
    pub index: u64,
    /// The name of the fault point with its number: `weu.promote#1`, `neu.fence.engage/2-terminate#1`.
    pub name: String,
    /// What kind of call it is.
    pub kind: CallKind,
    /// Which process made it.
    pub process: String,
    /// The resource and verb of a change.
    pub touch: Option<Touch>,
    /// When it was sent.
    pub at: Timestamp,
    /// How many lines the linked journal had when it was sent.
    pub durable: u64,
}

impl CallRecord {
    /// Whether it looks after the old side, or changes a service of the author's own; what a success claims of the writer does not
    /// rest on it.
    pub(super) fn is_clean_up(&self) -> bool {
        self.touch.as_ref().is_none_or(|touch| {
            ["rejoin", "retire-fence", "harden", "preserve", "spread"].contains(&touch.verb.as_str())
        })
    }

    /// Whether it looks at a database.
    pub(super) fn looks_at_database(&self) -> bool {
        self.kind == CallKind::Read
            && ["describe", "probe.", "fence.inspect"].iter().any(|verb| self.name.contains(verb))
    }
}

/// Every call so far, and the faults to come.
#[derive(Debug, Default)]
pub(crate) struct Calls {
    pub(super) records: Vec<CallRecord>,
    counts: std::collections::BTreeMap<String, u64>,
    pub(super) plan: FaultPlan,
    pub(super) rival: bool,
}

/// Where a call goes.
#[derive(Clone, Debug)]
pub(crate) struct Point {
    /// `weu.promote`.
    pub(crate) name: String,
    pub(crate) kind: CallKind,
    pub(crate) plane: Plane,
    pub(crate) touch: Option<Touch>,
}

/// Which way a call takes, and so what can cut it off.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Plane {
    /// The management calls of a member.
    Management(MemberId),
    /// A connection to a member's database.
    Data(MemberId),
    /// Something else that is always there.
    Other,
}

impl Point {
    pub(crate) fn read(name: String, plane: Plane) -> Self {
        Self { name, kind: CallKind::Read, plane, touch: None }
    }

    pub(crate) fn change(name: String, plane: Plane, touch: (impl Into<Binding>, &str)) -> Self {
        Self { name, kind: CallKind::Change, plane, touch: Some(Touch::new(touch.0, touch.1)) }
    }

    pub(crate) fn start(name: String, plane: Plane, touch: (impl Into<Binding>, &str)) -> Self {
        Self { kind: CallKind::Start, ..Self::change(name, plane, touch) }
    }

    fn changes_writer(&self) -> bool {
        self.touch.as_ref().is_some_and(|touch| ["promote", "swap-roles"].contains(&touch.verb.as_str()))
    }
}

/// How a read is distorted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Glass {
    /// The time that the answer speaks of.
    pub(crate) at: i64,
    /// The answer contradicts what other sources say.
    pub(crate) contradicts: bool,
}

/// The way of one process to the cloud.
#[derive(Clone, Debug)]
pub(crate) struct Line {
    pub(crate) cloud: SimCloud,
    pub(crate) process: String,
    pub(crate) switch: CrashSwitch,
}

struct Entered {
    name: String,
    fault: Option<Fault>,
    index: u64,
}

impl Line {
    /// Looks. `verb` is for errors; `look` sees the world through the glass of lag and faults.
    pub(crate) async fn read<T: Send>(
        &self,
        point: Point,
        verb: &'static str,
        look: impl FnOnce(&mut World, Glass) -> Result<T, ProviderError> + Send,
    ) -> Result<T, ProviderError> {
        let entered = self.enter(&point).await;
        let timing = self.cloud.inner.setup.timing;
        let mut glass = Glass { at: i64::MIN, contradicts: false };
        match entered.fault {
            Some(Fault::FailBefore) => {
                self.sleep(self.draw(entered.index, timing.read)).await;
                return Err(ProviderError::unreachable(verb, "503, try again"));
            }
            Some(Fault::LostReply) => {
                self.sleep(timing.timeout).await;
                return Err(ProviderError::unreachable(verb, "no answer in time"));
            }
            Some(Fault::Throttled) => {
                self.sleep(self.draw(entered.index, timing.read)).await;
                return Err(ProviderError::Throttled { verb, wait: timing.timeout });
            }
            Some(Fault::Contradiction) => glass.contradicts = true,
            Some(_) | None => {}
        }
        let way = self.draw(entered.index, timing.read);
        let half = Millis::new(way.count() / 2);
        self.sleep(half).await;
        if !self.open(&point.plane) {
            self.sleep(timing.timeout).await;
            return Err(ProviderError::unreachable(verb, "no connection"));
        }
        let lag = match &point.plane {
            Plane::Management(_) => timing.view_lag,
            Plane::Data(_) | Plane::Other => Millis::ZERO,
        };
        let stale = if entered.fault == Some(Fault::StaleRead) { stale_by(&timing) } else { Millis::ZERO };
        let answer = self.cloud.with(|world| {
            glass.at = world.now.saturating_sub(ms(lag.max(stale)));
            look(world, glass)
        });
        self.sleep(way.saturating_sub(half)).await;
        if entered.fault == Some(Fault::CrashAfter) {
            return self.switch.die(&format!("{}/after", entered.name)).await;
        }
        answer
    }

    /// Sends a change. What comes back is what the caller can know.
    pub(crate) async fn send(&self, point: Point, effect: Effect) -> Outcome<String> {
        let entered = self.enter(&point).await;
        let timing = self.cloud.inner.setup.timing;
        let way = self.draw(entered.index, timing.send);
        let half = Millis::new(way.count() / 2);
        if let Some(refusal) = refusal(entered.fault, &timing) {
            self.sleep(way).await;
            return refusal;
        }
        if !self.open(&point.plane) {
            self.sleep(timing.timeout).await;
            return Outcome::not_done_yet("no connection, nothing was sent", timing.poll);
        }
        // A user's own service has no rules of order: what comes twice or late there comes soon, or nobody could do anything.
        let own = matches!(effect, Effect::Custom { .. });
        let later = if own { ms(timing.timeout).saturating_add(1) } else { ms(timing.timeout).saturating_mul(3) };
        let late = if entered.fault == Some(Fault::Late) { later } else { 0 };
        let fate = fate(entered.fault, &effect, &timing);
        let slot = self.cloud.with(|world| {
            let slot = world.number();
            let overtaken = entered.fault == Some(Fault::Overtaken);
            let call = if overtaken { "drift".to_owned() } else { entered.name.clone() };
            let at = world.now.saturating_add(ms(half)).saturating_add(late);
            if entered.fault == Some(Fault::Duplicate) {
                let again = at.saturating_add(if own { 1 } else { ms(timing.timeout) });
                let (effect, fate) = (effect.clone(), Fate::default());
                world.schedule(again, Due::Deliver { effect, call: call.clone(), slot: None, fate });
            }
            let kept = (late == 0 && !overtaken).then_some(slot);
            world.schedule(at, Due::Deliver { effect, call, slot: kept, fate });
            slot
        });
        if matches!(entered.fault, Some(Fault::LostReply | Fault::Late | Fault::Overtaken)) {
            self.sleep(timing.timeout).await;
            self.cloud.with(|world| drop(world.reply(slot)));
            return Outcome::unknown("no answer in time");
        }
        self.sleep(half).await;
        let reply = self.reply(slot).await;
        if entered.fault == Some(Fault::CrashAfter) {
            return self.switch.die(&format!("{}/after", entered.name)).await;
        }
        self.sleep(way.saturating_sub(half)).await;
        outcome(reply, timing.poll)
    }

    /// The reply of a delivered call. Real clocks may wake a little early.
    async fn reply(&self, slot: u64) -> Option<Reply> {
        for _ in 0..50_u8 {
            if let Some(reply) = self.cloud.with(|world| world.reply(slot)) {
                return Some(reply);
            }
            self.sleep(Millis::new(1)).await;
        }
        None
    }

    /// Numbers and records the call, and lets its fault begin.
    async fn enter(&self, point: &Point) -> Entered {
        let at = self.cloud.inner.runtime.now_wall();
        let journal = self.cloud.inner.journal.lock().unwrap_or_else(std::sync::PoisonError::into_inner).clone();
        let durable = journal.as_ref().map_or(0, MemoryJournal::durable);
        if let Some(journal) = journal {
            self.cloud.hear(&journal);
        }
        let entered = {
            let mut calls = self.cloud.calls_lock();
            let count = calls.counts.entry(point.name.clone()).or_insert(0);
            *count = count.saturating_add(1);
            let name = format!("{}#{count}", point.name);
            let index = u64::try_from(calls.records.len()).unwrap_or(u64::MAX).saturating_add(1);
            let fault = calls.plan.at(&name, index);
            calls.rival |= fault == Some(Fault::Rival);
            let (kind, touch) = (point.kind, point.touch.clone());
            let process = self.process.clone();
            calls.records.push(CallRecord { index, name: name.clone(), kind, process, touch, at, durable });
            Entered { name, fault, index }
        };
        self.judge(point, &entered.name);
        if entered.fault == Some(Fault::CrashBefore) {
            return self.switch.die(&format!("{}/before", entered.name)).await;
        }
        if let Some(fault) = entered.fault {
            self.cloud.with(|world| strike(world, fault, point));
        }
        if entered.fault == Some(Fault::Rival) {
            // The process stands still while the other one takes over.
            self.sleep(Millis::minutes(30)).await;
        }
        entered
    }

    /// What the laws about callers say to a change (S8, S13, S14, S15).
    fn judge(&self, point: &Point, name: &str) {
        let Some(touch) = &point.touch else { return };
        self.cloud.with(|world| {
            if let Some(why) = world.duties.only_look.clone() {
                world.violate(Law::S14, format!("{name} changes something during {why}"));
            }
            let undo = ["release-fence", "resume", "fail-fast"].contains(&touch.verb.as_str());
            if world.duties.cancelled && !undo {
                world.violate(Law::S8, format!("{name} was sent after the cancellation was acknowledged"));
            }
            if world.duties.allow.as_ref().is_some_and(|allowed| !allowed.contains(touch)) {
                world.violate(Law::S13, format!("{name} does `{touch}`, which the plan does not allow"));
            }
            if world.duties.stale.contains(&self.process) {
                world.violate(Law::S15, format!("{name} was sent by `{}`, which lost its lease", self.process));
            }
        });
    }

    fn open(&self, plane: &Plane) -> bool {
        self.cloud.with(|world| match plane {
            Plane::Management(member) => world.management_answers(member),
            Plane::Data(member) => world.we_reach(member),
            Plane::Other => true,
        })
    }

    async fn sleep(&self, time: Millis) {
        if time > Millis::ZERO {
            let runtime = &self.cloud.inner.runtime;
            runtime.sleep_until(runtime.now_mono() + time).await;
        }
    }

    /// A latency from the range, always the same for the same call of the same seed.
    fn draw(&self, index: u64, (least, most): (Millis, Millis)) -> Millis {
        let seed = self.cloud.inner.setup.seed;
        let mut x = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15).wrapping_add(index.wrapping_mul(0xbf58_476d_1ce4_e5b9));
        x = (x ^ (x >> 31)).wrapping_mul(0x94d0_49bb_1331_11eb);
        x ^= x >> 29;
        let span = most.saturating_sub(least).count().saturating_add(1);
        Millis::new(least.count().saturating_add(x % span))
    }
}

fn stale_by(timing: &crate::world::Timing) -> Millis {
    Millis::new(timing.timeout.count().saturating_mul(10))
}

/// What a service says that does not take the call.
fn refusal(fault: Option<Fault>, timing: &crate::world::Timing) -> Option<Outcome<String>> {
    let (why, wait) = match fault {
        Some(Fault::Refused) => return Some(Outcome::refused("409, not in this state")),
        Some(Fault::FailBefore) => ("503, not accepted", timing.poll),
        Some(Fault::Throttled) => ("429, throttled", timing.timeout),
        Some(_) | None => return None,
    };
    Some(Outcome::not_done_yet(why, wait))
}

fn fate(fault: Option<Fault>, effect: &Effect, timing: &crate::world::Timing) -> Fate {
    let takes = match effect {
        Effect::Promote { .. } => timing.promote,
        Effect::Swap { .. } => timing.swap,
        Effect::Rejoin { .. } | Effect::Follow { .. } => timing.rejoin,
        Effect::Snapshot { .. }
        | Effect::Life { .. }
        | Effect::Settle { .. }
        | Effect::Deny { .. }
        | Effect::Terminate { .. }
        | Effect::Stop { .. }
        | Effect::StopAlone { .. }
        | Effect::StorageFence { .. }
        | Effect::NoLogin { .. }
        | Effect::Clear { .. }
        | Effect::Start { .. }
        | Effect::Allow { .. }
        | Effect::Retire { .. }
        | Effect::Patch { .. }
        | Effect::Route { .. }
        | Effect::Rotate { .. }
        | Effect::Scale { .. }
        | Effect::Recycle
        | Effect::Spread { .. }
        | Effect::Drain { .. }
        | Effect::Resume
        | Effect::FailFast
        | Effect::Notify { .. }
        | Effect::Custom { .. } => timing.snapshot,
    };
    Fate {
        slower: if fault == Some(Fault::Slow) { ms(takes).saturating_mul(9) } else { 0 },
        fails: match fault {
            Some(Fault::OperationFails(how)) => Some(how),
            _ => None,
        },
        handle_lost: fault == Some(Fault::HandleLost),
    }
}

fn outcome(reply: Option<Reply>, wait: Millis) -> Outcome<String> {
    match reply {
        Some(Reply::Done(value)) => Outcome::Done(value),
        Some(Reply::Accepted(handle)) => Outcome::accepted_as(handle),
        Some(Reply::Refused(why)) => Outcome::refused(why),
        Some(Reply::NotYet(why)) => Outcome::NotDone(NotDone { cause: Cause::new(why), retry: Retry::After(wait) }),
        Some(Reply::Conflict(why)) => Outcome::Conflict(Cause::new(why)),
        None => Outcome::unknown("no answer"),
    }
}

/// Lets a fault of the world begin. The source is the member that was primary first.
fn strike(world: &mut World, fault: Fault, point: &Point) {
    let Some(source) = world.setup.members.first().map(|member| MemberId::new(member.name.as_str())) else { return };
    let lasts = Some(ms(world.setup.timing.timeout).saturating_mul(4));
    match fault {
        Fault::ControlOutage => {
            if let Some(region) = world.instances.get(&source).map(|found| found.region.clone()) {
                world.suffer(Condition::ControlOutage(region), lasts);
            }
        }
        Fault::DataOutage => world.suffer(Condition::DataOutage(source), lasts),
        Fault::Partition => world.suffer(Condition::Partition(source), lasts),
        Fault::Drift(kind) => drift(world, kind, point.changes_writer()),
        Fault::Zombie => {
            let at = world.now;
            // A forced swap brings no fence that a dark region keeps: that its old side comes back as it was, nobody can prevent. The run is
            // to see it, and not to end well.
            let unfenced = world.instances.get(&source).is_some_and(|found| !found.denied && !found.stopped);
            world.duties.stranger |= world.setup.flavour == Flavour::RoleSwap
                && unfenced
                && (point.changes_writer() || world.promotion_asked());
            world.schedule(at, Due::Returns { member: source });
        }
        Fault::IgnoredTtl => {
            if let Some(writer) = world.writers.last_mut() {
                writer.ignores_ttl = true;
            }
        }
        Fault::Replication(how) => {
            let standby = world.instances.values().find(|found| found.follows.is_some()).map(|f| f.name.clone());
            if let Some(standby) = standby {
                break_replication(world, &standby, how);
            }
        }
        Fault::FailBefore
        | Fault::Refused
        | Fault::LostReply
        | Fault::Duplicate
        | Fault::Late
        | Fault::Overtaken
        | Fault::Throttled
        | Fault::Slow
        | Fault::OperationFails(_)
        | Fault::HandleLost
        | Fault::StaleRead
        | Fault::Contradiction
        | Fault::CrashBefore
        | Fault::CrashAfter
        | Fault::Rival => {}
    }
}

pub(super) fn break_replication(world: &mut World, standby: &MemberId, how: Broken) {
    let frozen = (how == Broken::MetricFrozen).then(|| world.setup.timing.replica_delay.count());
    world.detach(standby, frozen);
    if how == Broken::Diverged
        && let Some(instance) = world.instances.get_mut(standby)
    {
        instance.lineage.generation = instance.lineage.generation.saturating_add(90);
    }
    world.line("drift", crate::world::ChangeKind::World, standby, format!("replication breaks: {how:?}"));
}

/// The applications' role meets this on the member from now on.
pub(super) fn let_in(world: &mut World, member: &MemberId, access: Access) {
    let now = world.now;
    if let Some(found) = world.instances.get_mut(member) {
        found.access = access;
        found.access_since = now;
        world.line(
            "drift",
            crate::world::ChangeKind::World,
            member,
            format!("the applications' role meets: {access:?}"),
        );
    }
}

/// Somebody changes something by hand. What comes of it once a promotion was asked for (or left: `sent`) is not held against the
/// orchestrator.
pub(super) fn drift(world: &mut World, drift: Drift, sent: bool) {
    let Some(source) = world.setup.members.first().map(|member| MemberId::new(member.name.as_str())) else { return };
    let other = world.instances.keys().find(|name| **name != source).cloned();
    match drift {
        Drift::Role => {
            world.duties.stranger = true;
            if let Some(standby) =
                world.instances.values().find(|found| found.follows.is_some()).map(|f| f.name.clone())
            {
                world.promoted(&standby, "drift");
            }
        }
        Drift::Route => {
            if let Some(other) = other {
                world.point_route(0, &other, "drift");
            }
        }
        Drift::Secret => {
            if let Some(endpoint) = world.secret.versions.last().map(|row| row.endpoint.clone()) {
                world.publish(endpoint, None, "drift");
            }
        }
        Drift::Place => {
            world.duties.stranger |= sent || world.promotion_asked();
            world.move_away(&source);
        }
        Drift::Access => {
            if let Some(other) = other {
                let_in(world, &other, Access::Refused);
            }
        }
        Drift::Identity => {
            if let Some(standby) = world.instances.values_mut().find(|found| found.follows.is_some()) {
                standby.identity = ResourceIdentity::new(format!("{}+", standby.identity));
                let name = standby.name.clone();
                world.line("drift", crate::world::ChangeKind::World, &name, "somebody deletes it and makes it again");
            }
        }
        Drift::Fence => {
            world.duties.stranger |= sent || world.promotion_asked();
            let fenced = world
                .instances
                .get(&source)
                .is_some_and(|found| found.denied || found.stopped || found.storage_fenced || found.no_login.is_some());
            if fenced && let Some(instance) = world.instances.get_mut(&source) {
                instance.denied = false;
                instance.storage_fenced = false;
                instance.no_login = None;
                instance.running |= instance.stopped;
                instance.stopped = false;
                instance.clean_end = None;
                world.line("drift", crate::world::ChangeKind::Released, &source, "somebody lifts the fence");
            }
        }
    }
}
