//! Runbooks under generated faults: the kill matrix of the built-in ones, single faults, a user's own runbook, and planted bugs that
//! must be found.

#![expect(clippy::unwrap_used, reason = "tests")]

mod acme;
mod apart;
mod catch_up;
mod faults;
mod logins;
mod matrix;
mod members;
mod otherwise;
mod planted;
mod presets;
mod singles;
mod story;
mod trusting;

/// Figures that belong into the log of every test run. The test harness keeps what passing tests print to itself.
fn tell(figures: &str) {
    use std::io::Write as _;
    writeln!(std::io::stderr().lock(), "{figures}").unwrap();
}
