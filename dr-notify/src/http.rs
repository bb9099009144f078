//! One POST over HTTP/1.1: a connection of its own, no redirects, no second try.

use std::{sync::Arc, time::Duration};

use dr_core::{
    Cause, Millis, ProviderError,
    base::text::human,
    contract::{ConfigError, NotifySpec, SecretRef},
};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::{
    Request, StatusCode, Uri,
    body::Bytes,
    header::{CONTENT_TYPE, HOST, RETRY_AFTER, USER_AGENT},
};
use hyper_util::rt::TokioIo;
use rustls::{
    ClientConfig, RootCertStore,
    pki_types::{CertificateDer, ServerName, pem::PemObject as _},
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
};
use tokio_rustls::TlsConnector;

use crate::{
    secret::{Named, Secret, clean},
    wrong,
};

/// How much of an answer is read, in bytes: enough for the reason of a refusal.
const ANSWER: usize = 4096;

/// Where to send: written in the group file, or named there because it is a secret itself.
#[derive(Clone, Debug)]
pub(crate) enum Url {
    Written(Uri),
    Named(Named),
}

/// The way to one service.
#[derive(Clone, Debug)]
pub(crate) struct Way {
    pub(crate) url: Url,
    /// A file of certificates to trust in place of those of the system.
    pub(crate) ca: Option<String>,
    /// How long one attempt may take.
    pub(crate) within: Millis,
}

/// What is sent.
#[derive(Debug)]
pub(crate) struct Letter<'a> {
    pub(crate) headers: Vec<(&'static str, String)>,
    pub(crate) body: String,
    /// What may stand in no error.
    pub(crate) secrets: Vec<&'a Secret>,
}

impl Url {
    /// Takes `url` as it stands in the file: `https://…`, or the name of a secret that holds it.
    pub(crate) fn of(notify: &NotifySpec, text: &str) -> Result<Self, ConfigError> {
        if let Ok(named) = text.parse::<SecretRef>()
            && !text.starts_with("https:")
        {
            return Named::of(notify, "url", named).map(Self::Named);
        }
        parse(text).map(Self::Written).map_err(|why| wrong(notify, "url", why))
    }

    async fn read(&self) -> Result<(Uri, Option<Secret>), ProviderError> {
        match self {
            Self::Written(uri) => Ok((uri.clone(), None)),
            Self::Named(named) => {
                let secret = named.read().await?;
                let uri = parse(secret.value()).map_err(|why| failed(format!("the secret url {why}")))?;
                Ok((uri, Some(secret)))
            }
        }
    }
}

/// Reads a URL: `https`, or `http` to this host. The text is not repeated: it may hold a secret.
fn parse(text: &str) -> Result<Uri, &'static str> {
    let uri: Uri = text.parse().map_err(|_| "is no URL; write `https://HOST/PATH`")?;
    let (Some(scheme), Some(host)) = (uri.scheme_str(), uri.host()) else {
        return Err("is no URL; write `https://HOST/PATH`");
    };
    if uri.authority().is_some_and(|authority| authority.as_str().contains('@')) {
        return Err("holds a name or password; use a header or a signature instead");
    }
    match scheme {
        "https" => Ok(uri),
        "http" if this_host(host) => Ok(uri),
        "http" => Err("begins with `http:`, which everybody on the way can read and change; use `https:`"),
        _ => Err("begins with neither `https:` nor `http:`"),
    }
}

/// Tells whether `host` is the host that this runs on.
pub(crate) fn this_host(host: &str) -> bool {
    let host = host.trim_start_matches('[').trim_end_matches(']');
    host == "localhost" || host.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
}

/// An attempt that may go well later.
pub(crate) fn failed(why: impl std::fmt::Display) -> ProviderError {
    ProviderError::unreachable("notify", why)
}

