//! Is the primary really down? Asked from independent places; one silent probe only raises suspicion (D09, E08, X04).

use async_trait::async_trait;
use futures_util::future::{join, join_all, join3};
use serde::{Deserialize, Serialize};

use super::read::{conflict, not_yet};
use crate::{
    base::{Endpoint, Kind, MemberId},
    contract::{
        Binding, Cause, Class, DatabaseProbe, Description, Lack, Peer, ProviderError, Replication, Shortfall, Target,
        Tri, admit,
    },
    plan::{Duty, Effect, Look, Marks, Observed, Stage, Step, StepCx, StepError},
};

/// The primary is down, as seen from its management plane, from inside it and from the candidate's stream.
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
    /// The candidate, or another standby of the group, receives from it.
    pub(super) stream: Tri,
    /// Two people attest that it is down.
    pub(super) attested: bool,
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
        if silent + usize::from(self.attested) >= 2 { Verdict::Down } else { Verdict::Unclear }
    }

    /// Whether people's word is all that is missing: the word of people alone proves nothing.
    fn lacks_a_word(self) -> bool {
        self.verdict() == Verdict::Unclear && Self { attested: true, ..self }.verdict() == Verdict::Down
    }

    fn words(self) -> String {
        let attested = if self.attested { ", attested by two people: down" } else { "" };
        format!("provider says alive: {}, itself: {}, stream: {}{attested}", self.management, self.inside, self.stream)
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

/// One look from all places, and what people attest.
pub(super) async fn vantages(cx: &StepCx, primary: &Target, candidate: &Target) -> Result<Vantages, StepError> {
    let (old, new, probe) =
        (cx.database(&primary.member)?, cx.database(&candidate.member)?, cx.probe(&primary.member)?);
    let (described, inside, stream) = join3(old.describe(), answers(probe.as_ref()), new.replication()).await;
    let endpoint = described.as_ref().ok().map(|description| description.endpoint.clone());
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
    let stream = match streamed(cx, stream) {
        // A standby that the group knows beside the candidate may still receive.
        not_yes if not_yes != Tri::Yes && others_receive(cx, primary, endpoint.as_ref()).await => Tri::Yes,
        seen => seen,
    };
    let attested = cx.waived().is_some_and(|waived| admit::attested(&cx.door(), waived, &primary.member).is_ok());
    Ok(Vantages { management, inside, stream, attested })
}

/// What a reading says of the stream, if it is not too old to say anything.
fn streamed(cx: &StepCx, reading: Result<Replication, ProviderError>) -> Tri {
    match reading {
        Ok(reading) if cx.now().since(reading.at) <= cx.policy().fact_age_of(reading.cadence) => reading.streaming,
        Ok(_) | Err(_) => Tri::Unknown,
    }
}

/// What a standby of the plan says of its upstream.
struct Standby<'a> {
    member: &'a MemberId,
    described: Option<Description>,
    receives: bool,
}

impl Standby<'_> {
    /// Tells whether its upstream is this standby.
    fn follows(&self, other: &Standby<'_>) -> bool {
        let link = self.described.as_ref().and_then(|seen| seen.follows.as_ref());
        let means = |seen: &Description| link.is_some_and(|link| link.peer.means(&seen.address, Some(&seen.endpoint)));
        other.member != self.member && other.described.as_ref().is_some_and(means)
    }
}

/// Tells whether a member of the plan is seen to receive the primary's history now: one live stream is proof of life, whoever has it.
/// Others that say nothing prove nothing. A dark primary does not tell its `endpoint`: a stream whose other end is no address counts as the
/// primary's then, unless another standby sends it.
async fn others_receive(cx: &StepCx, primary: &Target, endpoint: Option<&Endpoint>) -> bool {
    let members = cx.plan().bindings.keys().filter_map(|name| match name {
        Binding::Member(member) if *member != primary.member => Some(member),
        Binding::Member(_)
        | Binding::Secret(_)
        | Binding::App(_)
        | Binding::Traffic(_)
        | Binding::Readers(_)
        | Binding::Custom(_) => None,
    });
    let members: Vec<&MemberId> = members.collect();
    if members.len() < 2 {
        return false;
    }
    let standbys = join_all(members.into_iter().map(|member| standby(cx, primary, member))).await;
    standbys.iter().filter(|standby| standby.receives).any(|standby| {
        let link = standby.described.as_ref().and_then(|seen| seen.follows.as_ref());
        let elsewhere = || standbys.iter().any(|other| standby.follows(other));
        link.is_some_and(|link| match &link.peer {
            Peer::Address(named) => *named == primary.address,
            Peer::Endpoint(named) => endpoint.map_or_else(|| !elsewhere(), |known| known == named),
            Peer::Other(_) => endpoint.is_none() && !elsewhere(),
        })
    })
}

async fn standby<'a>(cx: &StepCx, primary: &Target, member: &'a MemberId) -> Standby<'a> {
    let Ok(database) = cx.database(member) else { return Standby { member, described: None, receives: false } };
    let (described, reading) = join(database.describe(), database.replication()).await;
    let same = |seen: &Replication| seen.lineage.as_ref().is_none_or(|lineage| *lineage == primary.lineage);
    let receives = reading.as_ref().is_ok_and(same) && streamed(cx, reading) == Tri::Yes;
    Standby { member, described: described.ok(), receives }
}

pub(super) struct PrimaryDown;

#[async_trait]
impl Look for PrimaryDown {
    type Step = CheckPrimaryDown;

    async fn look(&self, cx: &StepCx, step: &CheckPrimaryDown) -> Result<Observed<()>, StepError> {
        let member = &step.primary.member;
        let first = vantages(cx, &step.primary, &step.candidate).await?;
        let verdict = first.verdict();
        // Both grave answers, down and alive, are looked at twice: one late reading must neither promote nor refuse.
        if verdict != Verdict::Unclear {
            cx.pause(cx.every()).await;
        }
        let second = vantages(cx, &step.primary, &step.candidate).await?;
        Ok(match (verdict, second.verdict()) {
            (Verdict::Alive, Verdict::Alive) => conflict(format_args!(
                "`{member}` is alive ({}); a failover would make a second writer; use a switchover",
                second.words()
            )),
            (Verdict::Alive, _) | (_, Verdict::Alive) => not_yet(format_args!(
                "two looks at `{member}` differ (first {}; then {}); investigate before failing over",
                first.words(),
                second.words()
            )),
            (Verdict::Down, Verdict::Down) => Observed::Done(()),
            (Verdict::Unclear, Verdict::Unclear) if first.lacks_a_word() && second.lacks_a_word() => {
                Observed::Short(Shortfall {
                    lack: Lack::Silence { member: member.clone() },
                    why: Cause::new(format_args!(
                        "nobody else can say whether `{member}` is down ({})",
                        second.words()
                    )),
                    owes: None,
                })
            }
            (Verdict::Unclear, _) | (_, Verdict::Unclear) => not_yet(format_args!(
                "nobody can say whether `{member}` is down ({}); investigate before failing over",
                second.words()
            )),
        })
    }
}
