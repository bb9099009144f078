//! Where the parts of a data directory really lie, so that a rebuild leaves each of them where it was.
//!
//! ```text
//!   /data/pg1 ─► /vol/pg1            the real directory        beside:  /vol/pg1.dr-new   ⇄  /vol/pg1
//!   /vol/pg1   a mount point         cannot be renamed         inside:  /vol/pg1/dr-new/* ⇄  /vol/pg1/*
//!   pg_wal ─► /log/pg1               the log's own volume
//!   pg_tblspc/16400 ─► /ts/big       a tablespace              inside: only PG_15_… of it is exchanged
//! ```

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use dr_sql::{PgError, Session};
use serde::{Deserialize, Serialize};

use crate::{member::Member, server::HostCommand};

/// How a directory is exchanged for a fresh one inside its own file system.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum How {
    /// The directory itself is renamed.
    Beside,
    /// It stays, and its contents change places with those of a directory in it.
    Inside,
}

/// Which part of a data directory a place holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Holds {
    Data,
    Log,
    /// A tablespace by its id.
    Tablespace(String),
}

/// A directory that a rebuild exchanges.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) holds: Holds,
    pub(super) how: How,
    /// The directory itself, without links.
    pub(super) real: PathBuf,
    /// What the link to it says; none for the data directory.
    pub(super) link: String,
    device: String,
    free: u64,
}

impl Place {
    /// A path of our own for this place: `main.dr-new` beside it, or `dr-new` in it.
    pub(super) fn own(&self, name: &str) -> PathBuf {
        match self.how {
            How::Inside => self.real.join(name),
            How::Beside => {
                let folder =
                    self.real.file_name().map_or_else(Default::default, |name| name.to_string_lossy().into_owned());
                self.real.with_file_name(format!("{folder}.{name}"))
            }
        }
    }
}

/// Where everything lies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Places {
    pub(super) data: Place,
    /// The log's place and those of tablespaces, where they are links.
    pub(super) linked: Vec<Place>,
    /// What keeps a rebuild from leaving everything where it is, whatever the primary holds.
    odd: Vec<String>,
}

/// A tablespace of the primary.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Tablespace {
    pub(super) id: String,
    name: String,
    /// Empty for the two that lie in the data directory.
    pub(super) location: String,
    bytes: u64,
}

/// Room that a base backup needs besides the tables: log that is written meanwhile.
const LOG_ROOM: u64 = 256 << 20;

impl Places {
    fn read(server: &str, text: &str) -> Result<Self, PgError> {
        let unreadable = |saw: &str| PgError::Unreadable { server: server.into(), what: "its places", saw: saw.into() };
        let (mut data, mut linked, mut odd) = (None, Vec::new(), Vec::new());
        for line in text.lines() {
            let fields: Vec<&str> = line.split('\t').collect();
            match fields.as_slice() {
                ["place", holds, how, device, free, real, link] => {
                    let how = if *how == "beside" { How::Beside } else { How::Inside };
                    let holds = match *holds {
                        "data" => Holds::Data,
                        "log" => Holds::Log,
                        id => Holds::Tablespace(id.to_owned()),
                    };
                    let (device, link) = ((*device).to_owned(), (*link).to_owned());
                    let free = free.trim().parse().unwrap_or(0);
                    let place = Place { holds, how, real: real.into(), link, device, free };
                    match place.holds {
                        Holds::Data => data = Some(place),
                        Holds::Log | Holds::Tablespace(_) => linked.push(place),
                    }
                }
                ["mount", at] => {
                    odd.push(format!("{at} is a mount point inside it; unmount it, or replace it by a link"))
                }
                ["link", at] => odd.push(format!("{at} is a link to a directory; replace it by the directory itself")),
                _ => return Err(unreadable(line)),
            }
        }
        let data = data.ok_or_else(|| unreadable(text))?;
        odd.extend(linked.iter().filter(|place| place.real.starts_with(&data.real)).map(|place| {
            let at = place.real.display();
            format!("{at} is the target of a link and lies inside the data directory; move it out of there")
        }));
        Ok(Self { data, linked, odd })
    }

