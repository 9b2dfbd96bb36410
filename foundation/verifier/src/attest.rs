//! k of n: whether as many independent sources as the contract asks for said the same, recomputed from their own triggers and from
//! the contract's text, where the call that deployed it is in the file.

use crate::known::Known;
use crate::report::{Report, Step};
use serde::Deserialize;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::OnceLock;
use tally_evidence::cbor::Cbor;
use tally_evidence::{Event, TriggerBody};
use tally_model::{PartyId, Value, parse_duration};

/// What the ledger says when enough agree (`docs/formats/outcome.cddl`).
const REACHED: &str = "attestation.reached";
/// What a contract does then.
const ACTS: [&str; 3] = ["agreement.opened", "agreement.moved", "agreement.updated"];
/// Deepest nesting of a contract's text, most nodes and aliases in it: what a ledger takes.
const DEPTH_MAX: usize = 24;
const NODES_MAX: usize = 50_000;
const ALIASES_MAX: usize = 500;

/// What is read of a contract's text.
#[derive(Debug, Deserialize)]
pub(crate) struct Text {
    pub(crate) contract: String,
    pub(crate) version: String,
    #[serde(default)]
    pub(crate) attest: BTreeMap<String, Asked>,
}

/// What one action asks for.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Asked {
    k: String,
    independent: Option<String>,
    within: String,
    #[serde(default)]
    tolerance: BTreeMap<String, String>,
}

/// A contract as it was deployed. Its YAML is read only where something rests on it: that takes longer than all seals of a file.
pub(crate) struct Deployed {
    yaml: String,
    text: OnceLock<Option<Text>>,
}

impl Deployed {
    pub(crate) fn new(yaml: &str) -> Self {
        Self { yaml: yaml.to_owned(), text: OnceLock::new() }
    }

    /// `None` for what is no contract; no ledger has deployed it then.
    pub(crate) fn text(&self) -> Option<&Text> {
        self.text.get_or_init(|| Text::read(&self.yaml)).as_ref()
    }

    /// Whether it may ask for the word of several. YAML cannot write that key without its letters, but by an escape (`\`, in tags
    /// `%`) or encoded (`!!binary`).
    pub(crate) fn may_ask(&self) -> bool {
        let ends_here = |(at, word): (usize, &str)| {
            let behind = self.yaml.get(at + word.len()..).and_then(|rest| rest.chars().next());
            !behind.is_some_and(char::is_alphanumeric)
        };
        let is_key = self.yaml.match_indices("attest").any(ends_here);
        is_key || ["\\", "%", "binary"].iter().any(|mark| self.yaml.contains(mark))
    }
}

impl Text {
    fn read(text: &str) -> Option<Self> {
        let options = serde_saphyr::options! {
            strict_booleans: true,
            with_snippet: false,
            budget: serde_saphyr::budget! { max_depth: DEPTH_MAX, max_nodes: NODES_MAX, max_aliases: ALIASES_MAX },
        };
        serde_saphyr::from_str_with_options(text, options).ok()
    }
}

/// A proved trigger.
pub(crate) struct Word {
    /// Its entry.
    pub(crate) entry: u64,
    /// Who sealed it.
    pub(crate) agent: PartyId,
    pub(crate) body: TriggerBody,
}

/// Judges the outcome of the trigger that was proved last.
pub(crate) fn check(about: &str, trigger: &TriggerBody, events: &[Event], known: &Known, report: &mut Report) {
    let Some(call) = &trigger.call else { return };
    let reached = events.iter().find(|event| event.kind == REACHED);
    if reached.is_none() && !known.may_ask() {
        return;
    }
    let text = known.contract(call.contract.as_str());
    let asked = text.and_then(|text| text.attest.get(call.action.as_str()));
    let acts = events.iter().any(|event| ACTS.contains(&event.kind.as_str()));
    let judged = match (reached, asked) {
        (Some(event), Some(asked)) => agree(event, asked, trigger, known),
        (Some(_), None) if text.is_some() => Err("the contract's text does not ask for the word of several".to_owned()),
        (Some(event), None) => {
            let agreed = texts(event, "agreed").join(", ");
            Ok(format!("{agreed}, says the ledger; the contract's text is not in this file, so nobody can count again"))
        }
        (None, Some(asked)) if acts => Err(format!("the contract asks for {} who say so, and acted on one", asked.k)),
        (None, _) => return,
    };
    if let Some(words) = report.record(about, Step::Attested, judged) {
        report.holds(about, Step::Attested, words);
    }
}

