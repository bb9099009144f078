//! What lies around a process: others behind the same port, and the way to the coming writer.

use std::{collections::BTreeSet, net::IpAddr};

use dr_core::contract::Rehearsal;
use dr_sql::{PgError, Session};

use super::{Instance, PgBouncer, addresses, console::Snapshot, rehearse::Course};
use crate::{
    application::command,
    error::HostError,
    hba_rules::{Encryption, Login},
    server::HostCommand,
};

/// So many new connections find every one of two processes that share a port, but for one time in 32,000.
const KNOCKS: u32 = 16;
/// The coming writer has to answer the pooler's host within so many seconds.
const REACH_WITHIN: &str = "3";
const EVERY_PROCESS: &str = "name every process by the directory of its own unix socket: admin = [\"/run/pgbouncer-1:6432\", \"/run/pgbouncer-2:6432\"]";

impl Snapshot {
    fn shares_its_port(&self) -> bool {
        self.setting("so_reuseport").is_some_and(|value| value != "0")
    }
}

/// The processes of `[peers]` that are none of those that were asked.
fn missing_peers<'s>(snapshots: &[Option<&'s Snapshot>]) -> Vec<&'s str> {
    let asked = || snapshots.iter().copied().flatten();
    let ids: BTreeSet<&str> = asked().filter_map(|one| one.setting("peer_id")).collect();
    let peers: BTreeSet<&str> = asked().flat_map(|one| one.peers.iter().map(String::as_str)).collect();
    peers.difference(&ids).copied().collect()
}

fn unnamed(found: &mut Rehearsal, what: &str) {
    found.planned(
        format!("{what}, which `admin` of the route does not name"),
        "that process would neither be paused nor moved: its clients would go on to the old primary",
        EVERY_PROCESS,
    );
}

impl PgBouncer {
    /// Every login at a server that a process has made for its clients since it was started, as one at `host:port` would see it.
    ///
    /// # Errors
    /// One cannot be asked.
    pub(crate) async fn logins(&self, host: &str, port: u16) -> Result<BTreeSet<Login>, PgError> {
        let mut all = BTreeSet::new();
        for instance in &self.instances {
            let console = instance.console().await?;
            let snapshot = Snapshot::pooling(&console).await?;
            let facts = snapshot.databases.get(&self.database);
            let fact = |key: &str| facts.and_then(|facts| facts.get(key)).filter(|value| !value.is_empty());
            // A process keeps a pool for every user that ever came.
            let pools = console.text_rows("tell its pools", "SHOW POOLS").await?;
            let ours = pools.iter().filter(|pool| pool.get("database") == Some(&self.database));
            let users: BTreeSet<String> = ours.filter_map(|pool| Some(pool.get("user")?.to_owned())).collect();
            let plain = matches!(snapshot.setting("server_tls_sslmode"), None | Some("disable" | "allow"));
            for address in instance.seen_from(host, port).await {
                all.extend(users.iter().map(|user| Login {
                    user: fact("force_user").unwrap_or(user).clone(),
                    database: Some(fact("database").unwrap_or(&self.database).clone()),
                    address: Some(address),
                    encryption: if plain { Encryption::Plain } else { Encryption::Tls },
                }));
            }
        }
        Ok(all)
    }

    /// Processes of the same service that the group file does not name.
    pub(super) async fn find_unnamed(&self, snapshots: &[Option<&Snapshot>], found: &mut Rehearsal) {
        let missing = missing_peers(snapshots);
        if !missing.is_empty() {
            unnamed(found, &format!("the section [peers] names processes with peer_id {}", missing.join(", ")));
        }
        let asked = || snapshots.iter().copied().flatten();
        let sockets: BTreeSet<&str> = asked().filter_map(|one| one.setting("unix_socket_dir")).collect();
        for (instance, snapshot) in self.instances.iter().zip(snapshots) {
            if let Some(snapshot) = snapshot
                && snapshot.shares_its_port()
                && !instance.is_any_process(snapshot)
            {
                instance.knock(snapshot, &sockets, found).await;
            }
        }
    }
}

impl Instance {
    /// The addresses that a server at `host` sees of this process: those of its console, or none if nothing tells.
    async fn seen_from(&self, host: &str, port: u16) -> BTreeSet<IpAddr> {
        let server = addresses(host, port).await;
        let console = self.console.target();
        let own = addresses(&console.host, console.port).await;
        let beside = server.iter().all(IpAddr::is_loopback);
        match console.host.starts_with('/') || own.iter().any(IpAddr::is_loopback) {
            // Over the loopback device both ends have the same address.
            true if beside => server,
            true => BTreeSet::new(),
            false => own,
        }
    }

