//! The files in a data directory that are the node's own: everything that PostgreSQL did not put there.
//!
//! A rewind and a base backup replace them by the primary's: its port, its certificates, its `conf.d`. Which files a node has and how it
//! names them is its operator's matter, so what is PostgreSQL's own is listed, and all the rest is kept: saved in one go before a tool
//! touches the directory, and put back before anything is started. What came from the primary instead goes.

use std::path::Path;

use dr_sql::PgError;

use super::{places::Places, settings::asked};
use crate::{member::Member, server::HostCommand};

/// Entries of a data directory that are PostgreSQL's. Those that begin with `pg_` are too, if they are directories.
const POSTGRES: [&str; 18] = [
    "PG_VERSION",
    "base",
    "global",
    "postmaster.pid",
    "postmaster.opts",
    "current_logfiles",
    "current_logfiles.tmp",
    "postgresql.auto.conf.tmp",
    "standby.signal",
    "recovery.signal",
    "backup_label",
    "backup_label.old",
    "tablespace_map",
    "tablespace_map.old",
    "backup_manifest",
    "promote",
    "logrotate",
    "lost+found",
];
/// Settings that name files which may lie anywhere.
const NAMED: [&str; 9] = [
    "hba_file",
    "ident_file",
    "ssl_cert_file",
    "ssl_key_file",
    "ssl_ca_file",
    "ssl_crl_file",
    "ssl_crl_dir",
    "ssl_dh_params_file",
    "krb_server_keyfile",
];

/// One entry of a directory.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Entry {
    name: String,
    /// `f` for a file or a link to one, `d` for a directory or a link to one.
    kind: char,
}

impl Entry {
    fn is_own(&self) -> bool {
        let ours = ["dr-new", "dr-ready", "dr-rejoin", "dr-node", "dr-node.tmp"].contains(&self.name.as_str())
            || self.name.starts_with("dr-old")
            || self.name.starts_with(".dr-");
        let postgres = POSTGRES.contains(&self.name.as_str()) || (self.name.starts_with("pg_") && self.kind != 'f');
        !ours && !postgres
    }
}

fn entries(text: &str) -> Vec<Entry> {
    let entry = |line: &str| {
        let (kind, name) = line.split_once(' ')?;
        Some(Entry { name: name.to_owned(), kind: kind.chars().next()? })
    };
    text.split('\0').filter_map(entry).collect()
}

/// The paths in `values` that lie in PostgreSQL's own directories below `data`, relative to it.
fn nested(data: &Path, values: impl Iterator<Item = String>) -> Vec<String> {
    let within = |value: String| {
        let path = data.join(&value);
        let inner = path.strip_prefix(data).ok().filter(|inner| !inner.as_os_str().is_empty())?;
        let top = inner.iter().next()?.to_string_lossy().into_owned();
        let deep = inner.iter().count() > 1 && !Entry { name: top, kind: 'd' }.is_own();
        deep.then(|| inner.to_string_lossy().into_owned())
    };
    values.filter(|value| !value.is_empty()).filter_map(within).collect()
}

/// Copies with owner, mode and links, then one rename: the set is whole or not there.
const SAVE: &str = r#"set -e; d=$1; t=$2; shift 2; rm -rf -- "$t.tmp"; mkdir -m 700 -- "$t.tmp"; cd -- "$d"
for n; do if test -e "$n" || test -L "$n"; then cp -a --parents -t "$t.tmp" -- "$n"; fi; done
sync -f -- "$t.tmp"; mv -T -- "$t.tmp" "$t"; sync -f -- "$t""#;
/// `-name` goes, `+name` is replaced by what was saved, `=name` is put back into a directory that stays.
const PUT_BACK: &str = r#"set -e; s=$1; d=$2; shift 2; for w; do n=${w#?}; case $w in
-*) rm -rf -- "$d/$n";;
+*) rm -rf -- "$d/$n"; cp -a -- "$s/$n" "$d/$n";;
=*) mkdir -p -- "$d/$n"; cp -a -- "$s/$n/." "$d/$n/";; esac; done; sync -f -- "$d""#;

/// A rewind does not get on with links that are not PostgreSQL's: those to files become the files, those to directories go.
const WITHOUT_LINKS: &str = r#"set -e; cd -- "$1"; shift; for n; do test -e "$n" || test -L "$n" || continue
find "$n" -type l | while IFS= read -r l; do if test -f "$l"; then cp -pL -- "$l" "$l.dr-file"; mv -T -- "$l.dr-file" "$l"; else rm -f -- "$l"; fi; done; done"#;

