//! A proof that is admitted and forgotten is told.
#![deny(unused_must_use)]

use dr_core::contract::{Consent, Fact, admit::{self, Door, Refused}};

fn check(door: &Door<'_>, consent: &Consent, now: &[Fact]) -> Result<(), Refused> {
    admit::consented(door, consent, now)?;
    Ok(())
}

fn main() {
    let _ = check;
}
