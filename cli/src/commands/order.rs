//! `tally orders` and `tally order ID`.

use crate::answer::{Answer, Context, Fault, print_json};
use crate::commands::balance::money;
use crate::flags::NodeFlag;
use crate::show::{self, word};
use crate::shutdown::runtime;
use clap::Args;
use serde_json::Value;
use std::collections::BTreeMap;
use std::fmt::Write;
use tally_contracts::{Contract, FieldType};
use tally_ledger_client::{Client, RequestError};

/// Arguments of `orders`.
#[derive(Debug, Args)]
pub struct OrdersArgs {
    /// Only in this state
    #[arg(long)]
    pub state: Option<String>,
    /// Only about this device
    #[arg(long)]
    pub device: Option<String>,
    /// Only of this contract
    #[arg(long)]
    pub contract: Option<String>,
    /// The node.
    #[command(flatten)]
    pub node: NodeFlag,
}

/// Arguments of `order`.
#[derive(Debug, Args)]
pub struct OrderArgs {
    /// The order, such as mo-1
    #[arg(value_name = "ID")]
    pub id: String,
    /// The node.
    #[command(flatten)]
    pub node: NodeFlag,
}

pub fn list(args: &OrdersArgs, json: bool) -> Result<Answer, Fault> {
    let filters = [("state", &args.state), ("device", &args.device), ("contract", &args.contract)];
    let query: Vec<_> =
        filters.iter().filter_map(|(name, value)| value.as_ref().map(|value| format!("{name}={value}"))).collect();
    let path = format!("/agreements?{}", query.join("&"));
    let orders = runtime()?.block_on(args.node.client()?.get_json(&path)).context("listing orders")?;
    if json {
        print_json(&orders)?;
        return Ok(Answer::Yes);
    }
    let rows = orders.as_array().map(Vec::as_slice).unwrap_or_default();
    println!(
        "{:<8} {:<20} {:<12} {:<12} {:<10} {:>14}",
        "order", "contract", "state", "device", "technician", "in escrow"
    );
    for order in rows {
        let field = |name: &str| word(&order["fields"][name]);
        let party = |name: &str| word(&order["parties"][name]);
        println!(
            "{:<8} {:<20} {:<12} {:<12} {:<10} {:>14}",
            word(&order["id"]),
            word(&order["contract"]),
            word(&order["state"]),
            field("device"),
            party("technician"),
            money(&order["escrow_minor"], &order["currency"]),
        );
    }
    Ok(Answer::Yes)
}

pub fn show(args: &OrderArgs, json: bool) -> Result<Answer, Fault> {
    let client = args.node.client()?;
    let runtime = runtime()?;
    let order = match runtime.block_on(client.get_json(&format!("/agreements/{}", args.id))) {
        Err(RequestError::Refused { status: 404, .. }) => {
            eprintln!("there is no order {}; `tally orders` lists them", args.id);
            return Ok(Answer::No);
        }
        answer => answer.context(format_args!("reading order {}", args.id))?,
    };
    if json {
        print_json(&order)?;
    } else {
        print!("{}", in_words(&order, &runtime.block_on(field_types(&client, &order))?));
    }
    Ok(Answer::Yes)
}

type FieldTypes = BTreeMap<String, FieldType>;

/// What the fields of an order are, from its contract as the ledger keeps it; a ledger that does not show contracts leaves
/// numbers as they are.
async fn field_types(client: &Client, order: &Value) -> Result<FieldTypes, Fault> {
    let path = format!("/contracts/{}?version={}", word(&order["contract"]), word(&order["version"]));
    let text = match client.get_bytes(&path).await {
        Err(RequestError::Refused { status: 404, .. }) => return Ok(FieldTypes::new()),
        answer => String::from_utf8(answer.context("reading the contract")?).context("reading the contract")?,
    };
    // Deployed contracts have no faults; a newer ledger's may have words that this program does not know.
    Ok(Contract::from_yaml(&text).map(|contract| contract.fields).unwrap_or_default())
}

fn in_words(order: &Value, types: &FieldTypes) -> String {
    let mut text = format!("{}  {}  {}\n", word(&order["id"]), word(&order["contract"]), word(&order["state"]));
    let mut line = |title: &str, shown: String| {
        // Writing into a String cannot fail.
        let _ = writeln!(text, "{title:<16} {shown}");
    };
    let currency = order["currency"].as_str().unwrap_or_default();
    line("parties", String::new());
    for (role, party) in order["parties"].as_object().into_iter().flatten() {
        line(&format!("  {role}"), word(party));
    }
    line("fields", String::new());
    for (name, value) in order["fields"].as_object().into_iter().flatten() {
        line(&format!("  {name}"), show::field(types.get(name).copied(), value, currency));
    }
    let time = |value: &Value| value.as_i64().map_or_else(|| word(value), show::time);
    line("escrow", money(&order["escrow_minor"], &order["currency"]));
    line("opened", time(&order["opened_at"]));
    line("last change", time(&order["updated_at"]));
    if !order["due"].is_null() {
        line("term runs out", time(&order["due"]));
    }
    if !order["retires_at"].is_null() {
        let is_over = order["retired"] == true;
        line(if is_over { "retired" } else { "is retired" }, time(&order["retires_at"]));
    }
    line("times are", "block time, by the ledger's clock".to_owned());
    line("entries", word(&order["history"]));
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn an_order_in_words() {
        let order = json!({
            "id": "mo-1", "contract": "maintenance-order", "version": 1, "state": "accepted", "currency": "EUR",
            "parties": {"owner": "acme", "technician": "tina"},
            "fields": {"price": 125_000, "respond": 14_400_000_000_i64, "offer_owner": -1, "refused": [], "fault": "bearing"},
            "escrow_minor": 125_000, "opened_at": 1_795_269_600_000_000_i64, "updated_at": 1_795_269_601_500_000_i64,
            "due": 1_795_284_000_000_000_i64, "history": [4, 7],
        });
        let contract = Contract::from_yaml(tally_contracts::LIBRARY[0].1).unwrap();
        let shown = in_words(&order, &contract.fields);
        let lines: Vec<_> = shown.lines().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect();
        for line in [
            "mo-1 maintenance-order accepted",
            "technician tina",
            "price 1,250.00 EUR",
            "respond 4h",
            "offer_owner -1",
            "refused -",
            "escrow 1,250.00 EUR",
            "opened 2026-11-21 14:00:00 UTC",
            "last change 2026-11-21 14:00:01 UTC",
            "term runs out 2026-11-21 18:00:00 UTC",
            "times are block time, by the ledger's clock",
            "entries 4, 7",
        ] {
            assert!(lines.iter().any(|found| found == line), "no `{line}` in\n{shown}");
        }
    }
}
