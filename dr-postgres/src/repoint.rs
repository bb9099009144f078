//! A running standby follows another primary: whom it connects to is changed and loaded. Nothing is stopped, and nothing is copied.
//!
//! ```text
//!   has it received more than the primary's history holds? ──yes──► refused: only a rewind or a copy helps, and that is a rejoin
//!   slot on the primary ──► primary_slot_name, primary_conninfo ──► reload ──► streams, and replays what the primary writes now
//! ```

use dr_core::{Cause, Outcome, contract::FollowRequest};
use dr_sql::{ConnInfo, PgError, Session};

use crate::{
    member::{Member, Peer},
    rejoin::RejoinTask,
};

/// What belongs to the host that a standby followed before.
const OF_THE_OTHER: [&str; 6] =
    ["host", "hostaddr", "service", "target_session_attrs", "load_balance_hosts", "replication"];

impl Member {
    /// Points this standby at the primary of `request`; the handle tells how it goes.
    ///
    /// # Errors
    /// One of the two servers does not answer, or refuses what has to be changed.
    pub(crate) async fn begin_follow(&self, request: &FollowRequest) -> Result<Outcome<()>, PgError> {
        let conflict = |why: String| Ok(Outcome::Conflict(Cause::new(why)));
        let own = self.own_session().await?;
        let mine = own.identity().await?;
        if !mine.in_recovery {
            return conflict(format!("{} is no standby: it writes on timeline {}", self.name, mine.timeline));
        }
        let primary = &request.primary.member;
        let (peer, upstream) = self.peer_session(primary).await?;
        let theirs = upstream.identity().await?;
        if theirs.in_recovery || theirs.lineage() != request.primary.lineage {
            return conflict(format!("{primary} does not write on lineage {}", request.primary.lineage));
        }
        if mine.system_identifier != theirs.system_identifier {
            return conflict(format!("{} belongs to another cluster", self.name));
        }
        if self.streams_from(primary).await? {
            return Ok(Outcome::Done(()));
        }
        let forks = upstream.history(theirs.timeline).await?;
        let holds_all = forks.iter().any(|fork| fork.parent == mine.timeline && mine.durable <= fork.at);
        if mine.timeline != theirs.timeline && !holds_all {
            return Ok(Outcome::refused(format!(
                "{} has received up to {} on timeline {}, and the history of {primary} does not hold all of that: it has to be rewound or \
                 copied anew (dr plan rejoin --member {0} --discard)",
                self.name, mine.durable, mine.timeline
            )));
        }
        let target = own.setting("recovery_target_timeline").await?.unwrap_or_default();
        if target != "latest" {
            return Ok(Outcome::refused(format!(
                "{} stays on its timeline (recovery_target_timeline = '{target}'): set it to 'latest', restart it, and ask again",
                self.name
            )));
        }
        let mut rejoin = self.rejoin.lock().await;
        if !rejoin.is_over() {
            return conflict(format!("{} is being made a standby", self.name));
        }
        *rejoin = RejoinTask::default();
        let conninfo = self.conninfo_to(peer, &own, &upstream).await?;
        self.ensure_slot_at(peer, &upstream, &conninfo).await?;
        if own.setting("primary_slot_name").await?.as_deref() != Some(self.slot().as_str()) {
            own.set_and_load("primary_slot_name", &self.slot()).await?;
        }
        own.set_and_load("primary_conninfo", &conninfo.text()).await?;
        Ok(Outcome::accepted_as(format!("follow/{primary}")))
    }

    /// How this standby logs in at `peer`: with its own login, with the one that it uses now, or with that of the primary when that was
    /// a standby.
    async fn conninfo_to(&self, peer: &Peer, own: &Session, upstream: &Session) -> Result<ConnInfo, PgError> {
        let now = own.setting("primary_conninfo").await?.unwrap_or_default();
        let now = ConnInfo::parse(&now).ok().filter(|now| now.get("user").is_some() && now.get("service").is_none());
        let Some(now) = now.filter(|_| self.login.is_none()) else { return self.conninfo(peer, upstream).await };
        Ok(OF_THE_OTHER
            .into_iter()
            .fold(now, ConnInfo::without)
            .with("host", peer.target.host.clone())
            .with("port", peer.target.port.to_string())
            .with("application_name", self.name.to_string()))
    }
}
