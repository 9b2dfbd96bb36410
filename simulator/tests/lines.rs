//! Every kind of Modbus line: what is simulated is what our own connector reads over it, what is written is kept, and every
//! fault shows as it should.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod common;

use common::{PATIENCE, Reader, fails, plant, specs};
use std::path::Path;
use std::time::Duration;
use tally_connector_modbus::{Write, link_with_writer};
use tally_model::{NoValue, Outcome, Quality, Tls, Value};
use tally_simulator::{SimConfig, SimHandle};

/// Two units on one line, addresses as people write them.
fn yaml(serve: &str, more: &str) -> String {
    format!(
        "devices:
  - id: press
    serve: \"{serve}?unit=3\"
    base: one
{more}    signals:
      - {{id: level, at: HR41, type: f32, order: CDAB, from: {{constant: 7.8125}}}}
      - {{id: digits, at: 40043, type: bcd32, from: {{constant: 20261121}}}}
      - {{id: limit, at: 4x45, type: i16, scale: 0.1, from: {{constant: -4}}}}
      - {{id: mode, at: 40046, type: u16, bits: 4-6, labels: {{0: idle, 5: run}}, from: {{constant: run}}}}
      - {{id: ready, at: 40046.0, from: {{constant: true}}}}
      - {{id: name, at: 40047, type: text-low, length: 6, from: {{constant: Presse}}}}
      - {{id: running, at: 0x5, from: {{constant: true}}}}
  - id: lathe
    serve: \"{serve}?unit=4\"
    signals:
      - {{id: strokes, at: input:0, type: u64, order: EFGHABCD, from: {{constant: 18446744073709551615}}}}
"
    )
}

/// Every line on which frames can travel, with a name of its own.
fn lines(folder: &Path) -> Vec<(&'static str, String)> {
    let tty = |name: &str| folder.join(name).display().to_string();
    vec![
        ("tcp", "modbus+tcp://127.0.0.1:0".to_owned()),
        ("tls", "modbus+tls://127.0.0.1:0".to_owned()),
        ("rtu over tcp", "modbus+rtu+tcp://127.0.0.1:0".to_owned()),
        ("ascii over tcp", "modbus+ascii+tcp://127.0.0.1:0".to_owned()),
        ("rtu", format!("modbus+rtu://{}", tty("rtu.tty"))),
        ("ascii", format!("modbus+ascii://{}", tty("ascii.tty"))),
    ]
}

fn is(value: Value) -> impl Fn(&Outcome) -> bool {
    move |outcome: &Outcome| *outcome == Ok(value.clone())
}

/// What the file says, read by the connector as an engineer would have written it.
fn readers(config: &SimConfig, handle: &SimHandle) -> Vec<tally_model::DeviceSpec> {
    let mut devices = specs(config, handle);
    for device in &mut devices {
        if let Some(folder) = handle.certificates(device.id.as_str()) {
            device.security.tls = Tls {
                ca: Some(folder.join("ca.pem")),
                pin: None,
                certificate: Some(folder.join("client.pem")),
                key: Some(folder.join("client.key")),
            };
        }
        // A serial line at 19200 baud is simulated without its slowness, but asked with patience for it.
        device.timeout = Duration::from_millis(400);
        device.modbus.late_max = Some(Duration::from_millis(300));
    }
    devices
}

#[tokio::test]
async fn what_is_simulated_is_read_and_what_is_written_is_kept_on_every_line() {
    let folder = tempfile::tempdir().unwrap();
    for (name, serve) in lines(folder.path()) {
        let config = plant(&yaml(&serve, ""));
        let handle = SimHandle::start(config.clone()).await.unwrap();
        let devices = readers(&config, &handle);
        let id = devices[0].id.clone();
        let (link, writer) = link_with_writer(devices).unwrap();
        let mut reader = Reader::run(link);
        for (point, value) in [
            ("level", Value::Float(7.8125)),
            ("digits", Value::Integer(20_261_121)),
            ("limit", Value::Float(-40.0 * 0.1)),
            ("mode", Value::Text("run".into())),
            ("ready", Value::Bool(true)),
            ("name", Value::Text("Presse".into())),
            ("running", Value::Bool(true)),
        ] {
            reader.until("press", point, is(value)).await;
        }
        reader.until("lathe", "strokes", is(Value::Unsigned(u64::MAX))).await;
        let none = Vec::<u16>::new();
        assert_eq!(writer.write(&id, Write::Register { address: 44, word: 123 }).await, Ok(none.clone()), "{name}");
        assert_eq!(writer.write(&id, Write::Coil { address: 4, on: false }).await, Ok(none.clone()), "{name}");
        assert_eq!(writer.write(&id, Write::Mask { address: 45, and: 0xff8f, or: 0 }).await, Ok(none), "{name}");
        let known = writer.identify(&id).await.unwrap();
        assert_eq!(known.get(&4).map(String::as_str), Some("press"), "{name}: {known:?}");
        reader.until("press", "limit", is(Value::Float(123.0 * 0.1))).await;
        reader.until("press", "running", is(Value::Bool(false))).await;
        reader.until("press", "mode", is(Value::Text("idle".into()))).await;
        assert_eq!(handle.state().get("press", "running"), Some(Value::Bool(false)), "{name}");
        handle.stop().await;
    }
    let left: Vec<_> = std::fs::read_dir(folder.path()).unwrap().collect();
    assert!(left.is_empty(), "serial lines go with their simulator: {left:?}");
}

