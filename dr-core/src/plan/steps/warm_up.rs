//! Warming the writer before the applications come back, and asking it whether all is well (D19, D26).

use async_trait::async_trait;
use serde::{Deserialize, Serialize};

use super::read::{not_yet, offered};
use crate::{
    base::{Kind, Millis, text},
    contract::{Query, Rows, WriterReceipt},
    plan::{Carries, Effect, Input, Look, Marks, Observed, Stage, Step, StepCx, StepError},
};

/// Runs synthetic reads on the writer until the slowest of the last ones is quick enough.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WarmUp {
    writer: Input<WriterReceipt>,
    slowest: Millis,
}

impl WarmUp {
    /// The slowest read takes `slowest` at most.
    #[must_use]
    pub fn of(writer: &impl Carries<WriterReceipt>, slowest: Millis) -> Self {
        Self { writer: Input::of(writer), slowest }
    }
}

impl Step for WarmUp {
    const KIND: Kind = Kind::new("dr.warm-up", 1);
    const EFFECT: Effect = Effect::ReadOnly;
    type Output = ();

    fn sentence(&self) -> String {
        format!("warm the writer up until its slowest read takes {} at most", text::human(self.slowest))
    }

    fn marks(&self) -> Marks {
        Marks::at(Stage::Move)
    }
}

/// Asks the writer one named question; the answer must be this.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SmokeTest {
    writer: Input<WriterReceipt>,
    /// The question.
    pub query: Query,
    /// The answer that means that all is well.
    pub expect: Rows,
}

impl SmokeTest {
    /// `writer` must answer `query` with `expect`.
    #[must_use]
    pub fn of(writer: &impl Carries<WriterReceipt>, query: Query, expect: Rows) -> Self {
        Self { writer: Input::of(writer), query, expect }
    }
}

impl Step for SmokeTest {
    const KIND: Kind = Kind::new("dr.smoke-test", 1);
    const EFFECT: Effect = Effect::ReadOnly;
    type Output = ();

    fn sentence(&self) -> String {
        format!("ask the writer `{}` and see the expected answer", self.query.name)
    }
}

pub(super) struct Warming;

#[async_trait]
impl Look for Warming {
    type Step = WarmUp;

    async fn look(&self, cx: &StepCx, step: &WarmUp) -> Result<Observed<()>, StepError> {
        let member = &step.writer.get()?.target.member;
        let slowest = offered(cx.probe(member)?.warm_up().await)?;
        Ok(match slowest {
            Some(slowest) if slowest > step.slowest => not_yet(format_args!(
                "the slowest read on `{member}` took {}, the limit is {}",
                text::human(slowest),
                text::human(step.slowest)
            )),
            Some(_) | None => Observed::Done(()),
        })
    }
}

pub(super) struct Smoke;

#[async_trait]
impl Look for Smoke {
    type Step = SmokeTest;

    async fn look(&self, cx: &StepCx, step: &SmokeTest) -> Result<Observed<()>, StepError> {
        let member = &step.writer.get()?.target.member;
        let rows = cx.probe(member)?.ask(&step.query).await?;
        Ok(if rows == step.expect {
            Observed::Done(())
        } else {
            not_yet(format_args!(
                "`{member}` answers `{}` with {rows:?}, expected is {:?}",
                step.query.name, step.expect
            ))
        })
    }
}
