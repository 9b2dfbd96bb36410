//! The genesis file: YAML to records, every fault at once.

use super::{Genesis, GenesisAccount, GenesisIssue, GenesisStanding, RETIRE_AFTER_USUAL};
use crate::datum::FieldType;
use crate::yaml::{self, Faults, Node, Section};
use crate::{Contract, Fault, LIBRARY, minor_digits, parse_amount};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;
use tally_evidence::cbor::{Cbor, int, text};
use tally_evidence::{DeviceRecord, KeyScheme, PartyKind, PartyRecord, VerifyingKey};
use tally_model::{ContractName, PartyId, Timestamp, parse_duration};

type ReadFile<'a> = &'a dyn Fn(&str) -> Result<String, String>;

pub(super) fn read(source: &str, read_file: ReadFile<'_>) -> Result<Genesis, Vec<Fault>> {
    let root = yaml::parse(source).map_err(|fault| vec![fault])?;
    let mut reader = Reader { faults: Faults::default(), read_file, parties: BTreeMap::new(), contracts: Vec::new() };
    let genesis = reader.genesis(&root);
    let mut faults = reader.faults.0;
    if faults.is_empty() {
        return Ok(genesis);
    }
    faults.sort_by_key(|fault| (fault.line, fault.column));
    Err(faults)
}

struct Reader<'a> {
    faults: Faults,
    read_file: ReadFile<'a>,
    parties: BTreeMap<PartyId, PartyKind>,
    contracts: Vec<Contract>,
}

