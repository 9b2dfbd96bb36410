//! The link against the simulator's OPC UA server: securities, logins, trust, missing nodes, restarts.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod common;

use common::{Line, Plant, Reader, cnc, point, settings, user_certificate, with_pki, with_user};
use std::time::Duration;
use tally_connector_api::{LinkFault, LinkState};
use tally_connector_opcua::link;
use tally_model::{Encoding, NoValue, OpcUaPolicy, Quality, Value};
use tally_simulator::{OpcUaOffer, OpcUaOptions};

const ALL_POLICIES: [OpcUaPolicy; 8] = [
    OpcUaPolicy::None,
    OpcUaPolicy::Basic256Sha256Sign,
    OpcUaPolicy::Basic256Sha256SignAndEncrypt,
    OpcUaPolicy::Aes128Sign,
    OpcUaPolicy::Aes128SignAndEncrypt,
    OpcUaPolicy::Aes256Sign,
    OpcUaPolicy::Aes256SignAndEncrypt,
    OpcUaPolicy::Best,
];

#[tokio::test]
async fn values_set_are_values_read_under_every_security() {
    let pki = tempfile::tempdir().unwrap();
    let plant = Plant::start(OpcUaOptions::default(), "{}").await;
    for (round, policy) in (2_u32..).zip(ALL_POLICIES) {
        let mut reader = Reader::start(vec![cnc(plant.port, policy)], settings(pki.path(), true));
        reader.value("program", Value::Text("O4711".into())).await;
        plant.state.set("cnc", "load", Value::Float(f64::from(round)));
        let sample = reader.value("load", Value::Float(f64::from(round))).await;
        assert_eq!(sample.quality, Quality::Good);
        // The time is the server's: both run on this machine, so it is close to ours and not after it.
        assert!(sample.source_time <= sample.received, "{sample:?}");
        assert!(sample.received.since(sample.source_time) < common::PATIENCE, "{sample:?}");
        reader.stop().await;
    }
    plant.stop().await;
}

#[tokio::test]
async fn the_first_notification_gives_every_point_once_in_its_type() {
    let pki = tempfile::tempdir().unwrap();
    let plant = Plant::start(OpcUaOptions::default(), "{}").await;
    let mut reader = Reader::start(vec![cnc(plant.port, OpcUaPolicy::None)], settings(pki.path(), false));
    let mut values = std::collections::BTreeMap::new();
    while values.len() < 4 {
        let batch = tokio::time::timeout(common::PATIENCE, reader.batches.recv()).await.unwrap().unwrap();
        assert_eq!(batch.device.as_str(), "cnc-02");
        for sample in batch.samples {
            assert!(values.insert(sample.point.to_string(), sample.outcome.unwrap()).is_none(), "told twice");
        }
    }
    let values: Vec<_> = values.into_values().collect();
    let expected = [Value::Float(1.5), Value::Integer(7), Value::Text("O4711".into()), Value::Bool(true)];
    assert_eq!(values, expected);
    // Report by exception: nothing changes, nothing comes.
    assert!(tokio::time::timeout(Duration::from_millis(300), reader.batches.recv()).await.is_err());
    reader.stop().await;
    plant.stop().await;
}

#[tokio::test]
async fn user_and_password_good_bad_and_missing() {
    let pki = tempfile::tempdir().unwrap();
    let plant = Plant::start(OpcUaOptions::default(), "{operator: secret}").await;
    for policy in ALL_POLICIES {
        let device = with_user(cnc(plant.port, policy), "operator", "secret");
        let mut reader = Reader::start(vec![device], settings(pki.path(), true));
        reader.value("parts", Value::Integer(7)).await;
        reader.stop().await;
    }
    let device = with_user(cnc(plant.port, OpcUaPolicy::Best), "operator", "wrong");
    let mut reader = Reader::start(vec![device], settings(pki.path(), true));
    let fault = reader.down(|fault| matches!(fault, LinkFault::Credentials(_))).await.to_string();
    assert!(fault.contains("`user` and `password`") && !fault.contains("wrong"), "{fault}");
    reader.stop().await;
    let mut reader = Reader::start(vec![cnc(plant.port, OpcUaPolicy::Best)], settings(pki.path(), true));
    let fault = reader.down(|fault| matches!(fault, LinkFault::Credentials(_))).await.to_string();
    assert!(fault.contains("without a user"), "{fault}");
    reader.stop().await;
    plant.stop().await;
}

