//! `dr` as people use it: screens held against golden files, and the program as a process.
#![expect(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

mod evidence;
mod notify;
mod process;
mod screens;
mod servers;
mod stage;
mod truth;
