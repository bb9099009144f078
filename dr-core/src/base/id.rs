//! Typed names and numbers. Nothing that names a thing is a bare `String` in a public signature.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

macro_rules! name {
    ($(#[$doc:meta])* $type:ident) => {
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $type(String);

        impl $type {
            /// Takes the text as it is.
            #[must_use]
            pub fn new(text: impl Into<String>) -> Self {
                Self(text.into())
            }

            /// The text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(&self.0)
            }
        }

        impl From<&str> for $type {
            fn from(text: &str) -> Self {
                Self::new(text)
            }
        }

        impl From<String> for $type {
            fn from(text: String) -> Self {
                Self(text)
            }
        }
    };
}

name! {
    /// The name of a group of databases that follow each other, such as `orders`.
    GroupName
}
name! {
    /// The name of one member of a group, such as `neu`. It carries no role: roles change.
    MemberId
}
name! {
    /// The name of a secret, an application tier or a route in a group file, such as `orders`. It is unique among its kind.
    BindingName
}
name! {
    /// A provider's region or a data centre, such as `northeurope`.
    Region
}
name! {
    /// What a group file, a replication edge and a lease call a resource: an ARN, an Azure resource id, or host, port and data
    /// directory. It is known without a call, and may be used again for another resource after the first one was deleted.
    ResourceAddress
}
name! {
    /// What a provider calls a resource for ever, whatever address it has: an RDS `DbiResourceId`, a PostgreSQL system identifier.
    /// It is always read and never configured.
    ResourceIdentity
}
name! {
    /// One node of a plan, such as `confirm-writer`.
    NodeId
}
name! {
    /// A role that people hold, such as `dba`.
    Role
}
name! {
    /// The key that makes a mutating call repeatable: stable over attempts, restarts and engines, and no other run's ([`RunId::key`]).
    IdempotencyKey
}
name! {
    /// A version of a secret, as its store names it.
    SecretVersion
}
name! {
    /// A host name and port (or listener) that applications can connect to.
    Endpoint
}
name! {
    /// The identity that survives promotion: a PostgreSQL system identifier, an Aurora global cluster resource id.
    SystemId
}

/// How much of a key is readable in [`IdempotencyKey::slug`].
const SLUG_TEXT: usize = 24;

impl IdempotencyKey {
    /// The key as 36 characters in the form of a UUID, for services that take a client token of 32 to 64 characters.
    #[must_use]
    pub fn uuid(&self) -> String {
        let hex = crate::base::canonical::sha256(self.0.as_bytes()).hex();
        let part = |from: usize, to: usize| hex.get(from..to).unwrap_or_default();
        format!("{}-{}-8{}-8{}-{}", part(0, 8), part(8, 12), part(13, 16), part(17, 20), part(20, 32))
    }

    /// Returns the key as a name for snapshots, servers and aliases: the run and the node in at most 24 characters, and 64 bits of the
    /// hash of the whole key, such as `orders-17-final-snapshot-5be00d1491c27f3a`.
    ///
    /// A name has at most 41 characters of `a-z`, `0-9` and `-`, begins with a letter, and has neither two hyphens in a row nor one at its
    /// end, as the strictest of the clouds want it (RDS snapshot identifiers).
    #[must_use]
    pub fn slug(&self) -> String {
        let (text, _) = self.0.split_once('#').unwrap_or((&self.0, ""));
        let words = text.split(|c: char| !c.is_ascii_alphanumeric()).filter(|word| !word.is_empty());
        let mut name = words.collect::<Vec<_>>().join("-").to_ascii_lowercase();
        if !name.starts_with(|c: char| c.is_ascii_lowercase()) {
            name.insert_str(0, "dr-");
        }
        name.truncate(SLUG_TEXT);
        format!("{}-{}", name.trim_end_matches('-'), crate::base::canonical::sha256(self.0.as_bytes()).bits64())
    }
}

impl NodeId {
    /// The id under which the release of a hold taken by this node is run as an undo.
    #[must_use]
    pub fn undo(&self) -> Self {
        Self(format!("{}.undo", self.0))
    }

    /// The node whose undo this is, if it is one.
    #[must_use]
    pub fn undone(&self) -> Option<Self> {
        self.0.strip_suffix(".undo").map(Self::new)
    }
}

/// A number that only grows: each holder of a lease gets a larger one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Epoch(u64);

impl Epoch {
    /// The epoch with this number.
    #[must_use]
    pub const fn new(number: u64) -> Self {
        Self(number)
    }

    /// The number.
    #[must_use]
    pub const fn number(self) -> u64 {
        self.0
    }

    /// The next epoch.
    #[must_use]
    pub const fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }
}

impl fmt::Display for Epoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

