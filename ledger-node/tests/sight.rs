//! What somebody hides is hidden on every route: the table of routes is walked, each is asked by readers with and without the right,
//! and the bytes of the answers are searched for keys, signatures, names, skills and sites.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod common;

use base64ct::{Base64, Base64Unpadded, Base64UrlUnpadded, Encoding};
use common::{call, config, in_time, plant};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use tally_door::{NewToken, Tokens};
use tally_evidence::cbor::{Cbor, bytes, int, map, text};
use tally_evidence::{
    BatchEnvelope, Commitment, DeviceRecord, Opening, PartyKind, PartyRecord, Presented, SignedStatement, possession,
};
use tally_ledger_node::testing::{Plant, key_of, party};
use tally_ledger_node::{Access, Engine, Listen, Node, NodeError, ROUTES, Role, Route, Shows};
use tally_model::{PartyId, Priority};
use tally_projection::Place;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

/// Whose keys are hidden; the second and the last are old and new key of one.
const KEYS: [&str; 4] = ["agent-00", "vera", "press-x", "vera-b"];
/// Names, skills and sites that are hidden.
const WORDS: [&str; 4] = ["Vera Verborgen", "kernspin-7", "halle-geheim", "Sensor Siegelfest"];

/// A ledger with something to hide, behind a door.
struct Site {
    plant: Plant,
    engine: Engine,
    tcp: SocketAddr,
    tokens: BTreeMap<&'static str, String>,
    /// Kinds of entries to their index.
    entries: BTreeMap<&'static str, u64>,
    nonce: u8,
    stop: CancellationToken,
    serving: JoinHandle<Result<(), NodeError>>,
    _dir: tempfile::TempDir,
}

impl Site {
    async fn new() -> Self {
        let (plant, dir) = (plant(), tempfile::tempdir().unwrap());
        let engine = Engine::open(config(&plant, &dir.path().join("data"))).unwrap();
        let file = dir.path().join("tokens.json");
        let token = |(name, role): (&'static str, Role)| {
            let new = NewToken { name, role: role.word(), now: 0, until: None, once: false };
            (name, Tokens::add(&file, &new).unwrap())
        };
        let known = [
            ("tom", Role::Auditor),
            ("ola", Role::Operator),
            ("anna", Role::Auditor),
            ("inspector", Role::Regulator),
            ("agent-01", Role::Agent),
        ];
        let tokens = known.into_iter().map(token).collect();
        let access = Access { tokens: Some(file.clone()), requests_per_second: 1_000_000, ..Access::default() };
        let node = Node::bind(engine.clone(), &[Listen::Tcp(([127, 0, 0, 1], 0).into())]).await.unwrap();
        let node = node.with_access(Access { is_local_open: false, ..access });
        let node = node.with_projection(Some(Place::Sqlite(dir.path().join("projection.sqlite"))));
        let Listen::Tcp(tcp) = node.places()[0].clone() else { panic!("{:?}", node.places()) };
        let stop = CancellationToken::new();
        let serving = tokio::spawn(node.serve(stop.clone()));
        let (entries, nonce) = (BTreeMap::new(), 0);
        Self { plant, engine, tcp, tokens, entries, nonce, stop, serving, _dir: dir }
    }

    async fn submit(&mut self, name: &'static str, statement: Vec<u8>) {
        let committed = self.engine.submit(statement).await.unwrap();
        assert_eq!(committed.refusal, 0, "{name}");
        self.entries.insert(name, committed.entry);
    }

    async fn registry(&mut self, name: &'static str, signer: &str, action: &str, args: &[(&str, Cbor)]) {
        self.nonce += 1;
        let call = call(&self.plant, signer, ("registry", action), self.nonce, args);
        self.submit(name, call).await;
    }

