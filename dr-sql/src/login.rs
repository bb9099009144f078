//! The fence by roles: NOLOGIN for the applications' roles, open sessions ended (L2b).
//!
//! A change of a role is written to the log and reaches the candidate, so a promoted candidate is fenced too. Each fenced role
//! therefore carries a mark, a setting that travels with it; on the new writer what is marked is cleared, and nothing else.

use std::{collections::BTreeSet, fmt::Debug, sync::Arc, time::Duration};

use async_trait::async_trait;
use dr_core::{
    Cause, Fence, Grade, Millis, Outcome, ProviderError, Tri,
    base::{Json, ResourceAddress, ResourceIdentity},
    contract::{
        ClearFence, Effort, EngageFence, FenceReading, FenceToken, Lineage, Planes, Reach, Rehearsal, ReleaseOrder,
        RetireFence, Tier,
    },
    millis,
};
use tokio_postgres::{error::SqlState, types::Type};

use crate::{
    act::{identifier, literal},
    client::{Link, Session},
    error::PgError,
    lsn::Timeline,
    reading::{lineage, now, undone, unread},
    target::{Rights, Target},
    watch::{SessionWatch, end_sessions, still_a_standby},
};

/// How a fence reaches its server. A [`Link`] is one; a backend that can prove more of its server brings its own.
#[async_trait]
pub trait Access: Debug + Send + Sync + 'static {
    /// Where the server is.
    fn target(&self) -> &Target;

    /// Which resource a server of this history is, where the backend knows by that; otherwise the backend's other looks tell it.
    fn identity(&self, _lineage: &Lineage) -> Option<ResourceIdentity> {
        None
    }

    /// A session to the server.
    ///
    /// # Errors
    /// No connection, no login, or no answer in time.
    async fn session(&self) -> Result<Arc<Session>, PgError>;

    /// The same, unless its server is known to be another one than the configured one.
    ///
    /// # Errors
    /// No session, or [`PgError::Refused`] with the contradiction.
    async fn own_session(&self) -> Result<Arc<Session>, PgError> {
        self.session().await
    }

    /// The same, with all the proof that there can be that its server is the configured one: a change follows.
    ///
    /// # Errors
    /// No session, or no proof.
    async fn proved_session(&self) -> Result<Arc<Session>, PgError> {
        self.session().await
    }

    /// What `proved_session` will need, tried before it is needed. No session: `found` says why.
    async fn rehearse(&self, found: &mut Rehearsal) -> Option<Arc<Session>> {
        match self.session().await {
            Ok(session) => Some(session),
            Err(e) => {
                found.planned(
                    e.chain(),
                    "its fence could not be engaged while writes are held back",
                    format!("make the server answer to the role `{}`", self.target().user),
                );
                None
            }
        }
    }
}

#[async_trait]
impl Access for Link {
    fn target(&self) -> &Target {
        self.target()
    }

    async fn session(&self) -> Result<Arc<Session>, PgError> {
        self.session().await
    }
}

const MARK: &str = "dr.fenced";
const TABLE: &str = "dr_fenced";
const LIMIT: Duration = Duration::from_secs(5);

/// Takes the login away from named roles.
#[derive(Debug)]
pub struct LoginFence {
    access: Arc<dyn Access>,
    address: ResourceAddress,
    roles: Vec<String>,
    watch: SessionWatch,
}

impl LoginFence {
    /// A fence of the server at `address`, reached by `access`, against `roles`: all that its applications use.
    #[must_use]
    pub fn new(access: Arc<dyn Access>, address: ResourceAddress, roles: Vec<String>) -> Self {
        Self { access, address, roles, watch: SessionWatch::default() }
    }

