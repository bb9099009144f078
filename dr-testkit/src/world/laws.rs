//! The laws that the simulated world holds every run against, as far as its own truth can tell. The standing ones are checked after
//! every change, the others at the end of a run.

use std::collections::{BTreeMap, BTreeSet};

use dr_core::{
    Binding, MemberId, Touch,
    base::Endpoint,
    contract::{Lineage, Loss},
};
use serde::{Deserialize, Serialize};

use super::{ChangeKind, Effect, TruthLine, World};
use crate::cloud::SimCloud;

/// How many lines of the truth log a violation shows.
const EXCERPT: usize = 14;

/// A law of the simulated world. Laws S say what must never happen, laws L what must happen in the end; a number that is missing belonged
/// to a law that only a real server can show.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Law {
    /// At no time can clients commit on two members of one group.
    S1,
    /// A planned switchover that succeeds has lost nothing acknowledged.
    S2,
    /// A forced failover loses at most what it reported.
    S3,
    /// After success every route sends to the one writer.
    S4,
    /// A published secret version names a member that takes writes; after success it names the writer.
    S5,
    /// One promotion at most per run; none after an abort.
    S6,
    /// No promotion, secret or route while the old primary could still take writes.
    S7,
    /// Nothing is changed after a cancellation was acknowledged.
    S8,
    /// A fence is never lifted after a promotion was asked for, except by an operator.
    S9,
    /// Nothing is committed in a history that a promotion has left behind.
    S10,
    /// Every change of ours has one durable intent before it and an outcome after it.
    S11,
    /// A run that crashed and was resumed ends as the one that was not.
    S12,
    /// Nothing is touched that the plan does not name.
    S13,
    /// Looking, planning and dry runs change nothing.
    S14,
    /// An engine that lost its lease sends nothing more.
    S15,
    /// Success is claimed only after a look that follows the last change.
    S16,
    /// What was taken for a while was given back, in all its parts: after an abort, and by a success.
    S20,
    /// No fence is called confirmed while the server at the member's address takes writes.
    S21,
    /// After success the applications' own role can write through every route.
    S22,
    /// After success no other member runs as a primary, and without debts every standby replays.
    S23,
    /// What a promotion drops beside the log was shown to people before they agreed.
    S24,
    /// No application is sent to a writer that still refuses it because of the fence of its predecessor.
    S25,
    /// After success without debts every standby that is no reader receives from the writer.
    S26,
    /// Nothing is destroyed that takes writes or that others follow.
    S27,
    /// After success without debts, what a rebuilt member lost is kept, where its provider kept it for a while.
    S28,
    /// After success without debts the writer has the protections that the group asks for.
    S29,
    /// After success without debts readers are sent to the writer or to standbys that receive from it.
    S30,
    /// No application is sent to a writer whose sequences would hand out what rows of it have already.
    S31,
    /// Every run reaches an end or asks people within a stated time.
    L2,
    /// A single transient fault does not turn a success into a failure or a park.
    L3,
    /// A law of the author's own.
    Own(String),
}

impl std::fmt::Display for Law {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if let Self::Own(name) = self { f.pad(name) } else { f.pad(&format!("{self:?}")) }
    }
}

/// A broken law, with the last lines of the truth.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Violation {
    /// Which law.
    pub law: Law,
    /// When, in milliseconds after 1970.
    pub at: i64,
    /// What is wrong.
    pub text: String,
    /// The truth log up to there.
    pub excerpt: Vec<TruthLine>,
}

impl std::fmt::Display for Violation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {}", self.law, self.text)?;
        for line in &self.excerpt {
            let before = self.at.saturating_sub(line.at);
            write!(f, "\n  t-{}.{:03}  {:28} {} {}", before / 1000, before % 1000, line.by, line.what, line.text)?;
        }
        Ok(())
    }
}

/// How a run ended, for the laws that look at the end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ended {
    /// A success was claimed.
    Succeeded {
        /// Whether nothing may be lost.
        planned: bool,
        /// What was reported as lost at most.
        loss: Loss,
        /// Whether somebody was told to finish something by hand.
        debts: bool,
    },
    /// The run turned back.
    Aborted,
    /// The run waits for people.
    Parked,
}

