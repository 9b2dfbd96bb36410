//! The agent's ear at SCADA's broker: what others publish on some topics, for as long as the connection lasts.
//!
//! Commands are for now or not at all, so we connect with CleanSession 1 (`[MQTT-3.1.2-6]`): what was said while nobody
//! listened is gone. A broker that had a message retained says so in its flag (`[MQTT-3.3.1-8]`), and [`Heard`] passes it
//! on. Whoever is slow to take what was heard makes the broker wait, not us keep more.

use crate::config::Login;
use crate::publish::PAYLOAD_BYTES_MAX;
use crate::wire::{self, Broken, Client, Event, EventLoop, Publish, QoS, Receipt, Setup};
use std::time::Duration;
use tally_connector_api::{Backoff, Clock, LinkFault, StatusReporter, SystemClock};
use tally_model::{MqttBroker, Secret, Tls};
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;

/// Messages that may wait for whoever takes them.
const HEARD_MAX: usize = 16;
/// Subscriptions, acknowledgements and a DISCONNECT.
const REQUESTS_MAX: usize = 1_024;
/// A broker that does not answer our subscriptions within this time is no use.
const SUBSCRIBE_TIME_MAX: Duration = Duration::from_secs(10);
/// A connection that lasted this long was a good one: the next outage starts with a short back-off again.
const GOOD_CONNECTION_MIN: Duration = Duration::from_secs(10);

/// Where to listen, and for what.
#[derive(Clone)]
pub struct HearingConfig {
    /// Where the broker is.
    pub broker: MqttBroker,
    /// Certificates, when the connection is TLS.
    pub tls: Tls,
    /// Our name at the broker; unique there (`[MQTT-3.1.4-2]`).
    pub client_id: String,
    /// User name; anonymous without one.
    pub user: Option<String>,
    /// Password of `user`.
    pub password: Option<Secret>,
    /// Topic filters, with wildcards; subscribed with QoS 1.
    pub filters: Vec<String>,
}

/// A message that somebody published.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Heard {
    /// Where.
    pub topic: String,
    /// What, at most 256 KiB.
    pub payload: Vec<u8>,
    /// Whether the broker had kept it from earlier: then it was not said now.
    pub is_retained: bool,
}

/// Starts the task that owns the connection; it connects and reconnects until `stop` is cancelled. Must be called inside a
/// tokio runtime.
#[must_use]
pub fn hear(config: HearingConfig, stop: CancellationToken, status: StatusReporter) -> mpsc::Receiver<Heard> {
    let (heard, taken) = mpsc::channel(HEARD_MAX);
    let ear = Ear { config, heard, status, clock: SystemClock::default(), backoff: Backoff::for_links() };
    tokio::spawn(async move {
        let status = ear.status.clone();
        stop.run_until_cancelled(ear.listen()).await;
        status.stopped();
    });
    taken
}

struct Ear {
    config: HearingConfig,
    heard: mpsc::Sender<Heard>,
    status: StatusReporter,
    clock: SystemClock,
    backoff: Backoff,
}

impl Ear {
    /// Ends when nobody takes what is heard.
    async fn listen(mut self) {
        while !self.heard.is_closed() {
            let begun = Instant::now();
            let fault = self.connection().await;
            if begun.elapsed() >= GOOD_CONNECTION_MIN {
                self.backoff.reset();
            }
            let delay = self.backoff.next_delay();
            self.status.down(fault, delay);
            tokio::time::sleep(delay).await;
        }
    }

    async fn connection(&mut self) -> LinkFault {
        let config = &self.config;
        let login =
            Login::new(&config.broker, &config.tls, &config.client_id, config.user.clone(), config.password.clone());
        let setup = Setup { login, clean: true, will: None, incoming_bytes_max: PAYLOAD_BYTES_MAX + (64 << 10) };
        let (client, mut event_loop) = wire::open(setup, REQUESTS_MAX);
        match timeout(SUBSCRIBE_TIME_MAX, self.subscribe(&client, &mut event_loop)).await {
            Ok(Ok(())) => self.status.up(self.clock.now()),
            Ok(Err(fault)) => return fault,
            Err(_) => {
                let text = format!("the broker did not answer our subscriptions within {SUBSCRIBE_TIME_MAX:?}");
                return LinkFault::Line(text);
            }
        }
        loop {
            match event_loop.poll().await {
                Ok(Event::Message(publish)) => {
                    if let Err(fault) = self.pass_on(publish, &client).await {
                        return fault;
                    }
                }
                Ok(_) => {}
                Err(Broken { fault, .. }) => return fault,
            }
        }
    }

    /// Until the broker granted all filters. A retained message may come before its SUBACK.
    async fn subscribe(&self, client: &Client, event_loop: &mut EventLoop) -> Result<(), LinkFault> {
        loop {
            match event_loop.poll().await.map_err(|Broken { fault, .. }| fault)? {
                Event::Connected { .. } => {
                    let filters = self.config.filters.iter().map(|filter| (filter.clone(), QoS::AtLeastOnce)).collect();
                    client.subscribe(filters).map_err(line)?;
                }
                Event::Subscribed { granted, .. } => {
                    let refused = granted.into_iter().find_map(Result::err);
                    let refuse =
                        |reason| Err(LinkFault::Refused(format!("the broker refused our subscriptions: {reason}")));
                    return refused.map_or(Ok(()), refuse);
                }
                Event::Message(publish) => self.pass_on(publish, client).await?,
                _ => {}
            }
        }
    }

    /// Acknowledged once it is taken.
    async fn pass_on(&self, publish: Publish, client: &Client) -> Result<(), LinkFault> {
        let Publish { topic, payload, qos, retain, packet_id } = publish;
        let heard = Heard { topic, payload: payload.to_vec(), is_retained: retain };
        // Nobody takes it any more: we are being stopped.
        let _ = self.heard.send(heard).await;
        if qos == QoS::AtMostOnce {
            return Ok(());
        }
        client.acknowledge(Receipt { packet_id, qos }).map_err(line)
    }
}

fn line(fault: impl std::fmt::Display) -> LinkFault {
    LinkFault::Line(fault.to_string())
}
