//! Plans: frozen, canonical, hashable. What is approved is what runs.
//!
//! ```text
//!  Runbook::plan(&Situation, &mut PlanBuilder) ──► Plan ──verify──► Verified ──hash, preview──► people ──► run
//! ```

mod builder;
mod purpose;
mod refs;
mod standby;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use serde::{Deserialize, Serialize};

pub use builder::{IntoSpec, PlanBuilder, PlanHeader, Spec, StepExt};
pub use purpose::Purpose;
pub use refs::{Carries, Edge, FoundRef, Held, Input, Ref, Unresolved, literals, references, resolve};
pub use standby::{StandbyBuilder, StandbyStep};

use crate::{
    base::{CanonicalError, Digest, GroupName, Json, Kind, MemberId, Millis, NodeId, Role, RunbookId, canonical},
    contract::{Binding, Class, Fact, Grade, Lineage, Loss, ResourceRef, Target, Touch},
    plan::{Effect, Marks},
};

/// The version of the plan format. Another one refuses to load.
pub const PLAN_FORMAT: u16 = 4;

/// The version of the rules that a plan was verified with.
pub const RULES_VERSION: u16 = 1;

/// What happens when a node fails.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "is")]
pub enum OnFailure {
    /// The run turns back or parks.
    Stop,
    /// The run goes on; somebody owes it.
    Debt {
        /// What is owed.
        text: String,
        /// Who owes it.
        owner: Role,
    },
}

/// One call of a step kind.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Call {
    /// Name and version.
    pub kind: Kind,
    /// As the kind declares it; a rule compares.
    pub class: Class,
    /// As the kind declares it; a rule compares.
    pub effect: Effect,
    /// The type of its output, as the kind declares it.
    pub output: String,
    /// The step itself; inputs are references.
    pub params: Json,
    /// What it says to people.
    pub sentence: String,
    /// What it may change.
    pub touches: Vec<Touch>,
    /// What the rules go by.
    pub marks: Marks,
    /// The provider's own commands for it, for people.
    pub manual: Vec<String>,
}

/// One step of a plan.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Node {
    /// What is called.
    pub call: Call,
    /// Edges beyond those of its references.
    pub after: BTreeSet<NodeId>,
    /// Why it stands there, in the author's words.
    pub why: Option<String>,
    /// The deadline of its whole work, counted from its start.
    pub within: Millis,
    /// How often a wait looks again.
    pub every: Millis,
    /// Two looks that must agree before something counts as not done lie at least this far apart.
    pub visibility: Millis,
    /// How often it may be sent at most.
    pub attempts: u8,
    /// What happens when it fails.
    pub on_failure: OnFailure,
    /// How long it takes, roughly.
    pub about: Option<Millis>,
}

impl Node {
    /// All nodes that it comes after: explicit edges and references.
    #[must_use]
    pub fn before_it(&self) -> BTreeSet<NodeId> {
        let mut nodes = self.after.clone();
        nodes.extend(references(&self.call.params.0).into_iter().map(|found| found.node));
        nodes
    }

    /// The type of what it leaves behind: that of its kind, or only an attempt when it may fail.
    #[must_use]
    pub fn leaves(&self) -> String {
        match self.on_failure {
            OnFailure::Stop => self.call.output.clone(),
            OnFailure::Debt { .. } => format!("attempted {}", self.call.output),
        }
    }
}

/// Something that a node takes for a while.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Hold {
    /// The node that gives it back when all goes well: a release or, for a fence, a retirement.
    pub released_by: Option<NodeId>,
    /// How it is given back when the run turns back before the point of no return.
    pub undo: Call,
}

/// The limits that the run machine and the guards go by; from the group file, frozen with the plan.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Policy {
    /// How long a drain may last until the intent of the promotion is durable; past it the run turns back.
    pub gap_budget: Millis,
    /// How long waiting clients endure a drain, counted from its intent. Past it they are told at once that nobody can write, and the run
    /// goes on. Where nobody says it, the gap budget counts.
    pub client_limit: Option<Millis>,
    /// How long a proof may be trusted.
    pub proof_age: Millis,
    /// How old a fact may be when it is relied upon.
    pub fact_age: Millis,
    /// The least grade of a fence that authorises a promotion.
    pub fence: Grade,
    /// Nobody resumes the drain if the engine dies: chosen by name because no guard process is available.
    pub unguarded: bool,
    /// No person is asked before the first change; an explicit opt-in that names its risk (E05).
    pub automatic: Option<String>,
}

impl Policy {
    /// How long clients may be left waiting behind the promotion, counted from the drain's intent.
    #[must_use]
    pub fn clients_wait(&self) -> Millis {
        self.client_limit.unwrap_or(self.gap_budget)
    }

    /// How old a fact may be whose source measures every `cadence`: the fact's own limit, or two measurements, whichever is longer.
    #[must_use]
    pub fn fact_age_of(&self, cadence: Millis) -> Millis {
        fact_age_of(self.fact_age, cadence)
    }
}

/// How old a fact may be whose source measures every `cadence`, where `limit` holds for what is read directly.
pub(crate) fn fact_age_of(limit: Millis, cadence: Millis) -> Millis {
    limit.max(cadence.saturating_add(cadence))
}

