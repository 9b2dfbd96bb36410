//! RTU and ASCII, over a serial line (a pseudo-terminal pair) and over TCP: values, and everything that can go wrong where
//! answers do not say what they answer.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod common;

use common::slave::{Frames, LINES, Over, Say, Slave, now, registers};
use common::{Running, device_at, point, vectors, word};
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tally_connector_api::LinkState;
use tally_connector_modbus::{Write, WriteFault, link_with_writer};
use tally_model::{Address, ModbusTable, NoValue, Quality, Value};

/// First address and count of a question.
fn place(pdu: &[u8]) -> (usize, usize) {
    (usize::from(u16::from_be_bytes([pdu[1], pdu[2]])), usize::from(u16::from_be_bytes([pdu[3], pdu[4]])))
}

#[tokio::test]
async fn every_vector_is_read_over_every_line() {
    for (frames, over) in LINES {
        let (mut points, mut wanted, mut memory) = (Vec::new(), BTreeMap::new(), Vec::new());
        for vector in vectors() {
            let mut spec = vector.spec.clone();
            let offset = u16::try_from(memory.len()).unwrap();
            spec.address = Address::Modbus { table: ModbusTable::Input, offset, bit: None };
            wanted.insert(spec.id.to_string(), vector.value.clone());
            points.push(spec);
            memory.extend_from_slice(&vector.registers);
        }
        let slave = Slave::start(frames, over, move |unit, pdu| {
            let (start, count) = place(pdu);
            now(frames.frame(unit, &registers(pdu[0], &memory[start..start + count])))
        })
        .await;
        let mut press = device_at("press", &slave.url, 17, points);
        press.every = Duration::from_secs(5);
        let mut link = Running::start(vec![press]);
        let batch = link.next().await;
        let found: BTreeMap<_, _> =
            batch.samples.iter().map(|sample| (sample.point.to_string(), word(&sample.outcome))).collect();
        assert_eq!(found, wanted, "{frames:?} over {over:?}");
        assert!(matches!(link.status.borrow().state, LinkState::Up { .. }));
        link.stop().await;
    }
}

/// The device answers the first question after its timeout, and so late that the second would already wait. What it said
/// to the first (111) must never appear.
#[tokio::test]
async fn the_previous_answer_is_never_handed_out_as_the_new_one() {
    for (frames, over) in LINES {
        let asked = Arc::new(AtomicUsize::new(0));
        let count = asked.clone();
        let slave = Slave::start(frames, over, move |unit, pdu| {
            let first = count.fetch_add(1, Ordering::SeqCst) == 0;
            let (value, after) = if first { (111, 600) } else { (222, 0) };
            let bytes = frames.frame(unit, &registers(pdu[0], &[value]));
            vec![Say { after: Duration::from_millis(after), bytes }]
        })
        .await;
        let mut press = device_at("press", &slave.url, 1, vec![point("a holding:0 u16")]);
        press.timeout = Duration::from_millis(400);
        let mut link = Running::start(vec![press]);
        let mut outcomes = Vec::new();
        while outcomes.len() < 6 {
            outcomes.extend(link.next().await.samples.into_iter().map(|sample| (sample.outcome, sample.quality)));
        }
        let fresh = Ok(Value::Integer(222));
        assert_eq!(outcomes[0], (Err(NoValue::Timeout), Quality::Bad), "{frames:?} over {over:?}");
        assert_eq!(outcomes[1], (fresh.clone(), Quality::Uncertain), "the first after a reset is doubted");
        assert!(outcomes[2..].iter().all(|outcome| *outcome == (fresh.clone(), Quality::Good)), "{outcomes:?}");
        link.stop().await;
    }
}

