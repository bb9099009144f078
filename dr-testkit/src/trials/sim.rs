//! The simulated cloud as a rig, in each of its flavours.

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex, PoisonError},
};

use async_trait::async_trait;
use dr_core::{
    Binding, MemberId, ProviderError, RunId,
    base::{Digest, Region},
    contract::{EvidenceSink, LongTransaction, Providers, Rejoin, Resolved, Rows, Runtime, Table},
    millis, minutes, seconds,
};

use super::{Pair, Power, Reach, Report, Rig, Seat, Side, Sight, Verb, Wrong, all, run};
use crate::{
    Access, Broken, CallKind, Condition, CrashSwitch, Drift, Fault, FaultPlan, Flavour, Halt, Preset, Service, Setup,
    SimCloud, Tweak, VirtualRuntime, cloud::SimProviders,
};

const PRIMARY: &str = "neu";
const STANDBY: &str = "weu";
const NEW: &str = "frc";

/// One way in which the simulated cloud can be set up, on trial.
#[derive(Clone, Debug)]
pub struct SimSubject {
    /// Its name, such as `sim.role-swap`.
    pub name: &'static str,
    /// How its world is made.
    pub setup: Setup,
}

impl SimSubject {
    /// Every flavour, those whose surroundings are otherwise, and every preset.
    #[must_use]
    pub fn all() -> Vec<Self> {
        let preset = |preset: Preset| Self {
            name: preset.name(),
            setup: Setup::preset(preset, "trials", PRIMARY, STANDBY).fast(),
        };
        Self::flavours().into_iter().chain(Preset::ALL.map(preset)).collect()
    }

    fn flavours() -> Vec<Self> {
        let setup = |flavour| Setup { readers: 1, ..Setup::pair("trials", PRIMARY, STANDBY).fast().flavour(flavour) };
        let guarded = Setup { drain_expires: false, routes: 2, ..setup(Flavour::Separate) };
        let fenced = Setup { own_fence: true, ..setup(Flavour::RoleSwap) };
        let network = Setup { network_fence: true, ..setup(Flavour::Separate) };
        let logins = Setup { login_fence: true, ..setup(Flavour::Separate) };
        let record = Service { attribution: Some(millis(3)), ..Service::default() };
        let recorded = setup(Flavour::Separate).service(record);
        let keeping = Service { preserves: Some(minutes(7 * 24 * 60)), ..Service::default() };
        let copying = Service { copies: true, rejoin: Rejoin::Never, ..record };
        let of = |name, setup| Self { name, setup };
        vec![
            of("sim.separate", recorded),
            of("sim.separate-guarded", guarded),
            of("sim.separate-network", network),
            of("sim.separate-login", logins),
            of("sim.role-swap", setup(Flavour::RoleSwap)),
            of("sim.role-swap-fenced", fenced),
            of("sim.logical-copy", setup(Flavour::Separate).service(copying)),
            of("sim.storage-fence", setup(Flavour::StorageFence).service(keeping)),
        ]
    }

    /// Runs every trial on it, with a backend that is wrong in one way if that is asked for.
    ///
    /// # Errors
    /// The simulation did not come to an end.
    pub fn run(&self, wrong: Option<Wrong>) -> Result<Report, Halt> {
        let runtime = VirtualRuntime::new();
        let name = wrong.map_or(self.name, Wrong::name);
        let report = runtime.run(run(name, Reach::Simulated, &all(), || async {
            let rig = SimRig::new(self.setup.clone(), runtime.clone()).await;
            Ok(match wrong {
                Some(wrong) => rig.wrong(wrong),
                None => rig,
            })
        }))?;
        Ok(report.unwrap_or_else(|_| Report::new(name, Reach::Simulated)))
    }
}

/// A world of the simulated cloud with its pair.
#[derive(Debug)]
pub struct SimRig {
    runtime: VirtualRuntime,
    cloud: SimCloud,
    pair: Pair,
    evidence: Arc<MemoryEvidence>,
}

/// A sink that keeps what was sealed.
#[derive(Debug, Default)]
struct MemoryEvidence {
    sealed: Mutex<BTreeSet<(RunId, u64, Digest)>>,
}

