//! Everything that a rejoin needs, tried while both servers run: what is found here is not found after the promotion.
//!
//! ```text
//!   from the old primary's host      log in for replication with the very words that will be written
//!   in the old primary's files       what its start will read: sizes, broken lines, another port, a command line that beats files
//!   on the candidate                 a free slot, a free log sender, wal_level
//!   on the old primary's host        programs of its version, the unit, a file of our own written and removed
//! ```

use dr_core::{
    MemberId,
    contract::{Effort, Rehearsal},
};
use dr_sql::{Identity, PgError, Session};
use tokio_postgres::error::SqlState;

use super::{
    Following,
    settings::{COMMANDS, asked, without_tokens},
};
use crate::{
    candidate::commands::{Fetch, RESTORE, fetch},
    error::HostError,
    member::{Member, Peer},
    rejoin::places::tablespaces,
    server::HostCommand,
};

/// What a standby must have at least as much of as its primary: otherwise it does not start, or its replay stops.
const SIZES: [&str; 5] = [
    "max_connections",
    "max_worker_processes",
    "max_wal_senders",
    "max_prepared_transactions",
    "max_locks_per_transaction",
];
/// Where a server has to listen after its start as it does now.
const ADDRESS: [&str; 2] = ["port", "listen_addresses"];
/// A directory with less room left takes no log of its primary for long.
const LITTLE_ROOM: u64 = 64 << 20;

impl Member {
    /// Rehearses the way back of this member, the present primary, to a standby of `of`.
    ///
    /// # Errors
    /// One of the servers or the host cannot be asked: nothing is known then.
    pub(crate) async fn rehearse_rejoin(&self, of: &MemberId, effort: Effort) -> Result<Rehearsal, PgError> {
        let mut found = Rehearsal::default();
        let (peer, candidate) = self.peer_session(of).await?;
        let own = self.session().await?;
        let mine = own.identity().await?;
        match self.following(peer, &candidate).await {
            Ok(following) => {
                self.rehearse_following(&mut found, peer, &following, &mine).await?;
                self.rehearse_candidate(&mut found, peer, &candidate, &following).await?;
                self.rehearse_files(&mut found, (&own, &candidate), (peer, &following), effort).await?;
            }
            Err(PgError::Refused { why, .. }) => found.planned(
                format!("{} could not log in at {of} for replication: {why}", self.name),
                format!("{} would stay down after the change, and nothing would be left to fail over to", self.name),
                format!("set `replication = {{ user, password }}` in the table of {}", self.name),
            ),
            Err(e) => return Err(e),
        }
        self.rehearse_host(&mut found, &mine, effort).await?;
        self.rehearse_rebuild(&mut found, &candidate).await?;
        Ok(found)
    }

    /// Logs in from this server's own host, as the account that owns it, the way its log receiver will.
    async fn rehearse_following(
        &self,
        found: &mut Rehearsal,
        peer: &Peer,
        following: &Following,
        mine: &Identity,
    ) -> Result<(), PgError> {
        let info = following.conninfo.clone();
        let password = info.get("password").map(dr_sql::Password::new);
        if info.get("sslpassword").is_some() {
            let name = &self.name;
            found.untried.push(format!(
                "the replication login of {name}: its key has a password, which no argument list may show"
            ));
            return Ok(());
        }
        let text = info.without("password").with("dbname", "replication").with("replication", "true");
        let text = text.with("connect_timeout", "10").text();
        // A server that a unit starts finds its account's own files; one that we start has our surroundings.
        let home = self.server.site().unit.iter().flat_map(|_| ["env".to_owned(), "-u".into(), "HOME".into()]);
        let argv =
            [self.server.program("psql"), "-XAtw".into(), "-d".into(), text, "-c".into(), "IDENTIFY_SYSTEM".into()];
        let command = HostCommand::new::<String>(home.chain(argv)).with_password(password);
        let (name, of) = (&self.name, &peer.name);
        let place = format!("{}:{}", peer.target.host, peer.target.port);
        match self.server.control().run(&command).await {
            Ok(answer) => {
                let system = answer.split('|').next().unwrap_or_default().trim();
                if system != mine.system_identifier.to_string() {
                    found.planned(
                        format!("from the host of {name}, {place} leads to another cluster ({system})"),
                        format!("{name} would follow nobody after the change"),
                        format!("name {of} by an address that means the same on every host"),
                    );
                }
            }
            Err(e) => match HostError::of(&e) {
                Some(HostError::Program { status, stderr, .. }) if !stderr.contains("error:") => {
                    found.untried.push(format!("the replication login of {name}: psql ended with {status}: {stderr}"));
                }
                Some(HostError::Program { stderr, .. }) => found.planned(
                    format!("{name} cannot log in at {of} ({place}) for replication: {}", without_tokens(stderr)),
                    format!("{name} would not stream after the change"),
                    self.login_helps(peer, following, stderr),
                ),
                Some(HostError::Io { what, source, .. }) => {
                    found.untried.push(format!("the replication login of {name}: cannot {what}: {source}"));
                }
                Some(HostError::Ssh { .. }) | None => return Err(e),
            },
        }
        Ok(())
    }

