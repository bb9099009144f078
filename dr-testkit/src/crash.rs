//! The switch by which an injected crash ends a process.

use std::{
    fmt,
    sync::{Arc, Mutex, PoisonError},
};

type OnTrip = Arc<dyn Fn(&str) + Send + Sync>;

/// Shared by a process, its journal and its way to the cloud. Once tripped, the process is dead: its calls never answer.
#[derive(Clone, Default)]
pub struct CrashSwitch {
    tripped: Arc<Mutex<Option<String>>>,
    on_trip: Option<OnTrip>,
}

impl fmt::Debug for CrashSwitch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("CrashSwitch").field(&self.tripped()).finish()
    }
}

impl CrashSwitch {
    /// A switch that a [`VirtualRuntime`](crate::VirtualRuntime) watches.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// A switch that calls `on_trip`, for processes on a real clock: it may end the process.
    #[must_use]
    pub fn calling(on_trip: impl Fn(&str) + Send + Sync + 'static) -> Self {
        Self { tripped: Arc::default(), on_trip: Some(Arc::new(on_trip)) }
    }

    /// Ends the process at the named point.
    pub fn trip(&self, point: &str) {
        self.tripped.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert_with(|| point.to_owned());
        if let Some(on_trip) = &self.on_trip {
            on_trip(point);
        }
    }

    /// Where the process ended, if it did.
    #[must_use]
    pub fn tripped(&self) -> Option<String> {
        self.tripped.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Trips and never answers.
    pub(crate) async fn die<T>(&self, point: &str) -> T {
        self.trip(point);
        std::future::pending().await
    }
}
