//! Nobody writes the proof that a member is no writer by hand.
use dr_core::{contract::NotWriter, Target};

fn proof(target: Target) -> NotWriter {
    NotWriter { target }
}

fn main() {}
