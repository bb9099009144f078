//! A request to promote cannot be written without its proofs.
use dr_core::{base::IdempotencyKey, contract::{Loss, PromoteRequest, PromotionTerms, Waived}, Target};

fn promote(from: Target, target: Target, key: IdempotencyKey, waived: Waived) -> PromoteRequest {
    PromoteRequest { target, from, terms: PromotionTerms::Dangerous { waived, loss: Loss::Nothing }, key }
}

fn main() {
    let _ = promote;
}
