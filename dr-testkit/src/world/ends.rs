//! The laws about what a run says of servers, roles and parts: a fence that is called confirmed, and what a success leaves behind.

use dr_core::{
    Binding, Grade, MemberId,
    contract::{FenceReceipt, IntendedRole},
};

use super::{Law, World};
use crate::cloud::SimCloud;

impl World {
    /// A fence receipt became durable (S21). What somebody did to the member since it was read is not held against it.
    pub(crate) fn fence_claimed(&mut self, receipt: &FenceReceipt) {
        let member = &receipt.target.member;
        if receipt.planes.grade() < Grade::Confirmed || self.duties.stranger {
            return;
        }
        let touched = self
            .log
            .iter()
            .any(|line| line.at >= receipt.effective_at.millis() && line.by == "drift" && line.what == member.as_str());
        let takes = self.instances.get(member).is_some_and(|found| self.takes_commits(found));
        if takes && !touched {
            let text =
                format!("the fence of {member} is called `{}`, and its server takes writes", receipt.planes.grade());
            self.violate(Law::S21, text);
        }
    }

    /// Whether the applications' role writes through every route (S22). A refusal that began after the last look through the route
    /// could not be known.
    pub(super) fn check_served(&mut self) {
        let left_out = |number| self.duties.left_out.contains(&Binding::Traffic(SimCloud::route_name(number)));
        let refused =
            self.routes.iter().enumerate().filter(|(number, _)| !left_out(*number)).find_map(|(number, route)| {
                let since = self.instances.get(&route.answers)?.access_since;
                let looked = self.duties.looked_through.get(&number).copied().unwrap_or(i64::MIN);
                let refusal = self.instances.get(&route.answers)?.access.refusal()?;
                (looked > since)
                    .then(|| format!("a success, and through traffic:{number} {} says: {refusal}", route.answers))
            });
        if let Some(text) = refused {
            self.violate(Law::S22, text);
        }
    }

    /// Whether the other members are what a success says they are (S23). What somebody did by hand after the last look at the fence
    /// could not be known.
    pub(super) fn check_others(&mut self, debts: bool) {
        if self.duties.risk_accepted {
            return;
        }
        // With a promotion of somebody else's, which member is the other one is not for this law.
        let usurped = self.usurped();
        let primaries = self.instances.values().filter(|found| {
            // A network fence leaves the server running: nobody gets in, and what becomes of it stands among the debts.
            let shut_out = debts && (found.denied || found.no_login.is_some()) && !self.takes_commits(found);
            let fenced = (found.storage_fenced && !found.stopped) || shut_out;
            found.running && !found.apart && found.follows.is_none() && found.lineage != self.current && !fenced
        });
        let known =
            primaries.filter(|_| !usurped).filter(|found| !self.duties.stranger || self.seen_since_drift(&found.name));
        if let Some(name) = known.map(|found| found.name.clone()).next() {
            self.violate(Law::S23, format!("a success, and {name} runs as a primary on another history"));
        }
        let idle = |found: &&super::Instance| found.follows.is_some() && !found.stream.replays;
        if let Some(found) = self.instances.values().find(idle).filter(|_| !debts) {
            self.violate(Law::S23, format!("a success without debts, and {} does not replay", found.name));
        }
        self.check_followers(debts);
    }

    /// Whether every standby that is no reader receives from the writer, where a success owes nothing (S26). What broke after the last look
    /// at its replication could not be known.
    fn check_followers(&mut self, debts: bool) {
        if debts || self.duties.stranger || self.usurped() {
            return;
        }
        let readers = self.setup.members.iter().filter(|member| member.role == IntendedRole::Reader);
        let readers: Vec<&str> = readers.map(|member| member.name.as_str()).collect();
        let follows = |found: &super::Instance| {
            let primary = found.follows.as_ref().and_then(|name| self.instances.get(name));
            let on_it = primary.is_some_and(|primary| primary.follows.is_none() && primary.lineage == self.current);
            on_it && found.lineage == self.current && found.stream.attached
        };
        let standbys = self.instances.values().filter(|found| found.follows.is_some());
        let others = standbys.filter(|found| !readers.contains(&found.name.as_str()));
        let seen = |found: &&super::Instance| {
            let drift = self.log.iter().rfind(|line| line.by == "drift" && line.what == found.name.as_str());
            let watched = self.duties.retired.get(&found.name).or_else(|| self.duties.watched.get(&found.name));
            drift.is_none_or(|line| watched.copied().unwrap_or(i64::MIN) > line.at)
        };
        let left = others.filter(|found| !follows(found)).filter(seen).map(|found| found.name.clone()).next();
        if let Some(name) = left {
            self.violate(Law::S26, format!("a success without debts, and {name} does not receive from the writer"));
        }
    }

    /// Whether readers find somebody who has what the writer writes (S30). What broke after the last look at it could not be known.
    pub(super) fn check_readers(&mut self, debts: bool) {
        if debts || self.duties.stranger || self.usurped() {
            return;
        }
        let receives = |name: &MemberId| {
            self.instances.get(name).is_some_and(|found| {
                let drift = self.log.iter().rfind(|line| line.by == "drift" && line.what == name.as_str());
                let watched = self.duties.watched.get(name).copied().unwrap_or(i64::MIN);
                let known = drift.is_none_or(|line| watched > line.at);
                found.lineage == self.current && (found.follows.is_none() || found.stream.attached) || !known
            })
        };
        let reader = self.readers.iter().flatten().find(|name| !receives(name)).cloned();
        if let Some(name) = reader {
            self.violate(Law::S30, format!("a success without debts, and readers are sent to {name}"));
        }
    }

    fn seen_since_drift(&self, member: &MemberId) -> bool {
        let drift = self.log.iter().rfind(|line| line.by == "drift" && line.what == member.as_str());
        let looked = self.duties.inspected.get(member).copied().unwrap_or(i64::MIN);
        drift.is_none_or(|line| looked > line.at)
    }

    /// Whether a success that owes nothing leaves a fence up (S20). A part that is delivered late, after the fence was retired, is not
    /// held against the run.
    pub(super) fn check_fences(&mut self, debts: bool) {
        let up = |found: &&super::Instance| {
            found.denied || found.stopped || found.storage_fenced || found.no_login.is_some()
        };
        let fenced = self.instances.values().find(up);
        let left =
            fenced.filter(|found| !debts && !self.duties.stranger && !self.duties.retired.contains_key(&found.name));
        let left = left.map(|found| found.name.clone());
        if let Some(name) = left {
            self.violate(Law::S20, format!("a success without debts, and {name} is still fenced"));
        }
    }

    /// Whether every part of the applications was let through again (S20).
    pub(super) fn check_parts(&mut self, end: &str) {
        if let Some(part) = self.app.held.first() {
            self.violate(Law::S20, format!("{end}, and part {part} of the applications is still held"));
        }
    }
}
