//! Somebody with a sensor and a key who speaks to a node without any program of ours between.

use crate::{Party, Site};
use std::collections::BTreeMap;
use std::time::{SystemTime, UNIX_EPOCH};
use tally_evidence::{
    DeviceRecord, PartyKind, PartyRecord, ReadingsClaim, RuleRecord, SigningKey, StatementKind, Transition,
    TriggerBody, TriggerCall, sign,
};
use tally_model::{CallTemplate, DeviceId, Grade, PartyId, Priority, RuleSource, Timestamp, TriggerId, Value};

/// Somebody with a sensor, a key, and no program of ours.
pub struct Watcher {
    /// The agent.
    pub party: Party,
    /// Its sensor.
    pub device: String,
    number: u64,
}

impl Watcher {
    /// The agent `name` with the sensor `name-sensor`.
    ///
    /// # Panics
    /// When the name is none.
    #[must_use]
    pub fn new(name: &str, secret: u8) -> Self {
        let key = SigningKey::from_secret(&[secret; 32]).unwrap();
        let party = Party { id: PartyId::try_new(name).unwrap(), key, ledger: "press-line".to_owned() };
        Self { party, device: format!("{name}-sensor"), number: 0 }
    }

    /// Its rule `hot`, which asks the contract `alarm` to `report` a `peak`.
    ///
    /// # Panics
    /// Never with these names.
    #[must_use]
    pub fn rule(&self) -> RuleRecord {
        let call = CallTemplate {
            contract: "alarm".parse().unwrap(),
            action: "report".parse().unwrap(),
            with: [("peak".to_owned(), "0".to_owned())].into(),
        };
        RuleRecord::new(RuleSource {
            id: TriggerId::try_new("hot").unwrap(),
            device: DeviceId::try_new(&self.device).unwrap(),
            when: "true".to_owned(),
            on_delay: std::time::Duration::ZERO,
            until: None,
            priority: Priority::Medium,
            disclose: Vec::new(),
            call: Some(call),
            points: BTreeMap::new(),
            checks: None,
        })
    }

    /// Agent and sensor as `owner` registers them.
    ///
    /// # Panics
    /// Never with these names.
    #[must_use]
    pub fn records(&self, owner: &PartyId) -> (PartyRecord, DeviceRecord) {
        let device = DeviceId::try_new(&self.device).unwrap();
        let party = self.record(self.party.id.clone(), PartyKind::Agent, owner);
        (party, DeviceRecord { id: device, agent: self.party.id.clone(), owner: owner.clone(), site: None })
    }

    /// The sensor itself as a party that seals, with the same key.
    ///
    /// # Panics
    /// Never with these names.
    #[must_use]
    pub fn sensor(&self, owner: &PartyId) -> PartyRecord {
        self.record(PartyId::try_new(&self.device).unwrap(), PartyKind::Device, owner)
    }

    fn record(&self, id: PartyId, kind: PartyKind, firm: &PartyId) -> PartyRecord {
        let (name, key) = (id.to_string(), self.party.key.public().clone());
        PartyRecord { id, kind, name, key, firm: Some(firm.clone()), skills: Vec::new() }
    }

    /// Has `acme` register agent, sensor and rule.
    ///
    /// # Panics
    /// When the ledger refuses one.
    pub async fn register(&self, site: &Site, acme: &Party) {
        let (party, device) = self.records(&acme.id);
        for (action, name, record) in [
            ("register-party", "party", party.to_cbor()),
            ("register-device", "device", device.to_cbor()),
            ("register-rule", "rule", self.rule().to_cbor()),
        ] {
            let done = acme.call(&site.node, "registry", action, None, &[(name, record)]).await;
            assert_eq!(done.refusal, None, "{action}");
        }
    }

    /// Says over HTTP that it is hot; gives the refusal.
    ///
    /// # Panics
    /// When the node does not take it.
    pub async fn say(&mut self, site: &Site, peak: i64) -> Option<u16> {
        self.say_as(site, peak, Grade::default()).await
    }

    /// The same, with this grade of evidence.
    ///
    /// # Panics
    /// When the node does not take it.
    pub async fn say_as(&mut self, site: &Site, peak: i64, grade: Grade) -> Option<u16> {
        let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
        let at = Timestamp::from_micros(i64::try_from(since_epoch.as_micros()).unwrap());
        let rule = self.rule();
        let body = TriggerBody {
            trigger: rule.rule.id.clone(),
            device: rule.rule.device.clone(),
            rule: rule.digest(),
            transition: Transition::Raised,
            priority: Priority::Medium,
            at,
            readings: ReadingsClaim {
                first: 0,
                last: self.number * 10 + 9,
                root: [1; 32],
                head: [2; 32],
                points: BTreeMap::new(),
            },
            number: self.number,
            call: Some(TriggerCall {
                contract: "alarm".parse().unwrap(),
                action: "report".parse().unwrap(),
                with: [("peak".to_owned(), Value::Integer(peak))].into(),
            }),
            clock: None,
            grade,
            mapping: None,
            origins: Vec::new(),
            quality: None,
        };
        self.number += 1;
        let Party { id, key, ledger } = &self.party;
        let statement = sign(StatementKind::Trigger, key, id, &self.device, ledger, at.as_seconds(), body.encode());
        site.node.submit(&statement).await.unwrap().refusal
    }
}
