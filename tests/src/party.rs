//! Somebody with a key who calls contracts, without going through `tally call`.

use crate::{Site, eventually};
use std::collections::BTreeMap;
use std::time::{SystemTime, UNIX_EPOCH};
use tally_evidence::cbor::Cbor;
use tally_evidence::{CallBody, SignedStatement, SigningKey, StatementId, StatementKind, sign};
use tally_ledger_client::{Client, SubmitError};
use tally_model::{AgreementId, PartyId, Timestamp};

/// A party of a site.
#[derive(Clone)]
pub struct Party {
    /// Its id.
    pub id: PartyId,
    /// Its key.
    pub key: SigningKey,
    /// The ledger its statements are for.
    pub ledger: String,
}

/// A statement that was acknowledged.
#[derive(Debug, Clone)]
pub struct Done {
    /// The statement.
    pub id: StatementId,
    /// As it was sent.
    pub statement: Vec<u8>,
    /// The receipt that came back.
    pub receipt: Vec<u8>,
    /// Its entry.
    pub entry: u64,
    /// The contract's refusal.
    pub refusal: Option<u16>,
}

impl Party {
    /// A party of the site, with the key that `tally init` made.
    ///
    /// # Panics
    /// When it has none.
    #[must_use]
    pub fn of(site: &Site, id: &str) -> Self {
        Self { id: PartyId::try_new(id).unwrap(), key: site.key(id), ledger: "press-line".to_owned() }
    }

    /// Seals a call.
    ///
    /// # Panics
    /// When a name is none.
    #[must_use]
    pub fn seal(&self, contract: &str, action: &str, agreement: Option<&str>, args: &[(&str, Cbor)]) -> Vec<u8> {
        let mut nonce = [0; 16];
        getrandom::fill(&mut nonce).unwrap();
        let body = CallBody {
            contract: contract.parse().unwrap(),
            action: action.parse().unwrap(),
            agreement: agreement.map(|id| AgreementId::try_new(id).unwrap()),
            args: args.iter().map(|(name, value)| ((*name).to_owned(), value.clone())).collect::<BTreeMap<_, _>>(),
            nonce,
            at: now(),
        };
        sign(
            StatementKind::Call,
            &self.key,
            &self.id,
            body.subject(),
            &self.ledger,
            body.at.as_seconds(),
            body.encode(),
        )
    }

    /// Seals a call and submits it until it is acknowledged, as an agent would: the same bytes again after each *not now*.
    ///
    /// # Panics
    /// When it is refused at the door.
    pub async fn call(
        &self,
        node: &Client,
        contract: &str,
        action: &str,
        agreement: Option<&str>,
        args: &[(&str, Cbor)],
    ) -> Done {
        submit(node, self.seal(contract, action, agreement, args)).await
    }
}

/// Submits until acknowledged.
async fn submit(node: &Client, statement: Vec<u8>) -> Done {
    let id = SignedStatement::parse(&statement).unwrap().id;
    let submitted = eventually("the node to take a call", async || match node.submit(&statement).await {
        Ok(submitted) => Some(submitted),
        Err(SubmitError::NotNow { .. } | SubmitError::NotFinal { .. }) => None,
        Err(refused) => panic!("{refused}"),
    });
    let submitted = submitted.await;
    Done { id, statement, receipt: submitted.receipt, entry: submitted.entry, refusal: submitted.refusal }
}

/// Now, by the wall clock.
fn now() -> Timestamp {
    let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    Timestamp::from_micros(i64::try_from(since_epoch.as_micros()).unwrap())
}
