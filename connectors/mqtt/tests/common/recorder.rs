//! A small MQTT 3.1.1 server that writes down every packet a client sends, and says what a test wants it to say. It keeps
//! retained messages by topic and hands them out to exact subscriptions; nothing else of a broker is needed here.

#![allow(dead_code)]

use bytes::{Bytes, BytesMut};
use rumqttc::{ConnAck, ConnectReturnCode, Packet, PubAck, Publish, QoS, SubAck, SubscribeReasonCode, UnsubAck};
use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

/// One connection as it was seen.
#[derive(Debug, Clone)]
pub struct Seen {
    /// Which server.
    pub server: u16,
    pub began: Instant,
    /// Servers to which the client still had an earlier connection open when this one was accepted.
    pub others_open: Vec<u16>,
    /// Its side of the connection.
    client: u16,
    /// When the client's side was closed, by whomever.
    pub ended: Option<Instant>,
    /// What the client sent, in order.
    pub packets: Vec<(Instant, Packet)>,
    /// What the server published to it.
    pub told: Vec<(Instant, String, Vec<u8>)>,
}

/// Several recorders share one book, so that connections stand in the order in which they began.
#[derive(Clone, Default)]
pub struct Book(Arc<Mutex<Vec<Seen>>>);

impl Book {
    pub fn seen(&self) -> Vec<Seen> {
        self.0.lock().unwrap().clone()
    }
}

pub struct Recorder {
    pub port: u16,
    book: Book,
    state: Arc<State>,
    task: JoinHandle<()>,
}

/// Where the topics and payloads for one client go.
type Outbound = mpsc::UnboundedSender<(String, Vec<u8>)>;

#[derive(Default)]
struct State {
    retained: Mutex<HashMap<String, Vec<u8>>>,
    clients: Mutex<Vec<Outbound>>,
    cut: Mutex<CancellationToken>,
    refuses: Mutex<bool>,
}

impl Recorder {
    pub async fn start(book: Book) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let state = Arc::new(State::default());
        let task = tokio::spawn(accept(listener, port, book.clone(), state.clone()));
        Self { port, book, state, task }
    }

    /// Publishes to whoever is connected, and keeps it for whoever subscribes later.
    pub fn retain(&self, topic: &str, payload: &str) {
        self.state.retained.lock().unwrap().insert(topic.to_owned(), payload.as_bytes().to_vec());
        self.say(topic, payload.as_bytes());
    }

    /// Publishes to whoever is connected.
    pub fn say(&self, topic: &str, payload: &[u8]) {
        let clients = self.state.clients.lock().unwrap();
        clients.iter().for_each(|client| drop(client.send((topic.to_owned(), payload.to_vec()))));
    }

    /// Cuts every connection without a word.
    pub fn cut(&self) {
        let mut cut = self.state.cut.lock().unwrap();
        cut.cancel();
        *cut = CancellationToken::new();
    }

    /// Says "service unavailable" to whoever connects from now on, or lets them in again.
    pub fn refuse(&self, refuses: bool) {
        *self.state.refuses.lock().unwrap() = refuses;
    }
}

impl Drop for Recorder {
    fn drop(&mut self) {
        self.cut();
        self.task.abort();
    }
}

async fn accept(listener: TcpListener, port: u16, book: Book, state: Arc<State>) {
    loop {
        let (stream, from) = listener.accept().await.unwrap();
        let place = {
            let mut seen = book.0.lock().unwrap();
            let (packets, told) = (Vec::new(), Vec::new());
            let (client, others_open) = (from.port(), still_open(&seen));
            seen.push(Seen { server: port, began: Instant::now(), others_open, client, ended: None, packets, told });
            seen.len() - 1
        };
        let (book, state) = (book.clone(), state.clone());
        let cut = state.cut.lock().unwrap().clone();
        tokio::spawn(async move {
            cut.run_until_cancelled(serve(stream, place, &book, &state)).await;
            book.0.lock().unwrap()[place].ended = Some(Instant::now());
        });
    }
}

