//! What happened to the agreement, from the proved outcomes, and whether its moves follow each other without a hole.

use crate::report::{Report, Step};
use std::collections::BTreeSet;
use tally_evidence::cbor::Cbor;
use tally_evidence::{Event, OutcomeRecord, Place};

/// The proved events of one agreement.
pub(crate) struct Story {
    agreement: String,
    /// (height, outcome index, outcome), sorted at the end: terms are read after entries but may lie between them.
    outcomes: Vec<(u64, u64, OutcomeRecord)>,
}

/// How far the events were followed.
#[derive(Default)]
struct Followed {
    state: Option<String>,
    /// Whether the last move ended it.
    ended: Option<bool>,
    retired: bool,
    /// The first thing that does not fit.
    fault: Option<String>,
}

impl Story {
    pub(crate) fn new(agreement: &str) -> Self {
        Self { agreement: agreement.to_owned(), outcomes: Vec::new() }
    }

    pub(crate) fn agreement(&self) -> &str {
        &self.agreement
    }

    pub(crate) fn add(&mut self, index: u64, outcome: OutcomeRecord) {
        self.outcomes.push((outcome.height, index, outcome));
    }

    pub(crate) fn finish(mut self, report: &mut Report) {
        self.outcomes.sort_by_key(|(height, index, _)| (*height, *index));
        let mut followed = Followed::default();
        for event in self.outcomes.iter().flat_map(|(_, _, outcome)| &outcome.events) {
            if event.subject != self.agreement {
                continue;
            }
            report.story.push(words(event));
            let fault = self.follow(event, &mut followed).err();
            followed.fault = followed.fault.or(fault);
        }
        let about = self.agreement.as_str();
        let Followed { state, retired, fault, .. } = followed;
        match (fault, state) {
            (Some(fault), _) => report.fails(about, Step::History, fault),
            (None, Some(state)) => {
                let and = if retired { ", retired; nothing of it is missing" } else { "" };
                report.holds(about, Step::History, format!("without a hole, now {state}{and}"));
            }
            (None, None) => report.fails(about, Step::History, "no outcome in this file opens this agreement"),
        }
    }

    fn follow(&self, event: &Event, followed: &mut Followed) -> Result<(), String> {
        if followed.retired {
            return Err(format!("{} comes behind its retirement", event.kind));
        }
        match event.kind.as_str() {
            "agreement.opened" => followed.state = text(event, "state"),
            "agreement.moved" => {
                let (from, before) = (text(event, "from"), followed.state.take());
                followed.state = text(event, "to");
                followed.ended = event.data.get("ended").and_then(Cbor::as_bool);
                if from != before {
                    let word = |state: Option<String>| state.unwrap_or_else(|| "nothing".to_owned());
                    return Err(format!("moves from {} without having got there from {}", word(from), word(before)));
                }
            }
            "agreement.retired" => {
                followed.retired = true;
                if followed.ended == Some(false) || text(event, "state") != followed.state {
                    return Err("is retired without having ended so".to_owned());
                }
                return self.whole(event);
            }
            _ => {}
        }
        Ok(())
    }

    /// Every step that the retirement names is in the file.
    fn whole(&self, retirement: &Event) -> Result<(), String> {
        let (mut entries, mut terms) = (BTreeSet::new(), BTreeSet::new());
        for (_, _, outcome) in &self.outcomes {
            match &outcome.place {
                Place::Entry { index, .. } => drop(entries.insert(vec![i128::from(*index)])),
                Place::Item { index, item, .. } => drop(entries.insert(vec![i128::from(*index), i128::from(*item)])),
                Place::Term { due, .. } => drop(terms.insert(vec![i128::from(*due)])),
            }
        }
        for (what, there) in [("entries", entries), ("terms", terms)] {
            let named = retirement.data.get(what).and_then(Cbor::as_array);
            let named = named.ok_or_else(|| format!("its retirement does not name its {what}"))?;
            if let Some(missing) = named.iter().map(numbers).find(|one| !there.contains(one)) {
                let missing: Vec<_> = missing.iter().map(ToString::to_string).collect();
                return Err(format!(
                    "its retirement names among its {what} {}, which this file lacks",
                    missing.join(".")
                ));
            }
        }
        Ok(())
    }
}

/// An entry, or entry and place in its batch; or when a term was due.
fn numbers(value: &Cbor) -> Vec<i128> {
    let items = match value {
        Cbor::Array(items) => items.as_slice(),
        one => std::slice::from_ref(one),
    };
    items.iter().filter_map(|item| item.as_integer().map(i128::from)).collect()
}

fn text(event: &Event, name: &str) -> Option<String> {
    event.data.get(name)?.as_text().map(str::to_owned)
}

fn words(event: &Event) -> String {
    let data: Vec<_> = event.data.iter().map(|(name, value)| format!("{name} {}", plain(value))).collect();
    format!("{} {}", event.kind, data.join(", ")).trim_end().to_owned()
}

fn plain(value: &Cbor) -> String {
    match value {
        Cbor::Text(text) => text.clone(),
        Cbor::Integer(number) => i128::from(*number).to_string(),
        Cbor::Float(number) => number.to_string(),
        Cbor::Bool(flag) => flag.to_string(),
        Cbor::Bytes(bytes) => bytes.iter().map(|byte| format!("{byte:02x}")).collect(),
        _ => "…".to_owned(),
    }
}
