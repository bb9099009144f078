//! A fence with the grade from which on the group file lets it count.

use std::sync::Arc;

use async_trait::async_trait;

use super::fence::{ClearFence, EngageFence, Fence, FencePlace, FenceReading, FenceToken, Reach, RetireFence};
use crate::{
    base::Millis,
    contract::{Effort, Grade, Outcome, Planes, ProviderError, Rehearsal, ReleaseOrder},
};

/// A fence of which the group file says from which grade on it counts (`[[fence]] grade`). On a plane on which it is worth less it counts
/// as `partial` at most: it is seen to be engaged, and authorises no promotion. Beside a stronger fence in a
/// [`FenceSet`](crate::contract::FenceSet), the other one then decides.
#[derive(Debug)]
pub struct GradedFence {
    inner: Arc<dyn Fence>,
    least: Grade,
}

impl GradedFence {
    /// The fence `inner`, which counts from `least` on.
    #[must_use]
    pub fn new(inner: Arc<dyn Fence>, least: Grade) -> Self {
        Self { inner, least }
    }

    fn counted(&self, planes: Planes) -> Planes {
        let count = |grade: Grade| if grade >= self.least { grade } else { grade.min(Grade::Partial) };
        Planes {
            new_sessions: count(planes.new_sessions),
            open_sessions: count(planes.open_sessions),
            background: count(planes.background),
            restart: count(planes.restart),
        }
    }
}

#[deny(
    clippy::missing_trait_methods,
    reason = "a default would hide what the fence inside does, such as that it travels"
)]
#[async_trait]
impl Fence for GradedFence {
    fn name(&self) -> String {
        self.inner.name()
    }

    fn offers(&self, reach: Reach) -> Planes {
        self.counted(self.inner.offers(reach))
    }

    fn out_of_reach(&self, reach: Reach) -> Vec<String> {
        self.inner.out_of_reach(reach)
    }

    async fn prepare(&self) -> Result<FenceToken, ProviderError> {
        self.inner.prepare().await
    }

    async fn rehearse(&self, effort: Effort) -> Result<Rehearsal, ProviderError> {
        self.inner.rehearse(effort).await
    }

    async fn engage(&self, request: EngageFence) -> Outcome<()> {
        self.inner.engage(request).await
    }

    async fn inspect(&self) -> Result<FenceReading, ProviderError> {
        let reading = self.inner.inspect().await?;
        let planes = self.counted(reading.planes);
        let detail = if planes == reading.planes {
            reading.detail
        } else {
            format!("{} (worth `{}`, counts from `{}` on)", reading.detail, reading.planes.grade(), self.least)
        };
        Ok(FenceReading { planes, detail, ..reading })
    }

    async fn release(&self, order: ReleaseOrder) -> Outcome<()> {
        self.inner.release(order).await
    }

    async fn retire(&self, request: RetireFence) -> Outcome<()> {
        self.inner.retire(request).await
    }

    fn promises(&self) -> Planes {
        self.counted(self.inner.promises())
    }

    fn travels(&self) -> bool {
        self.inner.travels()
    }

    async fn carried(&self) -> Result<Vec<String>, ProviderError> {
        self.inner.carried().await
    }

    async fn clear(&self, request: ClearFence) -> Outcome<()> {
        self.inner.clear(request).await
    }

    fn place(&self) -> FencePlace {
        self.inner.place()
    }

    fn poll_every(&self) -> Millis {
        self.inner.poll_every()
    }

    fn manual(&self, verb: &str) -> Vec<String> {
        self.inner.manual(verb)
    }
}
