//! Is the primary really down? Asked from independent places; one silent probe only raises suspicion (D09, E08, X04).

use async_trait::async_trait;
use futures_util::future::{join, join_all, join4};
use serde::{Deserialize, Serialize};

use super::read::{conflict, members, not_yet};
use crate::{
    base::{Kind, MemberId},
    contract::{Class, DatabaseProbe, Description, Peer, ProviderError, Replication, Target, Tri},
    plan::{Duty, Effect, Look, Marks, Observed, Stage, Step, StepCx, StepError},
};

/// The primary is down, as seen from its management plane, from inside it and from the candidate's stream, and no other standby of the plan
/// receives from it.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CheckPrimaryDown {
    /// The primary.
    pub primary: Target,
    /// The candidate.
    pub candidate: Target,
}

impl Step for CheckPrimaryDown {
    const KIND: Kind = Kind::new("dr.check-primary-down", 1);
    const EFFECT: Effect = Effect::ReadOnly;
    const CLASS: Class = Class::Guard;
    type Output = ();

    fn sentence(&self) -> String {
        let primary = &self.primary.member;
        format!(
            "see {primary} down from two of three places: its provider, itself, the stream to {}",
            self.candidate.member
        )
    }

    fn marks(&self) -> Marks {
        Marks::at(Stage::Look).or(Stage::Shorten).duty(Duty::Silence)
    }
}

/// Whether the primary is alive, from each place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Vantages {
    /// The management plane calls it healthy.
    pub(super) management: Tri,
    /// The server itself answers.
    pub(super) inside: Tri,
    /// A standby receives from it. Only the candidate's word counts for silence: another standby may lag, stand still or be lost.
    pub(super) stream: Tri,
}

/// What the places say together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It answers or streams: it is alive.
    Alive,
    /// At least two of three places do not see it, and the third has no direct sight.
    Down,
    /// Too few places can say.
    Unclear,
}

impl Vantages {
    /// The server's own answer and a live stream outweigh everything; a management plane may go on calling a dead server healthy.
    pub(super) fn verdict(self) -> Verdict {
        if self.inside == Tri::Yes || self.stream == Tri::Yes {
            return Verdict::Alive;
        }
        let silent = [self.management, self.inside, self.stream].into_iter().filter(|alive| *alive == Tri::No).count();
        if silent >= 2 { Verdict::Down } else { Verdict::Unclear }
    }

    fn words(self) -> String {
        format!("provider says alive: {}, itself: {}, stream: {}", self.management, self.inside, self.stream)
    }
}

/// Tells whether a server answers where no position is offered: by a probe write, which it may refuse.
pub(crate) async fn answers_a_write(probe: &dyn DatabaseProbe) -> Tri {
    match probe.write().await {
        // A server that refuses a write has answered, too.
        Ok(write) if write.accepted != Tri::Unknown => Tri::Yes,
        Ok(_) => Tri::No,
        Err(ProviderError::Unsupported { .. }) => Tri::Unknown,
        Err(_) => Tri::No,
    }
}

/// Tells whether the server itself answers: with its position, or where none is offered, on a probe write.
pub(super) async fn answers(probe: &dyn DatabaseProbe) -> Tri {
    match probe.position().await {
        Ok(_) => Tri::Yes,
        Err(ProviderError::Unsupported { .. }) => answers_a_write(probe).await,
        Err(_) => Tri::No,
    }
}

