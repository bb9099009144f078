//! The management plane of a simulated member.

use async_trait::async_trait;
use dr_core::{
    Binding, Grade, ManagedDatabase, MemberId, Millis, Outcome, ProviderError, Timestamp, Tri,
    base::{BindingName, Endpoint},
    contract::{
        Attribution, Capabilities, CreateOffer, CreateReplica, Description, DestroyOffer, DestroyRequest, FenceReading,
        FollowOffer, FollowRequest, Follows, FollowsBy, ForcedOffer, HardenOffer, HardenRequest, OpHandle, OpProgress,
        Peer, Planes, Position, PositionUnit, PreserveOffer, PreserveRequest, PromoteOffer, PromoteRequest, Protection,
        Protections, RaiseSequences, RecoveryPoint, RecoveryWindow, Rehearsal, RehearseMember, Rejoin, RejoinRequest,
        Replication, ReplicationLink, RestoreOffer, RestoreRequest, SnapshotOffer, SnapshotRequest, SwapOffer,
        SwapRequest,
    },
};

use super::{
    line::{Line, Plane, Point},
    ms,
    probe::SEQUENCE,
    rehearse,
};
use crate::world::{
    ChangeKind, Edges, Effect, EndpointMoves, Flavour, Instance, LagSource, Life, OpState, TruthLine, World, applied,
};

#[derive(Clone, Debug)]
pub(crate) struct SimDatabase {
    pub(crate) line: Line,
    pub(crate) member: MemberId,
    /// What the group calls the routes, in the order of the cloud.
    pub(crate) routes: Vec<BindingName>,
}

/// Makes a position in the history of `lineage`'s system.
pub(crate) fn position(lineage: &dr_core::contract::Lineage, value: u64) -> Position {
    Position { system: lineage.system.clone(), unit: PositionUnit::LogBytes, value }
}

pub(crate) fn gone(verb: &'static str, member: &MemberId) -> ProviderError {
    ProviderError::Missing { verb, why: format!("there is no {member}") }
}

impl SimDatabase {
    fn point(&self, verb: &str) -> Point {
        Point::read(format!("{}.{verb}", self.member), Plane::Management(self.member.clone()))
    }

    fn start(&self, name: &str, verb: &str) -> Point {
        let plane = Plane::Management(self.member.clone());
        Point::start(format!("{}.{name}", self.member), plane, (self.member.as_str(), verb))
    }
}

fn capabilities(world: &World, routes: &[BindingName]) -> Capabilities {
    let timing = &world.setup.timing;
    let separate = world.setup.flavour == Flavour::Separate;
    let longest = |operation: Millis| operation.saturating_add(timing.send.1);
    let moved = if world.setup.service.endpoint == EndpointMoves::Never { &[] } else { routes };
    let moves: Vec<Binding> = moved.iter().cloned().map(Binding::Traffic).collect();
    let service = &world.setup.service;
    let busy = service.restarts_after.map_or(Millis::ZERO, |after| after.saturating_add(World::restarting(after)));
    let longest_change = |change: Millis| longest(change.saturating_add(busy));
    let (takes, rejoin, restarts) = (longest_change(timing.swap), Rejoin::ByProvider, service.restarts_after.is_some());
    let fence = Planes::all(Grade::Unconfirmable);
    let promote = PromoteOffer { takes: longest_change(timing.promote), rejoin: service.rejoin, restarts };
    let swap =
        SwapOffer { takes, rejoin, catches_up: true, limit: world.setup.swap_gives_up, moves: moves.clone(), restarts };
    let forced = ForcedOffer { takes, rejoin, fence, moves, restarts };
    Capabilities {
        promote: separate.then_some(promote),
        swap: (!separate).then_some(swap),
        forced_swap: (!separate).then_some(forced),
        follow: (!service.copies).then(|| FollowOffer {
            takes: longest(timing.rejoin),
            by: if separate { FollowsBy::Verb } else { FollowsBy::Itself },
        }),
        snapshot: Some(SnapshotOffer { takes: longest(timing.snapshot), blocks_promotion: service.snapshot_blocks }),
        create: service.lifecycle.then(|| CreateOffer { takes: longest(timing.rejoin) }),
        restore: service.lifecycle.then(|| RestoreOffer { takes: longest(timing.rejoin) }),
        destroy: service.lifecycle.then(|| DestroyOffer { takes: longest(timing.snapshot), last_snapshot: true }),
        harden: service
            .lifecycle
            .then(|| HardenOffer { takes: longest(timing.snapshot), can: Protection::ALL.to_vec() }),
        preserve: service.preserves.map(|kept| PreserveOffer { takes: longest(timing.snapshot), kept_for: Some(kept) }),
        poll_every: timing.poll,
        // A call that is under way when a look begins takes effect after it, and shows in the view later still.
        visibility: timing.view_lag.saturating_add(timing.read.1).saturating_add(timing.send.1),
    }
}

