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
use tally_model::{Address, DeviceSpec, ModbusTable, NoValue, Quality, Value};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tokio_modbus::prelude::{
    ConformityLevel, DeviceIdObject, ExceptionCode, ReadCode, ReadDeviceIdentificationResponse, Request, Response,
    SlaveRequest,
};
use tokio_modbus::server::Service;
use tokio_modbus::server::tcp::{Server, accept_tcp_connection};

/// What the server holds. Registers that are not there answer exception 02.
#[derive(Default)]
struct Memory {
    registers: BTreeMap<u16, u16>,
    bits: BTreeMap<u16, bool>,
    silent_unit: Option<u8>,
    /// What it says when it is asked what it is.
    identity: Identity,
    /// How often it was asked.
    asked: usize,
    /// Requests that were answered, per unit.
    answered: BTreeMap<u8, usize>,
}

/// How a device takes function 43/14.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum Identity {
    #[default]
    Unknown,
    Revision(&'static str),
    /// No answer at all.
    Silence,
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
            Request::ReadDeviceIdentification(read_code, _) => {
                memory.asked += 1;
                match memory.identity {
                    Identity::Silence => return Box::pin(std::future::ready(Ok(None))),
                    Identity::Unknown => Err(ExceptionCode::IllegalFunction),
                    Identity::Revision(revision) => Ok(identification(read_code, revision)),
                }
            }
            _ => Err(ExceptionCode::IllegalFunction),
        };
        Box::pin(std::future::ready(answer.map(Some)))
    }
}

fn identification(read_code: ReadCode, revision: &str) -> Response {
    let object = |(id, text): (u8, &str)| DeviceIdObject { id, value: text.as_bytes().to_vec().into() };
    Response::ReadDeviceIdentification(ReadDeviceIdentificationResponse {
        read_code,
        conformity_level: ConformityLevel::BasicIdentification,
        more_follows: false,
        next_object_id: 0,
        device_id_objects: [(0, "Acme"), (1, "P-1"), (2, revision)].map(object).into(),
    })
}

