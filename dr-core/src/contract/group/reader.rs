//! Reads a type from JSON and keeps what was wrong as data: place, key, known keys. No message is ever taken apart.

use std::fmt;

use serde::{
    Deserialize,
    de::{
        self, DeserializeSeed, EnumAccess, Expected, IntoDeserializer, MapAccess, SeqAccess, Unexpected, VariantAccess,
        Visitor,
    },
    forward_to_deserialize_any,
};
use serde_json::{Map, Value, map};

use super::{ConfigError, ConfigFault, Key, KeyPath};

/// Reads a `T` from a configuration that lies at `place` of a larger one.
///
/// # Errors
/// A key is unknown or missing, or a value does not do.
pub fn read<'a, T: Deserialize<'a>>(value: &'a Value, place: &KeyPath) -> Result<T, ConfigError> {
    T::deserialize(Reader(value)).map_err(|fault| {
        let path = place.keys().iter().cloned().chain(fault.path.into_iter().rev()).collect();
        ConfigError::new(path, fault.what)
    })
}

/// A fault on its way out; the path is gathered innermost first.
#[derive(Debug)]
struct Faulty {
    path: Vec<Key>,
    what: ConfigFault,
}

impl Faulty {
    fn within(mut self, key: impl Into<Key>) -> Self {
        self.path.push(key.into());
        self
    }
}

impl From<ConfigFault> for Faulty {
    fn from(what: ConfigFault) -> Self {
        Self { path: Vec::new(), what }
    }
}

impl fmt::Display for Faulty {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.what)
    }
}

impl std::error::Error for Faulty {}

fn owned(words: &[&str]) -> Vec<String> {
    words.iter().map(|word| (*word).to_owned()).collect()
}

/// The type of a value, without the value: it might be a secret.
fn kind(found: Unexpected<'_>) -> String {
    match found {
        Unexpected::Bool(flag) => format!("{flag}"),
        Unexpected::Unsigned(_) | Unexpected::Signed(_) => "a number".into(),
        Unexpected::Float(_) => "a fraction".into(),
        Unexpected::Str(_) | Unexpected::Char(_) => "text".into(),
        Unexpected::Seq => "a list".into(),
        Unexpected::Map => "a table".into(),
        Unexpected::Unit | Unexpected::Option => "nothing".into(),
        Unexpected::Bytes(_) => "bytes".into(),
        Unexpected::NewtypeStruct
        | Unexpected::Enum
        | Unexpected::UnitVariant
        | Unexpected::NewtypeVariant
        | Unexpected::TupleVariant
        | Unexpected::StructVariant => "a choice".into(),
        Unexpected::Other(what) => what.into(),
    }
}

impl de::Error for Faulty {
    fn custom<T: fmt::Display>(message: T) -> Self {
        ConfigFault::Value { message: message.to_string() }.into()
    }

    fn invalid_type(found: Unexpected<'_>, expected: &dyn Expected) -> Self {
        ConfigFault::Type { found: kind(found), expected: expected.to_string() }.into()
    }

    fn invalid_value(found: Unexpected<'_>, expected: &dyn Expected) -> Self {
        ConfigFault::Type { found: format!("{} out of range", kind(found)), expected: expected.to_string() }.into()
    }

    fn unknown_field(field: &str, expected: &'static [&'static str]) -> Self {
        Self::from(ConfigFault::UnknownKey { known: owned(expected) }).within(field)
    }

    fn unknown_variant(variant: &str, expected: &'static [&'static str]) -> Self {
        ConfigFault::Choice { found: variant.into(), known: owned(expected) }.into()
    }

    fn missing_field(field: &'static str) -> Self {
        ConfigFault::MissingKey { key: field.into() }.into()
    }
}

#[derive(Clone, Copy)]
struct Reader<'a>(&'a Value);

