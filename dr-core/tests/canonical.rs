//! Canonical JSON against the test files of RFC 8785, and the refusals that keep journals readable by everybody.
#![expect(clippy::panic, reason = "tests")]

use std::collections::BTreeMap;

use dr_core::base::canonical::{self, CanonicalError, Int64, Json};
use proptest::prelude::*;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

macro_rules! data {
    ($($path:literal),+) => {
        include_str!(concat!("data/jcs/", $($path),+))
    };
}

macro_rules! vector {
    ($name:literal) => {
        ($name, data!("input/", $name, ".json"), data!("output/", $name, ".json"))
    };
}

/// Vectors whose numbers lie within what is journaled go through our own door; 56.0 becomes 56 first.
#[test]
fn published_vectors_within_our_numbers() {
    for (name, input, output) in [vector!("arrays"), vector!("french"), vector!("unicode"), vector!("weird")] {
        let input: Json = serde_json::from_str(input).unwrap();
        assert_eq!(canonical::to_string(&input).unwrap(), output, "{name}");
        assert!(canonical::is_canonical(output), "{name}");
    }
    let (_, input, output) = vector!("structures");
    let input: Json = serde_json::from_str(&input.replace("56.0", "56")).unwrap();
    assert_eq!(canonical::to_string(&input).unwrap(), output);
}

/// The vectors with fractions hold the writer beneath to the standard; our own door refuses them.
#[test]
fn published_vectors_beyond_our_numbers() {
    let (_, input, output) = vector!("values");
    let input: Value = serde_json::from_str(input).unwrap();
    assert_eq!(serde_json_canonicalizer::to_string(&input).unwrap(), output);
    let refused = canonical::to_string(&Json(input)).unwrap_err();
    assert_eq!(refused.path(), "numbers[0]");
    assert!(!canonical::is_canonical(output));
}

#[test]
fn published_numbers() {
    let mut rows = 0;
    for row in data!("numbers.txt").lines() {
        let (bits, text) = row.split_once(',').unwrap();
        let number = f64::from_bits(u64::from_str_radix(bits, 16).unwrap());
        assert_eq!(serde_json_canonicalizer::to_string(&number).unwrap(), text, "{bits}");
        rows += 1;
    }
    assert!(rows > 100, "{rows}");
}

#[derive(Serialize)]
struct Plan<T> {
    steps: Step<T>,
}

#[derive(Serialize)]
struct Step<T> {
    offset: T,
}

fn refusal<T: Serialize>(value: &T) -> CanonicalError {
    match canonical::to_string(value) {
        Ok(text) => panic!("written as {text}"),
        Err(error) => error,
    }
}

/// Refused by type: the value 1 would be harmless, the value of another day is not.
#[test]
fn wide_numbers_and_fractions_are_refused_by_type() {
    let message = |error: CanonicalError| error.to_string();
    assert_eq!(
        message(refusal(&Plan { steps: Step { offset: 1_u64 } })),
        "field `steps.offset` is a bare u64; journaled numbers over 32 bits lose digits in other readers: use `Int64` or \
         `Millis`"
    );
    assert!(message(refusal(&Plan { steps: Step { offset: 1_i64 } })).contains("a bare i64"));
    assert!(message(refusal(&Plan { steps: Step { offset: 1_u128 } })).contains("a bare u128"));
    assert!(message(refusal(&Plan { steps: Step { offset: 1_i128 } })).contains("a bare i128"));
    assert!(message(refusal(&Plan { steps: Step { offset: 1_usize } })).contains("a bare u64"));
    assert!(message(refusal(&Plan { steps: Step { offset: 1.0_f64 } })).contains("`steps.offset` is a bare f64"));
    assert!(message(refusal(&Plan { steps: Step { offset: 1.0_f32 } })).contains("a bare f32"));
    assert!(message(refusal(&7_u64)).starts_with("the value is a bare u64"));
    assert_eq!(canonical::to_string(&(1_u8, -1_i8, u32::MAX, i32::MIN)).unwrap(), "[1,-1,4294967295,-2147483648]");
}

#[test]
fn the_path_leads_through_lists_maps_options_and_variants() {
    #[derive(Serialize)]
    enum Event {
        Sampled(Vec<Option<Position>>),
        Moved { by: u64 },
        Pair(u8, f64),
    }
    #[derive(Serialize)]
    struct Position {
        at: BTreeMap<&'static str, i64>,
    }
    let sampled = Event::Sampled(vec![None, Some(Position { at: BTreeMap::from([("pg1", 4)]) })]);
    assert_eq!(refusal(&sampled).path(), "Sampled[1].at.pg1");
    assert_eq!(refusal(&vec![Event::Moved { by: 1 }]).path(), "[0].Moved.by");
    assert_eq!(refusal(&Event::Pair(1, 1.0)).path(), "Pair[1]");
}

