//! Against the tokio-modbus server on a real socket: every vector in its table, exceptions, restarts, silent units.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod common;

use common::{Running, device, point, vectors, word};
use std::collections::BTreeMap;
use std::future::Future;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tally_connector_api::LinkState;
use tally_model::{Address, ModbusTable, NoValue, Quality, Value};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tokio_modbus::prelude::{ExceptionCode, Request, Response, SlaveRequest};
use tokio_modbus::server::Service;
use tokio_modbus::server::tcp::{Server, accept_tcp_connection};

/// What the server holds. Registers that are not there answer exception 02.
#[derive(Default)]
struct Memory {
    registers: BTreeMap<u16, u16>,
    bits: BTreeMap<u16, bool>,
    silent_unit: Option<u8>,
    /// Requests that were answered, per unit.
    answered: BTreeMap<u8, usize>,
}

#[derive(Clone, Default)]
struct Plc(Arc<Mutex<Memory>>);

impl Service for Plc {
    type Request = SlaveRequest<'static>;
    type Response = Option<Response>;
    type Exception = ExceptionCode;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, ExceptionCode>> + Send>>;

    fn call(&self, request: Self::Request) -> Self::Future {
        let mut memory = self.0.lock().unwrap();
        if memory.silent_unit == Some(request.slave) {
            return Box::pin(std::future::ready(Ok(None)));
        }
        *memory.answered.entry(request.slave).or_default() += 1;
        let read = |start: u16, count: u16| -> Result<Vec<u16>, ExceptionCode> {
            let one = |place| memory.registers.get(&place).copied().ok_or(ExceptionCode::IllegalDataAddress);
            (start..start + count).map(one).collect()
        };
        let bits = |start: u16, count: u16| -> Result<Vec<bool>, ExceptionCode> {
            let one = |place| memory.bits.get(&place).copied().ok_or(ExceptionCode::IllegalDataAddress);
            (start..start + count).map(one).collect()
        };
        let answer = match request.request {
            Request::ReadHoldingRegisters(start, count) => read(start, count).map(Response::ReadHoldingRegisters),
            Request::ReadInputRegisters(start, count) => read(start, count).map(Response::ReadInputRegisters),
            Request::ReadCoils(start, count) => bits(start, count).map(Response::ReadCoils),
            Request::ReadDiscreteInputs(start, count) => bits(start, count).map(Response::ReadDiscreteInputs),
            _ => Err(ExceptionCode::IllegalFunction),
        };
        Box::pin(std::future::ready(answer.map(Some)))
    }
}

impl Plc {
    async fn serve(&self, address: &str) -> (SocketAddr, JoinHandle<()>) {
        let listener = TcpListener::bind(address).await.unwrap();
        let address = listener.local_addr().unwrap();
        let plc = self.clone();
        let task = tokio::spawn(async move {
            let on_connected = |stream: TcpStream, peer| {
                let plc = plc.clone();
                async move { accept_tcp_connection(stream, peer, move |_| Ok(Some(plc.clone()))) }
            };
            Server::new(listener).serve(&on_connected, |_| {}).await.unwrap();
        });
        (address, task)
    }

    fn set(&self, start: u16, words: &[u16]) {
        let mut memory = self.0.lock().unwrap();
        memory.registers.extend((start..).zip(words.iter().copied()));
    }

    fn set_bit(&self, place: u16, bit: bool) {
        self.0.lock().unwrap().bits.insert(place, bit);
    }
}

#[tokio::test]
async fn every_vector_arrives_in_both_register_tables() {
    let plc = Plc::default();
    let mut points = Vec::new();
    let mut wanted = BTreeMap::new();
    let mut place = 0;
    for vector in vectors() {
        plc.set(place, &vector.registers);
        for (table, prefix) in [(ModbusTable::Holding, "h"), (ModbusTable::Input, "i")] {
            let mut spec = vector.spec.clone();
            spec.id = format!("{prefix}_{}", spec.id).parse().unwrap();
            spec.address = Address::Modbus { table, offset: place, bit: None };
            wanted.insert(spec.id.to_string(), vector.value.clone());
            points.push(spec);
        }
        place += u16::try_from(vector.registers.len()).unwrap();
    }
    let (address, _server) = plc.serve("127.0.0.1:0").await;
    let mut link = Running::start(vec![device("press", address.port(), 1, points)]);
    let batch = link.next().await;
    let found: BTreeMap<_, _> =
        batch.samples.iter().map(|sample| (sample.point.to_string(), word(&sample.outcome))).collect();
    assert_eq!(found, wanted);
    assert!(batch.samples.iter().all(|sample| (sample.quality == Quality::Bad) == sample.outcome.is_err()));
    assert!(matches!(link.status.borrow().state, LinkState::Up { .. }));
    link.stop().await;
}

