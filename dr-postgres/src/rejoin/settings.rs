//! The settings of a former life: what the files of a server that is about to start as a standby would make it do.
//!
//! ```text
//!   postgresql.conf, includes, conf.d ──┐
//!   postgresql.auto.conf (read last) ───┼──► postgres -C name     PostgreSQL's own parser says what the start will read
//!   command line (of the unit) ─────────┘                         and beats all files: what stands there can only be refused
//! ```

use std::{collections::BTreeMap, path::Path};

use dr_sql::{ConnInfo, PgError};

use crate::{
    error::HostError,
    member::Member,
    server::{HostCommand, Server},
};

/// `postgresql.auto.conf`, edited by the rules of `ALTER SYSTEM`; lines that are not about the changed setting stay byte for byte.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct AutoConf(Vec<u8>);

impl AutoConf {
    /// Takes the contents of the file; an absent file is an empty one.
    pub(crate) fn new(contents: Option<Vec<u8>>) -> Self {
        Self(contents.unwrap_or_default())
    }

    /// Removes every line that sets `name`.
    pub(crate) fn reset(&mut self, name: &str) {
        self.drop_lines(|line| sets(line, name));
    }

    fn drop_lines(&mut self, drop: impl Fn(&[u8]) -> bool) {
        let kept = self.0.split_inclusive(|byte| *byte == b'\n').filter(|line| !drop(line));
        self.0 = kept.flatten().copied().collect();
    }

    /// Sets `name` in one line at the end, where it wins over every earlier line of every file.
    ///
    /// # Errors
    /// The value holds a line break, which no configuration file can.
    pub(crate) fn set(&mut self, name: &str, value: &str) -> Result<(), LineBreak> {
        if value.contains(['\n', '\0']) {
            return Err(LineBreak(name.to_owned()));
        }
        self.reset(name);
        if self.0.last().is_some_and(|byte| *byte != b'\n') {
            self.0.push(b'\n');
        }
        let quoted = value.replace('\\', "\\\\").replace('\'', "''");
        self.0.extend_from_slice(format!("{name} = '{quoted}'\n").as_bytes());
        Ok(())
    }

    /// The contents for the file.
    pub(crate) fn bytes(&self) -> &[u8] {
        &self.0
    }
}

/// A value that no configuration file can hold.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the value of `{0}` holds a line break, which no configuration file of PostgreSQL can hold")]
pub(crate) struct LineBreak(String);

/// Whether a line sets the setting `name`, as PostgreSQL's lexer sees it: letters of either case, with or without an equals sign.
fn sets(line: &[u8], name: &str) -> bool {
    let line = line.trim_ascii_start();
    let Some((head, rest)) = line.split_at_checked(name.len()) else { return false };
    let ends = rest.first().is_none_or(|byte| !byte.is_ascii_alphanumeric() && !b"_.$".contains(byte));
    head.eq_ignore_ascii_case(name.as_bytes()) && ends
}

/// What a recovery target, a delay or a trigger file of a former life has to be for a standby that follows; none if the value does
/// not stand in its way.
fn neutral(name: &str, value: &str) -> Option<&'static str> {
    let (harmless, wanted) = match name {
        "recovery_target_timeline" => (value == "latest", "latest"),
        "recovery_min_apply_delay" => (value == "0", "0"),
        "hot_standby" => (value == "on", "on"),
        _ => (value.is_empty(), ""),
    };
    (!harmless).then_some(wanted)
}

/// The settings that [`neutral`] knows.
pub(crate) const FORMER_LIFE: [&str; 9] = [
    "recovery_target",
    "recovery_target_time",
    "recovery_target_xid",
    "recovery_target_lsn",
    "recovery_target_name",
    "recovery_target_timeline",
    "recovery_min_apply_delay",
    "promote_trigger_file",
    "hot_standby",
];
/// Lines of `postgresql.auto.conf` that say nothing good of a standby's life.
const LEFT_BEHIND: [&str; 3] = ["recovery_target_action", "recovery_target_inclusive", "default_transaction_read_only"];
/// Commands that run while a standby replays. The ones that the new primary ran as a standby are known to be of this cluster.
pub(crate) const COMMANDS: [&str; 3] = ["restore_command", "archive_cleanup_command", "recovery_end_command"];
/// What was shortened for a promotion, and the end of the line that did it.
const SHORTENED: (&str, &[u8]) = ("wal_retrieve_retry_interval", b"'100ms'\n");