/// What the world is told about the run that works on it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Duties {
    /// The truth lines before this one belong to earlier runs.
    pub(crate) from: usize,
    /// Why nothing may be changed now, if so (S14).
    pub(crate) only_look: Option<String>,
    /// A cancellation was acknowledged (S8).
    pub(crate) cancelled: bool,
    /// All that may be touched (S13).
    pub(crate) allow: Option<BTreeSet<Touch>>,
    /// Members whose fence an operator ordered to be lifted (S9).
    pub(crate) operator_lifts: BTreeSet<MemberId>,
    /// A person accepted the risk of two writers (S1a).
    pub(crate) risk_accepted: bool,
    /// A stranger made two writers: no orchestrator can prevent that.
    pub(crate) stranger: bool,
    /// Processes that lost their lease (S15).
    pub(crate) stale: BTreeSet<String>,
    /// When the fence of a member was looked at last (S23).
    pub(crate) inspected: BTreeMap<MemberId, i64>,
    /// Up to when the replication of a member was seen last (S26).
    pub(crate) watched: BTreeMap<MemberId, i64>,
    /// Members whose fence this run retired (S20), and up to when their replication had been seen then: what looks at them later only sends
    /// readers on (S26).
    pub(crate) retired: BTreeMap<MemberId, i64>,
    /// The plan promotes nobody (S6).
    pub(crate) keeps_writer: bool,
    /// The secrets and routes that the plan leaves as they are (S4, S5, S22).
    pub(crate) left_out: BTreeSet<Binding>,
    /// When the run last looked through a route (S22).
    pub(crate) looked_through: BTreeMap<usize, i64>,
}

impl World {
    /// Records a violation, once per law.
    pub(crate) fn violate(&mut self, law: Law, text: impl Into<String>) {
        if self.violations.iter().any(|known| known.law == law) {
            return;
        }
        let from = self.log.len().saturating_sub(EXCERPT);
        let excerpt = self.log.get(from..).map(<[TruthLine]>::to_vec).unwrap_or_default();
        self.violations.push(Violation { law, at: self.now, text: text.into(), excerpt });
    }

    /// The laws that hold at every time.
    pub(super) fn check_standing(&mut self) {
        if self.duties.stranger || self.duties.risk_accepted {
            return;
        }
        let fine = {
            let mut taking = self.instances.values().filter(|found| !found.apart && self.takes_commits(found));
            let first = taking.next();
            let current = first.is_none_or(|found| self.histories.get(&found.lineage).is_some_and(|of| !of.retired));
            current && taking.next().is_none()
        };
        if fine {
            return;
        }
        let writers = self.writers_now();
        if writers.len() > 1 {
            let names: Vec<String> = writers.iter().map(ToString::to_string).collect();
            self.violate(Law::S1, format!("clients can commit on {}", names.join(" and ")));
        }
        for name in writers {
            let lineage = self.instances.get(&name).map(|found| found.lineage.clone());
            let retired = lineage.filter(|lineage| self.histories.get(lineage).is_some_and(|found| found.retired));
            if let Some(lineage) = retired {
                self.violate(Law::S10, format!("{name} takes writes in {lineage}, which a promotion has left behind"));
            }
        }
    }

    /// What the laws say to a call that is about to have its effect.
    pub(super) fn check_send(&mut self, effect: &Effect, call: &str) {
        if call == "drift" {
            return;
        }
        if let Effect::Patch { endpoint, .. } = effect {
            let member = self.instances.values().find(|found| found.endpoint == *endpoint).map(|f| f.name.clone());
            self.check_repoint(member.as_ref(), call);
        }
        if let Effect::Route { member, .. } = effect {
            self.check_repoint(Some(&member.clone()), call);
        }
        if let Effect::Clear { member, .. } = effect {
            self.check_clear(&member.clone(), call);
        }
        if let Effect::Start { member, .. } | Effect::Allow { member } = effect
            && self.promotion_asked()
            && !self.duties.operator_lifts.contains(member)
        {
            let text = format!("{call} lifts the fence of {member} after a promotion was asked for");
            self.violate(Law::S9, text);
        }
    }

