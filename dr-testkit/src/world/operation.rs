//! Long operations, and what the world does by itself: breaking, healing, coming back.

use dr_core::{MemberId, Millis, contract::Lineage};

use super::{
    Careless, ChangeKind, Condition, Due, EndpointMoves, FailsHow, Fate, Flavour, FormerLife, History, OpState,
    Operation, Reply, Work, World,
};

impl World {
    /// Begins a long operation and answers its handle.
    pub(super) fn begin(&mut self, work: Work, takes: dr_core::Millis, (call, fate): (&str, &Fate)) -> Reply {
        let handle = format!("op-{}", self.number());
        let takes = i64::try_from(takes.count()).unwrap_or(i64::MAX).saturating_add(fate.slower);
        let ends = self.now.saturating_add(takes);
        let busied = if self.setup.service.snapshot_blocks { busied(&work) } else { names(&work) };
        let word = match &work {
            Work::Promote(_) => "promoting",
            Work::Swap { forced: false, .. } => "switching-over",
            Work::Swap { forced: true, .. } => "failing-over",
            Work::Rejoin { .. } => "rejoining",
            Work::Follow { .. } => "repointing",
            Work::Snapshot { .. } | Work::Preserve { .. } => "backing-up",
            Work::Create { .. } | Work::Restore { .. } => "creating",
            Work::Destroy { .. } => "deleting",
            Work::Harden { .. } => "modifying",
        };
        for name in &busied {
            if let Some(instance) = self.instances.get_mut(name) {
                instance.busy = Some(word.to_owned());
            }
        }
        let what = names(&work).last().map_or_else(|| "snapshot".to_owned(), ToString::to_string);
        self.line(call, ChangeKind::Accepted, &what, format!("{word}, operation {handle}"));
        if matches!(work, Work::Swap { .. }) {
            self.schedule(self.now.saturating_add(takes / 5), Due::OpStage { op: handle.clone() });
        }
        self.schedule(ends, Due::OpEnds { op: handle.clone() });
        if let Work::Swap { to, .. } = &work
            && self.setup.service.endpoint == EndpointMoves::AtTheStart
        {
            self.move_endpoints(&to.clone(), call);
        }
        let operation = Operation {
            work,
            by: call.to_owned(),
            started: self.now,
            ends,
            state: OpState::Running,
            fails: fate.fails,
            handle_lost: fate.handle_lost,
        };
        let named =
            self.setup.service.names_operations || !matches!(operation.work, Work::Promote(_) | Work::Swap { .. });
        self.ops.insert(handle.clone(), operation);
        Reply::Accepted(if named { handle } else { String::new() })
    }

    /// The first part of a swap: the old primary stops taking writes.
    pub(super) fn stage(&mut self, handle: &str) {
        let Some(op) = self.ops.get(handle).cloned() else { return };
        let Work::Swap { from, to, forced } = op.work else { return };
        if matches!(op.fails, Some(FailsHow::Absent | FailsHow::Late)) {
            return;
        }
        // What the provider can reach it can fence or demote, even if the server itself is dead: it comes back as a standby.
        let reachable = self.management_answers(&from);
        if forced && self.setup.flavour == Flavour::StorageFence {
            if self.setup.storage_fence_works && reachable {
                if let Some(old) = self.instances.get_mut(&from) {
                    old.storage_fenced = true;
                }
                self.end_sessions(&from, |_| false);
                self.line(&op.by, ChangeKind::Fenced, &from, "the storage refuses writes (attempt succeeded)");
            } else {
                self.line(&op.by, ChangeKind::World, &from, "the storage fence timed out; the takeover goes on");
            }
        } else if reachable {
            self.demote(&from, &to, &op.by);
        }
        if let Some(old) = self.instances.get_mut(&from)
            && forced
        {
            old.demote_on_return = Some(to);
        }
    }

