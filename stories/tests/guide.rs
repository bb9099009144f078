//! What the guide shows is what compiles here.

/// The guide "Enrol a backend" quotes the enrolment whole, and that has 50 lines.
#[test]
fn the_guide_quotes_the_enrolment() {
    let (guide, enrolment) = (include_str!("../../docs/guides/backend.md"), include_str!("contract.rs"));
    let rig = enrolment.find("struct ReefRig").map(|at| &enrolment[at..]).unwrap();
    assert!(guide.contains(rig.trim_end()), "docs/guides/backend.md differs from stories/tests/contract.rs");
    assert!(enrolment.lines().count() <= 50, "the enrolment has {} lines", enrolment.lines().count());
}
