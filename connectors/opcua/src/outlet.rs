//! The way from the session to the agent's sink: samples become batches, batches wait for room.
//!
//! What waits here is what one event of the session brought, at most one notification message, because the session is
//! not moved while something waits.

use crate::decode;
use crate::history::Holes;
use crate::link::LOOK_AGAIN;
use crate::subscribe::place_of;
use opcua::types::custom::DataTypeTree;
use opcua::types::{DataValue, MonitoredItemNotification, StatusCode};
use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::Arc;
use tally_connector_api::{Batch, Clock, LinkContext, StatusReporter, down_batch, down_sample};
use tally_model::{Address, DeviceSpec, NoValue, Origin, Timestamp};
use tokio::sync::mpsc;

/// Names of points in one log line.
const NAMES_MAX: usize = 5;

/// Makes batches and holds them until the sink takes them.
pub(crate) struct Outlet {
    devices: Arc<[DeviceSpec]>,
    sink: mpsc::Sender<Batch>,
    clock: Arc<dyn Clock>,
    waiting: VecDeque<Batch>,
    /// Whether the link is reading; an outage is told once.
    pub(crate) is_up: bool,
    /// Whether the outage was told.
    is_down_told: bool,
    /// Points (device, place) whose nonsense is logged.
    puzzled: HashSet<(usize, usize)>,
    /// Points (device, place) whose absence is logged.
    reported: HashSet<(usize, usize)>,
    /// Status of the points that are not simply good.
    words: HashMap<(usize, usize), StatusCode>,
    status: StatusReporter,
    /// What was missed while the link was down.
    pub(crate) holes: Holes,
    types: Option<Arc<DataTypeTree>>,
    /// Where the values of this session come from.
    origin: Option<Arc<Origin>>,
}

impl Outlet {
    pub(crate) fn new(devices: Arc<[DeviceSpec]>, context: &LinkContext) -> Self {
        Self {
            devices,
            sink: context.sink.clone(),
            clock: Arc::clone(&context.clock),
            waiting: VecDeque::new(),
            is_up: false,
            is_down_told: false,
            puzzled: HashSet::new(),
            reported: HashSet::new(),
            words: HashMap::new(),
            status: context.status.clone(),
            holes: Holes::default(),
            types: None,
            origin: None,
        }
    }

    /// From now on values come from there.
    pub(crate) fn set_origin(&mut self, origin: Origin) {
        self.origin = Some(Arc::new(origin));
    }

    /// The types structures of this session are decoded with.
    pub(crate) fn set_types(&mut self, types: Arc<DataTypeTree>) {
        self.types = Some(types);
    }

    pub(crate) fn types(&self) -> Option<&DataTypeTree> {
        self.types.as_deref()
    }

    pub(crate) fn device(&self, device: usize) -> Option<&DeviceSpec> {
        self.devices.get(device)
    }

    pub(crate) fn clock(&self) -> Arc<dyn Clock> {
        Arc::clone(&self.clock)
    }

    /// Gives the waiting batches to the sink, waiting for room. Cancel-safe: a batch leaves only with its permit.
    pub(crate) async fn flush(&mut self) {
        while !self.waiting.is_empty() {
            match self.sink.reserve().await {
                Ok(permit) => {
                    if let Some(batch) = self.waiting.pop_front() {
                        permit.send(batch);
                    }
                }
                // Nobody listens any more: the agent is going down and stops us next.
                Err(_) => std::future::pending().await,
            }
        }
    }

    /// Data changes of one device that came in one message.
    pub(crate) fn hand(&mut self, device: usize, changes: Vec<MonitoredItemNotification>, received: Timestamp) {
        // A handle we never gave out is a server's mistake that concerns none of our points.
        let placed = changes.into_iter().filter_map(|change| Some((place_of(change.client_handle)?, change.value)));
        self.hand_values(device, placed.collect(), received);
    }

    /// Values of one device by place, from a notification or a read.
    pub(crate) fn hand_values(&mut self, device: usize, values: Vec<(usize, DataValue)>, received: Timestamp) {
        let devices = Arc::clone(&self.devices);
        let Some(spec) = devices.get(device) else { return };
        let mut samples = Vec::with_capacity(values.len());
        let mut absent = Vec::new();
        for (place, value) in values {
            let Some(point) = spec.points.get(place) else { continue };
            let sample = decode::decode(point, &value, received, self.types.as_deref());
            self.word(spec, (device, place), value.status());
            // What happened to an alarm meanwhile is not in the history of a variable.
            if !matches!(point.address, Address::OpcUa { alarm: Some(_), .. }) {
                self.holes.heard((device, place), &value, &sample);
            }
            match sample.outcome {
                Err(NoValue::NoSuchAddress) => absent.push(place),
                Err(NoValue::Nonsense) if self.puzzled.insert((device, place)) => {
                    let found = decode::describe(value.value.as_ref());
                    tracing::warn!(device = %spec.id, point = %point.id, expected = ?point.encoding, found,
                        "the server's value makes no sense for this point; said once");
                }
                _ => {}
            }
            samples.push(sample);
        }
        self.report_absent(device, absent.into_iter());
        if !samples.is_empty() {
            self.waiting.push_back(Batch { device: spec.id.clone(), samples, origin: self.origin.clone() });
        }
    }

    /// Points (device, place) the server would not monitor.
    pub(crate) fn hand_refused(&mut self, refused: Vec<(usize, usize, NoValue)>) {
        let now = self.clock.now();
        for (device, spec) in Arc::clone(&self.devices).iter().enumerate() {
            let of_device = refused.iter().filter(|(owner, ..)| *owner == device);
            let samples: Vec<_> = of_device
                .clone()
                .filter_map(|(_, place, reason)| Some(down_sample(spec.points.get(*place)?, *reason, now)))
                .collect();
            if !samples.is_empty() {
                self.report_absent(device, of_device.map(|(_, place, _)| *place));
                self.waiting.push_back(Batch { device: spec.id.clone(), samples, origin: self.origin.clone() });
            }
        }
    }

    /// Passes on the server's own word about a point when it changes.
    fn word(&mut self, spec: &DeviceSpec, place: (usize, usize), status: StatusCode) {
        let is_plain = status.is_good() && !status.overflow();
        let before = if is_plain { self.words.remove(&place) } else { self.words.insert(place, status) };
        if before == (!is_plain).then_some(status) {
            return;
        }
        let Some(point) = spec.points.get(place.1) else { return };
        let word = status.to_string();
        self.status.word(&spec.id, &point.id, (!is_plain).then_some(word.as_str()));
    }

    /// Says once in the log which points are not on the server.
    fn report_absent(&mut self, device: usize, places: impl Iterator<Item = usize>) {
        let spec = &self.devices[device];
        let new: Vec<_> = places.filter(|place| self.reported.insert((device, *place))).collect();
        if new.is_empty() {
            return;
        }
        let points = new.iter().take(NAMES_MAX).filter_map(|place| spec.points.get(*place));
        let names: Vec<_> = points.map(|point| format!("{} ({})", point.id, point.address)).collect();
        tracing::warn!(device = %spec.id, count = new.len(), first = names.join(", "),
            "the server does not have or does not give these points; looked for again every {LOOK_AGAIN:?}");
    }

    /// Says once per outage that no point can be read.
    pub(crate) fn hand_down(&mut self) {
        if self.is_up {
            self.holes.open();
        }
        if self.is_up || !self.is_down_told {
            let now = self.clock.now();
            self.waiting.extend(self.devices.iter().map(|device| down_batch(device, NoValue::LinkDown, now)));
        }
        (self.is_up, self.is_down_told) = (false, true);
    }
}
