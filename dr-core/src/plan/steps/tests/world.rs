//! Two servers that say and do what a test wants, and a clock that only moves when somebody waits.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use futures_util::FutureExt;
use serde_json::json;

use crate::{
    base::*,
    contract::{Binding, *},
    plan::{gate::GateParts, *},
    run::*,
};

/// One server.
#[derive(Clone, Debug)]
pub(super) struct Server {
    pub(super) address: String,
    pub(super) identity: String,
    pub(super) follows: Option<String>,
    pub(super) healthy: Tri,
    pub(super) busy: Option<String>,
    pub(super) generation: u32,
    pub(super) in_recovery: Tri,
    pub(super) durable: u64,
    pub(super) applied: u64,
    pub(super) parted: Option<u64>,
    pub(super) accepts: Tri,
    pub(super) dark: bool,
    pub(super) streaming: Tri,
    /// Its server tells log positions.
    pub(super) positions: bool,
    /// Stopped for good: whoever reads its fence is told so.
    pub(super) silent: bool,
    /// Stopped: nobody there tells anything of replication.
    pub(super) mute: bool,
    pub(super) lag: Option<Millis>,
    /// How often a metric is measured, and how old the newest point is.
    pub(super) metric: (Millis, Millis),
    /// Those that could write; nobody counts them where there is none.
    pub(super) sessions: Option<Sessions>,
    /// The provider's swap stops writes and waits for the candidate.
    pub(super) catches_up: bool,
    pub(super) locked: bool,
    pub(super) planes: Planes,
    pub(super) end: Option<u64>,
    pub(super) promises: Planes,
    /// Its fence is engaged over the management plane, and can be had over no other way.
    pub(super) far: bool,
    pub(super) swap_fence: Option<Planes>,
    /// Whether its fence travels, and what of one has come here.
    pub(super) travels: bool,
    pub(super) carries: Vec<String>,
    /// What its provider says of writes, and who follows it.
    pub(super) writable: Tri,
    pub(super) followers: Vec<&'static str>,
    /// Its protections, and those that can be turned on.
    pub(super) protections: Option<Protections>,
    pub(super) can: Vec<Protection>,
    /// Its provider keeps what it lost.
    pub(super) keeps: bool,
    /// Its sequences, as far as its probe tells any, and the one that its role may not read.
    pub(super) sequences: Option<BTreeMap<String, i64>>,
    pub(super) unread: Option<&'static str>,
}

/// Everything that is true.
#[derive(Debug)]
pub(super) struct World {
    pub(super) servers: Mutex<BTreeMap<String, Server>>,
    pub(super) calls: Mutex<Vec<String>>,
    pub(super) secret: Mutex<SecretReference>,
    /// Where the route for readers leads, and whether it is settled.
    pub(super) readers: Mutex<(BTreeSet<MemberId>, Tri)>,
    /// The names of the snapshots that exist.
    pub(super) snapshots: Mutex<std::collections::BTreeSet<String>>,
    pub(super) drained: Mutex<(Tri, Millis)>,
    pub(super) samples: Mutex<Vec<PositionSample>>,
    /// What the parts rehearse: `writer`, `standby`, `fence`, `secret`. A part without an entry is ready, one with `None` is silent.
    pub(super) rehearsals: Mutex<BTreeMap<&'static str, Option<Rehearsal>>>,
    /// Whether a promotion that is asked for happens.
    pub(super) obeys: AtomicBool,
    /// What happens to server `b` when somebody waits.
    pub(super) meanwhile: Mutex<Option<fn(&mut Server)>>,
    clock: AtomicU64,
}

pub(super) const SYSTEM: &str = "sys";

pub(super) fn at(value: u64) -> Position {
    Position { system: SystemId::new(SYSTEM), unit: PositionUnit::LogBytes, value }
}

pub(super) fn lineage(generation: u32) -> Lineage {
    Lineage { system: SystemId::new(SYSTEM), generation }
}