#[tokio::test]
async fn best_never_downgrades() {
    let pki = tempfile::tempdir().unwrap();
    let offers = |offers: &[OpcUaOffer]| OpcUaOptions { offers: offers.to_vec(), ..OpcUaOptions::default() };
    let cases = [
        (&[OpcUaOffer::None][..], "`policy: none`"),
        (&[OpcUaOffer::None, OpcUaOffer::Basic256Sha256Sign][..], "`policy: basic256sha256-sign`"),
        (&[OpcUaOffer::None, OpcUaOffer::Basic256SignAndEncrypt][..], "`policy: basic256-sign-encrypt`"),
        (&[OpcUaOffer::Basic128Rsa15SignAndEncrypt][..], "`insecure: true`"),
    ];
    for (offered, hint) in cases {
        let plant = Plant::start(offers(offered), "{}").await;
        let mut reader = Reader::start(vec![cnc(plant.port, OpcUaPolicy::Best)], settings(pki.path(), true));
        let fault = reader.down(|fault| matches!(fault, LinkFault::Refused(_))).await.to_string();
        assert!(fault.contains(hint), "{fault}");
        reader.stop().await;
        plant.stop().await;
    }
}

#[tokio::test]
async fn a_named_policy_is_never_replaced_by_a_weaker_or_another_one() {
    let pki = tempfile::tempdir().unwrap();
    let options = OpcUaOptions {
        offers: vec![OpcUaOffer::None, OpcUaOffer::Basic256Sha256SignAndEncrypt],
        ..OpcUaOptions::default()
    };
    let plant = Plant::start(options, "{}").await;
    for policy in [OpcUaPolicy::Aes256SignAndEncrypt, OpcUaPolicy::Aes128SignAndEncrypt, OpcUaPolicy::Aes256Sign] {
        let mut reader = Reader::start(vec![cnc(plant.port, policy)], settings(pki.path(), true));
        let fault = reader.down(|fault| matches!(fault, LinkFault::Refused(_))).await.to_string();
        assert!(fault.contains(policy.word()) && fault.contains("Basic256Sha256 SignAndEncrypt"), "{fault}");
        assert!(fault.contains("`policy: best`"), "{fault}");
        reader.stop().await;
    }
    plant.stop().await;
}

#[tokio::test]
async fn deprecated_policies_are_read_only_by_those_who_say_so() {
    let pki = tempfile::tempdir().unwrap();
    let options = OpcUaOptions { offers: OpcUaOffer::DEPRECATED.to_vec(), ..OpcUaOptions::default() };
    let plant = Plant::start(options, "{operator: secret}").await;
    for policy in [OpcUaPolicy::Basic256SignAndEncrypt, OpcUaPolicy::Basic128Rsa15SignAndEncrypt] {
        let mut device = with_user(cnc(plant.port, policy), "operator", "secret");
        let fault = link(vec![device.clone()], settings(pki.path(), true)).err().unwrap().to_string();
        assert!(fault.contains("`insecure: true`") && fault.contains("cnc-02"), "{fault}");
        device.security.insecure = true;
        let mut reader = Reader::start(vec![device], settings(pki.path(), true));
        reader.value("parts", Value::Integer(7)).await;
        reader.stop().await;
    }
    plant.stop().await;
}

