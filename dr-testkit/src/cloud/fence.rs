//! The fences of the simulated cloud: one of several parts (deny, terminate, stop), the same without the stop, one of the storage, and one
//! of logins, which travels.

use async_trait::async_trait;
use dr_core::{
    Cause, Fence, Grade, MemberId, Millis, Outcome, ProviderError, Timestamp, Tri,
    base::Json,
    contract::{
        ClearFence, Effort, EngageFence, FencePlace, FenceReading, FenceToken, Planes, Reach, Rehearsal, ReleaseOrder,
        RetireFence,
    },
};

use super::{
    database::{gone, position},
    line::{Glass, Line, Plane, Point},
    rehearse,
};
use crate::world::{Careless, Effect, Instance, Place, World, not_the_server};

/// Which of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum FenceKind {
    /// Deny new sessions, end the open ones, stop.
    Stop,
    /// Stop a member that nobody follows any more: the one fence for after the promotion.
    StopAlone,
    /// Deny new sessions and end the open ones; the server runs on.
    Network,
    /// The storage refuses writes.
    Storage,
    /// The applications' roles may not log in; their open sessions end. It travels with the history.
    Login,
}

#[derive(Clone, Debug)]
pub(crate) struct SimFence {
    pub(crate) line: Line,
    pub(crate) member: MemberId,
    pub(crate) kind: FenceKind,
}

impl SimFence {
    fn part(&self, verb: &str, part: &str, touch: &str) -> Point {
        let name = if part.is_empty() {
            format!("{}.fence.{verb}", self.member)
        } else {
            format!("{}.fence.{verb}/{part}", self.member)
        };
        Point::change(name, self.plane(), (self.member.as_str(), touch))
    }

    /// Roles are changed on the server itself.
    fn plane(&self) -> Plane {
        match self.kind {
            FenceKind::Login => Plane::Data(self.member.clone()),
            FenceKind::Stop | FenceKind::StopAlone | FenceKind::Network | FenceKind::Storage => {
                Plane::Management(self.member.clone())
            }
        }
    }

    fn look_at(&self, verb: &str) -> Point {
        Point::read(format!("{}.fence.{verb}", self.member), self.plane())
    }

    /// Sends the parts of a compound verb, one after the other; the first that is not done ends it.
    async fn all(&self, verb: &str, touch: &str, parts: Vec<(&str, Effect)>) -> Outcome<()> {
        let (mut some, mut pending) = (false, false);
        for (part, effect) in parts {
            match self.line.send(self.part(verb, part, touch), effect).await {
                Outcome::Done(_) => some = true,
                Outcome::Accepted(_) => (some, pending) = (true, true),
                Outcome::NotDone(reason) if !some => return Outcome::NotDone(reason),
                Outcome::NotDone(reason) => {
                    return Outcome::unknown(format_args!("{part} did not follow the others: {}", reason.cause));
                }
                Outcome::Unknown(cause) => return Outcome::Unknown(cause),
                Outcome::Conflict(cause) => return Outcome::Conflict(cause),
            }
        }
        if pending { Outcome::accepted() } else { Outcome::Done(()) }
    }

    /// What the fence shows when the directory that it was told is not the server's: an honest one vouches for nothing.
    fn at_another_place(&self, world: &World, found: &Instance, glass: Glass) -> Option<FenceReading> {
        let place = found.elsewhere.as_ref()?;
        let trusts = world.is_careless(Careless::ReadsPlace) && !glass.contradicts;
        let (stopped, end) = match &place.is {
            Place::Of(other) => {
                let other = world.instances.get(other)?;
                (other.stopped && !other.running, Some(world.received_at(other, world.now)))
            }
            Place::Copy => (place.stopped, Some(place.end)),
            Place::Own | Place::Nobody => (place.stopped, None),
        };
        let planes = if trusts && stopped { Planes::all(Grade::Confirmed) } else { Planes::default() };
        Some(FenceReading {
            silent: trusts && stopped,
            address: Some(found.address.clone()),
            identity: Some(found.identity.clone()),
            lineage: Some(world.told_of(&found.name, found.follows.is_some(), &found.lineage)),
            planes,
            end: end.filter(|_| trusts && stopped).map(|end| position(&found.lineage, end)),
            lapses_at: None,
            unread: Vec::new(),
            detail: if trusts { "stopped cleanly".to_owned() } else { not_the_server(&self.member) },
            at: Timestamp::from_millis(world.now),
        })
    }

