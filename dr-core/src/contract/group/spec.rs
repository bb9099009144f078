//! The tables and keys of a group file.

use std::{collections::BTreeMap, fmt};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de, de::DeserializeOwned};
use serde_json::Value;

use super::{AtTable, ConfigError, KeyPath, SecretPattern, SecretRef, Window, read, short};
use crate::{
    base::{
        BindingName, Digest, Endpoint, GroupName, MemberId, Millis, Region, Role,
        canonical::{self, CanonicalError},
        millis, minutes, seconds,
        text::as_duration,
    },
    contract::{Binding, Grade, Hardening, Touch},
};

/// A group: databases that follow each other, what surrounds them and the rules under which they change places.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GroupSpec {
    /// The format of the file: [`GroupSpec::FORMAT`].
    pub format: u32,
    /// The name of the group, such as `orders`.
    pub name: GroupName,
    /// What the group serves, such as `prod`. Default: `prod`, the careful reading.
    #[serde(default = "production")]
    pub environment: String,
    /// The service tier, 1 (most important) to 3. Default: 1.
    #[serde(default = "first_tier")]
    pub tier: u8,
    /// The member that should write when all is well; failback returns to it. Not a role: it may be the standby today.
    pub home: MemberId,
    /// A snapshot of infrastructure outputs that `output:NAME` refers to, relative to the group file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub iac_outputs: Option<String>,
    /// What custom steps may touch besides the group's own resources: `kafka:billing set-running`.
    #[serde(default)]
    pub allow: Vec<AllowSpec>,
    /// `[objectives]`: what is promised to the service's owners.
    #[serde(default)]
    pub objectives: ObjectivesSpec,
    /// `[[member]]`: the databases.
    #[serde(rename = "member", default)]
    pub members: Vec<MemberSpec>,
    /// `[probe]`: the library's own look into the databases.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub probe: Option<ProbeSpec>,
    /// How a write is made as applications make it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub application: Option<ApplicationSpec>,
    /// `[[secret]]`: the connection secrets that applications read.
    #[serde(rename = "secret", default)]
    pub secrets: Vec<SecretSpec>,
    /// `[[app]]`: the application tiers.
    #[serde(rename = "app", default)]
    pub apps: Vec<AppSpec>,
    /// `[[traffic]]`: the routes by which clients find the writer.
    #[serde(default)]
    pub traffic: Vec<TrafficSpec>,
    /// `[[fence]]`: the ways to keep the old writer from writing.
    #[serde(rename = "fence", default)]
    pub fences: Vec<FenceSpec>,
    /// `[[notify]]`: who is told.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub notify: Vec<NotifySpec>,
    /// `[hardening]`: the protections that a writer has to have. A change of the writer turns them on where they are off.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hardening: Option<Hardening>,
    /// `[windows]`: when planned operations may begin, such as `switchover = ["Sat 02:00-05:00"]`, in UTC. An operation that is not named
    /// may begin at any time.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub windows: BTreeMap<String, Vec<Window>>,
    /// `[limits]`: what stops a run.
    #[serde(default)]
    pub limits: LimitsSpec,
    /// `[approval.switchover]` and the like: who must say yes.
    #[serde(default)]
    pub approval: BTreeMap<String, ApprovalSpec>,
    /// `[automatic]`: what may run without a person. Absent: nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub automatic: Option<AutomaticSpec>,
}

impl GroupSpec {
    /// The format of every group that was read.
    pub const FORMAT: u32 = 2;

    /// Reads a group from JSON (a parsed group file) and tells every `at` table its place.
    ///
    /// A file of format 1, the short form, is read as the file of format 2 that it stands for: `[secret]` and `[app]` are single tables
    /// there, and a secret, a tier or a route without a name is called after the service that it names (`azure.key-vault` gives
    /// `key-vault`). The group that comes out, and its digest, are the same.
    ///
    /// # Errors
    /// The format is another one, a key is unknown or missing, or a value does not do.
    pub fn read(file: &Value) -> Result<Self, ConfigError> {
        let long = match file.get("format").map(Value::as_u64) {
            Some(Some(short::FORMAT)) => Some(short::spelt_out(file)),
            Some(format) if format != Some(Self::FORMAT.into()) => {
                let (found, known) = (file.get("format").unwrap_or(&Value::Null), Self::FORMAT);
                let message = format!("is {found}; this release reads format {known}, and format 1 as its short form");
                return Err(ConfigError::value(KeyPath::root().then("format"), message));
            }
            Some(_) | None => None,
        };
        let mut group: Self = read(long.as_ref().unwrap_or(file), &KeyPath::root())?;
        group.place_tables();
        Ok(group)
    }

