//! The contract trials on real servers: the same bodies as on the simulated cloud, so that the two cannot drift apart unseen.
#![expect(clippy::unwrap_used, clippy::panic, reason = "tests")]

#[expect(dead_code, reason = "each test file uses its part")]
mod common;

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use async_trait::async_trait;
use dr_core::{
    DatabaseProbe, Fence, MemberId,
    contract::{FenceSet, MemberProvider, Runtime, ServicePace},
};
use dr_postgres::{
    FileSecret, Member, PostgresDatabase, PostgresPooler, StopFence,
    testing::{ClusterOptions, LocalCluster, Node},
};
use dr_sql::{ApplicationLogin, ConnInfo, LoginFence, Password, Probe, Session};
use dr_testkit::trials::{self, Contract, Pair, Power, Reach, Report, Rig, Seat, Shown, Side, Sight, Tier};
use tokio::time::timeout;

/// Two servers, and a pooler in front of them if the trials need one.
#[derive(Debug)]
struct Servers {
    cluster: LocalCluster,
    pair: Pair,
    /// Sessions that applications keep open.
    sessions: tokio::sync::Mutex<Vec<Session>>,
    /// What holds a lock as somebody else.
    rival: Mutex<Option<Probe>>,
    written: AtomicU64,
}

/// How the pair is dressed.
#[derive(Clone, Copy, Debug)]
struct Dress {
    pooler: bool,
    route_login: bool,
    /// The fence takes logins away before it stops the server.
    logins: bool,
}

fn words(error: impl std::fmt::Display) -> String {
    error.to_string()
}

fn login() -> ApplicationLogin {
    ApplicationLogin::new("app", Some(Password::new("local-cluster")), "app")
}

fn seat(member: &Arc<Member>, name: &str, dress: Dress) -> Seat {
    let stop: Arc<dyn Fence> = Arc::new(StopFence::new(Arc::clone(member)));
    let fence = if dress.logins {
        let login = LoginFence::new(Arc::clone(member) as _, member.address(), vec!["app".into()]);
        Arc::new(FenceSet::new(vec![Arc::new(login), stop]))
    } else {
        stop
    };
    let provider = MemberProvider {
        database: Arc::new(PostgresDatabase::new(Arc::clone(member))),
        probe: Arc::new(member.probe()),
        fence: Some(fence),
        late_fence: None,
        pace: ServicePace::CAUTIOUS,
    };
    Seat { member: MemberId::new(name), address: member.address(), provider }
}

impl Servers {
    async fn start(dress: Dress) -> Result<Self, String> {
        let options = ClusterOptions { pooler: dress.pooler, ..ClusterOptions::default() };
        let cluster = LocalCluster::start(options).await.map_err(words)?;
        let members =
            cluster.members().map(|member| Arc::new(Arc::into_inner(member).unwrap().with_application(Some(login()))));
        let [primary, standby] = &members;
        let (primary, standby) = (seat(primary, &cluster.pg1().name, dress), seat(standby, &cluster.pg2().name, dress));
        let mut pair = Pair::of(primary, standby);
        pair.login = true;
        pair.table = Some(dr_core::contract::Table::new("pg_catalog", "pg_am"));
        let folder = cluster.folder().join("secret");
        let fields = [("host", "127.0.0.1".to_owned()), ("port", cluster.pg1().port.to_string())];
        FileSecret::create(&folder, fields.map(|(name, value)| (name.to_owned(), value)).into()).map_err(words)?;
        let set = [("host", "{writer.host}"), ("port", "{writer.port}")];
        let set = set.map(|(name, form)| (name.to_owned(), form.to_owned())).into();
        pair.secret = Some(Arc::new(FileSecret::new(&folder, set)));
        if dress.pooler {
            let route = Arc::new(pooler(&cluster, &members, dress.route_login));
            pair.route_login = dress.route_login;
            pair.route = Some(Arc::<PostgresPooler>::clone(&route));
            pair.app = Some(route);
        }
        let (sessions, rival, written) = Default::default();
        Ok(Self { cluster, pair, sessions, rival, written })
    }

    fn node(&self, side: Side) -> &Node {
        match side {
            Side::Primary => self.cluster.pg1(),
            Side::Standby => self.cluster.pg2(),
        }
    }

    async fn admin(&self, side: Side, sql: &str) -> Result<(), String> {
        let session = Session::open(&self.node(side).admin).await.map_err(words)?;
        session.run("act", sql).await.map_err(words)
    }

