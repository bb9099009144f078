//! From what came back over the wire to an [`Outcome`] or a [`ProviderError`]: one function for every backend that speaks HTTP.
//!
//! ```text
//!  Came (never sent | no answer | status, code) ──► rows of the vendor ──► Means ──► Outcome (changes), ProviderError (reads)
//!                                                   └─ no row: the rules that hold for all of HTTP
//! ```
//!
//! A backend brings its vendor's codes as data. Whatever neither a row nor HTTP itself explains is [`Means::Unclear`]: only a look
//! decides then.

use crate::{
    base::Millis,
    contract::{OpHandle, Outcome, ProviderError},
};

/// What came back of one request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Came<'a> {
    /// The request never left: no connection, no name, no credentials.
    NeverSent {
        /// The client's words.
        why: &'a str,
    },
    /// The request left, and no whole answer came: a timeout, a dropped connection, a body that breaks off.
    NoAnswer {
        /// The client's words.
        why: &'a str,
    },
    /// An answer.
    Answer {
        /// The HTTP status.
        status: u16,
        /// The vendor's error code, as it stands in the body or a header; `None` where none could be read.
        code: Option<&'a str>,
        /// The vendor's message.
        message: &'a str,
        /// What `Retry-After` asks for.
        retry_after: Option<Millis>,
    },
}

/// What an answer means for the effect of the request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Means {
    /// The provider took the request; whether it is done, a look says.
    Taken,
    /// The request had no effect, and the same one never will.
    Refused,
    /// There is no such resource. Only a row says so: a 404 may as well come from a wrong address of the provider.
    Missing,
    /// The request had no effect now; it may be made again.
    NotNow,
    /// The state of the resource stands in the way: it may be done already, or somebody else is at work.
    State,
    /// Nobody knows whether the request had an effect.
    Unclear,
}

/// One line of a vendor's table: what its code means, where HTTP alone does not say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Row {
    /// The status, where the code means this with that status only.
    pub status: Option<u16>,
    /// The code; `*` at its end stands for any ending, at its beginning for any beginning. Letters are compared in any case.
    pub code: &'static str,
    /// What it means.
    pub means: Means,
}

impl Row {
    /// Says what `code` means with any status.
    #[must_use]
    pub const fn of(code: &'static str, means: Means) -> Self {
        Self { status: None, code, means }
    }

    /// Limits the row to one status.
    #[must_use]
    pub const fn with(self, status: u16) -> Self {
        Self { status: Some(status), ..self }
    }

    fn fits(&self, status: u16, code: &str) -> bool {
        let (wanted, code) = (self.code.to_ascii_lowercase(), code.to_ascii_lowercase());
        let same = match (wanted.strip_prefix('*'), wanted.strip_suffix('*')) {
            (Some(end), _) => code.ends_with(end),
            (None, Some(begin)) => code.starts_with(begin),
            (None, None) => code == wanted,
        };
        same && self.status.is_none_or(|wanted| wanted == status)
    }
}

