//! A door between a publisher and a broker: it can be shut and slammed, and writes down which messages the broker
//! acknowledged on the wire. What is on that list the broker has; what is not, it may have or not.

#![allow(dead_code)]

use bytes::BytesMut;
use rumqttc::{Packet, QoS};
use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, tcp::OwnedReadHalf, tcp::OwnedWriteHalf};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

pub struct Gate {
    pub port: u16,
    state: Arc<State>,
    task: JoinHandle<()>,
}

struct State {
    broker_port: u16,
    /// Cancelled to slam; `None` while shut.
    open: Mutex<Option<CancellationToken>>,
    wire: Mutex<Wire>,
}

/// What was seen.
#[derive(Default)]
struct Wire {
    /// Payload to number of PUBACKs.
    acknowledged: BTreeMap<Vec<u8>, u32>,
    /// QoS 1 PUBLISH packets.
    published: u64,
    connections: u64,
}

impl Gate {
    /// An open door to the broker at this port.
    pub async fn open_to(broker_port: u16) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let open = Mutex::new(Some(CancellationToken::new()));
        let state = Arc::new(State { broker_port, open, wire: Mutex::default() });
        let task = tokio::spawn(accept(listener, state.clone()));
        Self { port, state, task }
    }

    /// Cuts all connections, whatever they carry, and lets nobody in until [`Gate::open`].
    pub fn slam(&self) {
        if let Some(open) = self.state.open.lock().unwrap().take() {
            open.cancel();
        }
    }

    pub fn open(&self) {
        *self.state.open.lock().unwrap() = Some(CancellationToken::new());
    }

    /// Payloads the broker acknowledged, with how often.
    pub fn acknowledged(&self) -> BTreeMap<Vec<u8>, u32> {
        self.state.wire.lock().unwrap().acknowledged.clone()
    }

    pub fn has_acknowledged(&self, payload: &[u8]) -> bool {
        self.state.wire.lock().unwrap().acknowledged.contains_key(payload)
    }

    /// QoS 1 PUBLISH packets that came from the publisher.
    pub fn published(&self) -> u64 {
        self.state.wire.lock().unwrap().published
    }

    pub fn connections(&self) -> u64 {
        self.state.wire.lock().unwrap().connections
    }
}

impl Drop for Gate {
    fn drop(&mut self) {
        self.slam();
        self.task.abort();
    }
}

async fn accept(listener: TcpListener, state: Arc<State>) {
    loop {
        let (client, _) = listener.accept().await.unwrap();
        let Some(open) = state.open.lock().unwrap().clone() else { continue };
        let Ok(broker) = TcpStream::connect(("127.0.0.1", state.broker_port)).await else { continue };
        let state = state.clone();
        tokio::spawn(async move { open.run_until_cancelled(carry(client, broker, state)).await });
    }
}

/// Both directions of one connection; dropped half-way when the door is slammed.
async fn carry(client: TcpStream, broker: TcpStream, state: Arc<State>) {
    state.wire.lock().unwrap().connections += 1;
    let names: Mutex<HashMap<u16, Vec<u8>>> = Mutex::default();
    let (from_client, to_client) = client.into_split();
    let (from_broker, to_broker) = broker.into_split();
    let there = pass(from_client, to_broker, |packet| {
        if let Packet::Publish(publish) = packet
            && publish.qos == QoS::AtLeastOnce
        {
            names.lock().unwrap().insert(publish.pkid, publish.payload.to_vec());
            state.wire.lock().unwrap().published += 1;
        }
    });
    let back = pass(from_broker, to_client, |packet| {
        if let Packet::PubAck(ack) = packet {
            let payload = names.lock().unwrap().remove(&ack.pkid).expect("a PUBACK for a message on this connection");
            *state.wire.lock().unwrap().acknowledged.entry(payload).or_default() += 1;
        }
    });
    tokio::select! {
        () = there => {}
        () = back => {}
    }
}

/// Passes bytes on as they come, after reading the packets in them.
async fn pass(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, mut seen: impl FnMut(Packet)) {
    let (mut unread, mut piece) = (BytesMut::new(), vec![0; 4_096]);
    while let Ok(length @ 1..) = from.read(&mut piece).await {
        unread.extend_from_slice(&piece[..length]);
        while let Ok(packet) = Packet::read(&mut unread, 1 << 20) {
            seen(packet);
        }
        if to.write_all(&piece[..length]).await.is_err() {
            return;
        }
    }
}
