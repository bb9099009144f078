//! Whether a planned operation may begin now.

use async_trait::async_trait;
use serde::{Deserialize, Serialize};

use super::read::conflict;
use crate::{
    base::{Kind, Timestamp},
    contract::{Class, Window},
    plan::{Effect, Look, Marks, Observed, Stage, Step, StepCx, StepError},
};

/// It is a time at which the group lets planned operations begin (`[windows]`). It is looked at before people are asked and once more
/// after their answer; what has begun then is not stopped by the end of the window.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CheckWindow {
    /// The windows; one of them has to be open.
    pub windows: Vec<Window>,
}

impl CheckWindow {
    /// The windows in words: `Sat 02:00-05:00 or Sun 02:00-05:00 UTC`.
    #[must_use]
    pub fn words(windows: &[Window]) -> String {
        let all: Vec<String> = windows.iter().map(ToString::to_string).collect();
        format!("{} UTC", all.join(" or "))
    }

    fn opens(&self, now: Timestamp) -> Option<Timestamp> {
        self.windows.iter().map(|window| window.opens(now)).min()
    }
}

impl Step for CheckWindow {
    const KIND: Kind = Kind::new("dr.check-window", 1);
    const EFFECT: Effect = Effect::ReadOnly;
    const CLASS: Class = Class::Guard;
    type Output = ();

    fn sentence(&self) -> String {
        format!("see that it is {}", Self::words(&self.windows))
    }

    fn marks(&self) -> Marks {
        Marks::at(Stage::Look).or(Stage::Shorten)
    }
}

pub(super) struct Windowed;

#[async_trait]
impl Look for Windowed {
    type Step = CheckWindow;

    async fn look(&self, cx: &StepCx, step: &CheckWindow) -> Result<Observed<()>, StepError> {
        let now = cx.now();
        Ok(match step.opens(now) {
            Some(opens) if opens > now => conflict(format_args!(
                "the group lets planned operations begin {}, next at {opens}; start it then, or plan it with --outside-window REASON",
                CheckWindow::words(&step.windows)
            )),
            Some(_) | None => Observed::Done(()),
        })
    }
}
