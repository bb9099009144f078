//! Control sessions: fresh, direct, short-lived; every statement has a deadline on our side.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
    sync::Mutex,
    task::JoinHandle,
    time::{Instant, timeout},
};
use tokio_postgres::{
    AsyncMessage, Client, Config, Connection, NoTls, Row, SimpleQueryMessage, Statement,
    tls::MakeTlsConnect,
    types::{ToSql, Type},
};

use crate::{
    act::identifier,
    error::PgError,
    look::Identity,
    lsn::{Fork, Timeline},
    target::{Rights, SslMode, Target},
    tls,
};

/// One session. Dropping it ends the session.
#[derive(Debug)]
pub struct Session {
    label: Arc<str>,
    user: Arc<str>,
    rights: Rights,
    client: Client,
    answer_within: Duration,
    /// A statement did not answer in time: whatever answers next may be its answer.
    stuck: AtomicBool,
    prepared: std::sync::Mutex<BTreeMap<&'static str, Statement>>,
    /// The last answer of [`Session::identity`], and when it was asked for.
    pub(crate) last_identity: Mutex<Option<(Instant, Identity)>>,
    /// The histories that were read: those of timelines never change.
    pub(crate) histories: std::sync::Mutex<BTreeMap<Timeline, Vec<Fork>>>,
    /// The role may not execute what the fuller of the two questions who the server is needs.
    pub(crate) lesser: AtomicBool,
    /// The role was seen to be shown what others do.
    pub(crate) sees_statistics: AtomicBool,
    driver: JoinHandle<()>,
}

impl Drop for Session {
    fn drop(&mut self) {
        self.driver.abort();
    }
}

/// A typed parameter.
pub type Param<'p> = (&'p (dyn ToSql + Sync), Type);

/// A search_path that names the catalogue behind other schemas lets what lies in them answer in its place; one that does not name it
/// has it first.
const CATALOGUE_FIRST: &str = r#"
SELECT pg_catalog.set_config('search_path', pg_catalog.ltrim(pg_catalog.regexp_replace(pg_catalog.current_setting('search_path'),
       '(^|,)[[:space:]]*"?pg_catalog"?[[:space:]]*(?=,|$)', '', 'g'), ', '), false)"#;

impl Session {
    /// Opens a session and bounds its statements on the server's side too.
    ///
    /// # Errors
    /// No connection, no login, or no answer in time.
    pub async fn open(target: &Target) -> Result<Self, PgError> {
        let session = Self::connect(target).await?;
        let limit = target.answer_within.as_millis();
        let prologue = format!(
            "SET statement_timeout = {limit}; SET lock_timeout = {limit}; \
             SET idle_in_transaction_session_timeout = {limit}; \
             SET default_transaction_isolation = 'read committed'"
        );
        session.run("set the session's limits", &prologue).await?;
        // On its own: statements sent together are one transaction, and a standby runs no query in a serializable one.
        session.run("name the catalogue first", CATALOGUE_FIRST).await?;
        Ok(session)
    }

    /// Opens a session and sets nothing on it: it has what the server gives its role and database. A PgBouncer's console, which knows
    /// no settings of PostgreSQL, is entered so too.
    ///
    /// # Errors
    /// No connection, no login, or no answer in time.
    pub async fn open_plain(target: &Target) -> Result<Self, PgError> {
        Self::connect(target).await
    }

    /// Opens a session that calls `heard` for every notification, such as those of a channel that it begins to `LISTEN` to. A session that
    /// ends hears nothing any more: whoever listens opens another one, and looks at what it may have missed.
    ///
    /// # Errors
    /// No connection, no login, or no answer in time.
    pub async fn open_hearing(target: &Target, heard: impl Fn() + Send + 'static) -> Result<Self, PgError> {
        Self::connect_and(target, heard).await
    }

    async fn connect(target: &Target) -> Result<Self, PgError> {
        Self::connect_and(target, || ()).await
    }

    async fn connect_and(target: &Target, heard: impl Fn() + Send + 'static) -> Result<Self, PgError> {
        let late = || PgError::ConnectTimeout { server: target.label(), after: target.connect_within };
        timeout(target.connect_within, Self::connect_now(target, heard)).await.map_err(|_| late())?
    }

    async fn connect_now(target: &Target, heard: impl Fn() + Send + 'static) -> Result<Self, PgError> {
        let config = config(target).await?;
        let failed = |source| PgError::Connect { server: target.label(), source: Box::new(source) };
        if target.ssl == SslMode::Disable || target.host.starts_with('/') {
            let (client, connection) = config.connect(NoTls).await.map_err(failed)?;
            return Ok(Self::of(target, client, tokio::spawn(attend(connection, heard))));
        }
        let (client, connection) = config.connect(tls::connector(target)?).await.map_err(failed)?;
        Ok(Self::of(target, client, tokio::spawn(attend(connection, heard))))
    }