    /// Whether the console is reached through a port that several processes share.
    pub(super) fn is_any_process(&self, snapshot: &Snapshot) -> bool {
        snapshot.shares_its_port() && !self.console.target().host.starts_with('/')
    }

    pub(super) fn refuse_any_process(&self, found: &mut Rehearsal) {
        found.planned(
            format!(
                "{} shares its port with other processes (so_reuseport = 1), and its console is reached through that port",
                self.label()
            ),
            "every session may reach another process: one would be paused, another one moved, the rest would go on to the old primary",
            EVERY_PROCESS,
        );
    }

    /// Looks for processes behind the shared port whose sockets are not among those named.
    async fn knock(&self, snapshot: &Snapshot, named: &BTreeSet<&str>, found: &mut Rehearsal) {
        let listen = snapshot.setting("listen_addr").and_then(|all| all.split(',').next()).map(str::trim);
        let port = snapshot.setting("listen_port").and_then(|port| port.parse().ok());
        let (Some(listen), Some(port)) = (listen, port) else { return };
        let mut target = self.console.target().clone();
        target.host = if matches!(listen, "*" | "0.0.0.0" | "::") { "127.0.0.1".into() } else { listen.to_owned() };
        target.port = port;
        let mut others = BTreeSet::new();
        for _ in 0..KNOCKS {
            let asked = async { super::console::settings(&Session::open_plain(&target).await?).await };
            match asked.await {
                Ok(settings) => {
                    let socket = settings.get("unix_socket_dir").cloned().unwrap_or_default();
                    others.extend(Some(socket).filter(|socket| !named.contains(socket.as_str())));
                }
                Err(e) => {
                    let why = format!("whether more processes share port {port}: {}", e.chain());
                    return found.untried.push(why);
                }
            }
        }
        for socket in others {
            unnamed(found, &format!("port {port} is shared by a process whose unix_socket_dir is `{socket}`"));
        }
    }

    /// Whether the coming writer takes a login of the application from the pooler's host; without one, whether its port answers.
    pub(super) async fn reach(&self, database: &str, course: &Course, snapshot: &Snapshot, found: &mut Rehearsal) {
        let to = &course.to;
        let forced = snapshot.databases.get(database).and_then(|facts| facts.get("force_user"));
        let (login, what) = match (&course.login, forced) {
            (Some(login), None) => (Some(login), "a login of the application"),
            (Some(_), Some(user)) => {
                found
                    .untried
                    .push(format!("a login at `{}` as `{user}`, whose password only PgBouncer has", to.member));
                (None, "a connection")
            }
            (None, _) => {
                found
                    .untried
                    .push(format!("a login of PgBouncer at `{}`: the group names no [application]", to.member));
                (None, "a connection")
            }
        };
        let place = format!("{what} to `{}` at {}:{} from the host of {}", to.member, to.host, to.port, self.label());
        let command = match login {
            Some(login) => command(login, &to.host, to.port, REACH_WITHIN),
            None => {
                let argv = ["timeout", REACH_WITHIN, "bash", "-c", "exec 3<>\"/dev/tcp/$0/$1\""].map(String::from);
                HostCommand::new(argv.into_iter().chain([to.host.clone(), to.port.to_string()]))
            }
        };
        match self.control.run(&command).await {
            Ok(_) => {}
            Err(e) => match HostError::of(&e) {
                Some(HostError::Program { status, stderr, .. }) if !status.ends_with(": 127") => {
                    let late = format!("no answer within {REACH_WITHIN} s");
                    let words = if stderr.is_empty() { &late } else { stderr };
                    found.planned(
                        format!("{place} is refused: {words}"),
                        "PgBouncer could not let its clients in after the promotion",
                        "correct pg_hba.conf, the role, or the way to that member; or `member` of the route",
                    );
                }
                Some(_) | None => found.untried.push(format!("{place}: {}", e.chain())),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Peers came with 1.19.
    #[test]
    fn a_peer_that_nobody_names_is_missing() {
        let process = |id: &str| Snapshot {
            settings: [("peer_id".to_owned(), id.to_owned())].into(),
            peers: vec!["1".into(), "2".into()],
            ..Snapshot::default()
        };
        let [one, two] = ["1", "2"].map(process);
        assert_eq!(missing_peers(&[Some(&one)]), ["2"]);
        assert_eq!(missing_peers(&[Some(&one), None]), ["2"]);
        assert_eq!(missing_peers(&[Some(&one), Some(&two)]), [""; 0]);
        assert_eq!(missing_peers(&[Some(&Snapshot::default())]), [""; 0]);
    }
}
