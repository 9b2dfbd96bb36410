use super::*;
use std::os::unix::fs::PermissionsExt;
use tally_evidence::SigningKey;

const GOOD: &str = "\
name: agent-01
ledger: press-line
mapping: plant.yaml
data: data
key: agent.key
node: unix:/run/tallystick/node.sock
broker: {url: \"mqtt://127.0.0.1:1883\", mode: device, prefix: works/hall-1, user: agent, password: env:PASSWORD, history: {hours: 5, values_per_second: 2000}}
listen: unix:/run/tallystick/agent.sock
limits: {outbox_bytes_max: 1GiB, vault_days: 30, vault_bytes_max: 10 GiB}
";

fn site() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    let key = SigningKey::from_secret(&[7; 32]).unwrap();
    let file = dir.path().join("agent.key");
    std::fs::write(&file, key.to_pem().unwrap().as_bytes()).unwrap();
    std::fs::set_permissions(&file, PermissionsExt::from_mode(0o600)).unwrap();
    std::fs::write(dir.path().join("ledger.pem"), key.public().to_pem().unwrap()).unwrap();
    dir
}

fn parse(dir: &Path, text: &str) -> Result<AgentConfig, ConfigError> {
    let environment = |name: &str| (name == "PASSWORD").then(|| "secret".to_owned());
    AgentConfig::parse(text, &dir.join("agent.yaml"), &environment)
}

#[test]
fn the_sample_is_read() {
    let dir = site();
    let config = parse(dir.path(), GOOD).unwrap();
    assert_eq!(config.data, dir.path().join("data"));
    let broker = config.broker.unwrap();
    assert_eq!((broker.address, broker.mode), (MqttBroker::plain("127.0.0.1", 1883), PublishMode::Device));
    assert_eq!(broker.password.unwrap().reveal(), "secret");
    let five_hours = std::time::Duration::from_secs(5 * 3_600);
    let history = SpoolLimits { age_max: five_hours, values_per_second: 2_000, ..SpoolLimits::default() };
    assert_eq!(broker.history, history);
    assert_eq!(config.limits, Limits { outbox_bytes_max: 1 << 30, vault_days: 30, vault_bytes_max: 10 << 30 });
    assert!(config.ledger_key.is_none());
    let pinned = parse(dir.path(), &format!("{GOOD}ledger_key: ledger.pem\n")).unwrap();
    assert_eq!(pinned.ledger_key.unwrap().id(), config.key.public().unwrap().id());
}

#[test]
fn keys_and_passwords_are_read_from_what_nobody_else_may_read() {
    let dir = site();
    let in_file = |name: &str| dir.path().join(name);
    let authority = tally_ca::Authority::init(&in_file("ca"), "plant", 10, 1_790_000_000).unwrap();
    authority.issue_into(dir.path(), &["own".to_owned()], 10, 1_790_000_000).unwrap();
    std::fs::write(in_file("secret"), "hunter2\n").unwrap();
    std::fs::write(in_file("agent.yaml"), "").unwrap();
    let tls = "ca: ca.pem, certificate: own.pem, key: own.key";
    let node = "unix:/run/tallystick/node.sock";
    let cases = [
        ("own.key", "mqtt://127.0.0.1:1883\"", format!("mqtts://127.0.0.1:8883\", {tls}"), 7),
        ("own.key", node, format!("tls:node.plant:7460\ntls: {{{tls}}}"), 6),
        ("secret", "env:PASSWORD", "file:secret".to_owned(), 7),
        ("secret", node, format!("{node}\ntoken: secret"), 7),
        ("agent.yaml", "env:PASSWORD", "hunter2".to_owned(), 7),
        ("agent.key", "data: data", "data: data".to_owned(), 5),
    ];
    for (file, from, to, line) in cases {
        let (text, file) = (GOOD.replace(from, &to), in_file(file));
        for mode in [0o640, 0o644, 0o602] {
            std::fs::set_permissions(&file, PermissionsExt::from_mode(mode)).unwrap();
            let error = parse(dir.path(), &text).unwrap_err();
            assert!(error.faults.len() == 1 && error.faults[0].line == line, "{to}: {error}");
            let says = [file.display().to_string(), format!("{mode:04o}"), format!("chmod 600 {}", file.display())];
            assert!(says.iter().all(|says| error.faults[0].text.contains(says)), "{to}: {error}");
            assert!(!error.to_string().contains("hunter2"), "{error}");
        }
        std::fs::set_permissions(&file, PermissionsExt::from_mode(0o600)).unwrap();
        let config = parse(dir.path(), &text).unwrap();
        if to.ends_with("secret") && from.starts_with("env") || to == "hunter2" {
            assert_eq!(config.broker.unwrap().password.unwrap().reveal(), "hunter2");
        }
    }
}

