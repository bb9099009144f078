//! What a PgBouncer process reads when it is told to RELOAD: its `conffile` and everything that this includes, in that order.

use std::path::{Path, PathBuf};

use super::ini::{self, Entry, Said, Statement};
use crate::server::{HostCommand, ServerControl};

/// All files of one process, as it reads them.
#[derive(Clone, Debug, Default)]
pub(crate) struct Configuration {
    /// The files in the order in which they begin.
    pub(crate) files: Vec<PathBuf>,
    /// Everything that is set, in its order.
    pub(crate) pairs: Vec<Pair>,
}

/// One `key = value` of a section, and where it stands.
#[derive(Clone, Debug)]
pub(crate) struct Pair {
    pub(crate) section: String,
    pub(crate) key: String,
    pub(crate) quoted: bool,
    /// The connection string, for an entry of `[databases]` but `*`.
    pub(crate) entry: Option<Entry>,
    pub(crate) file: PathBuf,
    pub(crate) line: usize,
}

impl Pair {
    /// The file and line, for messages.
    pub(crate) fn place(&self) -> String {
        format!("{}:{}", self.file.display(), self.line)
    }
}

/// How deep PgBouncer follows `%include`.
const DEEPEST: usize = 10;
const SECTIONS: [&str; 4] = ["pgbouncer", "databases", "users", "peers"];

struct Frame {
    path: PathBuf,
    text: Vec<u8>,
    rest: std::vec::IntoIter<Statement>,
}

impl Configuration {
    /// Reads `main` and what it includes; relative paths start at `cwd`, the working directory of the process.
    ///
    /// # Errors
    /// What would keep PgBouncer from loading it, with the file and line; or what we cannot read of it.
    pub(crate) async fn read(control: &dyn ServerControl, main: &Path, cwd: Option<&Path>) -> Result<Self, String> {
        let mut all = Self::default();
        let (mut section, mut has_main) = (None, false);
        let mut stack = vec![all.open(control, absolute(main, cwd)?).await?];
        while let Some(frame) = stack.last_mut() {
            let Some(Statement { line, said }) = frame.rest.next() else {
                stack.pop();
                continue;
            };
            let place = format!("{}:{line}", frame.path.display());
            match said {
                Said::Section(name) if SECTIONS.contains(&name.as_str()) => {
                    has_main |= name == "pgbouncer";
                    section = Some(name);
                }
                Said::Section(name) => return Err(format!("{place}: PgBouncer knows no section [{name}]")),
                Said::Pair { key, quoted, value } => {
                    let section = section.clone().ok_or_else(|| format!("{place}: `{key}` stands in no section"))?;
                    let is_entry = section == "databases" && key != "*";
                    let entry = is_entry.then(|| Entry::read(&frame.text, line, value)).transpose();
                    let entry = entry.map_err(|e| format!("{}: {e}", frame.path.display()))?;
                    all.pairs.push(Pair { section, key, quoted, entry, file: frame.path.clone(), line });
                }
                Said::Include(_) if stack.len() > DEEPEST => {
                    return Err(format!("{place}: more than {DEEPEST} levels of %include"));
                }
                Said::Include(path) => {
                    let path = absolute(Path::new(&path), cwd).map_err(|why| format!("{place}: {why}"))?;
                    let frame = all.open(control, path).await.map_err(|why| format!("{place}: {why}"))?;
                    stack.push(frame);
                }
            }
        }
        if has_main { Ok(all) } else { Err(format!("{}: it has no section [pgbouncer]", main.display())) }
    }

    async fn open(&mut self, control: &dyn ServerControl, path: PathBuf) -> Result<Frame, String> {
        let text = control.read(&path).await.map_err(|e| e.chain())?;
        let text = text.ok_or_else(|| format!("{} does not exist on PgBouncer's host", path.display()))?;
        let rest = ini::statements(&text).map_err(|e| format!("{}: {e}", path.display()))?.into_iter();
        self.files.push(path.clone());
        Ok(Frame { path, text, rest })
    }

    /// The entry of a database that counts: the last one.
    pub(crate) fn counting(&self, database: &str) -> Option<&Pair> {
        self.entries().rfind(|pair| pair.key == database)
    }

    /// All entries of databases in their order, `*` included.
    pub(crate) fn entries(&self) -> impl DoubleEndedIterator<Item = &Pair> {
        self.pairs.iter().filter(|pair| pair.section == "databases")
    }
}

fn absolute(path: &Path, cwd: Option<&Path>) -> Result<PathBuf, String> {
    match cwd {
        _ if path.is_absolute() => Ok(path.to_path_buf()),
        Some(cwd) => Ok(cwd.join(path)),
        None => Err(format!(
            "`{}` is relative to the directory that PgBouncer was started in, which nothing tells (its `pidfile` would)",
            path.display()
        )),
    }
}

/// The working directory of the process whose id stands in `pidfile`.
pub(crate) async fn working_directory(control: &dyn ServerControl, pidfile: Option<&str>) -> Option<PathBuf> {
    let file = pidfile.filter(|file| file.starts_with('/'))?;
    let text = control.read(Path::new(file)).await.ok().flatten()?;
    let pid: u32 = String::from_utf8(text).ok()?.trim().parse().ok()?;
    let cwd = control.run(&HostCommand::new(["readlink".to_owned(), format!("/proc/{pid}/cwd")])).await.ok()?;
    Some(PathBuf::from(cwd.trim_end_matches('\n')))
}

/// The path without links; as it was given where the host cannot tell.
pub(crate) async fn canonical(control: &dyn ServerControl, path: &Path) -> PathBuf {
    let argv = ["readlink", "-f", "--"].map(String::from).into_iter().chain([path.to_string_lossy().into_owned()]);
    match control.run(&HostCommand::new(argv)).await {
        Ok(text) if text.starts_with('/') => PathBuf::from(text.trim_end_matches('\n')),
        Ok(_) | Err(_) => path.to_path_buf(),
    }
}

/// A file is replaced by a rename, so its directory must be writable, and its owner must be ours to keep.
const WRITABLE: &str = r#"f=$(readlink -f -- "$1"); d=$(dirname -- "$f"); me=$(id -un)
test -w "$d" || { echo "$me may not write into $d, or it is mounted read-only" >&2; exit 1; }
test "$(id -u)" = 0 || test -O "$f" || { echo "$f belongs to $(stat -c %U -- "$f"), and $me cannot keep it so" >&2; exit 1; }"#;

/// Whether the file could be replaced, its owner kept.
///
/// # Errors
/// Why not.
pub(crate) async fn replaceable(control: &dyn ServerControl, path: &Path) -> Result<(), dr_sql::PgError> {
    let argv = ["sh", "-c", WRITABLE, "sh"].map(String::from).into_iter().chain([path.to_string_lossy().into_owned()]);
    control.run(&HostCommand::new(argv)).await.map(drop)
}
