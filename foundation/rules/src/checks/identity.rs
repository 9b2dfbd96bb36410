//! What the device calls itself, against what the rule was agreed to with. Origins of readings carry it, and triggers carry these.

use super::FindingMismatch;
use crate::rule::Rule;
use tally_model::{Finding, FindingCode, Stretch};

/// Whether the device called itself something else than `rule` expects, or nothing, in readings up to `last` that come from `origins`:
/// from the first such reading to the last. Readings of which nobody says where they come from contradict nothing.
#[must_use]
pub fn other_identity(rule: &Rule, origins: &[Stretch], last: u64) -> Option<Finding> {
    let expected = rule.source().checks.as_ref()?.identity.as_deref()?;
    let ends = origins.iter().skip(1).map(|next| next.from.saturating_sub(1)).chain([last]);
    let mut others = origins
        .iter()
        .zip(ends)
        .filter(|(stretch, _)| stretch.origin.identity.as_deref() != Some(expected))
        .map(|(stretch, end)| (stretch.from, end));
    let (from, to) = others.next()?;
    let to = others.last().map_or(to, |(_, to)| to);
    Some(Finding { code: FindingCode::Identity, point: None, from, to, earlier: None })
}

/// Holds the identity that a trigger says its checks found against where its readings come from. `words` stands on the agent's word so far;
/// gives what still does. Of readings without origins nothing can be said.
///
/// # Errors
/// [`FindingMismatch`].
pub fn confirm_identity<'c>(
    rule: &Rule,
    origins: &[Stretch],
    last: u64,
    mut words: Vec<&'c Finding>,
) -> Result<Vec<&'c Finding>, FindingMismatch> {
    let claimed = words.iter().find(|claim| claim.code == FindingCode::Identity).copied();
    match (other_identity(rule, origins, last), claimed) {
        (Some(shown), Some(claim)) if *claim == shown => words.retain(|word| word.code != FindingCode::Identity),
        (Some(shown), _) => return Err(FindingMismatch::Concealed(shown)),
        (None, Some(claim)) if !origins.is_empty() => return Err(FindingMismatch::Invented(claim.clone())),
        (None, _) => {}
    }
    Ok(words)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;
    use tally_model::{
        Checks, DeviceId, LinkProtocol, LinkSecurity, Origin, PointId, Priority, RuleSource, TriggerId, Unit, ValueKind,
    };

    fn rule(identity: Option<&str>) -> Rule {
        let checks = Checks { identity: identity.map(ToOwned::to_owned), ..Checks::default() };
        let source = RuleSource {
            id: TriggerId::try_new("hot").unwrap(),
            device: DeviceId::try_new("press").unwrap(),
            when: "load > 1.0".to_owned(),
            on_delay: Duration::ZERO,
            until: None,
            priority: Priority::High,
            disclose: Vec::new(),
            call: None,
            points: [(PointId::try_new("load").unwrap(), (Some(ValueKind::Float), Unit::one()))].into(),
            checks: Some(checks),
        };
        Rule::compile(&source).unwrap()
    }

    fn stretches(said: &[(u64, Option<&str>)]) -> Vec<Stretch> {
        let link = LinkSecurity::none(LinkProtocol::Modbus);
        said.iter()
            .map(|(from, said)| {
                let identity = said.map(ToOwned::to_owned);
                Stretch { from: *from, origin: Origin { link: link.clone(), identity } }
            })
            .collect()
    }

    #[test]
    fn the_stretches_of_another_device_are_named_from_the_first_to_the_last() {
        let agreed = rule(Some("Acme; P-1"));
        let found = |said: &[(u64, Option<&str>)]| {
            other_identity(&agreed, &stretches(said), 99).map(|finding| (finding.from, finding.to))
        };
        let (ours, theirs) = (Some("Acme; P-1"), Some("Acme; P-2"));
        assert_eq!(found(&[(10, ours)]), None);
        assert_eq!(found(&[(10, ours), (40, theirs)]), Some((40, 99)));
        assert_eq!(found(&[(10, theirs), (40, ours)]), Some((10, 39)));
        assert_eq!(found(&[(10, theirs), (40, ours), (60, None)]), Some((10, 99)));
        assert_eq!(found(&[(10, ours), (40, None), (60, ours)]), Some((40, 59)), "silent is not the one agreed on");
        assert_eq!(found(&[]), None);
        assert_eq!(other_identity(&rule(None), &stretches(&[(10, theirs)]), 99), None);
    }

    #[test]
    fn a_verifier_finds_the_same_and_neither_hiding_nor_inventing_holds() {
        let agreed = rule(Some("Acme; P-1"));
        let other = stretches(&[(10, Some("Acme; P-1")), (40, Some("Acme; P-2"))]);
        let found = other_identity(&agreed, &other, 99).unwrap();
        let confirm = |origins: &[Stretch], words: Vec<&Finding>| {
            confirm_identity(&agreed, origins, 99, words).map(|words| words.len())
        };
        assert_eq!(confirm(&other, vec![&found]), Ok(0), "nobody's word: it follows");
        assert_eq!(confirm(&other, vec![]), Err(FindingMismatch::Concealed(found.clone())));
        let moved = Finding { from: 60, ..found.clone() };
        assert_eq!(confirm(&other, vec![&moved]), Err(FindingMismatch::Concealed(found.clone())));
        let own = stretches(&[(10, Some("Acme; P-1"))]);
        assert_eq!(confirm(&own, vec![&found]), Err(FindingMismatch::Invented(found.clone())));
        assert_eq!(confirm(&own, vec![]), Ok(0));
        assert_eq!(confirm(&[], vec![&found]), Ok(1), "without origins it is the agent's word");
    }
}
