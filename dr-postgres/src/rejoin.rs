//! The way back of a former primary: follow, rewind or reseed, and always a streaming row at the end.
//!
//! ```text
//!   stopped cleanly before the switch point ─────────────► follow     standby.signal, primary_conninfo, slot, start
//!   own writes past it, or a crash      may_discard ─────► rewind     CHECKPOINT on the primary first, then pg_rewind
//!   rewind impossible or failed         may_discard ─────► reseed     pg_basebackup beside, then exchange the directories
//!                                       otherwise ───────► refused    data that only this server has is not destroyed
//! ```
//!
//! A rewind and a base backup copy the *primary's* configuration, its port included, and no `standby.signal`. So the node's own
//! files are saved beside the data directory first and put back before anything is started.

use std::{path::PathBuf, sync::Arc, time::Duration};

use dr_core::{Cause, OpHandle, OpProgress, Outcome, RejoinRequest};
use tokio::{task::JoinHandle, time::Instant};

use crate::{
    client::Session,
    conninfo::ConnInfo,
    control_data::{ClusterState, ControlData},
    error::PgError,
    look::Identity,
    lsn::{Fork, Timeline},
    member::{Member, Peer, never, slot_name, undone},
    server::{HostCommand, Postmaster},
};

/// What is known of a rejoin in this process. After a restart nothing is, and the servers are looked at.
#[derive(Debug, Default)]
pub(crate) struct RejoinTask {
    task: Option<JoinHandle<Result<(), PgError>>>,
    failed: Option<String>,
}

/// How a former primary comes back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    Follow,
    Rewind,
    Reseed,
}

enum Look {
    Streams,
    Going(Way),
    Outcome(Outcome<()>),
}

const START_LIMIT: Duration = Duration::from_secs(60);
const TOOL_LIMIT: Duration = Duration::from_secs(24 * 3600);
/// Node-specific files that a rewind or a base backup would replace.
const NODE_FILES: [&str; 5] =
    ["postgresql.conf", "postgresql.auto.conf", "pg_hba.conf", "pg_ident.conf", "dr_fence.users"];

impl Member {
    /// Looks at both servers, decides the way back and starts it; the handle tells how it goes.
    pub(crate) async fn begin_rejoin(member: &Arc<Self>, request: RejoinRequest) -> Outcome<()> {
        let handle = OpHandle::new(format!("rejoin/{}", request.primary.member));
        let mut rejoin = member.rejoin.lock().await;
        if rejoin.task.as_ref().is_some_and(|task| !task.is_finished()) {
            return Outcome::Accepted(handle);
        }
        let way = match member.look_for_a_way(&request).await {
            Ok(Look::Streams) => return Outcome::Done(()),
            Ok(Look::Outcome(outcome)) => return outcome,
            Ok(Look::Going(way)) => way,
            Err(e) => return undone(&e),
        };
        let worker = Arc::clone(member);
        let primary = request.primary.member;
        let task = async move { worker.come_back(&primary, way).await };
        *rejoin = RejoinTask { task: Some(tokio::spawn(task)), failed: None };
        Outcome::Accepted(handle)
    }

    /// How a rejoin stands: its task, then the only thing that counts, a streaming row on the primary's timeline.
    pub(crate) async fn poll_rejoin(&self, primary: &str) -> Result<OpProgress, PgError> {
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
        if self.streams_from(&primary.into()).await? {
            return Ok(OpProgress::Finished);
        }
        match self.server.postmaster().await? {
            Postmaster::Stopped if !self.tool_runs().await? => {
                Ok(OpProgress::Lost { saw: format!("{} is stopped and nothing works on it", self.name) })
            }
            Postmaster::Stopped | Postmaster::Changing(_) | Postmaster::Ready(_) => {
                Ok(OpProgress::Running { percent: None })
            }
        }
    }

