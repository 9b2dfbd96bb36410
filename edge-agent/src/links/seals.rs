//! The keys of devices that seal their payloads themselves, and which of their messages was taken last.
//!
//! What was taken last is found again in the vault after a restart: the messages stand in the readings. A message counts for `age` only,
//! so the readings of so long ago are enough, and no store of its own is needed. What a power cut took out of the vault was never taken.

use super::{LinkError, Made};
use crate::error::StoreError;
use crate::status::Status;
use crate::vault::{Contents, RECORDS_AT_ONCE, Vault};
use std::collections::HashMap;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;
use tally_connector_api::OpenSeal;
use tally_evidence::{Hash, OpenedSeal, SealForm, VerifyingKey, sha256};
use tally_journal::Storage;
use tally_model::{DeviceId, DeviceSpec, SealedAs, SealedPayloads, Timestamp};

/// How far a device's clock may be ahead of ours.
const AHEAD_MAX: Duration = Duration::from_secs(5);

/// All devices of a link that seal.
pub(crate) struct Seals {
    devices: HashMap<DeviceId, Sealing>,
    /// What it shares with others, once the link runs.
    shared: OnceLock<Shared>,
}

/// What links share, and what outlives them.
struct Shared {
    /// Where what is turned away is counted.
    status: Arc<Status>,
    taken: Arc<Taken>,
}

/// The latest message of each device that was taken: its number and digest. A link that is made anew goes on from there.
#[derive(Default)]
pub struct Taken(Mutex<HashMap<DeviceId, (u64, Hash)>>);

impl Taken {
    fn last(&self, device: &DeviceId) -> Option<(u64, Hash)> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get(device).copied()
    }

    /// The highest number counts, in whatever order they are told.
    fn note(&self, device: &DeviceId, seq: u64, digest: Hash) {
        let mut taken = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let known = taken.entry(device.clone()).or_insert((seq, digest));
        if known.0 < seq {
            *known = (seq, digest);
        }
    }

    /// Finds in the vault what was taken before the agent stopped: in the readings that are young enough for their messages to count
    /// again. `now`: by the clock that receive times are from.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn recall<S: Storage>(&self, vault: &Vault<S>, links: &[Made], now: Timestamp) -> Result<(), StoreError> {
        let sealing: HashMap<_, _> =
            links.iter().filter_map(|made| made.seals.as_ref()).flat_map(|seals| &seals.devices).collect();
        let Some(age) = sealing.values().map(|sealing| sealing.setting.age_max).max() else { return Ok(()) };
        let since = now.minus(age).minus(AHEAD_MAX);
        let mut end = vault.next_place();
        while end > vault.first_place() {
            let begin = end.saturating_sub(RECORDS_AT_ONCE as u64).max(vault.first_place());
            let is_old = self.recall_some(vault, &sealing, begin..end)?.is_some_and(|oldest| oldest < since);
            if is_old {
                break;
            }
            end = begin;
        }
        Ok(())
    }

    /// Looks into some records; gives the receive time of the first reading there.
    fn recall_some<S: Storage>(
        &self,
        vault: &Vault<S>,
        sealing: &HashMap<&DeviceId, &Sealing>,
        records: Range<u64>,
    ) -> Result<Option<Timestamp>, StoreError> {
        let (mut place, mut oldest) = (records.start, None);
        while place < records.end {
            let (batches, next) = vault.batches_from(place, usize::MAX)?;
            for batch in batches.iter().filter(|batch| batch.place < records.end) {
                let (device, Contents::Readings(readings)) = batch.decode()? else { continue };
                oldest = oldest.or_else(|| readings.first().map(|reading| reading.sample.received));
                let Some(sealing) = sealing.get(&device) else { continue };
                let mut messages: Vec<_> = readings.iter().filter_map(|reading| reading.sample.seal.as_ref()).collect();
                messages.dedup();
                for message in messages {
                    // One that another key sealed cannot come again.
                    if let Ok(opened) = OpenedSeal::open(message, &sealing.key) {
                        self.note(&device, opened.seq, sha256(message));
                    }
                }
            }
            place = next.max(place + 1);
        }
        Ok(oldest)
    }
}

struct Sealing {
    key: VerifyingKey,
    setting: SealedPayloads,
    /// A message was turned away, which was logged once until one is taken again.
    complained: AtomicBool,
}

impl Seals {
    /// Reads the keys; `None` when no device seals.
    ///
    /// # Errors
    /// [`LinkError::DeviceKey`].
    pub(crate) fn read(devices: &[DeviceSpec]) -> Result<Option<Arc<Self>>, LinkError> {
        let mut sealing = HashMap::new();
        for device in devices {
            let Some(setting) = device.mqtt.sealed.clone() else { continue };
            let fault =
                |why: String| LinkError::DeviceKey { device: device.id.clone(), file: setting.key.clone(), why };
            let pem = std::fs::read_to_string(&setting.key).map_err(|why| fault(why.to_string()))?;
            let key = VerifyingKey::from_pem(&pem).map_err(|why| fault(why.to_string()))?;
            sealing.insert(device.id.clone(), Sealing { key, setting, complained: AtomicBool::new(false) });
        }
        let seals = Self { devices: sealing, shared: OnceLock::new() };
        Ok((!seals.devices.is_empty()).then(|| Arc::new(seals)))
    }

