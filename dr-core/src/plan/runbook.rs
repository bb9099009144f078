//! A runbook turns a situation into a plan. The built-in ones are written with public phases and nothing else.

mod failover;
mod outside;
mod promotion;
mod redirect;
mod rejoin;
mod switchover;

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Debug,
};

use serde::{Deserialize, Serialize};

pub use failover::UnplannedFailover;
pub use outside::OutsideWindow;
pub use promotion::PromotionOnly;
pub use redirect::Redirect;
pub use rejoin::RejoinStandby;
pub use switchover::PlannedSwitchover;

use crate::{
    base::{BindingName, CanonicalError, Endpoint, MemberId, Millis, Refusal, RunId, RunbookId, Timestamp},
    contract::{
        Binding, Capabilities, Description, FenceReading, GroupSpec, IntendedRole, Lineage, LongTransaction, Peer,
        Planes, Position, PositionReading, Reach, Rehearsal, Replication, ResourceRef, SecretReference, ServicePace,
        Target, Tri,
    },
    plan::{PlanBuilder, PlanHeader, Policy, Purpose},
};

/// A history of one resource that a run of ours promoted another member away from: whoever carries it on is no writer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RetiredLineage {
    /// The run that promoted.
    pub run: RunId,
    /// The former writer, with the history that ended there.
    pub from: Target,
    /// The member that was promoted, with the history that began there.
    pub to: Target,
    /// When it was seen to be promoted.
    pub at: Timestamp,
}

impl RetiredLineage {
    /// Tells whether `lineage` is the history that began with the promotion, or a later one of the same system. A logical copy goes on
    /// with the history that it had. Where histories are not counted, nothing is.
    #[must_use]
    pub fn goes_on_as(&self, lineage: &Lineage) -> bool {
        let (old, new) = (&self.from.lineage, &self.to.lineage);
        let grew = new.system != old.system || new.generation > old.generation;
        lineage.system == new.system && grew && lineage.generation >= new.generation
    }
}

/// Whether a member is there at all.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Presence {
    /// It answered, through either plane.
    Seen,
    /// It did not answer, and nobody can say whether it is there.
    Silent,
    /// Its provider answered that there is no such resource ([`ProviderError::Missing`](crate::contract::ProviderError::Missing)).
    Absent,
    /// Its provider says that there is no such resource, and the group file says that it is not created yet (`planned = true`).
    Planned,
}

impl Presence {
    /// Whether the resource exists, or may exist.
    #[must_use]
    pub const fn exists(self) -> bool {
        matches!(self, Self::Seen | Self::Silent)
    }
}

/// What was seen of one member before planning.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct MemberFacts {
    /// Its name.
    pub name: MemberId,
    /// Whether it is there.
    pub presence: Presence,
    /// What the group file means it for.
    pub role: IntendedRole,
    /// What it is bound to, with the identity that it told in this look.
    pub binding: ResourceRef,
    /// Where applications reach it, as far as the group file says it: known of a silent member, too.
    pub endpoint: Option<Endpoint>,
    /// What the management plane said; `None` when it did not answer.
    pub description: Option<Description>,
    /// As a standby; `None` when it did not answer.
    pub replication: Option<Replication>,
    /// What its backend offers; `None` when it did not answer.
    pub capabilities: Option<Capabilities>,
    /// Which ways to it were open in this look.
    pub reach: Reach,
    /// What its fences offer together over those ways; `None` when it has none.
    pub fence: Option<Planes>,
    /// What its fences for after the promotion promise together; `None` when it has none.
    pub late_fence: Option<Planes>,
    /// Its fences that offer less than they would if every way were open.
    pub out_of_reach: Vec<String>,
    /// What its fences say of themselves now. They are asked only where two members follow nobody: one of them may be a former
    /// primary that is kept from writing. `None` when they were not asked, or did not answer.
    pub fenced: Option<FenceReading>,
    /// The promotion that took the writes away from the very history that it carries, if the journal knows one.
    pub retired: Option<RetiredLineage>,
    /// Whether replication carries a fence of it to the other members.
    pub fence_travels: bool,
    /// How often its fences may be looked at.
    pub fence_poll: Millis,
    /// How slow its service is, as its backend knows without asking.
    pub pace: ServicePace,
    /// Where the server is, from inside; `None` when it did not answer or tells no positions.
    pub position: Option<PositionReading>,
    /// Its transactions older than the group's limit; `None` when it did not answer.
    pub transactions: Option<Vec<LongTransaction>>,
    /// Its extensions with their versions; `None` when it did not answer.
    pub extensions: Option<BTreeMap<String, String>>,
    /// Extensions that could be used there; `None` when it did not answer.
    pub available_extensions: Option<BTreeMap<String, Vec<String>>>,
    /// Why something is missing above, in words.
    pub silence: Vec<String>,
}

