//! What a `node.yaml` may say, and what it is told otherwise.

use super::*;
use proptest::prelude::*;
use std::os::unix::fs::PermissionsExt;

const GOOD: &str = "\
ledger: press-line
data: /var/lib/tallystick/node
key: keys/node.key
genesis: genesis.yaml
contracts: [maintenance-order.yaml]
listen: [\"unix:/run/tallystick/node.sock\", \"tcp:[::1]:7460\"]
limits: {body_bytes_max: 65536, in_flight_max: 100, per_signer_per_second: 50}
block: {interval: 2ms, entries_max: 500}
";

fn parse(text: &str) -> Result<NodeConfig, Vec<Fault>> {
    NodeConfig::parse(text, Path::new("/etc/tallystick"))
}

#[test]
fn a_whole_file() {
    let config = parse(GOOD).unwrap();
    assert_eq!(config.key, Path::new("/etc/tallystick/keys/node.key"));
    assert_eq!(config.data, Path::new("/var/lib/tallystick/node"));
    let listen: Vec<_> = config.listen.iter().map(ToString::to_string).collect();
    assert_eq!(listen, ["unix:/run/tallystick/node.sock", "tcp:[::1]:7460"]);
    assert_eq!(config.limits, Limits { body_bytes_max: 65_536, in_flight_max: 100, per_signer_per_second: 50 });
    assert_eq!(config.block, BlockLimits { interval: Duration::from_millis(2), entries_max: 500 });
    let short = parse("{ledger: l, data: d, key: k}").unwrap();
    assert_eq!(short.listen[0].to_string(), "tcp:127.0.0.1:7460");
    assert_eq!((short.limits, short.block), (Limits::default(), BlockLimits::default()));
}

#[test]
fn all_faults_at_once_with_their_places() {
    let bad = GOOD
        .replace("press-line", "press line")
        .replace("unix:/run/tallystick/node.sock", "http://here")
        .replace("[::1]:7460", "node.plant:7460")
        .replace("65536", "5")
        .replace("2ms", "2 weeks");
    let faults = parse(&bad).unwrap_err();
    let places: Vec<_> = faults.iter().map(|fault| (fault.line, fault.key.as_str())).collect();
    let expected =
        [(1, "ledger"), (6, "listen[0]"), (6, "listen[1]"), (7, "limits.body_bytes_max"), (8, "block.interval")];
    assert_eq!(places, expected);
}

#[test]
fn what_others_can_reach_needs_tls_or_somebody_who_says_that_it_does_not() {
    let with = |listen: &str, more: &str| {
        parse(
            &GOOD
                .replace("[\"unix:/run/tallystick/node.sock\", \"tcp:[::1]:7460\"]", &format!("[{listen}]"))
                .replace("block:", &format!("{more}\nblock:")),
        )
    };
    let tls = "tls: {certificate: n.pem, key: n.key, client_ca: ca.pem}";
    for (listen, more, found) in [
        ("\"tcp:10.0.0.7:7460\"", "", "without TLS"),
        ("\"tcp:0.0.0.0:7460\"", tls, "without TLS"),
        ("\"tcp:[::]:7460\"", "", "without TLS"),
        ("\"tcp:[::ffff:10.0.0.7]:7460\"", "", "without TLS"),
        ("\"tls:10.0.0.7:7460\"", "", "without certificates"),
        ("\"tls:node.plant:7460\"", tls, "not a name"),
        ("\"tcp:10.0.0.7:7460\"", "listen_plain: yes please", "yes please"),
        ("\"tls:10.0.0.7:1\"", "tls: {certificate: n.pem, key: n.key, clients: required}", "no authority"),
        ("\"tls:10.0.0.7:1\"", "tls: {certificate: n.pem, key: n.key, clients: maybe}", "maybe"),
        ("\"tcp:127.0.0.1:1\"", "access: {local: ajar}", "ajar"),
        ("\"tcp:127.0.0.1:1\"", "access: {agent: [a], auditor: [a]}", "is agent already"),
        ("\"tcp:127.0.0.1:1\"", "access: {connections_per_peer: 0}", "out of range"),
    ] {
        let faults = with(listen, more).unwrap_err();
        assert!(faults.iter().any(|fault| fault.found.contains(found)), "{listen} {more}: {faults:?}");
    }
    let open = with("\"tcp:10.0.0.7:7460\"", "listen_plain: allowed").unwrap();
    assert!(open.listen[0].is_open() && open.access.is_local_open);
    let secure = with("\"tls:10.0.0.7:7460\"", tls).unwrap();
    assert_eq!(secure.listen[0].to_string(), "tls:10.0.0.7:7460");
    assert_eq!(secure.tls.unwrap().client_ca, Some("/etc/tallystick/ca.pem".into()));
    let access =
        with("\"tcp:127.0.0.1:1\"", "access: {local: closed, tokens: t.json, operator: [anna]}").unwrap().access;
    assert_eq!((access.is_local_open, access.names["anna"].word()), (false, "operator"));
}

#[test]
fn where_the_projection_is() {
    let of = |text: &str| parse(&format!("{GOOD}projection: {text}\n"));
    let usual = Some(Place::Sqlite("/var/lib/tallystick/node/projection.sqlite".into()));
    assert_eq!(parse(GOOD).unwrap().projection, usual);
    for (text, place) in [
        ("sqlite", usual.clone()),
        ("off", None),
        ("\"off\"", None),
        (
            "{postgres: \"host=/run/postgresql dbname=tally\"}",
            Some(Place::Postgres("host=/run/postgresql dbname=tally".into())),
        ),
    ] {
        assert_eq!(of(text).unwrap().projection, place, "{text}");
    }
    for (text, word) in [
        ("mysql", "mysql"),
        ("{postgres: \"nonsense\"}", "no address"),
        ("{postgres: \"postgres://u:s3cret@h/d?sslmode=require\"}", "TLS"),
        ("{sqlite: a, postgres: b}", "postgres, sqlite"),
    ] {
        let faults = of(text).unwrap_err();
        assert!(faults[0].line == 9 && faults[0].found.contains(word), "{text}: {}", faults[0]);
        assert!(!faults[0].to_string().contains("s3cret"));
    }
    assert!(of("[1]").is_err());
}

#[test]
fn a_database_password_is_read_from_what_nobody_else_may_read() {
    let dir = tempfile::tempdir().unwrap();
    let (config, address) = (dir.path().join("node.yaml"), dir.path().join("postgres"));
    let url = "postgres://tally:s3cret@127.0.0.1/plant";
    let given = |text: &str, mode: u32, address_mode: u32| {
        std::fs::write(&config, format!("{GOOD}projection: {{postgres: \"{text}\"}}\n")).unwrap();
        std::fs::write(&address, format!("{url}\n")).unwrap();
        for (file, mode) in [(&config, mode), (&address, address_mode)] {
            std::fs::set_permissions(file, std::fs::Permissions::from_mode(mode)).unwrap();
        }
        NodeConfig::load(&config).map(|config| config.projection.unwrap()).map_err(|fault| fault.to_string())
    };
    for (text, mode, address_mode) in [(url, 0o600, 0o644), ("file:postgres", 0o644, 0o600), (url, 0o400, 0o644)] {
        assert_eq!(given(text, mode, address_mode), Ok(Place::Postgres(url.into())), "{text} {mode:o}");
    }
    assert!(given("postgres://tally@127.0.0.1/plant", 0o644, 0o644).is_ok(), "no password, no secret");
    for (text, mode, address_mode, named) in [
        (url, 0o640, 0o600, "node.yaml"),
        ("file:postgres", 0o600, 0o640, "postgres"),
        ("file:none", 0o600, 0o600, "none"),
    ] {
        let fault = given(text, mode, address_mode).unwrap_err();
        assert!(fault.contains("node.yaml:9") && fault.contains(named) && !fault.contains("s3cret"), "{fault}");
        assert!(fault.contains("chmod 600") && fault.contains("0640") || text == "file:none", "{fault}");
    }
}

#[test]
fn unknown_and_missing_keys_are_refused_with_their_line() {
    let unknown = parse(&format!("{GOOD}colour: red\n")).unwrap_err();
    assert_eq!(unknown[0].line, 9);
    assert!(unknown[0].found.contains("colour"), "{}", unknown[0]);
    assert!(parse("{ledger: l, data: d}").unwrap_err()[0].found.contains("key"));
    assert!(parse("{ledger: l, data: d, key: k, listen: []}").is_err());
}

#[test]
fn a_key_that_others_may_read_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let config = NodeConfig::parse("{ledger: l, data: d, key: node.key}", dir.path()).unwrap();
    assert!(matches!(config.load_key(), Err(ConfigError::PrivateKey(_))));
    let key = SigningKey::from_secret(&[5; 32]).unwrap();
    std::fs::write(&config.key, key.to_pem().unwrap().as_bytes()).unwrap();
    for (mode, is_fine) in [(0o640, false), (0o604, false), (0o600, true), (0o400, true)] {
        std::fs::set_permissions(&config.key, std::fs::Permissions::from_mode(mode)).unwrap();
        assert_eq!(config.load_key().is_ok(), is_fine, "{mode:o}");
    }
    std::fs::set_permissions(&config.key, std::fs::Permissions::from_mode(0o600)).unwrap();
    std::fs::write(&config.key, "no key").unwrap();
    assert!(matches!(config.load_key(), Err(ConfigError::Key { .. })));
}

proptest! {
    #[test]
    fn random_texts_never_panic(text in "\\PC{0,80}") {
        let _ = parse(&text);
    }

    #[test]
    fn random_rule_files_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..100)) {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("rules"), bytes).unwrap();
        let _ = load_rules(&dir.path().join("rules"));
    }
}
