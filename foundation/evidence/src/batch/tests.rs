use super::*;
use crate::body::tests::trigger;
use crate::{SigningKey, sign};
use proptest::prelude::*;
use tally_model::PartyId;

fn bodies(count: u64) -> Vec<Vec<u8>> {
    (0..count).map(|number| TriggerBody { number: 5 + number, ..trigger() }.encode()).collect()
}

fn statement(body: &BatchBody) -> Vec<u8> {
    let key = SigningKey::from_secret(&[9; 32]).unwrap();
    let agent = PartyId::try_new("agent-01").unwrap();
    sign(StatementKind::Batch, &key, &agent, "agent-01", "press-line", 1_790_000_000, body.encode())
}

fn open(envelope: &[u8]) -> Result<(BatchBody, Vec<TriggerBody>), BatchFault> {
    let envelope = BatchEnvelope::split(envelope)?;
    envelope.open(&SignedStatement::parse(envelope.statement).map_err(BatchFault::Statement)?)
}

#[test]
fn what_is_sealed_is_read_back_and_each_trigger_can_be_shown_alone() {
    for count in [1, 2, 3, 7, 1_000] {
        let bodies = bodies(count);
        let body = BatchBody::over(5, &bodies).unwrap();
        let bytes = BatchEnvelope::encode(&statement(&body), &bodies);
        let (read, triggers) = open(&bytes).unwrap();
        assert_eq!((read, triggers.len() as u64), (body, count));
        let envelope = BatchEnvelope::split(&bytes).unwrap();
        for item in [0, count / 2, count - 1] {
            let item = u32::try_from(item).unwrap();
            let shown = envelope.show(item).unwrap();
            assert!(shown.path.len() <= 10);
            assert_eq!(shown.check(&body).unwrap(), triggers[item as usize]);
            let whole = ShownTrigger { statement: vec![1], receipt: vec![2], batched: shown.clone() };
            assert_eq!(ShownTrigger::decode(&whole.encode()), Ok(whole));
            let elsewhere = BatchedTrigger { item: item + 1, ..shown };
            assert!(elsewhere.check(&body).is_err());
        }
        assert_eq!(envelope.show(u32::try_from(count).unwrap()), None);
    }
}

#[test]
fn hostile_batches_are_refused_each_by_its_code() {
    let good = bodies(4);
    let body = BatchBody::over(5, &good).unwrap();
    let sealed = |body: &BatchBody, bodies: &[Vec<u8>]| BatchEnvelope::encode(&statement(body), bodies);
    let seal = |bodies: &[Vec<u8>]| sealed(&BatchBody::over(5, bodies).unwrap(), bodies);
    let mut swapped = good.clone();
    swapped.swap(1, 2);
    let twice = [good[0].clone(), good[0].clone()];
    let nested = [good[0].clone(), seal(&good)];
    let other_kind = {
        let key = SigningKey::from_secret(&[9; 32]).unwrap();
        let agent = PartyId::try_new("agent-01").unwrap();
        let trigger = sign(StatementKind::Trigger, &key, &agent, "press-01", "press-line", 0, good[0].clone());
        BatchEnvelope::encode(&trigger, &good)
    };
    let mut trailing = seal(&good);
    trailing.push(0);
    let many = bodies(1_001);
    let thousand = BatchBody::over(5, &many[..1_000]).unwrap();
    for (envelope, code) in [
        (seal(&good), ""),
        (sealed(&body, &good[..3]), "batch-count"),
        (sealed(&body, &swapped), "batch-root"),
        (seal(&swapped), "batch-number"),
        (seal(&twice), "batch-number"),
        (seal(&nested), "batch-trigger"),
        (sealed(&body, &[]), "batch-size"),
        (sealed(&thousand, &many), "batch-size"),
        (other_kind, "batch-kind"),
        (trailing, "batch-malformed"),
        (sealed(&BatchBody { count: 0, ..body }, &good), "batch-size"),
        (sealed(&BatchBody { first: u64::MAX - 1, ..body }, &good), "batch-number"),
    ] {
        assert_eq!(open(&envelope).map_or_else(|fault| fault.code(), |_| ""), code);
    }
    assert_eq!(BatchBody::over(5, &many), Err(BatchFault::Size { found: 1_001 }));
}

#[test]
fn every_flipped_bit_of_a_shown_trigger_is_noticed() {
    let bodies = bodies(5);
    let batch = BatchBody::over(5, &bodies).unwrap();
    let envelope = BatchEnvelope::encode(&statement(&batch), &bodies);
    let shown = BatchEnvelope::split(&envelope).unwrap().show(3).unwrap();
    for place in 0..shown.body.len() * 8 {
        let mut forged = shown.clone();
        forged.body[place / 8] ^= 1 << (place % 8);
        assert_eq!(forged.check(&batch), Err(BatchFault::Root));
    }
    for place in 0..shown.path.len() * 256 {
        let mut forged = shown.clone();
        forged.path[place / 256][place % 256 / 8] ^= 1 << (place % 8);
        assert_eq!(forged.check(&batch), Err(BatchFault::Root));
    }
}

#[test]
fn names_have_one_form() {
    let id = StatementId([7; 32]);
    for item in [None, Some(0), Some(999)] {
        let name = StatementName { statement: id, item };
        assert_eq!(name.to_string().parse(), Ok(name));
    }
    for tail in [".", ".+1", ".01", ".-1", ".1.2", ".4294967296", ". 1"] {
        assert!(format!("{id}{tail}").parse::<StatementName>().is_err(), "{tail}");
    }
}

proptest! {
    #[test]
    fn random_bytes_never_panic_and_what_splits_is_the_one_form(mut bytes in proptest::collection::vec(any::<u8>(), 0..200), is_near: bool) {
        if is_near && bytes.len() > 3 {
            bytes[0] = ENVELOPE;
            bytes[1] = 0x41;
            bytes[3] = 0x81;
        }
        let _ = (BatchBody::decode(&bytes), ShownTrigger::decode(&bytes));
        let _ = StatementName::from_str(&String::from_utf8_lossy(&bytes));
        if let Ok(envelope) = BatchEnvelope::split(&bytes) {
            prop_assert_eq!(BatchEnvelope::encode(envelope.statement, &envelope.triggers), bytes);
        }
    }

    #[test]
    fn an_altered_envelope_is_refused_or_altered_in_its_signature_alone(place: prop::sample::Index, bit in 0u8..8) {
        let bodies = bodies(3);
        let good = BatchEnvelope::encode(&statement(&BatchBody::over(5, &bodies).unwrap()), &bodies);
        let mut bytes = good.clone();
        bytes[place.index(good.len())] ^= 1 << bit;
        let key = SigningKey::from_secret(&[9; 32]).unwrap();
        let holds = BatchEnvelope::split(&bytes).ok().is_some_and(|envelope| {
            SignedStatement::parse(envelope.statement).is_ok_and(|statement| {
                statement.check_seal(key.public()).is_ok() && envelope.open(&statement).is_ok()
            })
        });
        prop_assert!(!holds);
    }
}