/// Whom the server shall follow, and what is known to be of this cluster.
#[derive(Clone, Debug)]
pub(crate) struct Following {
    /// How it logs in.
    pub(crate) conninfo: ConnInfo,
    /// The slot on the primary.
    pub(crate) slot: String,
    /// The values of [`COMMANDS`] on the primary.
    pub(crate) commands: BTreeMap<String, String>,
}

impl Following {
    /// Writes into `auto` whom to follow, and takes away what a former life left there.
    pub(crate) fn write(&self, auto: &mut AutoConf) -> Result<(), LineBreak> {
        for name in FORMER_LIFE.into_iter().chain(LEFT_BEHIND) {
            auto.reset(name);
        }
        auto.drop_lines(|line| sets(line, SHORTENED.0) && line.ends_with(SHORTENED.1));
        auto.set("primary_conninfo", &self.conninfo.text())?;
        auto.set("primary_slot_name", &self.slot)
    }

    /// What has to be set although [`Following::write`] was there, because another file says something else.
    pub(crate) fn overrides(&self, seen: &BTreeMap<String, String>) -> Vec<(String, String)> {
        let mut wanted = Vec::new();
        for (name, value) in seen {
            let known = self.commands.get(name);
            if let Some(neutral) = FORMER_LIFE.contains(&name.as_str()).then(|| neutral(name, value)).flatten() {
                wanted.push((name.clone(), neutral.to_owned()));
            } else if !value.is_empty() && known.is_some_and(|known| known != value) {
                wanted.push((name.clone(), String::new()));
            }
        }
        wanted
    }
}

/// Options of a command line, as `postmaster.opts` keeps it: names with underscores, the last value of each.
pub(crate) fn command_line(opts: &str) -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    let words: Vec<&str> = opts.trim_end().split(" \"").skip(1).map(|word| word.trim_end_matches('"')).collect();
    let mut words = words.into_iter();
    while let Some(word) = words.next() {
        let (name, value) = match word {
            "-c" | "--" => (words.next().unwrap_or_default(), ""),
            "-p" => ("port", words.next().unwrap_or_default()),
            "-D" => ("data_directory", words.next().unwrap_or_default()),
            _ => match word.strip_prefix("--").or_else(|| word.strip_prefix("-c")) {
                Some(pair) => (pair, ""),
                None => continue,
            },
        };
        let (name, value) = if value.is_empty() { name.split_once('=').unwrap_or((name, "on")) } else { (name, value) };
        found.insert(name.replace('-', "_"), value.to_owned());
    }
    found
}

/// Prints `name=value` for every name that the server in `$2` knows; the first name that it cannot tell ends it with the reason.
const ASK: &str = r#"p=$1; d=$2; c=$3; shift 3; if test -n "$c"; then set -- "-cconfig_file=$c" "$@"; else set -- "" "$@"; fi
o=$1; shift; for n; do if test -n "$o"; then v=$("$p" -D "$d" "$o" -C "$n" 2>/dev/null); else v=$("$p" -D "$d" -C "$n" 2>/dev/null); fi && printf '%s=%s\n' "$n" "$v" && continue
if test -n "$o"; then v=$("$p" -D "$d" "$o" -C "$n" 2>&1); else v=$("$p" -D "$d" -C "$n" 2>&1); fi
case $v in *"unrecognized configuration parameter \"$n\""*) ;; *) printf '%s\n' "$v" >&2; exit 1;; esac; done"#;