impl Reader<'_> {
    fn genesis(&mut self, root: &Node) -> Genesis {
        let mut section = self.faults.section(root, "");
        let mut genesis = Genesis { keys: KeyScheme::Grouped, ..Genesis::default() };
        let parties = section.need("parties", &mut self.faults);
        genesis.parties = self.each(parties, "parties", Self::party);
        self.firms(&genesis.parties, root);
        let (devices, accounts) = (section.take("devices"), section.take("accounts"));
        genesis.devices = self.each(devices, "devices", Self::device);
        genesis.accounts = self.each(accounts, "accounts", Self::account);
        genesis.issue = self.each(section.take("issue"), "issue", Self::issue);
        genesis.contracts = self.each(section.take("contracts"), "contracts", Self::contract);
        genesis.standing = self.each(section.take("standing"), "standing", Self::standing);
        let organisation = |reader: &mut Self, node: &Node, path: &str| reader.known(node, path, None);
        genesis.admins = self.each(section.take("admins"), "admins", organisation);
        genesis.issuer = section.take("issuer").and_then(|node| self.known(node, "issuer", None));
        genesis.retire_after = match section.take("retire_after") {
            Some(node) => self.retire_after(node),
            None => Some(RETIRE_AFTER_USUAL),
        };
        genesis.at = section.take("at").and_then(|node| self.time(node)).unwrap_or_default();
        section.finish(&mut self.faults);
        genesis
    }

    fn each<T>(
        &mut self,
        node: Option<&Node>,
        path: &str,
        read: impl Fn(&mut Self, &Node, &str) -> Option<T>,
    ) -> Vec<T> {
        let items = node.map(|node| self.faults.list(node, path)).unwrap_or_default();
        let read = |(place, item)| read(self, item, &format!("{path}[{place}]"));
        items.iter().enumerate().filter_map(read).collect()
    }

    /// `never`, or a duration above zero.
    fn retire_after(&mut self, node: &Node) -> Option<Duration> {
        const HINT: &str = "write a duration such as `90d`, or `never`";
        let source = self.faults.scalar(node, "retire_after", "a duration, or `never`")?;
        if source == "never" {
            return None;
        }
        let after = parse_duration(source).ok().filter(|after| after.as_micros() > 0);
        if after.is_none() {
            self.faults.add(node, "retire_after", format!("is `{source}`"), HINT);
        }
        after
    }

    fn time(&mut self, node: &Node) -> Option<Timestamp> {
        let source = self.faults.scalar(node, "at", "an RFC 3339 time")?;
        let time = Timestamp::parse_rfc3339(source);
        if time.is_none() {
            self.faults.add(node, "at", format!("is `{source}`"), "write for example `2026-11-21T03:05:00Z`");
        }
        time
    }

    /// The id of a party written above, of a kind if one is asked for.
    fn known(&mut self, node: &Node, path: &str, kind: Option<PartyKind>) -> Option<PartyId> {
        let id: PartyId = self.faults.parse(node, path, "the id of a party of `parties:`")?;
        match self.parties.get(&id) {
            Some(found) if kind.is_none_or(|kind| *found == kind) => return Some(id),
            Some(found) => {
                let found = format!("`{id}` is of kind {}", found.word());
                let hint = format!("name a party of kind {}", kind.map_or("", PartyKind::word));
                self.faults.add(node, path, found, hint);
            }
            None => {
                let known = self.parties.keys().map(PartyId::as_str).collect::<Vec<_>>().join(", ");
                self.faults.add(node, path, format!("`{id}` is no party"), format!("`parties:` has: {known}"));
            }
        }
        None
    }

    fn party(&mut self, node: &Node, path: &str) -> Option<PartyRecord> {
        let mut section = self.faults.section(node, path);
        let faults = &mut self.faults;
        let id = section.need("id", faults).and_then(|it| faults.parse(it, &format!("{path}.id"), "a party id"));
        let kind = section.need("kind", faults).and_then(|it| kind_of(faults, it, &format!("{path}.kind")));
        let name = section.take("name").and_then(|it| faults.scalar(it, &format!("{path}.name"), "a name"));
        let firm = section.take("firm").map(|it| faults.parse(it, &format!("{path}.firm"), "a party id"));
        let skills = section.take("skills").map(|it| faults.list(it, &format!("{path}.skills"))).unwrap_or_default();
        let skills: Vec<_> = skills
            .iter()
            .filter_map(|it| faults.scalar(it, &format!("{path}.skills"), "a word").map(str::to_owned))
            .collect();
        let key = section.need("key", faults);
        section.finish(faults);
        let key = key.and_then(|it| self.key(it, &format!("{path}.key")));
        let (id, kind): (PartyId, PartyKind) = (id?, kind?);
        if self.parties.insert(id.clone(), kind).is_some() {
            self.faults.add(node, path, format!("party `{id}` is written twice"), "give each party its own id");
        }
        let firm = match firm {
            Some(firm) => Some(firm?),
            None => None,
        };
        let name = name.map_or_else(|| id.to_string(), str::to_owned);
        Some(PartyRecord { id, kind, name, key: key?, firm, skills })
    }

    /// Inline PEM, or the path of a PEM file.
    fn key(&mut self, node: &Node, path: &str) -> Option<VerifyingKey> {
        let source = self.faults.scalar(node, path, "the path of a PEM file, or the PEM itself")?;
        let pem = if source.contains("-----BEGIN") { Ok(source.to_owned()) } else { (self.read_file)(source) };
        let key = pem.and_then(|pem| VerifyingKey::from_pem(&pem).map_err(|fault| fault.to_string()));
        key.map_err(|fault| {
            let shown = if source.contains('\n') { "the inline PEM" } else { source };
            self.faults.add(node, path, format!("{shown}: {fault}"), "name a PEM file with a P-256 public key");
        })
        .ok()
    }

    /// Firms may be written after their people.
    fn firms(&mut self, parties: &[PartyRecord], root: &Node) {
        for party in parties {
            let Some(firm) = &party.firm else { continue };
            if !matches!(self.parties.get(firm), Some(PartyKind::Organisation | PartyKind::Regulator)) {
                let found = format!("`{}` works for `{firm}`, which is no organisation or regulator here", party.id);
                self.faults.add(root, "parties", found, "write the firm as a party of kind organisation");
            }
        }
    }

    fn device(&mut self, node: &Node, path: &str) -> Option<DeviceRecord> {
        let mut section = self.faults.section(node, path);
        let id = section.need("id", &mut self.faults);
        let id = id.and_then(|it| self.faults.parse(it, &format!("{path}.id"), "a device id"));
        let agent = section.need("agent", &mut self.faults);
        let agent = agent.and_then(|it| self.known(it, &format!("{path}.agent"), Some(PartyKind::Agent)));
        let owner = self.owner(&mut section);
        let site = section.take("site").map(|it| self.faults.parse(it, &format!("{path}.site"), "a site id"));
        section.finish(&mut self.faults);
        let site = match site {
            Some(site) => Some(site?),
            None => None,
        };
        Some(DeviceRecord { id: id?, agent: agent?, owner: owner?, site })
    }

    fn owner(&mut self, section: &mut Section<'_>) -> Option<PartyId> {
        let owner = section.need("owner", &mut self.faults)?;
        self.known(owner, &section.path_of("owner"), Some(PartyKind::Organisation))
    }

    fn currency(&mut self, section: &mut Section<'_>) -> Option<String> {
        let node = section.need("currency", &mut self.faults)?;
        let path = section.path_of("currency");
        let code = self.faults.scalar(node, &path, "an ISO 4217 code")?;
        if minor_digits(code).is_none() {
            self.faults.add(node, &path, format!("`{code}` is no currency"), "write an ISO 4217 code such as `EUR`");
            return None;
        }
        Some(code.to_owned())
    }

    fn account(&mut self, node: &Node, path: &str) -> Option<GenesisAccount> {
        let mut section = self.faults.section(node, path);
        let (owner, currency) = (self.owner(&mut section), self.currency(&mut section));
        section.finish(&mut self.faults);
        Some(GenesisAccount { owner: owner?, currency: currency? })
    }

    fn issue(&mut self, node: &Node, path: &str) -> Option<GenesisIssue> {
        let mut section = self.faults.section(node, path);
        let (owner, currency) = (self.owner(&mut section), self.currency(&mut section));
        let amount = section.need("amount", &mut self.faults);
        section.finish(&mut self.faults);
        let (owner, currency) = (owner?, currency?);
        let amount = self.money(amount?, &format!("{path}.amount"), &currency).filter(|amount| *amount > 0);
        Some(GenesisIssue { owner, currency, amount: amount? })
    }

    /// Digits alone are minor units; with a point, `"1000.00"`, it is the amount as people write it.
    fn money(&mut self, node: &Node, path: &str, currency: &str) -> Option<i64> {
        let source = self.faults.scalar(node, path, "an amount")?;
        let amount = if source.contains('.') { parse_amount(source, currency) } else { source.parse().ok() };
        if amount.is_none() {
            let hint = format!("write minor units (`100000`), or the amount of {currency} in quotes (`\"1000.00\"`)");
            self.faults.add(node, path, format!("`{source}` is no amount of {currency}"), hint);
        }
        amount
    }

    /// The name of a contract of the library, the path of a file, or the text itself.
    fn contract(&mut self, node: &Node, path: &str) -> Option<String> {
        let source = self.faults.scalar(node, path, "the name of a library contract, or the path of a YAML file")?;
        let library = LIBRARY.iter().find(|(name, _)| *name == source).map(|(_, text)| Ok((*text).to_owned()));
        let inline = source.contains('\n').then(|| Ok(source.to_owned()));
        let found = library.or(inline).unwrap_or_else(|| (self.read_file)(source));
        let yaml = found.map_err(|fault| {
            let names = LIBRARY.iter().map(|(name, _)| *name).collect::<Vec<_>>().join(", ");
            self.faults.add(node, path, format!("`{source}`: {fault}"), format!("the library has: {names}"));
        });
        let yaml = yaml.ok()?;
        match Contract::from_yaml(&yaml) {
            Ok(contract) => self.contracts.push(contract),
            Err(faults) => {
                for fault in faults {
                    self.faults.add(node, path, format!("contract {fault}"), "correct the contract");
                }
            }
        }
        Some(yaml)
    }

    fn standing(&mut self, node: &Node, path: &str) -> Option<GenesisStanding> {
        let pairs = self.faults.map(node, path);
        let find = |key: &str| pairs.iter().find(|(name, _, _)| *name == key).map(|(_, _, value)| *value);
        let mut section = self.faults.section(node, path);
        let contract = section.need("contract", &mut self.faults)?;
        let name: ContractName = self.faults.parse(contract, path, "the name of a contract")?;
        let currency = self.currency(&mut section)?;
        let kinds = self.kinds(&name, contract, path)?;
        let mut args = BTreeMap::from([("currency".to_owned(), text(currency.as_str()))]);
        for (name, place, value) in pairs.iter().filter(|(name, _, _)| !["contract", "currency"].contains(name)) {
            let key = format!("{path}.{name}");
            match kinds.get(*name) {
                Some(kind) => {
                    args.extend(self.term(*kind, value, &key, &currency).map(|value| ((*name).to_owned(), value)));
                }
                None => {
                    let known = kinds.keys().map(String::as_str).collect::<Vec<_>>().join(", ");
                    self.faults.add(place, &key, "is unknown", format!("allowed here: contract, currency, {known}"));
                }
            }
        }
        for missing in self.required(&name).iter().filter(|required| find(required).is_none()) {
            self.faults.add(node, &format!("{path}.{missing}"), "is missing", format!("write `{missing}:` here"));
        }
        Some(GenesisStanding { contract: name, args })
    }

    fn kinds(&mut self, name: &ContractName, node: &Node, path: &str) -> Option<BTreeMap<String, FieldType>> {
        let Some(contract) = self.contracts.iter().find(|contract| contract.name == *name) else {
            let hint = "write it into `contracts:` of this file";
            self.faults.add(node, path, format!("contract `{name}` is not deployed here"), hint);
            return None;
        };
        let names = contract.standing.required.iter().chain(contract.standing.optional.keys());
        let kind = |name: &String| contract.fields.get(name).copied().unwrap_or(FieldType::Party);
        let mut kinds: BTreeMap<_, _> = names.map(|name| (name.clone(), kind(name))).collect();
        kinds.insert("device".to_owned(), FieldType::Device);
        Some(kinds)
    }

    fn required(&self, name: &ContractName) -> BTreeSet<String> {
        let contract = self.contracts.iter().find(|contract| contract.name == *name);
        let required = contract.map(|contract| contract.standing.required.iter().cloned());
        required.into_iter().flatten().chain(["device".to_owned()]).collect()
    }

    /// One standing term as the argument a call would carry.
    fn term(&mut self, kind: FieldType, node: &Node, path: &str, currency: &str) -> Option<Cbor> {
        if kind == FieldType::Money {
            return self.money(node, path, currency).map(int);
        }
        let source = self.faults.scalar(node, path, kind.expected())?;
        let value = match kind {
            FieldType::Integer | FieldType::Time => source.parse::<i64>().ok().map(int),
            FieldType::Bool => source.parse().ok().map(Cbor::Bool),
            _ => Some(text(source)),
        };
        let value = value.filter(|value| kind.read(value).is_some());
        if value.is_none() {
            self.faults.add(node, path, format!("is `{source}`"), format!("write {}", kind.expected()));
        }
        value
    }
}

fn kind_of(faults: &mut Faults, node: &Node, path: &str) -> Option<PartyKind> {
    let word = faults.scalar(node, path, "a kind of party")?;
    let kind = PartyKind::from_word(word);
    kind.map_err(|fault| faults.add(node, path, fault.to_string(), "write one of these words")).ok()
}
