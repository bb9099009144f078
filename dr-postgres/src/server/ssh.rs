//! A server on another machine, reached over SSH as the account that owns it.

use std::{path::Path, process::Output, sync::Arc, time::Duration};

use async_trait::async_trait;
use dr_sql::PgError;
use openssh::{KnownHosts, Session, SessionBuilder, Stdio};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    sync::Mutex,
    time::timeout,
};

use super::{HostCommand, LOOK, Postmaster, Process, ServerControl, Signalled, Stop};
use crate::error::HostError;

/// Reaches a server over SSH. One multiplexed connection serves all commands; a lost one is opened anew.
///
/// The account is the one that owns the data directory (`postgres`); the host must be known and the key must need no passphrase.
#[derive(Debug)]
pub struct SshControl {
    name: String,
    destination: String,
    options: SshOptions,
    session: Mutex<Option<Arc<Session>>>,
}

/// What the SSH client is told beyond its own configuration.
#[derive(Clone, Debug, Default)]
pub struct SshOptions {
    /// The private key file.
    pub key: Option<std::path::PathBuf>,
    /// The file of known host keys. An unknown host is always refused.
    pub known_hosts: Option<std::path::PathBuf>,
}

impl SshControl {
    /// The server `name` on `destination`, such as `postgres@10.1.0.11` or `ssh://postgres@10.1.0.11:2222`.
    #[must_use]
    pub fn new(name: impl Into<String>, destination: impl Into<String>, options: SshOptions) -> Self {
        Self { name: name.into(), destination: destination.into(), options, session: Mutex::new(None) }
    }

    async fn session(&self) -> Result<Arc<Session>, PgError> {
        let mut slot = self.session.lock().await;
        if let Some(session) = slot.as_ref() {
            if session.check().await.is_ok() {
                return Ok(Arc::clone(session));
            }
            *slot = None;
        }
        let mut builder = SessionBuilder::default();
        builder
            .known_hosts_check(KnownHosts::Strict)
            .connect_timeout(Duration::from_secs(10))
            .server_alive_interval(Duration::from_secs(5));
        if let Some(key) = &self.options.key {
            builder.keyfile(key);
        }
        if let Some(file) = &self.options.known_hosts {
            builder.user_known_hosts_file(file);
        }
        let session = builder.connect_mux(&self.destination).await.map_err(|e| self.broken(e))?;
        let session = Arc::new(session);
        *slot = Some(Arc::clone(&session));
        Ok(session)
    }

    fn broken(&self, source: openssh::Error) -> PgError {
        HostError::Ssh { server: self.name.clone(), source: Box::new(source) }.into()
    }

    /// Runs a shell script with its words as `$1`…; `input` is its standard input.
    async fn script(&self, script: &str, words: &[&str], input: &[u8], within: Duration) -> Result<Output, PgError> {
        let session = self.session().await?;
        let run = async {
            let mut command = session.command("sh");
            command.arg("-c").arg(script).arg("sh").args(words);
            command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
            let mut child = command.spawn().await.map_err(|e| self.broken(e))?;
            let (mut out, mut err) = (Vec::new(), Vec::new());
            let (stdin, stdout, stderr) = (child.stdin().take(), child.stdout().take(), child.stderr().take());
            let feed = async {
                if let Some(mut stdin) = stdin {
                    // A script that needs no input may close it first; its exit status decides.
                    let _closed = stdin.write_all(input).await;
                    let _closed = stdin.shutdown().await;
                }
            };
            let take = async {
                if let Some(mut stdout) = stdout {
                    stdout.read_to_end(&mut out).await?;
                }
                std::io::Result::Ok(())
            };
            let take_errors = async {
                if let Some(mut stderr) = stderr {
                    stderr.read_to_end(&mut err).await?;
                }
                std::io::Result::Ok(())
            };
            let ((), took, errors) = tokio::join!(feed, take, take_errors);
            took.and(errors).map_err(|source| HostError::Io {
                server: self.name.clone(),
                what: "read what a remote command printed".into(),
                source,
            })?;
            let status = child.wait().await.map_err(|e| self.broken(e))?;
            Ok(Output { status, stdout: out, stderr: err })
        };
        let late =
            || PgError::Late { server: self.name.clone(), what: "finish a remote command".into(), after: within };
        timeout(within, run).await.map_err(|_| late())?
    }

