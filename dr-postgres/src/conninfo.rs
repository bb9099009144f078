//! libpq connection strings: `host=10.1.0.11 port=5432 password='a b'`.

use std::fmt;

/// The key was opened and not closed, or a key has no value.
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
    /// Reads the `key=value` form, with quotes and backslashes.
    ///
    /// # Errors
    /// The text is not of that form (a URI, for example).
    pub fn parse(text: &str) -> Result<Self, BadConnInfo> {
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
        assert!(ConnInfo::parse("postgresql://host/db").is_err());
        assert!(ConnInfo::parse("password='open").is_err());
        assert!(ConnInfo::parse("host").is_err());
        assert_eq!(ConnInfo::parse("").unwrap(), ConnInfo::default());
    }
}