/// Why the link drains at all: the library alone gives the late answer to the next question. If this ever fails, the
/// library has learnt it.
#[tokio::test]
async fn the_library_alone_hands_out_the_previous_answer() {
    use tokio_modbus::client::{Reader, rtu};
    let (line, mut device) = tokio::io::duplex(256);
    let (give_up, given_up) = tokio::sync::oneshot::channel();
    let talker = tokio::spawn(async move {
        use tokio::io::{AsyncReadExt, AsyncWriteExt};
        let mut question = [0; 8];
        device.read_exact(&mut question).await.unwrap();
        given_up.await.unwrap();
        for value in [111, 222] {
            device.write_all(&Frames::Rtu.frame(1, &registers(3, &[value]))).await.unwrap();
            device.read_exact(&mut question).await.unwrap();
        }
        device
    });
    let mut client = rtu::attach_slave(line, tokio_modbus::Slave(1));
    let patience = Duration::from_millis(40);
    assert!(tokio::time::timeout(patience, client.read_holding_registers(0, 1)).await.is_err(), "the first is late");
    give_up.send(()).unwrap();
    // FIXME: wrong, these are the registers of the first question.
    assert_eq!(client.read_holding_registers(0, 1).await.unwrap(), Ok(vec![111]));
    drop(talker);
}

#[tokio::test]
async fn answers_that_answer_something_else_are_refused() {
    type Answer = fn(Frames, u8, &[u8]) -> Vec<u8>;
    let wrong: [(&str, NoValue, Answer); 6] = [
        ("another unit", NoValue::Nonsense, |frames, unit, pdu| frames.frame(unit + 1, &registers(pdu[0], &[9]))),
        ("another function", NoValue::Nonsense, |frames, unit, _| frames.frame(unit, &registers(4, &[9]))),
        ("too many registers", NoValue::Nonsense, |frames, unit, pdu| frames.frame(unit, &registers(pdu[0], &[9, 9]))),
        ("too few registers", NoValue::Nonsense, |frames, unit, pdu| frames.frame(unit, &registers(pdu[0], &[]))),
        ("another function's exception", NoValue::Nonsense, |frames, unit, _| frames.frame(unit, &[0x84, 2])),
        // A frame with a wrong checksum is noise; in RTU nobody knows where it ends, so nothing has come.
        ("a wrong checksum", NoValue::Timeout, |frames, unit, pdu| {
            let mut frame = frames.frame(unit, &registers(pdu[0], &[9]));
            let place = frame.len() - 4;
            frame[place] = if frame[place] == b'0' { b'1' } else { b'0' };
            frame
        }),
    ];
    for (frames, over) in LINES {
        for (what, reason, answer) in wrong {
            let asked = Arc::new(AtomicUsize::new(0));
            let count = asked.clone();
            let slave = Slave::start(frames, over, move |unit, pdu| {
                now(match count.fetch_add(1, Ordering::SeqCst) {
                    0 => answer(frames, unit, pdu),
                    _ => frames.frame(unit, &registers(pdu[0], &[7])),
                })
            })
            .await;
            let mut press = device_at("press", &slave.url, 1, vec![point("a holding:0 u16")]);
            press.modbus.late_max = Some(Duration::from_millis(20));
            let mut link = Running::start(vec![press]);
            let outcome = link.next().await.samples.remove(0).outcome;
            let case = format!("{what}, {frames:?} over {over:?}");
            if (frames, reason) == (Frames::Ascii, NoValue::Timeout) {
                assert_eq!(outcome, Err(NoValue::Nonsense), "{case}: an ASCII frame has an end");
            } else {
                assert_eq!(outcome, Err(reason), "{case}");
            }
            link.until("press", "a", |outcome, _| *outcome == Ok(Value::Integer(7))).await;
            link.stop().await;
        }
    }
}

#[tokio::test]
async fn a_silent_unit_on_a_serial_line_backs_off_alone() {
    let frames = Frames::Rtu;
    let slave = Slave::start(frames, Over::Serial, move |unit, pdu| match unit {
        2 => Vec::new(),
        _ => now(frames.frame(unit, &registers(pdu[0], &[u16::from(unit)]))),
    })
    .await;
    let one = |name: &str, unit| {
        let mut device = device_at(name, &slave.url, unit, vec![point("a holding:0 u16")]);
        if name == "dead" {
            device.timeout = Duration::from_millis(60);
        }
        device
    };
    let mut link = Running::start(vec![one("press", 1), one("dead", 2), one("lathe", 3)]);
    let mut heard = BTreeMap::from(["press", "lathe", "dead"].map(|name| (name.to_owned(), 0)));
    // 2 s, or more where the machine is slow.
    while heard["press"] < 40 || heard["lathe"] < 40 {
        let batch = link.next().await;
        let expected = match batch.device.as_str() {
            "press" => Ok(Value::Integer(1)),
            "lathe" => Ok(Value::Integer(3)),
            _ => Err(NoValue::Timeout),
        };
        assert_eq!(batch.samples[0].outcome, expected, "{}", batch.device);
        *heard.entry(batch.device.to_string()).or_default() += 1;
    }
    assert!((1..=10).contains(&heard["dead"]), "{heard:?}");
    link.stop().await;
}