impl Serialize for Epoch {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for Epoch {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        decimal(deserializer, "an epoch").map(Self)
    }
}

/// Reads a 64-bit number written as a decimal string.
pub(crate) fn decimal<'de, D: Deserializer<'de>, N: FromStr>(deserializer: D, what: &str) -> Result<N, D::Error> {
    let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
    text.parse().map_err(|_| de::Error::custom(format_args!("{what} is a decimal number in quotes, not `{text}`")))
}

/// The name of a run: its group and a number, such as `orders-17`; short enough to be typed by a tired person.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RunId {
    group: GroupName,
    number: u32,
}

impl RunId {
    /// The `number`th run of `group`.
    #[must_use]
    pub fn new(group: GroupName, number: u32) -> Self {
        Self { group, number }
    }

    /// The group that the run works on.
    #[must_use]
    pub fn group(&self) -> &GroupName {
        &self.group
    }

    /// The number within the group.
    #[must_use]
    pub fn number(&self) -> u32 {
        self.number
    }

    /// Returns the key for the calls of one node, such as `orders-17/promote#91c27f3a5be00d14`.
    ///
    /// Numbers begin again with every journal, and services remember keys and names for years. `origin` is the hash of the run's first
    /// line ([`RunState::origin`](crate::run::RunState)); 64 bits of it keep the runs of two journals apart, also where both run the
    /// same plan.
    #[must_use]
    pub fn key(&self, origin: &Digest, node: &NodeId) -> IdempotencyKey {
        IdempotencyKey::new(format!("{self}/{node}#{}", origin.bits64()))
    }
}

impl fmt::Display for RunId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&format!("{}-{}", self.group, self.number))
    }
}

/// The text is no run id.
#[derive(Debug, thiserror::Error)]
#[error("`{0}` is no run id; one looks like `orders-17`: the group, a dash and a number")]
pub struct BadRunId(String);

impl FromStr for RunId {
    type Err = BadRunId;

    fn from_str(text: &str) -> Result<Self, BadRunId> {
        let (group, number) = text.rsplit_once('-').ok_or_else(|| BadRunId(text.into()))?;
        let number = number.parse().map_err(|_| BadRunId(text.into()))?;
        if group.is_empty() {
            return Err(BadRunId(text.into()));
        }
        Ok(Self { group: GroupName::new(group), number })
    }
}

impl Serialize for RunId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for RunId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        std::borrow::Cow::<'de, str>::deserialize(deserializer)?.parse().map_err(de::Error::custom)
    }
}

/// A SHA-256 digest. Shown to people as a short code, compared whole.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Digest([u8; 32]);

impl Digest {
    /// Wraps the 32 bytes.
    #[must_use]
    pub const fn new(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// All zeroes: the link before the first event.
    #[must_use]
    pub const fn zero() -> Self {
        Self([0; 32])
    }

    /// The bytes.
    #[must_use]
    pub const fn bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// The 64 hexadecimal digits.
    #[must_use]
    pub fn hex(&self) -> String {
        use fmt::Write as _;
        self.0.iter().fold(String::with_capacity(64), |mut text, byte| {
            let _infallible = write!(text, "{byte:02x}");
            text
        })
    }

    /// The code that people read and type: the first four digits.
    #[must_use]
    pub fn code(&self) -> String {
        self.hex().chars().take(4).collect()
    }

    /// The first 64 bits as 16 hexadecimal digits: enough to keep names apart for good.
    #[must_use]
    pub fn bits64(&self) -> String {
        self.hex().chars().take(16).collect()
    }

    /// The longer code that names a plan: `7f3a-91c2`.
    #[must_use]
    pub fn short(&self) -> String {
        let hex = self.hex();
        let (first, rest) = hex.split_at(4);
        format!("{first}-{}", rest.chars().take(4).collect::<String>())
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.short())
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Digest({})", self.short())
    }
}

impl FromStr for Digest {
    type Err = BadDigest;

    fn from_str(text: &str) -> Result<Self, BadDigest> {
        let mut bytes = [0; 32];
        if text.len() != 64 || !text.is_ascii() {
            return Err(BadDigest(text.into()));
        }
        for (byte, pair) in bytes.iter_mut().zip(text.as_bytes().chunks(2)) {
            let pair = std::str::from_utf8(pair).map_err(|_| BadDigest(text.into()))?;
            *byte = u8::from_str_radix(pair, 16).map_err(|_| BadDigest(text.into()))?;
        }
        Ok(Self(bytes))
    }
}

/// The text is no digest.
#[derive(Debug, thiserror::Error)]
#[error("`{0}` is no digest; one has 64 hexadecimal digits")]
pub struct BadDigest(String);

