//! The keys of devices that seal their payloads themselves, and which of their messages was taken last.

use super::LinkError;
use crate::status::Status;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;
use tally_connector_api::OpenSeal;
use tally_evidence::{Hash, OpenedSeal, SealForm, VerifyingKey, sha256};
use tally_model::{DeviceId, DeviceSpec, SealedAs, SealedPayloads, Timestamp};

/// How far a device's clock may be ahead of ours.
const AHEAD_MAX: Duration = Duration::from_secs(5);

/// All devices of a link that seal.
pub(crate) struct Seals {
    devices: HashMap<DeviceId, Sealing>,
    /// Where what is turned away is counted, once the link runs.
    status: OnceLock<Arc<Status>>,
}

struct Sealing {
    key: VerifyingKey,
    setting: SealedPayloads,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// The latest message: its number and digest.
    last: Option<(u64, Hash)>,
    /// A message was turned away, which was logged once until one is taken again.
    complained: bool,
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
            sealing.insert(device.id.clone(), Sealing { key, setting, state: Mutex::default() });
        }
        let seals = Self { devices: sealing, status: OnceLock::new() };
        Ok((!seals.devices.is_empty()).then(|| Arc::new(seals)))
    }

    /// From now on what is turned away is counted there.
    pub(crate) fn count_in(&self, status: Arc<Status>) {
        // Set once, when the link is started.
        let _ = self.status.set(status);
    }
}

impl OpenSeal for Seals {
    fn open(&self, device: &DeviceId, message: &[u8], received: Timestamp) -> Result<Option<Vec<u8>>, String> {
        let sealing = self.devices.get(device).ok_or_else(|| format!("no key of `{device}` is known"))?;
        let mut state = sealing.state.lock().unwrap_or_else(PoisonError::into_inner);
        let digest = sha256(message);
        if state.last.is_some_and(|(_, last)| last == digest) {
            return Ok(None);
        }
        let opened = sealing.check(device, message, received, state.last);
        match &opened {
            Ok(opened) => {
                state.last = Some((opened.seq, digest));
                if std::mem::take(&mut state.complained) {
                    tracing::info!(%device, "its seals hold again");
                }
            }
            Err(why) => {
                if let Some(status) = self.status.get() {
                    status.count.seals_refused.add(1);
                }
                if !std::mem::replace(&mut state.complained, true) {
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
        let sealing = Sealing { key: key().public().clone(), setting, state: Mutex::default() };
        Seals { devices: [(DeviceId::try_new("press-01").unwrap(), sealing)].into(), status: OnceLock::new() }
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