    async fn close(&self, key: &str) -> Result<(), PgError> {
        let session = self.access.proved_session().await?;
        if let Some(lack) = lacks(&session, &self.roles).await?.into_iter().next() {
            let Lack { role, what, helps } = lack;
            let why = format!("the role `{role}` {what}; helps: {helps}");
            return Err(PgError::Refused { server: session.label().into(), why });
        }
        for role in &self.roles {
            if session.may_login(role).await? == Some(true) {
                let mark = mark(&session, role, key);
                let sql = format!("ALTER ROLE {} NOLOGIN; {mark}", identifier(role));
                session.run("take a role's login away", &sql).await?;
            }
        }
        end_sessions(&session, LIMIT).await
    }

    /// Everything on the way of a fence that takes logins away.
    async fn try_out(&self) -> Rehearsal {
        let mut found = Rehearsal::default();
        let Some(session) = self.access.rehearse(&mut found).await else { return found };
        let lacking = match lacks(&session, &self.roles).await {
            Ok(lacking) => lacking,
            Err(e) => {
                found.untried.push(e.chain());
                return found;
            }
        };
        for Lack { role, what, helps } in lacking {
            let why = "the fence could not take its login away, or would lock us out";
            found.planned(format!("role `{role}` on `{}` {what}", self.access.target().name), why, helps);
        }
        found
    }

    async fn look(&self) -> Result<FenceReading, PgError> {
        let session = self.access.own_session().await?;
        let who = session.identity().await?;
        let mut planes = Planes::default();
        let mut open = BTreeSet::new();
        for role in &self.roles {
            if session.may_login(role).await? != Some(false) {
                open.insert(role.clone());
            }
        }
        let mut detail = format!("roles without login: {}", self.roles.join(", "));
        if open.is_empty() {
            planes = Planes::all(Grade::Confirmed);
            // Other roles may still come in: superusers, and whoever is not listed.
            planes.new_sessions = Grade::Enforced;
            planes.open_sessions = self.watch.grade(&session).await?;
        } else {
            detail = format!("roles that can log in: {}", open.into_iter().collect::<Vec<_>>().join(", "));
        }
        Ok(FenceReading {
            silent: false,
            unread: Vec::new(),
            address: Some(self.address.clone()),
            identity: self.access.identity(&who.lineage()),
            lineage: Some(who.lineage()),
            planes,
            end: None,
            lapses_at: None,
            detail,
            at: now(),
        })
    }
}

impl LoginFence {
    fn lifted(&self, lifted: Result<Lifted, PgError>) -> Outcome<()> {
        let name = &self.access.target().name;
        match lifted {
            Ok(Lifted::Done) => Outcome::Done(()),
            Ok(Lifted::Replays) => Outcome::not_done_yet(format_args!("`{name}` still replays"), millis(10)),
            Ok(Lifted::On(lineage)) => Outcome::Conflict(Cause::new(format_args!(
                "`{name}` writes on lineage {lineage}, which began with no promotion after the fence: it stays"
            ))),
            Err(e) => undone(&e),
        }
    }
}

/// Why a role cannot be fenced.
struct Lack {
    role: String,
    what: &'static str,
    helps: String,
}