pub(super) fn target(name: &str, generation: u32) -> Target {
    Target {
        member: name.into(),
        address: ResourceAddress::new(format!("res-{name}")),
        identity: Some(ResourceIdentity::new(format!("uid-{name}"))),
        lineage: lineage(generation),
        receives: None,
    }
}

/// `a` writes on generation 1, `b` follows it; the application is drained.
pub(super) fn pair() -> Arc<World> {
    let server = |name: &str, follows: Option<&str>| Server {
        address: format!("res-{name}"),
        identity: format!("uid-{name}"),
        follows: follows.map(|other| format!("res-{other}")),
        healthy: Tri::Yes,
        busy: None,
        generation: 1,
        in_recovery: Tri::from(follows.is_some()),
        durable: 100,
        applied: 100,
        parted: None,
        accepts: Tri::from(follows.is_none()),
        dark: false,
        silent: false,
        streaming: Tri::from(follows.is_some()),
        positions: true,
        mute: false,
        lag: follows.map(|_| Millis::seconds(1)),
        metric: (Millis::ZERO, Millis::ZERO),
        sessions: Some(Sessions::default()),
        catches_up: false,
        locked: false,
        planes: Planes::default(),
        end: None,
        promises: Planes::all(Grade::Confirmed),
        far: false,
        swap_fence: None,
        travels: false,
        carries: Vec::new(),
        writable: Tri::Unknown,
        followers: Vec::new(),
        protections: None,
        can: Vec::new(),
        keeps: false,
        sequences: None,
        unread: None,
    };
    Arc::new(World {
        servers: Mutex::new([("a".into(), server("a", None)), ("b".into(), server("b", Some("a")))].into()),
        calls: Mutex::default(),
        secret: Mutex::new(SecretReference {
            version: SecretVersion::new("v1"),
            endpoint: Some(Endpoint::new("a:5432")),
            token: None,
            rotating: Tri::No,
        }),
        readers: Mutex::new((BTreeSet::new(), Tri::Yes)),
        snapshots: Mutex::default(),
        drained: Mutex::new((Tri::Yes, Millis::seconds(120))),
        samples: Mutex::default(),
        rehearsals: Mutex::default(),
        obeys: AtomicBool::new(true),
        meanwhile: Mutex::default(),
        clock: AtomicU64::new(1_000_000),
    })
}

/// The pair, and `c`, which follows `a` too.
pub(super) fn three() -> Arc<World> {
    let world = pair();
    let mut third = world.servers.lock().unwrap()["b"].clone();
    (third.address, third.identity) = ("res-c".into(), "uid-c".into());
    world.servers.lock().unwrap().insert("c".into(), third);
    world
}

impl World {
    /// Changes a server.
    pub(super) fn set(&self, name: &str, change: impl FnOnce(&mut Server)) {
        change(self.servers.lock().unwrap().get_mut(name).unwrap());
    }

    fn read(&self, name: &str, verb: &'static str) -> Result<Server, ProviderError> {
        let server = self.servers.lock().unwrap()[name].clone();
        if server.dark { Err(ProviderError::unreachable(verb, "no route")) } else { Ok(server) }
    }

    pub(super) fn now(&self) -> Timestamp {
        Timestamp::from_millis(i64::try_from(self.clock.load(Ordering::SeqCst)).unwrap())
    }

    fn rehearsed(&self, part: &str) -> Result<Rehearsal, ProviderError> {
        match self.rehearsals.lock().unwrap().get(part) {
            Some(Some(found)) => Ok(found.clone()),
            Some(None) => Err(ProviderError::unreachable("rehearse", "no route")),
            None => Ok(Rehearsal::default()),
        }
    }

    fn call(&self, words: String) {
        self.calls.lock().unwrap().push(words);
    }

    /// Everything that was sent.
    pub(super) fn sent(&self) -> Vec<String> {
        self.calls.lock().unwrap().clone()
    }
}

