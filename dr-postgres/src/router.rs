//! PgBouncer as the route of traffic and as the applications' drain: RELOAD changes where it sends, PAUSE and RESUME hold writes back.

use std::{collections::BTreeMap, sync::Arc};

use async_trait::async_trait;
use dr_core::{
    AppTier, MemberId, Millis, Outcome, ProviderError, TrafficRouter, Tri,
    contract::{
        AppReading, DrainRequest, Rehearsal, RehearseRoute, ResumeRequest, RouteReading, RouteRequest, WriteProbe,
    },
    millis,
};
use dr_sql::{ApplicationLogin, PgError, Session, never, now, undone, unread};
use futures_util::future::join_all;

use crate::{
    candidate::{Pair, logins},
    member::Member,
    pgbouncer::{Course, Instance, PgBouncer, PoolerReading, Stop, addresses, is_same},
};

/// All PgBouncer instances in front of one group: a route and a drain in one.
#[derive(Debug, Clone)]
pub struct PostgresPooler {
    pooler: PgBouncer,
    /// Where each member is reached from the poolers.
    members: BTreeMap<MemberId, (String, u16)>,
    /// The members themselves: who has room for the poolers' sessions, and whom its rules let in, only a server can say.
    servers: BTreeMap<MemberId, Arc<Member>>,
    /// How long PAUSE may wait for running transactions, at most.
    pause_within: Millis,
    /// The login whose writes prove that applications can write.
    application: Option<ApplicationLogin>,
}

