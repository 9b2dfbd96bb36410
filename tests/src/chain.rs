//! The whole ledger, read over HTTP and checked from the first entry to the last, as an auditor would who trusts nobody.

use futures_util::{StreamExt, TryStreamExt, stream};
use std::collections::BTreeMap;
use tally_evidence::{
    CallBody, Checkpoint, Receipt, SignedStatement, StatementId, StatementKind, Tree, TriggerBody, VerifyingKey,
    leaf_hash,
};
use tally_ledger_client::{Client, RequestError};

/// Questions at once; the node takes 64.
const AT_ONCE: usize = 16;

/// An entry of the ledger.
#[derive(Debug, Clone)]
pub struct Entry {
    /// Its place.
    pub index: u64,
    /// The statement as it came.
    pub bytes: Vec<u8>,
    /// The same, taken apart.
    pub statement: SignedStatement,
    /// Its receipt, which was checked against the tree.
    pub receipt: Vec<u8>,
    /// What the contracts made of it: the number of their refusal, 0 when it was done.
    pub refusal: u64,
    /// What happened: kinds and subjects of its events.
    pub events: Vec<(String, String)>,
}

/// The ledger as it was read.
#[derive(Debug, Clone)]
pub struct Chain {
    /// One for each block, oldest first; each names the digest of the one before.
    pub checkpoints: Vec<Checkpoint>,
    /// All entries.
    pub entries: Vec<Entry>,
}

impl Chain {
    /// Reads and checks everything up to the last checkpoint.
    ///
    /// # Panics
    /// When anything does not hold.
    pub async fn read(node: &Client, key: &VerifyingKey) -> Self {
        let head = Checkpoint::open(&node.get_bytes("/checkpoint").await.unwrap(), key).unwrap();
        let checkpoints = stream::iter(0..=head.height)
            .map(|height| async move { node.get_bytes(&format!("/checkpoints/{height}")).await });
        let checkpoints: Vec<_> = checkpoints.buffered(AT_ONCE).try_collect().await.unwrap();
        let checkpoints: Vec<_> = checkpoints.iter().map(|sealed| Checkpoint::open(sealed, key).unwrap()).collect();
        assert_eq!(checkpoints.last(), Some(&head), "the last checkpoint is the one shown");
        let entries = stream::iter(0..head.size).map(|index| Entry::read(node, index));
        let entries = entries.buffered(AT_ONCE).try_collect().await.unwrap();
        let chain = Self { checkpoints, entries };
        chain.check_checkpoints();
        chain.check_entries(key);
        chain
    }

    fn check_checkpoints(&self) {
        let mut previous = ([0; 32], None::<&Checkpoint>);
        for (height, checkpoint) in self.checkpoints.iter().enumerate() {
            assert_eq!(checkpoint.height, u64::try_from(height).unwrap());
            assert_eq!(checkpoint.previous, previous.0, "checkpoint {height} does not follow the one before");
            if let Some(before) = previous.1 {
                assert!(checkpoint.size >= before.size && checkpoint.time >= before.time, "checkpoint {height} falls");
            }
            previous = (checkpoint.digest(), Some(checkpoint));
        }
    }

    /// Every root of every checkpoint follows from the entries; every receipt proves its entry under one of these roots; no
    /// statement stands in the ledger twice.
    fn check_entries(&self, key: &VerifyingKey) {
        let (mut tree, mut seen) = (Tree::default(), BTreeMap::new());
        for entry in &self.entries {
            tree.push(leaf_hash(&entry.statement.id.0));
            if let Some(first) = seen.insert(entry.statement.id, entry.index) {
                panic!("statement {} is entry {first} and entry {}", entry.statement.id, entry.index);
            }
        }
        for checkpoint in &self.checkpoints {
            assert_eq!(tree.root_at(checkpoint.size), Some(checkpoint.root), "root at height {}", checkpoint.height);
        }
        for entry in &self.entries {
            let receipt = Receipt::parse(&entry.receipt).unwrap();
            let root = receipt.check(&entry.statement.id, key).unwrap();
            assert_eq!((receipt.index, tree.root_at(receipt.size)), (entry.index, Some(root)), "entry {}", entry.index);
        }
    }

    /// The entry of a statement.
    #[must_use]
    pub fn find(&self, id: &StatementId) -> Option<&Entry> {
        self.entries.iter().find(|entry| entry.statement.id == *id)
    }

    /// The triggers of an agent, in ledger order.
    ///
    /// # Panics
    /// When a body is none.
    #[must_use]
    pub fn triggers(&self, agent: &str) -> Vec<(&Entry, TriggerBody)> {
        self.entries.iter().filter_map(|entry| Some((entry, entry.trigger(agent)?))).collect()
    }

    /// The calls of everybody, in ledger order.
    ///
    /// # Panics
    /// When a body is none.
    #[must_use]
    pub fn calls(&self) -> Vec<(&Entry, CallBody)> {
        let calls = self.entries.iter().filter(|entry| entry.statement.kind == StatementKind::Call);
        calls.map(|entry| (entry, CallBody::decode(&entry.statement.payload).unwrap())).collect()
    }
}

impl Entry {
    /// What it says when it is a trigger of this agent.
    ///
    /// # Panics
    /// When its body is none.
    #[must_use]
    pub fn trigger(&self, agent: &str) -> Option<TriggerBody> {
        let statement = &self.statement;
        let is_its = statement.kind == StatementKind::Trigger && statement.issuer.as_str() == agent;
        is_its.then(|| TriggerBody::decode(&statement.payload).unwrap())
    }

    /// Reads one entry.
    ///
    /// # Errors
    /// When the node does not answer.
    ///
    /// # Panics
    /// When what it answers makes no sense.
    pub async fn read(node: &Client, index: u64) -> Result<Self, RequestError> {
        let bytes = node.get_bytes(&format!("/entries/{index}/statement")).await?;
        let receipt = node.get_bytes(&format!("/entries/{index}")).await?;
        let outcome = node.get_json(&format!("/entries/{index}/outcome")).await?;
        let statement = SignedStatement::parse(&bytes).unwrap();
        assert_eq!((&outcome["entry"], &outcome["statement"]), (&index.into(), &statement.id.to_string().into()));
        let events = outcome["events"].as_array().unwrap().iter();
        let word = |event: &serde_json::Value, key: &str| event[key].as_str().unwrap().to_owned();
        Ok(Self {
            index,
            bytes,
            statement,
            receipt,
            refusal: outcome["refusal"].as_u64().unwrap(),
            events: events.map(|event| (word(event, "kind"), word(event, "subject"))).collect(),
        })
    }
}
