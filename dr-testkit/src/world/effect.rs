//! What calls do, by the provider's own rules. An effect is data, so that it can arrive late, twice, or after its caller died.

use std::collections::BTreeSet;

use dr_core::{
    MemberId, Millis,
    base::{Endpoint, ResourceIdentity},
    contract::{Hardening, Lineage},
};
use serde::{Deserialize, Serialize};

use super::{ChangeKind, Due, FailsHow, Fate, Flavour, OpState, Operation, Work, World, dials::Reached};

/// One mutating call as it reaches the provider.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Effect {
    Promote {
        member: MemberId,
    },
    Swap {
        from: MemberId,
        to: MemberId,
        forced: bool,
        within: Option<Millis>,
    },
    Rejoin {
        member: MemberId,
        primary: MemberId,
        may_discard: bool,
    },
    Follow {
        member: MemberId,
        primary: MemberId,
    },
    Snapshot {
        member: MemberId,
        name: String,
    },
    /// The member is made, restored, destroyed, protected, or what it lost is copied.
    Life {
        member: MemberId,
        change: Life,
    },
    Settle {
        member: MemberId,
    },
    Deny {
        member: MemberId,
    },
    Terminate {
        member: MemberId,
    },
    Stop {
        member: MemberId,
    },
    /// Stops a member that nobody follows; one with standbys is not stopped.
    StopAlone {
        member: MemberId,
    },
    StorageFence {
        member: MemberId,
    },
    /// Takes the login away from the applications' roles; open sessions end.
    NoLogin {
        member: MemberId,
    },
    /// Gives it back on a new writer, which has left the history `was` behind.
    Clear {
        member: MemberId,
        was: Lineage,
    },
    Start {
        member: MemberId,
        ours: bool,
    },
    Allow {
        member: MemberId,
    },
    Retire {
        member: MemberId,
        lineage: Lineage,
    },
    Patch {
        endpoint: Endpoint,
        expected: String,
        token: String,
    },
    Rotate {
        expected: String,
        token: String,
    },
    Scale {
        capacity: u32,
    },
    Recycle,
    Route {
        route: usize,
        member: MemberId,
    },
    Spread {
        route: usize,
        to: BTreeSet<MemberId>,
    },
    Drain {
        budget: Millis,
        within: Millis,
    },
    Resume,
    FailFast,
    Notify {
        key: String,
        text: String,
    },
    /// A change of a user's own service.
    Custom {
        id: u64,
    },
}

/// What happens to a member beside its role.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Life {
    Create { source: MemberId },
    Restore { source: Lineage, at: i64 },
    Destroy { identity: Option<ResourceIdentity>, keep: Option<String> },
    Harden { want: Hardening },
    Preserve { name: String, since: i64 },
    Raise { floor: Option<i64>, unknown: Option<String>, ahead: u32 },
}

/// A part of a fence that the service may take its time for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Part {
    Deny,
    Terminate,
    Stop,
}

/// What the provider answers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Reply {
    Done(String),
    Accepted(String),
    Refused(String),
    NotYet(String),
    Conflict(String),
}

impl Reply {
    pub(super) fn done() -> Self {
        Self::Done(String::new())
    }
}

