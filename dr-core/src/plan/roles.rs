//! Who writes and who follows, derived once from what backends report.
//!
//! ```text
//!   edges (`follows`), tri-state writable, silence ──► roles ──► one writer, its standbys
//!                                                        └─► findings: nobody, several, a stranger, a chain
//! ```

use std::collections::BTreeMap;

use crate::{
    base::{Finding, MemberId, RunId, known},
    contract::{Description, FenceReading, Follows, Grade, IntendedRole, Peer, ReplicationLink, Target, Tri},
    plan::{MemberFacts, RetiredLineage},
};

/// What the members are to each other.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Roles {
    /// The member that writes: seen, or concluded from those that follow it or from the last look.
    pub writer: MemberId,
    /// Whether it answered.
    pub answers: bool,
    /// What each member is.
    pub members: BTreeMap<MemberId, MemberRole>,
    /// What is known all the same, and forbids a plan: a former primary that takes writes.
    pub findings: Vec<Finding>,
}

impl Roles {
    /// Tells whether a member carries a history that a run promoted another one away from.
    #[must_use]
    pub fn is_retired(&self, member: &MemberId) -> bool {
        matches!(self.members.get(member), Some(MemberRole::Retired { .. }))
    }
}

/// Each member has one role among the others.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MemberRole {
    /// The writer.
    Writer,
    /// It follows another one.
    Follows(Peer),
    /// A former primary on a history that a run promoted another member away from, which is seen to write.
    Retired {
        /// The run that promoted.
        run: RunId,
        /// What its fences are worth.
        grade: Grade,
    },
    /// It answers, follows nobody and takes no writes.
    Idle,
    /// It does not answer.
    Silent,
    /// Its provider says that it does not exist, or not yet.
    Absent,
}

/// Derives the roles of a group's members; `last` is the writer of the last good look.
///
/// # Errors
/// The findings that keep anybody from saying who writes.
pub fn roles(members: &[MemberFacts], last: Option<&Target>) -> Result<Roles, Vec<Finding>> {
    let mut findings = strangers(members);
    findings.extend(chains(members));
    findings.extend(contradictions(members));
    if !findings.is_empty() {
        return Err(findings);
    }
    let writers = members.iter().filter(|member| {
        calls_itself_writer(member) && !is_another_system(member, members) && !may_be_a_copy(member, last)
    });
    let writers: Vec<&MemberFacts> = writers.collect();
    let retired = |member: &MemberFacts| retired_by(member, &writers).is_some();
    let present: Vec<&MemberFacts> = writers.iter().copied().filter(|member| !retired(member)).collect();
    let (writer, answers) = match present.as_slice() {
        [writer] => match unsure(writer, members, last) {
            Some(finding) => return Err(vec![finding]),
            None => (writer.name.clone(), true),
        },
        [] => (silent(members, last).map_err(|finding| vec![finding])?, false),
        [..] => return Err(vec![several(&present)]),
    };
    let findings = writers.iter().filter_map(|member| writes_again(member, retired_by(member, &writers)?)).collect();
    let role = |member: &MemberFacts| {
        if member.name == writer {
            return MemberRole::Writer;
        }
        if let Some(retired) = retired_by(member, &writers) {
            return MemberRole::Retired { run: retired.run.clone(), grade: fence_of(member) };
        }
        match &member.description {
            Some(Description { follows: Some(link), .. }) => MemberRole::Follows(link.peer.clone()),
            Some(_) => MemberRole::Idle,
            None if member.position.is_some() => MemberRole::Idle,
            None if !member.presence.exists() => MemberRole::Absent,
            None => MemberRole::Silent,
        }
    };
    let roles = members.iter().map(|member| (member.name.clone(), role(member))).collect();
    Ok(Roles { writer, answers, members: roles, findings })
}

