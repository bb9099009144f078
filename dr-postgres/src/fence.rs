//! The fence in `pg_hba.conf` (L2), and what fences share.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use dr_core::{
    Cause, Fence, Grade, Millis, Outcome, ProviderError, Tri,
    base::Json,
    contract::{Effort, EngageFence, FenceReading, FenceToken, Planes, Reach, Rehearsal, ReleaseOrder, RetireFence},
    millis,
};
use dr_sql::{PgError, SessionWatch, end_sessions, now, undone, unread};

use crate::{
    hba::{self, HbaFence},
    member::{Member, identity},
};

/// The answer to an order that names another member than the one that is fenced.
pub(crate) fn not_its_own(member: &Member, order: &ReleaseOrder) -> Option<Outcome<()>> {
    let named = &order.target().member;
    let why = || format!("the order is for `{named}`, this is the fence of `{}`", member.name);
    (*named != member.name).then(|| Outcome::Conflict(Cause::new(why())))
}

/// The closed `pg_hba.conf`: every role but the control role is turned away, open sessions are ended, log still flows to standbys.
#[derive(Debug)]
pub struct ClosedHba {
    member: Arc<Member>,
    /// Roles that may still come in besides the control role: those of replication.
    spared: Vec<String>,
    watch: SessionWatch,
}

impl ClosedHba {
    /// The fence of `member`; `spared` may still log in besides the control role.
    #[must_use]
    pub fn new(member: Arc<Member>, spared: Vec<String>) -> Self {
        Self { member, spared, watch: SessionWatch::default() }
    }

    fn spared(&self) -> Vec<String> {
        self.spared.iter().cloned().chain([self.member.link.target().user.clone()]).collect()
    }

    async fn close(&self) -> Result<(), PgError> {
        let (session, _) = self.member.place().await?;
        let fence = HbaFence::of(&session, self.member.server.control()).await?;
        let rejected = fence.close(&self.spared()).await?;
        if let Some(role) = rejected.first() {
            let mut door = self.member.link.target().clone();
            (door.user, door.password) = (role.clone(), None);
            hba::await_refused(&door, Duration::from_secs(5)).await?;
        }
        end_sessions(&session, Duration::from_secs(5)).await
    }

    async fn look(&self) -> Result<FenceReading, PgError> {
        const WORKERS: &str = "\
SELECT backend_type FROM pg_stat_activity WHERE backend_type NOT IN ('client backend', 'walsender', 'autovacuum launcher',
 'autovacuum worker', 'background writer', 'checkpointer', 'walwriter', 'archiver', 'logical replication launcher', 'startup',
 'walreceiver', 'walsummarizer', 'io worker', 'slotsync worker') ORDER BY 1";
        let session = self.member.own_session().await?;
        let who = session.identity().await?;
        let reading = HbaFence::of(&session, self.member.server.control()).await?.reading().await?;
        let spared = self.spared();
        let roles = session.names("list its roles", "SELECT rolname::text FROM pg_roles WHERE rolcanlogin").await?;
        let mut let_in = roles.into_iter().filter(|role| !spared.contains(role) && !reading.rejects(role));
        let workers = session.names("list its workers", WORKERS).await?;
        let mut planes = Planes::default();
        let mut detail = "hba turns everybody but us away".to_owned();
        if let Some(role) = let_in.next() {
            detail = format!("hba lets `{role}` in");
        } else {
            planes = Planes::all(Grade::Confirmed);
            planes.open_sessions = self.watch.grade(&session).await?;
            if let Some(worker) = workers.first() {
                planes.background = Grade::Partial;
                detail = format!("hba is closed, but a `{worker}` may write");
            }
        }
        Ok(FenceReading {
            address: Some(self.member.address()),
            identity: Some(identity(&who.lineage())),
            lineage: Some(who.lineage()),
            planes,
            silent: false,
            unread: Vec::new(),
            end: None,
            lapses_at: None,
            detail,
            at: now(),
        })
    }

    async fn open(&self) -> Result<(), PgError> {
        let (session, _) = self.member.place().await?;
        HbaFence::of(&session, self.member.server.control()).await?.open().await
    }
}

#[async_trait]
impl Fence for ClosedHba {
    fn name(&self) -> String {
        "postgres.hba".into()
    }

    /// The rules are loaded, and the sessions are ended, by SQL on the server itself.
    fn offers(&self, reach: Reach) -> Planes {
        match reach.server {
            Tri::No => Planes::default(),
            Tri::Yes | Tri::Unknown => Planes::all(Grade::Confirmed),
        }
    }

    async fn rehearse(&self, effort: Effort) -> Result<Rehearsal, ProviderError> {
        Ok(self.member.rehearse_hba(effort).await)
    }

    /// Nothing needs to be remembered: what this fence makes carries its own mark.
    async fn prepare(&self) -> Result<FenceToken, ProviderError> {
        Ok(FenceToken { fence: self.name(), state: Json::default(), known: true })
    }

    async fn engage(&self, _request: EngageFence) -> Outcome<()> {
        match self.close().await {
            Ok(()) => Outcome::Done(()),
            Err(e) => undone(&e),
        }
    }

    async fn inspect(&self) -> Result<FenceReading, ProviderError> {
        self.look().await.map_err(unread("inspect"))
    }

    async fn release(&self, order: ReleaseOrder) -> Outcome<()> {
        if let Some(conflict) = not_its_own(&self.member, &order) {
            return conflict;
        }
        self.open().await.map_or_else(|e| undone(&e), Outcome::Done)
    }

    async fn retire(&self, request: RetireFence) -> Outcome<()> {
        match self.member.still_a_standby(&request.target.lineage).await {
            Ok(None) => self.open().await.map_or_else(|e| undone(&e), Outcome::Done),
            Ok(Some(outcome)) => outcome,
            Err(e) => undone(&e),
        }
    }

    fn poll_every(&self) -> Millis {
        millis(50)
    }

    fn manual(&self, verb: &str) -> Vec<String> {
        let data = self.member.server.site().data.display().to_string();
        let psql = self.member.link.target().psql();
        let reload = format!("{psql} -c 'SELECT pg_reload_conf()'");
        match verb {
            "engage" => vec![
                format!("sed -i '1i host all all all reject' {data}/pg_hba.conf   # after a line for your own role"),
                reload,
                format!(
                    "{psql} -c \"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()\""
                ),
            ],
            "release" => vec![format!("printf '\"dr fence: nobody\"\\n' > {data}/dr_fence.users"), reload],
            _ => Vec::new(),
        }
    }
}
