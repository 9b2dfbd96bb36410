//! Names and topics (Sparkplug 3.0, chapter 4): `spBv1.0/group/TYPE/edge_node[/device]`, `spBv1.0/STATE/host`.

use std::fmt;
use std::sync::Arc;

/// The namespace of Sparkplug B.
pub const NAMESPACE: &str = "spBv1.0";

/// Longest name in bytes. The specification says "as short as possible".
const NAME_BYTES_MAX: usize = 128;

/// The name of a group, an edge node or a host: a UTF-8 text without what divides or widens topics.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Name(Arc<str>);

/// Why a text is no name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{found}` is no Sparkplug name: {reason}; write for example `press-line`")]
pub struct NameFault {
    /// What was written.
    pub found: String,
    /// What is wrong with it.
    pub reason: &'static str,
}

impl Name {
    /// Checks `text`.
    ///
    /// # Errors
    /// [`NameFault`].
    pub fn try_new(text: &str) -> Result<Self, NameFault> {
        let fault = |reason| Err(NameFault { found: text.chars().take(80).collect(), reason });
        match text {
            "" => fault("it is empty"),
            _ if text.len() > NAME_BYTES_MAX => fault("it has more than 128 bytes"),
            _ if text.contains(['+', '/', '#']) => fault("`+`, `/` and `#` are reserved"),
            _ if text.chars().any(char::is_control) => fault("it holds a control character"),
            // `spBv1.0/STATE/…` belongs to hosts.
            "STATE" => fault("it is a word of the specification"),
            _ => Ok(Self(text.into())),
        }
    }

    /// As text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The message types, without STATE, which has another topic.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum MessageType {
    /// Birth of an edge node.
    NodeBirth,
    /// Death of an edge node.
    NodeDeath,
    /// Data of an edge node.
    NodeData,
    /// Command to an edge node.
    NodeCommand,
    /// Birth of a device.
    DeviceBirth,
    /// Death of a device.
    DeviceDeath,
    /// Data of a device.
    DeviceData,
    /// Command to a device.
    DeviceCommand,
}

impl MessageType {
    const ALL: [Self; 8] = [
        Self::NodeBirth,
        Self::NodeDeath,
        Self::NodeData,
        Self::NodeCommand,
        Self::DeviceBirth,
        Self::DeviceDeath,
        Self::DeviceData,
        Self::DeviceCommand,
    ];

    /// As in topics.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::NodeBirth => "NBIRTH",
            Self::NodeDeath => "NDEATH",
            Self::NodeData => "NDATA",
            Self::NodeCommand => "NCMD",
            Self::DeviceBirth => "DBIRTH",
            Self::DeviceDeath => "DDEATH",
            Self::DeviceData => "DDATA",
            Self::DeviceCommand => "DCMD",
        }
    }

    /// Whether the topic ends with a device.
    #[must_use]
    pub const fn is_of_device(self) -> bool {
        matches!(self, Self::DeviceBirth | Self::DeviceDeath | Self::DeviceData | Self::DeviceCommand)
    }
}

/// A topic taken apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Topic<'t> {
    /// The group.
    pub group: &'t str,
    /// What kind of message.
    pub kind: MessageType,
    /// The edge node.
    pub edge_node: &'t str,
    /// The device, exactly when `kind` is of a device.
    pub device: Option<&'t str>,
}

impl<'t> Topic<'t> {
    /// Takes a topic apart; `None` when it is not one of Sparkplug B's.
    #[must_use]
    pub fn parse(topic: &'t str) -> Option<Self> {
        let mut parts = topic.split('/');
        if parts.next()? != NAMESPACE {
            return None;
        }
        let (group, word, edge_node) = (parts.next()?, parts.next()?, parts.next()?);
        let kind = MessageType::ALL.into_iter().find(|kind| kind.word() == word)?;
        let (device, rest) = (parts.next(), parts.next());
        let is_whole = rest.is_none() && device.is_some() == kind.is_of_device();
        let has_names = [Some(group), Some(edge_node), device].into_iter().flatten().all(|name| !name.is_empty());
        (is_whole && has_names).then_some(Self { group, kind, edge_node, device })
    }
}

impl fmt::Display for Topic<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{NAMESPACE}/{}/{}/{}", self.group, self.kind.word(), self.edge_node)?;
        match self.device {
            Some(device) => write!(f, "/{device}"),
            None => Ok(()),
        }
    }
}

/// Where a host says whether it is there.
#[must_use]
pub fn state_topic(host: &Name) -> String {
    format!("{NAMESPACE}/STATE/{host}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_divide_no_topic() {
        for text in ["", "a/b", "a+", "#", "a\0b", "STATE", &"x".repeat(129)] {
            assert!(Name::try_new(text).is_err(), "{text}");
        }
        assert_eq!(Name::try_new("Halle Süd 1").unwrap().as_str(), "Halle Süd 1");
    }

    #[test]
    fn devices_stand_in_topics_of_devices_only() {
        let topic = Topic::parse("spBv1.0/g/DDATA/e/d").unwrap();
        assert_eq!((topic.kind, topic.device), (MessageType::DeviceData, Some("d")));
        assert_eq!(topic.to_string(), "spBv1.0/g/DDATA/e/d");
        for text in
            ["spBv1.0/g/DDATA/e", "spBv1.0/g/NDATA/e/d", "spBv1.0/STATE/h", "spAv1.0/g/NDATA/e", "spBv1.0//NDATA/e"]
        {
            assert_eq!(Topic::parse(text), None, "{text}");
        }
    }

    proptest::proptest! {
        #[test]
        fn any_text_is_a_topic_or_none(text in "(spBv1\\.0/)?\\PC{0,40}") {
            if let Some(topic) = Topic::parse(&text) {
                proptest::prop_assert_eq!(topic.to_string(), text);
            }
        }
    }
}
