//! Requests: smuggled, split, endless, slow, too many, for files that are none of theirs, by people without the right.

use super::{LINE, transfer};
use std::time::{Duration, Instant};
use tally_tests::{Attacks, PATIENCE, Party, Process, Site, eventually, free_port, tally_command};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UnixStream};
use tokio::time::timeout;

/// Longest time a request that will never be whole may hold its place.
const HELD_MAX: Duration = Duration::from_secs(25);

/// Sends bytes; gives the status, or how the connection ended.
async fn answer(port: u16, request: &[u8]) -> String {
    // The status line is the answer; what follows it is nobody's business here.
    let text = read(port, request, Duration::ZERO).await;
    match text.strip_prefix("HTTP/1.1 ") {
        Some(rest) => rest.chars().take(3).collect(),
        None if text.is_empty() => "closed".to_owned(),
        None => text.chars().take(40).collect(),
    }
}

/// All that comes back until the server closes, or is quiet for a second behind an answer.
async fn raw(port: u16, request: &[u8]) -> String {
    read(port, request, Duration::from_secs(1)).await
}

async fn read(port: u16, request: &[u8], quiet: Duration) -> String {
    let mut line = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
    // The server may answer and close before all of it is sent.
    let _ = line.write_all(request).await;
    let (mut got, mut part) = (Vec::new(), vec![0; 16_384]);
    loop {
        let patience = if got.is_empty() { HELD_MAX } else { quiet };
        match timeout(patience, line.read(&mut part)).await {
            Ok(Ok(length @ 1..)) => got.extend_from_slice(&part[..length]),
            Err(_) if got.is_empty() => return "held".to_owned(),
            _ => return String::from_utf8_lossy(&got).into_owned(),
        }
    }
}

fn get(path: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: n\r\n\r\n")
}

fn with(head: &str) -> String {
    format!("GET /status HTTP/1.1\r\nHost: n\r\n{head}\r\n\r\n")
}

fn post(head: &str, body: &str) -> String {
    format!("POST /entries HTTP/1.1\r\nHost: n\r\nContent-Type: application/cose\r\n{head}\r\n\r\n{body}")
}

