//! Calls of code that is not ours, a backend's or an embedder's: one that hangs or panics ends nothing but itself.

use std::{
    any::Any,
    fmt,
    future::Future,
    panic::{AssertUnwindSafe, catch_unwind},
    pin::Pin,
    task::{Context, Poll},
};

use futures_util::future::{Either, select};

use crate::{base::Millis, contract::Runtime};

/// Why a call gave no answer.
#[derive(Debug)]
pub(crate) enum NoAnswer {
    /// It did not end within this time.
    Late(Millis),
    /// It panicked, with these words.
    Panic(String),
}

impl fmt::Display for NoAnswer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Late(limit) => write!(f, "no answer within {}", crate::base::text::human(*limit)),
            Self::Panic(words) => write!(f, "it panicked: {words}"),
        }
    }
}

/// Waits for `call` for at most `limit`, and dares it to panic.
pub(crate) async fn within<T>(
    runtime: &dyn Runtime,
    limit: Millis,
    call: impl Future<Output = T> + Send,
) -> Result<T, NoAnswer> {
    let late = runtime.sleep_until(runtime.now_mono() + limit);
    match select(Call::of(call), late).await {
        Either::Left((answer, _)) => answer,
        Either::Right(((), _)) => Err(NoAnswer::Late(limit)),
    }
}

/// Waits for `call` for as long as it takes, and dares it to panic.
pub(crate) async fn caught<T>(call: impl Future<Output = T> + Send) -> Result<T, NoAnswer> {
    Call::of(call).await
}

/// Runs `work`, and dares it to panic.
pub(crate) fn at_once<T>(work: impl FnOnce() -> T) -> Result<T, NoAnswer> {
    catch_unwind(AssertUnwindSafe(work)).map_err(|payload| {
        let text = words(payload.as_ref()).to_owned();
        // What a panic carries is not ours either, and may panic when it is dropped. It is leaked instead.
        std::mem::forget(payload);
        NoAnswer::Panic(text)
    })
}

/// The message of a panic, if it has one.
fn words(payload: &(dyn Any + Send)) -> &str {
    let text = payload.downcast_ref::<&str>().copied();
    text.or_else(|| payload.downcast_ref::<String>().map(String::as_str)).unwrap_or("no words")
}

/// A call whose polls, and whose end, may panic.
struct Call<F>(Option<Pin<Box<F>>>);

impl<F: Future> Call<F> {
    fn of(call: F) -> Self {
        Self(Some(Box::pin(call)))
    }

    fn end(&mut self) {
        let call = self.0.take();
        // Its answer is there, or nobody waits for it: a panic of what it leaves behind says nothing more.
        let _ended = at_once(|| drop(call)).is_ok();
    }
}

impl<F: Future> Future for Call<F> {
    type Output = Result<F::Output, NoAnswer>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let Some(call) = &mut self.0 else { return Poll::Pending };
        match at_once(|| call.as_mut().poll(cx)) {
            Ok(Poll::Pending) => Poll::Pending,
            Ok(Poll::Ready(answer)) => {
                self.end();
                Poll::Ready(Ok(answer))
            }
            Err(panic) => {
                self.end();
                Poll::Ready(Err(panic))
            }
        }
    }
}

impl<F> Drop for Call<F> {
    fn drop(&mut self) {
        let call = self.0.take();
        let _ended = at_once(|| drop(call)).is_ok();
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;

    use super::*;

    /// Panics when it is dropped.
    struct Bomb;

    impl Drop for Bomb {
        fn drop(&mut self) {
            assert!(std::thread::panicking(), "a bomb");
        }
    }

    /// The payload of a caught panic was dropped in the driver, and what a call leaves behind too: either may panic.
    #[test]
    fn bug_a_panic_of_what_a_panic_carries_stays_in_the_call() {
        let explodes = async { std::panic::panic_any(Bomb) };
        let said: Result<(), NoAnswer> = caught(explodes).now_or_never().unwrap();
        assert_eq!(said.unwrap_err().to_string(), "it panicked: no words");

        let leaves = async {
            let _bomb = Bomb;
            7
        };
        assert!(caught(leaves).now_or_never().unwrap().is_err(), "its end is a part of its last poll");

        let mut hangs = Box::pin(caught(async {
            let _bomb = Bomb;
            std::future::pending::<()>().await;
        }));
        assert!(hangs.as_mut().now_or_never().is_none());
        drop(hangs);
    }

    #[test]
    fn the_words_of_a_panic_are_kept() {
        let said = at_once(|| -> () { panic!("the lamp is {}", "broken") });
        assert_eq!(said.unwrap_err().to_string(), "it panicked: the lamp is broken");
        assert_eq!(at_once(|| 7).unwrap(), 7);
    }
}