/// A frozen plan.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Plan {
    /// [`PLAN_FORMAT`].
    pub format: u16,
    /// The rules it was made for.
    pub rules: u16,
    /// Which runbook made it (F05).
    pub runbook: RunbookId,
    /// What it is for.
    pub purpose: Purpose,
    /// The group.
    pub group: GroupName,
    /// `prod` and the like.
    pub environment: String,
    /// The digest of the group's non-secret configuration.
    pub group_digest: Digest,
    /// The writer that it expects to find; another one is a refusal.
    pub expects: Target,
    /// The member that becomes the writer, if the plan changes it.
    pub to: Option<MemberId>,
    /// What it may lose.
    pub loss: Loss,
    /// The facts it was made from.
    pub facts: Vec<Fact>,
    /// Names and what they stand for.
    pub bindings: BTreeMap<Binding, ResourceRef>,
    /// Whether replication carries a fence of the group to the standbys, so that a new writer has to be freed of it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub fence_travels: bool,
    /// The history that each member carries, or is to carry when the plan works on it; a member of which nobody can say it is absent.
    /// A step that names a member names this history.
    pub lineages: BTreeMap<MemberId, Lineage>,
    /// The histories that logical copies are fed from, by copy. Where the target is one, its own history is another system's, and what
    /// it holds is that of the expected writer.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub receives: BTreeMap<MemberId, Lineage>,
    /// The secrets and routes that stay as they are on purpose, with the reason that people are shown. Somebody owes them when the
    /// writer has changed.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub leaves_out: BTreeMap<Binding, String>,
    /// What the group file lets custom steps touch.
    pub allow: BTreeSet<Touch>,
    /// Limits.
    pub policy: Policy,
    /// The steps.
    pub nodes: BTreeMap<NodeId, Node>,
    /// The order in which the author wrote them, for people.
    pub order: Vec<NodeId>,
    /// What is taken for a while, by the node that takes it.
    pub holds: BTreeMap<NodeId, Hold>,
}

impl Plan {
    /// The canonical text: what is hashed, stored and approved.
    ///
    /// # Errors
    /// A parameter holds a number that has no canonical form.
    pub fn canonical(&self) -> Result<String, CanonicalError> {
        canonical::to_string(self)
    }

    /// What names the plan.
    ///
    /// # Errors
    /// As [`Plan::canonical`].
    pub fn hash(&self) -> Result<Digest, CanonicalError> {
        Ok(canonical::leaf_hash(self.canonical()?.as_bytes()))
    }

    /// The call of a node, or of an undo (`fence.undo`).
    #[must_use]
    pub fn call(&self, node: &NodeId) -> Option<&Call> {
        self.nodes.get(node).map(|node| &node.call).or_else(|| {
            let taken = node.undone()?;
            self.holds.get(&taken).map(|hold| &hold.undo)
        })
    }

    /// The node whose intent is the point of no return, if the plan has one.
    #[must_use]
    pub fn pivot(&self) -> Option<&NodeId> {
        self.nodes.iter().find(|(_, node)| node.call.class == Class::Pivot).map(|(id, _)| id)
    }

    /// Everything that must have ended before `node` begins, over all edges.
    #[must_use]
    pub fn ancestors(&self, node: &NodeId) -> BTreeSet<NodeId> {
        let mut seen = BTreeSet::new();
        let mut open = vec![node.clone()];
        while let Some(next) = open.pop() {
            for before in self.nodes.get(&next).map(Node::before_it).unwrap_or_default() {
                if seen.insert(before.clone()) {
                    open.push(before);
                }
            }
        }
        seen
    }

    /// An order in which every node comes after those before it; ties are broken by the author's order. Nodes of a cycle are
    /// left out.
    #[must_use]
    pub fn topological(&self) -> Vec<NodeId> {
        let mut done: Vec<NodeId> = Vec::new();
        let mut placed = BTreeSet::new();
        loop {
            let next = self.order.iter().find(|id| {
                !placed.contains(*id)
                    && self
                        .nodes
                        .get(*id)
                        .is_some_and(|node| node.before_it().iter().all(|before| placed.contains(before)))
            });
            let Some(next) = next else { return done };
            placed.insert(next.clone());
            done.push(next.clone());
        }
    }

    /// All verbs that the plan may use, on which of its names.
    #[must_use]
    pub fn touches(&self) -> BTreeSet<Touch> {
        let calls = self.nodes.values().map(|node| &node.call).chain(self.holds.values().map(|hold| &hold.undo));
        calls.flat_map(|call| call.touches.iter().cloned()).collect()
    }
}

/// A plan that every rule let pass. Only [`Plan::verify`] makes one.
#[derive(Clone, Debug)]
pub struct Verified {
    pub(crate) plan: Arc<Plan>,
    pub(crate) hash: Digest,
}

impl Verified {
    /// The plan.
    #[must_use]
    pub fn plan(&self) -> &Arc<Plan> {
        &self.plan
    }

    /// Its hash.
    #[must_use]
    pub fn hash(&self) -> Digest {
        self.hash
    }

    /// The plan as one screen, for people who are about to agree to it.
    #[must_use]
    pub fn preview(&self) -> String {
        crate::plan::preview::text(&self.plan, self.hash)
    }

    /// The whole plan with every command, as Markdown.
    #[must_use]
    pub fn markdown(&self) -> String {
        crate::plan::preview::markdown(&self.plan, self.hash)
    }
}
