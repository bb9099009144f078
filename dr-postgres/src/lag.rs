//! How far a standby is behind: positions first, times only to bound what positions leave open.

use std::time::Duration;

use dr_core::{Millis, Replication, Tri};
use tokio::time::{Instant, sleep};

use crate::{
    client::Session,
    database::PostgresDatabase,
    error::PgError,
    look::Receiver,
    lsn::Lsn,
    member::{now, position},
};

/// How long a standby gets to replay what it was seen to have. Who keeps up needs milliseconds.
const SECOND_LOOK: Duration = Duration::from_millis(250);
const EACH: Duration = Duration::from_millis(2);

impl PostgresDatabase {
    pub(crate) async fn replication_now(&self) -> Result<Replication, PgError> {
        let session = self.member.session().await?;
        let who = session.identity().await?;
        let lineage = Some(who.lineage());
        if !who.in_recovery {
            let none = Replication { streaming: Tri::No, lineage, received: None, applied: None, lag: None, at: now() };
            return Ok(none);
        }
        let receiver = session.receiver().await?;
        // A standby that has replayed no commit since its start streams, although nobody can say how far it is behind.
        let mut streaming = match (receiver.streaming, receiver.is_fresh()) {
            (false, _) => Tri::No,
            (true, true) => Tri::Yes,
            (true, false) => Tri::Unknown,
        };
        // Received and never replayed is no attachment that a rejoin could end with: a smaller `max_connections` pauses replay for good.
        if receiver.paused && streaming == Tri::Yes {
            streaming = Tri::Unknown;
        }
        let mut lag = self.lag(&session, &receiver).await?;
        // A standby hears little while its primary has nothing to say: the primary itself is asked.
        if streaming == Tri::Unknown && !receiver.paused && self.has_everything(&session, &receiver).await {
            (streaming, lag) = (Tri::Yes, Some(Duration::ZERO));
        }
        Ok(Replication {
            streaming,
            lineage,
            received: receiver.received.map(|lsn| position(who.system_identifier, lsn)),
            applied: Some(position(who.system_identifier, receiver.replayed)),
            lag: lag.map(Millis::of),
            at: now(),
        })
    }

    /// The lag. A difference of positions is looked at again for a moment: replayed within it, the lag was no longer than that. What
    /// is left is bounded by the age of the last replayed commit, and while replay moves by what the primary measures.
    async fn lag(&self, session: &Session, first: &Receiver) -> Result<Option<Duration>, PgError> {
        let Some(end) = first.known_end().filter(|_| first.vouches()) else { return Ok(None) };
        if end <= first.replayed {
            return Ok(Some(Duration::ZERO));
        }
        let begun = Instant::now();
        let mut replayed = first.replayed;
        while begun.elapsed() < SECOND_LOOK && !first.paused {
            sleep(EACH).await;
            replayed = session.replayed().await?.unwrap_or_default();
            if replayed >= end {
                return Ok(Some(begun.elapsed()));
            }
        }
        let second = session.receiver().await?;
        if !second.vouches() {
            return Ok(None);
        }
        let measured = if replayed > first.replayed { self.measured(session, second.replayed).await } else { None };
        // It has been behind for as long as it was looked at, whatever clocks say.
        let known = match (second.since_replay, measured) {
            (Some(age), Some(measured)) => Some(age.min(measured)),
            (age, measured) => age.or(measured),
        };
        Ok(known.map(|lag| lag.max(begun.elapsed())))
    }

    /// What the primary measures of this standby, if it tells of the position that was just seen here.
    async fn measured(&self, session: &Session, replayed: Lsn) -> Option<Duration> {
        let primary = self.primary_of(session).await?;
        let row = self.row_at(&primary, &session.follows().await.ok()?).await?;
        // An old row says how long it took to replay something else.
        row.replay_lag.filter(|_| row.replayed.is_some_and(|told| told >= replayed))
    }

    /// Whether the primary has written nothing beyond what this standby replayed, and streams.
    async fn has_everything(&self, session: &Session, receiver: &Receiver) -> bool {
        let Some(primary) = self.primary_of(session).await else { return false };
        let Ok(theirs) = primary.identity().await else { return false };
        receiver.replayed >= theirs.position
            && primary.senders().await.is_ok_and(|rows| rows.iter().any(|row| row.streaming))
    }
}
