//! Sending readers to the standbys of the new writer, which nobody waits for.

use std::collections::BTreeSet;

use async_trait::async_trait;
use futures_util::future::{join, join_all};
use serde::{Deserialize, Serialize};

use super::{
    confirm::no_writer_any_more,
    read::{not_yet, refuse},
};
use crate::{
    base::{BindingName, Kind, MemberId},
    contract::{
        Binding, Class, Fact, OpHandle, Outcome, ReadersReading, SpreadReaders, Touch, Tri, WriterReceipt, verb,
    },
    plan::{Carries, Effect, Handler, Input, Marks, Observed, Prepared, Ready, Stage, Step, StepCx, StepError},
};

/// Sends the readers of a route to those of its members that are seen to receive from the writer, or to the writer where none is.
/// Members that the plan does not bind stay as the route has them.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ShiftReaders {
    route: BindingName,
    members: BTreeSet<MemberId>,
    writer: Input<WriterReceipt>,
}

impl ShiftReaders {
    /// The route of this name, which knows `members`, after `writer` was confirmed.
    #[must_use]
    pub fn of(
        route: &BindingName,
        members: impl IntoIterator<Item = MemberId>,
        writer: &impl Carries<WriterReceipt>,
    ) -> Self {
        Self { route: route.clone(), members: members.into_iter().collect(), writer: Input::of(writer) }
    }
}

impl Step for ShiftReaders {
    const KIND: Kind = Kind::new("dr.shift-readers", 1);
    const EFFECT: Effect = Effect::Idempotent;
    const CLASS: Class = Class::Other;
    type Output = ();

    fn sentence(&self) -> String {
        format!("send the readers of {} to standbys that receive from the writer", self.route)
    }

    fn marks(&self) -> Marks {
        Marks::at(Stage::After)
    }

    fn touches(&self) -> Vec<Touch> {
        vec![verb::SPREAD.on(Binding::Readers(self.route.clone()))]
    }
}

pub(super) struct Spreading;

/// Whether a member that the plan binds is a standby that receives from the writer.
async fn receives(cx: &StepCx, member: &MemberId, writer: &WriterReceipt) -> bool {
    let Ok(database) = cx.database(member) else { return false };
    let (seen, reading) = join(database.describe(), database.replication()).await;
    let follows = seen.is_ok_and(|seen| seen.follows(&writer.target.address, Some(&writer.endpoint)));
    follows && reading.is_ok_and(|reading| reading.streaming == Tri::Yes)
}

impl Spreading {
    /// Where readers belong now, given where the route sends.
    async fn wanted(
        cx: &StepCx,
        step: &ShiftReaders,
        reading: &ReadersReading,
    ) -> Result<BTreeSet<MemberId>, StepError> {
        let writer = step.writer.get()?;
        let bound = |member: &MemberId| cx.plan().bindings.contains_key(&Binding::from(member));
        let unbound = reading.members.iter().filter(|member| !bound(member)).cloned();
        let candidates = step.members.iter().filter(|member| bound(member) && **member != writer.target.member);
        let looks = candidates.map(|member| async move { receives(cx, member, writer).await.then(|| member.clone()) });
        let mut wanted: BTreeSet<MemberId> = join_all(looks).await.into_iter().flatten().chain(unbound).collect();
        if wanted.is_empty() {
            wanted.insert(writer.target.member.clone());
        }
        Ok(wanted)
    }

    async fn look(cx: &StepCx, step: &ShiftReaders) -> Result<(ReadersReading, BTreeSet<MemberId>), StepError> {
        let reading = cx.readers(&step.route)?.read().await?;
        let wanted = Self::wanted(cx, step, &reading).await?;
        Ok((reading, wanted))
    }
}

#[async_trait]
impl Handler for Spreading {
    type Step = ShiftReaders;

    async fn observe(&self, cx: &StepCx, step: &ShiftReaders) -> Result<Observed<()>, StepError> {
        let (reading, wanted) = Self::look(cx, step).await?;
        Ok(match (reading.members == wanted, reading.settled) {
            (true, Tri::Yes) => Observed::Done(()),
            (true, Tri::No) => Observed::InProgress { handle: OpHandle::none(), percent: None },
            (true, Tri::Unknown) => {
                not_yet(format_args!("where `{}` sends is not known: {}", step.route, reading.detail))
            }
            (false, _) => Observed::NotStarted,
        })
    }

    async fn prepare(&self, cx: &StepCx, step: &ShiftReaders) -> Result<Prepared<()>, StepError> {
        let (gone, seen) = join(no_writer_any_more(cx, step.writer.get()?), Self::look(cx, step)).await;
        if let Some(why) = gone? {
            return Ok(refuse(why));
        }
        let (reading, wanted) = seen?;
        if reading.members == wanted && reading.settled == Tri::Yes {
            return Ok(Prepared::AlreadyDone(()));
        }
        let name = Binding::Readers(step.route.clone()).to_string();
        let facts = vec![Fact::any(&name, reading.detail, "router", reading.at)];
        Ok(Prepared::Ready(Ready { facts, pre_image: None }))
    }

    async fn submit(&self, cx: &StepCx, step: &ShiftReaders) -> Result<Outcome<()>, StepError> {
        let (_, to) = Self::look(cx, step).await?;
        let request = SpreadReaders { to, writer: step.writer.get()?.clone(), key: cx.key() };
        let outcome = cx.readers(&step.route)?.spread(request).await;
        Ok(super::read_back(outcome, self.observe(cx, step)).await)
    }
}
