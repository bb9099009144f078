//! Connection secrets in files: one directory, one file per version, `current` names the newest. For the owner's eyes only.
//!
//! ```text
//!   /etc/dr/billing/            0700
//!     v00000001.json            0600    {"fields": {"host": "...", "password": "..."}, "token": null}
//!     v00000002.json            0600    the same fields, another host, and the token of the run that wrote it
//!     current -> v00000002.json         replaced by a rename: readers see the old version or the new one, never half of one
//!     rotating                          put there by whoever rotates the password; a cutover waits until it is gone
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
    Cause, Outcome, ProviderError, SecretStore, Tri,
    base::{Endpoint, IdempotencyKey, SecretVersion},
    contract::{Effort, FoundPattern, PatchSecret, Rehearsal, RehearseSecret, SecretPattern, SecretReference},
};
use serde::{Deserialize, Serialize};

/// A secret in a directory of this machine.
#[derive(Debug)]
pub struct FileSecret {
    folder: PathBuf,
    /// The form in which each field names the writer, as it is written in the group file and as it is read.
    set: BTreeMap<String, (String, SecretPattern)>,
    /// Where the members are: what else in a value looks like a place is none.
    members: Vec<Endpoint>,
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
    /// The secret in `folder`; `set` says in which form fields name the writer, as in a group file.
    #[must_use]
    pub fn new(folder: impl Into<PathBuf>, set: BTreeMap<String, String>) -> Self {
        let read = |(field, text): (String, String)| {
            let pattern = SecretPattern::parse(&text);
            (field, (text, pattern))
        };
        Self { folder: folder.into(), set: set.into_iter().map(read).collect(), members: Vec::new() }
    }

    /// Tells a member's place from other text that has the same form.
    #[must_use]
    pub fn with_members(mut self, members: Vec<Endpoint>) -> Self {
        self.members = members;
        self
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

    /// The fields that name the writer, each with its form and what is written of that.
    fn forms(&self) -> impl Iterator<Item = (&str, &str, &SecretPattern)> {
        self.set.iter().map(|(field, (text, pattern))| (field.as_str(), text.as_str(), pattern))
    }

    /// The one place of a value that has the form.
    fn place(&self, pattern: &SecretPattern, value: &str) -> Result<FoundPattern, &'static str> {
        let mut found = pattern.find(value);
        if found.len() > 1 && !self.members.is_empty() {
            found.retain(|place| self.members.iter().any(|member| place.names(member)));
        }
        match (found.pop(), found.is_empty()) {
            (Some(place), true) => Ok(place),
            (Some(_), false) => Err("holds that form more than once"),
            (None, _) => Err("does not hold that form"),
        }
    }

    /// The fields as they have to be for `writer`; of each only the part that names it differs. No message repeats a value.
    fn wanted(&self, stored: &Stored, writer: &Endpoint) -> Result<BTreeMap<String, String>, String> {
        let mut all = BTreeMap::new();
        for (field, text, pattern) in self.forms() {
            let new = pattern.fill(writer).ok_or_else(|| format!("`{writer}` has no port, and `{field}` needs one"))?;
            if !pattern.names_writer() {
                all.insert(field.to_owned(), new);
                continue;
            }
            let value = stored.fields.get(field).ok_or_else(|| format!("it has no field `{field}`"))?;
            let place = self.place(pattern, value).map_err(|why| format!("the field `{field}` {why}: `{text}`"))?;
            // A host alone, where the member has a port: both would be written into one field, and another one keeps the old port.
            if place.port.is_none()
                && pattern.has_port()
                && SecretPattern::parse(SecretPattern::PORT).fill(writer).is_some()
            {
                return Err(format!("the field `{field}` does not hold that form: `{text}`"));
            }
            let (before, after) = (value.get(..place.at.start), value.get(place.at.end..));
            all.insert(field.to_owned(), [before.unwrap_or_default(), &new, after.unwrap_or_default()].concat());
        }
        Ok(all)
    }

    /// The endpoint that all fields name together.
    fn named(&self, stored: &Stored) -> Option<Endpoint> {
        let (mut host, mut port) = (None, None);
        for (field, _, pattern) in self.forms().filter(|(_, _, pattern)| pattern.names_writer()) {
            let place = self.place(pattern, stored.fields.get(field)?).ok()?;
            let agrees = host.is_none() || place.host.is_none() || host == place.host;
            if !agrees || (port.is_some() && place.port.is_some() && port != place.port) {
                return None;
            }
            host = host.or(place.host);
            port = port.or(place.port);
        }
        let place = FoundPattern { at: 0..0, host, port };
        match (&place.host, place.port) {
            (Some(host), Some(port)) => Some(Endpoint::new(format!("{host}:{port}"))),
            // Half of it was said: the other half is known if only one member fits.
            (host, port) => {
                let mut fit = self.members.iter().filter(|member| place.names(member));
                let one = fit.next().filter(|_| fit.next().is_none()).cloned();
                one.or_else(|| host.clone().filter(|_| port.is_none()).map(Endpoint::new))
            }
        }
    }

