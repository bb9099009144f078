//! Phases: what runbooks are written with. The built-in ones use nothing else, so a step of one's own goes between any two.
//!
//! ```text
//!  ready ──► drain ──► hand_over ──► repoint ──► reopen ──► finish, bring_along, rejoin
//!  checks    writes    fence or      secret,     writes     serving, loss, notice; every other standby
//!  consent   held      swap; one     warm-up,    again      follows; the former primary follows, its
//!  settle    back      writer        routes                 fence is retired
//! ```
//!
//! Where the writer stays, applications alone are moved:
//!
//! ```text
//!  ready_to_redirect ──► observe ──► redirect
//!  lock, consent         one writer  secrets, routes, serving
//! ```
//!
//! Every check and both checkpoints come before writes are held back; inside the gap nothing waits longer than the provider's own
//! pace of looking. What needs a person comes before the drain.

mod after;
mod checks;
mod hand_over;
mod offer;
mod pace;
mod ready;
mod redirect;

pub use after::{bring_along, finish, harden, readers, rejoin, reopen, repoint};
pub use hand_over::{Drained, HandedOver, drain, hand_over};
pub use ready::{Accepts, Ready, ready, ready_for, ready_to_fail_over};
pub use redirect::{Agreed, observe, ready_to_redirect, redirect};

pub(crate) use checks::target as standby;
pub(crate) use offer::moves;
pub(crate) use pace::Pace;
