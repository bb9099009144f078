//! The ground truth: what really is, what really happened, and what the provider's own rules make of each call.
//!
//! The world has no clock and no tasks. It is advanced to a time, and everything that was due until then happens in order:
//! writes of clients, ends of operations, late effects, expiries. So the same world runs on virtual time, on a real clock and
//! from a file.

mod around;
mod clients;
mod dials;
mod effect;
mod ends;
mod history;
mod laws;
mod lifecycle;
mod operation;
mod service;
mod setup;
mod state;
mod view;

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::Arc,
};

use dr_core::{
    MemberId,
    base::{Endpoint, Region, SystemId},
    contract::{Lineage, Sessions},
};
use serde::{Deserialize, Serialize};

use crate::truth::Truth;

pub use dials::{Access, Careless, FormerLife, Keeps, Place};
pub use history::Write;
pub use laws::{Ended, Law, Violation};
pub use service::{Edges, EndpointMoves, LagSource, Preset, Service};
pub use setup::{Flavour, MemberSetup, Setup, Timing};
pub use state::{Condition, FailsHow};

pub(crate) use dials::{Elsewhere, applied, not_the_server};
pub(crate) use effect::{Effect, Life, Part, Reply};
pub(crate) use history::History;
pub(crate) use lifecycle::Kept;
pub(crate) use state::{
    App, Instance, OpState, Operation, Route, Secret, SecretVersionRow, Stream, Via, Work, Writer, pairs,
};
pub(crate) use view::View;

/// Where a history of the world begins.
const BASE: u64 = 0x1A_9F00_0000;

/// Something that is due.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Due {
    /// A call reaches the provider.
    Deliver { effect: Effect, call: String, slot: Option<u64>, fate: Fate },
    /// A part of a fence that was accepted comes into force.
    Lands { part: Part, member: MemberId, call: String },
    /// A stage of an operation.
    OpStage { op: String },
    /// An operation ends.
    OpEnds { op: String },
    /// What an operation was said to have given up happens.
    OpLate { op: String },
    /// Running work of applications has ended.
    Drained { turn: u64 },
    /// A drain falls off.
    DrainExpires { turn: u64 },
    /// Every resolver answers the new route.
    RouteSettles { route: usize, change: u64 },
    /// A condition ends.
    Heals { condition: Condition },
    /// A new writer restarts.
    Restarts { member: MemberId },
    /// It is back.
    Restarted { member: MemberId },
    /// A member that broke or was stopped comes back.
    Returns { member: MemberId },
    /// Replication of a member goes on.
    Streams { member: MemberId },
}

/// What an injected fault makes of an operation that a call starts.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Fate {
    pub(crate) slower: i64,
    pub(crate) fails: Option<FailsHow>,
    pub(crate) handle_lost: bool,
}

/// One line of the truth: what really changed, when, and through whom.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TruthLine {
    /// Milliseconds after 1970.
    pub at: i64,
    /// The call that did it (`weu.promote#1`), or who else: `provider`, `drift`, `client`.
    pub by: String,
    /// What kind of change it was.
    pub kind: ChangeKind,
    /// The member or thing that changed.
    pub what: String,
    /// In words.
    pub text: String,
}

/// What kind of change a [`TruthLine`] records.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ChangeKind {
    /// A standby became a primary.
    Promoted,
    /// A primary became a standby, or a member follows another one.
    Follows,
    /// A part of a fence was put up.
    Fenced,
    /// A part of a fence was taken away.
    Released,
    /// A fence was retired.
    Retired,
    /// A secret version was published.
    Secret,
    /// A route was changed, or settled.
    Route,
    /// Applications hold their writes back.
    Drained,
    /// Applications write again.
    Resumed,
    /// An operation was accepted.
    Accepted,
    /// An operation ended.
    Ended,
    /// Something broke, healed or was changed behind our back.
    World,
    /// A snapshot, a checkpoint, a notice.
    Other,
    /// A user's own service changed.
    Service,
}

