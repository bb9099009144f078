//! Before anything is held back: is what we will write what counts, in every process, and does RELOAD change nothing else?

use std::{collections::BTreeSet, path::Path, sync::Arc, time::Duration};

use dr_core::{Effort, MemberId, Rehearsal};
use futures_util::future::join_all;
use tokio::time::timeout;

use super::{
    Instance, PgBouncer,
    console::Snapshot,
    files::{self, Configuration, Pair},
    ini, is_same,
};
use crate::{client::Session, error::PgError, server::HostCommand};

/// One end of a move: a member, and where the poolers reach it.
#[derive(Clone, Debug)]
pub(crate) struct Stop {
    pub(crate) member: MemberId,
    pub(crate) host: String,
    pub(crate) port: u16,
}

/// From the present writer to the coming one.
#[derive(Clone, Debug)]
pub(crate) struct Course {
    pub(crate) from: Stop,
    pub(crate) to: Stop,
}

/// What a look found that a trial goes on from.
struct Seen {
    console: Arc<Session>,
    snapshot: Snapshot,
    /// The databases that have an entry, `*` included.
    named: BTreeSet<String>,
}

/// One process may take this long to tell everything.
const LOOK_WITHIN: Duration = Duration::from_secs(30);
const REACH_WITHIN: &str = "3";
/// Quoted names, and a RELOAD that says that it failed.
const READS_QUOTED_NAMES: (u32, u32) = (1, 25);
/// So many new connections find every one of two processes that share a port, but for one time in 32,000.
const KNOCKS: u32 = 16;

impl PgBouncer {
    /// Compares every process and its files with the move; with [`Effort::Try`] each also writes its file back as it is and reloads.
    pub(crate) async fn rehearse(&self, course: &Course, effort: Effort) -> Rehearsal {
        let looks = self.instances.iter().map(|instance| async move {
            let look = timeout(LOOK_WITHIN, instance.look(&self.database, course)).await;
            look.unwrap_or_else(|_| {
                let mut found = Rehearsal::default();
                let what = format!("{} did not tell everything within {} s", instance.label(), LOOK_WITHIN.as_secs());
                found.planned(what, "it could not be paused and moved in time either", instance.ask_by_hand());
                (found, None)
            })
        });
        let (mut found, mut seen) = (Rehearsal::default(), Vec::new());
        for (said, one) in join_all(looks).await {
            found.extend(said);
            seen.push(one);
        }
        self.find_unnamed(&seen, &mut found).await;
        if effort == Effort::Look || !found.obstacles.is_empty() {
            return found;
        }
        // One after the other: processes on one host may share a file.
        for (instance, seen) in self.instances.iter().zip(seen) {
            if let Some(seen) = seen {
                instance.try_out(&seen, &mut found).await;
            }
        }
        found
    }

    /// Processes of the same service that the group file does not name.
    async fn find_unnamed(&self, seen: &[Option<Seen>], found: &mut Rehearsal) {
        let snapshots = || seen.iter().flatten().map(|seen| &seen.snapshot);
        let ids: BTreeSet<&str> = snapshots().filter_map(|one| one.setting("peer_id")).collect();
        let peers: BTreeSet<&str> = snapshots().flat_map(|one| one.peers.iter().map(String::as_str)).collect();
        let missing: Vec<&str> = peers.difference(&ids).copied().collect();
        if !missing.is_empty() {
            unnamed(found, &format!("the section [peers] names processes with peer_id {}", missing.join(", ")));
        }
        let sockets: BTreeSet<&str> = snapshots().filter_map(|one| one.setting("unix_socket_dir")).collect();
        for (instance, seen) in self.instances.iter().zip(seen) {
            if let Some(seen) = seen
                && seen.snapshot.shares_its_port()
                && instance.console.target().host.starts_with('/')
            {
                instance.knock(&seen.snapshot, &sockets, found).await;
            }
        }
    }
}

fn unnamed(found: &mut Rehearsal, what: &str) {
    found.planned(
        format!("{what}, which `admin` of the route does not name"),
        "that process would neither be paused nor moved: its clients would go on to the old primary",
        "name every process by the directory of its own unix socket: admin = [\"/run/pgbouncer-1:6432\", \"/run/pgbouncer-2:6432\"]",
    );
}

impl Seen {
    /// Without the databases that exist because a client asked for them and `*` served it: they come and go by themselves.
    fn configured(&self, mut snapshot: Snapshot) -> Snapshot {
        if self.named.contains("*") {
            snapshot.databases.retain(|name, _| self.named.contains(name));
        }
        snapshot
    }
}

impl Snapshot {
    fn shares_its_port(&self) -> bool {
        self.setting("so_reuseport").is_some_and(|value| value != "0")
    }
}

