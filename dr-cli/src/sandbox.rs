//! A directory in which one person can try everything: simulated databases, and three people to play.
//!
//! ```text
//!   DIR/groups/orders.toml    a group of two simulated databases
//!   DIR/journal, DIR/leases   of this sandbox alone
//!   DIR/sim                   the simulated world; its clients go on writing between the commands
//! ```
//!
//! Only the simulated backend answers in a sandbox, so nobody approves anything real by playing two people.

use std::path::Path;

use dr_core::Actor;

use crate::exit::{Stop, chain};

/// The group of a new sandbox.
pub(crate) const GROUP: &str = include_str!("sandbox/orders.toml");

/// What vouches for the people of a sandbox.
pub(crate) const PEOPLE_OF: &str = "sandbox";

/// Who can be played, with the role that each has.
const PEOPLE: [(&str, Option<&str>); 3] = [("mira", None), ("ana", Some("dba")), ("ben", Some("service-owner"))];

/// The person who is played; without a name it is the one who asks for runs.
pub(crate) fn person(name: Option<&str>) -> Result<Actor, Stop> {
    let name = name.unwrap_or("mira");
    let Some((_, role)) = PEOPLE.into_iter().find(|(known, _)| *known == name) else {
        let known = PEOPLE.map(|(known, role)| format!("{known} ({})", role.unwrap_or("no role"))).join(", ");
        return Err(Stop::input(format!("nobody in the sandbox is called `{name}`"), &[format!("people: {known}")]));
    };
    let actor = Actor::local(name).authenticated(PEOPLE_OF, name).shown_by("sandbox");
    Ok(role.into_iter().fold(actor, Actor::with_role))
}

/// Makes the directory.
pub(crate) fn make(dir: &Path) -> Result<(), Stop> {
    let place = dir.display();
    let failed = |error: &std::io::Error| Stop::input(format!("no sandbox in `{place}`: {}", chain(error)), &[]);
    if dir.join("groups").exists() {
        let help = [format!("go on in it:  dr --sandbox {place} status"), "or name another directory".to_owned()];
        return Err(Stop::input(format!("there is a sandbox in `{place}` already"), &help));
    }
    std::fs::create_dir_all(dir.join("groups")).map_err(|error| failed(&error))?;
    std::fs::write(dir.join("groups/orders.toml"), GROUP).map_err(|error| failed(&error))
}
