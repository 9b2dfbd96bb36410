//! One device's hash chain, and the leaves that its rules may still need.

use super::record::{PointCount, Saved};
use std::collections::{HashMap, VecDeque};
use tally_evidence::{ChainHead, Hash, Salt, push_reading, reading_leaf, sha256_of};
use tally_model::{DeviceId, Origin, PointId, Reading, Sample, Stretch, Timestamp};
use zeroize::Zeroizing;

/// Leaves kept in memory for one device: 512 KiB. Older ones that a rule needs are made again from the journal.
const LEAVES_MAX: usize = 16_384;

/// Readings between two entries of the sparse index: at most this many are walked over to find one.
const ANCHOR_EVERY: u64 = 256;

/// A reading with everything the vault knows of it.
#[derive(Debug, Clone, PartialEq)]
pub struct KeptReading {
    /// The numbered reading.
    pub reading: Reading,
    /// Its number among the readings of its point.
    pub point_number: u64,
    /// Its salted leaf.
    pub leaf: Hash,
    /// Chain head after it.
    pub head: Hash,
}

pub(super) struct Chain {
    pub device: DeviceId,
    pub next: u64,
    pub head: ChainHead,
    /// Receive time of the latest reading.
    pub received: Timestamp,
    pub points: HashMap<PointId, PointCount>,
    /// Where readings come from, rising; the first one at or before what rules may look at, the last one holds now.
    origins: VecDeque<Stretch>,
    /// Secret of the vault and device id; a number behind it makes a salt.
    salt_input: Zeroizing<Vec<u8>>,
    /// `None` for devices without rules.
    window: Option<Window>,
}

/// What rules may still look at.
#[derive(Default)]
struct Window {
    /// Lowest number that is needed.
    needed: u64,
    /// Leaves up to the latest reading.
    leaves: VecDeque<Hash>,
    /// (reading number, journal record that holds it), rising; the first one at or before `needed`.
    anchors: VecDeque<(u64, u64)>,
}

impl Chain {
    pub fn start(device: &DeviceId, secret: &[u8; 32], is_watched: bool) -> Self {
        Self {
            device: device.clone(),
            next: 0,
            head: ChainHead::start(device),
            received: Timestamp::from_micros(i64::MIN),
            points: HashMap::new(),
            origins: VecDeque::new(),
            salt_input: Zeroizing::new([secret, device.as_str().as_bytes()].concat()),
            window: is_watched.then(Window::default),
        }
    }

    /// Salt = SHA-256(secret ‖ device ‖ number, eight bytes)[..16]: nobody can guess it, and it need not be stored.
    pub fn salt(&self, number: u64) -> Salt {
        let mut salt = Salt::default();
        salt.copy_from_slice(&sha256_of([self.salt_input.as_slice(), &number.to_le_bytes()])[..16]);
        salt
    }

    /// Numbers a sample, makes its receive time non-falling, and extends the chain. Its canonical bytes go to `bytes`.
    pub fn keep(&mut self, mut sample: Sample, bytes: &mut Vec<u8>) -> KeptReading {
        sample.received = sample.received.max(self.received);
        let number = self.next;
        let point_number = self.count(&sample.point, number);
        bytes.clear();
        push_reading(bytes, number, point_number, &sample);
        let leaf = reading_leaf(&self.salt(number), bytes);
        let reading = Reading { device: self.device.clone(), number, sample };
        self.extend(reading.sample.received, leaf);
        KeptReading { reading, point_number, leaf, head: self.head.0 }
    }

    /// From the next reading on they come from there; `None` when that is known.
    pub fn comes_from(&mut self, origin: &Origin) -> Option<Stretch> {
        if self.origins.back().is_some_and(|known| known.origin == *origin) {
            return None;
        }
        let stretch = Stretch { from: self.next, origin: origin.clone() };
        self.follow_origin(stretch.clone());
        Some(stretch)
    }

    /// What the device called itself last.
    pub fn identity(&self) -> Option<&str> {
        self.origins.iter().rev().find_map(|stretch| stretch.origin.identity.as_deref())
    }

    /// What a record says of where readings come from.
    pub fn follow_origin(&mut self, stretch: Stretch) {
        // The record is there, the readings behind it were lost in a power cut: others came over another link.
        while self.origins.back().is_some_and(|known| known.from >= stretch.from) {
            self.origins.pop_back();
        }
        self.origins.push_back(stretch);
        self.forget_origins();
    }

    fn forget_origins(&mut self) {
        let needed = self.window.as_ref().map_or(self.next, |window| window.needed);
        while self.origins.get(1).is_some_and(|next| next.from <= needed) {
            self.origins.pop_front();
        }
    }

