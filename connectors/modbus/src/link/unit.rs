//! One device of the link: when it is due, what it is asked, what it refused, how long it is left alone.

use super::connection::Connection;
use crate::decode::{decode_response, sample};
use crate::error::Failure;
use crate::{Plan, Request};
use std::collections::VecDeque;
use std::time::Duration;
use tally_connector_api::{Backoff, Clock};
use tally_model::{DeviceSpec, NoValue, Quality, Sample};
use tokio::time::Instant;

/// How long a point that the device does not know is left out: firmware is changed by people, not every second.
const ASK_AGAIN_UNKNOWN: Duration = Duration::from_secs(60);

/// How long a point that the device failed to read is left out: a sensor may come back at any moment.
const ASK_AGAIN_FAILED: Duration = Duration::from_secs(5);

pub(super) struct Unit {
    pub(super) device: DeviceSpec,
    unit: u8,
    slots: Vec<Slot>,
    next: Instant,
    /// Alone with its silence: the link's other units are not slowed by it.
    backoff: Backoff,
    silent_until: Option<Instant>,
    /// Set by a reset after a timeout or nonsense: the next values are marked uncertain, once.
    is_suspect: bool,
    /// Whether this outage of the link has been told already.
    pub(super) told_down: bool,
}

/// What one turn of a device gave.
pub(super) struct Cycle {
    /// One for every point, whatever happened.
    pub(super) samples: Vec<Sample>,
    /// Why the turn was cut short, when the whole unit is out of reach.
    pub(super) failure: Option<Failure>,
}

impl Unit {
    pub(super) fn new(device: DeviceSpec, plan: Plan, now: Instant) -> Self {
        Self {
            unit: plan.unit,
            slots: plan.requests.into_iter().map(Slot::new).collect(),
            next: now,
            backoff: Backoff::for_links(),
            silent_until: None,
            is_suspect: false,
            told_down: false,
            device,
        }
    }

    /// When it wants to be asked next.
    pub(super) fn due(&self) -> Instant {
        self.silent_until.map_or(self.next, |until| until.max(self.next))
    }

    /// Whether its last turn failed as a whole.
    pub(super) fn is_silent(&self) -> bool {
        self.silent_until.is_some()
    }

    /// Asks everything; after a failure of the whole unit the remaining points get the same reason unasked.
    pub(super) async fn ask_all(&mut self, connection: &mut Connection, clock: &dyn Clock) -> Cycle {
        self.plan_next_turn();
        let mut turn = Turn {
            unit: self.unit,
            timeout: self.device.timeout,
            connection,
            clock,
            samples: Vec::with_capacity(self.device.points.len()),
        };
        let mut failure = None;
        for slot in &mut self.slots {
            match failure.as_ref().map(Failure::reason) {
                None => failure = slot.ask(&mut turn).await.err(),
                Some(reason) => turn.refuse(&slot.planned, reason),
            }
        }
        let mut samples = turn.samples;
        if self.is_suspect {
            doubt(&mut samples);
        }
        Cycle { samples, failure }
    }

    /// Missed cycles are skipped: the next turn keeps the rhythm and lies in the future.
    fn plan_next_turn(&mut self) {
        let now = Instant::now();
        let late = now.saturating_duration_since(self.next);
        let skipped = u32::try_from(late.as_nanos() / self.device.every.as_nanos().max(1)).unwrap_or(u32::MAX);
        let step = self.device.every.saturating_mul(skipped.saturating_add(1));
        // An instant beyond the clock's end (a period of centuries) falls back to one day.
        self.next = self.next.checked_add(step).unwrap_or(now + Duration::from_secs(86_400));
    }

    /// silent → answering
    pub(super) fn answered(&mut self) {
        if self.backoff.attempts() > 0 {
            tracing::info!(device = %self.device.id, attempts = self.backoff.attempts(), "device answers again");
        }
        self.backoff.reset();
        self.silent_until = None;
        self.is_suspect = false;
        self.told_down = false;
    }

    /// answering → silent; gives the time until it is asked again at the earliest.
    pub(super) fn failed(&mut self, failure: &Failure) -> Duration {
        if self.backoff.attempts() == 0 {
            let fault = failure.clone().into_link_fault();
            tracing::warn!(device = %self.device.id, %fault, "device is out of reach, it is asked again by itself");
        }
        self.is_suspect |= matches!(failure, Failure::Timeout(_) | Failure::Nonsense(_));
        self.told_down |= matches!(failure, Failure::Line(_));
        let delay = self.backoff.next_delay();
        self.silent_until = Instant::now().checked_add(delay);
        delay
    }
}

