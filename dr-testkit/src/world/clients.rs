//! Clients that write all the time, as far as the world lets them.

use std::collections::BTreeMap;

use dr_core::MemberId;

use super::{Access, App, Instance, Via, World, Writer, history::Turn};

/// What a writer does from now on, until something changes.
enum Doing {
    Writes(MemberId),
    Waits,
    Fails,
}

impl World {
    pub(super) fn make_writers(&mut self) {
        let pace = self.pace();
        let count = i64::from(self.setup.writers.max(1));
        for id in 0..self.setup.writers {
            let odd = id % 2 == 1 && !self.routes.is_empty();
            let writer = Writer {
                id,
                via: if odd {
                    Via::Route(usize::try_from(id / 2).unwrap_or(0) % self.routes.len())
                } else {
                    Via::Secret
                },
                obeys_drain: id >= self.setup.rude_writers,
                ignores_ttl: false,
                next_at: self.now.saturating_add(pace.saturating_mul(i64::from(id)) / count),
                next_seq: 1,
                session: None,
                cache: None,
                errors: 0,
            };
            self.writers.push(writer);
        }
    }

    fn pace(&self) -> i64 {
        i64::try_from(self.setup.timing.write_every.count()).unwrap_or(i64::MAX).max(1)
    }

    /// Lets clients write up to `to`, which becomes now.
    pub(super) fn clients_until(&mut self, to: i64) {
        while self.now < to {
            self.open_sessions();
            let until = self.next_break(to);
            self.stretch(until);
            self.sample(self.now, until);
            self.now = until;
        }
    }

    /// Every writer whose turn is now and whose way is open gets a session; one whose session is dead loses it.
    fn open_sessions(&mut self) {
        for index in 0..self.writers.len() {
            let Some(writer) = self.writers.get(index) else { continue };
            let alive = writer.session.as_ref().is_some_and(|member| self.commits_for(member));
            let tries = !alive && writer.next_at <= self.now && !self.holds_back(writer);
            if alive || (writer.session.is_none() && !tries) {
                continue;
            }
            let mut writer = writer.clone();
            writer.session = None;
            if tries {
                let member = self.resolve(&mut writer);
                writer.session = self.lets_in(&member).then_some(member);
            }
            if let Some(slot) = self.writers.get_mut(index) {
                *slot = writer;
            }
        }
    }

    /// The first time after now at which a writer may begin to do something else by itself.
    fn next_break(&self, to: i64) -> i64 {
        let limit = i64::try_from(self.setup.drain_limit.count()).unwrap_or(i64::MAX);
        let gives_up = self.app.drained_at.map(|at| at.saturating_add(limit));
        let mut until = to;
        if let Some(at) = gives_up.filter(|at| *at > self.now) {
            until = until.min(at);
        }
        for writer in &self.writers {
            if writer.session.is_some() || self.holds_back(writer) {
                continue;
            }
            let attempt = writer.next_at.max(self.now);
            if attempt > self.now {
                until = until.min(attempt);
                continue;
            }
            // It failed just now: it tries again with each beat, and finds another way only with a fresh look.
            let fresh = writer.cache.as_ref().map_or(self.now, |(_, expires)| *expires);
            let beats = (fresh.saturating_sub(attempt).max(0) / self.pace()).saturating_add(1);
            until = until.min(attempt.saturating_add(beats.saturating_mul(self.pace())));
        }
        until.max(self.now.saturating_add(1)).min(to)
    }

