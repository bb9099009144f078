//! The `dr` program as a library, because users compile their own backends, runbooks and steps in:
//!
//! ```no_run
//! use std::process::ExitCode;
//!
//! fn main() -> ExitCode {
//!     dr_cli::main(dr_cli::App::new())
//! }
//! ```
//!
//! ```text
//!   args ──► verb ──► Link (engine, groups, people) ──► page | JSON ──► Screen ──► exit code
//! ```

mod args;
mod exit;
mod files;
mod link;
mod people;
mod sandbox;
mod screen;
mod sim;
mod verbs;

use std::{
    collections::BTreeMap,
    ffi::OsString,
    path::{Path, PathBuf},
    process::ExitCode,
    sync::Arc,
};

use clap::Parser as _;
use dr_core::{Actor, Backend, Catalog, Runbook};

pub use exit::Exit;
pub use screen::Screen;
pub use sim::Simulated;

use exit::Stop;

/// What is compiled into a `dr` program.
#[derive(Clone, Debug)]
pub struct App {
    backends: Vec<Arc<dyn Backend>>,
    runbooks: BTreeMap<String, Arc<dyn Runbook>>,
    steps: Catalog,
    acting: Option<Actor>,
    leases: Option<PathBuf>,
    people: Option<PathBuf>,
}

impl Default for App {
    fn default() -> Self {
        Self {
            backends: Vec::new(),
            runbooks: BTreeMap::new(),
            steps: Catalog::empty(),
            acting: None,
            leases: None,
            people: None,
        }
    }
}

impl App {
    /// A program without backends.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds what answers for one prefix of names in group files.
    #[must_use]
    pub fn backend(mut self, backend: impl Backend) -> Self {
        self.backends.push(Arc::new(backend));
        self
    }

    /// Adds a runbook of your own: `dr plan with NAME GROUP`.
    #[must_use]
    pub fn runbook(mut self, runbook: impl Runbook + 'static) -> Self {
        self.runbooks.insert(runbook.id().name().to_owned(), Arc::new(runbook));
        self
    }

    /// Adds steps of your own to the built-in ones.
    #[must_use]
    pub fn steps(mut self, steps: Catalog) -> Self {
        self.steps = self.steps.and(steps);
        self
    }

    /// Reads who may do what from `file` instead of `/etc/dr/people.toml`. The file, and every directory on the way to it, must belong to
    /// root and be writable by nobody else: whoever could change it could approve his own run. It is set here and nowhere else, because an
    /// option or a variable would let the person who types name a file of his own.
    #[must_use]
    pub fn people(mut self, file: impl AsRef<Path>) -> Self {
        self.people = Some(file.as_ref().to_path_buf());
        self
    }

    /// Says who acts, for programs that authenticate people themselves. Without it, it is the user of the operating system,
    /// with the roles of [`people`](Self::people).
    #[must_use]
    pub fn acting_as(mut self, actor: Actor) -> Self {
        self.acting = Some(actor);
        self
    }

    /// Keeps the leases in `dir` instead of the directory that all engines of this host use. Programs exclude each other only
    /// within one directory.
    #[must_use]
    pub fn leases_in(mut self, dir: impl AsRef<Path>) -> Self {
        self.leases = Some(dir.as_ref().to_path_buf());
        self
    }

    /// Runs one command line, whose first word is the program's name.
    pub fn run(&self, words: impl IntoIterator<Item = impl Into<OsString> + Clone>, screen: &mut Screen) -> Exit {
        let cli = match args::Cli::try_parse_from(words) {
            Ok(cli) => cli,
            Err(error) if error.use_stderr() => {
                let page = format!("{}nothing was sent\n", error.render());
                let json = serde_json::json!({"error": error.to_string(), "exit": Exit::Input.code()});
                return screen.stop(&Stop { exit: Exit::Input, page, json });
            }
            Err(help) => {
                screen.page(&help.render().to_string());
                return Exit::Done;
            }
        };
        screen.as_json(cli.places.json);
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
        let answer = match runtime {
            Ok(runtime) => {
                let answer = runtime.block_on(verbs::run(self, &cli, screen));
                // What was sent is not waited for: the run is resumed from its journal.
                runtime.shutdown_background();
                answer
            }
            Err(error) => Err(Stop::bug(format!("no thread could be started: {error}"))),
        };
        answer.unwrap_or_else(|stop| screen.stop(&stop))
    }
}

/// The whole `main` of a `dr` program.
#[must_use]
#[expect(clippy::needless_pass_by_value, reason = "a `main` of one line builds the app in place")]
pub fn main(app: App) -> ExitCode {
    let words: Vec<OsString> = std::env::args_os().collect();
    app.run(words, &mut Screen::of_process()).into()
}
