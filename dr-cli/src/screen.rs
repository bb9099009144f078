//! Where pages go: plain text to pipes, a little colour to terminals, one JSON value for programs.

use std::{
    fmt,
    io::{self, BufRead, IsTerminal, Write},
};

use serde_json::Value;

use crate::exit::{Exit, Stop};

/// The outside of the program: what is printed, read, and known about the terminal.
pub struct Screen {
    out: Box<dyn Write + Send>,
    err: Box<dyn Write + Send>,
    input: Box<dyn BufRead + Send>,
    interactive: bool,
    colour: bool,
    json: bool,
    moves: bool,
    moving: bool,
}

impl fmt::Debug for Screen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Screen")
            .field("interactive", &self.interactive)
            .field("json", &self.json)
            .finish_non_exhaustive()
    }
}

impl Screen {
    /// The process's own streams.
    #[must_use]
    pub fn of_process() -> Self {
        let terminal = io::stdout().is_terminal();
        let plain = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        let dumb = std::env::var_os("TERM").is_some_and(|term| term == "dumb");
        Self {
            out: Box::new(io::stdout()),
            err: Box::new(io::stderr()),
            input: Box::new(io::BufReader::new(io::stdin())),
            interactive: terminal && io::stdin().is_terminal(),
            colour: terminal && !plain && !dumb,
            json: false,
            moves: terminal && !dumb,
            moving: false,
        }
    }

    /// Streams of the caller's; no colour. `interactive` says whether somebody can answer.
    pub fn over(
        out: impl Write + Send + 'static,
        err: impl Write + Send + 'static,
        input: impl BufRead + Send + 'static,
        interactive: bool,
    ) -> Self {
        let (out, err, input) = (Box::new(out), Box::new(err), Box::new(input));
        Self { out, err, input, interactive, colour: false, json: false, moves: false, moving: false }
    }

    pub(crate) fn as_json(&mut self, json: bool) {
        self.json = json;
    }

    pub(crate) fn is_json(&self) -> bool {
        self.json
    }

    /// Whether a person sits in front of it.
    pub(crate) fn interactive(&self) -> bool {
        self.interactive && !self.json
    }

    /// Prints what a command answers. A closed pipe is no error of ours.
    pub(crate) fn reply(&mut self, page: &str, json: &Value) {
        if self.json {
            self.line(json);
        } else {
            self.page(page);
        }
    }

    /// Whether a line can be written over another one: on terminals, for people.
    pub(crate) fn moves(&self) -> bool {
        self.moves && !self.json
    }

    /// Writes a line that the next one takes the place of; nothing where lines stay.
    pub(crate) fn moving(&mut self, line: &str) {
        if self.moves() {
            let line: String = line.chars().take(WIDTH).collect();
            let _closed = write!(self.out, "\r\u{1b}[2K{line}").and_then(|()| self.out.flush());
            self.moving = true;
        }
    }

    /// Takes the moving line away.
    fn still(&mut self) {
        if std::mem::take(&mut self.moving) {
            let _closed = write!(self.out, "\r\u{1b}[2K").and_then(|()| self.out.flush());
        }
    }

    /// Prints a page for people; nothing with `--json`.
    pub(crate) fn page(&mut self, page: &str) {
        self.still();
        if !self.json {
            let text = if self.colour { coloured(page) } else { page.to_owned() };
            let end = if text.ends_with('\n') || text.is_empty() { "" } else { "\n" };
            let _closed = write!(self.out, "{text}{end}").and_then(|()| self.out.flush());
        }
    }

    /// Prints one JSON value on one line; nothing without `--json`.
    pub(crate) fn line(&mut self, value: &Value) {
        if self.json {
            let _closed = writeln!(self.out, "{value}").and_then(|()| self.out.flush());
        }
    }

    /// Prints why a command stopped.
    pub(crate) fn stop(&mut self, stop: &Stop) -> Exit {
        self.still();
        if self.json {
            self.line(&stop.json);
        } else {
            let text = if self.colour { coloured(&stop.page) } else { stop.page.clone() };
            let _closed = write!(self.err, "{text}").and_then(|()| self.err.flush());
        }
        stop.exit
    }

    /// Asks for one line.
    pub(crate) fn ask(&mut self, prompt: &str) -> String {
        let _closed = write!(self.out, "{prompt}").and_then(|()| self.out.flush());
        let mut line = String::new();
        match self.input.read_line(&mut line) {
            Ok(_) => line.trim().to_owned(),
            Err(_) => String::new(),
        }
    }
}

/// A moving line that wraps would not be taken away whole.
const WIDTH: usize = 79;

const RED: &str = "31";
const GREEN: &str = "32";
const YELLOW: &str = "33";
const BOLD: &str = "1";

/// The words at the beginning of lines that get a colour.
const WORDS: [(&str, &str); 21] = [
    (" ✓ ", GREEN),
    (" ▶ ", YELLOW),
    (" ? ", YELLOW),
    (" ↻ ", YELLOW),
    (" … ", YELLOW),
    (" ✗ ", RED),
    (" ! ", YELLOW),
    ("error:", RED),
    ("REFUSED", RED),
    ("PARKED", RED),
    ("WAITS", YELLOW),
    ("BUG", RED),
    ("ASK", YELLOW),
    ("PAUSED", YELLOW),
    ("TURNING BACK", YELLOW),
    ("TURNED BACK", YELLOW),
    ("CANCELLED", YELLOW),
    ("HANDED OVER", YELLOW),
    ("DONE", GREEN),
    ("PLAN", BOLD),
    ("held:", BOLD),
];

fn coloured(page: &str) -> String {
    let mut out = String::with_capacity(page.len() + 64);
    for line in page.split_inclusive('\n') {
        match WORDS.iter().find(|(word, _)| line.starts_with(word)) {
            Some((word, colour)) => {
                let rest = line.strip_prefix(word).unwrap_or_default();
                out.push_str(&format!("\u{1b}[{colour}m{word}\u{1b}[0m{rest}"));
            }
            None => out.push_str(line),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_moving_line_is_taken_away_before_a_page_and_stays_off_pipes() {
        let path = tempfile::NamedTempFile::new().unwrap();
        let text = || std::fs::read_to_string(path.path()).unwrap();
        let mut screen = Screen::over(path.reopen().unwrap(), io::sink(), io::empty(), false);
        screen.moving("promote 3 s");
        assert_eq!(text(), "");
        screen.moves = true;
        screen.moving(&"x".repeat(100));
        screen.page("DONE");
        screen.page("and so on");
        let line = "x".repeat(WIDTH);
        assert_eq!(text(), format!("\r\u{1b}[2K{line}\r\u{1b}[2KDONE\nand so on\n"));
    }

    #[test]
    fn only_words_at_the_beginning_of_a_line_get_colour() {
        assert_eq!(coloured("DONE  x\nnot DONE\n"), "\u{1b}[32mDONE\u{1b}[0m  x\nnot DONE\n");
        assert_eq!(coloured("held: nothing"), "\u{1b}[1mheld:\u{1b}[0m nothing");
    }
}
