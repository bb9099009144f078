//! Telling people (D32). It never blocks a failover.

use async_trait::async_trait;
use futures_util::future::{join_all, select};
use serde::{Deserialize, Serialize};

use crate::{
    base::{Kind, Millis},
    contract::{Class, Notice, Occasion, Outcome},
    plan::{Duty, Effect, Handler, Marks, Observed, Prepared, Ready, Step, StepCx, StepError},
};

/// How long a notice may take before the run goes on without it.
const PATIENCE: Millis = Millis::seconds(2);

/// Tells everybody who is to be told. A failure is forgotten; the same notice is told once per key.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Notify {
    /// Whether somebody must act.
    pub urgent: bool,
    /// One sentence.
    pub text: String,
}

impl Step for Notify {
    const KIND: Kind = Kind::new("dr.notify", 1);
    const EFFECT: Effect = Effect::Idempotent;
    const CLASS: Class = Class::Harmless;
    type Output = ();

    fn sentence(&self) -> String {
        format!("tell: {}", self.text)
    }

    fn marks(&self) -> Marks {
        Marks::default().duty(Duty::Notice)
    }
}

pub(super) struct Telling;

#[async_trait]
impl Handler for Telling {
    type Step = Notify;

    /// Nobody can read a notice back: one that was perhaps lost is told again, under the same key.
    async fn observe(&self, _cx: &StepCx, _step: &Notify) -> Result<Observed<()>, StepError> {
        Ok(Observed::NotStarted)
    }

    async fn prepare(&self, _cx: &StepCx, _step: &Notify) -> Result<Prepared<()>, StepError> {
        Ok(Prepared::Ready(Ready::default()))
    }

    async fn submit(&self, cx: &StepCx, step: &Notify) -> Result<Outcome<()>, StepError> {
        let notifiers = cx.notifiers();
        let notice = || Notice {
            key: cx.key().to_string(),
            run: cx.run().clone(),
            urgent: step.urgent,
            occasion: Occasion::Progress,
            text: step.text.clone(),
        };
        let told = join_all(notifiers.iter().map(|notifier| notifier.notify(notice())));
        // Who could not be told is not the run's concern: a failure here must not hold up a failover.
        drop(select(told, Box::pin(cx.pause(PATIENCE))).await);
        Ok(Outcome::Done(()))
    }
}
