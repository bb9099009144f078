//! The lock at the resource itself: one orchestrator per candidate, whatever journals and group files it has.

use async_trait::async_trait;
use serde::{Deserialize, Serialize};

use super::read::{conflict, offered};
use crate::{
    base::{Kind, MemberId},
    contract::Class,
    plan::{Duty, Effect, Look, Marks, Observed, Stage, Step, StepCx, StepError},
};

/// Takes the lock at the candidate that says "this group is being operated". It lives with the connection of the engine; where the
/// service has no such lock there is nothing to take.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TakeGroupLock {
    /// The member that holds the lock.
    pub at: MemberId,
}

impl Step for TakeGroupLock {
    const KIND: Kind = Kind::new("dr.group-lock", 1);
    const EFFECT: Effect = Effect::ReadOnly;
    const CLASS: Class = Class::Guard;
    type Output = ();

    fn sentence(&self) -> String {
        format!("take the group's lock at {}", self.at)
    }

    fn marks(&self) -> Marks {
        Marks::at(Stage::Lock).duty(Duty::GroupLock)
    }
}

/// Why somebody else operates the group, if so. Asked again before a fence and before a promotion: a restart loses the lock.
pub(super) async fn held_by_another(cx: &StepCx, at: &MemberId) -> Result<Option<String>, StepError> {
    let taken = offered(cx.probe(at)?.group_lock(&cx.run().to_string()).await)?;
    Ok((taken == Some(false)).then(|| {
        format!("another orchestrator holds the group's lock at `{at}`; see which one, it may work on the same servers")
    }))
}

pub(super) struct GroupLock;

#[async_trait]
impl Look for GroupLock {
    type Step = TakeGroupLock;

    async fn look(&self, cx: &StepCx, step: &TakeGroupLock) -> Result<Observed<()>, StepError> {
        Ok(held_by_another(cx, &step.at).await?.map_or(Observed::Done(()), conflict))
    }
}
