//! The fence by a clean stop (L3): supervisor disabled, the proved process told to stop, `standby.signal` left behind.
//!
//! ```text
//!   engage    place proved ──► unit masked ──► signal to that process ──► mark          nothing proved, nothing sent
//!   inspect   stopping ──► control file `shut down`, or process gone and log read ──┐
//!             addresses silent once (while it stops) ─────────────────────────────── ├─► confirmed
//!             addresses silent again, end not before what was seen or received ─────┘
//! ```

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use async_trait::async_trait;
use dr_core::{
    Cause, Fence, Grade, Millis, Outcome, ProviderError,
    base::Json,
    contract::{Effort, EngageFence, FenceReading, FenceToken, Planes, Reach, Rehearsal, ReleaseOrder, RetireFence},
    millis,
};
use dr_sql::{Effect, PgError, Probed, now, undone, unread};
use tokio::{
    sync::Mutex,
    time::{sleep, timeout},
};

use crate::{
    fence::not_its_own,
    manual,
    member::{Member, identity},
    place::is_directory_of,
    server::{POLL, Phase, Postmaster, Process, Stop},
    stopped::{Closing, Watch},
};

/// The clean stop: supervisor disabled, fast shutdown, `standby.signal` left in the data directory so that whatever starts the
/// server again starts no second primary. Read back from the process table, the control file, and every address of the member.
#[derive(Debug)]
pub struct StopFence {
    member: Arc<Member>,
    watch: Mutex<Watch>,
}

/// What our own `standby.signal` contains; PostgreSQL does not read it.
pub(crate) const MARK: &[u8] = b"left by the disaster-recovery toolkit: this server was fenced\n";

/// How long one look waits for a server that stops: whoever looks again pays for a pause in between.
const LOOK_LIMIT: Duration = Duration::from_secs(1);
/// How long one act waits for the host: clients wait meanwhile.
const HOST_LIMIT: Duration = Duration::from_secs(2);
/// How long the question whom to stop may take.
const WHOM_LIMIT: Duration = Duration::from_secs(5);
/// How long a server whose host says nothing has to go on before it counts as one that was not stopped.
const GOES_ON: Duration = Duration::from_millis(250);
/// How long a release lets a clean stop go on before it ends it the hard way.
const RELEASE_PATIENCE: Duration = Duration::from_secs(3);
/// How long what was ended the hard way, or started, may take.
const LIMIT: Duration = Duration::from_secs(60);

impl StopFence {
    /// The stop of `member`.
    #[must_use]
    pub fn new(member: Arc<Member>) -> Self {
        Self { member, watch: Mutex::default() }
    }

    /// The process to stop: the one that was proved; of a server that says nothing, the one on the directory, if the directory is
    /// no other member's. None if nothing runs.
    async fn whom(&self) -> Result<Option<Process>, PgError> {
        let server = &self.member.server;
        let refuse = |why: String| PgError::Refused { server: self.member.name.to_string(), why };
        match self.member.place().await {
            Ok((_, place)) => return Ok(Some(place.process)),
            Err(e) if e.is_passing() => {}
            Err(e @ PgError::Connect { .. }) => {
                let why = format!("something answers at its address and cannot be proved to be it ({})", e.chain());
                return Err(refuse(why));
            }
            Err(e) => return Err(e),
        }
        let census = server.census(None, None).await?;
        if census.directory.is_none() {
            return Err(refuse(format!("its configured directory {} does not exist", server.site().data.display())));
        }
        let Some(process) = census.server() else { return Ok(None) };
        let data = server.site().data.display();
        if self.mark_of().await? == MarkOf::Another {
            return Err(refuse(format!("{data} is the directory of a standby, and this member writes")));
        }
        for (peer, link) in self.member.peers.iter().zip(&self.member.peer_links) {
            let Ok(Ok(session)) = timeout(LOOK_LIMIT, link.session()).await else { continue };
            if is_directory_of(server, &session).await? {
                return Err(refuse(format!("{data} is the directory of `{}`, which answers", peer.name)));
            }
        }
        Ok(Some(process))
    }