#[tokio::test]
async fn one_bad_point_among_two_hundred_costs_only_itself() {
    let plc = Plc::default();
    plc.set(0, &[7; 400]);
    plc.0.lock().unwrap().registers.remove(&131);
    (0..50).for_each(|place| plc.set_bit(place, place % 3 == 0));
    plc.0.lock().unwrap().bits.remove(&20);
    let mut points: Vec<_> =
        (0..200).map(|number| point(&format!("p{number} holding:{} u16", number * 2 + 1))).collect();
    points.extend((0..50).map(|number| point(&format!("c{number} coil:{number}"))));
    points.extend((0..50).map(|number| point(&format!("d{number} discrete:{number}"))));
    let (address, _server) = plc.serve("127.0.0.1:0").await;
    let mut link = Running::start(vec![device("press", address.port(), 1, points)]);
    for _ in 0..3 {
        let batch = link.next().await;
        assert_eq!(batch.samples.len(), 300);
        for sample in &batch.samples {
            let number: u16 = sample.point.as_str()[1..].parse().unwrap();
            let expected = match sample.point.as_str() {
                "p65" | "c20" | "d20" => Err(NoValue::NoSuchAddress),
                id if id.starts_with('p') => Ok(Value::Integer(7)),
                _ => Ok(Value::Bool(number.is_multiple_of(3))),
            };
            assert_eq!(sample.outcome, expected, "{}", sample.point);
        }
    }
    link.stop().await;
}

#[tokio::test]
async fn a_restarted_server_is_read_again_by_itself() {
    let plc = Plc::default();
    plc.set(0, &[1]);
    let (address, server) = plc.serve("127.0.0.1:0").await;
    let mut link = Running::start(vec![device("press", address.port(), 1, vec![point("a holding:0 u16")])]);
    link.until("press", "a", |outcome, _| *outcome == Ok(Value::Integer(1))).await;
    server.abort();
    let _ = server.await;
    link.until("press", "a", |outcome, quality| *outcome == Err(NoValue::LinkDown) && quality == Quality::Bad).await;
    // Attempts go on and each says that the link is down, but nothing more is told about the points.
    tokio::time::timeout(common::PATIENCE, link.status.wait_for(|status| status.faults >= 3)).await.unwrap().unwrap();
    assert!(link.batches.try_recv().is_err(), "an outage is told once");
    plc.set(0, &[2]);
    let (_, _server) = plc.serve(&address.to_string()).await;
    link.until("press", "a", |outcome, quality| *outcome == Ok(Value::Integer(2)) && quality == Quality::Good).await;
    assert_eq!(link.status.borrow().connects, 2);
    assert!(matches!(link.status.borrow().state, LinkState::Up { .. }));
    link.stop().await;
}

#[tokio::test]
async fn a_silent_unit_does_not_slow_its_neighbour() {
    let plc = Plc::default();
    plc.set(0, &[5]);
    plc.0.lock().unwrap().silent_unit = Some(2);
    let (address, _server) = plc.serve("127.0.0.1:0").await;
    let talking = device("press", address.port(), 1, vec![point("a holding:0 u16")]);
    let silent = device("lathe", address.port(), 2, vec![point("b holding:0 u16")]);
    let mut link = Running::start(vec![talking, silent]);
    let start = tokio::time::Instant::now();
    let mut heard = BTreeMap::new();
    while start.elapsed() < Duration::from_secs(2) {
        let batch = link.next().await;
        *heard.entry(batch.device.to_string()).or_insert(0) += 1;
        match batch.device.as_str() {
            "press" => {
                assert_eq!(batch.samples[0].outcome, Ok(Value::Integer(5)));
                assert_eq!(batch.samples[0].quality, Quality::Good);
            }
            _ => assert_eq!(batch.samples[0].outcome, Err(NoValue::Timeout)),
        }
    }
    // 2 s at 50 ms are 40 turns; the silent unit may cost its timeout (150 ms) some five times.
    assert!(heard["press"] >= 10, "{heard:?}");
    assert!((1..=10).contains(&heard["lathe"]), "it backs off: {heard:?}");
    assert!(matches!(link.status.borrow().state, LinkState::Up { .. }));
    plc.0.lock().unwrap().silent_unit = None;
    link.until("lathe", "b", |outcome, quality| outcome.is_ok() && quality == Quality::Uncertain).await;
    link.until("lathe", "b", |outcome, quality| outcome.is_ok() && quality == Quality::Good).await;
    link.stop().await;
}

#[tokio::test]
async fn missed_cycles_are_skipped_and_a_full_sink_slows_the_link() {
    let plc = Plc::default();
    plc.set(0, &[5]);
    let (address, _server) = plc.serve("127.0.0.1:0").await;
    let mut press = device("press", address.port(), 1, vec![point("a holding:0 u16")]);
    press.every = Duration::from_millis(1);
    let mut link = Running::start(vec![press]);
    // Nobody listens: the sink fills, then the link waits instead of asking on.
    let full = tally_connector_api::SINK_BATCHES_MAX + 1;
    let deadline = tokio::time::Instant::now() + common::PATIENCE;
    while plc.0.lock().unwrap().answered.get(&1).copied().unwrap_or(0) < full {
        assert!(tokio::time::Instant::now() < deadline, "the link asks until the sink is full");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert_eq!(plc.0.lock().unwrap().answered[&1], full);
    for _ in 0..full {
        assert!(link.next().await.samples[0].outcome.is_ok(), "nothing is lost");
    }
    link.stop().await;
}

#[tokio::test]
async fn nobody_there_is_told_once_and_stopping_is_quick() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    drop(listener);
    let mut link = Running::start(vec![
        device("press", port, 1, vec![point("a holding:0 u16")]),
        device("lathe", port, 2, vec![point("b holding:0 u16")]),
    ]);
    for name in ["press", "lathe"] {
        let batch = link.next().await;
        assert_eq!((batch.device.as_str(), &batch.samples[0].outcome), (name, &Err(NoValue::LinkDown)));
    }
    let status = link.status.borrow().clone();
    assert!(matches!(&status.state, LinkState::Down { fault, .. } if fault.to_string().contains("cannot connect")));
    link.stop().await;
}
