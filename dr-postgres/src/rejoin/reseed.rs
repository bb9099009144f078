//! `pg_rewind` and `pg_basebackup`, under a lock, and the exchange of what was copied for what was there.
//!
//! ```text
//!   mark `dr-rejoin`:   pg_basebackup                  a copy was begun beside; what is here is untouched
//!                       pg_rewind                      the directory may be half rewound: only a copy helps
//!                       {"data":{…},"linked":[…]}      the copy is whole and configured; the exchange has begun
//!                       absent                         nothing of a rejoin is under way
//! ```

use std::path::{Path, PathBuf};

use dr_sql::{ConnInfo, PgError, Session};
use serde::{Deserialize, Serialize};

use super::{
    TOOL_LIMIT,
    places::{Holds, How, Place, Places},
    settings::Following,
};
use crate::{
    error::HostError,
    member::{Member, Peer},
    rejoin::places::tablespaces,
    server::HostCommand,
};

/// What the mark tells of an earlier attempt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Mark {
    /// There was none, or nothing of it is left to do.
    None,
    /// A copy may have been interrupted; what was here before is untouched.
    Copy,
    /// A rewind may have been interrupted: only a copy helps, and the files here may be the primary's.
    Rewind,
    /// The copy is whole; the exchange may have been interrupted.
    Exchange(Exchange),
}

/// The directories that change places. It lies in the mark, so that a successor ends what was begun.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Exchange {
    data: Swap,
    linked: Vec<Linked>,
}

/// One of them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Swap {
    how: How,
    real: PathBuf,
    fresh: PathBuf,
    kept: PathBuf,
}

/// A place that the data directory links to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Linked {
    swap: Swap,
    /// The link, relative to the data directory.
    name: String,
    /// What it said, and says again.
    text: String,
}

impl Swap {
    fn of(place: &Place, kept: &str) -> Self {
        Self { how: place.how, real: place.real.clone(), fresh: place.own("dr-new"), kept: place.own(kept) }
    }

    fn words(&self) -> Vec<String> {
        let how = match self.how {
            How::Beside => "beside",
            How::Inside => "inside",
        };
        vec![how.into(), text(&self.real), text(&self.fresh), text(&self.kept)]
    }
}

impl Exchange {
    fn of(places: &Places, kept: &str) -> Self {
        let linked = places.linked.iter().map(|place| Linked {
            swap: Swap::of(place, kept),
            name: match &place.holds {
                Holds::Data | Holds::Log => "pg_wal".into(),
                Holds::Tablespace(id) => format!("pg_tblspc/{id}"),
            },
            text: place.link.clone(),
        });
        Self { data: Swap::of(&places.data, kept), linked: linked.collect() }
    }

    /// The script's words. Once the data directory itself is being exchanged, everything before it is done.
    fn words(&self, copied: bool) -> Vec<String> {
        let mut words = Vec::new();
        for linked in self.linked.iter().filter(|_| copied) {
            words.extend(linked.swap.words());
            let link =
                |folder: &Path, to: String| ["link".to_owned(), text(&folder.join(&linked.name)), to, String::new()];
            words.extend(link(&self.data.real, text(&linked.swap.kept)));
            words.extend(link(&self.data.fresh, linked.text.clone()));
        }
        words.extend(self.data.words());
        words
    }
}