/// How many more sessions a server takes from roles that are no superusers.
async fn free_connections(session: &Session) -> Result<i64, PgError> {
    const WHAT: &str = "tell how many sessions it still takes";
    const SQL: &str = "\
SELECT current_setting('max_connections')::int8 - current_setting('superuser_reserved_connections')::int8
       - coalesce(current_setting('reserved_connections', true)::int8, 0)
       - (SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend')";
    let row = session.row(WHAT, SQL, &[]).await?;
    session.get(WHAT, &row, 0)
}

/// What every process said, in their order.
type Readings = Vec<Result<PoolerReading, PgError>>;

/// A waiting client is turned away by PgBouncer after this long, if nobody says otherwise.
const DEFAULT_WAIT: Millis = Millis::seconds(120);
/// `query_wait_timeout = 0` waits for ever; a drain is bounded nevertheless.
const NO_LIMIT: Millis = Millis::minutes(10);

impl PostgresPooler {
    /// The poolers, and host and port of each member as they reach it.
    #[must_use]
    pub fn new(pooler: PgBouncer, members: BTreeMap<MemberId, (String, u16)>, pause_within: Millis) -> Self {
        Self { pooler, members, servers: BTreeMap::new(), pause_within, application: None }
    }

    /// Asks these members before a move what the poolers would meet there.
    #[must_use]
    pub fn with_servers(mut self, servers: BTreeMap<MemberId, Arc<Member>>) -> Self {
        self.servers = servers;
        self
    }

    /// Proves after a move that an application can write, through every process.
    #[must_use]
    pub fn with_application(mut self, login: Option<ApplicationLogin>) -> Self {
        self.application = login;
        self
    }

    /// The member that a process sends to. An entry may call it otherwise than the group file does, so addresses are compared too.
    async fn member_at(&self, reading: &PoolerReading) -> Option<&MemberId> {
        let sent = (reading.host.as_str(), reading.port);
        let as_written = self.members.iter().find(|(_, (host, port))| (host.as_str(), *port) == sent);
        if let Some((member, _)) = as_written {
            return Some(member);
        }
        for (member, (host, port)) in &self.members {
            if is_same(sent, (host, *port)).await {
                return Some(member);
            }
        }
        None
    }

    async fn route(&self) -> Result<RouteReading, PgError> {
        let readings = self.answered().await?;
        let (mut members, mut places) = (Vec::new(), Vec::new());
        for (instance, reading) in self.pooler.instances.iter().zip(&readings) {
            match reading {
                Ok(reading) => {
                    members.push(self.member_at(reading).await);
                    places.push(format!("{}:{}", reading.host, reading.port));
                }
                Err(e) => {
                    members.push(None);
                    places.push(format!("nobody knows where by {} ({})", instance.label(), e.chain()));
                }
            }
        }
        let first = members.first().copied().flatten();
        let settled = first.is_some() && members.iter().all(|member| *member == first);
        Ok(RouteReading {
            member: first.filter(|_| settled).cloned(),
            settled: Tri::from(settled),
            ttl: Millis::ZERO,
            detail: format!("`{}` is sent to {}", self.pooler.database, places.join(", ")),
            at: now(),
        })
    }

    /// What every process says; an error only if none answers.
    async fn answered(&self) -> Result<Readings, PgError> {
        let mut readings = self.pooler.each_reading().await;
        if readings.iter().any(Result::is_ok) {
            return Ok(readings);
        }
        match readings.pop() {
            Some(Err(e)) => Err(e),
            Some(Ok(_)) | None => Err(PgError::Config("the route names no pooler".into())),
        }
    }

    /// Which member each server connection leads to. PgBouncer tells addresses, so names are resolved.
    async fn connected(&self) -> Result<Vec<Option<MemberId>>, PgError> {
        let mut places: BTreeMap<(String, u16), &MemberId> = BTreeMap::new();
        for (member, (host, port)) in &self.members {
            places.insert((host.clone(), *port), member);
            let found = addresses(host, *port).await;
            places.extend(found.into_iter().map(|address| ((address.to_string(), *port), member)));
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
        let readings = self.answered().await?;
        let told = || readings.iter().filter_map(|reading| reading.as_ref().ok());
        let complete = told().count() == readings.len();
        let all = complete && told().all(PoolerReading::is_held);
        let none = complete && told().all(PoolerReading::flows);
        let pausing = told().any(|reading| reading.paused);
        // Those that let nothing through while the others do, and the other way round; and whoever does not answer.
        let differs = |reading: &Result<PoolerReading, PgError>| match reading {
            Err(_) => true,
            Ok(_) if all || none => false,
            Ok(reading) if pausing => !reading.is_held(),
            Ok(reading) => !reading.flows(),
        };
        let by_name = || self.pooler.instances.iter().zip(&readings);
        let stragglers = by_name().filter(|(_, reading)| differs(reading)).map(|(instance, _)| instance.label());
        Ok(AppReading {
            drained: match (all, none) {
                (true, _) => Tri::Yes,
                (false, true) => Tri::No,
                (false, false) => Tri::Unknown,
            },
            stragglers: stragglers.collect(),
            expires: None,
            detail: self.words(&readings),
            at: now(),
        })
    }

    /// What the processes do together, and each by its name.
    fn words(&self, readings: &Readings) -> String {
        let told = || readings.iter().filter_map(|reading| reading.as_ref().ok());
        let waiting: u32 = told().map(|reading| reading.waiting).sum();
        let together = if told().all(|reading| !reading.paused && !reading.disabled) {
            format!("no pooler holds anybody back, {waiting} clients wait for a server")
        } else {
            let holding = told().filter(|reading| reading.is_held()).count();
            format!("{holding} of {} poolers hold {waiting} clients back", readings.len())
        };
        let each = self.pooler.instances.iter().zip(readings).map(|(instance, reading)| match reading {
            Ok(reading) => format!("{}: {}", instance.label(), reading.words()),
            Err(e) => format!("{} cannot be asked: {}", instance.label(), e.chain()),
        });
        format!("{together} ({})", each.collect::<Vec<_>>().join("; "))
    }

    /// Resumes one process, unless it would send its clients to another member: RELOAD has not come into effect there.
    async fn let_through(&self, instance: &Instance, onto: &MemberId) -> Result<(), PgError> {
        let reading = instance.read(&self.pooler.database).await?;
        match self.member_at(&reading).await {
            Some(member) if member != onto => {
                let why = format!(
                    "it still sends `{}` to `{member}` and stays {}: RESUME would send its clients there, and not to `{onto}`",
                    self.pooler.database,
                    reading.words()
                );
                Err(PgError::Refused { server: instance.label(), why })
            }
            Some(_) | None => instance.resume(&self.pooler.database).await,
        }
    }

    /// Writes through one process. Where that fails, the server behind it is asked too: PgBouncer keeps the server's words to itself.
    async fn write_through(&self, instance: &Instance, login: &ApplicationLogin) -> WriteProbe {
        let mut probe = login.clone().through(&self.pooler.database).write_at(instance.console.target()).await;
        if probe.accepted != Tri::Yes
            && let Ok(reading) = instance.read(&self.pooler.database).await
        {
            let member = self.member_at(&reading).await.and_then(|member| self.servers.get(member));
            let mut server =
                member.map_or_else(|| instance.console.target().clone(), |member| member.link.target().clone());
            (server.host, server.port) = (reading.host, reading.port);
            let direct = login.write_at(&server).await;
            probe.detail = format!("{}; without the pooler: {}", probe.detail, direct.detail);
        }
        probe
    }

    fn stop_at(&self, member: &MemberId) -> Option<Stop> {
        let (host, port) = self.members.get(member)?.clone();
        Some(Stop { member: member.clone(), host, port })
    }

    /// Whether the coming writer has room for the sessions that the poolers hold now.
    async fn room_at(&self, to: &MemberId, found: &mut Rehearsal) {
        let asked = async {
            let member = self.servers.get(to)?;
            let free = async { free_connections(member.session().await?.as_ref()).await };
            Some(free.await)
        };
        let free = match asked.await {
            Some(Ok(free)) => free,
            Some(Err(e)) => {
                return found.untried.push(format!("whether `{to}` has room for the poolers' sessions: {}", e.chain()));
            }
            None => {
                return found
                    .untried
                    .push(format!("whether `{to}` has room for the poolers' sessions: it is not ours to ask"));
            }
        };
        let held = self.pooler.each_reading().await;
        let held =
            held.iter().filter_map(|reading| reading.as_ref().ok()).map(|reading| i64::from(reading.servers.max(1)));
        let held: i64 = held.sum();
        if free < held {
            found.planned(
                format!("`{to}` has room for {free} more sessions, and the poolers hold {held}"),
                "clients would get `too many connections` after the promotion",
                "SELECT usename, count(*) FROM pg_stat_activity GROUP BY 1, on that member; end what is not needed, or raise max_connections",
            );
        }
    }
}

impl PostgresPooler {
    /// A process between two clients holds no session, and the next one may be turned away: what its pools have logged in as is tried
    /// against the rules of the coming writer.
    async fn logins_at(&self, from: &MemberId, to: &Stop, found: &mut Rehearsal) {
        let (Some(old), Some(new)) = (self.servers.get(from), self.servers.get(&to.member)) else { return };
        let asked = async {
            let logins = self.pooler.logins(&to.host, to.port).await?;
            let (own, primary) = (new.session().await?, Some(old.session().await?));
            logins::compare_pooled(&Pair { member: new, own, primary, from: from.clone() }, logins).await
        };
        match asked.await {
            Ok(told) => found.extend(told),
            // What is missing for it is told with the other rights.
            Err(error) if error.is_denied() => {}
            Err(error) => {
                let why = format!("whether `{}` lets in whom the poolers log in as: {}", to.member, error.chain());
                found.untried.push(why);
            }
        }
    }
}

impl PostgresPooler {
    /// The login that proves the move afterwards has to get through every process before it.
    async fn enter(&self, found: &mut Rehearsal) {
        let Some(login) = &self.application else { return };
        let login = login.clone().through(&self.pooler.database);
        for instance in &self.pooler.instances {
            if let Some(why) = login.refusal_at(instance.console.target()).await {
                found.planned(
                    format!("the application cannot write through {} now: {why}", instance.label()),
                    "the write that proves the move would be refused after it, and the run would stop there",
                    "correct `[application]`, or the pooler's auth_file or auth_query",
                );
            }
        }
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

    async fn rehearse(&self, request: &RehearseRoute) -> Result<Rehearsal, ProviderError> {
        let unnamed = |member: &MemberId| ProviderError::Refused {
            verb: "rehearse",
            why: format!("the route names no address for `{member}`"),
        };
        let from = self.stop_at(&request.from).ok_or_else(|| unnamed(&request.from))?;
        let to = self.stop_at(&request.to).ok_or_else(|| unnamed(&request.to))?;
        let mut found = Rehearsal::default();
        if (&from.host, from.port) == (&to.host, to.port) {
            found.planned(
                format!("the route names {}:{} for `{}` and for `{}`", to.host, to.port, request.from, request.to),
                "traffic would stay where it is",
                "correct `member` of the route",
            );
            return Ok(found);
        }
        self.room_at(&request.to, &mut found).await;
        self.logins_at(&request.from, &to, &mut found).await;
        found.extend(self.pooler.rehearse(&Course { from, to, login: self.application.clone() }, request.effort).await);
        // What holds clients back now is told already, and would keep this login waiting.
        if found.obstacles.is_empty() {
            self.enter(&mut found).await;
        }
        Ok(found)
    }

    async fn write(&self) -> Result<Vec<WriteProbe>, ProviderError> {
        let login = self.application.as_ref().ok_or(ProviderError::Unsupported { verb: "write" })?;
        Ok(join_all(self.pooler.instances.iter().map(|instance| self.write_through(instance, login))).await)
    }

    /// The server connections that the poolers hold, in turn; while they hold none, where the next one would go.
    /// One sample for each server connection of each process: whatever the number asked for, one that leads elsewhere is not left out.
    async fn sample(&self, _samples: u8) -> Result<Vec<Option<MemberId>>, ProviderError> {
        self.connected().await.map_err(unread("sample"))
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
        match self.pooler.each(|instance| self.let_through(instance, &request.onto)).await {
            Ok(()) => Outcome::accepted(),
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
        let words: &[&str] = match verb {
            "drain" => &["PAUSE"],
            "resume" => &["ENABLE", "RESUME"],
            "fail-fast" => &["DISABLE", "KILL"],
            _ => return Vec::new(),
        };
        let database = &self.pooler.database;
        let said = |instance: &Instance, word: &&str| format!("{} -c '{word} {database}'", instance.console_command());
        let each = self.pooler.instances.iter();
        each.flat_map(|instance| words.iter().map(|word| said(instance, word)).collect::<Vec<_>>()).collect()
    }
}
