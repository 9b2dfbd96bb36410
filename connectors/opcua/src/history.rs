//! Filling the hole an outage left from the server's own history (OPC UA Part 11).
//!
//! A hole is what lies strictly between the last value heard before the outage and the first heard after it, by source
//! time; so nothing is told twice, and values keep their order for each point. What is filled goes its own way
//! ([`HistoricalBatch`]) and never delays live values: one page is asked for when the agent has room for it.

use crate::decode;
use crate::error::link_fault;
use crate::outlet::Outlet;
use crate::plan::Plan;
use crate::session::Connection;
use opcua::client::HistoryReadAction;
use opcua::types::{
    ByteString, DataValue, DateTime, Error, HistoryData, HistoryReadResult, HistoryReadValueId, NodeId,
    ReadRawModifiedDetails, TimestampsToReturn,
};
use std::collections::{BTreeSet, HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;
use tally_connector_api::{HistoricalBatch, LinkFault};
use tally_model::{Sample, Timestamp};
use tokio::sync::mpsc;

/// Values asked for per node and request.
const VALUES_PER_NODE: u32 = 1_000;

/// Nodes in one request where the server names no limit.
const NODES_PER_REQUEST: usize = 50;

/// A server tells a change at most this long after newer ones of the same device. So a point that had been constant for
/// weeks does not ask for weeks of history after an outage of seconds.
const LATE_MAX: Duration = Duration::from_secs(60);

/// Place of a device in the link, place of a point in the device.
type Place = (usize, usize);

/// What was heard, and what was missed.
#[derive(Debug, Default)]
pub(crate) struct Holes {
    /// Source time of the last value of each point.
    heard: HashMap<Place, Timestamp>,
    /// Newest source time of each device.
    latest: HashMap<usize, Timestamp>,
    /// Where the hole of each point begins, while its end is not known.
    open: HashMap<Place, (Timestamp, Timestamp)>,
    /// Holes with both ends, oldest first.
    ready: VecDeque<Hole>,
}

/// A stretch of source time to be asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Hole {
    place: Place,
    /// Heard before the outage, or told since; exclusive.
    after: Timestamp,
    /// Where asking begins.
    from: Timestamp,
    /// Heard after the outage; exclusive.
    before: Timestamp,
}

impl Holes {
    /// Notes a live value; the first of a point after an outage ends its hole.
    pub(crate) fn heard(&mut self, place: Place, data: &DataValue, sample: &Sample) {
        if data.source_timestamp.is_none_or(|time| time.is_null()) {
            return;
        }
        let time = sample.source_time;
        if let Some((after, from)) = self.open.remove(&place)
            && time > after
        {
            // A server whose clock was set back meanwhile: asking begins at the point's own value.
            let from = if from < time { from.max(after) } else { after };
            self.ready.push_back(Hole { place, after, from, before: time });
        }
        // The last, not the newest: values of a point come in order, and a clock may be set back.
        self.heard.insert(place, time);
        let latest = self.latest.entry(place.0).or_insert(time);
        *latest = time.max(*latest);
    }

    /// The link went down: from here on values are missed.
    pub(crate) fn open(&mut self) {
        let late_max = i64::try_from(LATE_MAX.as_micros()).unwrap_or(i64::MAX);
        for (place, heard) in &self.heard {
            let latest = self.latest.get(&place.0).unwrap_or(heard);
            let from = Timestamp::from_micros(latest.as_micros().saturating_sub(late_max));
            self.open.entry(*place).or_insert((*heard, from));
        }
    }

    /// Forgets the first `count` holes but those that have to be asked for again.
    fn filled(&mut self, count: usize, again: &BTreeSet<usize>) {
        let left: Vec<_> = self.ready.drain(..count).enumerate().filter(|(place, _)| again.contains(place)).collect();
        for (_, hole) in left.into_iter().rev() {
            self.ready.push_front(hole);
        }
    }

    /// Whether there is anything to ask for.
    pub(crate) fn has_ready(&self) -> bool {
        !self.ready.is_empty()
    }
}

/// One history request in progress: holes of one device, asked for together, page by page.
pub(crate) struct Job {
    device: usize,
    details: ReadRawModifiedDetails,
    nodes: Vec<JobNode>,
    /// How many holes at the front of the list it is about.
    holes: usize,
    /// Those of them that are not filled yet although the server has no more pages.
    again: BTreeSet<usize>,
}

struct JobNode {
    /// Place of its hole in the list.
    hole: usize,
    node: NodeId,
    continuation: ByteString,
}