    /// Gives every `at` table its place, so that complaints about its keys name it.
    fn place_tables(&mut self) {
        let table = |list: &str, index: usize| KeyPath::root().then(list).then(index).then("at");
        self.members.iter_mut().enumerate().for_each(|(index, member)| member.at.put(table("member", index)));
        self.traffic.iter_mut().enumerate().for_each(|(index, route)| route.at.put(table("traffic", index)));
        self.fences.iter_mut().enumerate().for_each(|(index, fence)| fence.at.put(table("fence", index)));
        self.notify.iter_mut().enumerate().for_each(|(index, told)| told.at.put(table("notify", index)));
        self.secrets.iter_mut().enumerate().for_each(|(index, secret)| secret.at.put(table("secret", index)));
        self.apps.iter_mut().enumerate().for_each(|(index, app)| app.at.put(table("app", index)));
    }

    /// The digest of the configuration: plans pin it. Secrets are in it by name only.
    ///
    /// # Errors
    /// An `at` table holds a number beyond 32 bits or with a fraction; [`GroupSpec::check`] finds that first.
    pub fn digest(&self) -> Result<Digest, CanonicalError> {
        canonical::digest(self)
    }

    /// The member of this name.
    #[must_use]
    pub fn member(&self, name: &MemberId) -> Option<&MemberSpec> {
        self.members.iter().find(|member| member.name == *name)
    }

    /// Returns the application tier of this name, if the file lists it. A route may bring one that the file does not list.
    #[must_use]
    pub fn app(&self, name: &BindingName) -> Option<&AppSpec> {
        self.apps.iter().find(|app| app.name == *name)
    }

    /// Who must approve an operation such as `switchover`: what the file says, or one person within 15 minutes.
    #[must_use]
    pub fn approval(&self, operation: &str) -> ApprovalSpec {
        self.approval.get(operation).cloned().unwrap_or_default()
    }

    /// The opt-in under which an operation runs without a person, if there is one (E05).
    #[must_use]
    pub fn automatic(&self, operation: &str) -> Option<&AutomaticSpec> {
        self.automatic.as_ref().filter(|opt_in| opt_in.operations.iter().any(|allowed| allowed == operation))
    }

    /// What custom steps may touch.
    pub fn allowed(&self) -> impl Iterator<Item = Touch> {
        self.allow.iter().map(AllowSpec::touch)
    }
}

/// `[objectives]`: what is promised, and above which loss a person must agree.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ObjectivesSpec {
    /// How long writes may be stopped. Reported against; absent: nothing is promised.
    #[serde(with = "as_duration::optional", skip_serializing_if = "Option::is_none")]
    pub rto: Option<Millis>,
    /// How much a planned operation may lose. Default and only sensible value: `0 s`; it stops instead.
    #[serde(with = "as_duration")]
    pub rpo: Millis,
    /// A forced failover needs an explicit acceptance of any loss above this. Default: `0 s`.
    #[serde(with = "as_duration")]
    pub rpo_forced: Millis,
}

/// `[[member]]`: one database. What it may become stands here; who writes is looked up.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MemberSpec {
    /// The name by which people call it, such as `neu`.
    pub name: MemberId,
    /// The provider's region or the data centre.
    pub region: Region,
    /// What the member is meant for. Default: `candidate`.
    #[serde(default)]
    pub role: IntendedRole,
    /// What runs it, such as `azure.pg-flexible`.
    pub backend: BackendName,
    /// It is not created yet: that its provider does not know it is expected, and no sign that it was lost.
    #[serde(default, skip_serializing_if = "is_false")]
    pub planned: bool,
    /// The backend's own table.
    #[serde(default)]
    pub at: AtTable,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
fn is_false(value: &bool) -> bool {
    !*value
}

/// What a member is meant for: whether it may become the writer, and whether a change of the writer has to take it along.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum IntendedRole {
    /// It may become the writer, and follows the new writer when another one does.
    #[default]
    Candidate,
    /// It follows whoever writes, and is never promoted.
    Follower,
    /// It is known, so that nobody takes it for a stranger. No plan touches it, waits for it or promotes it.
    Reader,
}

impl IntendedRole {
    /// The word that group files have for it.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Candidate => "candidate",
            Self::Follower => "follower",
            Self::Reader => "reader",
        }
    }
}

impl fmt::Display for IntendedRole {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.word())
    }
}

impl MemberSpec {
    /// Reads the backend's own table.
    ///
    /// # Errors
    /// A key is unknown or missing, or a value does not do.
    pub fn at<T: DeserializeOwned>(&self) -> Result<T, ConfigError> {
        self.at.read()
    }
}

/// The name of a backend and its service, such as `azure.pg-flexible`: what stands before the dot is the backend's prefix.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct BackendName(String);

