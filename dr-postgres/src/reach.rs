//! What answers at the addresses by which a member is reached: its own, those of its standbys, those of routes.
//!
//! A stopped directory proves that *its* server is stopped. That nobody writes is proved where writers arrive.

use std::{
    collections::BTreeSet,
    net::IpAddr,
    time::{Duration, Instant},
};

use dr_sql::{ConnInfo, Identity, PgError, Session, Target};
use futures_util::future::join_all;
use tokio::{
    net::{TcpStream, lookup_host},
    time::timeout,
};
use tokio_postgres::error::SqlState;

use crate::member::Member;

/// Host and port.
pub(crate) type Address = (String, u16);

/// What answers at a member's addresses, the worst last.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Heard {
    /// Nobody, or a server that takes no writes.
    Nothing,
    /// A server that starts or stops.
    Changing(String),
    /// Something that cannot be told from a primary: it lives, and turned us away.
    Something(String),
    /// A primary of this very system that is no other member.
    Writer(String),
}

/// How long a host may take to accept a connection: one that drops packets must not hold up a fence.
const ACCEPT: Duration = Duration::from_millis(250);
/// How long what has accepted a connection may take to say anything.
const ANSWER: Duration = Duration::from_secs(2);
/// How long another member may take to say who it is.
const PEER: Duration = Duration::from_secs(1);
/// How long the known addresses are taken as all there are.
const LEARNED: Duration = Duration::from_secs(60);

/// The addresses that other members use, and since when they are known.
#[derive(Debug, Default)]
pub(crate) struct Learned {
    at: Option<Instant>,
    addresses: BTreeSet<Address>,
}

/// Who a server is, down to the start of its process.
#[derive(Debug, PartialEq, Eq)]
struct Who {
    system: String,
    in_recovery: bool,
    started: String,
    port: i32,
    data: Option<String>,
}

impl Member {
    /// Asks the standbys by which address they reach this member, unless that was asked a moment ago. An address once known is kept.
    pub(crate) async fn learn_addresses(&self) {
        let fresh = |learned: &Learned| learned.at.is_some_and(|at| at.elapsed() < LEARNED);
        if fresh(&*self.learned.lock().await) {
            return;
        }
        let told = join_all(self.peer_links.iter().map(|link| async move {
            let asked = async { addresses_of(&*link.session().await?).await };
            timeout(PEER, asked).await.ok().and_then(Result::ok).unwrap_or_default()
        }));
        let told = told.await;
        let mut learned = self.learned.lock().await;
        learned.at = Some(Instant::now());
        let is_peer = |(host, port): &Address| {
            self.peers.iter().any(|peer| (&peer.target.host, peer.target.port) == (host, *port))
        };
        let new = told.into_iter().flatten().filter(|place| !is_peer(place));
        learned.addresses.extend(new);
    }

    /// Who the other members are now, as far as they answer.
    pub(crate) async fn peer_identities(&self) -> Vec<(String, Identity)> {
        let asked = self.peers.iter().zip(&self.peer_links).map(|(peer, link)| async move {
            let asked = async { link.session().await?.identity().await };
            Some((peer.name.to_string(), timeout(PEER, asked).await.ok()?.ok()?))
        });
        join_all(asked).await.into_iter().flatten().collect()
    }

    /// Listens at every address by which this member is reached.
    pub(crate) async fn heard(&self, system: u64) -> Heard {
        self.learn_addresses().await;
        let target = self.link.target();
        let mut places: BTreeSet<Address> = self.learned.lock().await.addresses.clone();
        places.extend(self.also_at.iter().cloned());
        places.insert((target.host.clone(), target.port));
        let heard = join_all(places.into_iter().map(|place| self.heard_at(place, system))).await;
        heard.into_iter().max().unwrap_or(Heard::Nothing)
    }