    async fn checked(&self, what: &str, script: &str, words: &[&str], input: &[u8]) -> Result<String, PgError> {
        let output = self.script(script, words, input, SHORT).await?;
        answer(&self.name, what, &output)
    }
}

const SHORT: Duration = Duration::from_secs(30);
/// A missing file ends with this status, so that it is told from one that we may not see.
const READ: &str = r#"if test ! -e "$1"; then d=$(dirname -- "$1"); test ! -d "$d" || ls -- "$d" > /dev/null || exit 1; exit 44; fi; exec cat -- "$1""#;
/// The length is checked before the rename: a connection that breaks looks like the end of the input.
const WRITE: &str = r#"set -e; umask 077; f=$(readlink -f -- "$1"); t=$(mktemp -- "$(dirname -- "$f")/.dr-XXXXXX"); trap 'rm -f -- "$t"' EXIT
cat > "$t"; test "$(wc -c < "$t")" -eq "$2"
if test -e "$f"; then test "$(stat -c %u:%g -- "$f")" = "$(stat -c %u:%g -- "$t")" || chown --reference="$f" -- "$t"; chmod --reference="$f" -- "$t"; fi
sync -- "$t"; mv -fT -- "$t" "$f"; sync -- "$(dirname -- "$f")""#;
/// Prints `postmaster.pid` if its process lives and works on this directory. A directory that we may not look into is an error.
const POSTMASTER: &str = r#"f="$1/postmaster.pid"
if test ! -e "$f"; then test ! -d "$1" || ls -- "$1" > /dev/null || exit 1; exit 0; fi
p=$(head -n 1 -- "$f") || { test -e "$f" && exit 1; exit 0; }; case $p in ''|*[!0-9]*) exit 0;; esac
test -d "/proc/$p" || exit 0; case $(sed 's/.*) //' "/proc/$p/stat" 2>/dev/null) in Z*) exit 0;; esac
c=$(stat -Lc %d:%i "/proc/$p/cwd/" 2>/dev/null) && test "$c" != "$(stat -Lc %d:%i -- "$1")" && exit 0; cat -- "$f" 2>/dev/null; exit 0"#;
/// Prints what became of it. Nothing is sent to a process that was started later, or that is not seen to work on the directory.
const SIGNAL: &str = r#"p=$2; s=$(cat "/proc/$p/stat" 2>/dev/null) || { echo gone; exit 0; }
set -- "$1" "$2" "$3" "$4" ${s##*) }; test "$5" != Z || { echo gone; exit 0; }
d=$1; t=$3; k=$4; shift 23; test "$1" = "$t" || { echo gone; exit 0; }
c=$(stat -Lc %d:%i "/proc/$p/cwd/" 2>/dev/null) && test "$c" = "$(stat -Lc %d:%i -- "$d" 2>/dev/null)" || { echo elsewhere; exit 0; }
if kill "-$k" "$p"; then echo sent; elif test -d "/proc/$p"; then echo refused; else echo gone; fi"#;
const WITH_PASSWORD: &str = r#"IFS= read -r PGPASSWORD; export PGPASSWORD; exec "$@" < /dev/null"#;
/// `pg_ctl` leaves a server behind that inherits the output: a file keeps it from holding the channel open.
const WITHOUT_PASSWORD: &str = r#"o=$(mktemp) && e=$(mktemp) || exit 1; "$@" < /dev/null > "$o" 2> "$e"; s=$?
cat "$o"; cat "$e" >&2; rm -f "$o" "$e"; exit $s"#;

/// Standard output of a program that succeeded, or the error with the end of what it printed.
pub(super) fn answer(server: &str, program: &str, output: &Output) -> Result<String, PgError> {
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let text = String::from_utf8_lossy(&output.stderr);
    let text = if text.trim().is_empty() { String::from_utf8_lossy(&output.stdout) } else { text };
    let mut last: Vec<&str> = text.lines().rev().take(4).collect();
    last.reverse();
    let (status, stderr) = (output.status.to_string(), last.join(" | "));
    Err(HostError::Program { server: server.into(), program: program.into(), status, stderr }.into())
}

/// The program that signals one process.
pub(super) fn signal_command(data: &Path, process: Process, stop: Stop) -> HostCommand {
    let kind = match stop {
        Stop::Fast => "INT",
        Stop::Immediate => "QUIT",
    };
    let (pid, started) = (process.pid.to_string(), process.started.to_string());
    HostCommand::new(["sh", "-c", SIGNAL, "sh", &data.to_string_lossy(), &pid, &started, kind]).within(LOOK)
}

/// What that program printed.
pub(super) fn signal(ran: Result<String, PgError>, data: &Path, process: Process) -> Result<Signalled, PgError> {
    let server = || data.display().to_string();
    let refused = |why| Err(PgError::Refused { server: server(), why });
    match ran?.trim() {
        "sent" => Ok(Signalled::Sent),
        "gone" => Ok(Signalled::Gone),
        "elsewhere" => refused(elsewhere(process.pid, data)),
        "refused" => refused(format!("process {} may not be signalled by this account", process.pid)),
        other => Err(PgError::Unreadable { server: server(), what: "the signal", saw: other.to_owned() }),
    }
}

/// Why a process is left alone.
pub(super) fn elsewhere(pid: i32, data: &Path) -> String {
    format!("process {pid} is not seen to work on {}; nothing was sent to it", data.display())
}

#[async_trait]
impl ServerControl for SshControl {
    async fn run(&self, command: &HostCommand) -> Result<String, PgError> {
        let words: Vec<&str> = command.argv.iter().map(String::as_str).collect();
        let output = match &command.password {
            Some(password) => {
                let input = format!("{}\n", password.reveal().await?);
                self.script(WITH_PASSWORD, &words, input.as_bytes(), command.within).await?
            }
            None => self.script(WITHOUT_PASSWORD, &words, b"", command.within).await?,
        };
        answer(&self.name, &command.program(), &output)
    }

    async fn read(&self, path: &Path) -> Result<Option<Vec<u8>>, PgError> {
        let output = self.script(READ, &[&path.to_string_lossy()], b"", SHORT).await?;
        if output.status.code() == Some(44) {
            return Ok(None);
        }
        answer(&self.name, "cat", &output).map(|_| Some(output.stdout))
    }

    async fn write(&self, path: &Path, contents: &[u8]) -> Result<(), PgError> {
        let length = contents.len().to_string();
        self.checked("write", WRITE, &[&path.to_string_lossy(), &length], contents).await.map(drop)
    }

    async fn rename(&self, from: &Path, to: &Path) -> Result<(), PgError> {
        let (from, to) = (from.to_string_lossy(), to.to_string_lossy());
        self.checked("mv", r#"exec mv -T -- "$1" "$2""#, &[&from, &to], b"").await.map(drop)
    }

    async fn remove(&self, path: &Path) -> Result<(), PgError> {
        self.checked("rm", r#"exec rm -f -- "$1""#, &[&path.to_string_lossy()], b"").await.map(drop)
    }

    async fn postmaster(&self, data: &Path) -> Result<Postmaster, PgError> {
        let text = self.checked("postmaster.pid", POSTMASTER, &[&data.to_string_lossy()], b"").await?;
        Ok(Postmaster::parse(&text).unwrap_or(Postmaster::Stopped))
    }
}
