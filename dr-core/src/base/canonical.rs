//! Canonical JSON (RFC 8785) for everything that is journaled, approved or hashed.
//!
//! ```text
//!  any T: Serialize ──check by type──► serde_json::Value ──RFC 8785──► text ──SHA-256──► Digest
//!                        │
//!                        └─ u64, i64, u128, i128, f32, f64, keys that are no text: refused, with the field's path
//! ```
//!
//! # Guarantees
//! - Two equal values have the same text, whatever the order of their fields or the machine.
//! - What was written is read back as the same value by *every* JSON reader: a 64-bit number loses digits in readers that
//!   hold numbers as doubles, so it is refused here by its type, not by its size on the day. Use [`Int64`],
//!   [`Millis`](crate::base::Millis) or another type that is written as a decimal string.
//!
//! # Errors
//! All faults name the field's path and the type that helps.

mod checked;

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer, ser};
use serde_json::Value;
use sha2::{Digest as _, Sha256};

use crate::base::id::{Digest, decimal};

/// Turns a value into JSON that has a canonical form.
///
/// # Errors
/// The value holds a number or a map key that is not safe in a journal.
pub fn to_value<T: Serialize + ?Sized>(value: &T) -> Result<Value, CanonicalError> {
    value.serialize(checked::Checked)
}

/// The canonical text of a value.
///
/// # Errors
/// The value holds a number or a map key that is not safe in a journal.
pub fn to_string<T: Serialize + ?Sized>(value: &T) -> Result<String, CanonicalError> {
    write(&to_value(value)?)
}

/// The canonical text of a value as UTF-8.
///
/// # Errors
/// The value holds a number or a map key that is not safe in a journal.
pub fn to_bytes<T: Serialize + ?Sized>(value: &T) -> Result<Vec<u8>, CanonicalError> {
    to_string(value).map(String::into_bytes)
}

/// Whether a text is exactly what [`to_string`] writes for what it says.
///
/// A text with a number beyond 32 bits or with a fraction is not: nothing here writes one.
#[must_use]
pub fn is_canonical(text: &str) -> bool {
    let Ok(value) = serde_json::from_str::<Json>(text) else { return false };
    to_string(&value).is_ok_and(|canonical| canonical == text)
}

/// SHA-256.
#[must_use]
pub fn sha256(bytes: &[u8]) -> Digest {
    Digest::new(Sha256::digest(bytes).into())
}

/// The hash of one leaf of a Merkle tree (RFC 6962): a zero byte goes first, so that no leaf can pass for an inner node.
#[must_use]
pub fn leaf_hash(leaf: &[u8]) -> Digest {
    let mut hasher = Sha256::new();
    hasher.update([0]);
    hasher.update(leaf);
    Digest::new(hasher.finalize().into())
}

/// The SHA-256 of the canonical text of a value.
///
/// # Errors
/// The value holds a number or a map key that is not safe in a journal.
pub fn digest<T: Serialize + ?Sized>(value: &T) -> Result<Digest, CanonicalError> {
    Ok(sha256(&to_bytes(value)?))
}

fn write(value: &Value) -> Result<String, CanonicalError> {
    serde_json_canonicalizer::to_string(value).map_err(|error| CanonicalError::new(Fault::Other(error.to_string())))
}

/// A 64-bit number in something that is journaled; written as a decimal string.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Int64(pub i64);

impl fmt::Display for Int64 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl From<i64> for Int64 {
    fn from(number: i64) -> Self {
        Self(number)
    }
}

impl Serialize for Int64 {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for Int64 {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        decimal(deserializer, "a 64-bit number").map(Self)
    }
}

/// Free-form JSON inside something that is journaled: whole numbers of 32 bits pass, other numbers are refused.
#[derive(Clone, Debug, PartialEq, Eq, Default, Deserialize)]
#[serde(transparent)]
pub struct Json(pub Value);

impl From<Value> for Json {
    fn from(value: Value) -> Self {
        Self(value)
    }
}

impl Serialize for Json {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        Node(&self.0).serialize(serializer)
    }
}

/// One node of [`Json`].
struct Node<'a>(&'a Value);

impl Serialize for Node<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.0 {
            Value::Null => serializer.serialize_unit(),
            Value::Bool(flag) => serializer.serialize_bool(*flag),
            Value::String(text) => serializer.serialize_str(text),
            Value::Array(items) => serializer.collect_seq(items.iter().map(Node)),
            Value::Object(fields) => serializer.collect_map(fields.iter().map(|(name, value)| (name, Node(value)))),
            Value::Number(number) => {
                if let Some(small) = number.as_i64().and_then(|wide| i32::try_from(wide).ok()) {
                    serializer.serialize_i32(small)
                } else if let Some(small) = number.as_u64().and_then(|wide| u32::try_from(wide).ok()) {
                    serializer.serialize_u32(small)
                } else {
                    Err(ser::Error::custom(format_args!(
                        "holds the number {number}; only whole numbers of 32 bits are written as numbers: put it in quotes"
                    )))
                }
            }
        }
    }
}

/// A value that has no canonical form.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}", self.sentence())]
pub struct CanonicalError {
    /// Innermost first, because the path is gathered on the way out.
    path: Vec<Segment>,
    fault: Fault,
}

impl CanonicalError {
    fn new(fault: Fault) -> Self {
        Self { path: Vec::new(), fault }
    }

    fn in_field(mut self, name: impl Into<String>) -> Self {
        self.path.push(Segment::Field(name.into()));
        self
    }

    fn in_item(mut self, index: usize) -> Self {
        self.path.push(Segment::Item(index));
        self
    }

    /// Where the fault is, such as `steps[2].offset`; empty for the value itself.
    #[must_use]
    pub fn path(&self) -> String {
        let mut path = String::new();
        for segment in self.path.iter().rev() {
            match segment {
                Segment::Field(name) if path.is_empty() => path.push_str(name),
                Segment::Field(name) => {
                    path.push('.');
                    path.push_str(name);
                }
                Segment::Item(index) => path.push_str(&format!("[{index}]")),
            }
        }
        path
    }

    fn sentence(&self) -> String {
        let subject = if self.path.is_empty() { "the value".to_owned() } else { format!("field `{}`", self.path()) };
        match &self.fault {
            Fault::Wide(kind) => format!(
                "{subject} is a bare {kind}; journaled numbers over 32 bits lose digits in other readers: use `Int64` or \
                 `Millis`"
            ),
            Fault::Float(kind) => format!(
                "{subject} is a bare {kind}; fractions are not written alike by all writers: use whole units such as \
                 `Millis`, or text"
            ),
            Fault::Bytes => format!("{subject} is a row of bytes; write it as text, such as a `Digest`"),
            Fault::Key(kind) => format!("{subject} is a map with keys of type {kind}; keys are text: use a named type"),
            Fault::Twice(key) => format!("{subject} has the key `{key}` twice"),
            Fault::Other(message) => format!("{subject} {message}"),
        }
    }
}

impl ser::Error for CanonicalError {
    fn custom<T: fmt::Display>(message: T) -> Self {
        Self::new(Fault::Other(message.to_string()))
    }
}

#[derive(Debug, PartialEq, Eq)]
enum Segment {
    Field(String),
    Item(usize),
}

#[derive(Debug, PartialEq, Eq)]
enum Fault {
    Wide(&'static str),
    Float(&'static str),
    Bytes,
    Key(&'static str),
    Twice(String),
    Other(String),
}
