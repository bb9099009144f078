//! What several steps read, and the words in which they say no.

use futures_util::future::join;

use crate::{
    base::{MemberId, text},
    contract::{Cause, Description, Lineage, Mismatch, NotDone, PositionReading, ProviderError, Retry, Target, Tri},
    plan::{Observed, Prepared, StepCx, StepError},
};

/// Nothing will change this answer: the step is over.
pub(super) fn conflict<T>(why: impl std::fmt::Display) -> Observed<T> {
    Observed::Conflict(Cause::new(why))
}

/// Not so now; it may come. The words are what a deadline will say.
pub(super) fn not_yet<T>(why: impl std::fmt::Display) -> Observed<T> {
    Observed::Unknown(Cause::new(why))
}

/// Nothing is sent, and the run must not go on with this step.
pub(super) fn refuse<T>(why: impl std::fmt::Display) -> Prepared<T> {
    Prepared::Conflict(Cause::new(why))
}

/// Nothing is sent now; it is prepared again after a while.
pub(super) fn later<T>(why: impl std::fmt::Display, retry: Retry) -> Prepared<T> {
    Prepared::NotReady(NotDone { cause: Cause::new(why), retry })
}

/// What a backend does not offer is `None`; every other failure stays one.
pub(super) fn offered<T>(read: Result<T, ProviderError>) -> Result<Option<T>, ProviderError> {
    match read {
        Ok(value) => Ok(Some(value)),
        Err(ProviderError::Unsupported { .. }) => Ok(None),
        Err(error) => Err(error),
    }
}

/// One member, through both planes.
#[derive(Debug)]
pub(super) struct Seen {
    pub(super) description: Description,
    /// `None` where the data plane tells no positions.
    pub(super) position: Option<PositionReading>,
}

impl Seen {
    /// The history that it carries: the data plane knows better than the management plane.
    pub(super) fn lineage(&self) -> Option<&Lineage> {
        self.position.as_ref().map(|position| &position.lineage).or(self.description.lineage.as_ref())
    }

    /// Whether it is a standby from inside; unknown where the data plane does not tell. The server of a logical copy is in no recovery:
    /// its provider's word counts.
    pub(super) fn in_recovery(&self) -> Tri {
        if self.description.is_copy() {
            return self.description.standby_by_word();
        }
        self.position.as_ref().map_or(Tri::Unknown, |position| position.in_recovery)
    }

    /// Why this is not the member that the plan means, if so.
    pub(super) fn differs(&self, target: &Target) -> Option<String> {
        if let Err(other) = replaced(&self.description, target) {
            return Some(other.to_string());
        }
        match self.lineage() {
            Some(found) if *found != target.lineage => {
                Some(format!("`{}` carries lineage {found}, the plan expects {}", target.member, target.lineage))
            }
            Some(_) => None,
            None => Some(format!("nobody can say which lineage `{}` carries", target.member)),
        }
    }
}

/// Compares what a member says of itself with the resource that is meant.
pub(super) fn replaced(seen: &Description, target: &Target) -> Result<(), Mismatch> {
    target.is(&seen.address, seen.identity.as_ref())
}

/// Reads a member through both planes at once.
pub(super) async fn see(cx: &StepCx, member: &MemberId) -> Result<Seen, StepError> {
    let (database, probe) = (cx.database(member)?, cx.probe(member)?);
    let (description, position) = join(database.describe(), probe.position()).await;
    Ok(Seen { description: description?, position: offered(position)? })
}

/// Where a member is, if its data plane tells.
pub(super) async fn position(cx: &StepCx, member: &MemberId) -> Result<Option<PositionReading>, StepError> {
    Ok(offered(cx.probe(member)?.position().await)?)
}

/// Why a description is too old to rely on, if so.
pub(super) fn stale(cx: &StepCx, description: &Description, member: &MemberId) -> Option<String> {
    let (age, limit) = (cx.now().since(description.at), cx.policy().fact_age_of(description.cadence));
    (age > limit).then(|| {
        format!("what is known of `{member}` is {} old, the limit is {}", text::human(age), text::human(limit))
    })
}
