//! Parts of OPC UA nodes that a mapping leaves out and a server cannot: element 2 of an array has elements 0 and 1 before it,
//! and all elements have the same parts.

use std::collections::BTreeSet;
use tally_model::{Address, PointSpec};

/// A way into a node: fields and elements.
pub(super) type Way = Vec<String>;

/// Longest array that is filled up: a mapping that reads element 100,000 is not rehearsed by a file of 100,000 lines.
const ELEMENTS_MAX: usize = 1_000;

/// The addresses that are missing beside the points of a device, each with the point that is most like it.
pub(super) fn missing(points: &[PointSpec]) -> Vec<(Address, &PointSpec)> {
    let mut nodes: Vec<(Address, Vec<(Way, &PointSpec)>)> = Vec::new();
    for point in points {
        let Some((node, way)) = apart(&point.address) else { continue };
        match nodes.iter_mut().find(|(known, _)| *known == node) {
            Some((_, ways)) => ways.push((way, point)),
            None => nodes.push((node, vec![(way, point)])),
        }
    }
    nodes.into_iter().flat_map(|(node, ways)| missing_in(&node, &ways)).collect()
}

fn missing_in<'p>(node: &Address, ways: &[(Way, &'p PointSpec)]) -> Vec<(Address, &'p PointSpec)> {
    let present: BTreeSet<Way> = ways.iter().map(|(way, _)| way.clone()).collect();
    let whole = filled(&present);
    let like = |way: &Way| {
        let same_end = |known: &Way| known.iter().rev().zip(way.iter().rev()).take_while(|(a, b)| a == b).count();
        ways.iter().max_by_key(|(known, _)| same_end(known)).map(|(_, point)| *point)
    };
    whole.difference(&present).filter_map(|way| Some((within(node, way)?, like(way)?))).collect()
}

/// All ways of a value that has at least these.
fn filled(ways: &BTreeSet<Way>) -> BTreeSet<Way> {
    let mut firsts: Vec<&String> = ways.iter().filter_map(|way| way.first()).collect();
    firsts.sort_unstable();
    firsts.dedup();
    let behind = |first: Option<&String>| -> BTreeSet<Way> {
        let below = ways.iter().filter(|way| !way.is_empty() && first.is_none_or(|first| way.first() == Some(first)));
        filled(&below.map(|way| way.iter().skip(1).cloned().collect()).collect())
    };
    let below = |first: String, behind: BTreeSet<Way>| {
        behind.into_iter().map(move |way| std::iter::once(first.clone()).chain(way).collect::<Way>())
    };
    if firsts.is_empty() {
        return ways.clone();
    }
    let numbers: Option<Vec<usize>> = firsts.iter().map(|first| first.parse().ok()).collect();
    match numbers.and_then(|numbers| numbers.into_iter().max()).filter(|most| *most < ELEMENTS_MAX) {
        Some(most) => (0..=most).flat_map(|element| below(element.to_string(), behind(None))).collect(),
        None => firsts.into_iter().flat_map(|first| below(first.clone(), behind(Some(first)))).collect(),
    }
}

/// The node of an address, and the way into it; `None` for whole nodes and other protocols.
pub(super) fn apart(address: &Address) -> Option<(Address, Way)> {
    match address {
        Address::OpcUa { namespace, index, identifier, pointer: Some(pointer), alarm: None } => {
            let node = Address::OpcUa {
                namespace: namespace.clone(),
                index: *index,
                identifier: identifier.clone(),
                pointer: None,
                alarm: None,
            };
            Some((node, pointer.split('/').skip(1).map(str::to_owned).collect()))
        }
        _ => None,
    }
}

fn within(node: &Address, way: &Way) -> Option<Address> {
    match node.clone() {
        Address::OpcUa { namespace, index, identifier, .. } => Some(Address::OpcUa {
            namespace,
            index,
            identifier,
            pointer: Some(format!("/{}", way.join("/"))),
            alarm: None,
        }),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arrays_are_filled_up_with_parts_of_the_same_kind() {
        let ways = |texts: &[&str]| -> BTreeSet<Way> {
            texts.iter().map(|text| text.split('/').map(str::to_owned).collect()).collect()
        };
        assert_eq!(filled(&ways(&["2"])), ways(&["0", "1", "2"]));
        assert_eq!(filled(&ways(&["Position", "Limits/1"])), ways(&["Position", "Limits/0", "Limits/1"]));
        assert_eq!(
            filled(&ways(&["1/Position", "0/Limits/1"])),
            ways(&["0/Position", "0/Limits/0", "0/Limits/1", "1/Position", "1/Limits/0", "1/Limits/1"])
        );
        assert_eq!(filled(&ways(&["5000"])), ways(&["5000"]), "no file of thousands of lines");
    }
}
