//! The folders of the core are layers: each may name those below it and none above. The test reads the files.

#![expect(clippy::unwrap_used, clippy::disallowed_methods, reason = "a test that reads the repository's own sources")]

use std::{collections::BTreeSet, fs, path::Path};

/// From the lowest to the highest.
const LAYERS: [&str; 5] = ["base", "contract", "plan", "run", "show"];

/// The names that a source takes from the root of its crate: `crate::a::b` gives `a`, `crate::{a::b, c}` gives `a` and `c`.
fn named(source: &str) -> BTreeSet<String> {
    let code: String =
        source.lines().filter(|line| !line.trim_start().starts_with("//")).collect::<Vec<_>>().join("\n");
    let mut names = BTreeSet::new();
    for part in code.split("crate::").skip(1) {
        if !part.starts_with(|sign: char| sign.is_alphabetic() || sign == '{') {
            continue;
        }
        let Some(list) = part.strip_prefix('{') else {
            names.insert(first_word(part));
            continue;
        };
        let mut depth = 1_u32;
        let mut start = true;
        for (at, sign) in list.char_indices() {
            match sign {
                '{' => depth += 1,
                '}' => depth -= 1,
                ',' => start = depth == 1,
                _ if start && depth == 1 && sign.is_alphabetic() => {
                    names.insert(first_word(list.get(at..).unwrap()));
                    start = false;
                }
                _ => {}
            }
            if depth == 0 {
                break;
            }
        }
    }
    names
}

fn first_word(text: &str) -> String {
    text.chars().take_while(|sign| sign.is_alphanumeric() || *sign == '_').collect()
}

/// The layers above `own` that a source names, and whatever it names that is no layer: the flat names are for those outside.
fn above(own: &str, source: &str) -> Vec<String> {
    let height = LAYERS.iter().position(|layer| *layer == own).unwrap();
    let allowed = LAYERS.get(..=height).unwrap();
    named(source).into_iter().filter(|name| !allowed.contains(&name.as_str())).collect()
}

fn sources(folder: &Path, found: &mut Vec<(String, String)>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|ext| ext == "rs") {
            found.push((path.display().to_string(), fs::read_to_string(&path).unwrap()));
        }
    }
}

#[test]
fn a_layer_names_only_what_lies_below_it() {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let folders: BTreeSet<String> = fs::read_dir(&src)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| name != "lib.rs")
        .collect();
    assert_eq!(folders, LAYERS.map(str::to_owned).into(), "every source lies in a layer");
    for layer in LAYERS {
        let mut files = Vec::new();
        sources(&src.join(layer), &mut files);
        assert!(!files.is_empty());
        for (path, text) in files.into_iter().filter(|(path, _)| !path.contains("/tests")) {
            let wrong = above(layer, text.split("#[cfg(test)]\nmod tests {").next().unwrap());
            assert!(wrong.is_empty(), "{path} lies in `{layer}` and names {wrong:?}");
        }
    }
}

#[test]
fn a_layer_that_names_what_lies_above_it_is_found() {
    let nested =
        "use crate::{\n    base::{Millis, seconds},\n    contract::{guard::{A, B}, wire},\n    run::Journal,\n};";
    assert_eq!(named(nested), ["base", "contract", "run"].map(str::to_owned).into());
    assert_eq!(above("plan", nested), ["run"]);
    assert_eq!(above("contract", "fn f() -> crate::plan::Plan {}"), ["plan"]);
    assert_eq!(above("base", "use crate::MemberId;"), ["MemberId"], "flat names hide the layer");
    assert!(above("show", nested).is_empty());
    assert!(above("base", "/// See [`crate::run`].").is_empty(), "documentation may point upwards");
}

#[test]
fn about_forty_names_lie_flat() {
    let text = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("src/lib.rs")).unwrap();
    let lists = text.split("pub use ").skip(1).filter_map(|part| part.split(';').next());
    let names = lists.flat_map(|list| list.split(|sign: char| !sign.is_alphanumeric() && sign != '_'));
    let names: BTreeSet<&str> = names.filter(|name| !name.is_empty() && !LAYERS.contains(name)).collect();
    assert!((35..=55).contains(&names.len()), "{} names: {names:?}", names.len());
}
