//! References between steps: the edges of a plan.

use std::{fmt, marker::PhantomData};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de, ser::SerializeMap};
use serde_json::Value;

use crate::{base::NodeId, plan::Output};

/// The output of a node, by name. It is all that a later step can say about it.
pub struct Ref<T> {
    node: NodeId,
    carries: PhantomData<fn() -> T>,
}

impl<T> Ref<T> {
    pub(crate) fn new(node: NodeId) -> Self {
        Self { node, carries: PhantomData }
    }
}

impl<T> Clone for Ref<T> {
    fn clone(&self) -> Self {
        Self::new(self.node.clone())
    }
}

impl<T> fmt::Debug for Ref<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Ref({})", self.node)
    }
}

/// Something taken for a while: a drain, a fence, paused consumers. It is moved into `release` (or, for a fence past the point of no
/// return, `retire`); giving it back twice does not compile.
#[must_use = "what is held must be given back: move it into `release` or `retire`"]
pub struct Held<T> {
    node: NodeId,
    carries: PhantomData<fn() -> T>,
}

impl<T> Held<T> {
    pub(crate) fn new(node: NodeId) -> Self {
        Self { node, carries: PhantomData }
    }

    pub(crate) fn node(&self) -> &NodeId {
        &self.node
    }
}

impl<T> fmt::Debug for Held<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Held({})", self.node)
    }
}

/// Anything that stands for a node: what `after` accepts.
pub trait Edge {
    /// The node.
    fn to(&self) -> NodeId;
}

impl<T> Edge for Ref<T> {
    fn to(&self) -> NodeId {
        self.node.clone()
    }
}

impl<T> Edge for Held<T> {
    fn to(&self) -> NodeId {
        self.node.clone()
    }
}

/// Says that a reference carries a `T`: the only way to fill an [`Input`].
#[diagnostic::on_unimplemented(
    message = "this input needs a `{T}`, which `{Self}` does not carry",
    label = "carries something else",
    note = "a `FenceReceipt` comes from `FenceMember`, a `CatchUpReceipt` from `AwaitCatchUp`, a `WriterReceipt` from `ConfirmWriter`, a `Consent` from `AskConsent`; the output of a step that may fail (`attempt`) feeds nothing dangerous"
)]
pub trait Carries<T>: Edge {}

impl<T> Carries<T> for Ref<T> {}
impl<T> Carries<T> for Held<T> {}

/// An input of a step: in a plan only a reference, at run time the value that the referenced step left behind.
///
/// Written as `{"$ref": "fence", "type": "dr.fence-receipt"}` in a plan and as `{"$is": …}` when resolved. Anything else, a receipt
/// written by hand above all, does not parse.
#[derive(Clone)]
pub struct Input<T>(Inner<T>);

#[derive(Clone)]
enum Inner<T> {
    Node(NodeId),
    Value(Box<T>),
}

/// An input was read before the plan was resolved.
#[derive(Debug, thiserror::Error)]
#[error("the output of `{node}` is not there yet")]
pub struct Unresolved {
    /// The node.
    pub node: NodeId,
}

impl<T: Output> Input<T> {
    /// The input that the referenced step will fill.
    #[must_use]
    pub fn of(reference: &impl Carries<T>) -> Self {
        Self(Inner::Node(reference.to()))
    }

    /// The value.
    ///
    /// # Errors
    /// [`Unresolved`] in a plan; never while a handler runs.
    pub fn get(&self) -> Result<&T, Unresolved> {
        match &self.0 {
            Inner::Value(value) => Ok(value),
            Inner::Node(node) => Err(Unresolved { node: node.clone() }),
        }
    }
}

impl<T> fmt::Debug for Input<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Inner::Node(node) => write!(f, "Input({node})"),
            Inner::Value(_) => f.write_str("Input(resolved)"),
        }
    }
}

pub(crate) const REF: &str = "$ref";
pub(crate) const TYPE: &str = "type";
pub(crate) const IS: &str = "$is";