/// What keeps the role of the session from taking the login of `roles` away and ending their sessions.
async fn lacks(session: &Session, roles: &[String]) -> Result<Vec<Lack>, PgError> {
    const WHAT: &str = "tell its roles";
    // From 16 on CREATEROLE changes only the roles that it administers.
    const SQL: &str = "\
SELECT r.rolname::text,
       m.rolsuper OR (m.rolcreaterole AND NOT r.rolsuper AND (current_setting('server_version_num')::int < 160000
                      OR pg_has_role(m.oid, r.oid, 'MEMBER WITH ADMIN OPTION'))),
       m.rolsuper OR (NOT r.rolsuper AND (pg_has_role(m.oid, r.oid, 'usage') OR pg_has_role(m.oid, 'pg_signal_backend', 'usage'))),
       r.rolname = current_user, current_user::text,
       EXISTS (SELECT FROM pg_language l WHERE l.lanname = 'plpgsql' AND has_language_privilege(l.oid, 'USAGE'))
FROM pg_roles r, pg_roles m WHERE m.rolname = current_user AND r.rolname = ANY ($1)";
    let rows = session.rows(WHAT, SQL, &[(&roles, Type::NAME_ARRAY)]).await?;
    let unmarked = unmarked(session).await?;
    let mut found = Vec::new();
    for role in roles {
        let mut told = None;
        for row in &rows {
            if session.get::<&str>(WHAT, row, 0)? == role {
                told = Some(row);
            }
        }
        let names = "name the applications' roles in `roles`".to_owned();
        let mut lack = |what, helps| found.push(Lack { role: role.clone(), what, helps });
        let Some(row) = told else {
            lack("does not exist", names);
            continue;
        };
        let (changes, ends): (bool, bool) = (session.get(WHAT, row, 1)?, session.get(WHAT, row, 2)?);
        let own = identifier(session.get(WHAT, row, 4)?);
        if session.get(WHAT, row, 3)? {
            lack("is the control role itself", names);
        } else if !changes {
            let grant = format!("ALTER ROLE {own} CREATEROLE; GRANT {} TO {own} WITH ADMIN OPTION", identifier(role));
            lack("may not be changed by the control role", grant);
        } else if !ends {
            lack("has sessions that the control role may not end", format!("GRANT pg_signal_backend TO {own}"));
        } else if !session.get::<bool>(WHAT, row, 5)? {
            lack(
                "could not be given its login back in one call",
                format!("CREATE EXTENSION plpgsql; GRANT USAGE ON LANGUAGE plpgsql TO {own}"),
            );
        } else if let Some(helps) = &unmarked {
            lack("may not be marked as fenced by the control role", format!("{helps} {own}"));
        }
    }
    Ok(found)
}

/// The beginning of the statement that lets the role of the session mark others; none if it may. A setting that no extension has
/// defined is a superuser's, unless it was granted.
async fn unmarked(session: &Session) -> Result<Option<&'static str>, PgError> {
    const WHAT: &str = "tell whether it may mark a role";
    const WHO: &str = "SELECT rolsuper, current_setting('server_version_num')::int >= 150000 FROM pg_roles WHERE rolname = current_user";
    const MAY: &str = "SELECT has_parameter_privilege('dr.fenced', 'SET')";
    if session.rights().tier() == Tier::Managed {
        return Ok(None);
    }
    let row = session.row(WHAT, WHO, &[]).await?;
    Ok(match (session.get(WHAT, &row, 0)?, session.get(WHAT, &row, 1)?) {
        (true, _) => None,
        (false, false) => Some("only a superuser may before PostgreSQL 15: ALTER ROLE … SUPERUSER for"),
        (false, true) => {
            let may: bool = session.get(WHAT, &session.row(WHAT, MAY, &[]).await?, 0)?;
            (!may).then_some("GRANT SET ON PARAMETER dr.fenced TO")
        }
    })
}

/// The statement that marks a role as fenced by us. The mark travels in the log: a setting of the role, and where only a superuser may
/// make one, a row in the schema of the control role.
fn mark(session: &Session, role: &str, key: &str) -> String {
    match session.rights() {
        Rights::Server => format!("ALTER ROLE {} SET {MARK} = {}", identifier(role), literal(key)),
        Rights::Managed { schema } => {
            let (table, role, key) = (format!("{}.{TABLE}", identifier(schema)), literal(role), literal(key));
            format!(
                "CREATE TABLE IF NOT EXISTS {table} (role name PRIMARY KEY, key text NOT NULL); \
                 INSERT INTO {table} VALUES ({role}, {key}) ON CONFLICT (role) DO UPDATE SET key = excluded.key"
            )
        }
    }
}

