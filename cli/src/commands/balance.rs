//! `tally balance [PARTY]`.

use crate::answer::{Answer, Context, Fault, print_json};
use crate::args::BalanceArgs;
use crate::commands::order::word;
use crate::shutdown::runtime;
use serde_json::Value;
use tally_ledger_client::Client;

pub fn run(args: &BalanceArgs, json: bool) -> Result<Answer, Fault> {
    let client = Client::new(args.node.node.clone());
    let (accounts, totals) = runtime()?.block_on(async {
        let accounts = client.get_json("/accounts").await.context("reading the accounts")?;
        let totals = client.get_json("/totals").await.context("reading the totals")?;
        Ok::<_, Fault>((accounts, totals))
    })?;
    let mine = |account: &&Value| args.party.as_deref().is_none_or(|party| account["owner"] == party);
    let accounts: Vec<_> = accounts.as_array().into_iter().flatten().filter(mine).cloned().collect();
    let conserved = are_conserved(&totals);
    if json {
        print_json(&serde_json::json!({"accounts": accounts, "totals": totals, "conserved": conserved}))?;
        return Ok(conserved.into());
    }
    println!("{:<20} {:<12} {:>16} {:>16}", "account", "owner", "balance", "in escrow");
    for account in &accounts {
        let currency = &account["currency"];
        let (balance, held) = (money(&account["balance_minor"], currency), money(&account["held_minor"], currency));
        println!("{:<20} {:<12} {balance:>16} {held:>16}", word(&account["id"]), word(&account["owner"]));
    }
    println!("totals are {}conserved", if conserved { "" } else { "NOT " });
    Ok(conserved.into())
}

/// Double entry: the sum of all accounts of a currency is zero.
pub fn are_conserved(totals: &Value) -> bool {
    totals.as_object().is_some_and(|totals| totals.values().all(|sum| sum.as_i64() == Some(0)))
}

/// Minor units as people write them: `90000 EUR` → `900.00 EUR` (ISO 4217 exponents of the currencies without cents).
pub fn money(minor: &Value, currency: &Value) -> String {
    let (Some(minor), Some(currency)) = (minor.as_i64(), currency.as_str()) else { return "-".to_owned() };
    let digits = match currency {
        "JPY" | "KRW" | "CLP" | "ISK" | "VND" | "XAF" | "XOF" => 0,
        "BHD" | "JOD" | "KWD" | "OMR" | "TND" => 3,
        _ => 2,
    };
    let scale = 10_u64.pow(digits);
    let (whole, part) = (minor.unsigned_abs() / scale, minor.unsigned_abs() % scale);
    let sign = if minor < 0 { "-" } else { "" };
    match digits {
        0 => format!("{sign}{whole} {currency}"),
        digits => format!("{sign}{whole}.{part:0width$} {currency}", width = digits as usize),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn money_is_written_with_the_decimals_of_its_currency() {
        let shown = |minor: i64, currency: &str| money(&json!(minor), &json!(currency));
        assert_eq!(shown(90_005, "EUR"), "900.05 EUR");
        assert_eq!(shown(-5, "EUR"), "-0.05 EUR");
        assert_eq!(shown(90_005, "JPY"), "90005 JPY");
        assert_eq!(shown(90_005, "KWD"), "90.005 KWD");
    }

    #[test]
    fn totals_must_be_zero() {
        assert!(are_conserved(&json!({"EUR": 0})));
        assert!(!are_conserved(&json!({"EUR": 0, "USD": 1})));
        assert!(!are_conserved(&json!(null)));
    }
}