    fn login_helps(&self, peer: &Peer, following: &Following, said: &str) -> String {
        let user = following.conninfo.get("user").unwrap_or_default();
        if said.contains("pg_hba.conf") {
            let host = &self.link.target().host;
            return format!(
                "echo 'host replication {user} {host}/32 scram-sha-256' >> pg_hba.conf of {}, then SELECT pg_reload_conf()",
                peer.name
            );
        }
        if said.contains("max_wal_senders") {
            return format!("ALTER SYSTEM SET max_wal_senders = … on {}, then restart it", peer.name);
        }
        format!("make that login work, or set `replication = {{ user, password }}` in the table of {}", self.name)
    }

    async fn rehearse_candidate(
        &self,
        found: &mut Rehearsal,
        peer: &Peer,
        candidate: &Session,
        following: &Following,
    ) -> Result<(), PgError> {
        let (name, of, slot) = (&self.name, &peer.name, &following.slot);
        let room = replication_room(candidate, slot).await?;
        if !room.has_slot && room.free_slots < 1 {
            found.planned(
                format!("{of} has no free replication slot for {name} (max_replication_slots is {})", room.slots),
                format!("{name} could not be made to follow {of} after the change"),
                format!("on {of}: ALTER SYSTEM SET max_replication_slots = {}, then restart it; or drop a slot that nobody uses", room.slots + 4),
            );
        }
        if room.is_logical {
            found.planned(
                format!("the slot `{slot}` on {of} is a logical one"),
                format!("{name} follows through a physical slot of this name"),
                format!("on {of}: SELECT pg_drop_replication_slot('{slot}')"),
            );
        }
        if room.free_senders < 1 {
            found.planned(
                format!("{of} has no free log sender for {name} (max_wal_senders is {})", room.senders),
                format!("{name} would not stream after the change"),
                format!(
                    "on {of}: ALTER SYSTEM SET max_wal_senders = {}, then restart it; or end one that nobody needs",
                    room.senders + 4
                ),
            );
        }
        let level = candidate.setting("wal_level").await?.unwrap_or_default();
        if level == "minimal" {
            found.planned(
                format!("wal_level is `minimal` on {of}"),
                "no standby can follow a primary whose log says so little",
                format!("on {of}: ALTER SYSTEM SET wal_level = replica, then restart it"),
            );
        }
        Ok(())
    }