impl Member {
    /// Takes the links out of what is the node's own; it is saved, and put back after the rewind.
    pub(super) async fn unlink_node_files(&self, places: &Places) -> Result<(), PgError> {
        let own = self.entries(&places.data.real).await?.into_iter().filter(Entry::is_own);
        let mut argv = vec!["sh".to_owned(), "-c".into(), WITHOUT_LINKS.into(), "sh".into(), text(&places.data.real)];
        argv.extend(own.map(|entry| format!("./{}", entry.name)));
        self.server.control().run(&HostCommand::new(argv)).await.map(drop)
    }

    async fn entries(&self, folder: &Path) -> Result<Vec<Entry>, PgError> {
        let folder = folder.to_string_lossy().into_owned();
        let find = ["find", &folder, "-mindepth", "1", "-maxdepth", "1", "-printf", r"%Y %f\0"];
        Ok(entries(&self.server.control().run(&HostCommand::new(find)).await?))
    }

    /// Saves everything that is the node's own, unless an interrupted attempt did: the directory may hold the primary's files by now.
    pub(super) async fn save_node_files(&self, places: &Places) -> Result<(), PgError> {
        let saved = places.data.own("dr-node");
        if self.exists(&saved).await? {
            return Ok(());
        }
        let own = self.entries(&places.data.real).await?.into_iter().filter(Entry::is_own).map(|entry| entry.name);
        let mut names: Vec<String> = own.collect();
        // A server whose files cannot be read is not refused here: it comes to that before its start.
        if let Ok(named) = asked(&self.server, &self.server.site().data, &NAMED).await {
            names.extend(nested(&places.data.real, named.into_values()));
        }
        let mut argv =
            vec!["sh".to_owned(), "-c".into(), SAVE.into(), "sh".into(), text(&places.data.real), text(&saved)];
        argv.extend(names.into_iter().map(|name| format!("./{name}")));
        self.server.control().run(&HostCommand::new(argv).within(super::TOOL_LIMIT)).await.map(drop)
    }

    /// Puts into `folder` what was saved, and takes out of it what is neither PostgreSQL's nor the node's own.
    pub(super) async fn put_node_files_back(&self, places: &Places, folder: &Path) -> Result<(), PgError> {
        let saved = places.data.own("dr-node");
        if !self.exists(&saved).await? {
            return Ok(());
        }
        let kept = self.entries(&saved).await?;
        let foreign = self.entries(folder).await?.into_iter().filter(Entry::is_own);
        let mut words: Vec<String> = foreign.map(|entry| format!("-{}", entry.name)).collect();
        words.extend(kept.iter().map(|entry| format!("{}{}", if entry.is_own() { '+' } else { '=' }, entry.name)));
        let mut argv = vec!["sh".to_owned(), "-c".into(), PUT_BACK.into(), "sh".into(), text(&saved), text(folder)];
        argv.extend(words);
        self.server.control().run(&HostCommand::new(argv).within(super::TOOL_LIMIT)).await.map(drop)
    }

    /// Removes what was saved, for the directory holds it again, and a copy that nobody needs.
    pub(super) async fn forget_copies(&self, places: &Places) -> Result<(), PgError> {
        let copies = [&places.data].into_iter().chain(&places.linked).map(|place| text(&place.own("dr-new")));
        let mut argv = vec!["rm".to_owned(), "-rf".into(), "--".into(), text(&places.data.own("dr-node"))];
        argv.extend(copies);
        self.server.control().run(&HostCommand::new(argv).within(super::TOOL_LIMIT)).await.map(drop)
    }
}

fn text(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_postgresql_did_not_put_there_is_the_nodes_own() {
        let listed = "f PG_VERSION\0d base\0d pg_wal\0d pg_tblspc\0f pg_hba.conf\0f pg_hba.conf.dr-original\0f postgresql.auto.conf\0\
                      d conf.d\0f server.key\0f dr_fence.users\0d log\0f override.conf\0d dr-new\0d dr-old-2\0f dr-rejoin\0f .dr-x1\0\
                      N pg_stat_tmp\0f standby.signal\0";
        let own: Vec<String> = entries(listed).into_iter().filter(Entry::is_own).map(|entry| entry.name).collect();
        let expected = [
            "pg_hba.conf",
            "pg_hba.conf.dr-original",
            "postgresql.auto.conf",
            "conf.d",
            "server.key",
            "dr_fence.users",
            "log",
            "override.conf",
        ];
        assert_eq!(own, expected);
    }

    #[test]
    fn a_named_file_in_a_directory_of_postgresql_is_kept_too() {
        let values = ["global/server.key", "/data/pg_stat/ca.crt", "server.crt", "/etc/ssl/x", "", "conf.d/x"];
        let found = nested(Path::new("/data"), values.into_iter().map(String::from));
        assert_eq!(found, ["global/server.key", "pg_stat/ca.crt"]);
    }
}