    /// It sets a parameter and waits until the server has read it: a session that opens before that still has the old value.
    async fn set(&self, side: Side, name: &str, value: &str) -> Result<(), String> {
        let session = Session::open(&self.node(side).admin).await.map_err(words)?;
        let before = session.setting(name).await.map_err(words)?;
        session.set_and_load(name, value).await.map_err(words)?;
        let limit = Instant::now() + Duration::from_secs(5);
        while session.setting(name).await.map_err(words)? == before {
            if Instant::now() > limit {
                return Err(format!("{name} is not read after five seconds"));
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        Ok(())
    }

    /// The applications' role may not log in any more, and is logged out.
    async fn refuse(&self, side: Side) -> Result<(), String> {
        let (server, name) = (&self.node(side).server, "pg_hba.conf");
        let rules = server.control().read(&server.data(name)).await.map_err(words)?.unwrap_or_default();
        let rules = [b"host all app all reject\n".as_slice(), &rules].concat();
        server.control().write(&server.data(name), &rules).await.map_err(words)?;
        self.admin(side, "SELECT pg_reload_conf()").await?;
        self.admin(side, "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'app'").await?;
        let door = self.cluster.app(self.node(side));
        dr_postgres::hba::await_refused(&door, Duration::from_secs(5)).await.map_err(words)
    }

    /// One row by an application, where applications connect.
    async fn write(&self) -> Result<(), String> {
        let door = self.cluster.app_through_pooler().unwrap_or_else(|| self.cluster.app(self.cluster.pg1()));
        let row = self.written.load(Ordering::SeqCst);
        let write = async {
            let session = Session::open(&door).await.map_err(words)?;
            session.run("write", &format!("INSERT INTO dr_writes VALUES (700, {row})")).await.map_err(words)
        };
        timeout(Duration::from_millis(800), write).await.map_err(words)??;
        self.written.fetch_add(1, Ordering::SeqCst);
        Ok(())
    }

    /// Whether a row is committed through a session that was open before, or through a new one.
    async fn commits(&self, side: Side) -> bool {
        let mut sessions = self.sessions.lock().await;
        if let Ok(session) = Session::open(&self.cluster.app(self.node(side))).await {
            sessions.push(session);
        }
        let mut some = false;
        for session in sessions.iter() {
            let row = self.written.fetch_add(1, Ordering::SeqCst);
            some |= session.run("write", &format!("INSERT INTO dr_writes VALUES (701, {row})")).await.is_ok();
        }
        some
    }
}

fn pooler(cluster: &LocalCluster, members: &[Arc<Member>; 2], with_login: bool) -> PostgresPooler {
    let nodes = [cluster.pg1(), cluster.pg2()];
    let named = || nodes.map(|node| MemberId::new(node.name.as_str())).into_iter();
    let places = named().zip(nodes.map(|node| ("127.0.0.1".to_owned(), node.port))).collect();
    let servers: BTreeMap<_, _> = named().zip(members.iter().cloned()).collect();
    let pooler = PostgresPooler::new(cluster.pgbouncer().unwrap(), places, dr_core::seconds(5));
    pooler.with_servers(servers).with_application(with_login.then(login))
}

#[async_trait]
impl Rig for Servers {
    fn pair(&self) -> Pair {
        self.pair.clone()
    }

    fn clock(&self) -> Arc<dyn Runtime> {
        Arc::new(common::clock())
    }

    fn powers(&self) -> Vec<Power> {
        vec![
            Power::Write,
            Power::OpenSession,
            Power::CutReplication,
            Power::BreakPrimary,
            Power::LiftFence,
            Power::PromoteByHand,
            Power::OpenTransaction,
            Power::RefuseApplications,
            Power::RefuseOnPrimary,
            Power::SpoilCandidate,
            Power::RivalLock,
        ]
    }

    fn sights(&self) -> Vec<Sight> {
        vec![Sight::Commits(Side::Primary), Sight::Commits(Side::Standby), Sight::Acknowledged]
    }

    async fn act(&self, power: Power) -> Result<(), String> {
        match power {
            Power::Write => self.write().await,
            Power::OpenSession | Power::OpenTransaction => {
                let session = Session::open(&self.cluster.app(self.cluster.pg1())).await.map_err(words)?;
                let begin = if power == Power::OpenSession { "SELECT 1" } else { "BEGIN" };
                session.run("act", begin).await.map_err(words)?;
                self.sessions.lock().await.push(session);
                Ok(())
            }
            Power::CutReplication => {
                let session = Session::open(&self.node(Side::Standby).admin).await.map_err(words)?;
                let now = session.setting("primary_conninfo").await.map_err(words)?.unwrap_or_default();
                let nowhere = ConnInfo::parse(&now).map_err(words)?.with("host", "127.0.0.1").with("port", "1");
                self.set(Side::Standby, "primary_conninfo", &nowhere.text()).await
            }
            Power::BreakPrimary => {
                let data = self.cluster.pg1().server.site().data.display().to_string();
                self.cluster.run("pg_ctl", &["-D", &data, "-m", "immediate", "-w", "stop"]).map(drop).map_err(words)
            }
            Power::LiftFence => {
                let server = &self.cluster.pg1().server;
                // It is fenced as soon as its last checkpoint is written, a moment before it is gone.
                server.await_stopped(Duration::from_secs(20)).await.map_err(words)?;
                server.control().remove(&server.data("standby.signal")).await.map_err(words)?;
                server.start().await.map_err(words)?;
                server.await_ready(Duration::from_secs(20)).await.map_err(words)
            }
            Power::PromoteByHand => self.admin(Side::Standby, "SELECT pg_promote()").await,
            Power::RefuseApplications => self.refuse(Side::Standby).await,
            Power::RefuseOnPrimary => self.refuse(Side::Primary).await,
            Power::SpoilCandidate => self.set(Side::Standby, "recovery_min_apply_delay", "1h").await,
            Power::RivalLock => {
                let [other, _] = self.cluster.members();
                let rival = other.probe();
                let taken = rival.group_lock("rival").await.map_err(words)?;
                *self.rival.lock().unwrap() = Some(rival);
                if taken { Ok(()) } else { Err("the lock was not free".to_owned()) }
            }
            Power::DarkManagement
            | Power::StrangeReader
            | Power::StrangeWord
            | Power::LoseReply(_)
            | Power::MakeAnew
            | Power::RewriteSecret
            | Power::RotateSecret => Err(format!("this rig cannot {}", power.words())),
        }
    }

    async fn see(&self, sight: Sight) -> Result<u64, String> {
        match sight {
            Sight::Commits(side) => Ok(u64::from(self.commits(side).await)),
            Sight::Acknowledged => {
                // Held back or refused is what the count shows.
                let _counted = self.write().await;
                Ok(self.written.load(Ordering::SeqCst))
            }
            Sight::Changes | Sight::Notices | Sight::Seals => Err(format!("this rig cannot see {}", sight.words())),
        }
    }
}

async fn run(contracts: &[Contract], dress: Dress) -> Report {
    let trials = trials::of(contracts);
    let report = trials::run("postgres", Reach::Real, &trials, || Servers::start(dress)).await.unwrap();
    assert!(report.failed().is_empty(), "{report}");
    assert!(report.tier() >= Tier::Partly(Reach::Real), "{report}");
    report
}

const DIRECT: Dress = Dress { pooler: false, route_login: false, logins: false };
const POOLED: Dress = Dress { pooler: true, route_login: true, logins: false };

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_management_plane_keeps_the_contract() {
    println!("{}", run(&[Contract::ManagedDatabase], DIRECT).await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_data_plane_keeps_the_contract() {
    println!("{}", run(&[Contract::DatabaseProbe], POOLED).await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_clean_stop_keeps_the_contract() {
    println!("{}", run(&[Contract::Fence], DIRECT).await);
}

/// What travels, and is taken from the new writer.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_fence_of_logins_keeps_the_contract() {
    let speaks_of = |name: &str| ["travels::", "carried::", "clear::"].iter().any(|verb| name.starts_with(verb));
    let all = trials::of(&[Contract::Fence]);
    let trials: Vec<_> = all.into_iter().filter(|trial| speaks_of(trial.name)).collect();
    let start = || Servers::start(Dress { logins: true, ..DIRECT });
    let report = trials::run("postgres, logins", Reach::Real, &trials, start).await.unwrap();
    assert!(report.failed().is_empty(), "{report}");
    let held = report.results.iter().filter(|result| result.shown == Shown::Held).count();
    assert_eq!(held, 5, "{report}");
    println!("{report}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_secret_and_the_pooler_keep_the_contract() {
    println!("{}", run(&[Contract::SecretStore, Contract::TrafficRouter, Contract::AppTier], POOLED).await);
    println!("{}", run(&[Contract::TrafficRouter], Dress { route_login: false, ..POOLED }).await);
}