/// The promotion that made a member a former primary. Not the journal's word alone: another member must be seen to write on the
/// history that began with that promotion, or on a later one.
fn retired_by<'a>(member: &'a MemberFacts, writers: &[&MemberFacts]) -> Option<&'a RetiredLineage> {
    let retired = member.retired.as_ref()?;
    let goes_on = |writer: &&&MemberFacts| {
        let carries = writer.lineage().is_some_and(|lineage| retired.goes_on_as(lineage));
        writer.name != member.name && seen_to_write(writer) && carries
    };
    writers.iter().find(goes_on).map(|_| retired)
}

/// Whether the server itself or its provider says that it takes writes; "not known" is no sight.
fn seen_to_write(member: &MemberFacts) -> bool {
    in_recovery(member) == Tri::No || member.description.as_ref().is_some_and(|seen| seen.writable == Tri::Yes)
}

fn fence_of(member: &MemberFacts) -> Grade {
    member.fenced.as_ref().map_or(Grade::Unconfirmable, FenceReading::grade)
}

/// A former primary that no fence is seen to keep from writing.
fn writes_again(member: &MemberFacts, retired: &RetiredLineage) -> Option<Finding> {
    let grade = fence_of(member);
    let (name, to, run) = (&member.name, &retired.to.member, &retired.run);
    (grade < Grade::Enforced).then(|| {
        Finding::new(
            &known::FORMER_WRITES,
            format!(
                "the former primary `{name}` may write again on {}, which {run} promoted `{to}` away from; its fences are worth `{grade}`",
                retired.from.lineage
            ),
        )
        .helps(format!("fence `{name}`: stop it, or shut applications out of it, and keep its data; then plan again"))
    })
}

/// Finds the member at the other end of a link.
fn meant<'a>(members: &'a [MemberFacts], link: &ReplicationLink) -> Option<&'a MemberId> {
    members.iter().find(|member| member.is_at(&link.peer)).map(|member| &member.name)
}

/// Finds the member that `member` follows, if it follows one of the group.
fn upstream<'a>(members: &'a [MemberFacts], member: &MemberFacts) -> Option<&'a MemberId> {
    meant(members, member.description.as_ref()?.follows.as_ref()?)
}

/// Follows nobody, and is not seen to refuse writes. A former primary that is fenced refuses them, and so does a server in
/// recovery. Where the management plane is silent, the server's own word counts.
fn calls_itself_writer(member: &MemberFacts) -> bool {
    match &member.description {
        Some(seen) => seen.follows.is_none() && seen.writable != Tri::No && in_recovery(member) != Tri::Yes,
        None => in_recovery(member) == Tri::No,
    }
}

/// Whether a member is a reader with a history of its own, such as a server that subscribes to changes: it writes, and never what the group
/// writes.
fn is_another_system(member: &MemberFacts, members: &[MemberFacts]) -> bool {
    let system = |member: &MemberFacts| member.lineage().map(|lineage| lineage.system.clone());
    let others = members.iter().filter(|other| other.role != IntendedRole::Reader).filter_map(system);
    let others: Vec<_> = others.collect();
    let own = system(member).filter(|_| member.role == IntendedRole::Reader);
    own.is_some_and(|own| !others.is_empty() && !others.contains(&own))
}

/// Whether a member whose provider is silent may be a logical copy: its server looks like a primary's, is another system than the last
/// writer, and no run promoted anybody away from it. Nobody is made the writer because its provider does not answer.
fn may_be_a_copy(member: &MemberFacts, last: Option<&Target>) -> bool {
    let Some(last) = last.filter(|last| last.member != member.name) else { return false };
    let other = member.lineage().is_some_and(|lineage| lineage.system != last.lineage.system);
    member.description.is_none() && member.retired.is_none() && other
}

/// Whether it is a standby from inside. The server of a logical copy is in no recovery: what its provider says of writes counts there.
fn in_recovery(member: &MemberFacts) -> Tri {
    match &member.description {
        Some(seen) if seen.is_copy() => seen.standby_by_word(),
        Some(_) | None => member.position.as_ref().map_or(Tri::Unknown, |position| position.in_recovery),
    }
}

