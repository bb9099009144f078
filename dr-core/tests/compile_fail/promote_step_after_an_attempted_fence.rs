//! A fence that was only attempted authorises no promotion.
use dr_core::{contract::{CatchUpReceipt, Consent}, PlanBuilder, plan::{Ref, steps::{FenceMember, Promote}}, Target};

fn promote(
    plan: &mut PlanBuilder,
    (fence, target): (FenceMember, &Target),
    caught: &Ref<CatchUpReceipt>,
    consent: &Ref<Consent>,
) {
    let fence = plan.attempt("fence", fence, "fence it later", "dba");
    plan.add("promote", Promote::planned(target, &fence, caught, consent));
}

fn main() {
    let _ = promote;
}
