//! Money: both sides of every movement, and what the accounts hold after it.

use super::{Batch, Cause};
use crate::database::{Fault, Value};
use crate::rows::{Column, number, text};
use tally_evidence::Event;

/// How much an account changes in these blocks.
#[derive(Default)]
pub(super) struct Account {
    owner: String,
    currency: String,
    change: i64,
}

impl Batch<'_> {
    /// Money into or out of the escrow of an agreement.
    pub(super) fn escrow(&mut self, cause: &Cause<'_>, event: &Event, seq: u64) -> Result<(), Fault> {
        let currency = text(event, "currency").unwrap_or_default();
        let other = text(event, "from").or_else(|| text(event, "to")).unwrap_or_default();
        let (escrow, account) = (format!("escrow:{}", event.subject), format!("{other}/{currency}"));
        let is_held = event.kind == "escrow.held";
        let amount = number(event, "amount").unwrap_or_default();
        if let Some(row) = self.agreement(&event.subject)? {
            row.add(Column::Held, if is_held { amount } else { amount.saturating_neg() });
            if event.kind == "payment.made" {
                row.add(Column::Paid, amount);
            }
        }
        // The owner of an escrow account is who paid first into it; later postings leave that as it is.
        let (inside, outside) = ((escrow.as_str(), other), (account.as_str(), other));
        if is_held {
            self.posting(cause, event, seq, outside, inside)
        } else {
            self.posting(cause, event, seq, inside, outside)
        }
    }

    /// Both sides of a movement; accounts come with their owners.
    pub(super) fn posting(
        &mut self,
        cause: &Cause<'_>,
        event: &Event,
        seq: u64,
        (from, payer): (&str, &str),
        (to, payee): (&str, &str),
    ) -> Result<(), Fault> {
        const COLUMNS: &str = "height, seq, side, account, amount_minor, currency, agreement";
        if from == to {
            return Ok(());
        }
        let currency = text(event, "currency").unwrap_or_default();
        let amount = number(event, "amount").unwrap_or_default();
        for (side, account, owner, amount) in [(0, from, payer, amount.saturating_neg()), (1, to, payee, amount)] {
            let row = [
                Value::count(cause.height),
                Value::count(seq),
                side.into(),
                Value::text(account),
                amount.into(),
                Value::text(currency),
                Value::text_or_null(cause.agreement.as_deref()),
            ];
            self.insert("postings", COLUMNS, &row)?;
            self.change(account, owner, currency, amount);
        }
        Ok(())
    }

    pub(super) fn change(&mut self, account: &str, owner: &str, currency: &str, amount: i64) {
        let new = || Account { owner: owner.to_owned(), currency: currency.to_owned(), change: 0 };
        let account = self.accounts.entry(account.to_owned()).or_insert_with(new);
        account.change = account.change.saturating_add(amount);
    }

    /// What the accounts hold behind these blocks.
    pub(super) fn write_accounts(&mut self) -> Result<(), Fault> {
        let sql = "INSERT INTO accounts (account, owner, currency, balance_minor) VALUES (?1, ?2, ?3, ?4) \
                   ON CONFLICT (account) DO UPDATE SET balance_minor = accounts.balance_minor + excluded.balance_minor";
        for (id, account) in &self.accounts {
            let Account { owner, currency, change } = account;
            let row = [
                Value::text(id.as_str()),
                Value::text(owner.as_str()),
                Value::text(currency.as_str()),
                (*change).into(),
            ];
            self.database.run(sql, &row)?;
            if id.starts_with("escrow:") {
                // As in the ledger: an empty escrow disappears.
                let sql = "DELETE FROM accounts WHERE account = ?1 AND balance_minor = 0";
                self.database.run(sql, &[Value::text(id.as_str())])?;
            }
        }
        Ok(())
    }
}
