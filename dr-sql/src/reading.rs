//! What was seen and done, in the words of the core: readings, positions, errors, outcomes.

use std::time::SystemTime;

use dr_core::{
    Cause, Millis, Outcome, ProviderError, Timestamp,
    base::SystemId,
    contract::{Lineage, NotDone, Position, PositionUnit, Retry},
};

use crate::{
    error::{Effect, PgError},
    look::Identity,
    lsn::{Lsn, Timeline},
};

/// Now, for records.
pub fn now() -> Timestamp {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    Timestamp::from_millis(i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
}

/// The history `timeline` of a system.
#[must_use]
pub fn lineage(system: u64, timeline: Timeline) -> Lineage {
    Lineage { system: SystemId::new(system.to_string()), generation: timeline.number() }
}

/// A position in the log of a system.
#[must_use]
pub fn position(system: u64, lsn: Lsn) -> Position {
    Position { system: SystemId::new(system.to_string()), unit: PositionUnit::LogBytes, value: lsn.bytes() }
}

impl Identity {
    /// The history that the server carries.
    #[must_use]
    pub fn lineage(&self) -> Lineage {
        lineage(self.system_identifier, self.timeline)
    }
}

/// A failed look as a provider's error.
pub fn unread(verb: &'static str) -> impl Fn(PgError) -> ProviderError {
    move |error| match &error {
        PgError::Unreadable { saw, .. } => ProviderError::Strange { verb, saw: format!("{error} ({saw})") },
        PgError::Refused { .. } | PgError::Config(_) => ProviderError::Refused { verb, why: error.chain() },
        _ if error.is_login_refused() => ProviderError::Refused { verb, why: error.chain() },
        PgError::Connect { .. }
        | PgError::ConnectTimeout { .. }
        | PgError::Query { .. }
        | PgError::QueryTimeout { .. }
        | PgError::Outside(_)
        | PgError::Late { .. } => ProviderError::unreachable(verb, error.chain()),
    }
}

/// A failed act as an outcome: what the server refused did not happen; what was sent and not answered is unknown.
pub fn undone<T>(error: &PgError) -> Outcome<T> {
    let why = error.chain();
    match (error.effect(), error) {
        (Effect::Unknown, _) => Outcome::unknown(why),
        (Effect::None, PgError::ConnectTimeout { .. } | PgError::Connect { .. }) if !error.is_login_refused() => {
            Outcome::not_done_yet(why, Millis::new(100))
        }
        (Effect::None, _) => Outcome::refused(why),
    }
}

/// A refusal that asking again does not change.
pub fn never<T>(why: impl std::fmt::Display) -> Outcome<T> {
    Outcome::NotDone(NotDone { cause: Cause::new(why), retry: Retry::Never })
}
