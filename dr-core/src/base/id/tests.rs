use super::*;

fn slug(group: &str, node: &str) -> String {
    RunId::new(GroupName::new(group), 17).key(&Digest::new([7; 32]), &NodeId::new(node)).slug()
}

/// Two groups whose names began alike shared all but 16 bits of a snapshot's name.
#[test]
fn bug_long_names_that_begin_alike_differ_in_64_bits() {
    let long = "payments-of-the-northern-countries-".to_owned();
    let (one, two) = (slug(&(long.clone() + "a"), "snapshot"), slug(&(long + "b"), "snapshot"));
    let (text, hash) = one.rsplit_once('-').unwrap();
    let (other_text, other_hash) = two.rsplit_once('-').unwrap();
    assert_eq!((text, hash.len(), other_text), ("payments-of-the-northern", 16, "payments-of-the-northern"));
    assert_ne!(hash, other_hash);
}

#[test]
fn a_slug_is_a_name_on_every_cloud() {
    let table = [
        ("orders", "final-snapshot", "orders-17-final-snapshot-"),
        ("orders", "fence.undo", "orders-17-fence-undo-"),
        ("a__b", "-x-", "a-b-17-x-"),
        ("3d", "x", "dr-3d-17-x-"),
        ("abcdefghijklmnopqrstuvw", "x", "abcdefghijklmnopqrstuvw-"),
        ("\u{e4}\u{e4}", "X", "dr-17-x-"),
    ];
    for (group, node, begins) in table {
        let name = slug(group, node);
        let rest = name.strip_prefix(begins).unwrap_or_else(|| panic!("{name} does not begin with {begins}"));
        assert_eq!(rest.len(), 16, "{name}");
        assert!(name.len() <= 41 && name.starts_with(|c: char| c.is_ascii_lowercase()), "{name}");
        assert!(name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-'), "{name}");
        assert!(!name.contains("--") && !name.ends_with('-'), "{name}");
    }
}
