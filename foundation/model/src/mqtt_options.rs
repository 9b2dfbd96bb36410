//! How MQTT devices are read. Everything has a default that fits most.

use crate::{PointId, PointSpec};
use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

/// The version of MQTT that is spoken with a broker.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub enum MqttVersion {
    /// MQTT 3.1.1, which every broker speaks.
    #[default]
    V311,
    /// MQTT 5.0.
    V5,
}

impl MqttVersion {
    /// As it is written in `?version=`.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::V311 => "3.1.1",
            Self::V5 => "5",
        }
    }
}

/// How hard the broker tries to give us each message (MQTT 3.1.1 §4.3). What a sensor publishes with less is not lifted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub enum MqttQos {
    /// QoS 0: may get lost.
    AtMostOnce,
    /// QoS 1: repeated until acknowledged.
    #[default]
    AtLeastOnce,
    /// QoS 2: taken once, also across a reconnect.
    ExactlyOnce,
}

impl MqttQos {
    /// 0, 1 or 2; `None` for another number.
    #[must_use]
    pub const fn from_number(number: u8) -> Option<Self> {
        match number {
            0 => Some(Self::AtMostOnce),
            1 => Some(Self::AtLeastOnce),
            2 => Some(Self::ExactlyOnce),
            _ => None,
        }
    }

    /// Its number.
    #[must_use]
    pub const fn number(self) -> u8 {
        self as u8
    }
}

/// How the topics of an MQTT device are read; other protocols ignore it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MqttOptions {
    /// Of the subscriptions.
    pub qos: MqttQos,
    /// Most points that templates may create.
    pub points_max: u16,
    /// The device seals its payloads itself; what is not sealed is no value.
    pub sealed: Option<SealedPayloads>,
}

/// How a device seals its payloads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SealedPayloads {
    /// In which form.
    pub form: SealedAs,
    /// File of its public key (SPKI PEM, P-256).
    pub key: PathBuf,
    /// An older message is no value.
    pub age_max: Duration,
}

/// The forms of a seal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SealedAs {
    /// COSE_Sign1 over CBOR (RFC 9052).
    Cose,
    /// JWS over JSON (RFC 7515).
    Jws,
}

impl MqttOptions {
    /// Points that templates may create when nothing is said.
    pub const POINTS_MAX_DEFAULT: u16 = 100;
}

impl Default for MqttOptions {
    fn default() -> Self {
        Self { qos: MqttQos::default(), points_max: Self::POINTS_MAX_DEFAULT, sealed: None }
    }
}

/// A point that is made for each topic that speaks: `{machine}` in the topic stands for one level of it, and for the same
/// text in the id.
///
/// `hall/{machine}/temp` with the id `{machine}_temp` makes `press_01_temp` out of a message on `hall/press-01/temp`.
#[derive(Debug, Clone, PartialEq)]
pub struct PointTemplate {
    /// The id, with at least one name in braces.
    id: String,
    /// The levels of the topic.
    levels: Vec<Level>,
    /// What each point is like. Its id is the template's with the names themselves, its address has the topic as written.
    pub point: PointSpec,
}

#[derive(Debug, Clone, PartialEq)]
enum Level {
    Fixed(String),
    Named(String),
}

/// Why a template is none.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TemplateFault {
    /// Braces inside a level.
    #[error("`{0}`: a name in braces stands for a whole level of the topic")]
    PartOfLevel(String),
    /// A name that is not one.
    #[error("`{{{0}}}` is no name: letters, digits and `_`")]
    Name(String),
    /// The same name twice in a topic.
    #[error("`{{{0}}}` stands in the topic twice")]
    Twice(String),
    /// A name of the id that the topic does not have.
    #[error("`{{{name}}}` does not stand in the topic; there are: {known}")]
    Unknown {
        /// What the id names.
        name: String,
        /// What the topic names.
        known: String,
    },
    /// A name of the topic that the id does not have: two topics would give one point.
    #[error("`{{{0}}}` must stand in the id too, or two topics would be one point")]
    Unused(String),
    /// An id out of which a topic could make any word, also one that is taken (`status`, `history`, `triggers`).
    #[error("the id needs a `_` outside the braces, or a topic could make a name that means something else already")]
    NoSeparator,
    /// The id is no id even with plain names in it.
    #[error("{0}")]
    Id(String),
}

