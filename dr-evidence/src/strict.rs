//! JSON that has one reading: no key twice, and byte for byte the canonical form (RFC 8785) of what it says.

use std::fmt;

use dr_core::base::{Json, canonical};
use serde::{
    Deserialize, Deserializer, Serialize,
    de::{self, DeserializeOwned, MapAccess, SeqAccess, Visitor},
};
use serde_json::{Map, Number, Value};

/// The most bytes that one JSON text of a bundle may have: 64 MiB, far above the largest plan or line that was seen (1 MiB).
pub const MOST_BYTES: usize = 64 << 20;

/// Bytes that are no canonical JSON.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotStrict {
    /// They are more than [`MOST_BYTES`].
    #[error("it has {0} bytes; at most {MOST_BYTES} are read")]
    TooLong(usize),
    /// They are no JSON, hold a key twice, or lie too deep.
    #[error("it is no JSON that has one reading: {0}")]
    Json(String),
    /// They hold something that has no canonical form, such as a fraction.
    #[error("it has no canonical form: {0}")]
    NoForm(String),
    /// They say the same as their canonical form in other bytes.
    #[error("it is not in its canonical form (RFC 8785); the first byte that differs is number {0}")]
    Form(usize),
    /// They are not what was expected there.
    #[error("it is not of the expected form: {0}")]
    Shape(String),
}

/// Reads a value that is stored in its canonical form.
///
/// # Errors
/// [`NotStrict`] for a key that stands twice, more than 128 levels, a number that is no whole number of 32 bits, and any other
/// bytes than `canonical(value)`.
pub fn parse(bytes: &[u8]) -> Result<Value, NotStrict> {
    if bytes.len() > MOST_BYTES {
        return Err(NotStrict::TooLong(bytes.len()));
    }
    let Once(value) = serde_json::from_slice(bytes).map_err(|error| NotStrict::Json(error.to_string()))?;
    let value = Json(value);
    let form = canonical::to_bytes(&value).map_err(|error| NotStrict::NoForm(error.to_string()))?;
    if form != bytes {
        let same = form.iter().zip(bytes).take_while(|(one, other)| one == other).count();
        return Err(NotStrict::Form(same.saturating_add(1)));
    }
    Ok(value.0)
}

/// Reads a type that is stored in its canonical form. A field that the type does not know is refused: it would be lost.
///
/// # Errors
/// [`NotStrict`].
pub fn from_slice<T: DeserializeOwned + Serialize>(bytes: &[u8]) -> Result<T, NotStrict> {
    let shape = |error: &dyn fmt::Display| NotStrict::Shape(error.to_string());
    let value: T = serde_json::from_value(parse(bytes)?).map_err(|error| shape(&error))?;
    let again = canonical::to_bytes(&value).map_err(|error| shape(&error))?;
    if again != bytes {
        return Err(NotStrict::Shape("it holds a field that this version does not know".to_owned()));
    }
    Ok(value)
}

/// A value in which no object has a key twice.
struct Once(Value);

impl<'de> Deserialize<'de> for Once {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Reader).map(Self)
    }
}

struct Reader;

impl<'de> Visitor<'de> for Reader {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_bool<E: de::Error>(self, flag: bool) -> Result<Value, E> {
        Ok(Value::Bool(flag))
    }

    fn visit_i64<E: de::Error>(self, number: i64) -> Result<Value, E> {
        Ok(number.into())
    }

    fn visit_u64<E: de::Error>(self, number: u64) -> Result<Value, E> {
        Ok(number.into())
    }

    fn visit_f64<E: de::Error>(self, number: f64) -> Result<Value, E> {
        Number::from_f64(number).map(Value::Number).ok_or_else(|| E::custom("a number is not finite"))
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Value, E> {
        Ok(text.into())
    }

    fn visit_string<E: de::Error>(self, text: String) -> Result<Value, E> {
        Ok(text.into())
    }

    fn visit_unit<E: de::Error>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let mut list = Vec::new();
        while let Some(Once(item)) = items.next_element()? {
            list.push(item);
        }
        Ok(Value::Array(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Value, A::Error> {
        let mut object = Map::new();
        while let Some((key, Once(value))) = entries.next_entry::<String, Once>()? {
            if object.contains_key(&key) {
                return Err(de::Error::custom(format_args!("the key `{key}` stands twice")));
            }
            object.insert(key, value);
        }
        Ok(Value::Object(object))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn canonical_text_is_read() {
        let text = r#"{"a":[1,true,null,"é"],"b":{"c":-1}}"#;
        assert_eq!(parse(text.as_bytes()).unwrap(), serde_json::from_str::<Value>(text).unwrap());
    }

    #[test]
    fn key_that_stands_twice_is_refused_at_any_depth() {
        for text in [r#"{"a":1,"a":1}"#, r#"[{"b":{"a":1,"a":2}}]"#, r#"{"\u0061":1,"a":1}"#] {
            let error = parse(text.as_bytes()).unwrap_err();
            assert!(error.to_string().contains("the key `a` stands twice"), "{error}");
        }
    }

    #[test]
    fn other_bytes_for_the_same_value_are_refused_with_their_place() {
        assert_eq!(parse(br#"{"a": 1}"#), Err(NotStrict::Form(6)));
        assert_eq!(parse(br#"{"b":1,"a":1}"#), Err(NotStrict::Form(3)));
        assert_eq!(parse(b"[1]\n"), Err(NotStrict::Form(4)));
        assert_eq!(parse(br#""\u0041""#), Err(NotStrict::Form(2)));
        assert_eq!(parse(br#""\/""#), Err(NotStrict::Form(2)));
        assert_eq!(parse(b"-0").unwrap_err().to_string().split(':').next().unwrap(), "it has no canonical form");
    }

    #[test]
    fn number_that_readers_may_round_is_refused() {
        for text in ["9007199254740993", "1.5", "1e3", "1.0", "4294967296"] {
            assert!(matches!(parse(text.as_bytes()), Err(NotStrict::NoForm(_))), "{text}");
        }
    }

    #[test]
    fn no_json_is_refused_without_a_panic() {
        for bytes in [&b""[..], b"{", b"\xff", b"\xef\xbb\xbf{}", b"\"\\ud800\"", b"NaN", b"{}{}", b"01"] {
            assert!(matches!(parse(bytes), Err(NotStrict::Json(_))), "{bytes:?}");
        }
        let deep = "[".repeat(100_000);
        assert!(parse(deep.as_bytes()).unwrap_err().to_string().contains("recursion limit"));
    }
}
