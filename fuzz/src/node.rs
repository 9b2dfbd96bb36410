//! What a node and an authority read: blocks, kept files, snapshots, requests of witnesses, tokens, certificates, configurations.

use crate::golden::{self, LEDGER, checkpoint_over, key};
use crate::said::{TAKEN, faults, plain, round, text};
use crate::shown;
use crate::site::written;
use crate::targets::Seeds;
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::LazyLock;
use std::time::Duration;
use tally_door::{NewToken, Tokens};
use tally_edge_agent::AgentConfig;
use tally_evidence::StatementId;
use tally_evidence::cbor::{self, bytes, int, text as cbor_text};
use tally_journal::{Journal, Options};
use tally_ledger_node::retain::kept::{KeptEntry, KeptOutcome};
use tally_ledger_node::retain::{KeptBlock, snapshot};
use tally_ledger_node::witness::{AddCheckpoint, WitnessConfig};
use tally_ledger_node::{BlockRecord, NodeConfig};
use tally_projection::{Place, Projection, SqlLimits, guarded};
use tally_tls::CertificateFacts;
use tempfile::TempDir;

pub fn block(bytes: &[u8]) -> String {
    plain(BlockRecord::decode(bytes))
}

/// The blocks of a log as it lies on the disk.
pub fn blocks() -> Seeds {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("00000000000000000000.seg"), golden::SEGMENT).unwrap();
    let journal = Journal::open(folder.path(), Options::default()).unwrap();
    journal.iter_from(0).unwrap().map(|record| record.unwrap().1).collect()
}

pub fn kept_block(bytes: &[u8]) -> String {
    round(KeptBlock::decode(bytes), bytes, KeptBlock::encode)
}

pub fn kept_blocks() -> Seeds {
    let entry = |batch| KeptEntry { id: StatementId([6; 32]), subject: "press-01".to_owned(), refusal: 12, batch };
    let real = golden::entries().remove(0);
    let outcome = KeptOutcome { index: 1, outcome: real.outcome, path: vec![[1; 32]], statement: Some(real.statement) };
    let block = KeptBlock {
        checkpoint: real.checkpoint,
        terms: 1,
        entries: vec![entry(None), entry(Some((3, 1)))],
        kept: vec![outcome],
    };
    vec![block.encode()]
}

/// A whole snapshot file but for its digest, which is put behind it here: nobody guesses it.
pub fn a_snapshot(content: &[u8]) -> String {
    let file = written("a.snap", &[content, &Sha256::digest(content)].concat());
    plain(snapshot::verify(&file, LEDGER, key().public()))
}

/// As `docs/formats/retention.md` describes it: head, state, end.
pub fn snapshots() -> Seeds {
    let pairs: BTreeMap<Vec<u8>, Vec<u8>> = (0_u8..5).map(|number| (vec![b'k', number], vec![number; 3])).collect();
    let mut state = tally_evidence::StateTree::default();
    state.apply(pairs.iter().map(|(key, value)| (&key[..], Some(&value[..]))));
    let head = cbor::encode(&cbor::map([
        ("ledger", cbor_text(LEDGER)),
        ("height", int(3)),
        ("from", int(4)),
        ("checkpoint", bytes(checkpoint_over(&state))),
    ]));
    let measured = |part: &[u8]| [&u32::try_from(part.len()).unwrap().to_le_bytes()[..], part].concat();
    let pair = |(key, value): (&Vec<u8>, &Vec<u8>)| [measured(key), measured(value)].concat();
    let state = pairs.iter().flat_map(pair).collect::<Vec<_>>();
    let end = [u64::try_from(pairs.len()).unwrap().to_le_bytes(), [0; 8]].concat();
    let records = [(b"h", head), (b"s", state), (b"e", end)];
    let records: Vec<u8> = records.iter().flat_map(|(kind, record)| measured(&[&kind[..], record].concat())).collect();
    vec![[&b"TALLYSNP"[..], &1_u32.to_le_bytes(), &[0; 4], &records, &u32::MAX.to_le_bytes()].concat()]
}

/// What a log asks a witness to sign.
pub fn witness_request(bytes: &[u8]) -> String {
    round(AddCheckpoint::read(bytes), bytes, |request| request.write().into_bytes())
}

