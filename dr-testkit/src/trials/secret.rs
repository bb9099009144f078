//! What a secret store does, and says.

use dr_core::{
    Outcome, SecretStore, Tri,
    base::SecretVersion,
    contract::{Effort, RehearseSecret, SecretReference},
};

use super::{
    Case, Contract,
    Need::{Part as Has, Power as Can},
    Part, Power, Side, Stop, Verb, trials,
};

const SECRET: super::Need = Has(Part::Secret);

trials! { Contract::SecretStore;
    AsItWas reads "read::names_the_writer"
        shows "Reads what the secret names." needs [SECRET];
    Changed rotates "read::sees_a_rotation"
        shows "Whether a rotation is going on; a cutover waits for its end (B24)." needs [SECRET, Can(Power::RotateSecret)];
    Changed one_version "patch::makes_one_version"
        shows "creates exactly one version; none when it names the writer already" needs [SECRET];
    AsItWas no_version "patch::makes_none_when_it_names_the_writer"
        shows "creates exactly one version; none when it names the writer already" needs [SECRET];
    AsItWas conflict "patch::another_version_is_a_conflict"
        shows "another current version than expected: `Conflict`, nothing changed" needs [SECRET];
    Changed overtaken "patch::a_write_by_hand_is_a_conflict"
        shows "The version that must still be the current one (compare and set)." needs [SECRET, Can(Power::RewriteSecret)];
    Changed token "patch::the_same_token_twice_is_one_version"
        shows "The client token: the same token twice is one version." needs [SECRET];
    Changed kept "read::tells_the_token_of_the_last_write"
        shows "The token of the write that made this version, where the store keeps it." needs [SECRET];
    Changed patch_lost "patch::a_lost_reply_can_be_sent_again"
        shows "The client token: the same token twice is one version." needs [SECRET, Can(Power::LoseReply(Verb::Patch))];
    Changed keeps "rotate::the_version_before_stays_valid"
        shows "the version before is kept, and its credentials stay valid until the next rotation: clients that hold it can still log in"
        needs [SECRET];
    Changed once "rotate::sent_twice_is_one"
        shows "the same rotation sent twice is one" needs [SECRET];
    Changed waits "rotate::waits_for_another"
        shows "while another rotation is going on: `NotDone`, nothing changed" needs [SECRET, Can(Power::RotateSecret)];
    AsItWas versions "versions::newest_first"
        shows "The versions that the store keeps, newest first." needs [SECRET];
    AsItWas rehearses "rehearse::compares_with_the_present_writer"
        shows "its present value is the present writer's in the form that will be written, and a new version could be put"
        needs [SECRET];
    AsItWas manual "manual::names_commands"
        shows "What a person would type to do `verb` without us." needs [SECRET];
}

async fn read(c: &Case, store: &dyn SecretStore) -> Result<SecretReference, Stop> {
    c.ok("the secret is read", store.read().await)
}

async fn count(c: &Case, store: &dyn SecretStore) -> Result<usize, Stop> {
    Ok(c.ok("the versions are listed", store.versions().await)?.len())
}

async fn reads(c: &Case) -> Result<(), Stop> {
    let seen = read(c, c.secret()?.as_ref()).await?;
    c.same("it names the primary", &seen.endpoint, &Some(c.described(Side::Primary).await?.endpoint));
    c.holds("the version has a name", !seen.version.as_str().is_empty(), &seen.version);
    c.holds("no rotation is going on", seen.rotating != Tri::Yes, &seen.rotating);
    Ok(())
}

async fn rotates(c: &Case) -> Result<(), Stop> {
    c.act(Power::RotateSecret).await?;
    let seen = read(c, c.secret()?.as_ref()).await?;
    c.holds("the rotation is not denied", seen.rotating != Tri::No, &seen.rotating);
    Ok(())
}

/// Rotates, if the store offers that.
async fn rotate(c: &Case, key: &str) -> Result<Option<Outcome<SecretVersion>>, Stop> {
    let store = c.secret()?;
    let expected = read(c, store.as_ref()).await?.version;
    let told = store.rotate(c.rotation(Side::Primary, expected, key).await?).await;
    Ok((told != Outcome::unsupported("rotate")).then_some(told))
}

