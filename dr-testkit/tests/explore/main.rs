//! Runbooks under generated faults: the kill matrix of the built-in ones, a user's own runbook, and planted bugs that must be found.

#![expect(clippy::unwrap_used, clippy::panic, clippy::print_stdout, reason = "tests")]

mod acme;
mod matrix;
mod story;
