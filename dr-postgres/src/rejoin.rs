//! The way back of a former primary: follow, rewind or reseed, and at the end it replays what the primary writes.
//!
//! ```text
//!   runs behind a fence that keeps sessions out ─────────► stopped    cleanly, marked with standby.signal; then as below
//!   stopped cleanly before the switch point ─────────────► follow     standby.signal, primary_conninfo, slot, start
//!   own writes past it, or a crash      may_discard ─────► rewind     CHECKPOINT on the primary first, then pg_rewind
//!   rewind impossible or failed         may_discard ─────► reseed     pg_basebackup beside, then exchange the directories
//!   only housekeeping past it           ─────────────────► either     nothing is lost by it
//!                                       otherwise ───────► refused    data that only this server has is not destroyed
//! ```
//!
//! A rewind and a base backup copy the *primary's* configuration, its port included, and no `standby.signal`. So the node's own
//! files are saved beside the data directory first and put back before anything is started, and what the files of a former life
//! would make the server do is neutralised. Every act can be interrupted; a rejoin that is asked for again goes on from what is there.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use dr_core::{
    MemberId, Outcome,
    contract::{OpProgress, RejoinRequest},
};
use dr_sql::{ConnInfo, Lsn, PgError, Session, undone};
use tokio::{
    task::JoinHandle,
    time::{Instant, sleep},
};

use crate::{
    member::{Member, Peer, slot_name},
    rejoin::started::write_marker,
    server::{POLL, Phase, Postmaster},
};

mod files;
mod housekeeping;
mod places;
mod rehearse;
mod reseed;
mod settings;
mod started;
mod way;

use places::Places;
use reseed::Mark;
use settings::{COMMANDS, Following};
use started::Seen;
use way::{Look, Start, Way};

/// What is known of a rejoin in this process. After a restart nothing is, and the servers are looked at.
#[derive(Debug, Default)]
pub(crate) struct RejoinTask {
    task: Option<JoinHandle<Result<(), PgError>>>,
    failed: Option<String>,
    /// What a look of this process has the member replay, when no task of it saw that.
    marker: Option<Lsn>,
}

impl RejoinTask {
    /// Whether nothing of this process works on the member.
    pub(crate) fn is_over(&self) -> bool {
        self.task.as_ref().is_none_or(JoinHandle::is_finished)
    }
}

/// How a member that streams already replays.
enum Replay {
    /// It has replayed what was written a moment ago.
    Arrived,
    /// Not yet.
    Moves,
    /// It never will: a start helps, once what stopped it was mended.
    Paused,
}

/// How long a member that streams already is watched for its replay before the handle has to tell.
const REPLAYS_WITHIN: Duration = Duration::from_secs(2);
const STOP_LIMIT: Duration = Duration::from_secs(60);
/// How long a rejoin waits for a server that comes or goes.
const ANSWERS_WITHIN: Duration = Duration::from_secs(60);
/// How long a server that was told to stop is left to its archiver and its standbys.
const LEAVES_WITHIN: Duration = Duration::from_secs(10);
const TOOL_LIMIT: Duration = Duration::from_secs(24 * 3600);

impl Member {
    /// Looks at both servers, decides the way back and starts it; the handle tells how it goes.
    pub(crate) async fn begin_rejoin(member: &Arc<Self>, request: RejoinRequest) -> Outcome<()> {
        let handle = format!("rejoin/{}", request.primary.member);
        let begun = || Outcome::accepted_as(handle.as_str());
        let mut rejoin = member.rejoin.lock().await;
        if rejoin.task.as_ref().is_some_and(|task| !task.is_finished()) {
            return begun();
        }
        let start = match member.look_for_a_way(&request).await {
            Ok(Look::Follows) => match member.replays_from(&request.primary.member).await {
                Ok(Replay::Arrived) => return Outcome::Done(()),
                Ok(Replay::Moves) => {
                    *rejoin = RejoinTask::default();
                    return begun();
                }
                Ok(Replay::Paused) => Start::Known(Way::Follow),
                Err(e) => return undone(&e),
            },
            Ok(Look::Outcome(outcome)) => return outcome,
            Ok(Look::Going(start)) => start,
            Err(e) if e.is_passing() => {
                let worker = Arc::clone(member);
                let task = async move { worker.come_back_later(&request).await };
                *rejoin = RejoinTask { task: Some(tokio::spawn(task)), ..RejoinTask::default() };
                return begun();
            }
            Err(e) => return undone(&e),
        };
        let worker = Arc::clone(member);
        let task = async move { worker.come_back(&request, start).await };
        *rejoin = RejoinTask { task: Some(tokio::spawn(task)), ..RejoinTask::default() };
        begun()
    }