/// The first values after a reset: the device may have been restarted, and nobody knows how old its answer is.
fn doubt(samples: &mut [Sample]) {
    for sample in samples.iter_mut().filter(|sample| sample.quality == Quality::Good) {
        sample.quality = Quality::Uncertain;
    }
}

/// What the slots of one turn share.
struct Turn<'t> {
    unit: u8,
    timeout: Duration,
    connection: &'t mut Connection,
    clock: &'t dyn Clock,
    samples: Vec<Sample>,
}

impl Turn<'_> {
    /// Asks one request and decodes the answer.
    async fn ask(&mut self, request: &Request) -> Result<(), Failure> {
        let words = self.connection.ask(self.unit, request, self.timeout).await?;
        decode_response(request, &words, self.clock.now(), &mut self.samples);
        Ok(())
    }

    fn refuse(&mut self, request: &Request, reason: NoValue) {
        let now = self.clock.now();
        self.samples.extend(request.points.iter().map(|point| sample(&point.spec, Err(reason), now)));
    }
}

/// One planned request, as it is really asked: whole, or in the pieces that the device accepts.
struct Slot {
    planned: Request,
    pieces: Vec<Request>,
    refused: Vec<Refused>,
    is_cut_by_refusal: bool,
}

/// A single point the device does not give.
struct Refused {
    request: Request,
    reason: NoValue,
    ask_again: Instant,
}

impl Slot {
    fn new(planned: Request) -> Self {
        Self { pieces: vec![planned.clone()], planned, refused: Vec::new(), is_cut_by_refusal: false }
    }

    /// Asks all pieces, halving what is refused because of its addresses. Samples for all points, always.
    async fn ask(&mut self, turn: &mut Turn<'_>) -> Result<(), Failure> {
        self.probe_refused();
        let mut todo: VecDeque<Request> = std::mem::take(&mut self.pieces).into();
        for refused in &self.refused {
            turn.refuse(&refused.request, refused.reason);
        }
        while let Some(piece) = todo.pop_front() {
            let Err(failure) = turn.ask(&piece).await else {
                self.pieces.push(piece);
                continue;
            };
            if failure.is_about_unit() {
                todo.push_front(piece);
                todo.iter().for_each(|piece| turn.refuse(piece, failure.reason()));
                self.pieces.extend(todo);
                return Err(failure);
            }
            match halves(&piece).filter(|_| failure.is_about_addresses()) {
                Some((low, high)) => {
                    todo.push_front(high);
                    todo.push_front(low);
                }
                None => self.refuse(piece, &failure, turn),
            }
        }
        self.mend();
        Ok(())
    }

    /// A piece that cannot be made smaller: left out for a while when its address is the reason, else asked again.
    fn refuse(&mut self, piece: Request, failure: &Failure, turn: &mut Turn<'_>) {
        let reason = failure.reason();
        turn.refuse(&piece, reason);
        if !failure.is_about_addresses() {
            self.pieces.push(piece);
            return;
        }
        let wait = if reason == NoValue::NoSuchAddress { ASK_AGAIN_UNKNOWN } else { ASK_AGAIN_FAILED };
        if let Some(point) = piece.points.first() {
            tracing::debug!(point = %point.spec.id, %reason, "left out for {wait:?}");
        }
        self.is_cut_by_refusal = true;
        self.refused.push(Refused { ask_again: Instant::now() + wait, request: piece, reason });
    }

    /// Refused points whose time has come are asked again, alone, in this turn.
    fn probe_refused(&mut self) {
        let now = Instant::now();
        let due = self.refused.extract_if(.., |refused| refused.ask_again <= now);
        self.pieces.extend(due.map(|refused| refused.request));
    }

    /// When the last refused point is back, the points travel together again. A request that was only cut around
    /// a gap stays cut.
    fn mend(&mut self) {
        if self.is_cut_by_refusal && self.refused.is_empty() {
            self.is_cut_by_refusal = false;
            self.pieces = vec![self.planned.clone()];
        }
    }
}

/// The piece in two, by points; `None` for a single point.
fn halves(piece: &Request) -> Option<(Request, Request)> {
    let count = piece.points.len();
    if count < 2 {
        return None;
    }
    Some((piece.part(0..count / 2)?, piece.part(count / 2..count)?))
}