/// The ground truth.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct World {
    pub(crate) setup: Setup,
    pub(crate) now: i64,
    pub(crate) began: i64,
    pub(crate) instances: BTreeMap<MemberId, Instance>,
    #[serde(with = "pairs")]
    pub(crate) histories: BTreeMap<Lineage, History>,
    /// The history that counts: that of the last promotion.
    pub(crate) current: Lineage,
    pub(crate) writers: Vec<Writer>,
    pub(crate) secret: Secret,
    pub(crate) routes: Vec<Route>,
    /// Where readers are sent, by the number of their route.
    pub(crate) readers: Vec<BTreeSet<MemberId>>,
    pub(crate) app: App,
    pub(crate) ops: BTreeMap<String, Operation>,
    #[serde(with = "pairs")]
    queue: BTreeMap<(i64, u64), Due>,
    next: u64,
    pub(crate) conditions: BTreeSet<Condition>,
    pub(crate) log: Vec<TruthLine>,
    views: VecDeque<(i64, View)>,
    pub(crate) violations: Vec<Violation>,
    pub(crate) notices: BTreeMap<String, String>,
    #[serde(with = "pairs")]
    replies: BTreeMap<u64, Reply>,
    /// Contradictions accepted on purpose: no law fires for them.
    pub(crate) duties: laws::Duties,
    /// What watches and what users' own services do; no part of the truth.
    #[serde(skip)]
    pub(crate) hooks: Hooks,
    /// What a watcher outside the patient has sampled.
    pub(crate) samples: VecDeque<Sample>,
    /// What the simulated backend leaves out.
    pub(crate) careless: BTreeSet<Careless>,
    /// What the provider keeps for a while of members that it rebuilt.
    pub(crate) left: BTreeMap<MemberId, Kept>,
    /// What is kept for good, by its name.
    pub(crate) kept: BTreeMap<String, Kept>,
    /// What promotions dropped beside the log, and whose it was.
    pub(crate) gone: Vec<(MemberId, Keeps)>,
}

/// One look of the watcher: which members answered it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Sample {
    pub(crate) at: i64,
    pub(crate) primary: Option<(Lineage, u64)>,
    pub(crate) standby: Option<u64>,
    /// The lag that the provider told of a standby then.
    pub(crate) lag: Option<dr_core::contract::LagSample>,
}

type OwnLaw = Arc<dyn Fn(&Truth<'_>) -> bool + Send + Sync>;

/// Code that takes part in the world.
#[derive(Default)]
pub(crate) struct Hooks {
    pub(crate) laws: Vec<(String, OwnLaw)>,
    pub(crate) custom: BTreeMap<u64, Arc<dyn Fn() + Send + Sync>>,
}

impl std::fmt::Debug for Hooks {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Hooks").field("laws", &self.laws.len()).finish_non_exhaustive()
    }
}

impl World {
    /// The world of `setup`, at `at`.
    pub(crate) fn new(setup: Setup, at: i64) -> Self {
        let system = SystemId::new(format!("sys-{}", setup.group));
        let lineage = Lineage { system, generation: 1 };
        let mut instances = BTreeMap::new();
        let primary = setup.members.first().map(|member| MemberId::new(member.name.as_str()));
        for member in &setup.members {
            let instance = Instance::new(&setup, member, &lineage, primary.as_ref(), at);
            instances.insert(instance.name.clone(), instance);
        }
        let primary = primary.unwrap_or_else(|| MemberId::new("none"));
        let endpoint = instances.get(&primary).map_or_else(|| Endpoint::new(""), |found| found.endpoint.clone());
        let first = SecretVersionRow { version: "v1".to_owned(), endpoint, token: None, visible_at: at };
        let standbys: BTreeSet<MemberId> = instances.keys().filter(|name| **name != primary).cloned().collect();
        let route = Route { member: primary.clone(), answers: primary, change: 0 };
        let mut world = Self {
            now: at,
            began: at,
            instances,
            histories: BTreeMap::from([(lineage.clone(), History::new(lineage.clone(), None, BASE))]),
            current: lineage,
            writers: Vec::new(),
            secret: Secret { versions: vec![first], rotating: false },
            routes: vec![route; setup.routes],
            readers: vec![standbys; setup.readers],
            app: App::of(App::PARTS),
            ops: BTreeMap::new(),
            queue: BTreeMap::new(),
            next: 1,
            conditions: BTreeSet::new(),
            log: Vec::new(),
            views: VecDeque::new(),
            violations: Vec::new(),
            notices: BTreeMap::new(),
            replies: BTreeMap::new(),
            duties: laws::Duties::default(),
            hooks: Hooks::default(),
            samples: VecDeque::new(),
            careless: BTreeSet::new(),
            left: BTreeMap::new(),
            kept: BTreeMap::new(),
            gone: Vec::new(),
            setup,
        };
        world.make_writers();
        world.remember_view();
        world
    }

