//! Which way back a former primary has, from what both servers say.

use dr_core::{Cause, Outcome, contract::RejoinRequest};
use dr_sql::{Fork, Identity, PgError, Session, Timeline, never};

use super::{housekeeping::only_housekeeping, places::Places, reseed::Mark};
use crate::{
    control_data::{ClusterState, ControlData},
    member::Member,
    rejoin::places::tablespaces,
    server::{HostCommand, Phase, Postmaster},
};

/// How a former primary comes back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Way {
    /// Its history ends before the primary's began: it starts and follows.
    Follow,
    /// Its history went on: `pg_rewind` takes it back.
    Rewind,
    /// The primary is copied anew.
    Reseed,
}

/// How a rejoin begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Start {
    /// The way is known.
    Known(Way),
    /// It runs behind a fence that keeps sessions out. It has to be stopped, and then its control file tells.
    StopFirst,
}

/// What a look at both servers came to.
pub(super) enum Look {
    /// It follows, as far as it can be seen from here.
    Follows,
    Going(Start),
    Outcome(Outcome<()>),
}

impl Member {
    pub(super) async fn look_for_a_way(&self, request: &RejoinRequest) -> Result<Look, PgError> {
        let (_, upstream) = self.peer_session(&request.primary.member).await?;
        let theirs = upstream.identity().await?;
        if theirs.in_recovery || theirs.lineage() != request.primary.lineage {
            let (name, is, was) = (&request.primary.member, theirs.lineage(), &request.primary.lineage);
            return Ok(conflict(format!("{name} is not the primary of lineage {was} (it carries {is})")));
        }
        match self.server.postmaster().await? {
            Postmaster::Stopped => {}
            // A fence lets a server stop that waits for its archive only.
            Postmaster::Changing(_) if self.server.census(None, None).await?.phase == Phase::Stopping => {
                return Ok(Look::Going(Start::StopFirst));
            }
            Postmaster::Changing(_) => return Ok(Look::Outcome(Outcome::accepted())),
            Postmaster::Ready(_) => {
                let mine = self.session().await?.identity().await?;
                if mine.system_identifier != theirs.system_identifier {
                    return Ok(conflict(format!("{} belongs to another cluster", self.name)));
                }
                if !mine.in_recovery {
                    return self.running_primary(request, &mine, &upstream).await;
                }
                if self.streams_from(&request.primary.member).await? {
                    return Ok(Look::Follows);
                }
                return self.running_standby(request, &mine, &upstream).await;
            }
        }
        let places = self.places().await?;
        if self.tool_runs(&places).await? {
            return Ok(Look::Outcome(Outcome::accepted()));
        }
        self.after_a_stop(request, &upstream, &places).await
    }

    /// The way of a server that is stopped.
    pub(super) async fn after_a_stop(
        &self,
        request: &RejoinRequest,
        upstream: &Session,
        places: &Places,
    ) -> Result<Look, PgError> {
        let theirs = upstream.identity().await?;
        let interrupted = match self.mark(places).await? {
            Mark::None | Mark::Copy => false,
            Mark::Rewind | Mark::Exchange(_) => true,
        };
        let data = match self.server.control_data().await {
            Err(_) if interrupted => return Ok(Look::Going(Start::Known(Way::Reseed))),
            other => other?,
        };
        if data.system_identifier != theirs.system_identifier {
            let (mine, other) = (data.system_identifier, theirs.system_identifier);
            return Ok(conflict(format!("{} belongs to another cluster ({mine}, the primary is {other})", self.name)));
        }
        if interrupted {
            return Ok(Look::Going(Start::Known(Way::Reseed)));
        }
        let forks = upstream.history(theirs.timeline).await?;
        if data.timeline == theirs.timeline || ends_before_fork(&data, &forks) {
            let there = has_log(upstream, &data, &forks, theirs.timeline).await?;
            // Everything that it holds is in the primary's history, so a copy destroys nothing.
            return Ok(Look::Going(Start::Known(if there { Way::Follow } else { Way::Reseed })));
        }
        if !request.may_discard && !self.has_nothing_of_its_own(&data, &forks).await? {
            let how = if data.is_clean_primary_stop() { "cleanly" } else { "by a crash" };
            let end = format!("ends {how} at or after {}", data.checkpoint);
            return Ok(Look::Outcome(self.would_discard(request, data.timeline, &end)));
        }
        let related = forks.iter().any(|fork| fork.parent == data.timeline);
        let rewinds = related && (data.checksums || data.wal_log_hints);
        let way = if rewinds && places.have_all(&tablespaces(upstream).await?) { Way::Rewind } else { Way::Reseed };
        Ok(Look::Going(Start::Known(way)))
    }

