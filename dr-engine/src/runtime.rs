//! Time and tasks from tokio.

use std::time::{Instant, SystemTime, UNIX_EPOCH};

use dr_core::{
    Timestamp,
    base::Mono,
    contract::{Runtime, Task},
};
use tokio::{runtime::Handle, task::JoinError};

/// tokio's timers and tasks. The monotonic clock starts when this value is made.
#[derive(Debug, Clone)]
pub struct TokioRuntime {
    origin: Instant,
    handle: Handle,
}

impl TokioRuntime {
    /// The runtime that this code runs in.
    ///
    /// # Errors
    /// There is none: the caller is not inside a tokio runtime.
    pub fn current() -> Result<Self, tokio::runtime::TryCurrentError> {
        Handle::try_current().map(Self::on)
    }

    /// The runtime behind `handle`.
    #[must_use]
    pub fn on(handle: Handle) -> Self {
        Self { origin: Instant::now(), handle }
    }
}

impl Runtime for TokioRuntime {
    fn now_mono(&self) -> Mono {
        Mono::new(self.origin.elapsed())
    }

    fn now_wall(&self) -> Timestamp {
        wall()
    }

    fn sleep_until(&self, until: Mono) -> Task {
        let wake = self.origin.checked_add(until.since_start());
        Box::pin(async move {
            match wake {
                Some(wake) => tokio::time::sleep_until(wake.into()).await,
                None => std::future::pending().await,
            }
        })
    }

    fn spawn_detached(&self, task: Task) {
        drop(self.handle.spawn(task));
    }
}

/// Leaves what a panic carried where it is: it may panic when it is dropped.
pub(crate) fn forget(failed: JoinError) {
    if let Ok(payload) = failed.try_into_panic() {
        std::mem::forget(payload);
    }
}

/// The wall clock, for records.
pub(crate) fn wall() -> Timestamp {
    let millis = |time: std::time::Duration| i64::try_from(time.as_millis()).unwrap_or(i64::MAX);
    Timestamp::from_millis(match SystemTime::now().duration_since(UNIX_EPOCH) {
        Ok(after) => millis(after),
        Err(before) => -millis(before.duration()),
    })
}

#[cfg(test)]
mod tests {
    use dr_core::Millis;

    use super::*;

    #[tokio::test]
    async fn sleeps_until_and_not_longer_than_asked() {
        let time = TokioRuntime::current().unwrap();
        let start = time.now_mono();
        time.sleep_until(start).await;
        let until = time.now_mono() + Millis::new(5);
        time.sleep_until(until).await;
        assert!(time.now_mono() >= until);
    }

    #[tokio::test]
    async fn a_detached_task_runs_on_when_nobody_waits() {
        let time = TokioRuntime::current().unwrap();
        let (tell, told) = tokio::sync::oneshot::channel();
        time.spawn_detached(Box::pin(async move {
            tokio::task::yield_now().await;
            tell.send(7).unwrap();
        }));
        assert_eq!(told.await.unwrap(), 7);
    }

    #[test]
    fn outside_of_tokio_there_is_no_runtime() {
        assert!(TokioRuntime::current().is_err());
    }
}