#[test]
fn keys_are_text() {
    let by_number = BTreeMap::from([(1_u32, "a")]);
    assert!(
        refusal(&Plan { steps: Step { offset: by_number } })
            .to_string()
            .starts_with("field `steps.offset` is a map with keys of type u32")
    );
    assert!(refusal(&BTreeMap::from([(true, 1)])).to_string().contains("type bool"));
    assert!(refusal(&BTreeMap::from([((1, 2), 1)])).to_string().contains("a compound"));
    assert_eq!(canonical::to_string(&BTreeMap::from([('a', 1)])).unwrap(), r#"{"a":1}"#);
}

/// Flattening can name one key twice; readers disagree on which one counts.
#[test]
fn a_key_written_twice_is_refused() {
    #[derive(Serialize)]
    struct Outer {
        name: &'static str,
        #[serde(flatten)]
        rest: BTreeMap<&'static str, u8>,
    }
    let twice = Outer { name: "a", rest: BTreeMap::from([("name", 1)]) };
    assert_eq!(refusal(&twice).to_string(), "the value has the key `name` twice");
}

#[test]
fn free_json_takes_numbers_of_32_bits_only() {
    let held = Json(json!({"b": [1, -1, 4_294_967_295_u32], "a": null}));
    assert_eq!(canonical::to_string(&held).unwrap(), r#"{"a":null,"b":[1,-1,4294967295]}"#);
    let wide = refusal(&Plan { steps: Step { offset: Json(json!({"n": [0, 4_294_967_296_u64]})) } });
    assert_eq!(wide.path(), "steps.offset.n[1]");
    assert!(wide.to_string().contains("holds the number 4294967296"), "{wide}");
    assert!(refusal(&Json(json!(0.5))).to_string().contains("0.5"));
    assert!(refusal(&Json(json!(-2_147_483_649_i64))).to_string().contains("-2147483649"));
    assert!(refusal(&json!({"n": 1})).to_string().contains("field `n` is a bare u64"), "bare Value is no way round");
}

#[test]
fn wide_numbers_travel_as_text() {
    assert_eq!(canonical::to_string(&Int64(i64::MIN)).unwrap(), r#""-9223372036854775808""#);
    assert_eq!(serde_json::from_str::<Int64>(r#""9007199254740993""#).unwrap(), Int64(9_007_199_254_740_993));
    assert!(serde_json::from_str::<Int64>("5").is_err());
}

#[test]
fn canonical_text_is_told_from_other_text() {
    assert!(canonical::is_canonical(r#"{"a":1,"b":[true,null,"x"]}"#));
    for other in [
        r#"{"b":1,"a":2}"#,
        r#"{"a": 1}"#,
        r#"{"a":1,"a":1}"#,
        r#"{"a":1}"#.trim_end_matches('}'),
        r#""\u0041""#,
        "1.0",
        "-0",
        "1e3",
        "4294967296",
        "null\n",
        "",
    ] {
        assert!(!canonical::is_canonical(other), "{other}");
    }
}

/// FIPS 180-2 and RFC 6962 (the leaf hash of no bytes) examples.
#[test]
fn hashes_are_the_published_ones() {
    let abc = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
    assert_eq!(canonical::sha256(b"abc").hex(), abc);
    let empty_leaf = "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d";
    assert_eq!(canonical::leaf_hash(b"").hex(), empty_leaf);
    let value = json!({"a": "b"});
    assert_eq!(canonical::digest(&value).unwrap(), canonical::sha256(br#"{"a":"b"}"#));
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Sample {
    zulu: String,
    alpha: Option<Int64>,
    mike: BTreeMap<String, Vec<i32>>,
}

fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i32>().prop_map(Value::from),
        any::<u32>().prop_map(Value::from),
        any::<String>().prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 40, 6, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..6).prop_map(Value::from),
            prop::collection::btree_map(any::<String>(), inner, 0..6)
                .prop_map(|map| Value::Object(map.into_iter().collect())),
        ]
    })
}

proptest! {
    #[test]
    fn what_is_written_is_read_back(
        zulu in any::<String>(),
        alpha in any::<Option<i64>>(),
        mike in prop::collection::btree_map(any::<String>(), prop::collection::vec(any::<i32>(), 0..4), 0..4),
    ) {
        let sample = Sample { zulu, alpha: alpha.map(Int64), mike };
        let text = canonical::to_string(&sample).unwrap();
        prop_assert!(canonical::is_canonical(&text));
        prop_assert_eq!(serde_json::from_str::<Sample>(&text).unwrap(), sample);
    }

    /// Keys stand in the order of their UTF-16 code units, at every level; writing twice changes nothing.
    #[test]
    fn keys_are_sorted_and_the_form_is_stable(value in any_json()) {
        let text = canonical::to_string(&Json(value.clone())).unwrap();
        let again: Json = serde_json::from_str(&text).unwrap();
        prop_assert_eq!(&again.0, &value);
        prop_assert_eq!(canonical::to_string(&again).unwrap(), text.clone());
        if let Value::Object(fields) = &value {
            let mut keys: Vec<_> = fields.keys().collect();
            keys.sort_by_key(|key| key.encode_utf16().collect::<Vec<_>>());
            let mut rest = text.as_str();
            for key in keys {
                let written = format!("{}:", serde_json_canonicalizer::to_string(key).unwrap());
                let at = rest.find(&written);
                prop_assert!(at.is_some(), "{} not after its predecessor in {}", key, text);
                rest = &rest[at.unwrap() + written.len()..];
            }
        }
    }
}