/// Where a server can be again after it was away.
fn lasting() -> String {
    format!("127.0.0.1:{}", common::ports::free_port())
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

    fn call_itself(&self, identity: Identity) {
        self.0.lock().unwrap().identity = identity;
    }

    fn asked(&self) -> usize {
        self.0.lock().unwrap().asked
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
    let (address, server) = plc.serve(&lasting()).await;
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
async fn an_outage_is_told_of_every_point_also_of_those_that_were_not_due_or_had_answered() {
    let plc = Plc::default();
    plc.set(0, &[1]);
    plc.set(500, &[2]);
    plc.set(1_000, &[3]);
    let (address, server) = plc.serve("127.0.0.1:0").await;
    let mut rare = point("rare holding:500 u16");
    rare.options.every = Some(Duration::from_secs(3_600));
    let points = vec![point("first holding:0 u16"), rare, point("last holding:1000 u16")];
    let mut link = Running::start(vec![device("press", address.port(), 1, points)]);
    link.until("press", "rare", |outcome, _| *outcome == Ok(Value::Integer(2))).await;
    server.abort();
    let _ = server.await;
    for _ in 0..2 {
        link.until("press", "rare", |outcome, _| *outcome == Err(NoValue::LinkDown)).await;
        let (_, server) = plc.serve(&address.to_string()).await;
        link.until("press", "rare", |outcome, _| *outcome == Ok(Value::Integer(2))).await;
        server.abort();
        let _ = server.await;
    }
    link.stop().await;
}

#[tokio::test]
async fn a_silent_unit_does_not_slow_its_neighbour() {
    let plc = Plc::default();
    plc.set(0, &[5]);
    plc.0.lock().unwrap().silent_unit = Some(2);
    let (address, _server) = plc.serve("127.0.0.1:0").await;
    let talking = device("press", address.port(), 1, vec![point("a holding:0 u16")]);
    let mut silent = device("lathe", address.port(), 2, vec![point("b holding:0 u16")]);
    silent.timeout = Duration::from_millis(150);
    let mut link = Running::start(vec![talking, silent]);
    let mut heard = BTreeMap::from([("press".to_owned(), 0), ("lathe".to_owned(), 0)]);
    // 2 s, or more where the machine is slow.
    while heard["press"] < 40 {
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
    // Asked in turn it would have been asked as often, at the cost of its timeout (150 ms) each time.
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

/// A press that is asked what it is every so often.
fn asked(port: u16, every: Duration) -> DeviceSpec {
    let mut press = device("press", port, 1, vec![point("a holding:0 u16")]);
    press.modbus.identify = Some(every);
    press
}

/// Batches until one with values says that the device calls itself so.
async fn until_it_says(link: &mut Running, wanted: Option<&str>) {
    let deadline = tokio::time::Instant::now() + common::PATIENCE;
    loop {
        let batch = link.next().await;
        let said = batch.origin.as_ref().map(|origin| origin.identity.as_deref());
        if said == Some(wanted) && batch.samples[0].outcome.is_ok() {
            return;
        }
        assert!(tokio::time::Instant::now() < deadline, "{wanted:?} was never said, but {said:?}");
    }
}

#[tokio::test]
async fn what_a_device_calls_itself_comes_with_its_values_and_is_asked_again() {
    let plc = Plc::default();
    plc.set(0, &[1]);
    plc.call_itself(Identity::Revision("2.3"));
    let (address, server) = plc.serve("127.0.0.1:0").await;
    let mut link = Running::start(vec![asked(address.port(), Duration::from_millis(100))]);
    let first = link.next().await;
    let said = first.origin.as_ref().and_then(|origin| origin.identity.clone());
    assert_eq!(said.as_deref(), Some("Acme; P-1; 2.3"), "the very first values say it");
    // Exchanged behind a connection that stays.
    plc.call_itself(Identity::Revision("3.0"));
    until_it_says(&mut link, Some("Acme; P-1; 3.0")).await;
    assert_eq!(link.status.borrow().connects, 1);
    // One that does not say what it is.
    plc.call_itself(Identity::Unknown);
    until_it_says(&mut link, None).await;
    plc.call_itself(Identity::Revision("3.0"));
    until_it_says(&mut link, Some("Acme; P-1; 3.0")).await;
    drop(server);
    link.stop().await;
}

#[tokio::test]
async fn after_an_outage_nobody_is_taken_for_the_device_of_before() {
    let plc = Plc::default();
    plc.set(0, &[1]);
    plc.call_itself(Identity::Revision("2.3"));
    let (address, server) = plc.serve(&lasting()).await;
    // Its time would not come again within this test.
    let hours = Duration::from_secs(36_000);
    let mut link = Running::start(vec![asked(address.port(), hours)]);
    until_it_says(&mut link, Some("Acme; P-1; 2.3")).await;
    assert_eq!(plc.asked(), 1, "once a connection");
    server.abort();
    let _ = server.await;
    link.until("press", "a", |outcome, _| *outcome == Err(NoValue::LinkDown)).await;
    plc.call_itself(Identity::Revision("9.9"));
    let (_, server) = plc.serve(&address.to_string()).await;
    let batch = link.next().await;
    assert!(batch.samples[0].outcome.is_ok());
    assert_eq!(batch.origin.as_ref().unwrap().identity.as_deref(), Some("Acme; P-1; 9.9"), "the first values after it");
    // A silence on a connection that stays: a unit behind a gateway.
    plc.0.lock().unwrap().silent_unit = Some(1);
    link.until("press", "a", |outcome, _| *outcome == Err(NoValue::Timeout)).await;
    plc.call_itself(Identity::Revision("1.0"));
    plc.0.lock().unwrap().silent_unit = None;
    until_it_says(&mut link, Some("Acme; P-1; 1.0")).await;
    drop(server);
    link.stop().await;
}

#[tokio::test]
async fn a_device_that_says_nothing_is_read_all_the_same_and_left_alone() {
    let plc = Plc::default();
    plc.set(0, &[1]);
    plc.call_itself(Identity::Silence);
    let (address, server) = plc.serve("127.0.0.1:0").await;
    let mut link = Running::start(vec![asked(address.port(), Duration::from_secs(36_000))]);
    for _ in 0..20 {
        let batch = link.next().await;
        assert!(batch.samples[0].outcome.is_ok(), "{:?}", batch.samples);
        assert_eq!(batch.origin.as_ref().unwrap().identity, None);
    }
    assert_eq!(plc.asked(), 2, "twice in vain, then not again before its time");
    assert_eq!(link.status.borrow().faults, 0, "no fault of the link");
    drop(server);
    link.stop().await;
}

#[tokio::test]
async fn nobody_is_asked_whom_nobody_wants_to_know() {
    let plc = Plc::default();
    plc.set(0, &[1]);
    let (address, server) = plc.serve("127.0.0.1:0").await;
    let mut link = Running::start(vec![device("press", address.port(), 1, vec![point("a holding:0 u16")])]);
    for _ in 0..5 {
        assert_eq!(link.next().await.origin.as_ref().unwrap().identity, None);
    }
    assert_eq!(plc.asked(), 0);
    drop(server);
    link.stop().await;
}