#[tokio::test]
async fn a_user_with_a_certificate_gets_in_and_a_stranger_does_not() {
    let (pki, users) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let [known, stranger] = ["known", "stranger"].map(|name| user_certificate(users.path(), name));
    let options =
        OpcUaOptions { user_certificates: vec![("operator".into(), known.0.clone())], ..OpcUaOptions::default() };
    let plant = Plant::start(options, "{}").await;
    for policy in [OpcUaPolicy::Best, OpcUaPolicy::Basic256Sha256SignAndEncrypt] {
        let mut device = cnc(plant.port, policy);
        (device.security.user_certificate, device.security.user_key) = (Some(known.0.clone()), Some(known.1.clone()));
        let mut reader = Reader::start(vec![device], settings(pki.path(), true));
        reader.value("parts", Value::Integer(7)).await;
        reader.stop().await;
    }
    let mut device = cnc(plant.port, OpcUaPolicy::Best);
    (device.security.user_certificate, device.security.user_key) = (Some(stranger.0), Some(stranger.1.clone()));
    let mut reader = Reader::start(vec![device.clone()], settings(pki.path(), true));
    let fault = reader.down(|fault| matches!(fault, LinkFault::Credentials(_))).await.to_string();
    assert!(fault.contains("user_certificate"), "{fault}");
    reader.stop().await;
    std::fs::set_permissions(&stranger.1, std::os::unix::fs::PermissionsExt::from_mode(0o640)).unwrap();
    let mut reader = Reader::start(vec![device.clone()], settings(pki.path(), true));
    let fault = reader.down(|fault| matches!(fault, LinkFault::Credentials(_))).await.to_string();
    assert!(fault.contains("mode 0640") && fault.contains("chmod 600"), "{fault}");
    reader.stop().await;
    device.security.user_key = None;
    assert!(link(vec![device], settings(pki.path(), true)).err().unwrap().to_string().contains("`user_key`"));
    plant.stop().await;
}

#[tokio::test]
async fn a_full_server_is_told_apart_from_everything_else() {
    let pki = tempfile::tempdir().unwrap();
    let plant = Plant::start(OpcUaOptions { sessions_max: 1, ..OpcUaOptions::default() }, "{}").await;
    let mut first = Reader::start(vec![cnc(plant.port, OpcUaPolicy::None)], settings(pki.path(), false));
    first.value("parts", Value::Integer(7)).await;
    let mut second = Reader::start(vec![cnc(plant.port, OpcUaPolicy::None)], settings(pki.path(), false));
    let fault = second.down(|fault| matches!(fault, LinkFault::Limit(_))).await;
    assert_eq!(fault.class(), "limit-hit");
    assert!(fault.to_string().contains("close another client"), "{fault}");
    // Room again: the link comes up by itself.
    first.stop().await;
    second.value("parts", Value::Integer(7)).await;
    second.stop().await;
    plant.stop().await;
}

#[tokio::test]
async fn a_missing_node_or_namespace_never_stops_its_neighbours() {
    let pki = tempfile::tempdir().unwrap();
    let plant = Plant::start(OpcUaOptions::default(), "{}").await;
    let mut device = cnc(plant.port, OpcUaPolicy::None);
    device.points.insert(0, point("ghost", "nsu=urn:factory:cnc;s=No.Such.Node", Encoding::Auto));
    device.points.insert(2, point("stranger", "nsu=urn:nobody:knows;s=Spindle.Load", Encoding::Auto));
    let mut reader = Reader::start(vec![device], settings(pki.path(), false));
    let mut missing = std::collections::BTreeMap::new();
    let mut present = 0;
    while missing.len() + present < 6 {
        let batch = tokio::time::timeout(common::PATIENCE, reader.batches.recv()).await.unwrap().unwrap();
        for sample in batch.samples {
            match sample.outcome {
                Ok(_) => present += 1,
                Err(reason) => assert!(missing.insert(sample.point.to_string(), reason).is_none(), "told twice"),
            }
        }
    }
    assert_eq!(
        missing.into_iter().collect::<Vec<_>>(),
        [("ghost".to_owned(), NoValue::NoSuchAddress), ("stranger".to_owned(), NoValue::NoSuchAddress)]
    );
    plant.state.set("cnc", "load", Value::Float(88.0));
    reader.value("load", Value::Float(88.0)).await;
    assert!(matches!(reader.status.borrow().state, LinkState::Up { .. }));
    reader.stop().await;
    plant.stop().await;
}