#[test]
fn every_slip_is_named_with_its_line() {
    let dir = site();
    for (from, to, line, says) in [
        ("name: agent-01", "name: agent 01", 1, "` ` is not allowed in a party id"),
        ("name: agent-01", "nmae: agent-01", 1, "nmae"),
        ("ledger: press-line", "ledger: ''", 2, "must not be empty"),
        ("key: agent.key", "key: nowhere.key", 5, "cannot be read"),
        ("key: agent.key", "key: ledger.pem", 5, "may be read by others"),
        ("unix:/run/tallystick/node.sock", "http://localhost", 6, "none of `unix:`, `tcp:` and `tls:`"),
        ("unix:/run/tallystick/node.sock", "tls:node.plant:7460", 6, "which node to trust"),
        ("unix:/run/tallystick/node.sock", "unix:/n.sock\ntls: {ca: ledger.pem}", 6, "`node: tls:HOST:PORT`"),
        ("unix:/run/tallystick/node.sock", "tcp:10.0.0.5:1\ntoken: agent.key", 7, "could read the token"),
        ("listen: unix:/run/tallystick/agent.sock", "listen: tcp:0.0.0.0:7461", 8, "reached from other machines"),
        ("listen: unix:/run/tallystick/agent.sock", "listen: [unix:/a.sock, tls:127.0.0.1:7461]", 8, "`listen_tls: {"),
        ("listen: unix:/run/tallystick/agent.sock", "listen: unix:/a.sock\nlisten_plain: yes", 9, "the only word"),
        ("mqtt://127.0.0.1:1883", "http://127.0.0.1", 7, "not the address of a broker"),
        ("mqtt://127.0.0.1:1883", "mqtt://u:p@127.0.0.1", 7, "keys of their own"),
        ("mode: device", "mode: both", 7, "is no mode"),
        ("works/hall-1", "works/#", 7, "wildcards"),
        ("user: agent, ", "", 7, "without a user"),
        ("env:PASSWORD", "env:OTHER", 7, "OTHER is not set"),
        ("values_per_second: 2000", "values_per_second: 2", 7, "never catch up"),
        ("1GiB", "1 gigabyte", 9, "is not a size"),
        ("1GiB", "5 KiB", 9, "too few"),
        ("vault_days: 30", "vault_days: 0", 9, "0 days"),
    ] {
        let error = parse(dir.path(), &GOOD.replace(from, to)).unwrap_err();
        assert_eq!(error.faults.len(), 1, "{to}: {error}");
        assert_eq!(error.faults[0].line, line, "{to}: {error}");
        assert!(error.to_string().contains(says), "{to}: {error}");
        assert!(error.to_string().contains(&format!("agent.yaml:{line}:")), "{error}");
    }
}

#[test]
fn a_sparkplug_edge_node_is_read_and_its_slips_are_named() {
    let dir = site();
    let good = GOOD
        .replace("mode: device,", "sparkplug: {group: works 1, primary_host: scada, servers: [\"mqtt://10.0.0.8\"]},");
    let sparkplug = parse(dir.path(), &good).unwrap().broker.unwrap().sparkplug.unwrap();
    assert_eq!((sparkplug.group.as_str(), sparkplug.edge_node.as_str()), ("works 1", "agent-01"));
    assert_eq!(sparkplug.servers, [MqttBroker::plain("127.0.0.1", 1883), MqttBroker::plain("10.0.0.8", 1883)]);
    for (from, to, says) in [
        ("works 1", "works/1", "`+`, `/` and `#` are reserved"),
        ("works 1", "''", "it is empty"),
        ("group: works 1, ", "", "group"),
        ("scada", "STATE", "word of the specification"),
        ("mqtt://10.0.0.8", "10.0.0.8", "is not a URL"),
        ("mqtt://10.0.0.8", "mqtt://127.0.0.1", "stands in the list already"),
        ("primary_host", "primaryhost", "primaryhost"),
        ("sparkplug:", "mode: point, sparkplug:", "`mode` is about JSON"),
    ] {
        let error = parse(dir.path(), &good.replacen(from, to, 1)).unwrap_err();
        assert_eq!((error.faults.len(), error.faults[0].line), (1, 7), "{to}: {error}");
        assert!(error.to_string().contains(says), "{to}: {error}");
    }
}