/// The connector refuses each of these; the neighbour on the same line is read all the while.
#[tokio::test]
async fn every_wire_fault_shows_on_every_line_and_heals() {
    let folder = tempfile::tempdir().unwrap();
    let mut lines_at_work = tokio::task::JoinSet::new();
    for (name, serve) in lines(folder.path()) {
        lines_at_work.spawn(faults_on(name, serve));
    }
    while let Some(done) = lines_at_work.join_next().await {
        done.unwrap();
    }
}

async fn faults_on(name: &'static str, serve: String) {
    let config = plant(&yaml(&serve, ""));
    let handle = SimHandle::start(config.clone()).await.unwrap();
    let mut reader = Reader::start(readers(&config, &handle));
    let has_ids = matches!(name, "tcp" | "tls");
    let mut faults = vec![
        ("garbage", NoValue::Timeout),
        ("half", NoValue::Timeout),
        ("exception 6", NoValue::Refused),
        ("wrong unit", NoValue::Nonsense),
        ("wrong function", NoValue::Nonsense),
        ("wrong length", NoValue::Nonsense),
        ("delay 600ms", NoValue::Timeout),
        ("drop", NoValue::Timeout),
    ];
    match name {
        "tcp" | "tls" => faults.extend([
            ("wrong transaction", NoValue::Nonsense),
            ("wrong protocol", NoValue::Nonsense),
            ("hang-up", NoValue::LinkDown),
            // The device is asked for a bad register again only after a while: once is enough.
            ("bad", NoValue::Refused),
        ]),
        // An ASCII frame has an end, so one with a wrong checksum is seen; in RTU nothing has come.
        "ascii" | "ascii over tcp" => faults.push(("wrong checksum", NoValue::Nonsense)),
        _ => faults.push(("wrong checksum", NoValue::Timeout)),
    }
    assert_eq!(faults.len(), if has_ids { 12 } else { 9 });
    for (fault, reason) in faults {
        let said = handle.command(&format!("break press {fault} for 20s"));
        assert!(said.starts_with("ok"), "{name}: {fault}: {said}");
        reader.until_named(&format!("{name}: {fault}"), "press", "running", fails(reason)).await;
        reader.until_named(&format!("{name}: neighbour of {fault}"), "lathe", "strokes", Result::is_ok).await;
        assert_eq!(handle.command("heal press"), "ok press: 1 faults ended", "{name}: {fault}");
        reader.until_named(&format!("{name}: after {fault}"), "press", "level", Result::is_ok).await;
    }
    handle.stop().await;
}