impl PointTemplate {
    /// Whether a text has names in braces.
    #[must_use]
    pub fn is_template(text: &str) -> bool {
        text.contains(['{', '}'])
    }

    /// The id that stands for all points of a template in the mapping: `{machine}_temp` is `machine_temp`.
    ///
    /// # Errors
    /// [`TemplateFault`].
    pub fn plain_id(id: &str) -> Result<PointId, TemplateFault> {
        let names = names_of(id)?;
        let outside = names.iter().fold(id.to_owned(), |rest, name| rest.replace(&format!("{{{name}}}"), ""));
        if !outside.contains('_') {
            return Err(TemplateFault::NoSeparator);
        }
        let plain: String = id.chars().filter(|character| !matches!(character, '{' | '}')).collect();
        PointId::try_new(&plain).map_err(|fault| TemplateFault::Id(fault.to_string()))
    }

    /// A template out of an id and a topic. `point` says what the points are like.
    ///
    /// # Errors
    /// [`TemplateFault`].
    pub fn try_new(id: &str, topic: &str, point: PointSpec) -> Result<Self, TemplateFault> {
        Self::plain_id(id)?;
        let levels: Vec<Level> = topic.split('/').map(level).collect::<Result<_, _>>()?;
        let in_topic: Vec<&str> = levels.iter().filter_map(Level::name).collect();
        if let Some((place, name)) = in_topic.iter().enumerate().find(|(place, name)| in_topic[..*place].contains(name))
        {
            debug_assert!(place > 0);
            return Err(TemplateFault::Twice((*name).to_owned()));
        }
        let in_id = names_of(id)?;
        if let Some(name) = in_id.iter().find(|name| !in_topic.contains(&name.as_str())) {
            return Err(TemplateFault::Unknown { name: name.clone(), known: braced(&in_topic) });
        }
        if let Some(name) = in_topic.iter().find(|name| !in_id.iter().any(|known| known == *name)) {
            return Err(TemplateFault::Unused((*name).to_owned()));
        }
        Ok(Self { id: id.to_owned(), levels, point })
    }

    /// The id as written.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.id
    }

    /// What is subscribed: each name is the wildcard `+` (MQTT 3.1.1 §4.7.1.3).
    #[must_use]
    pub fn filter(&self) -> String {
        let levels = self.levels.iter().map(|level| match level {
            Level::Fixed(text) => text.as_str(),
            Level::Named(_) => "+",
        });
        levels.collect::<Vec<_>>().join("/")
    }

    /// The id of the point for `topic`. Characters that no id has become `_`, also a leading digit gets one in front.
    /// `None` when the topic is not of this template; an error when no id comes out of it.
    #[must_use]
    pub fn id_for(&self, topic: &str) -> Option<Result<PointId, String>> {
        let parts: Vec<&str> = topic.split('/').collect();
        if parts.len() != self.levels.len() {
            return None;
        }
        let mut id = self.id.clone();
        for (level, part) in self.levels.iter().zip(parts) {
            match level {
                Level::Fixed(text) if text == part => {}
                Level::Fixed(_) => return None,
                Level::Named(name) => id = id.replace(&format!("{{{name}}}"), &as_id(part)),
            }
        }
        if id.starts_with(|first: char| first.is_ascii_digit()) {
            id.insert(0, '_');
        }
        Some(PointId::try_new(&id).map_err(|fault| fault.to_string()))
    }
}

impl Level {
    fn name(&self) -> Option<&str> {
        match self {
            Self::Named(name) => Some(name),
            Self::Fixed(_) => None,
        }
    }
}