/// Exchanges directories in the order of its words; each of them may have been done before. A directory that is exchanged from inside
/// loses its PG_VERSION first and gets it last: in between no server starts in it.
const EXCHANGE: &str = r#"set -e
beside() { test -d "$2" || return 0; if test -d "$1"; then test ! -e "$3"; mv -T -- "$1" "$3"; fi; mv -T -- "$2" "$1"; sync -f -- "$(dirname -- "$1")"; }
inside() { r=$1/dr-ready
if test -d "$2"; then mkdir -p -m 700 -- "$3"; test ! -e "$1/PG_VERSION" || mv -- "$1/PG_VERSION" "$3/"
find "$1" -mindepth 1 -maxdepth 1 ! -name dr-new ! -name dr-rejoin ! -name dr-node ! -name 'dr-old*' ! -name lost+found -exec mv -t "$3" -- {} +
mv -T -- "$2" "$r"; fi
if test -d "$r"; then find "$r" -mindepth 1 -maxdepth 1 ! -name PG_VERSION -exec mv -t "$1" -- {} +
test ! -e "$r/PG_VERSION" || mv -- "$r/PG_VERSION" "$1/"; rmdir -- "$r"; sync -f -- "$1"; fi; }
while test $# -gt 0; do case $1 in
link) if test -L "$2"; then ln -sfnT -- "$3" "$2"; fi;;
*) "$1" "$2" "$3" "$4";; esac; shift 4; done"#;

impl Member {
    pub(super) async fn mark(&self, places: &Places) -> Result<Mark, PgError> {
        let found = self.server.control().read(&places.data.own("dr-rejoin")).await?.unwrap_or_default();
        if found.is_empty() {
            return Ok(Mark::None);
        }
        let other = if found == b"pg_basebackup" { Mark::Copy } else { Mark::Rewind };
        Ok(serde_json::from_slice(&found).map_or(other, Mark::Exchange))
    }

    pub(super) async fn forget_mark(&self, places: &Places) -> Result<(), PgError> {
        self.server.control().remove(&places.data.own("dr-rejoin")).await
    }

    /// Whether a tool started by an earlier process still works on the directory: it holds the lock on the mark.
    pub(super) async fn tool_runs(&self, places: &Places) -> Result<bool, PgError> {
        let mark = places.data.own("dr-rejoin");
        if self.server.control().read(&mark).await?.is_none() {
            return Ok(false);
        }
        let test = ["flock".into(), "-n".into(), text(&mark), "true".into()];
        match self.server.control().run(&HostCommand::new::<String>(test)).await {
            Ok(_) => Ok(false),
            Err(e) if matches!(HostError::of(&e), Some(HostError::Program { .. })) => Ok(true),
            Err(e) => Err(e),
        }
    }

    /// Runs a tool under the lock on the mark, so that nobody starts a second one while it works.
    async fn tool(&self, places: &Places, argv: &[String], password: Option<dr_sql::Password>) -> Result<(), PgError> {
        let mark = places.data.own("dr-rejoin");
        let name = argv.first().map(|program| program.rsplit('/').next().unwrap_or(program)).unwrap_or_default();
        // What a rewind left half done stays so until the copy is exchanged for it.
        if self.mark(places).await? != Mark::Rewind {
            self.server.control().write(&mark, name.as_bytes()).await?;
        }
        let words = ["flock".into(), "-n".into(), text(&mark)].into_iter().chain(argv.iter().cloned());
        let command = HostCommand::new::<String>(words).within(TOOL_LIMIT).with_password(password);
        self.server.control().run(&command).await.map(drop)
    }

    /// Runs `pg_rewind`. Between its end and our own configuration the directory is a standby's already (`-R`).
    pub(super) async fn rewind(&self, places: &Places, peer: &Peer, upstream: &Session) -> Result<(), PgError> {
        // Until its first checkpoint the primary's control file names the old timeline, and a rewind would find nothing to do.
        upstream.run_within("write a checkpoint", "CHECKPOINT", std::time::Duration::from_secs(600)).await?;
        self.save_node_files(places).await?;
        self.server.control().write(&places.data.own("dr-rejoin"), b"pg_rewind").await?;
        self.unlink_node_files(places).await?;
        let source = ConnInfo::default()
            .with("host", peer.target.host.clone())
            .with("port", peer.target.port.to_string())
            .with("user", peer.target.user.clone())
            .with("dbname", peer.target.database.clone());
        let mut argv = vec![self.server.program("pg_rewind"), "-R".into(), "-D".into(), text(&places.data.real)];
        argv.push(format!("--source-server={}", source.text()));
        if let Some(config) = &self.server.site().config_file {
            argv.push(format!("--config-file={}", config.display()));
        }
        self.tool(places, &argv, peer.target.password.clone()).await
    }