#[tokio::test]
async fn faults_come_and_go_as_the_file_says() {
    let faults = "    faults:
      - {at: 1s, for: 2s, what: exception, of: 6}
      - {at: 4s, for: 1s, what: bad, signals: [level]}
      - {at: 6s, what: frozen, signals: [limit]}
";
    let config = plant(&yaml("modbus+tcp://127.0.0.1:0", faults));
    let handle = SimHandle::start(config.clone()).await.unwrap();
    let mut reader = Reader::start(readers(&config, &handle));
    reader.until("press", "level", Result::is_ok).await;
    reader.until("press", "level", fails(NoValue::Refused)).await;
    assert_eq!(handle.command("faults press"), "ok exception 6");
    reader.until("press", "level", Result::is_ok).await;
    reader.until("press", "level", fails(NoValue::Refused)).await;
    reader.until("press", "mode", Result::is_ok).await;
    assert_eq!(handle.command("faults press"), "ok bad on level");
    reader.until("press", "level", Result::is_ok).await;
    let frozen = tokio::time::timeout(PATIENCE, async {
        while handle.command("faults press") != "ok frozen on limit" {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    });
    frozen.await.unwrap();
    assert_eq!(handle.state().view("press", "limit").unwrap().quality, Quality::Good);
    handle.stop().await;
}

#[tokio::test]
async fn commands_on_a_socket_are_those_of_standard_input() {
    use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
    use tokio_util::sync::CancellationToken;
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("sim.sock");
    // What a killed simulator left behind is no obstacle.
    drop(std::os::unix::net::UnixListener::bind(&socket).unwrap());
    let (stop, config) = (CancellationToken::new(), plant(&yaml("modbus+tcp://127.0.0.1:0", "")));
    let (answers, ours) = tokio::io::duplex(4_096);
    let (running, path) = (stop.clone(), socket.clone());
    let sim = tokio::spawn(async move {
        tally_simulator::run_with_socket(config, BufReader::new(tokio::io::empty()), answers, Some(&path), running)
            .await
    });
    let ready = BufReader::new(ours).lines().next_line().await.unwrap().unwrap();
    assert!(ready.starts_with("ready lathe=modbus+tcp://127.0.0.1:"), "{ready}");
    let (reader, mut writer) = tokio::net::UnixStream::connect(&socket).await.unwrap().into_split();
    let mut lines = BufReader::new(reader).lines();
    for (command, answer) in [
        ("devices", "ok lathe press"),
        ("signals lathe", "ok strokes"),
        ("break press bad for 10s on level mode", "ok press: bad on level mode"),
        ("break press delay 2s", "ok press: delay 2s"),
        ("faults press", "ok bad on level mode, delay 2s"),
        ("break press clock 5min", "error `clock +300s` cannot happen there: Modbus carries no times"),
        ("break press drop on level", "error `drop` concerns the whole device"),
        ("break press bad on nothing", "error press has no signal `nothing`"),
        ("break press bad on", "error `bad` on which signals?"),
        ("break press bad for", "error behind `for` comes one time"),
        ("break press fire", "error `fire` is no fault; there are: drop"),
        ("break press", "error write `break DEVICE FAULT"),
        ("heal press", "ok press: 2 faults ended"),
        ("faults press", "ok none"),
    ] {
        writer.write_all(format!("{command}\n").as_bytes()).await.unwrap();
        let line = tokio::time::timeout(PATIENCE, lines.next_line()).await.unwrap().unwrap().unwrap();
        assert!(line.starts_with(answer), "`{command}` was answered `{line}` instead of `{answer}…`");
    }
    stop.cancel();
    tokio::time::timeout(PATIENCE, sim).await.unwrap().unwrap().unwrap();
    assert!(!socket.exists(), "the socket goes with the simulator");
}

#[tokio::test]
async fn a_serial_line_serves_the_next_reader_too_and_overwrites_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("line.tty");
    std::os::unix::fs::symlink("/dev/pts/no-such-line", &path).unwrap();
    let config = plant(&yaml(&format!("modbus+rtu://{}", path.display()), ""));
    let handle = SimHandle::start(config.clone()).await.unwrap();
    for _ in 0..3 {
        let mut reader = Reader::start(readers(&config, &handle));
        reader.until("press", "running", Result::is_ok).await;
        reader.until("lathe", "strokes", Result::is_ok).await;
    }
    handle.stop().await;
    std::fs::write(&path, "somebody's file").unwrap();
    let fault = SimHandle::start(config.clone()).await.err().unwrap().to_string();
    assert!(fault.contains("is there already, and no serial line"), "{fault}");
    assert_eq!(std::fs::read_to_string(&path).unwrap(), "somebody's file");
    std::fs::remove_file(&path).unwrap();
    std::os::unix::fs::symlink("/dev/unplugged", &path).unwrap();
    let fault = SimHandle::start(config).await.err().unwrap().to_string();
    assert!(fault.contains("is a link to nothing"), "{fault}");
    assert!(path.is_symlink(), "links that are not ours stay");
}

/// A serial line that exists is used as it is; everybody obeys a broadcast, and nobody answers it.
#[tokio::test]
async fn a_serial_line_that_exists_is_opened_and_broadcasts_are_obeyed() {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio_serial::SerialPort;
    let (mut master, line) = tokio_serial::SerialStream::pair().unwrap();
    let path = line.name().unwrap();
    drop(line);
    // As under /dev/serial/by-id: a link that does not lead to a pseudo-terminal by its own words.
    let folder = tempfile::tempdir().unwrap();
    let (by_id, link) = (folder.path().join("by-id"), folder.path().join("usb-adapter"));
    std::os::unix::fs::symlink("/dev", &by_id).unwrap();
    std::os::unix::fs::symlink(by_id.join(path.strip_prefix("/dev/").unwrap()), &link).unwrap();
    let config = plant(&yaml(&format!("modbus+rtu://{}", link.display()), ""));
    let handle = SimHandle::start(config).await.unwrap();
    // Function code 6 to unit 0: 123 to register 44; then a read of it from unit 3. Checksums by hand.
    let (broadcast, question) = ([0, 6, 0, 44, 0, 123], [3, 3, 0, 44, 0, 1]);
    for frame in [broadcast, question] {
        master.write_all(&[&frame[..], &crc(&frame).to_le_bytes()].concat()).await.unwrap();
    }
    let mut answer = [0; 7];
    tokio::time::timeout(PATIENCE, master.read_exact(&mut answer)).await.unwrap().unwrap();
    assert_eq!(answer[..5], [3, 3, 2, 0, 123], "nothing came before it: nobody answered the broadcast");
    assert_eq!(answer[5..], crc(&answer[..5]).to_le_bytes());
    handle.stop().await;
    assert!(link.is_symlink(), "links that are not ours stay");
}

/// CRC-16/MODBUS, bit by bit (Modbus over Serial Line V1.02 §6.2.2): not the library's.
fn crc(bytes: &[u8]) -> u16 {
    bytes.iter().fold(0xffff, |crc, byte| {
        (0..8).fold(crc ^ u16::from(*byte), |crc, _| if crc & 1 == 1 { crc >> 1 ^ 0xa001 } else { crc >> 1 })
    })
}