/// The roles that a fence of ours took the login from, on a standby as on a primary.
///
/// # Errors
/// The server cannot be asked.
pub async fn marked_roles(session: &Session) -> Result<Vec<String>, PgError> {
    const WHAT: &str = "find the roles that were fenced";
    const MARKED: &str = "\
SELECT r.rolname::text FROM pg_db_role_setting s JOIN pg_roles r ON r.oid = s.setrole, unnest(s.setconfig) c
WHERE s.setdatabase = 0 AND starts_with(c, 'dr.fenced=') ORDER BY 1";
    match session.rights() {
        Rights::Server => session.names(WHAT, MARKED).await,
        Rights::Managed { schema } => {
            let table = format!("{}.{TABLE}", identifier(schema));
            let sql = format!("SELECT role::text AS role FROM {table} ORDER BY 1");
            match session.text_rows(WHAT, &sql).await {
                Ok(rows) => Ok(rows.iter().filter_map(|row| row.get("role")).map(str::to_owned).collect()),
                // Nothing was ever marked.
                Err(e) if e.sql_state() == Some(&SqlState::UNDEFINED_TABLE) => Ok(Vec::new()),
                Err(e) => Err(e),
            }
        }
    }
}

/// What was found when logins were to be given back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Lifted {
    /// Every marked role may log in again.
    Done,
    /// The server replays, and can change no role yet. Nothing was changed.
    Replays,
    /// The server carries another history than one that began after the named one. Nothing was changed.
    On(Lineage),
}

/// Gives the login back to every role that a fence of ours took it from, in one message: either on any primary, or only on one whose
/// history began `after` another one of the same system, which ended with a promotion.
///
/// # Errors
/// The roles cannot be read or changed. Of several, all are changed or none.
pub async fn lift_login_fences(session: &Session, after: Option<&Lineage>) -> Result<Lifted, PgError> {
    const WHAT: &str = "give roles their login back";
    let rows = match session.text_rows(WHAT, &lift_sql(session.rights(), after)).await {
        // A transaction that began just before a promotion ended is read-only.
        Err(e) if e.sql_state() == Some(&SqlState::READ_ONLY_SQL_TRANSACTION) => return Ok(Lifted::Replays),
        rows => rows?,
    };
    let told = |column| rows.first().and_then(|row| row.get(column)).unwrap_or_default();
    if told("replays") != "false" {
        return Ok(Lifted::Replays);
    }
    let Some(after) = after else { return Ok(Lifted::Done) };
    let unreadable = || PgError::Unreadable {
        server: session.label().into(),
        what: WHAT,
        saw: format!("{}, timeline {}", told("system"), told("timeline")),
    };
    let system = told("system").parse().map_err(|_| unreadable())?;
    let timeline = Timeline::new(told("timeline").parse().map_err(|_| unreadable())?);
    let now = lineage(system, timeline);
    Ok(if began_after(&now, after) { Lifted::Done } else { Lifted::On(now) })
}

fn began_after(now: &Lineage, after: &Lineage) -> bool {
    now.system == after.system && now.generation > after.generation
}

/// The question who the server is, and the change, which asks the same for itself: statements of one message are one transaction.
fn lift_sql(rights: &Rights, after: Option<&Lineage>) -> String {
    const SYSTEM: &str = "(SELECT system_identifier::text FROM pg_control_system())";
    const TIMELINE: &str = "('x' || substr(pg_walfile_name(pg_current_wal_lsn()), 1, 8))::bit(32)::int";
    let later = after.map_or_else(String::new, |after| {
        let (system, generation) = (literal(after.system.as_str()), after.generation);
        format!("IF {SYSTEM} <> {system} OR {TIMELINE} <= {generation} THEN RETURN; END IF;")
    });
    let (marked, unmark) = match rights {
        Rights::Server => (
            format!(
                "SELECT r.rolname FROM pg_db_role_setting s JOIN pg_roles r ON r.oid = s.setrole, unnest(s.setconfig) c \
                 WHERE s.setdatabase = 0 AND starts_with(c, '{MARK}=')"
            ),
            format!("EXECUTE format('ALTER ROLE %I RESET {MARK}', marked);"),
        ),
        Rights::Managed { schema } => {
            let table = format!("{}.{TABLE}", identifier(schema));
            (format!("SELECT role FROM {table}"), format!("DELETE FROM {table} WHERE role = marked;"))
        }
    };
    let nothing = match rights {
        Rights::Server => String::new(),
        Rights::Managed { schema } => {
            let table = literal(&format!("{}.{TABLE}", identifier(schema)));
            format!("IF to_regclass({table}) IS NULL THEN RETURN; END IF;")
        }
    };
    format!(
        "SELECT {SYSTEM} AS system, pg_is_in_recovery()::text AS replays, \
         CASE WHEN NOT pg_is_in_recovery() THEN {TIMELINE}::text END AS timeline; \
         DO $dr$ DECLARE marked name; BEGIN \
         IF pg_is_in_recovery() THEN RETURN; END IF; {later} {nothing} \
         FOR marked IN {marked} LOOP EXECUTE format('ALTER ROLE %I LOGIN', marked); {unmark} END LOOP; \
         END $dr$"
    )
}

