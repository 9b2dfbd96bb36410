//! The faults a file plans for a device: read, and held against what its protocol can have.

use super::check::Checker;
use super::written;
use crate::fault::{Defect, Flaw, ScheduledFlaw};
use std::collections::BTreeSet;
use std::time::Duration;
use tally_model::Endpoint;

impl Checker<'_> {
    /// Those that can be; every other one is a fault at its place.
    pub(super) fn faults(
        &mut self,
        written: Vec<written::Fault>,
        serve: &Endpoint,
        signals: &BTreeSet<String>,
    ) -> Vec<ScheduledFlaw> {
        written.into_iter().filter_map(|fault| self.planned(fault, serve, signals)).collect()
    }

    fn planned(
        &mut self,
        written: written::Fault,
        serve: &Endpoint,
        signals: &BTreeSet<String>,
    ) -> Option<ScheduledFlaw> {
        let lasts = written.lasts.as_ref().map(|span| span.value.0);
        let every = written.every.as_ref().map(|span| span.value.0);
        if let Some(place) = written.lasts.as_ref().filter(|span| span.value.0.is_zero()) {
            self.fault(place.referenced, "`for: 0s` is no fault at all");
        }
        if let Some(place) = &written.every
            && lasts.is_none_or(|lasts| lasts >= place.value.0)
        {
            self.fault(place.referenced, "a fault that comes again needs a `for` that is shorter than its `every`");
        }
        let of = written.of.as_ref().map(|of| of.value.to_string());
        let place = written.of.as_ref().map_or(written.what.referenced, |of| of.referenced);
        let is_known = Defect::is_word(&written.what.value);
        let place = if is_known { place } else { written.what.referenced };
        let defect = self.keep(place, Defect::parse(&written.what.value, of.as_deref()));
        let mut named = Vec::new();
        for signal in written.signals {
            if !signals.contains(&signal.value) {
                let known: Vec<&str> = signals.iter().map(String::as_str).collect();
                let text = format!("there is no signal `{}`; there are: {}", signal.value, known.join(", "));
                self.fault(signal.referenced, text);
            } else if defect.is_some_and(|defect| !defect.is_of_signals()) {
                let text = format!("`{}` concerns the whole device, not single signals", written.what.value);
                self.fault(signal.referenced, text);
            }
            named.push(signal.value);
        }
        let defect = defect?;
        self.keep(written.what.referenced, defect.check_for(serve))?;
        let at = written.at.map_or(Duration::ZERO, |span| span.0);
        Some(ScheduledFlaw { at, lasts, every, flaw: Flaw { defect, signals: named } })
    }
}
