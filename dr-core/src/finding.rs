//! What a rule says about a plan, and why an engine refuses. Refusals are values: nothing was changed.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::{CanonicalError, NodeId};

/// What one rule found. It names the rule, the step, what is wrong, why that matters and what helps.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finding {
    /// The rule's number: DR101 and up. Stable, with gaps.
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
    /// A finding without a step.
    #[must_use]
    pub fn new(rule: u16, what: impl Into<String>, why: impl Into<String>, helps: impl Into<String>) -> Self {
        Self { rule, node: None, what: what.into(), why: why.into(), helps: helps.into() }
    }

    /// Names the step.
    #[must_use]
    pub fn at(mut self, node: &NodeId) -> Self {
        self.node = Some(node.clone());
        self
    }

    pub(crate) fn twice(node: &NodeId) -> Self {
        Self::new(
            101,
            format!("two steps are called `{node}`"),
            "references would be ambiguous",
            "give one another name",
        )
        .at(node)
    }

    pub(crate) fn no_canonical_form(node: &NodeId, error: &CanonicalError) -> Self {
        let why = "the plan's hash would not mean the same everywhere";
        Self::new(
            102,
            format!("`{node}` cannot be written canonically: {error}"),
            why,
            "use the type that the message names",
        )
        .at(node)
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "DR{}  {}", self.rule, self.what)?;
        writeln!(f, "       why    {}", self.why)?;
        write!(f, "       helps  {}", self.helps)
    }
}

/// An engine or a runbook says no. Nothing was changed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{} refused: {}", .subject, .findings.iter().map(|finding| format!("DR{} {}", finding.rule, finding.what)).collect::<Vec<_>>().join("; "))]
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
