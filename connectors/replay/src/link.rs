//! The task that plays a recording.

use crate::ReplayError;
use crate::config::common_file;
use crate::plan::{Step, steps};
use async_trait::async_trait;
use std::sync::Arc;
use std::time::Duration;
use tally_connector_api::{Batch, Link, LinkContext};
use tally_model::{DeviceId, DeviceSpec, LinkProtocol, LinkSecurity, Origin, Quality, Sample};
use tokio::time::Instant;

/// From the last row to the first of the next round, when the recording has a single time: a busy loop otherwise.
const PAUSE_DEFAULT: Duration = Duration::from_secs(1);

/// What happens after the last row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AtEnd {
    /// Nothing more is said.
    Stop,
    /// It starts again, one step after the last row (a step is the time between the last two).
    Repeat,
}

/// A link that plays the recording the devices share. The file is read and checked here, completely.
///
/// # Errors
/// [`ReplayError`] naming file, line and column.
pub fn link(devices: Vec<DeviceSpec>, at_end: AtEnd) -> Result<Box<dyn Link>, ReplayError> {
    let file = common_file(&devices)?;
    let steps = steps(&devices, &file)?;
    Ok(Box::new(ReplayLink { name: format!("replay:{}", file.display()), devices, steps, at_end }))
}

struct ReplayLink {
    name: String,
    devices: Vec<DeviceSpec>,
    /// In time order.
    steps: Vec<Step>,
    at_end: AtEnd,
}

#[async_trait]
impl Link for ReplayLink {
    fn name(&self) -> String {
        self.name.clone()
    }

    fn devices(&self) -> Vec<DeviceId> {
        self.devices.iter().map(|device| device.id.clone()).collect()
    }

    async fn run(self: Box<Self>, context: LinkContext) {
        context.status.up(context.clock.now());
        context.stop.run_until_cancelled(self.play(&context)).await;
        context.status.stopped();
    }
}

impl ReplayLink {
    async fn play(&self, context: &LinkContext) {
        let mut start = Instant::now();
        loop {
            for step in &self.steps {
                tokio::time::sleep_until(start + step.offset).await;
                if context.sink.send(self.batch(step, context)).await.is_err() {
                    break;
                }
            }
            if self.at_end == AtEnd::Stop || context.sink.is_closed() {
                break;
            }
            start += self.length();
        }
        // A link runs until it is stopped, also when it has nothing more to say.
        context.stop.cancelled().await;
    }

    /// One round, with the pause before the next.
    fn length(&self) -> Duration {
        let last = self.steps.last().map_or(Duration::ZERO, |step| step.offset);
        let before = self.steps.iter().rev().map(|step| step.offset).find(|offset| *offset < last);
        last + before.map_or(PAUSE_DEFAULT, |before| last - before)
    }

    fn batch(&self, step: &Step, context: &LinkContext) -> Batch {
        let device = &self.devices[step.device];
        let now = context.clock.now();
        let samples = step.outcomes.iter().map(|(place, outcome)| {
            let point = &device.points[*place];
            Sample {
                seal: None,
                point: point.id.clone(),
                outcome: outcome.clone(),
                unit: point.unit.clone(),
                quality: if outcome.is_ok() { Quality::Good } else { Quality::Bad },
                // A recording with instants knows when its values arose.
                source_time: step.instant.unwrap_or(now),
                received: now,
            }
        });
        let link = LinkSecurity::none(LinkProtocol::Replay);
        let origin = Some(Arc::new(Origin { link, identity: None }));
        Batch { device: device.id.clone(), samples: samples.collect(), origin }
    }
}
