//! The management view: a projection of the truth that lags behind it.

use std::collections::BTreeMap;

use dr_core::{MemberId, contract::Lineage};
use serde::{Deserialize, Serialize};

use super::World;

/// How many older views are kept at most.
const KEPT: usize = 256;

/// What the management plane believes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct View {
    pub(crate) members: BTreeMap<MemberId, MemberView>,
}

/// What it believes of one member.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct MemberView {
    pub(crate) lineage: Lineage,
    pub(crate) follows: Option<MemberId>,
    pub(crate) running: bool,
    pub(crate) broken: bool,
    pub(crate) stopped: bool,
    pub(crate) denied: bool,
    pub(crate) storage_fenced: bool,
    pub(crate) streaming: bool,
    pub(crate) busy: Option<String>,
}

impl World {
    fn view_now(&self) -> View {
        let members = self.instances.iter().map(|(name, found)| {
            let view = MemberView {
                lineage: found.lineage.clone(),
                follows: found.follows.clone(),
                running: found.running,
                broken: found.broken,
                stopped: found.stopped,
                denied: found.denied,
                storage_fenced: found.storage_fenced,
                streaming: found.stream.attached,
                busy: found.busy.clone(),
            };
            (name.clone(), view)
        });
        View { members: members.collect() }
    }

    /// Whether the newest view still shows what is so; most looks find it unchanged.
    fn view_is_current(&self) -> bool {
        let same = |found: &super::Instance, seen: &MemberView| {
            found.lineage == seen.lineage
                && found.follows == seen.follows
                && found.busy == seen.busy
                && (found.running, found.broken, found.stopped, found.denied)
                    == (seen.running, seen.broken, seen.stopped, seen.denied)
                && (found.storage_fenced, found.stream.attached) == (seen.storage_fenced, seen.streaming)
        };
        self.views.back().is_some_and(|(_, newest)| {
            self.instances.iter().all(|(name, found)| newest.members.get(name).is_some_and(|seen| same(found, seen)))
        })
    }

    pub(super) fn remember_view(&mut self) {
        if !self.view_is_current() {
            let view = self.view_now();
            self.views.push_back((self.now, view));
        }
        while self.views.len() > KEPT {
            self.views.pop_front();
        }
    }

    /// What the management plane believed at `at`, and since when.
    pub(crate) fn view_at(&self, at: i64) -> (i64, View) {
        let found = self.views.iter().rev().find(|(since, _)| *since <= at).or_else(|| self.views.front());
        found.map_or_else(|| (at, self.view_now()), |(_, view)| (at, view.clone()))
    }
}
