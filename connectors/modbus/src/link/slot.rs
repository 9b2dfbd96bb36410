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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::link::connection::Connection;
    use std::collections::BTreeMap;
    use std::sync::{Arc, Mutex};
    use tally_connector_api::SystemClock;
    use tally_model::{ByteOrder, Encoding, ModbusLine, ModbusTable, Outcome, Tls, Value};
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    /// A device with holding registers 0 to 7, each holding its own address, without those in `unknown`. Writes down the
    /// questions as `start+count`.
    struct Plc {
        unknown: Arc<Mutex<Vec<u16>>>,
        asked: Arc<Mutex<Vec<String>>>,
        desk: Desk,
        slot: Slot,
    }

    async fn plc() -> Plc {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let (unknown, asked) = (Arc::new(Mutex::new(Vec::new())), Arc::new(Mutex::new(Vec::new())));
        let (missing, seen) = (unknown.clone(), asked.clone());
        tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut question = [0; 12];
            while stream.read_exact(&mut question).await.is_ok() {
                let (start, count) = (u16::from(question[9]), u16::from(question[11]));
                seen.lock().unwrap().push(format!("{start}+{count}"));
                let is_refused = missing.lock().unwrap().iter().any(|place| (start..start + count).contains(place));
                let pdu = match is_refused {
                    true => vec![0x83, 2],
                    false => [
                        vec![3, u8::try_from(2 * count).unwrap()],
                        (start..start + count).flat_map(u16::to_be_bytes).collect(),
                    ]
                    .concat(),
                };
                let length = u8::try_from(pdu.len() + 1).unwrap();
                let head = [question[0], question[1], 0, 0, 0, length, question[6]];
                stream.write_all(&[&head, pdu.as_slice()].concat()).await.unwrap();
            }
        });
        let line = ModbusLine::Tcp { host: "127.0.0.1".into(), port };
        let connection = Connection::new(line, Tls::default(), Duration::from_secs(5));
        let points = (0..8).map(|place| {
            let mut spec = crate::decode::tests::spec(Encoding::U16, ByteOrder::Abcd);
            spec.id = format!("p{place}").parse().unwrap();
            crate::PlannedPoint { spec, place, width: 1, bit: None }
        });
        let every = Duration::from_secs(1);
        let planned = Request { table: ModbusTable::Holding, start: 0, count: 8, every, points: points.collect() };
        Plc { unknown, asked, desk: Desk::new(connection, None, BTreeMap::new()), slot: Slot::new(planned) }
    }

    impl Plc {
        /// One cycle: what was asked, and what the points said.
        async fn cycle(&mut self) -> (Vec<String>, BTreeMap<String, Outcome>) {
            let manners = Manners { unit: 1, timeout: Duration::from_secs(5), options: Default::default() };
            let clock = SystemClock::default();
            let mut turn = Turn { manners: &manners, desk: &mut self.desk, clock: &clock, samples: Vec::new() };
            self.slot.ask(&mut turn).await.unwrap();
            let said: BTreeMap<String, Outcome> =
                turn.samples.into_iter().map(|sample| (sample.point.to_string(), sample.outcome)).collect();
            assert_eq!(said.len(), 8, "a sample for each point, always");
            (std::mem::take(&mut *self.asked.lock().unwrap()), said)
        }

        /// As if the time to leave refused points out were over.
        fn time_passes(&mut self) {
            self.slot.refused.iter_mut().for_each(|refused| refused.ask_again = Instant::now());
        }
    }

    #[tokio::test]
    async fn a_bad_address_is_bisected_once_remembered_and_asked_again_later() {
        let mut plc = plc().await;
        plc.unknown.lock().unwrap().push(5);
        let (asked, said) = plc.cycle().await;
        assert_eq!(asked, ["0+8", "0+4", "4+4", "4+2", "4+1", "5+1", "6+2"], "halved until it stands alone");
        assert_eq!(said["p5"], Err(NoValue::NoSuchAddress));
        assert_eq!(said["p4"], Ok(Value::Integer(4)));
        for _ in 0..3 {
            let (asked, said) = plc.cycle().await;
            assert!(!asked.iter().any(|asked| asked == "5+1" || asked == "0+8"), "remembered: {asked:?}");
            assert_eq!(said["p5"], Err(NoValue::NoSuchAddress));
        }
        plc.time_passes();
        let (asked, said) = plc.cycle().await;
        assert!(asked.contains(&"5+1".to_owned()), "asked again, alone: {asked:?}");
        assert_eq!(said["p5"], Err(NoValue::NoSuchAddress));
        let (asked, _) = plc.cycle().await;
        assert!(!asked.contains(&"5+1".to_owned()), "and remembered again: {asked:?}");
        plc.unknown.lock().unwrap().clear();
        plc.time_passes();
        assert_eq!(plc.cycle().await.1["p5"], Ok(Value::Integer(5)));
        let (asked, said) = plc.cycle().await;
        assert_eq!(asked, ["0+8"], "all travel together again");
        assert!(said.values().all(Result::is_ok));
    }
}