impl Way {
    /// Sends one letter and waits for the answer.
    ///
    /// # Errors
    /// [`ProviderError::Throttled`] for 429, [`ProviderError::Refused`] for another 3xx or 4xx (408 and 425 apart),
    /// [`ProviderError::Unreachable`] for everything else. Errors name the host, never the path.
    pub(crate) async fn post(&self, letter: Letter<'_>) -> Result<(), ProviderError> {
        let limit = Duration::from_millis(self.within.count());
        match tokio::time::timeout(limit, self.attempt(letter)).await {
            Ok(answer) => answer,
            Err(_) => Err(failed(format!("no answer within {}", human(self.within)))),
        }
    }

    async fn attempt(&self, letter: Letter<'_>) -> Result<(), ProviderError> {
        let (uri, secret) = self.url.read().await?;
        let mut secrets = letter.secrets.clone();
        secrets.extend(&secret);
        // The path of an incoming webhook is its password, and a service may repeat the whole or a part of it.
        let hidden: Vec<String> = secret.iter().flat_map(|_| parts(&uri)).collect();
        let host = uri.host().unwrap_or_default().to_owned();
        let tls = uri.scheme_str() == Some("https");
        let port = uri.port_u16().unwrap_or(if tls { 443 } else { 80 });
        let at = |why: String| failed(format!("{host}: {why}"));
        let bare = host.trim_start_matches('[').trim_end_matches(']');
        let tcp = TcpStream::connect((bare, port)).await.map_err(|error| at(error.to_string()))?;
        let request = request(&uri, &letter).map_err(|()| at("the request cannot be written".to_owned()))?;
        let (status, wait, words) = if tls {
            let config = tls_config(self.ca.clone()).await.map_err(&at)?;
            let name = ServerName::try_from(bare.to_owned()).map_err(|_| at("is no name of a server".to_owned()))?;
            let connector = TlsConnector::from(Arc::new(config));
            let stream = connector.connect(name, tcp).await.map_err(|error| at(error.to_string()))?;
            exchange(stream, request).await.map_err(&at)?
        } else {
            exchange(tcp, request).await.map_err(&at)?
        };
        let words = hidden.iter().fold(words, |words, part| words.replace(part, "…"));
        answered(&host, status, wait, &clean(&words, &secrets))
    }
}

/// Returns what of a secret URL is secret, the longest first: its path, and every part that is long enough to be a key.
fn parts(uri: &Uri) -> Vec<String> {
    let path = uri.path_and_query().map(|path| path.as_str()).unwrap_or_default();
    let mut parts: Vec<String> = path.split(['/', '?', '&', '=']).chain([path]).map(str::to_owned).collect();
    parts.retain(|part| part.len() > 3);
    parts.sort_by_key(|part| std::cmp::Reverse(part.len()));
    parts
}

fn chain(error: &hyper::Error) -> String {
    Cause::chain(error).to_string()
}

fn request(uri: &Uri, letter: &Letter<'_>) -> Result<Request<Full<Bytes>>, ()> {
    let path = uri.path_and_query().map_or("/", |path| path.as_str());
    let authority = uri.authority().map(|authority| authority.as_str()).unwrap_or_default();
    let mut request = Request::post(path)
        .header(HOST, authority)
        .header(CONTENT_TYPE, "application/json")
        .header(USER_AGENT, concat!("dr/", env!("CARGO_PKG_VERSION")));
    for (name, value) in &letter.headers {
        request = request.header(*name, value);
    }
    request.body(Full::new(Bytes::from(letter.body.clone()))).map_err(drop)
}

/// Sends a request over a connection, and reads the answer: its status, how long to wait, its words.
async fn exchange(
    stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static,
    request: Request<Full<Bytes>>,
) -> Result<(StatusCode, Option<Millis>, String), String> {
    let handshake = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await;
    let (mut sender, connection) = handshake.map_err(|error| chain(&error))?;
    let talk = async {
        let answer = sender.send_request(request).await.map_err(|error| chain(&error))?;
        let status = answer.status();
        let wait = answer.headers().get(RETRY_AFTER).and_then(|value| value.to_str().ok()?.parse().ok());
        // What the answer says is for people only: one that breaks off was an answer all the same.
        let body = Limited::new(answer.into_body(), ANSWER).collect().await;
        let words = body.map(|body| String::from_utf8_lossy(&body.to_bytes()).into_owned()).unwrap_or_default();
        Ok((status, wait.map(Millis::seconds), words))
    };
    let mut connection = std::pin::pin!(connection);
    let mut talk = std::pin::pin!(talk);
    tokio::select! {
        biased;
        answer = &mut talk => answer,
        // The answer may have been read just before the connection ended, well or badly: a server that closes without a word has answered
        // all the same, and would be sent the notice twice.
        ended = &mut connection => talk.await.map_err(|error| ended.map_or_else(|broke| chain(&broke), |()| error)),
    }
}