impl Came<'_> {
    /// Reads the answer by the first row that fits, or else by the rules that hold for all of HTTP (RFC 9110, section 15; RFC 6585
    /// for 429).
    #[must_use]
    pub fn means(&self, rows: &[Row]) -> Means {
        let (status, code) = match *self {
            Self::NeverSent { .. } => return Means::NotNow,
            Self::NoAnswer { .. } => return Means::Unclear,
            Self::Answer { status, code, .. } => (status, code),
        };
        let row = code.and_then(|code| rows.iter().find(|row| row.fits(status, code)));
        match (row, status, code) {
            (Some(row), _, _) => row.means,
            (None, 200..=299, _) => Means::Taken,
            (None, 429, _) => Means::NotNow,
            (None, 409 | 412, _) => Means::State,
            (None, 401 | 403 | 404 | 405, _) => Means::Refused,
            // A proxy that gives up on the server behind it says so with 408; what the server did, it does not know.
            (None, 408, _) => Means::Unclear,
            (None, 400..=499, Some(_)) => Means::Refused,
            (None, _, _) => Means::Unclear,
        }
    }

    /// Reads the answer to a call that changes something. `handle` is what a call that was taken can be asked after with; `pause` is
    /// how long to wait where the provider does not say.
    pub fn outcome<T>(&self, rows: &[Row], handle: OpHandle, pause: Millis) -> Outcome<T> {
        match self.means(rows) {
            Means::Taken => Outcome::Accepted(handle),
            Means::Refused | Means::Missing => Outcome::refused(self.words()),
            Means::NotNow => Outcome::not_done_yet(self.words(), self.wait(pause)),
            Means::State => Outcome::Conflict(crate::contract::Cause::new(self.words())),
            Means::Unclear => Outcome::unknown(self.words()),
        }
    }

    /// Reads the answer to a read as the error that it is. An answer that says yes is none: whoever calls this could not understand
    /// its body.
    #[must_use]
    pub fn error(&self, verb: &'static str, rows: &[Row], pause: Millis) -> ProviderError {
        match (self.means(rows), self) {
            (Means::Taken, _) => ProviderError::Strange { verb, saw: self.words() },
            (Means::Missing, _) => ProviderError::Missing { verb, why: self.words() },
            (Means::Refused | Means::State, _) => ProviderError::Refused { verb, why: self.words() },
            (Means::NotNow, Self::Answer { .. }) => ProviderError::Throttled { verb, wait: self.wait(pause) },
            (Means::NotNow | Means::Unclear, _) => ProviderError::unreachable(verb, self.words()),
        }
    }

    fn wait(&self, pause: Millis) -> Millis {
        match *self {
            Self::Answer { retry_after: Some(wait), .. } => wait,
            Self::Answer { retry_after: None, .. } | Self::NeverSent { .. } | Self::NoAnswer { .. } => pause,
        }
    }

    fn words(&self) -> String {
        match *self {
            Self::NeverSent { why } => format!("never sent: {why}"),
            Self::NoAnswer { why } => format!("sent, and no answer came: {why}"),
            Self::Answer { status, code: Some(code), message, .. } => format!("{status} {code}: {message}"),
            Self::Answer { status, code: None, message, .. } => format!("{status}: {message}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        base::seconds,
        contract::{NotDone, Retry},
    };

    /// The rows of docs/fit.md, "From a vendor's answer to an `Outcome`".
    const AZURE: [Row; 4] = [
        Row::of("*Busy", Means::NotNow).with(409),
        Row::of("*NotSecondary", Means::State).with(400),
        Row::of("ScopeLocked", Means::Refused),
        Row::of("ResourceNotFound", Means::Missing).with(404),
    ];
    const AWS: [Row; 6] = [
        Row::of("Throttling*", Means::NotNow),
        Row::of("PriorRequestNotComplete", Means::NotNow),
        Row::of("InvalidDBInstanceState*", Means::State),
        Row::of("InvalidDBClusterStateFault", Means::State),
        Row::of("InvalidGlobalClusterStateFault", Means::State),
        Row::of("InternalFailure", Means::Unclear),
    ];
    const GOOGLE: [Row; 4] = [
        Row::of("operationInProgress", Means::NotNow).with(409),
        Row::of("rateLimitExceeded", Means::NotNow).with(403),
        Row::of("invalidState", Means::State),
        Row::of("staleData", Means::State).with(412),
    ];

    fn answer(status: u16, code: &str) -> Came<'_> {
        let code = (!code.is_empty()).then_some(code);
        Came::Answer { status, code, message: "as it said", retry_after: None }
    }

    #[test]
    fn every_row_of_the_document_means_what_it_says() {
        let table: &[(&[Row], Came<'_>, Means)] = &[
            (&AZURE, Came::NeverSent { why: "connect refused" }, Means::NotNow),
            (&AZURE, Came::NoAnswer { why: "the connection was reset" }, Means::Unclear),
            (&AZURE, answer(202, ""), Means::Taken),
            (&AZURE, answer(400, "InvalidParameter"), Means::Refused),
            (&AZURE, answer(401, ""), Means::Refused),
            (&AZURE, answer(403, ""), Means::Refused),
            (&AZURE, answer(404, "ResourceNotFound"), Means::Missing),
            (&AZURE, answer(404, ""), Means::Refused),
            (&AZURE, answer(409, "ScopeLocked"), Means::Refused),
            (&AZURE, answer(429, ""), Means::NotNow),
            (&AZURE, answer(409, "ServerIsBusy"), Means::NotNow),
            (&AZURE, answer(409, "Other"), Means::State),
            (&AZURE, answer(400, "ServerNotSecondary"), Means::State),
            (&AZURE, answer(408, ""), Means::Unclear),
            (&AZURE, answer(500, "InternalServerError"), Means::Unclear),
            (&AWS, answer(200, ""), Means::Taken),
            (&AWS, answer(403, "AccessDenied"), Means::Refused),
            (&AWS, answer(400, "InvalidParameterValue"), Means::Refused),
            (&AWS, answer(400, "Throttling"), Means::NotNow),
            (&AWS, answer(400, "ThrottlingException"), Means::NotNow),
            (&AWS, answer(400, "PriorRequestNotComplete"), Means::NotNow),
            (&AWS, answer(400, "InvalidDBInstanceState"), Means::State),
            (&AWS, answer(400, "InvalidDBInstanceStateFault"), Means::State),
            (&AWS, answer(400, "InvalidGlobalClusterStateFault"), Means::State),
            (&AWS, answer(400, "InternalFailure"), Means::Unclear),
            (&AWS, answer(400, ""), Means::Unclear),
            (&AWS, answer(503, "ServiceUnavailable"), Means::Unclear),
            (&GOOGLE, answer(200, ""), Means::Taken),
            (&GOOGLE, answer(403, "forbidden"), Means::Refused),
            (&GOOGLE, answer(403, "rateLimitExceeded"), Means::NotNow),
            (&GOOGLE, answer(409, "operationInProgress"), Means::NotNow),
            (&GOOGLE, answer(429, "anything"), Means::NotNow),
            (&GOOGLE, answer(412, "staleData"), Means::State),
            (&GOOGLE, answer(400, "invalidState"), Means::State),
            (&GOOGLE, answer(502, ""), Means::Unclear),
        ];
        for (rows, came, means) in table {
            assert_eq!(came.means(rows), *means, "{came:?}");
        }
    }

    /// A redirect, an informational answer and a status that does not exist say nothing of the effect.
    #[test]
    fn what_is_not_understood_is_unclear() {
        for status in [0, 100, 301, 304, 399, 600, 999] {
            assert_eq!(answer(status, "Some").means(&[]), Means::Unclear, "{status}");
        }
    }

    #[test]
    fn an_outcome_keeps_the_words_the_pause_and_the_handle() {
        let busy = Came::Answer { status: 429, code: None, message: "slow down", retry_after: Some(seconds(7)) };
        let Outcome::<()>::NotDone(NotDone { cause, retry }) = busy.outcome(&[], OpHandle::none(), seconds(1)) else {
            unreachable!("429 is not done");
        };
        assert_eq!((cause.as_str(), retry), ("429: slow down", Retry::After(seconds(7))));
        let handle = OpHandle::new("op-1").unwrap();
        assert_eq!(answer(202, "").outcome::<()>(&[], handle.clone(), seconds(1)), Outcome::Accepted(handle));
        let error = answer(200, "").error("describe", &[], seconds(1));
        assert_eq!(error.to_string(), "`describe` answered `200: as it said`, which is not understood");
        let error = Came::NoAnswer { why: "timeout" }.error("describe", &[], seconds(1));
        assert!(matches!(error, ProviderError::Unreachable { .. }), "{error}");
    }
}
