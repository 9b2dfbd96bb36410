//! The ledger's side of the story, from its event stream and its HTTP interface.

use super::screen::Screen;
use crate::answer::{Context, Fault};
use crate::child::Child;
use crate::commands::balance::{are_conserved, money};
use crate::show::word;
use crate::site::Site;
use futures_util::{Stream, StreamExt};
use serde_json::Value;
use std::pin::Pin;
use std::time::Duration;
use tally_ledger_client::{Client, LedgerEvent, RequestError};

type Events = Pin<Box<dyn Stream<Item = Result<LedgerEvent, RequestError>> + Send>>;

/// What an event means for the story.
pub enum Step {
    /// Something to tell.
    Told(String),
    /// Somebody must go.
    Dispatched { order: String, technician: String },
    /// The end of an order.
    Paid { order: String, line: String },
}

pub struct Ledger {
    client: Client,
    events: Events,
    last: Option<String>,
}

impl Ledger {
    /// Waits until the node answers, then follows its events.
    pub async fn connect(site: &Site, node: &mut Child) -> Result<Self, Fault> {
        let client = Client::new(site.node_address.clone());
        for _ in 0..200 {
            node.must_still_run()?;
            if client.get_json("/status").await.is_ok() {
                let events = Box::pin(client.events(Some(1)));
                return Ok(Self { client, events, last: None });
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        Err("the node did not answer within 10 s".into())
    }

    pub fn client(&self) -> &Client {
        &self.client
    }

    /// The next step of the story; reconnects behind the last event when the stream breaks.
    pub async fn next(&mut self) -> Result<Step, Fault> {
        loop {
            match self.events.next().await {
                Some(Ok(event)) => {
                    self.last = Some(event.id.clone());
                    if let Some(step) = self.step(&event.json).await {
                        return Ok(step);
                    }
                }
                Some(Err(_)) | None => {
                    tokio::time::sleep(Duration::from_millis(200)).await;
                    self.events = match &self.last {
                        Some(last) => Box::pin(self.client.events_after(last)),
                        None => Box::pin(self.client.events(Some(1))),
                    };
                }
            }
        }
    }

    async fn step(&self, event: &Value) -> Option<Step> {
        let subject = word(&event["subject"]);
        let data = &event["data"];
        let kind = event["type"].as_str()?.rsplit("tallystick.").next()?.to_owned();
        Some(match kind.as_str() {
            "agreement.dispatched" => Step::Dispatched { order: subject, technician: word(&data["technician"]) },
            "payment.made" => {
                let amount = money(&data["amount"], &data["currency"]);
                Step::Paid { line: format!("{subject}: {amount} paid to {}", word(&data["to"])), order: subject }
            }
            "agreement.opened" => {
                let (contract, device, owner) = (word(&data["contract"]), word(&data["device"]), word(&data["owner"]));
                Step::Told(format!("{subject} opened: {contract} for {device}, {owner} pays"))
            }
            "agreement.moved" => Step::Told(format!("{subject}: {} → {}", word(&data["from"]), word(&data["to"]))),
            "escrow.held" | "escrow.released" => {
                let amount = money(&data["amount"], &data["currency"]);
                let verb = if kind == "escrow.held" { "held in escrow" } else { "released from escrow" };
                Step::Told(format!("{subject}: {amount} {verb}"))
            }
            "entry.refused" => Step::Told(format!("refused ({}): {}", word(&data["refusal"]), word(&data["text"]))),
            _ => return None,
        })
    }

    /// Shows who has what; says whether the totals are conserved.
    pub async fn show_balances(&self, screen: &Screen) -> Result<bool, Fault> {
        let accounts = self.client.get_json("/accounts").await.context("reading the accounts")?;
        let totals = self.client.get_json("/totals").await.context("reading the totals")?;
        for account in accounts.as_array().into_iter().flatten() {
            let balance = money(&account["balance_minor"], &account["currency"]);
            screen.say("balance", &format!("{:<16} {balance:>16}", word(&account["id"])));
        }
        let conserved = are_conserved(&totals);
        screen.say("balance", if conserved { "totals are conserved" } else { "totals are NOT conserved" });
        Ok(conserved)
    }
}
