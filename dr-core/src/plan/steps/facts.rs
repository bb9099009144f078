//! Facts that people are shown, as data in the plan: what to read is decided when the plan is made, what it says when they are asked.

use futures_util::future::{join, join_all};
use serde::{Deserialize, Serialize};

use super::{
    down::{Verdict, vantages},
    keep::lacking,
    read::{offered, position, replaced, see},
};
use crate::{
    base::{MemberId, Millis, Timestamp, text},
    contract::{Consent, Fact, Grade, Hardening, Target, Tolerance},
    plan::{StepCx, StepError, stop},
};

/// One fact to read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "fact", deny_unknown_fields)]
#[expect(clippy::large_enum_variant, reason = "a question has a handful of them")]
pub enum FactSpec {
    /// `writer`: which resource with which lineage the primary is. Any change is material.
    Writer {
        /// The expected writer.
        member: MemberId,
    },
    /// `primary`: whether it answers. Any change is material: a failover is for a silent one.
    Silence {
        /// The last known writer.
        primary: Target,
        /// The candidate, whose stream is one of the places to look from.
        candidate: Target,
    },
    /// `candidate`: which resource with which lineage it is. Any change is material.
    Candidate {
        /// The candidate.
        member: MemberId,
    },
    /// `streaming`: whether the candidate receives. Any change is material.
    Streaming {
        /// The candidate.
        member: MemberId,
    },
    /// `lag`: how far the candidate is behind. More than the limit is material.
    Lag {
        /// The candidate.
        member: MemberId,
        /// The limit.
        at_most: Millis,
    },
    /// `old transactions`: how many are older than the limit. Any change is material.
    Transactions {
        /// The primary.
        member: MemberId,
        /// The limit.
        limit: Millis,
    },
    /// `positions`: where both sides are. For information.
    Positions {
        /// The primary.
        primary: MemberId,
        /// The candidate.
        candidate: MemberId,
    },
    /// `other standbys`: how far each of them is beside the candidate. For information: what only one of them has is lost with a
    /// failover, and it cannot follow then.
    OtherStandbys {
        /// The candidate.
        candidate: MemberId,
        /// The others.
        others: Vec<MemberId>,
    },
    /// `protections`: what the coming writer lacks of those that the group asks for. For information: they are turned on afterwards.
    Protections {
        /// The candidate.
        member: MemberId,
        /// What a writer of the group has to have.
        want: Hardening,
    },
    /// `newest backup`: how old it is. For information.
    Backup {
        /// Of which member.
        member: MemberId,
    },
    /// `fence at worst`: what the fence that a forced swap brings is worth until it is read back. Any change is material.
    SwapFence {
        /// The candidate, whose backend says so.
        member: MemberId,
    },
    /// `fence`: there is none, and why that is accepted.
    NoFence {
        /// The requester's reason.
        reason: String,
        /// What is accepted instead of the policy's grade.
        accepts: Grade,
    },
}

/// The names of the facts that still make sense once the primary is fenced.
const AT_THE_PIVOT: &str = "candidate";

impl FactSpec {
    /// The reason for which two writers may be possible, if this fact shows it.
    #[must_use]
    pub fn risk(&self) -> Option<String> {
        if let Self::NoFence { reason, .. } = self { Some(reason.clone()) } else { None }
    }

    /// The name under which the fact is shown and compared.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Writer { .. } => "writer",
            Self::Silence { .. } => "primary",
            Self::Candidate { .. } => AT_THE_PIVOT,
            Self::Streaming { .. } => "streaming",
            Self::Lag { .. } => "lag",
            Self::Transactions { .. } => "old transactions",
            Self::Positions { .. } => "positions",
            Self::OtherStandbys { .. } => "other standbys",
            Self::Protections { .. } => "protections",
            Self::Backup { .. } => "newest backup",
            Self::SwapFence { .. } => "fence at worst",
            Self::NoFence { .. } => "fence",
        }
    }
}

/// Reads facts, all at once, in the order of `specs`.
///
/// # Errors
/// A material fact could not be read. What is only for information is then shown as unknown.
pub async fn read(cx: &StepCx, specs: &[FactSpec]) -> Result<Vec<Fact>, StepError> {
    join_all(specs.iter().map(|spec| one(cx, spec))).await.into_iter().collect()
}

/// The facts of a consent as they must still hold when the promotion is asked for. By then the drain and the fence have made some of
/// them untrue on purpose (the writer does not answer, nothing streams), and what replaces them is proved by the fence and the
/// catch-up; those are taken as they were shown. Read again is who the candidate is: its resource and its lineage.
///
/// # Errors
/// The candidate could not be read.
pub async fn at_pivot(cx: &StepCx, consent: &Consent, candidate: &MemberId) -> Result<Vec<Fact>, StepError> {
    let again = one(cx, &FactSpec::Candidate { member: candidate.clone() }).await?;
    let others = consent.facts.iter().filter(|fact| fact.name != AT_THE_PIVOT).cloned();
    Ok(others.chain([again]).collect())
}