/// How the service names a member at the other end of a link.
fn link(world: &World, found: &Instance) -> ReplicationLink {
    let how = if world.setup.service.copies { Follows::Logical } else { Follows::Physical };
    let peer = match world.setup.service.edges {
        Edges::Address => Peer::Address(found.address.clone()),
        Edges::Endpoint => Peer::Endpoint(found.endpoint.clone()),
    };
    ReplicationLink { peer, how }
}

/// When what is read at `at` was measured, and how often that is done.
fn measured(source: LagSource, at: i64) -> (i64, Millis) {
    match source {
        LagSource::Direct => (at, Millis::ZERO),
        LagSource::Metric { every, late } => {
            let published = at.saturating_sub(ms(late));
            (published.saturating_sub(published.rem_euclid(ms(every).max(1))), every)
        }
    }
}

/// What the service tells at `at` of a member as a standby.
pub(crate) fn told(world: &World, member: &MemberId, at: i64) -> Option<Replication> {
    let (_, view) = world.view_at(at);
    let (found, seen) = (world.instances.get(member)?, view.members.get(member)?);
    let standby = seen.follows.is_some();
    let source_up = seen.follows.as_ref().and_then(|name| view.members.get(name)).is_some_and(|source| source.running);
    // What is received and not replayed is no standby that follows.
    let streaming = standby && seen.streaming && seen.running && source_up && found.stream.replays;
    let received = world.received_at(found, at);
    let positions = standby && world.setup.service.positions;
    let (measured, cadence) = measured(world.setup.service.lag, at);
    let delay = world.setup.timing.replica_delay;
    let lag = match (standby, found.stream.frozen_lag, streaming) {
        (false, _, _) | (true, None, false) => None,
        (true, Some(frozen), _) => Some(Millis::new(frozen)),
        (true, None, true) => Some(delay),
    };
    Some(Replication {
        streaming: if world.setup.service.flatters && standby && !source_up {
            Tri::Unknown
        } else {
            Tri::from(streaming)
        },
        lineage: standby.then(|| world.told(&seen.lineage)),
        received: positions.then(|| position(&seen.lineage, received)),
        applied: positions.then(|| position(&seen.lineage, applied(found, received))),
        lag,
        cadence,
        at: Timestamp::from_millis(measured),
    })
}

#[async_trait]
impl ManagedDatabase for SimDatabase {
    async fn capabilities(&self) -> Result<Capabilities, ProviderError> {
        self.line
            .read(self.point("capabilities"), "capabilities", |world, _| Ok(capabilities(world, &self.routes)))
            .await
    }