impl BackendName {
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

    /// The backend's prefix: `azure` of `azure.pg-flexible`, `postgres` of `postgres`.
    #[must_use]
    pub fn prefix(&self) -> &str {
        self.0.split_once('.').map_or(self.0.as_str(), |(prefix, _)| prefix)
    }

    /// The service within the backend: `pg-flexible`; nothing if the name has no dot.
    #[must_use]
    pub fn service(&self) -> Option<&str> {
        self.0.split_once('.').map(|(_, service)| service)
    }

    /// Whether the file says that there is nothing here.
    #[must_use]
    pub fn is_none(&self) -> bool {
        self.0 == "none"
    }
}

impl fmt::Display for BackendName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl From<&str> for BackendName {
    fn from(text: &str) -> Self {
        Self::new(text)
    }
}

/// `[probe]`: the account of the library's own look into the databases.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ProbeSpec {
    /// The database user.
    pub user: String,
    /// Where its password is; absent if it needs none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub password: Option<SecretRef>,
}

/// `[application]`: one login of an application. With it a change ends in success only after a write through every route that was
/// made as that application makes it: its role, its database, its default settings.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ApplicationSpec {
    /// The role.
    pub user: String,
    /// Where its password is; absent if it needs none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub password: Option<SecretRef>,
    /// The database.
    pub database: String,
    /// A table that the role may insert into. An insert of no row into it is tried and rolled back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub table: Option<String>,
}

/// `[[secret]]`: a connection secret that applications read, and what is written into it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SecretSpec {
    /// Its name, such as `orders`: `secret:orders` in plans.
    pub name: BindingName,
    /// The region in which the store lies and applications read it. In a failover a secret of the silent writer's region may be owed, if
    /// another one lies in the region of the new writer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub region: Option<Region>,
    /// The store, such as `azure.key-vault`, or `none`.
    pub store: BackendName,
    /// Why there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub because: Option<String>,
    /// The store's own table.
    #[serde(default)]
    pub at: AtTable,
    /// Field of the secret to the form in which it names the writer: `{writer.host}`, `{writer.port}` or `{writer.endpoint}` with the
    /// text around it. Only that part of the field changes, and other fields stay as they are.
    #[serde(default)]
    pub set: BTreeMap<String, String>,
}

impl SecretSpec {
    /// The form of each field that names the writer.
    #[must_use]
    pub fn patterns(&self) -> BTreeMap<String, SecretPattern> {
        self.set.iter().map(|(field, text)| (field.clone(), SecretPattern::parse(text))).collect()
    }
}

/// `[[app]]`: an application tier, and how it is asked to stop writing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AppSpec {
    /// Its name, such as `api`: `app:api` in plans.
    pub name: BindingName,
    /// What runs the applications, such as `azure.container-apps`.
    pub tier: BackendName,
    /// The tier's own table.
    #[serde(default)]
    pub at: AtTable,
    /// How writes are stopped.
    #[serde(default)]
    pub drain: DrainSpec,
}

/// The `drain` table of `[[app]]`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct DrainSpec {
    /// How long to wait for their word. Default: `30 s`.
    #[serde(with = "as_duration")]
    pub within: Millis,
    /// How long a client waits before it gives up (`query_wait_timeout` and the like); the gap budget stays below it.
    #[serde(with = "as_duration::optional", skip_serializing_if = "Option::is_none")]
    pub client_limit: Option<Millis>,
}

impl Default for DrainSpec {
    fn default() -> Self {
        Self { within: seconds(30), client_limit: None }
    }
}

/// `[[traffic]]`: one route by which clients find the writer, or readers find standbys.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TrafficSpec {
    /// Its name, such as `public`: `traffic:public` in plans.
    pub name: BindingName,
    /// Whom it leads to: the writer (default), or standbys that readers may use.
    #[serde(default, skip_serializing_if = "Serves::is_writer")]
    pub serves: Serves,
    /// The router, such as `azure.front-door`.
    pub router: BackendName,
    /// The router's own table.
    #[serde(default)]
    pub at: AtTable,
    /// Member to what the router calls it; `{member.endpoint}` stands for the member's endpoint.
    #[serde(rename = "member", default)]
    pub members: BTreeMap<MemberId, String>,
}

/// Whom a route leads to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Serves {
    /// The writer. A change of the writer moves the route before applications write again.
    #[default]
    Writer,
    /// Standbys that receive from the writer. A change of the writer moves the route afterwards, and nobody waits for it.
    Readers,
}

impl Serves {
    #[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
    fn is_writer(&self) -> bool {
        *self == Self::Writer
    }
}

