//! An input of a step is a reference; a receipt at hand does not do.
use dr_core::{contract::FenceReceipt, Input};

fn input(receipt: FenceReceipt) -> Input<FenceReceipt> {
    Input::of(&receipt)
}

fn main() {
    let _ = input;
}
