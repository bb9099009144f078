//! The ways to the server: sessions that are checked when they are opened and replaced when they end.

use std::sync::Arc;

use dr_sql::{Effect, Param, Session, Target, identifier};
use tokio::sync::Mutex;
use tokio_postgres::Row;

use crate::error::OpenError;

/// One session at a time, for statements that are transactions of their own.
#[derive(Debug)]
pub(crate) struct Door {
    target: Target,
    schema: String,
    open: Mutex<Option<Arc<Session>>>,
}

/// What a statement answered, and whether an earlier try of it may have had its effect.
pub(crate) struct Answered {
    pub(crate) rows: Vec<Row>,
    pub(crate) again: bool,
}

impl Door {
    pub(crate) fn new(target: &Target, schema: &str) -> Self {
        Self { target: target.clone(), schema: schema.to_owned(), open: Mutex::new(None) }
    }

    /// The session, or a new one.
    pub(crate) async fn session(&self) -> Result<Arc<Session>, OpenError> {
        let mut open = self.open.lock().await;
        if let Some(session) = open.as_ref().filter(|session| !session.is_closed()) {
            return Ok(Arc::clone(session));
        }
        let session = Arc::new(enter(&self.target, &self.schema).await?);
        *open = Some(Arc::clone(&session));
        Ok(session)
    }

    /// Takes a session that has ended out of use, unless somebody did already.
    async fn forget(&self, ended: &Arc<Session>) {
        let mut open = self.open.lock().await;
        if open.as_ref().is_some_and(|session| Arc::ptr_eq(session, ended)) {
            *open = None;
        }
    }

    /// Runs one statement, and once more if its session ended before it answered. Every statement of this crate may be run twice.
    pub(crate) async fn ask(
        &self,
        what: &'static str,
        sql: &'static str,
        params: &[Param<'_>],
    ) -> Result<Answered, OpenError> {
        let session = self.session().await?;
        match session.rows(what, sql, params).await {
            Ok(rows) => Ok(Answered { rows, again: false }),
            // The connection is gone, so another one may do better. A server that only does not answer would not answer that one either.
            Err(error) if error.is_passing() => {
                let again = error.effect() == Effect::Unknown;
                self.forget(&session).await;
                let rows = self.session().await?.rows(what, sql, params).await?;
                Ok(Answered { rows, again })
            }
            Err(error) => Err(error.into()),
        }
    }

    /// As [`Door::ask`], where the first try does not matter.
    pub(crate) async fn rows(
        &self,
        what: &'static str,
        sql: &'static str,
        params: &[Param<'_>],
    ) -> Result<Vec<Row>, OpenError> {
        Ok(self.ask(what, sql, params).await?.rows)
    }
}

/// Opens a session in the schema, on a server that writes and keeps what it confirms.
pub(crate) async fn enter(target: &Target, schema: &str) -> Result<Session, OpenError> {
    let session = Session::open(target).await?;
    // What lies in other schemas, a session's own among them, is not taken for ours.
    let path = format!("SET search_path = {}, pg_temp", identifier(schema));
    session.run("enter the store", &path).await?;
    session.run("insist on durable commits", DURABLE).await?;
    let what = "look at the server";
    let row = session.row(what, SERVER, &[]).await?;
    let server = session.label().to_owned();
    if session.get(what, &row, 0)? {
        return Err(OpenError::Standby { server });
    }
    let fsync: String = session.get(what, &row, 1)?;
    if fsync != "on" {
        return Err(OpenError::NotDurable { server, setting: "fsync", value: fsync });
    }
    let pages: String = session.get(what, &row, 2)?;
    if pages != "on" {
        return Err(OpenError::NotDurable { server, setting: "full_page_writes", value: pages });
    }
    Ok(session)
}

/// `on` waits for the synchronous standby's disk, where there is one; `remote_apply` waits for more.
const DURABLE: &str = "SELECT pg_catalog.set_config('synchronous_commit', 'on', false)
     WHERE pg_catalog.current_setting('synchronous_commit') <> 'remote_apply'";
const SERVER: &str = "SELECT pg_catalog.pg_is_in_recovery(), pg_catalog.current_setting('fsync'), \
     pg_catalog.current_setting('full_page_writes')";
