//! The fence by roles: NOLOGIN for the applications' roles, open sessions ended (L2b).
//!
//! A change of a role is written to the log and reaches the candidate, so a promoted candidate is fenced too. Each fenced role
//! therefore carries a mark, a setting that travels with it; whoever is promoted lifts what is marked, and nothing else.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use async_trait::async_trait;
use dr_core::{
    Effort, EngageFence, Fence, FenceReading, FenceToken, Grade, Json, Millis, Outcome, Planes, ProviderError,
    Rehearsal, ReleaseOrder, RetireFence, millis,
};

use crate::{
    act::{identifier, literal},
    client::Session,
    error::PgError,
    fence::{SessionWatch, end_sessions, not_its_own, still_a_standby},
    manual,
    member::{Member, identity, now, undone, unread},
};

const MARK: &str = "dr.fenced";
const LIMIT: Duration = Duration::from_secs(5);

/// Takes the login away from named roles.
#[derive(Debug)]
pub struct LoginFence {
    member: Arc<Member>,
    roles: Vec<String>,
    watch: SessionWatch,
}

impl LoginFence {
    /// A fence of `member` against `roles`, all that its applications use.
    #[must_use]
    pub fn new(member: Arc<Member>, roles: Vec<String>) -> Self {
        Self { member, roles, watch: SessionWatch::default() }
    }

    async fn close(&self, key: &str) -> Result<(), PgError> {
        let (session, _) = self.member.place().await?;
        for role in &self.roles {
            if session.may_login(role).await? == Some(true) {
                let (name, mark) = (identifier(role), literal(key));
                let sql = format!("ALTER ROLE {name} NOLOGIN; ALTER ROLE {name} SET {MARK} = {mark}");
                session.run("take a role's login away", &sql).await?;
            }
        }
        end_sessions(&session, LIMIT).await
    }

    async fn look(&self) -> Result<FenceReading, PgError> {
        let session = self.member.own_session().await?;
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
            address: Some(self.member.address()),
            identity: Some(identity(&who.lineage())),
            lineage: Some(who.lineage()),
            planes,
            end: None,
            lapses_at: None,
            detail,
            at: now(),
        })
    }
}

/// Gives the login back to every role that a fence of ours took it from. On a standby nothing is done.
///
/// # Errors
/// The roles cannot be read or changed.
pub(crate) async fn lift_login_fences(session: &Session) -> Result<(), PgError> {
    let marked = marked_roles(session).await?;
    lift(session, &marked).await
}

/// The roles that a fence of ours took the login from; none on a standby, which cannot give it back.
pub(crate) async fn marked_roles(session: &Session) -> Result<Vec<String>, PgError> {
    const MARKED: &str = "\
SELECT r.rolname::text FROM pg_db_role_setting s JOIN pg_roles r ON r.oid = s.setrole, unnest(s.setconfig) c
WHERE s.setdatabase = 0 AND starts_with(c, 'dr.fenced=') AND NOT pg_is_in_recovery()";
    session.names("find the roles that were fenced", MARKED).await
}

pub(crate) async fn lift(session: &Session, marked: &[String]) -> Result<(), PgError> {
    for role in marked {
        let name = identifier(role);
        let sql = format!("ALTER ROLE {name} LOGIN; ALTER ROLE {name} RESET {MARK}");
        session.run("give a role its login back", &sql).await?;
    }
    Ok(())
}

#[async_trait]
impl Fence for LoginFence {
    fn name(&self) -> String {
        "postgres.login".into()
    }

    fn promises(&self) -> Planes {
        Planes { new_sessions: Grade::Enforced, ..Planes::all(Grade::Confirmed) }
    }

    async fn rehearse(&self, _effort: Effort) -> Result<Rehearsal, ProviderError> {
        Ok(self.member.rehearse_login(&self.roles).await)
    }

    /// Nothing needs to be remembered: what this fence makes carries its own mark.
    async fn prepare(&self) -> Result<FenceToken, ProviderError> {
        Ok(FenceToken { fence: self.name(), state: Json::default() })
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
        if let Some(conflict) = not_its_own(&self.member, &order) {
            return conflict;
        }
        let lift = async { lift_login_fences(self.member.session().await?.as_ref()).await };
        lift.await.map_or_else(|e| undone(&e), Outcome::Done)
    }

    /// The roles live in the log: the promotion lifted the fence on the new primary, and this standby replays that.
    async fn retire(&self, request: RetireFence) -> Outcome<()> {
        match still_a_standby(&self.member, &request.target.lineage).await {
            Ok(None) => Outcome::Done(()),
            Ok(Some(outcome)) => outcome,
            Err(e) => undone(&e),
        }
    }

    fn poll_every(&self) -> Millis {
        millis(50)
    }

    fn manual(&self, verb: &str) -> Vec<String> {
        let word = if verb == "engage" { "NOLOGIN" } else { "LOGIN" };
        let psql = manual::psql(&self.member);
        self.roles.iter().map(|role| format!("{psql} -c 'ALTER ROLE {} {word}'", identifier(role))).collect()
    }
}
