//! A subscriber that is not ours: plain rumqttc, reconnecting, writing down what it hears.

#![allow(dead_code)]

use rumqttc::{AsyncClient, Event, MqttOptions, Packet, QoS};
use std::collections::{BTreeMap, HashSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// Topic and payload, in the order of arrival.
type Heard = Arc<Mutex<Vec<(String, Vec<u8>)>>>;

pub struct Listener {
    heard: Heard,
    subscribed: watch::Receiver<u64>,
    task: JoinHandle<()>,
}

impl Listener {
    pub async fn start(port: u16, filter: &str) -> Self {
        let heard = Heard::default();
        let (tell, subscribed) = watch::channel(0);
        let task = tokio::spawn(listen(port, filter.to_owned(), heard.clone(), tell));
        let mut new = Self { heard, subscribed, task };
        new.until_subscribed(1).await;
        new
    }

    /// Until it subscribed for the n-th time.
    pub async fn until_subscribed(&mut self, times: u64) {
        let waiting = self.subscribed.wait_for(|seen| *seen >= times);
        tokio::time::timeout(super::PATIENCE, waiting).await.expect("subscribed in time").unwrap();
    }

    pub fn times_subscribed(&self) -> u64 {
        *self.subscribed.borrow()
    }

    /// Topic and payload, in the order of arrival.
    pub fn heard(&self) -> Vec<(String, Vec<u8>)> {
        self.heard.lock().unwrap().clone()
    }

    /// Payload to number of times.
    pub fn counts(&self) -> BTreeMap<Vec<u8>, u32> {
        let mut counts = BTreeMap::new();
        for (_, payload) in self.heard() {
            *counts.entry(payload).or_default() += 1;
        }
        counts
    }

    /// Until so many different payloads were heard, however often each.
    pub async fn until_heard_all(&self, payloads: usize) {
        self.until_heard(|heard| {
            let is_enough = || heard.iter().map(|(_, payload)| payload).collect::<HashSet<_>>().len() >= payloads;
            heard.len() >= payloads && is_enough()
        })
        .await;
    }

    pub async fn until_heard(&self, mut expected: impl FnMut(&[(String, Vec<u8>)]) -> bool) {
        let deadline = tokio::time::Instant::now() + super::PATIENCE;
        while !expected(&self.heard.lock().unwrap()) {
            assert!(tokio::time::Instant::now() < deadline, "not heard; last was {:?}", self.heard().last());
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn listen(port: u16, filter: String, heard: Heard, tell: watch::Sender<u64>) {
    loop {
        let mut options = MqttOptions::new(format!("listener-{port}-{}", filter.len()), "127.0.0.1", port);
        options.set_max_packet_size(1 << 20, 1 << 20);
        let (client, mut events) = AsyncClient::new(options, 10);
        // QoS 0, so that it never writes: an acknowledgement to a killed broker fails, and with it everything that is
        // still unread in the socket would be thrown away.
        client.try_subscribe(&filter, QoS::AtMostOnce).unwrap();
        while let Ok(event) = events.poll().await {
            match event {
                Event::Incoming(Packet::SubAck(_)) => tell.send_modify(|times| *times += 1),
                Event::Incoming(Packet::Publish(publish)) => {
                    heard.lock().unwrap().push((publish.topic, publish.payload.to_vec()));
                }
                _ => {}
            }
        }
        // What was read before the connection broke.
        for event in std::mem::take(&mut events.state.events) {
            if let Event::Incoming(Packet::Publish(publish)) = event {
                heard.lock().unwrap().push((publish.topic, publish.payload.to_vec()));
            }
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}
