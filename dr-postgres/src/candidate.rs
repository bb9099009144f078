//! What a candidate is asked before it may become the writer: everything that would make its promotion an outage or a loss.
//!
//! ```text
//!   rights       what the control role lacks, all at once                                     grants.rs
//!   standing     settings and states of the candidate alone; settling asks them again         candidate/standing.rs
//!   commands     what others have the promotion run, and wait for                       candidate/commands.rs
//!   position     a position of the primary, written just now, has to be replayed              here
//!   settings     what applications see of the primary and would not see of the candidate      candidate/settings.rs
//!   room         free connections, limits, free disk                                          candidate/room.rs
//!   logins       the applications' sessions against the candidate's own pg_hba.conf           candidate/logins.rs
//!   drops        what is not in the log, or does not work there                               drops.rs
//! ```
//!
//! Each part is bounded in time, and a part that fails is told as untried: it hides no other part.

use std::{sync::Arc, time::Duration};

use dr_core::{
    MemberId, Tri,
    contract::{Effort, Rehearsal},
};
use dr_sql::{ConnInfo, Identity, Lsn, PgError, Probed, REPLAYS, Session, identifier};
use futures_util::future::join_all;
use tokio::time::{Instant, sleep, timeout};

use crate::{
    database::PostgresDatabase,
    grants,
    grants::may_make_slots,
    member::{Member, Peer},
    slots::as_replication_role,
};

pub(crate) mod commands;
pub(crate) mod logins;
mod room;
mod settings;
pub(crate) mod standing;

/// How long one part may take.
const PART_LIMIT: Duration = Duration::from_secs(30);
/// How long the primary may take to answer at all. A silent one is no reason to wait: the rest is rehearsed without it.
const PRIMARY_LIMIT: Duration = Duration::from_secs(3);
/// How long a candidate may take to replay a position of the primary.
const REPLAY_LIMIT: Duration = Duration::from_secs(5);

/// The two sides of a promotion.
#[derive(Debug)]
pub(crate) struct Pair<'m> {
    /// The candidate's member.
    pub(crate) member: &'m Member,
    /// A session to the candidate.
    pub(crate) own: Arc<Session>,
    /// A session to the present writer, if it answers.
    pub(crate) primary: Option<Arc<Session>>,
    /// The present writer's name.
    pub(crate) from: MemberId,
}

impl Pair<'_> {
    /// How a person opens a session to the candidate.
    pub(crate) fn psql(&self) -> String {
        self.member.link.target().psql()
    }

    /// How a person opens a session to the present writer.
    pub(crate) fn psql_primary(&self) -> String {
        self.peer().map_or_else(|| format!("psql   # on {}", self.from), |peer| peer.target.psql())
    }

    /// How a superuser gives rights to the control role: on the primary, and in the database of the control sessions, for rights to
    /// functions are given in one database.
    fn psql_superuser(&self) -> String {
        let control = self.member.link.target();
        let target = self.peer().map_or(control, |peer| &peer.target);
        format!("psql -h {} -p {} -d {} -U SUPERUSER", target.host, target.port, target.database)
    }

    /// The present writer's member, as the candidate knows it.
    pub(crate) fn peer(&self) -> Option<&Peer> {
        self.member.peers.iter().find(|peer| peer.name == self.from)
    }
}

impl PostgresDatabase {
    /// Rehearses this member's promotion in place of `from`.
    pub(crate) async fn rehearse_writer(&self, from: &MemberId, effort: Effort) -> Result<Rehearsal, PgError> {
        let own = self.member.session().await?;
        let who = own.identity().await?;
        crate::database::refuse_version(&self.member, who.version)?;
        let mut found = Rehearsal::default();
        if !who.in_recovery {
            let what = format!("{} is no standby: it writes on timeline {}", self.member.name, who.timeline);
            found.always(what, "a primary cannot be promoted", "make a new plan");
            return Ok(found);
        }
        let primary = self.primary_for(from, &who, &mut found).await;
        let pair = Pair { member: &self.member, own, primary, from: from.clone() };
        found.extend(rehearse(&pair, effort).await);
        Ok(found)
    }

    /// A session to the present writer, if it answers and is what it is taken for.
    async fn primary_for(&self, from: &MemberId, who: &Identity, found: &mut Rehearsal) -> Option<Arc<Session>> {
        let asked = timeout(PRIMARY_LIMIT, async {
            let (_, session) = self.member.peer_session(from).await?;
            let identity = session.identity().await?;
            Ok::<_, PgError>((session, identity))
        });
        let why = match asked.await {
            Ok(Ok((session, theirs))) if theirs.system_identifier == who.system_identifier => return Some(session),
            Ok(Ok((_, theirs))) => {
                let (mine, theirs) = (who.system_identifier, theirs.system_identifier);
                let what = format!("{} belongs to cluster {mine}, {from} to cluster {theirs}", self.member.name);
                found.always(what, "its data is not that of the primary", "correct the addresses in the group file");
                return None;
            }
            Ok(Err(error)) => error.chain(),
            Err(_) => format!("{from} did not answer within {} s", PRIMARY_LIMIT.as_secs()),
        };
        found.untried.push(format!(
            "what {} has and {} lacks (sessions, settings, slots, unlogged tables): {why}",
            from, self.member.name
        ));
        None
    }
}