    fn is_folder(&self, other: &Path) -> bool {
        let whole = |path: &Path| fs::canonicalize(path).ok();
        whole(&self.folder.join(other)).is_some_and(|other| Some(other) == whole(&self.folder))
    }

    fn current(&self) -> io::Result<(u64, Stored)> {
        let name = fs::read_link(self.folder.join("current"))?;
        // Whoever made the link may have written the whole path of a version in this directory.
        let beside = name.parent().is_none_or(|parent| parent.as_os_str().is_empty() || self.is_folder(parent));
        let number = name.file_name().filter(|_| beside).and_then(|name| number(Path::new(name)));
        let number = number.ok_or_else(|| {
            io::Error::other(format!("`current` leads to {}, which is no version in this directory", name.display()))
        })?;
        let text = fs::read(self.folder.join(file(number)))?;
        // The parser's own message may repeat a part of the text: it is not passed on.
        let stored = serde_json::from_slice(&text).map_err(|_| io::Error::other("a version's file is malformed"))?;
        Ok((number, stored))
    }

    /// A new file, which nobody else made: two writers of one version cannot both succeed.
    fn put(&self, number: u64, stored: &Stored) -> io::Result<()> {
        let path = self.folder.join(file(number));
        let draft = self.write_draft(&format!(".{}.draft", file(number)), stored)?;
        // A hard link fails if the name is taken, where a rename would replace it.
        let linked = fs::hard_link(&draft, &path);
        let _tidied = fs::remove_file(&draft);
        linked
    }

    /// A whole file, durable, for the owner's eyes only; half of one is removed.
    fn write_draft(&self, name: &str, stored: &Stored) -> io::Result<PathBuf> {
        let draft = self.folder.join(name);
        let _leftover = fs::remove_file(&draft);
        let mut open = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&draft)?;
        let text = serde_json::to_vec_pretty(stored)?;
        let written = open.write_all(&text).and_then(|()| open.sync_all());
        if written.is_err() {
            let _tidied = fs::remove_file(&draft);
        }
        written.map(|()| draft)
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

    /// The version up to `newest` that a call with this key wrote. A version that cannot be read was not written by one.
    fn written_by(&self, key: &IdempotencyKey, newest: u64) -> io::Result<Option<u64>> {
        let by_this = |number: &u64| {
            let text = fs::read(self.folder.join(file(*number))).ok();
            let stored = text.and_then(|text| serde_json::from_slice::<Stored>(&text).ok());
            stored.is_some_and(|stored| stored.token.as_ref() == Some(key))
        };
        Ok(self.numbers()?.into_iter().rev().filter(|number| *number <= newest).find(by_this))
    }