async fn one(cx: &StepCx, spec: &FactSpec) -> Result<Fact, StepError> {
    let name = spec.name();
    match spec {
        FactSpec::Writer { member } | FactSpec::Candidate { member } => identity(cx, name, member).await,
        FactSpec::Silence { primary, candidate } => {
            let seen = vantages(cx, primary, candidate).await?;
            let words = match seen.verdict() {
                Verdict::Alive => "answers",
                Verdict::Down => "does not answer",
                Verdict::Unclear => "nobody can say whether it answers",
            };
            Ok(Fact::equal(name, words, "provider, server, stream", cx.now()))
        }
        FactSpec::Streaming { member } => {
            let reading = cx.database(member)?.replication().await?;
            Ok(Fact::equal(name, reading.streaming.to_string(), "replication", reading.at))
        }
        FactSpec::Lag { member, at_most } => {
            let reading = cx.database(member)?.replication().await?;
            Ok(lag(reading.lag, *at_most, reading.at))
        }
        FactSpec::Transactions { member, limit } => {
            let found = offered(cx.probe(member)?.long_transactions(*limit).await)?;
            let words = found.map_or_else(
                || "not told".to_owned(),
                |old| format!("{} older than {}", old.len(), text::human(*limit)),
            );
            Ok(Fact::equal(name, words, "SQL", cx.now()))
        }
        FactSpec::Positions { primary, candidate } => positions(cx, primary, candidate).await,
        FactSpec::OtherStandbys { candidate, others } => other_standbys(cx, candidate, others).await,
        FactSpec::Protections { member, want } => Ok(protections(cx, member, *want).await),
        FactSpec::Backup { member } => backup(cx, member).await,
        FactSpec::SwapFence { member } => {
            let offered = cx.database(member)?.capabilities().await?.forced_swap;
            let worst = offered.map_or(Grade::Unconfirmable, |offer| offer.fence.grade());
            Ok(Fact::equal(name, worst.to_string(), "backend", cx.now()))
        }
        FactSpec::NoFence { reason, accepts } => {
            let words = format!("none; {accepts} is accepted because {reason}");
            Ok(Fact::equal(name, words, "request", cx.now()))
        }
    }
}

async fn identity(cx: &StepCx, name: &str, member: &MemberId) -> Result<Fact, StepError> {
    let seen = see(cx, member).await?;
    let bound = cx.plan().bindings.get(&member.into());
    let meant = bound.map(|bound| Target {
        member: member.clone(),
        address: bound.address.clone(),
        identity: bound.identity.clone(),
        lineage: cx.plan().expects.lineage.clone(),
        receives: None,
    });
    // Agreeing again would not help: every step of this plan is bound to the other one.
    if let Some(other) = meant.and_then(|meant| replaced(&seen.description, &meant).err()) {
        return Err(stop(format_args!("{other}; make a new plan")));
    }
    let lineage = seen.lineage().map_or_else(|| "unknown".to_owned(), ToString::to_string);
    let resource = match &seen.description.identity {
        Some(identity) => format!("{}, identity {identity}", seen.description.address),
        None => format!("{}, which tells no identity", seen.description.address),
    };
    let copy = if seen.description.is_copy() { ", a logical copy" } else { "" };
    let words = format!("{member} ({resource}, lineage {lineage}{copy})");
    Ok(Fact::equal(name, words, "provider, server", seen.description.at))
}

fn lag(lag: Option<Millis>, at_most: Millis, at: Timestamp) -> Fact {
    let words = lag.map_or_else(|| "unknown".to_owned(), text::human);
    Fact { tolerance: Tolerance::AtMost(at_most), number: lag, ..Fact::equal("lag", words, "replication", at) }
}

async fn positions(cx: &StepCx, primary: &MemberId, candidate: &MemberId) -> Result<Fact, StepError> {
    let (old, new) = (cx.probe(primary)?, cx.probe(candidate)?);
    // A logical copy has positions of its own; what it has of the primary's its replication tells.
    let copy = cx.plan().receives.contains_key(candidate);
    let database = cx.database(candidate)?;
    let applied = async {
        if copy { database.replication().await.ok()?.applied } else { Some(new.position().await.ok()?.applied) }
    };
    let words = match join(old.position(), applied).await {
        (Ok(old), Some(applied)) => format!("{primary} {}, {candidate} {applied}", old.durable),
        (Err(_), Some(applied)) => format!("{primary} unknown, {candidate} {applied}"),
        (Ok(old), None) => format!("{primary} {}, {candidate} unknown", old.durable),
        (Err(_), None) => "unknown".to_owned(),
    };
    Ok(Fact::any("positions", words, if copy { "SQL, replication" } else { "SQL" }, cx.now()))
}

async fn other_standbys(cx: &StepCx, candidate: &MemberId, others: &[MemberId]) -> Result<Fact, StepError> {
    let has = position(cx, candidate).await.ok().flatten();
    let words = others.iter().map(async |other| {
        let Some(seen) = position(cx, other).await.ok().flatten() else { return format!("{other} unknown") };
        let more = has.as_ref().and_then(|has| has.durable.missing_to(&seen.durable)).filter(|more| *more > 0);
        match more {
            Some(more) => format!("{other} {}, {more} more than {candidate}", seen.durable),
            None => format!("{other} {}", seen.durable),
        }
    });
    let words = join_all(words).await.join("; ");
    Ok(Fact::any("other standbys", words, "SQL", cx.now()))
}

async fn protections(cx: &StepCx, member: &MemberId, want: Hardening) -> Fact {
    let told = match cx.database(member) {
        Ok(database) => database.protections().await.ok(),
        Err(_) => None,
    };
    let words = told.map_or_else(|| "unknown".to_owned(), |seen| lacking(&want.missing(&seen)));
    Fact::any("protections", words, "provider", cx.now())
}

async fn backup(cx: &StepCx, member: &MemberId) -> Result<Fact, StepError> {
    let newest = cx.database(member)?.describe().await.ok().and_then(|description| description.newest_backup);
    let words = newest.map_or_else(|| "unknown".to_owned(), |at| format!("{} old", text::human(cx.now().since(at))));
    Ok(Fact::any("newest backup", words, "provider", cx.now()))
}
