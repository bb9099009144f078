//! The one way in which a run waits for people: an [`Ask`] with a digest, an [`Answer`] that quotes it. Consents, parks and waivers
//! are asks.

use serde::{Deserialize, Serialize};

use crate::{
    base::{Actor, CanonicalError, Digest, NodeId, Role, Timestamp, canonical},
    contract::{AskedLoss, Fact, Given, Loss, Shortfall},
};

/// One possible answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Choice {
    /// The word to answer with.
    pub name: String,
    /// What it does.
    pub means: String,
    /// What it cannot undo, or what it changes.
    pub changes: String,
    /// How many different people must choose it, where that is more than the question asks for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub people: Option<u8>,
}

impl Choice {
    /// The choice `name`.
    #[must_use]
    pub fn new(name: &str, means: &str, changes: &str) -> Self {
        Self { name: name.into(), means: means.into(), changes: changes.into(), people: None }
    }

    /// Needs at least this many different people.
    #[must_use]
    pub fn by_people(self, people: u8) -> Self {
        Self { people: Some(people), ..self }
    }
}

/// Why a run waits for people.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum AskKind {
    /// The plan asks before its first change.
    Consent,
    /// The run cannot go on by itself.
    Park,
    /// All holds but one thing: two people accept the grade that was measured of the former primary, or attest that the primary is down.
    Waiver,
}

/// A question to people. Its digest covers everything they are shown; an answer must quote it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ask {
    /// Why it is asked.
    pub kind: AskKind,
    /// The step that waits, if it is one.
    pub node: Option<NodeId>,
    /// The hash of the plan.
    pub plan: Digest,
    /// The question.
    pub question: String,
    /// What people are shown.
    pub facts: Vec<Fact>,
    /// What may be lost.
    pub loss: Loss,
    /// How that is while the question is asked, where it may grow until the primary is fenced.
    pub asked: Option<AskedLoss>,
    /// The possible answers; the first one is the one that goes on.
    pub choices: Vec<Choice>,
    /// How many different people must choose the same.
    pub people: u8,
    /// One of these roles is needed; empty means any.
    pub roles: Vec<Role>,
    /// Who may not answer: the one who asked for the run.
    pub not: Option<Actor>,
    /// Since when.
    pub since: Timestamp,
    /// What is lacking; only a question of kind [`AskKind::Waiver`] has it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub short: Option<Shortfall>,
    /// Until when it can be answered; `None` for parks.
    pub expires: Option<Timestamp>,
    /// The rule of the transition that led here, for parks.
    pub rule: Option<u16>,
}

impl Ask {
    /// Returns how many different people must make this choice: as many as the question asks for, or more where the choice does.
    #[must_use]
    pub fn people_for(&self, choice: &Choice) -> u8 {
        self.people.max(choice.people.unwrap_or(1)).max(1)
    }

    /// What an answer must quote.
    ///
    /// # Errors
    /// Never for an ask made here; a custom fact may hold a number that has no canonical form.
    pub fn digest(&self) -> Result<Digest, CanonicalError> {
        Ok(canonical::leaf_hash(canonical::to_string(self)?.as_bytes()))
    }
}

/// An answer of one person.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Answer {
    /// The choice's name.
    pub choice: String,
    /// The digest of the ask that was shown.
    pub to: Digest,
    /// Who.
    pub by: Actor,
    /// What they noted.
    pub note: Option<String>,
}

impl Answer {
    /// Chooses `name` of the ask with this digest.
    #[must_use]
    pub fn choose(name: impl Into<String>, to: Digest, by: Actor) -> Self {
        Self { choice: name.into(), to, by, note: None }
    }

    /// Adds a note.
    #[must_use]
    pub fn note(mut self, text: impl Into<String>) -> Self {
        self.note = Some(text.into());
        self
    }
}

