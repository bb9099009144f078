//! A planned swap in a plan needs a quiet primary; a drained application is not one.
use dr_core::{contract::{Consent, DrainReceipt}, plan::{Held, Ref, steps::SwapRoles}, PlanBuilder, Target};

fn swap(plan: &mut PlanBuilder, sides: (&Target, &Target), drained: &Held<DrainReceipt>, consent: &Ref<Consent>) {
    plan.add("swap", SwapRoles::planned(sides.0, sides.1, drained, consent));
}

fn main() {
    let _ = swap;
}
