//! Before anything is held back: is what we will write what counts, in every process, and does RELOAD change nothing else?

use std::{collections::BTreeSet, path::Path, sync::Arc, time::Duration};

use dr_core::{
    MemberId,
    contract::{Effort, Rehearsal},
};
use dr_sql::{ApplicationLogin, PgError, Session};
use futures_util::future::join_all;
use tokio::time::timeout;

use super::{
    Instance, PgBouncer,
    console::Snapshot,
    files::{self, Configuration, Pair},
    ini, is_same,
};

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
    /// How an application logs in, if the group says so.
    pub(crate) login: Option<ApplicationLogin>,
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
/// Quoted names, and a RELOAD that says that it failed.
const READS_QUOTED_NAMES: (u32, u32) = (1, 25);
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
        let snapshots: Vec<Option<&Snapshot>> =
            seen.iter().map(|one| one.as_ref().map(|seen| &seen.snapshot)).collect();
        self.find_unnamed(&snapshots, &mut found).await;
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
        self.reach(database, course, &seen.snapshot, &mut found).await;
        (found, Some(seen))
    }

    fn look_at_process(&self, snapshot: &Snapshot, database: &str, found: &mut Rehearsal) {
        let label = self.label();
        if self.is_any_process(snapshot) {
            self.refuse_any_process(found);
        }
        if snapshot.stands_still {
            found.planned(
                format!("{label} is paused or suspended as a whole"),
                "somebody else did that; it can be neither paused nor resumed for one database",
                format!("{} -c RESUME", self.console_command()),
            );
        }
        let user = &self.console.target().user;
        if !snapshot.is_admin(user) {
            found.planned(
                format!("{label}: `{user}` is none of its admin_users"),
                "PAUSE, RELOAD and RESUME are refused to everybody else",
                format!("add `{user}` to admin_users, then RELOAD"),
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