/// Asks PostgreSQL's own parser what a start in `data` would read for each of `names`; names that its version does not know are left
/// out.
///
/// # Errors
/// The files cannot be read: a start would fail for the same reason, which the message carries.
pub(crate) async fn asked(server: &Server, data: &Path, names: &[&str]) -> Result<BTreeMap<String, String>, PgError> {
    let text = |path: &Path| path.to_string_lossy().into_owned();
    let config = server.site().config_file.as_deref().map(text).unwrap_or_default();
    let mut argv = vec!["sh".to_owned(), "-c".into(), ASK.into(), "sh".into(), server.program("postgres"), text(data)];
    argv.push(config);
    argv.extend(names.iter().map(|name| (*name).to_owned()));
    let printed = server.control().run(&HostCommand::new(argv)).await.map_err(|e| match HostError::of(&e) {
        Some(HostError::Program { server, stderr, .. }) => {
            let why = format!("its configuration cannot be read, and it would not start: {}", without_tokens(stderr));
            PgError::Refused { server: server.clone(), why }
        }
        Some(_) | None => e,
    })?;
    let pairs = printed.lines().filter_map(|line| line.split_once('='));
    Ok(pairs.map(|(name, value)| (name.to_owned(), value.to_owned())).collect())
}

/// A message without what PostgreSQL quotes of a line that it does not understand: it may be a piece of a password.
pub(crate) fn without_tokens(text: &str) -> String {
    let mut kept = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once("near token \"") {
        kept.push_str(before);
        kept.push_str("near a token");
        let line = after.find('\n').or_else(|| after.find(" | ")).unwrap_or(after.len());
        rest = after.split_at_checked(line).map_or("", |(_, rest)| rest);
    }
    kept.push_str(rest);
    kept
}

impl Member {
    /// Makes the directory that of a standby: the signal file, and `postgresql.auto.conf` with exactly one word on whom to follow.
    pub(super) async fn configure(&self, data: &Path, following: &Following) -> Result<(), PgError> {
        let control = self.server.control();
        control.write(&data.join("standby.signal"), b"a standby, made so by the disaster-recovery toolkit\n").await?;
        control.remove(&data.join("recovery.signal")).await?;
        // A server of our days refuses to start beside one.
        if control.read(&data.join("recovery.conf")).await?.is_some() {
            control.rename(&data.join("recovery.conf"), &data.join("recovery.conf.dr-aside")).await?;
        }
        let path = data.join("postgresql.auto.conf");
        let mut auto = AutoConf::new(control.read(&path).await?);
        following.write(&mut auto).map_err(|e| self.refused(e))?;
        control.write(&path, auto.bytes()).await
    }

    /// Looks at the directory as the start will read it, and sets in the file that is read last whatever stands in the way.
    ///
    /// # Errors
    /// Something does in spite of it: the files are broken, or a command line beats them.
    pub(super) async fn neutralise(&self, data: &Path, following: &Following) -> Result<(), PgError> {
        self.refuse_command_line().await?;
        let path = data.join("postgresql.auto.conf");
        let names: Vec<&str> = FORMER_LIFE.into_iter().chain(COMMANDS).collect();
        let seen = match asked(&self.server, data, &names).await {
            // Two recovery targets are one too many for the parser; each of them is emptied below.
            Err(PgError::Refused { why, .. }) if why.contains("recovery target") => {
                FORMER_LIFE.iter().take(5).map(|name| ((*name).to_owned(), "set".to_owned())).collect()
            }
            other => other?,
        };
        let wanted = following.overrides(&seen);
        if !wanted.is_empty() {
            let mut auto = AutoConf::new(self.server.control().read(&path).await?);
            for (name, value) in &wanted {
                auto.set(name, value).map_err(|e| self.refused(e))?;
            }
            self.server.control().write(&path, auto.bytes()).await?;
        }
        let names: Vec<&str> = names.into_iter().chain(["primary_conninfo", "primary_slot_name"]).collect();
        let seen = asked(&self.server, data, &names).await?;
        if let Some((name, _)) = following.overrides(&seen).first() {
            return Err(self.refused(format!(
                "`{name}` does not read back from {} as it was written: it would not follow",
                path.display()
            )));
        }
        let read = seen.get("primary_conninfo").and_then(|text| ConnInfo::parse(text).ok());
        if read.as_ref() != Some(&following.conninfo) || seen.get("primary_slot_name") != Some(&following.slot) {
            let why = format!("`primary_conninfo` does not read back from {} as it was written", path.display());
            return Err(self.refused(why));
        }
        Ok(())
    }