async fn keeps(c: &Case) -> Result<(), Stop> {
    let store = c.secret()?;
    let before = read(c, store.as_ref()).await?;
    let Some(told) = rotate(c, "rotation").await? else { return Ok(()) };
    let Outcome::Done(version) = told else {
        c.holds("the credentials are replaced", false, &told);
        return Err(Stop);
    };
    let after = read(c, store.as_ref()).await?;
    c.same("the answer names the current version", &version, &after.version);
    c.holds("it is another one than before", version != before.version, &version);
    c.same("the endpoint is what it was", &after.endpoint, &before.endpoint);
    let kept = c.ok("the versions are listed", store.versions().await)?;
    c.holds("the version before is kept", kept.contains(&before.version), &kept);
    Ok(())
}

async fn once(c: &Case) -> Result<(), Stop> {
    let store = c.secret()?;
    let had = count(c, store.as_ref()).await?;
    let expected = read(c, store.as_ref()).await?.version;
    let request = c.rotation(Side::Primary, expected, "rotation").await?;
    let first = store.rotate(request.clone()).await;
    if first == Outcome::unsupported("rotate") {
        return Ok(());
    }
    let second = store.rotate(request).await;
    c.same("the second one answers as the first", &second, &first);
    c.same("there is one version more", &count(c, store.as_ref()).await?, &had.saturating_add(1));
    Ok(())
}

async fn waits(c: &Case) -> Result<(), Stop> {
    let store = c.secret()?;
    let before = read(c, store.as_ref()).await?.version;
    c.act(Power::RotateSecret).await?;
    let Some(told) = rotate(c, "rotation").await? else { return Ok(()) };
    c.holds("it is not done", matches!(told, Outcome::NotDone(_)), &told);
    c.same("the version is what it was", &read(c, store.as_ref()).await?.version, &before);
    let going = c.ok("whether one is going on is told", store.rotating().await)?;
    c.holds("the other one is not denied", going != Tri::No, &going);
    Ok(())
}

async fn one_version(c: &Case) -> Result<(), Stop> {
    let store = c.secret()?;
    let (before, had) = (read(c, store.as_ref()).await?, count(c, store.as_ref()).await?);
    let request = c.patch_request(Side::Standby, before.version.clone(), "secret").await?;
    let endpoint = request.writer.endpoint.clone();
    let outcome = store.patch(request).await;
    let Outcome::Done(version) = outcome else {
        c.holds("the secret is written", false, &outcome);
        return Err(Stop);
    };
    let after = read(c, store.as_ref()).await?;
    c.same("the answer names the current version", &version, &after.version);
    c.holds("it is another one than before", after.version != before.version, &after.version);
    c.same("it names the writer of the proof", &after.endpoint, &Some(endpoint));
    c.same("there is exactly one more", &count(c, store.as_ref()).await?, &had.saturating_add(1));
    Ok(())
}

async fn no_version(c: &Case) -> Result<(), Stop> {
    let store = c.secret()?;
    let (before, had) = (read(c, store.as_ref()).await?, count(c, store.as_ref()).await?);
    let outcome = store.patch(c.patch_request(Side::Primary, before.version.clone(), "same").await?).await;
    c.same("a secret that names the writer is done", &outcome, &Outcome::Done(before.version.clone()));
    c.same("without a new version", &count(c, store.as_ref()).await?, &had);
    c.same("it reads as before", &read(c, store.as_ref()).await?, &before);
    Ok(())
}

async fn conflict(c: &Case) -> Result<(), Stop> {
    let store = c.secret()?;
    let (before, had) = (read(c, store.as_ref()).await?, count(c, store.as_ref()).await?);
    let never = SecretVersion::new("a-version-that-never-was");
    let outcome = store.patch(c.patch_request(Side::Standby, never, "never").await?).await;
    c.holds("another version than expected is a conflict", matches!(outcome, Outcome::Conflict(_)), &outcome);
    c.same("no version is made", &count(c, store.as_ref()).await?, &had);
    c.same("nothing changed", &read(c, store.as_ref()).await?, &before);
    Ok(())
}

async fn overtaken(c: &Case) -> Result<(), Stop> {
    let store = c.secret()?;
    let before = read(c, store.as_ref()).await?;
    let request = c.patch_request(Side::Standby, before.version.clone(), "late").await?;
    c.act(Power::RewriteSecret).await?;
    let outcome = store.patch(request).await;
    c.holds("who was overtaken meets a conflict", matches!(outcome, Outcome::Conflict(_)), &outcome);
    c.same("the endpoint is what it was", &read(c, store.as_ref()).await?.endpoint, &before.endpoint);
    Ok(())
}

