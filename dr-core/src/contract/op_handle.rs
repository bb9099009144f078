//! What a provider gives to ask after a long operation.

use std::fmt;

use serde::{Deserialize, Serialize};

/// What a provider gave us to ask after a long operation, such as a GUID. It is stored and shown as it is, so it holds no secret; empty
/// where the provider gives nothing.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct OpHandle(String);

/// The text is no handle. The text itself is left out: it may hold a signature.
#[derive(Debug, thiserror::Error)]
#[error(
    "what the provider named its operation cannot be kept: it {why}; a handle has at most {} characters, no `?` and no white space",
    OpHandle::LONGEST
)]
pub struct BadHandle {
    why: &'static str,
}

impl OpHandle {
    /// How many characters a handle has at most.
    pub const LONGEST: usize = 200;

    /// Takes the name that a provider gave its operation.
    ///
    /// # Errors
    /// The text is longer than [`OpHandle::LONGEST`], or has a `?` or white space: it is then a URL whose query may carry a signature, or
    /// no name at all, and must not reach the journal. A handler that passes the error on with `?` says "nobody knows", and a look finds
    /// out what became of the call; [`Outcome::accepted_as`](crate::contract::Outcome::accepted_as) does the same for a backend.
    pub fn new(text: impl Into<String>) -> Result<Self, BadHandle> {
        let text = text.into();
        let why = if text.chars().count() > Self::LONGEST {
            "is too long"
        } else if text.contains('?') {
            "has a `?`"
        } else if text.contains(|c: char| c.is_whitespace() || c.is_control()) {
            "has white space"
        } else {
            return Ok(Self(text));
        };
        Err(BadHandle { why })
    }

    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// A handle for providers that return none; progress is then seen only by looking.
    #[must_use]
    pub fn none() -> Self {
        Self(String::new())
    }

    /// Whether there is nothing to ask with.
    #[must_use]
    pub fn is_none(&self) -> bool {
        self.0.is_empty()
    }
}

impl TryFrom<String> for OpHandle {
    type Error = BadHandle;

    fn try_from(text: String) -> Result<Self, BadHandle> {
        Self::new(text)
    }
}

impl From<OpHandle> for String {
    fn from(handle: OpHandle) -> Self {
        handle.0
    }
}

impl fmt::Display for OpHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bug_a_signed_url_is_no_handle() {
        let table = [
            ("op-1", Ok(())),
            ("", Ok(())),
            ("arn:aws:rds:eu-west-1:1:global-cluster/orders", Ok(())),
            ("https://x/ops/1?sig=s3cret", Err("has a `?`")),
            ("op 1", Err("has white space")),
            ("op\n1", Err("has white space")),
        ];
        let long = "x".repeat(OpHandle::LONGEST + 1);
        for (text, want) in table.into_iter().chain([(long.as_str(), Err("is too long"))]) {
            let made = OpHandle::new(text);
            assert_eq!(made.as_ref().map(drop).map_err(|bad| bad.why), want, "{text}");
            assert!(made.map_or_else(|bad| !bad.to_string().contains("s3cret"), |_| true), "{text}");
            assert_eq!(serde_json::from_value::<OpHandle>(text.into()).is_ok(), want.is_ok(), "read back: {text}");
        }
    }
}
