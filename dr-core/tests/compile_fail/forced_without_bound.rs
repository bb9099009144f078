//! A forced promotion needs the bound of its loss.
use dr_core::{contract::{Consented, Fenced, PromoteRequest}, Grade, base::IdempotencyKey, Target};

fn promote(key: IdempotencyKey, target: Target, fenced: Fenced, consented: Consented) -> Result<PromoteRequest, Grade> {
    PromoteRequest::forced(key, target, fenced, consented)
}

fn main() {}