impl MemberFacts {
    /// A candidate that has not said anything.
    #[must_use]
    pub fn silent(name: MemberId, binding: ResourceRef) -> Self {
        Self {
            name,
            presence: Presence::Silent,
            role: IntendedRole::Candidate,
            binding,
            endpoint: None,
            description: None,
            replication: None,
            capabilities: None,
            reach: Reach { management: Tri::No, server: Tri::No },
            fence: None,
            late_fence: None,
            out_of_reach: Vec::new(),
            fenced: None,
            retired: None,
            fence_travels: false,
            fence_poll: Millis::seconds(1),
            pace: ServicePace::CAUTIOUS,
            position: None,
            transactions: None,
            extensions: None,
            available_extensions: None,
            silence: Vec::new(),
        }
    }

    /// Tells whether the other end of a replication link means this member: by the address of the group file or the one that the
    /// member tells, or by its endpoint.
    #[must_use]
    pub fn is_at(&self, peer: &Peer) -> bool {
        let seen = self.description.as_ref();
        let told = seen.is_some_and(|seen| peer.means(&seen.address, Some(&seen.endpoint)));
        told || peer.means(&self.binding.address, self.endpoint.as_ref())
    }

    /// Whether a plan may make it the writer: the group file calls it a candidate, and no run promoted another member away from the
    /// history that it carries.
    #[must_use]
    pub fn is_candidate(&self) -> bool {
        self.role == IntendedRole::Candidate && self.retired.is_none()
    }

    /// How far it has received, and made durable, what the writer wrote; `None` where nobody tells.
    #[must_use]
    pub fn received(&self) -> Option<&Position> {
        let told = || self.replication.as_ref().and_then(|reading| reading.received.as_ref());
        // The own positions of a copy are no positions of the writer.
        self.position.as_ref().filter(|_| !self.is_copy()).map(|position| &position.durable).or_else(told)
    }

    /// Whether it answered through either plane.
    #[must_use]
    pub fn answers(&self) -> bool {
        self.description.is_some() || self.position.is_some()
    }

    /// Whether it is a logical copy: another system, fed with changes of rows.
    #[must_use]
    pub fn is_copy(&self) -> bool {
        self.description.as_ref().is_some_and(Description::is_copy)
    }

    /// The history whose writes it holds: the one that it carries, or, of a logical copy, the one that it is fed from. `None` when nobody
    /// can say which.
    #[must_use]
    pub fn holds(&self) -> Option<&Lineage> {
        if self.is_copy() { self.replication.as_ref()?.lineage.as_ref() } else { self.lineage() }
    }

    /// The history that it carries: as the server says, or else as its provider does.
    #[must_use]
    pub fn lineage(&self) -> Option<&Lineage> {
        let replication = self.replication.as_ref().filter(|_| !self.is_copy());
        let received = || replication.and_then(|replication| replication.lineage.as_ref());
        let described = || self.description.as_ref().and_then(|description| description.lineage.as_ref());
        self.position.as_ref().map(|position| &position.lineage).or_else(described).or_else(received)
    }

    /// The member with its resource and history; `None` when nobody can say which history.
    #[must_use]
    pub fn target(&self) -> Option<Target> {
        let lineage = self.lineage()?.clone();
        let (address, identity) = (self.binding.address.clone(), self.binding.identity.clone());
        let receives = if self.is_copy() { Some(self.holds()?.clone()) } else { None };
        Some(Target { member: self.name.clone(), address, identity, lineage, receives })
    }
}

/// The survey read this of one connection secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SecretFacts {
    /// What it is bound to.
    pub binding: ResourceRef,
    /// What it names; `None` when it did not answer.
    pub reference: Option<SecretReference>,
}

/// The survey read this of one application tier.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AppFacts {
    /// What it is bound to.
    pub binding: ResourceRef,
    /// How long a drain may last before clients see errors, as the tier says; `None` when it did not answer.
    pub limit: Option<Millis>,
    /// How long to wait for the applications' word that they stopped writing.
    pub within: Millis,
    /// How often the tier may be looked at.
    pub poll: Millis,
    /// Whether a drain ends by itself when its budget is over; where it does not, a guard process is needed.
    pub expires: bool,
}

/// A route for readers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReadersFacts {
    /// What it is bound to.
    pub binding: ResourceRef,
    /// The members that it knows.
    pub members: BTreeSet<MemberId>,
    /// How often it may be looked at.
    pub poll: Millis,
}