impl World {
    /// Applies a call by the provider's own rules.
    pub(super) fn apply(&mut self, effect: Effect, call: &str, fate: &Fate) -> Reply {
        self.check_send(&effect, call);
        match effect {
            Effect::Promote { member } => self.ask_promote(member, call, fate),
            Effect::Swap { from, to, forced, within } => {
                let within = within.filter(|_| !forced && self.setup.swap_gives_up);
                self.ask_swap((from, to), forced, within, (call, fate))
            }
            Effect::Rejoin { member, primary, may_discard } => {
                self.ask_rejoin(member, primary, may_discard, (call, fate))
            }
            Effect::Follow { member, primary } => self.ask_follow(member, primary, (call, fate)),
            Effect::Snapshot { member, name } => self.ask_snapshot(&member, &name, call, fate),
            Effect::Life { member, change } => self.ask_life(member, change, call, fate),
            Effect::Settle { member } => self.with(&member, |instance| instance.settled = true),
            Effect::Deny { member } => self.ask_fence(Part::Deny, member, call),
            Effect::Terminate { member } => self.ask_fence(Part::Terminate, member, call),
            Effect::Stop { member } => self.ask_fence(Part::Stop, member, call),
            Effect::StopAlone { member } => match self.followed_by(&member) {
                Some(standby) => {
                    Reply::Refused(format!("{member} has the standby {standby}; a member with standbys is not stopped"))
                }
                None => self.ask_fence(Part::Stop, member, call),
            },
            Effect::StorageFence { member } => self.fence_storage(&member, call),
            Effect::NoLogin { member } => self.take_logins(&member, call),
            Effect::Clear { member, was } => self.clear_logins(&member, &was, call),
            Effect::Start { member, ours } => {
                self.land_now(&member);
                self.on_host(&member, call, Some(false), |world, server| world.start(server, ours, call))
            }
            Effect::Allow { member } => {
                self.land_now(&member);
                self.on_host(&member, call, None, |world, server| world.allow(server, call))
            }
            Effect::Retire { member, lineage } => self.retire(&member, &lineage, call),
            Effect::Patch { endpoint, expected, token } => self.patch(endpoint, &expected, token, call),
            Effect::Rotate { expected, token } => self.rotate(&expected, token, call),
            Effect::Scale { capacity } => self.scale(capacity, call),
            Effect::Recycle => self.recycle(call),
            Effect::Route { route, member } => self.point_route(route, &member, call),
            Effect::Spread { route, to } => self.spread(route, &to, call),
            Effect::Drain { budget, within } => self.drain(budget, within, call),
            Effect::Resume => self.resume(call),
            Effect::FailFast => {
                self.app.fail_fast = true;
                Reply::done()
            }
            Effect::Notify { key, text } => {
                self.notices.entry(key).or_insert(text);
                Reply::done()
            }
            Effect::Custom { id } => {
                if let Some(change) = self.hooks.custom.get(&id).cloned() {
                    change();
                }
                let service = call.split_once('.').map_or(call, |(service, _)| service);
                self.line(call, ChangeKind::Service, service, "changed");
                Reply::done()
            }
        }
    }

    fn with(&mut self, member: &MemberId, change: impl FnOnce(&mut super::Instance)) -> Reply {
        match self.instances.get_mut(member) {
            Some(instance) => {
                change(instance);
                Reply::done()
            }
            None => Reply::Refused(format!("there is no {member}")),
        }
    }

    fn ask_promote(&mut self, member: MemberId, call: &str, fate: &Fate) -> Reply {
        if self.setup.flavour != Flavour::Separate {
            return Reply::Refused("this provider swaps roles; it does not promote".to_owned());
        }
        let Some(instance) = self.instances.get(&member) else {
            return Reply::Refused(format!("there is no {member}"));
        };
        if let Some(busy) = &instance.busy {
            return Reply::Conflict(format!("{member} is busy: {busy}"));
        }
        let Some(primary) = &instance.follows else {
            return Reply::Conflict(format!("{member} is no standby"));
        };
        if let Some(busy) =
            self.instances.get(primary).filter(|_| self.setup.service.snapshot_blocks).and_then(|old| old.busy.as_ref())
        {
            return Reply::Conflict(format!("{primary}, the source of {member}, is busy: {busy}"));
        }
        if !instance.running {
            return Reply::NotYet(format!("{member} is not available"));
        }
        self.begin(Work::Promote(member), self.setup.timing.promote, (call, fate))
    }

    fn ask_swap(
        &mut self,
        (from, to): (MemberId, MemberId),
        forced: bool,
        within: Option<Millis>,
        (call, fate): (&str, &Fate),
    ) -> Reply {
        if self.setup.flavour == Flavour::Separate {
            return Reply::Refused("this provider promotes; it does not swap roles".to_owned());
        }
        let (Some(old), Some(new)) = (self.instances.get(&from), self.instances.get(&to)) else {
            return Reply::Refused(format!("there is no {from} or no {to}"));
        };
        if let Some(busy) = new.busy.as_ref().or(old.busy.as_ref()) {
            return Reply::Conflict(format!("the pair is busy: {busy}"));
        }
        if new.follows.as_ref() != Some(&from) || old.follows.is_some() {
            return Reply::Conflict(format!("{to} does not follow {from}"));
        }
        if !new.running {
            return Reply::NotYet(format!("{to} is not available"));
        }
        if !forced && (!old.running || !self.management_answers(&from)) {
            return Reply::NotYet(format!("{from} is not available; a planned swap needs both"));
        }
        if !forced && !new.stream.attached {
            return Reply::NotYet(format!("{to} does not stream"));
        }
        let takes = self.setup.timing.swap;
        match within.filter(|within| *within < takes) {
            // The old primary takes writes again when the time is over.
            Some(within) => {
                let fate = Fate { fails: Some(FailsHow::Partial), ..fate.clone() };
                self.begin(Work::Swap { from, to, forced }, within, (call, &fate))
            }
            None => self.begin(Work::Swap { from, to, forced }, takes, (call, fate)),
        }
    }

