//! The line's desk: everything that goes over the line goes through here, one at a time, orders before polls.

use super::connection::{Connection, Manners};
use crate::error::Failure;
use crate::identity::identify_briefly;
use crate::write::{Order, carry_out};
use crate::{Request, read_request};
use std::collections::BTreeMap;
use tally_model::{DeviceId, ModbusTable};
use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_modbus::Response;

pub(super) struct Desk {
    pub(super) connection: Connection,
    /// Written by [`crate::Writer`]s; `None` when there is none, or the last one is gone.
    orders: Option<mpsc::Receiver<Order>>,
    manners: BTreeMap<DeviceId, Manners>,
}

impl Desk {
    pub(super) fn new(
        connection: Connection,
        orders: Option<mpsc::Receiver<Order>>,
        manners: BTreeMap<DeviceId, Manners>,
    ) -> Self {
        Self { connection, orders, manners }
    }

    /// Reads; orders that came meanwhile are carried out first.
    pub(super) async fn read(&mut self, manners: &Manners, request: &Request) -> Result<Vec<u16>, Failure> {
        self.carry_out_waiting().await;
        let response = self.connection.ask(manners, &read_request(request.table, request.start, request.count)).await?;
        Ok(words(response, request.table, request.count))
    }

    /// What the device calls itself; orders that came meanwhile are carried out first.
    pub(super) async fn identify(&mut self, manners: &Manners) -> Result<Option<String>, Failure> {
        self.carry_out_waiting().await;
        identify_briefly(&mut self.connection, manners).await
    }

    /// Waits until `until`, and carries out orders meanwhile.
    pub(super) async fn rest_until(&mut self, until: Instant) {
        loop {
            let Some(orders) = &mut self.orders else { return tokio::time::sleep_until(until).await };
            tokio::select! {
                biased;
                order = orders.recv() => match order {
                    Some(order) => self.carry_out(order).await,
                    None => self.orders = None,
                },
                () = tokio::time::sleep_until(until) => return,
            }
        }
    }

    async fn carry_out_waiting(&mut self) {
        while let Some(order) = self.orders.as_mut().and_then(|orders| orders.try_recv().ok()) {
            self.carry_out(order).await;
        }
    }

    async fn carry_out(&mut self, order: Order) {
        let manners = self.manners.get(&order.device).cloned();
        carry_out(&mut self.connection, manners.as_ref(), order).await;
    }
}

/// The words of an answer; a bit is a word of 0 or 1. The spare bits of the last byte are left out.
pub(crate) fn words(response: Response, table: ModbusTable, count: u16) -> Vec<u16> {
    match response {
        Response::ReadCoils(bits) | Response::ReadDiscreteInputs(bits) if table.is_bits() => {
            bits.into_iter().take(usize::from(count)).map(u16::from).collect()
        }
        Response::ReadInputRegisters(words) | Response::ReadHoldingRegisters(words) => words,
        // The connection has held the answer against the question.
        _ => Vec::new(),
    }
}
