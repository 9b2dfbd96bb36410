//! Whatever is thrown at the kernel: no panic, totals conserved, nothing left in escrow, refusals leave no trace, and the
//! same inputs give the same bytes.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod common;

use common::{LEDGER, START, World, call_body, key_id, party, trigger_body};
use proptest::prelude::*;
use std::collections::BTreeMap;
use std::sync::LazyLock;
use std::time::Duration;
use tally_contracts::{Block, Cause, Contract, Genesis, Input, Kernel, LIBRARY, Overlay, views};
use tally_evidence::cbor::{Cbor, int, text};
use tally_evidence::{CallBody, TriggerBody};
use tally_model::{AgreementId, Timestamp, Value};

/// Founded once; every case begins with a copy.
/// What ended is retired while the moves still go on.
static FOUNDED: LazyLock<World> = LazyLock::new(|| {
    let retire_after = Some(Duration::from_secs(2 * 3_600));
    World::founded_as(&Kernel::new(), &Genesis { retire_after, ..common::genesis() })
});

/// One thing somebody does, some seconds after the last.
#[derive(Debug, Clone)]
struct Move {
    after: Duration,
    what: What,
}

#[derive(Debug, Clone)]
enum What {
    Trigger {
        agent: String,
        device: String,
        trigger: &'static str,
        fault: &'static str,
        again: bool,
    },
    Call {
        who: String,
        contract: &'static str,
        action: &'static str,
        agreement: Option<u8>,
        args: Vec<Arg>,
    },
    /// What somebody may well do: one of the contract's own ways on from where an agreement is.
    Fitting {
        agreement: u8,
        pick: u8,
        amount: i64,
    },
    Terms,
    Term {
        agreement: u8,
        back: u32,
    },
}

