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
    bundle::Bundle,
    key::{BadKey, PublicKey, SecretKey},
    note::{Checkpoint, Note},
    verify::{Class, Verdict, Verifier, printable},
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
            let key = SecretKey::generate(name).map_err(|error| wrong(error, file))?;
            let text = format!("{}\n", key.text());
            create(file, text.as_bytes(), Reader::Owner)?;
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

/// Reads a root key's file.
///
/// # Errors
/// The file cannot be read, or holds no secret key. The message does not quote it.
pub fn read_secret(file: &Path) -> Result<SecretKey, BadSecret> {
    let text = std::fs::read_to_string(file)?;
    Ok(SecretKey::from_text(&text)?)
}

/// A file is no secret key.
#[derive(Debug, thiserror::Error)]
pub enum BadSecret {
    /// It cannot be read.
    #[error("it cannot be read: {0}")]
    Io(#[from] std::io::Error),
    /// It holds something else.
    #[error("it holds no secret key of `dr-evidence new-key`")]
    Key(#[from] BadKey),
}

/// Reads a root key: its text, or the file that holds it.
///
/// # Errors
/// Neither is a public key.
pub fn read_public(text: &str) -> Result<PublicKey, BadKey> {
    text.trim().parse().or_else(|bad| match std::fs::read_to_string(text) {
        Ok(content) => content.trim().parse(),
        Err(_) => Err(bad),
    })
}

fn check(of: &Of) -> Result<Verdict, Wrong> {
    let mut roots = Vec::new();
    for root in &of.root {
        roots.push(read_public(root).map_err(|error| wrong(error, Path::new(root)))?);
    }
    let mut verifier = Verifier::new(roots);
    for file in &of.known {
        let bytes = std::fs::read(file).map_err(|error| wrong(error, file))?;
        let note = Note::parse(&bytes).and_then(|note| Checkpoint::parse(note.text()));
        verifier = verifier.with_known(note.map_err(|error| wrong(error, file))?);
    }
    let bundle = Bundle::read(&of.bundle).map_err(|error| match std::error::Error::source(&error) {
        Some(source) => Wrong(format!("{error}: {source}")),
        None => Wrong(error.to_string()),
    })?;
    Ok(verifier.check(&bundle))
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
            create(file, report.to_html().as_bytes(), Reader::Anybody)?;
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

/// Who may read a file.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Reader {
    Owner,
    Anybody,
}

fn create(file: &Path, bytes: &[u8], reader: Reader) -> Result<(), Wrong> {
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    if reader == Reader::Owner {
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    }
    let mut open = options.open(file).map_err(|error| wrong(error, file))?;
    open.write_all(bytes).and_then(|()| open.sync_all()).map_err(|error| wrong(error, file))
}