/// The application logs in to the candidate with its own password: a standby that lets it in refuses only the write.
async fn application(pair: &Pair<'_>) -> Result<Rehearsal, PgError> {
    let mut found = Rehearsal::default();
    let Some(login) = &pair.member.application else { return Ok(found) };
    let seen = login.write_at(pair.member.link.target()).await;
    if seen.accepted == Tri::Unknown {
        found.untried.push(format!("whether the application can log in to {}: {}", pair.member.name, seen.detail));
    } else if !seen.detail.contains(REPLAYS) {
        let what = format!("the application cannot use {}: {}", pair.member.name, seen.detail);
        let helps = format!("correct `[application]`, or pg_hba.conf and the role on {}", pair.member.name);
        found.always(what, "it could not write after the promotion", helps);
    }
    Ok(found)
}

async fn rehearse(pair: &Pair<'_>, effort: Effort) -> Rehearsal {
    let parts: Vec<std::pin::Pin<Box<dyn Future<Output = Rehearsal> + Send + '_>>> = vec![
        Box::pin(part("the rights of the control role", rights(pair))),
        Box::pin(part("the candidate's own settings", standing(pair))),
        Box::pin(part("the commands that a promotion runs", commands::rehearse(pair, effort))),
        Box::pin(part("whether the candidate replays what the primary writes", position(pair, effort))),
        Box::pin(part("the settings that applications see", settings::compare(pair))),
        Box::pin(part("the room for the applications' sessions", room::measure(pair))),
        Box::pin(part("the applications' logins", logins::compare(pair))),
        Box::pin(part("the application's own login", application(pair))),
        Box::pin(part("what the promotion drops", crate::drops::count(pair))),
    ];
    let mut found = Rehearsal::default();
    join_all(parts).await.into_iter().for_each(|part| found.extend(part));
    found
}

async fn part(name: &str, work: impl Future<Output = Result<Rehearsal, PgError>>) -> Rehearsal {
    match timeout(PART_LIMIT, work).await {
        Ok(Ok(found)) => found,
        Ok(Err(error)) => Rehearsal::untried(format!("{name}: {}", error.chain())),
        Err(_) => Rehearsal::untried(format!("{name}: not told within {} s", PART_LIMIT.as_secs())),
    }
}

async fn rights(pair: &Pair<'_>) -> Result<Rehearsal, PgError> {
    let mut found = grants::missing(&pair.own, &pair.psql_superuser()).await?;
    let target = pair.member.link.target();
    if !may_make_slots(&pair.own).await? {
        let text = pair.own.setting("primary_conninfo").await?.unwrap_or_default();
        let login = ConnInfo::parse(&text).ok().and_then(|info| as_replication_role(target, &info));
        let refused = match login {
            Some(login) => Session::open(&login).await.err().map(|error| error.chain()),
            None => Some("primary_conninfo names no role".into()),
        };
        if let Some(why) = refused {
            let role = &target.user;
            let sql = format!("ALTER ROLE {} REPLICATION", identifier(role));
            found.planned(
                format!("neither `{role}` nor the replication role may make a slot on {}: {why}", pair.member.name),
                "the former primary could not follow",
                format!("{} -c {}", pair.psql_superuser(), grants::shell(&sql)),
            );
        }
    }
    Ok(found)
}

async fn standing(pair: &Pair<'_>) -> Result<Rehearsal, PgError> {
    let primary = match &pair.primary {
        Some(primary) => Some(standing::read_only_default(primary).await?),
        None => None,
    };
    standing::look(&pair.own, &pair.psql(), primary.as_ref()).await
}

/// Has the candidate replay a position that the primary had after this look began. A connection that is open at one end only looks
/// healthy until something is sent through it, so with [`Effort::Try`] something is written.
async fn position(pair: &Pair<'_>, effort: Effort) -> Result<Rehearsal, PgError> {
    let Some(primary) = &pair.primary else { return Ok(Rehearsal::default()) };
    let (at, how) = match effort {
        Effort::Look => (primary.identity().await?.position, "had reached"),
        Effort::Try => match primary.probe_write("rehearsal").await? {
            Probed::Written(written) => (written.at, "wrote at"),
            Probed::Replays | Probed::ReadOnly => (primary.identity().await?.position, "had reached"),
        },
    };
    let begun = Instant::now();
    let mut replayed = Lsn::default();
    while begun.elapsed() < REPLAY_LIMIT {
        replayed = pair.own.replayed().await?.unwrap_or_default();
        if replayed >= at {
            return Ok(Rehearsal::default());
        }
        sleep(Duration::from_millis(2)).await;
    }
    let (name, from) = (&pair.member.name, &pair.from);
    let mut found = Rehearsal::default();
    found.planned(
        format!("{name} has replayed up to {replayed}; {from} {how} {at} more than {} s ago", REPLAY_LIMIT.as_secs()),
        "the applications would wait as long as it takes, or for good if the connection between the two is dead",
        format!(
            "{} -c 'SELECT * FROM pg_stat_replication'; {} -c 'SELECT * FROM pg_stat_wal_receiver'",
            pair.psql_primary(),
            pair.psql()
        ),
    );
    Ok(found)
}