fn agree(event: &Event, asked: &Asked, trigger: &TriggerBody, known: &Known) -> Result<String, String> {
    let entries: BTreeSet<u64> = numbers(event, "entries");
    let agreed = texts(event, "agreed");
    let said = |device: &&str| {
        let of_it = |word: &&Word| word.body.device.as_str() == *device && entries.contains(&word.entry);
        known.words().iter().rev().find(of_it).ok_or_else(|| format!("what {device} said is not in this file"))
    };
    let words = agreed.iter().map(said).collect::<Result<Vec<_>, _>>()?;
    let asks = |body: &TriggerBody| body.call.as_ref().map(|call| (call.contract.clone(), call.action.clone()));
    if let Some(other) = words.iter().find(|word| asks(&word.body) != asks(trigger)) {
        return Err(format!("{} asked for something else", other.body.device));
    }
    if !words.iter().any(|word| word.body == *trigger) {
        return Err(format!("{} is not among those that agreed", trigger.device));
    }
    let sources: BTreeSet<&str> = words.iter().map(|word| source(word, asked, known)).collect::<Result<_, _>>()?;
    let k: usize = asked.k.parse().map_err(|_| "the contract's text does not say how many".to_owned())?;
    if sources.len() < k {
        return Err(format!("{k} independent ones are needed, {} said so: {}", sources.len(), agreed.join(", ")));
    }
    together_in_time(&words, asked)?;
    for (place, one) in words.iter().enumerate() {
        for other in words.iter().skip(place + 1) {
            same(&one.body, &other.body, asked)?;
        }
    }
    let kind = asked.independent.as_deref().unwrap_or("agents");
    Ok(format!(
        "{} independent {kind} agree within {}, {k} are needed: {}",
        sources.len(),
        asked.within,
        agreed.join(", ")
    ))
}

/// Who stands behind a word, as far as the contract counts it.
fn source<'a>(word: &'a Word, asked: &Asked, known: &'a Known) -> Result<&'a str, String> {
    match asked.independent.as_deref() {
        None | Some("agents") => Ok(word.agent.as_str()),
        Some("devices") => Ok(word.body.device.as_str()),
        Some("firms") => Ok(known.firm(&word.agent).unwrap_or(&word.agent).as_str()),
        Some(other) => Err(format!("the contract's text counts `{other}`, which this program does not know")),
    }
}

fn together_in_time(words: &[&Word], asked: &Asked) -> Result<(), String> {
    let within = parse_duration(&asked.within).map_err(|fault| format!("the contract's text: {fault}"))?;
    let times = || words.iter().map(|word| word.body.at.as_micros());
    let (Some(first), Some(last)) = (times().min(), times().max()) else { return Err("nobody agreed".to_owned()) };
    let apart = std::time::Duration::from_micros(last.abs_diff(first));
    if apart > within {
        return Err(format!("they said so {apart:?} apart, {} are allowed", asked.within));
    }
    Ok(())
}

/// Each argument of the call is equal, or no further apart than the contract allows. Which device speaks is not what is said.
fn same(one: &TriggerBody, other: &TriggerBody, asked: &Asked) -> Result<(), String> {
    let with = |body: &TriggerBody| body.call.as_ref().map(|call| call.with.clone()).unwrap_or_default();
    let (ours, theirs) = (with(one), with(other));
    let names: BTreeSet<&String> = ours.keys().chain(theirs.keys()).filter(|name| *name != "device").collect();
    for name in names {
        let (a, b) = (ours.get(name), theirs.get(name));
        let fits = match asked.tolerance.get(name.as_str()) {
            Some(tolerance) => {
                let tolerance =
                    tolerance.parse().map_err(|_| format!("the contract's tolerance of `{name}` is no number"))?;
                apart(a, b).is_some_and(|apart| apart <= tolerance)
            }
            None => equal(a, b),
        };
        if !fits {
            let word = |value: Option<&Value>| value.map_or_else(|| "nothing".to_owned(), ToString::to_string);
            let (a, b) = (word(a), word(b));
            return Err(format!("{} says {name} {a}, {} says {b}", one.device, other.device));
        }
    }
    Ok(())
}