    fn demote(&mut self, from: &MemberId, to: &MemberId, by: &str) {
        self.end_sessions(from, |_| false);
        let floor = self.instances.get(from).map_or(0, |old| self.history_end(&old.lineage));
        if let Some(old) = self.instances.get_mut(from) {
            old.follows = Some(to.clone());
            old.strays = 0;
            old.stream.attached = false;
            old.stream.floor = floor;
        }
        self.line(by, ChangeKind::Follows, from, format!("demoted under {to}"));
    }

    pub(super) fn end(&mut self, handle: &str) {
        let Some(op) = self.ops.get(handle).cloned() else { return };
        let worked = match op.fails {
            None => self.finish(&op, true),
            Some(FailsHow::Complete) => self.finish(&op, true).and_then(|()| Err("internal error".to_owned())),
            Some(FailsHow::Partial) => self.finish(&op, false).and_then(|()| Err("stopped half-way".to_owned())),
            Some(FailsHow::Absent) => Err("internal error; rolled back".to_owned()),
            Some(FailsHow::Late) => {
                let takes = i64::try_from(self.setup.timing.timeout.count()).unwrap_or(i64::MAX);
                self.schedule(self.now.saturating_add(takes), Due::OpLate { op: handle.to_owned() });
                Err("given up".to_owned())
            }
        };
        for name in busied(&op.work) {
            if let Some(instance) = self.instances.get_mut(&name) {
                instance.busy = None;
            }
        }
        if let (Work::Promote(writer) | Work::Swap { to: writer, .. }, Ok(())) = (&op.work, &worked) {
            self.work_on(writer);
        }
        if let Work::Swap { from, to, .. } = &op.work
            && worked.is_err()
            && let Some(old) = self.instances.get_mut(from)
            && old.demote_on_return.as_ref() == Some(to)
        {
            old.demote_on_return = None;
        }
        let state = match worked {
            Ok(()) => OpState::Finished,
            Err(why) => OpState::Failed(why),
        };
        let text = match &state {
            OpState::Failed(why) => format!("operation {handle} failed: {why}"),
            OpState::Running | OpState::Finished => format!("operation {handle} finished"),
        };
        let what = names(&op.work).last().map_or_else(|| "snapshot".to_owned(), ToString::to_string);
        self.line("provider", ChangeKind::Ended, &what, text);
        if let Some(found) = self.ops.get_mut(handle) {
            found.state = state;
        }
    }

    /// How long a restart takes of a writer that was worked on for `after`.
    pub(crate) fn restarting(after: Millis) -> Millis {
        Millis::new(after.count() / 10).max(Millis::new(1))
    }

    /// The service works on the new writer, which restarts at the end.
    fn work_on(&mut self, member: &MemberId) {
        let Some(after) = self.setup.service.restarts_after else { return };
        if let Some(writer) = self.instances.get_mut(member) {
            writer.busy = Some("backing-up".to_owned());
        }
        let at = self.now.saturating_add(i64::try_from(after.count()).unwrap_or(i64::MAX));
        self.schedule(at, Due::Restarts { member: member.clone() });
    }

    pub(super) fn restart(&mut self, member: &MemberId) {
        let Some(writer) = self.instances.get_mut(member) else { return };
        if !writer.running {
            writer.busy = None;
            return;
        }
        writer.busy = Some("rebooting".to_owned());
        writer.running = false;
        writer.strays = 0;
        self.end_sessions(member, |_| false);
        self.line("provider", ChangeKind::World, member, "restarts after its backup");
        let takes = self.setup.service.restarts_after.map_or(Millis::ZERO, Self::restarting);
        let at = self.now.saturating_add(i64::try_from(takes.count()).unwrap_or(i64::MAX));
        self.schedule(at, Due::Restarted { member: member.clone() });
    }

    pub(super) fn restarted(&mut self, member: &MemberId) {
        let Some(writer) = self.instances.get_mut(member) else { return };
        writer.busy = None;
        if !writer.stopped && !writer.broken {
            writer.running = true;
            self.line("provider", ChangeKind::World, member, "is back after its restart");
        }
    }