    fn ask_rejoin(
        &mut self,
        member: MemberId,
        primary: MemberId,
        may_discard: bool,
        (call, fate): (&str, &Fate),
    ) -> Reply {
        let (Some(old), Some(new)) = (self.instances.get(&member), self.instances.get(&primary)) else {
            return Reply::Refused(format!("there is no {member} or no {primary}"));
        };
        if let Some(busy) = &old.busy {
            return Reply::Conflict(format!("{member} is busy: {busy}"));
        }
        if let Some(trouble) = old.former_life.trouble().filter(|_| old.former_shown) {
            return Reply::Refused(format!("{member}: {trouble}"));
        }
        if old.follows.as_ref() == Some(&primary) && old.running && old.stream.attached {
            return Reply::done();
        }
        if self.setup.flavour != Flavour::Separate {
            return Reply::Refused("the provider attaches a former primary by itself".to_owned());
        }
        if self.setup.service.copies {
            return Reply::Refused(format!("{member} is another system than {primary}; it can only be made anew"));
        }
        if new.follows.is_some() || !new.running {
            return Reply::Conflict(format!("{primary} is no primary"));
        }
        if self.takes_commits(old) {
            return Reply::Conflict(format!("{member} still takes writes"));
        }
        let own = self.history_end(&old.lineage);
        let kept = self.parted(&old.lineage).unwrap_or(own);
        if own > kept && !may_discard {
            return Reply::Refused(format!("{member} has {} bytes that nobody else has", own.saturating_sub(kept)));
        }
        self.begin(Work::Rejoin { member, primary }, self.setup.timing.rejoin, (call, fate))
    }

    fn ask_follow(&mut self, member: MemberId, primary: MemberId, (call, fate): (&str, &Fate)) -> Reply {
        let (Some(standby), Some(new)) = (self.instances.get(&member), self.instances.get(&primary)) else {
            return Reply::Refused(format!("there is no {member} or no {primary}"));
        };
        if self.setup.flavour != Flavour::Separate {
            return Reply::Refused("the provider attaches standbys by itself".to_owned());
        }
        if self.setup.service.copies {
            return Reply::Refused(format!("{member} is another system than {primary}; it can only be made anew"));
        }
        if let Some(busy) = &standby.busy {
            return Reply::Conflict(format!("{member} is busy: {busy}"));
        }
        if standby.follows.is_none() {
            return Reply::Conflict(format!("{member} is no standby"));
        }
        if !standby.running {
            return Reply::NotYet(format!("{member} is not available"));
        }
        if new.follows.is_some() || !new.running {
            return Reply::Conflict(format!("{primary} is no primary"));
        }
        if standby.follows.as_ref() == Some(&primary) && standby.stream.attached && standby.lineage == new.lineage {
            return Reply::done();
        }
        let beyond = self.received_at(standby, self.now).saturating_sub(self.kept_of(&standby.lineage, &new.lineage));
        if beyond > 0 {
            return Reply::Refused(format!("{member} has received {beyond} bytes that {primary} never had"));
        }
        self.begin(Work::Follow { member, primary }, self.setup.timing.rejoin, (call, fate))
    }

