//! The one door from a receipt to a proof. Each function asks the provider again; recovery after a crash uses the same ones.

use std::cmp::Ordering;

use crate::{
    base::{Digest, Endpoint, Epoch, MemberId, Millis, RunId},
    contract::{
        Accepted, CatchUpReceipt, Cause, Consent, DatabaseProbe, Description, Fact, Fence, FenceReceipt, Grade, Loss,
        LossBound, ManagedDatabase, Position, ProviderError, QuiesceReceipt, Replication, RestoreReceipt, Retry,
        Runtime, Target, Tri, Waived,
        guard::proof::{Attested, CaughtUp, Consented, Fenced, LossBounded, NotWriter, Quiesced, Seal, Waiver},
    },
};

/// Who stands at the door: one run, under one epoch, at one time.
#[derive(Clone, Copy, Debug)]
pub struct Door<'a> {
    /// The run that asks.
    pub run: &'a RunId,
    /// The hash of its plan.
    pub plan: Digest,
    /// The epoch of the engine that drives it.
    pub epoch: Epoch,
    /// How long a proof may be trusted.
    pub max_age: Millis,
    /// The clocks.
    pub runtime: &'a dyn Runtime,
}

impl Door<'_> {
    fn seal(&self) -> Seal {
        Seal { epoch: self.epoch, at: self.runtime.now_mono(), max_age: self.max_age }
    }

    fn mine(&self, run: &RunId, what: &'static str) -> Result<(), Refused> {
        if run == self.run {
            Ok(())
        } else {
            Err(Refused::Foreign { what, of: Box::new(run.clone()), mine: Box::new(self.run.clone()) })
        }
    }
}

/// Why a receipt gave no proof.
#[derive(Debug, thiserror::Error)]
pub enum Refused {
    /// The receipt belongs to another run (or another group).
    #[error("the {what} belongs to {of}, this is {mine}")]
    Foreign {
        /// The receipt.
        what: &'static str,
        /// Whose it is.
        of: Box<RunId>,
        /// Who asked.
        mine: Box<RunId>,
    },
    /// The provider could not be asked.
    #[error("the {what} could not be looked at again")]
    Silent {
        /// The receipt.
        what: &'static str,
        /// Why.
        #[source]
        source: Box<ProviderError>,
    },
    /// What the receipt says does not hold any more.
    #[error("the {what} does not hold any more: {why}")]
    Lost {
        /// The receipt.
        what: &'static str,
        /// What was seen.
        why: String,
    },
    /// It holds, but is worth too little.
    #[error("the fence is worth `{found}`, this needs `{needed}`")]
    Weak {
        /// What it is worth.
        found: Grade,
        /// What is needed.
        needed: Grade,
    },
    /// Not there yet; may come.
    #[error("{why}")]
    NotYet {
        /// What is missing.
        why: String,
    },
    /// A material fact changed since it was shown.
    #[error("what was agreed to does not hold any more: {}", .diff.join("; "))]
    Void {
        /// One line per changed fact.
        diff: Vec<String>,
    },
    /// More would be lost than was accepted.
    #[error("the loss would be {bound}, accepted was {accepted}")]
    TooMuch {
        /// The bound.
        bound: Box<Loss>,
        /// The ceiling.
        accepted: Box<Loss>,
    },
}

impl Refused {
    /// Whether asking again may help.
    #[must_use]
    pub fn retry(&self) -> Retry {
        match self {
            Self::Silent { source, .. } => source.retry(),
            Self::NotYet { .. } => Retry::After(Millis::new(2)),
            Self::Foreign { .. } | Self::Lost { .. } | Self::Weak { .. } | Self::Void { .. } | Self::TooMuch { .. } => {
                Retry::Never
            }
        }
    }

    /// The words, for records.
    #[must_use]
    pub fn cause(&self) -> Cause {
        Cause::chain(self)
    }
}

