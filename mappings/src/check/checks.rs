//! `checks:`: truth before the seal. What a device asks of all its points, what a point asks, and what of it a rule takes along.

use super::points::{Kinds, PointLayers, Protocol};
use super::{Checker, Site};
use crate::fault::did_you_mean;
use crate::written::{CheckWord, DeviceChecksWritten, DeviceWritten, FrozenWritten, PointChecksWritten, ReplayWritten};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;
use tally_model::{
    Checks, DeviceId, Frozen, IDENTITY_BYTES_MAX, PointChecks, PointId, PointSpec, Priority, Redundant, Related,
    Replay, RuleSource, TriggerId, ValueKind,
};
use tally_rules::{Rule, RuleFault, WINDOW_MAX, nearest_name};

const FROZEN: Frozen = Frozen { readings: 20, lasting: Duration::from_secs(60) };
const REPLAY: Replay = Replay { readings: 32, remembered: 10_000 };
const SKEW: Duration = Duration::from_secs(10);
/// How long two sensors may disagree, and a relation be wrong: a change does not reach all at once.
const LASTING: Duration = Duration::from_secs(5);
const LASTING_MAX: Duration = Duration::from_secs(3600);

/// The checks of a device, and the points that each relation looks at.
#[derive(Debug, Default)]
pub(crate) struct DeviceChecks {
    checks: Checks,
    related: BTreeMap<PointId, BTreeSet<PointId>>,
}

impl DeviceChecks {
    /// What a rule that shows these points takes along; `None` when there is nothing to check.
    pub(super) fn of_rule(&self, shown: &BTreeSet<PointId>) -> Option<Checks> {
        let points = self.checks.points.iter().filter(|(point, _)| shown.contains(*point));
        let concerns = |name: &PointId| self.related.get(name).is_some_and(|looks| !looks.is_disjoint(shown));
        let related = self.checks.related.iter().filter(|(name, _)| concerns(name));
        let checks = Checks {
            points: points.map(|(point, checks)| (point.clone(), checks.clone())).collect(),
            related: related.map(|(name, related)| (name.clone(), related.clone())).collect(),
            ..self.checks.clone()
        };
        (!checks.is_empty()).then_some(checks)
    }
}

/// What the device asks of a point that says nothing itself.
#[derive(Default)]
struct Defaults {
    /// As written; else the usual one, longer for a point that is read seldom.
    frozen: Option<Option<Frozen>>,
    replay: Option<Replay>,
    skew: Option<Duration>,
    limits: bool,
}

impl Defaults {
    fn frozen(&self, every: Duration) -> Option<Frozen> {
        let usual = Frozen { lasting: FROZEN.lasting.max(every.saturating_mul(FROZEN.readings)), ..FROZEN };
        self.frozen.map(|written| written.unwrap_or(usual))
    }
}

