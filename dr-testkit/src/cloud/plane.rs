//! Secret, routes, applications and people of the simulated cloud.

use async_trait::async_trait;
use dr_core::{
    AppTier, Binding, MemberId, Millis, Notifier, Outcome, ProviderError, SecretStore, Timestamp, TrafficRouter, Tri,
    base::{IdempotencyKey, SecretVersion},
    contract::{
        AppReading, DrainRequest, Health, Notice, PatchSecret, ReadersReading, ReadersRouter, RecycleRequest,
        Rehearsal, RehearseRoute, RehearseSecret, ResumeRequest, RotateSecret, RouteReading, RouteRequest,
        ScaleRequest, SecretReference, SpreadReaders, WriteProbe,
    },
};

use super::{
    SimCloud,
    line::{Glass, Line, Plane, Point},
    rehearse,
};
use crate::world::{Effect, World};

#[derive(Clone, Debug)]
pub(crate) struct SimSecret {
    pub(crate) line: Line,
}

#[async_trait]
impl SecretStore for SimSecret {
    async fn read(&self) -> Result<SecretReference, ProviderError> {
        self.line
            .read(Point::read("secret.read".to_owned(), Plane::Other), "read", |world, glass| {
                let none = || ProviderError::Refused { verb: "read", why: "there is no secret".to_owned() };
                let newest = if glass.at < world.now {
                    world.secret.versions.iter().rev().find(|row| row.visible_at <= glass.at)
                } else {
                    world.secret.versions.last()
                };
                let newest = newest.or_else(|| world.secret.versions.first()).ok_or_else(none)?;
                Ok(SecretReference {
                    version: SecretVersion::new(newest.version.as_str()),
                    endpoint: Some(newest.endpoint.clone()),
                    token: newest.token.as_deref().map(IdempotencyKey::new),
                    rotating: Tri::from(world.secret.rotating != glass.contradicts),
                })
            })
            .await
    }

    async fn patch(&self, request: PatchSecret) -> Outcome<SecretVersion> {
        let effect = Effect::Patch {
            endpoint: request.writer.endpoint.clone(),
            expected: request.expected.to_string(),
            token: request.key.to_string(),
        };
        let point =
            Point::change("secret.patch".to_owned(), Plane::Other, (Binding::secret(SimCloud::SECRET), "patch"));
        self.line.send(point, effect).await.map(SecretVersion::from)
    }

    async fn rotate(&self, request: RotateSecret) -> Outcome<SecretVersion> {
        let effect = Effect::Rotate { expected: request.expected.to_string(), token: request.key.to_string() };
        let point =
            Point::change("secret.rotate".to_owned(), Plane::Other, (Binding::secret(SimCloud::SECRET), "rotate"));
        self.line.send(point, effect).await.map(SecretVersion::from)
    }

    async fn rehearse(&self, request: &RehearseSecret) -> Result<Rehearsal, ProviderError> {
        let point = Point::read("secret.rehearse".to_owned(), Plane::Other);
        self.line.read(point, "rehearse", |world, glass| rehearse::secret(world, &request.from, glass)).await
    }

    async fn versions(&self) -> Result<Vec<SecretVersion>, ProviderError> {
        self.line
            .read(Point::read("secret.versions".to_owned(), Plane::Other), "versions", |world, _| {
                Ok(world.secret.versions.iter().rev().map(|row| SecretVersion::new(row.version.as_str())).collect())
            })
            .await
    }

    fn manual(&self, verb: &str) -> Vec<String> {
        vec![format!("sim secret {verb}")]
    }
}

#[derive(Clone, Debug)]
pub(crate) struct SimRoute {
    pub(crate) line: Line,
    pub(crate) number: usize,
}

impl SimRoute {
    fn name(&self) -> String {
        Binding::Traffic(SimCloud::route_name(self.number)).to_string()
    }

    /// One write as the applications' role makes it, through what resolvers answer.
    fn write_as_application(&self, world: &mut World, glass: Glass) -> Result<WriteProbe, ProviderError> {
        let (now, at) = (world.now, Timestamp::from_millis(world.now));
        world.duties.looked_through.insert(self.number, now);
        let member = world.routes.get(self.number).ok_or_else(|| self.gone("write"))?.answers.clone();
        let answer = |accepted, detail: &str| WriteProbe { accepted, lineage: None, detail: detail.to_owned(), at };
        if glass.contradicts {
            return Ok(answer(Tri::Unknown, "no answer"));
        }
        if let Some(refusal) = world.keeps_out(&member) {
            return Ok(answer(Tri::No, &format!("{member}: {refusal}")));
        }
        let lineage = world.instances.get(&member).map(|found| found.lineage.clone());
        if let Some(history) = lineage.as_ref().and_then(|lineage| world.histories.get_mut(lineage)) {
            history.record(now, 72);
        }
        let lineage = lineage.map(|lineage| world.told(&lineage));
        Ok(WriteProbe { lineage, ..answer(Tri::Yes, "committed") })
    }