    /// The postcondition: this server receives on the primary's current timeline, and the primary sends to it.
    async fn streams_from(&self, primary: &dr_core::MemberId) -> Result<bool, PgError> {
        let Ok(own) = self.session().await else { return Ok(false) };
        let (_, upstream) = self.peer_session(primary).await?;
        let (mine, theirs) = (own.identity().await?, upstream.identity().await?);
        if !mine.in_recovery || theirs.in_recovery || mine.system_identifier != theirs.system_identifier {
            return Ok(false);
        }
        let receiver = own.receiver().await?;
        if !receiver.streaming || receiver.timeline != Some(theirs.timeline) {
            return Ok(false);
        }
        let rows = upstream.senders().await?;
        Ok(rows.iter().any(|row| row.streaming && (row.name == self.name.as_str() || row.slot == Some(self.slot()))))
    }

    async fn look_for_a_way(&self, request: &RejoinRequest) -> Result<Look, PgError> {
        let conflict = |why: String| Ok(Look::Outcome(Outcome::Conflict(Cause::new(why))));
        let (_, upstream) = self.peer_session(&request.primary.member).await?;
        let theirs = upstream.identity().await?;
        if theirs.in_recovery || theirs.lineage() != request.primary.lineage {
            let (name, is, was) = (&request.primary.member, theirs.lineage(), &request.primary.lineage);
            return conflict(format!("{name} is not the primary of lineage {was} (it carries {is})"));
        }
        match self.server.postmaster().await? {
            Postmaster::Stopped => {}
            Postmaster::Changing(_) => return Ok(Look::Outcome(Outcome::accepted())),
            Postmaster::Ready(_) => {
                if !self.session().await?.in_recovery().await? {
                    return conflict(format!("{} runs as a primary; it has to be fenced first", self.name));
                }
                if self.streams_from(&request.primary.member).await? {
                    return Ok(Look::Streams);
                }
                return self.running_standby(request, &theirs, &upstream).await;
            }
        }
        if self.tool_runs().await? {
            return Ok(Look::Outcome(Outcome::accepted()));
        }
        let interrupted =
            self.server.control().read(&self.beside("dr-rejoin")).await?.is_some_and(|mark| !mark.is_empty());
        let data = self.server.control_data().await;
        let data = match data {
            Err(_) if interrupted => return Ok(Look::Going(Way::Reseed)),
            other => other?,
        };
        if data.system_identifier != theirs.system_identifier {
            let (mine, other) = (data.system_identifier, theirs.system_identifier);
            return conflict(format!("{} belongs to another cluster ({mine}, the primary is {other})", self.name));
        }
        if interrupted {
            return Ok(Look::Going(Way::Reseed));
        }
        let forks = upstream.history(theirs.timeline).await?;
        if data.timeline == theirs.timeline || ends_before_fork(&data, &forks) {
            return Ok(Look::Going(Way::Follow));
        }
        if !request.may_discard {
            let how = if data.is_clean_primary_stop() { "cleanly" } else { "by a crash" };
            let end = format!("ends {how} at or after {}", data.checkpoint);
            return Ok(Look::Outcome(self.would_discard(request, data.timeline, &end)));
        }
        let related = forks.iter().any(|fork| fork.parent == data.timeline);
        let way = if related && (data.checksums || data.wal_log_hints) { Way::Rewind } else { Way::Reseed };
        Ok(Look::Going(way))
    }

    fn would_discard(&self, request: &RejoinRequest, timeline: Timeline, end: &str) -> Outcome<()> {
        never(format!(
            "{} may hold writes that {} does not have (its history on timeline {timeline} {end}); allow discarding them, or save \
             them first",
            self.name, request.primary.member
        ))
    }

    /// A standby that runs and follows nobody, or somebody else: it is told whom to follow, unless it went another way.
    async fn running_standby(
        &self,
        request: &RejoinRequest,
        theirs: &Identity,
        upstream: &Session,
    ) -> Result<Look, PgError> {
        let mine = self.session().await?.identity().await?;
        if mine.system_identifier != theirs.system_identifier {
            let why = format!("{} belongs to another cluster", self.name);
            return Ok(Look::Outcome(Outcome::Conflict(Cause::new(why))));
        }
        let forks = upstream.history(theirs.timeline).await?;
        let behind = forks.iter().any(|fork| fork.parent == mine.timeline && mine.durable <= fork.at);
        if mine.timeline == theirs.timeline || behind {
            return Ok(Look::Going(Way::Follow));
        }
        if !request.may_discard {
            let end = format!("was received up to {}", mine.durable);
            return Ok(Look::Outcome(self.would_discard(request, mine.timeline, &end)));
        }
        Ok(Look::Going(Way::Reseed))
    }