    /// Signals first, marks while the server writes its last checkpoint: the mark costs no time in the gap. Until the signal left,
    /// every failure is one of nothing done.
    async fn stop(&self) -> Outcome<()> {
        let server = &self.member.server;
        let whom = match timeout(WHOM_LIMIT, self.whom()).await.unwrap_or_else(|_| Err(self.is_late(WHOM_LIMIT))) {
            Ok(whom) => whom,
            Err(e) => return Outcome::refused(format_args!("nothing was sent: {}", e.chain())),
        };
        if let Err(e) = server.disable_supervisor().await {
            return self.not_sent(&e).await;
        }
        if let Some(process) = whom {
            let sent = timeout(HOST_LIMIT, server.signal(process, Stop::Fast)).await;
            match sent.unwrap_or_else(|_| Err(self.is_late(HOST_LIMIT))) {
                Ok(_) => self.hurry_later(process),
                Err(e) if e.effect() == Effect::None => return self.not_sent(&e).await,
                Err(e) => return Outcome::unknown(e.chain()),
            }
        }
        match self.mark(whom).await {
            Ok(()) => Outcome::accepted_as(format!("stop/{}", self.member.name)),
            Err(e) if whom.is_none() => self.not_sent(&e).await,
            Err(e) => Outcome::unknown(e.chain()),
        }
    }

    async fn not_sent(&self, error: &PgError) -> Outcome<()> {
        // What may have been masked meanwhile must not outlive the refusal; a unit that cannot be asked was not masked either.
        let _as_it_was = self.member.server.enable_supervisor().await;
        Outcome::refused(format_args!("the server was not told to stop: {}", error.chain()))
    }

    async fn mark(&self, whom: Option<Process>) -> Result<(), PgError> {
        let server = &self.member.server;
        if self.mark_of().await? == MarkOf::Nobody {
            server.control().write(&server.data(SIGNAL_FILE), MARK).await?;
        }
        // The next look shall find a server that stops, not one that is about to.
        let begun = Instant::now();
        while let (Some(Process { pid, .. }), true) = (whom, begun.elapsed() < LOOK_LIMIT) {
            if server.postmaster().await? != Postmaster::Ready(pid) {
                break;
            }
            sleep(POLL).await;
        }
        Ok(())
    }

    /// A stop that hangs before its last checkpoint is made an immediate one: a stuck sender would hold it up for ever.
    fn hurry_later(&self, process: Process) {
        let (server, after) = (self.member.server.clone(), self.member.stop_within);
        tokio::spawn(async move {
            sleep(after).await;
            let stuck = async {
                let census = server.census(None, None).await?;
                let same = census.server() == Some(process) && census.phase == Phase::Stopping;
                Ok::<_, PgError>(same && !server.control_data().await?.is_clean_primary_stop())
            };
            if stuck.await.unwrap_or(false) {
                // Whoever looks sees what became of it.
                let _seen_by_looks = server.signal(process, Stop::Immediate).await;
            }
        });
    }

    fn is_late(&self, after: Duration) -> PgError {
        PgError::Late { server: self.member.name.to_string(), what: "answer on its host".into(), after }
    }

    async fn look(&self) -> Result<FenceReading, PgError> {
        match timeout(HOST_LIMIT, self.member.server.postmaster())
            .await
            .unwrap_or_else(|_| Err(self.is_late(HOST_LIMIT)))
        {
            Ok(process) => self.look_at(process).await,
            Err(silent) => self.without_host(silent).await,
        }
    }

    /// The host cannot be asked. A session that was proved to belong to this very server still tells one thing: it was not stopped, if it
    /// commits writes now and a moment later. Whatever else it says proves nothing.
    async fn without_host(&self, silent: PgError) -> Result<FenceReading, PgError> {
        let Some(session) = self.member.proved_session() else { return Err(silent) };
        let goes_on = async {
            let writes = matches!(session.probe_write("look").await?, Probed::Written(_) | Probed::ReadOnly);
            sleep(GOES_ON).await;
            let still = matches!(session.probe_write("look").await?, Probed::Written(_) | Probed::ReadOnly);
            if writes && still { session.identity().await.map(Some) } else { Ok::<_, PgError>(None) }
        };
        let Ok(Ok(Some(who))) = timeout(HOST_LIMIT, goes_on).await else { return Err(silent) };
        *self.watch.lock().await = Watch::default();
        Ok(FenceReading {
            unread: Vec::new(),
            address: Some(self.member.address()),
            identity: Some(identity(&who.lineage())),
            lineage: Some(who.lineage()),
            planes: Planes::default(),
            silent: false,
            end: None,
            lapses_at: None,
            detail: format!("its server takes writes, and its host cannot be asked: {}", silent.chain()),
            at: now(),
        })
    }

