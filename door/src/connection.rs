//! One connection: requests one after the other, until the client goes, is too slow, or the node stops.
//!
//! **Limits.** A request's head has 10 s to arrive whole (this also closes idle connections) and 64 KiB, so a client that
//! dribbles bytes holds a place for 10 s, not for ever; a body's time is its handler's business. When the server stops, a request
//! whose handling has begun has 1 s left; whoever is idle or still sending is let go at once: nothing of what it sent was taken.

use crate::peer::Peer;
use axum::Router;
use axum::body::{Body, Bytes, HttpBody};
use axum::extract::Request;
use hyper::body::{Frame, Incoming, SizeHint};
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_util::sync::CancellationToken;

/// Time for a request's head, and for an idle connection.
const HEAD_TIME: Duration = Duration::from_secs(10);
/// Bytes of a request's head and of the reading buffer.
const BUFFER_BYTES_MAX: usize = 64 << 10;
/// Time for requests in hand when stopping. The order thread answers what it took within a block or two, unless the disk hangs;
/// then the client sends again later and gets the same receipt.
const DRAIN_TIME: Duration = Duration::from_secs(1);
/// Time for the tail of an answer that is on the wire already when stopping.
const FLUSH_TIME: Duration = Duration::from_millis(50);

/// A socket of either kind.
pub trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}
impl<S: AsyncRead + AsyncWrite + Unpin + Send> Stream for S {}

/// How a connection ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// The client went, broke the protocol or was too slow, or was let go between two requests.
    Gone,
    /// The server stopped, and the request in hand did not end in time.
    CutOff,
}

/// Serves one connection to its end. Each request carries the peer in its extensions.
pub async fn serve(stream: Box<dyn Stream>, peer: Arc<Peer>, router: Router, stop: CancellationToken) -> End {
    let in_hand = InHand::default();
    let seen = in_hand.clone();
    let service = tower::util::MapRequest::new(router, move |mut request: Request<Incoming>| {
        request.extensions_mut().insert(Arc::clone(&peer));
        request.map(|body| Body::new(seen.begin(body)))
    });
    let mut builder = http1::Builder::new();
    builder.timer(TokioTimer::new()).header_read_timeout(HEAD_TIME).max_buf_size(BUFFER_BYTES_MAX);
    let connection = builder.serve_connection(TokioIo::new(stream), TowerToHyperService::new(service));
    let mut connection = std::pin::pin!(connection);
    tokio::select! {
        // A client that went away or broke the protocol is its own business.
        _ = connection.as_mut() => return End::Gone,
        () = stop.cancelled() => connection.as_mut().graceful_shutdown(),
    }
    let (left, end) = if in_hand.get() { (DRAIN_TIME, End::CutOff) } else { (FLUSH_TIME, End::Gone) };
    match tokio::time::timeout(left, connection).await {
        Ok(_) => End::Gone,
        Err(_) => end,
    }
}

/// Whether the last request on this connection is whole, so that its handler works on it (or has answered).
#[derive(Clone, Default)]
struct InHand(Arc<AtomicBool>);

impl InHand {
    fn begin(&self, body: Incoming) -> Arriving {
        self.0.store(body.is_end_stream(), Ordering::Relaxed);
        Arriving { body, in_hand: self.clone() }
    }

    fn get(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

/// A request's body. The handler drops it when it has all of it, or wants no more.
struct Arriving {
    body: Incoming,
    in_hand: InHand,
}

impl Drop for Arriving {
    fn drop(&mut self) {
        self.in_hand.0.store(true, Ordering::Relaxed);
    }
}

impl HttpBody for Arriving {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        Pin::new(&mut self.body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