    async fn come_back(&self, primary: &dr_core::MemberId, way: Way) -> Result<(), PgError> {
        let (peer, upstream) = self.peer_session(primary).await?;
        let conninfo = self.conninfo(peer, &upstream).await?;
        if self.server.postmaster().await? != Postmaster::Stopped {
            self.server.stop_fast(START_LIMIT).await?;
        }
        self.ensure_slot_at(peer, &upstream, &conninfo).await?;
        self.make_room(way, peer, &upstream, &conninfo).await?;
        self.configure(&conninfo).await?;
        self.server.control().remove(&self.beside("dr-rejoin")).await?;
        self.server.start().await?;
        self.server.await_ready(START_LIMIT).await?;
        self.tidy(peer, &upstream).await
    }

    /// Brings the data directory onto the primary's history. A rewind that fails half-way leaves the directory unusable: only a reseed
    /// helps then.
    async fn make_room(&self, way: Way, peer: &Peer, upstream: &Session, conninfo: &ConnInfo) -> Result<(), PgError> {
        if way == Way::Follow || (way == Way::Rewind && self.rewind(peer, upstream).await.is_ok()) {
            return Ok(());
        }
        self.reseed(conninfo).await
    }

    /// What the former roles left behind: the slot through which the new primary once followed would keep log for ever, and the short
    /// retry interval means nothing on a primary.
    async fn tidy(&self, peer: &Peer, upstream: &Session) -> Result<(), PgError> {
        let own = self.session().await?;
        let theirs = upstream.setting("primary_slot_name").await?.unwrap_or_default();
        for slot in own.slots().await? {
            if !slot.active && (slot.name == theirs || slot.name == slot_name(peer.name.as_str())) {
                self.drop_own_slot(&own, &slot.name).await?;
            }
        }
        if upstream.setting("wal_retrieve_retry_interval").await?.as_deref() == Some("100ms") {
            upstream.reset_and_load("wal_retrieve_retry_interval").await?;
        }
        Ok(())
    }

    /// How this server logs in at the primary. The login that the primary itself used as a standby works the other way round too.
    async fn conninfo(&self, peer: &Peer, upstream: &Session) -> Result<ConnInfo, PgError> {
        let base = match &self.login {
            Some(login) => {
                let base = ConnInfo::default().with("user", login.user.clone());
                match &login.password {
                    Some(password) => base.with("password", password.reveal()?),
                    None => base,
                }
            }
            None => {
                let text = upstream.setting("primary_conninfo").await?.unwrap_or_default();
                let info = ConnInfo::parse(&text).ok().filter(|info| info.get("user").is_some());
                info.ok_or_else(|| PgError::Refused {
                    server: self.name.to_string(),
                    why: "no login for replication is known; name one as `replication` in the member's table".into(),
                })?
            }
        };
        Ok(base
            .without("hostaddr")
            .with("host", peer.target.host.clone())
            .with("port", peer.target.port.to_string())
            .with("application_name", self.name.to_string()))
    }

    /// Whether a tool started by an earlier process still works on the directory: it holds the lock on the mark.
    async fn tool_runs(&self) -> Result<bool, PgError> {
        let mark = self.beside("dr-rejoin");
        if self.server.control().read(&mark).await?.is_none() {
            return Ok(false);
        }
        let test = ["flock".into(), "-n".into(), mark.to_string_lossy().into_owned(), "true".into()];
        match self.server.control().run(&HostCommand::new::<String>(test)).await {
            Ok(_) => Ok(false),
            Err(PgError::Program { .. }) => Ok(true),
            Err(e) => Err(e),
        }
    }

