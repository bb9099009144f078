//! PgBouncer as the route of traffic and as the applications' drain: RELOAD changes where it sends, PAUSE and RESUME hold writes back.

use std::{collections::BTreeMap, sync::Arc};

use async_trait::async_trait;
use dr_core::{
    AppReading, AppTier, DrainRequest, MemberId, Millis, OpHandle, Outcome, ProviderError, ResumeRequest, RouteReading,
    RouteRequest, TrafficRouter, Tri, millis,
};

use crate::{
    error::PgError,
    login::lift_login_fences,
    member::{Member, never, now, undone, unread},
    pgbouncer::{PgBouncer, PoolerReading},
};

/// All PgBouncer instances in front of one group: a route and a drain in one.
#[derive(Debug, Clone)]
pub struct PostgresPooler {
    pooler: PgBouncer,
    /// Where each member is reached from the poolers.
    members: BTreeMap<MemberId, (String, u16)>,
    /// The members themselves, for the one act that must come before clients go on: lifting a role fence that travelled in the log.
    servers: BTreeMap<MemberId, Arc<Member>>,
    /// How long PAUSE may wait for running transactions, at most.
    pause_within: Millis,
}

/// A waiting client is turned away by PgBouncer after this long, if nobody says otherwise.
const DEFAULT_WAIT: Millis = Millis::seconds(120);
/// `query_wait_timeout = 0` waits for ever; a drain is bounded nevertheless.
const NO_LIMIT: Millis = Millis::minutes(10);

impl PostgresPooler {
    /// The poolers, and host and port of each member as they reach it.
    #[must_use]
    pub fn new(pooler: PgBouncer, members: BTreeMap<MemberId, (String, u16)>, pause_within: Millis) -> Self {
        Self { pooler, members, servers: BTreeMap::new(), pause_within }
    }

    /// Lets the drain lift role fences on the member that it resumes onto.
    #[must_use]
    pub fn with_servers(mut self, servers: BTreeMap<MemberId, Arc<Member>>) -> Self {
        self.servers = servers;
        self
    }

    fn member_at(&self, reading: &PoolerReading) -> Option<&MemberId> {
        let here = |(_, (host, port)): &(&MemberId, &(String, u16))| *host == reading.host && *port == reading.port;
        self.members.iter().find(here).map(|(member, _)| member)
    }

    async fn route(&self) -> Result<RouteReading, PgError> {
        let readings = self.pooler.readings().await?;
        let members: Vec<Option<&MemberId>> = readings.iter().map(|reading| self.member_at(reading)).collect();
        let first = members.first().copied().flatten();
        let settled = first.is_some() && members.iter().all(|member| *member == first);
        let places: Vec<String> = readings.iter().map(|reading| format!("{}:{}", reading.host, reading.port)).collect();
        Ok(RouteReading {
            member: first.filter(|_| settled).cloned(),
            settled: Tri::from(settled),
            ttl: Millis::ZERO,
            detail: format!("`{}` is sent to {}", self.pooler.database, places.join(", ")),
            at: now(),
        })
    }

    /// Which member each server connection leads to. PgBouncer tells addresses, so names are resolved.
    async fn connected(&self) -> Result<Vec<Option<MemberId>>, PgError> {
        let mut places: BTreeMap<(String, u16), &MemberId> = BTreeMap::new();
        for (member, (host, port)) in &self.members {
            places.insert((host.clone(), *port), member);
            // A name that cannot be resolved here is compared as it is.
            if let Ok(found) = tokio::net::lookup_host((host.as_str(), *port)).await {
                places.extend(found.map(|address| ((address.ip().to_string(), *port), member)));
            }
        }
        let servers = self.pooler.servers().await?;
        Ok(servers.iter().map(|place| places.get(place).map(|member| (*member).clone())).collect())
    }

    async fn point_at(&self, member: &MemberId) -> Outcome<()> {
        let Some((host, port)) = self.members.get(member) else {
            return never(format!("the route names no address for `{member}`"));
        };
        match self.pooler.point_at(host, *port).await {
            Ok(()) => Outcome::Done(()),
            // Some instances may have changed: saying it again is harmless and completes it.
            Err(e) => Outcome::unknown(e.chain()),
        }
    }

