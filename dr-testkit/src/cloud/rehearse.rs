//! What the parts of the simulated cloud find when they rehearse a change: the truth, as an honest backend reads it.

use dr_core::{
    MemberId, ProviderError,
    base::Endpoint,
    contract::{Becomes, Rehearsal},
};

use super::{SimCloud, line::Glass};
use crate::world::{Keeps, World, not_the_server};

/// Sources that say different things say nothing: whoever asked looks again.
fn agree(part: &str, glass: Glass) -> Result<(), ProviderError> {
    if glass.contradicts {
        return Err(ProviderError::Strange { verb: "rehearse", saw: format!("the sources disagree on {part}") });
    }
    Ok(())
}

/// A member's part.
pub(super) fn member(
    world: &World,
    member: &MemberId,
    becomes: &Becomes,
    glass: Glass,
) -> Result<Rehearsal, ProviderError> {
    agree(member.as_str(), glass)?;
    Ok(match becomes {
        Becomes::Writer { instead_of } => writer(world, member, instead_of),
        Becomes::Standby { .. } => standby(world, member),
    })
}

fn writer(world: &World, member: &MemberId, instead_of: &MemberId) -> Rehearsal {
    let mut found = Rehearsal::default();
    if let Some(refusal) = world.instances.get(member).and_then(|instance| instance.access.refusal()) {
        found.always(
            format!("`{member}` refuses the role of the applications: {refusal}"),
            "no application could write after the change",
            format!("sim open {member}"),
        );
    }
    match world.instances.get(instead_of).filter(|_| world.we_reach(instead_of)) {
        Some(old) => old.keeps.iter().for_each(|kept| found.drops(kept.what(), kept.detail())),
        None => found.untried.push(Keeps::uncounted(instead_of)),
    }
    found
}

fn standby(world: &World, member: &MemberId) -> Rehearsal {
    let mut found = Rehearsal::default();
    if let Some(trouble) = world.instances.get(member).and_then(|instance| instance.former_life.trouble()) {
        found.planned(
            format!("`{member}`: {trouble}"),
            "the writer would be left without a standby",
            format!("sim reset-settings {member}"),
        );
    }
    found
}

/// A fence's part: what it acts on is the server that answers at the member's address.
pub(super) fn fence(world: &World, member: &MemberId, glass: Glass) -> Result<Rehearsal, ProviderError> {
    agree(&format!("the fence of `{member}`"), glass)?;
    let mut found = Rehearsal::default();
    if world.instances.get(member).is_some_and(|instance| instance.elsewhere.is_some()) {
        found.always(
            not_the_server(member),
            "it would stop something else, and the server would go on writing",
            format!("sim place {member}"),
        );
    }
    Ok(found)
}

/// The secret's part.
pub(super) fn secret(world: &World, from: &Endpoint, glass: Glass) -> Result<Rehearsal, ProviderError> {
    agree("the secret", glass)?;
    let mut found = Rehearsal::default();
    if let Some(newest) = world.secret.versions.last().filter(|newest| newest.endpoint != *from) {
        found.planned(
            format!("the secret names {}, the present writer is {from}", newest.endpoint),
            "who reads the secret does not use the present writer",
            "sim secret read",
        );
    }
    Ok(found)
}

/// A route's part.
pub(super) fn route(world: &World, number: usize, from: &MemberId, glass: Glass) -> Result<Rehearsal, ProviderError> {
    agree(SimCloud::route_name(number).as_str(), glass)?;
    let mut found = Rehearsal::default();
    if let Some(route) = world.routes.get(number).filter(|route| route.member != *from) {
        found.planned(
            format!("{} sends to `{}`, the present writer is `{from}`", SimCloud::route_name(number), route.member),
            "its clients do not use the present writer",
            format!("sim route {number} read"),
        );
    }
    Ok(found)
}
