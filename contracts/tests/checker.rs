//! What is wrong with a contract is found before it is deployed: all of it at once, with line and column.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

use proptest::prelude::*;
use tally_contracts::{Contract, LIBRARY};

/// A right contract; the tests break it line by line.
const RIGHT: &str = "\
contract: lease
version: 1
prefix: le
parties: {owner: organisation, keeper: organisation, helper: person}
fields: {device: device, price: money, seen: integer, note: text, wait: duration}
key: [device]
standing:
  required: [keeper, price]
  optional: {wait: 4h}
  require: [price > 0]
actions:
  begin: {device: device}
  finish: {amount: money}
on:
  - {from: new, call: begin, by: owner, to: open, do: [{escrow: {from: owner, amount: price}}, {choose: {role: helper, from: keeper, where: it.open_orders < 3, order: [open_orders]}}]}
  - {from: open, call: finish, by: keeper, when: args.amount <= price, to: over, do: [{pay: {to: keeper, amount: args.amount}}, {release: rest}]}
  - {from: open, term: wait, to: over, do: [{release: rest}]}
ends: [over]
";

/// The faults of [`RIGHT`] with `from` replaced by `to`, as text.
fn faults(from: &str, to: &str) -> String {
    assert!(RIGHT.contains(from), "{from}");
    match Contract::from_yaml(&RIGHT.replace(from, to)) {
        Ok(_) => String::new(),
        Err(faults) => faults.iter().map(|fault| format!("{fault}\n")).collect(),
    }
}

#[test]
fn the_library_and_the_template_are_right() {
    for (name, text) in LIBRARY {
        let contract = Contract::from_yaml(text).unwrap_or_else(|faults| panic!("{name}: {faults:#?}"));
        assert_eq!(contract.name.as_str(), *name);
    }
    assert_eq!(faults("lease", "lease"), "");
}

