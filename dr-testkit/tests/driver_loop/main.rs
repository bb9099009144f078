//! The driver loop against a small world of things that are on or off: what it sends, what it records, and in which order.
//!
//! Every call that reaches this world checks that its intent is durable (and sealed, where it must happen at most once), so each of
//! these tests proves the order of journal and effect besides what it is named for.

#![expect(clippy::unwrap_used, clippy::panic, reason = "tests")]

mod consent;
mod control;
mod engines;
mod gap;
mod grade;
mod protocol;
mod rig;
mod stubborn;
mod trouble;
mod world;
