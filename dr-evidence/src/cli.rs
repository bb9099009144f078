//! The program `dr-evidence` as a function: words in, a page and an exit code out.

use std::{
    ffi::OsString,
    fs::OpenOptions,
    io::Write,
    path::{Path, PathBuf},
    process::ExitCode,
};

use clap::{Args, Parser, Subcommand};
use dr_core::Report;

use crate::{
    input::{BadInput, new_secret, read_secret, verify_directory},
    verify::{Class, Verdict, printable},
};

/// How the program ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// The bundle is valid, or what was asked was done.
    Valid = 0,
    /// Wrong input: no such file, no key.
    Input = 2,
    /// Valid, and something that would have said more is not there.
    Gaps = 3,
    /// Valid, and the run was not over.
    Unterminated = 4,
    /// Something was changed.
    Tampered = 6,
    /// Nobody vouches for it.
    Unverifiable = 7,
}

impl From<Class> for Exit {
    fn from(class: Class) -> Self {
        match class {
            Class::Valid => Self::Valid,
            Class::ValidWithGaps => Self::Gaps,
            Class::Unterminated => Self::Unterminated,
            Class::Unverifiable => Self::Unverifiable,
            Class::Tampered => Self::Tampered,
        }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

const CODES: &str = "\
Exit codes:
  0  valid, or done
  2  wrong input
  3  valid, with gaps: something that would have said more is not there
  4  valid, and the run was not over when it was sealed
  6  tampered: something was changed, is missing, or is not what it says
  7  unverifiable: no root key was given, or a checkpoint is of another run";

/// Verifies, shows and reports the evidence of runs, offline.
#[derive(Debug, Parser)]
#[command(name = "dr-evidence", version, after_help = CODES, disable_help_subcommand = true, max_term_width = 100)]
struct Cli {
    /// Print one JSON value instead of a page
    #[arg(long, global = true)]
    json: bool,
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Verifies a bundle and names what was changed, and where
    Verify {
        #[command(flatten)]
        of: Of,
    },
    /// Lists the events of a bundle that verifies
    Show {
        #[command(flatten)]
        of: Of,
    },
    /// Says what the run of a bundle that verifies came to
    Report {
        #[command(flatten)]
        of: Of,
        /// Write the report as one HTML file; it is not overwritten
        #[arg(long, value_name = "FILE")]
        html: Option<PathBuf>,
    },
    /// Makes a root key in a file that its owner alone may read, and prints its public half
    NewKey {
        /// The file; it is not overwritten
        file: PathBuf,
        /// Whose key it is, such as `example.com/dr`
        #[arg(long)]
        name: String,
    },
    /// Prints the public half of a root key, for those who verify
    ExportKey {
        /// The file that `new-key` made
        file: PathBuf,
    },
}

/// A bundle, and what it is verified with.
#[derive(Args, Debug)]
struct Of {
    /// The directory of the bundle
    bundle: PathBuf,
    /// A root key that you trust, as `export-key` prints it, or a file that holds it; may be repeated
    #[arg(long, value_name = "KEY")]
    root: Vec<String>,
    /// A checkpoint of the run that you kept elsewhere; may be repeated
    #[arg(long, value_name = "FILE")]
    known: Vec<PathBuf>,
}

/// Why nothing was done.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct Wrong(String);

fn wrong(what: impl std::fmt::Display, path: &Path) -> Wrong {
    Wrong(format!("{}: {what}", path.display()))
}

/// Runs one command line, whose first word is the program's name.
pub fn run(words: impl IntoIterator<Item = OsString>, out: &mut dyn Write, err: &mut dyn Write) -> Exit {
    let cli = match Cli::try_parse_from(words) {
        Ok(cli) => cli,
        Err(error) => {
            let fault = error.use_stderr();
            let page = error.render();
            let _closed = if fault { write!(err, "{page}") } else { write!(out, "{page}") };
            return if fault { Exit::Input } else { Exit::Valid };
        }
    };
    let mut page = String::new();
    let answer = answer(&cli, &mut page);
    let _closed = write!(out, "{page}").and_then(|()| out.flush());
    answer.unwrap_or_else(|Wrong(what)| {
        let _closed = writeln!(err, "error: {}", printable(&what));
        Exit::Input
    })
}

fn answer(cli: &Cli, page: &mut String) -> Result<Exit, Wrong> {
    match &cli.verb {
        Verb::Verify { of } => {
            let verdict = check(of)?;
            *page = if cli.json { format!("{}\n", verdict.to_json()) } else { verdict.to_string() };
            Ok(verdict.class().into())
        }
        Verb::Show { of } => show(&check(of)?, cli.json, page),
        Verb::Report { of, html } => report(of, html.as_deref(), cli.json, page),
        Verb::NewKey { file, name } => {
            let key = new_secret(file, name).map_err(|error| wrong(error, file))?;
            *page = format!("{}\n", key.public());
            Ok(Exit::Valid)
        }
        Verb::ExportKey { file } => {
            let key = read_secret(file).map_err(|error| wrong(error, file))?;
            *page = format!("{}\n", key.public());
            Ok(Exit::Valid)
        }
    }
}

fn check(of: &Of) -> Result<Verdict, Wrong> {
    verify_directory(&of.bundle, &of.root, &of.known).map_err(|error| match &error {
        BadInput::Bundle(inner) => match std::error::Error::source(inner) {
            Some(source) => Wrong(format!("{error}: {source}")),
            None => Wrong(error.to_string()),
        },
        BadInput::Root { .. } | BadInput::Known { .. } => Wrong(error.to_string()),
    })
}

/// The events, unless something was changed: then the verdict alone, because nobody should read on.
fn show(verdict: &Verdict, json: bool, page: &mut String) -> Result<Exit, Wrong> {
    let exit = Exit::from(verdict.class());
    if json {
        let events: Vec<_> = if exit == Exit::Tampered { Vec::new() } else { verdict.records.iter().collect() };
        let events = serde_json::to_value(events).map_err(|error| Wrong(error.to_string()))?;
        let mut value = verdict.to_json();
        if let Some(object) = value.as_object_mut() {
            object.insert("events".to_owned(), events);
        }
        *page = format!("{value}\n");
        return Ok(exit);
    }
    if exit != Exit::Tampered
        && let Some(report) = told(verdict)?
    {
        for moment in &report.timeline {
            let node = moment.node.as_ref().map(ToString::to_string).unwrap_or_default();
            let row = format!("{:>5}  {}  {node:<24}  {}", moment.seq, moment.at, moment.text);
            page.push_str(printable(&row).replace('\n', " ").trim_end());
            page.push('\n');
        }
        page.push('\n');
    }
    page.push_str(&verdict.to_string());
    Ok(exit)
}

fn report(of: &Of, html: Option<&Path>, json: bool, page: &mut String) -> Result<Exit, Wrong> {
    let verdict = check(of)?;
    let exit = Exit::from(verdict.class());
    let report = if exit == Exit::Tampered { None } else { told(&verdict)? };
    if let Some(report) = report {
        let report = report.with_evidence(&of.bundle);
        if let Some(file) = html {
            create(file, report.to_html().as_bytes())?;
        }
        *page = if json { format!("{}\n", report.to_json()) } else { printable(&report.to_string()) };
    }
    if !json {
        page.push_str(&verdict.to_string());
    } else if page.is_empty() {
        *page = format!("{}\n", verdict.to_json());
    }
    Ok(exit)
}

/// The report of the events.
fn told(verdict: &Verdict) -> Result<Option<Report>, Wrong> {
    let Some(claim) = verdict.claim.as_ref().filter(|_| !verdict.records.is_empty()) else { return Ok(None) };
    Report::of(&claim.run, &verdict.records).map(Some).map_err(|error| Wrong(error.to_string()))
}

fn create(file: &Path, bytes: &[u8]) -> Result<(), Wrong> {
    let mut open = OpenOptions::new().write(true).create_new(true).open(file).map_err(|error| wrong(error, file))?;
    open.write_all(bytes).and_then(|()| open.sync_all()).map_err(|error| wrong(error, file))
}
