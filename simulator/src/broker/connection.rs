//! One client: bytes ↔ packets ↔ the hub (MQTT 3.1.1).

use super::PACKET_BYTES_MAX;
use super::hub::{Hub, Line, Message};
use super::topic::{is_filter, is_name};
use bytes::BytesMut;
use rumqttc::mqttbytes::Error;
use rumqttc::{
    ConnAck, Connect, ConnectReturnCode, LastWill, Packet, PubAck, PubComp, PubRec, Publish, QoS, SubAck, Subscribe,
    SubscribeReasonCode, UnsubAck,
};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::Instant;

/// A client that says nothing at first is cut off.
const FIRST_PACKET_TIME_MAX: Duration = Duration::from_secs(5);
/// Written out at a time; more is fetched from the hub when this much has left.
const OUT_BYTES_MAX: usize = 64 << 10;
/// "Unsupported Protocol Version" to a client of MQTT 5, in its own words (MQTT 5.0 §3.2.2.2).
const REFUSED_V5: [u8; 5] = [0x20, 3, 0, 0x84, 0];

/// Why a connection ends.
#[derive(Debug, thiserror::Error)]
enum End {
    #[error("it said goodbye")]
    Goodbye,
    #[error("it closed the connection")]
    Closed,
    #[error("it was silent for too long")]
    Silent,
    #[error("it connected anew, or fell too far behind")]
    Cut,
    #[error("it speaks MQTT {0}; this broker speaks 3.1.1")]
    Version(u8),
    #[error("it sent what the standard forbids: {0}")]
    Forbidden(&'static str),
    #[error("it sent what is no packet: {0}")]
    Malformed(#[from] Error),
    #[error(transparent)]
    Line(#[from] std::io::Error),
}

/// Serves a client until its end.
pub(super) async fn serve(stream: TcpStream, hub: Arc<Hub>) {
    let mut wire = Wire { stream, incoming: BytesMut::new(), outgoing: BytesMut::new() };
    let connect = match tokio::time::timeout(FIRST_PACKET_TIME_MAX, wire.connect()).await {
        Ok(Ok(connect)) => connect,
        Ok(Err(end)) => return tracing::debug!(%end, "the broker refused a client"),
        Err(_) => return tracing::debug!("the broker cut off a client that said nothing"),
    };
    let Some(client) = name(&connect) else {
        return wire.refuse(ConnectReturnCode::BadClientId).await;
    };
    let Ok((line, was_there)) = hub.open(&client, connect.clean_session) else {
        return wire.refuse(ConnectReturnCode::ServiceUnavailable).await;
    };
    // Dropped even when a packet makes the parser panic: the hub must not wait for a dead line.
    let seat = Seat { hub, client, line };
    let client = Client { seat: &seat, keep_alive: keep_alive(&connect), heard: Instant::now() };
    let end = match wire.put(&Packet::ConnAck(ConnAck::new(ConnectReturnCode::Success, was_there))) {
        Ok(()) => client.run(&mut wire).await,
        Err(end) => end,
    };
    tracing::debug!(client = seat.client, %end, "a client of the broker is gone");
    if let (false, Some(will)) = (matches!(end, End::Goodbye), connect.last_will) {
        seat.tell(will);
    }
}

/// Its own name, or one from us for a client that wants none and leaves nothing behind (§3.1.3.1).
fn name(connect: &Connect) -> Option<String> {
    static NAMELESS: AtomicU64 = AtomicU64::new(0);
    match (connect.client_id.as_str(), connect.clean_session) {
        ("", false) => None,
        ("", true) => Some(format!("nameless-{}", NAMELESS.fetch_add(1, Ordering::Relaxed))),
        (id, _) => Some(id.to_owned()),
    }
}

/// One and a half times what it promised (§3.1.2.10).
fn keep_alive(connect: &Connect) -> Option<Duration> {
    (connect.keep_alive > 0).then(|| Duration::from_millis(u64::from(connect.keep_alive) * 1_500))
}

/// A client's place at the hub.
struct Seat {
    hub: Arc<Hub>,
    client: String,
    line: Line,
}

impl Seat {
    fn tell(&self, will: LastWill) {
        if is_name(&will.topic) {
            let LastWill { topic, message, qos, retain } = will;
            self.hub.publish(&Message { topic: topic.into(), payload: message, qos, retain });
        }
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.hub.close(&self.client, &self.line);
    }
}

struct Wire {
    stream: TcpStream,
    incoming: BytesMut,
    outgoing: BytesMut,
}

impl Wire {
    fn put(&mut self, packet: &Packet) -> Result<(), End> {
        packet.write(&mut self.outgoing, usize::MAX)?;
        Ok(())
    }

    /// A packet, when all of it is there.
    fn take(&mut self) -> Result<Option<Packet>, End> {
        match Packet::read(&mut self.incoming, PACKET_BYTES_MAX) {
            Ok(packet) => Ok(Some(packet)),
            Err(Error::InsufficientBytes(_)) => Ok(None),
            Err(fault) => Err(fault.into()),
        }
    }

    /// The first packet.
    async fn connect(&mut self) -> Result<Connect, End> {
        loop {
            if let Some(level) = level(&self.incoming).filter(|level| *level != 4) {
                let refused: &[u8] = if level == 5 { &REFUSED_V5 } else { &[0x20, 2, 0, 1] };
                self.stream.write_all(refused).await?;
                return Err(End::Version(level));
            }
            match self.take()? {
                Some(Packet::Connect(connect)) => return Ok(connect),
                Some(_) => return Err(End::Forbidden("something before CONNECT")),
                None => {}
            }
            if self.stream.read_buf(&mut self.incoming).await? == 0 {
                return Err(End::Closed);
            }
        }
    }

    async fn refuse(mut self, code: ConnectReturnCode) {
        tracing::debug!(?code, "the broker refused a client");
        if self.put(&Packet::ConnAck(ConnAck::new(code, false))).is_ok() {
            // It is told as far as it listens.
            let _ = tokio::time::timeout(FIRST_PACKET_TIME_MAX, self.stream.write_all(&self.outgoing)).await;
        }
    }
}

/// The protocol level of a CONNECT, as soon as it is there (§3.1.2.2): the rest is laid out by it.
fn level(bytes: &[u8]) -> Option<u8> {
    let length = 1 + bytes.get(1..5)?.iter().position(|byte| byte & 0x80 == 0)?;
    let name = bytes.get(1 + length..)?;
    (bytes[0] == 0x10 && name.starts_with(b"\0\x04MQTT")).then(|| name.get(6).copied()).flatten()
}

struct Client<'a> {
    seat: &'a Seat,
    keep_alive: Option<Duration>,
    heard: Instant,
}

impl Client<'_> {
    async fn run(mut self, wire: &mut Wire) -> End {
        loop {
            if let Err(end) = self.step(wire).await {
                return end;
            }
        }
    }

    /// Reads and writes at the same time: a client may send while it does not listen.
    async fn step(&mut self, wire: &mut Wire) -> Result<(), End> {
        self.fetch(wire)?;
        let Wire { stream, incoming, outgoing } = wire;
        let (mut reader, mut writer) = stream.split();
        let line = &self.seat.line;
        let silent =
            self.keep_alive.map_or_else(|| Instant::now() + Duration::from_secs(3_600), |time| self.heard + time);
        tokio::select! {
            () = line.cut.cancelled() => return Err(End::Cut),
            () = line.wake.notified(), if outgoing.is_empty() => {}
            written = writer.write_buf(outgoing), if !outgoing.is_empty() => { written?; }
            // Answers that it does not take make it wait.
            read = reader.read_buf(incoming), if outgoing.len() < 4 * OUT_BYTES_MAX => {
                if read? == 0 {
                    return Err(End::Closed);
                }
                self.heard = Instant::now();
            }
            () = tokio::time::sleep_until(silent), if self.keep_alive.is_some() => return Err(End::Silent),
        }
        while let Some(packet) = wire.take()? {
            self.take(packet, wire)?;
        }
        Ok(())
    }

    /// From the hub, as much as should be on its way.
    fn fetch(&self, wire: &mut Wire) -> Result<(), End> {
        while wire.outgoing.len() < OUT_BYTES_MAX {
            let Some(packet) = self.seat.hub.next(&self.seat.client, &self.seat.line) else { break };
            wire.put(&Packet::Publish(packet))?;
        }
        Ok(())
    }

    fn take(&self, packet: Packet, wire: &mut Wire) -> Result<(), End> {
        let Seat { hub, client, .. } = self.seat;
        match packet {
            Packet::Publish(publish) => self.publish(publish, wire),
            Packet::PubAck(PubAck { pkid }) => {
                hub.acknowledge(client, pkid);
                Ok(())
            }
            Packet::PubRel(release) => {
                hub.release(client, release.pkid);
                wire.put(&Packet::PubComp(PubComp::new(release.pkid)))
            }
            Packet::Subscribe(subscribe) => self.subscribe(&subscribe, wire),
            Packet::Unsubscribe(unsubscribe) => {
                unsubscribe.topics.iter().for_each(|filter| hub.unsubscribe(client, filter));
                wire.put(&Packet::UnsubAck(UnsubAck::new(unsubscribe.pkid)))
            }
            Packet::PingReq => wire.put(&Packet::PingResp),
            Packet::Disconnect => Err(End::Goodbye),
            Packet::Connect(_) => Err(End::Forbidden("a second CONNECT")),
            // We send no QoS 2, so there is nothing to answer; the others are ours to send.
            _ => Err(End::Forbidden("a packet that only a server sends, or an answer to none of ours")),
        }
    }

    fn publish(&self, publish: Publish, wire: &mut Wire) -> Result<(), End> {
        let Publish { qos, retain, topic, pkid, payload, .. } = publish;
        if !is_name(&topic) {
            return Err(End::Forbidden("a topic that is empty or has wildcards"));
        }
        let message = Message { topic: topic.into(), payload, qos, retain };
        let Seat { hub, client, .. } = self.seat;
        if qos != QoS::ExactlyOnce || hub.is_new(client, pkid) {
            hub.publish(&message);
        }
        match qos {
            QoS::AtMostOnce => Ok(()),
            QoS::AtLeastOnce => wire.put(&Packet::PubAck(PubAck::new(pkid))),
            QoS::ExactlyOnce => wire.put(&Packet::PubRec(PubRec::new(pkid))),
        }
    }

    fn subscribe(&self, subscribe: &Subscribe, wire: &mut Wire) -> Result<(), End> {
        let Seat { hub, client, .. } = self.seat;
        // The answer goes out before what was retained: `fetch` comes after this packet.
        let codes = subscribe.filters.iter().map(|filter| match is_filter(&filter.path) {
            true => SubscribeReasonCode::Success(hub.subscribe(client, &filter.path, filter.qos)),
            false => SubscribeReasonCode::Failure,
        });
        wire.put(&Packet::SubAck(SubAck::new(subscribe.pkid, codes.collect())))
    }
}
