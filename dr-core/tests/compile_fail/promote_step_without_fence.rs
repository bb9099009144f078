//! A plan cannot hold a planned promotion without a fence: a catch-up is none.
use dr_core::{contract::{CatchUpReceipt, Consent}, PlanBuilder, plan::{Ref, steps::Promote}, Target};

fn promote(plan: &mut PlanBuilder, target: &Target, caught: &Ref<CatchUpReceipt>, consent: &Ref<Consent>) {
    plan.add("promote", Promote::planned(target, caught, caught, consent));
}

fn main() {
    let _ = promote;
}