    async fn describe(&self) -> Result<Description, ProviderError> {
        self.line
            .read(self.point("describe"), "describe", |world, glass| {
                let (_, view) = world.view_at(glass.at);
                let found = world.instances.get(&self.member).ok_or_else(|| gone("describe", &self.member))?;
                let seen = view.members.get(&self.member).ok_or_else(|| gone("describe", &self.member))?;
                let link = |name: &MemberId| world.instances.get(name).map(|found| link(world, found));
                let followers = view.members.iter().filter(|(_, other)| other.follows.as_ref() == Some(&self.member));
                let up = seen.running && !seen.broken;
                let mut writable = match (&seen.follows, up) {
                    (Some(_), _) => Tri::No,
                    (None, true) if seen.storage_fenced => Tri::No,
                    (None, true) => Tri::Yes,
                    (None, false) if seen.stopped => Tri::No,
                    (None, false) => Tri::Unknown,
                };
                if glass.contradicts {
                    writable = if writable == Tri::Yes { Tri::No } else { Tri::Yes };
                }
                let status = match (&seen.busy, seen.stopped, up) {
                    (Some(busy), _, _) => busy.clone(),
                    (None, true, _) => "stopped".to_owned(),
                    (None, false, true) => "available".to_owned(),
                    (None, false, false) => "unreachable".to_owned(),
                };
                Ok(Description {
                    address: found.address.clone(),
                    identity: Some(found.identity.clone()),
                    lineage: Some(world.told_of(&found.name, seen.follows.is_some(), &seen.lineage)),
                    follows: seen.follows.as_ref().and_then(link),
                    followers: followers.filter_map(|(name, _)| link(name)).collect(),
                    writable,
                    healthy: Tri::from(up || (world.setup.service.flatters && !seen.stopped)),
                    status,
                    endpoint: found.endpoint.clone(),
                    version: found.version.clone(),
                    busy: seen.busy.clone(),
                    newest_backup: found.newest_backup.map(Timestamp::from_millis),
                    cadence: Millis::ZERO,
                    at: Timestamp::from_millis(glass.at),
                })
            })
            .await
    }

    async fn replication(&self) -> Result<Replication, ProviderError> {
        self.line
            .read(self.point("replication"), "replication", |world, glass| {
                world.duties.watched.insert(self.member.clone(), glass.at);
                told(world, &self.member, glass.at).ok_or_else(|| gone("replication", &self.member))
            })
            .await
    }

    async fn poll(&self, op: &OpHandle) -> Result<OpProgress, ProviderError> {
        self.line
            .read(self.point("poll"), "poll", |world, glass| {
                let Some(found) = world.ops.get(op.as_str()).filter(|found| !found.handle_lost) else {
                    return Ok(OpProgress::Lost { saw: format!("404: no operation `{op}`") });
                };
                if glass.contradicts {
                    return Ok(OpProgress::Lost { saw: "Pausing".to_owned() });
                }
                Ok(match &found.state {
                    OpState::Running => {
                        let (gone, all) =
                            (world.now.saturating_sub(found.started), found.ends.saturating_sub(found.started));
                        let percent =
                            gone.saturating_mul(100).checked_div(all).and_then(|part| u8::try_from(part).ok());
                        OpProgress::Running { percent: percent.map(|part| part.min(99)) }
                    }
                    OpState::Finished => OpProgress::Finished,
                    OpState::Failed(why) => OpProgress::Failed { why: why.clone() },
                })
            })
            .await
    }

    async fn promote(&self, request: PromoteRequest) -> Outcome<()> {
        let effect = Effect::Promote { member: request.target().member.clone() };
        self.line.send(self.start("promote", "promote"), effect).await.map(drop)
    }

    async fn swap_roles(&self, request: SwapRequest) -> Outcome<()> {
        let effect = Effect::Swap {
            from: request.from().member.clone(),
            to: request.to().member.clone(),
            forced: request.allow_loss().is_some(),
            within: request.within(),
        };
        self.line.send(self.start("swap-roles", "swap-roles"), effect).await.map(drop)
    }

    async fn swap_fence(&self, _since: Timestamp) -> Result<FenceReading, ProviderError> {
        let point = Point::read(format!("{}.swap-fence", self.member), Plane::Other);
        self.line
            .read(point, "swap-fence", |world, glass| {
                let found = world.instances.get(&self.member).ok_or_else(|| gone("swap-fence", &self.member))?;
                let at = world.now.saturating_sub(ms(world.setup.timing.view_lag)).min(glass.at);
                let (_, view) = world.view_at(at);
                let seen = view.members.get(&self.member).ok_or_else(|| gone("swap-fence", &self.member))?;
                let (grade, detail) = match &seen.follows {
                    _ if glass.contradicts => (Grade::Unconfirmable, "the sources disagree".to_owned()),
                    Some(primary) => (Grade::RoleSwap, format!("demoted under {primary}")),
                    None if seen.storage_fenced => (Grade::Enforced, "event: write fencing succeeded".to_owned()),
                    None => (Grade::Unconfirmable, "no event says that writes are fenced".to_owned()),
                };
                Ok(FenceReading {
                    silent: false,
                    unread: Vec::new(),
                    address: Some(found.address.clone()),
                    identity: Some(found.identity.clone()),
                    lineage: None,
                    planes: Planes::all(grade),
                    end: None,
                    lapses_at: None,
                    detail,
                    at: Timestamp::from_millis(at),
                })
            })
            .await
    }