#[test]
fn each_mistake_is_named_at_its_place() {
    let cases = [
        // Money.
        (
            ", {release: rest}]}\n  - {from: open, term",
            "]}\n  - {from: open, term",
            "16:5: on: money stays in escrow: new → open → over",
        ),
        (
            "to: over, do: [{release: rest}]}\nends",
            "to: over}\nends",
            "17:5: on: money stays in escrow: new → open → over",
        ),
        ("{escrow: {from: owner, amount: price}}, ", "", "16:5: on: pays from an empty escrow"),
        (
            "{pay: {to: keeper",
            "{escrow: {from: keeper, amount: 1}}, {pay: {to: keeper",
            "escrow is paid in by keeper and owner",
        ),
        // States.
        ("to: open, do", "to: opened, do", "state `open` is never reached"),
        ("to: open, do", "to: opened, do", "15:5: on: state `opened` is a dead end"),
        ("ends: [over]", "ends: [over, gone]", "state `gone` is never reached"),
        (
            "{from: open, term: wait, to: over,",
            "{from: over, term: wait, to: open,",
            "17:5: on: leads on from `over`, which is an end",
        ),
        (
            "term: wait, to: over, do: [{release: rest}]}",
            "term: wait, to: stuck}\n  - {from: stuck, call: begin, by: owner, to: still}\n  - {from: still, term: 1s, to: stuck}",
            "state `stuck` leads to no end",
        ),
        (
            "{from: open, term: wait",
            "{from: open, term: 1s, to: over, do: [{release: rest}]}\n  - {from: open, term: wait",
            "18:5: on: is a second term of state `open`",
        ),
        (
            "{from: open, term",
            "{from: open, call: finish, by: keeper, to: over, do: [{release: rest}]}\n  - {from: open, call: finish, by: keeper, to: over, do: [{release: rest}]}\n  - {from: open, term",
            "is never taken",
        ),
        (
            "{from: new, call: begin, by: owner, to: open,",
            "{from: open, call: begin, by: owner, to: open,",
            "nothing opens an agreement",
        ),
        ("to: open, do", "do", "opens an agreement without a state"),
        ("{from: open, term: wait,", "{from: open, term: wait, when: 'true',", "is a term with a condition"),
        // Names and types.
        (
            "args.amount <= price,",
            "args.amount <= prize,",
            "16:50: on[1].when: `args.amount <= prize` names `prize`, which is unknown here; known are: args.amount, caller",
        ),
        ("args.amount <= price,", "caller <= price,", "compares a text with a whole number"),
        ("args.amount <= price,", "args.amount,", "`args.amount` gives a whole number, needed is true or false"),
        ("args.amount <= price,", "args.amount <=,", "is no CEL"),
        ("args.amount <= price,", "\"{1: 2}[1] == 2\",", "uses"),
        ("args.amount <= price,", "\"duration('1s') == duration('1s')\",", "uses `duration`"),
        ("args.amount <= price,", "has(args.amount),", "uses `has`"),
        ("amount: args.amount}", "amount: note}", "`note` gives a text, needed is a whole number"),
        ("amount: args.amount}", "amount: 1.5}", "gives a decimal number"),
        ("it.open_orders < 3", "it.age < 3", "names `it.age`"),
        ("term: wait", "term: soon", "names `soon`"),
        ("by: keeper", "by: kepper", "`kepper` is no role"),
        ("call: finish", "call: finnish", "`finnish` is no action"),
        ("{to: keeper", "{to: helper", "`helper` is not of kind organisation"),
        ("role: helper", "role: keeper", "`keeper` is not of kind person"),
        ("order: [open_orders]", "order: [age]", "allowed: open_orders, id"),
        ("seen: integer", "seen: integr", "5:46: fields.seen: `integr` is no type of a field"),
        ("seen: integer", "now: integer", "`now` is reserved"),
        ("seen: integer", "9seen: integer", "5:40: fields.9seen"),
        ("helper: person", "helper: robot", "is `robot`; allowed: organisation, person"),
        ("{choose: {role", "{set: {fine: 3}}, {choose: {role", "`fine` is no field that can be set"),
        ("{choose: {role", "{set: {seen: note}}, {choose: {role", "`note` gives a text, needed is a whole number"),
        ("{choose: {role", "{give: 5}, {choose: {role", "`give` is no effect"),
        ("{release: rest}]}\nends", "{release: all}]}\nends", "write `release: rest`"),
        ("required: [keeper, price]", "required: [keeper, prize]", "`prize` cannot be a standing term"),
        ("required: [keeper, price]", "required: [price]", "nobody ever becomes `keeper`"),
        ("optional: {wait: 4h}", "optional: {wait: 4x}", "9:20: standing.optional.wait: is `4x`"),
        ("require: [price > 0]", "require: [price]", "10:13: standing.require"),
        ("require: [price > 0]", "require: [note == '']", "names `note`"),
        ("key: [device]", "key: [price]", "`price` is no text"),
        ("key: [device]", "key: [device, note]", "does not carry the key `note`"),
        ("begin: {device: device}", "begin: {}", "does not carry the device"),
        ("finish: {amount: money}", "finish: {amount: money}\n  dance: {}", "actions.dance: causes nothing"),
        ("finish: {amount: money}", "finish: {amount: money}\n  standing: {}", "actions.standing: is reserved"),
        ("ends: [over]", "ends: [over]\ncolour: red", "19:1: colour: is unknown; allowed here: contract, version"),
        ("contract: lease", "contract: accounts", "is a native contract"),
        ("prefix: le", "prefix: LE", "write 1 to 16 small letters"),
        ("version: 1", "version: one", "2:10: version"),
        ("key: [device]\n", "", "key: is missing"),
        ("call: begin, by: owner,", "call: begin, trigger: begin, by: owner,", "has no single cause"),
        ("call: begin, by: owner,", "call: begin,", "on[0].by: is missing"),
        ("{from: open, term: wait,", "{from: open, term: wait, by: owner,", "is only for calls"),
    ];
    let mut missed = String::new();
    for (from, to, expected) in cases {
        let found = faults(from, to);
        if !found.contains(expected) {
            missed += &format!("`{from}` → `{to}`: expected `{expected}`, found:\n{found}\n");
        }
    }
    assert!(missed.is_empty(), "{missed}");
}

