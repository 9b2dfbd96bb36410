//! `opcua:` of a device: what its server offers and remembers.

use super::check::Checker;
use super::written;
use crate::{OpcUaOffer, OpcUaOptions};
use serde::Deserialize;
use serde::de::value::{Error, StrDeserializer};
use serde_saphyr::Spanned;
use std::time::Duration;
use tally_model::{Endpoint, OpcUaPolicy};

/// Most sessions a file may allow.
const SESSIONS_MAX: usize = 10_000;

/// Longest history: what is remembered is in memory.
const HISTORY_MAX: Duration = Duration::from_secs(7 * 86_400);

impl Checker<'_> {
    pub(super) fn opcua(
        &mut self,
        written: Option<Spanned<written::OpcUa>>,
        serve: Option<&Endpoint>,
        pki: Option<&std::path::Path>,
    ) -> OpcUaOptions {
        let mut options = OpcUaOptions { pki: pki.map(|pki| self.beside_file(pki)), ..OpcUaOptions::default() };
        let Some(written) = written else { return options };
        let place = written.referenced;
        if serve.is_some_and(|serve| !matches!(serve, Endpoint::OpcUa { .. })) {
            self.fault(place, "`opcua` is for OPC UA servers; remove it");
        }
        let written = written.value;
        if let Some(policies) = written.policies {
            options.offers = policies.iter().filter_map(|policy| self.offer(policy)).collect();
            if policies.is_empty() {
                self.fault(place, "`policies` is empty; nobody could connect");
            }
        }
        if let Some(sessions) = written.sessions {
            options.sessions_max = sessions;
            if !(1..=SESSIONS_MAX).contains(&sessions) {
                self.fault(place, format!("`sessions: {sessions}` is not within 1 to {SESSIONS_MAX}"));
            }
        }
        if let Some(history) = written.history {
            options.history = Some(history.0);
            if history.0.is_zero() || history.0 > HISTORY_MAX {
                self.fault(place, "`history` is a time up to 168h; without the key there is none");
            }
        }
        options.trust_any = written.trust_any.unwrap_or(true);
        if !options.trust_any && options.pki.is_none() {
            self.fault(place, "`trust_any: false` needs `pki:`, the folder in which you sort the certificates");
        }
        options.user_certificates =
            written.user_certificates.into_iter().map(|(user, file)| (user, self.beside_file(&file))).collect();
        options
    }

    fn offer(&mut self, written: &Spanned<String>) -> Option<OpcUaOffer> {
        let policy = OpcUaPolicy::deserialize(StrDeserializer::<Error>::new(&written.value)).ok();
        let offer = policy.and_then(OpcUaOffer::of);
        if offer.is_none() {
            let known = OpcUaPolicy::ALL.into_iter().filter(|policy| OpcUaOffer::of(*policy).is_some());
            let known: Vec<_> = known.map(OpcUaPolicy::word).collect();
            let text = format!("`{}` is no policy a server can offer; there are: {}", written.value, known.join(", "));
            self.fault(written.referenced, text);
        }
        offer
    }
}