#[tokio::test]
async fn a_server_is_untrusted_until_the_operator_moves_its_certificate() {
    let pki = tempfile::tempdir().unwrap();
    let plant = Plant::start(OpcUaOptions::default(), "{}").await;
    let mut reader = Reader::start(vec![cnc(plant.port, OpcUaPolicy::Best)], settings(pki.path(), false));
    let fault = reader.down(|fault| matches!(fault, LinkFault::Untrusted(_))).await.to_string();
    assert!(fault.contains("mv '"), "{fault}");
    reader.sample("load", |sample| sample.outcome == Err(NoValue::LinkDown)).await;
    let rejected: Vec<_> = std::fs::read_dir(pki.path().join("rejected")).unwrap().map(Result::unwrap).collect();
    assert_eq!(rejected.len(), 1);
    std::fs::rename(rejected[0].path(), pki.path().join("trusted").join(rejected[0].file_name())).unwrap();
    reader.value("load", Value::Float(1.5)).await;
    reader.stop().await;
    plant.stop().await;
}

#[tokio::test]
async fn a_server_that_does_not_trust_us_is_named_as_such() {
    let pki = tempfile::tempdir().unwrap();
    let plant = Plant::start(OpcUaOptions { trust_any: false, ..OpcUaOptions::default() }, "{}").await;
    let mut reader = Reader::start(vec![cnc(plant.port, OpcUaPolicy::Best)], settings(pki.path(), true));
    let fault = reader.down(|fault| matches!(fault, LinkFault::NotTrusted(_))).await.to_string();
    assert!(fault.contains("own/cert.der"), "{fault}");
    reader.stop().await;
    plant.stop().await;
}

#[tokio::test]
async fn an_announced_host_nobody_can_resolve_does_not_matter() {
    let pki = tempfile::tempdir().unwrap();
    let options = OpcUaOptions { announce: Some("plc.invalid".into()), ..OpcUaOptions::default() };
    let plant = Plant::start(options, "{}").await;
    let mut reader = Reader::start(vec![cnc(plant.port, OpcUaPolicy::Best)], settings(pki.path(), true));
    reader.value("parts", Value::Integer(7)).await;
    reader.stop().await;
    plant.stop().await;
}

#[tokio::test]
async fn a_restarted_server_is_read_again_and_the_outage_is_told_once() {
    let (pki, server_pki) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let port = common::ports::free_port();
    let plant = Plant::start_at(port, with_pki(server_pki.path()), "{}").await;
    let mut reader = Reader::start(vec![cnc(port, OpcUaPolicy::Best)], settings(pki.path(), true));
    reader.value("load", Value::Float(1.5)).await;
    plant.stop().await;
    reader.down(|fault| matches!(fault, LinkFault::Line(_))).await;
    tokio::time::sleep(Duration::from_millis(700)).await;
    let plant = Plant::start_at(port, with_pki(server_pki.path()), "{}").await;
    let mut down_samples = 0;
    'read: loop {
        let batch = tokio::time::timeout(common::PATIENCE, reader.batches.recv()).await.unwrap().unwrap();
        for sample in batch.samples.iter().filter(|sample| sample.point.as_str() == "load") {
            match &sample.outcome {
                Err(reason) => {
                    assert_eq!(*reason, NoValue::LinkDown);
                    down_samples += 1;
                }
                Ok(_) => break 'read,
            }
        }
    }
    assert_eq!(down_samples, 1);
    plant.state.set("cnc", "load", Value::Float(9.0));
    reader.value("load", Value::Float(9.0)).await;
    assert_eq!(reader.status.borrow().connects, 2);
    reader.stop().await;
    plant.stop().await;
}