impl TrafficSpec {
    /// What stands for a member's endpoint in [`TrafficSpec::members`].
    pub const MEMBER: &'static str = "{member.endpoint}";

    /// What the router calls a member that is reached at `endpoint`.
    #[must_use]
    pub fn origin(&self, member: &MemberId, endpoint: &Endpoint) -> Option<String> {
        self.members.get(member).map(|origin| origin.replace(Self::MEMBER, endpoint.as_str()))
    }
}

/// `[[fence]]`: one way to keep a member from writing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FenceSpec {
    /// The one member that it fences. Absent: every member has such a fence.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub member: Option<MemberId>,
    /// What does it, such as `postgres.stop`.
    pub with: BackendName,
    /// Its own table.
    #[serde(default)]
    pub at: AtTable,
    /// From which grade on this fence counts. What is worth less authorises no promotion, and a promotion needs the least of the grades of
    /// the fences that its former primary has.
    pub grade: Grade,
}

/// `[[notify]]`: one way to tell people what runs of the group do.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NotifySpec {
    /// What does it, such as `exec`.
    pub with: BackendName,
    /// Which notices it is given. Default: all.
    #[serde(default)]
    pub only: Notices,
    /// Its own table.
    #[serde(default)]
    pub at: AtTable,
}

/// Which notices somebody is given.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Notices {
    /// All of them: what begins, what is asked, what ended.
    #[default]
    All,
    /// Only those for which somebody must act: a run is parked, or applications cannot write for longer than was said.
    Urgent,
}

/// `[limits]`: what stops a run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct LimitsSpec {
    /// The replica may be this far behind before writes are stopped for a planned operation. Default: `10 s` (E06).
    #[serde(with = "as_duration")]
    pub lag_before_drain: Millis,
    /// A transaction older than this stops a planned operation. Default: `30 s`.
    #[serde(with = "as_duration")]
    pub long_transaction: Millis,
    /// A fact older than this is read again before anything rests on it. Default: `60 s`.
    #[serde(with = "as_duration")]
    pub fact_age: Millis,
    /// A proof older than this is asked for again. Default: `60 s`.
    #[serde(with = "as_duration")]
    pub proof_age: Millis,
    /// How long a drain may hold writes before the promotion was asked for; then it is given back. Default: `60 s`.
    #[serde(with = "as_duration")]
    pub gap_budget: Millis,
}

impl Default for LimitsSpec {
    fn default() -> Self {
        Self {
            lag_before_drain: seconds(10),
            long_transaction: seconds(30),
            fact_age: seconds(60),
            proof_age: seconds(60),
            gap_budget: seconds(60),
        }
    }
}

impl LimitsSpec {
    /// The shortest gap budget that can be kept: below it every drain would be given back before it holds.
    pub const SHORTEST_GAP: Millis = millis(100);
}

/// `[approval.switchover]` and the like: who must say yes to an operation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ApprovalSpec {
    /// How many people; whoever asked for the run does not count. Default: 1.
    #[serde(default = "one_person")]
    pub people: u8,
    /// The roles that may; empty: anybody.
    #[serde(default)]
    pub roles: Vec<Role>,
    /// How long the question stands. Default: `15 min`.
    #[serde(with = "as_duration", default = "fifteen_minutes")]
    pub expires: Millis,
}

impl Default for ApprovalSpec {
    fn default() -> Self {
        Self { people: one_person(), roles: Vec::new(), expires: fifteen_minutes() }
    }
}

/// `[automatic]`: what may run without a person, and the risk that was accepted for it (E05).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AutomaticSpec {
    /// The operations, such as `switchover`.
    pub operations: Vec<String>,
    /// The risk in the owner's own words; it stands in every plan and in the evidence.
    pub risk: String,
}

/// An entry of `allow`: a resource and a verb, such as `kafka:billing set-running`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AllowSpec(Touch);

impl AllowSpec {
    /// Allows `verb` on `resource`.
    #[must_use]
    pub fn new(resource: impl Into<Binding>, verb: impl Into<String>) -> Self {
        Self(Touch::new(resource, verb))
    }

    /// The resource and the verb.
    #[must_use]
    pub fn touch(&self) -> Touch {
        self.0.clone()
    }
}

impl Serialize for AllowSpec {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for AllowSpec {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        match text.trim().rsplit_once(' ') {
            Some((resource, verb)) => Ok(Self::new(resource.trim_end(), verb)),
            None => Err(de::Error::custom("an entry is a resource and a verb, such as `kafka:billing set-running`")),
        }
    }
}

fn production() -> String {
    "prod".into()
}

const fn first_tier() -> u8 {
    1
}

const fn one_person() -> u8 {
    1
}

const fn fifteen_minutes() -> Millis {
    minutes(15)
}
