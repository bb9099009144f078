//! The risk of a second writer is taken by people, not by a runbook or a backend: a waiver cannot be written down.
use dr_core::contract::{Waived, Waiver};

fn accept(waived: Waived) -> Waiver {
    Waiver { waived }
}

fn main() {
    let _ = accept;
}