    fn would_discard(&self, request: &RejoinRequest, timeline: Timeline, end: &str) -> Outcome<()> {
        never(format!(
            "{} may hold writes that {} does not have (its history on timeline {timeline} {end}); allow discarding them, or save \
             them first",
            self.name, request.primary.member
        ))
    }

    /// A former primary that runs on. It is only stopped if the one that is named took over from the very history it carries, and if a
    /// fence of ours keeps everybody out of it: else it may be the one that applications use.
    async fn running_primary(
        &self,
        request: &RejoinRequest,
        mine: &Identity,
        upstream: &Session,
    ) -> Result<Look, PgError> {
        let primary = &request.primary;
        let forks = upstream.history(upstream.identity().await?.timeline).await?;
        let superseded = forks.iter().any(|fork| fork.parent == mine.timeline && mine.position >= fork.at);
        if !superseded || mine.lineage() != request.target.lineage {
            return Ok(conflict(format!(
                "{} runs as a primary on timeline {}, and {} did not take over from it: it is not stopped",
                self.name, mine.timeline, primary.member
            )));
        }
        let session = self.session().await?;
        if !self.fenced_by_us(&session).await? {
            return Ok(conflict(format!("{} runs as a primary; it has to be fenced first", self.name)));
        }
        if let Some(one) = session.client_sessions().await?.first() {
            let (pid, user) = (one.pid, &one.user);
            return Ok(conflict(format!("{} runs as a primary and has a session of `{user}` (pid {pid})", self.name)));
        }
        Ok(Look::Going(Start::StopFirst))
    }

    /// Whether one of our fences keeps sessions out of a server that runs.
    async fn fenced_by_us(&self, session: &Session) -> Result<bool, PgError> {
        if !dr_sql::marked_roles(session).await?.is_empty() {
            return Ok(true);
        }
        let fence = crate::hba::HbaFence::of(session, self.server.control()).await?;
        let reading = fence.reading().await?;
        Ok(reading.enrolled && reading.errors.is_empty() && !reading.rejected.is_empty())
    }

    /// A standby that runs and follows nobody, or somebody else: it is told whom to follow, unless it went another way.
    async fn running_standby(
        &self,
        request: &RejoinRequest,
        mine: &Identity,
        upstream: &Session,
    ) -> Result<Look, PgError> {
        let theirs = upstream.identity().await?;
        let forks = upstream.history(theirs.timeline).await?;
        let behind = forks.iter().any(|fork| fork.parent == mine.timeline && mine.durable <= fork.at);
        if mine.timeline == theirs.timeline || behind {
            return Ok(Look::Going(Start::Known(Way::Follow)));
        }
        if !request.may_discard {
            let end = format!("was received up to {}", mine.durable);
            return Ok(Look::Outcome(self.would_discard(request, mine.timeline, &end)));
        }
        Ok(Look::Going(Start::Known(Way::Reseed)))
    }

    /// Whether the log past the fork holds nothing that a client did: a server that was stopped after the promotion always writes a
    /// checkpoint there. Only a clean stop can prove it, whose last record is known.
    async fn has_nothing_of_its_own(&self, data: &ControlData, forks: &[Fork]) -> Result<bool, PgError> {
        let Some(fork) = forks.iter().find(|fork| fork.parent == data.timeline) else { return Ok(false) };
        if !data.is_clean_primary_stop() {
            return Ok(false);
        }
        const READ: &str = r#""$@" 2>/dev/null | head -n 100000; exit 0"#;
        let log = self.server.data("pg_wal").to_string_lossy().into_owned();
        let mut argv: Vec<String> = ["sh", "-c", READ, "sh"].map(String::from).to_vec();
        argv.extend([self.server.program("pg_waldump"), "-p".into(), log, "-t".into()]);
        argv.extend([data.timeline.number().to_string(), "-s".into(), fork.at.to_string()]);
        let records = self.server.control().run(&HostCommand::new(argv)).await?;
        Ok(only_housekeeping(&records, data.checkpoint))
    }
}

fn conflict(why: String) -> Look {
    Look::Outcome(Outcome::Conflict(Cause::new(why)))
}

/// Whether the primary still has the log that a server needs to go on from its last checkpoint.
async fn has_log(session: &Session, data: &ControlData, forks: &[Fork], now: Timeline) -> Result<bool, PgError> {
    const SQL: &str = "SELECT name FROM pg_ls_waldir() WHERE name ~ '^[0-9A-F]{24}$'";
    let there = session.names("list its log", SQL).await?;
    let from = dr_sql::Lsn::new(data.checkpoint.bytes().saturating_add(1));
    let mut timelines = forks.iter().map(|fork| fork.parent).chain([now]).filter(|one| *one >= data.timeline);
    Ok(timelines.any(|timeline| there.contains(&timeline.segment_before(from, data.segment_bytes))))
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

#[cfg(test)]
mod tests {
    use super::*;
    use dr_sql::Lsn;

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
