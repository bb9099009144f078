//! The tables of this backend in group files.

use std::{collections::BTreeMap, path::PathBuf, sync::Arc};

use dr_core::{
    GroupSpec, MemberId, Millis,
    base::{Endpoint, text},
    contract::{AtTable, ConfigError, MemberSpec, SecretRef, TrafficSpec},
};
use dr_sql::{ApplicationLogin, Password, PgError, SslMode, Target};
use serde::{Deserialize, Deserializer, de};

use crate::{
    backend::WrapControl,
    binaries::Binaries,
    member::{Member, Peer, ReplicationLogin, STOP_WITHIN, resource_address},
    pgbouncer::{Instance, PgBouncer},
    router::PostgresPooler,
    server::{LocalControl, Server, ServerControl, Site, SshControl, SshOptions, Unit},
};

/// `at` of a `[[member]]` with `backend = "postgres"`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct MemberAt {
    /// Host name, address, or socket directory.
    host: String,
    /// Port. Default: 5432.
    #[serde(default = "default_port")]
    port: u16,
    /// The data directory.
    data: PathBuf,
    /// How its host is reached: `local` (default) or `ssh:USER@HOST`.
    #[serde(default)]
    run: Run,
    /// The systemd unit that could start it again.
    unit: Option<String>,
    /// `systemctl` and what stands before it. Default: `["sudo", "-n", "systemctl"]`.
    systemctl: Option<Vec<String>>,
    /// The directory of its programs. Default: Debian's for the version in the data directory's path, else what is found.
    bin: Option<PathBuf>,
    /// `postgresql.conf`, where it is not in the data directory. Default: Debian's, for a Debian data directory.
    config: Option<PathBuf>,
    /// Where it logs when it is started without a unit.
    log: Option<PathBuf>,
    /// The control role. Default: the probe's.
    user: Option<String>,
    /// Its password. Default: the probe's.
    password: Option<SecretRef>,
    /// The database that control sessions use. Default: `postgres`.
    database: Option<String>,
    /// TLS. Default: `prefer`.
    #[serde(default)]
    ssl: SslMode,
    /// The certificate authority for `verify-full`.
    root_cert: Option<PathBuf>,
    /// How its standbys log in. Default: as the present standby does.
    replication: Option<LoginAt>,
    /// The key for `ssh:`.
    ssh_key: Option<PathBuf>,
    /// The known hosts for `ssh:`.
    known_hosts: Option<PathBuf>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct LoginAt {
    user: String,
    password: Option<SecretRef>,
}

/// `at` of a route or tier `postgres.pgbouncer`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct PoolerAt {
    /// The consoles, `host:port` or `/socket/directory:port` each.
    admin: Vec<String>,
    /// The database as clients name it.
    database: String,
    /// How long PAUSE may wait for running transactions. Default: `10 s`.
    #[serde(default = "ten_seconds", deserialize_with = "duration")]
    pause_within: Millis,
    /// The admin user. Default: the probe's.
    user: Option<String>,
    /// Its password. Default: the probe's.
    password: Option<SecretRef>,
    /// The file that holds the database's entry, one for each console in the same order; one for all if only one is named. Default:
    /// `/etc/pgbouncer/dr-DATABASE.ini`.
    #[serde(default)]
    file: Files,
    /// How each console's host is reached, in the same order; one for all if only one is named. Default: `local`.
    #[serde(default)]
    run: Vec<Run>,
}

/// One file, or one for each console.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(untagged)]
enum Files {
    One(PathBuf),
    Each(Vec<PathBuf>),
    #[default]
    Usual,
}

impl Files {
    /// The file of the console at `index`.
    fn at(&self, index: usize, database: &str) -> Option<PathBuf> {
        match self {
            Self::One(file) => Some(file.clone()),
            Self::Each(files) if files.len() == 1 => files.first().cloned(),
            Self::Each(files) => files.get(index).cloned(),
            Self::Usual => Some(PathBuf::from(format!("/etc/pgbouncer/dr-{database}.ini"))),
        }
    }
}

/// `at` of a fence `postgres.hba`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct HbaAt {
    /// Roles that may still log in besides the control role: those of replication.
    #[serde(default)]
    pub(crate) spare: Vec<String>,
}

/// `at` of a fence `postgres.login`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct LoginFenceAt {
    /// The roles that lose their login: all that applications use.
    pub(crate) roles: Vec<String>,
}

/// `at` of what has no settings: a key there would have no effect.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct NothingAt {}

/// `at` of a store `postgres.file`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct FileAt {
    /// The secret's directory.
    pub(crate) path: PathBuf,
}

/// How a host is reached.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
enum Run {
    #[default]
    Local,
    Ssh(String),
}

impl<'de> Deserialize<'de> for Run {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        match text.split_once(':') {
            None if text == "local" => Ok(Self::Local),
            Some(("ssh", place)) if !place.is_empty() => Ok(Self::Ssh(place.into())),
            Some(_) | None => {
                Err(de::Error::custom(format_args!("is `{text}`; a host is reached by `local` or `ssh:USER@HOST`")))
            }
        }
    }
}

