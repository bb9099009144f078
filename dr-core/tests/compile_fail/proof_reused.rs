//! A proof is moved into one request.
use dr_core::{contract::{CaughtUp, Consented, Fenced, PromoteRequest}, base::IdempotencyKey};

fn promote(key: IdempotencyKey, fenced: Fenced, caught: (CaughtUp, CaughtUp), consented: (Consented, Consented)) {
    let first = PromoteRequest::planned(key.clone(), fenced, caught.0, consented.0);
    let second = PromoteRequest::planned(key, fenced, caught.1, consented.1);
    drop((first, second));
}

fn main() {}
