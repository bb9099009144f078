//! Who acts: the user of the operating system, with the roles that the administrator gives in one file.
//!
//! ```toml
//! # /etc/dr/people.toml
//! format = 1
//!
//! [person.ana]
//! uid   = 1001            # or a list, for somebody with several accounts
//! roles = ["dba"]
//! ```
//!
//! The file has one place, which no option and no variable changes, and it belongs to root: whoever could write it, or name another one,
//! could make himself the second person. A person is known by uid, so nobody takes another name; who is not in the file has no role.

use std::{
    collections::BTreeMap,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

use dr_core::{
    Actor, GroupSpec,
    base::{Role, canonical},
};
use serde::Deserialize;

use crate::exit::{Stop, chain};

/// The one place of the file.
pub(crate) const FILE: &str = "/etc/dr/people.toml";

/// The file as it was read.
#[derive(Debug)]
pub(crate) struct People {
    path: PathBuf,
    persons: BTreeMap<String, Person>,
    /// The beginning of the digest of its text, for the journal; `None` where there is no file.
    digest: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    format: u32,
    #[serde(default)]
    person: BTreeMap<String, Person>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Person {
    uid: Uids,
    #[serde(default)]
    roles: Vec<Role>,
}

#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Uids {
    One(u32),
    Several(Vec<u32>),
}

impl Uids {
    fn all(&self) -> &[u32] {
        match self {
            Self::One(uid) => std::slice::from_ref(uid),
            Self::Several(uids) => uids,
        }
    }
}

impl People {
    /// Reads the file, which must be the administrator's alone.
    pub(crate) fn read(path: &Path) -> Result<Self, Stop> {
        Self::of(path, 0)
    }

    /// Reads the file of the administrator with this uid.
    fn of(path: &Path, admin: u32) -> Result<Self, Stop> {
        let place = path.display();
        let real = match path.canonicalize() {
            Ok(real) => real,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                return Ok(Self { path: path.to_owned(), persons: BTreeMap::new(), digest: None });
            }
            Err(error) => return Err(Stop::input(format!("`{place}` cannot be read: {}", chain(&error)), &[])),
        };
        trusted(&real, admin)?;
        let text = std::fs::read_to_string(&real)
            .map_err(|error| Stop::input(format!("`{place}` cannot be read: {}", chain(&error)), &[]))?;
        let file: File = toml::from_str(&text).map_err(|error| misread(path, &text, &error))?;
        if file.format != 1 {
            return Err(Stop::input(format!("`{place}` has format {}; this program reads 1", file.format), &[]));
        }
        let mut owners: BTreeMap<u32, &str> = BTreeMap::new();
        for (name, person) in &file.person {
            for uid in person.uid.all() {
                if let Some(other) = owners.insert(*uid, name) {
                    let what = format!("`{place}` gives uid {uid} to both {other} and {name}");
                    return Err(Stop::input(what, &["an account belongs to one person: take one of them out".into()]));
                }
            }
        }
        let digest = canonical::leaf_hash(text.as_bytes()).hex().chars().take(8).collect();
        Ok(Self { path: path.to_owned(), persons: file.person, digest: Some(digest) })
    }

    /// Whether there is a file of people.
    pub(crate) fn exist(&self) -> bool {
        self.digest.is_some()
    }

    /// The person who runs this process.
    pub(crate) fn acting(&self) -> Actor {
        self.known(rustix::process::getuid().as_raw())
    }

    /// The person with this uid.
    fn known(&self, uid: u32) -> Actor {
        let file = self.digest.as_ref().map(|digest| format!(", people file {digest}")).unwrap_or_default();
        let how = format!("os user {uid}{file}");
        let found = self.persons.iter().find(|(_, person)| person.uid.all().contains(&uid));
        let Some((name, person)) = found else { return account(uid).shown_by(how) };
        let accounts = person.uid.all().iter();
        let actor = accounts.fold(Actor::local(name), |actor, uid| actor.authenticated("os", uid.to_string()));
        person.roles.iter().cloned().fold(actor, Actor::with_role).shown_by(how)
    }

    /// What a group asks of people that these people cannot give, whoever asks for the run.
    pub(crate) fn lacking(&self, group: &GroupSpec) -> Vec<String> {
        let place = self.path.display();
        let mut lacking = Vec::new();
        for (purpose, approval) in &group.approval {
            let able = self.persons.values().filter(|person| {
                approval.roles.is_empty() || person.roles.iter().any(|role| approval.roles.contains(role))
            });
            let (able, needs) = (able.count(), usize::from(approval.people));
            let roles: Vec<&str> = approval.roles.iter().map(Role::as_str).collect();
            let of = if roles.is_empty() { "any role".to_owned() } else { roles.join(" or ") };
            if able < needs {
                lacking.push(format!("approval.{purpose} needs {needs} of {of}; {place} has {able}"));
            } else if able == needs && needs > 0 {
                lacking.push(format!(
                    "approval.{purpose} needs {needs} of {of}; {place} has just as many, so none of them can ask for the run"
                ));
            }
        }
        lacking
    }
}