    async fn heard_at(&self, (host, port): Address, system: u64) -> Heard {
        let target = Target { host: host.clone(), port, ..self.link.target().clone() };
        if host.starts_with('/') {
            let session = timeout(ANSWER, Session::open_plain(&target)).await;
            return self.verdict(session, format!("{host}:{port}"), system).await;
        }
        // A name that nobody knows leads nowhere.
        let Ok(Ok(found)) = timeout(ACCEPT, lookup_host((host.as_str(), port))).await else { return Heard::Nothing };
        let ips: BTreeSet<IpAddr> = found.map(|address| address.ip()).collect();
        let heard = join_all(ips.into_iter().map(|ip| {
            let (host, target) = (&host, &target);
            async move {
                let Ok(Ok(stream)) = timeout(ACCEPT, TcpStream::connect((ip, port))).await else {
                    return Heard::Nothing;
                };
                let session = timeout(ANSWER, Session::over(stream, target)).await;
                let at =
                    if ip.to_string() == *host { format!("{host}:{port}") } else { format!("{host}:{port} ({ip})") };
                self.verdict(session, at, system).await
            }
        }));
        heard.await.into_iter().max().unwrap_or(Heard::Nothing)
    }

    async fn verdict(
        &self,
        session: Result<Result<Session, PgError>, tokio::time::error::Elapsed>,
        at: String,
        system: u64,
    ) -> Heard {
        let session = match session {
            Err(_) => return Heard::Nothing,
            Ok(Err(e)) if e.sql_state() == Some(&SqlState::CANNOT_CONNECT_NOW) => {
                return Heard::Changing(format!("a server starts or stops at {at}"));
            }
            Ok(Err(e)) if e.is_silence() => return Heard::Nothing,
            Ok(Err(e)) => return Heard::Something(format!("something lives at {at}: {}", e.chain())),
            Ok(Ok(session)) => session,
        };
        let who = match timeout(ANSWER, who(&session)).await {
            Ok(Ok(who)) => who,
            Ok(Err(e)) if e.is_silence() => return Heard::Nothing,
            Ok(Err(e)) => return Heard::Something(format!("something lives at {at}: {}", e.chain())),
            Err(_) => return Heard::Something(format!("something lives at {at} and does not say who it is")),
        };
        if who.in_recovery || who.system != system.to_string() || self.is_peer(&who).await {
            return Heard::Nothing;
        }
        let from = who.data.map(|data| format!(" from {data}")).unwrap_or_default();
        Heard::Writer(format!("a primary of system {system} runs{from} and takes writes at {at}"))
    }

    /// Whether another member is this very server process.
    async fn is_peer(&self, found: &Who) -> bool {
        let asked = join_all(self.peer_links.iter().map(|link| async move {
            let asked = async { who(&*link.session().await?).await };
            timeout(PEER, asked).await.is_ok_and(|told| told.is_ok_and(|told| told == *found))
        }));
        asked.await.contains(&true)
    }
}

async fn who(session: &Session) -> Result<Who, PgError> {
    const WHAT: &str = "tell which server process it is";
    const SQL: &str = "\
SELECT (SELECT system_identifier FROM pg_control_system())::text, pg_is_in_recovery(), pg_postmaster_start_time()::text,
       current_setting('port')::int, (SELECT setting FROM pg_settings WHERE name = 'data_directory')";
    let row = session.row(WHAT, SQL, &[]).await?;
    Ok(Who {
        system: session.get(WHAT, &row, 0)?,
        in_recovery: session.get(WHAT, &row, 1)?,
        started: session.get(WHAT, &row, 2)?,
        port: session.get(WHAT, &row, 3)?,
        data: session.get(WHAT, &row, 4)?,
    })
}

/// The addresses from which a standby receives, as its receiver and its configuration name them.
async fn addresses_of(standby: &Session) -> Result<Vec<Address>, PgError> {
    const WHAT: &str = "tell whom it reaches";
    const SQL: &str = "\
SELECT coalesce((SELECT setting FROM pg_settings WHERE name = 'primary_conninfo'), ''), coalesce(r.sender_host, ''),
       coalesce(r.sender_port, 0)
FROM (SELECT 1) one LEFT JOIN pg_stat_wal_receiver r ON true WHERE pg_is_in_recovery()";
    let mut found = Vec::new();
    for row in standby.rows(WHAT, SQL, &[]).await? {
        let conninfo: String = standby.get(WHAT, &row, 0)?;
        found.extend(ConnInfo::parse(&conninfo).ok().map(|info| info.address()));
        let port: i32 = standby.get(WHAT, &row, 2)?;
        found.extend(u16::try_from(port).ok().zip(standby.get::<String>(WHAT, &row, 1).ok()).map(|(p, h)| (h, p)));
    }
    Ok(found.into_iter().filter(|(host, port)| !host.is_empty() && *port != 0).collect())
}