    /// Lets everything happen that is due until `to`. Time never goes back.
    pub(crate) fn advance(&mut self, to: i64) {
        while let Some((&(at, id), _)) = self.queue.first_key_value() {
            if at > to {
                break;
            }
            let at = at.max(self.now);
            self.clients_until(at);
            if let Some(due) = self.queue.remove(&(at, id)).or_else(|| self.queue.pop_first().map(|(_, due)| due)) {
                self.happen(due);
                self.settle_down();
            }
        }
        self.clients_until(to);
    }

    /// Something will happen at `at`.
    pub(crate) fn schedule(&mut self, at: i64, due: Due) -> u64 {
        let id = self.number();
        self.queue.insert((at.max(self.now), id), due);
        id
    }

    /// Takes out of the queue what `wanted` means, in its order.
    pub(crate) fn take_due(&mut self, wanted: impl Fn(&Due) -> bool) -> Vec<Due> {
        let keys: Vec<(i64, u64)> = self.queue.iter().filter(|(_, due)| wanted(due)).map(|(key, _)| *key).collect();
        keys.iter().filter_map(|key| self.queue.remove(key)).collect()
    }

    /// The next number; never used twice.
    pub(crate) fn number(&mut self) -> u64 {
        let number = self.next;
        self.next = number.saturating_add(1);
        number
    }

    /// The reply to a delivered call, once.
    pub(crate) fn reply(&mut self, slot: u64) -> Option<Reply> {
        self.replies.remove(&slot)
    }

    pub(crate) fn happen(&mut self, due: Due) {
        match due {
            Due::Deliver { effect, call, slot, fate } => {
                let reply = self.apply(effect, &call, &fate);
                if let Some(slot) = slot {
                    self.replies.insert(slot, reply);
                }
            }
            Due::Lands { part, member, call } => drop(self.enforce(part, &member, &call)),
            Due::OpStage { op } => self.stage(&op),
            Due::OpEnds { op } => self.end(&op),
            Due::OpLate { op } => self.late(&op),
            Due::Drained { turn } => self.drained(turn),
            Due::DrainExpires { turn } => self.drain_expires(turn),
            Due::RouteSettles { route, change } => self.route_settles(route, change),
            Due::Heals { condition } => self.heal(&condition),
            Due::Restarts { member } => self.restart(&member),
            Due::Restarted { member } => self.restarted(&member),
            Due::Returns { member } => self.comes_back(&member),
            Due::Streams { member } => self.reattach(&member, "provider"),
        }
    }

    /// After every change: remember the management view and check the laws.
    pub(crate) fn settle_down(&mut self) {
        self.remember_view();
        self.check_standing();
        let broken = self.hooks.laws.iter().filter(|(_, law)| !law(&Truth { world: self }));
        for name in broken.map(|(name, _)| name.clone()).collect::<Vec<_>>() {
            self.violate(Law::Own(name.clone()), name);
        }
    }

    /// A new run begins: the laws about runs count from here.
    pub(crate) fn begin_run(&mut self) {
        self.duties = laws::Duties { from: self.log.len(), ..laws::Duties::default() };
        // The sessions of the run before are closed, and with them its locks.
        self.instances.values_mut().for_each(|found| found.lock_holder = None);
    }

    /// The watcher looks once a second; of a long time, only the last looks are kept.
    fn sample(&mut self, from: i64, to: i64) {
        const EVERY: i64 = 1000;
        const KEPT: i64 = 120;
        let first = from.div_euclid(EVERY).saturating_add(1).max(to.div_euclid(EVERY).saturating_sub(KEPT));
        for tick in first..=to.div_euclid(EVERY) {
            let at = tick.saturating_mul(EVERY);
            let seen = |found: &&Instance| self.we_reach(&found.name);
            let primary = self.instances.values().filter(seen).find(|found| found.follows.is_none());
            let standby = self.instances.values().filter(seen).find(|found| found.follows.is_some());
            let sample = Sample {
                at,
                primary: primary.map(|found| (found.lineage.clone(), self.received_at(found, at))),
                standby: standby.map(|found| self.received_at(found, at)),
                lag: self.lag_told(at),
            };
            self.samples.push_back(sample);
        }
        while self.samples.len() > 600 {
            self.samples.pop_front();
        }
    }