fn account(uid: u32) -> Actor {
    Actor::local(system_name(uid)).authenticated("os", uid.to_string()).shown_by(format!("os user {uid}"))
}

/// Refuses a file that anybody but the administrator could change or replace. `real` has no link in it.
pub(crate) fn trusted(real: &Path, admin: u32) -> Result<(), Stop> {
    for place in real.ancestors() {
        let meta = std::fs::symlink_metadata(place)
            .map_err(|error| Stop::input(format!("`{}` cannot be read: {}", place.display(), chain(&error)), &[]))?;
        let owner = meta.uid() == 0 || meta.uid() == admin;
        // In a directory with the sticky bit, such as /tmp, nobody renames what is another's.
        let sticky = meta.is_dir() && meta.mode() & 0o1000 != 0;
        if owner && (meta.mode() & 0o022 == 0 || sticky) {
            continue;
        }
        let what = match owner {
            false => format!("`{}` belongs to {}, and not to root", place.display(), system_name(meta.uid())),
            true => format!("`{}` can be written by others than its owner", place.display()),
        };
        let help = [
            "whoever can write it could approve his own run, or say that fewer people must agree".to_owned(),
            format!("put that right as root:  chown root {0} && chmod go-w {0}", place.display()),
        ];
        return Err(Stop::refused(what, &help));
    }
    Ok(())
}

/// What the reader of TOML did not understand, with its line.
fn misread(path: &Path, text: &str, error: &toml::de::Error) -> Stop {
    let at = error.span().map_or(0, |span| span.start.min(text.len()));
    let before = text.get(..at).unwrap_or_default();
    let line = before.matches('\n').count() + 1;
    let column = before.rsplit('\n').next().unwrap_or_default().chars().count() + 1;
    let shown = text.lines().nth(line.saturating_sub(1)).unwrap_or_default();
    let help = [
        format!("   {line} | {shown}"),
        "it looks like:  format = 1".to_owned(),
        "                [person.ana]".to_owned(),
        "                uid = 1001".to_owned(),
        "                roles = [\"dba\"]".to_owned(),
    ];
    Stop::input(format!("{}:{line}:{column}  {}", path.display(), error.message()), &help)
}