/// Name, what is sent, how it is answered, the bytes.
fn requests() -> Vec<(&'static str, &'static str, &'static str, Vec<u8>)> {
    let id = "0".repeat(62) + "aa";
    let all: Vec<(&'static str, &'static str, &'static str, String)> = vec![
        ("unknown-path", "a path that is none", "404", get("/nothing")),
        ("path-traversal", "/entries/../../etc/passwd", "404|400", get("/entries/../../etc/passwd")),
        ("path-traversal-encoded", "the same with %2e%2e%2f", "404|400", get("/entries/%2e%2e%2f%2e%2e%2fetc%2fpasswd")),
        ("path-traversal-tile", "a tile called ../../node.key", "404|400", get("/tlog/tile/../../../keys/node.key")),
        ("path-nul", "a path with %00", "400|404", get("/contracts/accounts%00.yaml")),
        ("path-invalid-utf8", "a path with %ff", "400|404", get("/agreements/%ff%fe")),
        ("header-injection", "a line break in a path", "400|404", get("/contracts/x%0d%0aSet-Cookie:%20a=b")),
        ("header-line-break", "a bare line feed inside a header", "400", with("X: a\n b: c\r\n\u{0}")),
        ("header-nul", "NUL in a header", "400", with("X: a\u{0}b")),
        ("header-space-before-colon", "Content-Length : 5", "400", with("Content-Length : 5")),
        ("header-bomb", "one header of 1 MB", "431|400|closed", with(&format!("X: {}", "a".repeat(1_000_000)))),
        ("header-crowd", "5,000 headers", "431|400", with(&"X: y\r\n".repeat(5_000))),
        ("uri-bomb", "a path of 70 kB", "414|431|400", get(&format!("/{}", "a".repeat(70_000)))),
        ("unknown-method", "DELETE /entries", "405", format!("DELETE /entries/{id} HTTP/1.1\r\nHost: n\r\n\r\n")),
        ("method-brew", "a method nobody knows", "405|400", "BREW /entries HTTP/1.1\r\nHost: n\r\n\r\n".to_owned()),
        ("method-trace", "TRACE", "405", "TRACE /status HTTP/1.1\r\nHost: n\r\n\r\n".to_owned()),
        ("method-connect", "CONNECT as to a proxy", "400|404|405", "CONNECT evil:443 HTTP/1.1\r\nHost: evil:443\r\n\r\n".to_owned()),
        ("http2-preface", "HTTP/2 without asking", "400|closed|505", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_owned()),
        ("not-http", "TLS at a plain port", "400|closed", "\u{16}\u{3}\u{1}\u{2}\0TLS?\r\n\r\n".to_owned()),
        ("length-negative", "Content-Length: -1", "400", post("Content-Length: -1", "")),
        ("length-huge", "Content-Length of 30 digits", "400|413", post("Content-Length: 999999999999999999999999999999", "")),
        ("length-lie", "Content-Length of 10 GB and no body", "413", post("Content-Length: 10000000000", "")),
        ("length-lie-get", "a question that announces 10 GB", "413", with("Content-Length: 10000000000")),
        ("length-twice", "two lengths that differ", "400", post("Content-Length: 4\r\nContent-Length: 40", "half")),
        ("length-list", "Content-Length: 4, 40", "400", post("Content-Length: 4, 40", "half")),
        ("chunk-bad", "a chunk whose length is no number", "400|408", post("Transfer-Encoding: chunked", "zz\r\nx\r\n0\r\n\r\n")),
        ("chunk-huge", "a chunk of 2^64-1 bytes", "400|413|408", post("Transfer-Encoding: chunked", "ffffffffffffffff\r\nx")),
        ("chunk-endless-extension", "a chunk with an extension of 100 kB", "400|413|408", post("Transfer-Encoding: chunked", &format!("1;{}\r\nx\r\n0\r\n\r\n", "a".repeat(100_000)))),
        ("coding-unknown", "Transfer-Encoding: gzip", "400|501", post("Transfer-Encoding: gzip", "x")),
        ("coding-obscured", "Transfer-Encoding: xchunked", "400|501", post("Transfer-Encoding: xchunked", "0\r\n\r\n")),
        ("media-type", "a form instead of a statement", "415", "POST /entries HTTP/1.1\r\nHost: n\r\nContent-Type: application/x-www-form-urlencoded\r\nContent-Length: 3\r\n\r\na=b".to_owned()),
        ("body-never-comes", "half a statement, then nothing", "408", post("Content-Length: 500", "half")),
        ("query-huge", "limit=99999999999999999999", "400", get("/entries?limit=99999999999999999999")),
        ("query-unknown", "a parameter nobody knows", "400", get("/query/entries?order=1;DROP")),
        ("query-cursor-forged", "a cursor of one's own", "400", get("/query/entries?cursor=AAAA%27--")),
        ("sql-write", "DROP TABLE in a question", "400", "POST /query/sql HTTP/1.1\r\nHost: n\r\nContent-Type: application/json\r\nContent-Length: 33\r\n\r\n{\"sql\":\"DROP TABLE entries; --  \"}".to_owned()),
        ("sql-attach", "ATTACH another database", "400", "POST /query/sql HTTP/1.1\r\nHost: n\r\nContent-Type: application/json\r\nContent-Length: 48\r\n\r\n{\"sql\":\"ATTACH DATABASE '/tmp/evil.db' AS evil\"}".to_owned()),
        ("json-bomb", "JSON nested 10,000 deep", "400|413", {
            let body = "[".repeat(10_000);
            format!("POST /query/sql HTTP/1.1\r\nHost: n\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}", body.len())
        }),
        ("last-event-id-forged", "an event id that is none", "400", "GET /events HTTP/1.1\r\nHost: n\r\nLast-Event-ID: -1.9999999999999999999\r\n\r\n".to_owned()),
        ("token-made-up", "a token nobody made", "401", with("Authorization: Bearer tally_0000")),
        ("token-basic", "a password instead of a token", "401", with("Authorization: Basic YWRtaW46YWRtaW4=")),
        ("token-empty", "an empty token", "401", with("Authorization: Bearer ")),
        ("token-long", "a token of 50 kB", "401", with(&format!("Authorization: Bearer {}", "a".repeat(50_000)))),
    ];
    all.into_iter().map(|(name, sent, expected, text)| (name, sent, expected, text.into_bytes())).collect()
}

