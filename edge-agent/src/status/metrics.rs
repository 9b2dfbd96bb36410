//! Numbers for Prometheus, made anew for each scrape: links, devices and groups come and go with the mapping.
//!
//! Every family has the prefix `tally_agent_`; what each means, with its unit, stands in `docs/operator/agent.md`.

use super::devices::{DeviceCount, REASONS};
use super::{Counted, Kind, Status, lock};
use crate::anchor::book::Summary;
use prometheus::{Error, GaugeVec, IntCounterVec, Opts, Registry, TextEncoder};
use std::time::Instant;
use tally_connector_api::{LinkState, LinkStatus};
use tally_model::{ClockState, DeviceId, Timestamp};

/// Where the families of one scrape are put together.
struct Scrape {
    registry: Registry,
}

impl Scrape {
    fn counters<const N: usize>(&self, name: &str, help: &str, labels: [&str; N]) -> Result<IntCounterVec, Error> {
        let family = IntCounterVec::new(Opts::new(name, help), &labels)?;
        self.registry.register(Box::new(family.clone()))?;
        Ok(family)
    }

    fn gauges<const N: usize>(&self, name: &str, help: &str, labels: [&str; N]) -> Result<GaugeVec, Error> {
        let family = GaugeVec::new(Opts::new(name, help), &labels)?;
        self.registry.register(Box::new(family.clone()))?;
        Ok(family)
    }

    fn gauge(&self, name: &str, help: &str, value: f64) -> Result<(), Error> {
        self.gauges(name, help, [])?.with_label_values::<&str>(&[]).set(value);
        Ok(())
    }
}

impl Status {
    /// Everything that is measured, in Prometheus' text format 0.0.4; `anchors` as they stand `now`.
    ///
    /// # Errors
    /// When two families have the same name, which a test rules out.
    pub fn metrics(&self, anchors: &[Summary], now: Timestamp) -> Result<String, Error> {
        let scrape = Scrape { registry: Registry::new_custom(Some("tally_agent".to_owned()), None)? };
        self.agent_metrics(&scrape)?;
        self.link_metrics(&scrape)?;
        self.device_metrics(&scrape)?;
        anchor_metrics(&scrape, anchors, now)?;
        TextEncoder::new().encode_to_string(&scrape.registry.gather())
    }

    #[allow(clippy::cast_precision_loss)] // gauges are doubles; 2^53 bytes are enough
    fn agent_metrics(&self, scrape: &Scrape) -> Result<(), Error> {
        for Counted { name, kind, help, value } in self.count.all() {
            match kind {
                Kind::Counter => {
                    let family = scrape.counters(&format!("{name}_total"), help, [])?;
                    family.with_label_values::<&str>(&[]).inc_by(value);
                }
                Kind::Gauge => scrape.gauge(name, help, value as f64)?,
            }
        }
        let ready = if self.not_ready().is_empty() { 1.0 } else { 0.0 };
        scrape.gauge("ready", "1 when /ready says yes.", ready)?;
        clock_metrics(scrape, self.clock_state())?;
        scrape.gauge("up_seconds", "Seconds since the agent started.", self.started.elapsed().as_secs_f64())?;
        let sync_age = self.sync_age().as_secs_f64();
        scrape.gauge("vault_sync_age_seconds", "Seconds since readings were made durable; about 1 at most.", sync_age)
    }