    /// Who is registered, does something and has another key by now.
    async fn fill(&mut self) {
        let vera = record("vera", PartyKind::Person, "fixit", WORDS[0], &[WORDS[1]]);
        self.registry("vera", "fixit", "register-party", &[("party", vera.to_cbor())]).await;
        let sensor = record("press-x", PartyKind::Device, "acme", WORDS[3], &[]);
        let press = DeviceRecord {
            id: "press-x".parse().unwrap(),
            agent: "agent-00".parse().unwrap(),
            owner: "acme".parse().unwrap(),
            site: Some(WORDS[2].parse().unwrap()),
        };
        let many = [("parties", Cbor::Array(vec![sensor.to_cbor()])), ("devices", Cbor::Array(vec![press.to_cbor()]))];
        self.registry("press-x", "acme", "register-many", &many).await;
        // A version that ended, of each.
        let new = key_of("vera-b").unwrap();
        let vera = PartyId::try_new("vera").unwrap();
        let proof = new.sign(&possession(&self.plant.ledger, &vera, new.public()));
        let rotated = [("party", text("vera")), ("key", bytes(new.public().sec1().to_vec())), ("proof", bytes(proof))];
        self.registry("rotated", "fixit", "rotate-key", &rotated).await;
        let bound = DeviceRecord { agent: "agent-01".parse().unwrap(), ..press };
        self.registry("bound", "acme", "bind-device", &[("device", bound.to_cbor())]).await;
        // What a hidden agent seals, and what rests on it.
        self.submit("worn", self.plant.worn(0, 0, "worn").unwrap()).await;
        self.submit("accept", self.plant.call("tina", "accept", "mo-1", 1).unwrap()).await;
        let triggers: Vec<_> =
            (1..4).map(|number| self.plant.body(0, 0, number, "again", Priority::High).unwrap()).collect();
        self.submit("batch", self.plant.batch(0, &triggers).unwrap()).await;
        let opening = Opening { salt: [1; 16], value: text("quiet"), name: "remark".into() }.encode();
        let remark = Commitment::to(&opening).to_argument();
        let args = [("to", text("fixit")), ("amount", int(5)), ("currency", text("EUR")), ("remark", remark)];
        let statement = call(&self.plant, "acme", ("accounts", "transfer"), 99, &args);
        let presented = Presented { statement, openings: vec![opening] }.encode().unwrap();
        self.submit("transfer", presented).await;
        // Refused, with words about what it says.
        let wrong = [("party", text(WORDS[0]))];
        let refused = call(&self.plant, "acme", ("registry", "register-party"), 98, &wrong);
        let refused = self.engine.submit(refused).await.unwrap();
        assert_ne!(refused.refusal, 0);
        self.entries.insert("refused", refused.entry);
    }

    /// Says who sees what is hidden here.
    async fn show_to(&mut self, to: Cbor) {
        for (of, id, by) in [("party", "agent-00", "acme"), ("party", "vera", "fixit"), ("device", "press-x", "acme")] {
            self.registry("rule", by, "set-visibility", &[("of", text(of)), ("id", text(id)), ("to", to.clone())])
                .await;
        }
    }

    /// Head and body of an answer; of an endless one what came until the last block was told.
    async fn ask(&self, reader: &str, asked: &Asked) -> Vec<u8> {
        let login =
            self.tokens.get(reader).map_or_else(String::new, |token| format!("authorization: Bearer {token}\r\n"));
        let Asked { method, path, headers, body } = asked;
        let length = body.len();
        let head = format!(
            "{method} {path} HTTP/1.1\r\nhost: n\r\n{login}{headers}content-length: {length}\r\nconnection: close\r\n\r\n"
        );
        let mut stream = TcpStream::connect(self.tcp).await.unwrap();
        stream.write_all(&[head.as_bytes(), body].concat()).await.unwrap();
        let last = format!("id: {}.", self.engine.store().head().unwrap().checkpoint.height);
        let mut answer = Vec::new();
        let read = async {
            while stream.read_buf(&mut answer).await.unwrap() > 0 {
                let is_told = path.starts_with("/events") && contains(&answer, last.as_bytes());
                if is_told && answer.ends_with(b"\n\n\r\n") {
                    break;
                }
            }
        };
        in_time(&format!("the end of {path}"), read).await;
        answer
    }

