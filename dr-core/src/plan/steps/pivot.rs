//! What tells whether a promotion happened, and whether it was ours (D14, D16, E09).
//!
//! ```text
//!  in recovery, old lineage ─────────────────────────────────► not started
//!  writes, no intent of ours ────────────────────────────────► conflict: a stranger's act
//!  writes, our intent, new generation, parted at or past the proof ──► done
//!  writes, our intent, histories are not counted ────► done if the provider took our call, or its record says that it was ours
//!  the provider gave up what it accepted, both sides as before ─────► given up: nothing of it stands
//!  writes, our intent, anything else ────────────────────────► conflict, or look again where the provider may lag
//! ```

use futures_util::future::{join, join3};

use super::{
    lock::held_by_another,
    read::{conflict, not_yet, offered, position, replaced, see},
};
use crate::{
    base::{Millis, Timestamp},
    contract::{
        Attribution, Cause, Description, Lineage, ManagedDatabase, NotDone, OpHandle, OpProgress, Outcome, Parted,
        Position, PositionReading, PromotionReceipt, ProviderError, Retry, Shape, Shortfall, Target, Tri, admit,
    },
    plan::{Observed, Polled, Prepared, StepCx, StepError},
};

/// What a promotion must have led to.
#[derive(Clone, Copy, Debug)]
pub(super) struct Expected<'a> {
    /// The candidate, with the lineage that it followed.
    pub(super) target: &'a Target,
    /// What it was proved to have before.
    pub(super) proven: Option<&'a Position>,
    /// How it was asked for.
    pub(super) shape: Shape,
}

/// What is true of the candidate, read through both planes.
pub(super) async fn observe(cx: &StepCx, expected: Expected<'_>) -> Result<Observed<PromotionReceipt>, StepError> {
    let member = &expected.target.member;
    let (database, probe) = (cx.database(member)?, cx.probe(member)?);
    if expected.target.is_copy() {
        // What its server says is the same before and after: whom it follows, only its provider tells.
        return attributed(cx, expected, by_description(cx, expected, &database.describe().await?)).await;
    }
    let (description, position) = join(database.describe(), probe.position()).await;
    match offered(position)? {
        Some(reading) => {
            let seen = by_position(cx, expected, &reading);
            // The server says "not yet"; the provider may know that it is at work, or that this is another server.
            let seen = match (seen, description) {
                (_, Ok(said)) if replaced(&said, expected.target).is_err() => by_description(cx, expected, &said),
                (Observed::NotStarted, Ok(Description { busy: Some(_), .. })) => {
                    Observed::InProgress { handle: OpHandle::none(), percent: None }
                }
                (seen, _) => seen,
            };
            attributed(cx, expected, seen).await
        }
        None => attributed(cx, expected, by_description(cx, expected, &description?)).await,
    }
}

/// How far the provider's clock may be behind ours.
const SKEW: Millis = Millis::seconds(5);

/// Where histories are counted, a new generation and our intent tell whose promotion it was. Where they are not, and for a logical copy,
/// which goes on with the history that it had, a colleague may have
/// changed the roles a moment after our intent while our call was lost: the provider's word that it took our call, its record of the
/// change, or two people tell.
async fn attributed(
    cx: &StepCx,
    expected: Expected<'_>,
    seen: Observed<PromotionReceipt>,
) -> Result<Observed<PromotionReceipt>, StepError> {
    let Observed::Done(receipt) = seen else { return Ok(seen) };
    if receipt.target.lineage.generation > 0 && !expected.target.is_copy() {
        return Ok(Observed::Done(receipt));
    }
    let member = &expected.target.member;
    let since = Timestamp::from_millis(receipt.asked_at.millis().saturating_sub_unsigned(SKEW.count()));
    let attribution = match cx.database(member)?.attribution(since).await {
        Ok(found) => found,
        Err(ProviderError::Unsupported { .. }) => None,
        // The record only adds to what the provider said when it took our call.
        Err(_) if cx.acknowledged() => None,
        Err(error) => return Err(error.into()),
    };
    let ours = attribution.as_ref().map_or(Tri::Unknown, |found| found.ours);
    Ok(match (ours, attribution) {
        (Tri::No, Some(Attribution { operation, kind, started, .. })) => conflict(format_args!(
            "`{member}` was made the writer by another caller: {kind}, operation `{operation}`, begun at {started}"
        )),
        (Tri::Yes, attribution) => Observed::Done(PromotionReceipt { attribution, ..receipt }),
        (_, attribution) if cx.acknowledged() => Observed::Done(PromotionReceipt { attribution, ..receipt }),
        (_, attribution) if !cx.claimed_by().is_empty() => {
            let claimed_by = cx.claimed_by().to_vec();
            Observed::Done(PromotionReceipt { attribution, claimed_by, ..receipt })
        }
        (_, _) => not_yet(format_args!(
            "`{member}` has become the writer, our call had no answer, and the provider's record does not tell whose change it was"
        )),
    })
}