    #[allow(clippy::cast_precision_loss)] // some thousand
    fn link_metrics(&self, scrape: &Scrape) -> Result<(), Error> {
        // Two logins at one endpoint have the same name; a device has one link.
        let labels = ["link", "first_device"];
        let up = scrape.gauges("link_up", "1 when the link is connected.", labels)?;
        let down = scrape.gauges(
            "link_down",
            "1 when the link is down, with the class of its fault.",
            ["link", "first_device", "class"],
        )?;
        let points =
            scrape.gauges("link_points_not_good", "Points that the device itself says are not good.", labels)?;
        let counters = [
            scrape.counters("link_faults_total", "Failures of the whole link.", labels)?,
            scrape.counters("link_connects_total", "Times the link came up.", labels)?,
            scrape.counters("link_overruns_total", "Poll cycles left out because the line was busy.", labels)?,
        ];
        let state = lock(&self.state);
        let mut links_down = 0;
        for link in &state.links {
            let status = link.status.borrow();
            let labels = [link.name.as_str(), link.devices.first().map_or("", DeviceId::as_str)];
            up.with_label_values(&labels).set(is_up(&status));
            links_down += usize::from(!status.state.is_up());
            if let LinkState::Down { fault, .. } = &status.state {
                down.with_label_values(&[labels[0], labels[1], fault.class()]).set(1.0);
            }
            points.with_label_values(&labels).set(status.words.len() as f64);
            for (family, value) in counters.iter().zip([status.faults, status.connects, status.overruns]) {
                family.with_label_values(&labels).inc_by(value);
            }
        }
        scrape.gauge("links_down", "Links that are not connected.", links_down as f64)?;
        let Some(broker) = &state.broker else { return Ok(()) };
        let broker = broker.borrow();
        scrape.gauge("broker_up", "1 when SCADA's broker is connected.", is_up(&broker))?;
        let faults = scrape.counters("broker_faults_total", "Failures of the connection to SCADA's broker.", [])?;
        faults.with_label_values::<&str>(&[]).inc_by(broker.faults);
        Ok(())
    }

    fn device_metrics(&self, scrape: &Scrape) -> Result<(), Error> {
        let values = scrape.counters("device_values_total", "Readings with a value.", ["device"])?;
        let without =
            scrape.counters("device_no_values_total", "Readings without a value, by reason.", ["device", "reason"])?;
        let ages = scrape.gauges("device_last_value_age_seconds", "Seconds since the last value.", ["device"])?;
        let groups = GroupFamilies::new(scrape)?;
        for (device, count) in lock(&self.devices).iter() {
            values.with_label_values(&[device.as_str()]).inc_by(count.values());
            for ((_, reason), count) in REASONS.iter().zip(count.without) {
                without.with_label_values(&[device.as_str(), reason]).inc_by(count);
            }
            if let Some(at) = count.last_value() {
                ages.with_label_values(&[device.as_str()]).set(age(at));
            }
            groups.write(device, count);
        }
        Ok(())
    }
}

/// Of the points of a device that are read at one rate.
struct GroupFamilies {
    points: GaugeVec,
    values: IntCounterVec,
    uncertain: IntCounterVec,
    without: IntCounterVec,
    ages: GaugeVec,
}

impl GroupFamilies {
    fn new(scrape: &Scrape) -> Result<Self, Error> {
        let labels = ["device", "every"];
        Ok(Self {
            points: scrape.gauges("group_points", "Points of the device read at this rate.", labels)?,
            values: scrape.counters("group_values_total", "Readings with a value.", labels)?,
            uncertain: scrape.counters("group_uncertain_total", "Of these, with quality uncertain.", labels)?,
            without: scrape.counters("group_no_values_total", "Readings without a value.", labels)?,
            ages: scrape.gauges("group_last_value_age_seconds", "Seconds since the last value.", labels)?,
        })
    }

    #[allow(clippy::cast_precision_loss)] // some thousand
    fn write(&self, device: &DeviceId, count: &DeviceCount) {
        for group in &count.groups {
            let labels = [device.as_str(), &group.label];
            self.points.with_label_values(&labels).set(group.points as f64);
            self.values.with_label_values(&labels).inc_by(group.values);
            self.uncertain.with_label_values(&labels).inc_by(group.uncertain);
            self.without.with_label_values(&labels).inc_by(group.without);
            if let Some(at) = group.last_value {
                self.ages.with_label_values(&labels).set(age(at));
            }
        }
    }
}