    /// Copies the primary anew and exchanges the copy for what is here, each part where it was. What was here is kept: it may hold the
    /// only copy of writes.
    pub(super) async fn reseed(
        &self,
        places: &Places,
        upstream: &Session,
        following: &Following,
    ) -> Result<(), PgError> {
        let theirs = tablespaces(upstream).await?;
        let why = places.against_a_rebuild(&theirs);
        if !why.is_empty() {
            let why = why.join("; ");
            return Err(self.refused(format!("it cannot be rebuilt by a base backup, and nothing was copied: {why}")));
        }
        if self.mark(places).await? != Mark::Rewind {
            // Nothing here was touched, but its operator may have changed something since an earlier attempt.
            self.forget_copies(places).await?;
        }
        self.save_node_files(places).await?;
        let all = || [&places.data].into_iter().chain(&places.linked);
        let leftovers = all().flat_map(|place| [text(&place.own("dr-new"))]);
        let remove = ["rm".to_owned(), "-rf".into(), "--".into()].into_iter().chain(leftovers);
        self.server.control().run(&HostCommand::new::<String>(remove).within(TOOL_LIMIT)).await?;
        let password = following.conninfo.get("password").map(dr_sql::Password::new);
        let from = following.conninfo.clone().without("password").without("sslpassword").text();
        let fresh = places.data.own("dr-new");
        let mut argv = vec![self.server.program("pg_basebackup")];
        argv.extend(["-X", "stream", "-c", "fast", "-S"].map(String::from));
        argv.extend([following.slot.clone(), "-d".into(), from, "-D".into(), text(&fresh)]);
        for place in &places.linked {
            let new = text(&place.own("dr-new"));
            match &place.holds {
                Holds::Data | Holds::Log => argv.push(format!("--waldir={new}")),
                Holds::Tablespace(id) => {
                    let old = theirs.iter().find(|one| one.id == *id).map(|one| one.location.replace('=', r"\="));
                    argv.extend(old.map(|old| format!("--tablespace-mapping={old}={}", new.replace('=', r"\="))));
                }
            }
        }
        self.tool(places, &argv, password).await?;
        self.put_node_files_back(places, &fresh).await?;
        self.configure(&fresh, following).await?;
        let exchange = Exchange::of(places, &self.free_name(places).await?);
        let mark =
            serde_json::to_vec(&exchange).map_err(|e| self.refused(format!("the exchange cannot be noted: {e}")))?;
        self.server.control().write(&places.data.own("dr-rejoin"), &mark).await?;
        self.exchange(&exchange).await
    }

    /// Puts what was copied in place, or goes on with it.
    pub(super) async fn exchange(&self, exchange: &Exchange) -> Result<(), PgError> {
        let copied = self.exists(&exchange.data.fresh).await?;
        let mut argv = vec!["sh".to_owned(), "-c".into(), EXCHANGE.into(), "sh".into()];
        argv.extend(exchange.words(copied));
        self.server.control().run(&HostCommand::new(argv).within(TOOL_LIMIT)).await.map(drop)
    }

    /// The first of `dr-old`, `dr-old-2`, … that no place has.
    async fn free_name(&self, places: &Places) -> Result<String, PgError> {
        for number in 1..=1000_u32 {
            let name = if number == 1 { "dr-old".to_owned() } else { format!("dr-old-{number}") };
            let mut taken = false;
            for place in [&places.data].into_iter().chain(&places.linked) {
                taken |= self.exists(&place.own(&name)).await?;
            }
            if !taken {
                return Ok(name);
            }
        }
        Err(self.refused(format!("too many kept directories beside {}", places.data.real.display())))
    }
}

fn text(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}