    fn ask_snapshot(&mut self, member: &MemberId, name: &str, call: &str, fate: &Fate) -> Reply {
        let Some(instance) = self.instances.get(member) else {
            return Reply::Refused(format!("there is no {member}"));
        };
        if instance.snapshots.contains(name) {
            return Reply::done();
        }
        let running = |op: &&Operation| op.state == OpState::Running;
        let same = Work::Snapshot { member: member.clone(), name: name.to_owned() };
        if let Some((handle, _)) = self.ops.iter().find(|(_, op)| running(op) && op.work == same) {
            return Reply::Accepted(handle.clone());
        }
        if !instance.running {
            return Reply::NotYet(format!("{member} is not available"));
        }
        self.begin(same, self.setup.timing.snapshot, (call, fate))
    }

    /// A standby of the member, as its provider counts them: attached or not.
    fn followed_by(&self, member: &MemberId) -> Option<MemberId> {
        self.instances.values().find(|found| found.follows.as_ref() == Some(member)).map(|found| found.name.clone())
    }

    /// A part of a fence is asked for. Where the service takes its time, it answers that it was accepted.
    fn ask_fence(&mut self, part: Part, member: MemberId, call: &str) -> Reply {
        let takes = i64::try_from(self.setup.service.fence_takes.count()).unwrap_or(i64::MAX);
        if takes == 0 {
            return self.enforce(part, &member, call);
        }
        self.schedule(self.now.saturating_add(takes), Due::Lands { part, member, call: call.to_owned() });
        Reply::Accepted(String::new())
    }

    /// A part of a fence comes into force.
    pub(super) fn enforce(&mut self, part: Part, member: &MemberId, call: &str) -> Reply {
        match part {
            Part::Deny => self.on_host(member, call, None, |world, server| world.deny(server, call)),
            Part::Terminate => self.terminate(member, call),
            Part::Stop => self.on_host(member, call, Some(true), |world, server| world.stop(server, call)),
        }
    }

    /// The service does its calls in order: what was accepted for `member` comes into force before it is given back.
    fn land_now(&mut self, member: &MemberId) {
        let pending = |due: &Due| matches!(due, Due::Lands { member: of, .. } if of == member);
        for due in self.take_due(pending) {
            self.happen(due);
        }
    }

    /// One part of a fence of `member`, done to whatever server it reaches.
    fn on_host(
        &mut self,
        member: &MemberId,
        call: &str,
        stops: Option<bool>,
        act: impl FnOnce(&mut Self, &MemberId) -> Reply,
    ) -> Reply {
        match self.reach(member, call) {
            Reached::Server(server) => act(self, &server),
            Reached::Nothing => self.at_place(member, stops),
            Reached::Refused(reply) => reply,
        }
    }

    fn deny(&mut self, member: &MemberId, call: &str) -> Reply {
        let was = self.instances.get(member).is_some_and(|instance| instance.denied);
        if !was {
            self.line(call, ChangeKind::Fenced, member, "new sessions are refused");
        }
        self.with(member, |instance| instance.denied = true)
    }

    fn terminate(&mut self, member: &MemberId, call: &str) -> Reply {
        if self.sessions(member) > 0 {
            self.line(call, ChangeKind::Fenced, member, "open sessions are ended");
        }
        self.end_sessions(member, |_| false);
        self.with(member, |instance| instance.strays = 0)
    }

    pub(super) fn stop(&mut self, member: &MemberId, call: &str) -> Reply {
        let Some(instance) = self.instances.get(member) else { return Reply::Refused(format!("there is no {member}")) };
        if instance.stopped {
            return Reply::done();
        }
        let (running, lineage) = (instance.running, instance.lineage.clone());
        if running && instance.follows.is_none() {
            let now = self.now;
            if let Some(history) = self.histories.get_mut(&lineage) {
                history.record(now, 104);
            }
        }
        let end = self.history_end(&lineage);
        let lapses = self.setup.timing.restarts_after;
        let lapses = lapses.map(|after| self.now.saturating_add(i64::try_from(after.count()).unwrap_or(i64::MAX)));
        self.line(call, ChangeKind::Fenced, member, if running { "stopped cleanly" } else { "kept down" });
        self.end_sessions(member, |_| false);
        self.with(member, |instance| {
            instance.strays = 0;
            instance.stopped = true;
            instance.running = false;
            instance.clean_end = running.then_some(end);
            instance.lapses_at = lapses;
        })
    }