    /// What was said to have failed happens after all.
    pub(super) fn late(&mut self, handle: &str) {
        let Some(op) = self.ops.get(handle).cloned() else { return };
        if let Work::Swap { from, to, .. } = &op.work {
            self.demote(from, to, &op.by);
        }
        drop(self.finish(&op, true));
    }

    fn finish(&mut self, op: &Operation, whole: bool) -> Result<(), String> {
        match &op.work {
            Work::Promote(member) => {
                let Some(instance) = self.instances.get(member) else { return Err("gone".to_owned()) };
                if !instance.running || instance.follows.is_none() {
                    return Err(format!("{member} is no running standby"));
                }
                if whole {
                    self.promoted(member, &op.by);
                } else {
                    self.detach(member, None);
                }
                Ok(())
            }
            Work::Swap { from, to, forced } => self.finish_swap((from, to), *forced, whole, &op.by),
            Work::Rejoin { member, primary } if whole => self.attach(member, primary, &op.by),
            Work::Follow { member, primary } if whole => {
                self.follow(member, primary, &op.by);
                Ok(())
            }
            Work::Rejoin { .. } | Work::Follow { .. } => Ok(()),
            Work::Create { .. }
            | Work::Restore { .. }
            | Work::Destroy { .. }
            | Work::Harden { .. }
            | Work::Preserve { .. } => {
                if whole {
                    self.finish_lifecycle(&op.work, &op.by);
                }
                Ok(())
            }
            Work::Snapshot { member, name } => {
                if let Some(instance) = self.instances.get_mut(member)
                    && whole
                {
                    instance.snapshots.insert(name.clone());
                    instance.newest_backup = Some(self.now);
                }
                Ok(())
            }
        }
    }

    fn finish_swap(
        &mut self,
        (from, to): (&MemberId, &MemberId),
        forced: bool,
        whole: bool,
        by: &str,
    ) -> Result<(), String> {
        let Some(new) = self.instances.get(to) else { return Err("gone".to_owned()) };
        let complete = self.instances.get(from).map_or(0, |old| self.history_end(&old.lineage));
        let has_all = self.received_at(new, self.now) >= complete && new.running;
        if !forced && !has_all || !whole {
            // A planned swap loses nothing or does not happen: the old primary writes again.
            if let Some(old) = self.instances.get_mut(from)
                && old.follows.as_ref() == Some(to)
            {
                old.follows = None;
                self.line(by, ChangeKind::Released, from, "rolled back: primary again");
            }
            return Err(format!("{to} does not have everything; rolled back"));
        }
        if !new.running {
            return Err(format!("{to} is not running"));
        }
        self.promoted(to, by);
        let demoted = self.instances.get(from).is_some_and(|old| old.follows.as_ref() == Some(to) && old.running);
        if demoted {
            self.follow(from, to, by);
        } else if self.instances.get(from).is_some_and(|old| old.storage_fenced) {
            // The provider rebuilds the fenced side by itself.
            let work = Work::Rejoin { member: from.clone(), primary: to.clone() };
            let _handle: Reply = self.begin(work, self.setup.timing.rejoin, ("provider", &Fate::default()));
        }
        self.take_along(from, to);
        if self.setup.service.endpoint == EndpointMoves::AtTheEnd {
            self.move_endpoints(to, by);
        }
        Ok(())
    }

    /// The provider points its other standbys at the new primary, or rebuilds those that have more.
    fn take_along(&mut self, from: &MemberId, to: &MemberId) {
        let others = self.instances.values().filter(|found| found.follows.as_ref() == Some(from) && found.name != *to);
        let others: Vec<MemberId> = others.map(|found| found.name.clone()).collect();
        for member in others {
            let work = Work::Follow { member, primary: to.clone() };
            let _handle: Reply = self.begin(work, self.setup.timing.rejoin, ("provider", &Fate::default()));
        }
    }

    fn move_endpoints(&mut self, to: &MemberId, by: &str) {
        for route in 0..self.routes.len() {
            let _answer: Reply = self.point_route(route, to, by);
        }
    }