#[async_trait]
impl Fence for LoginFence {
    fn name(&self) -> String {
        "postgres.login".into()
    }

    /// Roles are changed by SQL on the server itself.
    fn offers(&self, reach: Reach) -> Planes {
        match reach.server {
            Tri::No => Planes::default(),
            Tri::Yes | Tri::Unknown => Planes { new_sessions: Grade::Enforced, ..Planes::all(Grade::Confirmed) },
        }
    }

    async fn rehearse(&self, _effort: Effort) -> Result<Rehearsal, ProviderError> {
        Ok(self.try_out().await)
    }

    /// Nothing needs to be remembered: what this fence makes carries its own mark.
    async fn prepare(&self) -> Result<FenceToken, ProviderError> {
        Ok(FenceToken { fence: self.name(), state: Json::default(), known: true })
    }

    async fn engage(&self, request: EngageFence) -> Outcome<()> {
        match self.close(&request.key.to_string()).await {
            Ok(()) => Outcome::Done(()),
            Err(e) => undone(&e),
        }
    }

    async fn inspect(&self) -> Result<FenceReading, ProviderError> {
        self.look().await.map_err(unread("inspect"))
    }

    async fn release(&self, order: ReleaseOrder) -> Outcome<()> {
        let named = &order.target().address;
        if *named != self.address {
            return Outcome::Conflict(Cause::new(format!(
                "the order is for {named}, this is the fence of {}",
                self.address
            )));
        }
        let lift = async { lift_login_fences(self.access.session().await?.as_ref(), None).await };
        self.lifted(lift.await)
    }

    /// The roles live in the log: what was cleared on the new primary this standby replays.
    async fn retire(&self, request: RetireFence) -> Outcome<()> {
        let stands = async {
            let session = self.access.session().await?;
            still_a_standby(&session, &self.access.target().name, &request.target.lineage).await
        };
        match stands.await {
            Ok(None) => Outcome::Done(()),
            Ok(Some(outcome)) => outcome,
            Err(e) => undone(&e),
        }
    }

    /// Roles and their settings are part of the log.
    fn travels(&self) -> bool {
        true
    }

    async fn carried(&self) -> Result<Vec<String>, ProviderError> {
        let marked = async { marked_roles(self.access.own_session().await?.as_ref()).await };
        let marked = marked.await.map_err(unread("carried"))?;
        Ok(marked.iter().map(|role| format!("role `{role}` may not log in")).collect())
    }

    async fn clear(&self, request: ClearFence) -> Outcome<()> {
        let named = &request.target.address;
        if *named != self.address {
            let why = format!("the request is for {named}, this is the fence of {}", self.address);
            return Outcome::Conflict(Cause::new(why));
        }
        let lift = async { lift_login_fences(self.access.own_session().await?.as_ref(), Some(&request.was)).await };
        self.lifted(lift.await)
    }

    fn poll_every(&self) -> Millis {
        millis(50)
    }

    fn manual(&self, verb: &str) -> Vec<String> {
        let word = if verb == "engage" { "NOLOGIN" } else { "LOGIN" };
        let psql = self.access.target().psql();
        self.roles.iter().map(|role| format!("{psql} -c 'ALTER ROLE {} {word}'", identifier(role))).collect()
    }
}