    fn fence_storage(&mut self, member: &MemberId, call: &str) -> Reply {
        if !self.setup.storage_fence_works || !self.management_answers(member) {
            return Reply::NotYet("the storage did not confirm in time".to_owned());
        }
        let was = self.instances.get(member).is_some_and(|instance| instance.storage_fenced);
        if !was {
            self.line(call, ChangeKind::Fenced, member, "the storage refuses writes");
        }
        self.with(member, |instance| instance.storage_fenced = true)
    }

    fn start(&mut self, member: &MemberId, ours: bool, call: &str) -> Reply {
        if self.instances.get(member).is_some_and(|instance| instance.running) {
            return Reply::done();
        }
        if ours && self.instances.get(member).is_some_and(|instance| !instance.stopped) {
            return Reply::NotYet(format!("{member} does not start"));
        }
        self.line(call, ChangeKind::Released, member, "started");
        let now = self.now;
        self.with(member, |instance| {
            instance.running = true;
            instance.stopped = false;
            instance.broken = false;
            instance.clean_end = None;
            instance.lapses_at = None;
            if instance.follows.is_some() {
                instance.stream.since = now;
            }
        })
    }

    fn allow(&mut self, member: &MemberId, call: &str) -> Reply {
        let up = |found: &super::Instance| found.denied || found.storage_fenced || found.no_login.is_some();
        if self.instances.get(member).is_some_and(up) {
            self.line(call, ChangeKind::Released, member, "new sessions are let in");
        }
        self.with(member, |instance| {
            instance.denied = false;
            instance.storage_fenced = false;
            instance.no_login = None;
        })
    }

    fn take_logins(&mut self, member: &MemberId, call: &str) -> Reply {
        let Some(found) = self.instances.get(member) else { return Reply::Refused(format!("there is no {member}")) };
        if !found.running || found.follows.is_some() {
            return Reply::NotYet(format!("{member} takes no change of a role"));
        }
        let (lineage, now, fresh) = (found.lineage.clone(), self.now, found.no_login.is_none());
        if fresh {
            if let Some(history) = self.histories.get_mut(&lineage) {
                history.record(now, 96);
            }
            self.line(call, ChangeKind::Fenced, member, "the applications' roles may not log in");
        }
        let at = self.history_end(&lineage);
        self.end_sessions(member, |_| false);
        self.with(member, |instance| {
            instance.strays = 0;
            instance.no_login.get_or_insert(at);
        })
    }

    /// A member that has not left the history `was` behind may be the former primary, whose fence has to stay.
    fn clear_logins(&mut self, member: &MemberId, was: &Lineage, call: &str) -> Reply {
        let Some(found) = self.instances.get(member) else { return Reply::Refused(format!("there is no {member}")) };
        if found.follows.is_some() || !found.running {
            return Reply::NotYet(format!("{member} takes no change of a role"));
        }
        if self.told(&found.lineage).generation <= was.generation && self.setup.service.generations {
            return Reply::Conflict(format!("{member} still writes {}; the fence stays", found.lineage));
        }
        if found.no_login.is_some() {
            self.line(call, ChangeKind::Released, member, "the applications' roles may log in again");
        }
        self.with(member, |instance| instance.no_login = None)
    }

    fn retire(&mut self, member: &MemberId, lineage: &Lineage, call: &str) -> Reply {
        let Some(instance) = self.instances.get(member) else { return Reply::Refused(format!("there is no {member}")) };
        if instance.follows.is_none() || self.told(&instance.lineage) != *lineage {
            return Reply::Conflict(format!("{member} is no standby of {lineage}"));
        }
        let up = instance.denied || instance.storage_fenced || instance.stopped;
        // The step looked before it sent this; what is read meanwhile sends readers on.
        let sent = self.now.saturating_sub(i64::try_from(self.setup.timing.send.1.count()).unwrap_or(i64::MAX));
        let watched = self.duties.watched.get(member).copied().unwrap_or(i64::MIN).min(sent);
        self.duties.retired.entry(member.clone()).or_insert(watched);
        if up {
            self.line(call, ChangeKind::Retired, member, "its fence is not needed any more");
        }
        self.with(member, |instance| {
            instance.denied = false;
            instance.storage_fenced = false;
            instance.stopped = false;
            instance.clean_end = None;
            instance.lapses_at = None;
        })
    }
}