    /// A fence that travelled is taken from the member that was promoted, never from its predecessor (S9).
    fn check_clear(&mut self, member: &MemberId, call: &str) {
        let promoted = self.instances.get(member).is_some_and(|found| found.lineage == self.current);
        if !promoted && !self.duties.stranger {
            self.violate(Law::S9, format!("{call} clears {member}, which was not promoted"));
        }
    }

    /// Nothing is pointed at a member while another one takes writes (S7, built-in shape).
    fn check_repoint(&mut self, member: Option<&MemberId>, call: &str) {
        if self.duties.stranger || self.duties.risk_accepted {
            return;
        }
        if let Some(other) = self.writers_now().into_iter().find(|writer| Some(writer) != member) {
            self.violate(Law::S7, format!("{call} repoints while {other} takes writes"));
        }
        if let Some(found) = member.and_then(|member| self.instances.get(member)).filter(|found| self.carries(found)) {
            let text = format!("{call} sends applications to {}, whose roles may not log in", found.name);
            self.violate(Law::S25, text);
        }
        let behind = |found: &&super::Instance| {
            let at = self.received_at(found, self.now);
            found.follows.is_none() && self.sequence_at(found, at) < self.rows_at(found, at)
        };
        if let Some(found) = member.and_then(|member| self.instances.get(member)).filter(behind) {
            let text = format!("{call} sends applications to {}, whose sequence is behind its rows", found.name);
            self.violate(Law::S31, text);
        }
    }

    /// Whether a change of the writer was asked for in this run.
    pub(crate) fn promotion_asked(&self) -> bool {
        let since = self.log.get(self.duties.from).map_or(i64::MAX, |line| line.at);
        self.ops.values().any(|op| op.work.changes_writer() && op.started >= since)
    }

    pub(super) fn check_promotion(&mut self, member: &MemberId, parent: &Lineage, at: u64) {
        if self.duties.stranger || self.duties.risk_accepted {
            return;
        }
        let separate = self.setup.flavour == super::Flavour::Separate;
        if let Some(other) = self.writers_now().into_iter().find(|writer| separate && writer != member) {
            let text = format!("{member} is promoted on {parent} at {at:X} while {other} can still take writes");
            self.violate(Law::S7, text);
        }
        if self.promotions_in_run() > 0 {
            self.violate(Law::S6, format!("{member} is promoted, and it is not the first promotion of this run"));
        }
    }

    pub(crate) fn promotions_in_run(&self) -> usize {
        let lines = self.log.get(self.duties.from..).unwrap_or_default();
        lines.iter().filter(|line| line.kind == ChangeKind::Promoted && line.by != "drift").count()
    }

    pub(super) fn check_published(&mut self, endpoint: &Endpoint, call: &str) {
        let member = self.instances.values().find(|found| found.endpoint == *endpoint);
        let good = member.is_some_and(|found| self.can_commit(found) && !found.denied && !self.carries(found));
        if !good && !self.duties.stranger && call != "drift" {
            self.violate(Law::S5, format!("a new secret version names {endpoint}, which takes no writes"));
        }
    }

    /// The laws that look at the end of a run.
    pub(crate) fn check_end(&mut self, ended: &Ended) {
        match ended {
            Ended::Succeeded { planned, loss, debts } => {
                self.check_loss(*planned, loss);
                self.check_pointers();
                self.check_served();
                self.check_others(*debts);
                self.check_fences(*debts);
                self.check_kept(*debts);
                self.check_readers(*debts);
                let count = self.promotions_in_run();
                if count != usize::from(!self.duties.keeps_writer) {
                    self.violate(Law::S6, format!("a success with {count} promotions"));
                }
                self.check_parts("a success");
                if self.app.draining && !self.reopened() {
                    self.violate(Law::S20, "a success, and applications still hold their writes back");
                }
            }
            Ended::Aborted => {
                self.check_parts("the run turned back");
                let count = self.promotions_in_run();
                if count > 0 {
                    self.violate(Law::S6, format!("the run turned back, and there were {count} promotions"));
                }
                if self.app.draining {
                    self.violate(Law::S20, "the run turned back, and applications still hold their writes back");
                }
                let up = |found: &&super::Instance| found.denied || found.stopped || found.no_login.is_some();
                if let Some(fenced) = self.instances.values().find(up)
                    && !self.duties.stranger
                {
                    let text = format!("the run turned back, and {} is still fenced", fenced.name);
                    self.violate(Law::S20, text);
                }
            }
            Ended::Parked => {}
        }
    }