    fn reading(&self, world: &World, glass: Glass) -> Result<FenceReading, ProviderError> {
        let found = world.instances.get(&self.member).ok_or_else(|| gone("inspect", &self.member))?;
        if self.kind == FenceKind::Stop
            && let Some(reading) = self.at_another_place(world, found, glass)
        {
            return Ok(reading);
        }
        let mut planes = match self.kind {
            FenceKind::Stop => stop_planes(world, found),
            FenceKind::StopAlone if found.stopped && !found.running => stop_planes(world, found),
            FenceKind::StopAlone => Planes::default(),
            FenceKind::Network if found.denied && world.sessions(&found.name) == 0 => Planes::all(Grade::Confirmed),
            FenceKind::Network => Planes::default(),
            FenceKind::Login if world.carries(found) && world.sessions(&found.name) == 0 => {
                Planes::all(Grade::Confirmed)
            }
            FenceKind::Login => Planes::default(),
            FenceKind::Storage if found.storage_fenced => Planes::all(Grade::Enforced),
            FenceKind::Storage => Planes::default(),
        };
        if glass.contradicts {
            planes = Planes::default();
        }
        let tells = world.setup.service.positions && self.kind == FenceKind::Stop;
        let end = found.clean_end.filter(|_| found.stopped && tells);
        let sessions = world.sessions(&self.member);
        let detail = format!(
            "{}; new sessions {}; {sessions} open; storage {}{}",
            if found.running { "running" } else { "stopped" },
            if found.denied { "refused" } else { "let in" },
            if found.storage_fenced { "refuses writes" } else { "takes writes" },
            if world.carries(found) { "; the applications' roles may not log in" } else { "" },
        );
        Ok(FenceReading {
            silent: matches!(self.kind, FenceKind::Stop | FenceKind::StopAlone) && found.stopped && !found.running,
            unread: Vec::new(),
            address: Some(found.address.clone()),
            identity: Some(found.identity.clone()),
            lineage: Some(world.told_of(&found.name, found.follows.is_some(), &found.lineage)),
            planes,
            end: end.map(|end| position(&found.lineage, end)),
            lapses_at: found.lapses_at.map(Timestamp::from_millis),
            detail,
            at: Timestamp::from_millis(world.now),
        })
    }
}

/// What the parts that are up are worth. A server that broke before it was stopped could not be asked: `Enforced`.
fn stop_planes(world: &World, found: &Instance) -> Planes {
    if found.stopped && !found.running {
        return Planes::all(if found.clean_end.is_some() { Grade::Confirmed } else { Grade::Enforced });
    }
    let closed = found.denied && world.sessions(&found.name) == 0;
    let new_sessions = if found.denied { Grade::Confirmed } else { Grade::Unconfirmable };
    let open_sessions = if closed { Grade::Confirmed } else { Grade::Unconfirmable };
    Planes { new_sessions, open_sessions, background: Grade::Unconfirmable, restart: Grade::Unconfirmable }
}

#[async_trait]
impl Fence for SimFence {
    fn name(&self) -> String {
        match self.kind {
            FenceKind::Stop => "sim.stop".to_owned(),
            FenceKind::StopAlone => "sim.stop-alone".to_owned(),
            FenceKind::Network => "sim.network".to_owned(),
            FenceKind::Storage => "sim.storage".to_owned(),
            FenceKind::Login => "sim.login".to_owned(),
        }
    }

    /// All but the logins are engaged at the member's own management plane: with that dark, none can be had.
    fn offers(&self, reach: Reach) -> Planes {
        let way = if self.kind == FenceKind::Login { reach.server } else { reach.management };
        match (way, self.kind) {
            (Tri::No, _) => Planes::default(),
            (
                Tri::Yes | Tri::Unknown,
                FenceKind::Stop | FenceKind::StopAlone | FenceKind::Network | FenceKind::Login,
            ) => Planes::all(Grade::Confirmed),
            (Tri::Yes | Tri::Unknown, FenceKind::Storage) => Planes::all(Grade::Enforced),
        }
    }

    async fn prepare(&self) -> Result<FenceToken, ProviderError> {
        let before = self.line.read(self.look_at("prepare"), "prepare", |world, _| {
            let found = world.instances.get(&self.member).ok_or_else(|| gone("prepare", &self.member))?;
            Ok(serde_json::json!({ "member": self.member.as_str(), "running": found.running, "denied": found.denied }))
        });
        let (state, known) = match before.await {
            Ok(state) => (state, true),
            // A silent member is fenced all the same; what stood before is not known then.
            Err(ProviderError::Unreachable { .. }) => (serde_json::json!({}), false),
            Err(error) => return Err(error),
        };
        Ok(FenceToken { fence: self.name(), state: Json(state), known })
    }

