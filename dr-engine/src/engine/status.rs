//! Where a group stands, and what would keep it from being operated.

use dr_core::{
    AppTier, Binding, GroupName, RunId, Timestamp, View,
    base::{BindingName, Finding, known, text},
    contract::{IntendedRole, Resolved},
    plan::{MemberFacts, Roles, roles},
    run::{Debt, RunOutcome},
};
use serde::Serialize;

use super::{
    Engine, Group,
    drive::no_guard,
    run::{Run, Tail},
};
use crate::{Error, runtime::wall};

/// A group as it is now.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct GroupStatus {
    /// Its name.
    pub group: GroupName,
    /// What was seen of each member.
    pub members: Vec<MemberFacts>,
    /// The member that writes, if that can be said.
    pub writer: Option<dr_core::MemberId>,
    /// Whether the writer answered.
    pub writer_answers: bool,
    /// Why it cannot be said who writes.
    pub findings: Vec<Finding>,
    /// The unfinished run, if there is one.
    pub run: Option<View>,
    /// Whether an engine drives that run.
    pub driven: bool,
    /// What earlier runs left to people, and nobody has done since.
    pub debts: Vec<Debt>,
    /// When the look began.
    pub at: Timestamp,
}

/// One line of a list of runs.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct RunSummary {
    /// The run.
    pub run: RunId,
    /// When it began.
    pub started: Option<Timestamp>,
    /// The view, if the run can be read.
    pub view: Option<View>,
    /// How it ended, if it is over.
    pub outcome: Option<RunOutcome>,
    /// Whether an engine drives it now.
    pub driven: bool,
    /// Why it cannot be read.
    pub fault: Option<String>,
}

impl Engine {
    /// Looks at a group and at the run that works on it. Nothing is changed.
    ///
    /// # Errors
    /// [`Error::Journal`], [`Error::Lease`].
    pub async fn status(&self, group: &Group) -> Result<GroupStatus, Error> {
        let at = wall();
        let survey = self.survey(group).await?;
        let members = survey.members().await;
        let (seen, findings) = match roles(&members, survey.last_writer.as_ref()) {
            Ok(mut seen) => {
                let findings = std::mem::take(&mut seen.findings);
                (Some(seen), findings)
            }
            Err(findings) => (None, findings),
        };
        let run = self.unfinished(&group.spec().name).await?;
        let driven = match &run {
            Some(run) => self.inner.store.leases.is_driven(&run.run).await?,
            None => false,
        };
        Ok(GroupStatus {
            group: group.spec().name.clone(),
            members,
            writer_answers: seen.as_ref().is_some_and(|seen: &Roles| seen.answers),
            writer: seen.map(|seen| seen.writer),
            findings,
            run,
            driven,
            debts: self.debts(Some(&group.spec().name)).await?,
            at,
        })
    }

    /// What would keep a switchover of the group from working, or make it unsafe. Looks, and changes nothing.
    ///
    /// # Errors
    /// [`Error::Journal`].
    pub async fn check(&self, group: &Group) -> Result<Vec<Finding>, Error> {
        let survey = self.survey(group).await?;
        let members = survey.members().await;
        let mut findings = match roles(&members, survey.last_writer.as_ref()) {
            Ok(seen) => seen.findings,
            Err(findings) => findings,
        };
        // Nothing is planned for a reader, and only who may write has to be fenced.
        for member in members.iter().filter(|member| member.role != IntendedRole::Reader) {
            findings.extend(silence(member));
            if member.role == IntendedRole::Candidate {
                findings.extend(fenceless(member));
            }
        }
        findings.extend(self.drain(group).await);
        if findings.is_empty() {
            findings = match survey.situation().await {
                Ok(situation) => self.against_a_switchover(&situation),
                Err(refused) => refused.findings,
            };
        }
        Ok(findings)
    }

    /// Who ends a drain, and whether it ends before clients give up.
    async fn drain(&self, group: &Group) -> Vec<Finding> {
        let mut findings = Vec::new();
        for (name, (_, resolved)) in &group.bindings().by_name {
            if let (Binding::App(name), Resolved::App(app)) = (name, resolved) {
                findings.extend(self.drain_of(group, name, app.as_ref()).await);
            }
        }
        findings
    }

    async fn drain_of(&self, group: &Group, name: &BindingName, app: &dyn AppTier) -> Vec<Finding> {
        let mut findings = Vec::new();
        if !app.drain_expires_by_itself() && self.inner.guard.is_none() && !self.inner.unguarded {
            findings.push(no_guard());
        }
        let budget = group.spec().limits.gap_budget;
        match app.limit().await {
            Ok(limit) if budget >= limit => findings.push(Finding::new(
                &known::GAP_BUDGET_TOO_LONG,
                format!(
                    "the gap budget is {}, and clients of {name} give up after {}",
                    text::human(budget),
                    text::human(limit)
                ),
            )),
            Ok(_) => {}
            Err(error) => findings.push(Finding::new(
                &known::CLIENT_LIMIT_UNKNOWN,
                format!(
                    "the application tier {name} does not say how long clients wait: {}",
                    dr_core::Cause::chain(&error)
                ),
            )),
        }
        findings
    }

    async fn unfinished(&self, group: &GroupName) -> Result<Option<View>, Error> {
        for run in self.inner.store.journal.runs().await?.into_iter().rev().filter(|run| run.group() == group) {
            let view = Run::new(self.clone(), run).view().await;
            if let Ok(view) = view
                && view.outcome().is_none()
            {
                return Ok(Some(view));
            }
        }
        Ok(None)
    }
}

/// One line of the list, whatever state the run is in.
pub(super) async fn summary(engine: &Engine, run: RunId) -> RunSummary {
    // Whether somebody drives it is not worth losing the list for.
    let driven = engine.inner().store.leases.is_driven(&run).await.unwrap_or(false);
    match Tail::read(engine, &run).await {
        Ok(tail) => RunSummary {
            started: Some(tail.state.started),
            outcome: tail.state.outcome.clone(),
            view: Some(View::of(&tail.state, wall(), &[])),
            run,
            driven,
            fault: None,
        },
        Err(error) => RunSummary {
            run,
            started: None,
            view: None,
            outcome: None,
            driven,
            fault: Some(dr_core::Cause::chain(&error).to_string()),
        },
    }
}

fn silence(member: &MemberFacts) -> Vec<Finding> {
    let finding = |why: &String| Finding::new(&known::READ_FAILED, format!("`{}` did not answer: {why}", member.name));
    member.silence.iter().map(finding).collect()
}

fn fenceless(member: &MemberFacts) -> Option<Finding> {
    let swaps =
        member.capabilities.as_ref().is_some_and(|offered| offered.swap.is_some() || offered.forced_swap.is_some());
    (member.fence.is_none() && !swaps).then(|| {
        Finding::new(&known::NO_FENCE, format!("`{}` has no fence, and its backend does not swap roles", member.name))
    })
}