    /// The standby becomes a primary with what it has received; a new history begins.
    pub(crate) fn promoted(&mut self, member: &MemberId, by: &str) {
        let Some(instance) = self.instances.get(member) else { return };
        let former = instance.follows.clone();
        let (parent, at) = (instance.lineage.clone(), self.received_at(instance, self.now));
        let carries = self.carries(instance);
        let newest = self.histories.keys().filter(|found| found.system == parent.system).map(|found| found.generation);
        let generation = newest.max().unwrap_or(0).saturating_add(1);
        let lineage = if self.setup.service.copies {
            Self::own_system(member)
        } else {
            Lineage { system: parent.system.clone(), generation }
        };
        self.check_promotion(member, &parent, at);
        if let Some(history) = self.histories.get_mut(&parent) {
            history.retired = true;
        }
        let history = History::new(lineage.clone(), Some((parent, at)), at);
        self.histories.insert(lineage.clone(), history);
        for other in self.instances.keys().cloned().collect::<Vec<_>>() {
            if self.instances.get(&other).is_some_and(|found| found.follows.as_ref() == Some(member)) {
                self.detach(&other, None);
            }
        }
        if let Some(instance) = self.instances.get_mut(member) {
            instance.lineage = lineage.clone();
            instance.follows = None;
            instance.stream.attached = false;
            instance.no_login = carries.then_some(at);
        }
        self.line(by, ChangeKind::Promoted, member, format!("promoted to {lineage}, parted at {at:X}"));
        self.current = lineage;
        if let Some(former) = former {
            self.drops(&former);
        }
    }

    /// A former primary is started as a standby, with whatever settings it kept.
    fn attach(&mut self, member: &MemberId, primary: &MemberId, by: &str) -> Result<(), String> {
        let life = self.instances.get(member).map_or(FormerLife::None, |found| found.former_life);
        if let Some(found) = self.instances.get_mut(member) {
            found.former_shown = life != FormerLife::None;
        }
        match life {
            FormerLife::None => self.follow(member, primary, by),
            FormerLife::DoesNotStart => return Err(format!("{member} does not start as a standby")),
            FormerLife::DoesNotReplay => {
                self.follow(member, primary, by);
                if let Some(found) = self.instances.get_mut(member) {
                    found.stream.replays = false;
                }
                return Err(format!("{member} receives, and does not replay"));
            }
            FormerLife::LeavesRecovery => {
                self.follow(member, primary, by);
                self.leaves_recovery(member);
                if self.is_careless(Careless::LeavesPromoted) {
                    return Ok(());
                }
                drop(self.stop(member, by));
                return Err(format!("{member} left recovery, a second writer; it was stopped again"));
            }
        }
        Ok(())
    }

    /// A former primary streams from the current one.
    pub(super) fn follow(&mut self, member: &MemberId, primary: &MemberId, by: &str) {
        let lineage = self.instances.get(primary).map(|new| new.lineage.clone());
        let Some(lineage) = lineage else { return };
        self.keep_before_rebuild(member);
        let floor = self.histories.get(&lineage).map_or(0, |history| history.base);
        let now = self.now;
        if let Some(old) = self.instances.get_mut(member) {
            old.follows = Some(primary.clone());
            old.lineage = lineage.clone();
            old.running = true;
            old.broken = false;
            old.stopped = false;
            old.storage_fenced = false;
            // What its roles may do is what the primary's history says.
            old.no_login = None;
            old.clean_end = None;
            old.lapses_at = None;
            old.demote_on_return = None;
            old.stream = super::Stream { attached: true, replays: true, floor, since: now, frozen_lag: None };
        }
        self.line(by, ChangeKind::Follows, member, format!("streams from {primary} on {lineage}"));
    }

    /// The stream of a standby stops; optionally its lag metric stays where it is.
    pub(crate) fn detach(&mut self, member: &MemberId, frozen_lag: Option<u64>) {
        let Some(instance) = self.instances.get(member) else { return };
        let floor = self.received_at(instance, self.now);
        if let Some(instance) = self.instances.get_mut(member) {
            instance.stream.attached = false;
            instance.stream.floor = floor;
            instance.stream.frozen_lag = frozen_lag;
        }
    }