    /// From now on what is turned away is counted there, and what is taken is remembered there.
    pub(crate) fn share(&self, status: Arc<Status>, taken: Arc<Taken>) {
        // Set once, when the link is started.
        let _ = self.shared.set(Shared { status, taken });
    }
}

impl OpenSeal for Seals {
    fn open(&self, device: &DeviceId, message: &[u8], received: Timestamp) -> Result<Option<Vec<u8>>, String> {
        let sealing = self.devices.get(device).ok_or_else(|| format!("no key of `{device}` is known"))?;
        let Shared { status, taken } = self.shared.get().ok_or("the link does not run yet")?;
        let (digest, last) = (sha256(message), taken.last(device));
        if last.is_some_and(|(_, last)| last == digest) {
            return Ok(None);
        }
        let opened = sealing.check(device, message, received, last);
        match &opened {
            Ok(opened) => {
                taken.note(device, opened.seq, digest);
                if sealing.complained.swap(false, Ordering::Relaxed) {
                    tracing::info!(%device, "its seals hold again");
                }
            }
            Err(why) => {
                status.count.seals_refused.add(1);
                if !sealing.complained.swap(true, Ordering::Relaxed) {
                    tracing::warn!(%device, why, "a message without a seal that counts is no value; logged once until one holds again");
                }
            }
        }
        opened.map(|opened| Some(opened.payload))
    }
}

