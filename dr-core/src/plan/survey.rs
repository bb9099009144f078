//! The look before a plan: every member is read, roles are derived, and what was seen is the [`Situation`]. Nothing is changed.

use std::{collections::BTreeMap, future::Future, sync::Arc};

use futures_util::future::{join, join_all, join3};

use crate::{
    base::{BindingName, Finding, MemberId, Millis, Refusal, ResourceIdentity, known},
    contract::{
        Binding, Cause, DatabaseProbe, Description, DrainSpec, Effort, FenceReading, GroupSpec, IntendedRole, Lineage,
        MemberProvider, MemberSpec, PositionReading, ProviderError, Reach, Rehearsal, Resolved, ResourceRef, Runtime,
        Target, Tri, contain,
    },
    plan::{
        AppFacts, MemberFacts, Presence, ReadersFacts, RetiredLineage, SecretFacts, Situation,
        document::fact_age_of,
        roles,
        steps::{Cast, answers_a_write},
    },
};

/// What to look at.
#[derive(Clone, Debug)]
pub struct Survey {
    /// The group.
    pub group: GroupSpec,
    /// What its names stand for.
    pub bindings: BTreeMap<Binding, (ResourceRef, Resolved)>,
    /// The writer of the last good look, for the case that it is silent now.
    pub last_writer: Option<Target>,
    /// The histories that runs promoted away from, the newest first.
    pub retired: Vec<RetiredLineage>,
    /// Time.
    pub runtime: Arc<dyn Runtime>,
    /// How long one read may take before its member counts as silent.
    pub patience: Millis,
}

impl Survey {
    /// How long one read may take when nobody says otherwise.
    pub const PATIENCE: Millis = Millis::seconds(10);

    /// Reads every member, all at once.
    pub async fn members(&self) -> Vec<MemberFacts> {
        let looks = self.group.members.iter().filter_map(|member| {
            let (binding, Resolved::Member(provider)) = self.bindings.get(&Binding::from(&member.name))? else {
                return None;
            };
            Some(self.member(member, binding, provider))
        });
        let mut members = join_all(looks).await;
        let alone: Vec<bool> = members.iter().map(follows_nobody).collect();
        if alone.iter().filter(|alone| **alone).count() > 1 {
            let fences = members.iter().zip(alone).map(|(member, alone)| self.fenced(member, alone));
            let fences: Vec<_> = join_all(fences).await;
            for (member, fenced) in members.iter_mut().zip(fences) {
                member.fenced = fenced;
            }
        }
        members
    }

    /// What the fences of a member say now, if it follows nobody.
    async fn fenced(&self, member: &MemberFacts, alone: bool) -> Option<FenceReading> {
        let Some(Resolved::Member(provider)) = self.resolved(&member.name).filter(|_| alone) else {
            return None;
        };
        let target = member.target()?;
        let mut all: Option<FenceReading> = None;
        for fence in provider.fence.iter().chain(&provider.late_fence) {
            let Ok(reading) = self.within(fence.inspect()).await else { continue };
            if reading.is_of(&target).is_ok() && reading.lineage.as_ref().is_none_or(|of| *of == target.lineage) {
                all = Some(all.map_or_else(|| reading.clone(), |all| all.with(&reading)));
            }
        }
        all
    }

    /// The promotion that took the writes away from this very resource, on the history that it carries.
    fn retired(&self, target: Option<&Target>) -> Option<RetiredLineage> {
        let target = target?;
        let same = |one: &&RetiredLineage| {
            one.from.member == target.member
                && one.from.lineage == target.lineage
                && one.from.is(&target.address, target.identity.as_ref()).is_ok()
        };
        self.retired.iter().find(same).cloned()
    }