    /// Whether this run let the applications through. A drain that is delivered late, after that, ends by its own budget.
    fn reopened(&self) -> bool {
        let lines = self.log.get(self.duties.from..).unwrap_or_default();
        lines.iter().any(|line| line.kind == ChangeKind::Resumed && line.by.starts_with("app.resume"))
    }

    /// Whether the last promotion was a stranger's: what it lost is not held against the run.
    pub(super) fn usurped(&self) -> bool {
        let lines = self.log.get(self.duties.from..).unwrap_or_default();
        lines.iter().rfind(|line| line.kind == ChangeKind::Promoted).is_some_and(|line| line.by == "drift")
    }

    fn check_loss(&mut self, planned: bool, loss: &Loss) {
        // What a colleague let be written on the old side after the promotion is not held against the run.
        if self.usurped() || self.duties.stranger {
            return;
        }
        let lost = self.lost();
        if planned && !lost.is_empty() {
            self.violate(Law::S2, format!("{} acknowledged writes are lost", lost.len()));
        }
        if planned {
            return;
        }
        let actual = self.lost_time();
        let within = match loss {
            Loss::Unknown { .. } => true,
            Loss::Nothing => lost.is_empty(),
            Loss::AtMost { time, .. } => u64::try_from(actual).unwrap_or(u64::MAX) <= time.count(),
        };
        if !within {
            let text = format!("{} acknowledged writes of {actual} ms are lost; reported was {loss}", lost.len());
            self.violate(Law::S3, text);
        }
    }

    /// How much time of acknowledged writes is lost.
    pub(crate) fn lost_time(&self) -> i64 {
        let others = self.histories.values().filter(|history| history.lineage != self.current);
        let times = others.filter_map(|history| {
            let kept = self.parted(&history.lineage).unwrap_or(history.base);
            let gone = history.stretches.iter().filter(|stretch| stretch.writes() > 0 && stretch.end > kept);
            let last = history.spans().last().map(|(_, last)| last)?;
            let first = gone.map(|stretch| stretch.from.max(time_of(history, kept))).min()?;
            Some(last.saturating_sub(first))
        });
        times.max().unwrap_or(0)
    }

    fn check_pointers(&mut self) {
        let writers = self.writers_now();
        let [writer] = writers.as_slice() else {
            if !self.duties.stranger {
                self.violate(Law::S4, format!("a success with {} writers", writers.len()));
            }
            return;
        };
        let left_out = |number| self.duties.left_out.contains(&Binding::Traffic(SimCloud::route_name(number)));
        let mut routes = self.routes.iter().enumerate().filter(|(number, _)| !left_out(*number));
        if let Some((wrong, _)) = routes.find(|(_, route)| route.member != *writer) {
            self.violate(Law::S4, format!("{} does not send to {writer}", SimCloud::route_name(wrong)));
        }
        let named = self.secret.versions.last().map(|row| row.endpoint.clone());
        let good = self.instances.get(writer).is_some_and(|found| Some(&found.endpoint) == named.as_ref());
        if !good && !self.duties.left_out.contains(&Binding::secret(SimCloud::SECRET)) {
            self.violate(Law::S5, format!("the secret does not name {writer}"));
        }
    }
}

/// When the history was written up to `position`.
fn time_of(history: &super::History, position: u64) -> i64 {
    let (mut low, mut high) = match (history.stretches.first(), history.stretches.last()) {
        (Some(first), Some(last)) => (first.from, last.to),
        _ => return 0,
    };
    while low < high {
        let middle = low.saturating_add(high.saturating_sub(low) / 2);
        if history.position_at(middle) > position { high = middle } else { low = middle.saturating_add(1) }
    }
    low
}
