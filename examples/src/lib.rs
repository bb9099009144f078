//! What the examples share: a stage to play on, people who answer, a board that shows progress, and a result.
//!
//! ```text
//!   Stage (simulated cloud, group file, engine) ──plan──► preview ──start──► follow(board, people) ──► Shown (JSON)
//! ```
//! Progress goes to standard error. With `--json`, standard output is exactly one JSON object.

mod board;
mod evidence;
mod people;
mod result;
mod stage;

use anyhow::Result;
use dr_core::{Report, View, show::Standing};
use dr_engine::Run;

pub use board::Board;
pub use evidence::Evidence;
pub use people::{People, requester};
pub use result::{Shown, word};
pub use stage::{GROUP, Stage};

/// What came of following a run: the last view, and the report if the run is over.
#[derive(Debug)]
pub struct Followed {
    /// The last view.
    pub view: View,
    /// What the run came to so far.
    pub report: Report,
}

/// Follows a run to its end, or to a question that the example's people do not answer.
///
/// # Errors
/// The engine stopped driving the run.
pub async fn follow(run: &Run, board: &mut Board, people: &mut People) -> Result<Followed> {
    let mut watch = run.watch();
    let mut last = None;
    while let Some(view) = watch.next().await? {
        board.show(&view);
        match &view.state {
            Standing::Asking => people.answer(run, &view, board).await?,
            Standing::Parked => {
                board.say(&view.question().unwrap_or_default());
                last = Some(view);
                break;
            }
            Standing::Running | Standing::Paused | Standing::TurningBack | Standing::Done { .. } => {}
        }
        last = Some(view);
    }
    board.end();
    let view = match last {
        Some(view) => view,
        None => run.view().await?,
    };
    Ok(Followed { view, report: run.report().await? })
}

/// The library program of the README compiles.
#[cfg(doctest)]
#[doc = include_str!("../../README.md")]
struct Readme;
