//! Members that are made, restored, protected and destroyed, and what the provider keeps of lost writes.

use dr_core::{
    MemberId,
    base::{ResourceIdentity, SystemId},
    contract::{Hardening, IntendedRole, Lineage},
    minutes,
};
use serde::{Deserialize, Serialize};

use super::{ChangeKind, Fate, History, Instance, Law, Life, MemberSetup, OpState, Operation, Reply, Work, World};

/// Writes that a member had and nobody else has.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Kept {
    pub(crate) member: MemberId,
    pub(crate) lineage: Lineage,
    /// They lie between these positions.
    pub(crate) from: u64,
    pub(crate) to: u64,
    /// Since when it is kept.
    pub(crate) at: i64,
}

impl World {
    /// What every member is protected by that writes at the start.
    pub(crate) const PROTECTED: Hardening = Hardening {
        high_availability: true,
        deletion_protection: true,
        point_in_time: true,
        retention: Some(minutes(7 * 24 * 60)),
    };

    /// The newest point that backups reach at `at`.
    pub(crate) fn newest_point(&self, at: i64) -> i64 {
        at.saturating_sub(i64::try_from(self.setup.timing.view_lag.count()).unwrap_or(i64::MAX))
    }

    /// The operation that does the same work already.
    fn at_work(&self, work: &Work) -> Option<Reply> {
        let same = |op: &&Operation| op.state == OpState::Running && op.work == *work;
        let (handle, _) = self.ops.iter().find(|(_, op)| same(op))?;
        Some(Reply::Accepted(handle.clone()))
    }

    fn without_lifecycle(&self) -> Option<Reply> {
        let refused = || Reply::Refused("this service makes and destroys no members".to_owned());
        (!self.setup.service.lifecycle).then(refused)
    }

    pub(super) fn ask_life(&mut self, member: MemberId, change: Life, call: &str, fate: &Fate) -> Reply {
        match change {
            Life::Create { source } => self.ask_create(member, source, (call, fate)),
            Life::Restore { source, at } => self.ask_restore(member, &source, at, (call, fate)),
            Life::Destroy { identity, keep } => self.ask_destroy(&member, identity.as_ref(), keep, (call, fate)),
            Life::Harden { want } => self.ask_harden(&member, want, (call, fate)),
            Life::Preserve { name, since } => self.ask_preserve(&member, name, since, (call, fate)),
            Life::Raise { floor, unknown, ahead } => self.raise_sequence(&member, floor, unknown, (ahead, call)),
        }
    }

    /// The one sequence of a writer goes on beyond a floor and beyond its rows. None is ever lowered.
    fn raise_sequence(
        &mut self,
        member: &MemberId,
        floor: Option<i64>,
        unknown: Option<String>,
        (ahead, call): (u32, &str),
    ) -> Reply {
        let Some(found) = self.instances.get(member) else { return Reply::Refused(format!("there is no {member}")) };
        if let Some(name) = unknown {
            return Reply::Refused(format!("there is no sequence {name} on {member}"));
        }
        if !self.takes_commits(found) {
            return Reply::Refused(format!("{member} takes no writes"));
        }
        let at = self.received_at(found, self.now);
        let rows = self.rows_at(found, at);
        let to = floor.map_or(rows, |floor| floor.saturating_add(i64::from(ahead)).max(rows));
        let set = to.saturating_sub(self.own_rows(found, at).unwrap_or(0));
        if let Some(found) = self.instances.get_mut(member) {
            found.sequence = found.sequence.max(set);
        }
        self.line(call, ChangeKind::Other, member, format!("its sequence goes on beyond {to}"));
        Reply::done()
    }

    fn ask_create(&mut self, member: MemberId, source: MemberId, (call, fate): (&str, &Fate)) -> Reply {
        if let Some(refused) = self.without_lifecycle() {
            return refused;
        }
        if let Some(found) = self.instances.get(&member) {
            let there = found.follows.as_ref() == Some(&source) && found.stream.attached;
            return if there { Reply::done() } else { Reply::Conflict(format!("{member} exists already")) };
        }
        match self.instances.get(&source) {
            None => return Reply::Refused(format!("there is no {source}")),
            Some(found) if !found.running => return Reply::NotYet(format!("{source} is not available")),
            Some(_) => {}
        }
        let work = Work::Create { member, source };
        self.at_work(&work).unwrap_or_else(|| self.begin(work, self.setup.timing.rejoin, (call, fate)))
    }