impl Sealing {
    fn check(
        &self,
        device: &DeviceId,
        message: &[u8],
        received: Timestamp,
        last: Option<(u64, Hash)>,
    ) -> Result<OpenedSeal, String> {
        let opened = OpenedSeal::open(message, &self.key).map_err(|fault| fault.to_string())?;
        let wanted = match self.setting.form {
            SealedAs::Cose => SealForm::Cose,
            SealedAs::Jws => SealForm::Jws,
        };
        if opened.form != wanted {
            return Err(format!("sealed as {:?}, the mapping says {wanted:?}", opened.form));
        }
        if opened.device != device.as_str() {
            return Err(format!("it is a message of `{}`", opened.device));
        }
        if let Some((seq, _)) = last.filter(|(seq, _)| opened.seq <= *seq) {
            return Err(format!("message {} came after message {seq}: replayed, or out of order", opened.seq));
        }
        let age = received.since(opened.at);
        if age > self.setting.age_max {
            let most = self.setting.age_max.as_secs();
            return Err(format!("message {} is {} s old, at most {most} s are taken", opened.seq, age.as_secs()));
        }
        if opened.at.since(received) > AHEAD_MAX {
            return Err(format!("message {} is from the future: {}", opened.seq, opened.at));
        }
        Ok(opened)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use base64_of_tests::jws;
    use tally_evidence::SigningKey;

    /// A device written as its maker would, but for the tests: base64url by hand.
    mod base64_of_tests {
        use tally_evidence::SigningKey;

        fn base64url(bytes: &[u8]) -> String {
            const DIGITS: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
            let digit = |chunk: &[u8], place: usize| {
                let word =
                    chunk.iter().fold(0u32, |word, byte| word << 8 | u32::from(*byte)) << (8 * (3 - chunk.len()));
                char::from(DIGITS[(word >> (18 - 6 * place) & 63) as usize])
            };
            bytes.chunks(3).flat_map(|chunk| (0..=chunk.len()).map(move |place| digit(chunk, place))).collect()
        }

        pub(super) fn jws(key: &SigningKey, payload: &str) -> Vec<u8> {
            let signed = format!("{}.{}", base64url(br#"{"alg":"ES256"}"#), base64url(payload.as_bytes()));
            format!("{signed}.{}", base64url(&key.sign(signed.as_bytes()))).into_bytes()
        }
    }

    fn key() -> SigningKey {
        SigningKey::from_secret(&[7; 32]).unwrap()
    }

    fn seals() -> Seals {
        let setting =
            SealedPayloads { form: SealedAs::Jws, key: "press.pub.pem".into(), age_max: Duration::from_secs(60) };
        let sealing = Sealing { key: key().public().clone(), setting, complained: AtomicBool::new(false) };
        let seals =
            Seals { devices: [(DeviceId::try_new("press-01").unwrap(), sealing)].into(), shared: OnceLock::new() };
        seals.share(Arc::default(), Arc::default());
        seals
    }

    /// As the agent is started with: one link, made of the mapping.
    fn made(folder: &std::path::Path) -> Vec<Made> {
        let file = folder.join("press.pub.pem");
        std::fs::write(&file, key().public().to_pem().unwrap()).unwrap();
        let endpoint = tally_model::Endpoint::parse("mqtt://127.0.0.1:1883").unwrap();
        let mut device = DeviceSpec::new(DeviceId::try_new("press-01").unwrap(), endpoint);
        let age_max = Duration::from_secs(60);
        device.mqtt.sealed = Some(SealedPayloads { form: SealedAs::Jws, key: file, age_max });
        let agent = tally_model::PartyId::try_new("agent-01").unwrap();
        let identity = crate::links::Identity { agent, pki: "/nonexistent".into() };
        crate::links::make(&[device], &identity, |_| false).unwrap()
    }

    /// Readings of a sealed message, or of another device's when there is none.
    fn batch(message: Option<&[u8]>, seconds: i64) -> tally_connector_api::Batch {
        let at = Timestamp::from_micros(seconds * 1_000_000);
        let sample = |point: &str| tally_model::Sample {
            seal: message.map(Arc::from),
            point: tally_model::PointId::try_new(point).unwrap(),
            outcome: Ok(tally_model::Value::Float(1.0)),
            unit: tally_model::Unit::one(),
            quality: tally_model::Quality::Good,
            source_time: at,
            received: at,
        };
        let device = if message.is_some() { "press-01" } else { "other" };
        let device = DeviceId::try_new(device).unwrap();
        tally_connector_api::Batch { device, samples: vec![sample("t"), sample("p")], origin: None }
    }

    fn open_vault(disk: &tally_journal::testing::MemStorage) -> Vault<tally_journal::testing::MemStorage> {
        let journal = crate::store::open_journal("vault", disk.clone(), tally_journal::Options::default()).unwrap();
        let opening = crate::vault::VaultOpening::begin(journal, [7; 32].into(), Default::default()).unwrap();
        opening.replay(|_, _, _, _| Ok(())).unwrap()
    }

    /// The agent takes message 7, is restarted, and somebody plays 5 to 7 again within their age.
    #[test]
    fn a_replay_after_a_restart_is_refused() {
        let (disk, folder) = (tally_journal::testing::MemStorage::new(), tempfile::tempdir().unwrap());
        let mut vault = open_vault(&disk);
        let messages: Vec<_> = (5..8).map(|seq| message("press-01", seq, 1_000)).collect();
        for message in &messages {
            vault.keep(batch(Some(message), 1_001), true).unwrap();
        }
        // Readings of another device behind them, more than are looked at in one step.
        for _ in 0..RECORDS_AT_ONCE * 3 {
            vault.keep(batch(None, 1_002), true).unwrap();
        }
        vault.sync().unwrap();
        drop(vault);
        let vault = open_vault(&disk.power_cut(1));
        let device = DeviceId::try_new("press-01").unwrap();
        let restarted = |now: i64| {
            let (links, taken) = (made(folder.path()), Arc::new(Taken::default()));
            taken.recall(&vault, &links, Timestamp::from_micros(now * 1_000_000)).unwrap();
            let seals = links[0].seals.clone().unwrap();
            seals.share(Arc::default(), Arc::clone(&taken));
            (seals, taken)
        };
        let (seals, _) = restarted(1_010);
        let open = |message: &[u8]| seals.open(&device, message, Timestamp::from_micros(1_010_000_000));
        assert!(open(&messages[0]).unwrap_err().contains("replayed"));
        assert!(open(&messages[1]).unwrap_err().contains("replayed"));
        assert_eq!(open(&messages[2]), Ok(None), "the very last one is the broker's repetition");
        assert!(open(&message("press-01", 8, 1_009)).unwrap().is_some());
        // An hour later nothing of that time could count: the vault is not read back to there.
        let (seals, taken) = restarted(4_600);
        assert_eq!(taken.last(&device), None);
        let late = seals.open(&device, &messages[2], Timestamp::from_micros(4_600_000_000)).unwrap_err();
        assert!(late.contains("s old"), "{late}");
    }

    fn message(device: &str, seq: u64, seconds: i64) -> Vec<u8> {
        jws(&key(), &format!(r#"{{"device":"{device}","seq":{seq},"timestamp":{},"t":1}}"#, seconds * 1000))
    }

    #[test]
    fn each_message_counts_once_and_in_its_time() {
        let (seals, device) = (seals(), DeviceId::try_new("press-01").unwrap());
        let open =
            |message: &[u8], seconds: i64| seals.open(&device, message, Timestamp::from_micros(seconds * 1_000_000));
        let first = message("press-01", 5, 1_000);
        assert!(open(&first, 1_001).unwrap().is_some());
        assert_eq!(open(&first, 1_002), Ok(None), "the broker repeats it: nothing is told");
        assert!(open(&message("press-01", 6, 1_002), 1_002).unwrap().is_some());
        for (forged, at, why) in [
            (first, 1_003, "replayed"),
            (message("press-01", 6, 1_003), 1_003, "replayed"),
            (message("press-02", 7, 1_003), 1_003, "press-02"),
            (message("press-01", 7, 900), 1_003, "s old"),
            (message("press-01", 7, 1_020), 1_003, "future"),
            (b"21.5".to_vec(), 1_003, "not sealed"),
        ] {
            let refused = open(&forged, at).unwrap_err();
            assert!(refused.contains(why), "{why}: {refused}");
        }
        assert!(open(&message("press-01", 7, 1_003), 1_003).unwrap().is_some(), "none of that was taken");
    }
}