    /// Whether a member that streams replays too: streaming alone is no rejoin.
    async fn replays_from(&self, primary: &MemberId) -> Result<Replay, PgError> {
        let marker = write_marker(&self.peer_session(primary).await?.1).await?;
        let begun = Instant::now();
        while begun.elapsed() < REPLAYS_WITHIN {
            if self.seen(primary, marker).await? == Seen::Follows {
                return Ok(Replay::Arrived);
            }
            sleep(POLL).await;
        }
        Ok(if self.session().await?.receiver().await?.paused { Replay::Paused } else { Replay::Moves })
    }

    /// How a rejoin stands: its task, then the only thing that counts, a streaming row and a replayed marker.
    pub(crate) async fn poll_rejoin(&self, primary: &str) -> Result<OpProgress, PgError> {
        let primary = MemberId::new(primary);
        let mut rejoin = self.rejoin.lock().await;
        if let Some(task) = rejoin.task.take_if(|task| task.is_finished()) {
            rejoin.failed = match task.await {
                Ok(Ok(())) => None,
                Ok(Err(e)) => Some(e.chain()),
                Err(e) => Some(e.to_string()),
            };
        }
        if rejoin.task.is_some() {
            return Ok(OpProgress::Running { percent: None });
        }
        if let Some(why) = &rejoin.failed {
            return Ok(OpProgress::Failed { why: why.clone() });
        }
        match self.server.postmaster().await? {
            Postmaster::Stopped if !self.tool_runs(&self.places().await?).await? => {
                Ok(OpProgress::Lost { saw: format!("{} is stopped and nothing works on it", self.name) })
            }
            Postmaster::Changing(_) if self.server.census(None, None).await?.phase == Phase::Stopping => {
                Ok(OpProgress::Lost { saw: format!("{} stops and nothing works on it", self.name) })
            }
            Postmaster::Stopped | Postmaster::Changing(_) => Ok(OpProgress::Running { percent: None }),
            Postmaster::Ready(_) => self.poll_running(&primary, &mut rejoin).await,
        }
    }

    /// How a standby that was pointed at another primary stands: it streams, and has replayed what that one wrote afterwards.
    pub(crate) async fn poll_follow(&self, primary: &str) -> Result<OpProgress, PgError> {
        self.poll_running(&MemberId::new(primary), &mut *self.rejoin.lock().await).await
    }

    /// A server that runs, looked at without a task of our own. It is not stopped here, whatever it does: an old handle may be asked for
    /// when the roles have changed again.
    async fn poll_running(&self, primary: &MemberId, rejoin: &mut RejoinTask) -> Result<OpProgress, PgError> {
        let (_, upstream) = self.peer_session(primary).await?;
        let theirs = upstream.identity().await?;
        if theirs.in_recovery {
            return Ok(OpProgress::Lost { saw: format!("{primary} is no primary any more") });
        }
        let marker = match rejoin.marker {
            Some(marker) => marker,
            None => write_marker(&upstream).await?,
        };
        rejoin.marker = Some(marker);
        Ok(match self.seen(primary, marker).await? {
            Seen::Follows => OpProgress::Finished,
            Seen::NotYet(..) => OpProgress::Running { percent: None },
            Seen::Writes(who) => {
                let forks = upstream.history(theirs.timeline).await?;
                let saw = format!("{} takes writes on timeline {} beside {primary}", self.name, who.timeline);
                if forks.iter().any(|fork| fork.parent == who.timeline) {
                    OpProgress::Lost { saw: format!("{saw}: it was not stopped yet") }
                } else {
                    OpProgress::Failed { why: format!("{saw}: it left recovery; fence it before anything else") }
                }
            }
        })
    }

