//! Opening a store, and hearing of what others changed in it.

use std::{
    sync::{Arc, Weak},
    time::Duration,
};

use dr_core::{base::SystemId, run::Store};
use dr_sql::{Session, Target, identifier};
use tokio::{
    sync::{Mutex, watch},
    task::AbortHandle,
};

use crate::{
    door::{Door, enter},
    error::OpenError,
    schema,
};

/// A store in a PostgreSQL database. Cheap to clone; clones share their connections.
#[derive(Clone, Debug)]
pub struct PostgresStore {
    pub(crate) inner: Arc<Inner>,
}

#[derive(Debug)]
pub(crate) struct Inner {
    pub(crate) target: Target,
    pub(crate) schema: String,
    pub(crate) term: Duration,
    /// The system that the server belongs to, if the role may read it.
    pub(crate) system: Option<SystemId>,
    /// What is appended and posted.
    pub(crate) write: Door,
    /// What is looked up, and what may wait.
    pub(crate) read: Door,
    /// Renewals: they must not wait behind an append.
    pub(crate) lease: Door,
    /// The session of a transaction that is more than one statement. It is taken out meanwhile, so that a call that is dropped half-way ends
    /// its session, and with it the transaction.
    pub(crate) transaction: Mutex<Option<Session>>,
    /// Grows whenever something may have changed.
    pub(crate) generation: watch::Sender<u64>,
    listener: std::sync::Mutex<Option<AbortHandle>>,
}

impl Drop for Inner {
    fn drop(&mut self) {
        let listener = self.listener.get_mut().unwrap_or_else(std::sync::PoisonError::into_inner);
        if let Some(listener) = listener.take() {
            listener.abort();
        }
    }
}

/// A store that is about to be opened.
#[derive(Clone, Debug)]
#[must_use = "nothing is opened before `open`"]
pub struct Opening {
    target: Target,
    schema: String,
    term: Duration,
}

impl PostgresStore {
    /// The store on the server of `target`, in the schema `dr_store`; its leases last for 30 s without being renewed.
    pub fn at(target: Target) -> Opening {
        let target = target.with_application("dr/store");
        Opening { target, schema: "dr_store".into(), term: TERM }
    }
}

impl Opening {
    /// Uses another schema. Engines of one schema share runs and leases; those of two schemas do not see each other.
    pub fn schema(mut self, name: impl Into<String>) -> Self {
        self.schema = name.into();
        self
    }

    /// How long a renewal of a lease lasts. A dead engine's runs wait half as long again until another one may go on. An engine sends nothing
    /// with fewer than 10 s left, and renews when a third has passed: less than 18 s are of no use to it.
    pub fn lasting(mut self, term: Duration) -> Self {
        self.term = term;
        self
    }

    /// Opens the store, and makes its tables if they are not there.
    ///
    /// # Errors
    /// [`OpenError`].
    pub async fn open(self) -> Result<PostgresStore, OpenError> {
        let Self { target, schema, term } = self;
        if !schema::is_name(&schema) {
            return Err(OpenError::Name(schema));
        }
        let session = enter(&target, &schema).await?;
        schema::prepare(&session, &schema).await?;
        let system = system(&session).await;
        let door = || Door::new(&target, &schema);
        let inner = Arc::new(Inner {
            write: door(),
            read: door(),
            lease: door(),
            transaction: Mutex::new(Some(session)),
            generation: watch::Sender::new(0),
            listener: std::sync::Mutex::default(),
            target,
            schema,
            term,
            system,
        });
        let listener = tokio::spawn(listen(Arc::downgrade(&inner))).abort_handle();
        *inner.listener.lock().unwrap_or_else(std::sync::PoisonError::into_inner) = Some(listener);
        Ok(PostgresStore { inner })
    }
}

impl From<PostgresStore> for Store {
    fn from(store: PostgresStore) -> Self {
        Self::of(store)
    }
}

impl Inner {
    /// The channel on which changes are told.
    pub(crate) fn channel(&self) -> String {
        format!("dr_store_{}", self.schema)
    }

    pub(crate) fn touch(&self) {
        touch(&self.generation);
    }
}

fn touch(generation: &watch::Sender<u64>) {
    generation.send_modify(|generation| *generation = generation.wrapping_add(1));
}

/// Hears what other engines tell. What is told while nobody hears is found by [`changed`](dr_core::run::Journal::changed) a second later.
async fn listen(store: Weak<Inner>) {
    loop {
        let Some((target, channel, generation)) =
            store.upgrade().map(|inner| (inner.target.clone(), inner.channel(), inner.generation.clone()))
        else {
            return;
        };
        let heard = generation.clone();
        let session = Session::open_hearing(&target, move || touch(&heard)).await;
        if let Ok(session) = session
            && session.run("listen to the store", &format!("LISTEN {}", identifier(&channel))).await.is_ok()
        {
            touch(&generation);
            while !session.is_closed() {
                tokio::time::sleep(LISTEN_AGAIN).await;
                if store.strong_count() == 0 {
                    return;
                }
            }
        }
        tokio::time::sleep(LISTEN_AGAIN).await;
    }
}

/// What tells this server and its standbys from all others. A role that may not read it has a store of which nobody knows whether it is moved.
async fn system(session: &Session) -> Option<SystemId> {
    let (what, sql) = ("find out which system this is", "SELECT system_identifier::text FROM pg_control_system()");
    let row = session.row(what, sql, &[]).await.ok()?;
    session.get::<String>(what, &row, 0).ok().map(SystemId::new)
}

const TERM: Duration = Duration::from_secs(30);
/// How soon a listener that lost its session opens another one.
const LISTEN_AGAIN: Duration = Duration::from_secs(1);
