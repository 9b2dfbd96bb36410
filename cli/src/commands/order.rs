//! `tally orders` and `tally order ID`.

use crate::answer::{Answer, Context, Fault, print_json};
use crate::args::{OrderArgs, OrdersArgs};
use crate::commands::balance::money;
use crate::shutdown::runtime;
use serde_json::Value;
use tally_ledger_client::{Client, RequestError};
use tally_model::Timestamp;

pub fn list(args: &OrdersArgs, json: bool) -> Result<Answer, Fault> {
    let filters = [("state", &args.state), ("device", &args.device), ("contract", &args.contract)];
    let query: Vec<_> =
        filters.iter().filter_map(|(name, value)| value.as_ref().map(|value| format!("{name}={value}"))).collect();
    let path = format!("/agreements?{}", query.join("&"));
    let orders = runtime()?.block_on(Client::new(args.node.node.clone()).get_json(&path)).context("listing orders")?;
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
    let client = Client::new(args.node.node.clone());
    let order = match runtime()?.block_on(client.get_json(&format!("/agreements/{}", args.id))) {
        Err(RequestError::Refused { status: 404, .. }) => {
            eprintln!("there is no order {}; `tally orders` lists them", args.id);
            return Ok(Answer::No);
        }
        answer => answer.context(format_args!("reading order {}", args.id))?,
    };
    if json {
        print_json(&order)?;
    } else {
        print_order(&order);
    }
    Ok(Answer::Yes)
}

fn print_order(order: &Value) {
    println!("{}  {}  {}", word(&order["id"]), word(&order["contract"]), word(&order["state"]));
    for (title, key) in [("parties", "parties"), ("fields", "fields")] {
        println!("{title}");
        for (name, value) in order[key].as_object().into_iter().flatten() {
            println!("  {name:<14} {}", word(value));
        }
    }
    println!("escrow           {}", money(&order["escrow_minor"], &order["currency"]));
    println!("opened           {}", time(&order["opened_at"]));
    println!("last change      {}", time(&order["updated_at"]));
    if !order["due"].is_null() {
        println!("term runs out    {}", time(&order["due"]));
    }
    println!("entries          {}", word(&order["history"]));
}

fn time(value: &Value) -> String {
    value.as_i64().map_or_else(|| word(value), |micros| Timestamp::from_micros(micros).to_string())
}

/// A JSON value without quotes; nothing for what is not there.
pub fn word(value: &Value) -> String {
    match value {
        Value::Null => "-".to_owned(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}
