//! Real servers for examples and tests: two PostgreSQL servers and a PgBouncer in a temporary directory, writers, probers.
//!
//! Nothing here is used by a switchover; it is what a switchover is shown and measured with.

mod baseline;
mod cluster;
mod prober;
mod writers;

pub use baseline::{BaselineTimes, bare_switchover};

pub use cluster::{ClusterOptions, ClusterPassword, LocalCluster, Node};
pub use prober::{DirectProber, ProbeReport};
pub use writers::{LossCheck, WriterReport, Writers};