    /// Looks, and says who writes.
    ///
    /// # Errors
    /// A [`Refusal`]: it cannot be said who writes, or which history it carries.
    pub async fn situation(self) -> Result<Situation, Refusal> {
        let at = self.runtime.now_wall();
        let members = self.members().await;
        let subject = self.group.name.to_string();
        let refuse = |findings| Refusal { subject: subject.clone(), findings };
        let derived = roles::roles(&members, self.last_writer.as_ref()).map_err(refuse)?;
        if !derived.findings.is_empty() {
            return Err(refuse(derived.findings));
        }
        let (mut writers, standbys): (Vec<_>, Vec<_>) =
            members.into_iter().partition(|member| member.name == derived.writer);
        let (missing, standbys): (Vec<_>, Vec<_>) = standbys.into_iter().partition(|member| !member.presence.exists());
        let primary = writers.pop().ok_or_else(|| refuse(vec![no_lineage(&derived.writer)]))?;
        let lineage = self.lineage(&primary, &standbys);
        let lineage = lineage.ok_or_else(|| refuse(vec![no_lineage(&primary.name)]))?;
        let address = primary.description.as_ref().map_or(&primary.binding.address, |seen| &seen.address).clone();
        let identity = primary.binding.identity.clone();
        let writer = Target { member: primary.name.clone(), address, identity, lineage, receives: None };
        let stale = self.stale(&std::iter::once(&primary).chain(&standbys).collect::<Vec<_>>());
        if !stale.is_empty() {
            return Err(refuse(stale));
        }
        let (apps, route_ttl, secrets) = join3(self.apps(), self.route_ttl(), self.secrets()).await;
        let candidates: Vec<&MemberFacts> =
            standbys.iter().filter(|member| member.is_candidate() && !derived.is_retired(&member.name)).collect();
        let rehearsals = candidates.iter().map(|standby| self.rehearsal(&primary, standby, derived.answers));
        let rehearsals: Vec<Rehearsal> = join_all(rehearsals).await;
        let rehearsals = candidates.iter().map(|standby| standby.name.clone()).zip(rehearsals).collect();
        let routes = self.bindings.iter().filter_map(|(name, (binding, _))| match name {
            Binding::Traffic(name) => Some((name.clone(), binding.clone())),
            Binding::Member(_) | Binding::Secret(_) | Binding::App(_) | Binding::Readers(_) | Binding::Custom(_) => {
                None
            }
        });
        let readers = self.group.traffic.iter().filter_map(|route| {
            let (binding, resolved) = self.bindings.get(&Binding::Readers(route.name.clone()))?;
            let Resolved::Readers(router) = resolved else { return None };
            let members = route.members.keys().cloned().collect();
            Some((route.name.clone(), ReadersFacts { binding: binding.clone(), members, poll: router.poll_every() }))
        });
        let readers = readers.collect();
        Ok(Situation {
            readers,
            primary_answers: derived.answers,
            primary,
            writer,
            standbys,
            missing,
            secrets,
            apps,
            routes: routes.collect(),
            route_poll: self.route_poll(),
            route_ttl,
            rehearsals,
            at,
            group: self.group,
        })
    }

    async fn member(&self, member: &MemberSpec, binding: &ResourceRef, provider: &MemberProvider) -> MemberFacts {
        let name = &member.name;
        let (database, probe) = (&provider.database, &provider.probe);
        let limit = self.group.limits.long_transaction;
        let mut silence = Vec::new();
        let mut hear = |what: &str, said: Option<String>| silence.extend(said.map(|why| format!("{what}: {why}")));
        let plane = join3(
            self.ask(database.describe()),
            self.within(database.replication()),
            self.within(database.capabilities()),
        );
        let inside = join(
            join(self.ask(probe.position()), self.within(probe.long_transactions(limit))),
            join(self.within(probe.extensions()), self.within(probe.available_extensions())),
        );
        let ((description, replication, capabilities), ((position, transactions), (extensions, available))) =
            join(plane, inside).await;
        hear("describe", description.as_ref().err().map(|quiet| quiet.why.clone()));
        hear("replication", replication.as_ref().err().cloned());
        hear("capabilities", capabilities.as_ref().err().cloned());
        hear("position", position.as_ref().err().map(|quiet| quiet.why.clone()));
        let management = description.as_ref().map_or_else(Quiet::management, |_| Tri::Yes);
        let reach = Reach { management, server: self.answers(&position, probe.as_ref()).await };
        let out_of_reach = provider.fence.as_ref().map(|fence| fence.out_of_reach(reach)).unwrap_or_default();
        let mut facts = MemberFacts {
            name: name.clone(),
            presence: self.presence(name, &description, position.is_ok()),
            role: member.role,
            binding: ResourceRef {
                identity: self.identity(name, binding, description.as_ref().ok()),
                ..binding.clone()
            },
            endpoint: database.known_endpoint(),
            description: description.ok(),
            replication: replication.ok(),
            capabilities: capabilities.ok(),
            fence: provider.fence.as_ref().map(|fence| fence.offers(reach)),
            late_fence: provider.late_fence.as_ref().map(|fence| fence.promises()),
            out_of_reach,
            fence_travels: provider.fence.as_ref().is_some_and(|fence| fence.travels()),
            fence_poll: provider.fence.as_ref().map_or(Millis::seconds(1), |fence| fence.poll_every()),
            pace: provider.pace,
            position: position.ok(),
            transactions: transactions.ok(),
            extensions: extensions.ok(),
            available_extensions: available.ok(),
            fenced: None,
            retired: None,
            reach,
            silence,
        };
        facts.retired = self.retired(facts.target().as_ref());
        facts
    }

