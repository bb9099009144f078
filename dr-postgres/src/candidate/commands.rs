//! The commands of other people that a promotion runs, while writes are held back.
//!
//! A promotion asks `restore_command` for the history of the next timeline and runs `recovery_end_command`. It waits for both without a
//! limit, and a status above 125 (not found, not executable, killed) ends the server instead of promoting it.

use std::time::Duration;

use dr_core::contract::{Effort, Rehearsal};
use dr_sql::{Custom, PgError, Setting};

use crate::{
    candidate::{Pair, standing::change},
    server::{HostCommand, Server},
};

/// The setting whose command fetches a file from an archive.
pub(crate) const RESTORE: &str = "restore_command";
const END: &str = "recovery_end_command";
/// How long a promotion may be kept waiting by a command.
const COMMAND_LIMIT: u32 = 5;
/// What `restore_command` is told to write here. It is removed again.
const FETCHED: &str = "pg_wal/dr-rehearsal.history";
/// Commands that end at once, whatever they are given.
const HARMLESS: [&str; 6] = ["rm", "touch", "true", "false", "echo", ":"];

/// Runs the command `$2` in the data directory `$1` for at most `$3` seconds, with the environment of the server that would run it, and
/// prints its status. The file `$4`, which it may have written, is removed.
const RUN: &str = r#"cd "$1" || exit 1; command -v timeout >/dev/null || exit 1; rm -f "$4"
e=/proc/$(head -n 1 postmaster.pid 2>/dev/null)/environ
set -- "$2" "$3" "$4" 'timeout -k 1 "$2" sh -c "$1" >/dev/null 2>&1; echo "status=$?"'
if test -s "$e" && test -r "$e"
then { cat "$e"; printf '%s\0' sh -c "$4" sh "$1" "$2"; } | xargs -0 env -i
else sh -c "$4" sh "$1" "$2"; fi
rm -f "$3""#;

/// Looks at the commands that the candidate's promotion would run, and tries the one that only fetches.
///
/// # Errors
/// The server cannot be asked.
pub(super) async fn rehearse(pair: &Pair<'_>, effort: Effort) -> Result<Rehearsal, PgError> {
    let mut found = Rehearsal::default();
    for setting in pair.own.settings(&[RESTORE, END], Custom::Without).await? {
        let command = setting.value.trim();
        match (setting.name.as_str(), effort) {
            (_, _) if command.is_empty() => {}
            (END, Effort::Look | Effort::Try) => ending(pair, &setting, &mut found),
            (_, Effort::Try) => fetching(pair, &setting, &mut found).await?,
            (_, Effort::Look) => {}
        }
    }
    Ok(found)
}

/// What ends a recovery may change anything, so it is not tried.
fn ending(pair: &Pair<'_>, setting: &Setting, found: &mut Rehearsal) {
    let (name, command) = (&pair.member.name, setting.value.trim());
    if ends_at_once(command) {
        return;
    }
    found.planned(
        format!("{END} is `{command}` on {name}"),
        "the promotion waits for it without a limit, and if it is not found the server ends; it cannot be tried before",
        format!("{}; run it by hand after the change, if it is still wanted", change(setting, &pair.psql(), "")),
    );
}

async fn fetching(pair: &Pair<'_>, setting: &Setting, found: &mut Rehearsal) -> Result<(), PgError> {
    let (name, server) = (&pair.member.name, &pair.member.server);
    let next = pair.own.identity().await?.timeline.next().history_file();
    let fetched = fetch(server, &setting.value, &next).await;
    let helps = || {
        let sql = change(setting, &pair.psql(), "");
        format!("correct it on {name}, or go without the archive: {sql}")
    };
    let what = |became: &str| format!("{RESTORE} is `{}` on {name}, and {became}", setting.value.trim());
    match fetched {
        Ok(Fetch::Answered) => {}
        Ok(Fetch::Late) => found.planned(
            what(&format!("it did not end within {COMMAND_LIMIT} s when it was asked for `{next}`")),
            "the promotion asks the same and waits for the answer without a limit, and the applications with it",
            helps(),
        ),
        Ok(Fetch::Broken(status)) => found.always(
            what(&format!("it ends with status {status} (not found, not executable, or killed)")),
            "PostgreSQL ends itself at such a status: the candidate would be down instead of promoted",
            helps(),
        ),
        Err(error) => {
            found.untried.push(format!("the {RESTORE} of {name}, which its promotion runs: {}", error.chain()));
        }
    }
    Ok(())
}

