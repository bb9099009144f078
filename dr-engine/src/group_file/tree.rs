//! TOML into JSON, remembering where each value stands.

use std::ops::Range;

use dr_core::contract::{ConfigError, KeyPath};
use serde_json::{Map, Number, Value};
use toml::{
    Spanned,
    de::{DeInteger, DeTable, DeValue},
};

use super::excerpt::{GroupFault, Place, Source};

/// Reads the text of `source` and gives it the places of all values.
pub(super) fn read(source: &mut Source) -> Result<Value, GroupFault> {
    let text = source.text();
    let table = DeTable::parse(&text).map_err(|error| source.syntax(error.message(), error.span()))?;
    // All places first: a fault on one value must not show a secret that stands beside it.
    note_fields(table.get_ref(), &KeyPath::root(), source);
    note_single(table.get_ref(), source);
    fields(table.get_ref(), &KeyPath::root()).map_err(|error| source.config(&error))
}

fn note_fields(table: &DeTable<'_>, path: &KeyPath, source: &mut Source) {
    for (key, value) in table {
        note(value, Some(key.span()), path.then(key.get_ref().as_ref()), source);
    }
}

/// A single table where a list may stand is the list's first one.
fn note_single(table: &DeTable<'_>, source: &mut Source) {
    for (key, value) in table {
        if matches!(value.get_ref(), DeValue::Table(_)) {
            note(value, Some(key.span()), KeyPath::root().then(key.get_ref().as_ref()).then(0), source);
        }
    }
}

fn note(value: &Spanned<DeValue<'_>>, key: Option<Range<usize>>, path: KeyPath, source: &mut Source) {
    match value.get_ref() {
        DeValue::Table(table) => note_fields(table, &path, source),
        DeValue::Array(items) => {
            items.iter().enumerate().for_each(|(index, item)| note(item, None, path.then(index), source));
        }
        DeValue::String(_) | DeValue::Integer(_) | DeValue::Float(_) | DeValue::Boolean(_) | DeValue::Datetime(_) => {}
    }
    source.put(path, Place { key, value: value.span() }, leaf(value));
}

/// The text of a single value; nothing for tables and lists.
fn leaf(value: &Spanned<DeValue<'_>>) -> Option<String> {
    match value.get_ref() {
        DeValue::String(text) => Some(text.clone().into_owned()),
        DeValue::Integer(number) => Some(number.to_string()),
        DeValue::Float(number) => Some(number.to_string()),
        DeValue::Boolean(_) | DeValue::Datetime(_) | DeValue::Array(_) | DeValue::Table(_) => None,
    }
}

fn fields(table: &DeTable<'_>, path: &KeyPath) -> Result<Value, ConfigError> {
    let fields = table.iter().map(|(key, value)| {
        let name = key.get_ref().as_ref();
        Ok((name.to_owned(), convert(value, &path.then(name))?))
    });
    fields.collect::<Result<Map<_, _>, _>>().map(Value::Object)
}

fn convert(value: &Spanned<DeValue<'_>>, path: &KeyPath) -> Result<Value, ConfigError> {
    let refuse = |message: &str| Err(ConfigError::value(path.clone(), message));
    match value.get_ref() {
        DeValue::String(text) => Ok(Value::String(text.clone().into_owned())),
        DeValue::Boolean(flag) => Ok(Value::Bool(*flag)),
        DeValue::Integer(number) => integer(number).map_or_else(|| refuse("the number is too large"), Ok),
        DeValue::Float(number) => {
            let number = number.as_str().parse().ok().and_then(Number::from_f64);
            number.map_or_else(|| refuse("is no number that can be used"), |number| Ok(Value::Number(number)))
        }
        DeValue::Datetime(_) => refuse("dates are not used here; put it in quotes if it is text"),
        DeValue::Array(items) => {
            let items = items.iter().enumerate().map(|(index, item)| convert(item, &path.then(index)));
            items.collect::<Result<Vec<_>, _>>().map(Value::Array)
        }
        DeValue::Table(table) => fields(table, path),
    }
}

fn integer(number: &DeInteger<'_>) -> Option<Value> {
    i64::from_str_radix(number.as_str(), number.radix()).ok().map(Value::from)
}
