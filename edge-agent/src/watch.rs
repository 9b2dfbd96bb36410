//! Step 5: every rule watches the readings of its device, and what it says is turned into a claim about readings.
//!
//! The same code runs over fresh readings and, after a restart, over those of the vault. What is already sealed then
//! only sets the rule's state; what was decided but not sealed when the agent died is decided again, from the same
//! readings, to the same effect (`docs/decisions/008-edge-agent.md`).

use crate::error::StoreError;
use crate::vault::{KeptReading, RECORDS_AT_ONCE, Vault};
use std::collections::{HashMap, HashSet};
use std::ops::RangeInclusive;
use std::sync::Arc;
use tally_evidence::{Hash, ReadingsClaim, Transition, decode_reading, root_of, sha256};
use tally_journal::Storage;
use tally_model::{DeviceId, DeviceSpec, Finding, Grade, PointId, Reading, Stretch, TriggerId};
use tally_rules::{Firing, Rule, Watch, findings, other_identity, with_known};

/// What is sealed already, for each trigger of each device: the deciding reading and which way.
pub type SealedBefore = HashMap<(DeviceId, TriggerId), Vec<(u64, Transition)>>;

/// A firing with the readings it stands on: ready to be sealed.
#[derive(Debug, Clone)]
pub struct Decided {
    /// Which rule.
    pub rule: Arc<Rule>,
    /// What it said.
    pub firing: Firing,
    /// The readings behind it.
    pub claim: ReadingsClaim,
    /// Vault records of the first and the last of these readings.
    pub places: (u64, u64),
    /// What the rule's checks found in them; `None` when it asks for none.
    pub quality: Option<Vec<Finding>>,
    /// Who sealed nearest the sensor: the least of all readings of the points that the rule reads.
    pub grade: Grade,
    /// Fingerprint of the mapping that the device is read by; `None` when nobody said which.
    pub mapping: Option<Hash>,
    /// Where the readings come from.
    pub origins: Vec<Stretch>,
}

/// The fingerprint of each device's address map ([`DeviceSpec::address_map`]): SHA-256.
#[must_use]
pub fn fingerprints(devices: &[DeviceSpec]) -> HashMap<DeviceId, Hash> {
    devices.iter().map(|device| (device.id.clone(), sha256(device.address_map().as_bytes()))).collect()
}

/// What became of a decided firing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// It is sealed.
    Sealed,
    /// There is no room: the rule goes back to where it was and is judged again at the next reading.
    NoRoom,
}

/// All rules of a plant.
#[derive(Default)]
pub struct Watches {
    devices: HashMap<DeviceId, DeviceWatch>,
    /// Of each device: by which mapping it is read.
    mappings: HashMap<DeviceId, Hash>,
    /// Firings that were not sealed because a point of their rule was never read: nobody could check them.
    unprovable: u64,
}

#[derive(Default)]
struct DeviceWatch {
    watches: Vec<Watch>,
    /// Every point that some rule reads or discloses.
    points: HashMap<PointId, Watched>,
}

#[derive(Default)]
struct Watched {
    /// Point number and number of its latest reading.
    latest: Option<(u64, u64)>,
    /// Number of its latest reading that the device did not seal itself; a reading without a value counts, too.
    unsealed: Option<u64>,
    /// Places in `watches` of the rules that read it or check it.
    readers: Vec<usize>,
}

impl Watches {
    /// Watches that know nothing yet.
    #[must_use]
    pub fn new(rules: &[Arc<Rule>]) -> Self {
        let mut watches = Self::default();
        for rule in rules {
            let device = watches.devices.entry(rule.source().device.clone()).or_default();
            let place = device.watches.len();
            device.watches.push(Watch::new(Arc::clone(rule)));
            let mut looks = rule.reads();
            looks.extend(rule.checked().cloned());
            for point in looks {
                device.points.entry(point).or_default().readers.push(place);
            }
            for point in rule.disclosed() {
                device.points.entry(point).or_default();
            }
        }
        watches
    }

    /// From now on the devices are read like this: each trigger carries the fingerprint of its device's address map.
    pub fn read_by(&mut self, mappings: HashMap<DeviceId, Hash>) {
        self.mappings = mappings;
    }