pub fn witness_requests() -> Seeds {
    let request = |old, path: Vec<_>| AddCheckpoint { old, path, note: shown::cosigned() }.write().into_bytes();
    vec![request(0, Vec::new()), request(7, vec![[1; 32], [2; 32]])]
}

pub fn token_file(bytes: &[u8]) -> String {
    let file = written("tokens.json", bytes);
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o600)).unwrap();
    plain(Tokens::list(&file))
}

pub fn token_files() -> Seeds {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("tokens.json");
    let add = |name, until, once| {
        let new = NewToken { name, role: "auditor", now: 1_790_000_000, until, once };
        Tokens::add(&file, &new).unwrap();
        std::fs::read(&file).unwrap()
    };
    vec![add("eva", None, false), add("code", Some(1_790_000_600), true)]
}

/// DER, PEM or base64 of a certificate.
pub fn certificate(bytes: &[u8]) -> String {
    let der = tally_ca::request_bytes(bytes);
    plain(
        der.map_err(|fault| fault.to_string())
            .and_then(|der| CertificateFacts::of(&der).map_err(|fault| fault.to_string())),
    )
}

pub fn certificates() -> Seeds {
    vec![golden::AUTHORITY.to_vec(), tally_ca::request_bytes(golden::AUTHORITY).unwrap()]
}

/// What somebody who wants a certificate sends (EST, RFC 7030 §4.2.1).
pub fn certificate_request(bytes: &[u8]) -> String {
    plain(tally_ca::request_bytes(bytes).and_then(|der| tally_ca::Asked::read(&der)))
}

pub fn certificate_requests() -> Seeds {
    let names = ["agent-01", "10.0.0.5", "node.example"].map(str::to_owned);
    let der = tally_ca::Request::new(&names).unwrap().der().to_vec();
    vec![tally_ca::pem("CERTIFICATE REQUEST", &der).into_bytes(), der]
}

/// The certificates that an authority sends back (EST, RFC 7030 §4.1.3).
pub fn certificates_only(bytes: &[u8]) -> String {
    plain(tally_ca::unpack(bytes))
}

pub fn certificate_packs() -> Seeds {
    let der = tally_ca::request_bytes(golden::AUTHORITY).unwrap();
    vec![tally_ca::pack(&[&der]).unwrap()]
}

const NODE: &str = r#"ledger: press-line
data: node
key: keys/node.key
listen: ["unix:n.sock", "tls:10.0.0.5:7460"]
tls: {certificate: n.pem, key: n.key, client_ca: ca.pem, clients: required}
access: {local: closed, tokens: t.json, agent: [agent-01], requests_per_second: 5}
limits: {body_bytes_max: 65536, in_flight_max: 100}
block: {interval: 2ms, entries_max: 500}
retention: {payloads: 400d, disk: 20GB}
projection: {postgres: "host=/run/postgresql dbname=tally"}
"#;

fn folder() -> &'static Path {
    Path::new("/etc/tallystick")
}

pub fn node_yaml(bytes: &[u8]) -> String {
    text(bytes, |text| faults(NodeConfig::parse(text, folder())))
}

pub fn node_yamls() -> Seeds {
    vec![NODE.as_bytes().to_vec(), include_bytes!("../../deploy/site/node.yaml").to_vec()]
}

/// The key of the log that it names is there.
pub fn witness_yaml(bytes: &[u8]) -> String {
    text(bytes, |text| faults(WitnessConfig::parse(text, crate::site::folder())))
}

pub fn witness_yamls() -> Seeds {
    let key = written("press-line.pub.pem", key().public().to_pem().unwrap().as_bytes());
    let name = key.file_name().unwrap().to_string_lossy();
    let shipped = include_str!("../../deploy/site/witness.yaml");
    vec![shipped.replace("/etc/tallystick/keys/press-line.pub.pem", &name).into_bytes()]
}

/// The key that it names is there; mapping, certificates and tokens are not.
pub fn agent_yaml(bytes: &[u8]) -> String {
    text(bytes, |text| {
        let file = written("agent.yaml", text.as_bytes());
        plain(AgentConfig::parse(text, &file, &|name| (name == "SECRET").then(|| "hidden".to_owned())))
    })
}