    async fn attribution(&self, since: Timestamp) -> Result<Option<Attribution>, ProviderError> {
        self.line
            .read(self.point("attribution"), "attribution", |world, glass| {
                let Some(late) = world.setup.service.attribution else {
                    return Err(ProviderError::Unsupported { verb: "attribution" });
                };
                let recorded = |line: &&TruthLine| line.at.saturating_add(ms(late)) <= glass.at;
                let changed =
                    |line: &&TruthLine| line.kind == ChangeKind::Promoted && line.what == self.member.as_str();
                let Some(line) = world.log.iter().rfind(|line| changed(line) && recorded(line)) else {
                    return Ok(None);
                };
                let operation = world.ops.iter().rfind(|(_, op)| op.by == line.by && op.ends <= line.at);
                let (operation, started) =
                    operation.map_or_else(|| ("by hand".to_owned(), line.at), |(name, op)| (name.clone(), op.started));
                let ours = if glass.contradicts { Tri::Unknown } else { Tri::from(line.by != "drift") };
                let started = Timestamp::from_millis(started);
                let found = Attribution { operation, kind: "change of roles".to_owned(), started, ours };
                Ok(Some(found).filter(|found| found.started >= since))
            })
            .await
    }

    async fn gave_up(&self, since: Timestamp) -> Result<Option<String>, ProviderError> {
        self.line
            .read(self.point("gave-up"), "gave-up", |world, glass| {
                if world.setup.service.names_operations {
                    return Err(ProviderError::Unsupported { verb: "gave-up" });
                }
                let ours = world.ops.values().filter(|op| op.changes(&self.member) && op.started >= since.millis());
                let newest = ours.filter(|op| op.ends <= glass.at).max_by_key(|op| op.started);
                Ok(newest.and_then(|op| match &op.state {
                    OpState::Failed(why) => Some(why.clone()),
                    OpState::Running | OpState::Finished => None,
                }))
            })
            .await
    }

    async fn rejoin(&self, request: RejoinRequest) -> Outcome<()> {
        let effect = Effect::Rejoin {
            member: request.target.member.clone(),
            primary: request.primary.member.clone(),
            may_discard: request.may_discard,
        };
        self.line.send(self.start("rejoin", "rejoin"), effect).await.map(drop)
    }

    async fn follow(&self, request: FollowRequest) -> Outcome<()> {
        let effect = Effect::Follow { member: request.target.member.clone(), primary: request.primary.member.clone() };
        self.line.send(self.start("follow", "follow"), effect).await.map(drop)
    }

    async fn rehearse(&self, request: &RehearseMember) -> Result<Rehearsal, ProviderError> {
        let point = Point::read(format!("{}.rehearse", self.member), Plane::Data(self.member.clone()));
        let becomes = &request.becomes;
        self.line.read(point, "rehearse", |world, glass| rehearse::member(world, &self.member, becomes, glass)).await
    }

    async fn snapshot(&self, request: SnapshotRequest) -> Outcome<()> {
        let effect = Effect::Snapshot { member: self.member.clone(), name: request.name };
        self.line.send(self.start("snapshot", "snapshot"), effect).await.map(drop)
    }

    async fn has_snapshot(&self, name: &str) -> Result<Tri, ProviderError> {
        self.line
            .read(self.point("has-snapshot"), "snapshot", |world, _| {
                if world.kept.contains_key(name) {
                    return Ok(Tri::Yes);
                }
                let found = world.instances.get(&self.member).ok_or_else(|| gone("snapshot", &self.member))?;
                Ok(Tri::from(found.snapshots.contains(name)))
            })
            .await
    }

