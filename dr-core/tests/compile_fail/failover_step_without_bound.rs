//! A forced promotion in a plan needs the bound of its loss; a measurement made afterwards is none.
use dr_core::{contract::{Consent, FenceReceipt, LossMeasurement}, PlanBuilder, plan::{Ref, steps::Promote}, Target};

fn promote(
    plan: &mut PlanBuilder,
    target: &Target,
    (fence, loss): (&Ref<FenceReceipt>, &Ref<LossMeasurement>),
    consent: &Ref<Consent>,
) {
    plan.add("promote", Promote::forced(target, fence, loss, consent));
}

fn main() {
    let _ = promote;
}
