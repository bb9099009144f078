//! Only the rules make a verified plan.
use std::sync::Arc;

use dr_core::{base::Digest, Plan, plan::Verified};

fn verify(plan: Plan) -> Verified {
    Verified { plan: Arc::new(plan), hash: Digest::zero() }
}

fn main() {
    let _ = verify;
}
