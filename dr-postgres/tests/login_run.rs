//! A whole run with a fence of logins on real servers: the new writer lets its applications in, however its promotion was found.
#![expect(clippy::unwrap_used, clippy::panic, reason = "tests")]

#[expect(dead_code, reason = "each test file uses its part")]
mod common;

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use async_trait::async_trait;
use common::{Rig, Side};
use dr_core::{
    Actor, Binding, Catalog, Fence, Grade, GroupName, GroupSpec, ManagedDatabase, MemberId, Notifier, Outcome,
    PlanBuilder, PlannedSwitchover, ProviderError, RunId, Runbook as _, Timestamp,
    base::{Digest, Epoch},
    contract::{
        Capabilities, Description, FenceSet, MemberProvider, OpHandle, OpProgress, PositionSample, PromoteRequest,
        Providers, Rehearsal, RehearseMember, RejoinRequest, Replication, Resolved, ResourceKind, ResourceRef, Runtime,
        ServicePace,
    },
    plan::{Policy, Survey, Verified},
    run::{Drive, LeaseRequest, LeaseStore as _, RunOutcome, begin, drive, lease_keys},
    seconds,
};
use dr_postgres::testing::ClusterOptions;
use dr_sql::{LoginFence, Session};
use dr_testkit::{MemoryJournal, MemoryLeases};

/// A server whose answer to a promotion never arrives, as when the orchestrator died right after it was asked: what became of it is
/// found by a look, and no operation is polled.
#[derive(Debug)]
struct Unanswered(Arc<dyn ManagedDatabase>);

#[async_trait]
impl ManagedDatabase for Unanswered {
    async fn capabilities(&self) -> Result<Capabilities, ProviderError> {
        self.0.capabilities().await
    }

    async fn describe(&self) -> Result<Description, ProviderError> {
        self.0.describe().await
    }

    async fn replication(&self) -> Result<Replication, ProviderError> {
        self.0.replication().await
    }

    async fn poll(&self, op: &OpHandle) -> Result<OpProgress, ProviderError> {
        self.0.poll(op).await
    }

    async fn promote(&self, request: PromoteRequest) -> Outcome<()> {
        drop(self.0.promote(request).await);
        // Whoever waited for the answer in vain looks later than it came.
        common::until("the promotion", Duration::from_secs(20), || async {
            self.0.describe().await.ok().filter(|seen| seen.follows.is_none())
        })
        .await;
        Outcome::unknown("the answer is lost")
    }

    async fn rejoin(&self, request: RejoinRequest) -> Outcome<()> {
        self.0.rejoin(request).await
    }

    async fn settle(&self) -> Outcome<()> {
        self.0.settle().await
    }

    async fn rehearse(&self, request: &RehearseMember) -> Result<Rehearsal, ProviderError> {
        self.0.rehearse(request).await
    }

    fn manual(&self, verb: &str) -> Vec<String> {
        self.0.manual(verb)
    }
}

#[derive(Debug)]
struct Members(BTreeMap<Binding, (ResourceRef, Resolved)>);

impl Members {
    fn of(rig: &Rig, answers: bool) -> Self {
        let member = |(name, side): (&str, &Side)| {
            let login = LoginFence::new(Arc::clone(&side.member) as _, side.member.address(), vec!["app".into()]);
            let fences: Vec<Arc<dyn Fence>> = vec![Arc::new(login), Arc::<dr_postgres::StopFence>::clone(&side.fence)];
            let database: Arc<dyn ManagedDatabase> = Arc::new(side.database.clone());
            let provider = MemberProvider {
                database: if answers { database } else { Arc::new(Unanswered(database)) },
                probe: Arc::new(side.probe.clone()),
                fence: Some(Arc::new(FenceSet::new(fences))),
                late_fence: None,
                pace: ServicePace::CAUTIOUS,
            };
            let reference = ResourceRef {
                provider: "postgres".into(),
                kind: ResourceKind::Database,
                address: side.member.address(),
                identity: None,
                region: None,
                profile: None,
            };
            (Binding::from(&MemberId::new(name)), (reference, Resolved::Member(provider)))
        };
        Self(["pg1", "pg2"].into_iter().zip(&rig.sides).map(member).collect())
    }
}

#[async_trait]
impl Providers for Members {
    async fn resolve(&self, _group: Digest, wanted: &ResourceRef) -> Result<Resolved, ProviderError> {
        let found = self.0.values().find(|(reference, _)| reference.address == wanted.address);
        let (_, resolved) =
            found.ok_or_else(|| ProviderError::Refused { verb: "resolve", why: wanted.address.to_string() })?;
        Ok(resolved.clone())
    }