    /// The place of the tablespace with this id.
    pub(super) fn tablespace(&self, id: &str) -> Option<&Place> {
        self.linked.iter().find(|place| matches!(&place.holds, Holds::Tablespace(own) if own == id))
    }

    /// Whether every tablespace of the primary has its place here. A rewind would make a missing one where the primary has it.
    pub(super) fn have_all(&self, theirs: &[Tablespace]) -> bool {
        theirs.iter().filter(|one| !one.location.is_empty()).all(|one| self.tablespace(&one.id).is_some())
    }

    /// Why a base backup of the primary could not be exchanged for what is here; empty if it could.
    pub(super) fn against_a_rebuild(&self, theirs: &[Tablespace]) -> Vec<String> {
        let mut why = self.odd.clone();
        let mut needed: BTreeMap<&str, (u64, &Place)> = BTreeMap::new();
        needed.insert(&self.data.device, (LOG_ROOM, &self.data));
        for one in theirs {
            let place = if one.location.is_empty() { Some(&self.data) } else { self.tablespace(&one.id) };
            let Some(place) = place else {
                let (name, id, data) = (&one.name, &one.id, self.data.real.display());
                why.push(format!(
                    "the tablespace `{name}` has no place here; make an empty directory for it and a link to it at \
                     {data}/pg_tblspc/{id}"
                ));
                continue;
            };
            needed.entry(&place.device).or_insert((0, place)).0 += one.bytes;
        }
        for (bytes, place) in needed.into_values().filter(|(bytes, place)| *bytes > place.free) {
            why.push(format!(
                "the file system of {} has {} MB free, and a copy needs {} MB beside what is there",
                place.real.display(),
                place.free >> 20,
                bytes >> 20
            ));
        }
        why
    }
}