/// The fence holds now, on the same member and lineage, and is worth at least `minimum`.
///
/// # Errors
/// [`Refused`]; a fence that cannot be asked proves nothing.
pub async fn fenced(
    door: &Door<'_>,
    fence: &dyn Fence,
    receipt: &FenceReceipt,
    minimum: Grade,
) -> Result<Fenced, Refused> {
    door.mine(&receipt.run, "fence receipt")?;
    let reading =
        fence.inspect().await.map_err(|source| Refused::Silent { what: "fence", source: Box::new(source) })?;
    if let Err(other) = reading.is_of(&receipt.target) {
        return Err(Refused::Lost { what: "fence", why: format!("it speaks of another member: {other}") });
    }
    if let Some(lineage) = reading.lineage.as_ref().filter(|lineage| **lineage != receipt.target.lineage) {
        let why = format!("the member carries lineage {lineage}, fenced was {}", receipt.target.lineage);
        return Err(Refused::Lost { what: "fence", why });
    }
    if let Some(lapses) = reading.lapses_at.filter(|lapses| *lapses <= door.runtime.now_wall() + door.max_age) {
        return Err(Refused::Lost { what: "fence", why: format!("it falls off by itself at {lapses}") });
    }
    if let (Some(was), Some(is)) = (&receipt.end, &reading.end)
        && was.compare(is) != Some(Ordering::Equal)
    {
        let why = format!("the fenced history ended at {was}, now it ends at {is}");
        return Err(Refused::Lost { what: "fence", why });
    }
    let grade = reading.grade();
    if reading.engaged() != Tri::Yes {
        return Err(Refused::Lost { what: "fence", why: reading.detail });
    }
    if grade < minimum {
        return Err(Refused::Weak { found: grade, needed: minimum });
    }
    Ok(Fenced { seal: door.seal(), receipt: receipt.clone(), planes: reading.planes })
}

/// The candidate has everything up to the end of the fenced history, on the lineage of the fenced member.
///
/// # Errors
/// [`Refused`]; [`Refused::NotYet`] while it is still behind.
pub async fn caught_up(
    door: &Door<'_>,
    (database, probe): (&dyn ManagedDatabase, &dyn DatabaseProbe),
    receipt: &CatchUpReceipt,
    fence: &FenceReceipt,
) -> Result<CaughtUp, Refused> {
    door.mine(&receipt.run, "catch-up receipt")?;
    if *receipt.target.holds() != fence.target.lineage {
        let why = format!("the candidate follows {}, fenced was {}", receipt.target.holds(), fence.target.lineage);
        return Err(Refused::Lost { what: "catch-up", why });
    }
    if let Some(end) = &fence.end
        && !receipt.end.reaches(end)
    {
        let why = format!("it speaks of {}, the fenced history ends at {end}", receipt.end);
        return Err(Refused::Lost { what: "catch-up", why });
    }
    let silent = |source| Refused::Silent { what: "catch-up", source: Box::new(source) };
    let applied = if receipt.target.is_copy() {
        let now = database.replication().await.map_err(silent)?;
        copied(&receipt.target, &now).map_err(|why| Refused::NotYet { why })?.clone()
    } else {
        let now = probe.position().await.map_err(silent)?;
        if now.lineage != receipt.target.lineage {
            let why = format!("the candidate carries lineage {}, it followed {}", now.lineage, receipt.target.lineage);
            return Err(Refused::Lost { what: "catch-up", why });
        }
        now.applied
    };
    if !applied.reaches(&receipt.end) {
        return Err(Refused::NotYet { why: format!("the candidate has {applied}, the end is {}", receipt.end) });
    }
    Ok(CaughtUp { seal: door.seal(), receipt: receipt.clone() })
}

/// Up to which position of its source a logical copy has every commit, as `reading` tells it.
///
/// # Errors
/// It tells another history than the one that `copy` is fed from, or no position of it: nothing is proved by its own positions.
pub fn copied<'a>(copy: &Target, reading: &'a Replication) -> Result<&'a Position, String> {
    let (member, source) = (&copy.member, copy.holds());
    match (&reading.lineage, &reading.applied) {
        (Some(found), _) if found != source => Err(format!("`{member}` is fed from lineage {found}, it was {source}")),
        (Some(_), Some(applied)) if applied.system == source.system => Ok(applied),
        (Some(_), Some(applied)) => Err(format!("the position {applied} of `{member}` is none of its source's")),
        (None, _) | (Some(_), None) => {
            Err(format!("nobody can say up to which position of {source} `{member}` has everything"))
        }
    }
}

/// Nothing writes on the primary, and the candidate has everything.
///
/// `provider_catches_up` is [`SwapOffer::catches_up`](crate::contract::SwapOffer::catches_up): the provider itself stops writes and waits for the
/// candidate. Nothing is asked of the two sides then.
///
/// # Errors
/// [`Refused`]; [`Refused::NotYet`] while sessions can write or the candidate is behind.
pub async fn quiesced(
    door: &Door<'_>,
    primary: &dyn DatabaseProbe,
    candidate: &dyn DatabaseProbe,
    receipt: &QuiesceReceipt,
    provider_catches_up: bool,
) -> Result<Quiesced, Refused> {
    door.mine(&receipt.run, "quiesce receipt")?;
    if provider_catches_up {
        return Ok(Quiesced { seal: door.seal(), receipt: receipt.clone() });
    }
    let silent = |source| Refused::Silent { what: "quiesced state", source: Box::new(source) };
    let sessions = primary.writing_sessions().await.map_err(silent)?;
    if sessions.all() > 0 {
        return Err(Refused::NotYet { why: format!("{sessions} can still write on the primary") });
    }
    let old = primary.position().await.map_err(silent)?;
    if old.lineage != receipt.primary.lineage {
        let why = format!("the primary carries lineage {}, it was {}", old.lineage, receipt.primary.lineage);
        return Err(Refused::Lost { what: "quiesced state", why });
    }
    let new = candidate.position().await.map_err(silent)?;
    if !new.applied.reaches(&old.durable) {
        return Err(Refused::NotYet { why: format!("the candidate has {}, the primary {}", new.applied, old.durable) });
    }
    Ok(Quiesced { seal: door.seal(), receipt: receipt.clone() })
}