/// Asks the `restore_command` of a server for `file`, the way the server would.
///
/// # Errors
/// The host cannot be asked.
pub(crate) async fn fetch(server: &Server, command: &str, file: &str) -> Result<Fetch, PgError> {
    let command = filled_in(command, file);
    let data = server.site().data.to_string_lossy().into_owned();
    let limit = COMMAND_LIMIT.to_string();
    let argv = ["sh", "-c", RUN, "sh", &data, &command, &limit, FETCHED];
    let within = Duration::from_secs(u64::from(COMMAND_LIMIT) + 5);
    let printed = server.control().run(&HostCommand::new(argv).within(within)).await?;
    Fetch::read(&printed).ok_or_else(|| PgError::Unreadable {
        server: server.site().name.clone(),
        what: "the status of a command",
        saw: printed,
    })
}

/// What came of the question for a file that should not be there.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Fetch {
    /// The archive has it or has it not: a promotion takes the next number that is free.
    Answered,
    /// The command did not end in time.
    Late,
    /// The command ended with a status at which PostgreSQL ends itself.
    Broken(u8),
}

impl Fetch {
    fn read(printed: &str) -> Option<Self> {
        let status: u8 = printed.lines().find_map(|line| line.strip_prefix("status="))?.parse().ok()?;
        Some(match status {
            // `timeout` answers the first when it ended the command, the second when it had to kill it.
            124 | 137 => Self::Late,
            126.. => Self::Broken(status),
            0..=125 => Self::Answered,
        })
    }
}

/// The command as PostgreSQL would run it. The oldest name of all stands for the last restart point: whoever cleans up by it removes
/// nothing.
fn filled_in(command: &str, file: &str) -> String {
    let mut text = String::with_capacity(command.len());
    let mut rest = command.chars();
    while let Some(letter) = rest.next() {
        if letter != '%' {
            text.push(letter);
            continue;
        }
        match rest.next() {
            Some('f') => text.push_str(file),
            Some('p') => text.push_str(FETCHED),
            Some('r') => text.push_str("000000010000000000000001"),
            Some('%') | None => text.push('%'),
            Some(other) => text.extend(['%', other]),
        }
    }
    text
}

/// Whether a command is one simple command that waits for nothing.
fn ends_at_once(command: &str) -> bool {
    let simple = !command.contains(['|', ';', '&', '`', '$', '<', '>', '(', '\n']);
    let program = command.split_whitespace().next().unwrap_or_default();
    let program = program.strip_prefix("/usr/bin/").or_else(|| program.strip_prefix("/bin/")).unwrap_or(program);
    simple && HARMLESS.contains(&program)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_is_filled_in_as_postgresql_does_it() {
        let table = [
            ("cp /a/%f %p", "cp /a/00000002.history pg_wal/dr-rehearsal.history"),
            ("x %r 100%% %x %", "x 000000010000000000000001 100% %x %"),
        ];
        for (command, text) in table {
            assert_eq!(filled_in(command, "00000002.history"), text);
        }
    }

    #[test]
    fn a_status_is_read_as_postgresql_reads_it() {
        let table = [
            ("status=1\n", Some(Fetch::Answered)),
            ("status=0\n", Some(Fetch::Answered)),
            ("status=124\n", Some(Fetch::Late)),
            ("status=127\n", Some(Fetch::Broken(127))),
            ("status=255\n", Some(Fetch::Broken(255))),
            ("", None),
        ];
        for (printed, fetch) in table {
            assert_eq!(Fetch::read(printed), fetch, "{printed}");
        }
    }

    #[test]
    fn only_a_simple_command_is_known_to_end() {
        for (command, ends) in [
            ("rm -f /tmp/trigger", true),
            ("/bin/true", true),
            ("rm -f x; sleep 9", false),
            ("touch $(wait)", false),
            ("/opt/tell", false),
        ] {
            assert_eq!(ends_at_once(command), ends, "{command}");
        }
    }
}