#[test]
fn a_broker_over_tls_needs_somebody_to_trust() {
    let dir = site();
    let secure = GOOD.replace("mqtt://127.0.0.1:1883", "mqtts://scada.works?version=5");
    let pin = "ab:".repeat(31) + "cd";
    let good = secure.replace("user: agent", &format!("pin: \"{pin}\", user: agent"));
    let broker = parse(dir.path(), &good).unwrap().broker.unwrap();
    assert_eq!(broker.address.to_string(), "mqtts://scada.works:8883?version=5");
    assert_eq!(broker.tls.pin, Some(pin));
    for (text, says) in [
        (secure.clone(), "write `ca: FILE` or `pin: SHA-256`"),
        (secure.replace("user: agent", "pin: abcd, user: agent"), "64 hexadecimal digits"),
        (secure.replace("user: agent", "ca: nowhere.pem, user: agent"), "nowhere.pem"),
        (good.replace("user: agent", "certificate: a.pem, user: agent"), "both `certificate` and `key`"),
        (good.replace("mqtts://", "mqtt://"), "`pin` is for TLS"),
        (good.replace("version=5", "version=6"), "3.1.1 or 5"),
    ] {
        let error = parse(dir.path(), &text).unwrap_err();
        assert_eq!((error.faults.len(), error.faults[0].line), (1, 7), "{error}");
        assert!(error.to_string().contains(says), "{says}: {error}");
    }
}

#[test]
fn the_gate_is_closed_past_the_age_unless_somebody_says_allow() {
    use crate::gate::{GateSetting, PastAge};
    let dir = site();
    let with = |gate: &str| parse(dir.path(), &format!("{GOOD}gate: {{{gate}}}\n"));
    assert_eq!(parse(dir.path(), GOOD).unwrap().gate, GateSetting::default());
    assert_eq!(GateSetting::default().past_age, PastAge::Refuse);
    let opened = GateSetting { proof_age: std::time::Duration::from_secs(300), past_age: PastAge::Allow };
    assert_eq!(with("proof_age: 5min, past_age: allow").unwrap().gate, opened);
    for slip in ["past_age: allowed", "past_age: 'yes'", "proof_age: 2d", "proof_age: 60", "proof_age: 0s", "age: 60s"]
    {
        assert!(with(slip).is_err(), "{slip}");
    }
}

#[test]
fn anchors_are_on_unless_somebody_says_off() {
    let dir = site();
    let with = |every: &str| parse(dir.path(), &format!("{GOOD}anchors: {{every: {every}}}\n"));
    assert_eq!(parse(dir.path(), GOOD).unwrap().anchors, Some(super::ANCHORS_EVERY));
    assert_eq!(with("5min").unwrap().anchors, Some(std::time::Duration::from_secs(300)));
    assert_eq!(with("off").unwrap().anchors, None);
    for (wrong, says) in
        [("0s", "from 1s to 1d"), ("2d", "from 1s to 1d"), ("often", "not a duration"), ("no", "not a duration")]
    {
        let error = with(wrong).unwrap_err();
        assert!(error.faults.len() == 1 && error.to_string().contains(says), "{error}");
    }
}

#[test]
fn triggers_are_sealed_together_only_when_somebody_says_so() {
    let dir = site();
    let with = |batch: &str| parse(dir.path(), &format!("{GOOD}batch: {batch}\n"));
    assert_eq!(parse(dir.path(), GOOD).unwrap().batch, None);
    let limits = |triggers, millis| Some(BatchLimits { triggers, within: std::time::Duration::from_millis(millis) });
    assert_eq!(with("{}").unwrap().batch, limits(1_000, 50));
    assert_eq!(with("{triggers: 20, within: 2s}").unwrap().batch, limits(20, 2_000));
    for (wrong, says) in [
        ("{triggers: 1}", "allowed are 2 to 1000"),
        ("{triggers: 1001}", "allowed are 2 to 1000"),
        ("{within: 0ms}", "from 1ms to 10s"),
        ("{within: 1min}", "from 1ms to 10s"),
        ("{size: 3}", "size"),
    ] {
        let error = with(wrong).unwrap_err();
        assert!(error.faults.len() == 1 && error.to_string().contains(says), "{error}");
    }
}

#[test]
fn all_slips_are_named_at_once() {
    let dir = site();
    let text =
        GOOD.replace("agent-01", "a/b").replace("vault_days: 30", "vault_days: 0").replace("mode: device", "mode: x");
    assert_eq!(parse(dir.path(), &text).unwrap_err().faults.len(), 3);
}

proptest::proptest! {
    #[test]
    fn any_text_is_a_configuration_or_a_fault(text in "(name: |key: |broker: |[\\PC\n]){0,12}") {
        let _ = parse(Path::new("/nonexistent"), &text);
    }
}
