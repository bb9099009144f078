//! Where a server listens and how we log in.

use std::{
    fmt::{self, Debug},
    path::PathBuf,
    sync::Arc,
    time::Duration,
};

use async_trait::async_trait;

use dr_core::contract::{SecretRef, Tier};
use serde::Deserialize;

use crate::error::PgError;

/// A password, or where it is. No log, journal or debug output shows it; one that is named is read when a session is opened.
#[derive(Clone)]
pub struct Password(Source);

#[derive(Clone)]
enum Source {
    Given(String),
    File(PathBuf),
    Environment(String),
    Asked(Arc<dyn PasswordSource>),
}

/// Yields the password that counts now, such as a token of the provider that is valid for minutes. It is asked each time when a session
/// is opened, within the time that a session may take; what it answers is kept by nobody.
#[async_trait]
pub trait PasswordSource: Debug + Send + Sync + 'static {
    /// The password that counts now.
    ///
    /// # Errors
    /// None can be had; the text says why and never holds a secret.
    async fn password(&self) -> Result<String, String>;
}

impl Password {
    /// Takes the secret itself.
    #[must_use]
    pub fn new(text: impl Into<String>) -> Self {
        Self(Source::Given(text.into()))
    }

    /// The first line of a file.
    #[must_use]
    pub fn file(path: impl Into<PathBuf>) -> Self {
        Self(Source::File(path.into()))
    }

    /// An environment variable.
    #[must_use]
    pub fn environment(name: impl Into<String>) -> Self {
        Self(Source::Environment(name.into()))
    }

    /// Asks `source` for it each time when a session is opened.
    #[must_use]
    pub fn asked(source: Arc<dyn PasswordSource>) -> Self {
        Self(Source::Asked(source))
    }

    /// A password by the name that a group file gives it; none if it names none.
    ///
    /// # Errors
    /// The reason why it cannot be read from here.
    pub fn of(named: Option<&SecretRef>) -> Result<Option<Self>, &'static str> {
        match named {
            None => Ok(None),
            Some(SecretRef::File(path)) => Ok(Some(Self::file(path))),
            Some(SecretRef::Environment(name)) => Ok(Some(Self::environment(name))),
            Some(SecretRef::Stored(_)) => Err("is a stored secret; this backend reads `file:PATH` or `env:NAME`"),
        }
    }

    /// The secret itself, for the one call that needs it.
    ///
    /// # Errors
    /// The file or the variable cannot be read, or the source has none.
    pub async fn reveal(&self) -> Result<String, PgError> {
        match &self.0 {
            Source::Given(text) => Ok(text.clone()),
            Source::Asked(source) => {
                source.password().await.map_err(|why| PgError::Config(format!("no password can be had: {why}")))
            }
            Source::File(path) => {
                let text = std::fs::read_to_string(path)
                    .map_err(|e| PgError::Config(format!("the password in {} cannot be read: {e}", path.display())))?;
                Ok(text.lines().next().unwrap_or_default().to_owned())
            }
            Source::Environment(name) => {
                std::env::var(name).map_err(|_| PgError::Config(format!("the password in ${name} is not set")))
            }
        }
    }
}

impl fmt::Debug for Password {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Password(..)")
    }
}

/// How much a session insists on TLS; the words are libpq's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SslMode {
    /// Never.
    Disable,
    /// If the server offers it; the certificate is not checked.
    #[default]
    Prefer,
    /// Always; the certificate is not checked.
    Require,
    /// Always; certificate and host name are checked against `root_cert`.
    VerifyFull,
}

/// What the role of a session may read of the server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Rights {
    /// The server's own files: a superuser, or a role that was granted as much.
    Server,
    /// What a managed service lets an ordinary role read: it has `pg_monitor`, and owns `schema`. What we must write down (a probe
    /// write, the mark of a fenced role) goes into tables there; superusers are the service's own, and no clients.
    Managed {
        /// The schema; it exists already.
        schema: String,
    },
}

impl Rights {
    /// The tier, without the names that belong to it.
    #[must_use]
    pub const fn tier(&self) -> Tier {
        match self {
            Self::Server => Tier::Server,
            Self::Managed { .. } => Tier::Managed,
        }
    }
}

/// Where a server listens and how we log in.
#[derive(Clone, Debug)]
pub struct Target {
    /// The name that messages use, such as `pg1`.
    pub name: String,
    /// Host name, address, or the directory of its socket.
    pub host: String,
    /// Port.
    pub port: u16,
    /// Database to connect to.
    pub database: String,
    /// Role.
    pub user: String,
    /// Its password, if it has one.
    pub password: Option<Password>,
    /// TLS.
    pub ssl: SslMode,
    /// The certificate authority for [`SslMode::VerifyFull`], a PEM file.
    pub root_cert: Option<PathBuf>,
    /// What the role may read.
    pub rights: Rights,
    /// How activity is attributed: `dr/<run>/<step>`. Sessions whose name starts with `dr/` are never terminated by a fence.
    pub application: String,
    /// How long a new session may take.
    pub connect_within: Duration,
    /// How long a statement may take, counted on our side: `statement_timeout` does not bound a commit that waits for a standby.
    pub answer_within: Duration,
}

impl Target {
    /// A server at `host:port` with the role `user`, which may read the server's files; database `postgres`, TLS preferred, 5 s for a
    /// session and 10 s for an answer.
    #[must_use]
    pub fn new(name: impl Into<String>, host: impl Into<String>, port: u16, user: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            host: host.into(),
            port,
            database: "postgres".into(),
            user: user.into(),
            password: None,
            ssl: SslMode::default(),
            root_cert: None,
            rights: Rights::Server,
            application: "dr/look".into(),
            connect_within: Duration::from_secs(5),
            answer_within: Duration::from_secs(10),
        }
    }

    /// The same on a managed service, with an ordinary role that has `pg_monitor` and owns `schema`. TLS is always used.
    #[must_use]
    pub fn managed(
        name: impl Into<String>,
        host: impl Into<String>,
        port: u16,
        user: impl Into<String>,
        schema: impl Into<String>,
    ) -> Self {
        let rights = Rights::Managed { schema: schema.into() };
        Self { rights, ssl: SslMode::Require, ..Self::new(name, host, port, user) }
    }

    /// Logs in with a password.
    #[must_use]
    pub fn with_password(mut self, password: impl Into<String>) -> Self {
        self.password = Some(Password::new(password));
        self
    }

    /// Connects to another database.
    #[must_use]
    pub fn with_database(mut self, database: impl Into<String>) -> Self {
        self.database = database.into();
        self
    }

    /// Names the activity.
    #[must_use]
    pub fn with_application(mut self, application: impl Into<String>) -> Self {
        self.application = application.into();
        self
    }

    /// How a person opens the same session.
    #[must_use]
    pub fn psql(&self) -> String {
        format!("psql -h {} -p {} -U {}", self.host, self.port, self.user)
    }

    /// Name and address, for messages.
    #[must_use]
    pub fn label(&self) -> String {
        format!("{} ({}:{})", self.name, self.host, self.port)
    }
}
