//! A drain is given back once, whichever phase does it.
use dr_core::{DrainReceipt, Held, PlanBuilder, Ref, phase};

fn reopen(plan: &mut PlanBuilder, drained: Held<DrainReceipt>, repointed: &Ref<()>) {
    phase::reopen(plan, drained, repointed);
    plan.release(drained, repointed);
}

fn main() {
    let _ = reopen;
}
