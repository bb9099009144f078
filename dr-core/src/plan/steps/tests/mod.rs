//! The decision tables of the handlers, the dangerous ones above all.

mod after;
mod before;
mod clear;
mod dangerous;
mod down;
mod gate;
mod keep;
mod loss;
mod observe;
mod readers;
mod rehearse;
mod sequences;
mod window;
mod world;

use crate::{
    contract::Outcome,
    plan::{Observed, Prepared, StepError},
};

/// The word for an answer, to compare in tables.
fn seen<T>(answer: &Result<Observed<T>, StepError>) -> &'static str {
    match answer {
        Ok(Observed::NotStarted) => "not started",
        Ok(Observed::Partial { .. }) => "partial",
        Ok(Observed::InProgress { .. }) => "in progress",
        Ok(Observed::Done(_)) => "done",
        Ok(Observed::Unknown(_)) => "not yet",
        Ok(Observed::Conflict(_)) => "conflict",
        Ok(Observed::GivenUp(_)) => "given up",
        Ok(Observed::Short(_)) => "short",
        Err(_) => "error",
    }
}

fn ready<T>(answer: &Result<Prepared<T>, StepError>) -> &'static str {
    match answer {
        Ok(Prepared::AlreadyDone(_)) => "already done",
        Ok(Prepared::Ready(_)) => "ready",
        Ok(Prepared::NotReady(_)) => "not ready",
        Ok(Prepared::Conflict(_)) => "conflict",
        Err(_) => "error",
    }
}

fn sent<T>(answer: &Result<Outcome<T>, StepError>) -> &'static str {
    match answer {
        Ok(Outcome::Done(_)) => "done",
        Ok(Outcome::Accepted(_)) => "accepted",
        Ok(Outcome::NotDone(_)) => "not done",
        Ok(Outcome::Unknown(_)) => "unknown",
        Ok(Outcome::Conflict(_)) => "conflict",
        Err(_) => "error",
    }
}
