//! A bit of everything that happens on a ledger: orders of every fate, refusals, terms, money, anchors, registrations.

use crate::common::{START, TestClock};
use std::collections::BTreeMap;
use tally_evidence::cbor::{Cbor, int, text};
use tally_evidence::{AnchorBody, CallBody, PartyKind, StatementKind, sha256, sign};
use tally_ledger_node::Engine;
use tally_ledger_node::testing::{Plant, key_of, party};
use tally_model::{ActionName, ContractName, DeviceId, PartyId, Timestamp};

const HOUR: i64 = 3_600_000_000;

/// Keeps count of the numbers that must follow each other.
pub struct Workload<'a> {
    plant: &'a Plant,
    engine: &'a Engine,
    clock: &'a TestClock,
    now: i64,
    triggers: Vec<u64>,
    orders: u64,
    anchors: BTreeMap<usize, AnchorBody>,
    nonce: u8,
}

impl<'a> Workload<'a> {
    pub fn new(plant: &'a Plant, engine: &'a Engine, clock: &'a TestClock) -> Self {
        let (triggers, anchors) = (vec![0; 2], BTreeMap::new());
        Self { plant, engine, clock, now: START, triggers, orders: 0, anchors, nonce: 0 }
    }

    async fn submit(&mut self, statement: Vec<u8>) -> u16 {
        self.now += 1_000_000;
        self.clock.set(self.now);
        self.engine.submit(statement).await.unwrap().refusal
    }

    fn number(&mut self, device: usize) -> u64 {
        let next = &mut self.triggers[device % 2];
        *next += 1;
        *next - 1
    }

    /// Opens an order; gives its id.
    pub async fn report(&mut self, device: usize, fault: &str) -> String {
        let number = self.number(device);
        assert_eq!(self.submit(self.plant.worn(device, number, fault).unwrap()).await, 0);
        self.orders += 1;
        format!("mo-{}", self.orders)
    }

    async fn good(&mut self, device: usize, fault: &str) {
        let number = self.number(device);
        assert_eq!(self.submit(self.plant.good(device, number, fault).unwrap()).await, 0);
    }

    async fn call(&mut self, signer: &str, action: &str, order: &str) -> u16 {
        self.nonce = self.nonce.wrapping_add(1);
        self.submit(self.plant.call(signer, action, order, self.nonce).unwrap()).await
    }

    /// A call with arguments.
    pub async fn call_with<const N: usize>(
        &mut self,
        signer: &str,
        contract: &str,
        action: &str,
        args: [(&str, Cbor); N],
    ) -> u16 {
        self.nonce = self.nonce.wrapping_add(1);
        let body = CallBody {
            contract: ContractName::try_new(contract).unwrap(),
            action: ActionName::try_new(action).unwrap(),
            agreement: None,
            args: args.into_iter().map(|(name, value)| (name.to_owned(), value)).collect(),
            nonce: [self.nonce; 16],
            at: Timestamp::from_micros(1_760_000_000_000_000),
        };
        let issuer = PartyId::try_new(signer).unwrap();
        let key = key_of(signer).unwrap();
        let ledger = self.plant.ledger.clone();
        self.submit(sign(StatementKind::Call, &key, &issuer, contract, &ledger, 1_760_000_000, body.encode())).await
    }

    async fn anchor(&mut self, device: usize) -> u16 {
        let before = self.anchors.get(&device);
        let first = before.map_or(0, |before| before.last + 1);
        let time = |offset: i64| Timestamp::from_micros(START + i64::try_from(first).unwrap() * 1_000 + offset);
        let body = AnchorBody {
            device: DeviceId::try_new(format!("press-{device:03}")).unwrap(),
            number: before.map_or(1, |before| before.number + 1),
            previous: before.map_or([0; 32], AnchorBody::digest),
            first,
            last: first + 99,
            root: sha256(&first.to_be_bytes()),
            head: sha256(b"head"),
            received: (time(0), time(99_000)),
            source: (time(0), time(99_000)),
            pause: 1_000,
            gaps: Vec::new(),
        };
        let agent = format!("agent-{:02}", device % 2);
        let (issuer, key) = (PartyId::try_new(&agent).unwrap(), key_of(&agent).unwrap());
        let (subject, ledger) = (body.device.to_string(), self.plant.ledger.clone());
        let statement = sign(StatementKind::Anchor, &key, &issuer, &subject, &ledger, 1_760_000_000, body.encode());
        self.anchors.insert(device, body);
        self.submit(statement).await
    }

    /// An order that is repaired and paid; the time between is `hours`.
    pub async fn repaired(&mut self, device: usize, fault: &str, minutes: i64) -> String {
        let order = self.report(device, fault).await;
        assert_eq!(self.call("tina", "accept", &order).await, 0);
        self.now += minutes * 60_000_000;
        assert_eq!(self.call("tina", "done", &order).await, 0);
        self.good(device, fault).await;
        order
    }

    /// One round of everything. `round` makes the names differ.
    pub async fn round(&mut self, round: usize) {
        let name = |fault: &str| format!("{fault}-{round}");
        self.repaired(0, "bearing", 30).await;
        self.repaired(1, "leak's \"end\"", 90).await;
        // Noted on an open order; refused for want of a right; cancelled.
        let open = self.report(2, &name("belt")).await;
        let number = self.number(2);
        assert_eq!(self.submit(self.plant.worn(2, number, &name("belt")).unwrap()).await, 0);
        assert_ne!(self.call("tom", "accept", &open).await, 0);
        assert_ne!(self.call("tina", "cancel", &open).await, 0);
        assert_eq!(self.call("acme", "cancel", &open).await, 0);
        // Disputed, because nobody confirmed; lapsed, because nobody came.
        let disputed = self.report(3, &name("seal")).await;
        assert_eq!(self.call("tina", "accept", &disputed).await, 0);
        assert_eq!(self.call("tina", "done", &disputed).await, 0);
        let lapsed = self.report(0, &name("noise")).await;
        assert_eq!(self.anchor(0).await, 0);
        assert_eq!(self.anchor(1).await, 0);
        self.now += 5 * HOUR;
        assert_eq!(
            self.call_with(
                "fixit",
                "accounts",
                "transfer",
                [("to", text("acme")), ("currency", text("EUR")), ("amount", int(5))]
            )
            .await,
            0
        );
        self.now += 30 * HOUR;
        assert_eq!(self.anchor(0).await, 0);
        let issue = [("owner", text("acme")), ("currency", text("EUR")), ("amount", int(1_000))];
        assert_eq!(self.call_with("admin", "accounts", "issue", issue).await, 0);
        assert_ne!(self.call_with("tina", "accounts", "open", [("currency", text("EUR"))]).await, 0);
        // What somebody writes who means harm, where anyone may write.
        let nasty = text("x'; DROP TABLE entries; --\0");
        assert_ne!(
            self.call_with("tina", "registry", "withdraw-rule", [("device", nasty.clone()), ("rule", nasty)]).await,
            0
        );
        let theo = party(&name("theo"), PartyKind::Person, Some("fixit"), &["bearing"]).unwrap();
        assert_eq!(self.call_with("fixit", "registry", "register-party", [("party", theo.to_cbor())]).await, 0);
        assert_eq!(self.call_with("fixit", "registry", "revoke-party", [("party", text(name("theo")))]).await, 0);
        assert_eq!(crate::common::state_of(self.engine, &disputed), "disputed");
        assert_eq!(crate::common::state_of(self.engine, &lapsed), "lapsed");
        // One stays open.
        self.report(1, &name("open")).await;
    }
}
