//! The management plane of one server: describe, replication, promote, rejoin.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use dr_core::{
    Becomes, Capabilities, Description, Effort, ManagedDatabase, MemberId, Millis, OpHandle, OpProgress, Outcome,
    PromoteRequest, ProviderError, Rehearsal, RehearseMember, Rejoin, RejoinRequest, Replication, ResourceId, Tri,
    millis,
};

use futures_util::future::{join, join3};
use tokio::time::timeout;

use crate::{
    client::Session,
    conninfo::ConnInfo,
    control_data::ClusterState,
    error::PgError,
    login::{lift, marked_roles},
    look::{Identity, Receiver},
    member::{Member, now, position, undone, unread},
    reach::Heard,
    server::Postmaster,
};

/// The management plane of one member.
#[derive(Clone, Debug)]
pub struct PostgresDatabase {
    member: Arc<Member>,
}

/// The tested version; from [`OLDEST`] on others are described as untested.
const TESTED: u32 = 15;
const OLDEST: u32 = 13;
/// A standby looks for log, and for the order to promote, at least this often during an operation.
const RETRIEVE_RETRY: Duration = Duration::from_millis(100);
/// How long logging in to all databases may take.
const LOGINS_LIMIT: Duration = Duration::from_secs(5);
const CHECKPOINT_LIMIT: Duration = Duration::from_secs(600);

impl PostgresDatabase {
    /// The management plane of `member`.
    #[must_use]
    pub const fn new(member: Arc<Member>) -> Self {
        Self { member }
    }

    async fn describe_running(&self, session: &Session) -> Result<Description, PgError> {
        let (who, upstream, followers) =
            join3(session.identity(), self.upstream(session), self.followers(session)).await;
        let (who, upstream, followers) = (who?, upstream?, followers?);
        if !who.in_recovery {
            // By which addresses it is reached is known before anybody has to wait for it.
            let member = Arc::clone(&self.member);
            tokio::spawn(async move { member.learn_addresses().await });
        }
        refuse_version(&self.member, who.version)?;
        let follows = who.in_recovery.then_some(upstream);
        let status = match (who.in_recovery, &follows) {
            (false, _) => "primary".to_owned(),
            (true, Some(primary)) => format!("standby of {primary}"),
            (true, None) => "standby of nobody".to_owned(),
        };
        Ok(Description {
            resource: self.member.resource(),
            lineage: Some(who.lineage()),
            follows,
            followers,
            writable: Tri::from(!who.in_recovery),
            healthy: Tri::Yes,
            status,
            endpoint: self.member.endpoint(),
            version: version(who.version),
            busy: None,
            newest_backup: None,
            at: now(),
        })
    }

    /// Whom a standby follows: as its receiver says, else as its configuration says, which outlives the primary.
    async fn upstream(&self, session: &Session) -> Result<ResourceId, PgError> {
        const WHAT: &str = "tell whom it follows";
        let sql = "SELECT coalesce(sender_host, ''), coalesce(sender_port, 0) FROM pg_stat_wal_receiver";
        let (rows, text) = join(session.rows(WHAT, sql, &[]), session.setting("primary_conninfo")).await;
        let mut from = None;
        for row in rows? {
            from = Some((session.get::<String>(WHAT, &row, 0)?, session.get::<i32>(WHAT, &row, 1)?));
        }
        let text = text?.unwrap_or_default();
        let known = ConnInfo::parse(&text).ok().map(|info| info.address());
        let (host, port) = match (known, from) {
            (Some(known), _) if self.member.peer_at(&known.0, known.1).is_some() => known,
            (_, Some((host, port))) => (host, u16::try_from(port).unwrap_or(0)),
            (Some(known), None) => known,
            (None, None) => return Ok(ResourceId::new("nobody")),
        };
        let listed = self.member.peer_at(&host, port).map(|peer| peer.resource.clone());
        Ok(listed.unwrap_or_else(|| ResourceId::new(format!("{host}:{port}"))))
    }