/// The quick look of a wait: only what the server itself says, where it says anything.
pub(super) async fn poll(
    cx: &StepCx,
    expected: Expected<'_>,
    handle: &OpHandle,
) -> Result<Polled<PromotionReceipt>, StepError> {
    let member = &expected.target.member;
    let database = cx.database(member)?;
    let progress = async {
        if handle.is_none() {
            return Ok(gave_up(cx, database.as_ref()).await?.map(|why| OpProgress::Failed { why }));
        }
        Ok::<_, StepError>(Some(database.poll(handle).await?))
    };
    let inside = async { if expected.target.is_copy() { Ok(None) } else { position(cx, member).await } };
    let (progress, reading) = join(progress, inside).await;
    let progress = progress?;
    let seen = match reading? {
        Some(reading) => by_position(cx, expected, &reading),
        None => by_description(cx, expected, &database.describe().await?),
    };
    let seen = attributed(cx, expected, seen).await?;
    let failed = match &progress {
        Some(OpProgress::Failed { why }) => Some(format!("the provider says that it failed: {why}")),
        // A server that was restarted meanwhile has forgotten the request.
        Some(OpProgress::Lost { saw }) => Some(format!("nobody works on it any more: {saw}")),
        Some(OpProgress::Running { .. } | OpProgress::Finished) | None => None,
    };
    let percent = match progress {
        Some(OpProgress::Running { percent }) => percent,
        Some(OpProgress::Finished | OpProgress::Failed { .. } | OpProgress::Lost { .. }) | None => None,
    };
    Ok(match (seen, failed) {
        (Observed::Done(receipt), _) => Polled::Ended(Outcome::Done(receipt)),
        (Observed::Conflict(cause), _) => Polled::Ended(Outcome::Conflict(cause)),
        // Roles may have changed before it failed: what it left is looked at, nothing is concluded from the word.
        (_, Some(why)) => Polled::Ended(Outcome::unknown(why)),
        (
            Observed::NotStarted
            | Observed::Partial { .. }
            | Observed::InProgress { .. }
            | Observed::Unknown(_)
            | Observed::GivenUp(_)
            | Observed::Short(_),
            None,
        ) => Polled::Pending { again_in: cx.every(), percent },
    })
}

/// The provider's word that it gave up a change that it took without naming an operation. Such a word names no attempt: after a second one
/// it may be the first one's, and of a call without an answer it proves nothing.
async fn gave_up(cx: &StepCx, database: &dyn ManagedDatabase) -> Result<Option<String>, StepError> {
    let Some(since) = cx.intended_at().filter(|_| cx.acknowledged() && cx.attempt() == 1) else { return Ok(None) };
    Ok(offered(database.gave_up(since).await)?.flatten())
}

