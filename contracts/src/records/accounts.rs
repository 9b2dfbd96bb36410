//! Money.

use crate::codec::{Reader, Record, Writer};

/// An account. Whose and what it is stands in its id; the owner of an escrow account is the payer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Account {
    pub owner: String,
    pub currency: String,
    pub balance: i64,
}

impl Account {
    /// Currency and balance of an account's record, in place.
    pub(crate) fn peek(bytes: &[u8]) -> Option<(&str, i64)> {
        let mut from = Reader::new(bytes);
        from.array_of(3)?;
        from.text()?;
        let (currency, balance) = (from.text()?, from.int()?);
        from.is_over().then_some((currency, balance))
    }
}

impl Record for Account {
    fn write(&self, to: &mut Writer) {
        to.array(3).text(&self.owner).text(&self.currency).int(self.balance);
    }

    fn read(from: &mut Reader<'_>) -> Option<Self> {
        from.array_of(3)?;
        Some(Self { owner: from.text()?.to_owned(), currency: from.text()?.to_owned(), balance: from.int()? })
    }
}