impl Run {
    fn control(&self, name: &str, owned: &std::path::Path, ssh: SshOptions) -> Result<Arc<dyn ServerControl>, PgError> {
        Ok(match self {
            Self::Local => Arc::new(LocalControl::new(name, owned)?),
            Self::Ssh(place) => Arc::new(SshControl::new(name, place.clone(), ssh)),
        })
    }
}

/// Opens the member `spec` of `group`, with its peers' addresses.
pub(crate) fn member(group: &GroupSpec, spec: &MemberSpec, wrap: &WrapControl) -> Result<Member, ConfigError> {
    let at: MemberAt = spec.at()?;
    let peers = group
        .members
        .iter()
        .filter(|other| other.name != spec.name && other.backend.prefix() == spec.backend.prefix())
        .map(|other| {
            let at: MemberAt = other.at()?;
            let (target, server) = (control_target(group, other, &at)?, server(other, &at, wrap)?);
            Ok(Peer { name: other.name.clone(), address: resource_address(&target, &server), target })
        })
        .collect::<Result<Vec<_>, ConfigError>>()?;
    let login = at.replication.as_ref().map(|login| {
        let password = secret(&spec.at, "replication", login.password.as_ref())?;
        Ok::<_, ConfigError>(ReplicationLogin { user: login.user.clone(), password })
    });
    let target = control_target(group, spec, &at)?;
    let endpoint = Endpoint::new(format!("{}:{}", at.host, at.port));
    let named = group.traffic.iter().filter_map(|route| route.origin(&spec.name, &endpoint));
    let routes = named.filter_map(|name| address(&name, at.port)).collect();
    // Past the promotion there is no way back: a stop that hangs leaves time for it to be tried the hard way and to catch up.
    let stop_within = STOP_WITHIN.min(group.limits.gap_budget.duration() / 3);
    let member = Member::new(group.name.as_str(), server(spec, &at, wrap)?, target, peers);
    let member = member.with_addresses(routes).with_stop_within(stop_within);
    let application = group.application.as_ref().map(ApplicationLogin::of).transpose()?;
    Ok(member.with_replication_login(login.transpose()?).with_application(application))
}

fn control_target(group: &GroupSpec, spec: &MemberSpec, at: &MemberAt) -> Result<Target, ConfigError> {
    let probe = group.probe.as_ref();
    let user = at.user.clone().or_else(|| probe.map(|probe| probe.user.clone()));
    let user = user.ok_or_else(|| spec.at.fault("user", "is missing, and the group has no [probe] with one"))?;
    let named = at.password.as_ref().or_else(|| probe.and_then(|probe| probe.password.as_ref()));
    let mut target = Target::new(spec.name.as_str(), at.host.clone(), at.port, user);
    target.password = secret(&spec.at, "password", named)?;
    target.database = at.database.clone().unwrap_or(target.database);
    target.application = format!("dr/{}/{}", group.name, spec.name);
    (target.ssl, target.root_cert) = (at.ssl, at.root_cert.clone());
    Ok(target)
}

/// A password by its name; it is read when a session is opened.
fn secret(at: &AtTable, key: &str, named: Option<&SecretRef>) -> Result<Option<Password>, ConfigError> {
    Password::of(named).map_err(|why| at.fault(key, why))
}

fn server(spec: &MemberSpec, at: &MemberAt, wrap: &WrapControl) -> Result<Server, ConfigError> {
    let debian = debian_version(&at.data);
    let found = || (at.run == Run::Local).then(Binaries::find).and_then(Result::ok).map(|found| found.bin);
    let bin = at
        .bin
        .clone()
        .or_else(|| debian.as_ref().map(|(version, _)| PathBuf::from(format!("/usr/lib/postgresql/{version}/bin"))))
        .or_else(found)
        .ok_or_else(|| spec.at.fault("bin", "is missing: the directory of `pg_ctl` and `pg_controldata`"))?;
    let mut site = Site::new(spec.name.as_str(), &at.data, bin);
    site.config_file = at.config.clone().or_else(|| {
        debian.map(|(version, cluster)| PathBuf::from(format!("/etc/postgresql/{version}/{cluster}/postgresql.conf")))
    });
    if let Some(log) = &at.log {
        site.log.clone_from(log);
    }
    site.unit = at.unit.as_ref().map(|name| {
        let unit = Unit::new(name.clone());
        Unit { command: at.systemctl.clone().unwrap_or(unit.command), ..unit }
    });
    let ssh = SshOptions { key: at.ssh_key.clone(), known_hosts: at.known_hosts.clone() };
    let control = at.run.control(spec.name.as_str(), &at.data, ssh);
    let control = control.map_err(|e| spec.at.fault("data", format!("cannot be used: {}", e.chain())))?;
    Ok(Server::new(site, wrap.around(control)))
}