    /// Whether the server itself answers: with its position, or where none is offered, on a probe write.
    async fn answers(&self, position: &Result<PositionReading, Quiet>, probe: &dyn DatabaseProbe) -> Tri {
        match position {
            Ok(_) => Tri::Yes,
            Err(Quiet { error: Some(ProviderError::Unsupported { .. }), .. }) => {
                let answers = answers_a_write(probe);
                contain::within(self.runtime.as_ref(), self.patience, answers).await.unwrap_or(Tri::No)
            }
            Err(_) => Tri::No,
        }
    }

    /// Whether a member is there, by what its provider and its server say.
    fn presence(&self, name: &MemberId, description: &Result<Description, Quiet>, inside: bool) -> Presence {
        let planned = self.group.member(name).is_some_and(|member| member.planned);
        match description {
            Ok(_) => Presence::Seen,
            Err(_) if inside => Presence::Seen,
            Err(Quiet { error: Some(ProviderError::Missing { .. }), .. }) if planned => Presence::Planned,
            Err(Quiet { error: Some(ProviderError::Missing { .. }), .. }) => Presence::Absent,
            Err(_) => Presence::Silent,
        }
    }

    /// Which resource a member is: as it says itself, or, when it is silent, as the last good look at the writer had it.
    fn identity(&self, name: &MemberId, binding: &ResourceRef, seen: Option<&Description>) -> Option<ResourceIdentity> {
        let last = || self.last_writer.as_ref().filter(|last| last.member == *name && last.address == binding.address);
        match seen {
            Some(seen) => seen.identity.clone(),
            None => last().and_then(|last| last.identity.clone()),
        }
    }

    /// What a change from `primary` to `standby` would meet, as far as reading tells. A part that does not answer is untried.
    async fn rehearsal(&self, primary: &MemberFacts, standby: &MemberFacts, answers: bool) -> Rehearsal {
        let Some(Resolved::Member(candidate)) = self.resolved(&standby.name) else {
            return Rehearsal::default();
        };
        let old = match self.resolved(&primary.name) {
            Some(Resolved::Member(old)) if answers => Some(old),
            Some(
                Resolved::Member(_)
                | Resolved::Secret(_)
                | Resolved::Traffic(_)
                | Resolved::Readers(_)
                | Resolved::App(_),
            )
            | None => None,
        };
        let endpoint = |member: &MemberFacts| member.description.as_ref().map(|seen| seen.endpoint.clone());
        let (mut secrets, mut routes) = (Vec::new(), Vec::new());
        for (binding, (_, resolved)) in &self.bindings {
            match (binding, resolved) {
                (Binding::Secret(name), Resolved::Secret(secret)) => secrets.push((name.clone(), Arc::clone(secret))),
                (Binding::Traffic(name), Resolved::Traffic(route)) => routes.push((name.clone(), Arc::clone(route))),
                (
                    _,
                    Resolved::Member(_)
                    | Resolved::Secret(_)
                    | Resolved::Traffic(_)
                    | Resolved::Readers(_)
                    | Resolved::App(_),
                ) => {}
            }
        }
        let cast = Cast {
            from: primary.name.clone(),
            to: standby.name.clone(),
            endpoints: endpoint(primary).zip(endpoint(standby)),
            candidate: Arc::clone(&candidate.database),
            primary: old.map(|old| Arc::clone(&old.database)),
            fence: old.and_then(|old| old.fence.clone()),
            secrets,
            routes,
        };
        let mut found = Rehearsal::default();
        for part in cast.rehearse(self.runtime.as_ref(), Effort::Look).await {
            match part.found {
                Ok(part) => found.extend(part),
                Err(why) => found.untried.push(format!("{}: {why}", part.name)),
            }
        }
        found
    }

    fn resolved(&self, member: &MemberId) -> Option<&Resolved> {
        self.bindings.get(&Binding::from(member)).map(|(_, resolved)| resolved)
    }

    /// Members whose answer is too old to plan from. Nothing is planned for a reader.
    fn stale(&self, members: &[&MemberFacts]) -> Vec<Finding> {
        let now = self.runtime.now_wall();
        let planned = members.iter().filter(|member| member.role != IntendedRole::Reader);
        let ages = planned.filter_map(|member| {
            let seen = member.description.as_ref()?;
            let limit = fact_age_of(self.group.limits.fact_age, seen.cadence);
            Some((member, now.since(seen.at), limit))
        });
        ages.filter(|(_, age, limit)| age > limit)
            .map(|(member, age, limit)| {
                let (age, limit) = (crate::base::text::human(age), crate::base::text::human(limit));
                Finding::new(
                    &known::STALE,
                    format!("what is known of `{}` is {age} old, the limit is {limit}", member.name),
                )
            })
            .collect()
    }

