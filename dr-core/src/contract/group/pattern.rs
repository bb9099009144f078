//! A pattern finds the place where a field of a secret names the writer, and fills it anew.

use std::ops::Range;

use crate::base::Endpoint;

/// The form in which a field names the writer: text with `{writer.host}`, `{writer.port}` or `{writer.endpoint}` in it.
///
/// A field may hold more than the form. Only the part that has it is changed, so that a connection string keeps its user, its password
/// and its options:
///
/// ```
/// use dr_core::{base::Endpoint, contract::SecretPattern};
///
/// let form = SecretPattern::parse("@{writer.host}:{writer.port}/");
/// let value = "postgresql://app:hush@10.1.0.11:5432/shop";
/// let found = form.find(value);
/// assert_eq!(&value[found[0].at.clone()], "@10.1.0.11:5432/");
/// assert_eq!(form.fill(&Endpoint::new("10.2.0.11:5433")).as_deref(), Some("@10.2.0.11:5433/"));
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SecretPattern(Vec<Piece>);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Piece {
    Text(String),
    Host,
    Port,
    /// Both, or the host alone where endpoints have no port.
    Endpoint,
}

/// A place in a value that has the form.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FoundPattern {
    /// Its bytes.
    pub at: Range<usize>,
    /// The host that it names, if the form has one.
    pub host: Option<String>,
    /// The port that it names, if the form has one.
    pub port: Option<u16>,
}

impl FoundPattern {
    /// Tells whether the host and the port that were found are this endpoint's; a part that the form lacks is not compared.
    #[must_use]
    pub fn names(&self, endpoint: &Endpoint) -> bool {
        let (host, port) = host_and_port(endpoint);
        self.host.as_deref().is_none_or(|named| named == host) && self.port.is_none_or(|named| Some(named) == port)
    }
}

