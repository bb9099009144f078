//! The people of the examples: mira asks, ana and ben approve. On a terminal, you are ana.

use std::io::{BufRead as _, IsTerminal as _};

use anyhow::{Result, bail};
use dr_core::{APPROVE, Actor, Answer, View, run::REJECT};
use dr_engine::Run;

use crate::Board;

/// Who asks for the runs of the examples; so this person's approval does not count.
#[must_use]
pub fn requester() -> Actor {
    Actor::local("mira").with_role("platform").authenticated("the example", "mira")
}

/// Those who answer, one after the other.
#[derive(Debug)]
pub struct People {
    waiting: Vec<Actor>,
    typed: bool,
}

impl People {
    /// Ana and ben. `ask` lets the one at the terminal type ana's code; without a terminal nobody is waited for.
    #[must_use]
    pub fn new(ask: bool) -> Self {
        let person = |name: &str, role: &str| Actor::local(name).with_role(role).authenticated("the example", name);
        Self {
            waiting: vec![person("ben", "service-owner"), person("ana", "dba")],
            typed: ask && std::io::stdin().is_terminal() && std::io::stderr().is_terminal(),
        }
    }

    /// Lets the next person answer what the run asks.
    ///
    /// # Errors
    /// The answer did not count; the code was wrong.
    pub async fn answer(&mut self, run: &Run, view: &View, board: &mut Board) -> Result<()> {
        let (Some(ask), Some(digest), Some(code)) = (&view.ask, view.ask_digest, view.code()) else { return Ok(()) };
        let Some(person) = self.waiting.pop() else { return Ok(()) };
        let role = person.roles.iter().next().map(ToString::to_string).unwrap_or_default();
        let first = view.given.is_empty();
        if first {
            board.say(&view.question().unwrap_or_else(|| ask.question.clone()));
        }
        let choice = if self.typed && first { typed(board, &code).await? } else { APPROVE };
        run.answer(Answer::choose(choice, digest, person.clone()).note("seen in the example")).await?;
        board.say(&format!("{} ({role}) read the question, quotes its code {code}: {choice}", person.name));
        Ok(())
    }
}

async fn typed(board: &mut Board, code: &str) -> Result<&'static str> {
    board.say("You are ana. Type the code to approve, anything else rejects:");
    let line = tokio::task::spawn_blocking(|| {
        let mut line = String::new();
        std::io::stdin().lock().read_line(&mut line).map(|_| line)
    });
    let line = line.await??;
    if line.is_empty() {
        bail!("nobody typed anything");
    }
    Ok(if line.trim() == code { APPROVE } else { REJECT })
}