    /// Logs in over a connection that was made already, which leads to one address of several.
    ///
    /// # Errors
    /// No login; the caller bounds the time.
    pub async fn over(stream: TcpStream, target: &Target) -> Result<Self, PgError> {
        let config = config(target).await?;
        let failed = |source| PgError::Connect { server: target.label(), source: Box::new(source) };
        if target.ssl == SslMode::Disable {
            let (client, connection) = config.connect_raw(stream, NoTls).await.map_err(failed)?;
            return Ok(Self::of(target, client, tokio::spawn(async move { drop(connection.await) })));
        }
        let mut tls = tls::connector(target)?;
        let wrong = |e| PgError::Config(format!("{}: TLS cannot be set up: {e}", target.name));
        let tls = MakeTlsConnect::<TcpStream>::make_tls_connect(&mut tls, &target.host).map_err(wrong)?;
        let (client, connection) = config.connect_raw(stream, tls).await.map_err(failed)?;
        Ok(Self::of(target, client, tokio::spawn(async move { drop(connection.await) })))
    }

    fn of(target: &Target, client: Client, driver: JoinHandle<()>) -> Self {
        Self {
            label: target.label().into(),
            user: target.user.as_str().into(),
            rights: target.rights.clone(),
            client,
            answer_within: target.answer_within,
            stuck: AtomicBool::new(false),
            prepared: std::sync::Mutex::default(),
            last_identity: Mutex::default(),
            histories: std::sync::Mutex::default(),
            lesser: AtomicBool::new(false),
            sees_statistics: AtomicBool::new(false),
            driver,
        }
    }

    /// Name and address of the server.
    #[must_use]
    pub fn label(&self) -> &str {
        &self.label
    }

    /// What its role may read.
    #[must_use]
    pub const fn rights(&self) -> &Rights {
        &self.rights
    }

    /// What is refused because the role may not see or do it, with what gives it the right.
    pub(crate) fn lacks(&self, what: &str, grant: &str) -> PgError {
        let role = identifier(&self.user);
        let why = format!("the role `{}` may not {what}; helps: {}", self.user, grant.replace("ROLE", &role));
        PgError::Refused { server: self.label.to_string(), why }
    }