/// How far two numbers are apart; a duration may be written as text, and what is left out is 0.
fn apart(a: Option<&Value>, b: Option<&Value>) -> Option<f64> {
    #[allow(clippy::cast_precision_loss)] // as the ledger compares them
    match (number(a)?, number(b)?) {
        (Number::Whole(a), Number::Whole(b)) => Some(a.abs_diff(b) as f64),
        (a, b) => Some((a.float() - b.float()).abs()),
    }
}

fn equal(a: Option<&Value>, b: Option<&Value>) -> bool {
    match (a, b) {
        // What is left out has the value nobody has set.
        (None, Some(given)) | (Some(given), None) => match given {
            Value::Text(text) => text.is_empty(),
            Value::Bool(flag) => !flag,
            other => apart(Some(other), None) == Some(0.0),
        },
        (Some(Value::Text(a)), Some(Value::Text(b))) if a == b => true,
        (Some(Value::Bool(a)), Some(Value::Bool(b))) => a == b,
        (a, b) => apart(a, b) == Some(0.0),
    }
}

enum Number {
    Whole(i64),
    Decimal(f64),
}

impl Number {
    #[allow(clippy::cast_precision_loss)] // as the ledger compares them
    const fn float(&self) -> f64 {
        match self {
            Self::Whole(number) => *number as f64,
            Self::Decimal(number) => *number,
        }
    }
}

fn number(value: Option<&Value>) -> Option<Number> {
    match value {
        None => Some(Number::Whole(0)),
        Some(Value::Integer(number)) => Some(Number::Whole(*number)),
        Some(Value::Float(number)) => Some(Number::Decimal(*number)),
        Some(Value::Text(text)) => i64::try_from(parse_duration(text).ok()?.as_micros()).ok().map(Number::Whole),
        Some(Value::Unsigned(_) | Value::Bool(_)) => None,
    }
}

fn texts<'a>(event: &'a Event, name: &str) -> Vec<&'a str> {
    event.data.get(name).and_then(Cbor::as_array).into_iter().flatten().filter_map(Cbor::as_text).collect()
}

