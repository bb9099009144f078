//! libpq connection strings: `host=10.1.0.11 port=5432 password='a b'`, or `postgresql://replicator@10.1.0.11/`.

use std::fmt;

/// The string is not one that libpq would take.
#[derive(Debug, thiserror::Error)]
#[error("the connection string is not understood near its {0}. key")]
pub struct BadConnInfo(usize);

/// Keys and values in their order. It may hold a password, so it is shown without its values.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct ConnInfo(Vec<(String, String)>);

impl fmt::Debug for ConnInfo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.0.iter().map(|(key, _)| key)).finish()
    }
}

impl ConnInfo {
    /// Reads the `key=value` form, with quotes and backslashes, or a URI.
    ///
    /// # Errors
    /// The text is of neither form.
    pub fn parse(text: &str) -> Result<Self, BadConnInfo> {
        match text.strip_prefix("postgresql://").or_else(|| text.strip_prefix("postgres://")) {
            Some(rest) => Self::parse_uri(rest),
            None => Self::parse_pairs(text),
        }
    }

    fn parse_pairs(text: &str) -> Result<Self, BadConnInfo> {
        let mut pairs: Vec<(String, String)> = Vec::new();
        let mut rest = text.chars().peekable();
        loop {
            while rest.next_if(|c| c.is_whitespace()).is_some() {}
            if rest.peek().is_none() {
                return Ok(Self(pairs));
            }
            let bad = BadConnInfo(pairs.len() + 1);
            let mut key = String::new();
            while let Some(c) = rest.next_if(|c| *c != '=' && !c.is_whitespace()) {
                key.push(c);
            }
            while rest.next_if(|c| c.is_whitespace()).is_some() {}
            if key.is_empty() || rest.next() != Some('=') {
                return Err(bad);
            }
            while rest.next_if(|c| c.is_whitespace()).is_some() {}
            let quoted = rest.next_if_eq(&'\'').is_some();
            let mut value = String::new();
            loop {
                match rest.next() {
                    Some('\\') => value.extend(rest.next()),
                    Some('\'') if quoted => break,
                    Some(c) if !quoted && c.is_whitespace() => break,
                    Some(c) => value.push(c),
                    None if quoted => return Err(bad),
                    None => break,
                }
            }
            pairs.push((key, value));
        }
    }

    /// Reads what follows the scheme: `user:password@host:port,host:port/database?key=value&…`, each part percent-encoded.
    fn parse_uri(rest: &str) -> Result<Self, BadConnInfo> {
        let mut pairs = Vec::new();
        let (place, query) = rest.split_once('?').unwrap_or((rest, ""));
        // A user or a password with one of these characters has it percent-encoded.
        let (place, database) = place.split_once('/').unwrap_or((place, ""));
        let (login, hosts) = place.rsplit_once('@').unwrap_or(("", place));
        let (user, password) = login.split_once(':').unwrap_or((login, ""));
        let (mut names, mut ports) = (Vec::new(), Vec::new());
        for host in hosts.split(',') {
            let (name, port) = match host.strip_prefix('[').map(|host| host.split_once(']')) {
                Some(Some((name, after))) => (name, after.strip_prefix(':').unwrap_or(after)),
                Some(None) => return Err(BadConnInfo(pairs.len() + 1)),
                None => host.split_once(':').unwrap_or((host, "")),
            };
            names.push(name);
            ports.push(port);
        }
        let named =
            |list: &[&str]| if list.iter().all(|part| part.is_empty()) { String::new() } else { list.join(",") };
        let (host, port) = (named(&names), named(&ports));
        let parts = [("user", user), ("password", password), ("host", &host), ("port", &port), ("dbname", database)];
        for (key, value) in parts.into_iter().filter(|(_, value)| !value.is_empty()) {
            let value = decoded(value).ok_or(BadConnInfo(pairs.len() + 1))?;
            pairs.push((key.to_owned(), value));
        }
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            let bad = || BadConnInfo(pairs.len() + 1);
            let (key, value) = pair.split_once('=').ok_or_else(bad)?;
            let (key, value) = (decoded(key).ok_or_else(bad)?, decoded(value).ok_or_else(bad)?);
            let tls = key == "ssl" && value == "true";
            pairs.push(if tls { ("sslmode".into(), "require".into()) } else { (key, value) });
        }
        Ok(Self(pairs))
    }

    /// The value of a key.
    #[must_use]
    pub fn get(&self, key: &str) -> Option<&str> {
        self.0.iter().rev().find(|(name, _)| name == key).map(|(_, value)| value.as_str())
    }

    /// The same string with another value for a key.
    #[must_use]
    pub fn with(mut self, key: &str, value: impl Into<String>) -> Self {
        self.0.retain(|(name, _)| name != key);
        self.0.push((key.into(), value.into()));
        self
    }

    /// The same string without a key.
    #[must_use]
    pub fn without(mut self, key: &str) -> Self {
        self.0.retain(|(name, _)| name != key);
        self
    }

    /// Host (or address) and port.
    #[must_use]
    pub fn address(&self) -> (String, u16) {
        let host = self.get("host").or_else(|| self.get("hostaddr")).unwrap_or_default();
        (host.to_owned(), self.get("port").and_then(|port| port.parse().ok()).unwrap_or(5432))
    }

    /// The text, every value quoted.
    #[must_use]
    pub fn text(&self) -> String {
        let quoted = |value: &str| value.replace('\\', "\\\\").replace('\'', "\\'");
        self.0.iter().map(|(key, value)| format!("{key}='{}'", quoted(value))).collect::<Vec<_>>().join(" ")
    }
}

