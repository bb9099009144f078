//! The short form of a group file, `format = 1`: one secret and one application tier as plain tables, and no names.

use serde_json::{Map, Value};

use super::BackendName;

/// What a file in the short form gives as its format.
pub(super) const FORMAT: u64 = 1;

/// The tables that become lists of named things, each with the key that says which service it is.
const NAMED: [(&str, &str); 3] = [("secret", "store"), ("app", "tier"), ("traffic", "router")];

/// Returns the file of format 2 that a file in the short form stands for. What is wrong with it stays wrong.
pub(super) fn spelt_out(file: &Value) -> Value {
    let Value::Object(fields) = file else { return file.clone() };
    let mut fields = fields.clone();
    fields.insert("format".into(), super::GroupSpec::FORMAT.into());
    for (key, service) in NAMED {
        let Some(found) = fields.get_mut(key) else { continue };
        if found.is_object() {
            *found = Value::Array(vec![found.take()]);
        }
        for table in found.as_array_mut().into_iter().flatten().filter_map(Value::as_object_mut) {
            name(table, service);
        }
    }
    Value::Object(fields)
}

/// Names a table after its service, unless it has a name.
fn name(table: &mut Map<String, Value>, service: &str) {
    let Some(called) = table.get(service).and_then(Value::as_str).map(BackendName::new) else { return };
    let called = called.service().unwrap_or_else(|| called.prefix()).to_owned();
    table.entry("name").or_insert(Value::String(called));
}
