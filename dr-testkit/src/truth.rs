//! Reading the ground truth, in tests and in laws of one's own.

use dr_core::{MemberId, Millis, contract::Lineage};

use crate::world::{Access, ChangeKind, TruthLine, Violation, World, Write};

/// What really is and what really happened. Tests and laws see it; an engine never does.
#[derive(Clone, Copy, Debug)]
pub struct Truth<'a> {
    pub(crate) world: &'a World,
}

impl<'a> Truth<'a> {
    /// The members on which some client could commit now: through a new session, or an open one.
    #[must_use]
    pub fn writers_now(&self) -> Vec<MemberId> {
        self.world.writers_now()
    }

    /// Every promotion that really happened, oldest first: who, and through which call.
    pub fn promotions(&self) -> impl Iterator<Item = &'a TruthLine> {
        self.world.log.iter().filter(|line| line.kind == ChangeKind::Promoted)
    }

    /// The acknowledged writes that the history of the last promotion does not have.
    #[must_use]
    pub fn lost_acknowledged(&self) -> Vec<Write> {
        self.world.lost()
    }

    /// Where the route for readers of this number leads.
    #[must_use]
    pub fn readers(&self, number: usize) -> Vec<MemberId> {
        self.world.readers.get(number).into_iter().flatten().cloned().collect()
    }

    /// How many acknowledged writes of rebuilt members are kept for good, by the name of the copy.
    #[must_use]
    pub fn kept(&self) -> Vec<(String, u64)> {
        let writes = |kept: &crate::world::Kept| {
            let history = self.world.histories.get(&kept.lineage);
            let until = |position| history.map_or(0, |history| history.writes_until(position));
            until(kept.to).saturating_sub(until(kept.from))
        };
        self.world.kept.iter().map(|(name, kept)| (name.clone(), writes(kept))).collect()
    }

    /// What promotions dropped beside the log, sorted.
    #[must_use]
    pub fn gone(&self) -> Vec<String> {
        let mut gone: Vec<String> = self.world.gone.iter().map(|(_, kept)| kept.what()).collect();
        gone.sort();
        gone
    }

    /// How much time of acknowledged writes is lost.
    #[must_use]
    pub fn lost_time(&self) -> Millis {
        Millis::new(u64::try_from(self.world.lost_time()).unwrap_or(0))
    }

    /// How many writes were acknowledged.
    #[must_use]
    pub fn acknowledged(&self) -> u64 {
        self.world.histories.values().map(super::world::History::writes).sum()
    }

    /// How many attempts of clients failed.
    #[must_use]
    pub fn client_errors(&self) -> u64 {
        self.world.writers.iter().map(|writer| writer.errors).sum()
    }

    /// The longest time without an acknowledged write, up to now, beyond the clients' own pace.
    #[must_use]
    pub fn write_gap(&self) -> Millis {
        let mut spans: Vec<(i64, i64)> = self.world.histories.values().flat_map(super::world::History::spans).collect();
        spans.sort_unstable();
        let mut seen = None;
        let mut longest = 0;
        for (first, last) in spans.into_iter().chain([(self.world.now, self.world.now)]) {
            longest = seen.map_or(longest, |seen: i64| longest.max(first.saturating_sub(seen)));
            seen = seen.max(Some(last));
        }
        Millis::new(u64::try_from(longest).unwrap_or(0))
    }

    /// The applications' write path.
    #[must_use]
    pub fn app(&self) -> AppTruth<'a> {
        AppTruth { world: self.world }
    }

    /// Whether a promotion or swap is going on right now, or there is no writer.
    #[must_use]
    pub fn writer_is_changing(&self) -> bool {
        let running = |op: &crate::world::Operation| op.state == crate::world::OpState::Running;
        self.world.ops.values().any(|op| op.work.changes_writer() && running(op))
    }

    /// The member that holds the current history, if it really is a primary.
    #[must_use]
    pub fn primary(&self) -> Option<MemberId> {
        let holds = |found: &&crate::world::Instance| found.follows.is_none() && found.lineage == self.world.current;
        self.world.instances.values().find(holds).map(|found| found.name.clone())
    }

    /// The history that counts.
    #[must_use]
    pub fn lineage(&self) -> &'a Lineage {
        &self.world.current
    }

    /// What is true of one member.
    #[must_use]
    pub fn member(&self, name: &str) -> Option<MemberTruth<'a>> {
        let instance = self.world.instances.get(&MemberId::new(name))?;
        Some(MemberTruth { world: self.world, instance })
    }

    /// The member that the newest secret version names.
    #[must_use]
    pub fn secret_names(&self) -> Option<MemberId> {
        let newest = self.world.secret.versions.last()?;
        self.world.instances.values().find(|found| found.endpoint == newest.endpoint).map(|found| found.name.clone())
    }

    /// How many versions of the secret there are.
    #[must_use]
    pub fn secret_versions(&self) -> usize {
        self.world.secret.versions.len()
    }

    /// Where a route sends to, as its authority says.
    #[must_use]
    pub fn route(&self, number: usize) -> Option<MemberId> {
        self.world.routes.get(number).map(|route| route.member.clone())
    }

    /// Everything that really changed, in order.
    #[must_use]
    pub fn log(&self) -> &'a [TruthLine] {
        &self.world.log
    }

    /// The laws that were broken.
    #[must_use]
    pub fn violations(&self) -> &'a [Violation] {
        &self.world.violations
    }

    /// What people were told: key and text.
    pub fn notices(&self) -> impl Iterator<Item = (&'a str, &'a str)> {
        self.world.notices.iter().map(|(key, text)| (key.as_str(), text.as_str()))
    }

    /// The present, in milliseconds after 1970.
    #[must_use]
    pub fn now(&self) -> i64 {
        self.world.now
    }

    /// The state in which everything is, without times and counts: two runs that end the same have the same.
    #[must_use]
    pub fn end_state(&self) -> EndState {
        let member = |found: &crate::world::Instance| {
            let word = if found.follows.is_some() { "standby" } else { "primary" };
            let flags = [
                (found.running, "running"),
                (found.denied, "denied"),
                (found.no_login.is_some(), "no logins"),
                (found.stopped, "stopped"),
                (found.storage_fenced, "storage-fenced"),
                (found.stream.attached, "streaming"),
                (!found.stream.replays, "not replaying"),
            ];
            let flags: Vec<&str> = flags.iter().filter(|(set, _)| *set).map(|(_, word)| *word).collect();
            format!("{} {word} on {} {}", found.name, found.lineage, flags.join(","))
        };
        EndState {
            members: self.world.instances.values().map(member).collect(),
            secret: self.secret_names(),
            routes: self.world.routes.iter().map(|route| route.member.clone()).collect(),
            app_open: self.app().is_open(),
            promotions: self.promotions().count(),
            lost: !self.world.lost().is_empty(),
            gone: self.gone(),
        }
    }
}

