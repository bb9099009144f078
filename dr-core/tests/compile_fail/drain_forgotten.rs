//! A drain whose hold is forgotten is told.
#![deny(unused_must_use)]

use dr_core::{PlanBuilder, Situation, plan::phase::{self, Ready}};

fn drain(plan: &mut PlanBuilder, now: &Situation, ready: &Ready) {
    phase::drain(plan, now, ready);
}

fn main() {
    let _ = drain;
}