    /// Whether the session is known to be gone, or stuck in a statement that did not answer.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.client.is_closed() || self.stuck.load(Ordering::Relaxed)
    }

    async fn bounded<T>(
        &self,
        what: &'static str,
        within: Duration,
        call: impl Future<Output = Result<T, tokio_postgres::Error>>,
    ) -> Result<T, PgError> {
        match timeout(within, call).await {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(source)) => Err(PgError::Query { server: self.label.to_string(), what, source: Box::new(source) }),
            Err(_) => {
                self.stuck.store(true, Ordering::Relaxed);
                Err(PgError::QueryTimeout { server: self.label.to_string(), what, after: within })
            }
        }
    }

    /// Runs statements without parameters in one round trip; several of them are one transaction.
    ///
    /// # Errors
    /// `what` failed or did not answer in time.
    pub async fn run(&self, what: &'static str, sql: &str) -> Result<(), PgError> {
        self.bounded(what, self.answer_within, self.client.batch_execute(sql)).await
    }

    /// The same with a limit of its own.
    ///
    /// # Errors
    /// `what` failed or did not answer in time.
    pub async fn run_within(&self, what: &'static str, sql: &str, within: Duration) -> Result<(), PgError> {
        self.bounded(what, within, self.client.batch_execute(sql)).await
    }

    /// Runs statements in the simple protocol and answers rows as text, which is all that a PgBouncer console speaks.
    ///
    /// # Errors
    /// `what` failed or did not answer in time.
    pub async fn text_rows(&self, what: &'static str, sql: &str) -> Result<Vec<TextRow>, PgError> {
        let messages = self.bounded(what, self.answer_within, self.client.simple_query(sql)).await?;
        Ok(messages
            .into_iter()
            .filter_map(|message| if let SimpleQueryMessage::Row(row) = message { Some(TextRow(row)) } else { None })
            .collect())
    }

    /// Runs one of our fixed statements. It is prepared once for each session: inside a write gap nothing is parsed or planned.
    ///
    /// # Errors
    /// `what` failed or did not answer in time.
    pub async fn rows(&self, what: &'static str, sql: &'static str, params: &[Param<'_>]) -> Result<Vec<Row>, PgError> {
        let call = async {
            let types: Vec<Type> = params.iter().map(|(_, kind)| kind.clone()).collect();
            let statement = self.statement(sql, &types).await?;
            let values: Vec<&(dyn ToSql + Sync)> = params.iter().map(|(value, _)| *value).collect();
            self.client.query(&statement, &values).await
        };
        self.bounded(what, self.answer_within, call).await
    }

    async fn statement(&self, sql: &'static str, types: &[Type]) -> Result<Statement, tokio_postgres::Error> {
        let known = self.prepared.lock().unwrap_or_else(PoisonError::into_inner).get(sql).cloned();
        if let Some(statement) = known {
            return Ok(statement);
        }
        let statement = self.client.prepare_typed(sql, types).await?;
        self.prepared.lock().unwrap_or_else(PoisonError::into_inner).insert(sql, statement.clone());
        Ok(statement)
    }

    /// Prepares one of our fixed statements and does not run it.
    ///
    /// # Errors
    /// `what` failed or did not answer in time.
    pub async fn prepare(&self, what: &'static str, sql: &'static str, types: &[Type]) -> Result<(), PgError> {
        let call = async { self.statement(sql, types).await.map(drop) };
        self.bounded(what, self.answer_within, call).await
    }

    /// The first row of one of our fixed statements.
    ///
    /// # Errors
    /// `what` failed, answered no row, or did not answer in time.
    pub async fn row(&self, what: &'static str, sql: &'static str, params: &[Param<'_>]) -> Result<Row, PgError> {
        let rows = self.rows(what, sql, params).await?;
        rows.into_iter().next().ok_or_else(|| PgError::Unreadable {
            server: self.label.to_string(),
            what,
            saw: "no row".into(),
        })
    }

    /// Reads one column and names the act if its type is not the expected one.
    ///
    /// # Errors
    /// The column has another type, or is null where `T` is not.
    pub fn get<'r, T: tokio_postgres::types::FromSql<'r>>(
        &self,
        what: &'static str,
        row: &'r Row,
        column: usize,
    ) -> Result<T, PgError> {
        row.try_get(column).map_err(|source| PgError::Query {
            server: self.label.to_string(),
            what,
            source: Box::new(source),
        })
    }
}

/// Moves what a session says and hears, until it ends.
async fn attend<S, T>(mut connection: Connection<S, T>, heard: impl Fn() + Send)
where
    S: AsyncRead + AsyncWrite + Unpin,
    T: AsyncRead + AsyncWrite + Unpin,
{
    while let Some(Ok(message)) = std::future::poll_fn(|cx| connection.poll_message(cx)).await {
        if let AsyncMessage::Notification(_) = message {
            heard();
        }
    }
}

/// A way to a server that keeps its session, so that a write gap holds no login. A session that ended or is stuck is replaced.
#[derive(Debug)]
pub struct Link {
    target: Target,
    plain: bool,
    open: Mutex<Option<Arc<Session>>>,
}

impl Link {
    /// A way to a PostgreSQL server.
    #[must_use]
    pub fn new(target: Target) -> Self {
        Self { target, plain: false, open: Mutex::new(None) }
    }

    /// A way to what takes no settings of ours, such as a PgBouncer console.
    #[must_use]
    pub fn plain(target: Target) -> Self {
        Self { target, plain: true, open: Mutex::new(None) }
    }

    /// Where it leads.
    #[must_use]
    pub fn target(&self) -> &Target {
        &self.target
    }

    /// What the server was last seen to be, if it was; also through a session that has ended since.
    pub async fn last_seen(&self) -> Option<Identity> {
        let session = self.open.lock().await.clone()?;
        let last = session.last_identity.lock().await;
        last.as_ref().map(|(_, identity)| identity.clone())
    }

    /// The open session, if there is one and nobody opens another.
    pub fn live(&self) -> Option<Arc<Session>> {
        self.open.try_lock().ok()?.clone().filter(|session| !session.is_closed())
    }

    /// The open session, or a new one.
    ///
    /// # Errors
    /// No connection, no login, or no answer in time.
    pub async fn session(&self) -> Result<Arc<Session>, PgError> {
        let mut open = self.open.lock().await;
        if let Some(session) = open.as_ref().filter(|session| !session.is_closed()) {
            return Ok(Arc::clone(session));
        }
        let opened =
            if self.plain { Session::open_plain(&self.target).await } else { Session::open(&self.target).await };
        let session = Arc::new(opened?);
        *open = Some(Arc::clone(&session));
        Ok(session)
    }
}

/// A row whose values are text.
#[derive(Debug)]
pub struct TextRow(tokio_postgres::SimpleQueryRow);

impl TextRow {
    /// All values in their order.
    #[must_use]
    pub fn values(&self) -> Vec<Option<String>> {
        (0..self.0.len()).map(|column| self.0.try_get(column).ok().flatten().map(str::to_owned)).collect()
    }

    /// The value of a column; none if it is absent or null.
    #[must_use]
    pub fn get(&self, column: &str) -> Option<&str> {
        self.0.try_get(column).ok().flatten()
    }
}

async fn config(target: &Target) -> Result<Config, PgError> {
    let mut config = Config::new();
    config
        .host(&target.host)
        .port(target.port)
        .user(&target.user)
        .dbname(&target.database)
        .application_name(&target.application)
        .connect_timeout(target.connect_within)
        .tcp_user_timeout(target.answer_within)
        .keepalives_idle(Duration::from_secs(5))
        .ssl_mode(match target.ssl {
            SslMode::Disable => tokio_postgres::config::SslMode::Disable,
            SslMode::Prefer => tokio_postgres::config::SslMode::Prefer,
            SslMode::Require | SslMode::VerifyFull => tokio_postgres::config::SslMode::Require,
        });
    if let Some(password) = &target.password {
        config.password(password.reveal().await?);
    }
    Ok(config)
}
