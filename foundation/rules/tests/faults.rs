//! Every way to write a rule wrong, and what is said about it.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod common;

use common::{compile, point, source, with_call};
use proptest::prelude::*;
use std::time::Duration;
use tally_rules::{Rule, RuleField};

/// Checks that `when` has exactly these faults, each as `line:column message | hint`.
#[track_caller]
fn check(when: &str, expected: &[&str]) {
    let faults = Rule::compile(&source(when)).err().unwrap_or_default();
    let found: Vec<_> = faults
        .iter()
        .map(|fault| {
            format!("{}:{} {} | {}", fault.line, fault.column, fault.message, fault.hint.as_deref().unwrap_or("-"))
        })
        .collect();
    assert_eq!(found, expected, "{when}");
}

#[test]
fn names() {
    check("vibraton > 1", &["1:1 unknown point `vibraton` | did you mean `vibration`?"]);
    check(
        "running && pressure > 1",
        &[
            "1:12 unknown point `pressure` | a text stands in quotes: 'pressure'; the points are auto, running, state, strokes, vibration",
        ],
    );
    check("meen(vibration, '1s') > 1", &["1:1 unknown function `meen` | did you mean `mean`?"]);
    check(
        "percentile(vibration, '1s') > 1",
        &[
            "1:1 unknown function `percentile` | the functions are min, max, mean, sum, count, rate, integral, time_in, last, abs, int, double",
        ],
    );
    check(
        "state.matches('x')",
        &[
            "1:7 unknown function `.matches` | texts know contains, startsWith and endsWith, each with one text; all other functions are written in front: mean(vibration, '10s')",
        ],
    );
    check(
        "press.vibration > 1",
        &[
            "1:1 `.vibration`: points have no fields | a rule sees the points of its own device; write the point id alone",
        ],
    );
    check("mean > 1", &["1:1 unknown point `mean` | `mean` is a function: write `mean(…)`"]);
}

#[test]
fn arguments() {
    check(
        "mean(vibration) > 1",
        &["1:1 `mean` takes a point and a duration, not 1 argument(s) | write `mean(point, '10s')`"],
    );
    check(
        "mean(vibration, 10) > 1",
        &["1:17 the second argument of `mean` is a duration in quotes | write for example '500ms', '10s' or '5min'"],
    );
    check(
        "mean(vibration, '10') > 1",
        &[
            "1:17 `10` is not a duration (time unit needed, for example 10sec or 10ms); write for example `500ms`, `10s`, `30min`, `4h`, `2d` | write for example '500ms', '10s' or '5min'",
        ],
    );
    check(
        "mean(vibration, '25h') > 1",
        &["1:17 a window of 25h is not possible | windows are longer than nothing and at most 24h"],
    );
    check(
        "mean(vibration, '0s') > 1",
        &["1:17 a window of 0s is not possible | windows are longer than nothing and at most 24h"],
    );
    check(
        "mean(vibration + 1, '1s') > 1",
        &["1:1 the first argument of `mean` is the name of a point | write `mean(point…)`"],
    );
    check("last(vibration, '1s') > 1", &["1:1 `last` takes one argument, not 2 | write `last(…)`"]);
}

#[test]
fn kinds() {
    check(
        "vibration",
        &["1:1 `when` is a condition, this is a number | compare it with something, for example `> 7.1`"],
    );
    check(
        "running > 1",
        &["1:9 a yes/no value cannot be compared with a number | a yes/no point stands alone: `running && …`"],
    );
    check("running > true", &["1:9 yes/no values have no order | a yes/no value stands alone, or with `!` in front"]);
    check(
        "vibration && running",
        &["1:1 expected a condition, found a number | compare it with something, for example `> 0`"],
    );
    check("state > 5", &["1:7 a text cannot be compared with a number | compare like with like"]);
    check(
        "running + 1 > 2",
        &["1:1 `+` adds two numbers or two texts, this is a yes/no value | both sides are of one kind"],
    );
    check("state * 2 > 1", &["1:1 expected a number, found a text | a text is no number"]);
    check(
        "mean(running, '1s') > 0.5",
        &["1:6 `mean` cannot work on a yes/no value | it wants a number; for a yes/no point use `time_in`"],
    );
    check(
        "time_in(vibration, '1s') > 1",
        &["1:9 `time_in` cannot work on a number | it wants a yes/no point; for a number compare in the rule itself"],
    );
    check("vibration % 2 == 0", &["1:11 `%` works on whole numbers only | cut them first: int(a) % int(b)"]);
    check("state in ['run', 5]", &["1:18 a text is never in a list with a number | list values of the same kind"]);
    check("state in 'run'", &["1:7 after `in` comes a list | write `state in ['run', 'idle']`"]);
    check("running ? 1 : 'a'", &["1:9 the two results are a number and a text | both sides of `:` give the same kind"]);
}