    fn gone(&self, verb: &'static str) -> ProviderError {
        ProviderError::Refused { verb, why: format!("there is no {}", self.name()) }
    }
}

#[async_trait]
impl TrafficRouter for SimRoute {
    async fn read(&self) -> Result<RouteReading, ProviderError> {
        self.line
            .read(Point::read(format!("{}.read", self.name()), Plane::Other), "read", |world, glass| {
                let found = world.routes.get(self.number).ok_or_else(|| self.gone("read"))?;
                let settled = (found.member == found.answers) != glass.contradicts;
                let detail = format!("record {}, resolvers answer {}", found.member, found.answers);
                Ok(RouteReading {
                    member: Some(found.member.clone()),
                    settled: Tri::from(settled),
                    ttl: world.setup.timing.ttl,
                    detail,
                    at: Timestamp::from_millis(glass.at),
                })
            })
            .await
    }

    async fn apply(&self, request: RouteRequest) -> Outcome<()> {
        let name = self.name();
        let point = Point::change(format!("{name}.apply"), Plane::Other, (name.as_str(), "apply"));
        let effect = Effect::Route { route: self.number, member: request.writer.target.member };
        self.line.send(point, effect).await.map(drop)
    }

    async fn rehearse(&self, request: &RehearseRoute) -> Result<Rehearsal, ProviderError> {
        let point = Point::read(format!("{}.rehearse", self.name()), Plane::Other);
        let (number, from) = (self.number, &request.from);
        self.line.read(point, "rehearse", |world, glass| rehearse::route(world, number, from, glass)).await
    }

    async fn write(&self) -> Result<Vec<WriteProbe>, ProviderError> {
        let point = Point::read(format!("{}.write", self.name()), Plane::Other);
        self.line.read(point, "write", |world, glass| Ok(vec![self.write_as_application(world, glass)?])).await
    }

    async fn sample(&self, samples: u8) -> Result<Vec<Option<MemberId>>, ProviderError> {
        self.line
            .read(Point::read(format!("{}.sample", self.name()), Plane::Other), "sample", |world, _| {
                world.duties.looked_through.insert(self.number, world.now);
                let found = world.routes.get(self.number).ok_or_else(|| self.gone("sample"))?;
                let up = world.instances.get(&found.answers).is_some_and(|instance| instance.running);
                let answer = (up && world.clients_reach(&found.answers)).then(|| found.answers.clone());
                Ok(vec![answer; usize::from(samples)])
            })
            .await
    }

    fn poll_every(&self) -> Millis {
        self.line.cloud.inner.setup.timing.poll
    }

    fn manual(&self, verb: &str) -> Vec<String> {
        vec![format!("sim route {} {verb}", self.number)]
    }
}

#[derive(Clone, Debug)]
pub(crate) struct SimReaders {
    pub(crate) line: Line,
    pub(crate) number: usize,
}

impl SimReaders {
    fn name(&self) -> String {
        Binding::Readers(SimCloud::readers_name(self.number)).to_string()
    }
}

#[async_trait]
impl ReadersRouter for SimReaders {
    async fn read(&self) -> Result<ReadersReading, ProviderError> {
        self.line
            .read(Point::read(format!("{}.read", self.name()), Plane::Other), "read", |world, glass| {
                let gone = || ProviderError::Refused { verb: "read", why: format!("there is no {}", self.name()) };
                let found = world.readers.get(self.number).ok_or_else(gone)?;
                let (strangers, members): (Vec<_>, Vec<_>) =
                    found.iter().cloned().partition(|name| !world.instances.contains_key(name));
                let names = |list: &[MemberId]| list.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
                let detail = match strangers.as_slice() {
                    [] => format!("sends to {}", names(&members)),
                    others => format!("sends to {}, and to no member: {}", names(&members), names(others)),
                };
                Ok(ReadersReading {
                    members: members.into_iter().collect(),
                    settled: Tri::from(strangers.is_empty() != glass.contradicts),
                    detail,
                    at: Timestamp::from_millis(glass.at),
                })
            })
            .await
    }