    /// From now on these rules. One that is as before keeps its window; a changed one begins anew, raised if it was raised, as
    /// after a restart. What is known of points stays.
    pub fn replace(&mut self, rules: &[Arc<Rule>]) {
        let mut old = std::mem::replace(self, Self::new(rules));
        self.unprovable = old.unprovable;
        self.mappings = std::mem::take(&mut old.mappings);
        for (id, device) in &mut self.devices {
            let Some(known) = old.devices.get_mut(id) else { continue };
            for watch in &mut device.watches {
                let same_name = |old: &Watch| old.rule().source().id == watch.rule().source().id;
                let Some(place) = known.watches.iter().position(same_name) else { continue };
                let before = known.watches.swap_remove(place);
                if before.rule().source() == watch.rule().source() {
                    *watch = before;
                } else {
                    watch.restore_raised(before.is_raised());
                }
            }
            for (point, watched) in &mut device.points {
                let known = known.points.get(point);
                watched.latest = known.and_then(|known| known.latest);
                watched.unsealed = known.and_then(|known| known.unsealed);
            }
        }
    }

    /// The devices that have rules.
    #[must_use]
    pub fn devices(&self) -> HashSet<DeviceId> {
        self.devices.keys().cloned().collect()
    }

    /// Sets every rule to what was sealed last before the readings that will be replayed.
    pub fn restore(&mut self, before: &SealedBefore, replays_from: impl Fn(&DeviceId) -> u64) {
        for (device, watched) in &mut self.devices {
            let from = replays_from(device);
            for watch in &mut watched.watches {
                let sealed = before.get(&(device.clone(), watch.rule().source().id.clone()));
                let last = sealed.into_iter().flatten().rfind(|(last, _)| *last < from);
                watch.restore_raised(last.is_some_and(|(_, transition)| *transition == Transition::Raised));
            }
        }
    }

    /// Takes in one reading. `before` is what is sealed already (empty while running); `is_open` says whether a firing
    /// may still have to be sealed. `seal` gets what is decided.
    ///
    /// # Errors
    /// Whatever the vault answers.
    pub fn observe<S: Storage>(
        &mut self,
        vault: &Vault<S>,
        kept: &KeptReading,
        place: u64,
        before: &SealedBefore,
        is_open: bool,
        seal: &mut dyn FnMut(Decided) -> Verdict,
    ) -> Result<(), StoreError> {
        let reading = &kept.reading;
        let Some(device) = self.devices.get_mut(&reading.device) else { return Ok(()) };
        let Some(point) = device.points.get_mut(&reading.sample.point) else { return Ok(()) };
        point.latest = Some((kept.point_number, reading.number));
        if reading.sample.seal.is_none() {
            point.unsealed = Some(reading.number);
        }
        // Looked up again, so that a claim can look at all points meanwhile.
        let readers =
            device.points.get(&reading.sample.point).map(|point| point.readers.as_slice()).unwrap_or_default();
        for reader in readers {
            let Some(watch) = device.watches.get_mut(*reader) else { continue };
            let fired = watch.observe(reading);
            if let Some(transition) = sealed_at(before, &reading.device, watch, reading.number) {
                force(watch, transition == Transition::Raised);
                continue;
            }
            let Some(firing) = fired else { continue };
            let was_raised = firing.transition == tally_rules::Transition::Cleared;
            let decided = if is_open { claim(vault, watch, &device.points, firing, kept, place)? } else { None };
            let verdict = match decided {
                Some(decided) => seal(Decided { mapping: self.mappings.get(&reading.device).copied(), ..decided }),
                None => {
                    self.unprovable += u64::from(is_open);
                    Verdict::NoRoom
                }
            };
            if verdict == Verdict::NoRoom {
                watch.restore_raised(was_raised);
            }
        }
        Ok(())
    }

    /// Tells the vault what no rule needs any more.
    pub fn release<S: Storage>(&self, vault: &mut Vault<S>) {
        for (id, device) in &self.devices {
            let rules = device.watches.iter().filter_map(Watch::first_needed);
            let shown = device.points.values().filter_map(|point| point.latest).map(|(_, number)| number);
            let needed = rules.chain(shown).min().unwrap_or_else(|| vault.next_number(id));
            vault.release(id, needed);
        }
    }

    /// Every watch, in no order.
    pub fn iter(&self) -> impl Iterator<Item = &Watch> {
        self.devices.values().flat_map(|device| &device.watches)
    }