    /// The standbys that follow. A row is a member by its application name or slot; else, when just one peer that is not named yet
    /// has its address, that one; else it is told as it is, so that nobody overlooks it.
    async fn followers(&self, session: &Session) -> Result<Vec<ResourceId>, PgError> {
        let mut rest: Vec<_> = self.member.peers.iter().collect();
        let mut found = Vec::new();
        let mut strangers = Vec::new();
        for row in session.senders().await? {
            let named = rest.iter().position(|peer| {
                row.name == peer.name.as_str()
                    || row.slot.as_deref() == Some(&crate::member::slot_name(peer.name.as_str()))
            });
            match named {
                Some(index) => found.push(rest.swap_remove(index).resource.clone()),
                None => strangers.push(row),
            }
        }
        for row in strangers {
            let here: Vec<usize> = rest
                .iter()
                .enumerate()
                .filter(|(_, peer)| row.address.as_deref() == Some(peer.target.host.as_str()))
                .map(|(index, _)| index)
                .collect();
            match here.as_slice() {
                [index] => found.push(rest.swap_remove(*index).resource.clone()),
                _ => found.push(ResourceId::new(format!("{}@{}", row.name, row.address.unwrap_or_default()))),
            }
        }
        Ok(found)
    }

    /// A server that does not answer SQL is described from its process table and control file, or not at all. What answers with an
    /// error of its own is not stopped, whatever the directory says.
    async fn describe_stopped(&self, silent: PgError) -> Result<Description, PgError> {
        let server = &self.member.server;
        let Ok(process) = server.postmaster().await else { return Err(silent) };
        if process != Postmaster::Stopped {
            return Err(silent);
        }
        let system = server.control_data().await?.system_identifier;
        match self.member.heard(system).await {
            Heard::Nothing => {}
            Heard::Changing(what) | Heard::Something(what) | Heard::Writer(what) => {
                let place = server.site().data.display();
                let why = format!("no server process works on {place}, and {what}: `data` is not its directory");
                return Err(PgError::Refused { server: self.member.name.to_string(), why });
            }
        }
        let data = server.control_data().await?;
        let standby = server.control().read(&server.data("standby.signal")).await?.is_some();
        let word = match data.state {
            ClusterState::ShutDown => "stopped cleanly",
            ClusterState::ShutDownInRecovery => "stopped as a standby",
            ClusterState::StartingUp
            | ClusterState::ShuttingDown
            | ClusterState::InCrashRecovery
            | ClusterState::InArchiveRecovery
            | ClusterState::InProduction => "stopped by a crash",
        };
        Ok(Description {
            resource: self.member.resource(),
            lineage: Some(data.lineage()),
            follows: None,
            followers: Vec::new(),
            writable: Tri::No,
            healthy: Tri::No,
            status: if standby { format!("{word}, starts as a standby") } else { word.to_owned() },
            endpoint: self.member.endpoint(),
            version: "unknown while stopped".into(),
            busy: None,
            newest_backup: None,
            at: now(),
        })
    }

    /// The lag of a standby that hears little because its primary has nothing to say: the primary itself is asked.
    async fn nothing_to_say(&self, who: &Identity, receiver: &Receiver) -> bool {
        for link in &self.member.peer_links {
            let Ok(session) = link.session().await else { continue };
            let Ok(peer) = session.identity().await else { continue };
            let same = peer.system_identifier == who.system_identifier && peer.timeline == who.timeline;
            if !peer.in_recovery && same && receiver.replayed >= peer.position {
                return session.senders().await.is_ok_and(|rows| rows.iter().any(|row| row.streaming));
            }
        }
        false
    }