impl Checker<'_> {
    pub(super) fn device_checks(
        &mut self,
        written: &DeviceWritten,
        site: &Site<'_>,
        layers: &[PointLayers<'_>],
        points: &[PointSpec],
        kinds: &Kinds,
        (is_complete, every): (bool, Duration),
    ) -> DeviceChecks {
        let site = site.key("checks");
        let defaults = written.checks.as_ref().map(|checks| self.defaults(checks, &site)).unwrap_or_default();
        let mut made = DeviceChecks::default();
        for layers in layers {
            let Some(point) = layers.id().and_then(|id| points.iter().find(|point| point.id.as_str() == id)) else {
                continue;
            };
            let every = point.options.every.unwrap_or(every);
            let checks = self.point_checks(layers, point, &defaults, (kinds, every), is_complete);
            if checks != PointChecks::default() {
                made.checks.points.insert(point.id.clone(), checks);
            }
        }
        let Some(written) = &written.checks else { return made };
        if let Some(text) = &written.look_back {
            let look_back = self.duration(&site.key("look_back"), text, Duration::ZERO, WINDOW_MAX);
            made.checks.look_back = look_back.unwrap_or_default();
        }
        if is_complete {
            self.relations(written, &site.key("related"), kinds, &mut made);
        }
        made
    }

    /// What the device is to call itself; whether it must be asked.
    pub(super) fn identity(
        &mut self,
        written: Option<&DeviceChecksWritten>,
        site: &Site<'_>,
        protocol: Option<Protocol>,
        made: &mut DeviceChecks,
    ) -> bool {
        let Some(said) = written.and_then(|checks| checks.identity.as_deref()) else { return false };
        let site = site.key("identity");
        if matches!(protocol, Some(Protocol::Mqtt | Protocol::Replay)) {
            let fault = site.fault("only Modbus and OPC UA devices say what they are");
            self.report(fault.hint("remove it"));
            return false;
        }
        if said.is_empty() || said.len() > IDENTITY_BYTES_MAX || said.chars().any(char::is_control) {
            let fault = site.fault("no device can call itself so").found(format!("`{}`", said.escape_debug()));
            let allowed = "1 to 256 bytes without control characters";
            self.report(fault.allowed(allowed).hint("write what `tally probe` shows as identity"));
            return false;
        }
        made.checks.identity = Some(said.to_owned());
        true
    }

    fn defaults(&mut self, written: &DeviceChecksWritten, site: &Site<'_>) -> Defaults {
        let frozen = written.frozen.as_ref().and_then(|frozen| self.frozen(frozen, &site.key("frozen")));
        let replay = written.replay.as_ref().and_then(|replay| self.replay(replay, &site.key("replay")));
        let skew = written.skew.as_ref().and_then(|text| self.skew(text, &site.key("skew")));
        Defaults { frozen: Some(frozen), replay: replay.or(Some(REPLAY)), skew: skew.or(Some(SKEW)), limits: true }
    }

    fn point_checks(
        &mut self,
        layers: &PointLayers<'_>,
        point: &PointSpec,
        defaults: &Defaults,
        (kinds, every): (&Kinds, Duration),
        is_complete: bool,
    ) -> PointChecks {
        let is_decimal = point.kind() == Some(ValueKind::Float);
        let mut checks = PointChecks {
            frozen: defaults.frozen(every).filter(|_| is_decimal),
            replay: defaults.replay.filter(|_| is_decimal),
            skew_max: defaults.skew,
            limits: point.range.filter(|_| defaults.limits),
            ..PointChecks::default()
        };
        let Some(picked) = layers.pick("checks", |written| written.checks.as_ref()) else { return checks };
        let (written, site) = (picked.value, picked.site);
        for word in &written.off {
            match word {
                CheckWord::Frozen => checks.frozen = None,
                CheckWord::Replay => checks.replay = None,
                CheckWord::Skew => checks.skew_max = None,
                CheckWord::Limits => checks.limits = None,
            }
        }
        self.fits_kind(written, point, &site);
        checks.frozen = self.frozen_within_sight(written, &site, every).or(checks.frozen);
        let replay = written.replay.as_ref().and_then(|replay| self.replay(replay, &site.key("replay")));
        checks.replay = replay.or(checks.replay);
        let skew = written.skew.as_ref().and_then(|text| self.skew(text, &site.key("skew")));
        checks.skew_max = skew.or(checks.skew_max);
        checks.rate_max = written.rate.filter(|rate| self.positive(*rate, &site.key("rate"), "a fastest change"));
        checks.limits = self.engineering_limits(written, &site).or(checks.limits);
        checks.redundant = self.redundant(written, point, &site.key("redundant"), kinds, is_complete);
        checks
    }

    /// `frozen`, with a warning where its readings take longer than is looked back.
    fn frozen_within_sight(
        &mut self,
        written: &PointChecksWritten,
        site: &Site<'_>,
        every: Duration,
    ) -> Option<Frozen> {
        let frozen = written.frozen.as_ref().and_then(|frozen| self.frozen(frozen, &site.key("frozen")))?;
        let lasts = every.saturating_mul(frozen.readings);
        if frozen.lasting.saturating_mul(2) < lasts {
            let fault =
                site.key("frozen").fault("so many readings take longer than is looked back, so nothing is ever found");
            let least = lasts.div_f64(2.0);
            self.report(fault.warning().hint(format!("write fewer `readings`, or `for: {least:?}` or longer")));
        }
        Some(frozen)
    }

    /// Numbers change fast and have limits; yes/no values and texts do not. A yes/no value stands still by nature.
    fn fits_kind(&mut self, written: &PointChecksWritten, point: &PointSpec, site: &Site<'_>) {
        let Some(kind @ (ValueKind::Bool | ValueKind::Text)) = point.kind() else { return };
        let numeric = [
            ("rate", written.rate.is_some()),
            ("limits", written.limits.is_some()),
            ("redundant", written.redundant.is_some()),
        ];
        for (key, _) in numeric.into_iter().filter(|(_, is_there)| *is_there) {
            self.report(site.key(key).fault("only numbers are checked like this").hint("remove it"));
        }
        for (key, is_there) in [("frozen", written.frozen.is_some()), ("replay", written.replay.is_some())] {
            if is_there && kind == ValueKind::Bool {
                let fault = site.key(key).fault("a yes/no value stands still and repeats by nature").warning();
                self.report(fault.hint("remove it, or expect findings that mean nothing"));
            }
        }
    }

    fn frozen(&mut self, written: &FrozenWritten, site: &Site<'_>) -> Option<Frozen> {
        let lasting = self.duration(&site.key("for"), written.lasting.as_ref()?, Duration::ZERO, WINDOW_MAX)?;
        let readings = written.readings.unwrap_or(FROZEN.readings);
        self.between(readings, 2, 1_000_000, &site.key("readings")).then_some(Frozen { readings, lasting })
    }

    fn replay(&mut self, written: &ReplayWritten, site: &Site<'_>) -> Option<Replay> {
        let (readings, remembered) = (written.readings?, written.remembered.unwrap_or(REPLAY.remembered));
        let fits = self.between(readings, 8, 10_000, &site.key("readings"));
        let least = readings.saturating_mul(2).max(16);
        let fits = self.between(remembered, least, 1_000_000, &site.key("remembered")) && fits;
        fits.then_some(Replay { readings, remembered })
    }

    fn between(&mut self, number: u32, least: u32, most: u32, site: &Site<'_>) -> bool {
        let fits = (least..=most).contains(&number);
        if !fits {
            let fault = site.fault(if number < least { "too few" } else { "too many" }).found(format!("`{number}`"));
            self.report(fault.allowed(format!("{least} to {most}")));
        }
        fits
    }

    fn skew(&mut self, text: &str, site: &Site<'_>) -> Option<Duration> {
        self.duration(site, text, Duration::from_millis(1), WINDOW_MAX)
    }

    fn positive(&mut self, number: f64, site: &Site<'_>, what: &str) -> bool {
        let fits = number.is_finite() && number > 0.0;
        if !fits {
            let fault = site.fault(format!("{what} is larger than 0")).found(format!("`{number}`"));
            self.report(fault.hint("in the point's unit (per second, for a change)"));
        }
        fits
    }

    fn engineering_limits(&mut self, written: &PointChecksWritten, site: &Site<'_>) -> Option<(f64, f64)> {
        let (low, high) = written.limits?;
        let fits = low.is_finite() && high.is_finite() && low < high;
        if !fits {
            let fault = site.key("limits").fault("the limits are empty").found(format!("`[{low}, {high}]`"));
            self.report(fault.hint("the lower limit comes first, and both are finite numbers"));
        }
        fits.then_some((low, high))
    }

    fn redundant(
        &mut self,
        written: &PointChecksWritten,
        point: &PointSpec,
        site: &Site<'_>,
        kinds: &Kinds,
        is_complete: bool,
    ) -> Option<Redundant> {
        let written = written.redundant.as_ref()?;
        let tolerance = written.tolerance.filter(|one| self.positive(*one, &site.key("tolerance"), "a tolerance"));
        let lasting = self.lasting(written.lasting.as_deref(), &site.key("for"));
        let name = written.with.as_deref()?;
        let with = PointId::try_new(name).ok().filter(|with| kinds.contains_key(with));
        let Some(with) = with else {
            if is_complete {
                let near = nearest_name(name, kinds.keys().map(PointId::as_str)).map(did_you_mean);
                let fault = site.key("with").fault("unknown point of this device").found(format!("`{name}`"));
                self.report(fault.maybe_hint(near));
            }
            return None;
        };
        let (_, unit) = kinds.get(&with)?;
        if with == point.id {
            self.report(site.key("with").fault("a point always agrees with itself").hint("name the other sensor"));
            return None;
        }
        if *unit != point.unit {
            let fault = site.key("with").fault("the two have different units and cannot be compared");
            self.report(fault.found(format!("`{unit}`")).allowed(point.unit.to_string()).hint("scale one of them"));
            return None;
        }
        Some(Redundant { with, tolerance: tolerance?, lasting: lasting? })
    }

    fn lasting(&mut self, text: Option<&str>, site: &Site<'_>) -> Option<Duration> {
        text.map_or(Some(LASTING), |text| self.duration(site, text, Duration::ZERO, LASTING_MAX))
    }

    /// Each relation as a rule of its own, so that it is checked like one, and says which points it looks at.
    fn relations(&mut self, written: &DeviceChecksWritten, site: &Site<'_>, kinds: &Kinds, made: &mut DeviceChecks) {
        for (name, written) in &written.related {
            let site = site.key(name);
            let lasting = self.lasting(written.lasting.as_deref(), &site.key("for"));
            let id = match PointId::try_new(name) {
                Ok(id) => id,
                Err(fault) => {
                    self.report(
                        site.fault(fault.to_string().replace("a point id", "a name")).found(format!("`{name}`")),
                    );
                    continue;
                }
            };
            let (Some(holds), Some(lasting)) = (written.holds.clone(), lasting) else { continue };
            let related = Related { holds, lasting };
            match looked_at(&id, &related, kinds) {
                Ok(looks) => {
                    made.related.insert(id.clone(), looks);
                    made.checks.related.insert(id, related);
                }
                Err(faults) => {
                    let site = site.key("holds");
                    faults.iter().for_each(|fault| self.expression_fault(&site, fault));
                }
            }
        }
    }
}

fn looked_at(name: &PointId, related: &Related, kinds: &Kinds) -> Result<BTreeSet<PointId>, Vec<RuleFault>> {
    let (Ok(device), Ok(id)) = (DeviceId::try_new("device"), TriggerId::try_new("relation")) else {
        return Ok(BTreeSet::new());
    };
    let checks = Checks { related: [(name.clone(), related.clone())].into(), ..Checks::default() };
    let stand_in = RuleSource {
        id,
        device,
        when: "true".to_owned(),
        on_delay: Duration::ZERO,
        until: None,
        priority: Priority::Low,
        disclose: Vec::new(),
        call: None,
        points: kinds.clone(),
        checks: Some(checks),
    };
    Ok(Rule::compile(&stand_in)?.checked().cloned().collect())
}