impl Connection {
    /// Asks for one page of what was missed and gives it to the agent.
    pub(crate) async fn backfill(
        &mut self,
        plans: &[Plan],
        room: mpsc::OwnedPermit<HistoricalBatch>,
        outlet: &mut Outlet,
    ) -> Result<(), LinkFault> {
        let job = match self.job.take() {
            Some(job) => Some(job),
            None => self.next_job(plans, outlet),
        };
        let Some(mut job) = job else { return Ok(()) };
        let session = Arc::clone(&self.session);
        let asked = "read the history";
        let nodes: Vec<_> = job.nodes.iter().map(JobNode::request).collect();
        let details = HistoryReadAction::ReadRawModifiedDetails(job.details.clone());
        let read =
            async move { Ok::<_, Error>(session.history_read(details, TimestampsToReturn::Both, false, &nodes).await) };
        let results = match self.drive(outlet, asked, read).await? {
            Ok(results) => results,
            Err(fault) => match link_fault(asked, fault.status(), "") {
                line @ LinkFault::Line(_) => return Err(line),
                refused => {
                    outlet.holes.ready.drain(..job.holes);
                    tracing::warn!(link = %plans[job.device].endpoint, fault = %refused, "the hole stays a hole");
                    return Ok(());
                }
            },
        };
        let samples = job.take_in(results, outlet);
        if let Some(spec) = outlet.device(job.device)
            && !samples.is_empty()
        {
            room.send(HistoricalBatch { device: spec.id.clone(), samples });
        }
        if job.nodes.is_empty() {
            outlet.holes.filled(job.holes, &job.again);
        } else {
            self.job = Some(job);
        }
        Ok(())
    }

    /// The next holes of one device that can be asked for together. Holes of devices without `history` are forgotten.
    fn next_job(&self, plans: &[Plan], outlet: &mut Outlet) -> Option<Job> {
        let ready = &mut outlet.holes.ready;
        ready.retain(|hole| plans.get(hole.place.0).is_some_and(|plan| plan.history.is_some()));
        let device = ready.front()?.place.0;
        let most = self.facts.nodes_per_history_read.unwrap_or(NODES_PER_REQUEST).clamp(1, NODES_PER_REQUEST);
        let holes = ready.iter().take_while(|hole| hole.place.0 == device).take(most).count();
        let plan = &plans[device];
        let longest = i64::try_from(plan.history?.as_micros()).unwrap_or(i64::MAX);
        let chosen = ready.iter().take(holes);
        let until = chosen.clone().map(|hole| hole.before).max()?;
        let from = chosen.clone().map(|hole| hole.from).min()?;
        let from = from.max(Timestamp::from_micros(until.as_micros().saturating_sub(longest)));
        let node = |(place, hole): (usize, &Hole)| {
            let node = plan.item(hole.place.1)?.node_id(&self.facts.namespaces)?;
            Some(JobNode { hole: place, node, continuation: ByteString::null() })
        };
        let details = ReadRawModifiedDetails {
            is_read_modified: false,
            start_time: date_time(from),
            end_time: date_time(until),
            num_values_per_node: VALUES_PER_NODE,
            return_bounds: false,
        };
        Some(Job {
            device,
            details,
            nodes: chosen.enumerate().filter_map(node).collect(),
            holes,
            again: BTreeSet::new(),
        })
    }
}

impl JobNode {
    fn request(&self) -> HistoryReadValueId {
        HistoryReadValueId {
            node_id: self.node.clone(),
            continuation_point: self.continuation.clone(),
            ..HistoryReadValueId::default()
        }
    }
}

impl Job {
    /// Takes one page in: samples that were really missed, holes shortened by them, nodes that have more to say kept.
    fn take_in(&mut self, results: Vec<HistoryReadResult>, outlet: &mut Outlet) -> Vec<Sample> {
        let now = outlet.clock().now();
        let (mut samples, mut silent) = (Vec::new(), BTreeSet::new());
        let nodes = std::mem::take(&mut self.nodes);
        for (mut node, result) in nodes.into_iter().zip(results) {
            if result.status_code.is_bad() {
                silent.insert(result.status_code.to_string());
                continue;
            }
            let Some(data) = result.history_data.into_inner_as::<HistoryData>() else { continue };
            let values = data.data_values.unwrap_or_default();
            let told = fill(node.hole, &values, now, outlet);
            // Some servers cut at the number asked for and give no continuation point (asyncua 2.1): ask from there on.
            let is_cut = values.len() >= usize::try_from(VALUES_PER_NODE).unwrap_or(usize::MAX) && !told.is_empty();
            if is_cut && result.continuation_point.is_null_or_empty() {
                self.again.insert(node.hole);
            }
            samples.extend(told);
            if !result.continuation_point.is_null_or_empty() {
                node.continuation = result.continuation_point;
                self.nodes.push(node);
            }
        }
        if !silent.is_empty() {
            let reasons = silent.into_iter().collect::<Vec<_>>().join(", ");
            tracing::warn!(device = self.device, reasons, "some points have no history; their hole stays a hole");
        }
        samples
    }
}