/// A writer that only its provider knows, beside a member that says nothing: the silent one may be the writer.
fn unsure(writer: &MemberFacts, members: &[MemberFacts], last: Option<&Target>) -> Option<Finding> {
    let known = last.is_some_and(|last| last.member == writer.name);
    let seen =
        in_recovery(writer) == Tri::No || writer.description.as_ref().is_some_and(|seen| seen.writable == Tri::Yes);
    let follows = |member: &MemberFacts| upstream(members, member) == Some(&writer.name);
    // A member that does not exist cannot write, and a reader is never made the writer, so its silence hides none.
    let may_write = |one: &&MemberFacts| one.presence.exists() && one.role != IntendedRole::Reader;
    let mut silent = members.iter().filter(may_write);
    let silent = silent.find(|one| one.name != writer.name && !one.answers() && !follows(one))?;
    if let Some(retired) = writer.retired.as_ref().filter(|retired| retired.to.member == silent.name) {
        let (name, to) = (&writer.name, &silent.name);
        let what = format!(
            "`{name}` writes on {}, which {} promoted `{to}` away from, and `{to}` is silent",
            retired.from.lineage, retired.run
        );
        return Some(
            Finding::new(&known::WRITER_UNSURE, what).helps(format!("make `{to}` answer, and fence `{name}`")),
        );
    }
    (!known && !seen).then(|| {
        Finding::new(
            &known::WRITER_UNSURE,
            format!(
                "it cannot be said whether `{}` writes: only its provider answers, and `{}` is silent",
                writer.name, silent.name
            ),
        )
        .helps(format!("make `{}` answer, or give the probe access to `{}`", silent.name, writer.name))
    })
}

/// Members that the file does not list, seen from either end of an edge. Whoever only reads changes, or feeds another system with them, can
/// never be the writer of this group: such a follower is no stranger.
fn strangers(members: &[MemberFacts]) -> Vec<Finding> {
    let edges = members.iter().filter_map(|member| Some((member, member.description.as_ref()?)));
    edges
        .flat_map(|(member, seen)| {
            let up = seen.follows.iter().map(move |link| (member, link, "follows"));
            let down = seen.followers.iter().filter(|link| link.how == Follows::Physical);
            up.chain(down.map(move |link| (member, link, "is followed by")))
        })
        .filter(|(_, link, _)| meant(members, link).is_none())
        .map(|(member, link, how)| {
            Finding::new(
                &known::STRANGER,
                format!("`{}` {how} {link}, which the group file does not list", member.name),
            )
        })
        .collect()
}

/// A standby of a standby. A reader may follow whom it likes: no plan promotes it or takes it along.
fn chains(members: &[MemberFacts]) -> Vec<Finding> {
    let follows = |name: &MemberId| upstream(members, members.iter().find(|member| member.name == *name)?);
    members
        .iter()
        .filter(|member| member.role != IntendedRole::Reader)
        .filter_map(|member| {
            let upstream = follows(&member.name)?;
            follows(upstream).map(|top| (member, upstream, top))
        })
        .map(|(member, upstream, top)| {
            Finding::new(
                &known::CASCADE,
                format!("`{}` follows `{upstream}`, which itself follows `{top}`", member.name),
            )
        })
        .collect()
}

/// A member that follows another and takes writes, or is not even in recovery. A reader that is fed with changes is a system of its own.
fn contradictions(members: &[MemberFacts]) -> Vec<Finding> {
    let both = |member: &&MemberFacts| {
        let writes = |seen: &Description| seen.writable == Tri::Yes || in_recovery(member) == Tri::No;
        let fed = |seen: &Description| seen.follows.as_ref().is_some_and(|link| link.how != Follows::Physical);
        let own = |seen: &Description| member.role == IntendedRole::Reader && fed(seen);
        member.description.as_ref().is_some_and(|seen| seen.follows.is_some() && writes(seen) && !own(seen))
    };
    members
        .iter()
        .filter(both)
        .map(|member| {
            Finding::new(
                &known::FOLLOWER_WRITES,
                format!("`{}` follows another member and accepts writes", member.name),
            )
        })
        .collect()
}