impl Instance {
    fn ask_by_hand(&self) -> String {
        format!("{} -c 'SHOW DATABASES'", self.console_command())
    }

    fn reload_by_hand(&self) -> String {
        format!("{} -c RELOAD", self.console_command())
    }

    async fn look(&self, database: &str, course: &Course) -> (Rehearsal, Option<Seen>) {
        let mut found = Rehearsal::default();
        let asked = async {
            let console = self.console().await?;
            let snapshot = Snapshot::take(&console).await?;
            let reading = match snapshot.databases.contains_key(database) {
                true => Some(self.reading(&console, database).await?),
                false => None,
            };
            Ok::<_, PgError>((Seen { console, snapshot, named: BTreeSet::new() }, reading))
        };
        let (mut seen, reading) = match asked.await {
            Ok(asked) => asked,
            Err(e) => {
                let why = "without its console clients can be neither held back nor moved";
                found.planned(format!("a console cannot be asked: {}", e.chain()), why, self.ask_by_hand());
                return (found, None);
            }
        };
        self.look_at_process(&seen.snapshot, database, &mut found);
        if self.is_any_process(&seen.snapshot) {
            // Whatever else it says is said of a process that the next session may not reach.
            return (found, Some(seen));
        }
        if let Some(reading) = reading {
            if reading.paused || reading.disabled {
                let verb = if reading.disabled { "ENABLE" } else { "RESUME" };
                found.planned(
                    format!("{}: `{database}` is {}", self.label(), reading.words()),
                    "somebody else did that; going on would give it back without a word",
                    format!("{} -c '{verb} {database}'", self.console_command()),
                );
            }
            let (from, sent) = (&course.from, (reading.host.as_str(), reading.port));
            if !is_same(sent, (&from.host, from.port)).await {
                let place = if sent.0.is_empty() { "a unix socket" } else { sent.0 };
                found.planned(
                    format!(
                        "{} sends `{database}` to {place}:{}, not to the writer `{}` at {}:{}",
                        self.label(),
                        sent.1,
                        from.member,
                        from.host,
                        from.port
                    ),
                    "what clients use now is not what would be moved",
                    "correct `member` of the route, or the entry and RELOAD",
                );
            }
        }
        seen.named = self.look_at_files(&seen.snapshot, (database, course), &mut found).await;
        self.reach(&course.to, &mut found).await;
        (found, Some(seen))
    }

    /// Whether the console is reached through a port that several processes share.
    fn is_any_process(&self, snapshot: &Snapshot) -> bool {
        snapshot.shares_its_port() && !self.console.target().host.starts_with('/')
    }

    fn look_at_process(&self, snapshot: &Snapshot, database: &str, found: &mut Rehearsal) {
        let label = self.label();
        if self.is_any_process(snapshot) {
            found.planned(
                format!("{label} shares its port with other processes (so_reuseport = 1), and its console is reached through that port"),
                "every session may reach another process: one would be paused, another one moved, the rest would go on to the old primary",
                "name every process by the directory of its own unix socket: admin = [\"/run/pgbouncer-1:6432\", \"/run/pgbouncer-2:6432\"]",
            );
        }
        if snapshot.stands_still {
            found.planned(
                format!("{label} is paused or suspended as a whole"),
                "somebody else did that; it can be neither paused nor resumed for one database",
                format!("{} -c RESUME", self.console_command()),
            );
        }
        if let Some(what) = snapshot.pooled_by_session(database) {
            found.planned(
                format!("{label}: {what} is pooled by session"),
                "PAUSE would wait until every client disconnects",
                "set pool_mode = transaction, or run the switchover with direct connections",
            );
        }
    }

    /// Whether the entry in `file` is the one that counts, says what the process does, and can be changed; answers the names of all
    /// entries.
    async fn look_at_files(
        &self,
        snapshot: &Snapshot,
        (database, course): (&str, &Course),
        found: &mut Rehearsal,
    ) -> BTreeSet<String> {
        let configuration = match self.configuration(snapshot).await {
            Ok(configuration) => configuration,
            Err(why) => {
                found.planned(
                    format!("{}: what it would read after RELOAD is not known: {why}", self.label()),
                    "PgBouncer keeps all it had when it cannot read its files, so traffic would stay at the old primary",
                    format!("correct that, then {}", self.reload_by_hand()),
                );
                return BTreeSet::new();
            }
        };
        let named = configuration.entries().map(|pair| pair.key.clone()).collect();
        let control = self.control.as_ref();
        let Some(counting) = configuration.counting(database) else {
            self.no_entry(&configuration, database, found);
            return named;
        };
        if files::canonical(control, &counting.file).await != files::canonical(control, &self.file).await {
            self.another_file(&configuration, (database, counting), found).await;
            return named;
        }
        if let Err(why) = self.editable((database, counting), &course.to).await {
            let helps = "give the entry one host and one port of its own: `NAME = host=HOST port=PORT dbname=…`";
            found.planned(why, "after the promotion traffic could not be moved", helps);
        }
        if let Err(e) = files::replaceable(control, &self.file).await {
            found.planned(
                format!("{} cannot be replaced: {}", self.file.display(), e.chain()),
                "after the promotion traffic could not be moved",
                "give the account that is used for this host the file and its directory, or run as root",
            );
        }
        let unloaded = unloaded(&configuration, snapshot);
        if !unloaded.is_empty() {
            found.planned(
                format!("{}: the files were changed without RELOAD: {}", self.label(), unloaded.join("; ")),
                "moving the traffic would bring these changes into effect too, in the middle of the write gap",
                format!("{} at a time of your own, or take the changes back", self.reload_by_hand()),
            );
        }
        named
    }

