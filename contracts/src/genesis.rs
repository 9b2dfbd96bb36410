//! Entry 0: who and what the ledger begins with. YAML form: `docs/operator/contracts.md`.

mod read;

use crate::{Block, Fault, Input, Kernel, Overlay, Refusal};
use std::collections::BTreeMap;
use std::time::Duration;
use tally_evidence::cbor::{Cbor, int, map, text};
use tally_evidence::{CallBody, DeviceRecord, KeyId, KeyScheme, PartyRecord, RuleRecord};
use tally_model::{ActionName, ContractName, PartyId, Timestamp};

/// An account that exists from the start.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GenesisAccount {
    /// Which organisation.
    pub owner: PartyId,
    /// ISO 4217 code.
    pub currency: String,
}

/// Money issued at the start; opens the account when needed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GenesisIssue {
    /// To which organisation.
    pub owner: PartyId,
    /// ISO 4217 code.
    pub currency: String,
    /// In minor units.
    pub amount: i64,
}

/// Standing terms that hold from the start; open the accounts they need.
#[derive(Debug, Clone, PartialEq)]
pub struct GenesisStanding {
    /// Of which contract.
    pub contract: ContractName,
    /// As in the call `standing`: `device`, `currency` and what the contract's `standing:` names.
    pub args: BTreeMap<String, Cbor>,
}

/// What the ledger begins with.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Genesis {
    /// Parties that may register and revoke anyone and deploy contracts.
    pub admins: Vec<PartyId>,
    /// The only party that may issue money later.
    pub issuer: Option<PartyId>,
    /// Parties.
    pub parties: Vec<PartyRecord>,
    /// Devices.
    pub devices: Vec<DeviceRecord>,
    /// Rules, from the mappings; [`Genesis::from_yaml`] leaves them empty.
    pub rules: Vec<RuleRecord>,
    /// Accounts.
    pub accounts: Vec<GenesisAccount>,
    /// Money.
    pub issue: Vec<GenesisIssue>,
    /// Contract texts (YAML).
    pub contracts: Vec<String>,
    /// Standing terms.
    pub standing: Vec<GenesisStanding>,
    /// How long behind its end an agreement leaves the state; for ever in it when `None`. Whole microseconds.
    pub retire_after: Option<Duration>,
    /// How the keys of the state are hashed; a genesis file always means [`KeyScheme::Grouped`].
    pub keys: KeyScheme,
    /// When it was made; may be left at the epoch.
    pub at: Timestamp,
}

/// What [`Genesis::retire_after`] is in a genesis file that does not say.
pub const RETIRE_AFTER_USUAL: Duration = Duration::from_secs(90 * 24 * 3600);

impl Genesis {
    /// Reads a genesis file; `read_file` gives the text of key and contract files it names.
    ///
    /// # Errors
    /// All mistakes at once. When the text alone shows none, the genesis is tried out, and what the kernel refuses is told.
    pub fn from_yaml(text: &str, read_file: &dyn Fn(&str) -> Result<String, String>) -> Result<Self, Vec<Fault>> {
        let genesis = read::read(text, read_file)?;
        genesis.try_out().map(|()| genesis.clone()).map_err(|refusal| {
            let hint = format!("refusal {}: {}", refusal.number(), Refusal::describe(refusal.number()));
            vec![Fault { line: 0, column: 0, key: String::new(), found: refusal.to_string(), hint }]
        })
    }

    /// Executes it on an empty state.
    ///
    /// # Errors
    /// What the kernel would refuse.
    pub fn try_out(&self) -> Result<(), Refusal> {
        let empty = BTreeMap::new();
        // Any name that no party has will do: it only has to be the signer.
        let ledger = PartyId::try_new("tried-out-ledger").unwrap_or_else(|_| unreachable!("a fixed id"));
        let block = Block { ledger: ledger.to_string(), height: 0, time: self.at };
        let body = genesis_body(self);
        let input = Input::Call { entry: 0, signer: &ledger, key: KeyId([0; 32]), body: &body };
        Kernel::new().execute(&mut Overlay::new(&empty), &block, &input).map(|_| ())
    }
}

/// The call that carries the genesis; sealed by the ledger key, with the ledger's name as `iss`, as entry 0.
#[must_use]
pub fn genesis_body(genesis: &Genesis) -> CallBody {
    let list = |items: Vec<Cbor>| Cbor::Array(items);
    let accounts = genesis
        .accounts
        .iter()
        .map(|account| map([("owner", text(account.owner.as_str())), ("currency", text(account.currency.as_str()))]));
    let issue = genesis.issue.iter().map(|issue| {
        let (owner, currency) = (text(issue.owner.as_str()), text(issue.currency.as_str()));
        map([("owner", owner), ("currency", currency), ("amount", int(issue.amount))])
    });
    let standing = genesis.standing.iter().map(|standing| {
        let mut terms: BTreeMap<_, _> = standing.args.clone();
        terms.insert("contract".to_owned(), text(standing.contract.as_str()));
        map(terms)
    });
    let mut args = BTreeMap::from([
        ("parties", list(genesis.parties.iter().map(PartyRecord::to_cbor).collect())),
        ("devices", list(genesis.devices.iter().map(DeviceRecord::to_cbor).collect())),
        ("rules", list(genesis.rules.iter().map(RuleRecord::to_cbor).collect())),
        ("admins", list(genesis.admins.iter().map(|id| text(id.as_str())).collect())),
        ("accounts", list(accounts.collect())),
        ("issue", list(issue.collect())),
        ("contracts", list(genesis.contracts.iter().map(text).collect())),
        ("standing", list(standing.collect())),
    ]);
    if let Some(issuer) = &genesis.issuer {
        args.insert("issuer", text(issuer.as_str()));
    }
    if let Some(after) = genesis.retire_after {
        args.insert("retire-after", int(i64::try_from(after.as_micros()).unwrap_or(i64::MAX)));
    }
    if genesis.keys != KeyScheme::Scattered {
        args.insert("state-keys", int(genesis.keys.number()));
    }
    CallBody {
        contract: ContractName::try_new("registry").unwrap_or_else(|_| unreachable!("a fixed word")),
        action: ActionName::try_new("genesis").unwrap_or_else(|_| unreachable!("a fixed word")),
        agreement: None,
        args: args.into_iter().map(|(name, value)| (name.to_owned(), value)).collect(),
        nonce: [0; 16],
        at: genesis.at,
    }
}
