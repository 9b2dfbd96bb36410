//! The native contract `privacy`: whose a private field is, and that it was purged.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod common;

use common::{World, call_body};
use std::collections::BTreeMap;
use tally_contracts::{Kernel, all_purged, fields_of, purged_by, state_key};
use tally_evidence::cbor::{Cbor, int, text};
use tally_evidence::{Commitment, Event, Opening};

fn args(args: &[(&str, Cbor)]) -> BTreeMap<String, Cbor> {
    args.iter().map(|(name, value)| ((*name).to_owned(), value.clone())).collect()
}

fn sealed(name: &str, value: &str) -> Cbor {
    Commitment::to(&Opening { salt: [7; 16], value: text(value), name: name.to_owned() }.encode()).to_argument()
}

struct Ledger {
    kernel: Kernel,
    world: World,
}

impl Ledger {
    fn new() -> Self {
        let kernel = Kernel::new();
        let world = World::founded(&kernel);
        Self { kernel, world }
    }

    fn call(&mut self, signer: &str, contract: &str, action: &str, with: &[(&str, Cbor)]) -> Result<Vec<Event>, u16> {
        let body = call_body(contract, action, None, args(with));
        self.world.call(&self.kernel, signer, &body).map_err(|refusal| refusal.number())
    }

    /// Gives the entry.
    fn pay(&mut self, remark: Cbor) -> u64 {
        let with = [("to", text("fixit")), ("amount", int(5)), ("currency", text("EUR")), ("remark", remark)];
        self.call("acme", "accounts", "transfer", &with).unwrap();
        self.world.entry - 1
    }

    fn purge(&mut self, signer: &str, entry: u64, field: &str) -> Result<Vec<Event>, u16> {
        let with = [("entry", int(entry)), ("field", text(field)), ("reason", text("asked by the person"))];
        self.call(signer, "privacy", "purge", &with)
    }

    fn has(&self, key: &str) -> bool {
        self.world.state.contains_key(&state_key(key).unwrap())
    }
}

#[test]
fn the_submitter_or_an_admin_purges_a_field_once() {
    let mut ledger = Ledger::new();
    let plain = ledger.pay(text("for the knee"));
    let entry = ledger.pay(sealed("remark", "for the knee"));
    let (private, purged) = (format!("private:{entry}/remark"), format!("purged:{entry}/remark"));
    assert!(ledger.has(&private) && !ledger.has(&purged) && !ledger.has(&format!("private:{plain}/remark")));
    let shown = fields_of(&ledger.world.state, entry).unwrap().remove(0);
    assert_eq!((shown.field.as_str(), shown.submitter.as_str(), shown.purged), ("remark", "acme", None));
    assert_eq!(shown.commitment.to_argument(), sealed("remark", "for the knee"));

    // Nobody else; acme is the admin here, so somebody else's field shows both.
    for stranger in ["fixit", "tina", "judge", "bank"] {
        assert_eq!(ledger.purge(stranger, entry, "remark"), Err(151), "{stranger}");
    }
    for (entry, field) in [(plain, "remark"), (entry, "amount"), (entry + 99, "remark")] {
        assert_eq!(ledger.purge("acme", entry, field), Err(185));
    }
    assert_eq!(ledger.call("acme", "privacy", "purge", &[("entry", int(entry))]), Err(141));
    assert_eq!(ledger.call("acme", "privacy", "forget", &[]), Err(136));
    assert!(ledger.has(&private));

    let events = ledger.purge("acme", entry, "remark").unwrap();
    assert_eq!(purged_by(&events[0]), Some((entry, "remark")));
    assert!(!ledger.has(&private) && ledger.has(&purged));
    assert_eq!(ledger.purge("acme", entry, "remark"), Err(186), "once");
    let how = fields_of(&ledger.world.state, entry).unwrap().remove(0).purged.unwrap();
    assert_eq!((how.by.as_str(), how.reason.as_str()), ("acme", "asked by the person"));

    let with = [("device", text("press-01")), ("reason", sealed("reason", "Tina was ill"))];
    ledger.call("acme", "access", "quarantine", &with).unwrap();
    let quarantine = ledger.world.entry - 1;
    assert_eq!(ledger.purge("olga", quarantine, "reason"), Err(151), "not even her own firm's");
    let own = [("to", text("acme")), ("amount", int(1)), ("currency", text("EUR")), ("remark", sealed("remark", "x"))];
    ledger.call("fixit", "accounts", "transfer", &own).unwrap();
    let fixits = ledger.world.entry - 1;
    ledger.purge("fixit", fixits, "remark").unwrap();
    ledger.call("fixit", "accounts", "transfer", &own).unwrap();
    ledger.purge("acme", fixits + 2, "remark").unwrap();
    let all: Vec<_> = all_purged(&ledger.world.state).unwrap().into_iter().map(|field| field.entry).collect();
    assert_eq!(all, [entry, fixits, fixits + 2]);
}

/// A contract sees the commitment and nothing else: it stands for a text, for nothing that must be understood; and a call that was
/// refused leaves nothing to keep.
#[test]
fn a_commitment_is_a_text_and_only_a_text() {
    let mut ledger = Ledger::new();
    let before = ledger.world.state.clone();
    for (name, refusal) in [("to", 142), ("amount", 142), ("currency", 142), ("invoice", 143)] {
        let mut with = args(&[
            ("to", text("fixit")),
            ("amount", int(5)),
            ("currency", text("EUR")),
            ("remark", sealed("remark", "x")),
        ]);
        with.insert(name.to_owned(), sealed(name, "5"));
        let body = call_body("accounts", "transfer", None, with);
        let refused = ledger.world.call(&ledger.kernel, "acme", &body).unwrap_err();
        assert_eq!(refused.number(), refusal, "{name}: {refused}");
    }
    assert!(ledger.world.state == before);
    // In an agreement's terms it is carried on.
    let terms = [
        ("device", text("press-02")),
        ("maintainer", text("fixit")),
        ("price", int(100)),
        ("penalty", int(0)),
        ("currency", text("EUR")),
        ("skill", sealed("skill", "a rare one")),
    ];
    ledger.call("acme", "maintenance-order", "standing", &terms).unwrap();
    assert!(ledger.has(&format!("private:{}/skill", ledger.world.entry - 1)));
    let wanted = sealed("skill", "a rare one");
    let kept = ledger.world.state.values().filter(|value| {
        let wanted = wanted.as_text().unwrap().as_bytes();
        value.windows(wanted.len()).any(|window| window == wanted)
    });
    assert_eq!(kept.count(), 1, "the standing terms hold the commitment");
}
