//! A pair of real servers driven through the provider traits, as the driver does it: every wait looks each 2 ms.

#![expect(clippy::wildcard_enum_match_arm, clippy::cognitive_complexity, reason = "tests")]

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use dr_core::{
    Actor, AppTier, DatabaseProbe, Fence, Grade, GroupName, ManagedDatabase, MemberId, NodeId, Outcome, RunId, Target,
    Timestamp, TrafficRouter, Tri,
    base::{Digest, Epoch, IdempotencyKey, Mono},
    contract::{
        CatchUpReceipt, Consent, DrainRequest, EngageFence, FenceReading, FenceReceipt, Loss, OpHandle, OpProgress,
        PromoteRequest, RejoinRequest, ReleaseOrder, ResumeRequest, RetireFence, RouteRequest, Runtime, Task,
        WriterOrigin, WriterReceipt, admit,
    },
    millis, seconds,
};
use dr_postgres::{
    Member, PostgresDatabase, PostgresPooler, StopFence,
    testing::{ClusterOptions, LocalCluster},
};

#[derive(Debug)]
pub(crate) struct Clock(std::time::Instant);

impl Runtime for Clock {
    fn now_mono(&self) -> Mono {
        Mono::new(self.0.elapsed())
    }

    fn now_wall(&self) -> Timestamp {
        let since = std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap();
        Timestamp::from_millis(i64::try_from(since.as_millis()).unwrap())
    }

    fn sleep_until(&self, until: Mono) -> Task {
        let wait = until.since(self.now_mono());
        Box::pin(tokio::time::sleep(wait))
    }

    fn spawn_detached(&self, task: Task) {
        tokio::spawn(task);
    }
}

/// One server with all its providers.
#[derive(Debug, Clone)]
pub(crate) struct Side {
    pub(crate) member: Arc<Member>,
    pub(crate) database: PostgresDatabase,
    pub(crate) probe: dr_sql::Probe,
    pub(crate) fence: Arc<StopFence>,
}

impl Side {
    pub(crate) fn of(member: &Arc<Member>) -> Self {
        Self {
            member: Arc::clone(member),
            database: PostgresDatabase::new(Arc::clone(member)),
            probe: member.probe(),
            fence: Arc::new(StopFence::new(Arc::clone(member))),
        }
    }

    pub(crate) async fn target(&self) -> Target {
        self.member.bound(self.database.describe().await.unwrap().lineage.unwrap())
    }

    pub(crate) async fn is_writable(&self) -> Tri {
        self.probe.write().await.unwrap().accepted
    }
}

/// The pair and what stands in front of it.
#[derive(Debug)]
pub(crate) struct Rig {
    pub(crate) cluster: LocalCluster,
    pub(crate) sides: [Side; 2],
    pub(crate) pooler: Option<PostgresPooler>,
}

impl Rig {
    pub(crate) async fn start(options: ClusterOptions) -> Self {
        let cluster = LocalCluster::start(options).await.unwrap();
        let members = cluster.members();
        let sides = [Side::of(&members[0]), Side::of(&members[1])];
        let pooler = cluster.pgbouncer().ok().map(|pooler| {
            let place = |port| ("127.0.0.1".to_owned(), port);
            let ports = [("pg1", cluster.pg1().port), ("pg2", cluster.pg2().port)];
            let places = ports.into_iter().map(|(name, port)| (MemberId::new(name), place(port))).collect();
            let servers: BTreeMap<_, _> =
                members.iter().zip(["pg1", "pg2"]).map(|(m, name)| (MemberId::new(name), Arc::clone(m))).collect();
            PostgresPooler::new(pooler, places, seconds(5)).with_servers(servers)
        });
        Self { cluster, sides, pooler }
    }
}

pub(crate) fn run() -> RunId {
    RunId::new(GroupName::new("app"), 1)
}

pub(crate) fn key(node: &str) -> IdempotencyKey {
    run().key(&dr_core::base::Digest::zero(), &NodeId::new(node))
}

pub(crate) fn clock() -> Clock {
    Clock(std::time::Instant::now())
}