/// The consent is for this very plan, and every material fact that was shown still holds.
///
/// # Errors
/// [`Refused::Foreign`] for another run, [`Refused::Lost`] for another plan, [`Refused::Void`] with the differences.
pub fn consented(door: &Door<'_>, consent: &Consent, now: &[Fact]) -> Result<Consented, Refused> {
    door.mine(&consent.run, "consent")?;
    if consent.plan != door.plan {
        let why = format!("it was given for plan {}, this is {}", consent.plan, door.plan);
        return Err(Refused::Lost { what: "consent", why });
    }
    let diff = differences(&consent.facts, now);
    if diff.is_empty() {
        Ok(Consented { seal: door.seal(), consent: consent.clone() })
    } else {
        Err(Refused::Void { diff })
    }
}

/// The material differences between facts as they were shown and as they are; a fact that cannot be read any more is one.
#[must_use]
pub fn differences(shown: &[Fact], now: &[Fact]) -> Vec<String> {
    shown
        .iter()
        .filter_map(|was| match now.iter().find(|fact| fact.name == was.name) {
            Some(is) if was.voided_by(is) => Some(format!("{} was {}, is {}", was.name, was.value, is.value)),
            None if was.tolerance != crate::contract::Tolerance::Any => {
                Some(format!("{} was {}, is not known now", was.name, was.value))
            }
            Some(_) | None => None,
        })
        .collect()
}

/// The loss is bounded, and people accepted at least that much.
///
/// # Errors
/// [`Refused::TooMuch`]; an unknown loss is only covered by a consent to an unknown loss.
pub fn loss_bounded(door: &Door<'_>, bound: &LossBound, consent: &Consent) -> Result<LossBounded, Refused> {
    door.mine(&bound.run, "loss bound")?;
    door.mine(&consent.run, "consent")?;
    if covers(&consent.loss, &bound.loss) {
        Ok(LossBounded { seal: door.seal(), bound: bound.clone() })
    } else {
        Err(Refused::TooMuch { bound: Box::new(bound.loss.clone()), accepted: Box::new(consent.loss.clone()) })
    }
}

/// Two different people accepted, for this very plan and until now, what was measured.
///
/// # Errors
/// [`Refused::Foreign`] for another run; [`Refused::Lost`] for another plan, fewer people, something else that they accepted, or when its
/// time is over; [`Refused::Weak`] when less was measured than they accepted.
pub fn waiver(door: &Door<'_>, waived: &Waived, measured: Grade) -> Result<Waiver, Refused> {
    by_two_people(door, waived, "waiver")?;
    match waived.accepts {
        Accepted::Grade(least) if measured < least => Err(Refused::Weak { found: measured, needed: least }),
        Accepted::Grade(_) => Ok(Waiver { seal: door.seal(), waived: waived.clone() }),
        Accepted::Silence(_) => Err(Refused::Lost { what: "waiver", why: format!("{}, and no grade", waived.accepts) }),
    }
}

/// Two different people attest, for this very plan and until now, that `member` is down. It is one more place that does not see the
/// member, and outweighs no answer of its own.
///
/// # Errors
/// [`Refused::Foreign`] for another run; [`Refused::Lost`] for another plan, fewer people, something else that they accepted, or when its
/// time is over.
pub fn attested(door: &Door<'_>, waived: &Waived, member: &MemberId) -> Result<Attested, Refused> {
    by_two_people(door, waived, "attestation")?;
    match &waived.accepts {
        Accepted::Silence(down) if down == member => Ok(Attested { seal: door.seal() }),
        Accepted::Silence(_) | Accepted::Grade(_) => {
            Err(Refused::Lost { what: "attestation", why: waived.accepts.to_string() })
        }
    }
}