    /// One of the two servers says nothing now, such as a primary that a crash made start again.
    async fn come_back_later(&self, request: &RejoinRequest) -> Result<(), PgError> {
        let begun = Instant::now();
        loop {
            match self.look_for_a_way(request).await {
                Ok(Look::Going(start)) => return self.come_back(request, start).await,
                Ok(Look::Follows) => return Ok(()),
                Ok(Look::Outcome(Outcome::Accepted(_))) if begun.elapsed() < ANSWERS_WITHIN => {}
                Ok(Look::Outcome(outcome)) => return Err(self.refused(words(outcome))),
                Err(e) if e.is_passing() && begun.elapsed() < ANSWERS_WITHIN => {}
                Err(e) => return Err(e),
            }
            sleep(POLL * 50).await;
        }
    }

    async fn come_back(&self, request: &RejoinRequest, start: Start) -> Result<(), PgError> {
        let primary = &request.primary.member;
        let (peer, upstream) = self.peer_session(primary).await?;
        let following = self.following(peer, &upstream).await?;
        if self.server.postmaster().await? != Postmaster::Stopped {
            self.stop_marked().await?;
        }
        let places = self.places().await?;
        let way = match start {
            Start::Known(way) => way,
            Start::StopFirst => self.way_after_stop(request, &upstream, &places).await?,
        };
        self.ensure_slot_at(peer, &upstream, &following.conninfo).await?;
        let (slot, name) = (&following.slot, &peer.name);
        self.follow(way, (&places, &following), (peer, &upstream)).await.map_err(|e| {
            let keeps = format!("the slot `{slot}` on {name} keeps log for it until it follows or the slot is dropped");
            PgError::Refused {
                server: self.name.to_string(),
                why: format!("{}; {keeps}", without_name(&e, self.name.as_str())),
            }
        })
    }

    async fn follow(
        &self,
        way: Way,
        (places, following): (&Places, &Following),
        (peer, upstream): (&Peer, &Session),
    ) -> Result<(), PgError> {
        self.make_room(way, (places, following), (peer, upstream)).await?;
        let data = &self.server.site().data;
        self.configure(data, following).await?;
        self.forget_copies(places).await?;
        self.forget_mark(places).await?;
        self.neutralise(data, following).await?;
        self.start_and_follow(&peer.name, upstream).await?;
        self.tidy(upstream).await
    }

    async fn way_after_stop(
        &self,
        request: &RejoinRequest,
        upstream: &Session,
        places: &Places,
    ) -> Result<Way, PgError> {
        match self.after_a_stop(request, upstream, places).await? {
            Look::Going(Start::Known(way)) => Ok(way),
            Look::Going(Start::StopFirst) | Look::Follows => Err(self.refused("it did not stop")),
            Look::Outcome(outcome) => {
                Err(self.refused(format!("it was stopped and stays stopped: {}", words(outcome))))
            }
        }
    }

    /// Brings the data directory onto the primary's history. A rewind that fails half-way leaves the directory unusable: only a reseed
    /// helps then.
    async fn make_room(
        &self,
        way: Way,
        (places, following): (&Places, &Following),
        (peer, upstream): (&Peer, &Session),
    ) -> Result<(), PgError> {
        let failed = match way {
            Way::Follow => return Ok(()),
            Way::Rewind => match self.rewind(places, peer, upstream).await {
                Ok(()) => return self.put_node_files_back(places, &places.data.real).await,
                Err(e) => Some(e),
            },
            Way::Reseed => None,
        };
        let copied = match self.mark(places).await? {
            Mark::Exchange(exchange) => self.exchange(&exchange).await,
            Mark::None | Mark::Copy | Mark::Rewind => self.reseed(places, upstream, following).await,
        };
        copied.map_err(|e| match failed {
            Some(rewind) => self.refused(format!("{}; before that, {}", e.chain(), rewind.chain())),
            None => e,
        })
    }

