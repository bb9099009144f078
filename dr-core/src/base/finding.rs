//! What a rule says about a plan, and why an engine refuses. Refusals are values: nothing was changed.

pub mod known;

use std::fmt;

use serde::{Deserialize, Serialize};

use self::known::Known;
use crate::base::{CanonicalError, NodeId};

/// What one rule found. It names the rule, the step, what is wrong, why that matters and what helps.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finding {
    /// The number of the rule over plans (DR101 and up) or of the row of [`known`] (DR201 and up). Stable, with gaps.
    pub rule: u16,
    /// The step, if there is one.
    pub node: Option<NodeId>,
    /// What is wrong, with the operands.
    pub what: String,
    /// Why that matters.
    pub why: String,
    /// What helps.
    pub helps: String,
}

impl Finding {
    /// Makes a finding of a registered kind, without a step: `what` says what is wrong, with the operands. Why it matters and what
    /// helps are those of the registry, until [`Finding::why`] or [`Finding::helps`] say it more exactly.
    #[must_use]
    pub fn new(known: &Known, what: impl Into<String>) -> Self {
        Self { rule: known.number, node: None, what: what.into(), why: known.why.into(), helps: known.helps.into() }
    }

    /// Says why it matters here.
    #[must_use]
    pub fn why(self, why: impl Into<String>) -> Self {
        Self { why: why.into(), ..self }
    }

    /// Says what helps here.
    #[must_use]
    pub fn helps(self, helps: impl Into<String>) -> Self {
        Self { helps: helps.into(), ..self }
    }

    /// Names the step.
    #[must_use]
    pub fn at(mut self, node: &NodeId) -> Self {
        self.node = Some(node.clone());
        self
    }

    pub(crate) fn twice(node: &NodeId) -> Self {
        Self {
            rule: 101,
            node: Some(node.clone()),
            what: format!("two steps are called `{node}`"),
            why: "references would be ambiguous".into(),
            helps: "give one another name".into(),
        }
    }

    pub(crate) fn no_canonical_form(node: &NodeId, error: &CanonicalError) -> Self {
        Self {
            rule: 102,
            node: Some(node.clone()),
            what: format!("`{node}` cannot be written canonically: {error}"),
            why: "the plan's hash would not mean the same everywhere".into(),
            helps: "use the type that the message names".into(),
        }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "DR{}  {}", self.rule, self.what)?;
        writeln!(f, "       why    {}", self.why)?;
        write!(f, "       helps  {}", self.helps)
    }
}

/// An engine or a runbook says no. Nothing was changed. As one line it says what is wrong and what helps; each finding also says why.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{} refused: {}", .subject, .findings.iter().map(|finding| format!("DR{} {}; helps: {}", finding.rule, finding.what, finding.helps)).collect::<Vec<_>>().join(" | "))]
pub struct Refusal {
    /// What was refused, such as `orders: switchover neu -> weu`.
    pub subject: String,
    /// Why: at least one.
    pub findings: Vec<Finding>,
}

impl Refusal {
    /// One reason.
    #[must_use]
    pub fn one(subject: impl Into<String>, finding: Finding) -> Self {
        Self { subject: subject.into(), findings: vec![finding] }
    }
}