pub fn agent_yamls() -> Seeds {
    let key = written("agent.key", key().to_pem().unwrap().as_bytes());
    std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o600)).unwrap();
    let shipped = include_str!("../../deploy/site/agent.yaml");
    let more = "anchors: 30s\nbatch: {triggers_max: 100, wait: 1s}\ngate: {proof_age: 1min, past_age: allow-read}\n";
    let name = key.file_name().unwrap().to_string_lossy().into_owned();
    let with_key = shipped.replace("/etc/tallystick/keys/agent.key", &name);
    assert!(with_key.contains(&format!("key: {name}")), "{TAKEN} only with a key");
    vec![with_key.clone().into_bytes(), (with_key + more).into_bytes()]
}

/// What a client of SCADA wants written: three names of the topic in a line, then the payload.
pub fn command(bytes: &[u8]) -> String {
    let end = bytes.iter().position(|byte| *byte == b'\n').unwrap_or(0);
    let (to, payload) = bytes.split_at(end);
    text(to, |to| {
        let topic = format!("tallystick/line/agent/agent-01/command/{to}");
        match tally_edge_agent::read_json(&topic, payload) {
            Some(read) => plain(read),
            None => "nobody's topic".to_owned(),
        }
    })
}

pub fn commands() -> Seeds {
    let all = [
        r#"{"id": "a", "at": "2026-11-21T00:00:00Z", "write": 41}"#,
        r#"{"id": "b", "at": 1790000000000, "write": -1.5e3}"#,
        r#"{"id": "c", "write": true}"#,
        r#"{"id": "d", "write": "running"}"#,
        r#"{"id": "e", "call": "reset"}"#,
    ];
    all.map(|payload| format!("hmi-3/press-01/setpoint\n{payload}").into_bytes()).into()
}

/// Somebody's own SQL on the tables of a ledger that has nothing yet. It reads, no more than it may, and leaves the file as it was.
pub fn sql(bytes: &[u8]) -> String {
    static TABLES: LazyLock<TempDir> = LazyLock::new(|| {
        let folder = tempfile::tempdir().unwrap();
        let place = Place::Sqlite(folder.path().join("projection.sqlite"));
        drop(Projection::open(&place, LEDGER, &|_, _| true).unwrap());
        folder
    });
    let file = TABLES.path().join("projection.sqlite");
    let limits = SqlLimits { time: Duration::from_millis(200), rows: 20, bytes: 64 << 10 };
    text(bytes, |sql| {
        let before = std::fs::read(&file).unwrap();
        let answer = guarded(&file, sql, limits);
        assert!(std::fs::read(&file).unwrap() == before, "a question changed the tables");
        match answer {
            Ok(answer) => {
                assert!(answer.rows.len() <= limits.rows);
                assert!(answer.rows.iter().all(|row| row.len() == answer.columns.len()));
                format!("{TAKEN}: {} columns", answer.columns.len())
            }
            Err(fault) => fault.to_string(),
        }
    })
}

pub fn questions() -> Seeds {
    let all = [
        "SELECT contract, state, count(*) FROM view_agreements WHERE device = 'press-01' GROUP BY 1, 2 ORDER BY 3 DESC LIMIT 10",
        "WITH RECURSIVE days(day) AS (VALUES(0) UNION ALL SELECT day + 1 FROM days WHERE day < 9) SELECT day, \
         (SELECT sum(paid_minor) FROM view_agreements WHERE opened_us / 86400000000 = day) FROM days",
        "SELECT e.entry, e.kind, h.kind FROM view_entries AS e LEFT JOIN view_history AS h ON h.entry = e.entry \
         WHERE e.signer LIKE 'agent-%' AND e.height BETWEEN 1 AND 9",
        "SELECT json_extract(fields, '$.price'), upper(substr(fault, 1, 3)), row_number() OVER (PARTITION BY device ORDER BY opened_us) \
         FROM view_agreements",
        "SELECT 1 AS one",
    ];
    all.map(|sql| sql.as_bytes().to_vec()).into()
}
