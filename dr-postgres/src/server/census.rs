//! What a host says about a data directory and the process that works on it, in one look.

use std::{collections::BTreeMap, path::Path};

use dr_sql::PgError;

use super::{HostCommand, Process};

/// A file or directory as its file system numbers it: the same through every name that leads to it, through symbolic links and bind
/// mounts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileId(String);

/// What the server process says of itself in the eighth line of `postmaster.pid`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// It takes no sessions yet.
    Starting,
    /// It takes sessions.
    Ready,
    /// It was told to stop; sessions may still be at work.
    Stopping,
}

/// One look of a host at a data directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Census {
    /// The configured directory; none if it does not exist.
    pub directory: Option<FileId>,
    /// The directory that the server itself names, as this host sees that path.
    pub named: Option<FileId>,
    /// The process id in `postmaster.pid`.
    pub recorded: Option<i32>,
    /// The port in `postmaster.pid`.
    pub port: Option<u16>,
    /// What `postmaster.pid` says that the process does.
    pub phase: Phase,
    /// The living process of that id, if there is one.
    pub process: Option<Process>,
    /// The directory that this process works in; none where we may not look.
    pub works_in: Option<FileId>,
    /// The parent of the asked-for backend on this host; none if the host has no such process.
    pub parent: Option<i32>,
}

impl Census {
    /// The process that works on the directory: alive, and not seen to work elsewhere.
    #[must_use]
    pub fn server(&self) -> Option<Process> {
        let elsewhere = self.works_in.is_some() && self.works_in != self.directory;
        self.process.filter(|_| !elsewhere)
    }

    pub(super) fn command(data: &Path, backend: Option<i32>, named: Option<&str>) -> HostCommand {
        let backend = backend.map(|pid| pid.to_string()).unwrap_or_default();
        let words = ["sh", "-c", SCRIPT, "sh", &data.to_string_lossy(), &backend, named.unwrap_or_default()];
        HostCommand::new(words).within(super::LOOK)
    }

    pub(super) fn parse(server: &str, text: &str) -> Result<Self, PgError> {
        let fields: BTreeMap<&str, &str> =
            text.lines().filter_map(|line| line.split_once(' ')).map(|(key, value)| (key, value.trim())).collect();
        if !fields.contains_key("directory") {
            let saw = text.lines().next().unwrap_or("nothing").to_owned();
            return Err(PgError::Unreadable { server: server.into(), what: "the look at its host", saw });
        }
        let word = |key: &str| fields.get(key).copied().filter(|value| !value.is_empty());
        let file = |key: &str| word(key).map(|id| FileId(id.to_owned()));
        let pid = |key: &str| word(key).and_then(|value| value.parse().ok());
        let recorded = pid("recorded");
        let started = word("started").and_then(|ticks| ticks.parse().ok());
        Ok(Self {
            directory: file("directory"),
            named: file("named"),
            recorded,
            port: word("port").and_then(|port| port.parse().ok()),
            phase: match word("status") {
                Some("ready" | "standby") => Phase::Ready,
                Some("stopping") => Phase::Stopping,
                Some(_) | None => Phase::Starting,
            },
            process: recorded.zip(started).map(|(pid, started)| Process { pid, started }),
            works_in: file("cwd"),
            parent: pid("parent"),
        })
    }
}

/// A directory that may not be looked into is an error and no absent process. The 22nd field of `stat` is the start of the process;
/// the name of the program, which may hold blanks and brackets, ends before the third.
const SCRIPT: &str = r#"printf 'directory %s\n' "$(stat -Lc %d:%i -- "$1" 2>/dev/null)"
test -z "$3" || printf 'named %s\n' "$(stat -Lc %d:%i -- "$3" 2>/dev/null)"
if test -n "$2" && s=$(cat "/proc/$2/stat" 2>/dev/null); then set -- "$1" "$2" "$3" ${s##*) }; printf 'parent %s\n' "$5"; fi
f="$1/postmaster.pid"
if test ! -e "$f"; then test ! -d "$1" || ls -- "$1" > /dev/null || exit 1; exit 0; fi
t=$(cat -- "$f") || { test -e "$f" && exit 1; exit 0; }
line() { printf '%s\n' "$t" | sed -n "$1p"; }
p=$(line 1); printf 'recorded %s\nport %s\nstatus %s\n' "$p" "$(line 4)" "$(line 8)"
case $p in ''|*[!0-9]*) exit 0;; esac
s=$(cat "/proc/$p/stat" 2>/dev/null) || exit 0
set -- ${s##*) }; test "$1" != Z || exit 0
shift 19; printf 'started %s\n' "$1"
printf 'cwd %s\n' "$(stat -Lc %d:%i "/proc/$p/cwd/" 2>/dev/null)"
exit 0"#;

#[cfg(test)]
mod tests {
    use super::*;

    const SEEN: &str = "\
directory 8:12
parent 40
recorded 40
port 5432
status ready   
started 991
cwd 8:12
";

    #[test]
    fn a_look_is_read() {
        let seen = Census::parse("pg1", SEEN).unwrap();
        assert_eq!(seen.server(), Some(Process { pid: 40, started: 991 }));
        assert_eq!((seen.phase, seen.port, seen.parent), (Phase::Ready, Some(5432), Some(40)));
    }

    #[test]
    fn a_process_of_another_directory_is_not_this_server() {
        let seen = Census::parse("pg1", &SEEN.replace("cwd 8:12", "cwd 8:13")).unwrap();
        assert_eq!(seen.server(), None);
        // Where its directory may not be looked at, it counts: a living process is never read as a stopped server.
        let hidden = Census::parse("pg1", &SEEN.replace("cwd 8:12", "cwd ")).unwrap();
        assert!(hidden.server().is_some());
        let dead = Census::parse("pg1", &SEEN.replace("started 991\n", "")).unwrap();
        assert_eq!(dead.server(), None);
    }

    #[test]
    fn what_is_no_look_is_an_error() {
        let error = Census::parse("pg1", "bash: no such file\n").unwrap_err();
        assert!(error.to_string().contains("the look at its host"), "{error}");
    }
}