    async fn configuration(&self, snapshot: &Snapshot) -> Result<Configuration, String> {
        let main = snapshot.setting("conffile").ok_or("it does not tell its conffile")?;
        let control = self.control.as_ref();
        let cwd = files::working_directory(control, snapshot.setting("pidfile")).await;
        loadable(Configuration::read(control, Path::new(main), cwd.as_deref()).await?, snapshot)
    }

    fn no_entry(&self, configuration: &Configuration, database: &str, found: &mut Rehearsal) {
        let file = self.file.display();
        let what = match configuration.entries().rfind(|pair| pair.key == "*") {
            Some(any) => {
                format!("`{database}` has no entry of its own: {} serves it with `*` ({})", self.label(), any.place())
            }
            None => format!("{}: none of its files has an entry `{database}`", self.label()),
        };
        found.planned(
            what,
            "only an entry of its own can be moved without moving every other database",
            format!(
                "add `{database} = host=… port=…` (with all that the `*` entry says) to [databases] in {file}, keep `*`, then {}",
                self.reload_by_hand()
            ),
        );
    }

    async fn another_file(&self, all: &Configuration, (database, counting): (&str, &Pair), found: &mut Rehearsal) {
        let ours = files::canonical(self.control.as_ref(), &self.file).await;
        let mut is_read = false;
        for file in &all.files {
            is_read |= files::canonical(self.control.as_ref(), file).await == ours;
        }
        let (file, place) = (self.file.display(), counting.place());
        let what = if is_read {
            format!("{} reads {file}, but the entry of `{database}` that counts stands in {place}", self.label())
        } else {
            format!("{} does not read {file}: the entry of `{database}` that counts stands in {place}", self.label())
        };
        found.planned(
            what,
            "what is written into the route's `file` would change nothing, and traffic would stay at the old primary",
            format!(
                "name the file that counts (file = \"{}\"), or remove that entry, put `%include {file}` behind [databases], and RELOAD",
                counting.file.display()
            ),
        );
    }

    /// Whether the edit that will be made is possible, and changes the entry that counts.
    async fn editable(&self, (database, counting): (&str, &Pair), to: &Stop) -> Result<(), String> {
        let file = self.file.display();
        let text = self.control.read(&self.file).await.map_err(|e| e.chain())?.unwrap_or_default();
        ini::aimed(&text, database, &to.host, to.port).map_err(|e| format!("{file}: {e}"))?;
        match ini::entry(&text, database) {
            Ok(Some(entry)) if entry.line == counting.line => Ok(()),
            Ok(Some(entry)) => Err(format!(
                "{file}: `{database}` on line {} would be changed, but the one that counts stands on line {}",
                entry.line, counting.line
            )),
            Ok(None) => Err(format!("{file}: it has no entry `{database}` in a section [databases]")),
            Err(e) => Err(format!("{file}: {e}")),
        }
    }

    /// Whether the coming writer's port answers from the pooler's host.
    async fn reach(&self, to: &Stop, found: &mut Rehearsal) {
        let argv = ["timeout", REACH_WITHIN, "bash", "-c", "exec 3<>\"/dev/tcp/$0/$1\""].map(String::from);
        let argv = argv.into_iter().chain([to.host.clone(), to.port.to_string()]);
        let place = format!("`{}` at {}:{} from the host of {}", to.member, to.host, to.port, self.label());
        match self.control.run(&HostCommand::new(argv)).await {
            Ok(_) => {}
            Err(PgError::Program { status, stderr, .. }) if status.ends_with(": 1") || status.ends_with(": 124") => {
                let why = "PgBouncer could not connect to the coming writer either";
                let words = if stderr.is_empty() { format!("no answer within {REACH_WITHIN} s") } else { stderr };
                found.planned(
                    format!("{place} cannot be reached: {words}"),
                    why,
                    "open the way, or correct `member` of the route",
                );
            }
            Err(e) => found.untried.push(format!("whether {place} can be reached: {}", e.chain())),
        }
    }