    fn notifiers(&self) -> Vec<Arc<dyn Notifier>> {
        Vec::new()
    }

    async fn samples(&self, _group: &GroupName, _since: Timestamp) -> Result<Vec<PositionSample>, ProviderError> {
        Ok(Vec::new())
    }
}

fn group() -> GroupSpec {
    let text = r#"
format = 2
name = "app"
environment = "test"
tier = 1
home = "pg1"
[[member]]
name = "pg1"
region = "dc-a"
backend = "postgres"
[[member]]
name = "pg2"
region = "dc-b"
backend = "postgres"
[[secret]]
name = "app"
store = "none"
because = "applications know both servers"
"#;
    GroupSpec::read(&toml::from_str::<serde_json::Value>(text).unwrap()).unwrap()
}

async fn plan(members: &Members, runtime: &Arc<dyn Runtime>) -> Verified {
    let survey = Survey {
        group: group(),
        bindings: members.0.clone(),
        last_writer: None,
        retired: Vec::new(),
        runtime: Arc::clone(runtime),
        patience: Survey::PATIENCE,
    };
    let now = survey.situation().await.unwrap();
    let runbook = PlannedSwitchover::to("pg2");
    let policy = Policy {
        gap_budget: seconds(60),
        client_limit: None,
        proof_age: seconds(60),
        fact_age: seconds(60),
        fence: Grade::Confirmed,
        unguarded: false,
        automatic: Some("a test has no people".into()),
    };
    let mut builder = PlanBuilder::new(now.header(runbook.id(), runbook.purpose(), policy).unwrap());
    runbook.plan(&now, &mut builder).unwrap();
    let (plan, faults) = builder.finish();
    plan.verify(faults, &Catalog::built_in()).unwrap()
}

async fn switched(rig: &Rig, answers: bool) -> RunOutcome {
    let members = Members::of(rig, answers);
    let runtime: Arc<dyn Runtime> = Arc::new(common::clock());
    let plan = plan(&members, &runtime).await;
    let run = RunId::new(GroupName::new("app"), 1);
    let leases = MemoryLeases::new();
    let request = LeaseRequest {
        keys: lease_keys(plan.plan()),
        run: run.clone(),
        holder: "test".into(),
        above: Epoch::default(),
        take_over: false,
        at: runtime.now_wall(),
    };
    let with = Drive {
        run,
        lease: leases.acquire(request).await.unwrap(),
        runtime,
        journal: Arc::new(MemoryJournal::new()),
        leases: Arc::new(leases),
        providers: Arc::new(members),
        catalog: Catalog::built_in(),
    };
    begin(&with, &plan, &Actor::local("test").authenticated("test", "test"), "a test").await.unwrap();
    let journal = Arc::clone(&with.journal);
    let id = with.run.clone();
    let ended = tokio::time::timeout(Duration::from_secs(60), drive(with)).await;
    let last = || async {
        let lines = journal.read(&id, 0).await.unwrap();
        lines.iter().rev().take(6).map(|line| format!("{line:?}")).collect::<Vec<_>>().join("\n")
    };
    match ended {
        Ok(ended) => ended.unwrap(),
        Err(_) => panic!("the run did not end in a minute; its last lines:\n{}", last().await),
    }
}

/// Logins were given back by whoever polled the promotion: nobody did when it was found by a look, and no pooler stood in front.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bug_a_promotion_that_was_found_by_a_look_left_the_applications_out() {
    let rig = Rig::start(ClusterOptions { pooler: false, ..ClusterOptions::default() }).await;
    let ended = switched(&rig, false).await;
    assert!(ended.success(), "{ended:?}");
    let session = Session::open(&rig.cluster.app(rig.cluster.pg2())).await.unwrap();
    session.run("write", "INSERT INTO dr_writes VALUES (702, 1)").await.unwrap();
}

/// The same with the answer.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_switchover_with_a_fence_of_logins_lets_the_applications_in() {
    let rig = Rig::start(ClusterOptions { pooler: false, ..ClusterOptions::default() }).await;
    let ended = switched(&rig, true).await;
    assert!(ended.success(), "{ended:?}");
    let session = Session::open(&rig.cluster.app(rig.cluster.pg2())).await.unwrap();
    session.run("write", "INSERT INTO dr_writes VALUES (702, 1)").await.unwrap();
}