#[tokio::test]
async fn a_silenced_device_loses_its_server_and_comes_back_by_itself() {
    let pki = tempfile::tempdir().unwrap();
    let plant = Plant::start(OpcUaOptions::default(), "{}").await;
    let mut reader = Reader::start(vec![cnc(plant.port, OpcUaPolicy::None)], settings(pki.path(), false));
    reader.value("load", Value::Float(1.5)).await;
    plant.state.silence("cnc", Duration::from_millis(500));
    reader.sample("load", |sample| sample.outcome == Err(NoValue::LinkDown)).await;
    reader.value("load", Value::Float(1.5)).await;
    reader.stop().await;
    plant.stop().await;
}

#[tokio::test]
async fn quality_comes_along() {
    let pki = tempfile::tempdir().unwrap();
    let plant = Plant::start(OpcUaOptions::default(), "{}").await;
    let mut reader = Reader::start(vec![cnc(plant.port, OpcUaPolicy::None)], settings(pki.path(), false));
    reader.value("load", Value::Float(1.5)).await;
    plant.state.set_quality("cnc", "load", Quality::Uncertain);
    let doubted = reader.sample("load", |sample| sample.quality == Quality::Uncertain).await;
    assert_eq!(doubted.outcome, Ok(Value::Float(1.5)));
    plant.state.set_quality("cnc", "load", Quality::Bad);
    let bad = reader.sample("load", |sample| sample.quality == Quality::Bad).await;
    assert_eq!(bad.outcome, Err(NoValue::Refused));
    reader.stop().await;
    plant.stop().await;
}

#[tokio::test]
async fn every_change_arrives_once_and_in_order() {
    let pki = tempfile::tempdir().unwrap();
    let plant = Plant::start(OpcUaOptions::default(), "{}").await;
    let mut reader = Reader::start(vec![cnc(plant.port, OpcUaPolicy::None)], settings(pki.path(), false));
    for number in [7, 100, 101, 100, 0, 4_294_967_295] {
        plant.state.set("cnc", "parts", Value::Integer(number));
        assert_eq!(reader.sample("parts", |_| true).await.outcome, Ok(Value::Integer(number)));
    }
    reader.stop().await;
    plant.stop().await;
}

