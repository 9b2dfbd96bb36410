//! A link: the task, what it hands out, and what it says about itself.

use crate::Clock;
use async_trait::async_trait;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;
use tally_model::{DeviceId, DeviceSpec, NoValue, Origin, PointId, PointSpec, Quality, Sample, Timestamp};
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

/// Batches that may wait for the agent before connectors slow down. At 1,000 samples a batch this is some 100,000
/// samples, half a second of the fastest plant we promise.
pub const SINK_BATCHES_MAX: usize = 128;

/// A connection to one endpoint, ready to run. One endpoint may carry several devices (Modbus units behind a gateway).
#[async_trait]
pub trait Link: Send {
    /// Where it connects to, for people (`modbus+tcp://10.0.0.7:502`); never with credentials.
    fn name(&self) -> String;

    /// The devices it reads.
    fn devices(&self) -> Vec<DeviceId>;

    /// Connects, reads, reconnects, until stopped. Never returns earlier.
    async fn run(self: Box<Self>, context: LinkContext);
}

/// What a link is given.
#[derive(Clone)]
pub struct LinkContext {
    /// Where batches go; bounded by [`SINK_BATCHES_MAX`].
    pub sink: mpsc::Sender<Batch>,
    /// Where the link says how it is doing.
    pub status: StatusReporter,
    /// Receive times come from here.
    pub clock: Arc<dyn Clock>,
    /// Cancelled when the agent stops.
    pub stop: CancellationToken,
    /// Where what devices had recorded during an outage goes; `None` when nobody wants it, and then nobody asks for it.
    /// A way of its own, because rules run on receive times that never fall: the past must not come in between.
    pub history: Option<mpsc::Sender<HistoricalBatch>>,
}

/// Samples of one device that arrived together (one poll cycle, one notification, one message).
#[derive(Debug, Clone, PartialEq)]
pub struct Batch {
    /// Which device.
    pub device: DeviceId,
    /// In the order in which they arrived.
    pub samples: Vec<Sample>,
    /// Over which link they came, and what the device called itself. `None`: nothing came, these are our own words about a device
    /// that cannot be heard.
    pub origin: Option<Arc<Origin>>,
}

/// Samples a device had recorded while we could not hear it, told afterwards. Each (point, source time) comes at most once,
/// and none of them came through [`LinkContext::sink`] before.
#[derive(Debug, Clone, PartialEq)]
pub struct HistoricalBatch {
    /// Which device.
    pub device: DeviceId,
    /// By point, and of each point in the order of their source times. `received` is when we were told.
    pub samples: Vec<Sample>,
}

/// The samples that say that no point of `device` can be read, all for the same reason.
#[must_use]
pub fn down_batch(device: &DeviceSpec, reason: NoValue, now: Timestamp) -> Batch {
    let samples = device.points.iter().map(|point| down_sample(point, reason, now));
    Batch { device: device.id.clone(), samples: samples.collect(), origin: None }
}

/// The sample that says that `point` has no value, and why.
#[must_use]
pub fn down_sample(point: &PointSpec, reason: NoValue, now: Timestamp) -> Sample {
    Sample {
        seal: None,
        point: point.id.clone(),
        outcome: Err(reason),
        unit: point.unit.clone(),
        quality: Quality::Bad,
        source_time: now,
        received: now,
    }
}

/// Why a link is not up, in the classes an engineer treats differently. The text says what was asked and what helps.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LinkFault {
    /// The line: no route, refused, reset, no answer.
    #[error("the line broke: {0}")]
    Line(String),
    /// The device answered and said no, for a reason that has no class of its own.
    #[error("the device said no: {0}")]
    Refused(String),
    /// The device does not know our user, or the password or certificate of that user is wrong.
    #[error("the device does not accept the login: {0}")]
    Credentials(String),
    /// The device has no room for us: sessions, subscriptions, memory.
    #[error("a limit of the device is hit: {0}")]
    Limit(String),
    /// The device does not trust our certificate; the text says what to do.
    #[error("it does not trust our certificate: {0}")]
    NotTrusted(String),
    /// The device's certificate is not trusted by us; the text says what to do.
    #[error("its certificate is not trusted: {0}")]
    Untrusted(String),
    /// The answer makes no sense.
    #[error("the answer makes no sense: {0}")]
    Nonsense(String),
}

impl LinkFault {
    /// One stable word for metrics and for programs that read a status.
    #[must_use]
    pub const fn class(&self) -> &'static str {
        match self {
            Self::Line(_) => "unreachable",
            Self::Refused(_) => "refused",
            Self::Credentials(_) => "bad-credentials",
            Self::Limit(_) => "limit-hit",
            Self::NotTrusted(_) => "we-are-not-trusted",
            Self::Untrusted(_) => "server-not-trusted",
            Self::Nonsense(_) => "nonsense",
        }
    }
}