    fn ask_restore(&mut self, member: MemberId, source: &Lineage, at: i64, (call, fate): (&str, &Fate)) -> Reply {
        if let Some(refused) = self.without_lifecycle() {
            return refused;
        }
        if self.instances.contains_key(&member) {
            return Reply::Conflict(format!("{member} exists already"));
        }
        // Where generations are not told, the system is all that names a history: the newest one that had begun by then.
        let of = |history: &&History| self.told(&history.lineage) == *source || history.lineage == *source;
        let known = self.histories.values().filter(of).map(|history| history.lineage.clone()).next_back();
        let Some(lineage) = known else { return Reply::Refused(format!("there is no backup of {source}")) };
        if at < self.began || at > self.newest_point(self.now) {
            return Reply::Refused("the point lies outside the window of the backups".to_owned());
        }
        let work = Work::Restore { member, lineage, at };
        self.at_work(&work).unwrap_or_else(|| self.begin(work, self.setup.timing.rejoin, (call, fate)))
    }

    fn ask_destroy(
        &mut self,
        member: &MemberId,
        identity: Option<&ResourceIdentity>,
        keep: Option<String>,
        (call, fate): (&str, &Fate),
    ) -> Reply {
        if let Some(refused) = self.without_lifecycle() {
            return refused;
        }
        let Some(found) = self.instances.get(member) else { return Reply::done() };
        if identity != Some(&found.identity) {
            return Reply::Conflict(format!("{member} is {}, another resource", found.identity));
        }
        let work = Work::Destroy { member: member.clone(), keep };
        if let Some(going_on) = self.at_work(&work) {
            return going_on;
        }
        if let Some(busy) = &found.busy {
            return Reply::Conflict(format!("{member} is busy: {busy}"));
        }
        if found.protections.deletion_protection {
            return Reply::Refused(format!("{member} is protected from deletion"));
        }
        let followed = self.instances.values().any(|other| other.follows.as_ref() == Some(member));
        if self.takes_commits(found) && !found.apart || followed {
            self.violate(Law::S27, format!("{call} destroys {member}, which takes writes or is followed"));
        }
        self.begin(work, self.setup.timing.snapshot, (call, fate))
    }

    fn ask_harden(&mut self, member: &MemberId, want: Hardening, (call, fate): (&str, &Fate)) -> Reply {
        if let Some(refused) = self.without_lifecycle() {
            return refused;
        }
        let Some(found) = self.instances.get(member) else { return Reply::Refused(format!("there is no {member}")) };
        if protected(found.protections, want) == found.protections {
            return Reply::done();
        }
        let work = Work::Harden { member: member.clone(), want };
        if let Some(going_on) = self.at_work(&work) {
            return going_on;
        }
        if let Some(busy) = &found.busy {
            return Reply::NotYet(format!("{member} is busy: {busy}"));
        }
        self.begin(work, self.setup.timing.snapshot, (call, fate))
    }

    fn ask_preserve(&mut self, member: &MemberId, name: String, since: i64, (call, fate): (&str, &Fate)) -> Reply {
        if self.setup.service.preserves.is_none() {
            return Reply::Refused("this service keeps nothing of lost writes".to_owned());
        }
        if self.kept.contains_key(&name) {
            return Reply::done();
        }
        let Some(left) = self.left.get(member).filter(|left| left.at >= since) else {
            return Reply::NotYet(format!("nothing is kept of {member}"));
        };
        let work = Work::Preserve { left: left.clone(), name };
        self.at_work(&work).unwrap_or_else(|| self.begin(work, self.setup.timing.snapshot, (call, fate)))
    }

    /// The provider is about to rebuild a member from another one's history, and keeps what only that member had.
    pub(super) fn keep_before_rebuild(&mut self, member: &MemberId) {
        let Some(found) = self.instances.get(member).filter(|_| self.setup.service.preserves.is_some()) else { return };
        let (lineage, to) = (found.lineage.clone(), self.received_at(found, self.now));
        let from = self.parted(&lineage).unwrap_or(to);
        if to > from {
            let left = Kept { member: member.clone(), lineage, from, to, at: self.now };
            self.line("provider", ChangeKind::Other, member, "a system snapshot keeps what only it has");
            self.left.insert(member.clone(), left);
        }
    }