    async fn replication_now(&self) -> Result<Replication, PgError> {
        let session = self.member.session().await?;
        let who = session.identity().await?;
        if !who.in_recovery {
            let lineage = Some(who.lineage());
            return Ok(Replication {
                streaming: Tri::No,
                lineage,
                received: None,
                applied: None,
                lag: None,
                at: now(),
            });
        }
        let receiver = session.receiver().await?;
        let mut lag = receiver.lag();
        // A standby that has replayed no commit since its start streams, although nobody can say how far it is behind.
        let mut streaming = match (receiver.streaming, receiver.is_fresh()) {
            (false, _) => Tri::No,
            (true, true) => Tri::Yes,
            (true, false) => Tri::Unknown,
        };
        if streaming == Tri::Unknown && self.nothing_to_say(&who, &receiver).await {
            (streaming, lag) = (Tri::Yes, Some(Duration::ZERO));
        }
        Ok(Replication {
            streaming,
            lineage: Some(who.lineage()),
            received: receiver.received.map(|lsn| position(who.system_identifier, lsn)),
            applied: Some(position(who.system_identifier, receiver.replayed)),
            lag: lag.map(Millis::of),
            at: now(),
        })
    }

    async fn request_promotion(&self, request: &PromoteRequest) -> Result<Outcome<()>, PgError> {
        let session = self.member.own_session().await?;
        let who = session.identity().await?;
        if !who.in_recovery {
            let why = format!("{} is no standby: it writes on timeline {}", self.member.name, who.timeline);
            return Ok(Outcome::Conflict(dr_core::Cause::new(why)));
        }
        if who.lineage() != request.target().lineage {
            let (is, was) = (who.lineage(), &request.target().lineage);
            let why = format!("{} carries lineage {is}, the promotion is for {was}", self.member.name);
            return Ok(Outcome::Conflict(dr_core::Cause::new(why)));
        }
        if !session.request_promotion().await? {
            return Ok(Outcome::unknown("pg_promote could not signal the server process"));
        }
        Ok(Outcome::Accepted(OpHandle::new(format!("promote/{}", who.timeline))))
    }

    async fn poll_promotion(&self) -> Result<OpProgress, PgError> {
        let session = self.member.session().await?;
        // Both in one go, and in this order: the roles are those of a server that has left recovery.
        let (replays, marked) = join(session.still_replays(), marked_roles(&session)).await;
        if replays? {
            return Ok(OpProgress::Running { percent: None });
        }
        lift(&session, &marked?).await?;
        Ok(OpProgress::Finished)
    }

    /// Everything that can be done before the gap, and everything that would turn the gap into an outage.
    async fn settle_now(&self) -> Result<(), PgError> {
        let session = self.member.session().await?;
        // Its reads run beside the checks after a promotion, not before them; login and first read happen now, outside of the gap.
        self.member.warm_link.session().await?.synthetic_read().await?;
        let who = session.identity().await?;
        refuse_version(&self.member, who.version)?;
        if who.in_recovery {
            self.refuse_bad_candidate(&session).await?;
            let retry = session.setting("wal_retrieve_retry_interval").await?;
            if retry.as_deref() != Some("100ms") {
                session.shorten_retrieve_retry(RETRIEVE_RETRY).await?;
            }
            session.prepare_for_promotion().await?;
            // What is asked right after the promotion is asked once before it: the first time costs milliseconds.
            marked_roles(&session).await?;
            session.history(who.timeline).await?;
            // Only a matter of milliseconds: whatever keeps us from it stops nothing.
            let _in_time = timeout(LOGINS_LIMIT, self.log_in_everywhere(&session)).await;
        }
        session.run_within("write a checkpoint", "CHECKPOINT", CHECKPOINT_LIMIT).await
    }

    /// Logs in to every database once. A restart removes their relation cache files, and the first login after it builds them anew:
    /// better now than when the applications come back after the promotion.
    async fn log_in_everywhere(&self, session: &Session) -> Result<(), PgError> {
        for database in session.databases().await? {
            let target = self.member.link.target().clone().with_database(database);
            // A database that does not let the control role in keeps its applications waiting a little longer; that is all.
            drop(Session::open(&target).await);
        }
        Ok(())
    }

    #[expect(clippy::unused_async, reason = "what a coming writer tries asks its server")]
    async fn rehearse_writer(&self, _instead_of: &MemberId, _effort: Effort) -> Result<Rehearsal, PgError> {
        Ok(Rehearsal::untried(format!("what {} needs as the writer is not rehearsed", self.member.name)))
    }

