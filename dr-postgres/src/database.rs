//! The management plane of one server: describe, replication, promote, rejoin.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use dr_core::{
    ManagedDatabase, Millis, Outcome, ProviderError, Tri,
    contract::{
        Becomes, Capabilities, Description, FollowOffer, FollowRequest, FollowsBy, OpHandle, OpProgress, PromoteOffer,
        PromoteRequest, RaiseSequences, Rehearsal, RehearseMember, Rejoin, RejoinRequest, Replication, ServicePace,
    },
    millis, seconds,
};
use dr_sql::{
    PgError, Session, Timeline, lift_login_fences, marked_roles, now, primary_of, replication, undone, unread,
};

use futures_util::future::{join, join3};
use tokio::time::timeout;

use crate::{
    candidate,
    control_data::ClusterState,
    member::{Member, identity},
    reach::Heard,
    server::Postmaster,
};

/// The management plane of one member.
#[derive(Clone, Debug)]
pub struct PostgresDatabase {
    pub(crate) member: Arc<Member>,
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
            address: self.member.address(),
            identity: Some(identity(&who.lineage())),
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
            cadence: Millis::ZERO,
            at: now(),
        })
    }

    /// A server that does not answer SQL is described from its process table and control file, or not at all. What answers with an
    /// error of its own is not stopped, whatever the directory says.
    async fn describe_stopped(&self, silent: PgError) -> Result<Description, PgError> {
        let server = &self.member.server;
        let process = server.postmaster().await;
        self.member.host_answered(process.is_ok());
        let Ok(process) = process else { return Err(silent) };
        if process != Postmaster::Stopped {
            return Err(silent);
        }
        let system = server.control_data().await?.system_identifier;
        match self.member.heard(system).await {
            Heard::Nothing => {}
            // It was started between the two looks: what answers may well be its own.
            Heard::Changing(_) | Heard::Something(_) | Heard::Writer(_)
                if server.postmaster().await? != Postmaster::Stopped =>
            {
                return Err(silent);
            }
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
            address: self.member.address(),
            identity: Some(identity(&data.lineage())),
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
            cadence: Millis::ZERO,
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
        // One session is one life of the server: what this recovery is asked for, another one has forgotten.
        let (began, signalled) = join(session.recovery_began(), session.request_promotion()).await;
        if !signalled? {
            return Ok(Outcome::unknown("pg_promote could not signal the server process"));
        }
        let began = began.map_or_else(|_| String::new(), |began| format!("/{began}"));
        Ok(Outcome::accepted_as(format!("promote/{}{began}", who.timeline)))
    }

    /// `asked` is what the handle says of the server that took the request: its timeline, and when its recovery began.
    async fn poll_promotion(&self, asked: &str) -> Result<OpProgress, PgError> {
        let session = self.member.session().await?;
        // In one go, and in this order: a recovery that is not there any more is not seen to replay afterwards.
        let (began, replays) = join(session.recovery_began(), session.still_replays()).await;
        if replays? {
            let asked = asked.split_once('/').and_then(|(_, began)| began.parse::<i64>().ok());
            return Ok(match (asked, began) {
                (Some(asked), Ok(began)) if began != asked => {
                    let saw = format!("{} was restarted after it was asked, and replays", self.member.name);
                    OpProgress::Lost { saw }
                }
                (Some(_) | None, Ok(_) | Err(_)) => OpProgress::Running { percent: None },
            });
        }
        Ok(OpProgress::Finished)
    }

    /// Everything that can be done before the gap, and everything that would turn the gap into an outage.
    async fn settle_now(&self) -> Result<(), PgError> {
        let session = self.member.session().await?;
        let who = session.identity().await?;
        refuse_version(&self.member, who.version)?;
        if who.in_recovery {
            self.refuse_bad_candidate(&session).await?;
        }
        // Its reads run beside the checks after a promotion, not before them; login and first read happen now, outside of the gap.
        self.member.probe.warm_session().await?.synthetic_read().await?;
        if who.in_recovery {
            self.prepare_candidate(&session, who.timeline).await?;
        }
        session.run_within("write a checkpoint", "CHECKPOINT", CHECKPOINT_LIMIT).await
    }

    async fn prepare_candidate(&self, session: &Session, timeline: Timeline) -> Result<(), PgError> {
        let retry = session.setting("wal_retrieve_retry_interval").await?;
        if retry.as_deref() != Some("100ms") {
            session.shorten_retrieve_retry(RETRIEVE_RETRY).await?;
        }
        session.prepare_for_promotion().await?;
        // What is asked right after the promotion is asked once before it: the first time costs milliseconds. On a standby it changes
        // nothing.
        marked_roles(session).await?;
        lift_login_fences(session, None).await?;
        // A role that may not read files on a standby reads the history after the promotion, where it may.
        let _warm = session.history(timeline).await;
        // Only a matter of milliseconds: whatever keeps us from it stops nothing.
        let _in_time = timeout(LOGINS_LIMIT, self.log_in_everywhere(session)).await;
        Ok(())
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

    /// What changed for the worse since the rehearsal. Nothing of the candidate has been touched when this refuses it.
    async fn refuse_bad_candidate(&self, session: &Session) -> Result<(), PgError> {
        let psql = self.member.link.target().psql();
        let mut found = candidate::standing::look(session, &psql, None).await?;
        // Only a finding is worth a question to the primary, which may be silent: what is the same there is no finding.
        if !found.obstacles.is_empty()
            && let Some(primary) = primary_of(session, &self.member.peer_links).await
        {
            let default = candidate::standing::read_only_default(&primary).await?;
            found = candidate::standing::look(session, &psql, Some(&default)).await?;
        }
        let why: Vec<String> = found.obstacles.iter().map(|o| format!("{}: {}; {}", o.what, o.why, o.helps)).collect();
        if why.is_empty() {
            return Ok(());
        }
        Err(PgError::Refused { server: self.member.name.to_string(), why: why.join("; ") })
    }
}

/// Below 13 the promotion and its proofs work differently; nothing is tried there.
pub(crate) fn refuse_version(member: &Member, version: u32) -> Result<(), PgError> {
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

/// How slow a server is that is asked directly. A promotion ends with the replay of what the standby has received.
pub(crate) const PACE: ServicePace = ServicePace { poll_every: millis(1), visibility: millis(5), takes: seconds(20) };

#[async_trait]
impl ManagedDatabase for PostgresDatabase {
    async fn capabilities(&self) -> Result<Capabilities, ProviderError> {
        let mut offered = Capabilities::none();
        offered.promote = Some(PromoteOffer { takes: PACE.takes, rejoin: Rejoin::InPlace, restarts: false });
        offered.follow = Some(FollowOffer { takes: PACE.takes, by: FollowsBy::Verb });
        offered.poll_every = PACE.poll_every;
        offered.visibility = PACE.visibility;
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
        async { replication(&*self.member.session().await?, &self.member.peer_links).await }
            .await
            .map_err(unread("replication"))
    }

    async fn poll(&self, op: &OpHandle) -> Result<OpProgress, ProviderError> {
        match op.as_str().split_once('/') {
            Some(("promote", asked)) => self.poll_promotion(asked).await.map_err(unread("poll")),
            Some(("follow", primary)) => self.member.poll_follow(primary).await.map_err(unread("poll")),
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

    async fn follow(&self, request: FollowRequest) -> Outcome<()> {
        self.member.begin_follow(&request).await.unwrap_or_else(|e| undone(&e))
    }

    async fn raise_sequences(&self, request: RaiseSequences) -> Outcome<()> {
        let used = request.floors.values.into_iter().filter_map(|(name, last)| Some((name, last?.0)));
        let floors: Vec<(String, i64)> = used.collect();
        let raise = async { self.member.session().await?.raise_sequences(&floors, request.ahead).await };
        match raise.await {
            Ok(()) => Outcome::Done(()),
            Err(e) => undone(&e),
        }
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

    fn known_endpoint(&self) -> Option<dr_core::base::Endpoint> {
        Some(self.member.endpoint())
    }

    fn manual(&self, verb: &str) -> Vec<String> {
        crate::manual::database(&self.member, verb)
    }
}