impl<'de> de::Deserializer<'de> for Reader<'de> {
    type Error = Faulty;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Faulty> {
        match self.0 {
            Value::Null => visitor.visit_unit(),
            Value::Bool(flag) => visitor.visit_bool(*flag),
            Value::String(text) => visitor.visit_borrowed_str(text),
            Value::Number(number) => match (number.as_u64(), number.as_i64(), number.as_f64()) {
                (Some(number), _, _) => visitor.visit_u64(number),
                (None, Some(number), _) => visitor.visit_i64(number),
                (None, None, Some(number)) => visitor.visit_f64(number),
                (None, None, None) => Err(de::Error::custom("is a number out of range")),
            },
            Value::Array(items) => {
                let mut list = List { items: items.iter().enumerate(), length: items.len() };
                let value = visitor.visit_seq(&mut list)?;
                match list.items.len() {
                    0 => Ok(value),
                    rest => {
                        Err(de::Error::invalid_length(items.len(), &format!("{} items", items.len() - rest).as_str()))
                    }
                }
            }
            Value::Object(fields) => visitor.visit_map(Table { fields: fields.iter(), next: None }),
        }
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Faulty> {
        if self.0.is_null() { visitor.visit_none() } else { visitor.visit_some(self) }
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(self, _: &'static str, visitor: V) -> Result<V::Value, Faulty> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        known: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Faulty> {
        let one = |fields: &'de Map<String, Value>| fields.iter().next().filter(|_| fields.len() == 1);
        match self.0 {
            Value::String(name) => visitor.visit_enum(Variant { name, value: None }),
            Value::Object(fields) => match one(fields) {
                Some((name, value)) => visitor.visit_enum(Variant { name, value: Some(value) }),
                None => Err(de::Error::invalid_type(Unexpected::Map, &format!("one of {}", known.join(", ")).as_str())),
            },
            other @ (Value::Null | Value::Bool(_) | Value::Number(_) | Value::Array(_)) => {
                Reader(other).deserialize_any(Word(known)).map(|never| match never {})
            }
        }
    }

    fn deserialize_ignored_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Faulty> {
        visitor.visit_unit()
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf unit unit_struct seq tuple
        tuple_struct map struct identifier
    }
}

/// Refuses everything, in the words of the type that was expected.
struct Word(&'static [&'static str]);

enum Never {}

impl Visitor<'_> for Word {
    type Value = Never;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "one of {}", self.0.join(", "))
    }
}

struct List<'a> {
    items: std::iter::Enumerate<std::slice::Iter<'a, Value>>,
    length: usize,
}

impl<'de> SeqAccess<'de> for &mut List<'de> {
    type Error = Faulty;

    fn next_element_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<Option<T::Value>, Faulty> {
        let Some((index, item)) = self.items.next() else { return Ok(None) };
        seed.deserialize(Reader(item)).map(Some).map_err(|fault| fault.within(index))
    }

    fn size_hint(&self) -> Option<usize> {
        Some(self.length)
    }
}

struct Table<'a> {
    fields: map::Iter<'a>,
    next: Option<(&'a str, &'a Value)>,
}

impl<'de> MapAccess<'de> for Table<'de> {
    type Error = Faulty;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, Faulty> {
        let Some((name, value)) = self.fields.next() else { return Ok(None) };
        self.next = Some((name, value));
        seed.deserialize(de::value::BorrowedStrDeserializer::new(name)).map(Some)
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, Faulty> {
        let Some((name, value)) = self.next.take() else {
            return Err(de::Error::custom("a value was read before its key"));
        };
        seed.deserialize(Reader(value)).map_err(|fault| fault.within(name))
    }
}

struct Variant<'a> {
    name: &'a str,
    value: Option<&'a Value>,
}

impl<'de> EnumAccess<'de> for Variant<'de> {
    type Error = Faulty;
    type Variant = Self;

    fn variant_seed<V: DeserializeSeed<'de>>(self, seed: V) -> Result<(V::Value, Self), Faulty> {
        let name: de::value::StrDeserializer<'de, Faulty> = self.name.into_deserializer();
        Ok((seed.deserialize(name)?, self))
    }
}

impl Variant<'_> {
    fn inside<T>(&self, answer: Result<T, Faulty>) -> Result<T, Faulty> {
        answer.map_err(|fault| fault.within(self.name))
    }
}

impl<'de> VariantAccess<'de> for Variant<'de> {
    type Error = Faulty;

    fn unit_variant(self) -> Result<(), Faulty> {
        match self.value {
            None => Ok(()),
            Some(_) => self.inside(Err(de::Error::custom("takes no value"))),
        }
    }

    fn newtype_variant_seed<T: DeserializeSeed<'de>>(self, seed: T) -> Result<T::Value, Faulty> {
        let answer = seed.deserialize(Reader(self.value.unwrap_or(&Value::Null)));
        self.inside(answer)
    }

    fn tuple_variant<V: Visitor<'de>>(self, _: usize, visitor: V) -> Result<V::Value, Faulty> {
        let answer = de::Deserializer::deserialize_any(Reader(self.value.unwrap_or(&Value::Null)), visitor);
        self.inside(answer)
    }

    fn struct_variant<V: Visitor<'de>>(self, _: &'static [&'static str], visitor: V) -> Result<V::Value, Faulty> {
        let answer = de::Deserializer::deserialize_any(Reader(self.value.unwrap_or(&Value::Null)), visitor);
        self.inside(answer)
    }
}