#[derive(Clone, Debug)]
struct Of(Arc<World>, &'static str);

/// The moment `age` before `now`.
fn aged(now: Timestamp, age: Millis) -> Timestamp {
    Timestamp::from_millis(now.millis() - i64::try_from(age.count()).unwrap())
}

#[async_trait]
impl ManagedDatabase for Of {
    async fn capabilities(&self) -> Result<Capabilities, ProviderError> {
        let (takes, rejoin, restarts) = (Millis::minutes(2), Rejoin::InPlace, false);
        let catches_up = self.0.servers.lock().unwrap()[self.1].catches_up;
        let swap = SwapOffer { takes, rejoin, catches_up, limit: false, moves: Vec::new(), restarts };
        let can = self.0.servers.lock().unwrap()[self.1].can.clone();
        Ok(Capabilities {
            harden: Some(HardenOffer { takes, can }),
            promote: Some(PromoteOffer { takes, rejoin, restarts }),
            swap: Some(swap),
            visibility: Millis::seconds(3),
            ..Capabilities::none()
        })
    }

    async fn describe(&self) -> Result<Description, ProviderError> {
        let seen = self.0.read(self.1, "describe")?;
        Ok(Description {
            address: ResourceAddress::new(seen.address),
            identity: Some(ResourceIdentity::new(seen.identity)),
            lineage: None,
            follows: seen.follows.map(|other| match other.ends_with(":5432") {
                true => ReplicationLink { peer: Peer::Endpoint(Endpoint::new(other)), ..ReplicationLink::physical("") },
                false => ReplicationLink::physical(other),
            }),
            followers: seen.followers.into_iter().map(ReplicationLink::physical).collect(),
            writable: seen.writable,
            healthy: seen.healthy,
            status: "status".into(),
            endpoint: Endpoint::new(format!("{}:5432", self.1)),
            version: "15.18".into(),
            busy: seen.busy,
            newest_backup: None,
            cadence: seen.metric.0,
            at: aged(self.0.now(), seen.metric.1),
        })
    }

    async fn replication(&self) -> Result<Replication, ProviderError> {
        let seen = self.0.read(self.1, "replication")?;
        if seen.mute {
            return Err(ProviderError::unreachable("replication", "nobody listens"));
        }
        Ok(Replication {
            streaming: seen.streaming,
            lineage: Some(lineage(seen.generation)),
            received: None,
            applied: None,
            lag: seen.lag,
            cadence: seen.metric.0,
            at: aged(self.0.now(), seen.metric.1),
        })
    }

    async fn snapshot(&self, request: SnapshotRequest) -> Outcome<()> {
        self.0.snapshots.lock().unwrap().insert(request.name);
        Outcome::Done(())
    }

    async fn has_snapshot(&self, name: &str) -> Result<Tri, ProviderError> {
        Ok(Tri::from(self.0.snapshots.lock().unwrap().contains(name)))
    }

    async fn protections(&self) -> Result<Protections, ProviderError> {
        self.0.read(self.1, "protections")?.protections.ok_or(ProviderError::Unsupported { verb: "protections" })
    }

    async fn harden(&self, request: HardenRequest) -> Outcome<()> {
        self.0.call(format!("harden {} {:?}", request.target.member, request.want.wants()));
        if self.0.obeys.load(Ordering::SeqCst) {
            let on = |seen: &mut Protections| seen.high_availability = Tri::Yes;
            self.0.set(self.1, |server| server.protections.iter_mut().for_each(on));
        }
        Outcome::Done(())
    }

    async fn preserve(&self, request: PreserveRequest) -> Outcome<()> {
        if !self.0.read(self.1, "preserve").is_ok_and(|server| server.keeps) {
            return Outcome::not_done_yet("nothing is kept", Millis::seconds(1));
        }
        self.0.snapshots.lock().unwrap().insert(request.name);
        Outcome::Done(())
    }

    async fn rejoin(&self, request: RejoinRequest) -> Outcome<()> {
        let (target, primary) = (&request.target, &request.primary);
        self.0.call(format!("rejoin {target} to {} discarding {}", primary.member, request.may_discard));
        Outcome::accepted()
    }

    async fn follow(&self, request: FollowRequest) -> Outcome<()> {
        self.0.call(format!("follow {} to {}", request.target, request.primary.member));
        Outcome::accepted()
    }

    async fn settle(&self) -> Outcome<()> {
        match self.0.rehearsed("settle").unwrap().obstacles.first() {
            Some(obstacle) => Outcome::refused(&obstacle.what),
            None => Outcome::Done(()),
        }
    }

    async fn rehearse(&self, request: &RehearseMember) -> Result<Rehearsal, ProviderError> {
        self.0.rehearsed(match request.becomes {
            Becomes::Writer { .. } => "writer",
            Becomes::Standby { .. } => "standby",
        })
    }

    async fn poll(&self, _op: &OpHandle) -> Result<OpProgress, ProviderError> {
        if self.0.read(self.1, "poll")?.mute {
            return Ok(OpProgress::Lost { saw: "it is stopped and nothing works on it".into() });
        }
        Ok(OpProgress::Running { percent: None })
    }

    async fn promote(&self, request: PromoteRequest) -> Outcome<()> {
        self.0.call(format!("promote {} from {}", request.target().member, request.from().member));
        if self.0.obeys.load(Ordering::SeqCst) {
            self.0.set(self.1, promoted);
        }
        Outcome::accepted()
    }

    async fn swap_roles(&self, request: SwapRequest) -> Outcome<()> {
        self.0.call(format!("swap {} to {}", request.from().member, request.to().member));
        Outcome::accepted()
    }

    async fn swap_fence(&self, _since: Timestamp) -> Result<FenceReading, ProviderError> {
        let planes = self.0.read(self.1, "swap-fence")?.swap_fence;
        planes.map(|planes| reading(self, planes, None)).ok_or(ProviderError::Unsupported { verb: "swap-fence" })
    }

    async fn raise_sequences(&self, request: RaiseSequences) -> Outcome<()> {
        self.0.call(format!("raise {} by {}", request.target.member, request.ahead));
        if self.0.obeys.load(Ordering::Relaxed) {
            self.0.set(self.1, |server| {
                let floors =
                    request.floors.values.iter().filter_map(|(name, last)| Some((name.clone(), last.as_ref()?.0)));
                server.sequences = Some(floors.collect());
            });
        }
        Outcome::Done(())
    }

    fn manual(&self, verb: &str) -> Vec<String> {
        vec![verb.to_owned()]
    }
}

/// What a server is once it was promoted.
pub(super) fn promoted(server: &mut Server) {
    server.follows = None;
    server.in_recovery = Tri::No;
    server.generation = 2;
    server.parted = Some(server.applied);
    server.accepts = Tri::Yes;
}

fn reading(of: &Of, planes: Planes, end: Option<u64>) -> FenceReading {
    let server = of.0.servers.lock().unwrap()[of.1].clone();
    FenceReading {
        silent: server.silent,
        unread: Vec::new(),
        address: Some(ResourceAddress::new(server.address)),
        identity: Some(ResourceIdentity::new(server.identity)),
        lineage: Some(lineage(server.generation)),
        planes,
        end: end.map(at),
        lapses_at: None,
        detail: "the fence".into(),
        at: of.0.now(),
    }
}

#[async_trait]
impl DatabaseProbe for Of {
    async fn write(&self) -> Result<WriteProbe, ProviderError> {
        let seen = self.0.read(self.1, "write")?;
        Ok(WriteProbe {
            accepted: seen.accepts,
            lineage: (seen.accepts == Tri::Yes).then(|| lineage(seen.generation)),
            detail: "probe".into(),
            at: self.0.now(),
        })
    }

    async fn position(&self) -> Result<PositionReading, ProviderError> {
        let seen = self.0.read(self.1, "position")?;
        if !seen.positions {
            return Err(ProviderError::Unsupported { verb: "position" });
        }
        Ok(PositionReading {
            lineage: lineage(seen.generation),
            in_recovery: seen.in_recovery,
            durable: at(seen.durable),
            applied: at(seen.applied),
            parted_at: seen
                .parted
                .map_or_else(|| Parted::untold("the role may not read it"), |parted| Parted::At(at(parted))),
            tier: Tier::Managed,
            at: self.0.now(),
        })
    }

    async fn extensions(&self) -> Result<BTreeMap<String, String>, ProviderError> {
        Ok(BTreeMap::new())
    }

    async fn available_extensions(&self) -> Result<BTreeMap<String, Vec<String>>, ProviderError> {
        Ok(BTreeMap::new())
    }

    async fn long_transactions(&self, _limit: Millis) -> Result<Vec<LongTransaction>, ProviderError> {
        Ok(Vec::new())
    }

    async fn writing_sessions(&self) -> Result<Sessions, ProviderError> {
        self.0.read(self.1, "sessions")?.sessions.ok_or(ProviderError::Unsupported { verb: "writing-sessions" })
    }

    async fn sequences(&self) -> Result<Sequences, ProviderError> {
        let seen = self.0.read(self.1, "sequences")?;
        let values = seen.sequences.ok_or(ProviderError::Unsupported { verb: "sequences" })?;
        Ok(Sequences {
            values: values.into_iter().map(|(name, last)| (name, Some(Int64(last)))).collect(),
            unread: seen.unread.into_iter().map(str::to_owned).collect(),
            ..Sequences::none(self.0.now())
        })
    }

    async fn ask(&self, _query: &Query) -> Result<Rows, ProviderError> {
        Ok(Rows::one(1))
    }

    async fn warm_up(&self) -> Result<Millis, ProviderError> {
        Ok(Millis::new(5))
    }

    async fn group_lock(&self, _holder: &str) -> Result<bool, ProviderError> {
        Ok(!self.0.read(self.1, "lock")?.locked)
    }
}

#[async_trait]
impl Fence for Of {
    fn name(&self) -> String {
        "fake.stop".into()
    }

    fn offers(&self, reach: Reach) -> Planes {
        let server = &self.0.servers.lock().unwrap()[self.1];
        if server.far && reach.management == Tri::No { Planes::default() } else { server.promises }
    }

    async fn prepare(&self) -> Result<FenceToken, ProviderError> {
        Ok(FenceToken { fence: "fake.stop".into(), state: Json(json!({"was": "running"})), known: true })
    }

    async fn rehearse(&self, _effort: Effort) -> Result<Rehearsal, ProviderError> {
        self.0.rehearsed("fence")
    }

    async fn engage(&self, request: EngageFence) -> Outcome<()> {
        self.0.call(format!("fence {} with {}", request.target.member, request.token.state.0));
        self.0.set(self.1, |server| server.planes = server.promises);
        Outcome::Done(())
    }

    async fn inspect(&self) -> Result<FenceReading, ProviderError> {
        let server = self.0.servers.lock().unwrap()[self.1].clone();
        Ok(reading(self, server.planes, server.end))
    }

    async fn release(&self, order: ReleaseOrder) -> Outcome<()> {
        self.0.call(format!("release {} by {:?}", order.target().member, order.ground()));
        Outcome::Done(())
    }

    async fn retire(&self, request: RetireFence) -> Outcome<()> {
        self.0.call(format!("retire {}", request.target));
        Outcome::Done(())
    }

    fn travels(&self) -> bool {
        self.0.servers.lock().unwrap()[self.1].travels
    }

    async fn carried(&self) -> Result<Vec<String>, ProviderError> {
        Ok(self.0.read(self.1, "carried")?.carries)
    }

    async fn clear(&self, request: ClearFence) -> Outcome<()> {
        self.0.call(format!("clear {} of {}", request.target, request.was));
        self.0.set(self.1, |server| server.carries.clear());
        Outcome::Done(())
    }

    fn poll_every(&self) -> Millis {
        Millis::new(2)
    }

    fn manual(&self, verb: &str) -> Vec<String> {
        vec![verb.to_owned()]
    }
}

#[async_trait]
impl ReadersRouter for Of {
    async fn read(&self) -> Result<ReadersReading, ProviderError> {
        let (members, settled) = self.0.readers.lock().unwrap().clone();
        Ok(ReadersReading { members, settled, detail: "told".into(), at: self.0.now() })
    }

    async fn spread(&self, request: SpreadReaders) -> Outcome<()> {
        self.0.readers.lock().unwrap().0 = request.to;
        Outcome::Done(())
    }

    fn poll_every(&self) -> Millis {
        Millis::seconds(1)
    }

    fn manual(&self, verb: &str) -> Vec<String> {
        vec![verb.to_owned()]
    }
}

#[async_trait]
impl SecretStore for Of {
    async fn read(&self) -> Result<SecretReference, ProviderError> {
        Ok(self.0.secret.lock().unwrap().clone())
    }

    async fn patch(&self, request: PatchSecret) -> Outcome<SecretVersion> {
        let mut secret = self.0.secret.lock().unwrap();
        self.0.call(format!("patch {}", request.expected));
        if secret.version != request.expected {
            return Outcome::Conflict(Cause::new("another version is current"));
        }
        secret.version = SecretVersion::new("v2");
        secret.endpoint = Some(request.writer.endpoint);
        Outcome::Done(secret.version.clone())
    }

    async fn rehearse(&self, _request: &RehearseSecret) -> Result<Rehearsal, ProviderError> {
        self.0.rehearsed("secret")
    }

    async fn versions(&self) -> Result<Vec<SecretVersion>, ProviderError> {
        Ok(Vec::new())
    }

    fn manual(&self, verb: &str) -> Vec<String> {
        vec![verb.to_owned()]
    }
}

#[async_trait]
impl AppTier for Of {
    async fn limit(&self) -> Result<Millis, ProviderError> {
        Ok(self.0.drained.lock().unwrap().1)
    }

    fn drain_expires_by_itself(&self) -> bool {
        false
    }

    async fn read(&self) -> Result<AppReading, ProviderError> {
        let drained = self.0.drained.lock().unwrap().0;
        Ok(AppReading { drained, stragglers: Vec::new(), expires: None, detail: "pools".into(), at: self.0.now() })
    }

    async fn drain(&self, request: DrainRequest) -> Outcome<()> {
        self.0.call(format!("drain for {} ms", request.budget.count()));
        Outcome::Done(())
    }

    async fn resume(&self, request: ResumeRequest) -> Outcome<()> {
        self.0.call(format!("resume onto {}", request.onto));
        Outcome::Done(())
    }

    fn poll_every(&self) -> Millis {
        Millis::new(2)
    }

    fn manual(&self, verb: &str) -> Vec<String> {
        vec![verb.to_owned()]
    }
}

#[derive(Debug)]
struct Clock(Arc<World>);

impl Runtime for Clock {
    fn now_mono(&self) -> Mono {
        Mono::new(Duration::from_millis(self.0.clock.load(Ordering::SeqCst)))
    }

    fn now_wall(&self) -> Timestamp {
        self.0.now()
    }

    fn sleep_until(&self, until: Mono) -> Task {
        let world = Arc::clone(&self.0);
        // Time passes for whoever waits, not for whoever only could.
        Box::pin(async move {
            world.clock.store(u64::try_from(until.since_start().as_millis()).unwrap(), Ordering::SeqCst);
            let change = *world.meanwhile.lock().unwrap();
            if let Some(change) = change {
                world.set("b", change);
            }
        })
    }

    fn spawn_detached(&self, _task: Task) {}
}

#[derive(Debug)]
struct Bindings(Arc<World>);

#[async_trait]
impl Providers for Bindings {
    async fn resolve(&self, _group: Digest, _wanted: &ResourceRef) -> Result<Resolved, ProviderError> {
        Err(ProviderError::Unsupported { verb: "resolve" })
    }

    fn notifiers(&self, _group: Digest) -> Vec<Arc<dyn Notifier>> {
        Vec::new()
    }

    async fn samples(&self, _group: &GroupName, _since: Timestamp) -> Result<Vec<PositionSample>, ProviderError> {
        Ok(self.0.samples.lock().unwrap().clone())
    }
}

pub(super) fn plan() -> Plan {
    let resource = |name: &str, kind| ResourceRef {
        provider: "fake".into(),
        kind,
        address: ResourceAddress::new(format!("res-{name}")),
        identity: (kind == ResourceKind::Database).then(|| ResourceIdentity::new(format!("uid-{name}"))),
        region: None,
        profile: None,
    };
    let mut plan = PlanBuilder::new(PlanHeader {
        runbook: RunbookId::new("test", 1),
        purpose: Purpose::Switchover,
        group: GroupName::new("g"),
        environment: "test".into(),
        group_digest: Digest::zero(),
        expects: target("a", 1),
        bindings: [
            ("a".into(), resource("a", ResourceKind::Database)),
            ("b".into(), resource("b", ResourceKind::Database)),
            (Binding::app("api"), resource("app", ResourceKind::App)),
            (Binding::secret("orders"), resource("secret", ResourceKind::Secret)),
        ]
        .into(),
        fence_travels: false,
        lineages: [("a".into(), lineage(1)), ("b".into(), lineage(1))].into(),
        allow: std::collections::BTreeSet::new(),
        policy: Policy {
            gap_budget: Millis::seconds(60),
            client_limit: None,
            proof_age: Millis::seconds(60),
            fact_age: Millis::seconds(60),
            fence: Grade::Confirmed,
            unguarded: false,
            automatic: None,
        },
        receives: BTreeMap::new(),
    });
    plan.goes_to(&"b".into());
    plan.add("fence", steps::FenceMember::of(&target("a", 1), Grade::Confirmed));
    plan.finish().0
}

/// The context of one call.
pub(super) struct Call<'a> {
    world: &'a Arc<World>,
    intended: bool,
    waived: Option<Waived>,
    promote_intended: bool,
    pre_image: Option<Json>,
    attempt: u8,
    touches: Vec<Touch>,
    origin: Digest,
    driven_under: Epoch,
}

