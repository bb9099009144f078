//! Making a member a standby of the present writer, without a promotion in the same plan: what a run left as a debt, done later.

use async_trait::async_trait;
use futures_util::future::{join, join3};
use serde::{Deserialize, Serialize};

use super::{
    read::{not_yet, refuse, replaced, see},
    rejoin::{come_back, progress},
};
use crate::{
    base::{Kind, MemberId},
    contract::{Binding, Class, Consent, OpHandle, Outcome, RejoinRequest, Target, Touch, Tri, verb},
    plan::{
        Carries, Duty, Effect, Handler, Input, Marks, Observed, Polled, Prepared, Ready, Stage, Step, StepCx,
        StepError, stop,
    },
};

/// Makes `member` a standby of `primary`, the writer that the plan was made for. A member that is a writer itself is never touched, and
/// what only the member has is destroyed only if the step says so and people agreed.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AttachStandby {
    member: MemberId,
    primary: Target,
    may_discard: bool,
    consent: Input<Consent>,
}

impl AttachStandby {
    /// `member` follows `primary`, keeping whatever only it has.
    #[must_use]
    pub fn of(member: &MemberId, primary: &Target, consent: &impl Carries<Consent>) -> Self {
        Self { member: member.clone(), primary: primary.clone(), may_discard: false, consent: Input::of(consent) }
    }

    /// Data that only the member has may be destroyed (E14, E17).
    #[must_use]
    pub fn discarding(self) -> Self {
        Self { may_discard: true, ..self }
    }
}

impl Step for AttachStandby {
    const KIND: Kind = Kind::new("dr.attach", 1);
    const EFFECT: Effect = Effect::Reconcilable;
    const CLASS: Class = Class::Rejoin;
    type Output = ();

    fn sentence(&self) -> String {
        let (member, primary) = (&self.member, &self.primary.member);
        if self.may_discard {
            format!("make {member} a standby of {primary}; what only {member} has is destroyed")
        } else {
            format!("make {member} a standby of {primary}, if it has nothing of its own")
        }
    }

    fn marks(&self) -> Marks {
        Marks::at(Stage::After).duty(Duty::Rejoin).looks_at(&self.member)
    }

    fn touches(&self) -> Vec<Touch> {
        vec![verb::REJOIN.on(self.member.as_str())]
    }
}

pub(super) struct Attaching;

impl Attaching {
    /// Why the primary is not the writer that the plan means, if so.
    async fn no_primary(cx: &StepCx, step: &AttachStandby) -> Result<Option<String>, StepError> {
        let seen = see(cx, &step.primary.member).await?;
        if let Some(why) = seen.differs(&step.primary) {
            return Ok(Some(format!("{why}; make a new plan")));
        }
        let standby = seen.in_recovery() == Tri::Yes || seen.description.follows.is_some();
        Ok(standby.then(|| format!("`{}` is no writer; make a new plan", step.primary.member)))
    }
}

#[async_trait]
impl Handler for Attaching {
    type Step = AttachStandby;

    async fn observe(&self, cx: &StepCx, step: &AttachStandby) -> Result<Observed<()>, StepError> {
        let database = cx.database(&step.member)?;
        let (member, primary) = (&step.member, &step.primary);
        let writer = cx.database(&primary.member)?;
        let (description, replication, writer) =
            join3(database.describe(), database.replication(), writer.describe()).await;
        let (description, endpoint) = (description?, writer.ok().map(|writer| writer.endpoint));
        if !description.follows(&primary.address, endpoint.as_ref()) {
            let working = description.busy.is_some();
            let begun = Observed::InProgress { handle: OpHandle::none(), percent: None };
            return Ok(if working { begun } else { Observed::NotStarted });
        }
        let replication = replication?;
        if let Some(found) = replication.lineage.filter(|found| *found != primary.lineage) {
            return Ok(not_yet(format_args!(
                "`{member}` receives lineage {found}, the writer's is {}",
                primary.lineage
            )));
        }
        Ok(match replication.streaming {
            Tri::Yes => Observed::Done(()),
            Tri::No | Tri::Unknown => not_yet(format_args!("`{member}` follows the writer, but does not receive yet")),
        })
    }

    async fn prepare(&self, cx: &StepCx, step: &AttachStandby) -> Result<Prepared<()>, StepError> {
        if let Some(why) = Self::no_primary(cx, step).await? {
            return Ok(refuse(why));
        }
        Ok(match self.observe(cx, step).await {
            Ok(Observed::Done(())) => Prepared::AlreadyDone(()),
            // A stopped member may tell nothing; whether it may be attached, its backend decides.
            Ok(_) | Err(_) => Prepared::Ready(Ready::default()),
        })
    }

    async fn submit(&self, cx: &StepCx, step: &AttachStandby) -> Result<Outcome<()>, StepError> {
        step.consent.get()?;
        if let Some(why) = Self::no_primary(cx, step).await? {
            return Ok(Outcome::refused(why));
        }
        let (database, primary) = (cx.database(&step.member)?, cx.database(&step.primary.member)?);
        let (old, new) = join(database.describe(), primary.describe()).await;
        // A member that tells nothing of its history is taken as it is bound; the backend compares before it touches anything.
        let binding = cx.plan().bindings.get(&Binding::from(&step.member));
        let binding = binding.ok_or_else(|| stop(format_args!("the plan binds `{}` to nothing", step.member)))?;
        let lineage = old.as_ref().ok().and_then(|old| old.lineage.clone());
        let target = Target {
            member: step.member.clone(),
            address: binding.address.clone(),
            identity: binding.identity.clone(),
            lineage: lineage.unwrap_or_else(|| step.primary.lineage.clone()),
            receives: None,
        };
        if let Some(other) = old.as_ref().ok().and_then(|old| replaced(old, &target).err()) {
            return Ok(Outcome::refused(format_args!("{other}; make a new plan")));
        }
        let request = RejoinRequest {
            target,
            primary: step.primary.clone(),
            endpoint: new?.endpoint,
            parted_at: None,
            may_discard: step.may_discard,
            key: cx.key(),
        };
        let outcome = database.rejoin(request).await;
        Ok(super::read_back(outcome, self.observe(cx, step)).await)
    }

    async fn poll(&self, cx: &StepCx, step: &AttachStandby, handle: &OpHandle) -> Result<Polled<()>, StepError> {
        let (progress, seen) = join(progress(cx, &step.member, handle), self.observe(cx, step)).await;
        Ok(come_back(cx, progress?, seen?))
    }
}