/// The bound is there only while somebody promises one.
#[allow(clippy::cast_precision_loss)] // µs
fn clock_metrics(scrape: &Scrape, clock: ClockState) -> Result<(), Error> {
    let synchronised = if matches!(clock, ClockState::Synchronised { .. }) { 1.0 } else { 0.0 };
    scrape.gauge("clock_synchronised", "1 when the clock that receive times are from is kept right.", synchronised)?;
    let Some(error) = clock.error_us() else { return Ok(()) };
    let help = "Seconds that receive times are off at most, while the clock is synchronised.";
    scrape.gauge("clock_error_seconds", help, error as f64 / 1e6)
}

fn is_up(status: &LinkStatus) -> f64 {
    if status.state.is_up() { 1.0 } else { 0.0 }
}

fn age(at: Instant) -> f64 {
    at.elapsed().as_secs_f64()
}

#[allow(clippy::cast_precision_loss)] // gauges are doubles
fn anchor_metrics(scrape: &Scrape, anchors: &[Summary], now: Timestamp) -> Result<(), Error> {
    let labels = ["device"];
    let number = scrape.gauges("anchor_number", "Number of the device's last sealed anchor.", labels)?;
    let pending = scrape.gauges("anchors_pending", "Sealed anchors without an answer of the ledger.", labels)?;
    let refusals = scrape.gauges("anchor_refusals", "Refused anchors since the last that was taken.", labels)?;
    let help = "Seconds since the last reading that an anchor in the ledger covers; absent while there is none.";
    let behind = scrape.gauges("anchor_behind_seconds", help, labels)?;
    for device in anchors {
        let labels = [device.device.as_str()];
        number.with_label_values(&labels).set(device.number as f64);
        pending.with_label_values(&labels).set(device.pending as f64);
        refusals.with_label_values(&labels).set(f64::from(device.refusals));
        if let Some(seconds) = device.behind(now) {
            behind.with_label_values(&labels).set(seconds);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;
    use tally_connector_api::{LinkFault, StatusReporter};
    use tally_model::Timestamp;

    #[test]
    fn links_are_told_apart_and_odd_names_do_no_harm() {
        let status = Status::default();
        let mut reporters = Vec::new();
        for (name, device) in
            [("modbus+rtu:///dev/tty\"odd\\", "a"), ("opc.tcp://h:4840", "b"), ("opc.tcp://h:4840", "c")]
        {
            let (reporter, listener) = StatusReporter::new(name);
            status.add_link(name.to_owned(), vec![DeviceId::try_new(device).unwrap()], listener);
            reporters.push(reporter);
        }
        reporters[0].up(Timestamp::default());
        reporters[1].down(LinkFault::Untrusted("look".to_owned()), Duration::from_secs(1));
        status.count.readings.add(7);
        let summary = Summary {
            device: DeviceId::try_new("a").unwrap(),
            number: 3,
            next: 31,
            covered: Some(21),
            sealed_until: Some(Timestamp::from_micros(80_000_000)),
            covered_until: Some(Timestamp::from_micros(30_000_000)),
            pending: 1,
            refusals: 0,
        };
        let text = status.metrics(&[summary], Timestamp::from_micros(90_000_000)).unwrap();
        for line in [
            "# HELP tally_agent_readings_total Readings numbered and chained.",
            "# TYPE tally_agent_readings_total counter",
            "tally_agent_readings_total 7",
            "tally_agent_links_down 2",
            r#"tally_agent_anchor_behind_seconds{device="a"} 60"#,
            r#"tally_agent_anchors_pending{device="a"} 1"#,
            "tally_agent_ready 1",
            r#"tally_agent_link_up{first_device="a",link="modbus+rtu:///dev/tty\"odd\\"} 1"#,
            r#"tally_agent_link_up{first_device="b",link="opc.tcp://h:4840"} 0"#,
            r#"tally_agent_link_up{first_device="c",link="opc.tcp://h:4840"} 0"#,
            r#"tally_agent_link_down{class="server-not-trusted",first_device="b",link="opc.tcp://h:4840"} 1"#,
            r#"tally_agent_link_faults_total{first_device="b",link="opc.tcp://h:4840"} 1"#,
        ] {
            assert!(text.lines().any(|found| found == line), "no `{line}` in\n{text}");
        }
    }
}
