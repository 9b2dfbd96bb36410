//! What happened to the agreement, from the proved outcomes, and whether its moves follow each other without a hole.

use crate::report::{Report, Step};
use tally_evidence::Event;
use tally_evidence::cbor::Cbor;

/// The proved events of one agreement.
pub(crate) struct Story {
    agreement: String,
    /// (height, outcome index, events), sorted at the end: terms are read after entries but may lie between them.
    outcomes: Vec<(u64, u64, Vec<Event>)>,
}

impl Story {
    pub(crate) fn new(agreement: &str) -> Self {
        Self { agreement: agreement.to_owned(), outcomes: Vec::new() }
    }

    pub(crate) fn agreement(&self) -> &str {
        &self.agreement
    }

    pub(crate) fn add(&mut self, height: u64, index: u64, events: Vec<Event>) {
        self.outcomes.push((height, index, events));
    }

    pub(crate) fn finish(mut self, report: &mut Report) {
        self.outcomes.sort_by_key(|(height, index, _)| (*height, *index));
        let mut state: Option<String> = None;
        let mut hole = None;
        for event in self.outcomes.iter().flat_map(|(_, _, events)| events) {
            if event.subject != self.agreement {
                continue;
            }
            report.story.push(words(event));
            match event.kind.as_str() {
                "agreement.opened" => state = text(event, "state"),
                "agreement.moved" => {
                    let from = text(event, "from");
                    if from != state {
                        hole = hole.or(Some((state.clone(), from)));
                    }
                    state = text(event, "to");
                }
                _ => {}
            }
        }
        self.judge(state, hole, report);
    }

    fn judge(&self, state: Option<String>, hole: Option<(Option<String>, Option<String>)>, report: &mut Report) {
        let about = self.agreement.as_str();
        match (hole, state) {
            (Some((before, from)), _) => {
                let word = |state: Option<String>| state.unwrap_or_else(|| "nothing".to_owned());
                let detail = format!("moves from {} without having got there from {}", word(from), word(before));
                report.fails(about, Step::History, detail);
            }
            (None, Some(state)) => report.holds(about, Step::History, format!("without a hole, now {state}")),
            (None, None) => report.fails(about, Step::History, "no outcome in this file opens this agreement"),
        }
    }
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