    fn patch_now(&self, request: &PatchSecret) -> io::Result<Outcome<SecretVersion>> {
        let (newest, stored) = self.current()?;
        if let Some(number) = self.written_by(&request.key, newest)? {
            return Ok(Outcome::Done(version(number)));
        }
        let wanted = match self.wanted(&stored, &request.writer.endpoint) {
            Ok(wanted) => wanted,
            Err(why) => return Ok(Outcome::refused(format!("{}: {why}", self.folder.display()))),
        };
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

    /// Whether every field names the present writer in its form, and no other field does.
    fn compare(&self, stored: &Stored, request: &RehearseSecret, found: &mut Rehearsal) {
        let folder = self.folder.display();
        let mut wrong = |what: String, helps: String| {
            let why = "after the change applications would read an address at which they cannot connect";
            found.planned(format!("the secret in {folder}: {what}"), why, helps);
        };
        for (field, text, pattern) in self.forms().filter(|(_, _, pattern)| pattern.names_writer()) {
            let Some(value) = stored.fields.get(field) else {
                wrong(format!("it has no field `{field}`"), "correct `set` of [[secret]], or add the field".into());
                continue;
            };
            let helps = || {
                let [host, port] = [SecretPattern::HOST, SecretPattern::PORT];
                format!(
                    "give the field the form that it has, such as set = {{ host = \"{host}\", port = \"{port}\" }}, or correct its value"
                )
            };
            let filled = [&request.from, &request.to].map(|endpoint| pattern.fill(endpoint));
            let [Some(present), Some(_)] = filled else {
                wrong(format!("`{text}` of `{field}` needs a port, and a member's endpoint has none"), helps());
                continue;
            };
            match self.place(pattern, value) {
                Err(why) => wrong(format!("the field `{field}` {why}: `{text}`"), helps()),
                Ok(place) if value.get(place.at.clone()) != Some(present.as_str()) => {
                    let what =
                        format!("the field `{field}` does not name the present writer {} as `{text}`", request.from);
                    wrong(what, helps());
                }
                Ok(_) => {}
            }
        }
        for (field, what) in self.left_behind(stored, request) {
            let helps = format!("set it too, or say that it stays: set = {{ {field} = \"its value\" }}");
            wrong(
                format!("the field `{field}` holds the present writer's {what}, and `set` does not change it"),
                helps,
            );
        }
    }

    /// The fields that would go on naming the former writer.
    fn left_behind(&self, stored: &Stored, request: &RehearseSecret) -> Vec<(String, &'static str)> {
        let part = |form: &str, endpoint: &Endpoint| SecretPattern::parse(form).fill(endpoint);
        let [host, port] =
            [SecretPattern::HOST, SecretPattern::PORT].map(|form| (part(form, &request.from), part(form, &request.to)));
        let mut all = Vec::new();
        for (field, value) in stored.fields.iter().filter(|(field, _)| !self.set.contains_key(*field)) {
            if finds_the_writer(value, &[&request.from, &request.to]) {
                continue;
            }
            let stays = if port.0.as_ref() == Some(value) && field.to_lowercase().contains("port") {
                (port.0 != port.1).then_some("port")
            } else {
                match host.0.as_ref().and_then(|host| named_with(value, host)) {
                    Some(named) if named.is_some() && named == port.0 => {
                        (request.from != request.to).then_some("endpoint")
                    }
                    Some(None) => (host.0 != host.1).then_some("host"),
                    Some(Some(_)) | None => None,
                }
            };
            all.extend(stays.map(|part| (field.clone(), part)));
        }
        all
    }

    /// Writes the version that would come, beside, and removes it: rights, room on the disk, and that its number is free.
    fn try_out(&self, newest: u64, stored: &Stored, request: &RehearseSecret, found: &mut Rehearsal) {
        let folder = self.folder.display();
        let next = newest.saturating_add(1);
        if self.folder.join("rotating").exists() {
            let why = "the cutover would wait for its end while nobody writes";
            found.planned(
                format!("the secret in {folder} is being rotated"),
                why,
                format!("wait, or rm {folder}/rotating"),
            );
        }
        let taken = self.folder.join(file(next));
        if taken.exists() {
            found.planned(
                format!("{} exists, and is not the current version", taken.display()),
                "the next version could not be written",
                format!("look at it; make it current or remove it: ls -l {folder}"),
            );
        }
        let mut coming = Stored { fields: stored.fields.clone(), token: stored.token.clone() };
        coming.fields.extend(self.wanted(stored, &request.to).unwrap_or_default());
        let tried = self.write_draft(".rehearsal.draft", &coming).and_then(|draft| {
            let link = self.folder.join(".rehearsal.current");
            let _leftover = fs::remove_file(&link);
            let linked = symlink(file(next), &link).and_then(|()| fs::remove_file(&link));
            fs::remove_file(&draft).and(linked)
        });
        if let Err(e) = tried {
            let why = "after the promotion the secret could not be pointed at the new writer";
            found.planned(
                format!("nothing can be written into {folder}: {e}"),
                why,
                format!("df -h {folder}; ls -ld {folder}"),
            );
        }
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

/// Whether a connection string lists all these places and lets the driver find out which of them writes.
fn finds_the_writer(value: &str, places: &[&Endpoint]) -> bool {
    let lower = value.to_ascii_lowercase();
    let asks = [
        "target_session_attrs=read-write",
        "target_session_attrs=primary",
        "targetservertype=primary",
        "targetservertype=master",
    ];
    asks.iter().any(|word| lower.contains(word))
        && places.iter().all(|place| lower.contains(&place.as_str().to_ascii_lowercase()))
}

/// Whether a value says this host, and with which port: `host:port`, or a word `port` elsewhere, as in a connection string.
fn named_with(value: &str, host: &str) -> Option<Option<String>> {
    let (value, host) = (value.to_ascii_lowercase(), host.to_ascii_lowercase());
    let in_word = |c: char| c.is_alphanumeric() || matches!(c, '.' | '-' | '_');
    let digits = |text: &str| {
        let text = text.trim_start_matches([' ', '=', ':', '"', '\'']);
        let all: String = text.chars().take_while(char::is_ascii_digit).collect();
        (!all.is_empty()).then_some(all)
    };
    value.match_indices(&host).find_map(|(at, _)| {
        let (before, after) = (value.get(..at)?, value.get(at + host.len()..)?);
        let whole = !before.ends_with(in_word) && !after.starts_with(in_word);
        let beside = after.trim_start_matches([']', ' ']).strip_prefix(':').and_then(digits);
        let apart = || value.match_indices("port").find_map(|(at, word)| digits(value.get(at + word.len()..)?));
        (whole && !host.is_empty()).then(|| beside.or_else(apart))
    })
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
        let endpoint = self.named(&stored);
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

    async fn rehearse(&self, request: &RehearseSecret) -> Result<Rehearsal, ProviderError> {
        let mut found = Rehearsal::default();
        match self.current() {
            Ok((newest, stored)) => {
                self.compare(&stored, request, &mut found);
                if request.effort == Effort::Try && found.obstacles.is_empty() {
                    self.try_out(newest, &stored, request, &mut found);
                }
            }
            Err(e) => found.planned(
                format!("the secret in {} cannot be read: {e}", self.folder.display()),
                "after the promotion it could not be pointed at the new writer",
                format!("ls -l {}", self.folder.display()),
            ),
        }
        Ok(found)
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
