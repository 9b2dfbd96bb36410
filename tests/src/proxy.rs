//! A line between the agent and a server, with everything that lines do: cut, swallow, delay, run out of sessions.

use crate::free_port;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// A TCP proxy on 127.0.0.1.
pub struct Proxy {
    /// Where it listens.
    pub port: u16,
    line: Arc<Line>,
    task: JoinHandle<()>,
}

struct Line {
    /// Bytes are taken and go nowhere; the socket stays open. As when a switch lost its power.
    swallows: AtomicBool,
    /// Milliseconds that each piece is held back on its way from the server.
    delay_ms: AtomicU64,
    /// Connections that may be open at a time; more are closed at once, as by a server whose sessions are used up.
    sessions_max: AtomicUsize,
    open: AtomicUsize,
    accepted: AtomicU64,
    /// Counts cuts: whoever sees it change is cut off.
    cuts: watch::Sender<u64>,
}

impl Proxy {
    /// Starts it in front of a server on 127.0.0.1.
    ///
    /// # Panics
    /// When its port is taken.
    pub async fn start(server: u16) -> Self {
        let port = free_port();
        let listener = TcpListener::bind(("127.0.0.1", port)).await.unwrap();
        let line = Arc::new(Line {
            swallows: AtomicBool::new(false),
            delay_ms: AtomicU64::new(0),
            sessions_max: AtomicUsize::new(usize::MAX),
            open: AtomicUsize::new(0),
            accepted: AtomicU64::new(0),
            cuts: watch::Sender::new(0),
        });
        let shared = Arc::clone(&line);
        let task = tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                shared.accepted.fetch_add(1, Ordering::SeqCst);
                tokio::spawn(carry(client, server, Arc::clone(&shared)));
            }
        });
        Self { port, line, task }
    }

    /// Whether bytes go nowhere from now on. Connections stay open, and new ones are accepted: half-open TCP.
    pub fn swallow(&self, swallows: bool) {
        self.line.swallows.store(swallows, Ordering::SeqCst);
    }

    /// Holds back every piece from the server.
    pub fn delay(&self, delay: Duration) {
        self.line.delay_ms.store(u64::try_from(delay.as_millis()).unwrap(), Ordering::SeqCst);
    }

    /// Lets so many connections be open at a time.
    pub fn sessions(&self, max: usize) {
        self.line.sessions_max.store(max, Ordering::SeqCst);
    }

    /// Cuts all connections that are open.
    pub fn cut(&self) {
        self.line.cuts.send_modify(|cuts| *cuts += 1);
    }

    /// Connections accepted so far.
    #[must_use]
    pub fn accepted(&self) -> u64 {
        self.line.accepted.load(Ordering::SeqCst)
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.task.abort();
        self.cut();
    }
}

async fn carry(client: TcpStream, server: u16, line: Arc<Line>) {
    let mut cuts = line.cuts.subscribe();
    if line.open.fetch_add(1, Ordering::SeqCst) < line.sessions_max.load(Ordering::SeqCst)
        && let Ok(server) = TcpStream::connect(("127.0.0.1", server)).await
    {
        let (client_in, client_out) = client.into_split();
        let (server_in, server_out) = server.into_split();
        tokio::select! {
            () = one_way(client_in, server_out, &line, false) => {}
            () = one_way(server_in, client_out, &line, true) => {}
            _ = cuts.changed() => {}
        }
    }
    line.open.fetch_sub(1, Ordering::SeqCst);
}

async fn one_way(
    mut from: tokio::net::tcp::OwnedReadHalf,
    mut to: tokio::net::tcp::OwnedWriteHalf,
    line: &Line,
    is_answer: bool,
) {
    let mut buffer = vec![0; 16 << 10];
    while let Ok(length @ 1..) = from.read(&mut buffer).await {
        let delay = line.delay_ms.load(Ordering::SeqCst);
        if is_answer && delay > 0 {
            tokio::time::sleep(Duration::from_millis(delay)).await;
        }
        if line.swallows.load(Ordering::SeqCst) {
            continue;
        }
        if to.write_all(&buffer[..length]).await.is_err() {
            return;
        }
    }
    // A line that swallows does not carry the end of a connection either.
    while line.swallows.load(Ordering::SeqCst) {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}