    async fn look_at(&self, process: Postmaster) -> Result<FenceReading, PgError> {
        let server = &self.member.server;
        if let Postmaster::Ready(pid) = process {
            match self.ready(pid).await {
                // It was told to stop a moment ago.
                Err(e)
                    if !matches!(e, PgError::Refused { .. })
                        && server.postmaster().await? != Postmaster::Ready(pid) => {}
                told => {
                    *self.watch.lock().await = Watch::default();
                    return told;
                }
            }
        }
        let mut watch = self.watch.lock().await;
        let end = match server.postmaster().await? {
            Postmaster::Stopped => Closing::Gone,
            Postmaster::Changing(_) | Postmaster::Ready(_) => self.stopping(&mut watch).await?,
        };
        self.member.stopped(&mut watch, end).await
    }

    async fn ready(&self, pid: i32) -> Result<FenceReading, PgError> {
        let (session, _) = self.member.place().await?;
        let who = session.identity().await?;
        let standby = who.in_recovery;
        let planes = if standby { Planes::all(Grade::Confirmed) } else { Planes::default() };
        let words = if standby { "a standby" } else { "a primary" };
        Ok(FenceReading {
            unread: Vec::new(),
            address: Some(self.member.address()),
            identity: Some(identity(&who.lineage())),
            lineage: Some(who.lineage()),
            planes,
            silent: false,
            end: None,
            lapses_at: None,
            detail: format!("server process {pid} runs as {words} on timeline {}", who.timeline),
            at: now(),
        })
    }

    /// Waits until a stopping server has written its last checkpoint or is gone, for a moment. A server that starts, or that is not
    /// through in that time, is neither fenced nor unfenced: it is looked at again.
    async fn stopping(&self, watch: &mut Watch) -> Result<Closing, PgError> {
        let server = &self.member.server;
        let late = |what: &str| PgError::Late {
            server: self.member.name.to_string(),
            what: what.to_owned(),
            after: LOOK_LIMIT,
        };
        let census = server.census(None, None).await?;
        let Some(process) = census.server() else { return Ok(Closing::Gone) };
        if census.phase != Phase::Stopping {
            return Err(late("come up as what it is started as"));
        }
        let begun = Instant::now();
        let wait = async {
            while begun.elapsed() < LOOK_LIMIT {
                if server.postmaster().await? == Postmaster::Stopped {
                    return Ok(Some(Closing::Gone));
                }
                let slow = begun.elapsed() > SLOW;
                if slow && server.control_data().await?.is_clean_primary_stop() {
                    return Ok(Some(Closing::Archiving(process.pid)));
                }
                sleep(if slow { POLL * 5 } else { POLL }).await;
            }
            Ok::<_, PgError>(None)
        };
        let (end, ()) = tokio::join!(wait, self.member.first_look(watch));
        end?.ok_or_else(|| late("stop"))
    }
}

/// PostgreSQL starts as a standby where it finds this file.
const SIGNAL_FILE: &str = "standby.signal";

/// Who left the signal file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum MarkOf {
    Nobody,
    ThisFence,
    Another,
}

/// After this long a stopping server's control file is looked at too.
const SLOW: Duration = Duration::from_millis(60);

impl StopFence {
    async fn start_again(&self, order: &ReleaseOrder) -> Result<Outcome<()>, PgError> {
        let server = &self.member.server;
        server.end_stopping(RELEASE_PATIENCE).await?;
        if server.postmaster().await? != Postmaster::Stopped
            && let Some(outcome) = self.already_runs().await?
        {
            return Ok(outcome);
        }
        let (is, was) = (server.control_data().await?.lineage(), &order.target().lineage);
        if is != *was {
            let why = format!("{} carries lineage {is}, the fence was for {was}", self.member.name);
            return Ok(Outcome::Conflict(Cause::new(why)));
        }
        if self.mark_of().await? == MarkOf::Another {
            let why = format!("{} is configured as a standby, and not by this fence", self.member.name);
            return Ok(Outcome::Conflict(Cause::new(why)));
        }
        server.control().remove(&server.data(SIGNAL_FILE)).await?;
        server.start().await?;
        server.await_ready(LIMIT).await?;
        self.writes_again().await
    }