#[tokio::test]
async fn several_rates_share_a_device_and_missed_cycles_are_counted() {
    let frames = Frames::Rtu;
    let questions = Arc::new(Mutex::new(BTreeMap::<usize, usize>::new()));
    let seen = questions.clone();
    let slave = Slave::start(frames, Over::Tcp, move |unit, pdu| {
        *seen.lock().unwrap().entry(place(pdu).0).or_default() += 1;
        vec![Say { after: Duration::from_millis(5), bytes: frames.frame(unit, &registers(pdu[0], &[5])) }]
    })
    .await;
    let mut slow = point("slow holding:1 u16");
    slow.options.every = Some(Duration::from_millis(400));
    let mut press = device_at("press", &slave.url, 1, vec![point("fast holding:0 u16"), slow]);
    press.every = Duration::from_millis(40);
    let mut link = Running::start(vec![press]);
    let start = tokio::time::Instant::now();
    // 20 cycles of the fast one, or fewer and later when the machine is busy, but never one too many.
    let fast = || questions.lock().unwrap().get(&0).copied().unwrap_or(0);
    while fast() < 20 {
        let batch = link.next().await;
        assert!(batch.samples.iter().all(|sample| sample.outcome == Ok(Value::Integer(5))));
    }
    let (counted, millis) = (questions.lock().unwrap().clone(), start.elapsed().as_millis() as usize);
    assert!(counted[&0] <= millis / 40 + 2, "{counted:?} in {millis} ms");
    assert!((2..=millis / 400 + 2).contains(&counted[&1]), "{counted:?} in {millis} ms");
    link.stop().await;

    let mut hasty = device_at("press", &slave.url, 1, vec![point("a holding:0 u16")]);
    hasty.every = Duration::from_millis(2);
    let mut link = Running::start(vec![hasty]);
    for _ in 0..10 {
        link.next().await;
    }
    let overruns = link.status.borrow().overruns;
    assert!(overruns >= 9, "5 ms answers every 2 ms leave out two cycles of three: {overruns}");
    link.stop().await;
}

/// A device that keeps what is written, and counts what it is asked.
async fn plc(frames: Frames, over: Over, delay: Duration) -> (Slave, Arc<Mutex<Vec<u8>>>) {
    let functions = Arc::new(Mutex::new(Vec::new()));
    let (seen, mut memory) = (functions.clone(), vec![0_u16; 32]);
    let slave = Slave::start(frames, over, move |unit, pdu| {
        seen.lock().unwrap().push(pdu[0]);
        let word = |place: usize| u16::from_be_bytes([pdu[place], pdu[place + 1]]);
        let answer = match pdu[0] {
            3 => registers(3, &memory[place(pdu).0..][..place(pdu).1]),
            6 => {
                memory[usize::from(word(1))] = word(3);
                pdu.to_vec()
            }
            16 => {
                (0..usize::from(word(3))).for_each(|place| memory[usize::from(word(1)) + place] = word(6 + 2 * place));
                pdu[..5].to_vec()
            }
            22 => {
                let cell = &mut memory[usize::from(word(1))];
                *cell = (*cell & word(3)) | (word(5) & !word(3));
                pdu.to_vec()
            }
            23 => {
                (0..usize::from(word(7))).for_each(|place| memory[usize::from(word(5)) + place] = word(10 + 2 * place));
                registers(23, &memory[usize::from(word(1))..][..usize::from(word(3))])
            }
            function => vec![function | 0x80, 1],
        };
        vec![Say { after: delay, bytes: frames.frame(unit, &answer) }]
    })
    .await;
    (slave, functions)
}