    /// Runs a tool under the lock on the mark, so that nobody starts a second one while it works.
    async fn tool(&self, name: &str, args: Vec<String>, password: Option<crate::Password>) -> Result<(), PgError> {
        let mark = self.beside("dr-rejoin");
        self.server.control().write(&mark, name.as_bytes()).await?;
        let mut argv =
            vec!["flock".into(), "-n".into(), mark.to_string_lossy().into_owned(), self.server.program(name)];
        argv.extend(args);
        let command = HostCommand::new(argv).within(TOOL_LIMIT).with_password(password);
        self.server.control().run(&command).await.map(drop)
    }

    async fn rewind(&self, peer: &Peer, upstream: &Session) -> Result<(), PgError> {
        // Until its first checkpoint the primary's control file names the old timeline, and a rewind would find nothing to do.
        upstream.run_within("write a checkpoint", "CHECKPOINT", Duration::from_secs(600)).await?;
        self.save_node_files().await?;
        let source = ConnInfo::default()
            .with("host", peer.target.host.clone())
            .with("port", peer.target.port.to_string())
            .with("user", peer.target.user.clone())
            .with("dbname", peer.target.database.clone());
        let data = self.server.site().data.to_string_lossy().into_owned();
        let mut args = vec!["-D".into(), data, format!("--source-server={}", source.text())];
        if let Some(config) = &self.server.site().config_file {
            args.push(format!("--config-file={}", config.display()));
        }
        self.tool("pg_rewind", args, peer.target.password.clone()).await
    }

    async fn reseed(&self, conninfo: &ConnInfo) -> Result<(), PgError> {
        self.save_node_files().await?;
        let (fresh, data) = (self.beside("dr-new"), self.server.site().data.clone());
        let text = |path: &PathBuf| path.to_string_lossy().into_owned();
        let control = self.server.control();
        control.run(&HostCommand::new(["rm".to_owned(), "-rf".into(), "--".into(), text(&fresh)])).await?;
        let password = conninfo.get("password").map(crate::Password::new);
        let from = conninfo.clone().without("password").text();
        let mut args: Vec<String> = ["-X", "stream", "-c", "fast", "-S"].map(Into::into).to_vec();
        args.extend([self.slot(), "-d".into(), from, "-D".into(), text(&fresh)]);
        self.tool("pg_basebackup", args, password).await?;
        // The old directory is kept: it may hold the only copy of writes that were lost.
        let since = Instant::now();
        let mut kept = self.beside("dr-old");
        let mut number = 1_u32;
        while control.run(&HostCommand::new(["test".to_owned(), "!".into(), "-e".into(), text(&kept)])).await.is_err() {
            number += 1;
            kept = self.beside(&format!("dr-old-{number}"));
            if since.elapsed() > START_LIMIT {
                return Err(PgError::Refused {
                    server: self.name.to_string(),
                    why: "too many kept directories".into(),
                });
            }
        }
        control.rename(&data, &kept).await?;
        control.rename(&fresh, &data).await
    }

    async fn save_node_files(&self) -> Result<(), PgError> {
        let control = self.server.control();
        for file in NODE_FILES {
            let kept = self.beside(&format!("dr-node.{file}"));
            // What an interrupted attempt saved is the original; the directory may hold the primary's by now.
            if control.read(&kept).await?.is_none()
                && let Some(contents) = control.read(&self.server.data(file)).await?
            {
                control.write(&kept, &contents).await?;
            }
        }
        Ok(())
    }

    /// Makes the directory that of a standby of the primary, whatever was copied into it.
    async fn configure(&self, conninfo: &ConnInfo) -> Result<(), PgError> {
        let control = self.server.control();
        control.write(&self.server.data("standby.signal"), b"").await?;
        for file in NODE_FILES {
            if let Some(contents) = control.read(&self.beside(&format!("dr-node.{file}"))).await? {
                control.write(&self.server.data(file), &contents).await?;
            }
        }
        let auto = self.server.data("postgresql.auto.conf");
        let now = control.read(&auto).await?.unwrap_or_default();
        let wanted = follow(&String::from_utf8_lossy(&now), conninfo, &self.slot());
        control.write(&auto, wanted.as_bytes()).await?;
        for file in NODE_FILES {
            control.remove(&self.beside(&format!("dr-node.{file}"))).await?;
        }
        Ok(())
    }