fn by_two_people(door: &Door<'_>, waived: &Waived, what: &'static str) -> Result<(), Refused> {
    door.mine(&waived.run, what)?;
    let lost = |why| Err(Refused::Lost { what, why });
    if waived.plan != door.plan {
        return lost(format!("it was given for plan {}, this is {}", waived.plan, door.plan));
    }
    let people = super::Given::people(&waived.given);
    if people < 2 {
        return lost(format!("it needs two different people, {people} agreed"));
    }
    if door.runtime.now_wall() > waived.expires {
        return lost(format!("it was good until {}", waived.expires));
    }
    Ok(())
}

/// The people who agreed to a plan without a fence took the risk of a second writer by it, because of `reason`.
///
/// # Errors
/// As for [`waiver`].
pub fn unfenced(door: &Door<'_>, consent: &Consent, reason: &str) -> Result<Waiver, Refused> {
    let waived = Waived {
        run: consent.run.clone(),
        plan: consent.plan,
        ask: consent.ask,
        given: consent.given.clone(),
        reason: reason.to_owned(),
        accepts: Accepted::Grade(Grade::Unconfirmable),
        owes: None,
        expires: consent.expires,
    };
    waiver(door, &waived, Grade::Unconfirmable)
}

/// The member is a standby of `writer` which nobody follows, and refuses a write: it has nothing that the writer has not. Where links name
/// endpoints, `endpoint` is the writer's.
///
/// # Errors
/// [`Refused::Lost`] for another resource than `target`, one whose identity is not told, one that follows somebody else or nobody, one
/// with followers of its own, or one that may take writes; [`Refused::Silent`] where that cannot be asked.
pub async fn not_writer(
    door: &Door<'_>,
    database: &dyn ManagedDatabase,
    probe: &dyn DatabaseProbe,
    target: &Target,
    (writer, endpoint): (&Target, Option<&Endpoint>),
) -> Result<NotWriter, Refused> {
    const WHAT: &str = "standby";
    let seen = same_resource(database, target, WHAT).await?;
    let lost = |why: String| Err(Refused::Lost { what: WHAT, why });
    let member = &target.member;
    if !seen.follows(&writer.address, endpoint) {
        return lost(format!("`{member}` does not follow `{}`, the writer", writer.member));
    }
    if let Some(follower) = seen.followers.first() {
        return lost(format!("`{member}` is followed by {}", follower.peer));
    }
    if seen.writable != Tri::No {
        return lost(format!("whether `{member}` takes writes: {}", seen.writable));
    }
    match probe.write().await {
        Ok(write) if write.accepted == Tri::No => {}
        Ok(write) => return lost(format!("a write on `{member}` was accepted: {}", write.accepted)),
        // What its provider says is all there is.
        Err(ProviderError::Unsupported { .. }) => {}
        Err(source) => return Err(Refused::Silent { what: WHAT, source: Box::new(source) }),
    }
    Ok(NotWriter { seal: door.seal(), target: target.clone() })
}

/// This very run restored the member, and it is still the same resource.
///
/// # Errors
/// [`Refused::Foreign`] for another run's; [`Refused::Lost`] for another resource; [`Refused::Silent`] where that cannot be asked.
pub async fn own_making(
    door: &Door<'_>,
    database: &dyn ManagedDatabase,
    receipt: &RestoreReceipt,
) -> Result<NotWriter, Refused> {
    const WHAT: &str = "restore receipt";
    door.mine(&receipt.run, WHAT)?;
    same_resource(database, &receipt.target, WHAT).await?;
    Ok(NotWriter { seal: door.seal(), target: receipt.target.clone() })
}

/// The resource is the one that `target` pins, by an identity that both sides tell.
async fn same_resource(
    database: &dyn ManagedDatabase,
    target: &Target,
    what: &'static str,
) -> Result<Description, Refused> {
    let seen = database.describe().await.map_err(|source| Refused::Silent { what, source: Box::new(source) })?;
    if let Err(other) = target.is(&seen.address, seen.identity.as_ref()) {
        return Err(Refused::Lost { what, why: other.to_string() });
    }
    if target.identity.is_none() || seen.identity.is_none() {
        let why = format!("nobody tells whether the resource at {} is still the same", target.address);
        return Err(Refused::Lost { what, why });
    }
    Ok(seen)
}

/// Whether a loss of at most `bound` is within `accepted`.
#[must_use]
pub fn covers(accepted: &Loss, bound: &Loss) -> bool {
    match (accepted, bound) {
        (_, Loss::Nothing) | (Loss::Unknown { .. }, _) => true,
        (Loss::Nothing, Loss::AtMost { .. }) | (Loss::Nothing | Loss::AtMost { .. }, Loss::Unknown { .. }) => false,
        (Loss::AtMost { time: ceiling, .. }, Loss::AtMost { time, .. }) => time <= ceiling,
    }
}
