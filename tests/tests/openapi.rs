//! The node's interface as an OpenAPI document (`docs/formats/openapi.json`, served at `/openapi.json`): every route of the router is in
//! it and no other, and real answers are what it says, as a JSON Schema validator that we did not write sees it.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

use serde_json::Value;
use std::collections::BTreeSet;
use std::path::Path;
use tally_ledger_node::testing::Plant;
use tally_ledger_node::{Engine, EngineConfig, Listen, Node, ROUTES, Shows};
use tally_model::Priority;
use tally_projection::Place;
use tally_tests::{PATIENCE, Process, python, root};
use tokio::process::Command;
use tokio_util::sync::CancellationToken;

/// Methods and paths as the source of the router has them: `.route("/path", get(…).post(…))`.
fn routes(folder: &Path) -> BTreeSet<(String, String)> {
    let mut found = BTreeSet::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(routes(&path));
            continue;
        }
        let text = std::fs::read_to_string(&path).unwrap();
        for route in text.split(".route(").skip(1) {
            let route = route.trim_start().strip_prefix('"').expect("a path in quotes");
            let (path, rest) = route.split_once('"').unwrap();
            let rest = rest.lines().next().unwrap_or_default();
            for method in ["get", "post", "put", "delete", "patch"] {
                if rest.contains(&format!("{method}(")) {
                    // The wildcard of the router is a parameter with a note in the document.
                    found.insert((method.to_owned(), path.replace("{*", "{")));
                }
            }
        }
    }
    found
}

fn document() -> Value {
    serde_json::from_str(&std::fs::read_to_string(root().join("docs/formats/openapi.json")).unwrap()).unwrap()
}

#[test]
fn every_route_is_in_the_document_and_nothing_else_is() {
    let document = document();
    let documented: BTreeSet<(String, String)> = document["paths"]
        .as_object()
        .unwrap()
        .iter()
        .flat_map(|(path, methods)| methods.as_object().unwrap().keys().map(|method| (method.clone(), path.clone())))
        .collect();
    let routed = routes(&root().join("ledger-node/src/api"));
    assert!(routed.len() > 45, "the router is not read any more: {routed:?}");
    let missing: Vec<_> = routed.difference(&documented).collect();
    let stale: Vec<_> = documented.difference(&routed).collect();
    assert!(missing.is_empty() && stale.is_empty(), "not in the document: {missing:?}; not in the router: {stale:?}");
    // And the manual of the interface names each.
    let manual = std::fs::read_to_string(root().join("docs/formats/api.md")).unwrap();
    let unnamed: Vec<_> = documented
        .iter()
        .map(|(_, path)| path.split("/{").next().unwrap())
        .filter(|path| !manual.contains(path.trim_start_matches("/tlog").trim_start_matches("/query/devices")))
        .collect();
    assert!(unnamed.is_empty(), "not in api.md: {unnamed:?}");
}

/// What the door answers, by status: each operation names it with its own codes, and only where it can happen.
#[test]
fn every_operation_says_what_the_door_answers() {
    let document = document();
    for route in ROUTES {
        let (path, method) = (route.path.replace("{*", "{"), route.method.to_lowercase());
        let codes = |status: u16| codes_of(&document, &path, &method, status);
        let (anybody, where_) = (route.roles.is_empty(), format!("{} {path}", route.method));
        let missing = codes(401).unwrap_or_default();
        assert_eq!(missing, if anybody { vec!["token"] } else { vec!["no-credentials", "token"] }, "401 of {where_}");
        let named = |code: &str| codes(403).is_some_and(|codes| codes.contains(&code.to_owned()));
        let may_hide = route.shows != Shows::Nothing;
        assert_eq!((named("role"), named("withheld")), (!anybody, may_hide), "403 of {where_}");
        assert_eq!(codes(413), Some(vec!["too-large".to_owned()]), "413 of {where_}");
        assert_eq!(codes(429), Some(vec!["rate".to_owned()]), "429 of {where_}");
        let has_raw_body = ["/entries", "/witness/add-checkpoint"].contains(&path.as_str()) && method == "post";
        assert_eq!(codes(408), has_raw_body.then(|| vec!["body".to_owned()]), "408 of {where_}");
    }
}

/// The codes that an operation names for a status; each with its problem type.
fn codes_of(document: &Value, path: &str, method: &str, status: u16) -> Option<Vec<String>> {
    let at = |reference: &Value| document.pointer(reference["$ref"].as_str()?.strip_prefix('#')?);
    let response = at(document["paths"][path][method]["responses"].get(status.to_string())?)?;
    let schema = at(&response["content"]["application/problem+json"]["schema"])?;
    let own = &schema["allOf"][1]["properties"];
    let words = |of: &Value| {
        of["enum"].as_array().map(|words| words.iter().filter_map(Value::as_str).map(str::to_owned).collect())
    };
    let (codes, types): (Vec<String>, Vec<String>) = (words(&own["code"])?, words(&own["type"])?);
    assert_eq!(own["status"]["const"], status, "{method} {path}");
    let as_types: Vec<_> = codes.iter().map(|code| format!("urn:tallystick:problem:{code}")).collect();
    assert_eq!(types, as_types, "{method} {path}");
    Some(codes)
}