    /// Refuses a unit whose command line would keep the server from following: it beats every file.
    async fn refuse_command_line(&self) -> Result<(), PgError> {
        let Some((name, value)) = self.beaten().await?.into_iter().next() else { return Ok(()) };
        Err(self.refused(format!(
            "it was started with `{name}` = `{value}` on its command line, which beats every file: it would not follow; take it out \
             of the unit"
        )))
    }

    /// The options of the last command line that stand in the way, where a unit would give them again. A start of ours does not.
    pub(super) async fn beaten(&self) -> Result<Vec<(String, String)>, PgError> {
        if self.server.site().unit.is_none() {
            return Ok(Vec::new());
        }
        let opts = self.server.control().read(&self.server.data("postmaster.opts")).await?.unwrap_or_default();
        let given = command_line(&String::from_utf8_lossy(&opts));
        let ours = ["primary_conninfo", "primary_slot_name"];
        let stands = |name: &str, value: &str| {
            ours.contains(&name) || (FORMER_LIFE.contains(&name) && neutral(name, value).is_some())
        };
        Ok(given.into_iter().filter(|(name, value)| stands(name, value)).collect())
    }

    pub(super) fn refused(&self, why: impl std::fmt::Display) -> PgError {
        PgError::Refused { server: self.name.to_string(), why: why.to_string() }
    }
}

#[cfg(test)]
mod tests {
    use std::{fs, sync::Arc};

    use proptest::prelude::*;

    use super::*;
    use crate::{
        binaries::Binaries,
        server::{LocalControl, Site},
    };

    /// A directory that PostgreSQL's parser reads, for the account that may run it.
    fn parsed(folder: &Path) -> Server {
        if rustix::process::geteuid().is_root() {
            let accounts = fs::read_to_string("/etc/passwd").unwrap();
            let line = accounts.lines().find(|line| line.starts_with("postgres:")).unwrap();
            let id = |field| line.split(':').nth(field).and_then(|id| id.parse().ok());
            std::os::unix::fs::chown(folder, id(2), id(3)).unwrap();
        }
        fs::write(folder.join("postgresql.conf"), "").unwrap();
        let control = Arc::new(LocalControl::new("pg1", folder).unwrap());
        Server::new(Site::new("pg1", folder, Binaries::find().unwrap().bin), control)
    }

    /// What a login is made of goes through two kinds of quotes, libpq's and the file's, and PostgreSQL itself reads the result.
    #[test]
    fn any_password_reads_back_through_postgresqls_own_parser() {
        let folder = tempfile::tempdir().unwrap();
        let server = parsed(folder.path());
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let password = r#"([\\'" =%#\t$;{}@/:]|[^\x00\n]){0,24}"#;
        proptest!(ProptestConfig::with_cases(48), |(password in password, user in "[^\\x00\n]{1,8}")| {
            let mut follow = following(&password);
            follow.conninfo = follow.conninfo.with("user", user);
            let mut auto = AutoConf::new(Some(b"work_mem = '8MB'\n".to_vec()));
            follow.write(&mut auto).unwrap();
            fs::write(folder.path().join("postgresql.auto.conf"), auto.bytes()).unwrap();
            let seen = runtime.block_on(asked(&server, folder.path(), &["primary_conninfo", "work_mem", "no_such"])).unwrap();
            prop_assert_eq!(ConnInfo::parse(&seen["primary_conninfo"]).unwrap(), follow.conninfo);
            prop_assert_eq!(seen["work_mem"].as_str(), "8192");
            prop_assert_eq!(seen.get("no_such"), None);
        });
    }

