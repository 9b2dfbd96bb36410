//! A small plant for the tests and the bench: parties with keys, devices, rules, standing terms, and what they seal.
//!
//! Everything is deterministic: the same plant seals the same bytes. Its keys are no secrets; never use them for anything real.

use std::collections::BTreeMap;
use std::time::Duration;
use tally_contracts::{Genesis, GenesisIssue, GenesisStanding, LIBRARY};
use tally_evidence::cbor::{Cbor, int, text};
use tally_evidence::{
    BatchBody, BatchEnvelope, BatchFault, CallBody, DeviceRecord, KeyFault, KeyScheme, PartyKind, PartyRecord,
    ReadingsClaim, RuleRecord, SigningKey, StatementKind, Transition, TriggerBody, TriggerCall, sha256, sign,
};
use tally_model::{
    ActionName, AgreementId, CallTemplate, ContractName, DeviceId, IdFault, PartyId, PointId, Priority, RuleSource,
    Timestamp, TriggerId, Unit, UnitFault, Value, ValueKind,
};

/// The contract all orders are of.
const CONTRACT: &str = "maintenance-order";

/// Why a plant cannot be made; with its fixed names this does not happen.
#[derive(Debug, thiserror::Error)]
pub enum PlantFault {
    /// A name.
    #[error(transparent)]
    Id(#[from] IdFault),
    /// A key.
    #[error(transparent)]
    Key(#[from] KeyFault),
    /// A unit.
    #[error(transparent)]
    Unit(#[from] UnitFault),
    /// A batch.
    #[error(transparent)]
    Batch(#[from] BatchFault),
    /// The library has no maintenance order.
    #[error("the library has no contract `{CONTRACT}`")]
    Library,
}

/// How long an order's terms are.
#[derive(Debug, Clone, Copy)]
pub struct Terms {
    /// To accept.
    pub respond: &'static str,
}

impl Default for Terms {
    fn default() -> Self {
        Self { respond: "4h" }
    }
}

/// A plant: `acme` owns devices `press-000`…, `agent-00`… speak for them, `fixit` with `tina` and `tom` repairs.
pub struct Plant {
    /// Name of the ledger.
    pub ledger: String,
    /// The ledger's key.
    pub key: SigningKey,
    /// Of the agents, made once: making a key costs as much as sealing.
    agents: BTreeMap<String, SigningKey>,
    owners: usize,
    rules: Vec<[RuleRecord; 2]>,
    terms: Terms,
    retire_after: Option<Duration>,
    keys: KeyScheme,
}

impl Plant {
    /// So many agents and devices; device `n` belongs to agent `n % agents`.
    ///
    /// # Errors
    /// [`PlantFault`], never with these names.
    pub fn new(ledger: &str, agents: usize, devices: usize) -> Result<Self, PlantFault> {
        let rules = (0..devices).map(|device| {
            let device = device_id(device)?;
            Ok([rule(&device, "bearing-worn", "report")?, rule(&device, "bearing-good", "confirm")?])
        });
        let rules = rules.collect::<Result<_, PlantFault>>()?;
        let agents = (0..agents).map(agent_name).map(|name| Ok((name.clone(), key_of(&name)?)));
        let agents = agents.collect::<Result<_, PlantFault>>()?;
        let (ledger, key) = (ledger.to_owned(), key_of(ledger)?);
        Ok(Self {
            ledger,
            key,
            agents,
            owners: 1,
            rules,
            terms: Terms::default(),
            retire_after: None,
            keys: KeyScheme::Grouped,
        })
    }

    /// The same plant, whose agreements leave the state so long after their end.
    #[must_use]
    pub const fn retiring_after(mut self, time: Duration) -> Self {
        self.retire_after = Some(time);
        self
    }

    /// The same plant, whose ledger's state is hashed so; unless said otherwise as that of a new ledger is.
    #[must_use]
    pub const fn with_keys(mut self, keys: KeyScheme) -> Self {
        self.keys = keys;
        self
    }

    /// The same plant with other terms.
    #[must_use]
    pub fn with_terms(mut self, terms: Terms) -> Self {
        self.terms = terms;
        self
    }

    /// The same plant with so many owners, `acme`, `acme-01`…; device `n` belongs to owner `n % owners`.
    #[must_use]
    pub const fn with_owners(mut self, owners: usize) -> Self {
        self.owners = if owners == 0 { 1 } else { owners };
        self
    }

    /// What its ledger begins with.
    ///
    /// # Errors
    /// [`PlantFault`], never with these names.
    pub fn genesis(&self) -> Result<Genesis, PlantFault> {
        let mut parties = vec![party("admin", PartyKind::Regulator, None, &[])?];
        for owner in 0..self.owners {
            parties.push(party(&owner_name(owner), PartyKind::Organisation, None, &[])?);
        }
        parties.extend([
            party("fixit", PartyKind::Organisation, None, &[])?,
            party("tina", PartyKind::Person, Some("fixit"), &["bearing"])?,
            party("tom", PartyKind::Person, Some("fixit"), &["paint"])?,
        ]);
        for agent in 0..self.agents.len() {
            parties.push(party(&agent_name(agent), PartyKind::Agent, Some("acme"), &[])?);
        }
        let library = LIBRARY.iter().find(|(name, _)| *name == CONTRACT).ok_or(PlantFault::Library)?;
        let standing = (0..self.rules.len()).map(|device| self.standing(device));
        let device = |device| {
            let agent = PartyId::try_new(agent_name(self.agent_of(device)))?;
            let owner = PartyId::try_new(owner_name(device % self.owners))?;
            Ok(DeviceRecord { id: device_id(device)?, agent, owner, site: None })
        };
        let issue = |owner| {
            let owner = PartyId::try_new(owner_name(owner))?;
            Ok(GenesisIssue { owner, currency: "EUR".into(), amount: 1 << 50 })
        };
        Ok(Genesis {
            admins: vec![PartyId::try_new("admin")?],
            issuer: Some(PartyId::try_new("admin")?),
            parties,
            devices: (0..self.rules.len()).map(device).collect::<Result<_, PlantFault>>()?,
            rules: self.rules.iter().flatten().cloned().collect(),
            issue: (0..self.owners).map(issue).collect::<Result<_, PlantFault>>()?,
            contracts: vec![library.1.to_owned()],
            standing: standing.collect::<Result<_, PlantFault>>()?,
            retire_after: self.retire_after,
            keys: self.keys,
            ..Genesis::default()
        })
    }

    fn standing(&self, device: usize) -> Result<GenesisStanding, PlantFault> {
        let terms = [
            ("device", text(device_id(device)?.as_str())),
            ("currency", text("EUR")),
            ("maintainer", text("fixit")),
            ("price", int(50_000)),
            ("penalty", int(5_000)),
            ("skill", text("bearing")),
            ("respond", text(self.terms.respond)),
        ];
        let args = terms.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
        Ok(GenesisStanding { contract: ContractName::try_new(CONTRACT)?, args })
    }

    /// The agent that speaks for a device.
    #[must_use]
    pub fn agent_of(&self, device: usize) -> usize {
        device % self.agents.len().max(1)
    }

    /// A trigger `bearing-worn` of a device, sealed by its agent: number `number` of that agent's triggers, about `fault`.
    ///
    /// # Errors
    /// [`PlantFault`], never with these names.
    pub fn worn(&self, device: usize, number: u64, fault: &str) -> Result<Vec<u8>, PlantFault> {
        self.trigger(device, 0, number, fault, Priority::High)
    }

    /// A trigger `bearing-good`, likewise.
    ///
    /// # Errors
    /// [`PlantFault`], never with these names.
    pub fn good(&self, device: usize, number: u64, fault: &str) -> Result<Vec<u8>, PlantFault> {
        self.trigger(device, 1, number, fault, Priority::High)
    }

    /// A trigger of any priority; `which` is 0 for worn, 1 for good.
    ///
    /// # Errors
    /// [`PlantFault`], never with these names.
    pub fn trigger(
        &self,
        device: usize,
        which: usize,
        number: u64,
        fault: &str,
        priority: Priority,
    ) -> Result<Vec<u8>, PlantFault> {
        let body = self.body(device, which, number, fault, priority)?;
        let agent = agent_name(self.agent_of(device));
        self.seal(StatementKind::Trigger, &agent, body.device.as_str(), body.encode())
    }

    /// The body of such a trigger, not sealed. Without its `call` it asks for nothing, as any rule allows.
    ///
    /// # Errors
    /// [`PlantFault`], never with these names.
    pub fn body(
        &self,
        device: usize,
        which: usize,
        number: u64,
        fault: &str,
        priority: Priority,
    ) -> Result<TriggerBody, PlantFault> {
        let rule = &self.rules[device][which];
        let template = rule.rule.call.as_ref();
        let with = BTreeMap::from([("fault".to_owned(), Value::Text(fault.to_owned()))]);
        let call =
            template.map(|call| TriggerCall { contract: call.contract.clone(), action: call.action.clone(), with });
        let last = (number + 1) * 10;
        Ok(TriggerBody {
            trigger: rule.rule.id.clone(),
            device: rule.rule.device.clone(),
            rule: rule.digest(),
            transition: Transition::Raised,
            priority,
            at: Timestamp::from_micros(1_760_000_000_000_000),
            readings: ReadingsClaim {
                first: last - 9,
                last,
                root: sha256(&number.to_be_bytes()),
                head: sha256(fault.as_bytes()),
                points: BTreeMap::from([(PointId::try_new("vibration")?, last)]),
            },
            number,
            call,
            clock: None,
            grade: Default::default(),
            mapping: None,
            origins: Vec::new(),
            quality: None,
        })
    }

    /// These triggers under one seal of `agent-NN`, in their envelope.
    ///
    /// # Errors
    /// [`PlantFault`], also when there are none or too many.
    pub fn batch(&self, agent: usize, triggers: &[TriggerBody]) -> Result<Vec<u8>, PlantFault> {
        let bodies: Vec<_> = triggers.iter().map(TriggerBody::encode).collect();
        let batch = BatchBody::over(triggers.first().map_or(0, |first| first.number), &bodies)?;
        let agent = agent_name(agent);
        let statement = self.seal(StatementKind::Batch, &agent, &agent, batch.encode())?;
        Ok(BatchEnvelope::encode(&statement, &bodies))
    }

    /// A call on an agreement, sealed by `signer`.
    ///
    /// # Errors
    /// [`PlantFault`], never with these names.
    pub fn call(&self, signer: &str, action: &str, agreement: &str, nonce: u8) -> Result<Vec<u8>, PlantFault> {
        let mut body = body(CONTRACT, action, nonce)?;
        body.agreement = Some(AgreementId::try_new(agreement)?);
        self.seal(StatementKind::Call, signer, agreement, body.encode())
    }

    /// A call of the registry with one argument, sealed by `signer`.
    ///
    /// # Errors
    /// [`PlantFault`], never with these names.
    pub fn registry(&self, signer: &str, action: &str, argument: (&str, Cbor)) -> Result<Vec<u8>, PlantFault> {
        let mut body = body("registry", action, 0)?;
        body.args.insert(argument.0.to_owned(), argument.1);
        self.seal(StatementKind::Call, signer, "registry", body.encode())
    }

    fn seal(&self, kind: StatementKind, signer: &str, subject: &str, body: Vec<u8>) -> Result<Vec<u8>, PlantFault> {
        let issuer = PartyId::try_new(signer)?;
        let key = self.agents.get(signer).map_or_else(|| key_of(signer), |key| Ok(key.clone()))?;
        Ok(sign(kind, &key, &issuer, subject, &self.ledger, 1_760_000_000, body))
    }
}

/// The key of a party of that name.
///
/// # Errors
/// [`KeyFault`], in one of 2³² names.
pub fn key_of(name: &str) -> Result<SigningKey, KeyFault> {
    SigningKey::from_secret(&sha256(name.as_bytes()))
}

/// A party as the registry takes it.
///
/// # Errors
/// [`PlantFault`] for names that are none.
pub fn party(name: &str, kind: PartyKind, firm: Option<&str>, skills: &[&str]) -> Result<PartyRecord, PlantFault> {
    Ok(PartyRecord {
        id: PartyId::try_new(name)?,
        kind,
        name: name.to_owned(),
        key: key_of(name)?.public().clone(),
        firm: firm.map(PartyId::try_new).transpose()?,
        skills: skills.iter().map(|skill| (*skill).to_owned()).collect(),
    })
}

fn body(contract: &str, action: &str, nonce: u8) -> Result<CallBody, PlantFault> {
    Ok(CallBody {
        contract: ContractName::try_new(contract)?,
        action: ActionName::try_new(action)?,
        agreement: None,
        args: BTreeMap::new(),
        nonce: [nonce; 16],
        at: Timestamp::from_micros(1_760_000_000_000_000),
    })
}

fn owner_name(owner: usize) -> String {
    if owner == 0 { "acme".to_owned() } else { format!("acme-{owner:02}") }
}

fn agent_name(agent: usize) -> String {
    format!("agent-{agent:02}")
}

fn device_id(device: usize) -> Result<DeviceId, IdFault> {
    DeviceId::try_new(format!("press-{device:03}"))
}

fn rule(device: &DeviceId, trigger: &str, action: &str) -> Result<RuleRecord, PlantFault> {
    let with = BTreeMap::from([("fault".to_owned(), "'bearing'".to_owned())]);
    let call = CallTemplate { contract: ContractName::try_new(CONTRACT)?, action: ActionName::try_new(action)?, with };
    let points = [(PointId::try_new("vibration")?, (Some(ValueKind::Float), Unit::try_new("mm/s")?))];
    Ok(RuleRecord::new(RuleSource {
        id: TriggerId::try_new(trigger)?,
        device: device.clone(),
        when: "mean(vibration, '10s') > 7.1".to_owned(),
        on_delay: std::time::Duration::ZERO,
        until: None,
        priority: Priority::High,
        disclose: Vec::new(),
        call: Some(call),
        checks: None,
        points: points.into(),
    }))
}