#[test]
fn decimals_never_reach_money() {
    assert!(faults("amount: args.amount}", "amount: args.amount * 1.5}").contains("where a whole number is needed"));
    assert!(faults("seen: integer", "seen: number").contains("is no type of a field"));
    // A measured number may be compared with, but not computed into an amount.
    let measured = RIGHT.replace("{amount: money}", "{amount: money, peak: number}");
    assert!(Contract::from_yaml(&measured.replace("args.amount <= price,", "args.peak > 7.1,")).is_ok());
    assert!(Contract::from_yaml(&measured.replace("amount: args.amount}", "amount: args.peak}")).is_err());
}

#[test]
fn every_mistake_at_once() {
    let text = RIGHT
        .replace("seen: integer", "seen: integr")
        .replace("args.amount <= price,", "args.amount <= prize,")
        .replace("optional: {wait: 4h}", "optional: {wait: 4x}")
        .replace("ends: [over]", "ends: [over, gone]\ncolour: red");
    let found = Contract::from_yaml(&text).unwrap_err();
    let keys: Vec<_> = found.iter().map(|fault| fault.key.as_str()).collect();
    for expected in ["fields.seen", "standing.optional.wait", "on[1].when", "ends", "colour"] {
        assert!(keys.contains(&expected), "{expected} in {keys:?}");
    }
    assert!(found.is_sorted_by_key(|fault| (fault.line, fault.column)));
}

#[test]
fn what_is_no_contract_is_one_fault() {
    for text in ["", "just words", "- a\n- list", "a: [", "contract: {", "a: 1\na: 2", "\u{0}"] {
        let faults = Contract::from_yaml(text).unwrap_err();
        assert!(!faults.is_empty(), "{text}");
    }
    let long = format!("about: {}", "x".repeat(70_000));
    assert!(Contract::from_yaml(&long).unwrap_err()[0].found.contains("bytes"));
}

/// Depth costs stack; what digs for it is refused before it gets there.
#[test]
fn bottomless_texts_are_refused() {
    let deep = |open: &str, close: &str, times: usize| format!("{}{}", open.repeat(times), close.repeat(times));
    for text in [deep("[", "]", 30_000), deep("{a: ", "}", 10_000), deep("- ", "", 30_000), "&a [*a]".to_owned()] {
        assert!(Contract::from_yaml(&text).is_err());
    }
    let bomb = (1..20).fold("a0: &a0 [x, x, x, x, x, x, x, x, x]\n".to_owned(), |text, level| {
        let uses = vec![format!("*a{}", level - 1); 9].join(", ");
        format!("{text}a{level}: &a{level} [{uses}]\n")
    });
    assert!(Contract::from_yaml(&bomb).is_err());
    let guards = [
        deep("(", ")", 900),
        deep("!", "", 1_900),
        deep("[", "]", 900),
        "a.".repeat(900),
        "a".to_owned() + &"[0]".repeat(600),
        "1+".repeat(900) + "1",
        "true?1:".repeat(270) + "1",
    ];
    for guard in guards {
        let found = faults("args.amount <= price,", &format!("\"{guard}\","));
        assert!(found.contains("on[1].when"), "{}: {found}", &guard[..9]);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn random_text_never_panics(text in "\\PC{0,200}") {
        let _ = Contract::from_yaml(&text);
    }

    /// A contract with a piece cut out or doubled is refused or right, never a crash.
    #[test]
    fn damaged_contracts_never_panic(start in 0usize..6000, length in 1usize..200, doubled in any::<bool>()) {
        let text: Vec<char> = LIBRARY[0].1.chars().collect();
        let start = start.min(text.len());
        let end = (start + length).min(text.len());
        let piece: String = text[start..end].iter().collect();
        let (head, tail): (String, String) = (text[..start].iter().collect(), text[end..].iter().collect());
        let damaged = if doubled { format!("{head}{piece}{piece}{tail}") } else { format!("{head}{tail}") };
        let _ = Contract::from_yaml(&damaged);
    }
}
