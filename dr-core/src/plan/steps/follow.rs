//! The standbys that are neither the former primary nor its successor: each receives from the new writer, or somebody owes it.

use async_trait::async_trait;
use futures_util::future::join;
use serde::{Deserialize, Serialize};

use super::{
    confirm::no_writer_any_more,
    read::{later, refuse, replaced},
    rejoin::{attached, come_back, progress},
};
use crate::{
    base::{Kind, MemberId},
    contract::{
        Binding, Class, FollowRequest, OpHandle, Outcome, PromotionReceipt, Retry, Target, Touch, Tri, WriterReceipt,
        verb,
    },
    plan::{
        Carries, Duty, Effect, Handler, Input, Marks, Observed, Polled, Prepared, Ready, Stage, Step, StepCx,
        StepError, stop,
    },
};

/// Points a running standby at the writer. A member that is no standby is never touched, and what only it has is never destroyed.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FollowWriter {
    member: MemberId,
    writer: Input<WriterReceipt>,
    promotion: Input<PromotionReceipt>,
}

impl FollowWriter {
    /// `member` follows `writer`, which `promotion` made the writer.
    #[must_use]
    pub fn of(
        member: &MemberId,
        writer: &impl Carries<WriterReceipt>,
        promotion: &impl Carries<PromotionReceipt>,
    ) -> Self {
        Self { member: member.clone(), writer: Input::of(writer), promotion: Input::of(promotion) }
    }
}

impl Step for FollowWriter {
    const KIND: Kind = Kind::new("dr.follow", 1);
    const EFFECT: Effect = Effect::Reconcilable;
    const CLASS: Class = Class::Rejoin;
    type Output = ();

    fn sentence(&self) -> String {
        format!("let {} follow the writer", self.member)
    }

    fn marks(&self) -> Marks {
        Marks::at(Stage::After).duty(Duty::Follow).looks_at(&self.member)
    }

    fn touches(&self) -> Vec<Touch> {
        vec![verb::FOLLOW.on(&self.member)]
    }
}

pub(super) struct Following;

impl Following {
    /// The standby as the plan binds it, on the history that it carries.
    fn target(cx: &StepCx, step: &FollowWriter, seen: &crate::contract::Description) -> Result<Target, StepError> {
        let binding = cx.plan().bindings.get(&Binding::from(&step.member));
        let binding = binding.ok_or_else(|| stop(format_args!("the plan binds `{}` to nothing", step.member)))?;
        Ok(Target {
            member: step.member.clone(),
            address: binding.address.clone(),
            identity: binding.identity.clone(),
            lineage: seen.lineage.clone().unwrap_or_else(|| cx.plan().expects.lineage.clone()),
            receives: None,
        })
    }
}

#[async_trait]
impl Handler for Following {
    type Step = FollowWriter;

    async fn observe(&self, cx: &StepCx, step: &FollowWriter) -> Result<Observed<()>, StepError> {
        attached(cx, &step.member, step.writer.get()?).await
    }

    async fn prepare(&self, cx: &StepCx, step: &FollowWriter) -> Result<Prepared<()>, StepError> {
        let writer = step.writer.get()?;
        let (gone, seen) = join(no_writer_any_more(cx, writer), self.observe(cx, step)).await;
        if let Some(why) = gone? {
            return Ok(refuse(why));
        }
        match seen? {
            Observed::Done(()) => return Ok(Prepared::AlreadyDone(())),
            Observed::Conflict(cause) => return Ok(Prepared::Conflict(cause)),
            Observed::InProgress { .. } => {
                return Ok(later(
                    format_args!("the provider is at work on `{}`", step.member),
                    Retry::After(cx.every()),
                ));
            }
            Observed::NotStarted
            | Observed::Partial { .. }
            | Observed::Unknown(_)
            | Observed::GivenUp(_)
            | Observed::Short(_) => {}
        }
        let description = cx.database(&step.member)?.describe().await?;
        if description.follows.is_none() || description.writable == Tri::Yes {
            let why = format_args!("`{}` is no standby: it follows nobody, or takes writes", step.member);
            return Ok(refuse(why));
        }
        Ok(Prepared::Ready(Ready::default()))
    }

    async fn submit(&self, cx: &StepCx, step: &FollowWriter) -> Result<Outcome<()>, StepError> {
        let (writer, promotion) = (step.writer.get()?, step.promotion.get()?);
        let database = cx.database(&step.member)?;
        let description = database.describe().await?;
        let target = Self::target(cx, step, &description)?;
        if let Err(other) = replaced(&description, &target) {
            return Ok(Outcome::refused(format_args!("{other}; make a new plan")));
        }
        let request = FollowRequest {
            target,
            primary: writer.target.clone(),
            endpoint: writer.endpoint.clone(),
            parted_at: promotion.parted_at.at().cloned(),
            key: cx.key(),
        };
        let outcome = database.follow(request).await;
        Ok(super::read_back(outcome, self.observe(cx, step)).await)
    }

    async fn poll(&self, cx: &StepCx, step: &FollowWriter, handle: &OpHandle) -> Result<Polled<()>, StepError> {
        let (progress, seen) = join(progress(cx, &step.member, handle), self.observe(cx, step)).await;
        Ok(come_back(cx, progress?, seen?))
    }
}