/// What was seen before planning: roles as derived from edges, facts with their ages.
#[derive(Clone, Debug, PartialEq)]
pub struct Situation {
    /// The group file.
    pub group: GroupSpec,
    /// The writer: seen, or (when it is silent) the last one known.
    pub primary: MemberFacts,
    /// Whether the writer answered. A silent one can only be failed over.
    pub primary_answers: bool,
    /// The writer with its lineage.
    pub writer: Target,
    /// The other members that are there, or may be.
    pub standbys: Vec<MemberFacts>,
    /// Members of the group file that do not exist: lost, or not created yet. Nobody follows them, and nobody can be promoted there.
    pub missing: Vec<MemberFacts>,
    /// The connection secrets, by name.
    pub secrets: BTreeMap<BindingName, SecretFacts>,
    /// The application tiers, by name.
    pub apps: BTreeMap<BindingName, AppFacts>,
    /// The routes, by name.
    pub routes: BTreeMap<BindingName, ResourceRef>,
    /// The routes for readers, by name.
    pub readers: BTreeMap<BindingName, ReadersFacts>,
    /// How often routes may be looked at.
    pub route_poll: Millis,
    /// How long clients may keep an older answer, at worst.
    pub route_ttl: Millis,
    /// What a rehearsal that changes nothing found, for a change to each standby.
    pub rehearsals: BTreeMap<MemberId, Rehearsal>,
    /// When the look began.
    pub at: Timestamp,
}

impl Situation {
    /// Every member of the group file.
    pub fn members(&self) -> impl Iterator<Item = &MemberFacts> {
        std::iter::once(&self.primary).chain(&self.standbys).chain(&self.missing)
    }

    /// The member of this name.
    #[must_use]
    pub fn member(&self, name: &MemberId) -> Option<&MemberFacts> {
        self.members().find(|member| member.name == *name)
    }

    /// Returns how often the application tiers may be looked at: the slowest one sets the pace.
    #[must_use]
    pub fn app_poll(&self) -> Millis {
        self.apps.values().map(|app| app.poll).max().unwrap_or(Millis::seconds(1))
    }

    /// Tells whether replication carries a fence of any member to the others: what was fenced once, by this run or an earlier one, may
    /// keep the applications of a new writer out.
    #[must_use]
    pub fn fence_travels(&self) -> bool {
        std::iter::once(&self.primary).chain(&self.standbys).any(|member| member.fence_travels)
    }

    /// The history that each member carries, where somebody can say it. The writer's is that of the situation.
    #[must_use]
    pub fn lineages(&self) -> BTreeMap<MemberId, Lineage> {
        let standbys = self.standbys.iter().filter_map(|member| Some((member.name.clone(), member.lineage()?.clone())));
        standbys.chain([(self.writer.member.clone(), self.writer.lineage.clone())]).collect()
    }

    /// The histories that logical copies are fed from, by copy.
    #[must_use]
    pub fn receives(&self) -> BTreeMap<MemberId, Lineage> {
        let copies = self.standbys.iter().filter(|member| member.is_copy());
        copies.filter_map(|member| Some((member.name.clone(), member.holds()?.clone()))).collect()
    }

    /// The standbys that a change of the writer to `to` has to take along: all that are no readers, apart from `to`.
    pub fn followers<'a>(&'a self, to: &'a MemberId) -> impl Iterator<Item = &'a MemberFacts> {
        self.standbys.iter().filter(move |member| member.role != IntendedRole::Reader && member.name != *to)
    }

    /// What a plan of this group starts from. Readers are no part of it.
    ///
    /// # Errors
    /// The group's configuration has no canonical form.
    pub fn header(&self, runbook: RunbookId, purpose: Purpose, policy: Policy) -> Result<PlanHeader, CanonicalError> {
        let bound = |one: &&MemberFacts| one.role != IntendedRole::Reader || one.name == self.primary.name;
        let members = self.members().filter(bound);
        let mut bindings: BTreeMap<Binding, ResourceRef> =
            members.map(|member| (Binding::from(&member.name), member.binding.clone())).collect();
        bindings
            .extend(self.secrets.iter().map(|(name, secret)| (Binding::Secret(name.clone()), secret.binding.clone())));
        bindings.extend(self.apps.iter().map(|(name, app)| (Binding::App(name.clone()), app.binding.clone())));
        bindings.extend(self.routes.iter().map(|(name, route)| (Binding::Traffic(name.clone()), route.clone())));
        let readers = self.readers.iter();
        bindings.extend(readers.map(|(name, route)| (Binding::Readers(name.clone()), route.binding.clone())));
        Ok(PlanHeader {
            runbook,
            purpose,
            group: self.group.name.clone(),
            environment: self.group.environment.clone(),
            group_digest: self.group.digest()?,
            expects: self.writer.clone(),
            bindings,
            fence_travels: self.fence_travels(),
            lineages: self.lineages(),
            receives: self.receives(),
            allow: self.group.allowed().collect(),
            policy,
        })
    }
}

/// Turns a situation into a plan. It looks at nothing else: no configuration, no provider, no clock.
pub trait Runbook: Debug + Send + Sync {
    /// Name and version.
    fn id(&self) -> RunbookId;

    /// What its plans are for.
    fn purpose(&self) -> Purpose;

    /// Writes the plan.
    ///
    /// # Errors
    /// A [`Refusal`] when the situation does not allow it; nothing was changed.
    fn plan(&self, now: &Situation, plan: &mut PlanBuilder) -> Result<(), Refusal>;
}
