//! What the door answers, asked of every path there is: the status, the code and the type that the interface's document names for it.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod common;

use common::{config, in_time, plant};
use serde_json::Value;
use std::path::Path;
use tally_door::{NewToken, Tokens};
use tally_ledger_node::{Access, Engine, Listen, Node, NodeError, ROUTES, Role, Route};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

/// A node whose door is closed, with a token of each of these roles.
struct Closed {
    address: String,
    tokens: Vec<String>,
    stop: CancellationToken,
    serving: JoinHandle<Result<(), NodeError>>,
    _dir: TempDir,
}

impl Closed {
    async fn start(roles: &[&str], requests_per_second: u32) -> Self {
        let (plant, dir) = (plant(), tempfile::tempdir().unwrap());
        let file = dir.path().join("tokens.json");
        let add =
            |role: &&str| Tokens::add(&file, &NewToken { name: role, role, now: 1, until: None, once: false }).unwrap();
        let tokens = roles.iter().map(add).collect();
        let engine = Engine::open(config(&plant, &dir.path().join("data"))).unwrap();
        let node = Node::bind(engine, &[Listen::Tcp(([127, 0, 0, 1], 0).into())]).await.unwrap();
        let access = Access { is_local_open: false, tokens: Some(file), requests_per_second, ..Access::default() };
        let (node, stop) = (node.with_access(access), CancellationToken::new());
        let address = node.places()[0].to_string().trim_start_matches("tcp:").to_owned();
        let serving = tokio::spawn(node.serve(stop.clone()));
        Self { address, tokens, stop, serving, _dir: dir }
    }

    /// Status and problem document of a request; null where the answer is none.
    async fn ask(&self, route: &Route, headers: &[(&str, &str)], body: &[u8]) -> (u16, Value) {
        let mut stream = TcpStream::connect(&self.address).await.unwrap();
        let path = route.path.split('/').map(|part| if part.starts_with('{') { "1" } else { part });
        let mut head = format!("{} {} HTTP/1.1\r\nhost: node\r\n", route.method, path.collect::<Vec<_>>().join("/"));
        for (name, value) in headers {
            head += &format!("{name}: {value}\r\n");
        }
        stream.write_all((head + "\r\n").as_bytes()).await.unwrap();
        stream.write_all(body).await.unwrap();
        // A stream of events never ends: the head says what it is.
        let mut answer = Vec::new();
        let arrives = async {
            while whole(&answer).is_none() {
                assert_ne!(stream.read_buf(&mut answer).await.unwrap(), 0, "{}", String::from_utf8_lossy(&answer));
            }
        };
        in_time("the answer", arrives).await;
        whole(&answer).unwrap()
    }

    async fn end(self) {
        self.stop.cancel();
        self.serving.await.unwrap().unwrap();
    }
}

/// Status and problem of an answer that is there as far as it is looked at.
fn whole(answer: &[u8]) -> Option<(u16, Value)> {
    let text = String::from_utf8_lossy(answer);
    let (head, body) = text.split_once("\r\n\r\n")?;
    let status = head.split(' ').nth(1)?.parse().unwrap();
    let head = head.to_lowercase();
    if !head.contains("content-type: application/problem+json") {
        return Some((status, Value::Null));
    }
    let length: usize = head.split("content-length: ").nth(1)?.lines().next()?.parse().unwrap();
    (body.len() >= length).then(|| (status, serde_json::from_str(body).unwrap()))
}

fn document() -> Value {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().join("docs/formats/openapi.json");
    serde_json::from_str(&std::fs::read_to_string(file).unwrap()).unwrap()
}

/// The answer has the code, and the document names code and type for this status of this path.
fn is_as_documented(document: &Value, route: &Route, (status, problem): (u16, Value), expected: (u16, &str)) {
    let where_ = format!("{} {}: {status} {problem}", route.method, route.path);
    assert_eq!((status, problem["code"].as_str()), (expected.0, Some(expected.1)), "{where_}");
    let at = |found: &Value| document.pointer(&found["$ref"].as_str().unwrap()[1..]).unwrap().clone();
    let named = &document["paths"][route.path.replace("{*", "{")][route.method.to_lowercase()]["responses"];
    let response = at(named.get(status.to_string()).unwrap_or_else(|| panic!("not in the document: {where_}")));
    let own = at(&response["content"]["application/problem+json"]["schema"])["allOf"][1]["properties"].clone();
    for member in ["code", "type"] {
        assert!(own[member]["enum"].as_array().unwrap().contains(&problem[member]), "{member} of {where_}");
    }
    assert_eq!(own["status"]["const"], problem["status"], "{where_}");
}

fn bearer(token: &str) -> String {
    format!("Bearer {token}")
}

#[tokio::test(flavor = "multi_thread")]
async fn every_path_refuses_with_the_code_that_the_document_names() {
    let (node, document) = (Closed::start(&["agent", "operator"], 1_000_000).await, document());
    let [agent, operator] = [&node.tokens[0], &node.tokens[1]].map(|token| bearer(token));
    for route in ROUTES {
        let bad = node.ask(route, &[("authorization", "Bearer tally_0000")], b"").await;
        is_as_documented(&document, route, bad, (401, "token"));
        let announced = [("authorization", operator.as_str()), ("content-length", "5000000")];
        is_as_documented(&document, route, node.ask(route, &announced, b"").await, (413, "too-large"));
        if route.roles.is_empty() {
            continue;
        }
        is_as_documented(&document, route, node.ask(route, &[], b"").await, (401, "no-credentials"));
        if !route.roles.contains(&Role::Agent) {
            let refused = node.ask(route, &[("authorization", &agent)], b"").await;
            is_as_documented(&document, route, refused, (403, "role"));
        }
    }
    // A body that is too large for its path alone, and one that does not come.
    let row =
        |method: &str, path: &str| ROUTES.iter().find(|route| (route.method, route.path) == (method, path)).unwrap();
    let large = vec![b' '; 200 << 10];
    for path in ["/query/sql", "/alarms/{id}"] {
        let length = large.len().to_string();
        let headers =
            [("authorization", operator.as_str()), ("content-type", "application/json"), ("content-length", &length)];
        is_as_documented(
            &document,
            row("POST", path),
            node.ask(row("POST", path), &headers, &large).await,
            (413, "too-large"),
        );
    }
    let entries = row("POST", "/entries");
    let headers = [("authorization", operator.as_str()), ("content-type", "application/cose"), ("content-length", "9")];
    is_as_documented(&document, entries, node.ask(entries, &headers, b"").await, (408, "body"));
    node.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_path_says_when_it_is_asked_too_often() {
    let (node, document) = (Closed::start(&["operator"], 1).await, document());
    let operator = bearer(&node.tokens[0]);
    for route in ROUTES {
        for asked in 1.. {
            let answer = node.ask(route, &[("authorization", &operator), ("content-length", "0")], b"").await;
            if answer.0 == 429 {
                is_as_documented(&document, route, answer, (429, "rate"));
                break;
            }
            assert!(asked < 50, "{} {} is asked as often as anybody likes", route.method, route.path);
        }
    }
    node.end().await;
}