impl<'a> Call<'a> {
    pub(super) fn of(world: &'a Arc<World>) -> Self {
        Self {
            world,
            intended: false,
            waived: None,
            promote_intended: false,
            pre_image: None,
            attempt: 1,
            touches: Vec::new(),
            origin: Digest::zero(),
            driven_under: Epoch::new(1),
        }
    }

    pub(super) fn waived(self, waived: Waived) -> Self {
        Self { waived: Some(waived), ..self }
    }

    pub(super) fn intended(self) -> Self {
        Self { intended: true, ..self }
    }

    pub(super) fn past_the_pivot(self) -> Self {
        Self { promote_intended: true, ..self }
    }

    pub(super) fn recorded(self, image: Json) -> Self {
        Self { pre_image: Some(image), ..self }
    }

    pub(super) fn attempt(self, attempt: u8) -> Self {
        Self { attempt, ..self }
    }

    /// The run's first line has this hash.
    pub(super) fn origin(self, origin: Digest) -> Self {
        Self { origin, ..self }
    }

    /// The engine drives under this epoch when the call passes the gate; its proofs are made under the first one.
    pub(super) fn driven_under(self, epoch: Epoch) -> Self {
        Self { driven_under: epoch, ..self }
    }

    pub(super) fn may(mut self, resource: &str, verb: &str) -> Self {
        self.touches.push(Touch::new(resource, verb));
        self
    }