    /// One of these works has ended well.
    pub(super) fn finish_lifecycle(&mut self, work: &Work, by: &str) {
        match work {
            Work::Create { member, source } => self.created(member, source, by),
            Work::Restore { member, lineage, at } => self.restored(member, lineage, *at, by),
            Work::Destroy { member, keep } => self.destroyed(member, keep.as_ref(), by),
            Work::Harden { member, want } => {
                if let Some(found) = self.instances.get_mut(member) {
                    found.protections = protected(found.protections, *want);
                }
                self.line(by, ChangeKind::Other, member, "protections are on");
            }
            Work::Preserve { left, name } => {
                self.kept.insert(name.clone(), left.clone());
                self.line(by, ChangeKind::Other, &left.member, format!("what it lost is kept as {name}"));
            }
            Work::Promote(_)
            | Work::Swap { .. }
            | Work::Rejoin { .. }
            | Work::Follow { .. }
            | Work::Snapshot { .. } => {}
        }
    }

    fn new_instance(&mut self, member: &MemberId, lineage: &Lineage, primary: Option<&MemberId>) -> Instance {
        let name = member.to_string();
        let member = MemberSetup { region: format!("region-{name}"), role: IntendedRole::Candidate, name };
        let number = self.number();
        let mut made = Instance::new(&self.setup, &member, lineage, primary, self.now);
        made.identity = ResourceIdentity::new(format!("db-{}-{number}", member.name));
        made.newest_backup = None;
        made.protections = Hardening::default();
        made
    }

    fn created(&mut self, member: &MemberId, source: &MemberId, by: &str) {
        let Some(lineage) = self.instances.get(source).map(|found| found.lineage.clone()) else { return };
        let floor = self.history_end(&lineage);
        let mut made = self.new_instance(member, &lineage, Some(source));
        made.stream.floor = floor;
        self.instances.insert(member.clone(), made);
        self.line(by, ChangeKind::Follows, member, format!("is made, and streams from {source}"));
    }

    fn restored(&mut self, member: &MemberId, source: &Lineage, at: i64, by: &str) {
        let parted = self.histories.get(source).map_or(0, |history| history.position_at(at));
        let system = SystemId::new(format!("{}-restored-{}", source.system, self.number()));
        let lineage = Lineage { system, generation: 1 };
        let history = History::new(lineage.clone(), Some((source.clone(), parted)), parted);
        self.histories.insert(lineage.clone(), history);
        let mut made = self.new_instance(member, &lineage, None);
        made.apart = true;
        self.instances.insert(member.clone(), made);
        self.line(by, ChangeKind::Other, member, format!("is restored from {source} at {parted:X}"));
    }

    fn destroyed(&mut self, member: &MemberId, keep: Option<&String>, by: &str) {
        let Some(found) = self.instances.remove(member) else { return };
        if let Some(name) = keep {
            let to = self.received_at(&found, self.now);
            let kept = Kept { member: member.clone(), lineage: found.lineage, from: 0, to, at: self.now };
            self.kept.insert(name.clone(), kept);
        }
        self.line(by, ChangeKind::Other, member, "is destroyed");
    }

    /// What a success without debts says of protections and of what was lost (S28, S29).
    pub(super) fn check_kept(&mut self, debts: bool) {
        if debts || self.duties.stranger || self.usurped() {
            return;
        }
        let since = self.log.get(self.duties.from).map_or(i64::MAX, |line| line.at);
        let left = self.left.values().find(|left| left.at >= since && !self.kept.values().any(|kept| kept == *left));
        if let Some(member) = left.map(|left| left.member.clone()) {
            self.violate(Law::S28, format!("a success without debts, and what {member} lost is not kept"));
        }
        let Some(want) = self.setup.hardening else { return };
        let writer = self.instances.values().find(|found| found.lineage == self.current && found.follows.is_none());
        let bare = writer.filter(|found| protected(found.protections, want) != found.protections);
        if let Some(name) = bare.map(|found| found.name.clone()) {
            self.violate(Law::S29, format!("a success without debts, and {name} lacks protections"));
        }
    }
}

/// What a member has once `want` is turned on: nothing is turned off.
fn protected(has: Hardening, want: Hardening) -> Hardening {
    Hardening {
        high_availability: has.high_availability || want.high_availability,
        deletion_protection: has.deletion_protection || want.deletion_protection,
        point_in_time: has.point_in_time || want.point_in_time,
        retention: has.retention.max(want.retention),
    }
}
