//! One device of the link: when it is due, what it is asked, what it refused, how long it is left alone. Points of
//! different rates are asked in turns of their own; the silence of the device is one for all.

use super::connection::Manners;
use super::desk::Desk;
use super::identity::Identity;
use super::slot::{Slot, Turn};
use crate::Plan;
use crate::error::Failure;
use std::sync::Arc;
use std::time::Duration;
use tally_connector_api::{Backoff, Clock};
use tally_model::{DeviceSpec, LinkSecurity, NoValue, Origin, Quality, Sample};
use tokio::time::Instant;

pub(super) struct Unit {
    pub(super) device: DeviceSpec,
    manners: Manners,
    rates: Vec<Rate>,
    /// Alone with its silence: the link's other units are not slowed by it.
    backoff: Backoff,
    silent_until: Option<Instant>,
    /// Set by a reset after a timeout or nonsense: the next values are marked uncertain, once.
    is_suspect: bool,
    /// Whether this outage of the link has been told of all points: a turn that broke off tells it of those that were due and not
    /// answered before, which may not be all.
    pub(super) told_down: bool,
    /// What it calls itself; `None` when nobody wants to know.
    identity: Option<Identity>,
    /// Where its latest values came from.
    origin: Option<Arc<Origin>>,
}

/// What is asked at one rate.
struct Rate {
    every: Duration,
    next: Instant,
    slots: Vec<Slot>,
}

/// What one turn of a device gave.
pub(super) struct Cycle {
    /// One for every point that was due, whatever happened.
    pub(super) samples: Vec<Sample>,
    /// Cycles that were left out because the line was busy for too long.
    pub(super) overruns: u64,
    /// Why the turn was cut short, when the whole unit is out of reach.
    pub(super) failure: Option<Failure>,
}

impl Unit {
    pub(super) fn new(device: DeviceSpec, plan: Plan, now: Instant) -> Self {
        Self {
            manners: Manners::of(&device, plan.unit),
            rates: rates(plan, now),
            backoff: Backoff::for_links(),
            silent_until: None,
            is_suspect: false,
            told_down: false,
            identity: device.modbus.identify.map(|every| Identity::new(every, now)),
            origin: None,
            device,
        }
    }

    /// When it wants to be asked next.
    pub(super) fn due(&self) -> Instant {
        // A device without points is never due.
        let next = self.rates.iter().map(|rate| rate.next).min().unwrap_or_else(far_away);
        self.silent_until.map_or(next, |until| until.max(next))
    }

    /// Where values come from that came over a link secured like this.
    pub(super) fn origin(&mut self, link: &LinkSecurity) -> Arc<Origin> {
        let said = self.identity.as_ref().and_then(Identity::said);
        match &self.origin {
            Some(origin) if origin.link == *link && origin.identity.as_deref() == said => Arc::clone(origin),
            _ => {
                let origin = Arc::new(Origin { link: link.clone(), identity: said.map(ToOwned::to_owned) });
                Arc::clone(self.origin.insert(origin))
            }
        }
    }

    /// Asks the device what it calls itself, when that is wanted and may have changed.
    pub(super) async fn identify(&mut self, desk: &mut Desk, is_back: bool) {
        if let Some(identity) = &mut self.identity {
            identity.look(desk, &self.manners, &self.device.id, is_back).await;
        }
    }

    /// Whether its last turn failed as a whole.
    pub(super) fn is_silent(&self) -> bool {
        self.silent_until.is_some()
    }

    /// How it wants to be asked.
    pub(super) fn manners(&self) -> &Manners {
        &self.manners
    }

    /// Asks everything that is due; after a failure of the whole unit the remaining points get the same reason unasked.
    pub(super) async fn ask_due(&mut self, desk: &mut Desk, clock: &dyn Clock) -> Cycle {
        let (now, mut failure, mut overruns) = (Instant::now(), None, 0_u64);
        // Who was left alone on purpose, or behind a line that was down, has not overrun anything.
        let was_silent = self.silent_until.is_some() || self.told_down;
        let samples = Vec::with_capacity(self.device.points.len());
        let mut turn = Turn { manners: &self.manners, desk, clock, samples };
        // What was said to be down is asked at once when it is back, however rarely otherwise.
        for rate in self.rates.iter_mut().filter(|rate| rate.next <= now || self.told_down) {
            let skipped = rate.plan_next(now);
            overruns = overruns.saturating_add(if was_silent { 0 } else { skipped });
            for slot in &mut rate.slots {
                match failure.as_ref().map(Failure::reason) {
                    None => failure = slot.ask(&mut turn).await.err(),
                    Some(reason) => turn.refuse(&slot.planned, reason),
                }
            }
        }
        let mut samples = turn.samples;
        if self.is_suspect {
            doubt(&mut samples);
        }
        Cycle { samples, overruns, failure }
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

    /// answering → silent, with what that turn gave; gives the time until it is asked again at the earliest.
    pub(super) fn failed(&mut self, failure: &Failure, samples: &[Sample]) -> Duration {
        if self.backoff.attempts() == 0 {
            let fault = failure.clone().into_link_fault();
            tracing::warn!(device = %self.device.id, %fault, "device is out of reach, it is asked again by itself");
        }
        let is_down = |sample: &Sample| sample.outcome == Err(NoValue::LinkDown);
        self.told_down = samples.len() == self.device.points.len() && samples.iter().all(is_down);
        self.is_suspect |= matches!(failure, Failure::Timeout(_) | Failure::Nonsense(_));
        let delay = self.backoff.next_delay();
        self.silent_until = Instant::now().checked_add(delay);
        delay
    }
}

impl Rate {
    /// Missed cycles are skipped: the next turn keeps the rhythm and lies in the future, where it may lie already. Gives how many were
    /// missed.
    fn plan_next(&mut self, now: Instant) -> u64 {
        let Some(late) = now.checked_duration_since(self.next) else { return 0 };
        let skipped = u32::try_from(late.as_nanos() / self.every.as_nanos().max(1)).unwrap_or(u32::MAX);
        let step = self.every.saturating_mul(skipped.saturating_add(1));
        self.next = self.next.checked_add(step).unwrap_or_else(far_away);
        u64::from(skipped)
    }
}

/// The requests of a plan, those of one rate together.
fn rates(plan: Plan, now: Instant) -> Vec<Rate> {
    let mut rates: Vec<Rate> = Vec::new();
    for request in plan.requests {
        let every = request.every;
        match rates.iter_mut().find(|rate| rate.every == every) {
            Some(rate) => rate.slots.push(Slot::new(request)),
            None => rates.push(Rate { every, next: now, slots: vec![Slot::new(request)] }),
        }
    }
    rates
}

/// Instead of an instant beyond the clock's end (a period of centuries).
fn far_away() -> Instant {
    Instant::now() + Duration::from_secs(86_400)
}

/// The first values after a reset: the device may have been restarted, and nobody knows how old its answer is.
fn doubt(samples: &mut [Sample]) {
    for sample in samples.iter_mut().filter(|sample| sample.quality == Quality::Good) {
        sample.quality = Quality::Uncertain;
    }
}
