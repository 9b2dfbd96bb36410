//! One planned request: asked whole, or in the pieces that the device accepts. What it refuses is bisected once,
//! remembered, and asked again later.

use super::connection::Manners;
use super::desk::Desk;
use crate::Request;
use crate::decode::{decode_response, sample};
use crate::error::Failure;
use std::collections::VecDeque;
use std::time::Duration;
use tally_connector_api::Clock;
use tally_model::{NoValue, Sample};
use tokio::time::Instant;

/// How long a point that the device does not know is left out: firmware is changed by people, not every second.
const ASK_AGAIN_UNKNOWN: Duration = Duration::from_secs(60);

/// How long a point that the device failed to read is left out: a sensor may come back at any moment.
const ASK_AGAIN_FAILED: Duration = Duration::from_secs(5);

/// What the slots of one turn share.
pub(super) struct Turn<'t> {
    pub(super) manners: &'t Manners,
    pub(super) desk: &'t mut Desk,
    pub(super) clock: &'t dyn Clock,
    pub(super) samples: Vec<Sample>,
}

impl Turn<'_> {
    /// Asks one request and decodes the answer.
    async fn ask(&mut self, request: &Request) -> Result<(), Failure> {
        let words = self.desk.read(self.manners, request).await?;
        decode_response(request, &words, self.clock.now(), &mut self.samples);
        Ok(())
    }

    pub(super) fn refuse(&mut self, request: &Request, reason: NoValue) {
        let now = self.clock.now();
        self.samples.extend(request.points.iter().map(|point| sample(&point.spec, Err(reason), now)));
    }
}

/// One planned request, as it is really asked: whole, or in the pieces that the device accepts.
pub(super) struct Slot {
    pub(super) planned: Request,
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
    pub(super) fn new(planned: Request) -> Self {
        Self { pieces: vec![planned.clone()], planned, refused: Vec::new(), is_cut_by_refusal: false }
    }

    /// Asks all pieces, halving what is refused because of its addresses. Samples for all points, always.
    pub(super) async fn ask(&mut self, turn: &mut Turn<'_>) -> Result<(), Failure> {
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