impl SecretPattern {
    /// The placeholder for the host alone.
    pub const HOST: &'static str = "{writer.host}";
    /// The placeholder for the port alone.
    pub const PORT: &'static str = "{writer.port}";
    /// The placeholder for the endpoint as the member has it: host and port with a colon between them, or the host alone.
    pub const ENDPOINT: &'static str = "{writer.endpoint}";
    /// All placeholders.
    pub const PLACEHOLDERS: [&'static str; 3] = [Self::HOST, Self::PORT, Self::ENDPOINT];

    /// Reads a form. Braces that are no placeholder are text; the check of a group file refuses them.
    #[must_use]
    pub fn parse(text: &str) -> Self {
        let mut pieces = Vec::new();
        let mut rest = text;
        while !rest.is_empty() {
            let next = Self::PLACEHOLDERS.into_iter().filter_map(|word| Some((rest.find(word)?, word))).min();
            let (before, word) = next.unwrap_or((rest.len(), ""));
            if let Some(said) = rest.get(..before).filter(|said| !said.is_empty()) {
                pieces.push(Piece::Text(said.to_owned()));
            }
            match word {
                Self::HOST => pieces.push(Piece::Host),
                Self::PORT => pieces.push(Piece::Port),
                Self::ENDPOINT => pieces.push(Piece::Endpoint),
                _ => {}
            }
            rest = rest.get(before + word.len()..).unwrap_or_default();
        }
        Self(pieces)
    }

    /// Whether it has a placeholder at all; a form without one is written as it stands.
    #[must_use]
    pub fn names_writer(&self) -> bool {
        self.0.iter().any(|piece| !matches!(piece, Piece::Text(_)))
    }

    /// Whether it says the host of the writer.
    #[must_use]
    pub fn has_host(&self) -> bool {
        self.0.contains(&Piece::Host) || self.0.contains(&Piece::Endpoint)
    }

    /// Whether it says the port of the writer.
    #[must_use]
    pub fn has_port(&self) -> bool {
        self.0.contains(&Piece::Port) || self.0.contains(&Piece::Endpoint)
    }

    /// The form filled with the writer's host and port; none if it needs a port and the endpoint has none.
    #[must_use]
    pub fn fill(&self, writer: &Endpoint) -> Option<String> {
        let (host, port) = host_and_port(writer);
        let mut filled = String::new();
        for piece in &self.0 {
            match piece {
                Piece::Text(said) => filled.push_str(said),
                Piece::Host => filled.push_str(host),
                Piece::Port => filled.push_str(&port?.to_string()),
                Piece::Endpoint => filled.push_str(writer.as_str()),
            }
        }
        Some(filled)
    }

    /// Every place of a value that has the form, in their order. If the whole value has it, that is the only one.
    #[must_use]
    pub fn find(&self, value: &str) -> Vec<FoundPattern> {
        let mut found = Vec::new();
        let mut from = 0;
        for (at, _) in value.char_indices().filter(|_| self.names_writer()) {
            if at < from {
                continue;
            }
            if let Some(place) = self.at(value, at) {
                from = place.at.end.max(at + 1);
                found.push(place);
            }
        }
        found
    }

    fn at(&self, value: &str, at: usize) -> Option<FoundPattern> {
        let inside = value.get(..at)?.chars().next_back().is_some_and(is_word);
        if inside && !matches!(self.0.first(), Some(Piece::Text(_))) {
            return None;
        }
        take(&self.0, value, at, &FoundPattern { at: at..at, ..FoundPattern::default() })
    }
}

/// Reads the pieces from `at` on; a host is taken as long as possible, and shorter if the rest does not follow.
fn take(pieces: &[Piece], value: &str, at: usize, so_far: &FoundPattern) -> Option<FoundPattern> {
    let rest = value.get(at..)?;
    let Some((piece, others)) = pieces.split_first() else {
        return Some(FoundPattern { at: so_far.at.start..at, ..so_far.clone() });
    };
    // A last word must not go on behind its place.
    let ends = |length: usize| !others.is_empty() || !rest.get(length..).is_some_and(|more| more.starts_with(is_word));
    match piece {
        Piece::Endpoint => {
            let pair = [Piece::Host, Piece::Text(":".into()), Piece::Port];
            let with_port: Vec<Piece> = pair.into_iter().chain(others.iter().cloned()).collect();
            let alone: Vec<Piece> = std::iter::once(Piece::Host).chain(others.iter().cloned()).collect();
            take(&with_port, value, at, so_far).or_else(|| take(&alone, value, at, so_far))
        }
        Piece::Text(said) if rest.starts_with(said.as_str()) => take(others, value, at + said.len(), so_far),
        Piece::Text(_) => None,
        Piece::Host => {
            let longest = rest.find(|c| !is_word(c)).unwrap_or(rest.len());
            (1..=longest).rev().filter(|length| rest.is_char_boundary(*length) && ends(*length)).find_map(|length| {
                let host = rest.get(..length)?;
                let agrees = so_far.host.as_deref().is_none_or(|before| before == host);
                let next = FoundPattern { host: Some(host.to_owned()), ..so_far.clone() };
                agrees.then(|| take(others, value, at + length, &next))?
            })
        }
        Piece::Port => {
            let length = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
            let port = rest.get(..length)?.parse().ok().filter(|_| ends(length))?;
            let agrees = so_far.port.is_none_or(|before| before == port);
            agrees.then(|| take(others, value, at + length, &FoundPattern { port: Some(port), ..so_far.clone() }))?
        }
    }
}

/// The letters of a host's name or address.
fn is_word(c: char) -> bool {
    c.is_alphanumeric() || matches!(c, '.' | '-' | '_')
}

/// The two parts of an endpoint; it may have no port.
pub(crate) fn host_and_port(endpoint: &Endpoint) -> (&str, Option<u16>) {
    let text = endpoint.as_str();
    match text.rsplit_once(':') {
        Some((host, port)) if !host.is_empty() => match port.parse() {
            Ok(port) => (host, Some(port)),
            Err(_) => (text, None),
        },
        Some(_) | None => (text, None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(form: &str, value: &str) -> Vec<String> {
        SecretPattern::parse(form).find(value).into_iter().map(|place| value[place.at].to_owned()).collect()
    }

    #[test]
    fn a_form_is_found_as_a_whole_word() {
        assert_eq!(found("{writer.host}", "10.1.0.11"), ["10.1.0.11"]);
        assert_eq!(found("{writer.port}", "5432"), ["5432"]);
        assert_eq!(found("{writer.endpoint}", "10.1.0.11:5432"), ["10.1.0.11:5432"]);
        assert_eq!(found("{writer.endpoint}", "db.example"), ["db.example"]);
        assert_eq!(found("{writer.port}", "15432x 70000"), [""; 0]);
        assert_eq!(found("{writer.host}.internal", "db1.internal"), ["db1.internal"]);
        assert_eq!(found("{writer.host}:{writer.port}", "pg://app:1234@db:5432/app"), ["app:1234", "db:5432"]);
        assert_eq!(found("@{writer.host}:{writer.port}/", "pg://app:1234@db:5432/app"), ["@db:5432/"]);
        assert_eq!(found("host={writer.host} port={writer.port}", "user=a host=db port=1 x=y"), ["host=db port=1"]);
        assert_eq!(found("{writer.host},{writer.host}", "a,a b,c"), ["a,a"]);
        assert_eq!(found("verify-full", "verify-full"), [""; 0], "a form without the writer is nowhere");
    }

    #[test]
    fn an_endpoint_without_a_port_fills_no_port() {
        let [whole, bare] = ["db.example:5432", "db.example"].map(Endpoint::new);
        let fill = |form: &str, endpoint: &Endpoint| SecretPattern::parse(form).fill(endpoint);
        assert_eq!(fill("{writer.endpoint}", &whole).as_deref(), Some("db.example:5432"));
        assert_eq!(fill("{writer.endpoint}", &bare).as_deref(), Some("db.example"));
        assert_eq!(fill("{writer.host}", &bare).as_deref(), Some("db.example"));
        assert_eq!(fill("{writer.port}", &bare), None);
        let place = &SecretPattern::parse("{writer.host}").find("db.example")[0];
        assert!(place.names(&whole) && place.names(&bare) && !place.names(&Endpoint::new("other:5432")));
    }
}
