//! `tally balance [PARTY]`.

use crate::answer::{Answer, Context, Fault, print_json};
use crate::flags::NodeFlag;
use crate::show::{self, word};
use crate::shutdown::runtime;
use clap::Args;
use serde_json::Value;

/// Arguments of `balance`.
#[derive(Debug, Args)]
pub struct BalanceArgs {
    /// Only of this party
    #[arg(value_name = "PARTY")]
    pub party: Option<String>,
    /// The node.
    #[command(flatten)]
    pub node: NodeFlag,
}

pub fn run(args: &BalanceArgs, json: bool) -> Result<Answer, Fault> {
    let client = args.node.client()?;
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

/// Minor units as people write them; `-` for what is no amount.
pub fn money(minor: &Value, currency: &Value) -> String {
    match (minor.as_i64(), currency.as_str()) {
        (Some(minor), Some(currency)) => show::money(minor, currency),
        _ => "-".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn totals_must_be_zero() {
        assert!(are_conserved(&json!({"EUR": 0})));
        assert!(!are_conserved(&json!({"EUR": 0, "USD": 1})));
        assert!(!are_conserved(&json!(null)));
    }
}
