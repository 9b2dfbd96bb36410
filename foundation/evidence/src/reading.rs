//! A reading as bytes, its salted leaf, and the vault's numbered hash chain. CDDL: `docs/formats/reading.cddl`.
//!
//! ```text
//! reading = [number, point, point number, value / [no-value code], unit, quality (0 good, 1 uncertain, 2 bad),
//!            source time, received]   times in µs
//! leaf    = SHA-256(0x00 ‖ salt (16 bytes) ‖ reading)       so that a hidden reading cannot be guessed from its leaf
//! head 0  = SHA-256("tallystick vault v1" ‖ 0x00 ‖ device)
//! head n+1 = SHA-256(0x02 ‖ head n ‖ leaf n)                so that a missing, altered or reordered reading shows
//! ```
//! The number counts the readings of the device, the point number those of the point, both from 0 without gaps: a reading
//! of a disclosed point cannot hide among the undisclosed ones.

use crate::cbor::{self, Cbor, CborFault, int, text};
use crate::{Hash, leaf_hash};
use sha2::{Digest, Sha256};
use tally_model::{DeviceId, NoValue, PointId, Quality, Reading, Sample, Timestamp, Unit};

/// Random per reading; without it a leaf of "running = true" could be guessed.
pub type Salt = [u8; 16];

/// Why bytes are not a reading.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReadingFault {
    /// Not deterministic CBOR.
    #[error("reading: {0}")]
    Cbor(#[from] CborFault),
    /// Not the eight-element array.
    #[error("reading: {0}")]
    Shape(&'static str),
}

/// The canonical bytes of a reading that is the `point_number`-th of its point. The device is not repeated in them: the
/// chain is per device.
#[must_use]
pub fn encode_reading(reading: &Reading, point_number: u64) -> Vec<u8> {
    let sample = &reading.sample;
    let value = match &sample.outcome {
        Ok(value) => cbor::from_value(value),
        Err(reason) => Cbor::Array(vec![int(reason.code())]),
    };
    let quality = match sample.quality {
        Quality::Good => 0,
        Quality::Uncertain => 1,
        Quality::Bad => 2,
    };
    cbor::encode(&Cbor::Array(vec![
        int(reading.number),
        text(sample.point.as_str()),
        int(point_number),
        value,
        text(sample.unit.as_str()),
        int(quality),
        int(sample.source_time.as_micros()),
        int(sample.received.as_micros()),
    ]))
}

/// Reads a reading of `device` strictly; gives it with its point number.
///
/// # Errors
/// [`ReadingFault`].
pub fn decode_reading(device: &DeviceId, bytes: &[u8]) -> Result<(Reading, u64), ReadingFault> {
    let Cbor::Array(items) = cbor::decode(bytes)? else { return Err(ReadingFault::Shape("not an array")) };
    let [number, point, point_number, value, unit, quality, source, received] = items.as_slice() else {
        return Err(ReadingFault::Shape("not eight elements"));
    };
    let quality = match quality.as_integer().map(i128::from) {
        Some(0) => Quality::Good,
        Some(1) => Quality::Uncertain,
        Some(2) => Quality::Bad,
        _ => return Err(ReadingFault::Shape("quality is 0, 1 or 2")),
    };
    let outcome = match value {
        Cbor::Array(code) => Err(no_value(code)?),
        value => Ok(cbor::to_value(value).ok_or(ReadingFault::Shape("value is no scalar"))?),
    };
    if outcome.is_err() != (quality == Quality::Bad) {
        return Err(ReadingFault::Shape("quality is bad exactly when there is no value"));
    }
    let point = point.as_text().and_then(|name| PointId::try_new(name).ok());
    let unit = unit.as_text().and_then(|code| Unit::try_new(code).ok());
    let sample = Sample {
        point: point.ok_or(ReadingFault::Shape("point is no point id"))?,
        outcome,
        unit: unit.ok_or(ReadingFault::Shape("unit is no unit"))?,
        quality,
        source_time: instant(source)?,
        received: instant(received)?,
    };
    Ok((Reading { device: device.clone(), number: count(number)?, sample }, count(point_number)?))
}

fn count(value: &Cbor) -> Result<u64, ReadingFault> {
    let number = value.as_integer().and_then(|number| u64::try_from(number).ok());
    number.ok_or(ReadingFault::Shape("a number counts from 0"))
}

fn no_value(code: &[Cbor]) -> Result<NoValue, ReadingFault> {
    let [code] = code else { return Err(ReadingFault::Shape("a no-value reason is one number")) };
    let code = code.as_integer().and_then(|code| u8::try_from(code).ok());
    code.and_then(NoValue::from_code).ok_or(ReadingFault::Shape("unknown no-value reason"))
}

fn instant(value: &Cbor) -> Result<Timestamp, ReadingFault> {
    let micros = value.as_integer().and_then(|micros| i64::try_from(micros).ok());
    micros.map(Timestamp::from_micros).ok_or(ReadingFault::Shape("a time is whole microseconds"))
}

/// The leaf of a reading.
#[must_use]
pub fn reading_leaf(salt: &Salt, reading: &[u8]) -> Hash {
    let mut entry = Vec::with_capacity(salt.len() + reading.len());
    entry.extend(salt);
    entry.extend(reading);
    leaf_hash(&entry)
}

/// The head of a device's vault chain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ChainHead(pub Hash);

impl ChainHead {
    /// The head before the first reading.
    #[must_use]
    pub fn start(device: &DeviceId) -> Self {
        let mut hash = Sha256::new();
        hash.update(b"tallystick vault v1\0");
        hash.update(device.as_str());
        Self(hash.finalize().into())
    }

    /// The head after one more leaf.
    #[must_use]
    pub fn extend(self, leaf: &Hash) -> Self {
        let mut hash = Sha256::new();
        hash.update([0x02]);
        hash.update(self.0);
        hash.update(leaf);
        Self(hash.finalize().into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use tally_model::Value;

    #[test]
    fn readings_round_trip() {
        let device = DeviceId::try_new("press-01").unwrap();
        let outcomes = [
            (Ok(Value::Float(7.25)), Quality::Good),
            (Ok(Value::from_u64(u64::MAX)), Quality::Uncertain),
            (Ok(Value::Text("läuft".into())), Quality::Good),
            (Err(NoValue::Timeout), Quality::Bad),
        ];
        for (outcome, quality) in outcomes {
            let sample = Sample {
                point: PointId::try_new("vibration").unwrap(),
                outcome,
                unit: Unit::try_new("mm/s").unwrap(),
                quality,
                source_time: Timestamp::from_micros(1),
                received: Timestamp::from_micros(2),
            };
            let reading = Reading { device: device.clone(), number: 5, sample };
            assert_eq!(decode_reading(&device, &encode_reading(&reading, 3)), Ok((reading, 3)));
        }
    }

    proptest! {
        #[test]
        fn random_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..120)) {
            let _ = decode_reading(&DeviceId::try_new("d").unwrap(), &bytes);
        }
    }
}