    /// Firings that could not be sealed because a point of their rule was never read.
    #[must_use]
    pub fn unprovable(&self) -> u64 {
        self.unprovable
    }
}

fn sealed_at(before: &SealedBefore, device: &DeviceId, watch: &Watch, number: u64) -> Option<Transition> {
    if before.is_empty() {
        return None;
    }
    let sealed = before.get(&(device.clone(), watch.rule().source().id.clone()))?;
    sealed.iter().find(|(last, _)| *last == number).map(|(_, transition)| *transition)
}

/// Puts a rule where the sealed trigger left it. Going over "raised" also ends an on-delay that is running, as the
/// sealed transition did.
fn force(watch: &mut Watch, is_raised: bool) {
    watch.restore_raised(true);
    watch.restore_raised(is_raised);
}

/// The readings behind a firing. `None` when a point the rule reads was never read, so that nobody could check it.
///
/// The range begins at the latest reading of a shown point if that is older than what the rule looked at: a point that
/// is claimed must be shown.
fn claim<S: Storage>(
    vault: &Vault<S>,
    watch: &Watch,
    points: &HashMap<PointId, Watched>,
    firing: Firing,
    kept: &KeptReading,
    place: u64,
) -> Result<Option<Decided>, StoreError> {
    let (device, rule) = (&kept.reading.device, watch.rule());
    let latest = |point: &PointId| points.get(point).and_then(|watched| watched.latest);
    if rule.reads().iter().any(|point| latest(point).is_none()) {
        return Ok(None);
    }
    let shown: Vec<_> = rule.disclosed().into_iter().filter_map(|point| Some((latest(&point)?, point))).collect();
    let first = shown.iter().map(|((_, number), _)| *number).chain(watch.first_checked()).fold(firing.first, u64::min);
    let last = kept.reading.number;
    let leaves = match vault.leaves(device, first, last) {
        Ok(leaves) => leaves,
        Err(fault) if fault.is_passing() => {
            tracing::error!(trigger = %rule.source().id, %fault, "a trigger cannot be sealed, because its readings are gone");
            return Ok(None);
        }
        Err(fault) => return Err(fault),
    };
    let is_sealed = |point: &PointId| points.get(point).is_some_and(|watched| watched.unsealed < Some(first));
    let reads = rule.reads();
    let is_device_sealed = !reads.is_empty() && reads.iter().all(is_sealed);
    let grade = if is_device_sealed { Grade::Device } else { Grade::Agent };
    let origins = vault.origins(device, first, last);
    let other = other_identity(rule, &origins, last);
    let quality = truth(vault, watch, &firing, first..=last, (device, other))?;
    let points = shown.into_iter().map(|((point_number, _), point)| (point, point_number)).collect();
    let claim = ReadingsClaim { first, last, root: root_of(&leaves), head: kept.head, points };
    let places = (vault.place_before(device, first).unwrap_or(place), place);
    Ok(Some(Decided { rule: Arc::clone(rule), firing, claim, places, quality, mapping: None, origins, grade }))
}

/// Truth before the seal: what the rule's checks find in the readings that will be shown. They are read again from the vault, so
/// that it is exactly what a verifier finds, also when this watch is younger than the readings.
fn truth<S: Storage>(
    vault: &Vault<S>,
    watch: &Watch,
    firing: &Firing,
    numbers: RangeInclusive<u64>,
    (device, other): (&DeviceId, Option<Finding>),
) -> Result<Option<Vec<Finding>>, StoreError> {
    let rule = watch.rule();
    if rule.source().checks.is_none() {
        return Ok(None);
    }
    let shown = rule.disclosed();
    let mut readings: Vec<Reading> = Vec::new();
    let mut place = vault.place_before(device, *numbers.start()).unwrap_or_else(|| vault.first_place());
    while place < vault.next_place() {
        let (stored, next) = vault.read(device, place, numbers.clone(), RECORDS_AT_ONCE)?;
        for stored in stored {
            let decoded = decode_reading(device, &stored.bytes);
            let (reading, _) = decoded.map_err(|_| StoreError::Foreign { store: "vault", record: place })?;
            readings.extend(Some(reading).filter(|reading| shown.contains(&reading.sample.point)));
        }
        place = next;
    }
    let found = findings(rule, &readings, firing.at);
    let known = watch.known_findings(firing.at).into_iter().chain(other).collect();
    Ok(Some(with_known(found, known, *numbers.start())))
}
