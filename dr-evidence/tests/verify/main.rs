//! Bundles of runs of the simulated cloud: what verifies, and what every change is answered with.

#![expect(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

mod lies;
mod program;
mod recorded;
mod runs;
mod sound;
mod tampered;