/// `tally token add`; gives the token.
async fn token(site: &Site, name: &str, role: &str, more: &[&str]) -> String {
    let file = site.dir().join("tokens.json").display().to_string();
    let arguments = [&["token", "add", name, "--role", role, "--file", &file], more].concat();
    let output = Process::run(tally_command(&arguments), PATIENCE).await;
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn every_bad_request_is_refused_and_an_honest_one_gets_through_between_them() {
    let site = Site::new(LINE, None).await;
    let port = free_port();
    let socket = site.dir().join("node.sock").display().to_string();
    site.edit("node.yaml", &format!("\"unix:{socket}\""), &format!("\"unix:{socket}\", \"tcp:127.0.0.1:{port}\""));
    site.append("node.yaml", "access: {tokens: tokens.json}");
    let mut node = site.start_node().await;
    let acme = Party::of(&site, "acme");
    let first = acme.call(&site.node, "accounts", "transfer", None, &transfer()).await;
    let before = site.node.get_json("/checkpoint").await.unwrap();
    let mut attacks = Attacks::on("the node's interface");
    for (name, sent, expected, request) in requests() {
        attacks.tried(name, sent, expected, answer(port, &request).await);
    }
    smuggled(port, &mut attacks).await;
    without_the_right(&site, port, &mut attacks).await;
    slow(port, &mut attacks).await;
    assert_eq!(site.node.get_json("/checkpoint").await.unwrap(), before, "nothing of that is on the ledger");

    many(&site, port, &socket, &mut attacks).await;
    let next = timeout(PATIENCE, acme.call(&site.node, "accounts", "transfer", None, &transfer())).await;
    assert_eq!(next.expect("a good one gets through").entry, first.entry + 1);
    for (counter, code, least) in [
        ("tally_requests_refused_total", "token", 5.0),
        ("tally_requests_refused_total", "role", 2.0),
        ("tally_connections_refused_total", "per-peer", 1.0),
    ] {
        eventually(&format!("{least} of {counter} {code}"), async || {
            let counted = Site::metric(&site.node, counter, &format!("code=\"{code}\"")).await;
            (counted >= least).then_some(())
        })
        .await;
    }
    assert!(node.is_running() && !node.log().contains("panicked"), "{}", node.tail());
    // With lines open it still stops when asked, in good time.
    assert_eq!(node.terminate().await.code(), Some(0), "{}", node.tail());
    attacks.finish(50);
}

/// A request hidden in the body of another: it must not be answered by itself.
async fn smuggled(port: u16, attacks: &mut Attacks) {
    let hidden = "GET /totals HTTP/1.1\r\nHost: n\r\n\r\n";
    let chunked = post(&format!("Content-Length: {}\r\nTransfer-Encoding: chunked", 5 + hidden.len()), "0\r\n\r\n");
    let measured = post(&format!("Transfer-Encoding: chunked\r\nContent-Length: {}", 4), &format!("5c\r\n{hidden}"));
    for (name, sent, request) in [
        ("smuggled-cl-te", "a length and chunks, a request behind them", format!("{chunked}{hidden}")),
        ("smuggled-te-cl", "chunks and a length, a request inside", measured),
    ] {
        let text = raw(port, request.as_bytes()).await;
        let got =
            if text.contains("\"totals\"") || text.contains("HTTP/1.1 200") { "answered" } else { "not answered" };
        attacks.tried(name, sent, "not answered", got);
    }
}

async fn without_the_right(site: &Site, port: u16, attacks: &mut Attacks) {
    let ask = async |method: &str, path: &str, token: &str| {
        let head = format!(
            "{method} {path} HTTP/1.1\r\nHost: n\r\nAuthorization: Bearer {token}\r\nContent-Length: 0\r\n\r\n"
        );
        answer(port, head.as_bytes()).await
    };
    let (agent, auditor) = (token(site, "robot", "agent", &[]).await, token(site, "eva", "auditor", &[]).await);
    attacks.tried(
        "agent-reads-accounts",
        "an agent's token for /accounts",
        "403",
        ask("GET", "/accounts", &agent).await,
    );
    attacks.tried("agent-asks-sql", "an agent's token for SQL", "403", ask("POST", "/query/sql", &agent).await);
    attacks.tried(
        "auditor-prunes",
        "an auditor's token for POST /retention",
        "403",
        ask("POST", "/retention", &auditor).await,
    );
    attacks.tried(
        "auditor-submits",
        "an auditor's token for POST /entries",
        "403",
        ask("POST", "/entries", &auditor).await,
    );
    assert_eq!(ask("GET", "/accounts", &auditor).await, "200", "what an auditor may, he may");
    let file = site.dir().join("tokens.json").display().to_string();
    let revoked = Process::run(tally_command(&["token", "revoke", "eva", "--file", &file]), PATIENCE).await;
    assert!(revoked.status.success());
    attacks.tried(
        "token-revoked",
        "a token that was revoked a moment ago",
        "401",
        ask("GET", "/accounts", &auditor).await,
    );
    let short = token(site, "brief", "auditor", &["--for", "1s"]).await;
    tokio::time::sleep(Duration::from_millis(2_100)).await;
    attacks.tried("token-expired", "a token whose time is over", "401", ask("GET", "/accounts", &short).await);
}

/// Heads and bodies that come a byte at a time.
async fn slow(port: u16, attacks: &mut Attacks) {
    let dribble = async |first: &str| {
        let mut line = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
        line.write_all(first.as_bytes()).await.unwrap();
        let begun = Instant::now();
        while begun.elapsed() < HELD_MAX {
            let mut part = [0; 64];
            match timeout(Duration::from_millis(500), line.read(&mut part)).await {
                Ok(Ok(0) | Err(_)) => return "closed",
                Ok(Ok(_)) => return "answered",
                Err(_) if line.write_all(b"a").await.is_err() => return "closed",
                Err(_) => {}
            }
        }
        "held"
    };
    let (head, body, nothing) = tokio::join!(
        dribble("GET /status HTTP/1.1\r\nX: "),
        dribble("POST /entries HTTP/1.1\r\nHost: n\r\nContent-Type: application/cose\r\nContent-Length: 5000\r\n\r\n"),
        raw(port, b""),
    );
    attacks.tried("slow-head", "a head, a byte each half second", "closed|answered", head);
    attacks.tried("slow-body", "a body, a byte each half second", "closed|answered", body);
    attacks.tried(
        "silence",
        "a connection that says nothing",
        "closed",
        if nothing.is_empty() { "closed" } else { "held" },
    );
}

/// More connections than one place may have; half of them in the middle of a statement.
async fn many(site: &Site, port: u16, socket: &str, attacks: &mut Attacks) {
    let mut idle = Vec::new();
    for number in 0..300 {
        let Ok(mut line) = TcpStream::connect(("127.0.0.1", port)).await else { break };
        if number % 2 == 0 {
            let _ = line.write_all(post("Content-Length: 500", "half").as_bytes()).await;
        }
        idle.push(line);
    }
    let mut local = UnixStream::connect(socket).await.unwrap();
    local.write_all(&[0; 70_000]).await.ok();
    let got = match timeout(PATIENCE, site.node.get_json("/status")).await {
        Ok(Ok(_)) => "others answered",
        _ => "others hindered",
    };
    attacks.tried("many-connections", "300 connections from one place", "others answered", got);
}