    /// The writer's history: as the writer itself says it, as its provider does, as its standbys carry it, or as it was seen last.
    fn lineage(&self, primary: &MemberFacts, standbys: &[MemberFacts]) -> Option<Lineage> {
        let seen = primary.lineage().or_else(|| standbys.iter().find_map(MemberFacts::holds)).cloned();
        let last = || self.last_writer.clone().filter(|last| last.member == primary.name).map(|last| last.lineage);
        seen.or_else(last)
    }

    async fn apps(&self) -> BTreeMap<BindingName, AppFacts> {
        let looks = self.bindings.iter().filter_map(|(name, (binding, resolved))| match (name, resolved) {
            (Binding::App(name), Resolved::App(app)) => Some(async move {
                let facts = AppFacts {
                    binding: binding.clone(),
                    limit: self.within(app.limit()).await.ok(),
                    within: self.group.app(name).map_or_else(DrainSpec::default, |app| app.drain.clone()).within,
                    poll: app.poll_every(),
                    expires: app.drain_expires_by_itself(),
                };
                (name.clone(), facts)
            }),
            (
                _,
                Resolved::Member(_)
                | Resolved::Secret(_)
                | Resolved::Traffic(_)
                | Resolved::Readers(_)
                | Resolved::App(_),
            ) => None,
        });
        join_all(looks).await.into_iter().collect()
    }

    async fn secrets(&self) -> BTreeMap<BindingName, SecretFacts> {
        let looks = self.bindings.iter().filter_map(|(name, (binding, resolved))| match (name, resolved) {
            (Binding::Secret(name), Resolved::Secret(store)) => Some(async move {
                let reference = self.within(store.read()).await.ok();
                (name.clone(), SecretFacts { binding: binding.clone(), reference })
            }),
            (
                _,
                Resolved::Member(_)
                | Resolved::Secret(_)
                | Resolved::Traffic(_)
                | Resolved::Readers(_)
                | Resolved::App(_),
            ) => None,
        });
        join_all(looks).await.into_iter().collect()
    }

    /// How long clients may keep an older answer, over all routes.
    async fn route_ttl(&self) -> Millis {
        let routers = self.bindings.values().filter_map(|(_, resolved)| match resolved {
            Resolved::Traffic(router) => Some(router),
            Resolved::Member(_) | Resolved::Secret(_) | Resolved::Readers(_) | Resolved::App(_) => None,
        });
        let readings = join_all(routers.map(|router| self.within(router.read()))).await;
        readings.into_iter().flatten().map(|reading| reading.ttl).max().unwrap_or(Millis::ZERO)
    }

    /// The slowest route sets the pace.
    fn route_poll(&self) -> Millis {
        let polls = self.bindings.values().filter_map(|(_, resolved)| match resolved {
            Resolved::Traffic(router) => Some(router.poll_every()),
            Resolved::Member(_) | Resolved::Secret(_) | Resolved::Readers(_) | Resolved::App(_) => None,
        });
        polls.max().unwrap_or(Millis::seconds(1))
    }

    /// One read, or why it gave nothing.
    async fn within<T>(&self, read: impl Future<Output = Result<T, ProviderError>> + Send) -> Result<T, String> {
        self.ask(read).await.map_err(|quiet| quiet.why)
    }

    /// One read, or why it gave nothing, with the error itself.
    async fn ask<T>(&self, read: impl Future<Output = Result<T, ProviderError>> + Send) -> Result<T, Quiet> {
        match contain::within(self.runtime.as_ref(), self.patience, read).await {
            Ok(answer) => answer.map_err(|error| Quiet { why: Cause::chain(&error).to_string(), error: Some(error) }),
            Err(silent) => Err(Quiet { why: silent.to_string(), error: None }),
        }
    }
}

/// Whether a member that answered says of itself that it follows nobody.
fn follows_nobody(member: &MemberFacts) -> bool {
    let inside = member.position.as_ref().map_or(Tri::Unknown, |position| position.in_recovery);
    match &member.description {
        Some(seen) => seen.follows.is_none() && inside != Tri::Yes,
        None => inside == Tri::No,
    }
}

/// Why a read gave nothing.
struct Quiet {
    why: String,
    /// `None` when there was no answer at all.
    error: Option<ProviderError>,
}

impl Quiet {
    /// Tells whether a management plane that gave nothing can be used for all that.
    fn management(&self) -> Tri {
        match &self.error {
            Some(ProviderError::Throttled { .. } | ProviderError::Strange { .. }) => Tri::Unknown,
            Some(
                ProviderError::Unsupported { .. }
                | ProviderError::Refused { .. }
                | ProviderError::Missing { .. }
                | ProviderError::Unreachable { .. },
            )
            | None => Tri::No,
        }
    }
}

fn no_lineage(member: &MemberId) -> Finding {
    Finding::new(&known::NO_HISTORY, format!("nobody can say which history `{member}` writes"))
}