    /// Everybody does the same thing from now until just before `until`.
    fn stretch(&mut self, until: i64) {
        let (from, pace) = (self.now, self.pace());
        let mut turns: BTreeMap<MemberId, (Vec<Turn>, u64)> = BTreeMap::new();
        for index in 0..self.writers.len() {
            let Some(writer) = self.writers.get(index) else { continue };
            let doing = self.doing(writer);
            let Some(writer) = self.writers.get_mut(index) else { continue };
            if writer.next_at >= until {
                continue;
            }
            let beats = until.saturating_sub(1).saturating_sub(writer.next_at) / pace;
            let beats = u64::try_from(beats).unwrap_or(0).saturating_add(1);
            match doing {
                Doing::Writes(member) => {
                    let turn = Turn { client: writer.id, first_seq: writer.next_seq, first_at: writer.next_at };
                    let entry = turns.entry(member).or_default();
                    entry.0.push(turn);
                    entry.1 = entry.1.saturating_add(beats);
                    writer.next_seq = writer.next_seq.saturating_add(beats);
                }
                Doing::Fails => writer.errors = writer.errors.saturating_add(beats),
                Doing::Waits => {}
            }
            let passed = pace.saturating_mul(i64::try_from(beats).unwrap_or(i64::MAX));
            writer.next_at = writer.next_at.saturating_add(passed);
        }
        for (member, (mut clients, count)) in turns {
            clients.sort_by_key(|turn| (turn.first_at, turn.client));
            let lineage = self.instances.get(&member).map(|instance| instance.lineage.clone());
            if let Some(history) = lineage.and_then(|lineage| self.histories.get_mut(&lineage)) {
                history.write((from, until), pace, clients, count);
            }
        }
    }

    fn doing(&self, writer: &Writer) -> Doing {
        if self.holds_back(writer) {
            let limit = i64::try_from(self.setup.drain_limit.count()).unwrap_or(i64::MAX);
            let over = self.app.drained_at.is_some_and(|at| self.now.saturating_sub(at) >= limit);
            return if over || self.app.fail_fast { Doing::Fails } else { Doing::Waits };
        }
        match &writer.session {
            Some(member) if self.commits_for(member) => Doing::Writes(member.clone()),
            Some(_) | None => Doing::Fails,
        }
    }

    fn holds_back(&self, writer: &Writer) -> bool {
        let drained = self.app.drained_at.is_some() || self.app.held.contains(&(writer.id % App::PARTS));
        drained && writer.obeys_drain
    }

    /// Whether an open session on the member can commit.
    fn commits_for(&self, member: &MemberId) -> bool {
        let writes = |found: &Instance| self.can_commit(found) && found.access != Access::ReadOnly;
        self.instances.get(member).is_some_and(writes) && self.clients_reach(member)
    }

    /// Whether the member takes a new session that can commit.
    fn lets_in(&self, member: &MemberId) -> bool {
        self.keeps_out(member).is_none()
    }

    /// Where the writer's next session would go; keeps the answer as long as it may (or longer).
    fn resolve(&self, writer: &mut Writer) -> MemberId {
        if let Some((member, expires)) = &writer.cache
            && *expires > self.now
        {
            return member.clone();
        }
        let timing = &self.setup.timing;
        let (member, keeps) = match writer.via {
            Via::Secret => (self.secret_member(), timing.secret_cache),
            Via::Route(route) => (self.routes.get(route).map(|route| route.answers.clone()), timing.ttl),
        };
        let member = member.unwrap_or_else(|| MemberId::new("nowhere"));
        let keeps = if writer.ignores_ttl { 6 * 3600 * 1000 } else { i64::try_from(keeps.count()).unwrap_or(0) };
        writer.cache = Some((member.clone(), self.now.saturating_add(keeps)));
        member
    }

    /// The member that the secret names, as applications see it now.
    pub(crate) fn secret_member(&self) -> Option<MemberId> {
        let seen = self.secret.versions.iter().rev().find(|row| row.visible_at <= self.now)?;
        self.instances.values().find(|instance| instance.endpoint == seen.endpoint).map(|found| found.name.clone())
    }

    /// Ends all sessions on a member, except those of writers for which `keep` says yes.
    pub(super) fn end_sessions(&mut self, member: &MemberId, keep: impl Fn(&Writer) -> bool) {
        for writer in &mut self.writers {
            if writer.session.as_ref() == Some(member) && !keep(writer) {
                writer.session = None;
            }
        }
    }
}