    /// What a watcher keeps of the lag that the provider tells at `at`.
    fn lag_told(&self, at: i64) -> Option<dr_core::contract::LagSample> {
        let behind = at.saturating_sub(i64::try_from(self.setup.timing.view_lag.count()).unwrap_or(i64::MAX));
        let answers = |member: &&MemberId| self.management_answers(member);
        self.instances.keys().filter(answers).find_map(|member| {
            let reading = crate::cloud::told(self, member, behind)?;
            dr_core::contract::LagSample::of(member, &reading, dr_core::Timestamp::from_millis(at))
        })
    }

    pub(crate) fn line(
        &mut self,
        by: &str,
        kind: ChangeKind,
        what: &(impl ToString + ?Sized),
        text: impl Into<String>,
    ) {
        let line = TruthLine { at: self.now, by: by.to_owned(), kind, what: what.to_string(), text: text.into() };
        self.log.push(line);
    }

    /// Whether clients can get to a member.
    pub(crate) fn clients_reach(&self, member: &MemberId) -> bool {
        !self.conditions.contains(&Condition::DataOutage(member.clone()))
            && !self.conditions.contains(&Condition::ClientsCut(member.clone()))
    }

    /// Whether we can connect to a member's database.
    pub(crate) fn we_reach(&self, member: &MemberId) -> bool {
        let up = self.instances.get(member).is_some_and(|instance| instance.running);
        up && !self.conditions.contains(&Condition::DataOutage(member.clone()))
            && !self.conditions.contains(&Condition::Partition(member.clone()))
    }

    /// Whether management calls for a member get through. What is not there is answered for: as missing.
    pub(crate) fn management_answers(&self, member: &MemberId) -> bool {
        let dark = |region: &Region| self.conditions.contains(&Condition::ControlOutage(region.clone()));
        let partition =
            self.setup.flavour == Flavour::Separate && self.conditions.contains(&Condition::Partition(member.clone()));
        !partition && self.instances.get(member).is_none_or(|instance| !dark(&instance.region))
    }

    /// How many sessions are open on a member.
    pub(crate) fn sessions(&self, member: &MemberId) -> u32 {
        let writers = self.writers.iter().filter(|writer| writer.session.as_ref() == Some(member)).count();
        let strays = self.instances.get(member).map_or(0, |instance| instance.strays);
        u32::try_from(writers).unwrap_or(u32::MAX).saturating_add(strays)
    }

    /// The sessions that could write on a member. Its writers are always at work; strays are idle, and long transactions are open.
    pub(crate) fn writing_sessions(&self, member: &MemberId) -> Sessions {
        let Some(instance) = self.instances.get(member).filter(|instance| instance.follows.is_none()) else {
            return Sessions::default();
        };
        let idle = instance.strays;
        let sessions = instance.long_transactions.iter().filter(|open| open.state != "prepared").count();
        let long = u32::try_from(sessions).unwrap_or(u32::MAX);
        Sessions { in_transaction: self.sessions(member).saturating_sub(idle).saturating_add(long), idle }
    }

    /// Whether a session could commit on a member.
    pub(crate) fn can_commit(&self, instance: &Instance) -> bool {
        instance.running && instance.follows.is_none() && !instance.storage_fenced
    }

    /// Whether some client could commit on a member now: through a new session or an open one.
    pub(crate) fn takes_commits(&self, instance: &Instance) -> bool {
        self.can_commit(instance)
            && self.clients_reach(&instance.name)
            && (!(instance.denied || self.carries(instance)) || self.sessions(&instance.name) > 0)
    }

    /// Whether the applications' roles may not log in on a member, because of its own fence or of one that came with the history.
    pub(crate) fn carries(&self, instance: &Instance) -> bool {
        let taken = |found: &Instance| found.no_login;
        let from = instance.follows.as_ref().and_then(|primary| self.instances.get(primary));
        let came = from.and_then(taken).is_some_and(|at| self.received_at(instance, self.now) >= at);
        taken(instance).is_some() || came
    }

    /// The members on which some client could commit now.
    pub(crate) fn writers_now(&self) -> Vec<MemberId> {
        let taking = self.instances.values().filter(|instance| !instance.apart && self.takes_commits(instance));
        taking.map(|instance| instance.name.clone()).collect()
    }

