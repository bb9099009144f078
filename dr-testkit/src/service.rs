//! A user's own service as a part of the simulated world: each call is a fault point, each effect a line of the truth.

use std::{
    fmt,
    sync::{Arc, Mutex, PoisonError},
};

use dr_core::{Outcome, ProviderError, contract::NotDone};

use crate::{
    cloud::{CallKind, Plane, Point, SimCloud},
    world::Effect,
};

/// A service with the state `S`. Implement your own trait on it with [`SimService::mutate`] and [`SimService::read`].
///
/// Clones share the state. It lives outside of the orchestrator: a crash does not touch it, and an effect that is on its way
/// arrives whether or not its caller still lives.
pub struct SimService<S> {
    state: Arc<Mutex<S>>,
    name: String,
    cloud: SimCloud,
}

impl<S> Clone for SimService<S> {
    fn clone(&self) -> Self {
        Self { state: Arc::clone(&self.state), name: self.name.clone(), cloud: self.cloud.clone() }
    }
}

impl<S> fmt::Debug for SimService<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SimService").field("name", &self.name).finish_non_exhaustive()
    }
}

/// Why a call of a [`SimService`] has no answer.
#[derive(Debug, thiserror::Error)]
pub enum ServiceError {
    /// It was refused before it had any effect.
    #[error("`{call}` was refused before it had any effect: {why}")]
    Refused {
        /// The call.
        call: String,
        /// Why.
        why: String,
    },
    /// No answer came; nobody knows.
    #[error("`{call}` got no answer: {why}")]
    NoAnswer {
        /// The call.
        call: String,
        /// Why.
        why: String,
    },
}

impl SimCloud {
    /// Adds a service of one's own to the world.
    pub fn service<S: Send + 'static>(&self, name: &str, state: S) -> SimService<S> {
        SimService { state: Arc::new(Mutex::new(state)), name: name.to_owned(), cloud: self.clone() }
    }
}

impl<S: Send + 'static> SimService<S> {
    /// Changes the state, as a call that can be refused, be lost, arrive late or twice. `'static`, because the effect may outlive
    /// its caller.
    ///
    /// # Errors
    /// A [`ServiceError`]; after [`ServiceError::NoAnswer`] nobody knows whether it happened.
    pub async fn mutate<R: Send + 'static>(
        &self,
        verb: &str,
        change: impl Fn(&mut S) -> R + Send + Sync + 'static,
    ) -> Result<R, ServiceError> {
        let call = format!("{}.{verb}", self.name);
        let (state, answer) = (Arc::clone(&self.state), Arc::new(Mutex::new(None)));
        let slot = Arc::clone(&answer);
        let id = self.cloud.hook(move || {
            let result = change(&mut state.lock().unwrap_or_else(PoisonError::into_inner));
            *slot.lock().unwrap_or_else(PoisonError::into_inner) = Some(result);
        });
        let point = Point { name: call.clone(), kind: CallKind::Change, plane: Plane::Other, touch: None };
        match self.cloud.current_line().send(point, Effect::Custom { id }).await {
            Outcome::Done(_) | Outcome::Accepted(_) => {
                let answer = answer.lock().unwrap_or_else(PoisonError::into_inner).take();
                answer.ok_or_else(|| ServiceError::NoAnswer { call, why: "no answer".to_owned() })
            }
            Outcome::NotDone(NotDone { cause, .. }) => Err(ServiceError::Refused { call, why: cause.to_string() }),
            Outcome::Unknown(cause) | Outcome::Conflict(cause) => {
                Err(ServiceError::NoAnswer { call, why: cause.to_string() })
            }
        }
    }

    /// Reads the state, as a call that can fail.
    ///
    /// # Errors
    /// A [`ServiceError`].
    pub async fn read<R: Send>(&self, verb: &str, read: impl FnOnce(&S) -> R + Send) -> Result<R, ServiceError> {
        let call = format!("{}.{verb}", self.name);
        let point = Point::read(call.clone(), Plane::Other);
        let line = self.cloud.current_line();
        let looked =
            line.read(point, "read", |_, _| Ok(read(&self.state.lock().unwrap_or_else(PoisonError::into_inner))));
        looked.await.map_err(|error: ProviderError| ServiceError::NoAnswer { call, why: error.to_string() })
    }

    /// Looks at the state as it really is: for laws and tests, no fault point.
    pub fn look<R>(&self, look: impl FnOnce(&S) -> R) -> R {
        look(&self.state.lock().unwrap_or_else(PoisonError::into_inner))
    }
}