fn numbers(event: &Event, name: &str) -> BTreeSet<u64> {
    let items = event.data.get(name).and_then(Cbor::as_array).into_iter().flatten();
    items.filter_map(|item| u64::try_from(item.as_integer()?).ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use tally_evidence::cbor::{int, text};
    use tally_evidence::{ReadingsClaim, Transition, TriggerCall};
    use tally_model::{Priority, Timestamp};

    const CONTRACT: &str = "
contract: alarm
version: 1
attest:
  report: {k: 2, of: sensors, within: 30s, tolerance: {peak: 0.5}}
on:
  - {from: new, trigger: report, to: hot, do: [{set: {peak: args.peak}}]}
";

    /// What `device` said at this second: a peak and a fault.
    fn body(device: &str, second: i64, peak: f64, fault: &str) -> TriggerBody {
        let with = [("peak".to_owned(), Value::Float(peak)), ("fault".to_owned(), Value::Text(fault.to_owned()))];
        TriggerBody {
            trigger: "hot".parse().unwrap(),
            device: device.parse().unwrap(),
            rule: [1; 32],
            transition: Transition::Raised,
            priority: Priority::High,
            at: Timestamp::from_micros(second * 1_000_000),
            readings: ReadingsClaim { first: 0, last: 1, root: [0; 32], head: [0; 32], points: BTreeMap::new() },
            number: 0,
            call: Some(TriggerCall {
                contract: "alarm".parse().unwrap(),
                action: "report".parse().unwrap(),
                with: with.into(),
            }),
            clock: None,
            grade: Default::default(),
            mapping: None,
            origins: Vec::new(),
            quality: None,
        }
    }

    fn event(kind: &str, data: &[(&str, Cbor)]) -> Event {
        let data = data.iter().map(|(name, value)| ((*name).to_owned(), value.clone())).collect();
        Event { kind: kind.to_owned(), subject: "al-1".to_owned(), data }
    }

    /// What the verifier says of the last word, when the ledger says that all of them agreed.
    fn said(contract: &str, words: &[(&str, TriggerBody)], reached: bool) -> (bool, String) {
        let (mut known, mut report) = (Known::default(), Report::default());
        known.deploy(contract);
        for (entry, (agent, body)) in (5..).zip(words) {
            known.hear(Word { entry, agent: agent.parse().unwrap(), body: body.clone() });
        }
        let last = &words.last().unwrap().1;
        let devices = words.iter().map(|(_, body)| text(body.device.as_str())).collect();
        let entries = (5_u64..).take(words.len()).map(int).collect();
        let agreed = event(REACHED, &[("agreed", Cbor::Array(devices)), ("entries", Cbor::Array(entries))]);
        let events: Vec<_> = Some(agreed).filter(|_| reached).into_iter().chain([event(ACTS[0], &[])]).collect();
        check("the last", last, &events, &known, &mut report);
        let link = report.links.pop().unwrap();
        assert_eq!(link.step, Step::Attested);
        (link.holds, link.detail)
    }

    #[test]
    fn a_contract_that_may_ask_for_several_is_known_before_it_is_read() {
        for yaml in ["attest:\n", "{\"attest\" : {}}", "\"\\x61ttest\": {}", "? attest", "!!binary YXR0ZXN0: {}"] {
            assert!(Deployed::new(yaml).may_ask(), "{yaml}");
        }
        for yaml in ["contract: x\n", "# the machine attests its repair\n"] {
            assert!(!Deployed::new(yaml).may_ask(), "{yaml}");
        }
    }

    #[test]
    fn two_independent_words_that_fit_are_counted_again() {
        let both = [("a", body("one", 10, 9.0, "worn")), ("b", body("two", 40, 9.5, "worn"))];
        let (holds, words) = said(CONTRACT, &both, true);
        assert!(holds, "{words}");
        assert_eq!(words, "2 independent agents agree within 30s, 2 are needed: one, two");
        let firms = CONTRACT.replace("k: 2", "k: 2, independent: firms");
        assert!(said(&firms, &both, true).0, "agents without a firm stand for themselves");
    }

    #[test]
    fn what_does_not_agree_is_named() {
        let one = || ("a", body("one", 10, 9.0, "worn"));
        for (other, why) in [
            (("b", body("two", 41, 9.0, "worn")), "apart"),
            (("b", body("two", 10, 9.6, "worn")), "two says 9.6"),
            (("b", body("two", 10, 9.0, "loose")), "two says loose"),
            (("a", body("two", 10, 9.0, "worn")), "2 independent ones are needed, 1 said so"),
        ] {
            let (holds, words) = said(CONTRACT, &[one(), other], true);
            assert!(!holds && words.contains(why), "{why}: {words}");
        }
        let devices = CONTRACT.replace("k: 2", "k: 2, independent: devices");
        assert!(said(&devices, &[one(), ("a", body("two", 10, 9.0, "worn"))], true).0, "two sensors of one agent");
        assert!(!said(CONTRACT, &[one()], false).0, "the ledger acted on one");
        let none = CONTRACT.replace("attest:", "else:");
        assert!(!said(&none, &[one(), ("b", body("two", 10, 9.0, "worn"))], true).0, "nobody asked for several");
        // A text that is not there: the ledger's word, and no more.
        let (holds, words) = said("", &[one(), ("b", body("two", 99, 1.0, "other"))], true);
        assert!(holds && words.contains("says the ledger"), "{words}");
    }

    proptest::proptest! {
        #[test]
        fn any_text_is_read_or_left(text in "\\PC{0,200}", tail in "[a-z:{}\\[\\], \\n-]{0,80}") {
            let _ = Text::read(&text);
            let _ = Text::read(&format!("contract: a\nversion: 1\nattest:{tail}"));
        }
    }
}
