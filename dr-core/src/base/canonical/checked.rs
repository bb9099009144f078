//! The serializer that refuses by type what has no safe canonical form.

use serde::ser::{
    self, Impossible, Serialize, SerializeMap, SerializeSeq, SerializeStruct, SerializeStructVariant, SerializeTuple,
    SerializeTupleStruct, SerializeTupleVariant, Serializer,
};
use serde_json::{Map, Value};

use super::{CanonicalError, Fault};

type Answer = Result<Value, CanonicalError>;

/// Writes a [`Value`], or says which field cannot be journaled.
pub(super) struct Checked;

fn wide(kind: &'static str) -> Answer {
    Err(CanonicalError::new(Fault::Wide(kind)))
}

fn float(kind: &'static str) -> Answer {
    Err(CanonicalError::new(Fault::Float(kind)))
}

impl Serializer for Checked {
    type Ok = Value;
    type Error = CanonicalError;
    type SerializeSeq = Items;
    type SerializeTuple = Items;
    type SerializeTupleStruct = Items;
    type SerializeTupleVariant = Items;
    type SerializeMap = Fields;
    type SerializeStruct = Fields;
    type SerializeStructVariant = Fields;

    fn serialize_bool(self, value: bool) -> Answer {
        Ok(Value::Bool(value))
    }

    fn serialize_i8(self, value: i8) -> Answer {
        Ok(value.into())
    }

    fn serialize_i16(self, value: i16) -> Answer {
        Ok(value.into())
    }

    fn serialize_i32(self, value: i32) -> Answer {
        Ok(value.into())
    }

    fn serialize_u8(self, value: u8) -> Answer {
        Ok(value.into())
    }

    fn serialize_u16(self, value: u16) -> Answer {
        Ok(value.into())
    }

    fn serialize_u32(self, value: u32) -> Answer {
        Ok(value.into())
    }

    fn serialize_i64(self, _: i64) -> Answer {
        wide("i64")
    }

    fn serialize_u64(self, _: u64) -> Answer {
        wide("u64")
    }

    fn serialize_i128(self, _: i128) -> Answer {
        wide("i128")
    }

    fn serialize_u128(self, _: u128) -> Answer {
        wide("u128")
    }

    fn serialize_f32(self, _: f32) -> Answer {
        float("f32")
    }

    fn serialize_f64(self, _: f64) -> Answer {
        float("f64")
    }

    fn serialize_bytes(self, _: &[u8]) -> Answer {
        Err(CanonicalError::new(Fault::Bytes))
    }

    fn serialize_char(self, value: char) -> Answer {
        Ok(Value::String(value.into()))
    }

    fn serialize_str(self, value: &str) -> Answer {
        Ok(Value::String(value.to_owned()))
    }

    fn serialize_none(self) -> Answer {
        Ok(Value::Null)
    }

    fn serialize_some<T: Serialize + ?Sized>(self, value: &T) -> Answer {
        value.serialize(self)
    }

    fn serialize_unit(self) -> Answer {
        Ok(Value::Null)
    }

    fn serialize_unit_struct(self, _: &'static str) -> Answer {
        Ok(Value::Null)
    }

    fn serialize_unit_variant(self, _: &'static str, _: u32, variant: &'static str) -> Answer {
        self.serialize_str(variant)
    }

    fn serialize_newtype_struct<T: Serialize + ?Sized>(self, _: &'static str, value: &T) -> Answer {
        value.serialize(self)
    }

    fn serialize_newtype_variant<T: Serialize + ?Sized>(
        self,
        _: &'static str,
        _: u32,
        variant: &'static str,
        value: &T,
    ) -> Answer {
        let value = value.serialize(self).map_err(|error| error.in_field(variant))?;
        Ok(wrap(variant, value))
    }

    fn serialize_seq(self, _: Option<usize>) -> Result<Items, CanonicalError> {
        Ok(Items::default())
    }

    fn serialize_tuple(self, _: usize) -> Result<Items, CanonicalError> {
        Ok(Items::default())
    }

