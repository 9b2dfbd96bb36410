//! Certificates that run out, told in time: 90, 30 and 7 days before, and when it is too late.
//!
//! Expiry never stops a link by itself (decision 003); most servers, though, refuse an expired client certificate.

use crate::config::OWN_CERTIFICATE;
use crate::pki::certificate_of;
use opcua::crypto::X509;
use opcua::types::EndpointDescription;
use std::path::Path;
use std::time::Duration;
use tally_model::Timestamp;

/// Days before the end at which something is said, first to last; 0 is the end itself.
const STEPS: [i64; 4] = [90, 30, 7, 0];

/// Between two looks while a link is up.
pub(crate) const LOOK_EVERY: Duration = Duration::from_secs(12 * 3_600);

const MICROS_A_DAY: i64 = 24 * 3_600 * 1_000_000;

/// Remembers what was said, so that each step is said once and not at every reconnect.
#[derive(Debug, Default)]
pub(crate) struct Expiry {
    own: Option<i64>,
    server: Option<i64>,
    /// When the certificate of the server we are connected to ends.
    server_ends: Option<Timestamp>,
}

impl Expiry {
    /// Notes whose certificate we are about to rely on.
    pub(crate) fn met(&mut self, endpoint: &EndpointDescription) {
        let ends =
            X509::from_byte_string(&endpoint.server_certificate).ok().and_then(|certificate| ends_of(&certificate));
        if ends != self.server_ends {
            (self.server, self.server_ends) = (None, ends);
        }
    }

    /// Says what has become due, and gives it as a remark for as long as it is.
    pub(crate) fn look(&mut self, pki: &Path, link: &str, now: Timestamp) -> Option<String> {
        let own = certificate_of(&pki.join(OWN_CERTIFICATE)).and_then(|certificate| ends_of(&certificate));
        let whose = [(own, &mut self.own, OURS), (self.server_ends, &mut self.server, THEIRS)];
        let mut remarks = Vec::new();
        for (ends, said, (whose, help)) in whose {
            let Some(left) = left(ends, now) else { continue };
            if let Some(days) = due(left, said) {
                say(link, whose, days, help);
            }
            if left <= STEPS[0] * MICROS_A_DAY {
                remarks.push(remark(whose, left, help));
            }
        }
        (!remarks.is_empty()).then(|| remarks.join("; "))
    }
}

/// Whose certificate, and what to do when it ends.
const OURS: (&str, &str) =
    ("our OPC UA certificate", "remove `own` from the pki directory to get a new pair, and let the servers trust it");
const THEIRS: (&str, &str) = ("the server's certificate", "have it renewed, then `tally trust approve` the new one");

fn remark(whose: &str, left: i64, help: &str) -> String {
    match left.div_euclid(MICROS_A_DAY) {
        days if days < 0 => format!("{whose} has expired; {help}"),
        days => format!("{whose} expires in {days} days; {help}"),
    }
}

fn ends_of(certificate: &X509) -> Option<Timestamp> {
    Some(Timestamp::from_micros(certificate.not_after().ok()?.timestamp_micros()))
}

/// Microseconds until the end, negative behind it.
fn left(ends: Option<Timestamp>, now: Timestamp) -> Option<i64> {
    Some(ends?.as_micros().saturating_sub(now.as_micros()))
}

/// Whole days left (negative: over since), when a step was reached that was not said yet.
fn due(left: i64, said: &mut Option<i64>) -> Option<i64> {
    let reached = STEPS.into_iter().rfind(|days| left <= days * MICROS_A_DAY);
    if reached.is_none() || reached == *said {
        // A renewed certificate starts over.
        *said = reached;
        return None;
    }
    *said = reached;
    Some(left.div_euclid(MICROS_A_DAY))
}

fn say(link: &str, whose: &str, days: i64, help: &str) {
    if days < 0 {
        tracing::error!(link, "{whose} has expired; {help}");
    } else if days < 7 {
        tracing::error!(link, days, "{whose} expires within a week; {help}");
    } else {
        tracing::warn!(link, days, "{whose} expires soon; {help}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_step_is_said_once_and_a_new_certificate_starts_over() {
        let ends = Timestamp::from_micros(1_000 * MICROS_A_DAY);
        let at = |day: i64| Timestamp::from_micros(day * MICROS_A_DAY);
        let mut said = None;
        let told: Vec<_> = [800, 909, 910, 911, 950, 970, 971, 993, 994, 1_001, 1_002]
            .map(|day| due(left(Some(ends), at(day)).unwrap(), &mut said))
            .into_iter()
            .flatten()
            .collect();
        assert_eq!(told, [90, 30, 7, -1]);
        let renewed = Timestamp::from_micros(2_000 * MICROS_A_DAY);
        assert_eq!(due(left(Some(renewed), at(1_002)).unwrap(), &mut said), None);
        assert_eq!(due(left(Some(renewed), at(1_911)).unwrap(), &mut said), Some(89));
        assert_eq!(left(None, at(1_911)), None);
        assert_eq!(remark("it", -1, "renew it"), "it has expired; renew it");
        assert_eq!(remark("it", 3 * MICROS_A_DAY + 5, "renew it"), "it expires in 3 days; renew it");
    }
}
