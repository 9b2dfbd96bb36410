//! Who of several agrees with whom: a pure function, the same whatever order the words came in.

use crate::attestation::Vote;
use crate::datum::Datum;
use crate::engine::{Attest, Independent};
use std::collections::{BTreeMap, BTreeSet};

/// The arguments of each vote, in order of the votes.
pub(super) type Arguments = [BTreeMap<String, Datum>];

/// The largest group of votes that has `with` in it and in which each agrees with each, when it is large enough. Of several, the
/// one of most independent sources; then of most votes; then of the first devices. Places in `votes`, rising.
pub(super) fn group(attest: &Attest, votes: &[Vote], arguments: &Arguments, with: usize) -> Option<Vec<usize>> {
    // At most `GROUP_MAX` votes: at most 2^15 groups, each a few operations on bits.
    let agrees: Vec<u32> = (0..votes.len()).map(|one| agreeing(attest, votes, arguments, one)).collect();
    let all = 1_u32.checked_shl(u32::try_from(votes.len()).ok()?)?;
    let places = |mask: u32| (0..votes.len()).filter(move |place| mask & (1 << place) != 0);
    let is_group = |mask: &u32| places(*mask).all(|place| mask & !agrees.get(place).copied().unwrap_or(0) == 0);
    let with_it = (1..all).filter(|mask| mask & (1 << with) != 0).filter(is_group);
    let weight = |mask: &u32| {
        (independent(attest.independent, places(*mask).filter_map(|place| votes.get(place))), mask.count_ones())
    };
    let best = with_it.max_by_key(|mask| (weight(mask), std::cmp::Reverse(*mask)))?;
    (weight(&best).0 >= attest.k).then(|| places(best).collect())
}

/// Bits of the votes that `one` agrees with, itself included.
fn agreeing(attest: &Attest, votes: &[Vote], arguments: &Arguments, one: usize) -> u32 {
    let agrees = |other: &usize| match (votes.get(one), votes.get(*other), arguments.get(one), arguments.get(*other)) {
        (Some(a), Some(b), Some(with_a), Some(with_b)) => {
            a.at.as_micros().abs_diff(b.at.as_micros()) <= attest.within.unsigned_abs() && same(attest, with_a, with_b)
        }
        _ => false,
    };
    (0..votes.len()).filter(agrees).fold(0, |bits, other| bits | 1 << other)
}

fn same(attest: &Attest, a: &BTreeMap<String, Datum>, b: &BTreeMap<String, Datum>) -> bool {
    a.iter().all(|(name, a)| match (b.get(name), attest.tolerance.get(name)) {
        (Some(b), Some(tolerance)) => match (a, b) {
            (Datum::Integer(a), Datum::Integer(b)) => {
                #[allow(clippy::cast_precision_loss)] // a distance to compare with, never money
                let apart = a.abs_diff(*b) as f64;
                apart <= *tolerance
            }
            (Datum::Number(a), Datum::Number(b)) => (a - b).abs() <= *tolerance,
            _ => false,
        },
        (b, _) => b == Some(a),
    })
}

/// How many of these are independent of each other.
pub(super) fn independent<'v>(of: Independent, votes: impl Iterator<Item = &'v Vote>) -> usize {
    let source = |vote: &'v Vote| match of {
        Independent::Devices => vote.device.as_str(),
        Independent::Agents => vote.agent.as_str(),
        Independent::Firms => vote.firm.as_ref().unwrap_or(&vote.agent).as_str(),
    };
    votes.map(source).collect::<BTreeSet<_>>().len()
}

/// What a group says together: of what may differ the middle one (of two, the lower), of everything else what all say.
pub(super) fn together(attest: &Attest, group: &[&BTreeMap<String, Datum>]) -> BTreeMap<String, Datum> {
    let Some(first) = group.first() else { return BTreeMap::new() };
    let mut said = (*first).clone();
    for name in attest.tolerance.keys() {
        let mut values: Vec<&Datum> = group.iter().filter_map(|one| one.get(name)).collect();
        values.sort_by(|a, b| match (a, b) {
            (Datum::Integer(a), Datum::Integer(b)) => a.cmp(b),
            (Datum::Number(a), Datum::Number(b)) => a.total_cmp(b),
            _ => std::cmp::Ordering::Equal,
        });
        let middle = values.get(values.len().saturating_sub(1) / 2).map(|middle| (*middle).clone());
        said.extend(middle.map(|middle| (name.clone(), middle)));
    }
    said
}