    async fn create_replica(&self, request: CreateReplica) -> Outcome<()> {
        let effect =
            Effect::Life { member: self.member.clone(), change: Life::Create { source: request.source.member } };
        self.line.send(self.start("create-replica", "create-replica"), effect).await.map(drop)
    }

    async fn recovery_window(&self) -> Result<RecoveryWindow, ProviderError> {
        let point = Point::read(format!("{}.recovery-window", self.member), Plane::Other);
        self.line
            .read(point, "recovery-window", |world, glass| {
                if !world.setup.service.lifecycle {
                    return Err(ProviderError::Unsupported { verb: "recovery-window" });
                }
                Ok(RecoveryWindow {
                    earliest: Timestamp::from_millis(world.began),
                    latest: Timestamp::from_millis(world.newest_point(glass.at).max(world.began)),
                    region: None,
                    at: Timestamp::from_millis(glass.at),
                })
            })
            .await
    }

    async fn restore(&self, request: RestoreRequest) -> Outcome<()> {
        let RecoveryPoint { source, at } = request.point;
        let effect = Effect::Life {
            member: self.member.clone(),
            change: Life::Restore { source: source.lineage, at: at.millis() },
        };
        self.line.send(self.start("restore", "restore"), effect).await.map(drop)
    }

    async fn destroy(&self, request: DestroyRequest) -> Outcome<()> {
        let effect = Effect::Life {
            member: self.member.clone(),
            change: Life::Destroy {
                identity: request.target().identity.clone(),
                keep: request.keep().map(str::to_owned),
            },
        };
        self.line.send(self.start("destroy", "destroy"), effect).await.map(drop)
    }

    async fn harden(&self, request: HardenRequest) -> Outcome<()> {
        let effect = Effect::Life { member: self.member.clone(), change: Life::Harden { want: request.want } };
        self.line.send(self.start("harden", "harden"), effect).await.map(drop)
    }

    async fn protections(&self) -> Result<Protections, ProviderError> {
        self.line
            .read(self.point("protections"), "protections", |world, glass| {
                if !world.setup.service.lifecycle {
                    return Err(ProviderError::Unsupported { verb: "protections" });
                }
                let found = world.instances.get(&self.member).ok_or_else(|| gone("protections", &self.member))?;
                let has = found.protections;
                let told = |on: bool| if glass.contradicts { Tri::Unknown } else { Tri::from(on) };
                Ok(Protections {
                    high_availability: told(has.high_availability),
                    deletion_protection: told(has.deletion_protection),
                    point_in_time: told(has.point_in_time),
                    retention: has.retention,
                    at: Timestamp::from_millis(glass.at),
                })
            })
            .await
    }

    async fn preserve(&self, request: PreserveRequest) -> Outcome<()> {
        let effect = Effect::Life {
            member: self.member.clone(),
            change: Life::Preserve { name: request.name, since: request.since.millis() },
        };
        self.line.send(self.start("preserve", "preserve"), effect).await.map(drop)
    }

    async fn raise_sequences(&self, request: RaiseSequences) -> Outcome<()> {
        let floors = request.floors.values;
        let floor = floors.get(SEQUENCE).copied().flatten().map(|last| last.0);
        let unknown = floors.into_keys().find(|name| name != SEQUENCE);
        let change = Life::Raise { floor, unknown, ahead: request.ahead };
        let plane = Plane::Data(self.member.clone());
        let point =
            Point::change(format!("{}.raise-sequences", self.member), plane, (self.member.as_str(), "raise-sequences"));
        self.line.send(point, Effect::Life { member: self.member.clone(), change }).await.map(drop)
    }

    async fn settle(&self) -> Outcome<()> {
        let plane = Plane::Data(self.member.clone());
        let point = Point::change(format!("{}.settle", self.member), plane, (self.member.as_str(), "settle"));
        self.line.send(point, Effect::Settle { member: self.member.clone() }).await.map(drop)
    }

    fn known_endpoint(&self) -> Option<Endpoint> {
        self.line.cloud.look(|truth| Some(truth.member(self.member.as_str())?.instance.endpoint.clone()))
    }

    fn manual(&self, verb: &str) -> Vec<String> {
        vec![format!("sim {verb} {}", self.member)]
    }
}
