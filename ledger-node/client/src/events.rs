//! The event stream: Server-Sent Events (WHATWG HTML §9.2) whose data are CloudEvents 1.0 in JSON.

use crate::connection::{Sender, describe};
use crate::{Client, RequestError};
use futures_util::{Stream, stream};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use std::collections::VecDeque;

/// Bytes of the longest line we read: more than an outcome can have.
const LINE_BYTES_MAX: usize = 1 << 20;

/// Something that happened on the ledger.
#[derive(Debug, Clone, PartialEq)]
pub struct LedgerEvent {
    /// `height.index`: its block and its place among the block's events.
    pub id: String,
    /// The CloudEvent.
    pub json: serde_json::Value,
}

/// Where a stream stands.
enum Step {
    Unopened { path: String, after: Option<String> },
    Open(Box<Open>),
    Over,
}

struct Open {
    body: Incoming,
    /// Keeps the connection; dropping it would end the body.
    _sender: Sender,
    parser: Parser,
}

pub(crate) fn follow(
    client: Client,
    path: String,
    after: Option<String>,
) -> impl Stream<Item = Result<LedgerEvent, RequestError>> + Send + Unpin {
    let start = Step::Unopened { path, after };
    Box::pin(stream::unfold((client, start), |(client, step)| async move {
        match next(&client, step).await {
            Ok(Some((event, open))) => Some((Ok(event), (client, Step::Open(open)))),
            Ok(None) => None,
            Err(error) => Some((Err(error), (client, Step::Over))),
        }
    }))
}

async fn next(client: &Client, step: Step) -> Result<Option<(LedgerEvent, Box<Open>)>, RequestError> {
    let mut open = match step {
        Step::Over => return Ok(None),
        Step::Open(open) => open,
        Step::Unopened { path, after } => {
            let (body, sender) = client.open_events(&path, after.as_deref()).await?;
            Box::new(Open { body, _sender: sender, parser: Parser::default() })
        }
    };
    loop {
        if let Some(event) = open.parser.ready.pop_front() {
            return Ok(Some((event, open)));
        }
        let quiet = client.timeouts().quiet;
        let frame = tokio::time::timeout(quiet, open.body.frame()).await;
        let frame = frame.map_err(|_| client.no_answer(ASKED, format!("no sign of life for {quiet:?}")))?;
        let frame = frame.ok_or_else(|| client.no_answer(ASKED, "the node ended the stream".to_owned()))?;
        let frame = frame.map_err(|error| client.no_answer(ASKED, describe(&error)))?;
        if let Some(bytes) = frame.data_ref() {
            open.parser.push(bytes).map_err(|reason| client.nonsense(ASKED, reason))?;
        }
    }
}

const ASKED: &str = "GET /events";

/// Lines to events. Comment lines (keep-alive) and the field `event` are skipped: the CloudEvent says its type itself.
#[derive(Debug, Default)]
struct Parser {
    line: Vec<u8>,
    id: String,
    data: String,
    ready: VecDeque<LedgerEvent>,
}

impl Parser {
    fn push(&mut self, bytes: &[u8]) -> Result<(), &'static str> {
        for byte in bytes {
            match byte {
                b'\n' => self.end_line()?,
                // Our node ends lines with LF; a CR before it, put in by a proxy, is dropped.
                b'\r' => {}
                _ if self.line.len() >= LINE_BYTES_MAX => return Err("a line of the event stream has no end"),
                byte => self.line.push(*byte),
            }
        }
        Ok(())
    }

    fn end_line(&mut self) -> Result<(), &'static str> {
        let line = std::mem::take(&mut self.line);
        let line = std::str::from_utf8(&line).map_err(|_| "the event stream is not UTF-8")?;
        let (field, value) = line.split_once(':').unwrap_or((line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match field {
            "" if line.is_empty() => return self.end_event(),
            "id" => value.clone_into(&mut self.id),
            "data" => {
                if !self.data.is_empty() {
                    self.data.push('\n');
                }
                self.data.push_str(value);
            }
            _ => {}
        }
        if self.data.len() > LINE_BYTES_MAX { Err("an event has no end") } else { Ok(()) }
    }

    fn end_event(&mut self) -> Result<(), &'static str> {
        if self.data.is_empty() {
            return Ok(());
        }
        let data = std::mem::take(&mut self.data);
        let json = serde_json::from_str(&data).map_err(|_| "the data of an event is not JSON")?;
        self.ready.push_back(LedgerEvent { id: self.id.clone(), json });
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const STREAM: &str =
        ": hello\n\nid: 3.0\nevent: x\ndata: {\"a\":1}\n\nid: 3.1\r\ndata: {\ndata: \"b\":2}\r\n\r\n: ping\n\n";

    #[test]
    fn events_come_out_however_the_bytes_are_cut() {
        for cut in 0..STREAM.len() {
            let mut parser = Parser::default();
            parser.push(&STREAM.as_bytes()[..cut]).unwrap();
            parser.push(&STREAM.as_bytes()[cut..]).unwrap();
            let ids: Vec<_> = parser.ready.iter().map(|event| (event.id.as_str(), event.json.to_string())).collect();
            assert_eq!(ids, [("3.0", "{\"a\":1}".to_owned()), ("3.1", "{\"b\":2}".to_owned())]);
        }
    }

    #[test]
    fn an_endless_line_is_refused() {
        assert!(Parser::default().push(&vec![b'x'; LINE_BYTES_MAX + 1]).is_err());
        assert!(Parser::default().push(b"data: no json\n\n").is_err());
    }

    proptest! {
        #[test]
        fn random_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _ = Parser::default().push(&bytes);
        }
    }
}