impl fmt::Display for PointTemplate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} from {}", self.id, self.point.address)
    }
}

fn as_id(text: &str) -> String {
    text.chars().map(|character| if character.is_ascii_alphanumeric() { character } else { '_' }).collect()
}

fn braced(names: &[&str]) -> String {
    match names {
        [] => "none".to_owned(),
        _ => names.iter().map(|name| format!("`{{{name}}}`")).collect::<Vec<_>>().join(", "),
    }
}

fn level(text: &str) -> Result<Level, TemplateFault> {
    if !PointTemplate::is_template(text) {
        return Ok(Level::Fixed(text.to_owned()));
    }
    match text.strip_prefix('{').and_then(|rest| rest.strip_suffix('}')) {
        Some(name) if !PointTemplate::is_template(name) => Ok(Level::Named(checked(name)?)),
        _ => Err(TemplateFault::PartOfLevel(text.to_owned())),
    }
}

fn checked(name: &str) -> Result<String, TemplateFault> {
    let is_name =
        !name.is_empty() && name.chars().all(|character| character.is_ascii_alphanumeric() || character == '_');
    if is_name { Ok(name.to_owned()) } else { Err(TemplateFault::Name(name.to_owned())) }
}

/// The names in braces of an id, in order.
fn names_of(id: &str) -> Result<Vec<String>, TemplateFault> {
    let mut names = Vec::new();
    let mut rest = id;
    while let Some((before, after)) = rest.split_once('{') {
        let (name, behind) = after.split_once('}').ok_or_else(|| TemplateFault::Name(after.to_owned()))?;
        if before.contains('}') {
            return Err(TemplateFault::Name(before.to_owned()));
        }
        names.push(checked(name)?);
        rest = behind;
    }
    if rest.contains('}') {
        return Err(TemplateFault::Name(rest.to_owned()));
    }
    Ok(names)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Address, Encoding, Unit};

    fn template(id: &str, topic: &str) -> Result<PointTemplate, TemplateFault> {
        let point = PointSpec::new(
            PointId::try_new("p").unwrap(),
            Address::parse_mqtt(topic).unwrap(),
            Encoding::Auto,
            Unit::one(),
        );
        PointTemplate::try_new(id, topic, point)
    }

    #[test]
    fn names_of_topics_become_names_of_points() {
        let both = template("{hall}_{machine}_temp", "{hall}/x/{machine}/temp").unwrap();
        assert_eq!(both.filter(), "+/x/+/temp");
        let id = |topic: &str| both.id_for(topic).map(|id| id.map(|id| id.to_string()));
        assert_eq!(id("h1/x/press-01/temp"), Some(Ok("h1_press_01_temp".into())));
        assert_eq!(id("7/x/é/temp"), Some(Ok("_7___temp".into())));
        assert_eq!((id("h1/x/p/hum"), id("h1/x/temp"), id("h1/x/p/temp/y")), (None, None, None));
        assert!(id(&format!("{}/x/p/temp", "n".repeat(200))).unwrap().is_err());
        assert_eq!(PointTemplate::plain_id("{machine}_temp").unwrap().as_str(), "machine_temp");
    }

    #[test]
    fn what_cannot_work_is_said() {
        assert!(matches!(template("{m}_", "a/x{m}"), Err(TemplateFault::PartOfLevel(_))));
        assert!(matches!(template("{m n}_", "a/{m n}"), Err(TemplateFault::Name(_))));
        assert!(matches!(template("{m}_", "{m}/{m}"), Err(TemplateFault::Twice(_))));
        assert!(matches!(template("{n}_", "a/{m}"), Err(TemplateFault::Unknown { .. })));
        assert!(matches!(template("{m}_", "{n}/{m}"), Err(TemplateFault::Unused(_))));
        assert_eq!(template("{m}", "a/{m}"), Err(TemplateFault::NoSeparator));
        for id in ["{m", "m}", "a}b{c}", "{m}}"] {
            assert!(template(id, "a/{m}").is_err(), "{id}");
        }
    }
}