#[async_trait]
impl EvidenceSink for MemoryEvidence {
    async fn seal(&self, run: &RunId, seq: u64, head: Digest) -> Result<(), ProviderError> {
        self.sealed.lock().unwrap_or_else(PoisonError::into_inner).insert((run.clone(), seq, head));
        Ok(())
    }
}

impl SimRig {
    /// A world of `setup` that has run for a second.
    pub async fn new(setup: Setup, runtime: VirtualRuntime) -> Self {
        let cloud = SimCloud::new(setup, Arc::new(runtime.clone()));
        cloud.answer("one", |_| Rows::one(1));
        let evidence = Arc::new(MemoryEvidence::default());
        let sims = SimProviders { line: cloud.line("trials", CrashSwitch::new()) };
        let seat = |name: &str| Seat {
            member: MemberId::new(name),
            address: cloud.member_ref(name).address,
            provider: sims.member(MemberId::new(name)),
        };
        let mut pair = Pair::of(seat(PRIMARY), seat(STANDBY));
        if let Ok(Resolved::Secret(secret)) = sims.resolve(Digest::zero(), &cloud.secret_ref()).await {
            pair.secret = Some(secret);
        }
        if let Ok(Resolved::Traffic(route)) = sims.resolve(Digest::zero(), &cloud.route_ref(0)).await {
            pair.route = Some(route);
        }
        if let Ok(Resolved::Readers(readers)) = sims.resolve(Digest::zero(), &cloud.readers_ref(0)).await {
            pair.readers = Some(readers);
        }
        if let Ok(Resolved::App(app)) = sims.resolve(Digest::zero(), &cloud.app_ref()).await {
            pair.app = Some(app);
        }
        // A route writes as an application; the probes know no login of one.
        pair.route_login = true;
        pair.copy = cloud.setup().service.copies;
        pair.positions = cloud.setup().service.positions;
        pair.table = Some(Table::new("public", "orders"));
        pair.notifier = sims.notifiers(dr_core::base::Digest::zero()).into_iter().next();
        let sink: Arc<dyn EvidenceSink> = Arc::<MemoryEvidence>::clone(&evidence);
        pair.evidence = Some(sink);
        pair.anew = Some(Seat {
            member: MemberId::new(NEW),
            address: cloud.member_ref(NEW).address,
            provider: sims.member(MemberId::new(NEW)),
        });
        pair.missing = Some(sims.member(MemberId::new("nobody")).database);
        runtime.sleep_until(runtime.now_mono() + seconds(1)).await;
        Self { runtime, cloud, pair, evidence }
    }

    /// The same pair behind a backend that is wrong in one way.
    #[must_use]
    pub fn wrong(mut self, how: Wrong) -> Self {
        let clock = self.clock();
        self.pair = how.around(self.pair, &clock);
        self
    }

    /// The reply of the next call of this name does not arrive.
    fn lose(&self, verb: Verb) {
        let setup = self.cloud.setup();
        let storage = setup.flavour == Flavour::StorageFence && !setup.own_fence;
        let call = match verb {
            Verb::Promote => format!("{STANDBY}.promote"),
            Verb::Swap => format!("{STANDBY}.swap-roles"),
            Verb::Engage if storage || setup.login_fence => format!("{PRIMARY}.fence.engage"),
            Verb::Engage if setup.network_fence => format!("{PRIMARY}.fence.engage/2-terminate"),
            // The last of its parts.
            Verb::Engage => format!("{PRIMARY}.fence.engage/3-stop"),
            Verb::Clear => format!("{STANDBY}.fence.clear"),
            Verb::Patch => "secret.patch".to_owned(),
            Verb::Apply => format!("{}.apply", Binding::Traffic(SimCloud::route_name(0))),
            Verb::Drain => "app.drain".to_owned(),
        };
        let prefix = format!("{call}#");
        let before = self.cloud.calls().iter().filter(|record| record.name.starts_with(&prefix)).count();
        self.cloud.faults(FaultPlan::one(format!("{prefix}{}", before.saturating_add(1)), Fault::LostReply));
    }
}

const fn name(side: Side) -> &'static str {
    match side {
        Side::Primary => PRIMARY,
        Side::Standby => STANDBY,
    }
}

#[async_trait]
impl Rig for SimRig {
    fn pair(&self) -> Pair {
        self.pair.clone()
    }