    /// Everything that reaches the member `name`.
    fn member(&self, name: &'static str) -> Resolved {
        let of = || Of(Arc::clone(self.world), name);
        Resolved::Member(MemberProvider {
            database: Arc::new(of()),
            probe: Arc::new(of()),
            fence: Some(Arc::new(of())),
            late_fence: None,
            pace: ServicePace::CAUTIOUS,
        })
    }

    fn by_name(&self) -> BTreeMap<Binding, Resolved> {
        let of = || Of(Arc::clone(self.world), "a");
        [
            ("a".into(), self.member("a")),
            ("b".into(), self.member("b")),
            (Binding::secret("orders"), Resolved::Secret(Arc::new(of()))),
            (Binding::Readers("reports".into()), Resolved::Readers(Arc::new(of()))),
            (Binding::app("api"), Resolved::App(Arc::new(of()))),
        ]
        .into()
    }

    pub(super) fn cx(self) -> StepCx {
        let mut plan = plan();
        let mut by_name = self.by_name();
        if self.world.servers.lock().unwrap().contains_key("c") {
            by_name.insert("c".into(), self.member("c"));
            let mut third = plan.bindings[&"b".into()].clone();
            (third.address, third.identity) = (target("c", 1).address, target("c", 1).identity);
            plan.bindings.insert("c".into(), third);
            plan.lineages.insert("c".into(), lineage(1));
        }
        let bound = Bound { by_name };
        let live = Arc::new(Liveness::new(self.driven_under));
        live.lasts(Mono::new(Duration::from_secs(1 << 30)));
        let runtime: Arc<dyn Runtime> = Arc::new(Clock(Arc::clone(self.world)));
        let gate = MutationGate::new(GateParts {
            bound: Arc::new(bound),
            providers: Arc::new(Bindings(Arc::clone(self.world))),
            runtime: Arc::clone(&runtime),
            live,
            allow: self.touches,
            undo: false,
            attempt_timeout: Millis::seconds(1),
        });
        StepCx {
            run: run(),
            node: NodeId::new("node"),
            attempt: self.attempt,
            epoch: Epoch::new(1),
            hash: plan.hash().unwrap(),
            origin: self.origin,
            plan: Arc::new(plan),
            every: Millis::new(2),
            waived: self.waived,
            claimed_by: Vec::new(),
            intended_at: self.intended.then(|| self.world.now()),
            pre_image: self.pre_image,
            promotion: if self.promote_intended { Promotion::MayStand } else { Promotion::NotAsked },
            acknowledged: false,
            handle: None,
            runtime,
            gate,
        }
    }
}

