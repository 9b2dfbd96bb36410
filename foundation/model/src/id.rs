//! Names that cannot be wrong: every id is checked when it is made, also when it is deserialised.

use serde::{Deserialize, Serialize};
use std::fmt;

/// Longest id in bytes: an id is also a topic segment and a key prefix, so it stays short.
pub const ID_BYTES_MAX: usize = 64;

/// Why a text is not an id.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum IdFault {
    /// Nothing was written.
    #[error("an id must not be empty")]
    Empty,
    /// Longer than [`ID_BYTES_MAX`].
    #[error("an id has at most {ID_BYTES_MAX} characters, this one has {0}")]
    TooLong(usize),
    /// A character that would break a topic, a path or an expression.
    #[error("`{0}` is not allowed in {1}; allowed are {2}")]
    Character(char, &'static str, &'static str),
}

fn check(text: &str, what: &'static str, extra: &[char], allowed: &'static str) -> Result<(), IdFault> {
    if text.is_empty() {
        return Err(IdFault::Empty);
    }
    if text.len() > ID_BYTES_MAX {
        return Err(IdFault::TooLong(text.len()));
    }
    for (place, c) in text.chars().enumerate() {
        let digit_first = place == 0 && c.is_ascii_digit() && extra.is_empty();
        if digit_first || !(c.is_ascii_alphanumeric() || c == '_' || extra.contains(&c)) {
            return Err(IdFault::Character(c, what, allowed));
        }
    }
    Ok(())
}

macro_rules! id {
    ($(#[$doc:meta])* $name:ident, $what:literal, $extra:expr, $allowed:literal) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, schemars::JsonSchema)]
        #[serde(try_from = "String", into = "String")]
        #[schemars(with = "String")]
        pub struct $name(std::sync::Arc<str>);

        impl $name {
            /// Checks `text` and makes the id.
            ///
            /// # Errors
            /// [`IdFault`] when the text is empty, too long or holds a forbidden character.
            pub fn try_new(text: impl AsRef<str>) -> Result<Self, IdFault> {
                check(text.as_ref(), $what, $extra, $allowed)?;
                Ok(Self(text.as_ref().into()))
            }

            /// The id as text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}({})", stringify!($name), self.0)
            }
        }

        impl TryFrom<String> for $name {
            type Error = IdFault;
            fn try_from(text: String) -> Result<Self, IdFault> {
                Self::try_new(text)
            }
        }

        impl std::str::FromStr for $name {
            type Err = IdFault;
            fn from_str(text: &str) -> Result<Self, IdFault> {
                Self::try_new(text)
            }
        }

        impl From<$name> for String {
            fn from(id: $name) -> String {
                id.0.to_string()
            }
        }

        impl AsRef<str> for $name {
            fn as_ref(&self) -> &str {
                &self.0
            }
        }
    };
}

id!(
    /// One value of a device. It is a CEL identifier, so that rules can name it: letters, digits, `_`, not starting with a digit.
    PointId, "a point id", &[], "letters, digits and `_`, and a letter or `_` first"
);
id!(
    /// One machine, PLC or sensor.
    DeviceId, "a device id", &['-', '.'], "letters, digits, `_`, `-` and `.`"
);
id!(
    /// Name of a rule and of the triggers it gives.
    TriggerId, "a trigger id", &['-', '.'], "letters, digits, `_`, `-` and `.`"
);
id!(
    /// What an owner allows others to do with its devices.
    PolicyId, "a policy id", &['-', '.'], "letters, digits, `_`, `-` and `.`"
);
id!(
    /// Organisation, person, agent or regulator; the `iss` of everything it seals.
    PartyId, "a party id", &['-', '.', '@'], "letters, digits, `_`, `-`, `.` and `@`"
);
id!(
    /// Where devices stand: a plant, a hall, a line (IEC 62264 calls it a site or an area).
    SiteId, "a site id", &['-', '.'], "letters, digits, `_`, `-` and `.`"
);
id!(
    /// Name of a contract, native or from the library.
    ContractName, "a contract name", &['-', '.'], "letters, digits, `_`, `-` and `.`"
);
id!(
    /// What a call asks a contract to do.
    ActionName, "an action name", &['-', '.'], "letters, digits, `_`, `-` and `.`"
);
id!(
    /// One instance of a contract between parties, such as work order `mo-17`.
    AgreementId, "an agreement id", &['-', '.'], "letters, digits, `_`, `-` and `.`"
);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn points_are_cel_identifiers() {
        assert!(PointId::try_new("oil_temp").is_ok());
        for (text, fault) in [
            ("", IdFault::Empty),
            ("7up", IdFault::Character('7', "a point id", "letters, digits and `_`, and a letter or `_` first")),
            ("oil-temp", IdFault::Character('-', "a point id", "letters, digits and `_`, and a letter or `_` first")),
        ] {
            assert_eq!(PointId::try_new(text), Err(fault), "{text}");
        }
    }

    #[test]
    fn devices_are_topic_segments() {
        assert!(DeviceId::try_new("press-01").is_ok());
        for text in ["a/b", "a+b", "a#", "a b", "ä"] {
            assert!(DeviceId::try_new(text).is_err(), "{text}");
        }
        assert_eq!(DeviceId::try_new("x".repeat(65)), Err(IdFault::TooLong(65)));
    }
}