impl<T: Output> Serialize for Input<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        match &self.0 {
            Inner::Node(node) => {
                map.serialize_entry(REF, node)?;
                map.serialize_entry(TYPE, &T::type_name())?;
            }
            Inner::Value(value) => map.serialize_entry(IS, value)?,
        }
        map.end()
    }
}

impl<'de, T: Output> Deserialize<'de> for Input<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let value = Value::deserialize(deserializer)?;
        let wanted = T::type_name();
        let refuse = |what: &str| {
            de::Error::custom(format_args!(
                "{what}: this input takes only a reference to a `{wanted}`, {{\"$ref\": \"<node>\"}}"
            ))
        };
        let Value::Object(mut map) = value else { return Err(refuse("a literal value")) };
        if let Some(inner) = map.remove(IS) {
            return match serde_json::from_value(inner) {
                Ok(value) if map.is_empty() => Ok(Self(Inner::Value(Box::new(value)))),
                Ok(_) => Err(refuse("a resolved value with more beside it")),
                Err(error) => Err(de::Error::custom(format_args!("the value is no `{wanted}`: {error}"))),
            };
        }
        match (map.get(REF), map.get(TYPE), map.len()) {
            (Some(Value::String(node)), Some(Value::String(found)), 2) if *found == wanted => {
                Ok(Self(Inner::Node(NodeId::new(node.as_str()))))
            }
            (Some(Value::String(node)), Some(Value::String(found)), 2) => {
                Err(refuse(&format!("a reference to `{node}`, which carries a `{found}`")))
            }
            _ => Err(refuse("a literal value")),
        }
    }
}

/// A reference as it stands in the parameters of a node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FoundRef {
    /// The field, such as `fence` or `inputs.0`.
    pub path: String,
    /// The node it names.
    pub node: NodeId,
    /// What it says it carries.
    pub carries: String,
}

/// All references in the parameters of a node.
#[must_use]
pub fn references(params: &Value) -> Vec<FoundRef> {
    let mut found = Vec::new();
    walk(params, "", &mut |path, map| {
        if let (Some(Value::String(node)), Some(Value::String(carries))) = (map.get(REF), map.get(TYPE)) {
            found.push(FoundRef { path: path.into(), node: NodeId::new(node.as_str()), carries: carries.clone() });
        }
    });
    found
}

/// The fields whose value is a resolved one: there must be none in a plan (DR109).
#[must_use]
pub fn literals(params: &Value) -> Vec<String> {
    let mut found = Vec::new();
    walk(params, "", &mut |path, map| {
        if map.contains_key(IS) {
            found.push(path.to_owned());
        }
    });
    found
}

fn walk(value: &Value, path: &str, seen: &mut impl FnMut(&str, &serde_json::Map<String, Value>)) {
    let below = |name: &str| if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") };
    match value {
        Value::Object(map) => {
            seen(path, map);
            for (name, value) in map {
                walk(value, &below(name), seen);
            }
        }
        Value::Array(items) => {
            for (index, value) in items.iter().enumerate() {
                walk(value, &below(&index.to_string()), seen);
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

/// Replaces every reference by the output that `output` answers for its node.
///
/// # Errors
/// The node whose output is missing.
pub fn resolve(params: &Value, output: &impl Fn(&NodeId) -> Option<Value>) -> Result<Value, Unresolved> {
    Ok(match params {
        Value::Object(map) if map.contains_key(REF) => {
            let node = NodeId::new(map.get(REF).and_then(Value::as_str).unwrap_or_default());
            let value = output(&node).ok_or(Unresolved { node })?;
            Value::Object([(IS.to_owned(), value)].into_iter().collect())
        }
        Value::Object(map) => Value::Object(
            map.iter()
                .map(|(name, value)| Ok((name.clone(), resolve(value, output)?)))
                .collect::<Result<_, Unresolved>>()?,
        ),
        Value::Array(items) => {
            Value::Array(items.iter().map(|value| resolve(value, output)).collect::<Result<_, Unresolved>>()?)
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => params.clone(),
    })
}
