//! A drain is given back once, whichever phase does it.
use dr_core::{PlanBuilder, plan::{Ref, phase}};

fn reopen(plan: &mut PlanBuilder, drained: phase::Drained, repointed: &Ref<()>) {
    phase::reopen(plan, drained, repointed);
    phase::reopen(plan, drained, repointed);
}

fn main() {
    let _ = reopen;
}