async fn token(c: &Case) -> Result<(), Stop> {
    let store = c.secret()?;
    for (side, key) in [(Side::Standby, "there"), (Side::Primary, "back")] {
        let expected = read(c, store.as_ref()).await?.version;
        let outcome = store.patch(c.patch_request(side, expected, key).await?).await;
        c.holds("the secret is written", matches!(outcome, Outcome::Done(_)), &outcome);
    }
    let (before, had) = (read(c, store.as_ref()).await?, count(c, store.as_ref()).await?);
    let late = c.patch_request(Side::Standby, before.version.clone(), "there").await?;
    let outcome = store.patch(late).await;
    c.holds("a token that was used is no new write", !matches!(outcome, Outcome::Unknown(_)), &outcome);
    c.same("no version is made", &count(c, store.as_ref()).await?, &had);
    c.same("what came after it stays", &read(c, store.as_ref()).await?.endpoint, &before.endpoint);
    Ok(())
}

async fn kept(c: &Case) -> Result<(), Stop> {
    let store = c.secret()?;
    let expected = read(c, store.as_ref()).await?.version;
    let request = c.patch_request(Side::Standby, expected, "kept").await?;
    let (key, outcome) = (request.key.clone(), store.patch(request).await);
    c.holds("the secret is written", matches!(outcome, Outcome::Done(_)), &outcome);
    let told = read(c, store.as_ref()).await?.token;
    c.holds(
        "the token is the one of the write, where it is kept",
        told.as_ref().is_none_or(|told| *told == key),
        &told,
    );
    Ok(())
}

async fn patch_lost(c: &Case) -> Result<(), Stop> {
    let store = c.secret()?;
    let (before, had) = (read(c, store.as_ref()).await?, count(c, store.as_ref()).await?);
    let request = c.patch_request(Side::Standby, before.version, "lost").await?;
    let endpoint = request.writer.endpoint.clone();
    c.act(Power::LoseReply(Verb::Patch)).await?;
    let outcome = store.patch(request.clone()).await;
    c.holds("without a reply nobody knows", matches!(outcome, Outcome::Unknown(_)), &outcome);
    let again = store.patch(request).await;
    c.holds("the same call again is done", matches!(again, Outcome::Done(_)), &again);
    c.same("both made one version", &count(c, store.as_ref()).await?, &had.saturating_add(1));
    c.same("it names the writer", &read(c, store.as_ref()).await?.endpoint, &Some(endpoint));
    Ok(())
}

async fn versions(c: &Case) -> Result<(), Stop> {
    let store = c.secret()?;
    let kept = c.ok("the versions are listed", store.versions().await)?;
    let newest = read(c, store.as_ref()).await?.version;
    c.same("the newest comes first", &kept.first(), &Some(&newest));
    let mut names: Vec<&str> = kept.iter().map(SecretVersion::as_str).collect();
    names.sort_unstable();
    names.dedup();
    c.same("no version is listed twice", &names.len(), &kept.len());
    Ok(())
}

async fn rehearses(c: &Case) -> Result<(), Stop> {
    let store = c.secret()?;
    let had = count(c, store.as_ref()).await?;
    let (here, there) = (c.described(Side::Primary).await?.endpoint, c.described(Side::Standby).await?.endpoint);
    let request = RehearseSecret { from: here.clone(), to: there.clone(), effort: Effort::Try };
    let found = c.ok("the store rehearses", store.rehearse(&request).await)?;
    c.holds("nothing speaks against the change", found.obstacles.is_empty(), &found.obstacles);
    let wrong = RehearseSecret { from: there, to: here, effort: Effort::Look };
    let found = c.ok("the store rehearses another one", store.rehearse(&wrong).await)?;
    let told = !found.obstacles.is_empty() || !found.untried.is_empty();
    c.holds("a secret that names another writer is an obstacle, or untried", told, &found);
    c.same("no version is made", &count(c, store.as_ref()).await?, &had);
    Ok(())
}

async fn manual(c: &Case) -> Result<(), Stop> {
    let commands = c.secret()?.manual("patch");
    c.holds("the write has a command", !commands.is_empty(), &commands);
    Ok(())
}
