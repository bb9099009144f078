//! How far a standby is behind: positions first, times only to bound what positions leave open.

use std::{sync::Arc, time::Duration};

use dr_core::{Millis, Tri, contract::Replication};
use tokio::time::{Instant, sleep, timeout};

use crate::{
    client::{Link, Session},
    error::PgError,
    look::{Follows, Receiver, Sender},
    lsn::Lsn,
    reading::{now, position},
};

/// How long a standby gets to replay what it was seen to have. Who keeps up needs milliseconds.
const SECOND_LOOK: Duration = Duration::from_millis(250);
const EACH: Duration = Duration::from_millis(2);
/// How long another server is asked. One that does not answer contradicts nothing.
const OTHER_LIMIT: Duration = Duration::from_secs(2);

/// How far the server of `session` is as a standby. `others` are the ways to the servers that may be its primary: what a standby alone
/// cannot say, the primary is asked.
///
/// # Errors
/// The server cannot be asked.
pub async fn replication(session: &Session, others: &[Link]) -> Result<Replication, PgError> {
    let who = session.identity().await?;
    let lineage = Some(who.lineage());
    if !who.in_recovery {
        let none = Replication {
            streaming: Tri::No,
            lineage,
            received: None,
            applied: None,
            lag: None,
            cadence: Millis::ZERO,
            at: now(),
        };
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
    let mut lag = behind(session, &receiver, others).await?;
    // A standby hears little while its primary has nothing to say: the primary itself is asked.
    if streaming == Tri::Unknown && !receiver.paused && has_everything(session, &receiver, others).await {
        (streaming, lag) = (Tri::Yes, Some(Duration::ZERO));
    }
    Ok(Replication {
        streaming,
        lineage,
        received: receiver.received.map(|lsn| position(who.system_identifier, lsn)),
        applied: Some(position(who.system_identifier, receiver.replayed)),
        lag: lag.map(Millis::of),
        cadence: Millis::ZERO,
        at: now(),
    })
}

/// The lag. A difference of positions is looked at again for a moment: replayed within it, the lag was no longer than that. What
/// is left is bounded by the age of the last replayed commit, and while replay moves by what the primary measures.
async fn behind(session: &Session, first: &Receiver, others: &[Link]) -> Result<Option<Duration>, PgError> {
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
    let measured = if replayed > first.replayed { measured(session, second.replayed, others).await } else { None };
    // It has been behind for as long as it was looked at, whatever clocks say.
    let known = match (second.since_replay, measured) {
        (Some(age), Some(measured)) => Some(age.min(measured)),
        (age, measured) => age.or(measured),
    };
    Ok(known.map(|lag| lag.max(begun.elapsed())))
}

/// What the primary measures of this standby, if it tells of the position that was just seen here.
async fn measured(session: &Session, replayed: Lsn, others: &[Link]) -> Option<Duration> {
    let primary = primary_of(session, others).await?;
    let row = row_at(&primary, &session.follows().await.ok()?).await?;
    // An old row says how long it took to replay something else.
    row.replay_lag.filter(|_| row.replayed.is_some_and(|told| told >= replayed))
}

/// Whether the primary has written nothing beyond what this standby replayed, and streams.
async fn has_everything(session: &Session, receiver: &Receiver, others: &[Link]) -> bool {
    let Some(primary) = primary_of(session, others).await else { return false };
    let Ok(theirs) = primary.identity().await else { return false };
    receiver.replayed >= theirs.position
        && primary.senders().await.is_ok_and(|rows| rows.iter().any(|row| row.streaming))
}

/// The session to the primary of the server of `session`: the one of `others` that writes on its history.
pub async fn primary_of(session: &Session, others: &[Link]) -> Option<Arc<Session>> {
    let who = session.identity().await.ok()?;
    for link in others {
        let asked = timeout(OTHER_LIMIT, async {
            let other = link.session().await.ok()?;
            let theirs = other.identity().await.ok()?;
            let same = theirs.system_identifier == who.system_identifier && theirs.timeline == who.timeline;
            (!theirs.in_recovery && same).then_some(other)
        });
        if let Ok(Some(other)) = asked.await {
            return Some(other);
        }
    }
    None
}

/// The primary's row of this standby, by its slot or its name.
async fn row_at(primary: &Session, says: &Follows) -> Option<Sender> {
    let rows = timeout(OTHER_LIMIT, primary.senders()).await.ok()?.ok()?;
    rows.into_iter().find(|row| is_row_of(row, says))
}

/// Whether a primary's row is that of a standby. A slot has one reader at a time; names may be used twice.
#[must_use]
pub fn is_row_of(row: &Sender, says: &Follows) -> bool {
    match (&row.slot, &says.slot) {
        (Some(there), Some(here)) => there == here,
        (None, None) => row.name == says.name,
        (Some(_), None) | (None, Some(_)) => false,
    }
}
