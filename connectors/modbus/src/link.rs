//! The task that owns the line: connects, asks each device at its time, carries out orders in between, reconnects.
//!
//! ```text
//!            connect ok                     answer
//! Connecting ──────────► Connected ◄──────────────────────┐
//!     ▲  │ fails: LinkDown for all,         │ order waiting: carry it out
//!     └──┘ back off (200 ms … 10 s)         │ due device: ask what is due of it
//!     ▲                                     ├── exception ── halve, remember the bad point
//!     │                                     └── timeout, broken line, nonsense:
//!     └──────── drop or drain the line ◄───────  that device backs off alone
//! ```
//!
//! A broken line on a connection that had worked before is tried once more on a fresh one before anybody is told:
//! many devices close connections that were idle for some seconds.

pub(crate) mod connection;
pub(crate) mod desk;
mod identity;
mod slot;
mod unit;

use crate::PlanFault;
use crate::config::LinkConfig;
use crate::write::{ORDERS_MAX, Order, Writer};
use async_trait::async_trait;
use connection::Connection;
use desk::Desk;
use std::time::Duration;
use tally_connector_api::{Backoff, Batch, Link, LinkContext, down_batch};
use tally_model::{DeviceId, DeviceSpec, NoValue};
use tokio::sync::mpsc;
use tokio::time::Instant;
use unit::Unit;

/// Longest time to wait for a TCP connection; a host that is switched off would otherwise hold the task for minutes.
pub const CONNECT_TIME_MAX: Duration = Duration::from_secs(5);

/// A link for devices that share one line. It can only read. Nothing connects before it runs.
///
/// # Errors
/// [`PlanFault`] when the devices cannot be read as described or live on different lines.
pub fn link(devices: Vec<DeviceSpec>) -> Result<Box<dyn Link>, PlanFault> {
    Ok(Box::new(ModbusLink { config: LinkConfig::try_new(devices)?, orders: None }))
}

/// A link, and the right to write to its devices. The line carries out orders before it polls on.
///
/// # Errors
/// As [`link`].
pub fn link_with_writer(devices: Vec<DeviceSpec>) -> Result<(Box<dyn Link>, Writer), PlanFault> {
    let (sender, orders) = mpsc::channel(ORDERS_MAX);
    let link = ModbusLink { config: LinkConfig::try_new(devices)?, orders: Some(orders) };
    Ok((Box::new(link), Writer { orders: sender }))
}

struct ModbusLink {
    config: LinkConfig,
    orders: Option<mpsc::Receiver<Order>>,
}

#[async_trait]
impl Link for ModbusLink {
    fn name(&self) -> String {
        self.config.line.to_string()
    }

    fn devices(&self) -> Vec<DeviceId> {
        self.config.units.iter().map(|(device, _)| device.id.clone()).collect()
    }

    async fn run(self: Box<Self>, context: LinkContext) {
        let (stop, status) = (context.stop.clone(), context.status.clone());
        let mut poller = Poller::new(self.config, self.orders, context);
        // Dropping a call half-way is safe here and only here: its connection is dropped with it.
        stop.run_until_cancelled(poller.poll_for_ever()).await;
        status.stopped();
    }
}

/// Everything the task knows.
struct Poller {
    context: LinkContext,
    units: Vec<Unit>,
    desk: Desk,
    backoff: Backoff,
    /// Whether the last word to the status was "up".
    is_up: bool,
}

impl Poller {
    fn new(config: LinkConfig, orders: Option<mpsc::Receiver<Order>>, context: LinkContext) -> Self {
        let now = Instant::now();
        let connect_time_max =
            config.units.iter().map(|(device, _)| device.timeout).max().unwrap_or_default().min(CONNECT_TIME_MAX);
        let connection = Connection::new(config.line, config.tls, connect_time_max);
        let units: Vec<Unit> = config.units.into_iter().map(|(device, plan)| Unit::new(device, plan, now)).collect();
        let manners = units.iter().map(|unit| (unit.device.id.clone(), unit.manners().clone())).collect();
        let desk = Desk::new(connection, orders, manners);
        Self { desk, units, context, backoff: Backoff::for_links(), is_up: false }
    }

    async fn poll_for_ever(&mut self) {
        loop {
            let Some(due) = (0..self.units.len()).min_by_key(|place| self.units[*place].due()) else { return };
            self.desk.rest_until(self.units[due].due()).await;
            if self.connect(due).await {
                self.poll(due).await;
            }
        }
    }

    /// One attempt to be connected; on failure everybody is told and the back-off is waited for.
    async fn connect(&mut self, due: usize) -> bool {
        let Err(failure) = self.desk.connection.ensure(self.units[due].manners()).await else {
            self.backoff.reset();
            return true;
        };
        let delay = self.backoff.next_delay();
        self.is_up = false;
        self.context.status.down(failure.into_link_fault(), delay);
        self.tell_link_down().await;
        self.desk.rest_until(Instant::now() + delay).await;
        false
    }

    /// Once per outage, so that an outage of a day does not fill the vault.
    async fn tell_link_down(&mut self) {
        let now = self.context.clock.now();
        let mut batches = Vec::new();
        for unit in self.units.iter_mut().filter(|unit| !unit.told_down) {
            unit.told_down = true;
            batches.push(down_batch(&unit.device, NoValue::LinkDown, now));
        }
        for batch in batches {
            hand_over(&self.context, batch).await;
        }
    }

    /// Asks one device everything it has, hands over one batch, and plans its next turn.
    async fn poll(&mut self, due: usize) {
        let unit = &mut self.units[due];
        let was_silent = unit.is_silent();
        if !was_silent {
            unit.identify(&mut self.desk, false).await;
        }
        let cycle = unit.ask_due(&mut self.desk, &*self.context.clock).await;
        if cycle.failure.is_none() {
            // It is back, or its connection was opened anew in between: another one may have answered.
            unit.identify(&mut self.desk, was_silent).await;
        }
        if cycle.overruns > 0 {
            self.context.status.overrun(cycle.overruns);
        }
        let origin = Some(unit.origin(self.desk.connection.security()));
        let batch = Batch { device: unit.device.id.clone(), samples: cycle.samples, origin };
        match cycle.failure {
            None => {
                unit.answered();
                self.report_up();
            }
            Some(failure) => {
                let delay = unit.failed(&failure, &batch.samples);
                // The link is down when nobody on it answers; one silent unit is that unit's matter.
                if self.units.iter().all(Unit::is_silent) {
                    self.is_up = false;
                    self.context.status.down(failure.into_link_fault(), delay);
                }
            }
        }
        hand_over(&self.context, batch).await;
    }

    fn report_up(&mut self) {
        if !self.is_up {
            self.is_up = true;
            self.context.status.up(self.context.clock.now());
        }
    }
}

/// Waits while the sink is full. When the agent has closed it there is nobody left to tell, and `stop` comes next.
async fn hand_over(context: &LinkContext, batch: Batch) {
    if context.sink.send(batch).await.is_err() {
        context.stop.cancelled().await;
    }
}
