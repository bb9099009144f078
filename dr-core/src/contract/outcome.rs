//! The one vocabulary for what became of a call that changes something, and the error for reads.

use serde::{Deserialize, Serialize};

use crate::{base::Millis, contract::OpHandle};

/// What became of a call that changes something.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "is", content = "of")]
#[must_use = "an outcome that nobody looks at is an effect that nobody knows about"]
pub enum Outcome<T> {
    /// It happened, and was read back.
    Done(T),
    /// The provider took it and works on it; ask with the handle, or look.
    Accepted(OpHandle),
    /// The provider is known not to have done it and not to do it later.
    NotDone(NotDone),
    /// It was sent, and there is no proof either way. Only a look decides what happens next.
    Unknown(Cause),
    /// Someone else's work or another state stands in the way.
    Conflict(Cause),
}

impl<T> Outcome<T> {
    /// Taken, without a handle: whether it is so, a look will say.
    pub fn accepted() -> Self {
        Self::Accepted(OpHandle::none())
    }

    /// The provider took it and gave this name to ask after it.
    ///
    /// A name that is no [`OpHandle`] is not kept: the outcome is then [`Outcome::Unknown`], and only a look decides.
    pub fn accepted_as(name: impl Into<String>) -> Self {
        match OpHandle::new(name) {
            Ok(handle) => Self::Accepted(handle),
            Err(error) => Self::unknown(error),
        }
    }

    /// Sent, and nobody knows.
    pub fn unknown(why: impl std::fmt::Display) -> Self {
        Self::Unknown(Cause::new(why))
    }

    /// Refused before anything happened, and asking again is useless.
    pub fn refused(why: impl std::fmt::Display) -> Self {
        Self::NotDone(NotDone { cause: Cause::new(why), retry: Retry::Never })
    }

    /// Not done now; may be asked again after `wait`.
    pub fn not_done_yet(why: impl std::fmt::Display, wait: Millis) -> Self {
        Self::NotDone(NotDone { cause: Cause::new(why), retry: Retry::After(wait) })
    }

    /// The provider or the capability does not have this verb.
    pub fn unsupported(verb: &str) -> Self {
        Self::refused(format_args!("this backend does not offer `{verb}`"))
    }

    /// Changes what a success carries.
    pub fn map<U>(self, change: impl FnOnce(T) -> U) -> Outcome<U> {
        match self {
            Self::Done(value) => Outcome::Done(change(value)),
            Self::Accepted(handle) => Outcome::Accepted(handle),
            Self::NotDone(reason) => Outcome::NotDone(reason),
            Self::Unknown(cause) => Outcome::Unknown(cause),
            Self::Conflict(cause) => Outcome::Conflict(cause),
        }
    }
}

/// Proof that a call had no effect, and whether it may be made again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NotDone {
    /// Why not.
    pub cause: Cause,
    /// Whether to try again.
    pub retry: Retry,
}

/// A reason in words, with the chain of errors behind it flattened; it outlives the binary that wrote it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Cause(String);

impl Cause {
    /// The reason as it is displayed.
    #[must_use]
    pub fn new(why: impl std::fmt::Display) -> Self {
        Self(why.to_string())
    }

    /// An error with all its sources, each once.
    #[must_use]
    pub fn chain(error: &dyn std::error::Error) -> Self {
        let mut text = error.to_string();
        let mut next = error.source();
        while let Some(source) = next {
            text.push_str(": ");
            text.push_str(&source.to_string());
            next = source.source();
        }
        Self(text)
    }

    /// The words.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl std::fmt::Display for Cause {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(&self.0)
    }
}

/// What to do after a failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "is", content = "of")]
pub enum Retry {
    /// Asking again gives the same answer.
    Never,
    /// Ask again after this long.
    After(Millis),
    /// The outcome is unknown: look before asking again.
    ReadFirst,
}

/// Why a read did not answer. Mutating verbs answer an [`Outcome`] instead.
#[derive(Debug, thiserror::Error)]
pub enum ProviderError {
    /// The backend does not offer the verb.
    #[error("this backend does not offer `{verb}`")]
    Unsupported {
        /// The verb.
        verb: &'static str,
    },
    /// The provider refused or the request is wrong: asking again gives the same answer.
    #[error("`{verb}` was refused: {why}")]
    Refused {
        /// The verb.
        verb: &'static str,
        /// The provider's words.
        why: String,
    },
    /// There is no such resource: the provider was asked and says so.
    #[error("`{verb}` found nothing: {why}")]
    Missing {
        /// The verb.
        verb: &'static str,
        /// The provider's words.
        why: String,
    },
    /// The provider could not be reached or did not answer in time.
    #[error("`{verb}` got no answer: {why}")]
    Unreachable {
        /// The verb.
        verb: &'static str,
        /// What happened.
        why: String,
        /// The cause, if there is one.
        #[source]
        source: Option<Box<dyn std::error::Error + Send + Sync>>,
    },
    /// Asked too often.
    #[error("`{verb}` was throttled")]
    Throttled {
        /// The verb.
        verb: &'static str,
        /// How long to wait.
        wait: Millis,
    },
    /// The provider answered something that this version does not understand. Never taken for a success.
    #[error("`{verb}` answered `{saw}`, which is not understood")]
    Strange {
        /// The verb.
        verb: &'static str,
        /// The word or value.
        saw: String,
    },
}

impl ProviderError {
    /// An unreachable provider without a further cause.
    #[must_use]
    pub fn unreachable(verb: &'static str, why: impl std::fmt::Display) -> Self {
        Self::Unreachable { verb, why: why.to_string(), source: None }
    }

    /// What to do about it.
    #[must_use]
    pub fn retry(&self) -> Retry {
        match self {
            Self::Unsupported { .. } | Self::Refused { .. } | Self::Missing { .. } | Self::Strange { .. } => {
                Retry::Never
            }
            Self::Unreachable { .. } => Retry::After(Millis::seconds(1)),
            Self::Throttled { wait, .. } => Retry::After(*wait),
        }
    }
}
