//! Where PostgreSQL and PgBouncer are installed.

use std::{
    env,
    path::{Path, PathBuf},
    process::Command,
};

/// The programs that a local cluster needs.
#[derive(Clone, Debug)]
pub struct Binaries {
    /// The directory of `postgres`, `initdb`, `pg_ctl`.
    pub bin: PathBuf,
    /// `pgbouncer`, if it is installed.
    pub pgbouncer: Option<PathBuf>,
}

/// No PostgreSQL server was found.
#[derive(Debug, thiserror::Error)]
#[error(
    "no PostgreSQL server programs found in PATH, through pg_config, or under /usr/lib/postgresql/*/bin; \
     install them with `scripts/install-test-deps` or `apt-get install postgresql pgbouncer`"
)]
pub struct MissingPostgres;

impl Binaries {
    /// Looks in `PATH`, asks `pg_config`, then looks in Debian's directories, newest version first.
    ///
    /// # Errors
    /// Nothing found; the message says what to install.
    pub fn find() -> Result<Self, MissingPostgres> {
        let through_path = || Some(std::fs::canonicalize(on_path("initdb")?).ok()?.parent()?.to_path_buf());
        let candidates = [through_path(), from_pg_config(), debian()];
        let bin = candidates.into_iter().flatten().find(|bin| complete(bin)).ok_or(MissingPostgres)?;
        let pgbouncer = on_path("pgbouncer").or_else(|| {
            ["/usr/sbin/pgbouncer", "/usr/bin/pgbouncer"].map(PathBuf::from).into_iter().find(|p| p.exists())
        });
        Ok(Self { bin, pgbouncer })
    }
}

/// A directory with every program of a server; a link to one of them elsewhere is not enough.
fn complete(bin: &Path) -> bool {
    ["postgres", "initdb", "pg_ctl", "pg_controldata", "pg_basebackup", "pg_rewind"]
        .iter()
        .all(|p| bin.join(p).is_file())
}

fn on_path(program: &str) -> Option<PathBuf> {
    env::split_paths(&env::var_os("PATH")?).map(|folder| folder.join(program)).find(|path| path.is_file())
}

fn from_pg_config() -> Option<PathBuf> {
    let output = Command::new("pg_config").arg("--bindir").output().ok().filter(|output| output.status.success())?;
    let folder = PathBuf::from(String::from_utf8_lossy(&output.stdout).trim());
    Some(folder)
}

fn debian() -> Option<PathBuf> {
    let mut versions: Vec<(u32, PathBuf)> = std::fs::read_dir("/usr/lib/postgresql")
        .ok()?
        .filter_map(|entry| {
            let path = entry.ok()?.path();
            let version = path.file_name()?.to_str()?.parse().ok()?;
            let bin = path.join("bin");
            complete(&bin).then_some((version, bin))
        })
        .collect();
    versions.sort();
    versions.pop().map(|(_, bin)| bin)
}
