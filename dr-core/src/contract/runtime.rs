//! Time and tasks, which the core is given and never takes.

use std::{fmt::Debug, future::Future, pin::Pin};

use crate::base::{Mono, Timestamp};

/// A future that owns what it needs.
pub type Task = Pin<Box<dyn Future<Output = ()> + Send + 'static>>;

/// Time and tasks. The engine brings tokio's, the testkit a virtual one; nothing else in this crate knows the time.
pub trait Runtime: Debug + Send + Sync + 'static {
    /// The monotonic clock; its readings never cross a restart.
    fn now_mono(&self) -> Mono;

    /// The wall clock, for records.
    fn now_wall(&self) -> Timestamp;

    /// Completes when the monotonic clock reaches `until`; at once if it has.
    fn sleep_until(&self, until: Mono) -> Task;

    /// Runs `task` to its end even if the caller's future is dropped: a timeout abandons a handle, never an effect.
    fn spawn_detached(&self, task: Task);
}