    async fn status(&self, reader: &str, path: &str) -> u16 {
        status(&self.ask(reader, &get(path)).await)
    }

    /// Everything that must not be seen, with its name.
    fn needles(&self) -> Vec<(String, Vec<u8>)> {
        let mut found = Vec::new();
        for name in KEYS {
            let key = key_of(name).unwrap();
            let sec1 = key.public().sec1();
            let (x, y) = sec1[1..].split_at(32);
            for (what, part) in [("x", x), ("y", y)] {
                spellings(&mut found, &format!("{what} of {name}"), part);
            }
            found.push((format!("{name} in base64"), Base64::encode_string(sec1).into_bytes()));
            found.push((format!("{name} in base64url"), Base64UrlUnpadded::encode_string(sec1).into_bytes()));
            let pem = key.public().to_pem().unwrap();
            // The second line is of the key alone.
            found.push((format!("{name} as PEM"), pem.lines().nth(2).unwrap().as_bytes().to_vec()));
        }
        for word in WORDS {
            found.push((word.to_owned(), word.as_bytes().to_vec()));
            found.push((format!("{word} in hexadecimal"), hex::encode(word).into_bytes()));
        }
        // From a signature and what it is under, the key is computed (SEC 1 v2, 4.1.6).
        let size = self.engine.store().head().unwrap().checkpoint.size;
        for entry in 0..size {
            let (_, logged) = self.engine.entry(entry).unwrap().unwrap();
            let statement = BatchEnvelope::statement_in(&logged).unwrap();
            let issuer = SignedStatement::parse(statement).unwrap().issuer;
            if KEYS.contains(&issuer.as_str()) {
                spellings(&mut found, &format!("signature of entry {entry}"), &statement[statement.len() - 64..]);
            }
        }
        assert!(found.iter().filter(|(name, _)| name.starts_with("signature")).count() >= 4, "agent-00 sealed some");
        found
    }

    async fn stop(self) {
        self.stop.cancel();
        self.serving.await.unwrap().unwrap();
        self.engine.close();
    }
}

fn spellings(found: &mut Vec<(String, Vec<u8>)>, name: &str, secret: &[u8]) {
    found.push((name.to_owned(), secret.to_vec()));
    found.push((format!("{name} in hexadecimal"), hex::encode(secret).into_bytes()));
    found.push((format!("{name} in HEXADECIMAL"), hex::encode_upper(secret).into_bytes()));
    found.push((format!("{name} in base64"), Base64Unpadded::encode_string(secret).into_bytes()));
    found.push((format!("{name} in base64url"), Base64UrlUnpadded::encode_string(secret).into_bytes()));
}

fn record(id: &str, kind: PartyKind, firm: &str, name: &str, skills: &[&str]) -> PartyRecord {
    PartyRecord { name: name.to_owned(), ..party(id, kind, Some(firm), skills).unwrap() }
}

fn contains(answer: &[u8], needle: &[u8]) -> bool {
    answer.windows(needle.len()).any(|window| window == needle)
}

fn status(answer: &[u8]) -> u16 {
    String::from_utf8_lossy(&answer[9..12]).parse().unwrap()
}

/// A request.
struct Asked {
    method: &'static str,
    path: String,
    headers: &'static str,
    body: Vec<u8>,
}

fn get(path: impl Into<String>) -> Asked {
    Asked { method: "GET", path: path.into(), headers: "", body: Vec::new() }
}

fn post(path: &str, headers: &'static str, body: impl Into<Vec<u8>>) -> Asked {
    Asked { method: "POST", path: path.to_owned(), headers, body: body.into() }
}

