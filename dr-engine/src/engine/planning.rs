//! From a group and a runbook to a plan that every rule let pass.

use dr_core::{
    Grade, GroupName, GroupSpec, MemberId, Plan, PlanBuilder, PlannedSwitchover, Purpose, Runbook, Situation,
    Timestamp,
    base::{Finding, Refusal, SystemId, known},
    contract::{Fact, FenceSpec, PositionSample, Resolved, verb},
    plan::{Call, Policy, RetiredLineage, Survey, Verified},
    run::{KeptGroup, LastWriter},
};

use super::{Engine, Group, run::Tail};
use crate::{Error, backends::Bindings, runtime::wall, watcher};

impl Engine {
    /// Looks at the group's members and writes the plan. Nothing is changed.
    ///
    /// # Errors
    /// [`Error::Refused`]: the members do not say who writes, the runbook does not fit, or a rule forbids the plan.
    pub async fn plan(&self, group: &Group, runbook: impl Runbook) -> Result<Verified, Error> {
        self.plan_with(group, &runbook).await
    }

    /// As [`Engine::plan`], for a runbook that was chosen at run time.
    ///
    /// # Errors
    /// As [`Engine::plan`].
    pub async fn plan_with(&self, group: &Group, runbook: &dyn Runbook) -> Result<Verified, Error> {
        let kept = KeptGroup { spec: group.spec.clone(), file: group.file.clone(), at: wall() };
        self.inner.store.registry.keep_group(&kept).await?;
        self.sample(&group.spec);
        let situation = self.situation(group).await?;
        let positions = situation.members().filter_map(|member| member.position.as_ref());
        let systems = positions.map(|position| &position.lineage.system).chain([&situation.writer.lineage.system]);
        self.refuse_its_own(group.spec.name.to_string(), &systems.collect::<Vec<_>>())?;
        let policy = self.policy(&group.spec, &situation.writer.member, runbook.purpose());
        let header = situation.header(runbook.id(), runbook.purpose(), policy);
        let header = header.map_err(|error| {
            let finding = Finding::new(&known::GROUP_WITHOUT_HASH, error.to_string());
            Refusal::one(group.spec.name.to_string(), finding)
        })?;
        let mut builder = PlanBuilder::new(header);
        look_facts(&situation).into_iter().for_each(|fact| builder.fact(fact));
        runbook.plan(&situation, &mut builder)?;
        let (mut plan, faults) = builder.finish();
        by_hand(&mut plan, &group.bindings);
        Ok(plan.verify(faults, &self.inner.catalog)?)
    }

    /// Refuses to move the database system in which this engine keeps its runs.
    pub(super) fn refuse_its_own(&self, subject: String, systems: &[&SystemId]) -> Result<(), Error> {
        let Some(own) = self.inner.store.journal.lies_in() else { return Ok(()) };
        if systems.iter().all(|system| **system != own) {
            return Ok(());
        }
        let what = format!("this engine keeps its runs in the system {own}, which is the one to be moved");
        Err(Refusal::one(subject, Finding::new(&known::STORE_IS_MOVED, what)).into())
    }

    /// What speaks against a planned switchover to any standby, as its plan would be refused now.
    pub(super) fn against_a_switchover(&self, situation: &Situation) -> Vec<Finding> {
        let policy = self.policy(&situation.group, &situation.writer.member, Purpose::Switchover);
        let mut all: Vec<Finding> = Vec::new();
        for standby in situation.standbys.iter().filter(|member| member.is_candidate()) {
            let runbook = PlannedSwitchover::to(standby.name.clone());
            let Ok(header) = situation.header(runbook.id(), runbook.purpose(), policy.clone()) else { continue };
            let Err(refused) = runbook.plan(situation, &mut PlanBuilder::new(header)) else { continue };
            for finding in refused.findings {
                if all.iter().all(|known| known.what != finding.what) {
                    all.push(finding);
                }
            }
        }
        all
    }

    /// Verifies a plan that was saved and read again.
    ///
    /// # Errors
    /// [`Error::Refused`].
    pub fn verify(&self, plan: Plan) -> Result<Verified, Error> {
        Ok(plan.verify(Vec::new(), &self.inner.catalog)?)
    }

    /// Looks at the group's members and says who writes. Nothing is changed.
    ///
    /// # Errors
    /// [`Error::Refused`].
    pub async fn situation(&self, group: &Group) -> Result<Situation, Error> {
        let situation = self.survey(group).await?.situation().await?;
        if situation.primary_answers {
            // A hint for the day when it is silent; without it that day is harder, this one is not.
            let seen = LastWriter { target: situation.writer.clone(), at: situation.at };
            let _unkept = self.inner.store.registry.saw_writer(&group.spec.name, &seen).await.is_ok();
        }
        Ok(situation)
    }

    pub(super) async fn survey(&self, group: &Group) -> Result<Survey, Error> {
        let last = self.inner.store.registry.last_writer(&group.spec.name).await?;
        Ok(Survey {
            group: group.spec.clone(),
            bindings: group.bindings.by_name.clone(),
            last_writer: last.map(|last| last.target),
            retired: self.retired(&group.spec.name).await?,
            runtime: std::sync::Arc::clone(&self.inner.runtime),
            patience: Survey::PATIENCE,
        })
    }