    /// Compares what the start of this server will read with what it must be.
    async fn rehearse_files(
        &self,
        found: &mut Rehearsal,
        (own, candidate): (&Session, &Session),
        (peer, following): (&Peer, &Following),
        effort: Effort,
    ) -> Result<(), PgError> {
        let name = &self.name;
        let data = self.server.site().data.clone();
        let names: Vec<&str> = SIZES.into_iter().chain(ADDRESS).chain(COMMANDS).collect();
        let mut will = match asked(&self.server, &data, &names).await {
            Ok(will) => will,
            Err(PgError::Refused { why, .. }) => {
                found.planned(
                    format!("{name}: {why}"),
                    format!("{name} runs only because it read its files before they were changed"),
                    format!("{} -D {} -C port   # names the line", self.server.program("postgres"), data.display()),
                );
                return Ok(());
            }
            Err(e) => return Err(e),
        };
        will.extend(self.given_again().await?.into_iter().filter(|(key, _)| names.contains(&key.as_str())));
        for size in SIZES {
            let theirs = candidate.setting(size).await?.unwrap_or_default();
            let mine = will.get(size).cloned().unwrap_or_default();
            let too_small = mine.parse::<i64>().unwrap_or(i64::MAX) < theirs.parse::<i64>().unwrap_or(0);
            if too_small {
                let of = &peer.name;
                found.planned(
                    format!("{size} of {name} will be {mine} at its next start, and that of {of} is {theirs}"),
                    format!("a standby with less than its primary does not start, or its replay stops: {name} would not follow {of}"),
                    format!("on {name}: ALTER SYSTEM SET {size} = {theirs}   # read at its start as a standby"),
                );
            }
        }
        self.rehearse_address(found, own, &will).await?;
        self.rehearse_command_line(found, own).await?;
        for (command, theirs) in &following.commands {
            let mine = will.get(command).map(String::as_str).unwrap_or_default();
            if !mine.is_empty() && mine != theirs {
                found.untried.push(format!(
                    "{command} of {name} is not the one of {}: a rejoin cannot know what it fetches or removes, and empties it",
                    peer.name
                ));
            } else if command == RESTORE && !mine.is_empty() && effort == Effort::Try {
                let next = own.identity().await?.timeline.next().history_file();
                self.rehearse_restore(found, mine, &next).await;
            }
        }
        Ok(())
    }

    /// A standby asks the archive before it asks its primary, and waits for the answer.
    async fn rehearse_restore(&self, found: &mut Rehearsal, command: &str, next: &str) {
        let name = &self.name;
        let became = match fetch(&self.server, command, next).await {
            Ok(Fetch::Answered) => return,
            Ok(Fetch::Late) => "does not end in time".to_owned(),
            Ok(Fetch::Broken(status)) => format!("ends with status {status} (not found, not executable, or killed)"),
            Err(error) => {
                found.untried.push(format!("the {RESTORE} of {name}, which it runs as a standby: {}", error.chain()));
                return;
            }
        };
        found.planned(
            format!("{RESTORE} is `{command}` on {name}, and it {became}"),
            format!("{name} runs it before it streams, and would not follow after the change"),
            format!("correct it on {name}, or: ALTER SYSTEM SET {RESTORE} = ''"),
        );
    }

    async fn rehearse_address(
        &self,
        found: &mut Rehearsal,
        own: &Session,
        will: &std::collections::BTreeMap<String, String>,
    ) -> Result<(), PgError> {
        let name = &self.name;
        for setting in ADDRESS {
            let now = own.setting(setting).await?.unwrap_or_default();
            let then = will.get(setting).cloned().unwrap_or_default();
            if now != then {
                found.planned(
                    format!("{setting} of {name} is `{now}` now and will be `{then}` at its next start"),
                    format!("nobody would find {name} after the change"),
                    format!("set {setting} = '{now}' in a file that {name} reads, or name the unit that starts it"),
                );
            }
        }
        const BROKEN: &str =
            "SELECT 'line ' || line_number || ': ' || error FROM pg_hba_file_rules WHERE error IS NOT NULL";
        match own.names("read its hba file", BROKEN).await {
            Ok(broken) => {
                if let Some(first) = broken.first() {
                    found.planned(
                        format!("pg_hba.conf of {name} is broken ({first})"),
                        format!("{name} runs on the rules that it read before, and would not start"),
                        "mend the line; SELECT * FROM pg_hba_file_rules WHERE error IS NOT NULL names it",
                    );
                }
            }
            Err(e) => untried(found, &format!("whether {name} could start with its pg_hba.conf"), e)?,
        }
        Ok(())
    }

