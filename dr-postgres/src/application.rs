//! The login of an application, as a command on another host.

use dr_sql::{ApplicationLogin, ConnInfo};

use crate::server::HostCommand;

/// The login as a command on another host that asks nothing and ends within `seconds` if nobody answers.
pub(crate) fn command(login: &ApplicationLogin, host: &str, port: u16, seconds: &str) -> HostCommand {
    let place = ConnInfo::default().with("host", host).with("port", port.to_string());
    let place = place.with("user", login.user()).with("dbname", login.database()).with("connect_timeout", seconds);
    let argv = ["psql", "-X", "-w", "-q", "-At", "-c", "SELECT 1", "-d"].map(String::from);
    HostCommand::new(argv.into_iter().chain([place.text()])).with_password(login.password().cloned())
}