    /// Where readings `first..=last` come from, in the form in which triggers say it.
    pub fn origins(&self, first: u64, last: u64) -> Vec<Stretch> {
        let behind = self.origins.partition_point(|stretch| stretch.from <= first).saturating_sub(1);
        let among = self.origins.range(behind..).take_while(|stretch| stretch.from <= last);
        let mut found: Vec<Stretch> =
            among.map(|stretch| Stretch { from: stretch.from.max(first), ..stretch.clone() }).collect();
        found.dedup_by(|next, one| next.origin == one.origin);
        found
    }

    /// The number that the reading gets among those of its point.
    fn count(&mut self, point: &PointId, latest: u64) -> u64 {
        match self.points.get_mut(point) {
            Some(known) => {
                let number = known.next;
                *known = PointCount { next: number + 1, latest };
                number
            }
            None => {
                self.points.insert(point.clone(), PointCount { next: 1, latest });
                0
            }
        }
    }

    fn extend(&mut self, received: Timestamp, leaf: Hash) {
        self.received = received;
        self.head = self.head.extend(&leaf);
        self.next += 1;
        if let Some(window) = &mut self.window {
            window.push(leaf);
        }
    }

    /// A reading found on disk again, behind all that is known.
    pub fn follow(&mut self, reading: Reading, point_number: u64, leaf: Hash) -> KeptReading {
        let count = PointCount { next: point_number + 1, latest: self.next };
        self.points.insert(reading.sample.point.clone(), count);
        self.extend(reading.sample.received, leaf);
        KeptReading { reading, point_number, leaf, head: self.head.0 }
    }

    /// Takes over what a snapshot says; the window stays.
    pub fn restore(&mut self, saved: Saved) {
        self.next = saved.next;
        self.head = saved.head;
        self.received = saved.received;
        self.points = saved.points;
        self.origins = saved.origins.into();
    }

    /// Says that readings from `next` on lie in journal record `place`.
    pub fn anchor(&mut self, place: u64) {
        let next = self.next;
        let Some(window) = &mut self.window else { return };
        if window.anchors.back().is_none_or(|(number, _)| next >= number + ANCHOR_EVERY) {
            window.anchors.push_back((next, place));
        }
    }

    /// Whether rules look at it from now on.
    pub fn watch(&mut self, is_watched: bool) {
        match (&self.window, is_watched) {
            (None, true) => self.window = Some(Window { needed: self.next, ..Window::default() }),
            (Some(_), false) => self.window = None,
            _ => {}
        }
    }

    /// Rules need nothing before `number` any more.
    pub fn release(&mut self, number: u64) {
        let next = self.next;
        let Some(window) = &mut self.window else { return };
        window.needed = number.max(window.needed);
        let superfluous = window.first_leaf(next).map_or(0, |first| window.needed.saturating_sub(first));
        window.leaves.drain(..usize::try_from(superfluous).unwrap_or(usize::MAX).min(window.leaves.len()));
        while window.anchors.get(1).is_some_and(|(number, _)| *number <= window.needed) {
            window.anchors.pop_front();
        }
        self.forget_origins();
    }

    /// The lowest reading number a rule may need, and a journal record at or before it.
    pub fn needed(&self) -> Option<(u64, u64)> {
        let window = self.window.as_ref()?;
        let (number, place) = window.anchors.front()?;
        (self.next > window.needed).then_some((window.needed.max(*number), *place))
    }

    /// Leaves `first..=last` from memory; `None` when some are only on disk.
    pub fn leaves(&self, first: u64, last: u64) -> Option<Vec<Hash>> {
        let window = self.window.as_ref()?;
        let from = first.checked_sub(window.first_leaf(self.next)?)?;
        let (from, until) = (usize::try_from(from).ok()?, usize::try_from(last.checked_sub(first)?).ok()?);
        let until = from.checked_add(until)?.checked_add(1)?;
        (until <= window.leaves.len()).then(|| window.leaves.range(from..until).copied().collect())
    }

    /// A journal record at or before the one that holds reading `number`.
    pub fn place_before(&self, number: u64) -> Option<u64> {
        let anchors = &self.window.as_ref()?.anchors;
        let behind = anchors.partition_point(|(anchored, _)| *anchored <= number);
        anchors.get(behind.checked_sub(1)?).map(|(_, place)| *place)
    }

    pub fn save(&self) -> Saved {
        Saved {
            device: self.device.clone(),
            next: self.next,
            head: self.head,
            received: self.received,
            needed: self.needed(),
            points: self.points.clone(),
            origins: self.origins.iter().cloned().collect(),
        }
    }
}

impl Window {
    fn push(&mut self, leaf: Hash) {
        if self.leaves.len() == LEAVES_MAX {
            self.leaves.pop_front();
        }
        self.leaves.push_back(leaf);
    }

    /// Number of the first leaf in memory, given the number behind the last one.
    fn first_leaf(&self, next: u64) -> Option<u64> {
        next.checked_sub(self.leaves.len() as u64)
    }
}