#[test]
fn syntax() {
    check("", &["1:1 the expression is empty | write for example `oil_temp > 80`"]);
    check("vibration >", &["1:12 unexpected end of the expression | -"]);
    check("running ? running ? 1 : 2 : 3", &["1:19 unexpected '?' | -"]);
    check("vibration > > 1", &["1:13 unexpected '>' | -"]);
    check(
        "vibration = 1 and running",
        &["1:11 `=` does not compare | write `==`", "1:15 `and` is not an operator of CEL | write `&&`"],
    );
    check("state == 'ö' && vibration >", &["1:28 unexpected end of the expression | -"]);
    check(
        "state == 'ö' && bogus > 1 ",
        &[
            "1:17 unknown point `bogus` | a text stands in quotes: 'bogus'; the points are auto, running, state, strokes, vibration",
        ],
    );
    check(
        "state == null",
        &["1:10 a rule has no `null` and no bytes | a point without a value makes the condition not true by itself"],
    );
    check("[1, 2].all(x, x > 1)", &["1:11 a rule has no maps, structures or loops | use the window functions"]);
}

#[test]
fn all_at_once_with_lines() {
    check(
        "vibraton > 1 &&\n  mean(vibration, 5) > 'a' ||\n  !strokes",
        &[
            "1:1 unknown point `vibraton` | did you mean `vibration`?",
            "2:19 the second argument of `mean` is a duration in quotes | write for example '500ms', '10s' or '5min'",
            "3:4 expected a condition, found a number | compare it with something, for example `> 0`",
        ],
    );
}

#[test]
fn faults_of_every_field() {
    let mut source = with_call(source("vibraton > 1"), &[("fault", "bearing-worn"), ("peak", "max(vibration, '3s')")]);
    source.until = Some("strokes".into());
    source.on_delay = Duration::from_secs(25 * 3600);
    let faults = Rule::compile(&source).unwrap_err();
    let fields: Vec<_> = faults.iter().map(|fault| fault.field.to_string()).collect();
    assert_eq!(fields, ["when", "until", "for", "call.with.fault", "call.with.fault"]);
    assert_eq!(faults[3].hint.as_deref().unwrap().split(';').next(), Some("a text stands in quotes: 'bearing'"));
    assert_eq!(faults[3].field, RuleField::With("fault".into()));
}

#[test]
fn what_a_rule_says_about_itself() {
    let mut source = with_call(source("mean(vibration, '3s') > 7.1 && running"), &[("n", "strokes")]);
    source.on_delay = Duration::from_secs(1);
    source.until = Some("max(vibration, '5s') < 4".into());
    source.disclose = vec![point("state")];
    let rule = compile(&source);
    assert_eq!(rule.reads(), [point("running"), point("strokes"), point("vibration")].into());
    assert_eq!(rule.disclosed(), [point("running"), point("state"), point("strokes"), point("vibration")].into());
    assert_eq!(rule.history(), Duration::from_secs(6));
    assert_eq!(rule.source(), &source);
}

/// The parser under `cel` overflows a 2 MiB stack at eleven brackets; test threads have 2 MiB.
#[test]
fn deep_expressions_are_refused_not_fatal() {
    for deep in [
        format!("{}1{} > 0", "(".repeat(600), ")".repeat(600)),
        "[".repeat(2000),
        format!("{}running", "!".repeat(2000)),
        format!("{}strokes > 0", "-".repeat(2000)),
        format!("strokes{} > 0", "+1".repeat(1000)),
        format!("running{}", "&&running".repeat(220)),
        format!("{}running", "running?running:".repeat(120)),
        format!("strokes{}", ".b".repeat(1000)),
        format!("{}'((((((((((((((((('", "'"),
    ] {
        let _ = Rule::compile(&source(&deep));
    }
    assert!(Rule::compile(&source(&format!("{}running{}", "(".repeat(8), ")".repeat(8)))).is_ok());
    assert!(Rule::compile(&source(&format!("{}running{}", "(".repeat(9), ")".repeat(9)))).is_err());
    assert!(Rule::compile(&source(&format!("strokes{} > 0", "+1".repeat(98)))).is_ok());
    assert!(Rule::compile(&source(&format!("strokes{} > 0", "+1".repeat(200)))).is_err());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn random_text_never_panics(text in "\\PC{0,120}") {
        let _ = Rule::compile(&source(&text));
    }

    #[test]
    fn random_pieces_never_panic(pieces in proptest::collection::vec(proptest::sample::select(PIECES), 0..40)) {
        let _ = Rule::compile(&source(&pieces.concat()));
    }
}

const PIECES: &[&str] = &[
    "vibration",
    "running",
    "state",
    "strokes",
    "auto",
    "mean(",
    "time_in(",
    "last(",
    "abs(",
    "(",
    ")",
    "[",
    "]",
    "{",
    "}",
    "?",
    ":",
    ",",
    ".",
    "'",
    "\"",
    "&&",
    "||",
    "!",
    "-",
    "+",
    "*",
    "/",
    "%",
    "1",
    "2.5",
    "0x",
    "1u",
    "in",
    "has(",
    ".all(x,",
    "'1s'",
    "\\",
    "\n",
    "true",
    "null",
    "`",
    "Foo{",
    "99999999999999999999",
    " ",
    "//",
    "é",
    ">",
    "==",
    "<=",
];
