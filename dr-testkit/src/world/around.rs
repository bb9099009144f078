//! What surrounds the members of the world: the connection secret, the routes, and the write path of the applications.

use std::collections::BTreeSet;

use dr_core::{MemberId, Millis, base::Endpoint};

use super::{App, Careless, ChangeKind, Due, Reply, SecretVersionRow, World};
use crate::cloud::SimCloud;

impl World {
    /// Sends readers to these members, and to nobody else.
    pub(super) fn spread(&mut self, route: usize, to: &BTreeSet<MemberId>, call: &str) -> Reply {
        if to.is_empty() {
            return Reply::Refused("readers have to be sent to somebody".to_owned());
        }
        if let Some(stranger) = to.iter().find(|name| !self.instances.contains_key(*name)) {
            return Reply::Refused(format!("there is no {stranger}"));
        }
        let Some(found) = self.readers.get_mut(route) else {
            return Reply::Refused(format!("there is no route {route} for readers"));
        };
        if found != to {
            let names: Vec<String> = to.iter().map(ToString::to_string).collect();
            found.clone_from(to);
            self.line(call, ChangeKind::Route, &format!("readers-{route}"), format!("sends to {}", names.join(", ")));
        }
        Reply::done()
    }

    pub(super) fn patch(&mut self, endpoint: Endpoint, expected: &str, token: String, call: &str) -> Reply {
        let Some(newest) = self.secret.versions.last() else { return Reply::Refused("there is no secret".to_owned()) };
        if let Some(row) = self.secret.versions.iter().find(|row| row.token.as_deref() == Some(&token)) {
            return Reply::Done(row.version.clone());
        }
        if newest.endpoint == endpoint {
            return Reply::Done(newest.version.clone());
        }
        if newest.version != expected {
            return Reply::Conflict(format!("the current version is {}, expected was {expected}", newest.version));
        }
        Reply::Done(self.publish(endpoint, Some(token), call))
    }

    /// New credentials beside those of the version before, which stay valid until the next rotation.
    pub(super) fn rotate(&mut self, expected: &str, token: String, call: &str) -> Reply {
        let Some(newest) = self.secret.versions.last().cloned() else {
            return Reply::Refused("there is no secret".to_owned());
        };
        if let Some(row) = self.secret.versions.iter().find(|row| row.token.as_deref() == Some(&token)) {
            return Reply::Done(row.version.clone());
        }
        if self.secret.rotating {
            return Reply::NotYet("another rotation is going on".to_owned());
        }
        if newest.version != expected {
            return Reply::Conflict(format!("the current version is {}, expected was {expected}", newest.version));
        }
        Reply::Done(self.publish(newest.endpoint, Some(token), call))
    }

    /// Brings the applications to a capacity.
    pub(super) fn scale(&mut self, capacity: u32, call: &str) -> Reply {
        if capacity == 0 {
            return Reply::Refused("a tier of no parts serves nobody".to_owned());
        }
        if self.app.capacity != capacity {
            self.app.capacity = capacity;
            self.line(call, ChangeKind::Other, SimCloud::APP, format!("{capacity} parts serve the applications"));
        }
        Reply::done()
    }

    /// Clients give up their sessions and caches, and open them again where the secret and the routes lead.
    pub(super) fn recycle(&mut self, call: &str) -> Reply {
        for writer in &mut self.writers {
            writer.session = None;
            writer.cache = None;
        }
        self.line(call, ChangeKind::Other, SimCloud::APP, "pools open their connections again");
        Reply::done()
    }

    /// Publishes a secret version, by whomever.
    pub(crate) fn publish(&mut self, endpoint: Endpoint, token: Option<String>, call: &str) -> String {
        let version = format!("v{}", self.secret.versions.len().saturating_add(1));
        let delay = i64::try_from(self.setup.timing.secret_replication.count()).unwrap_or(0);
        self.line(call, ChangeKind::Secret, SimCloud::SECRET, format!("{version} names {endpoint}"));
        self.check_published(&endpoint, call);
        let visible_at = self.now.saturating_add(delay);
        self.secret.versions.push(SecretVersionRow { version: version.clone(), endpoint, token, visible_at });
        version
    }

    /// Points a route at a member, by whomever.
    pub(crate) fn point_route(&mut self, route: usize, member: &MemberId, call: &str) -> Reply {
        let change = self.number();
        let Some(found) = self.routes.get_mut(route) else {
            return Reply::Refused(format!("there is no route {route}"));
        };
        if found.member == *member {
            return Reply::done();
        }
        found.member = member.clone();
        found.change = change;
        let delay = i64::try_from(self.setup.timing.propagation.count()).unwrap_or(0);
        self.line(call, ChangeKind::Route, SimCloud::route_name(route).as_str(), format!("sends to {member}"));
        self.schedule(self.now.saturating_add(delay), Due::RouteSettles { route, change });
        Reply::Accepted(String::new())
    }

    pub(super) fn route_settles(&mut self, route: usize, change: u64) {
        let Some(found) = self.routes.get_mut(route).filter(|found| found.change == change) else { return };
        found.answers = found.member.clone();
        let text = format!("all resolvers answer {}", found.answers);
        self.line("provider", ChangeKind::Route, SimCloud::route_name(route).as_str(), text);
    }

    pub(super) fn drain(&mut self, budget: Millis, within: Millis, call: &str) -> Reply {
        if self.app.draining {
            return Reply::Accepted(String::new());
        }
        let turn = self.app.turn.saturating_add(1);
        let takes = self.setup.timing.drain.min(within);
        let ms = |time: Millis| i64::try_from(time.count()).unwrap_or(i64::MAX);
        let expires = self.setup.drain_expires.then(|| self.now.saturating_add(ms(budget)));
        self.app = App {
            draining: true,
            drained_at: None,
            expires,
            fail_fast: false,
            held: BTreeSet::new(),
            turn,
            capacity: self.app.capacity,
        };
        self.line(call, ChangeKind::Drained, SimCloud::APP, "applications are told to hold their writes back");
        self.schedule(self.now.saturating_add(ms(takes)), Due::Drained { turn });
        if let Some(at) = expires {
            self.schedule(at, Due::DrainExpires { turn });
        }
        Reply::Accepted(String::new())
    }

    pub(super) fn drained(&mut self, turn: u64) {
        if self.app.turn != turn || !self.app.draining {
            return;
        }
        self.app.drained_at = Some(self.now);
        for writer in &mut self.writers {
            if writer.obeys_drain {
                writer.session = None;
            }
        }
        self.line("client", ChangeKind::Drained, SimCloud::APP, "all applications answered: drained");
    }

    pub(super) fn drain_expires(&mut self, turn: u64) {
        if self.app.turn == turn && self.app.draining {
            self.line("client", ChangeKind::Resumed, SimCloud::APP, "the drain ended by itself: its budget is over");
            self.app = App { turn: turn.saturating_add(1), ..App::of(self.app.capacity) };
        }
    }

    pub(super) fn resume(&mut self, call: &str) -> Reply {
        if self.app.draining || !self.app.held.is_empty() {
            self.line(call, ChangeKind::Resumed, SimCloud::APP, "applications write again");
            self.app = App { turn: self.app.turn.saturating_add(1), ..App::of(self.app.capacity) };
            if self.is_careless(Careless::ResumesInPart) {
                self.app.held.insert(App::PARTS.saturating_sub(1));
            }
        }
        Reply::done()
    }
}