    async fn held(&self) -> Result<AppReading, PgError> {
        let readings = self.pooler.readings().await?;
        let held: Vec<bool> = readings.iter().map(PoolerReading::is_held).collect();
        let (all, none) = (held.iter().all(|held| *held), readings.iter().all(PoolerReading::flows));
        // Those that let nothing through while the others do, and the other way round.
        let differ = |(reading, held): &(&PoolerReading, &bool)| {
            if all || none {
                false
            } else if readings.iter().any(|other| other.paused) {
                !**held
            } else {
                !reading.flows()
            }
        };
        let stragglers = readings.iter().zip(&held).zip(&self.pooler.instances).filter(|(state, _)| differ(state));
        let stragglers = stragglers.map(|(_, instance)| instance.label()).collect();
        let waiting: u32 = readings.iter().map(|reading| reading.waiting).sum();
        Ok(AppReading {
            drained: match (all, none) {
                (true, _) => Tri::Yes,
                (false, true) => Tri::No,
                (false, false) => Tri::Unknown,
            },
            stragglers,
            expires: None,
            detail: if readings.iter().any(|reading| reading.disabled) {
                format!("`{}` is disabled: new clients are refused", self.pooler.database)
            } else if readings.iter().all(|reading| !reading.paused) {
                format!("no pooler holds anybody back, {waiting} clients wait for a server")
            } else {
                let holding = held.iter().filter(|held| **held).count();
                format!("{holding} of {} poolers hold {waiting} clients back", held.len())
            },
            at: now(),
        })
    }

    async fn go_on(&self, onto: &MemberId) -> Result<(), PgError> {
        if let Some(member) = self.servers.get(onto) {
            lift_login_fences(member.session().await?.as_ref()).await?;
        }
        self.pooler.resume().await
    }
}

#[async_trait]
impl TrafficRouter for PostgresPooler {
    async fn read(&self) -> Result<RouteReading, ProviderError> {
        self.route().await.map_err(unread("read"))
    }

    async fn apply(&self, request: RouteRequest) -> Outcome<()> {
        self.point_at(&request.writer.target.member).await
    }

    /// The server connections that the poolers hold, in turn; while they hold none, where the next one would go.
    async fn sample(&self, samples: u8) -> Result<Vec<Option<MemberId>>, ProviderError> {
        let mut seen = self.connected().await.map_err(unread("sample"))?;
        if seen.is_empty() {
            seen.push(self.route().await.map_err(unread("sample"))?.member);
        }
        Ok(seen.into_iter().cycle().take(usize::from(samples)).collect())
    }

    fn poll_every(&self) -> Millis {
        millis(1)
    }

    fn manual(&self, verb: &str) -> Vec<String> {
        let each = self.pooler.instances.iter().flat_map(|instance| {
            let console = instance.console_command();
            match verb {
                "apply" => vec![format!("vi {}", instance.file.display()), format!("{console} -c RELOAD")],
                _ => vec![format!("{console} -c 'SHOW DATABASES'")],
            }
        });
        each.collect()
    }
}

#[async_trait]
impl AppTier for PostgresPooler {
    async fn limit(&self) -> Result<Millis, ProviderError> {
        let limit = self.pooler.query_wait_timeout().await.map_err(unread("limit"))?;
        Ok(limit.map_or(NO_LIMIT, Millis::of).min(DEFAULT_WAIT.max(NO_LIMIT)))
    }

    /// A paused PgBouncer stays paused until somebody says RESUME.
    fn drain_expires_by_itself(&self) -> bool {
        false
    }

    async fn read(&self) -> Result<AppReading, ProviderError> {
        self.held().await.map_err(unread("read"))
    }

    async fn drain(&self, request: DrainRequest) -> Outcome<()> {
        let limit = match self.pooler.query_wait_timeout().await {
            Ok(limit) => limit.map(Millis::of),
            Err(e) => return undone(&e),
        };
        if let Some(limit) = limit.filter(|limit| request.budget >= *limit) {
            return never(format!(
                "the gap budget of {} ms is not below PgBouncer's query_wait_timeout of {} ms: clients would see errors first",
                request.budget.count(),
                limit.count()
            ));
        }
        let within = request.within.min(self.pause_within);
        match self.pooler.pause(within.duration()).await {
            Ok(()) => Outcome::Done(()),
            Err(e @ PgError::Late { .. }) => Outcome::unknown(e.chain()),
            Err(e) => undone(&e),
        }
    }

    /// RESUME answers at once; the clients go on when the first of them has a server again.
    async fn resume(&self, request: ResumeRequest) -> Outcome<()> {
        match self.go_on(&request.onto).await {
            Ok(()) => Outcome::Accepted(OpHandle::none()),
            Err(e) => Outcome::unknown(e.chain()),
        }
    }

    async fn fail_fast(&self) -> Outcome<()> {
        match self.pooler.kill().await {
            Ok(()) => Outcome::Done(()),
            Err(e) => Outcome::unknown(e.chain()),
        }
    }

    fn poll_every(&self) -> Millis {
        millis(1)
    }

    fn manual(&self, verb: &str) -> Vec<String> {
        let word = match verb {
            "drain" => "PAUSE",
            "resume" => "RESUME",
            "fail-fast" => "KILL",
            _ => return Vec::new(),
        };
        let database = &self.pooler.database;
        let each = self.pooler.instances.iter();
        each.map(|instance| format!("{} -c '{word} {database}'", instance.console_command())).collect()
    }
}