type Arg = (&'static str, ArgValue);

#[derive(Debug, Clone)]
enum ArgValue {
    Number(i64),
    Word(&'static str),
}

const PARTIES: &[&str] =
    &["acme", "fixit", "bank", "olga", "tina", "tom", "ted", "judge", "agent-01", "nobody", LEDGER];
const DEVICES: &[&str] = &["press-01", "press-02", "press-03", "press-04"];
const TRIGGERS: &[&str] =
    &["bearing-worn", "oil-low", "bearing-good", "bearing-good", "door-open", "strange-contract", "strange-action"];
const FAULTS: &[&str] = &["one", "two", ""];
const ACTIONS: &[&str] = &[
    "report",
    "accept",
    "accept",
    "refuse",
    "appoint",
    "done",
    "done",
    "cancel",
    "dispute",
    "settle",
    "settle",
    "arbitrate",
    "standing",
    "confirm",
    "explode",
];
const NATIVE: &[&str] = &["open", "issue", "transfer", "revoke-party", "withdraw-rule", "genesis"];
const NAMES: &[&str] = &[
    "amount",
    "technician",
    "device",
    "fault",
    "skill",
    "currency",
    "to",
    "owner",
    "party",
    "maintainer",
    "price",
    "penalty",
    "respond",
];

fn arg() -> impl Strategy<Value = Arg> {
    let numbers = prop_oneof![Just(0), Just(-1), Just(i64::MAX), Just(i64::MIN), 0i64..60_000];
    let words =
        prop::sample::select([PARTIES, DEVICES, FAULTS, &["EUR", "USD", "bearing", "paint", "4h", "0s"]].concat());
    let value = prop_oneof![numbers.prop_map(ArgValue::Number), words.prop_map(ArgValue::Word)];
    (prop::sample::select(NAMES), value)
}

/// Calls that fit more often than pure chance would make them.
fn fitting_args(action: &'static str, amount: i64, device: &'static str, fault: &'static str) -> Vec<Arg> {
    use ArgValue::{Number, Word};
    match action {
        "settle" | "arbitrate" => vec![("amount", Number(amount))],
        "appoint" => vec![("technician", Word("tina"))],
        "report" => vec![("device", Word(device)), ("fault", Word(fault))],
        "transfer" => vec![("to", Word("fixit")), ("currency", Word("EUR")), ("amount", Number(amount))],
        "issue" => vec![("owner", Word("acme")), ("currency", Word("EUR")), ("amount", Number(amount))],
        "standing" => vec![
            ("device", Word(device)),
            ("maintainer", Word("fixit")),
            ("price", Number(amount)),
            ("penalty", Number(amount / 2)),
            ("currency", Word("EUR")),
        ],
        _ => Vec::new(),
    }
}

fn what() -> impl Strategy<Value = What> {
    let trigger = (
        prop::sample::select(&["agent-01", "agent-01", "agent-02", "tina"][..]),
        prop::sample::select(DEVICES),
        prop::sample::select(TRIGGERS),
        prop::sample::select(FAULTS),
        prop::bool::weighted(0.1),
    );
    let trigger = trigger.prop_map(|(agent, device, trigger, fault, again)| What::Trigger {
        agent: agent.to_owned(),
        device: device.to_owned(),
        trigger,
        fault,
        again,
    });
    let fitting = (
        prop::sample::select(PARTIES),
        prop::sample::select(ACTIONS),
        0u8..5,
        prop::sample::select(&[0, 100, 25_000, 50_000, 50_001][..]),
        prop::sample::select(DEVICES),
        prop::sample::select(FAULTS),
    );
    let fitting = fitting.prop_map(|(who, action, id, amount, device, fault)| What::Call {
        who: who.to_owned(),
        contract: "maintenance-order",
        action,
        agreement: (!matches!(action, "report" | "standing")).then_some(id),
        args: fitting_args(action, amount, device, fault),
    });
    let native = (prop::sample::select(PARTIES), prop::sample::select(NATIVE), 0i64..100_000);
    let native = native.prop_map(|(who, action, amount)| What::Call {
        who: who.to_owned(),
        contract: if matches!(action, "open" | "issue" | "transfer") { "accounts" } else { "registry" },
        action,
        agreement: None,
        args: fitting_args(action, amount, "press-01", "one"),
    });
    let wild = (
        prop::sample::select(PARTIES),
        prop::sample::select(&["maintenance-order", "accounts", "registry", "other"][..]),
        prop::sample::select([ACTIONS, NATIVE].concat()),
        prop::option::of(0u8..5),
        prop::collection::vec(arg(), 0..6),
    );
    let wild = wild.prop_map(|(who, contract, action, agreement, args)| What::Call {
        who: who.to_owned(),
        contract,
        action,
        agreement,
        args,
    });
    let ways_on = (1u8..6, any::<u8>(), prop::sample::select(&[0, 25_000, 25_000, 50_001][..]));
    let ways_on = ways_on.prop_map(|(agreement, pick, amount)| What::Fitting { agreement, pick, amount });
    let report = (prop::sample::select(&["press-01", "press-03"][..]), prop::sample::select(FAULTS));
    let report = report.prop_map(|(device, fault)| What::Trigger {
        agent: if device == "press-01" { "agent-01" } else { "agent-02" }.to_owned(),
        device: device.to_owned(),
        trigger: "bearing-worn",
        fault,
        again: false,
    });
    let retirement = (prop::sample::select(&["set-retirement", "apply-retirement"][..]), 1i64..8);
    let retirement = retirement.prop_map(|(action, hours)| What::Call {
        who: "acme".to_owned(),
        contract: "registry",
        action,
        agreement: None,
        args: if action == "set-retirement" {
            vec![("after", ArgValue::Number(hours * 3_600_000_000))]
        } else {
            Vec::new()
        },
    });
    let term = (0u8..5, 0u32..100).prop_map(|(agreement, back)| What::Term { agreement, back });
    prop_oneof![3 => report, 2 => trigger, 12 => ways_on, 3 => fitting, 1 => native, 2 => wild, 3 => Just(What::Terms), 1 => term, 1 => retirement]
}

fn moves() -> impl Strategy<Value = Vec<Move>> {
    let after =
        prop_oneof![30 => Just(1), 10 => Just(60), 2 => Just(3_600), 1 => Just(90_000)].prop_map(Duration::from_secs);
    let one = (after, what()).prop_map(|(after, what)| Move { after, what });
    prop::collection::vec(one, 1..60)
}

/// The inputs of one move, as a node would hand them over.
#[allow(clippy::large_enum_variant)] // a handful at a time
enum Made {
    Trigger(String, Box<TriggerBody>),
    Call(String, CallBody),
    Term(AgreementId, Timestamp),
    Terms,
}

/// A fitting move as a trigger or a call; `None` for other moves, and where no way leads on.
fn ways_on(what: &What, contract: &Contract, world: &World) -> Option<What> {
    let What::Fitting { agreement, pick, amount } = what else { return None };
    let id = AgreementId::try_new(format!("mo-{agreement}")).unwrap();
    let view = views::agreement(&world.state, &id)?;
    let text = |name: &str| view.fields[name].as_str().unwrap().to_owned();
    let ways: Vec<_> = contract.transitions.iter().filter(|way| way.is_from(&view.state)).collect();
    let way = ways.get(usize::from(*pick) % ways.len().max(1))?;
    match &way.cause {
        Cause::Term(_) => None,
        // Owners are mostly patient, or nothing else would ever happen.
        Cause::Call { action, .. } if action == "cancel" && *pick > 40 => None,
        Cause::Trigger(action) => Some(What::Trigger {
            agent: if text("device") == "press-03" { "agent-02" } else { "agent-01" }.to_owned(),
            device: text("device"),
            trigger: if action == "report" { "bearing-worn" } else { "bearing-good" },
            fault: FAULTS.iter().find(|fault| **fault == text("fault")).copied().unwrap_or("one"),
            again: false,
        }),
        Cause::Call { action, by } => {
            let action = ACTIONS.iter().find(|known| *known == action)?;
            let args = fitting_args(action, *amount, "press-01", "one");
            let who = view.parties.get(by)?.clone();
            Some(What::Call { who, contract: "maintenance-order", action, agreement: Some(*agreement), args })
        }
    }
}

/// Numbers triggers as an agent would.
#[derive(Default)]
struct Numbers {
    next: BTreeMap<String, u64>,
    reading: u64,
}

fn make(what: &What, now: Timestamp, numbers: &mut Numbers) -> Made {
    match what {
        What::Trigger { agent, device, trigger, fault, again } => {
            let next = numbers.next.entry(agent.clone()).or_default();
            if !again {
                *next += 1;
                numbers.reading += 1;
            }
            let with = BTreeMap::from([("fault".to_owned(), Value::Text((*fault).to_owned()))]);
            let with = if trigger.starts_with("bearing") || *trigger == "oil-low" { with } else { BTreeMap::new() };
            Made::Trigger(agent.clone(), Box::new(trigger_body(device, trigger, *next, numbers.reading, now, with)))
        }
        What::Call { who, contract, action, agreement, args } => {
            let id = agreement.map(|number| format!("mo-{number}"));
            let args: BTreeMap<String, Cbor> = args
                .iter()
                .map(|(name, value)| {
                    let value = match value {
                        ArgValue::Number(number) => int(*number),
                        ArgValue::Word(word) => text(*word),
                    };
                    ((*name).to_owned(), value)
                })
                .collect();
            Made::Call(who.clone(), call_body(contract, action, id.as_deref(), args))
        }
        What::Fitting { .. } | What::Terms => Made::Terms,
        What::Term { agreement, back } => {
            let id = AgreementId::try_new(format!("mo-{agreement}")).unwrap();
            Made::Term(id, now.minus(Duration::from_secs(u64::from(*back))))
        }
    }
}

fn input<'a>(made: &'a Made, entry: u64, signer: &'a tally_model::PartyId) -> Input<'a> {
    let key = key_id(signer.as_str());
    match made {
        Made::Trigger(_, body) => Input::Trigger { entry, signer, key, body },
        Made::Call(_, body) => Input::Call { entry, signer, key, body },
        Made::Term(agreement, due) => Input::Term { agreement, due: *due },
        Made::Terms => unreachable!(),
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(150))]

    #[test]
    fn whatever_happens(moves in moves()) {
        let kernel = Kernel::new();
        let mut world = FOUNDED.clone();
        // The same inputs once more, in one overlay as in one block, by a kernel with an empty cache.
        let (again, base) = (Kernel::new(), FOUNDED.state.clone());
        let mut overlay = Overlay::new(&base);
        let mut numbers = Numbers::default();
        let contract = Contract::from_yaml(LIBRARY[0].1).unwrap();
        for step in &moves {
            world.now = world.now.plus(step.after);
            let block = Block { ledger: LEDGER.into(), height: 1, time: world.now };
            let what = ways_on(&step.what, &contract, &world).unwrap_or_else(|| step.what.clone());
            let made = make(&what, world.now, &mut numbers);
            if let Made::Terms = made {
                world.run_terms(&kernel);
                while let Some((agreement, due)) = again.due_terms(&overlay, block.time, 1).pop() {
                    let _ = again.execute(&mut overlay, &block, &Input::Term { agreement: &agreement, due });
                }
            } else {
                let who = match &made { Made::Trigger(who, _) | Made::Call(who, _) => who.as_str(), _ => "nobody" };
                let signer = party(who);
                let input = input(&made, world.entry, &signer);
                let first = world.execute(&kernel, &input);
                prop_assert_eq!(first, again.execute(&mut overlay, &block, &input));
                world.entry += 1;
            }
            world.check();
            prop_assert_eq!(kernel.next_due(&world.state), again.next_due(&overlay));
        }
        let mut second = base.clone();
        for (key, value) in overlay.into_changes() {
            match value {
                Some(value) => second.insert(key, value),
                None => second.remove(&key),
            };
        }
        prop_assert_eq!(&world.state, &second, "the same inputs, the same bytes");
        check_indexes(&world);
    }
}

/// The indexes say what the agreements say: load of people, open agreements, running terms.
fn check_indexes(world: &World) {
    let all = views::agreements(&world.state, &views::AgreementFilter::default(), usize::MAX);
    let open: Vec<_> = all.iter().filter(|agreement| !agreement.ended).collect();
    for person in ["tina", "tom", "ted"] {
        let key = [b"l", person.as_bytes()].concat();
        let load = world.state.get(&key).map_or(0, |value| u64::from(value[0]));
        let holds = open.iter().filter(|agreement| agreement.parties.get("technician").is_some_and(|id| id == person));
        assert_eq!(load, holds.count() as u64, "load of {person}");
    }
    assert_eq!(world.state.keys().filter(|key| key[0] == b'o').count(), open.len());
    assert_eq!(
        world.state.keys().filter(|key| key[0] == b't').count(),
        all.iter().filter(|agreement| agreement.due.or(agreement.retires_at).is_some()).count()
    );
    let rows = |kind| world.state.keys().filter(move |key| key[0] == kind).count();
    let steps: usize = all.iter().map(|agreement| agreement.steps.len() + agreement.terms.len() - 1).sum();
    assert_eq!((rows(b'm'), rows(b'h')), (all.len(), steps), "of agreements that were retired nothing is left");
    let given = world
        .state
        .get(&b"kmo"[..])
        .map_or(0, |value| u64::try_from(tally_evidence::cbor::decode(value).unwrap().as_integer().unwrap()).unwrap());
    let gone = (1..=given).filter(|number| views::is_retired(&world.state, &format!("mo-{number}").parse().unwrap()));
    assert_eq!(
        gone.count() + all.len(),
        usize::try_from(given).unwrap(),
        "every number that was given out is one or the other"
    );
    let value = |value: &Vec<u8>| tally_evidence::cbor::decode(value).is_ok();
    assert!(world.state.values().all(value), "every value is deterministic CBOR");
    assert!(world.now.as_micros() > START);
}
