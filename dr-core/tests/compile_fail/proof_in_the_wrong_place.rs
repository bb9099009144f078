//! A catch-up is no fence.
use dr_core::{CaughtUp, Consented, IdempotencyKey, PromoteRequest};

fn promote(key: IdempotencyKey, one: CaughtUp, two: CaughtUp, consented: Consented) -> PromoteRequest {
    PromoteRequest::planned(key, one, two, consented)
}

fn main() {}