    pub(crate) fn history_end(&self, lineage: &Lineage) -> u64 {
        self.histories.get(lineage).map_or(BASE, History::end)
    }

    /// What a standby had received at `at`; for a primary, what it had written.
    pub(crate) fn received_at(&self, instance: &Instance, at: i64) -> u64 {
        let written = |at| self.histories.get(&instance.lineage).map_or(BASE, |history| history.position_at(at));
        if instance.follows.is_none() {
            return written(at);
        }
        if !instance.stream.attached || at < instance.stream.since {
            return instance.stream.floor;
        }
        let delay = i64::try_from(self.setup.timing.replica_delay.count()).unwrap_or(0);
        instance.stream.floor.max(written(at.saturating_sub(delay)))
    }

    /// How much of the history `of` went into `now`: where the first of the promotions that lead from one to the other parted.
    pub(crate) fn kept_of(&self, of: &Lineage, now: &Lineage) -> u64 {
        let (mut at, mut kept) = (now.clone(), u64::MAX);
        while at != *of {
            let Some((parent, parted)) = self.histories.get(&at).and_then(|history| history.parent.clone()) else {
                return 0;
            };
            (at, kept) = (parent, parted);
        }
        kept
    }

    /// How many rows of the applications a member holds that has come to `position`.
    pub(crate) fn rows_at(&self, instance: &Instance, position: u64) -> i64 {
        let mut rows = 0_u64;
        let mut next = Some((instance.lineage.clone(), position));
        while let Some((lineage, end)) = next {
            let Some(history) = self.histories.get(&lineage) else { break };
            rows = rows.saturating_add(history.writes_until(end));
            next = history.parent.clone();
        }
        i64::try_from(rows).unwrap_or(i64::MAX)
    }

    /// The system that a logical copy is, whatever it is fed from.
    pub(crate) fn own_system(member: &MemberId) -> Lineage {
        Lineage { system: dr_core::base::SystemId::new(format!("system-of-{member}")), generation: 1 }
    }

    /// The history of a member as the service tells it, while it follows somebody or not. A logical copy has its own.
    pub(crate) fn told_of(&self, member: &MemberId, follows: bool, lineage: &Lineage) -> Lineage {
        if self.setup.service.copies && follows { Self::own_system(member) } else { self.told(lineage) }
    }

    /// How far the sequence of a member is that has come to `position`. That of a logical copy goes on from where it was set, with every
    /// row that is written there.
    pub(crate) fn sequence_at(&self, found: &Instance, position: u64) -> i64 {
        match self.own_rows(found, position) {
            Some(own) => found.sequence.saturating_add(own),
            None => found.sequence.max(self.rows_at(found, position)),
        }
    }

    /// The rows that a logical copy did not get from its source; `None` of every other member.
    pub(crate) fn own_rows(&self, found: &Instance, position: u64) -> Option<i64> {
        let own = Self::own_system(&found.name);
        let promoted = found.lineage == own;
        let history = self.histories.get(&own).filter(|_| promoted);
        let rows = history.map_or(0, |history| history.writes_until(position));
        (self.setup.service.copies && (promoted || found.follows.is_some()))
            .then(|| i64::try_from(rows).unwrap_or(i64::MAX))
    }

    /// A lineage as the service tells it.
    pub(crate) fn told(&self, lineage: &Lineage) -> Lineage {
        let generation = if self.setup.service.generations { lineage.generation } else { 0 };
        Lineage { generation, ..lineage.clone() }
    }

    /// Where the history of `lineage` ends for whoever follows `current`: `None` when all of it counts.
    pub(crate) fn parted(&self, lineage: &Lineage) -> Option<u64> {
        let mut child = self.histories.get(&self.current)?;
        loop {
            let (parent, at) = child.parent.as_ref()?;
            if parent == lineage {
                return Some(*at);
            }
            child = self.histories.get(parent)?;
        }
    }

    /// The acknowledged writes that the current history does not have.
    pub(crate) fn lost(&self) -> Vec<Write> {
        let others = self.histories.values().filter(|history| history.lineage != self.current);
        let mut lost: Vec<Write> = others
            .flat_map(|history| {
                let kept = self.parted(&history.lineage).unwrap_or(history.base);
                history.beyond(kept)
            })
            .collect();
        lost.sort();
        lost
    }
}