/// One look from all places.
pub(super) async fn vantages(cx: &StepCx, primary: &Target, candidate: &Target) -> Result<Vantages, StepError> {
    let (old, new, probe) =
        (cx.database(&primary.member)?, cx.database(&candidate.member)?, cx.probe(&primary.member)?);
    let others: Vec<&MemberId> = members(cx).filter(|member| **member != primary.member).collect();
    // Of a pair the candidate is the only standby, and is read anyway.
    let others = others.iter().filter(|_| others.len() > 1);
    let others = join_all(others.map(|member| standby(cx, member)));
    let (described, inside, stream, others) =
        join4(old.describe(), answers(probe.as_ref()), new.replication(), others).await;
    let stream = receives(cx, stream);
    let others: Vec<Standby<'_>> = others.into_iter().collect::<Result<_, _>>()?;
    let stream = if fed(primary, described.as_ref().ok(), &others) { Tri::Yes } else { stream };
    let management = match described {
        Ok(description) => description.healthy,
        Err(ProviderError::Throttled { .. } | ProviderError::Strange { .. }) => Tri::Unknown,
        Err(
            ProviderError::Unsupported { .. }
            | ProviderError::Refused { .. }
            | ProviderError::Missing { .. }
            | ProviderError::Unreachable { .. },
        ) => Tri::No,
    };
    Ok(Vantages { management, inside, stream })
}

/// What a standby of the plan says of its upstream.
struct Standby<'a> {
    member: &'a MemberId,
    described: Option<Description>,
    receives: Tri,
}

async fn standby<'a>(cx: &StepCx, member: &'a MemberId) -> Result<Standby<'a>, StepError> {
    let database = cx.database(member)?;
    let (described, stream) = join(database.describe(), database.replication()).await;
    Ok(Standby { member, described: described.ok(), receives: receives(cx, stream) })
}

/// Whether a standby receives. A reading that is too old tells nothing.
fn receives(cx: &StepCx, reading: Result<Replication, ProviderError>) -> Tri {
    match reading {
        Ok(reading) if cx.now().since(reading.at) <= cx.policy().fact_age_of(reading.cadence) => reading.streaming,
        Ok(_) | Err(_) => Tri::Unknown,
    }
}

/// Whether one of the standbys receives from the primary. A dark primary does not tell its endpoint: a stream whose other end is named by
/// an endpoint, or in words, counts as the primary's then, unless it is that of another standby.
fn fed(primary: &Target, described: Option<&Description>, standbys: &[Standby<'_>]) -> bool {
    let endpoint = described.map(|description| &description.endpoint);
    let from_primary = |standby: &Standby<'_>| {
        let Some(link) = standby.described.as_ref().and_then(|description| description.follows.as_ref()) else {
            return false;
        };
        let another = || {
            let others = standbys.iter().filter(|other| other.member != standby.member);
            let mut others = others.filter_map(|other| other.described.as_ref());
            others.any(|other| link.peer.means(&other.address, Some(&other.endpoint)))
        };
        match &link.peer {
            Peer::Address(_) => link.peer.means(&primary.address, None),
            Peer::Endpoint(named) => endpoint.map_or_else(|| !another(), |known| known == named),
            Peer::Other(_) => endpoint.is_none() && !another(),
        }
    };
    standbys.iter().any(|standby| standby.receives == Tri::Yes && from_primary(standby))
}

pub(super) struct PrimaryDown;

#[async_trait]
impl Look for PrimaryDown {
    type Step = CheckPrimaryDown;

    async fn look(&self, cx: &StepCx, step: &CheckPrimaryDown) -> Result<Observed<()>, StepError> {
        let member = &step.primary.member;
        let first = vantages(cx, &step.primary, &step.candidate).await?;
        let verdict = first.verdict();
        if verdict == Verdict::Down {
            cx.pause(cx.every()).await;
        }
        let second = vantages(cx, &step.primary, &step.candidate).await?;
        Ok(match (verdict, second.verdict()) {
            (Verdict::Alive, _) | (_, Verdict::Alive) => conflict(format_args!(
                "`{member}` is alive ({}); a failover would make a second writer; use a switchover",
                second.words()
            )),
            (Verdict::Down, Verdict::Down) => Observed::Done(()),
            (Verdict::Unclear, _) | (_, Verdict::Unclear) => not_yet(format_args!(
                "nobody can say whether `{member}` is down ({}); investigate before failing over",
                second.words()
            )),
        })
    }
}