/// Prints a line for every place, then what is odd. Nothing is taken from the directory but its links.
const LOOK: &str = r#"d=$(readlink -f -- "$1"); t=$(printf '\t')
place() { r=$(readlink -f -- "$2"); p=$(dirname -- "$r"); h=inside; v=$(stat -c %d -- "$r" 2>/dev/null) || v=$(stat -c %d -- "$p")
if test "$1" = data || test "$1" = log; then test -w "$p" && test "$(stat -c %d -- "$p")" = "$v" && ! mountpoint -q -- "$r" && h=beside; fi
f=$(df -B1 --output=avail -- "$p" 2>/dev/null | tail -n 1); test -d "$r" && f=$(df -B1 --output=avail -- "$r" | tail -n 1)
printf 'place\t%s\t%s\t%s\t%s\t%s\t%s\n' "$1" "$h" "$v" "$f" "$r" "$3"; roots="$roots$r
"; }
place data "$d" ""
test -L "$d/pg_wal" && place log "$d/pg_wal" "$(readlink -- "$d/pg_wal")"
for l in "$d"/pg_tblspc/*; do test -L "$l" && place "${l##*/}" "$l" "$(readlink -- "$l")"; done
for l in "$d"/pg_* "$d"/base "$d"/global "$d"/base/*; do test -L "$l" && test -d "$l" && test "$l" != "$d/pg_wal" && printf 'link\t%s\n' "$l"; done
while read -r _ _ _ _ m _; do printf '%s' "$roots" | while read -r r; do case $m in "$r"/*) printf 'mount\t%s\n' "$m";; esac; done; done < /proc/self/mountinfo
exit 0"#;

impl Member {
    /// Where everything of this server lies.
    pub(super) async fn places(&self) -> Result<Places, PgError> {
        let data = self.server.site().data.to_string_lossy().into_owned();
        let argv = ["sh".to_owned(), "-c".into(), LOOK.into(), "sh".into(), data];
        let text = self.server.control().run(&HostCommand::new(argv)).await?;
        Places::read(self.name.as_str(), &text)
    }

    pub(super) async fn exists(&self, path: &Path) -> Result<bool, PgError> {
        let script = r#"if test -e "$1" || test -L "$1"; then echo yes; fi"#;
        let argv = ["sh".to_owned(), "-c".into(), script.into(), "sh".into(), path.to_string_lossy().into_owned()];
        Ok(self.server.control().run(&HostCommand::new(argv)).await?.trim() == "yes")
    }
}

/// The tablespaces with their sizes.
///
/// # Errors
/// The server cannot be asked (`pg_monitor` is needed).
pub(super) async fn tablespaces(session: &Session) -> Result<Vec<Tablespace>, PgError> {
    const WHAT: &str = "tell its tablespaces";
    const SQL: &str = "SELECT oid::text, spcname::text, coalesce(pg_tablespace_location(oid), ''), \
                       coalesce(pg_tablespace_size(oid), 0)::int8 FROM pg_tablespace ORDER BY oid";
    let rows = session.rows(WHAT, SQL, &[]).await?;
    let read = |row| {
        Ok(Tablespace {
            id: session.get(WHAT, row, 0)?,
            name: session.get(WHAT, row, 1)?,
            location: session.get(WHAT, row, 2)?,
            bytes: u64::try_from(session.get::<i64>(WHAT, row, 3)?).unwrap_or(0),
        })
    };
    rows.iter().map(read).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "place\tdata\tbeside\t2049\t1000000000\t/vol/pg1\t\nplace\tlog\tinside\t2050\t500\t/log/pg1\t/log/pg1\n\
                        place\t16400\tinside\t2051\t5000000\t/ts/big\t/srv/big\n";

    fn theirs(id: &str, location: &str, bytes: u64) -> Tablespace {
        Tablespace { id: id.into(), name: "big".into(), location: location.into(), bytes }
    }

    #[test]
    fn places_are_read() {
        let places = Places::read("pg1", TEXT).unwrap();
        assert_eq!(places.data.own("dr-new"), Path::new("/vol/pg1.dr-new"));
        let log = places.linked.first().unwrap();
        assert_eq!((log.own("dr-old"), &log.holds), ("/log/pg1/dr-old".into(), &Holds::Log));
        assert_eq!(places.tablespace("16400").unwrap().link, "/srv/big");
        assert!(Places::read("pg1", "").is_err() && Places::read("pg1", "what\tis").is_err());
    }

    #[test]
    fn what_keeps_a_rebuild_from_working_is_known_before() {
        let places = Places::read("pg1", TEXT).unwrap();
        let fine = [theirs("1663", "", 500_000_000), theirs("16400", "/elsewhere", 4_000_000)];
        assert_eq!(places.against_a_rebuild(&fine), Vec::<String>::new());
        assert!(places.have_all(&fine));
        let why = places.against_a_rebuild(&[theirs("1663", "", 900_000_000)]);
        assert!(why.iter().any(|line| line.contains("953 MB free")), "{why:?}");
        let why = places.against_a_rebuild(&[theirs("16400", "/elsewhere", 6_000_000)]);
        assert!(why.iter().any(|line| line.contains("/ts/big has 4 MB free")), "{why:?}");
        let other = [theirs("16401", "/ts2", 1)];
        assert!(places.against_a_rebuild(&other).iter().any(|line| line.contains("/vol/pg1/pg_tblspc/16401")));
        assert!(!places.have_all(&other));
        let text = format!("{TEXT}mount\t/vol/pg1/base\nplace\t9\tinside\t2049\t1\t/vol/pg1/ts\t/vol/pg1/ts\n");
        assert_eq!(Places::read("pg1", &text).unwrap().against_a_rebuild(&[]).len(), 2);
    }
}