/// The name in the system's own list, or the number.
fn system_name(uid: u32) -> String {
    let list = std::fs::read_to_string("/etc/passwd").unwrap_or_default();
    let name = list.lines().find_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        (fields.nth(1)?.parse() == Ok(uid)).then(|| name.to_owned())
    });
    name.unwrap_or_else(|| format!("uid-{uid}"))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;

    fn me() -> u32 {
        rustix::process::getuid().as_raw()
    }

    /// A directory of the account that runs the tests, who plays the administrator.
    fn dir(text: &str) -> (tempfile::TempDir, PathBuf) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("people.toml");
        std::fs::write(&path, text).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).unwrap();
        (dir, path)
    }

    fn refused(text: &str) -> String {
        let (_dir, path) = dir(text);
        People::of(&path, me()).unwrap_err().page
    }

    #[test]
    fn a_person_is_known_by_uid_and_has_the_roles_of_the_file() {
        let text = "format = 1\n[person.ana]\nuid = [1001, 1002]\nroles = [\"dba\", \"service-owner\"]\n";
        let (_dir, path) = dir(text);
        let people = People::of(&path, me()).unwrap();
        let ana = people.known(1001);
        assert_eq!((ana.name.as_str(), ana.roles.len()), ("ana", 2));
        assert!(ana.shown_by.as_ref().unwrap().starts_with("os user 1001, people file "), "{ana:?}");
        assert!(ana.may_be(&people.known(1002)), "two accounts of one person");
        assert!(account(1002).may_be(&ana), "also if one of the answers came before the file knew her");
        let stranger = people.known(4_000_000_000);
        assert_eq!((stranger.name.as_str(), stranger.roles.len()), ("uid-4000000000", 0));
        assert!(!stranger.may_be(&ana));
    }

    #[test]
    fn without_a_file_nobody_has_a_role() {
        let dir = tempfile::tempdir().unwrap();
        let people = People::of(&dir.path().join("people.toml"), me()).unwrap();
        assert!(people.known(0).roles.is_empty());
    }

    #[test]
    fn two_people_with_one_uid_and_typos_are_refused_with_their_line() {
        let twice = refused("format = 1\n[person.ana]\nuid = 1\n[person.ben]\nuid = [2, 1]\n");
        assert!(twice.contains("gives uid 1 to both ana and ben"), "{twice}");
        let typo = refused("format = 1\n[person.ana]\nuid = 1\nrole = [\"dba\"]\n");
        assert!(typo.contains("people.toml:4:1  unknown field `role`"), "{typo}");
        assert!(typo.contains("   4 | role = [\"dba\"]\n"), "{typo}");
    }

    /// The requester wrote a file of people of his own, and approved his own run under another name.
    #[test]
    fn bug_a_file_that_others_can_write_gives_nobody_a_role() {
        let (_keep, path) = dir("format = 1\n");
        People::of(&path, me()).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o664)).unwrap();
        let page = People::of(&path, me()).unwrap_err().page;
        assert!(page.contains("can be written by others than its owner"), "{page}");
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).unwrap();
        std::fs::set_permissions(path.parent().unwrap(), std::fs::Permissions::from_mode(0o777)).unwrap();
        let page = People::of(&path, me()).unwrap_err().page;
        assert!(page.contains("can be written by others"), "the directory is as good as the file: {page}");
        std::fs::set_permissions(path.parent().unwrap(), std::fs::Permissions::from_mode(0o755)).unwrap();
        let (_link, elsewhere) = dir("format = 1\n");
        std::fs::set_permissions(&elsewhere, std::fs::Permissions::from_mode(0o666)).unwrap();
        std::fs::remove_file(&path).unwrap();
        symlink(&elsewhere, &path).unwrap();
        let page = People::of(&path, me()).unwrap_err().page;
        assert!(page.contains("can be written by others"), "what a link leads to counts: {page}");
        let (_other, path) = dir("format = 1\n");
        let stranger = People::of(&path, me() + 1);
        // Root's files are the administrator's always.
        assert_eq!(stranger.is_err(), me() != 0, "{stranger:?}");
    }

    #[test]
    fn a_quorum_that_nobody_can_fill_is_told() {
        let text = "format = 1\n[person.ana]\nuid = 1\nroles = [\"dba\"]\n[person.ben]\nuid = 2\nroles = [\"other\"]\n";
        let (_dir, path) = dir(text);
        let people = People::of(&path, me()).unwrap();
        let group = include_str!("../../examples/groups/orders.toml");
        let file = dr_engine::GroupFile::parse(group, "orders.toml").unwrap();
        let lacking = people.lacking(file.spec());
        let word = format!("approval.switchover needs 2 of dba or service-owner; {} has 1", path.display());
        assert_eq!(lacking, [word]);
    }
}
