//! Connection secrets in files: one directory, one file per version, `current` names the newest. For the owner's eyes only.
//!
//! ```text
//!   /etc/dr/billing/            0700
//!     v00000001.json            0600    {"fields": {"host": "...", "password": "..."}, "token": null}
//!     v00000002.json            0600    the same fields, another host, and the token of the run that wrote it
//!     current -> v00000002.json         replaced by a rename: readers see the old version or the new one, never half of one
//! ```

use std::{
    collections::BTreeMap,
    fs, io,
    io::Write as _,
    os::unix::fs::{OpenOptionsExt as _, symlink},
    path::{Path, PathBuf},
};

use async_trait::async_trait;
use dr_core::{
    Cause, Endpoint, IdempotencyKey, Outcome, PatchSecret, ProviderError, SecretReference, SecretSpec, SecretStore,
    SecretVersion, Tri,
};
use serde::{Deserialize, Serialize};

/// A secret in a directory of this machine.
#[derive(Debug)]
pub struct FileSecret {
    folder: PathBuf,
    set: BTreeMap<String, String>,
}

/// What a version's file holds. No `Debug`: its values are secret.
#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Stored {
    fields: BTreeMap<String, String>,
    #[serde(default)]
    token: Option<IdempotencyKey>,
}

impl FileSecret {
    /// The secret in `folder`; `set` says which fields name the writer's endpoint, as in a group file.
    #[must_use]
    pub fn new(folder: impl Into<PathBuf>, set: BTreeMap<String, String>) -> Self {
        Self { folder: folder.into(), set }
    }

    /// Writes the first version of a new secret.
    ///
    /// # Errors
    /// The directory cannot be made, or it holds a secret already.
    pub fn create(folder: &Path, fields: BTreeMap<String, String>) -> io::Result<()> {
        use std::os::unix::fs::DirBuilderExt as _;
        fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
        let secret = Self::new(folder, BTreeMap::new());
        secret.put(1, &Stored { fields, token: None })?;
        secret.point_to(1)
    }

    fn wanted(&self, endpoint: &Endpoint) -> BTreeMap<String, String> {
        self.set
            .iter()
            .map(|(field, text)| (field.clone(), text.replace(SecretSpec::WRITER, endpoint.as_str())))
            .collect()
    }

    fn current(&self) -> io::Result<(u64, Stored)> {
        let name = fs::read_link(self.folder.join("current"))?;
        let number = number(&name).ok_or_else(|| io::Error::other("`current` names no version"))?;
        let text = fs::read(self.folder.join(file(number)))?;
        // The parser's own message may repeat a part of the text: it is not passed on.
        let stored = serde_json::from_slice(&text).map_err(|_| io::Error::other("a version's file is malformed"))?;
        Ok((number, stored))
    }