#[tokio::test(flavor = "multi_thread")]
async fn real_answers_are_what_the_document_says() {
    let dir = tempfile::tempdir().unwrap();
    let plant = Plant::new("press-line", 2, 4).unwrap();
    let config = EngineConfig::new("press-line", dir.path(), plant.key.clone());
    let engine = Engine::open(config.with_genesis(plant.genesis().unwrap())).unwrap();
    let submit = async |statement: Vec<u8>| engine.submit(statement).await.unwrap();
    submit(plant.worn(0, 0, "worn").unwrap()).await;
    submit(plant.call("tina", "accept", "mo-1", 1).unwrap()).await;
    submit(plant.call("tina", "done", "mo-1", 2).unwrap()).await;
    submit(plant.good(0, 1, "well").unwrap()).await;
    // One that is refused: the order has ended.
    let refused = submit(plant.call("tina", "accept", "mo-1", 3).unwrap()).await;
    assert_ne!(refused.refusal, 0);
    let triggers: Vec<_> = (2..5).map(|number| plant.body(0, 0, number, "again", Priority::High).unwrap()).collect();
    let batch = submit(plant.batch(plant.agent_of(0), &triggers).unwrap()).await;
    let node = Node::bind(engine.clone(), &[Listen::Tcp(([127, 0, 0, 1], 0).into())]).await.unwrap();
    let node = node.with_projection(Some(Place::Sqlite(dir.path().join("projection.sqlite"))));
    let address = node.places()[0].to_string();
    let stop = CancellationToken::new();
    let serving = tokio::spawn(node.serve(stop.clone()));

    let (statement, sql) = (dir.path().join("statement"), dir.path().join("sql"));
    std::fs::write(&statement, plant.worn(1, 0, "worn too").unwrap()).unwrap();
    std::fs::write(&sql, r#"{"sql": "SELECT 1 AS one", "limit": 5}"#).unwrap();
    let mut command = Command::new(python());
    command.arg(root().join("tests/interop/openapi_check.py")).arg(address.trim_start_matches("tcp:"));
    command.args([
        "--send",
        &format!("/entries={}", statement.display()),
        "--send",
        &format!("/query/sql={}", sql.display()),
    ]);
    let (refused, batch) = (refused.entry, batch.entry);
    let key = hex::encode(b"nothing");
    for (template, path) in [
        ("/entries/{id}", "/entries/1".to_owned()),
        ("/entries/{id}", format!("/entries/{batch}.1")),
        ("/entries/{id}", "/entries/999".to_owned()),
        ("/entries/{id}/statement", "/entries/1/statement".to_owned()),
        ("/entries/{id}/batch", format!("/entries/{batch}/batch")),
        ("/entries/{id}/outcome", "/entries/1/outcome".to_owned()),
        ("/entries/{id}/outcome", format!("/entries/{refused}/outcome")),
        ("/entries/{id}/outcome", format!("/entries/{batch}/outcome")),
        ("/entries/{id}/private", "/entries/2/private".to_owned()),
        ("/entries/{id}/private/{field}", "/entries/2/private/none".to_owned()),
        ("/blocks/{height}", "/blocks/0".to_owned()),
        ("/blocks/{height}", "/blocks/5".to_owned()),
        ("/blocks/{height}", "/blocks/none".to_owned()),
        ("/checkpoints/{height}", "/checkpoints/2".to_owned()),
        ("/.well-known/scitt-keys/{kid}", format!("/.well-known/scitt-keys/{}", engine.key().id())),
        ("/agreements/{id}", "/agreements/mo-1".to_owned()),
        ("/agreements/{id}/evidence", "/agreements/mo-1/evidence".to_owned()),
        ("/registry/parties/{id}", "/registry/parties/tina?at=0".to_owned()),
        ("/registry/parties/{id}/sight", "/registry/parties/tina/sight?reader=acme".to_owned()),
        ("/registry/devices/{id}", "/registry/devices/press-000".to_owned()),
        ("/devices/{id}/coverage", "/devices/press-000/coverage?from=1&to=2".to_owned()),
        ("/contracts/{name}", "/contracts/maintenance-order".to_owned()),
        ("/state/{key}", format!("/state/{key}")),
        ("/consistency/{old}", "/consistency/2".to_owned()),
        ("/tlog/tile/{path}", "/tlog/tile/entries/0.p/3".to_owned()),
        ("/alarms/{id}", "/alarms/1".to_owned()),
        ("/witness/{hash}/checkpoint", format!("/witness/{}/checkpoint", "0".repeat(64))),
        ("/copy/{folder}/{name}", "/copy/log/00000000000000000000.seg?offset=9".to_owned()),
        ("/copy/blocks", "/copy/blocks?from=1".to_owned()),
        ("/query/entries", "/query/entries?proofs=true&min_height=6".to_owned()),
        ("/query/agreements", "/query/agreements?proofs=true".to_owned()),
        ("/query/agreements/{id}/history", "/query/agreements/mo-1/history?proofs=true".to_owned()),
        ("/query/devices/{id}/history", "/query/devices/press-000/history".to_owned()),
        ("/query/parties/{id}/history", "/query/parties/tina/history".to_owned()),
        ("/query/aggregates/agreements", "/query/aggregates/agreements?by=contract,day&proofs=true".to_owned()),
    ] {
        command.args(["--as", &format!("{template}={path}")]);
    }
    let output = Process::run(command, 2 * PATIENCE).await;
    let said = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{said}");
    let answers: u64 = said.lines().last().unwrap().split(' ').next().unwrap().parse().unwrap();
    assert!(answers > 60, "{said}");
    stop.cancel();
    serving.await.unwrap().unwrap();
}
