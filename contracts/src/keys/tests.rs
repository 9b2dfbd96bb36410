use super::*;

#[test]
fn agreement_ids_and_keys_are_one_to_one() {
    let id = |text: &str| AgreementId::try_new(text).unwrap();
    assert_eq!(split_agreement(&id("mo-17")), Some(("mo", 17)));
    for text in ["mo", "mo-", "mo-017", "mo-x", "-1", "mo-99999999999999999999"] {
        assert_eq!(split_agreement(&id(text)), None, "{text}");
    }
    assert!(agreement(&id("mo-9")) < agreement(&id("mo-10")), "number order");
}

/// Whoever scans one kind must not find another: the page above is the only list there is.
#[test]
fn no_two_kinds_begin_with_the_same_byte() {
    let page = include_str!("../keys.rs").lines().filter_map(|line| line.strip_prefix("//! "));
    let rows = page.filter(|row| row.chars().nth(1) == Some(' ') && row.len() > 40);
    let mut kinds: Vec<char> = rows.filter_map(|row| row.chars().next()).collect();
    assert!(kinds.len() > 40, "the page is not read any more: {kinds:?}");
    // The history, the steps and who may see are two forms each of one kind.
    let mut twice: Vec<char> = Vec::new();
    kinds.sort_unstable();
    kinds.windows(2).filter(|pair| pair[0] == pair[1]).for_each(|pair| twice.push(pair[0]));
    assert_eq!(twice, ['E', 'H', 'h']);
}

#[test]
fn terms_sort_by_time_also_before_the_epoch() {
    let id = AgreementId::try_new("mo-1").unwrap();
    let times = [i64::MIN, -1, 0, 1, i64::MAX].map(Timestamp::from_micros);
    let keys = times.map(|due| term(due, &id));
    assert!(keys.is_sorted());
    assert_eq!(keys.map(|key| due_of(&key)), times.map(Some));
}

#[test]
fn what_verifiers_look_at_lies_where_they_look() {
    let (device, party) = (DeviceId::try_new("press-01").unwrap(), PartyId::try_new("agent-01").unwrap());
    assert_eq!(super::device(&device), tally_evidence::device_state_key(&device));
    assert_eq!(revocation(&party), tally_evidence::revocation_state_key(&party));
    let service = PolicyId::try_new("service").unwrap();
    assert_eq!(policy(&party, &service), tally_evidence::policy_state_key(&party, &service));
    assert_eq!((permit(7), burnt(7)), (tally_evidence::permit_state_key(7), tally_evidence::burnt_state_key(7)));
}

/// What an agreement writes again and again stands side by side in the state's tree (`docs/formats/state.md`).
#[test]
fn what_is_of_an_agreement_is_of_its_group() {
    let (mo, other) = (AgreementId::try_new("mo-33").unwrap(), AgreementId::try_new("mo-47").unwrap());
    let round = AgreementId::try_new("mo.attest-33").unwrap();
    let group = tally_evidence::group_of(&agreement(&mo));
    assert!(group.is_some());
    let account = account(&escrow_id(&other));
    for key in [agreement(&other), step(&mo, 2), term(Timestamp::from_micros(-7), &other), account] {
        assert_eq!(tally_evidence::group_of(&key), group, "{}", key.escape_ascii());
    }
    let rounds = tally_evidence::group_of(&attestation(&round));
    assert!(rounds.is_some() && rounds == tally_evidence::group_of(&term(Timestamp::from_micros(1), &round)));
    let name = ContractName::try_new("c").unwrap();
    for key in [open(&name, ["a"]), attester(&mo, 2, 1), counter("mo"), step(&mo, 8), GENESIS.to_vec()] {
        assert_eq!(tally_evidence::group_of(&key), None, "{}", key.escape_ascii());
    }
}

#[test]
fn a_value_cannot_forge_a_border() {
    let name = ContractName::try_new("c").unwrap();
    assert_ne!(open(&name, ["a\0b"]), open(&name, ["a", "b"]));
}