    /// A path beside the data directory: `main.dr-new`.
    fn beside(&self, suffix: &str) -> PathBuf {
        let data = &self.server.site().data;
        let name = data.file_name().map_or_else(Default::default, |name| name.to_string_lossy().into_owned());
        data.with_file_name(format!("{name}.{suffix}"))
    }
}

/// Whether everything that the data directory holds lies before the point at which the primary left its timeline.
fn ends_before_fork(data: &ControlData, forks: &[Fork]) -> bool {
    let Some(fork) = forks.iter().find(|fork| fork.parent == data.timeline) else { return false };
    match data.state {
        // The shutdown checkpoint is the last record; the primary replayed it, so it switched after it.
        ClusterState::ShutDown => data.is_clean_primary_stop() && data.checkpoint < fork.at,
        ClusterState::ShutDownInRecovery => data.checkpoint < fork.at && data.min_recovery <= fork.at,
        ClusterState::StartingUp
        | ClusterState::ShuttingDown
        | ClusterState::InCrashRecovery
        | ClusterState::InArchiveRecovery
        | ClusterState::InProduction => false,
    }
}

/// `postgresql.auto.conf` with exactly one word on whom to follow. A copied slot name would start a standby that never streams.
fn follow(auto: &str, conninfo: &ConnInfo, slot: &str) -> String {
    const OURS: [&str; 5] = [
        "primary_conninfo",
        "primary_slot_name",
        "recovery_target_timeline",
        "default_transaction_read_only",
        "wal_retrieve_retry_interval",
    ];
    let kept = auto.lines().filter(|line| {
        let key = line.split(['=', ' ', '\t']).next().unwrap_or_default();
        !OURS.contains(&key)
    });
    let mut text: String = kept.flat_map(|line| [line, "\n"]).collect();
    let value = |text: &str| text.replace('\'', "''");
    text.push_str(&format!("primary_conninfo = '{}'\n", value(&conninfo.text())));
    text.push_str(&format!("primary_slot_name = '{slot}'\nrecovery_target_timeline = 'latest'\n"));
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lsn::Lsn;

    #[test]
    fn a_configuration_names_one_primary_only() {
        let before = "# Do not edit\nprimary_conninfo = 'host=old'\nprimary_slot_name = 'sb2'\nwork_mem = '8MB'\n";
        let info = ConnInfo::default().with("host", "new").with("password", "it's");
        let after = follow(before, &info, "dr_pg1");
        assert!(!after.contains("sb2") && !after.contains("host=old"));
        assert!(after.contains("work_mem = '8MB'\n"));
        assert!(after.contains(r"primary_conninfo = 'host=''new'' password=''it\''s'''"), "{after}");
        assert_eq!(follow(&after, &info, "dr_pg1"), after);
    }

    fn data(state: ClusterState, checkpoint: u64, min_recovery: u64) -> ControlData {
        ControlData {
            state,
            system_identifier: 1,
            checkpoint: Lsn::new(checkpoint),
            redo: Lsn::new(checkpoint),
            timeline: Timeline::new(1),
            min_recovery: Lsn::new(min_recovery),
            min_recovery_timeline: Timeline::new(1),
            checksums: true,
            wal_log_hints: false,
            segment_bytes: 1 << 24,
        }
    }

    #[test]
    fn only_a_history_that_ended_before_the_fork_follows_without_a_rewind() {
        let forks = [Fork { parent: Timeline::new(1), at: Lsn::new(0x100) }];
        assert!(ends_before_fork(&data(ClusterState::ShutDown, 0x28, 0), &forks));
        assert!(!ends_before_fork(&data(ClusterState::ShutDown, 0x100, 0), &forks));
        assert!(!ends_before_fork(&data(ClusterState::InProduction, 0x28, 0), &forks));
        assert!(ends_before_fork(&data(ClusterState::ShutDownInRecovery, 0x28, 0x100), &forks));
        assert!(!ends_before_fork(&data(ClusterState::ShutDownInRecovery, 0x28, 0x101), &forks));
        assert!(!ends_before_fork(&data(ClusterState::ShutDown, 0x28, 0), &[]));
    }
}