    /// What was given on the command line: a unit gives it again, where it beats every file; a start of ours does not.
    async fn rehearse_command_line(&self, found: &mut Rehearsal, own: &Session) -> Result<(), PgError> {
        const GIVEN: &str = "SELECT name FROM pg_settings WHERE source = 'command line' ORDER BY name";
        let name = &self.name;
        for (setting, value) in self.beaten().await? {
            found.planned(
                format!("the unit of {name} gives `{setting}` = `{value}` on the command line"),
                "that beats every file: it would not follow",
                format!("take it out of the unit: systemctl edit {}", self.unit_name()),
            );
        }
        let config = self.server.site().config_file.as_ref().map(|path| path.display().to_string());
        let here = self.server.data("postgresql.conf").display().to_string();
        let read = own.setting("config_file").await?.unwrap_or_default();
        let expected = config.unwrap_or(here);
        if !self.same_file(&read, &expected).await? {
            found.planned(
                format!("{name} reads {read}, and its table says {expected}"),
                "what its start would do is looked for in the wrong file",
                format!("set `config = \"{read}\"` in the table of {name}"),
            );
        }
        let given = own.names("tell its command line", GIVEN).await?;
        if !given.is_empty() && self.server.site().unit.is_none() {
            let given = given.join(", ");
            found.untried.push(format!(
                "{name} was started with {given} on its command line, and a start of ours does not give that again"
            ));
        }
        Ok(())
    }

    async fn given_again(&self) -> Result<Vec<(String, String)>, PgError> {
        if self.server.site().unit.is_none() {
            return Ok(Vec::new());
        }
        let opts = self.server.control().read(&self.server.data("postmaster.opts")).await?.unwrap_or_default();
        Ok(super::settings::command_line(&String::from_utf8_lossy(&opts)).into_iter().collect())
    }

    fn unit_name(&self) -> &str {
        self.server.site().unit.as_ref().map_or("", |unit| unit.name.as_str())
    }

    async fn same_file(&self, one: &str, other: &str) -> Result<bool, PgError> {
        let script = r#"test "$1" -ef "$2" && echo yes; exit 0"#;
        Ok(self.server.control().run(&HostCommand::new(["sh", "-c", script, "sh", one, other])).await?.trim() == "yes")
    }

    /// Programs, the unit, and a file of our own.
    async fn rehearse_host(&self, found: &mut Rehearsal, mine: &Identity, effort: Effort) -> Result<(), PgError> {
        const MISSING: &str = r#"for p; do command -v "$p" > /dev/null || printf '%s ' "$p"; done"#;
        let name = &self.name;
        let control = self.server.control();
        let needed = ["postgres", "pg_ctl", "pg_controldata", "pg_waldump", "pg_rewind", "pg_basebackup"];
        let mut argv = ["sh", "-c", MISSING, "sh", "flock", "mountpoint"].map(String::from).to_vec();
        argv.extend(needed.map(|program| self.server.program(program)));
        let missing = control.run(&HostCommand::new(argv)).await?;
        if !missing.trim().is_empty() {
            found.planned(
                format!("on the host of {name} these are missing: {}", missing.trim()),
                format!("{name} could not be brought back"),
                format!("install them, or set `bin` in the table of {name} to their directory"),
            );
            return Ok(());
        }
        let said = control.run(&HostCommand::new([self.server.program("postgres"), "--version".into()])).await?;
        let major = (mine.version / 10_000).to_string();
        let same = said.split_whitespace().any(|word| word.split('.').next() == Some(major.as_str()));
        if !same {
            found.planned(
                format!(
                    "the programs of {name} are of another version than its server: {} instead of {major}",
                    said.trim()
                ),
                format!("{name} would not start"),
                format!("set `bin` in the table of {name}"),
            );
        }
        if let Some(unit) = &self.server.site().unit {
            let words = ["show", "--property=LoadState"].map(String::from);
            let show = HostCommand::new(unit.command.iter().cloned().chain(words).chain([unit.name.clone()]));
            let state = control.run(&show).await.map_or_else(|e| e.chain(), |state| state.trim().to_owned());
            if !["LoadState=loaded", "LoadState=masked"].contains(&state.as_str()) {
                found.planned(
                    format!("the unit {} of {name} cannot be started: {state}", unit.name),
                    format!("{name} would stay down after the change"),
                    format!("{} status {}", unit.command.join(" "), unit.name),
                );
            }
        }
        self.rehearse_writing(found, effort).await
    }

