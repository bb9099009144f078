//! A writer is confirmed from a promotion, not from a consent.
use dr_core::{contract::Consent, PlanBuilder, plan::{Ref, steps::ConfirmWriter}, Target};

fn confirm(plan: &mut PlanBuilder, consent: &Ref<Consent>, from: &Target) {
    plan.add("confirm-writer", ConfirmWriter::of(consent, from));
}

fn main() {
    let _ = confirm;
}
