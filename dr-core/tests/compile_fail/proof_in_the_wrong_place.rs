//! A catch-up is no fence.
use dr_core::{contract::{CaughtUp, Consented, PromoteRequest}, base::IdempotencyKey};

fn promote(key: IdempotencyKey, one: CaughtUp, two: CaughtUp, consented: Consented) -> PromoteRequest {
    PromoteRequest::planned(key, one, two, consented)
}

fn main() {}
