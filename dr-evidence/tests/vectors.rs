//! The public vectors of the formats. Those that fit on a page are typed in from the standard; the large ones are read from
//! `../shared/vectors` beside the repository when they are there, and have to be there under CI.
#![expect(clippy::panic, clippy::unwrap_used, clippy::print_stderr, reason = "tests")]

use std::{
    fs,
    path::{Path, PathBuf},
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use dr_core::base::{
    Digest, Json,
    canonical::{self, leaf_hash, sha256},
};
use dr_evidence::{
    key::{PublicKey, SecretKey},
    strict,
    tree::{self, Seen},
};
use serde::Deserialize;

/// A folder of the large vectors, beside the repository or beside the folder of its work trees. Absent ones are passed over with a line, but not under CI where their collection is present.
fn published(folder: &str) -> Option<PathBuf> {
    let all = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/vectors");
    let all = if all.is_dir() { all } else { Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/vectors") };
    let path = all.join(folder);
    if path.exists() {
        return Some(path);
    }
    let required = std::env::var("CI").is_ok_and(|ci| ci == "true") && all.is_dir();
    assert!(!required, "{} is missing", path.display());
    eprintln!("not checked here: {folder} (no ../shared/vectors)");
    None
}

fn json<T: serde::de::DeserializeOwned>(path: &Path) -> T {
    serde_json::from_slice(&fs::read(path).unwrap()).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn files_below(folder: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() { files.extend(files_below(&path)) } else { files.push(path) }
    }
    files.sort();
    files
}

fn hex(text: &str) -> Vec<u8> {
    (0..text.len()).step_by(2).map(|at| u8::from_str_radix(text.get(at..at + 2).unwrap(), 16).unwrap()).collect()
}

fn digest(text: &str) -> Option<Digest> {
    let bytes: [u8; 32] = STANDARD.decode(text).ok()?.try_into().ok()?;
    Some(Digest::new(bytes))
}

/// Some cases of growth have roots of twelve bytes, because only their equality counts: those are hashed.
fn compared(text: &str) -> Option<Digest> {
    digest(text).or_else(|| Some(sha256(&STANDARD.decode(text).ok()?)))
}

/// RFC 8032, section 7.1, tests 1 and 2: seed, public key, message, signature.
#[test]
fn ed25519_of_the_rfc() {
    let table = [
        (
            "9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60",
            "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a",
            "",
            "e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e065224901555fb8821590a33bacc61e39701cf9b46bd25bf5f0595bbe24655141438e7a100b",
        ),
        (
            "4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb",
            "3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c",
            "72",
            "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00",
        ),
    ];
    for (seed, public, message, signature) in table {
        let key = SecretKey::from_seed("rfc8032", &hex(seed).try_into().unwrap()).unwrap();
        assert_eq!(key.public().bytes().to_vec(), hex(public));
        assert_eq!(key.sign(&hex(message)).to_vec(), hex(signature));
        assert!(key.public().verifies(&hex(message), &hex(signature)));
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Wycheproof {
    number_of_tests: usize,
    test_groups: Vec<Group>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Group {
    public_key: Pk,
    tests: Vec<Case>,
}

#[derive(Deserialize)]
struct Pk {
    pk: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Case {
    tc_id: u32,
    msg: String,
    sig: String,
    result: String,
}

#[test]
fn ed25519_of_wycheproof() {
    let Some(path) = published("ed25519/wycheproof_ed25519_test.json") else { return };
    let all: Wycheproof = json(&path);
    let mut count = 0;
    for group in &all.test_groups {
        let key = PublicKey::new("wycheproof", &hex(&group.public_key.pk).try_into().unwrap());
        for case in &group.tests {
            let valid = key.as_ref().is_ok_and(|key| key.verifies(&hex(&case.msg), &hex(&case.sig)));
            assert_eq!(valid, case.result == "valid", "case {}", case.tc_id);
            count += 1;
        }
    }
    assert_eq!((count, all.number_of_tests), (151, 151));
}

#[derive(Deserialize)]
struct Edge {
    number: u32,
    key: String,
    sig: String,
    msg: String,
    flags: Option<Vec<String>>,
}

/// No signature passes whose key or whose R has a low order: such a signature holds for many messages, or for many keys.
#[test]
fn ed25519_edges_of_cctv() {
    let Some(path) = published("ed25519/cctv_ed25519vectors.json") else { return };
    let all: Vec<Edge> = json(&path);
    let mut accepted = 0;
    for edge in &all {
        let key = PublicKey::new("cctv", &hex(&edge.key).try_into().unwrap());
        let passes = key.is_ok_and(|key| key.verifies(edge.msg.as_bytes(), &hex(&edge.sig)));
        let flags = edge.flags.clone().unwrap_or_default();
        let low = flags
            .iter()
            .any(|flag| matches!(flag.as_str(), "low_order_A" | "low_order_R" | "non_canonical_A" | "non_canonical_R"));
        assert!(!passes || !low, "{}: {flags:?}", edge.number);
        accepted += u32::from(passes);
    }
    assert_eq!((all.len(), accepted), (914, 43));
}

/// `rfc6962_test.go` and `testonly/constants.go` of transparency-dev/merkle: hashes, and the roots of 0 to 8 leaves.
#[test]
fn merkle_hashes_and_roots() {
    assert_eq!(leaf_hash(b"").hex(), "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d");
    assert_eq!(leaf_hash(b"L123456").hex(), "395aa064aa4c29f7010acfe3f25db9485bbd4b91897b6ad7ad547639252b4d56");
    let leaves = ["", "00", "10", "2021", "3031", "40414243", "5051525354555657", "606162636465666768696a6b6c6d6e6f"];
    let leaves: Vec<Digest> = leaves.iter().map(|leaf| leaf_hash(&hex(leaf))).collect();
    let roots = [
        "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
        "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
        "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
        "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
        "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
        "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
        "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
        "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
        "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
    ];
    for (size, root) in roots.iter().enumerate() {
        assert_eq!(tree::root(&leaves[..size]).hex(), *root, "{size} leaves");
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Inclusion {
    leaf_idx: u64,
    tree_size: u64,
    root: String,
    leaf_hash: String,
    proof: Option<Vec<String>>,
    want_err: bool,
}

#[test]
fn merkle_proofs_of_inclusion() {
    let Some(folder) = published("merkle/inclusion") else { return };
    let mut valid = 0;
    let files = files_below(&folder);
    for path in &files {
        let case: Inclusion = json(path);
        let proof: Option<Vec<Digest>> = case.proof.unwrap_or_default().iter().map(|hash| digest(hash)).collect();
        let holds = match (digest(&case.leaf_hash), proof, digest(&case.root)) {
            (Some(leaf), Some(proof), Some(root)) => {
                tree::proves_inclusion(&leaf, case.leaf_idx, case.tree_size, &proof, &root)
            }
            _ => false,
        };
        assert_eq!(holds, !case.want_err, "{}", path.display());
        valid += u32::from(holds);
    }
    assert_eq!((files.len(), valid), (98, 6));
}

#[derive(Deserialize)]
struct Consistency {
    size1: u64,
    size2: u64,
    root1: String,
    root2: String,
    proof: Option<Vec<String>>,
    #[serde(rename = "wantErr")]
    want_err: bool,
}

#[test]
fn merkle_proofs_of_growth() {
    let Some(folder) = published("merkle/consistency") else { return };
    let mut valid = 0;
    let files = files_below(&folder);
    for path in &files {
        let case: Consistency = json(path);
        let proof: Option<Vec<Digest>> = case.proof.unwrap_or_default().iter().map(|hash| digest(hash)).collect();
        let holds = match (compared(&case.root1), compared(&case.root2), proof) {
            (Some(one), Some(two), Some(proof)) => {
                let (old, new) = (Seen { size: case.size1, root: one }, Seen { size: case.size2, root: two });
                tree::proves_consistency(&old, &new, &proof)
            }
            _ => false,
        };
        assert_eq!(holds, !case.want_err, "{}", path.display());
        valid += u32::from(holds);
    }
    assert_eq!((files.len(), valid), (98, 6));
}

/// RFC 8785, section 3.2.3: keys are sorted by UTF-16 code units.
#[test]
fn canonical_order_of_the_rfc() {
    let text = "{\"\\r\":\"Carriage Return\",\"1\":\"One\",\"\u{80}\":\"Control\",\"ö\":\"Latin Small Letter O With Diaeresis\",\
                \"€\":\"Euro Sign\",\"😀\":\"Emoji: Grinning Face\",\"\u{fb33}\":\"Hebrew Letter Dalet With Dagesh\"}";
    assert!(strict::parse(text.as_bytes()).is_ok());
    let swapped = text.replace("\"1\":\"One\",\"\u{80}\":\"Control\"", "\"\u{80}\":\"Control\",\"1\":\"One\"");
    assert!(strict::parse(swapped.as_bytes()).is_err());
}

/// The outputs are read, but for those with numbers that a bundle never holds; the inputs are other bytes and refused.
#[test]
fn canonical_files() {
    let Some(folder) = published("jcs") else { return };
    for name in ["arrays", "french", "structures", "unicode", "values", "weird"] {
        let output = fs::read(folder.join(format!("output/{name}.json"))).unwrap();
        let input = fs::read(folder.join(format!("input/{name}.json"))).unwrap();
        let octets = fs::read_to_string(folder.join(format!("outhex/{name}.txt"))).unwrap();
        assert_eq!(hex(&octets.split_whitespace().collect::<String>()), output, "{name}");
        assert!(strict::parse(&input).is_err(), "{name}");
        match strict::parse(&output) {
            Ok(value) => assert_eq!(canonical::to_bytes(&Json(value)).unwrap(), output, "{name}"),
            Err(error) => assert!(name == "values" && matches!(error, strict::NotStrict::NoForm(_)), "{name}: {error}"),
        }
    }
}

/// A number is read only if it is a whole one of 32 bits in its only text.
#[test]
fn canonical_numbers() {
    let Some(path) = published("jcs/es6_numbers_10000.txt") else { return };
    let bytes = fs::read(path).unwrap();
    assert_eq!(sha256(&bytes).hex(), "b9f7a8e75ef22a835685a52ccba7f7d6bdc99e34b010992cbc5864cd12be6892");
    let mut read = 0;
    for row in std::str::from_utf8(&bytes).unwrap().lines() {
        let (_, text) = row.split_once(',').unwrap();
        let small = text.parse::<i32>().is_ok() || text.parse::<u32>().is_ok();
        assert_eq!(strict::parse(text.as_bytes()).is_ok(), small, "{text}");
        read += u32::from(small);
    }
    assert!(read > 5, "{read}");
}