/// The state of a link.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LinkState {
    /// Not tried yet, or trying.
    Connecting,
    /// Reading.
    Up {
        /// Since when.
        since: Timestamp,
    },
    /// Not connected; the next attempt comes by itself.
    Down {
        /// Why.
        fault: LinkFault,
        /// Time until the next attempt, counted from when this state was reported.
        retry_in: Duration,
    },
    /// Stopped on purpose.
    Stopped,
}

impl LinkState {
    /// Whether it is [`LinkState::Up`].
    #[must_use]
    pub const fn is_up(&self) -> bool {
        matches!(self, Self::Up { .. })
    }
}

impl fmt::Display for LinkState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Connecting => f.write_str("connecting"),
            Self::Up { since } => write!(f, "up since {since}"),
            Self::Down { fault, retry_in } => write!(f, "down: {fault}; next attempt in {retry_in:.1?}"),
            Self::Stopped => f.write_str("stopped"),
        }
    }
}

/// A link's state with its counters.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LinkStatus {
    /// What the link is doing.
    pub state: LinkState,
    /// Why it was down last, also after it came up again; `None` when it never was.
    pub last_fault: Option<LinkFault>,
    /// Failures of the whole link since start.
    pub faults: u64,
    /// Times the link came up since start.
    pub connects: u64,
    /// Poll cycles left out since start because the one before took too long: ask less, or less often.
    pub overruns: u64,
    /// Points whose value is not simply good, with the device's own word for it (`BadSensorFailure`).
    pub words: BTreeMap<(DeviceId, PointId), String>,
    /// What somebody should see to although values flow: a certificate about to end, for example.
    pub remark: Option<String>,
}

/// A link's mouth: remembers the state, counts, and logs the first failure and the recovery.
#[derive(Clone)]
pub struct StatusReporter {
    link: Arc<str>,
    sender: Arc<watch::Sender<LinkStatus>>,
}

impl StatusReporter {
    /// A reporter for the link called `link`, and where to listen to it.
    #[must_use]
    pub fn new(link: &str) -> (Self, watch::Receiver<LinkStatus>) {
        let (sender, receiver) = watch::channel(LinkStatus {
            state: LinkState::Connecting,
            last_fault: None,
            faults: 0,
            connects: 0,
            overruns: 0,
            words: BTreeMap::new(),
            remark: None,
        });
        (Self { link: link.into(), sender: Arc::new(sender) }, receiver)
    }

    /// The link is up.
    pub fn up(&self, now: Timestamp) {
        self.sender.send_modify(|status| {
            if status.faults > 0 || status.connects == 0 {
                tracing::info!(link = %self.link, faults = status.faults, "link is up");
            }
            status.connects += 1;
            status.state = LinkState::Up { since: now };
        });
    }

    /// The link is down and will try again.
    pub fn down(&self, fault: LinkFault, retry_in: Duration) {
        self.sender.send_modify(|status| {
            // An outage is logged once; the repeated attempts that fail the same way are only counted.
            if !matches!(&status.state, LinkState::Down { fault: last, .. } if *last == fault) {
                tracing::warn!(link = %self.link, %fault, "link is down, it reconnects by itself");
            }
            status.faults += 1;
            status.last_fault = Some(fault.clone());
            status.state = LinkState::Down { fault, retry_in };
        });
    }

    /// So many poll cycles were left out because the line was busy.
    pub fn overrun(&self, cycles: u64) {
        self.sender.send_modify(|status| {
            if status.overruns == 0 {
                tracing::warn!(link = %self.link, "a poll cycle took longer than its period; later ones are counted only");
            }
            status.overruns = status.overruns.saturating_add(cycles);
        });
    }

    /// What the device itself says about a point that is not simply good; `None` when it is good again.
    pub fn word(&self, device: &DeviceId, point: &PointId, word: Option<&str>) {
        self.sender.send_if_modified(|status| {
            let key = (device.clone(), point.clone());
            match word {
                Some(word) => status.words.insert(key, word.to_owned()).as_deref() != Some(word),
                None => status.words.remove(&key).is_some(),
            }
        });
    }

    /// What somebody should see to although values flow; `None` when there is nothing any more. Logging is the caller's.
    pub fn remark(&self, text: Option<String>) {
        self.sender.send_if_modified(|status| {
            let is_new = status.remark != text;
            status.remark = text;
            is_new
        });
    }

    /// The link was stopped on purpose.
    pub fn stopped(&self) {
        self.sender.send_modify(|status| status.state = LinkState::Stopped);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_reporter_counts_and_keeps_the_last_word() {
        let (reporter, listener) = StatusReporter::new("test");
        let fault = LinkFault::Line("connection refused".into());
        reporter.down(fault.clone(), Duration::from_secs(1));
        reporter.down(fault.clone(), Duration::from_secs(2));
        assert_eq!(listener.borrow().faults, 2);
        reporter.up(Timestamp::from_micros(5));
        assert_eq!(listener.borrow().last_fault, Some(fault), "what was wrong is still known");
        assert_eq!(listener.borrow().state, LinkState::Up { since: Timestamp::from_micros(5) });
        assert_eq!(listener.borrow().connects, 1);
    }
}