fn answered(host: &str, status: StatusCode, wait: Option<Millis>, words: &str) -> Result<(), ProviderError> {
    let said = if words.is_empty() { String::new() } else { format!(": {words}") };
    let why = format!("{host} answered {}{said}", status.as_u16());
    match status {
        _ if status.is_success() => Ok(()),
        StatusCode::TOO_MANY_REQUESTS => {
            Err(ProviderError::Throttled { verb: "notify", wait: wait.unwrap_or(Millis::seconds(1)) })
        }
        StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_EARLY => Err(failed(why)),
        _ if status.is_client_error() || status.is_redirection() => Err(ProviderError::Refused { verb: "notify", why }),
        _ => Err(failed(why)),
    }
}

async fn tls_config(ca: Option<String>) -> Result<ClientConfig, String> {
    let read = tokio::task::spawn_blocking(move || roots(ca.as_deref())).await;
    let roots = read.map_err(|_| "no certificates were read".to_owned())??;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let config = config.map_err(|error| error.to_string())?.with_root_certificates(roots);
    Ok(config.with_no_client_auth())
}

/// The certificates to trust: those of a file, or those of the system.
fn roots(ca: Option<&str>) -> Result<RootCertStore, String> {
    let mut roots = RootCertStore::empty();
    let found = match ca {
        Some(path) => {
            let read = CertificateDer::pem_file_iter(path).and_then(Iterator::collect::<Result<Vec<_>, _>>);
            read.map_err(|error| format!("{path} holds no certificates: {error}"))?
        }
        None => rustls_native_certs::load_native_certs().certs,
    };
    let (taken, _unreadable) = roots.add_parsable_certificates(found);
    if taken == 0 {
        return Err("this host trusts no certificate; install its CA bundle, or name one with `ca`".to_owned());
    }
    Ok(roots)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_is_encrypted_or_of_this_host() {
        for good in ["https://hooks.example.com/x", "http://127.0.0.1:80/x", "http://[::1]:80/", "http://localhost/"] {
            parse(good).unwrap();
        }
        for (bad, words) in [
            ("http://hooks.example.com/x", "use `https:`"),
            ("https://user:pass@hooks.example.com/", "name or password"),
            ("ftp://hooks.example.com/", "neither"),
            ("/x", "is no URL"),
            ("", "is no URL"),
        ] {
            assert!(parse(bad).unwrap_err().contains(words), "{bad}");
        }
    }

    #[test]
    fn every_part_of_a_secret_url_that_may_be_a_key_is_hidden() {
        let uri = parse("https://hooks.example.com/services/T0/B123/canary?token=second").unwrap();
        assert_eq!(
            parts(&uri),
            ["/services/T0/B123/canary?token=second", "services", "canary", "second", "token", "B123"]
        );
    }

    #[test]
    fn only_a_success_is_a_success() {
        let code = |code: u16| answered("h", StatusCode::from_u16(code).unwrap(), None, "no");
        code(202).unwrap();
        assert!(matches!(code(429), Err(ProviderError::Throttled { .. })));
        for refused in [302, 400, 401, 404] {
            assert!(matches!(code(refused), Err(ProviderError::Refused { .. })), "{refused}");
        }
        for later in [408, 500, 503] {
            assert!(matches!(code(later), Err(ProviderError::Unreachable { .. })), "{later}");
        }
    }
}