pub(super) fn run() -> RunId {
    RunId::new(GroupName::new("g"), 1)
}

/// The end of a future that waits for nothing but the clock above.
pub(super) fn now<T>(future: impl Future<Output = T>) -> T {
    future.now_or_never().expect("it waits for something that never comes")
}

/// A step as it is when its inputs are filled.
pub(super) fn resolved<S: Step>(step: &S, outputs: &[(&str, serde_json::Value)]) -> S {
    let params = canonical::to_value(step).unwrap();
    let output =
        |node: &NodeId| outputs.iter().find(|(name, _)| *name == node.as_str()).map(|(_, value)| value.clone());
    serde_json::from_value(resolve(&params, &output).unwrap()).unwrap()
}

pub(super) fn value<T: serde::Serialize>(of: &T) -> serde_json::Value {
    canonical::to_value(of).unwrap()
}

/// A reference to the output of `node`.
pub(super) fn from<T>(node: &str) -> Ref<T> {
    Ref::new(NodeId::new(node))
}

pub(super) fn token() -> FenceToken {
    FenceToken { fence: "fake.stop".into(), state: Json(json!({"was": "running"})), known: true }
}

pub(super) fn fence_receipt(end: Option<u64>) -> FenceReceipt {
    FenceReceipt {
        run: run(),
        epoch: Epoch::new(1),
        target: target("a", 1),
        fence: "fake.stop".into(),
        token: token(),
        planes: Planes::all(Grade::Confirmed),
        silent: false,
        end: end.map(at),
        effective_at: Timestamp::from_millis(1_000_000),
        lapses_at: None,
        detail: "stopped".into(),
    }
}

pub(super) fn consent(world: &Arc<World>, people: &[&str]) -> Consent {
    let cx = Call::of(world).cx();
    let facts = now(super::super::facts::read(&cx, &[FactSpec::Candidate { member: "b".into() }])).unwrap();
    let at = world.now();
    let given = |name: &&str| Given {
        by: Actor::local(*name).authenticated("a test", *name),
        role: None,
        choice: APPROVE.into(),
        at,
        note: None,
    };
    Consent {
        run: run(),
        plan: plan().hash().unwrap(),
        ask: Digest::zero(),
        facts,
        loss: Loss::Unknown { because: "test".into() },
        given: people.iter().map(given).collect(),
        at,
        expires: at,
    }
}

use super::super::FactSpec;