/// Why an answer does not count. The run goes on waiting.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[serde(rename_all = "kebab-case", tag = "is")]
pub enum AnswerRefused {
    /// The question changed since it was shown.
    #[error("DR301  what was shown is not what is asked now: {}", if .diff.is_empty() { "the question is another one".to_owned() } else { .diff.join("; ") })]
    Stale {
        /// The facts that differ.
        diff: Vec<String>,
    },
    /// Nothing is asked.
    #[error("DR302  the run asks nothing now")]
    NothingAsked,
    /// The role is missing.
    #[error("DR303  this needs one of {}; {who} has none of them", .needs.iter().map(ToString::to_string).collect::<Vec<_>>().join(", "))]
    WrongRole {
        /// The roles.
        needs: Vec<Role>,
        /// Who answered.
        who: String,
    },
    /// The same person again, or a second one whose identity nobody checked.
    #[error("DR304  {who} has answered already; another person must")]
    Twice {
        /// Who.
        who: String,
    },
    /// The requester, under whatever name; or somebody who may be, because nobody checked who either of them is.
    #[error("DR305  {who} asked for this run, so others must approve")]
    Requester {
        /// Who.
        who: String,
    },
    /// Too late.
    #[error("DR306  the question expired at {expired}; it is asked again by a new run")]
    Late {
        /// When.
        expired: Timestamp,
    },
    /// No such choice.
    #[error("DR307  `{choice}` is no choice here; there are: {}", .choices.join(", "))]
    NoSuchChoice {
        /// The word.
        choice: String,
        /// The choices.
        choices: Vec<String>,
    },
    /// Decided already.
    #[error("DR308  it was decided already: `{choice}`")]
    Settled {
        /// What was chosen.
        choice: String,
    },
}

/// Whether an answer counts. Pure: the engine asks it for a quick answer, the driver asks it for the binding one.
///
/// # Errors
/// The rule that it breaks.
pub fn judge(ask: &Ask, given: &[Given], answer: &Answer, now: Timestamp) -> Result<Given, AnswerRefused> {
    let who = answer.by.name.clone();
    let digest = ask.digest().map_err(|_| AnswerRefused::Stale { diff: Vec::new() })?;
    if digest != answer.to {
        return Err(AnswerRefused::Stale { diff: Vec::new() });
    }
    if let Some(expired) = ask.expires.filter(|expires| now > *expires) {
        return Err(AnswerRefused::Late { expired });
    }
    if !ask.choices.iter().any(|choice| choice.name == answer.choice) {
        let choices = ask.choices.iter().map(|choice| choice.name.clone()).collect();
        return Err(AnswerRefused::NoSuchChoice { choice: answer.choice.clone(), choices });
    }
    if ask.not.as_ref().is_some_and(|requester| requester.may_be(&answer.by)) {
        return Err(AnswerRefused::Requester { who });
    }
    let role = answer.by.roles.iter().find(|role| ask.roles.contains(role)).cloned();
    if role.is_none() && !ask.roles.is_empty() {
        return Err(AnswerRefused::WrongRole { needs: ask.roles.clone(), who });
    }
    let again = given.iter().any(|yes| yes.by.may_be(&answer.by));
    if again {
        return Err(AnswerRefused::Twice { who });
    }
    Ok(Given { by: answer.by.clone(), role, choice: answer.choice.clone(), at: now, note: answer.note.clone() })
}

/// The choice that enough different people made, if there is one.
#[must_use]
pub fn decided(ask: &Ask, given: &[Given]) -> Option<String> {
    // Saying no needs one person only, whoever has said yes: a refusal never waits for a second one.
    let no = ask.choices.iter().find(|choice| choice.name == REJECT);
    if let Some(no) = no.filter(|_| given.iter().any(|answer| answer.choice == REJECT)) {
        return Some(no.name.clone());
    }
    ask.choices.iter().find_map(|choice| {
        let needed = usize::from(ask.people_for(choice));
        let chose = given.iter().filter(|yes| yes.choice == choice.name);
        (Given::people(chose) >= needed).then(|| choice.name.clone())
    })
}

/// The choice that agrees.
pub const APPROVE: &str = "approve";
/// The choice that refuses; one person suffices.
pub const REJECT: &str = "reject";

/// What people (or other processes) may send to a run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "request")]
pub enum Request {
    /// An answer to what it asks.
    Answer(Answer),
    /// Begin nothing new.
    Pause {
        /// Who.
        by: Actor,
        /// Why.
        because: String,
    },
    /// Go on.
    Resume {
        /// Who.
        by: Actor,
    },
    /// End as soon as only work is left for which nobody waits; what is left then is owed.
    Finish {
        /// Who.
        by: Actor,
        /// Why.
        because: String,
    },
    /// Turn back, if that is still possible.
    Cancel {
        /// Who.
        by: Actor,
        /// Why.
        because: String,
    },
}
