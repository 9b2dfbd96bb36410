//! Which nodes a device has. A signal has a node of its own, unless its address leads into one: `s=Axis#/Position` and
//! `s=Axis#/Limits/1` are a field and an element of one node, as in a mapping. Pure.

use crate::SignalConfig;
use std::collections::BTreeMap;
use tally_model::Address;

/// The value of a node, made of signals.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Shape {
    /// One signal, by its place in the device.
    Signal(usize),
    /// Elements, all of one shape; arrays of arrays are matrices.
    Array(Vec<Shape>),
    /// Fields in the order in which they are first written.
    Structure(Vec<(String, Shape)>),
}

/// A node and its signals.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Outline {
    /// The address of one of its signals, for its node id.
    pub address: Address,
    pub shape: Shape,
}

/// What was written so far below one node, field or element.
#[derive(Default)]
struct Draft {
    signal: Option<usize>,
    parts: Vec<(String, Draft)>,
}

type NodeKey = (Option<String>, u16, String);

/// The nodes of a device, in the order in which they are first written. Alarms are no nodes here.
///
/// # Errors
/// A sentence about the signals that cannot lie in one node together.
pub(super) fn outlines(signals: &[SignalConfig]) -> Result<Vec<Outline>, String> {
    let mut drafts: Vec<(NodeKey, usize, Draft)> = Vec::new();
    let mut places: BTreeMap<NodeKey, usize> = BTreeMap::new();
    for (number, signal) in signals.iter().enumerate() {
        let Address::OpcUa { namespace, index, identifier, pointer, alarm: None } = &signal.address else { continue };
        let key = (namespace.clone(), *index, identifier.clone());
        let place = *places.entry(key.clone()).or_insert(drafts.len());
        if place == drafts.len() {
            drafts.push((key, number, Draft::default()));
        }
        let tokens = pointer.as_deref().unwrap_or_default().split('/').skip(1);
        let tokens = tokens.map(|token| token.replace("~1", "/").replace("~0", "~"));
        drafts[place].2.insert(tokens, number).map_err(|()| format!("two signals at `{}`", signal.address))?;
    }
    let outline = |(_, first, draft): (NodeKey, usize, Draft)| {
        let address = signals[first].address.clone();
        let shape = draft.shape().map_err(|reason| format!("`{address}`: {reason}"))?;
        Ok(Outline { address, shape })
    };
    drafts.into_iter().map(outline).collect()
}

impl Draft {
    fn insert(&mut self, mut tokens: impl Iterator<Item = String>, signal: usize) -> Result<(), ()> {
        let Some(token) = tokens.next() else {
            return if self.signal.replace(signal).is_some() { Err(()) } else { Ok(()) };
        };
        let known = self.parts.iter().position(|(name, _)| *name == token);
        let place = known.unwrap_or_else(|| {
            self.parts.push((token, Self::default()));
            self.parts.len() - 1
        });
        self.parts[place].1.insert(tokens, signal)
    }

    fn shape(self) -> Result<Shape, String> {
        let numbers: Vec<Option<usize>> = self.parts.iter().map(|(name, _)| name.parse().ok()).collect();
        match self.signal {
            Some(signal) if self.parts.is_empty() => return Ok(Shape::Signal(signal)),
            Some(_) => return Err("one signal is the whole, others are parts of it".to_owned()),
            None if numbers.iter().all(Option::is_none) => {
                let fields = self.parts.into_iter().map(|(name, draft)| Ok((name, draft.shape()?)));
                return Ok(Shape::Structure(fields.collect::<Result<_, String>>()?));
            }
            None if numbers.iter().any(Option::is_none) => {
                return Err("some parts are elements (numbers), others fields (names)".to_owned());
            }
            None => {}
        }
        let elements: BTreeMap<usize, Self> =
            numbers.into_iter().flatten().zip(self.parts.into_iter().map(|(_, draft)| draft)).collect();
        if let Some(missing) = (0..elements.len()).find(|place| !elements.contains_key(place)) {
            return Err(format!("element {missing} is missing; elements begin at 0 and leave no gap"));
        }
        Ok(Shape::Array(elements.into_values().map(Self::shape).collect::<Result<_, _>>()?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::SimConfig;
    use proptest::prelude::*;
    use std::path::Path;

    fn signals(at: &[&str]) -> Vec<SignalConfig> {
        let mut yaml = "devices:\n  - id: cnc\n    serve: opc.tcp://127.0.0.1:0\n    signals:\n".to_owned();
        for (number, at) in at.iter().enumerate() {
            yaml += &format!("      - {{id: s{number}, at: '{at}', type: f64, from: {{constant: 1.5}}}}\n");
        }
        SimConfig::parse(&yaml, Path::new("t.yaml"), &|_| None).unwrap().devices.remove(0).signals
    }

    #[test]
    fn addresses_into_one_node_make_one_node() {
        let made = outlines(&signals(&[
            "nsu=u;s=Axis#/Position",
            "nsu=u;s=Speed",
            "nsu=u;s=Axis#/Limits/1",
            "nsu=u;s=Axis#/Limits/0",
            "nsu=u;s=Row#/0",
            "nsu=u;s=Table#/0/0",
            "nsu=u;s=Table#/0/1",
        ]))
        .unwrap();
        let shapes: Vec<_> = made.into_iter().map(|outline| outline.shape).collect();
        let limits = Shape::Array(vec![Shape::Signal(3), Shape::Signal(2)]);
        assert_eq!(
            shapes,
            [
                Shape::Structure(vec![("Position".into(), Shape::Signal(0)), ("Limits".into(), limits)]),
                Shape::Signal(1),
                Shape::Array(vec![Shape::Signal(4)]),
                Shape::Array(vec![Shape::Array(vec![Shape::Signal(5), Shape::Signal(6)])]),
            ]
        );
    }

    #[test]
    fn what_cannot_lie_in_one_node_is_named() {
        for (at, why) in [
            (&["nsu=u;s=A", "nsu=u;s=A"][..], "two signals at `nsu=u;s=A`"),
            (&["nsu=u;s=A", "nsu=u;s=A#/x"], "one signal is the whole"),
            (&["nsu=u;s=A#/0", "nsu=u;s=A#/x"], "some parts are elements"),
            (&["nsu=u;s=A#/0", "nsu=u;s=A#/2"], "element 1 is missing"),
        ] {
            let fault = outlines(&signals(at)).unwrap_err();
            assert!(fault.contains(why), "{fault}");
        }
    }

    proptest! {
        /// Whatever pointers there are: a fault, or every signal exactly once.
        #[test]
        fn every_signal_is_somewhere_once(pointers in proptest::collection::vec("(#(/[0-2a-b]){1,3})?", 1..6)) {
            let at: Vec<String> = pointers.iter().map(|pointer| format!("nsu=u;s=A{pointer}")).collect();
            if let Ok(made) = outlines(&signals(&at.iter().map(String::as_str).collect::<Vec<_>>())) {
                let mut found = made.iter().flat_map(|outline| leaves(&outline.shape)).collect::<Vec<_>>();
                found.sort_unstable();
                prop_assert_eq!(found, (0..at.len()).collect::<Vec<_>>());
            }
        }
    }

    fn leaves(shape: &Shape) -> Vec<usize> {
        match shape {
            Shape::Signal(signal) => vec![*signal],
            Shape::Array(elements) => elements.iter().flat_map(leaves).collect(),
            Shape::Structure(fields) => fields.iter().flat_map(|(_, field)| leaves(field)).collect(),
        }
    }
}
