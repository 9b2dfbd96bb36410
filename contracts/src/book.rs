//! Double entry: money only moves from one account to another. Amounts are integers in minor units.
//!
//! Three kinds of account, told apart by id: `owner/EUR` belongs to an organisation and is never negative;
//! `issue:EUR` is where money comes into being, and is minus what there is; `escrow:mo-1` holds the money of one
//! agreement, exists only while it holds some, and is never negative.

use crate::records::Account;
use crate::run::Run;
use crate::{Overlay, Refusal, keys};
use tally_model::AgreementId;

impl Run<'_, '_> {
    pub(crate) fn account(&self, id: &str) -> Result<Option<Account>, Refusal> {
        self.load(&keys::account(id))
    }

    fn needed(&self, id: &str) -> Result<Account, Refusal> {
        self.account(id)?.ok_or_else(|| Refusal::UnknownAccount { account: id.to_owned() })
    }

    /// Opens the account of `owner` in `currency`; does nothing when it is open.
    pub(crate) fn open_account(&mut self, owner: &str, currency: &str) -> Result<(), Refusal> {
        let id = keys::account_id(owner, currency);
        if self.account(&id)?.is_none() {
            self.put_account(&id, &new_account(owner, currency));
            self.emit("accounts.opened", &id, [("currency", tally_evidence::cbor::text(currency))]);
        }
        Ok(())
    }

    fn put_account(&mut self, id: &str, account: &Account) {
        self.store(keys::account(id), account);
    }

    /// Moves `amount` (above zero) between two open accounts.
    pub(crate) fn post(&mut self, from: &str, to: &str, amount: i64) -> Result<(), Refusal> {
        if from == to {
            return Ok(());
        }
        let (mut payer, mut payee) = (self.needed(from)?, self.needed(to)?);
        payer.balance = debit(from, payer.balance, amount)?;
        payee.balance = credit(to, payee.balance, amount)?;
        self.put_account(from, &payer);
        self.put_account(to, &payee);
        Ok(())
    }

    /// Brings `amount` into being for `owner`.
    pub(crate) fn issue(&mut self, owner: &str, currency: &str, amount: i64) -> Result<(), Refusal> {
        let source = keys::issue_id(currency);
        if self.account(&source)?.is_none() {
            self.put_account(&source, &new_account("", currency));
        }
        self.post(&source, &keys::account_id(owner, currency), amount)
    }

    /// From the payer's account into the escrow of an agreement.
    pub(crate) fn hold(&mut self, id: &AgreementId, payer: &str, currency: &str, amount: i64) -> Result<(), Refusal> {
        let (source, escrow) = (keys::account_id(payer, currency), keys::escrow_id(id));
        if self.account(&escrow)?.is_some() {
            return self.post(&source, &escrow, amount);
        }
        // The usual case: the escrow is new and holds just this.
        let mut account = self.needed(&source)?;
        account.balance = debit(&source, account.balance, amount)?;
        self.put_account(&source, &account);
        self.put_account(&escrow, &Account { balance: amount, ..new_account(payer, currency) });
        Ok(())
    }

    /// From the escrow of an agreement to an account; an empty escrow disappears.
    pub(crate) fn pay_out(
        &mut self,
        id: &AgreementId,
        payee: &str,
        currency: &str,
        amount: i64,
    ) -> Result<(), Refusal> {
        let escrow = keys::escrow_id(id);
        self.post(&escrow, &keys::account_id(payee, currency), amount)?;
        if self.needed(&escrow)?.balance == 0 {
            self.state.delete(keys::account(&escrow));
        }
        Ok(())
    }
}

fn new_account(owner: &str, currency: &str) -> Account {
    Account { owner: owner.to_owned(), currency: currency.to_owned(), balance: 0 }
}

fn debit(id: &str, balance: i64, amount: i64) -> Result<i64, Refusal> {
    let may_be_negative = id.starts_with("issue:");
    if balance < amount && !may_be_negative {
        return Err(Refusal::InsufficientFunds { account: id.to_owned(), balance, needed: amount });
    }
    balance.checked_sub(amount).ok_or_else(|| overflow(id, balance, amount))
}

fn credit(id: &str, balance: i64, amount: i64) -> Result<i64, Refusal> {
    balance.checked_add(amount).ok_or_else(|| overflow(id, balance, amount))
}

fn overflow(id: &str, balance: i64, amount: i64) -> Refusal {
    let reason = format!("{balance} and {amount} leave the range of 64 bits");
    Refusal::Arithmetic { what: format!("account `{id}`"), reason }
}

/// The last check of every input: over the accounts it touched, no currency gained or lost anything.
pub(crate) fn check_totals(state: &Overlay<'_>) -> Result<(), Refusal> {
    // Hardly ever more than one currency: a list is the fastest map.
    let mut differences: Vec<(String, i128)> = Vec::new();
    for (key, before, now) in state.touched(keys::ACCOUNTS) {
        for (bytes, sign) in [(before.as_deref(), -1), (now, 1)] {
            let Some(bytes) = bytes else { continue };
            let (currency, balance) = Account::peek(bytes).ok_or_else(|| crate::records::corrupt(key))?;
            let change = sign * i128::from(balance);
            match differences.iter_mut().find(|(known, _)| known == currency) {
                Some((_, difference)) => *difference += change,
                None => differences.push((currency.to_owned(), change)),
            }
        }
    }
    match differences.into_iter().find(|(_, difference)| *difference != 0) {
        Some((currency, difference)) => {
            let difference = i64::try_from(difference).unwrap_or(i64::MAX);
            Err(Refusal::TotalsBroken { currency, difference })
        }
        None => Ok(()),
    }
}
