//! Asking people before the first change (E05, E10, H01).

use async_trait::async_trait;
use serde::{Deserialize, Serialize};

use super::{
    facts::{self, FactSpec},
    read::not_yet,
    rehearse::Rehearsed,
};
use crate::{
    base::{Kind, Millis, Role, text},
    contract::{Class, Consent, Fact, LossBound, Outcome},
    plan::{Effect, Handler, Input, Marks, Observed, Prepared, Ready, Stage, Step, StepCx, StepError},
};

/// Asks people for their consent to this plan, these facts and at most this loss. The driver asks, judges the answers and makes the
/// [`Consent`]; with nobody to ask (`people: 0`, only by the policy's explicit opt-in) it grants it in the policy's name.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AskConsent {
    /// The question.
    pub question: String,
    /// The facts to show, read when people are asked and again before the first change.
    pub watch: Vec<FactSpec>,
    /// What the rehearsal showed, which people see too.
    pub rehearsed: Option<Input<Rehearsed>>,
    /// What may be lost; nothing if absent.
    pub loss: Option<Input<LossBound>>,
    /// How much may be lost without a person, where the policy lets nobody be asked (`objectives.rpo_forced`). `None`: nothing.
    pub loss_limit: Option<Millis>,
    /// How many different people.
    pub people: u8,
    /// How many different people when more than `loss_limit` may be lost, or nobody can say how much.
    pub people_beyond: u8,
    /// One of these roles is needed; empty means any.
    pub roles: Vec<Role>,
    /// How long the question stands, and how long after the answer the first change must have begun.
    pub expires_in: Millis,
}

impl AskConsent {
    /// The facts as they are now.
    ///
    /// # Errors
    /// A material fact could not be read.
    pub async fn gather(&self, cx: &StepCx) -> Result<Vec<Fact>, StepError> {
        let mut all = facts::read(cx, &self.watch).await?;
        if let Some(rehearsed) = &self.rehearsed {
            all.extend(rehearsed.get()?.facts());
        }
        if let (Some(limit), Some(_)) = (self.loss_limit, &self.loss) {
            let words = format!("{} without a person's yes", text::human(limit));
            all.push(Fact::any("loss limit", words, "group file", cx.now()));
        }
        Ok(all)
    }
}

impl Step for AskConsent {
    const KIND: Kind = Kind::new("dr.ask", 1);
    const EFFECT: Effect = Effect::ReadOnly;
    const CLASS: Class = Class::Consent;
    type Output = Consent;

    fn sentence(&self) -> String {
        match self.people {
            0 => match self.loss_limit.filter(|_| self.loss.is_some()) {
                Some(limit) => format!(
                    "go on without asking, by the policy's opt-in, if at most {} may be lost; else ask",
                    text::human(limit)
                ),
                None => "go on without asking, by the policy's opt-in".to_owned(),
            },
            1 => format!("ask one person, for at most {}", text::human(self.expires_in)),
            people => format!("ask {people} people, for at most {}", text::human(self.expires_in)),
        }
    }

    fn marks(&self) -> Marks {
        Marks::at(Stage::Ask).people(self.people).risk(self.watch.iter().find_map(FactSpec::risk))
    }
}

/// The driver asks, and reads the facts to show from `prepare`; a look alone never makes a consent.
pub(super) struct Asking;

#[async_trait]
impl Handler for Asking {
    type Step = AskConsent;

    async fn observe(&self, _cx: &StepCx, _step: &AskConsent) -> Result<Observed<Consent>, StepError> {
        Ok(not_yet("people have not answered"))
    }

    async fn prepare(&self, cx: &StepCx, step: &AskConsent) -> Result<Prepared<Consent>, StepError> {
        Ok(Prepared::Ready(Ready { facts: step.gather(cx).await?, pre_image: None }))
    }

    async fn submit(&self, _cx: &StepCx, _step: &AskConsent) -> Result<Outcome<Consent>, StepError> {
        Ok(Outcome::refused("a question is answered by people, not sent"))
    }
}