/// Which connections their clients have not closed, as the kernel knows it (proc_pid_net(5), "tcp"): a server hears of an end only
/// when it gets a processor. 01 is ESTABLISHED; 08 is CLOSE_WAIT, where only the other side has closed.
fn still_open(seen: &[Seen]) -> Vec<u16> {
    let table = std::fs::read_to_string("/proc/net/tcp").unwrap();
    let lines: Vec<Vec<&str>> = table.lines().map(|line| line.split_whitespace().collect()).collect();
    let local = |port: u16| format!("0100007F:{port:04X}");
    let is_open = |seen: &&Seen| {
        let ends = [local(seen.client), local(seen.server)];
        lines.iter().any(|line| line.len() > 3 && line[1..3] == ends && ["01", "08"].contains(&line[3]))
    };
    seen.iter().filter(is_open).map(|seen| seen.server).collect()
}

async fn serve(mut stream: TcpStream, place: usize, book: &Book, state: &State) {
    let (sender, mut say) = mpsc::unbounded_channel();
    let (mut unread, mut piece) = (BytesMut::new(), vec![0; 65_536]);
    let mut packet_id = 0;
    loop {
        let mut answer = BytesMut::new();
        tokio::select! {
            length = stream.read(&mut piece) => {
                let Ok(length @ 1..) = length else { return };
                unread.extend_from_slice(&piece[..length]);
                while let Ok(packet) = Packet::read(&mut unread, 32 << 20) {
                    book.0.lock().unwrap()[place].packets.push((Instant::now(), packet.clone()));
                    if !respond(&packet, state, &sender, &mut answer) {
                        return;
                    }
                }
            }
            Some((topic, payload)) = say.recv() => {
                packet_id = packet_id % 60_000 + 1;
                book.0.lock().unwrap()[place].told.push((Instant::now(), topic.clone(), payload.clone()));
                let publish = Publish { dup: false, qos: QoS::AtLeastOnce, retain: false, topic, pkid: packet_id, payload: Bytes::from(payload) };
                Packet::Publish(publish).write(&mut answer, usize::MAX).unwrap();
            }
        }
        if stream.write_all(&answer).await.is_err() {
            return;
        }
    }
}

/// `false` when the connection is over.
fn respond(
    packet: &Packet,
    state: &State,
    client: &mpsc::UnboundedSender<(String, Vec<u8>)>,
    answer: &mut BytesMut,
) -> bool {
    let answers = match packet {
        Packet::Connect(_) if *state.refuses.lock().unwrap() => {
            Packet::ConnAck(ConnAck { session_present: false, code: ConnectReturnCode::ServiceUnavailable })
        }
        Packet::Connect(_) => {
            state.clients.lock().unwrap().push(client.clone());
            Packet::ConnAck(ConnAck { session_present: false, code: ConnectReturnCode::Success })
        }
        Packet::Subscribe(subscribe) => {
            let retained = state.retained.lock().unwrap();
            for filter in &subscribe.filters {
                if let Some(payload) = retained.get(&filter.path) {
                    client.send((filter.path.clone(), payload.clone())).unwrap();
                }
            }
            let codes = subscribe.filters.iter().map(|filter| SubscribeReasonCode::Success(filter.qos)).collect();
            Packet::SubAck(SubAck { pkid: subscribe.pkid, return_codes: codes })
        }
        Packet::Publish(publish) if publish.qos == QoS::AtLeastOnce => Packet::PubAck(PubAck { pkid: publish.pkid }),
        Packet::Unsubscribe(unsubscribe) => Packet::UnsubAck(UnsubAck { pkid: unsubscribe.pkid }),
        Packet::PingReq => Packet::PingResp,
        Packet::Disconnect => return false,
        _ => return true,
    };
    answers.write(answer, usize::MAX).unwrap();
    true
}

/// Until `expected` holds; the book says what was seen when it never does.
pub async fn until(book: &Book, what: &str, mut expected: impl FnMut(&[Seen]) -> bool) {
    let deadline = Instant::now() + super::PATIENCE;
    while !expected(&book.seen()) {
        assert!(Instant::now() < deadline, "{what} never came; seen: {:#?}", brief(&book.seen()));
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

fn brief(seen: &[Seen]) -> Vec<String> {
    let name = |packet: &Packet| match packet {
        Packet::Publish(publish) => publish.topic.clone(),
        other => format!("{other:?}").chars().take(60).collect(),
    };
    seen.iter()
        .map(|seen| {
            let packets: Vec<_> = seen.packets.iter().rev().take(12).rev().map(|(_, packet)| name(packet)).collect();
            format!("port {}, ended {}: {packets:?}", seen.server, seen.ended.is_some())
        })
        .collect()
}