    async fn rehearse(&self, _effort: Effort) -> Result<Rehearsal, ProviderError> {
        self.line
            .read(self.look_at("rehearse"), "rehearse", |world, glass| rehearse::fence(world, &self.member, glass))
            .await
    }

    async fn engage(&self, request: EngageFence) -> Outcome<()> {
        if request.target.member != self.member || request.token.fence != self.name() {
            return Outcome::refused(format_args!(
                "the request is for {} and its {}",
                request.target.member, request.token.fence
            ));
        }
        let member = || self.member.clone();
        let parts = match self.kind {
            FenceKind::Stop => vec![
                ("1-deny", Effect::Deny { member: member() }),
                ("2-terminate", Effect::Terminate { member: member() }),
                ("3-stop", Effect::Stop { member: member() }),
            ],
            FenceKind::Network => {
                vec![
                    ("1-deny", Effect::Deny { member: member() }),
                    ("2-terminate", Effect::Terminate { member: member() }),
                ]
            }
            FenceKind::StopAlone => vec![("stop-alone", Effect::StopAlone { member: member() })],
            FenceKind::Storage => vec![("", Effect::StorageFence { member: member() })],
            FenceKind::Login => vec![("", Effect::NoLogin { member: member() })],
        };
        self.all("engage", "fence", parts).await
    }

    async fn inspect(&self) -> Result<FenceReading, ProviderError> {
        // A fence is asked at the resource itself, not in the lagging view.
        let look = |world: &mut World, glass| {
            // Whoever looks whether a server is stopped has not looked at what keeps a running one from writing.
            if self.kind != FenceKind::StopAlone {
                world.duties.inspected.insert(self.member.clone(), world.now);
            }
            self.reading(world, glass)
        };
        self.line.read(self.look_at("inspect"), "inspect", look).await
    }

    async fn release(&self, order: ReleaseOrder) -> Outcome<()> {
        if order.target().member != self.member {
            return Outcome::Conflict(Cause::new(format_args!("the order names {}", order.target().member)));
        }
        let member = || self.member.clone();
        let parts = match self.kind {
            FenceKind::Stop => vec![
                ("1-start", Effect::Start { member: member(), ours: true }),
                ("2-allow", Effect::Allow { member: member() }),
            ],
            FenceKind::StopAlone => vec![("1-start", Effect::Start { member: member(), ours: true })],
            FenceKind::Network | FenceKind::Storage | FenceKind::Login => {
                vec![("", Effect::Allow { member: member() })]
            }
        };
        self.all("release", "release-fence", parts).await
    }

    async fn retire(&self, request: RetireFence) -> Outcome<()> {
        let effect = Effect::Retire { member: self.member.clone(), lineage: request.target.lineage };
        self.line.send(self.part("retire", "", "retire-fence"), effect).await.map(drop)
    }

    fn travels(&self) -> bool {
        self.kind == FenceKind::Login
    }

    async fn carried(&self) -> Result<Vec<String>, ProviderError> {
        let look = |world: &mut World, glass: Glass| {
            let found = world.instances.get(&self.member).ok_or_else(|| gone("carried", &self.member))?;
            let carries = world.carries(found) != glass.contradicts;
            Ok(carries.then(|| "role `app` may not log in".to_owned()).into_iter().collect())
        };
        if self.travels() { self.line.read(self.look_at("carried"), "carried", look).await } else { Ok(Vec::new()) }
    }

    async fn clear(&self, request: ClearFence) -> Outcome<()> {
        if request.target.member != self.member {
            return Outcome::Conflict(Cause::new(format_args!("the request names {}", request.target.member)));
        }
        let effect = Effect::Clear { member: self.member.clone(), was: request.was };
        self.line.send(self.part("clear", "", "clear-fence"), effect).await.map(drop)
    }

    fn place(&self) -> FencePlace {
        if self.kind == FenceKind::StopAlone { FencePlace::AfterPromotion } else { FencePlace::BeforePromotion }
    }

    fn poll_every(&self) -> Millis {
        self.line.cloud.inner.setup.timing.poll
    }

    fn manual(&self, verb: &str) -> Vec<String> {
        match (self.kind, verb) {
            (FenceKind::Stop, "engage") => {
                ["deny", "terminate", "stop"].iter().map(|part| format!("sim {part} {}", self.member)).collect()
            }
            (FenceKind::Stop, "release") => {
                ["start", "allow"].iter().map(|part| format!("sim {part} {}", self.member)).collect()
            }
            (
                FenceKind::Stop | FenceKind::StopAlone | FenceKind::Network | FenceKind::Storage | FenceKind::Login,
                other,
            ) => {
                vec![format!("sim {other}-fence {}", self.member)]
            }
        }
    }
}