    /// What the former roles left behind: the slots through which the other members once followed would keep log for ever, and the short
    /// retry interval means nothing on a primary.
    async fn tidy(&self, upstream: &Session) -> Result<(), PgError> {
        let own = self.session().await?;
        let theirs = upstream.setting("primary_slot_name").await?.unwrap_or_default();
        for slot in own.slots().await? {
            let of_member = self.peers.iter().any(|other| slot.name == slot_name(other.name.as_str()));
            if !slot.active && (slot.name == theirs || of_member) {
                self.drop_own_slot(&own, &slot.name).await?;
            }
        }
        if upstream.setting("wal_retrieve_retry_interval").await?.as_deref() == Some("100ms") {
            upstream.reset_and_load("wal_retrieve_retry_interval").await?;
        }
        Ok(())
    }

    /// Whom this server will follow, and how.
    async fn following(&self, peer: &Peer, upstream: &Session) -> Result<Following, PgError> {
        let mut commands = BTreeMap::new();
        for name in COMMANDS {
            commands.insert(name.to_owned(), upstream.setting(name).await?.unwrap_or_default());
        }
        Ok(Following { conninfo: self.conninfo(peer, upstream).await?, slot: self.slot(), commands })
    }

    /// How this server logs in at the primary. The login that the primary itself used as a standby works the other way round too.
    pub(crate) async fn conninfo(&self, peer: &Peer, upstream: &Session) -> Result<ConnInfo, PgError> {
        // What names the host that the standby followed, or what only that one has.
        const OF_THE_OTHER: [&str; 5] =
            ["hostaddr", "service", "target_session_attrs", "load_balance_hosts", "replication"];
        let base = match &self.login {
            Some(login) => {
                let base = ConnInfo::default().with("user", login.user.clone());
                match &login.password {
                    Some(password) => base.with("password", password.reveal().await?),
                    None => base,
                }
            }
            None => self.as_the_standby(peer, upstream).await?,
        };
        let base = OF_THE_OTHER.into_iter().fold(base, ConnInfo::without);
        Ok(base
            .with("host", peer.target.host.clone())
            .with("port", peer.target.port.to_string())
            .with("application_name", self.name.to_string()))
    }

    async fn as_the_standby(&self, peer: &Peer, upstream: &Session) -> Result<ConnInfo, PgError> {
        let helps = format!("set `replication = {{ user, password }}` in the table of {}", self.name);
        let text = upstream.setting("primary_conninfo").await?.unwrap_or_default();
        let info = ConnInfo::parse(&text).map_err(|e| {
            self.refused(format!(
                "how {} logs in for replication cannot be read from its primary_conninfo ({e}); {helps}",
                peer.name
            ))
        })?;
        if let Some(service) = info.get("service") {
            return Err(self.refused(format!(
                "{} logs in for replication through the service `{service}` of its own host, which is not known here; {helps}",
                peer.name
            )));
        }
        if info.get("user").is_none() {
            return Err(
                self.refused(format!("no login for replication is known: {} names no user; {helps}", peer.name))
            );
        }
        Ok(info)
    }
}

/// The message of an error without the member's name in front, where it is named already.
fn without_name(error: &PgError, name: &str) -> String {
    let chain = error.chain();
    chain.strip_prefix(name).and_then(|rest| rest.strip_prefix(": ")).map_or_else(|| chain.clone(), str::to_owned)
}

fn words(outcome: Outcome<()>) -> String {
    match outcome {
        Outcome::NotDone(reason) => reason.cause.to_string(),
        Outcome::Conflict(cause) | Outcome::Unknown(cause) => cause.to_string(),
        Outcome::Done(()) | Outcome::Accepted(_) => String::new(),
    }
}