/// The values that lie in the hole, each source time once, oldest first; the hole then begins behind them.
fn fill(place: usize, values: &[DataValue], now: Timestamp, outlet: &mut Outlet) -> Vec<Sample> {
    let Some(hole) = outlet.holes.ready.get(place).cloned() else { return Vec::new() };
    let Some(point) = outlet.device(hole.place.0).and_then(|device| device.points.get(hole.place.1)) else {
        return Vec::new();
    };
    let types = outlet.types();
    let decoded = values.iter().filter(|value| value.source_timestamp.is_some());
    let mut samples: Vec<_> = decoded.map(|value| decode::decode(point, value, now, types)).collect();
    samples.retain(|sample| sample.source_time > hole.after && sample.source_time < hole.before);
    samples.sort_by_key(|sample| sample.source_time);
    samples.dedup_by_key(|sample| sample.source_time);
    if let (Some(last), Some(hole)) = (samples.last(), outlet.holes.ready.get_mut(place)) {
        hole.after = last.source_time;
        hole.from = hole.from.max(hole.after);
    }
    samples
}

fn date_time(time: Timestamp) -> DateTime {
    // 100 ns ticks since 1601-01-01 (Part 6 §5.2.2.5).
    const EPOCH_TICKS: i64 = 116_444_736_000_000_000;
    DateTime::from(time.as_micros().saturating_mul(10).saturating_add(EPOCH_TICKS))
}

#[cfg(test)]
mod tests {
    use super::*;
    use tally_model::{PointId, Quality, Unit, Value};

    fn at(micros: i64) -> (DataValue, Sample) {
        let time = Timestamp::from_micros(micros);
        let data = DataValue { source_timestamp: Some(date_time(time)), ..DataValue::value_only(1) };
        let sample = Sample {
            seal: None,
            point: PointId::try_new("p").unwrap(),
            outcome: Ok(Value::Integer(1)),
            unit: Unit::one(),
            quality: Quality::Good,
            source_time: time,
            received: time,
        };
        (data, sample)
    }

    const SECOND: i64 = 1_000_000;

    #[test]
    fn a_hole_lies_between_the_last_heard_and_the_first_heard_again() {
        let mut holes = Holes::default();
        let hear = |holes: &mut Holes, place, seconds| {
            let (data, sample) = at(seconds * SECOND);
            holes.heard(place, &data, &sample);
        };
        hear(&mut holes, (0, 0), 1_000);
        hear(&mut holes, (0, 1), 5_000);
        assert!(!holes.has_ready());
        holes.open();
        // A second outage before anything was heard does not move the beginning.
        holes.open();
        hear(&mut holes, (0, 0), 6_000);
        hear(&mut holes, (0, 1), 5_000);
        let hole = holes.ready.pop_front().unwrap();
        assert_eq!(
            (hole.after, hole.before),
            (Timestamp::from_micros(1_000 * SECOND), Timestamp::from_micros(6_000 * SECOND))
        );
        assert_eq!(
            hole.from,
            Timestamp::from_micros(4_940 * SECOND),
            "a long constant point does not ask for everything"
        );
        assert!(!holes.has_ready(), "nothing changed: no hole");
        // The end of a hole is heard once.
        hear(&mut holes, (0, 0), 7_000);
        assert!(!holes.has_ready());
    }

    #[test]
    fn a_clock_set_back_leaves_holes_that_can_be_asked_for() {
        let mut holes = Holes::default();
        let hear = |holes: &mut Holes, place, seconds| {
            let (data, sample) = at(seconds * SECOND);
            holes.heard(place, &data, &sample);
        };
        hear(&mut holes, (0, 0), 9_000);
        hear(&mut holes, (0, 0), 1_000);
        holes.open();
        hear(&mut holes, (0, 0), 1_500);
        let hole = holes.ready.pop_front().unwrap();
        let seconds = [hole.after, hole.from, hole.before].map(|time| time.as_micros() / SECOND);
        assert_eq!(seconds, [1_000, 1_000, 1_500]);
    }

    #[test]
    fn values_without_a_time_of_their_own_make_no_holes() {
        let mut holes = Holes::default();
        let (_, sample) = at(SECOND);
        holes.heard((0, 0), &DataValue::value_only(1), &sample);
        holes.open();
        let (data, sample) = at(9 * SECOND);
        holes.heard((0, 0), &data, &sample);
        assert!(!holes.has_ready());
    }

    #[test]
    fn times_survive_the_way_to_the_server() {
        let time = Timestamp::parse_rfc3339("2026-01-02T03:04:05.678901Z").unwrap();
        assert_eq!(date_time(time).as_chrono().timestamp_micros(), time.as_micros());
    }
}