    /// A new file, which nobody else made: two writers of one version cannot both succeed.
    fn put(&self, number: u64, stored: &Stored) -> io::Result<()> {
        let path = self.folder.join(file(number));
        let draft = self.folder.join(format!(".{}.draft", file(number)));
        let _leftover = fs::remove_file(&draft);
        let mut open = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&draft)?;
        open.write_all(&serde_json::to_vec_pretty(stored)?)?;
        open.sync_all()?;
        // A hard link fails if the name is taken, where a rename would replace it.
        let linked = fs::hard_link(&draft, &path);
        let _tidied = fs::remove_file(&draft);
        linked
    }

    fn point_to(&self, number: u64) -> io::Result<()> {
        let draft = self.folder.join(".current");
        let _leftover = fs::remove_file(&draft);
        symlink(file(number), &draft)?;
        fs::rename(&draft, self.folder.join("current"))?;
        fs::File::open(&self.folder)?.sync_all()
    }

    fn numbers(&self) -> io::Result<Vec<u64>> {
        let mut all: Vec<u64> =
            fs::read_dir(&self.folder)?.filter_map(|entry| number(Path::new(&entry.ok()?.file_name()))).collect();
        all.sort_unstable();
        Ok(all)
    }

    fn patch_now(&self, request: &PatchSecret) -> io::Result<Outcome<SecretVersion>> {
        let (newest, stored) = self.current()?;
        let wanted = self.wanted(&request.writer.endpoint);
        if wanted.iter().all(|(field, value)| stored.fields.get(field) == Some(value)) {
            return Ok(Outcome::Done(version(newest)));
        }
        if version(newest) != request.expected {
            let why = format!("the current version is {}, expected was {}", version(newest), request.expected);
            return Ok(Outcome::Conflict(Cause::new(why)));
        }
        let mut next = Stored { fields: stored.fields, token: Some(request.key.clone()) };
        next.fields.extend(wanted);
        let number = newest.saturating_add(1);
        match self.put(number, &next) {
            Ok(()) => {}
            // Written by an earlier attempt that ended before it was made current.
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {
                let text = fs::read(self.folder.join(file(number)))?;
                let there: Option<Stored> = serde_json::from_slice(&text).ok();
                if there.is_none_or(|there| there.token.as_ref() != Some(&request.key)) {
                    let why = format!("version {} was written by somebody else", version(number));
                    return Ok(Outcome::Conflict(Cause::new(why)));
                }
            }
            Err(e) => return Err(e),
        }
        self.point_to(number)?;
        Ok(Outcome::Done(version(number)))
    }

    fn unread(&self, verb: &'static str, error: &io::Error) -> ProviderError {
        let why = format!("{}: {error}", self.folder.display());
        if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::PermissionDenied) {
            ProviderError::Refused { verb, why }
        } else {
            ProviderError::unreachable(verb, why)
        }
    }
}

fn file(number: u64) -> String {
    format!("v{number:08}.json")
}

fn version(number: u64) -> SecretVersion {
    SecretVersion::new(number.to_string())
}

fn number(name: &Path) -> Option<u64> {
    name.to_str()?.strip_prefix('v')?.strip_suffix(".json")?.parse().ok()
}

#[async_trait]
impl SecretStore for FileSecret {
    async fn read(&self) -> Result<SecretReference, ProviderError> {
        let (newest, stored) = self.current().map_err(|e| self.unread("read", &e))?;
        let named = self.set.iter().find(|(_, text)| text.contains(SecretSpec::WRITER));
        let endpoint = named.and_then(|(field, text)| {
            let (before, after) = text.split_once(SecretSpec::WRITER)?;
            let value = stored.fields.get(field)?;
            Some(Endpoint::new(value.strip_prefix(before)?.strip_suffix(after)?))
        });
        let rotating = Tri::from(self.folder.join("rotating").exists());
        Ok(SecretReference { version: version(newest), endpoint, token: stored.token, rotating })
    }

    async fn patch(&self, request: PatchSecret) -> Outcome<SecretVersion> {
        match self.patch_now(&request) {
            Ok(outcome) => outcome,
            Err(e) if matches!(e.kind(), io::ErrorKind::NotFound | io::ErrorKind::PermissionDenied) => {
                Outcome::refused(format!("{}: {e}", self.folder.display()))
            }
            Err(e) => Outcome::unknown(format!("{}: {e}", self.folder.display())),
        }
    }

    async fn versions(&self) -> Result<Vec<SecretVersion>, ProviderError> {
        let numbers = self.numbers().map_err(|e| self.unread("versions", &e))?;
        Ok(numbers.into_iter().rev().map(version).collect())
    }

    fn manual(&self, verb: &str) -> Vec<String> {
        let folder = self.folder.display();
        match verb {
            "patch" => vec![
                format!("cp -p {folder}/current {folder}/vNEXT.json   # the next number"),
                format!("vi {folder}/vNEXT.json   # {}", self.set.keys().cloned().collect::<Vec<_>>().join(", ")),
                format!("ln -sfn vNEXT.json {folder}/current"),
            ],
            _ => vec![format!("ls -l {folder}")],
        }
    }
}