/// How a route is asked so that it shows as much as it can. One that stands in the table and not here makes the test fail: whoever adds a
/// route says in its row whether it could show a key, and here how.
fn questions(row: &Route, site: &Site) -> Vec<Asked> {
    const JSON: &str = "content-type: application/json\r\n";
    let size = site.engine.store().head().unwrap().checkpoint.size;
    let height = site.engine.store().head().unwrap().checkpoint.height;
    let each = |path: &str| (0..size).map(|entry| get(path.replace("{id}", &entry.to_string()))).collect::<Vec<_>>();
    let keys = |paths: &[&str]| paths.iter().map(|path| get(*path)).collect::<Vec<_>>();
    let (batch, transfer) = (site.entries["batch"], site.entries["transfer"]);
    let query = |path: &str| vec![get(format!("{path}?proofs=true&min_height={height}"))];
    match (row.method, row.path) {
        ("GET", "/entries/{id}") => each("/entries/{id}")
            .into_iter()
            .chain((0..3).map(|item| get(format!("/entries/{batch}.{item}"))))
            .collect(),
        ("GET", "/entries/{id}/statement" | "/entries/{id}/batch" | "/entries/{id}/private") => each(row.path),
        ("GET", "/entries/{id}/outcome") => {
            let cbor = |asked: Asked| Asked { headers: "accept: application/cbor\r\n", ..asked };
            each(row.path).into_iter().chain(each(row.path).into_iter().map(cbor)).collect()
        }
        ("GET", "/entries/{id}/private/{field}") => vec![get(format!("/entries/{transfer}/private/remark"))],
        ("GET", "/entries") => keys(&["/entries?limit=1000"]),
        ("GET", "/blocks/{height}") => (0..=height).map(|height| get(format!("/blocks/{height}"))).collect(),
        ("GET", "/checkpoints/{height}") => keys(&["/checkpoints/1"]),
        ("GET", "/consistency/{old}") => keys(&["/consistency/2"]),
        ("GET", "/tlog/tile/{*path}") => vec![
            get(format!("/tlog/tile/entries/000.p/{size}")),
            get(format!("/tlog/tile/0/000.p/{size}")),
            get("/tlog/tile/entries/000.p/3"),
        ],
        ("GET", "/state/{key}") => {
            let state: Vec<&[u8]> = vec![
                b"Pvera",
                b"Pagent-00",
                b"Ppress-x",
                b"pvera",
                b"dpress-x",
                b"ffixit\0vera",
                b"Hpvera\0\0\0\0\0\0\0\0\x01",
                b"Hdpress-x\0\0\0\0\0\0\0\0\x01",
                b"Epvera",
                b"Lpvera",
                b"Ptina",
            ];
            state.iter().map(|key| get(format!("/state/{}", hex::encode(key)))).collect()
        }
        ("GET", "/events") => keys(&["/events?from=0"]),
        ("GET", "/registry/parties/{id}") => keys(&[
            "/registry/parties/vera",
            "/registry/parties/vera?at=1",
            "/registry/parties/agent-00",
            "/registry/parties/press-x",
        ]),
        ("GET", "/registry/parties/{id}/sight") => {
            keys(&["/registry/parties/vera/sight", "/registry/parties/vera/sight?reader=tom"])
        }
        ("GET", "/registry/devices/{id}") => keys(&["/registry/devices/press-x", "/registry/devices/press-x?at=2"]),
        ("GET", "/agreements/{id}" | "/agreements/{id}/evidence") => vec![get(row.path.replace("{id}", "mo-1"))],
        ("GET", "/contracts/{name}") => keys(&["/contracts/maintenance-order"]),
        ("GET", "/devices/{id}/coverage") => {
            keys(&["/devices/press-x/coverage?from=1&to=2", "/devices/press-000/coverage?from=1&to=2"])
        }
        ("GET", "/query/entries" | "/query/agreements") => query(row.path),
        ("GET", "/query/agreements/{id}/history") => query("/query/agreements/mo-1/history"),
        ("GET", "/query/devices/{id}/history") => query("/query/devices/press-x/history"),
        ("GET", "/query/parties/{id}/history") => ["vera", "agent-00", "acme"]
            .iter()
            .flat_map(|party| query(&format!("/query/parties/{party}/history")))
            .collect(),
        ("GET", "/query/aggregates/agreements") => {
            vec![get(format!("{}?by=contract&proofs=true&min_height={height}", row.path))]
        }
        ("POST", "/query/sql") => ["parties", "devices", "events", "entries"]
            .iter()
            .map(|table| post(row.path, JSON, format!("{{\"sql\": \"SELECT * FROM {table}\"}}")))
            .collect(),
        ("GET", "/copy/blocks") => keys(&["/copy/blocks?from=0"]),
        ("GET", "/copy/{folder}/{name}") => keys(&["/copy/log/00000000000000000000.seg"]),
        ("POST", "/entries") => {
            let (_, vera) = site.engine.entry(site.entries["vera"]).unwrap().unwrap();
            vec![post(row.path, "content-type: application/cose\r\n", vera)]
        }
        ("POST", "/alarms/{id}") => vec![post("/alarms/1", JSON, r#"{"by": "ola", "words": "seen"}"#)],
        ("POST", "/witness/add-checkpoint") => vec![post(row.path, "", "old 0\n\nnothing\n")],
        ("GET", "/witness/{hash}/checkpoint") => vec![get(format!("/witness/{}/checkpoint", "0".repeat(64)))],
        ("GET", "/.well-known/scitt-keys/{kid}") => {
            vec![get(format!("/.well-known/scitt-keys/{}", site.engine.key().id()))]
        }
        (
            "GET",
            "/live"
            | "/ready"
            | "/.well-known/scitt-configuration"
            | "/.well-known/scitt-keys"
            | "/key.pem"
            | "/openapi.json"
            | "/checkpoint"
            | "/tlog/checkpoint"
            | "/status"
            | "/access/permits"
            | "/access/policies"
            | "/access/quarantines"
            | "/agreements"
            | "/accounts"
            | "/totals"
            | "/parties"
            | "/devices"
            | "/metrics"
            | "/disk"
            | "/alarms"
            | "/copy"
            | "/retention",
        ) => keys(&[row.path]),
        ("POST", "/retention") => vec![post(row.path, "", "")],
        (method, path) => panic!("{method} {path} is new: say here how to ask it for keys, names and sites"),
    }
}

fn only_tom() -> Cbor {
    map([("parties", Cbor::Array(vec![text("tom")])), ("roles", Cbor::Array(Vec::new()))])
}

#[tokio::test(flavor = "multi_thread")]
async fn no_route_shows_what_is_hidden_and_each_shows_it_to_whom_it_is_shown() {
    let mut site = Site::new().await;
    site.fill().await;
    site.show_to(only_tom()).await;
    let needles = site.needles();
    let seen = |answer: &[u8]| {
        needles.iter().filter(|(_, needle)| contains(answer, needle)).map(|(name, _)| name.clone()).collect::<Vec<_>>()
    };
    // All of them, not only the first: whoever breaks something sees where.
    let mut faults = Vec::new();
    for row in ROUTES {
        let (mut shown, mut refused) = (false, false);
        for asked in questions(row, &site) {
            let place = format!("{} {}", asked.method, asked.path);
            for reader in ["anna", "inspector", "agent-01", "nobody"] {
                let found = seen(&site.ask(reader, &asked).await);
                faults.extend(found.first().map(|what| format!("{place} shows {reader} {what}")));
            }
            let (to_anna, to_tom) = (site.ask("anna", &asked).await, site.ask("tom", &asked).await);
            let to_operator = seen(&site.ask("ola", &asked).await);
            shown |= !seen(&to_tom).is_empty() && !to_operator.is_empty();
            refused |= (status(&to_anna), status(&to_tom)) == (403, 200);
            if row.shows == Shows::Nothing && (!to_operator.is_empty() || status(&to_anna) != status(&to_tom)) {
                faults.push(format!("{place} shows {to_operator:?}, and its row says that it shows nothing"));
            }
            if status(&to_tom) == 500 || status(&to_anna) == 500 {
                faults.push(format!("{place} breaks"));
            }
        }
        let is_right = match row.shows {
            Shows::Nothing => true,
            Shows::Some => shown,
            Shows::All => refused,
        };
        if !is_right {
            faults.push(format!("{} {} is shown to all or to nobody", row.method, row.path));
        }
    }
    assert!(faults.is_empty(), "{faults:#?}");
    site.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_no_names_the_policy_and_everything_else_stays() {
    let mut site = Site::new().await;
    site.fill().await;
    site.show_to(only_tom()).await;
    let rule = site.entries["rule"];
    let json = |answer: Vec<u8>| {
        let start = answer.windows(4).position(|four| four == b"\r\n\r\n").unwrap() + 4;
        serde_json::from_slice::<serde_json::Value>(&answer[start..]).unwrap()
    };
    let vera = site.entries["vera"];
    let no = json(site.ask("anna", &get(format!("/entries/{vera}/statement"))).await);
    let said = format!("`vera` is withheld by the policy of `fixit`, entry {}", rule - 1);
    assert!(no["code"] == "withheld" && no["detail"].as_str().unwrap().contains(&said), "{no}");
    assert_eq!(site.status("anna", &format!("/entries/{vera}")).await, 200, "its receipt");
    // Who it is, of whom, since when: all but key, name and skills; told with the rule and at a height before it.
    let shown = json(site.ask("anna", &get("/registry/parties/vera")).await);
    assert_eq!((&shown["holds"]["record"]["firm"], &shown["holds"]["record"]["key"]), (&"fixit".into(), &().into()));
    assert_eq!((&shown["withheld"]["by"], &shown["visibility"]["parties"][0]), (&"fixit".into(), &"tom".into()));
    assert_eq!(json(site.ask("anna", &get("/registry/parties/vera?at=1")).await)["visibility"]["everyone"], true);
    // What an agent hears who is asked for what it sealed: the reader's name counts, not who asks for him.
    for (party, reader, by) in [
        ("vera", "?reader=tom", None),
        ("vera", "?reader=vera", None),
        ("vera", "?reader=fixit", None),
        ("vera", "?reader=acme", Some("fixit")),
        ("vera", "", Some("fixit")),
        ("press-x", "?reader=acme", None),
        ("press-x", "?reader=fixit", Some("acme")),
        ("tina", "?reader=acme", None),
        ("nobody-known", "", None),
    ] {
        for asker in ["agent-01", "ola"] {
            let said = json(site.ask(asker, &get(format!("/registry/parties/{party}/sight{reader}"))).await);
            assert_eq!(said["withheld"]["by"].as_str(), by, "{party}{reader}: {said}");
        }
    }
    assert_eq!(site.status("ola", "/registry/parties/vera/sight?reader=a%20b").await, 400);
    assert_eq!(site.status("ola", "/registry/parties/vera/sight?raeder=tom").await, 400);
    let parties = json(site.ask("anna", &get("/parties")).await);
    let named = |id: &str| parties.as_array().unwrap().iter().find(|party| party["id"] == id).unwrap().clone();
    assert_eq!((&named("vera")["name"], &named("tom")["name"]), (&().into(), &"tom".into()));
    // The words about a refusal repeat what the call said.
    let refused = format!("/entries/{}/outcome", site.entries["refused"]);
    assert!(json(site.ask("anna", &get(&refused)).await)["refusal_detail"].is_null());
    assert!(json(site.ask("tom", &get(&refused)).await)["refusal_detail"].is_string());
    // Who is revoked is nobody any more, whatever his token says.
    assert_eq!(site.status("tom", "/copy").await, 200);
    site.registry("revoked", "fixit", "revoke-party", &[("party", text("tom"))]).await;
    assert_eq!(site.status("tom", "/copy").await, 403);
    // By role; and everyone again.
    let auditors = map([("parties", Cbor::Array(Vec::new())), ("roles", Cbor::Array(vec![text("auditor")]))]);
    site.show_to(auditors).await;
    assert_eq!(site.status("anna", "/copy").await, 200);
    assert_eq!(site.status("inspector", &format!("/entries/{vera}/statement")).await, 403);
    site.show_to(text("everyone")).await;
    assert_eq!(site.status("inspector", &format!("/entries/{vera}/statement")).await, 200);
    site.stop().await;
}