    /// Looks for processes behind the shared port whose sockets are not among those named.
    async fn knock(&self, snapshot: &Snapshot, named: &BTreeSet<&str>, found: &mut Rehearsal) {
        let listen = snapshot.setting("listen_addr").and_then(|all| all.split(',').next()).map(str::trim);
        let port = snapshot.setting("listen_port").and_then(|port| port.parse().ok());
        let (Some(listen), Some(port)) = (listen, port) else { return };
        let mut target = self.console.target().clone();
        target.host = if matches!(listen, "*" | "0.0.0.0" | "::") { "127.0.0.1".into() } else { listen.to_owned() };
        target.port = port;
        let mut others = BTreeSet::new();
        for _ in 0..KNOCKS {
            let asked = async { super::console::settings(&Session::open_console(&target).await?).await };
            match asked.await {
                Ok(settings) => {
                    let socket = settings.get("unix_socket_dir").cloned().unwrap_or_default();
                    others.extend(Some(socket).filter(|socket| !named.contains(socket.as_str())));
                }
                Err(e) => {
                    let why = format!("whether more processes share port {port}: {}", e.chain());
                    return found.untried.push(why);
                }
            }
        }
        for socket in others {
            unnamed(found, &format!("port {port} is shared by a process whose unix_socket_dir is `{socket}`"));
        }
    }

    /// Writes the file back as it is and makes the process read it, as the move will; nothing may change by that.
    async fn try_out(&self, seen: &Seen, found: &mut Rehearsal) {
        let tried = async {
            let text = self.control.read(&self.file).await?;
            let gone = || PgError::Refused { server: self.label(), why: format!("{} is gone", self.file.display()) };
            self.control.write(&self.file, &text.ok_or_else(gone)?).await?;
            seen.console.run("read its files again", "RELOAD").await?;
            Snapshot::take(&seen.console).await
        };
        match tried.await {
            Ok(after) => {
                let differences = seen.configured(after).differences(&seen.configured(seen.snapshot.clone()));
                if !differences.is_empty() {
                    found.planned(
                        format!("{}: RELOAD of unchanged files changed: {}", self.label(), differences.join("; ")),
                        "somebody had changed the files without RELOAD; that is in effect now",
                        "look whether that is meant, then begin again",
                    );
                }
            }
            Err(e) => found.planned(
                format!(
                    "{}: writing {} back as it is and RELOAD failed: {}",
                    self.label(),
                    self.file.display(),
                    e.chain()
                ),
                "after the promotion traffic could not be moved",
                self.reload_by_hand(),
            ),
        }
    }
}

/// The same configuration, unless it holds what this version does not read although it is well-formed.
fn loadable(read: Configuration, snapshot: &Snapshot) -> Result<Configuration, String> {
    for pair in &read.pairs {
        if pair.quoted && snapshot.version < READS_QUOTED_NAMES {
            let (major, minor) = snapshot.version;
            return Err(format!("{}: PgBouncer {major}.{minor} reads no quoted name (`{}`)", pair.place(), pair.key));
        }
        if pair.section == "pgbouncer" && !snapshot.settings.contains_key(&pair.key) {
            return Err(format!("{}: this PgBouncer knows no setting `{}`", pair.place(), pair.key));
        }
    }
    Ok(read)
}

/// What the files say otherwise than the process.
fn unloaded(configuration: &Configuration, snapshot: &Snapshot) -> Vec<String> {
    let mut all = Vec::new();
    let names: BTreeSet<&str> = configuration.entries().map(|pair| pair.key.as_str()).collect();
    for name in names.iter().filter(|name| **name != "*") {
        let Some((pair, entry)) = configuration.counting(name).and_then(|pair| Some((pair, pair.entry.as_ref()?)))
        else {
            continue;
        };
        let Some(facts) = snapshot.databases.get(*name) else {
            all.push(format!("`{name}` ({}) is not known to the process", pair.place()));
            continue;
        };
        let port = entry.port().to_string();
        let mut said = vec![
            ("host", entry.host().unwrap_or_default()),
            ("port", port.as_str()),
            ("database", entry.get("dbname").unwrap_or(name)),
        ];
        let given = ["pool_size", "min_pool_size", "pool_mode"].into_iter();
        said.extend(given.filter_map(|key| Some((key, entry.get(key)?))));
        for (key, value) in said {
            let has = facts.get(key).map_or("", String::as_str);
            if has != value {
                all.push(format!("{} says {key} `{value}` of `{name}`, the process has `{has}`", pair.place()));
            }
        }
    }
    let gone = snapshot.databases.keys().filter(|name| !names.contains(name.as_str()) && *name != "pgbouncer");
    if !names.contains("*") {
        all.extend(gone.map(|name| format!("the process has `{name}`, which no file names")));
    }
    all
}