    fn serialize_tuple_struct(self, _: &'static str, _: usize) -> Result<Items, CanonicalError> {
        Ok(Items::default())
    }

    fn serialize_tuple_variant(
        self,
        _: &'static str,
        _: u32,
        variant: &'static str,
        _: usize,
    ) -> Result<Items, CanonicalError> {
        Ok(Items { variant: Some(variant), ..Items::default() })
    }

    fn serialize_map(self, _: Option<usize>) -> Result<Fields, CanonicalError> {
        Ok(Fields::default())
    }

    fn serialize_struct(self, _: &'static str, _: usize) -> Result<Fields, CanonicalError> {
        Ok(Fields::default())
    }

    fn serialize_struct_variant(
        self,
        _: &'static str,
        _: u32,
        variant: &'static str,
        _: usize,
    ) -> Result<Fields, CanonicalError> {
        Ok(Fields { variant: Some(variant), ..Fields::default() })
    }
}

fn wrap(variant: &'static str, value: Value) -> Value {
    Value::Object(Map::from_iter([(variant.to_owned(), value)]))
}

/// A list on its way.
#[derive(Default)]
pub(super) struct Items {
    variant: Option<&'static str>,
    items: Vec<Value>,
}

impl Items {
    fn push<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), CanonicalError> {
        let item = value.serialize(Checked).map_err(|error| {
            let error = error.in_item(self.items.len());
            match self.variant {
                Some(variant) => error.in_field(variant),
                None => error,
            }
        })?;
        self.items.push(item);
        Ok(())
    }

    fn done(self) -> Value {
        let items = Value::Array(self.items);
        match self.variant {
            Some(variant) => wrap(variant, items),
            None => items,
        }
    }
}

/// A map on its way.
#[derive(Default)]
pub(super) struct Fields {
    variant: Option<&'static str>,
    key: Option<String>,
    fields: Map<String, Value>,
}

impl Fields {
    fn insert<T: Serialize + ?Sized>(&mut self, key: &str, value: &T) -> Result<(), CanonicalError> {
        let outside = |error: CanonicalError| match self.variant {
            Some(variant) => error.in_field(variant),
            None => error,
        };
        let value = value.serialize(Checked).map_err(|error| outside(error.in_field(key)))?;
        if self.fields.insert(key.to_owned(), value).is_some() {
            return Err(outside(CanonicalError::new(Fault::Twice(key.to_owned()))));
        }
        Ok(())
    }

    fn done(self) -> Value {
        let fields = Value::Object(self.fields);
        match self.variant {
            Some(variant) => wrap(variant, fields),
            None => fields,
        }
    }
}

macro_rules! list {
    ($($trait:ident :: $method:ident),*) => {$(
        impl $trait for Items {
            type Ok = Value;
            type Error = CanonicalError;

            fn $method<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), CanonicalError> {
                self.push(value)
            }

            fn end(self) -> Answer {
                Ok(self.done())
            }
        }
    )*};
}

list!(
    SerializeSeq::serialize_element,
    SerializeTuple::serialize_element,
    SerializeTupleStruct::serialize_field,
    SerializeTupleVariant::serialize_field
);

macro_rules! record {
    ($($trait:ident),*) => {$(
        impl $trait for Fields {
            type Ok = Value;
            type Error = CanonicalError;

            fn serialize_field<T: Serialize + ?Sized>(
                &mut self,
                key: &'static str,
                value: &T,
            ) -> Result<(), CanonicalError> {
                self.insert(key, value)
            }

            fn end(self) -> Answer {
                Ok(self.done())
            }
        }
    )*};
}

record!(SerializeStruct, SerializeStructVariant);

impl SerializeMap for Fields {
    type Ok = Value;
    type Error = CanonicalError;

    fn serialize_key<T: Serialize + ?Sized>(&mut self, key: &T) -> Result<(), CanonicalError> {
        self.key = Some(key.serialize(Key)?);
        Ok(())
    }

    fn serialize_value<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), CanonicalError> {
        let key = self.key.take().ok_or_else(|| <CanonicalError as ser::Error>::custom("has a value without a key"))?;
        self.insert(&key, value)
    }

    fn end(self) -> Answer {
        Ok(self.done())
    }
}