/// How everything is at the end, modulo time (S12).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EndState {
    /// Each member: role, history, fences.
    pub members: Vec<String>,
    /// Whom the secret names.
    pub secret: Option<MemberId>,
    /// Where the routes send.
    pub routes: Vec<MemberId>,
    /// Whether applications write.
    pub app_open: bool,
    /// How many promotions there were.
    pub promotions: usize,
    /// Whether anything acknowledged is lost.
    pub lost: bool,
    /// What promotions dropped beside the log.
    pub gone: Vec<String>,
}

/// The applications' write path as it really is.
#[derive(Clone, Copy, Debug)]
pub struct AppTruth<'a> {
    world: &'a World,
}

impl AppTruth<'_> {
    /// Whether applications may write: no drain is engaged.
    #[must_use]
    pub fn is_open(&self) -> bool {
        !self.world.app.draining
    }

    /// Whether all applications hold their writes back.
    #[must_use]
    pub fn is_drained(&self) -> bool {
        self.world.app.drained_at.is_some()
    }

    /// Whether a drain was turned into quick errors.
    #[must_use]
    pub fn fails_fast(&self) -> bool {
        self.world.app.fail_fast
    }
}

/// One member as it really is.
#[derive(Clone, Copy, Debug)]
pub struct MemberTruth<'a> {
    pub(crate) world: &'a World,
    pub(crate) instance: &'a crate::world::Instance,
}

impl MemberTruth<'_> {
    /// The protections that it has.
    #[must_use]
    pub fn protections(&self) -> dr_core::contract::Hardening {
        self.instance.protections
    }

    /// Whether some client could commit here now.
    #[must_use]
    pub fn takes_commits(&self) -> bool {
        self.world.takes_commits(self.instance)
    }

    /// Whether the server runs.
    #[must_use]
    pub fn is_running(&self) -> bool {
        self.instance.running
    }

    /// Whether any part of a fence is up.
    #[must_use]
    pub fn is_fenced(&self) -> bool {
        let found = self.instance;
        found.denied || found.stopped || found.storage_fenced || found.no_login.is_some()
    }

    /// Whom it follows.
    #[must_use]
    pub fn follows(&self) -> Option<&MemberId> {
        self.instance.follows.as_ref()
    }

    /// Whether it receives its primary's history.
    #[must_use]
    pub fn is_streaming(&self) -> bool {
        self.instance.stream.attached
    }

    /// Whether it applies what it receives.
    #[must_use]
    pub fn is_replaying(&self) -> bool {
        self.instance.follows.is_some() && self.instance.stream.replays
    }

    /// What the applications' role meets here.
    #[must_use]
    pub fn access(&self) -> Access {
        self.instance.access
    }

    /// The history that it carries.
    #[must_use]
    pub fn lineage(&self) -> &Lineage {
        &self.instance.lineage
    }

    /// How many sessions are open on it.
    #[must_use]
    pub fn sessions(&self) -> u32 {
        self.world.sessions(&self.instance.name)
    }

    /// How far its history was written or received.
    #[must_use]
    pub fn position(&self) -> u64 {
        self.world.received_at(self.instance, self.world.now)
    }

    /// The acknowledged writes that this member has.
    pub fn acknowledged(&self) -> impl Iterator<Item = Write> + use<> {
        let mut found = Vec::new();
        let mut lineage = self.instance.lineage.clone();
        let mut until = self.position();
        while let Some(history) = self.world.histories.get(&lineage) {
            found.extend(history.beyond(history.base).into_iter().filter(|write| write.position <= until));
            let Some((parent, parted)) = history.parent.clone() else { break };
            (lineage, until) = (parent, parted);
        }
        found.sort();
        found.into_iter()
    }
}
