//! What the primary host says about itself: `{"online": true, "timestamp": …}` under `spBv1.0/STATE/…` (Sparkplug 3.0,
//! chapter 4 for the payload, chapter 5 for what an edge node makes of it).

use super::names::{Name, state_topic};

/// A host as seen through one server.
#[derive(Debug, Clone)]
pub(crate) struct HostWatch {
    topic: String,
    /// Timestamp of the newest message that counted, and of the newest that said "online"; milliseconds.
    latest: Option<u64>,
    latest_online: Option<u64>,
}

/// What a message under a STATE topic means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Heard {
    /// Births may go out.
    Online,
    /// This server is to be left.
    Offline,
    /// Older than what we know, of somebody else, or no state at all.
    Nothing,
}

impl HostWatch {
    pub(crate) fn new(host: &Name) -> Self {
        Self { topic: state_topic(host), latest: None, latest_online: None }
    }

    pub(crate) fn topic(&self) -> &str {
        &self.topic
    }

    /// Judges one message.
    pub(crate) fn hear(&mut self, topic: &str, payload: &[u8]) -> Heard {
        if topic != self.topic {
            return Heard::Nothing;
        }
        let Some((online, timestamp)) = parse(payload) else {
            tracing::warn!(
                topic,
                "this is no STATE message of Sparkplug 3.0, it is ignored; {{\"online\": true, \"timestamp\": 1700000000000}} would be one"
            );
            return Heard::Nothing;
        };
        match online {
            // tck-id-message-flow-edge-node-birth-publish-phid-wait-timestamp
            true if self.latest.is_none_or(|latest| timestamp >= latest) => {
                (self.latest, self.latest_online) = (Some(timestamp), Some(timestamp));
                Heard::Online
            }
            // tck-id-operational-behavior-edge-node-termination-host-offline: against the last "online" only.
            false if self.latest_online.is_none_or(|online| timestamp >= online) => {
                self.latest = Some(self.latest.map_or(timestamp, |latest| latest.max(timestamp)));
                Heard::Offline
            }
            _ => {
                tracing::debug!(topic, online, timestamp, "an older STATE message, ignored");
                Heard::Nothing
            }
        }
    }
}

fn parse(payload: &[u8]) -> Option<(bool, u64)> {
    let state: serde_json::Value = serde_json::from_slice(payload).ok()?;
    Some((state.get("online")?.as_bool()?, state.get("timestamp")?.as_u64()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn watch() -> HostWatch {
        HostWatch::new(&Name::try_new("scada").unwrap())
    }

    fn state(online: bool, timestamp: u64) -> Vec<u8> {
        format!("{{\"online\":{online},\"timestamp\":{timestamp}}}").into_bytes()
    }

    #[test]
    fn old_words_do_not_count() {
        let (mut host, topic) = (watch(), "spBv1.0/STATE/scada");
        assert_eq!(host.hear(topic, &state(true, 100)), Heard::Online);
        assert_eq!(host.hear(topic, &state(false, 99)), Heard::Nothing, "a death of an earlier session");
        assert_eq!(host.hear(topic, &state(false, 100)), Heard::Offline);
        assert_eq!(host.hear(topic, &state(true, 99)), Heard::Nothing);
        assert_eq!(host.hear(topic, &state(true, 101)), Heard::Online);
        assert_eq!(host.hear("spBv1.0/STATE/other", &state(false, 900)), Heard::Nothing);
        assert_eq!(host.hear("spBv1.0/STATE/scada/x", &state(false, 900)), Heard::Nothing);
    }

    #[test]
    fn the_first_word_counts_whatever_its_time() {
        assert_eq!(watch().hear("spBv1.0/STATE/scada", &state(false, 0)), Heard::Offline);
        assert_eq!(watch().hear("spBv1.0/STATE/scada", &state(true, 0)), Heard::Online);
    }

    #[test]
    fn what_is_no_state_is_nothing() {
        // The first is Sparkplug 2.2.
        for text in [
            "ONLINE",
            "",
            "{}",
            "{\"online\":1,\"timestamp\":1}",
            "{\"online\":true}",
            "{\"online\":true,\"timestamp\":-1}",
        ] {
            assert_eq!(watch().hear("spBv1.0/STATE/scada", text.as_bytes()), Heard::Nothing, "{text}");
        }
    }
}