    async fn rehearse_writing(&self, found: &mut Rehearsal, effort: Effort) -> Result<(), PgError> {
        let (name, control) = (&self.name, self.server.control());
        let file = self.server.data(".dr-rehearsal");
        match effort {
            Effort::Look => {}
            Effort::Try => {
                if let Err(e) = control.write(&file, b"written and removed again\n").await {
                    found.planned(
                        format!("no file can be written into the data directory of {name}: {}", e.chain()),
                        format!("{name} could not be told whom to follow"),
                        "act as the account that owns the directory, and leave it some room",
                    );
                }
                control.remove(&file).await?;
            }
        }
        let room = ["df".to_owned(), "-B1".into(), "--output=avail".into(), self.server.data("").display().to_string()];
        let text = control.run(&HostCommand::new(room)).await?;
        let free = text.split_whitespace().last().and_then(|bytes| bytes.parse::<u64>().ok());
        if free.is_some_and(|free| free < LITTLE_ROOM) {
            let free = free.unwrap_or_default() >> 20;
            found.planned(
                format!("the file system of {name}'s data directory has {free} MB left"),
                "a standby writes all the log of its primary",
                "make room there",
            );
        }
        Ok(())
    }

    /// Whether a copy of the candidate could replace what is here. Nothing of a planned change needs it; people should know.
    async fn rehearse_rebuild(&self, found: &mut Rehearsal, candidate: &Session) -> Result<(), PgError> {
        let places = self.places().await?;
        let theirs = match tablespaces(candidate).await {
            Ok(theirs) => theirs,
            Err(e) => return untried(found, &format!("whether {} could be rebuilt by a base backup", self.name), e),
        };
        for why in places.against_a_rebuild(&theirs) {
            found
                .untried
                .push(format!("{} could not be rebuilt by a base backup, should that be needed: {why}", self.name));
        }
        Ok(())
    }
}

/// Names what the control role may not look at; any other failure means that nothing is known.
fn untried(found: &mut Rehearsal, what: &str, error: PgError) -> Result<(), PgError> {
    if error.sql_state() != Some(&SqlState::INSUFFICIENT_PRIVILEGE) {
        return Err(error);
    }
    found.untried.push(format!("{what}: {}", error.chain()));
    Ok(())
}

/// What a server has left for one more standby.
#[derive(Clone, Copy, Debug)]
struct Room {
    slots: i32,
    free_slots: i32,
    has_slot: bool,
    is_logical: bool,
    senders: i32,
    free_senders: i32,
}

async fn replication_room(session: &Session, slot: &str) -> Result<Room, PgError> {
    const WHAT: &str = "tell its room for a standby";
    const SQL: &str = "\
SELECT current_setting('max_replication_slots')::int,
   current_setting('max_replication_slots')::int - (SELECT count(*) FROM pg_replication_slots)::int,
   EXISTS (SELECT FROM pg_replication_slots WHERE slot_name = $1::name),
   EXISTS (SELECT FROM pg_replication_slots WHERE slot_name = $1::name AND slot_type = 'logical'),
   current_setting('max_wal_senders')::int,
   current_setting('max_wal_senders')::int - (SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'walsender')::int";
    let row = session.row(WHAT, SQL, &[(&slot, tokio_postgres::types::Type::TEXT)]).await?;
    Ok(Room {
        slots: session.get(WHAT, &row, 0)?,
        free_slots: session.get(WHAT, &row, 1)?,
        has_slot: session.get(WHAT, &row, 2)?,
        is_logical: session.get(WHAT, &row, 3)?,
        senders: session.get(WHAT, &row, 4)?,
        free_senders: session.get(WHAT, &row, 5)?,
    })
}