/// Looks every 2 ms until `look` answers something.
pub(crate) async fn until<T, F: Future<Output = Option<T>>>(
    what: &str,
    within: Duration,
    mut look: impl FnMut() -> F,
) -> T {
    let begun = tokio::time::Instant::now();
    loop {
        if let Some(found) = look().await {
            return found;
        }
        assert!(begun.elapsed() < within, "{what} did not come within {within:?}");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

pub(crate) fn done<T: std::fmt::Debug>(outcome: Outcome<T>) -> T {
    match outcome {
        Outcome::Done(value) => value,
        other => panic!("not done: {other:?}"),
    }
}

pub(crate) fn handle<T: std::fmt::Debug>(outcome: Outcome<T>) -> OpHandle {
    match outcome {
        Outcome::Accepted(handle) => handle,
        other => panic!("not accepted: {other:?}"),
    }
}

/// Engages the clean stop and waits until it reads back as confirmed.
pub(crate) async fn fence(old: &Side) -> (FenceReceipt, FenceReading) {
    let target = old.target().await;
    let token = old.fence.prepare().await.unwrap();
    let ask = EngageFence { target: target.clone(), token: token.clone(), key: key("fence") };
    handle(old.fence.engage(ask).await);
    let reading = until("the fence", Duration::from_secs(20), || async {
        old.fence.inspect().await.ok().filter(|reading| reading.grade() >= Grade::Confirmed)
    })
    .await;
    let receipt = FenceReceipt {
        run: run(),
        epoch: Epoch::new(1),
        target,
        fence: old.fence.name(),
        token,
        planes: reading.planes,
        silent: false,
        end: reading.end.clone(),
        effective_at: reading.at,
        lapses_at: None,
        detail: reading.detail.clone(),
    };
    (receipt, reading)
}

/// Puts the proofs together and asks for the promotion.
pub(crate) async fn promote(old: &Side, new: &Side, fence: &FenceReceipt) -> OpHandle {
    let (clock, run) = (clock(), run());
    let door =
        admit::Door { run: &run, plan: Digest::zero(), epoch: Epoch::new(1), max_age: seconds(60), runtime: &clock };
    let position = new.probe.position().await.unwrap();
    let caught_up = CatchUpReceipt {
        run: run.clone(),
        target: new.member.bound(position.lineage),
        end: fence.end.clone().unwrap(),
        applied: position.applied,
        at: position.at,
    };
    let consent = Consent {
        run: run.clone(),
        plan: Digest::zero(),
        ask: Digest::zero(),
        facts: Vec::new(),
        loss: Loss::Nothing,
        given: Vec::new(),
        at: position.at,
        expires: position.at,
    };
    let fenced = admit::fenced(&door, old.fence.as_ref(), fence, Grade::Confirmed).await.unwrap();
    let caught_up = until("catch-up", Duration::from_secs(10), || async {
        admit::caught_up(&door, (&new.database, &new.probe), &caught_up, fence).await.ok()
    })
    .await;
    let consented = admit::consented(&door, &consent, &[]).unwrap();
    handle(new.database.promote(PromoteRequest::planned(key("promote"), fenced, caught_up, consented)).await)
}

pub(crate) async fn await_op(side: &Side, op: &OpHandle) -> Result<(), String> {
    until("the operation", Duration::from_secs(60), || async {
        match side.database.poll(op).await {
            Ok(OpProgress::Finished) => Some(Ok(())),
            Ok(OpProgress::Failed { why }) => Some(Err(why)),
            Ok(OpProgress::Running { .. } | OpProgress::Lost { .. }) | Err(_) => None,
        }
    })
    .await
}

pub(crate) fn writer(target: Target, side: &Side) -> WriterReceipt {
    let endpoint = side.member.endpoint();
    WriterReceipt {
        run: run(),
        target,
        endpoint,
        origin: WriterOrigin::Observed,
        old_side: Grade::Confirmed,
        waived: None,
        at: Timestamp::from_millis(0),
    }
}

pub(crate) async fn rejoin(old: &Side, new: &Side, may_discard: bool) -> Outcome<()> {
    let (target, primary) = (old.target().await, new.target().await);
    let endpoint = new.member.endpoint();
    let key = key("rejoin");
    old.database.rejoin(RejoinRequest { target, primary, endpoint, parted_at: None, may_discard, key }).await
}

/// The whole planned switchover with rejoin and retirement of the fence.
pub(crate) async fn switch(rig: &Rig, old: &Side, new: &Side) {
    done(new.database.settle().await);
    done(old.database.settle().await);
    if let Some(pooler) = &rig.pooler {
        let ask = DrainRequest { budget: seconds(30), within: seconds(5), key: key("drain") };
        done(pooler.drain(ask).await);
        assert_eq!(AppTier::read(pooler).await.unwrap().drained, Tri::Yes);
    }
    let (receipt, _) = fence(old).await;
    let op = promote(old, new, &receipt).await;
    await_op(new, &op).await.unwrap();
    let target = new.target().await;
    assert_eq!(target.lineage.generation, receipt.target.lineage.generation + 1);
    assert_eq!(new.is_writable().await, Tri::Yes);
    if let Some(pooler) = &rig.pooler {
        done(pooler.apply(RouteRequest { writer: writer(target.clone(), new), key: key("traffic") }).await);
        // No client goes on before every process has read its file again: it would meet the former writer.
        assert_eq!(AppTier::read(pooler).await.unwrap().drained, Tri::Yes);
        resume(pooler, &target.member).await;
    }
    let op = handle(rejoin(old, new, false).await);
    await_op(old, &op).await.unwrap();
    let target = old.member.bound(target.lineage);
    done(old.fence.retire(RetireFence { target, token: receipt.token, key: key("retire") }).await);
}

/// Lets the clients go on, and waits until they do.
pub(crate) async fn resume(pooler: &PostgresPooler, onto: &MemberId) {
    handle(pooler.resume(ResumeRequest { onto: onto.clone(), key: key("resume") }).await);
    until("the clients", Duration::from_secs(5), || async {
        (AppTier::read(pooler).await.unwrap().drained == Tri::No).then_some(())
    })
    .await;
}

pub(crate) fn order(receipt: &FenceReceipt) -> ReleaseOrder {
    ReleaseOrder::by_operator(key("release"), receipt.target.clone(), receipt.token.clone(), Actor::local("ann"))
}

pub(crate) fn budget() -> DrainRequest {
    DrainRequest { budget: seconds(30), within: millis(500), key: key("drain") }
}
