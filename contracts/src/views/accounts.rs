//! Accounts, and whether their totals are conserved.

use super::scan;
use crate::records::Account;
use crate::{StateRead, keys};
use serde::Serialize;
use std::collections::BTreeMap;

/// An account.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct AccountView {
    /// `acme/EUR`, `escrow:mo-1`, `issue:EUR`.
    pub id: String,
    /// Whose money it is; nobody's for `issue:`.
    pub owner: String,
    /// ISO 4217 code.
    pub currency: String,
    /// Balance in minor units; only issuance accounts are negative.
    pub balance_minor: i64,
    /// The owner's money held in escrow accounts of this currency (not part of `balance_minor`).
    pub held_minor: i64,
}

/// All accounts, in order of id.
#[must_use]
pub fn accounts(state: &dyn StateRead) -> Vec<AccountView> {
    let mut held: BTreeMap<String, i64> = BTreeMap::new();
    let mut accounts = Vec::new();
    for (key, account) in scan::<Account>(state, keys::ACCOUNTS) {
        let id = String::from_utf8_lossy(key.get(1..).unwrap_or_default()).into_owned();
        if id.starts_with("escrow:") {
            let payer = held.entry(keys::account_id(&account.owner, &account.currency)).or_default();
            *payer = payer.saturating_add(account.balance);
        }
        let Account { owner, currency, balance } = account;
        accounts.push(AccountView { id, owner, currency, balance_minor: balance, held_minor: 0 });
    }
    for account in &mut accounts {
        account.held_minor = held.get(&account.id).copied().unwrap_or(0);
    }
    accounts
}

/// Sum of all accounts per currency; anything but 0 is a broken ledger.
#[must_use]
pub fn totals(state: &dyn StateRead) -> BTreeMap<String, i64> {
    let mut totals: BTreeMap<String, i128> = BTreeMap::new();
    for (_, account) in scan::<Account>(state, keys::ACCOUNTS) {
        *totals.entry(account.currency).or_default() += i128::from(account.balance);
    }
    let clamp = |total: i128| i64::try_from(total).unwrap_or(if total < 0 { i64::MIN } else { i64::MAX });
    totals.into_iter().map(|(currency, total)| (currency, clamp(total))).collect()
}
