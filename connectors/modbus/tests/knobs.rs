//! What devices differ in: ranges they must not be asked for, how much they bear at once, pauses they need, connections they
//! forget, and that they are busy.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod common;

use common::slave::{Frames, Over, Say, Slave, now, registers};
use common::{Running, device, device_at, point};
use proptest::prelude::*;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tally_connector_modbus::{PlanFault, plan};
use tally_model::{DeviceSpec, ModbusTable, NoValue, Value};
use tokio::time::Instant;

fn requests(device: &DeviceSpec) -> Vec<String> {
    let plan = plan(device).unwrap();
    plan.requests
        .iter()
        .map(|request| format!("{}:{}+{}", request.table.word(), request.start, request.count))
        .collect()
}

#[test]
fn no_request_touches_a_forbidden_range_and_bits_have_a_cap_of_the_device() {
    let points = ["a holding:0 u16", "b holding:4 u16", "c holding:6 f32", "x coil:0", "y coil:40"];
    let mut press = device("press", 502, 1, points.map(point).to_vec());
    assert_eq!(requests(&press), ["coil:0+41", "holding:0+8"]);
    press.modbus.forbidden = vec![(ModbusTable::Holding, 2..=3), (ModbusTable::Input, 0..=65_535)];
    press.modbus.bits_per_request_max = Some(40);
    assert_eq!(requests(&press), ["coil:0+1", "coil:40+1", "holding:0+1", "holding:4+4"]);
    press.modbus.forbidden = vec![(ModbusTable::Holding, 7..=7)];
    assert!(matches!(plan(&press), Err(PlanFault::Forbidden { .. })), "a point inside is said before connecting");
}

proptest! {
    #[test]
    fn whatever_is_forbidden_is_not_asked_for(
        places in proptest::collection::vec(0_u16..300, 1..40),
        start in 0_u16..300,
        length in 1_u16..20,
        gap_max in 0_u16..60,
    ) {
        let forbidden = start..=start + length;
        let allowed = places.iter().enumerate().filter(|(_, place)| !forbidden.contains(place));
        let points = allowed.map(|(number, place)| point(&format!("p{number} input:{place} u16"))).collect();
        let mut press = device("press", 502, 1, points);
        press.gap_max = gap_max;
        press.modbus.forbidden = vec![(ModbusTable::Input, forbidden.clone())];
        for request in plan(&press).unwrap().requests {
            prop_assert!((request.start..request.start + request.count).all(|place| !forbidden.contains(&place)));
        }
    }
}

/// When each question came, counted from the first.
async fn timed(over: Over, change: impl FnOnce(&mut DeviceSpec), questions: usize) -> Vec<Duration> {
    let came = Arc::new(Mutex::new(Vec::new()));
    let seen = came.clone();
    let slave = Slave::start(Frames::Rtu, over, move |unit, pdu| {
        seen.lock().unwrap().push(Instant::now());
        now(Frames::Rtu.frame(unit, &registers(pdu[0], &[7])))
    })
    .await;
    let points = (0..4).map(|place| point(&format!("p{place} holding:{} u16", place * 10))).collect();
    let mut press = device_at("press", &slave.url, 1, points);
    press.gap_max = 0;
    change(&mut press);
    let mut link = Running::start(vec![press]);
    while came.lock().unwrap().len() < questions {
        assert!(link.next().await.samples.iter().all(|sample| sample.outcome == Ok(Value::Integer(7))));
    }
    link.stop().await;
    let came = came.lock().unwrap();
    came.iter().map(|instant| *instant - came[0]).collect()
}

#[tokio::test]
async fn a_device_that_dislikes_bursts_is_given_its_pause() {
    let hasty = timed(Over::Tcp, |_| {}, 4).await;
    let gentle = timed(Over::Tcp, |press| press.modbus.pause = Duration::from_millis(120), 4).await;
    assert!(gentle.windows(2).all(|pair| pair[1] - pair[0] >= Duration::from_millis(120)), "{gentle:?}");
    assert!(hasty[3] < gentle[3], "{hasty:?} {gentle:?}");
}

#[tokio::test]
async fn a_device_that_needs_time_after_connecting_has_it() {
    let start = Instant::now();
    timed(Over::Tcp, |press| press.modbus.pause_after_connect = Duration::from_millis(400), 4).await;
    assert!(start.elapsed() >= Duration::from_millis(400));
}

#[tokio::test]
async fn a_connection_that_rested_too_long_is_not_trusted() {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let connections = Arc::new(Mutex::new(0));
    let counted = connections.clone();
    // A firewall that forgets connections after 700 ms and tells nobody: it swallows what comes later.
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            *counted.lock().unwrap() += 1;
            tokio::spawn(async move {
                let (opened, mut question) = (Instant::now(), [0; 12]);
                while stream.read_exact(&mut question).await.is_ok() {
                    if opened.elapsed() < Duration::from_millis(700) {
                        let head = [question[0], question[1], 0, 0, 0, 5, question[6], 3, 2, 0, 7];
                        stream.write_all(&head).await.unwrap();
                    }
                }
            });
        }
    });
    let mut press = device("press", port, 1, vec![point("a holding:0 u16")]);
    press.every = Duration::from_secs(1);
    press.timeout = Duration::from_secs(5);
    press.modbus.idle_max = Some(Duration::from_millis(500));
    let mut link = Running::start(vec![press]);
    for _ in 0..4 {
        assert_eq!(link.next().await.samples[0].outcome, Ok(Value::Integer(7)), "no question is lost");
    }
    assert!(*connections.lock().unwrap() >= 4);
    link.stop().await;
}

#[tokio::test]
async fn a_busy_device_is_asked_again_as_often_as_it_bears() {
    let asked = Arc::new(Mutex::new(0_u32));
    let count = asked.clone();
    let slave = Slave::start(Frames::Ascii, Over::Tcp, move |unit, pdu| {
        let mut count = count.lock().unwrap();
        *count += 1;
        // Busy (06) twice, then an answer; from the tenth question on busy for ever.
        let pdu = if count.is_multiple_of(3) && *count < 10 { registers(pdu[0], &[7]) } else { vec![pdu[0] | 0x80, 6] };
        vec![Say { after: Duration::ZERO, bytes: Frames::Ascii.frame(unit, &pdu) }]
    })
    .await;
    let mut press = device_at("press", &slave.url, 1, vec![point("a holding:0 u16")]);
    press.modbus.busy_retries = 2;
    let mut link = Running::start(vec![press]);
    for _ in 0..3 {
        assert_eq!(link.next().await.samples[0].outcome, Ok(Value::Integer(7)));
    }
    assert_eq!(link.next().await.samples[0].outcome, Err(NoValue::Refused));
    link.stop().await;
}