/// Version and cluster name of `/var/lib/postgresql/15/main`.
fn debian_version(data: &std::path::Path) -> Option<(String, String)> {
    let rest = data.strip_prefix("/var/lib/postgresql").ok()?;
    let mut parts = rest.iter().map(|part| part.to_string_lossy().into_owned());
    let (version, cluster) = (parts.next()?, parts.next()?);
    (parts.next().is_none() && version.chars().all(|c| c.is_ascii_digit())).then_some((version, cluster))
}

/// Opens the poolers of a route or tier.
pub(crate) fn pooler(
    group: &GroupSpec,
    (table, names): (&AtTable, Option<&TrafficSpec>),
    servers: BTreeMap<MemberId, Arc<Member>>,
    wrap: &WrapControl,
) -> Result<(String, PostgresPooler), ConfigError> {
    let at: PoolerAt = table.read()?;
    let instances = instances(group, table, &at, wrap)?;
    let mut places = BTreeMap::new();
    for member in &group.members {
        if let Some(place) = place(member, names, servers.contains_key(&member.name), table)? {
            places.insert(member.name.clone(), place);
        }
    }
    let id = format!("pgbouncer:{}/{}", at.admin.join(","), at.database);
    let login = group.application.as_ref().map(ApplicationLogin::of).transpose()?;
    let pooler = PgBouncer { database: at.database, instances };
    let pooler = PostgresPooler::new(pooler, places, at.pause_within).with_servers(servers).with_application(login);
    Ok((id, pooler))
}

/// Where a pooler reaches a member: as the route names it, or else where the member says that it is. The table of a member of another
/// backend is not ours to read, so the route has to name it; a tier that is only drained sends nobody anywhere.
fn place(
    member: &MemberSpec,
    names: Option<&TrafficSpec>,
    ours: bool,
    table: &AtTable,
) -> Result<Option<(String, u16)>, ConfigError> {
    let (endpoint, port) = if ours {
        let own: MemberAt = member.at()?;
        (Endpoint::new(format!("{}:{}", own.host, own.port)), own.port)
    } else {
        (Endpoint::new(TrafficSpec::MEMBER), default_port())
    };
    let named = match names.and_then(|names| names.origin(&member.name, &endpoint)) {
        Some(named) => named,
        None if ours => endpoint.as_str().to_owned(),
        None if names.is_none() => return Ok(None),
        None => {
            let why = format!("does not name `{}`, a member of `{}`: say its host:port", member.name, member.backend);
            return Err(table.fault("member", why));
        }
    };
    let place = address(&named, port).filter(|_| !named.contains(TrafficSpec::MEMBER));
    place.map(Some).ok_or_else(|| table.fault("member", format!("`{named}` is no host:port")))
}

/// Every process of a route.
fn instances(
    group: &GroupSpec,
    table: &AtTable,
    at: &PoolerAt,
    wrap: &WrapControl,
) -> Result<Vec<Instance>, ConfigError> {
    let probe = group.probe.as_ref();
    let user = at.user.clone().or_else(|| probe.map(|probe| probe.user.clone()));
    let user = user.ok_or_else(|| table.fault("user", "is missing, and the group has no [probe] with one"))?;
    let password = at.password.as_ref().or_else(|| probe.and_then(|probe| probe.password.as_ref()));
    let password = secret(table, "password", password)?;
    if at.admin.is_empty() {
        return Err(table.fault("admin", "is empty: name every console, or some clients are not held back"));
    }
    if let Files::Each(files) = &at.file
        && files.len() != 1
        && files.len() != at.admin.len()
    {
        let (consoles, files) = (at.admin.len(), files.len());
        let why = format!(
            "names {files} files, and `admin` names {consoles} consoles: name one file, or one for each console"
        );
        return Err(table.fault("file", why));
    }
    let mut instances = Vec::new();
    for (index, place) in at.admin.iter().enumerate() {
        let (host, port) =
            address(place, 6432).ok_or_else(|| table.fault("admin", format!("`{place}` is no host:port")))?;
        let mut console = Target::new("pgbouncer", host, port, user.clone());
        console.password.clone_from(&password);
        console.application = format!("dr/{}", group.name);
        let file = at.file.at(index, &at.database).unwrap_or_default();
        let run = at.run.get(index).or_else(|| at.run.first()).cloned().unwrap_or_default();
        let control: Arc<dyn ServerControl> = match run {
            Run::Local => Arc::new(LocalControl::for_files("pgbouncer")),
            Run::Ssh(place) => Arc::new(SshControl::new("pgbouncer", place, SshOptions::default())),
        };
        instances.push(Instance::new(console, file, wrap.around(control)));
    }
    Ok(instances)
}

fn address(text: &str, port: u16) -> Option<(String, u16)> {
    match text.rsplit_once(':') {
        Some((host, number)) if !host.is_empty() => Some((host.to_owned(), number.parse().ok()?)),
        Some(_) => None,
        None => (!text.is_empty()).then(|| (text.to_owned(), port)),
    }
}

const fn default_port() -> u16 {
    5432
}

const fn ten_seconds() -> Millis {
    Millis::seconds(10)
}

fn duration<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Millis, D::Error> {
    let written = String::deserialize(deserializer)?;
    text::parse_duration(&written).map_err(de::Error::custom)
}
