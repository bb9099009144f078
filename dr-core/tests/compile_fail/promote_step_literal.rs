//! A promotion cannot be written as plain data beside its constructors.
use dr_core::{contract::Consent, Input, Target, plan::steps::Promote};

fn promote(target: Target, consent: Input<Consent>) -> Promote {
    Promote { target, consent }
}

fn main() {
    let _ = promote;
}
