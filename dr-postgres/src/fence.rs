//! The fence in `pg_hba.conf` (L2), and what fences share.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use async_trait::async_trait;
use dr_core::{
    Cause, Effort, EngageFence, Fence, FenceReading, FenceToken, Grade, Json, Lineage, Millis, Outcome, Planes,
    ProviderError, Rehearsal, ReleaseOrder, RetireFence, millis,
};
use futures_util::future::join;
use tokio::time::{Instant, sleep};

use crate::{
    client::Session,
    error::PgError,
    hba::{self, HbaFence},
    manual,
    member::{Member, identity, now, undone, unread},
    server::POLL,
};

/// The answer to an order that names another member than the one that is fenced.
pub(crate) fn not_its_own(member: &Member, order: &ReleaseOrder) -> Option<Outcome<()>> {
    let named = &order.target().member;
    let why = || format!("the order is for `{named}`, this is the fence of `{}`", member.name);
    (*named != member.name).then(|| Outcome::Conflict(Cause::new(why())))
}

/// What speaks against the member being a streaming standby of `lineage`: a conflict, or something that may pass.
pub(crate) async fn still_a_standby(member: &Member, lineage: &Lineage) -> Result<Option<Outcome<()>>, PgError> {
    let session = member.session().await?;
    let (who, receiver) = join(session.identity(), session.receiver()).await;
    let (who, receiver) = (who?, receiver?);
    let conflict = |why: String| Ok(Some(Outcome::Conflict(Cause::new(why))));
    let (name, is) = (&member.name, who.lineage());
    if !who.in_recovery {
        return conflict(format!("{name} runs as a primary"));
    }
    if is.system != lineage.system || is.generation > lineage.generation {
        return conflict(format!("{name} carries lineage {is}, not {lineage}"));
    }
    // A receiver that connects anew begins with the history before, and streams in a moment.
    let streams = receiver.streaming && is == *lineage;
    let why = format!("{name} is a standby on lineage {is} and does not stream {lineage}");
    Ok((!streams).then(|| Outcome::not_done_yet(why, millis(20))))
}

/// Ends all client sessions and waits until none is left; poolers that reconnect are ended again.
///
/// # Errors
/// Some are still there after `within`; the message names one.
pub(crate) async fn end_sessions(session: &Session, within: Duration) -> Result<(), PgError> {
    let begun = Instant::now();
    loop {
        let open = session.client_sessions().await?;
        let Some(first) = open.first() else { return Ok(()) };
        if begun.elapsed() > within {
            let (pid, user, name) = (first.pid, &first.user, &first.application);
            let what = format!("lose its client sessions: {} remain, such as pid {pid} ({user}, {name})", open.len());
            return Err(PgError::Late { server: session.label().into(), what, after: within });
        }
        session.terminate_clients().await?;
        sleep(POLL).await;
    }
}

/// Since when every look has found no client session. One look proves nothing: a session may be between two statements of its
/// pooler. Two that lie a second apart do.
#[derive(Debug, Default)]
pub(crate) struct SessionWatch(Mutex<Option<Instant>>);

impl SessionWatch {
    pub(crate) async fn grade(&self, session: &Session) -> Result<Grade, PgError> {
        let open = !session.client_sessions().await?.is_empty();
        let mut clean = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if open {
            *clean = None;
            return Ok(Grade::Partial);
        }
        let since = *clean.get_or_insert_with(Instant::now);
        Ok(if since.elapsed() >= Duration::from_secs(1) { Grade::Confirmed } else { Grade::Enforced })
    }
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

    fn promises(&self) -> Planes {
        Planes::all(Grade::Confirmed)
    }

    async fn rehearse(&self, effort: Effort) -> Result<Rehearsal, ProviderError> {
        Ok(self.member.rehearse_hba(effort).await)
    }

    /// Nothing needs to be remembered: what this fence makes carries its own mark.
    async fn prepare(&self) -> Result<FenceToken, ProviderError> {
        Ok(FenceToken { fence: self.name(), state: Json::default() })
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
        match still_a_standby(&self.member, &request.target.lineage).await {
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
        let psql = manual::psql(&self.member);
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