#[tokio::test]
async fn what_is_written_is_read_back_over_every_line() {
    for (frames, over) in LINES {
        let (slave, _) = plc(frames, over, Duration::ZERO).await;
        let points = (0..6).map(|place| point(&format!("r{place} holding:{place} u16"))).collect();
        let press = device_at("press", &slave.url, 1, points);
        let id = press.id.clone();
        let (link, writer) = link_with_writer(vec![press]).unwrap();
        let mut link = Running::run(link);
        link.until("press", "r0", |outcome, _| *outcome == Ok(Value::Integer(0))).await;
        let none = Vec::<u16>::new();
        assert_eq!(writer.write(&id, Write::Register { address: 0, word: 11 }).await, Ok(none.clone()));
        assert_eq!(writer.write(&id, Write::Registers { address: 1, words: vec![22, 33] }).await, Ok(none.clone()));
        assert_eq!(writer.write(&id, Write::Mask { address: 0, and: 0xfff0, or: 0x0005 }).await, Ok(none));
        let both = Write::ReadWrite { read_from: 1, read_count: 3, address: 3, words: vec![44] };
        assert_eq!(writer.write(&id, both).await, Ok(vec![22, 33, 44]));
        for (name, number) in [("r0", 5), ("r1", 22), ("r2", 33), ("r3", 44)] {
            link.until("press", name, |outcome, _| *outcome == Ok(Value::Integer(number))).await;
        }
        let refused = writer.write(&id, Write::Coil { address: 0, on: true }).await;
        assert!(matches!(refused, Err(WriteFault::Refused { code: 1, .. })), "{refused:?}");
        let nobody = "nobody".parse().unwrap();
        assert!(matches!(writer.identify(&nobody).await, Err(WriteFault::NoSuchDevice(_))));
        link.stop().await;
        assert!(matches!(
            writer.write(&id, Write::Register { address: 0, word: 1 }).await,
            Err(WriteFault::NotTaken(_) | WriteFault::Unknown(_))
        ));
    }
}

#[tokio::test]
async fn orders_overtake_the_polls_that_wait() {
    let (slave, functions) = plc(Frames::Rtu, Over::Serial, Duration::from_millis(20)).await;
    // Eight requests a turn, each 20 ms: a write at the end of the turn would come some 160 ms later.
    let points = (0..8).map(|place| point(&format!("r{place} holding:{} u16", place * 4))).collect();
    let mut press = device_at("press", &slave.url, 1, points);
    press.gap_max = 0;
    let id = press.id.clone();
    let (link, writer) = link_with_writer(vec![press]).unwrap();
    let mut link = Running::run(link);
    link.next().await;
    let asked = functions.lock().unwrap().len();
    writer.write(&id, Write::Register { address: 0, word: 1 }).await.unwrap();
    let after: Vec<u8> = functions.lock().unwrap()[asked..].to_vec();
    let polls_before = after.iter().position(|function| *function == 6).unwrap();
    assert!(polls_before <= 2, "only what was on the line already goes first: {after:?}");
    link.stop().await;
}

#[tokio::test]
async fn a_write_without_an_answer_is_unknown_and_never_sent_twice() {
    let frames = Frames::Rtu;
    let writes = Arc::new(AtomicUsize::new(0));
    let count = writes.clone();
    let slave = Slave::start(frames, Over::Serial, move |unit, pdu| match pdu[0] {
        6 => {
            count.fetch_add(1, Ordering::SeqCst);
            Vec::new()
        }
        function => now(frames.frame(unit, &registers(function, &[5]))),
    })
    .await;
    let press = device_at("press", &slave.url, 1, vec![point("a holding:0 u16")]);
    let id = press.id.clone();
    let (link, writer) = link_with_writer(vec![press]).unwrap();
    let mut link = Running::run(link);
    link.next().await;
    let outcome = writer.write(&id, Write::Register { address: 0, word: 1 }).await;
    assert!(matches!(outcome, Err(WriteFault::Unknown(_))), "{outcome:?}");
    link.until("press", "a", |outcome, _| *outcome == Ok(Value::Integer(5))).await;
    assert_eq!(writes.load(Ordering::SeqCst), 1);
    link.stop().await;
}

#[tokio::test]
async fn a_serial_line_that_is_not_there_is_said() {
    let mut link =
        Running::start(vec![device_at("press", "modbus+rtu:///dev/no-such-line", 1, vec![point("a holding:0 u16")])]);
    assert_eq!(link.next().await.samples[0].outcome, Err(NoValue::LinkDown));
    let state = link.status.borrow().state.to_string();
    assert!(state.contains("cannot open /dev/no-such-line"), "{state}");
    link.stop().await;
}
