//! The client against a real HTTP server that plays the node, over both kinds of socket.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

use axum::Router;
use axum::body::{Body, Bytes};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use futures_util::StreamExt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use tally_ledger_client::{Client, NodeAddress, RequestError, SubmitError, Timeouts};
use tokio::net::{TcpListener, UnixListener};

fn problem(status: StatusCode, code: &str, retry: Option<u64>) -> Response {
    let body = serde_json::json!({"type": "about:blank", "code": code, "detail": "words", "hint": "try this"});
    let mut response = (status, body.to_string()).into_response();
    if let Some(seconds) = retry {
        response.headers_mut().insert(header::RETRY_AFTER, seconds.into());
    }
    response
}

async fn take(statement: Bytes) -> Response {
    match statement.as_ref() {
        b"good" => (StatusCode::CREATED, [("tally-entry", "7")], "receipt").into_response(),
        b"refused" => (StatusCode::CREATED, [("tally-entry", "8"), ("tally-refusal", "31")], "receipt").into_response(),
        b"busy" => problem(StatusCode::SERVICE_UNAVAILABLE, "busy", Some(2)),
        b"fast" => problem(StatusCode::TOO_MANY_REQUESTS, "rate", Some(1)),
        b"to the agent" => problem(StatusCode::NOT_FOUND, "path", None),
        b"forged" => problem(StatusCode::BAD_REQUEST, "seal", None),
        b"headless" => (StatusCode::CREATED, "receipt").into_response(),
        b"slow" => {
            tokio::time::sleep(Duration::from_secs(60)).await;
            StatusCode::CREATED.into_response()
        }
        _ => (StatusCode::NOT_FOUND, "<html>another program</html>").into_response(),
    }
}

async fn events(headers: HeaderMap) -> Response {
    let from = headers.get("last-event-id").map_or("none", |id| id.to_str().unwrap()).to_owned();
    let chunks = [": hi\n\nid: 4.0\nda".to_owned(), format!("ta: {{\"after\":\"{from}\"}}\n\n")];
    let body = Body::from_stream(futures_util::stream::iter(chunks.map(Ok::<_, std::io::Error>)));
    ([(header::CONTENT_TYPE, "text/event-stream")], body).into_response()
}

fn node() -> Router {
    let status = get(|| async { axum::Json(serde_json::json!({"height": 5})) });
    Router::new().route("/entries", post(take)).route("/events", get(events)).route("/status", status)
}

async fn tcp_node() -> Client {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = format!("tcp:{}", listener.local_addr().unwrap()).parse().unwrap();
    tokio::spawn(async move { axum::serve(listener, node()).await });
    Client::new(address)
}

fn unix_node(path: &Path) -> Client {
    let listener = UnixListener::bind(path).unwrap();
    tokio::spawn(async move { axum::serve(listener, node()).await });
    Client::new(NodeAddress::Unix(path.to_owned()))
}

#[tokio::test]
async fn statements_are_taken_over_both_kinds_of_socket() {
    let dir = tempfile::tempdir().unwrap();
    for client in [tcp_node().await, unix_node(&dir.path().join("node.sock"))] {
        let good = client.submit(b"good").await.unwrap();
        assert_eq!((good.receipt.as_slice(), good.entry, good.refusal), (&b"receipt"[..], 7, None));
        assert_eq!(client.submit(b"refused").await.unwrap().refusal, Some(31));
        assert_eq!(client.get_json("/status").await.unwrap()["height"], 5);
        assert_eq!(client.get_bytes("/status").await.unwrap(), b"{\"height\":5}");
    }
}

#[tokio::test]
async fn not_now_and_never_are_told_apart() {
    let client = tcp_node().await;
    let retry_after = |answer| match answer {
        Err(SubmitError::NotNow { retry_after, .. }) => retry_after,
        other => panic!("{other:?}"),
    };
    assert_eq!(retry_after(client.submit(b"busy").await), Some(Duration::from_secs(2)));
    assert_eq!(retry_after(client.submit(b"fast").await), Some(Duration::from_secs(1)));
    for undecided in ["headless", "another program", "to the agent"] {
        assert_eq!(retry_after(client.submit(undecided.as_bytes()).await), None, "{undecided}");
    }
    let timeouts = Timeouts { answer: Duration::from_millis(500), ..Timeouts::default() };
    let impatient = Client::with_timeouts(client.address().clone(), timeouts);
    assert_eq!(retry_after(impatient.submit(b"slow").await), None);
    let refused = SubmitError::Refused { code: "seal".into(), text: "words; try this".into() };
    assert_eq!(client.submit(b"forged").await, Err(refused));
    assert!(matches!(client.get_json("/nothing").await, Err(RequestError::Nonsense { .. })));
}

#[tokio::test]
async fn nobody_there_is_not_now() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address: NodeAddress = format!("tcp:{}", listener.local_addr().unwrap()).parse().unwrap();
    drop(listener);
    for address in [address, NodeAddress::Unix("/nowhere/node.sock".into())] {
        let client = Client::new(address);
        assert!(matches!(client.submit(b"good").await, Err(SubmitError::NotNow { .. })));
        assert!(matches!(client.get_json("/status").await, Err(RequestError::NoAnswer { .. })));
        let first = client.events(None).next().await.unwrap();
        assert!(matches!(first, Err(RequestError::NoAnswer { .. })));
    }
}

#[tokio::test]
async fn events_are_followed_and_resumed() {
    let client = tcp_node().await;
    let mut events = client.events(Some(4));
    let first = events.next().await.unwrap().unwrap();
    assert_eq!((first.id.as_str(), &first.json["after"]), ("4.0", &"none".into()));
    // The server ends the stream: the client says so once, and then the stream is over.
    assert!(matches!(events.next().await, Some(Err(RequestError::NoAnswer { .. }))));
    assert!(events.next().await.is_none());
    let resumed = client.events_after("3.1").next().await.unwrap().unwrap();
    assert_eq!(resumed.json["after"], "3.1");
}

/// A server that answers one request per connection and closes without saying so beforehand.
#[tokio::test]
async fn connections_are_reused_and_dead_ones_replaced() {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = format!("tcp:{}", listener.local_addr().unwrap()).parse().unwrap();
    let accepted = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&accepted);
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            counter.fetch_add(1, Ordering::SeqCst);
            // Two answers a connection, then it is closed.
            for _ in 0..2 {
                let mut request = [0; 4096];
                if stream.read(&mut request).await.unwrap() == 0 {
                    break;
                }
                stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}").await.unwrap();
            }
        }
    });
    let client = Client::new(address);
    for _ in 0..6 {
        client.get_json("/status").await.unwrap();
    }
    assert_eq!(accepted.load(Ordering::SeqCst), 3);
}
