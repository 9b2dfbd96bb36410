//! Modbus devices that answer what is no answer, beside one that does not. Each is told apart and counted; none has a value of its own
//! making, and when it comes to its senses it is read like any other.

use serde_json::json;
use tally_tests::{Attacks, Ear, Manner, Mosquitto, Pymodbus, Rogue, Site, free_port};

/// Name, what is sent, the manner, the reasons that its point may have.
type Misbehaviour = (&'static str, &'static str, Manner, &'static str);

const SENSELESS: &str = "nonsense|link-down|timeout";

const MISBEHAVIOURS: [Misbehaviour; 17] = [
    ("modbus-busy", "exception 6", Manner::Exception(6), "refused"),
    ("modbus-broken", "exception 4", Manner::Exception(4), "refused"),
    ("modbus-holes", "exception 2", Manner::Exception(2), "no-such-address"),
    ("modbus-strange-exception", "an exception code nobody knows", Manner::StrangeException, "refused|nonsense"),
    ("modbus-garbage", "bytes that are no frame", Manner::Garbage, SENSELESS),
    ("modbus-half", "half an answer", Manner::Half, SENSELESS),
    ("modbus-cut", "half an answer and the end of the line", Manner::Cut, SENSELESS),
    ("modbus-never", "nothing, ever", Manner::Never, SENSELESS),
    ("modbus-foreign", "the answer to another question", Manner::Foreign, SENSELESS),
    ("modbus-endless", "a frame longer than any may be", Manner::Endless, SENSELESS),
    ("modbus-foreign-unit", "the answer of another unit", Manner::ForeignUnit, SENSELESS),
    ("modbus-foreign-function", "the answer of another function", Manner::ForeignFunction, SENSELESS),
    ("modbus-protocol", "a frame of another protocol", Manner::Protocol, SENSELESS),
    ("modbus-count-lie", "a byte count larger than the frame", Manner::CountLie, SENSELESS),
    ("modbus-too-many", "one register more than was asked for", Manner::TooMany, SENSELESS),
    ("modbus-no-length", "a frame of no length", Manner::NoLength, SENSELESS),
    ("modbus-flood", "a thousand answers that nobody asked for", Manner::Flood, SENSELESS),
];

#[tokio::test(flavor = "multi_thread")]
async fn misbehaving_modbus_devices_are_told_apart_and_their_neighbour_flows() {
    let outside = tempfile::tempdir().unwrap();
    let broker = Mosquitto::start(outside.path()).await;
    let mut good = Pymodbus::start(free_port()).await;
    let mut line = super::device("good", good.port, "f32");
    let mut rogues = Vec::new();
    for (name, _, manner, _) in MISBEHAVIOURS {
        let rogue = Rogue::start(manner).await;
        line += &super::device(name, rogue.port, "u16");
        rogues.push(rogue);
    }
    let site = Site::new(&format!("plant: line\ndevices:{line}"), Some(&broker.url())).await;
    let ear = Ear::listen(broker.port).await;
    let _node = site.start_node().await;
    let mut agent = site.start_agent().await;
    let mut attacks = Attacks::on("the Modbus client");
    for (name, sent, _, reasons) in MISBEHAVIOURS {
        let told = ear.until(0, &format!("tallystick/line/{name}/load"), |json| json["v"].is_null()).await.json;
        let label = format!("device=\"{name}\"");
        let counted = Site::metric(&site.agent, "tally_agent_device_no_values_total", &label).await > 0.0;
        let invented = Site::metric(&site.agent, "tally_agent_device_values_total", &label).await > 0.0;
        let got = match (counted, invented) {
            (true, false) => told["e"].as_str().unwrap_or_default(),
            (false, _) => "not counted",
            (_, true) => "believed",
        };
        attacks.tried(name, sent, reasons, got);
    }
    for load in [1.5, 2.5, 3.5] {
        let mark = ear.mark();
        good.set_f32(0, load).await;
        ear.value(mark, "tallystick/line/good/load", &json!(load)).await;
    }
    // In words, where somebody looks who wonders why there is no value.
    let status = site.status().await.to_string();
    for (name, ..) in MISBEHAVIOURS {
        assert!(status.contains(name), "the status does not name {name}: {status}");
    }
    assert!(status.contains("down: "), "{status}");
    let mark = ear.mark();
    rogues.iter().for_each(|rogue| rogue.behave(Manner::Good(42)));
    // (An address that the device does not know is asked for again only once a minute.)
    for (name, ..) in MISBEHAVIOURS.into_iter().filter(|(name, ..)| *name != "modbus-holes") {
        ear.value(mark, &format!("tallystick/line/{name}/load"), &json!(42)).await;
    }
    super::is_well(&mut agent);
    attacks.finish(17);
}
