//! Deadbands: a value goes out when it left the band around the one that went out last.

use std::collections::HashMap;
use tally_model::{DeviceId, DeviceSpec, NoValue, PointId, Reading, Sample};

/// Of all points that have one.
pub(super) struct Deadbands(HashMap<(DeviceId, PointId), Band>);

struct Band {
    width: f64,
    /// What was published last.
    last: Option<Result<f64, NoValue>>,
}

impl Deadbands {
    /// As the mapping has them, with nothing published yet.
    pub fn of(devices: &[DeviceSpec]) -> Self {
        let points = devices.iter().flat_map(|device| device.points.iter().map(|point| (device.id.clone(), point)));
        let bands = points.filter_map(|(device, point)| {
            Some(((device, point.id.clone()), Band { width: point.deadband?, last: None }))
        });
        Self(bands.collect())
    }

    /// Whether a reading is to go out, which is then what the next one is held against.
    pub fn let_through(&mut self, reading: &Reading) -> bool {
        if self.0.is_empty() {
            return true;
        }
        let key = (reading.device.clone(), reading.sample.point.clone());
        self.0.get_mut(&key).is_none_or(|band| band.leaves(&reading.sample))
    }

    /// The next value of each goes out in any case.
    pub fn forget(&mut self) {
        self.0.values_mut().for_each(|band| band.last = None);
    }
}

impl Band {
    /// Whether the sample is outside the band around what was published last; then it is the new middle.
    fn leaves(&mut self, sample: &Sample) -> bool {
        let new = match &sample.outcome {
            Err(reason) => Err(*reason),
            Ok(value) => match value.as_f64() {
                Some(number) => Ok(number),
                None => return true,
            },
        };
        let is_inside = match (&self.last, &new) {
            (Some(Ok(last)), Ok(new)) => (new - last).abs() < self.width,
            (Some(Err(last)), Err(new)) => last == new,
            _ => false,
        };
        if !is_inside {
            self.last = Some(new);
        }
        !is_inside
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tally_model::{Timestamp, Unit, Value};

    fn sample(outcome: Result<f64, NoValue>) -> Sample {
        Sample::at(PointId::try_new("p").unwrap(), outcome.map(Value::Float), Unit::one(), Timestamp::default())
    }

    #[test]
    fn a_deadband_holds_back_small_changes_and_no_drift() {
        let mut band = Band { width: 0.5, last: None };
        let news = [Ok(1.0), Ok(1.4), Ok(1.5), Ok(1.2), Err(NoValue::Timeout), Err(NoValue::Timeout), Ok(1.2), Ok(0.7)];
        let told: Vec<_> = news.into_iter().map(|outcome| band.leaves(&sample(outcome))).collect();
        assert_eq!(told, [true, false, true, false, true, false, true, true]);
    }
}
