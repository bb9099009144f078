//! What may have failed feeds nothing dangerous.
use dr_core::{plan::{Attempted, Ref}, contract::FenceReceipt, Input};

fn input(fence: &Ref<Attempted<FenceReceipt>>) -> Input<FenceReceipt> {
    Input::of(fence)
}

fn main() {
    let _ = input;
}