#[tokio::test]
async fn a_full_sink_slows_the_link_down_and_every_gap_is_marked() {
    let pki = tempfile::tempdir().unwrap();
    let plant = Plant::start(OpcUaOptions::default(), "{}").await;
    let device = cnc(plant.port, OpcUaPolicy::None);
    let mut reader = Reader::start_with_sink(vec![device], settings(pki.path(), false), 1);
    reader.value("parts", Value::Integer(7)).await;
    // Nobody reads for three seconds, while the count changes 30 times: more than sink, line and server queue hold.
    for number in 8..=37 {
        plant.state.set("cnc", "parts", Value::Integer(number));
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let (mut last, mut widest) = (7, (0, Quality::Good));
    while last < 37 {
        let sample = reader.sample("parts", |_| true).await;
        let Ok(Value::Integer(number)) = sample.outcome else { panic!("{sample:?}") };
        // A busy machine may make the simulator itself skip a number; the queues' gap is the widest.
        widest = if number - last > widest.0 { (number - last, sample.quality) } else { widest };
        last = number;
    }
    assert!(widest.0 > 5, "the queues held everything: this test tests nothing ({widest:?})");
    assert_eq!(widest.1, Quality::Uncertain, "an unmarked gap of {}", widest.0);
    assert_eq!(reader.status.borrow().connects, 1);
    reader.stop().await;
    plant.stop().await;
}

#[tokio::test]
async fn stopping_takes_less_than_a_second_even_when_nobody_reads() {
    let pki = tempfile::tempdir().unwrap();
    let plant = Plant::start(OpcUaOptions::default(), "{}").await;
    let reader = Reader::start_with_sink(vec![cnc(plant.port, OpcUaPolicy::None)], settings(pki.path(), false), 1);
    for number in 0..10 {
        plant.state.set("cnc", "parts", Value::Integer(number));
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    reader.stop().await;
    plant.stop().await;
}

#[tokio::test]
async fn a_line_cut_without_a_word_is_noticed_in_seconds() {
    let pki = tempfile::tempdir().unwrap();
    let plant = Plant::start(OpcUaOptions::default(), "{}").await;
    let line = Line::to(plant.port).await;
    let mut reader = Reader::start(vec![cnc(line.port, OpcUaPolicy::None)], settings(pki.path(), false));
    reader.value("load", Value::Float(1.5)).await;
    line.cut();
    // Without an end of its own the line would be waited at for as long as TCP does, a quarter of an hour.
    reader.sample("load", |sample| sample.outcome == Err(NoValue::LinkDown)).await;
    line.mend();
    plant.state.set("cnc", "load", Value::Float(2.5));
    reader.value("load", Value::Float(2.5)).await;
    reader.stop().await;
    plant.stop().await;
}

#[tokio::test]
async fn thousands_of_points_come_in_full() {
    const COUNT: usize = 2_500;
    let pki = tempfile::tempdir().unwrap();
    let plant = Plant::start_large(COUNT).await;
    let mut device = cnc(plant.port, OpcUaPolicy::Best);
    device.timeout = Duration::from_secs(5);
    let numbered = |n| point(&format!("p{n}"), &format!("nsu=urn:factory:cnc;i={}", 10_000 + n), Encoding::I64);
    device.points = (0..COUNT).map(numbered).collect();
    let mut reader = Reader::start(vec![device], settings(pki.path(), true));
    let mut seen = std::collections::HashSet::new();
    while seen.len() < COUNT {
        let batch = tokio::time::timeout(common::PATIENCE, reader.batches.recv()).await.unwrap().unwrap();
        for sample in batch.samples {
            let number: i64 = sample.point.as_str()[1..].parse().unwrap();
            assert_eq!(sample.outcome, Ok(Value::Integer(number)));
            assert!(seen.insert(number), "told twice");
        }
    }
    reader.stop().await;
    plant.stop().await;
}

#[tokio::test]
async fn two_devices_behind_one_server_share_a_session() {
    let pki = tempfile::tempdir().unwrap();
    let plant = Plant::start(OpcUaOptions::default(), "{}").await;
    let (mut first, mut second) = (cnc(plant.port, OpcUaPolicy::None), cnc(plant.port, OpcUaPolicy::None));
    first.points.truncate(1);
    second.points.drain(..1);
    second.id = tally_model::DeviceId::try_new("cnc-03").unwrap();
    let mut reader = Reader::start(vec![first, second], settings(pki.path(), false));
    let mut owners = std::collections::BTreeSet::new();
    while owners.len() < 4 {
        let batch = tokio::time::timeout(common::PATIENCE, reader.batches.recv()).await.unwrap().unwrap();
        owners.extend(batch.samples.iter().map(|sample| (batch.device.to_string(), sample.point.to_string())));
    }
    let owner_of = |point: &str| owners.iter().find(|(_, known)| known == point).unwrap().0.clone();
    assert_eq!((owner_of("load"), owner_of("parts")), ("cnc-02".to_owned(), "cnc-03".to_owned()));
    assert_eq!(reader.status.borrow().connects, 1);
    reader.stop().await;
    plant.stop().await;
}

#[tokio::test]
async fn a_server_that_never_answers_is_given_up_in_seconds() {
    let pki = tempfile::tempdir().unwrap();
    // Accepts and stays silent: the library would wait for its hello for ever.
    let mute = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let device = cnc(mute.local_addr().unwrap().port(), OpcUaPolicy::None);
    let mut reader = Reader::start(vec![device], settings(pki.path(), false));
    let fault = reader.down(|fault| matches!(fault, LinkFault::Line(_))).await.to_string();
    assert!(fault.contains("no answer within"), "{fault}");
    reader.stop().await;
    drop(mute);
}