/// Writes the key of a map: text and nothing else.
struct Key;

type KeyAnswer = Result<String, CanonicalError>;

macro_rules! no_key {
    ($($method:ident($type:ty) $name:literal),*) => {$(
        fn $method(self, _: $type) -> KeyAnswer {
            Err(CanonicalError::new(Fault::Key($name)))
        }
    )*};
}

impl Serializer for Key {
    type Ok = String;
    type Error = CanonicalError;
    type SerializeSeq = Impossible<String, CanonicalError>;
    type SerializeTuple = Impossible<String, CanonicalError>;
    type SerializeTupleStruct = Impossible<String, CanonicalError>;
    type SerializeTupleVariant = Impossible<String, CanonicalError>;
    type SerializeMap = Impossible<String, CanonicalError>;
    type SerializeStruct = Impossible<String, CanonicalError>;
    type SerializeStructVariant = Impossible<String, CanonicalError>;

    no_key!(
        serialize_bool(bool) "bool",
        serialize_i8(i8) "i8",
        serialize_i16(i16) "i16",
        serialize_i32(i32) "i32",
        serialize_i64(i64) "i64",
        serialize_i128(i128) "i128",
        serialize_u8(u8) "u8",
        serialize_u16(u16) "u16",
        serialize_u32(u32) "u32",
        serialize_u64(u64) "u64",
        serialize_u128(u128) "u128",
        serialize_f32(f32) "f32",
        serialize_f64(f64) "f64",
        serialize_bytes(&[u8]) "bytes"
    );

    fn serialize_char(self, key: char) -> KeyAnswer {
        Ok(key.into())
    }

    fn serialize_str(self, key: &str) -> KeyAnswer {
        Ok(key.to_owned())
    }

    fn serialize_unit_variant(self, _: &'static str, _: u32, variant: &'static str) -> KeyAnswer {
        Ok(variant.to_owned())
    }

    fn serialize_newtype_struct<T: Serialize + ?Sized>(self, _: &'static str, key: &T) -> KeyAnswer {
        key.serialize(self)
    }

    fn serialize_none(self) -> KeyAnswer {
        no_text()
    }

    fn serialize_some<T: Serialize + ?Sized>(self, _: &T) -> KeyAnswer {
        no_text()
    }

    fn serialize_unit(self) -> KeyAnswer {
        no_text()
    }

    fn serialize_unit_struct(self, _: &'static str) -> KeyAnswer {
        no_text()
    }

    fn serialize_newtype_variant<T: Serialize + ?Sized>(
        self,
        _: &'static str,
        _: u32,
        _: &'static str,
        _: &T,
    ) -> KeyAnswer {
        no_text()
    }

    fn serialize_seq(self, _: Option<usize>) -> Result<Self::SerializeSeq, CanonicalError> {
        no_text()
    }

    fn serialize_tuple(self, _: usize) -> Result<Self::SerializeTuple, CanonicalError> {
        no_text()
    }

    fn serialize_tuple_struct(self, _: &'static str, _: usize) -> Result<Self::SerializeTupleStruct, CanonicalError> {
        no_text()
    }

    fn serialize_tuple_variant(
        self,
        _: &'static str,
        _: u32,
        _: &'static str,
        _: usize,
    ) -> Result<Self::SerializeTupleVariant, CanonicalError> {
        no_text()
    }

    fn serialize_map(self, _: Option<usize>) -> Result<Self::SerializeMap, CanonicalError> {
        no_text()
    }

    fn serialize_struct(self, _: &'static str, _: usize) -> Result<Self::SerializeStruct, CanonicalError> {
        no_text()
    }

    fn serialize_struct_variant(
        self,
        _: &'static str,
        _: u32,
        _: &'static str,
        _: usize,
    ) -> Result<Self::SerializeStructVariant, CanonicalError> {
        no_text()
    }
}

fn no_text<T>() -> Result<T, CanonicalError> {
    Err(CanonicalError::new(Fault::Key("a compound")))
}