    /// What is left to do for a server that runs; none if it has to be started again, which it then is ready for.
    async fn already_runs(&self) -> Result<Option<Outcome<()>>, PgError> {
        let server = &self.member.server;
        server.await_ready(LIMIT).await?;
        let (session, place) = self.member.place().await?;
        if !session.identity().await?.in_recovery {
            return self.writes_again().await.map(Some);
        }
        // Our mark made it a standby when somebody started it meanwhile; without the mark it is what it was.
        if self.mark_of().await? != MarkOf::ThisFence {
            let why = format!("{} runs as a standby, and not by this fence", self.member.name);
            return Ok(Some(Outcome::Conflict(Cause::new(why))));
        }
        server.signal(place.process, Stop::Fast).await?;
        server.await_stopped(LIMIT).await?;
        Ok(None)
    }

    async fn mark_of(&self) -> Result<MarkOf, PgError> {
        let server = &self.member.server;
        Ok(match server.control().read(&server.data(SIGNAL_FILE)).await? {
            None => MarkOf::Nobody,
            Some(mark) if mark == MARK => MarkOf::ThisFence,
            Some(_) => MarkOf::Another,
        })
    }

    /// The mark and the mask are gone, and a write is committed: only then is the fence given back.
    async fn writes_again(&self) -> Result<Outcome<()>, PgError> {
        let server = &self.member.server;
        if self.mark_of().await? == MarkOf::ThisFence {
            server.control().remove(&server.data(SIGNAL_FILE)).await?;
        }
        server.enable_supervisor().await?;
        *self.watch.lock().await = Watch::default();
        let (session, _) = self.member.place().await?;
        Ok(match session.probe_write("release").await? {
            // One that is read-only by default is a primary as it was before the fence.
            Probed::Written(_) | Probed::ReadOnly => Outcome::Done(()),
            Probed::Replays => {
                Outcome::not_done_yet(format_args!("{} runs and takes no writes yet", self.member.name), millis(100))
            }
        })
    }
}

#[async_trait]
impl Fence for StopFence {
    fn name(&self) -> String {
        "postgres.stop".into()
    }

    /// A stop needs the host alone, whatever the server says. Whether the host answers is known since it was asked what became of a
    /// server that is silent.
    fn offers(&self, _reach: Reach) -> Planes {
        if self.member.host_is_closed() { Planes::default() } else { Planes::all(Grade::Confirmed) }
    }

    /// What is out of reach is told by the host, not by the ways of `reach`.
    fn out_of_reach(&self, _reach: Reach) -> Vec<String> {
        if self.member.host_is_closed() { vec![self.name()] } else { Vec::new() }
    }

    /// Nothing needs to be remembered: what this fence makes carries its own mark. A server that says nothing is proved by what its
    /// host says when the fence is engaged.
    async fn prepare(&self) -> Result<FenceToken, ProviderError> {
        if let Err(e @ PgError::Refused { .. }) = self.member.place().await {
            return Err(unread("prepare")(e));
        }
        self.member.learn_addresses().await;
        Ok(FenceToken { fence: self.name(), state: Json::default(), known: true })
    }

    async fn rehearse(&self, effort: Effort) -> Result<Rehearsal, ProviderError> {
        Ok(self.member.rehearse_stop(effort).await)
    }

    async fn engage(&self, _request: EngageFence) -> Outcome<()> {
        self.stop().await
    }

    async fn inspect(&self) -> Result<FenceReading, ProviderError> {
        self.look().await.map_err(unread("inspect"))
    }

    async fn release(&self, order: ReleaseOrder) -> Outcome<()> {
        if let Some(conflict) = not_its_own(&self.member, &order) {
            return conflict;
        }
        self.start_again(&order).await.unwrap_or_else(|e| undone(&e))
    }

    /// The mark is the standby's own signal now, and the supervisor was enabled when it was started.
    async fn retire(&self, request: RetireFence) -> Outcome<()> {
        match self.member.still_a_standby(&request.target.lineage).await {
            Ok(None) => Outcome::Done(()),
            Ok(Some(outcome)) => outcome,
            Err(e) => undone(&e),
        }
    }

    fn poll_every(&self) -> Millis {
        millis(1)
    }

    fn manual(&self, verb: &str) -> Vec<String> {
        manual::stop(&self.member, verb)
    }
}