    fn clock(&self) -> Arc<dyn Runtime> {
        Arc::new(self.runtime.clone())
    }

    fn powers(&self) -> Vec<Power> {
        let mut powers = vec![
            Power::Write,
            Power::OpenSession,
            Power::CutReplication,
            Power::BreakPrimary,
            Power::DarkManagement,
            Power::LiftFence,
            Power::PromoteByHand,
            Power::MakeAnew,
            Power::RewriteSecret,
            Power::RotateSecret,
            Power::OpenTransaction,
            Power::RefuseApplications,
            Power::RefuseOnPrimary,
            Power::StrangeReader,
            Power::RivalLock,
        ];
        let verbs = [Verb::Promote, Verb::Swap, Verb::Engage, Verb::Clear, Verb::Patch, Verb::Apply, Verb::Drain];
        powers.extend(verbs.map(Power::LoseReply));
        powers
    }

    fn sights(&self) -> Vec<Sight> {
        let commits = [Sight::Commits(Side::Primary), Sight::Commits(Side::Standby)];
        let rest = [Sight::Acknowledged, Sight::Changes, Sight::Notices, Sight::Seals];
        commits.into_iter().chain(rest).collect()
    }

    async fn act(&self, power: Power) -> Result<(), String> {
        let cloud = &self.cloud;
        match power {
            // Its clients write all the time, through sessions that stay open.
            Power::Write | Power::OpenSession => {
                self.runtime.sleep_until(self.runtime.now_mono() + millis(100)).await;
            }
            Power::CutReplication => cloud.break_replication(STANDBY, Broken::Stalled),
            Power::BreakPrimary => cloud.break_down(PRIMARY),
            Power::DarkManagement => {
                cloud.suffer(Condition::ControlOutage(Region::new(format!("region-{PRIMARY}"))), None);
            }
            Power::LoseReply(verb) => self.lose(verb),
            Power::LiftFence => cloud.drift(Drift::Fence),
            Power::PromoteByHand => cloud.drift(Drift::Role),
            Power::MakeAnew => cloud.drift(Drift::Identity),
            Power::RewriteSecret => cloud.drift(Drift::Secret),
            Power::RotateSecret => cloud.tweak(PRIMARY, Tweak::SecretRotating(true)),
            Power::OpenTransaction => cloud.tweak(PRIMARY, Tweak::LongTransaction(open_transaction())),
            Power::RefuseApplications => cloud.tweak(STANDBY, Tweak::Access(Access::Refused)),
            Power::RefuseOnPrimary => cloud.tweak(PRIMARY, Tweak::Access(Access::Refused)),
            Power::StrangeReader => cloud.with(|world| {
                world.readers.iter_mut().for_each(|route| route.extend([MemberId::new("stranger")]));
            }),
            Power::RivalLock => {
                let rival = SimProviders { line: cloud.line("rival", CrashSwitch::new()) };
                let probe = rival.member(MemberId::new(PRIMARY)).probe;
                probe.group_lock("rival").await.map_err(|error| error.to_string())?;
            }
            Power::StrangeWord | Power::SpoilCandidate => return Err(format!("this rig cannot {}", power.words())),
        }
        Ok(())
    }

    async fn see(&self, sight: Sight) -> Result<u64, String> {
        let count = |count: usize| u64::try_from(count).unwrap_or(u64::MAX);
        Ok(match sight {
            Sight::Commits(side) => {
                self.cloud.look(|truth| truth.member(name(side)).is_some_and(|member| member.takes_commits())).into()
            }
            Sight::Acknowledged => self.cloud.look(|truth| truth.acknowledged()),
            Sight::Changes => count(self.cloud.calls().iter().filter(|call| call.kind != CallKind::Read).count()),
            Sight::Notices => self.cloud.look(|truth| count(truth.notices().count())),
            Sight::Seals => count(self.evidence.sealed.lock().unwrap_or_else(PoisonError::into_inner).len()),
        })
    }
}

fn open_transaction() -> LongTransaction {
    LongTransaction {
        id: "pid 4711".to_owned(),
        user: "batch".to_owned(),
        age: minutes(3),
        state: "idle in transaction".to_owned(),
        helps: "sim end 4711".to_owned(),
    }
}