/// The provider's words, if it gave up what it accepted and both sides are as they were before: `from` takes a write on the old
/// lineage, the candidate follows it, and nobody works on either.
///
/// One look proves nothing, because a change may be seen late; and without the provider's own word on the operation no number of looks
/// does, because it may still come.
pub(super) async fn given_up(cx: &StepCx, from: &Target, to: &Target) -> Result<Option<Cause>, StepError> {
    let database = cx.database(&to.member)?;
    let why = match cx.handle() {
        Some(handle) => match database.poll(handle).await? {
            OpProgress::Failed { why } => Some(why),
            OpProgress::Running { .. } | OpProgress::Finished | OpProgress::Lost { .. } => None,
        },
        None => gave_up(cx, database.as_ref()).await?,
    };
    let Some(why) = why else { return Ok(None) };
    let probe = cx.probe(&from.member)?;
    let (old, new, write) = join3(see(cx, &from.member), see(cx, &to.member), probe.write()).await;
    let (old, new, write) = (old?, new?, write?);
    let writes = old.differs(from).is_none()
        && old.in_recovery() != Tri::Yes
        && old.description.follows.is_none()
        && write.accepted == Tri::Yes
        && write.lineage.is_none_or(|lineage| lineage == from.lineage);
    let follows = new.differs(to).is_none()
        && new.in_recovery() != Tri::No
        && new.description.follows(&from.address, Some(&old.description.endpoint));
    let idle = old.description.busy.is_none() && new.description.busy.is_none();
    Ok((writes && follows && idle).then(|| {
        let (from, to) = (&from.member, &to.member);
        Cause::new(format!("the provider gave it up ({why}); `{from}` writes as before, and `{to}` follows it"))
    }))
}

pub(super) fn by_position(
    cx: &StepCx,
    expected: Expected<'_>,
    reading: &PositionReading,
) -> Observed<PromotionReceipt> {
    let Expected { target, proven, .. } = expected;
    let member = &target.member;
    match reading.in_recovery {
        Tri::Unknown => not_yet(format_args!("nobody can say whether `{member}` is in recovery")),
        Tri::Yes if reading.lineage != target.lineage => {
            let found = &reading.lineage;
            conflict(format_args!("`{member}` follows lineage {found} now, it followed {}", target.lineage))
        }
        Tri::Yes => Observed::NotStarted,
        Tri::No if cx.intended_at().is_none() => stranger(target),
        Tri::No => match descends(&reading.lineage, target) {
            Descent::Other => conflict(format_args!(
                "`{member}` writes on lineage {}, which does not come from {}",
                reading.lineage, target.lineage
            )),
            // The server of a logical copy says the same before and after its promotion.
            Descent::NewSystem => {
                not_yet(format_args!("`{member}` is a logical copy; its provider tells whom it follows"))
            }
            Descent::Same => {
                not_yet(format_args!("`{member}` has left recovery, but still shows lineage {}", target.lineage))
            }
            Descent::Child => match (&reading.parted_at, proven) {
                (Parted::At(parted), Some(proven)) if !parted.reaches(proven) => conflict(format_args!(
                    "`{member}` left the old history at {parted}, before {proven}: acknowledged writes are missing"
                )),
                (Parted::At(_) | Parted::Untold { .. }, Some(_) | None) => {
                    Observed::Done(receipt(cx, expected, &reading.lineage, reading.parted_at.clone(), reading.at))
                }
            },
        },
    }
}

fn by_description(cx: &StepCx, expected: Expected<'_>, seen: &Description) -> Observed<PromotionReceipt> {
    let target = expected.target;
    let member = &target.member;
    if let Err(other) = replaced(seen, target) {
        return conflict(format_args!("another resource than the promoted one answers: {other}"));
    }
    if seen.busy.is_some() {
        return Observed::InProgress { handle: OpHandle::none(), percent: None };
    }
    if seen.follows.is_some() {
        return Observed::NotStarted;
    }
    if cx.intended_at().is_none() {
        return stranger(target);
    }
    if seen.writable == Tri::No {
        return not_yet(format_args!("`{member}` follows nobody, but takes no writes yet"));
    }
    let lineage = seen.lineage.as_ref().unwrap_or(&target.lineage);
    let parted = match descends(lineage, target) {
        Descent::Other => {
            return conflict(format_args!("`{member}` carries lineage {lineage}, promoted was {}", target.lineage));
        }
        // The management plane may be the last to know of a new generation; who writes, ConfirmWriter asks the server.
        Descent::Same | Descent::Child => "the provider tells no position",
        Descent::NewSystem => "it is another system, whose history has no place in the former primary's",
    };
    Observed::Done(receipt(cx, expected, lineage, Parted::untold(parted), seen.at))
}