fn several(writers: &[&MemberFacts]) -> Finding {
    let names: Vec<String> = writers.iter().map(|member| format!("`{}`", member.name)).collect();
    Finding::new(&known::SEVERAL_WRITERS, format!("{} each follow nobody and may take writes", names.join(" and ")))
}

/// Whether a member takes no writes because it does not run: its management plane describes what is left of it, and the server
/// itself does not answer. A standby says whom it follows, and a fenced primary is healthy.
fn stopped(member: &MemberFacts) -> bool {
    let down = |seen: &Description| seen.follows.is_none() && seen.writable == Tri::No && seen.healthy == Tri::No;
    member.position.is_none() && member.description.as_ref().is_some_and(down)
}

/// Nobody calls itself writer: the silent or stopped member that the others follow, or that wrote last.
fn silent(members: &[MemberFacts], last: Option<&Target>) -> Result<MemberId, Finding> {
    let quiet: Vec<&MemberId> = members
        .iter()
        .filter(|member| member.role != IntendedRole::Reader || last.is_some_and(|last| last.member == member.name))
        .filter(|member| member.description.is_none() || stopped(member))
        .map(|member| &member.name)
        .collect();
    let followed = members.iter().filter_map(|member| upstream(members, member));
    let mut followed: Vec<&MemberId> = followed.filter(|name| quiet.contains(name)).collect();
    followed.dedup();
    let known = last.map(|last| &last.member).filter(|name| quiet.contains(name));
    match (followed.as_slice(), known) {
        ([one], None) => Ok((*one).clone()),
        ([one], Some(known)) if *one == known => Ok((*one).clone()),
        ([], Some(known)) => Ok(known.clone()),
        (_, _) => Err(Finding::new(
            &known::NO_WRITER,
            match quiet.as_slice() {
                [] => "every member answers, and none of them may take writes".to_owned(),
                [..] => format!(
                    "no member calls itself writer, and it is not known whether {} did",
                    quiet.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(" or ")
                ),
            },
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        base::{Endpoint, Millis, ResourceAddress, SystemId, Timestamp},
        contract::{Lineage, Parted, Position, PositionReading, PositionUnit, ResourceKind, ResourceRef, Tier},
    };

    fn member(name: &str, seen: Option<(Option<&str>, Tri)>) -> MemberFacts {
        let binding = ResourceRef {
            provider: "sim".into(),
            kind: ResourceKind::Database,
            address: ResourceAddress::new(format!("/{name}")),
            identity: None,
            region: None,
            profile: None,
        };
        MemberFacts {
            description: seen.map(|(follows, writable)| Description {
                address: ResourceAddress::new(format!("/{name}")),
                identity: None,
                lineage: None,
                follows: follows.map(|other| ReplicationLink::physical(format!("/{other}"))),
                followers: Vec::new(),
                writable,
                healthy: Tri::Yes,
                status: "ok".into(),
                endpoint: Endpoint::new(name),
                version: "15".into(),
                busy: None,
                newest_backup: None,
                cadence: Millis::ZERO,
                at: Timestamp::default(),
            }),
            ..MemberFacts::silent(name.into(), binding)
        }
    }

    fn inside(member: MemberFacts, in_recovery: Tri) -> MemberFacts {
        let system = SystemId::new("s");
        let at = Position { system: system.clone(), unit: PositionUnit::LogBytes, value: 1 };
        let position = PositionReading {
            lineage: Lineage { system, generation: 1 },
            in_recovery,
            durable: at.clone(),
            applied: at,
            parted_at: Parted::untold("a standby is not asked"),
            tier: Tier::Server,
            at: Timestamp::default(),
        };
        MemberFacts { position: Some(position), ..member }
    }

    /// Covers D01, D16: what a server says of itself outweighs its provider, and a lone provider is not believed beside silence.
    #[test]
    fn servers_speak_for_themselves() {
        let (maybe, standby) = (Some((None, Tri::Unknown)), Some((Some("a"), Tri::No)));
        let judge = |members: &[MemberFacts], last: Option<Target>| {
            let roles = roles(members, last.as_ref());
            roles.map(|roles| (roles.writer.to_string(), roles.answers)).map_err(|found| found[0].rule)
        };
        let silent = || member("b", None);
        assert_eq!(judge(&[member("a", maybe), silent()], None), Err(207));
        assert_eq!(judge(&[member("a", maybe), silent()], Some(wrote("a"))), Ok(("a".into(), true)));
        assert_eq!(judge(&[inside(member("a", maybe), Tri::No), silent()], None), Ok(("a".into(), true)));
        // The provider of `a` is silent, the server is not.
        assert_eq!(judge(&[inside(member("a", None), Tri::No), member("b", standby)], None), Ok(("a".into(), true)));
        // Detached, but in recovery: no writer.
        assert_eq!(judge(&[member("a", maybe), inside(member("b", maybe), Tri::Yes)], None), Ok(("a".into(), true)));
        // Shown as following, but out of recovery: somebody promoted it.
        assert_eq!(judge(&[member("a", maybe), inside(member("b", standby), Tri::No)], None), Err(203));
        assert_eq!(judge(&[inside(member("a", maybe), Tri::No), inside(member("b", maybe), Tri::No)], None), Err(204));
    }

    fn meant(member: MemberFacts, role: IntendedRole) -> MemberFacts {
        MemberFacts { role, ..member }
    }

    /// A third replica that the file lists is no stranger, whatever it is meant for; one that it does not list is.
    #[test]
    fn a_member_more_is_no_stranger() {
        let mut primary = member("a", Some((None, Tri::Yes)));
        let followers = ["/b", "/c"].map(|other| ReplicationLink::physical(other.to_owned()));
        primary.description.as_mut().unwrap().followers = followers.into();
        let standby = |name| member(name, Some((Some("a"), Tri::No)));
        for role in [IntendedRole::Candidate, IntendedRole::Follower, IntendedRole::Reader] {
            let roles = roles(&[primary.clone(), standby("b"), meant(standby("c"), role)], None).unwrap();
            assert_eq!((roles.writer.as_str(), roles.answers), ("a", true), "{role}");
        }
        let stranger = roles(&[primary, standby("b")], None).unwrap_err();
        assert_eq!(stranger.iter().map(|found| found.rule).collect::<Vec<_>>(), [201]);
    }

    /// A reader may follow a standby, be fed with changes, or be silent. One that takes writes of the group's own is a second writer all
    /// the same.
    #[test]
    fn a_reader_is_known_and_nothing_more() {
        let writer = || inside(member("a", Some((None, Tri::Yes))), Tri::No);
        let standby = || member("b", Some((Some("a"), Tri::No)));
        let reader = |seen| meant(member("c", seen), IntendedRole::Reader);
        let judge = |third: MemberFacts| {
            let roles = roles(&[writer(), standby(), third], None);
            roles.map(|roles| roles.writer.to_string()).map_err(|found| found[0].rule)
        };
        assert_eq!(judge(reader(Some((Some("b"), Tri::No)))), Ok("a".into()), "a cascade");
        assert_eq!(judge(reader(None)), Ok("a".into()), "silence");
        let mut fed = reader(Some((Some("a"), Tri::Yes)));
        fed.description.as_mut().unwrap().follows.as_mut().unwrap().how = Follows::Logical;
        assert_eq!(judge(fed), Ok("a".into()), "a system of its own");
        assert_eq!(judge(reader(Some((Some("a"), Tri::Yes)))), Err(203), "a physical copy that takes writes");
        assert_eq!(judge(reader(Some((None, Tri::Yes)))), Err(204));
        let mut subscriber = inside(reader(Some((None, Tri::Yes))), Tri::No);
        subscriber.position.as_mut().unwrap().lineage.system = SystemId::new("its own");
        assert_eq!(judge(subscriber), Ok("a".into()), "a server that subscribes to changes");
        let lone = [member("a", Some((None, Tri::Unknown))), standby(), reader(None)];
        assert_eq!(roles(&lone, None).unwrap().writer.as_str(), "a", "its silence hides no writer");
    }

    /// The two sides of a promotion of `b` away from `a`, both of which follow nobody and call themselves writers.
    fn parted(fence: Option<Grade>, new: Option<u32>) -> [MemberFacts; 2] {
        let on = |member: MemberFacts, generation: u32| {
            let mut member = inside(member, Tri::No);
            if let Some(position) = &mut member.position {
                position.lineage.generation = generation;
            }
            member
        };
        let primary = Some((None, Tri::Yes));
        let mut old = on(member("a", primary), 1);
        let lineage = |generation| Lineage { system: SystemId::new("s"), generation };
        old.retired = Some(RetiredLineage {
            run: RunId::new(crate::base::GroupName::new("g"), 17),
            from: wrote("a"),
            to: Target { lineage: lineage(2), ..wrote("b") },
            at: Timestamp::default(),
        });
        old.fenced = fence.map(|grade| FenceReading {
            address: None,
            identity: None,
            lineage: Some(lineage(1)),
            planes: crate::contract::Planes::all(grade),
            silent: false,
            end: None,
            lapses_at: None,
            unread: Vec::new(),
            detail: "shut".into(),
            at: Timestamp::default(),
        });
        [old, new.map_or_else(|| member("b", None), |generation| on(member("b", primary), generation))]
    }

    /// A former primary behind a fence follows nobody and calls itself a primary: two writers, and no plan was possible any more.
    #[test]
    fn bug_a_fenced_former_primary_was_taken_for_a_second_writer() {
        let roles = roles(&parted(Some(Grade::Confirmed), Some(2)), None).unwrap();
        assert_eq!((roles.writer.as_str(), roles.answers, roles.findings.len()), ("b", true, 0));
        assert!(roles.is_retired(&"a".into()) && !roles.is_retired(&"b".into()));
        let again = super::roles(&parted(Some(Grade::Confirmed), Some(5)), None).unwrap();
        assert_eq!(again.writer.as_str(), "b", "a later promotion");
    }

    /// Whoever is not fenced and writes on is told, and forbids a plan.
    #[test]
    fn a_former_primary_that_writes_again_is_told() {
        for fence in [None, Some(Grade::Unconfirmable), Some(Grade::Partial)] {
            let roles = roles(&parted(fence, Some(2)), None).unwrap();
            assert_eq!(roles.writer.as_str(), "b");
            assert_eq!(roles.findings.iter().map(|found| found.rule).collect::<Vec<_>>(), [208]);
        }
    }

    /// The journal alone retires nobody: another member must be seen to write on what began with the promotion.
    #[test]
    fn nobody_is_retired_unless_the_new_writer_is_seen() {
        let fenced = Some(Grade::Confirmed);
        let rule = |members: &[MemberFacts]| {
            roles(members, None).map(|roles| roles.writer.to_string()).map_err(|found| found[0].rule)
        };
        assert_eq!(rule(&parted(fenced, Some(1))), Err(204), "the other one writes on the same history");
        assert_eq!(rule(&parted(fenced, None)), Err(207), "the promoted one is silent: it may be the writer");
        let mut unproved = parted(fenced, Some(2));
        unproved[1].position = None;
        if let Some(seen) = &mut unproved[1].description {
            seen.writable = Tri::Unknown;
        }
        assert_eq!(rule(&unproved), Err(204), "nobody sees the other one write");
        let mut uncounted = parted(fenced, Some(0));
        if let Some(retired) = &mut uncounted[0].retired {
            (retired.from.lineage.generation, retired.to.lineage.generation) = (0, 0);
        }
        assert_eq!(rule(&uncounted), Err(204), "histories that are not counted say nothing");
    }

    /// A connector, a subscription or an archiver at the primary refused every plan that was made while the primary answered.
    #[test]
    fn bug_who_reads_changes_was_a_stranger() {
        let judge = |how: Follows| {
            let mut primary = member("a", Some((None, Tri::Yes)));
            let link = ReplicationLink { how, ..ReplicationLink::unknown("a connector") };
            primary.description.as_mut().unwrap().followers.push(link);
            roles(&[primary, member("b", Some((Some("a"), Tri::No)))], None).map(|roles| roles.writer.to_string())
        };
        assert_eq!(judge(Follows::Logical).unwrap(), "a");
        assert_eq!(judge(Follows::Reader).unwrap(), "a");
        assert_eq!(judge(Follows::Physical).unwrap_err()[0].rule, 201);
    }

    /// The server of a logical copy looks like a primary's from inside. It was a second writer, and alone with a silent primary the only
    /// one.
    #[test]
    fn bug_a_logical_copy_was_a_writer() {
        let writer = || inside(member("a", Some((None, Tri::Yes))), Tri::No);
        let copy = |writable: Tri| {
            let mut copy = inside(member("b", Some((Some("a"), writable))), Tri::No);
            copy.description.as_mut().unwrap().follows.as_mut().unwrap().how = Follows::Logical;
            copy.position.as_mut().unwrap().lineage.system = SystemId::new("its own");
            copy
        };
        let who = |members: &[MemberFacts], last: Option<&Target>| {
            roles(members, last).map(|roles| (roles.writer.to_string(), roles.answers)).map_err(|found| found[0].rule)
        };
        assert_eq!(who(&[writer(), copy(Tri::No)], None), Ok(("a".into(), true)));
        assert_eq!(who(&[writer(), copy(Tri::Yes)], None), Err(203), "it is fed, and takes writes");
        assert_eq!(
            who(&[member("a", None), copy(Tri::No)], None),
            Ok(("a".into(), false)),
            "its edge names the source"
        );
        let unnamed = || {
            let mut copy = copy(Tri::No);
            copy.description = None;
            copy
        };
        assert_eq!(who(&[writer(), unnamed()], Some(&wrote("a"))), Ok(("a".into(), true)));
        assert_eq!(who(&[member("a", None), unnamed()], Some(&wrote("a"))), Ok(("a".into(), false)));
        assert_eq!(who(&[writer(), unnamed()], None), Err(204), "nobody knows which of the two wrote last");
    }

    #[test]
    fn a_circle_has_no_writer() {
        let pair = [member("a", Some((Some("b"), Tri::No))), member("b", Some((Some("a"), Tri::No)))];
        assert_eq!(roles(&pair, None).unwrap_err()[0].rule, 202);
    }

    fn wrote(name: &str) -> Target {
        let lineage = Lineage { system: SystemId::new("s"), generation: 1 };
        Target {
            member: name.into(),
            address: ResourceAddress::new(format!("/{name}")),
            identity: None,
            lineage,
            receives: None,
        }
    }

    /// Covers D01 and row 13 of the API's change list: roles come from edges, never from a provider's word.
    #[test]
    fn roles_follow_the_table() {
        let primary = Some((None, Tri::Yes));
        let maybe = Some((None, Tri::Unknown));
        let fenced = Some((None, Tri::No));
        let standby = Some((Some("a"), Tri::No));
        type Row = (&'static str, Option<(Option<&'static str>, Tri)>, Option<(Option<&'static str>, Tri)>);
        type Want = Result<(&'static str, bool), u16>;
        let table: [(Row, Option<&str>, Want); 13] = [
            (("a pair", primary, standby), None, Ok(("a", true))),
            (("management cannot say", maybe, standby), None, Ok(("a", true))),
            (("old primary fenced", fenced, primary), None, Ok(("b", true))),
            (("two writers", primary, primary), None, Err(204)),
            (("two may write", maybe, maybe), Some("a"), Err(204)),
            (("silent, and followed", None, standby), None, Ok(("a", false))),
            (("silent, and followed, and wrote last", None, standby), Some("a"), Ok(("a", false))),
            (("silent, followed, but the other wrote last", None, standby), Some("b"), Ok(("a", false))),
            (("silent, and wrote last", None, fenced), Some("a"), Ok(("a", false))),
            (("both silent, known", None, None), Some("b"), Ok(("b", false))),
            (("both silent, unknown", None, None), None, Err(205)),
            (("nobody may write", fenced, standby), None, Err(205)),
            (("follows and writes", primary, Some((Some("a"), Tri::Yes))), None, Err(203)),
        ];
        for ((name, a, b), last, want) in table {
            let last = last.map(wrote);
            let got = roles(&[member("a", a), member("b", b)], last.as_ref());
            let got = got.as_ref().map(|roles| (roles.writer.as_str(), roles.answers)).map_err(|found| found[0].rule);
            assert_eq!(got, want, "{name}");
        }
    }

    /// A server whose process is dead is described from what it left, and is not answering for all that.
    #[test]
    fn bug_a_stopped_primary_was_taken_for_one_that_answers() {
        let stopped = |name: &str| {
            let mut member = member(name, Some((None, Tri::No)));
            if let Some(seen) = &mut member.description {
                seen.healthy = Tri::No;
            }
            member
        };
        let standby = || member("b", Some((Some("a"), Tri::No)));
        let judge = |members: &[MemberFacts], last: Option<&str>| {
            let roles = roles(members, last.map(wrote).as_ref());
            roles.map(|roles| (roles.writer.to_string(), roles.answers)).map_err(|found| found[0].rule)
        };
        assert_eq!(judge(&[stopped("a"), standby()], None), Ok(("a".into(), false)));
        assert_eq!(judge(&[stopped("a"), standby()], Some("a")), Ok(("a".into(), false)));
        assert_eq!(judge(&[stopped("a"), stopped("b")], None), Err(205), "two stopped ones: nobody knows which wrote");
        assert_eq!(judge(&[stopped("a"), stopped("b")], Some("b")), Ok(("b".into(), false)));
        let primary = member("b", Some((None, Tri::Yes)));
        assert_eq!(judge(&[stopped("a"), primary], None), Ok(("b".into(), true)), "the other one writes");
        // It answers from inside and refuses writes: nobody knows why.
        assert_eq!(judge(&[inside(stopped("a"), Tri::No), standby()], None), Err(205));
    }

    #[test]
    fn a_standby_of_a_standby_and_a_stranger_are_found() {
        let trio = [
            member("a", Some((None, Tri::Yes))),
            member("b", Some((Some("a"), Tri::No))),
            member("c", Some((Some("b"), Tri::No))),
        ];
        assert_eq!(roles(&trio, None).unwrap_err()[0].rule, 202);
        let mut known = member("a", Some((None, Tri::Yes)));
        if let Some(seen) = &mut known.description {
            seen.followers = vec![ReplicationLink::physical("/b"), ReplicationLink::physical("/hidden")];
        }
        let found = roles(&[known, member("b", Some((Some("a"), Tri::No)))], None).unwrap_err();
        assert_eq!(found.len(), 1);
        assert!(found[0].what.contains("/hidden"), "{}", found[0].what);
        let lost = [member("a", Some((None, Tri::Yes))), member("b", Some((Some("zzz"), Tri::No)))];
        assert_eq!(roles(&lost, None).unwrap_err()[0].rule, 201);
    }
}