impl Serialize for Digest {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.hex())
    }
}

impl<'de> Deserialize<'de> for Digest {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        std::borrow::Cow::<'de, str>::deserialize(deserializer)?.parse().map_err(de::Error::custom)
    }
}

/// A name with a version, such as `dr.fence@1`. The first word is the owner; `dr.` is ours.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Kind {
    name: std::borrow::Cow<'static, str>,
    version: u16,
}

impl Kind {
    /// Version `version` of the step kind `name`.
    #[must_use]
    pub const fn new(name: &'static str, version: u16) -> Self {
        Self { name: std::borrow::Cow::Borrowed(name), version }
    }

    /// The name without the version.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&format!("{}@{}", self.name, self.version))
    }
}

/// The text is no kind.
#[derive(Debug, thiserror::Error)]
#[error("`{0}` is no kind; one looks like `dr.fence@1`")]
pub struct BadKind(String);

impl FromStr for Kind {
    type Err = BadKind;

    fn from_str(text: &str) -> Result<Self, BadKind> {
        let (name, version) = text.rsplit_once('@').ok_or_else(|| BadKind(text.into()))?;
        let version = version.parse().map_err(|_| BadKind(text.into()))?;
        if name.is_empty() {
            return Err(BadKind(text.into()));
        }
        Ok(Self { name: std::borrow::Cow::Owned(name.into()), version })
    }
}

impl Serialize for Kind {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Kind {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        std::borrow::Cow::<'de, str>::deserialize(deserializer)?.parse().map_err(de::Error::custom)
    }
}

/// The name and version of a runbook, such as `dr.planned-switchover@1` (F05).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct RunbookId(Kind);

impl RunbookId {
    /// Version `version` of the runbook `name`.
    #[must_use]
    pub const fn new(name: &'static str, version: u16) -> Self {
        Self(Kind::new(name, version))
    }

    /// The name without the version.
    #[must_use]
    pub fn name(&self) -> &str {
        self.0.name()
    }
}

impl fmt::Display for RunbookId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// One account by which an authentication knows somebody: the same `by` and `subject` are the same person, whatever name is shown.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Identity {
    /// Who vouches for it, such as `os` or `https://login.example.com`.
    pub by: String,
    /// What that calls the account for ever: a user id, the subject of a token. Never a text that its owner chooses.
    pub subject: String,
}

impl Identity {
    /// The account that `by` calls `subject`.
    #[must_use]
    pub fn new(by: impl Into<String>, subject: impl Into<String>) -> Self {
        Self { by: by.into(), subject: subject.into() }
    }
}

impl fmt::Display for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.by, self.subject)
    }
}

/// Who asks or answers. The program that embeds the engine authenticates; the journal records what was authenticated.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Actor {
    /// The person's (or service's) name, to be shown. Nothing is decided by it where both sides have an identity.
    pub name: String,
    /// The roles that the embedder vouches for.
    pub roles: std::collections::BTreeSet<Role>,
    /// The person's accounts; none when nobody checked who it is.
    pub identities: std::collections::BTreeSet<Identity>,
    /// How it was shown and who says which roles, for the journal: `os user 1001, people file 3fa9c1d2`. It takes no part in decisions.
    pub shown_by: Option<String>,
}

impl Actor {
    /// A person whose identity nobody checked.
    #[must_use]
    pub fn local(name: impl Into<String>) -> Self {
        let (roles, identities) = (std::collections::BTreeSet::new(), std::collections::BTreeSet::new());
        Self { name: name.into(), roles, identities, shown_by: None }
    }

    /// Adds a role.
    #[must_use]
    pub fn with_role(mut self, role: impl Into<Role>) -> Self {
        self.roles.insert(role.into());
        self
    }

    /// Adds an account of this person: `by` authenticated it, and calls it `subject` for ever.
    #[must_use]
    pub fn authenticated(mut self, by: impl Into<String>, subject: impl Into<String>) -> Self {
        self.identities.insert(Identity::new(by, subject));
        self
    }

    /// Says how the identity was shown.
    #[must_use]
    pub fn shown_by(mut self, how: impl Into<String>) -> Self {
        self.shown_by = Some(how.into());
        self
    }

    /// Tells whether both may be one person: they have an account in common. Where one of them has none, the names decide; two people
    /// whom nobody checked may always be one.
    #[must_use]
    pub fn may_be(&self, other: &Self) -> bool {
        match (self.identities.is_empty(), other.identities.is_empty()) {
            (false, false) => !self.identities.is_disjoint(&other.identities),
            (true, true) => true,
            (true, false) | (false, true) => self.name == other.name,
        }
    }
}

impl fmt::Display for Actor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.name)
    }
}

#[cfg(test)]
mod tests;