/// Text with its percent-encoded bytes decoded; none if it is not UTF-8, or a percent sign is followed by anything else than two
/// hexadecimal digits that are not `00`.
fn decoded(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        if byte != b'%' {
            bytes.push(byte);
            continue;
        }
        let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
        let value = digit(rest.next()?)? * 16 + digit(rest.next()?)?;
        bytes.push(Some(value).filter(|value| *value != 0)?);
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_string_is_read_and_written() {
        let text = r"user=replicator host = '10.1.0.11' port=5433 password='it\'s a \\ secret' sslmode=prefer";
        let info = ConnInfo::parse(text).unwrap();
        assert_eq!(info.address(), ("10.1.0.11".into(), 5433));
        assert_eq!(info.get("password"), Some(r"it's a \ secret"));
        let other = info.clone().with("host", "10.2.0.11").without("sslmode");
        assert_eq!(ConnInfo::parse(&other.text()).unwrap(), other);
        assert_eq!(other.address(), ("10.2.0.11".into(), 5433));
        assert!(!format!("{info:?}").contains("secret"));
    }

    #[test]
    fn what_is_not_understood_is_refused() {
        assert!(ConnInfo::parse("password='open").is_err());
        assert!(ConnInfo::parse("host").is_err());
        assert!(ConnInfo::parse("postgresql://host/db?sslmode").is_err());
        assert!(ConnInfo::parse("postgresql://a%4@host/").is_err());
        assert!(ConnInfo::parse("postgresql://a%00@host/").is_err());
        assert!(ConnInfo::parse("postgresql://[::1/").is_err());
        assert_eq!(ConnInfo::parse("").unwrap(), ConnInfo::default());
    }

    /// A standby whose `primary_conninfo` is a URI had no login that could be used the other way round.
    #[test]
    fn bug_a_uri_is_a_connection_string_too() {
        let text = "postgresql://re%40p:it%27s%3A%2F@10.1.0.11:5433/postgres?application_name=pg%202&ssl=true";
        let info = ConnInfo::parse(text).unwrap();
        assert_eq!((info.get("user"), info.get("password")), (Some("re@p"), Some("it's:/")));
        assert_eq!(info.address(), ("10.1.0.11".into(), 5433));
        assert_eq!((info.get("dbname"), info.get("application_name")), (Some("postgres"), Some("pg 2")));
        assert_eq!(info.get("sslmode"), Some("require"));
        let info = ConnInfo::parse("postgres://[fe80::1]:6000,other/?user=x").unwrap();
        assert_eq!((info.get("host"), info.get("port")), (Some("fe80::1,other"), Some("6000,")));
        assert_eq!(ConnInfo::parse("postgresql:///app?host=/run/pg").unwrap().address(), ("/run/pg".into(), 5432));
        assert_eq!(ConnInfo::parse("postgresql://").unwrap(), ConnInfo::default());
    }
}