    async fn refuse_bad_candidate(&self, session: &Session) -> Result<(), PgError> {
        let refuse = |why: String| Err(PgError::Refused { server: self.member.name.to_string(), why });
        let waits = session.setting("synchronous_standby_names").await?.unwrap_or_default();
        if !waits.trim().is_empty() {
            return refuse(format!(
                "synchronous_standby_names is `{waits}`: once promoted, every commit would wait for a standby that is not there; \
                 empty it on this server (ALTER SYSTEM RESET synchronous_standby_names) and set it again afterwards"
            ));
        }
        if session.receiver().await?.paused {
            return refuse("replay is paused; pg_wal_replay_resume() helps".into());
        }
        let delay = session.setting("recovery_min_apply_delay").await?.unwrap_or_default();
        if delay != "0" && !delay.is_empty() {
            return refuse(format!("recovery_min_apply_delay is {delay}: it would delay the promotion by as much"));
        }
        Ok(())
    }
}

/// Below 13 the promotion and its proofs work differently; nothing is tried there.
fn refuse_version(member: &Member, version: u32) -> Result<(), PgError> {
    let major = version / 10_000;
    if major >= OLDEST {
        return Ok(());
    }
    let why = format!("PostgreSQL {major} is too old: {OLDEST} is the oldest that is supported");
    Err(PgError::Refused { server: member.name.to_string(), why })
}

fn version(number: u32) -> String {
    let (major, minor) = (number / 10_000, number % 10_000);
    let mark = if major == TESTED { "" } else { " (untested)" };
    format!("{major}.{minor}{mark}")
}

#[async_trait]
impl ManagedDatabase for PostgresDatabase {
    async fn capabilities(&self) -> Result<Capabilities, ProviderError> {
        let mut offered = Capabilities::none();
        offered.promote = true;
        offered.rejoin = Rejoin::InPlace;
        offered.poll_every = millis(1);
        offered.visibility = millis(5);
        Ok(offered)
    }

    async fn describe(&self) -> Result<Description, ProviderError> {
        let running = match self.member.own_session().await {
            Ok(session) => self.describe_running(&session).await,
            Err(e) => Err(e),
        };
        match running {
            Err(e) if !e.is_login_refused() && !matches!(e, PgError::Refused { .. } | PgError::Unreadable { .. }) => {
                self.describe_stopped(e).await
            }
            other => other,
        }
        .map_err(unread("describe"))
    }

    async fn replication(&self) -> Result<Replication, ProviderError> {
        self.replication_now().await.map_err(unread("replication"))
    }

    async fn poll(&self, op: &OpHandle) -> Result<OpProgress, ProviderError> {
        match op.as_str().split_once('/') {
            Some(("promote", _)) => self.poll_promotion().await.map_err(unread("poll")),
            Some(("rejoin", primary)) => self.member.poll_rejoin(primary).await.map_err(unread("poll")),
            Some(_) | None => Ok(OpProgress::Lost { saw: format!("the handle `{op}` is not one of ours") }),
        }
    }

    async fn promote(&self, request: PromoteRequest) -> Outcome<()> {
        self.request_promotion(&request).await.unwrap_or_else(|e| undone(&e))
    }

    async fn rejoin(&self, request: RejoinRequest) -> Outcome<()> {
        Member::begin_rejoin(&self.member, request).await
    }

    async fn settle(&self) -> Outcome<()> {
        match self.settle_now().await {
            Ok(()) => Outcome::Done(()),
            Err(e) => undone(&e),
        }
    }

    async fn rehearse(&self, request: &RehearseMember) -> Result<Rehearsal, ProviderError> {
        match &request.becomes {
            Becomes::Writer { instead_of } => self.rehearse_writer(instead_of, request.effort).await,
            Becomes::Standby { of } => self.member.rehearse_rejoin(of, request.effort).await,
        }
        .map_err(unread("rehearse"))
    }

    fn manual(&self, verb: &str) -> Vec<String> {
        crate::manual::database(&self.member, verb)
    }
}