    /// The histories that runs of the group promoted away from, the newest first. A run that cannot be read retires nothing.
    pub(crate) async fn retired(&self, group: &GroupName) -> Result<Vec<RetiredLineage>, Error> {
        let mut found = Vec::new();
        for run in self.inner.store.journal.runs().await?.into_iter().rev().filter(|run| run.group() == group) {
            found.extend(Tail::read(self, &run).await.ok().and_then(|tail| tail.state.retired()));
        }
        Ok(found)
    }

    /// The limits of the group file, frozen with the plan. Of the fences only those of the present writer count.
    fn policy(&self, spec: &GroupSpec, writer: &MemberId, purpose: Purpose) -> Policy {
        let of_writer = |fence: &&FenceSpec| fence.member.as_ref().is_none_or(|member| member == writer);
        let weakest = spec.fences.iter().filter(of_writer).map(|fence| fence.grade).min();
        let automatic = spec.automatic(purpose.operation()).map(|opt_in| opt_in.risk.clone());
        Policy {
            gap_budget: spec.limits.gap_budget,
            client_limit: None,
            proof_age: spec.limits.proof_age,
            fact_age: spec.limits.fact_age,
            fence: weakest.unwrap_or(Grade::Enforced).max(Grade::Enforced),
            unguarded: self.inner.unguarded && self.inner.guard.is_none(),
            automatic,
        }
    }

    /// The position samples of the last day, oldest first.
    ///
    /// # Errors
    /// [`Error::Journal`].
    pub async fn samples(&self, group: &Group) -> Result<Vec<PositionSample>, Error> {
        Ok(self.inner.store.registry.samples(&group.spec.name, Timestamp::from_millis(0)).await?)
    }

    /// Takes one sample of the positions of a group and keeps it beside the journal.
    pub async fn sample_once(&self, group: &Group) {
        watcher::once(&self.inner, &group.spec, &group.bindings).await;
    }

    /// Begins to sample the positions of a group, unless that is going on already.
    pub fn sample(&self, spec: &GroupSpec) {
        if self.inner.watching {
            watcher::start(&self.inner, spec);
        }
    }
}

/// What was seen before planning, for the preview.
fn look_facts(now: &Situation) -> Vec<Fact> {
    let mut facts = vec![match now.primary_answers {
        true => Fact::any("writer", format!("{}", now.writer), "management API", now.at),
        false => Fact::any("writer", format!("{}, silent", now.writer), "its standbys and earlier looks", now.at),
    }];
    facts.extend(promised(now));
    for standby in &now.standbys {
        let Some(seen) = &standby.replication else { continue };
        let lag = seen.lag.map_or_else(|| "unknown".to_owned(), dr_core::base::text::human);
        facts.push(Fact::any(&format!("lag of {}", standby.name), lag, "management API", seen.at));
    }
    for (to, found) in &now.rehearsals {
        let drops: Vec<String> = found.drops.iter().map(|one| format!("{} ({})", one.what, one.detail)).collect();
        for (what, found) in [("drops", drops), ("untried", found.untried.clone())] {
            if !found.is_empty() {
                facts.push(Fact::any(&format!("{what} (to {to})"), found.join("; "), "rehearsal", now.at));
            }
        }
    }
    facts
}

/// What the group file says of the service, so that people see what is at stake and which way the writer goes.
fn promised(now: &Situation) -> Vec<Fact> {
    let GroupSpec { home, tier, objectives, .. } = &now.group;
    let home =
        if now.writer.member == *home { format!("{home}") } else { format!("{home}; the writer is away from it") };
    let rto = objectives.rto.map(|rto| ("writes stop for at most", dr_core::base::text::human(rto)));
    let all = [("home", home), ("tier", tier.to_string())].into_iter().chain(rto);
    all.map(|(name, value)| Fact::any(name, value, "group file", now.at)).collect()
}

/// Writes the provider's own commands beside every step, so that a person can finish the run by hand.
fn by_hand(plan: &mut Plan, bindings: &Bindings) {
    let undos = plan.holds.values_mut().map(|hold| &mut hold.undo);
    for call in plan.nodes.values_mut().map(|node| &mut node.call).chain(undos) {
        call.manual = manual(call, bindings);
    }
}

fn manual(call: &Call, bindings: &Bindings) -> Vec<String> {
    // A swap is one command, on the first member that it names; what follows it needs none.
    let swaps = call.touches.iter().any(|touch| verb::SWAP_ROLES.is(touch));
    let named = call.touches.iter().take(if swaps { 1 } else { call.touches.len() });
    let commands = named.filter_map(|touch| {
        let (_, resolved) = bindings.by_name.get(&touch.resource)?;
        let verb = touch.verb.as_str();
        Some(match resolved {
            Resolved::Member(member) => match (&member.fence, fence_verb(verb)) {
                (Some(fence), Some(verb)) => fence.manual(verb),
                (Some(_) | None, _) => member.database.manual(verb),
            },
            Resolved::Secret(secret) => secret.manual(verb),
            Resolved::Traffic(router) => router.manual(verb),
            Resolved::Readers(router) => router.manual(verb),
            Resolved::App(app) => app.manual(verb),
        })
    });
    commands.flatten().collect()
}

/// The fence's own word for a verb of the plan.
fn fence_verb(verb: &str) -> Option<&'static str> {
    match verb {
        "fence" => Some("engage"),
        "release-fence" => Some("release"),
        "retire-fence" => Some("retire"),
        "clear-fence" => Some("clear"),
        _ => None,
    }
}
