//! [`Binding`] names the things that a plan changes: one type, one text form.
//!
//! | binding | text |
//! |---|---|
//! | [`Binding::Member`] | `neu` |
//! | [`Binding::Secret`] | `secret:orders` |
//! | [`Binding::App`] | `app:api` |
//! | [`Binding::Traffic`] | `traffic:public` |
//! | [`Binding::Readers`] | `readers:reports` |
//! | [`Binding::Custom`] | `kafka:billing`, whatever else has a colon |

use std::{borrow::Cow, convert::Infallible, fmt, str::FromStr};

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::base::{BindingName, MemberId};

/// A `Binding` names one thing that a plan reads or changes. It is the key of the plan's bindings, of the providers behind them and of
/// every [`Touch`](crate::contract::Touch).
///
/// Every text is a binding, and the same text comes out again: reading never fails and loses nothing. Names of group files have no
/// colon ([`GroupSpec::check`](crate::contract::GroupSpec::check)), so no two bindings of a group have the same text.
///
/// ```
/// use dr_core::Binding;
///
/// assert_eq!(Binding::from("neu"), Binding::Member("neu".into()));
/// assert_eq!(Binding::from("app:api"), Binding::App("api".into()));
/// assert_eq!(Binding::from("kafka:billing").to_string(), "kafka:billing");
/// ```
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Binding {
    /// A database of the group.
    Member(MemberId),
    /// A connection secret.
    Secret(BindingName),
    /// An application tier: the path by which applications write.
    App(BindingName),
    /// A route by which clients find the writer.
    Traffic(BindingName),
    /// A route by which readers find standbys.
    Readers(BindingName),
    /// A thing of the user's own, such as `kafka:billing`. The group file's `allow` list has to name it.
    Custom(String),
}

impl Binding {
    /// Reads the text form. A text without a colon is a member; one with an unknown word before the colon is custom.
    #[must_use]
    pub fn parse(text: &str) -> Self {
        match text.split_once(':') {
            None => Self::Member(text.into()),
            Some((SECRET, name)) => Self::Secret(name.into()),
            Some((APP, name)) => Self::App(name.into()),
            Some((TRAFFIC, name)) => Self::Traffic(name.into()),
            Some((READERS, name)) => Self::Readers(name.into()),
            Some(_) => Self::Custom(text.to_owned()),
        }
    }

    /// Returns the secret that is called `name`.
    #[must_use]
    pub fn secret(name: impl Into<BindingName>) -> Self {
        Self::Secret(name.into())
    }

    /// Returns the application tier that is called `name`.
    #[must_use]
    pub fn app(name: impl Into<BindingName>) -> Self {
        Self::App(name.into())
    }

    /// Returns the route that is called `name`.
    #[must_use]
    pub fn traffic(name: impl Into<BindingName>) -> Self {
        Self::Traffic(name.into())
    }
}

impl fmt::Display for Binding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Member(name) => name.fmt(f),
            Self::Secret(name) => write!(f, "{SECRET}:{name}"),
            Self::App(name) => write!(f, "{APP}:{name}"),
            Self::Traffic(name) => write!(f, "{TRAFFIC}:{name}"),
            Self::Readers(name) => write!(f, "{READERS}:{name}"),
            Self::Custom(text) => f.write_str(text),
        }
    }
}

impl FromStr for Binding {
    type Err = Infallible;

    fn from_str(text: &str) -> Result<Self, Infallible> {
        Ok(Self::parse(text))
    }
}

impl From<&str> for Binding {
    fn from(text: &str) -> Self {
        Self::parse(text)
    }
}

impl From<String> for Binding {
    fn from(text: String) -> Self {
        Self::parse(&text)
    }
}

impl From<&Self> for Binding {
    fn from(binding: &Self) -> Self {
        binding.clone()
    }
}

impl From<MemberId> for Binding {
    fn from(member: MemberId) -> Self {
        Self::Member(member)
    }
}

impl From<&MemberId> for Binding {
    fn from(member: &MemberId) -> Self {
        Self::Member(member.clone())
    }
}

impl Serialize for Binding {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.to_string())
    }
}

impl<'de> Deserialize<'de> for Binding {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Ok(Self::parse(&Cow::<'de, str>::deserialize(deserializer)?))
    }
}

const SECRET: &str = "secret";
const APP: &str = "app";
const TRAFFIC: &str = "traffic";
const READERS: &str = "readers";

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn each_kind_has_a_text_of_its_own() {
        let all = [
            (Binding::Member("neu".into()), "neu"),
            (Binding::secret("orders"), "secret:orders"),
            (Binding::app("api"), "app:api"),
            (Binding::traffic("public"), "traffic:public"),
            (Binding::Readers("reports".into()), "readers:reports"),
            (Binding::Custom("kafka:billing".into()), "kafka:billing"),
            // A member may be called as a kind is: only what has a colon is something else.
            (Binding::Member("secret".into()), "secret"),
        ];
        for (binding, text) in all {
            assert_eq!((binding.to_string().as_str(), Binding::from(text)), (text, binding));
        }
    }

    #[test]
    fn a_binding_is_a_key_of_json_maps() {
        let map = BTreeMap::from([(Binding::app("api"), 1), (Binding::from("neu"), 2)]);
        let json = crate::base::canonical::to_value(&map).unwrap();
        assert_eq!(json, serde_json::json!({ "app:api": 1, "neu": 2 }));
        assert_eq!(serde_json::from_value::<BTreeMap<Binding, u8>>(json).unwrap(), map);
    }

    proptest! {
        #[test]
        fn every_text_comes_out_again(text in ".*") {
            let binding = Binding::from(text.as_str());
            prop_assert_eq!(binding.to_string(), text);
            prop_assert_eq!(Binding::from(binding.to_string()), binding);
        }
    }
}