fn stranger<T>(target: &Target) -> Observed<T> {
    conflict(format_args!(
        "`{}` was promoted, and not by this run; find out by whom before anything else is changed",
        target.member
    ))
}

pub(super) enum Descent {
    /// The next generation of the same system.
    Child,
    /// The same history.
    Same,
    /// The history that a logical copy had beside the one that it was fed from: another system becomes the writer.
    NewSystem,
    /// None of these: it does not come from there.
    Other,
}

/// How a lineage stands to the member before its promotion. Generation 0 on both sides means that the provider tells none.
pub(super) fn descends(now: &Lineage, target: &Target) -> Descent {
    let before = &target.lineage;
    if now.system != before.system || now.generation < before.generation {
        Descent::Other
    } else if target.is_copy() {
        Descent::NewSystem
    } else if now.generation > before.generation || now.generation == 0 {
        Descent::Child
    } else {
        Descent::Same
    }
}

fn receipt(
    cx: &StepCx,
    expected: Expected<'_>,
    lineage: &Lineage,
    parted_at: Parted,
    at: Timestamp,
) -> PromotionReceipt {
    let not_compared = match (&parted_at, expected.proven) {
        (Parted::At(_), Some(_)) => None,
        (Parted::Untold { because }, _) => Some(because.clone()),
        (Parted::At(_), None) => Some("no position was proved before the promotion".to_owned()),
    };
    PromotionReceipt {
        run: cx.run().clone(),
        target: Target { lineage: lineage.clone(), receives: None, ..expected.target.clone() },
        was: expected.target.holds().clone(),
        parted_at,
        not_compared,
        shape: expected.shape,
        attribution: None,
        claimed_by: Vec::new(),
        asked_at: cx.intended_at().unwrap_or(at),
        at,
    }
}

/// What stands in the way of a promotion intent, apart from its proofs; the intent is the point of no return.
pub(super) async fn not_now(
    cx: &StepCx,
    expected: Expected<'_>,
) -> Result<Option<Prepared<PromotionReceipt>>, StepError> {
    let (seen, held) = join(observe(cx, expected), held_by_another(cx, &expected.target.member)).await;
    if let Some(why) = held? {
        return Ok(Some(Prepared::Conflict(Cause::new(why))));
    }
    Ok(match seen? {
        Observed::NotStarted | Observed::GivenUp(_) => None,
        Observed::Done(receipt) => Some(Prepared::AlreadyDone(receipt)),
        Observed::Conflict(cause) => Some(Prepared::Conflict(cause)),
        Observed::InProgress { .. } => Some(Prepared::NotReady(NotDone {
            cause: Cause::new("the provider is at work on the candidate"),
            retry: Retry::After(cx.every()),
        })),
        Observed::Partial { missing, .. } => {
            Some(Prepared::NotReady(NotDone { cause: Cause::new(missing), retry: Retry::After(cx.every()) }))
        }
        Observed::Unknown(cause) | Observed::Short(Shortfall { why: cause, .. }) => {
            Some(Prepared::NotReady(NotDone { cause, retry: Retry::After(cx.every()) }))
        }
    })
}

/// A proof that was not given: nothing is sent.
pub(super) fn no_proof(refused: &admit::Refused) -> NotDone {
    NotDone { cause: refused.cause(), retry: refused.retry() }
}

/// The same before the intent: what may come is waited for, anything else turns the run back.
pub(super) fn not_proved<T>(refused: &admit::Refused) -> Prepared<T> {
    match refused.retry() {
        Retry::Never => Prepared::Conflict(refused.cause()),
        Retry::After(_) | Retry::ReadFirst => Prepared::NotReady(no_proof(refused)),
    }
}
