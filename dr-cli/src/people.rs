//! Who acts: the user of the operating system, with the roles that a file of the operator gives him.
//!
//! ```toml
//! # groups/people.toml
//! format = 1
//! [person.ana]
//! uid   = 1001
//! roles = ["dba"]
//! ```
//!
//! A person is known by uid, so nobody takes another name. Who is not in the file has no role.

use std::{collections::BTreeMap, os::unix::fs::MetadataExt, path::Path};

use dr_core::{Actor, base::Role};
use serde::Deserialize;

use crate::exit::{Stop, chain};

/// The name of the file, beside the groups.
pub(crate) const FILE: &str = "people.toml";

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct People {
    format: u32,
    #[serde(default)]
    person: BTreeMap<String, Person>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Person {
    uid: u32,
    #[serde(default)]
    roles: Vec<Role>,
}

/// The one who runs this process.
pub(crate) fn acting(groups: &Path) -> Result<Actor, Stop> {
    known(groups, rustix::process::getuid().as_raw())
}

/// The person with this uid.
fn known(groups: &Path, uid: u32) -> Result<Actor, Stop> {
    let path = groups.join(FILE);
    let people = match std::fs::metadata(&path) {
        Ok(meta) if meta.mode() & 0o002 != 0 => {
            let help = ["anybody could give himself a role; take that right away: chmod o-w".to_owned()];
            return Err(Stop::input(format!("`{}` can be written by everybody", path.display()), &help));
        }
        Ok(_) => read(&path)?,
        Err(_) => People { format: 1, person: BTreeMap::new() },
    };
    let mut found = people.person.into_iter().filter(|(_, person)| person.uid == uid);
    let how = format!("os user {uid}");
    let Some((name, person)) = found.next() else {
        return Ok(Actor::local(system_name(uid)).authenticated_by(how));
    };
    if let Some((other, _)) = found.next() {
        let what = format!("`{}` gives uid {uid} to both {name} and {other}", path.display());
        return Err(Stop::input(what, &["one person, one uid: take one of them out".into()]));
    }
    Ok(person.roles.into_iter().fold(Actor::local(name), Actor::with_role).authenticated_by(how))
}

fn read(path: &Path) -> Result<People, Stop> {
    let place = path.display();
    let text = std::fs::read_to_string(path)
        .map_err(|error| Stop::input(format!("`{place}` cannot be read: {}", chain(&error)), &[]))?;
    let people: People = toml::from_str(&text).map_err(|error| {
        let help = [
            "it looks like:  format = 1".to_owned(),
            "                [person.ana]".to_owned(),
            "                uid = 1001".to_owned(),
            "                roles = [\"dba\"]".to_owned(),
        ];
        Stop::input(format!("`{place}` is not understood: {}", error.message()), &help)
    })?;
    if people.format != 1 {
        return Err(Stop::input(format!("`{place}` has format {}; this program reads 1", people.format), &[]));
    }
    Ok(people)
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
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn dir(text: &str) -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join(FILE), text).unwrap();
        dir
    }

    #[test]
    fn a_person_is_known_by_uid_and_has_the_roles_of_the_file() {
        let dir = dir("format = 1\n[person.ana]\nuid = 1001\nroles = [\"dba\", \"service-owner\"]\n");
        let ana = known(dir.path(), 1001).unwrap();
        assert_eq!((ana.name.as_str(), ana.roles.len()), ("ana", 2));
        assert_eq!(ana.authenticated_by.as_deref(), Some("os user 1001"));
        let stranger = known(dir.path(), 4_000_000_000).unwrap();
        assert_eq!((stranger.name.as_str(), stranger.roles.len()), ("uid-4000000000", 0));
    }

    #[test]
    fn without_a_file_nobody_has_a_role() {
        let dir = tempfile::tempdir().unwrap();
        assert!(known(dir.path(), 0).unwrap().roles.is_empty());
    }

    #[test]
    fn two_names_for_one_uid_typos_and_open_files_are_refused() {
        let twice = dir("format = 1\n[person.ana]\nuid = 1\n[person.ben]\nuid = 1\n");
        assert!(known(twice.path(), 1).unwrap_err().page.contains("both ana and ben"));
        let typo = dir("format = 1\n[person.ana]\nuid = 1\nrole = [\"dba\"]\n");
        assert!(known(typo.path(), 1).unwrap_err().page.contains("unknown field `role`"));
        let open = dir("format = 1\n");
        std::fs::set_permissions(open.path().join(FILE), std::fs::Permissions::from_mode(0o666)).unwrap();
        assert!(known(open.path(), 1).unwrap_err().page.contains("can be written by everybody"));
    }
}
