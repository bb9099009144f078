//! A mail by an SMTP server.
//!
//! ```toml
//! [[notify]]
//! with = "smtp"
//! at   = { server = "mail.example.com", user = "dr", password = "file:/etc/dr/mail.key", from = "dr@example.com", to = ["dba@example.com"] }
//! ```
//!
//! The connection is encrypted: `tls = "starttls"` (the default, port 587) or `"implicit"` (port 465); `"none"` (port 25) is for a server on
//! this host. The `Message-ID` comes from the notice's key, so that a mail server that knows it already keeps one.

use std::time::Duration;

use async_trait::async_trait;
use dr_core::{
    GroupSpec, Millis, Notifier, ProviderError,
    base::text::human,
    contract::{ConfigError, Notice, NotifySpec, SecretRef},
};
use lettre::{
    AsyncSmtpTransport, AsyncTransport as _, Message, Tokio1Executor,
    message::{Mailbox, header::ContentType},
    transport::smtp::{
        authentication::Credentials,
        client::{Certificate, CertificateStore, Tls, TlsParameters},
    },
};
use serde::Deserialize;
use sha2::{Digest as _, Sha256};

use crate::{
    secret::{Named, clean},
    tells, within, wrong,
};

tells! {
    /// The backend `smtp`: it sends each notice as a mail.
    Smtp = "smtp", open
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct At {
    /// The name of the mail server.
    server: String,
    port: Option<u16>,
    #[serde(default)]
    tls: Encrypted,
    /// Who logs in; nobody without it.
    user: Option<String>,
    password: Option<SecretRef>,
    from: String,
    to: Vec<String>,
    /// A file of certificates to trust in place of those of the system.
    ca: Option<String>,
    /// How long one attempt may take.
    within: Option<String>,
}

/// How the connection is encrypted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Encrypted {
    /// After the greeting; a server that does not offer it gets nothing.
    #[default]
    Starttls,
    /// From the first byte.
    Implicit,
    /// Not at all.
    None,
}

#[derive(Debug)]
struct Mails {
    server: String,
    port: u16,
    tls: Encrypted,
    login: Option<(String, Named)>,
    from: Mailbox,
    to: Vec<Mailbox>,
    ca: Option<String>,
    within: Millis,
}

fn open(_group: &GroupSpec, notify: &NotifySpec) -> Result<Mails, ConfigError> {
    let at: At = notify.at.read()?;
    let mailbox = |key: &str, text: &str| {
        text.parse::<Mailbox>().map_err(|_| wrong(notify, key, format!("holds `{text}`, which is no mail address")))
    };
    let login = match (at.user, at.password) {
        (None, None) => None,
        (Some(user), Some(password)) => Some((user, Named::of(notify, "password", password)?)),
        (Some(_), None) => return Err(wrong(notify, "user", "stands without a `password`")),
        (None, Some(_)) => return Err(wrong(notify, "password", "stands without a `user`")),
    };
    let here =
        at.server == "localhost" || at.server.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback());
    if at.tls == Encrypted::None && !here {
        return Err(wrong(notify, "tls", "is `none`, which is for a mail server on this host"));
    }
    if at.to.is_empty() {
        return Err(wrong(notify, "to", "is empty; it lists who gets the mail"));
    }
    let port = at.port.unwrap_or(match at.tls {
        Encrypted::Starttls => 587,
        Encrypted::Implicit => 465,
        Encrypted::None => 25,
    });
    Ok(Mails {
        port,
        tls: at.tls,
        login,
        from: mailbox("from", &at.from)?,
        to: at.to.iter().map(|to| mailbox("to", to)).collect::<Result<_, _>>()?,
        ca: at.ca,
        within: within(notify, at.within.as_deref())?,
        server: at.server,
    })
}

impl Mails {
    fn message(&self, notice: &Notice) -> Result<Message, String> {
        let digest = Sha256::digest(notice.key.as_bytes());
        let id: String = digest.iter().take(16).map(|byte| format!("{byte:02x}")).collect();
        let mark = if notice.urgent { "[urgent] " } else { "" };
        // A subject is one line, and short enough for a telephone.
        let line: String = notice.text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(120).collect();
        let mut mail = Message::builder()
            .from(self.from.clone())
            .message_id(Some(format!("<{id}.dr@{}>", self.from.email.domain())))
            .subject(format!("{mark}{line}"))
            .header(ContentType::TEXT_PLAIN);
        for to in &self.to {
            mail = mail.to(to.clone());
        }
        let run = &notice.run;
        let body = format!("{}\n\nrun: {run}\nlook: dr status {run}\nkey: {}\n", notice.text, notice.key);
        mail.body(body).map_err(|error| error.to_string())
    }

    async fn attempt(&self, notice: &Notice) -> Result<(), ProviderError> {
        let failed = |why: String| ProviderError::unreachable("notify", format!("{}: {why}", self.server));
        let message = self.message(notice).map_err(failed)?;
        let mut server = AsyncSmtpTransport::<Tokio1Executor>::builder_dangerous(&self.server)
            .port(self.port)
            .tls(self.encryption().await.map_err(failed)?)
            .timeout(Some(Duration::from_millis(self.within.count())));
        if let Some((user, password)) = &self.login {
            server = server.credentials(Credentials::new(user.clone(), password.read().await?.value().to_owned()));
        }
        server.build().send(message).await.map(drop).map_err(|error| {
            // A server that was sent a password may repeat it, in whatever encoding: its words are not shown then.
            let why = match (error.status(), &self.login) {
                (Some(code), Some(_)) => format!("answered {code}"),
                (_, _) => clean(&dr_core::Cause::chain(&error).to_string(), &[]),
            };
            if error.is_permanent() {
                ProviderError::Refused { verb: "notify", why: format!("{}: {why}", self.server) }
            } else {
                failed(why)
            }
        })
    }

    async fn encryption(&self) -> Result<Tls, String> {
        if self.tls == Encrypted::None {
            return Ok(Tls::None);
        }
        let (server, ca) = (self.server.clone(), self.ca.clone());
        // Reads files.
        let made = tokio::task::spawn_blocking(move || parameters(server, ca)).await;
        let parameters = made.map_err(|_| "no certificates were read".to_owned())??;
        Ok(if self.tls == Encrypted::Implicit { Tls::Wrapper(parameters) } else { Tls::Required(parameters) })
    }
}

fn parameters(server: String, ca: Option<String>) -> Result<TlsParameters, String> {
    let mut builder = TlsParameters::builder(server);
    if let Some(path) = ca {
        let pem = std::fs::read(&path).map_err(|error| format!("{path}: {error}"))?;
        let trusted = Certificate::from_pem(&pem).map_err(|error| format!("{path} holds no certificate: {error}"))?;
        builder = builder.certificate_store(CertificateStore::None).add_root_certificate(trusted);
    }
    builder.build_rustls().map_err(|error| error.to_string())
}

#[async_trait]
impl Notifier for Mails {
    async fn notify(&self, notice: Notice) -> Result<(), ProviderError> {
        // The limit of the transport is for each command; a slow server has many.
        let limit = Duration::from_millis(self.within.count());
        match tokio::time::timeout(limit, self.attempt(&notice)).await {
            Ok(answer) => answer,
            Err(_) => {
                let why = format!("{}: no answer within {}", self.server, human(self.within));
                Err(ProviderError::unreachable("notify", why))
            }
        }
    }
}