    pub(crate) fn reattach(&mut self, member: &MemberId, by: &str) {
        let now = self.now;
        if let Some(instance) = self.instances.get_mut(member)
            && instance.follows.is_some()
            && !instance.stream.attached
        {
            instance.stream.attached = true;
            instance.stream.since = now;
            instance.stream.frozen_lag = None;
            self.line(by, ChangeKind::World, member, "replication goes on");
        }
    }

    /// The member's server dies; what was not sent to standbys yet stays with it.
    pub(crate) fn break_down(&mut self, member: &MemberId, by: &str) {
        let standbys: Vec<MemberId> = self
            .instances
            .values()
            .filter(|found| found.follows.as_ref() == Some(member))
            .map(|f| f.name.clone())
            .collect();
        for standby in standbys {
            self.detach(&standby, None);
        }
        self.end_sessions(member, |_| false);
        if let Some(instance) = self.instances.get_mut(member) {
            instance.running = false;
            instance.broken = true;
            instance.strays = 0;
        }
        self.line(by, ChangeKind::World, member, "the server died");
    }

    /// The member comes back as what it was, unless the provider or a fence says otherwise.
    pub(super) fn comes_back(&mut self, member: &MemberId) {
        let Some(instance) = self.instances.get(member) else { return };
        if instance.running {
            return;
        }
        if instance.stopped {
            self.line("provider", ChangeKind::World, member, "is back, and kept down by its fence");
            if let Some(instance) = self.instances.get_mut(member) {
                instance.broken = false;
            }
            return;
        }
        if let Some(primary) = instance.demote_on_return.clone() {
            self.follow(member, &primary, "provider");
            return;
        }
        if let Some(instance) = self.instances.get_mut(member) {
            instance.running = true;
            instance.broken = false;
        }
        self.line("drift", ChangeKind::World, member, "is back");
        let standbys: Vec<MemberId> = self
            .instances
            .values()
            .filter(|found| found.follows.as_ref() == Some(member))
            .map(|f| f.name.clone())
            .collect();
        for standby in standbys {
            self.reattach(&standby, "provider");
        }
    }

    /// A condition begins; it ends after `lasts` milliseconds, if that is said.
    pub(crate) fn suffer(&mut self, condition: Condition, lasts: Option<i64>) {
        if let Some(lasts) = lasts {
            self.schedule(self.now.saturating_add(lasts), Due::Heals { condition: condition.clone() });
        }
        if let Condition::DataOutage(member) | Condition::ClientsCut(member) = &condition {
            let member = member.clone();
            self.end_sessions(&member, |_| false);
        }
        self.line("drift", ChangeKind::World, "world", format!("begins: {condition:?}"));
        self.conditions.insert(condition);
    }

    pub(crate) fn heal(&mut self, condition: &Condition) {
        if self.conditions.remove(condition) {
            self.line("drift", ChangeKind::World, "world", format!("ends: {condition:?}"));
        }
    }
}

/// Whose work an operation is.
fn busied(work: &Work) -> Vec<MemberId> {
    match work {
        Work::Snapshot { member, .. } | Work::Harden { member, .. } => vec![member.clone()],
        Work::Promote(_)
        | Work::Swap { .. }
        | Work::Rejoin { .. }
        | Work::Follow { .. }
        | Work::Create { .. }
        | Work::Restore { .. }
        | Work::Destroy { .. }
        | Work::Preserve { .. } => names(work),
    }
}

fn names(work: &Work) -> Vec<MemberId> {
    match work {
        Work::Promote(member)
        | Work::Rejoin { member, .. }
        | Work::Follow { member, .. }
        | Work::Destroy { member, .. } => vec![member.clone()],
        Work::Swap { from, to, .. } => vec![from.clone(), to.clone()],
        Work::Snapshot { .. }
        | Work::Harden { .. }
        | Work::Create { .. }
        | Work::Restore { .. }
        | Work::Preserve { .. } => Vec::new(),
    }
}