    async fn spread(&self, request: SpreadReaders) -> Outcome<()> {
        let name = self.name();
        let point = Point::change(format!("{name}.spread"), Plane::Other, (name.as_str(), "spread"));
        self.line.send(point, Effect::Spread { route: self.number, to: request.to }).await.map(drop)
    }

    fn poll_every(&self) -> Millis {
        self.line.cloud.inner.setup.timing.poll
    }

    fn manual(&self, verb: &str) -> Vec<String> {
        vec![format!("sim readers {} {verb}", self.number)]
    }
}

#[derive(Clone, Debug)]
pub(crate) struct SimApp {
    pub(crate) line: Line,
}

#[async_trait]
impl AppTier for SimApp {
    async fn limit(&self) -> Result<Millis, ProviderError> {
        self.line
            .read(Point::read("app.limit".to_owned(), Plane::Other), "limit", |world, _| Ok(world.setup.drain_limit))
            .await
    }

    fn drain_expires_by_itself(&self) -> bool {
        self.line.cloud.inner.setup.drain_expires
    }

    async fn read(&self) -> Result<AppReading, ProviderError> {
        self.line
            .read(Point::read("app.read".to_owned(), Plane::Other), "read", |world, glass| {
                let app = &world.app;
                let drained = app.drained_at.is_some() && !glass.contradicts;
                let waiting = app.draining && app.drained_at.is_none();
                let mut stragglers = if waiting { vec![SimCloud::APP.to_owned()] } else { Vec::new() };
                stragglers.extend(app.held.iter().map(|part| format!("part {part}")));
                let detail = match (app.draining, drained) {
                    (false, _) if !app.held.is_empty() => "running in part",
                    (false, _) => "running",
                    (true, false) => "draining",
                    (true, true) => "drained",
                };
                Ok(AppReading {
                    drained: Tri::from(drained),
                    stragglers,
                    expires: app.expires.map(Timestamp::from_millis),
                    detail: detail.to_owned(),
                    at: Timestamp::from_millis(glass.at),
                })
            })
            .await
    }

    async fn drain(&self, request: DrainRequest) -> Outcome<()> {
        let point = Point::change("app.drain".to_owned(), Plane::Other, (Binding::app(SimCloud::APP), "drain"));
        let effect = Effect::Drain { budget: request.budget, within: request.within };
        self.line.send(point, effect).await.map(drop)
    }

    async fn resume(&self, _request: ResumeRequest) -> Outcome<()> {
        let point = Point::change("app.resume".to_owned(), Plane::Other, (Binding::app(SimCloud::APP), "resume"));
        self.line.send(point, Effect::Resume).await.map(drop)
    }

    async fn fail_fast(&self) -> Outcome<()> {
        let point = Point::change("app.fail-fast".to_owned(), Plane::Other, (Binding::app(SimCloud::APP), "fail-fast"));
        self.line.send(point, Effect::FailFast).await.map(drop)
    }

    async fn scale(&self, request: ScaleRequest) -> Outcome<()> {
        let point = Point::change("app.scale".to_owned(), Plane::Other, (Binding::app(SimCloud::APP), "scale"));
        self.line.send(point, Effect::Scale { capacity: request.capacity }).await.map(drop)
    }

    async fn health(&self) -> Result<Health, ProviderError> {
        self.line
            .read(Point::read("app.health".to_owned(), Plane::Other), "health", |world, glass| {
                let (capacity, healthy) = (world.app.capacity, world.app.capacity);
                let detail = format!("{healthy} of {capacity} parts are healthy");
                Ok(Health { capacity, healthy, detail, at: Timestamp::from_millis(glass.at) })
            })
            .await
    }

    async fn recycle(&self, _request: RecycleRequest) -> Outcome<()> {
        let point = Point::change("app.recycle".to_owned(), Plane::Other, (Binding::app(SimCloud::APP), "recycle"));
        self.line.send(point, Effect::Recycle).await.map(drop)
    }

    fn poll_every(&self) -> Millis {
        self.line.cloud.inner.setup.timing.poll
    }

    fn manual(&self, verb: &str) -> Vec<String> {
        vec![format!("sim app {verb}")]
    }
}

#[derive(Clone, Debug)]
pub(crate) struct SimNotifier {
    pub(crate) line: Line,
}

#[async_trait]
impl Notifier for SimNotifier {
    async fn notify(&self, notice: Notice) -> Result<(), ProviderError> {
        // A notice changes nothing that is being recovered: it is a fault point, but no touch of a plan.
        let point = Point::read("notify".to_owned(), Plane::Other);
        self.line
            .read(point, "notify", |world, _| {
                world.notices.entry(notice.key).or_insert(notice.text);
                Ok(())
            })
            .await
    }
}