    fn following(password: &str) -> Following {
        let conninfo = ConnInfo::default().with("host", "new").with("password", password);
        Following { conninfo, slot: "dr_pg1".into(), commands: BTreeMap::new() }
    }

    /// A quote in the replication password made a syntax error: backslashes are doubled once more inside the file's quotes.
    #[test]
    fn bug_a_password_is_quoted_for_libpq_and_for_the_file() {
        let mut auto = AutoConf::default();
        following(r"it's a\b").write(&mut auto).unwrap();
        let text = String::from_utf8(auto.bytes().to_vec()).unwrap();
        assert!(text.contains(r"primary_conninfo = 'host=''new'' password=''it\\''s a\\\\b'''"), "{text}");
        let mut auto = AutoConf::default();
        assert!(following("two\nlines").write(&mut auto).is_err());
    }

    #[test]
    fn a_configuration_names_one_primary_only() {
        let before = b"# Do not edit\nprimary_conninfo = 'host=old'\n Primary_Slot_Name 'sb2'\nwork_mem = '8MB'\nodd \xff line\n\
                       recovery_target_time = 'then'\nrecovery_targets = 'of an extension'\nlast = 1";
        let mut auto = AutoConf::new(Some(before.to_vec()));
        following("x").write(&mut auto).unwrap();
        let once = auto.clone();
        let kept = b"# Do not edit\nwork_mem = '8MB'\nodd \xff line\nrecovery_targets = 'of an extension'\nlast = 1\nprimary_conninfo";
        assert!(auto.bytes().starts_with(kept), "{}", String::from_utf8_lossy(auto.bytes()));
        following("x").write(&mut auto).unwrap();
        assert_eq!(auto, once, "the second time changes nothing");
    }

    #[test]
    fn a_former_life_is_told_from_a_standbys() {
        let mut follow = following("x");
        follow.commands = [("restore_command".into(), "cp /archive/%f %p".into())].into();
        let seen = |pairs: &[(&str, &str)]| pairs.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned())).collect();
        let harmless = [
            ("recovery_target", ""),
            ("recovery_target_timeline", "latest"),
            ("recovery_min_apply_delay", "0"),
            ("hot_standby", "on"),
            ("restore_command", "cp /archive/%f %p"),
        ];
        assert_eq!(follow.overrides(&seen(&harmless)), Vec::new());
        let bad = [
            ("hot_standby", "off"),
            ("recovery_min_apply_delay", "5000"),
            ("recovery_target", "immediate"),
            ("recovery_target_timeline", "current"),
            ("restore_command", "cp /old/%f %p"),
        ];
        let wanted = [
            ("hot_standby", "on"),
            ("recovery_min_apply_delay", "0"),
            ("recovery_target", ""),
            ("recovery_target_timeline", "latest"),
            ("restore_command", ""),
        ];
        assert_eq!(follow.overrides(&seen(&bad)), wanted.map(|(n, v)| (n.to_owned(), v.to_owned())));
    }

    #[test]
    fn a_command_line_is_read() {
        let opts = "/bin/postgres \"-D\" \"/data dir\" \"-c\" \"config_file=/etc/a b.conf\" \"--hot-standby=off\" \"-p\" \"5433\" \
                    \"-crecovery_target=immediate\"\n";
        let found = command_line(opts);
        let get = |name: &str| found.get(name).map(String::as_str);
        assert_eq!((get("data_directory"), get("port")), (Some("/data dir"), Some("5433")));
        assert_eq!((get("config_file"), get("hot_standby")), (Some("/etc/a b.conf"), Some("off")));
        assert_eq!(get("recovery_target"), Some("immediate"));
    }

    #[test]
    fn no_piece_of_a_broken_line_is_repeated() {
        let text = "LOG: syntax error in file \"a\" line 3, near token \"s3cret\"\nFATAL: contains errors";
        assert_eq!(
            without_tokens(text),
            "LOG: syntax error in file \"a\" line 3, near a token\nFATAL: contains errors"
        );
        assert_eq!(without_tokens("near token \"x\" | FATAL"), "near a token | FATAL");
    }
}
