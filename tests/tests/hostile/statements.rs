//! Statements: forged, truncated, replayed, confused about their algorithm, written in other bytes than the one form.

use super::{LINE, code, refused, transfer};
use tally_evidence::cbor::{self, Cbor, bytes, int, text};
use tally_evidence::{CallBody, SignedStatement, SigningKey, StatementKind};
use tally_tests::{Attacks, Craft, Party, Site, sign1, twin};

/// The parts that attacks are made of.
struct Parts {
    acme: Party,
    tina: Party,
    good: Vec<u8>,
    body: Vec<u8>,
    craft: Craft,
    mallory: SigningKey,
}

impl Parts {
    fn new(site: &Site) -> Self {
        let acme = Party::of(site, "acme");
        let good = acme.seal("accounts", "transfer", None, &transfer());
        let body = SignedStatement::parse(&good).unwrap().payload;
        let craft = Craft::new(&acme.key, "acme", "accounts", "press-line", body.clone());
        // Else every attack below would be refused for another reason than its own.
        assert!(SignedStatement::parse(&craft.seal()).unwrap().check_seal(acme.key.public()).is_ok());
        let mallory = SigningKey::from_secret(&[66; 32]).unwrap();
        Self { tina: Party::of(site, "tina"), acme, good, body, craft, mallory }
    }

    /// The good one with its payload's head written in eight bytes.
    fn long_head(&self) -> Vec<u8> {
        let protected = self.craft.protected_bytes();
        let signature = &self.good[self.good.len() - 64..];
        let mut out = vec![0xd2, 0x84];
        cbor::write_head(2, protected.len() as u64, &mut out);
        out.extend(&protected);
        out.push(0xa0);
        out.push(0x5b);
        out.extend((self.body.len() as u64).to_be_bytes());
        out.extend(&self.body);
        cbor::write_head(2, 64, &mut out);
        out.extend(signature);
        out
    }

    fn indefinite_payload(&self) -> Vec<u8> {
        let protected = self.craft.protected_bytes();
        let mut out = vec![0xd2, 0x84];
        cbor::write_head(2, protected.len() as u64, &mut out);
        out.extend(&protected);
        out.extend([0xa0, 0x5f]);
        cbor::write_head(2, self.body.len() as u64, &mut out);
        out.extend(&self.body);
        out.push(0xff);
        cbor::write_head(2, 64, &mut out);
        out.extend(&self.good[self.good.len() - 64..]);
        out
    }

    fn other_signature(&self, signature: &[u8]) -> Vec<u8> {
        sign1(&self.craft.protected_bytes(), &[0xa0], &self.body, signature)
    }

    fn body_changed(&self, change: impl FnOnce(&mut Cbor)) -> Vec<u8> {
        let mut body = cbor::decode(&self.body).unwrap();
        change(&mut body);
        Craft { payload: cbor::encode(&body), ..self.craft.clone() }.seal()
    }

    fn tampered(&self) -> Vec<u8> {
        let mut call = CallBody::decode(&self.body).unwrap();
        call.args.insert("amount".to_owned(), int(9));
        let at = self.good.windows(self.body.len()).position(|window| window == self.body).unwrap();
        let mut forged = self.good.clone();
        forged[at..at + self.body.len()].copy_from_slice(&call.encode());
        forged
    }

    fn stolen(&self) -> Vec<u8> {
        let mut hers = self.tina.seal("accounts", "transfer", None, &transfer());
        let end = hers.len() - 64;
        hers[end..].copy_from_slice(&self.good[self.good.len() - 64..]);
        hers
    }

    /// Sealed for one header, sent under another.
    fn header_swapped(&self) -> Vec<u8> {
        let other = self.craft.clone().with_claim(6, int(1_790_000_001));
        sign1(&other.protected_bytes(), &[0xa0], &self.body, &self.good[self.good.len() - 64..])
    }
}

fn deep(levels: usize) -> Vec<u8> {
    let mut bytes = vec![0x81; levels];
    bytes.push(0x00);
    bytes
}

/// On each level a map of two keys, one of them the level below.
fn maps_as_keys(levels: u8) -> Vec<u8> {
    let below = (0..levels)
        .fold(vec![0x00], |below, level| [&[0xa2][..], &below, &[0x01, 0x82, 0x18, 100 + level, 0x00, 0x02]].concat());
    [&[0xa2][..], &below, &[0x01], &below, &[0x02]].concat()
}

fn add(body: &mut Cbor, key: &str, value: Cbor) {
    if let Cbor::Map(pairs) = body {
        pairs.push((text(key), value));
    }
}

type Attack = (&'static str, &'static str, &'static str, Vec<u8>);

fn bytes_that_are_no_statement(parts: &Parts) -> Vec<Attack> {
    let good = &parts.good;
    let mut longer = good.clone();
    longer.push(0);
    let without_tag = good[1..].to_vec();
    let mut other_tag = vec![0xd8, 98];
    other_tag.extend(&good[1..]);
    let mut indefinite = vec![0xd2, 0x9f];
    indefinite.extend(&good[2..]);
    indefinite.push(0xff);
    let mut five = good.clone();
    five[1] = 0x85;
    five.push(0x00);
    let huge = [&[0xd2, 0x84, 0x5b][..], &u64::MAX.to_be_bytes()].concat();
    let many = [&[0xd2, 0x9b][..], &(1_u64 << 40).to_be_bytes()].concat();
    let bad_text = parts.craft.clone().with_claim(2, text("accounts")).seal();
    let at = bad_text.windows(8).position(|window| window == b"accounts").unwrap();
    let mut not_utf8 = bad_text;
    not_utf8[at] = 0xff;
    vec![
        ("empty", "no byte at all", "malformed", Vec::new()),
        ("garbage", "100 bytes 0xff", "malformed", vec![0xff; 100]),
        ("json", "a JSON document", "malformed", b"{\"alg\":\"none\"}".to_vec()),
        ("truncated-by-one", "all but the last byte", "malformed", good[..good.len() - 1].to_vec()),
        ("truncated-by-half", "the first half", "malformed", good[..good.len() / 2].to_vec()),
        ("trailing-byte", "one byte more", "malformed", longer),
        ("two-in-one", "two statements in one body", "malformed", [&good[..], good].concat()),
        ("untagged", "without the tag 18", "malformed", without_tag),
        ("other-tag", "COSE_Sign (98) instead of COSE_Sign1", "malformed", other_tag),
        ("indefinite-array", "an array without a length", "malformed", indefinite),
        ("indefinite-payload", "a payload in chunks", "malformed", parts.indefinite_payload()),
        ("non-canonical-length", "a length in eight bytes", "malformed", parts.long_head()),
        ("five-elements", "one element more", "malformed", five),
        ("huge-length", "a string of 2^64-1 bytes", "malformed", huge),
        ("huge-count", "an array of 2^40 items", "malformed", many),
        ("deep-nesting", "100,000 arrays in one another", "malformed", deep(100_000)),
        ("maps-as-keys", "maps as keys of maps, 26 deep: 2^26 comparisons", "malformed", maps_as_keys(26)),
        ("invalid-utf8", "a text that is no UTF-8", "malformed", not_utf8),
        ("too-large", "3 MiB", "too-large", vec![0; 3 << 20]),
    ]
}

fn algorithm_confusion(parts: &Parts) -> Vec<Attack> {
    let craft = || parts.craft.clone();
    let alg = |value: Cbor| craft().with(1, value).seal();
    let mut moved = craft().without(1);
    moved.unprotected = vec![(int(1), int(-7))];
    let mut both = craft();
    both.unprotected = vec![(int(1), int(-7))];
    let mut shadowed = craft();
    shadowed.unprotected = vec![(int(4), bytes(vec![7; 32]))];
    vec![
        ("alg-none", "no algorithm at all", "malformed", craft().without(1).seal()),
        ("alg-zero", "algorithm 0 (reserved)", "malformed", alg(int(0))),
        ("alg-hs256", "HMAC with the public key as its secret", "malformed", alg(int(5))),
        ("alg-eddsa", "EdDSA", "malformed", alg(int(-8))),
        ("alg-es384", "ES384", "malformed", alg(int(-35))),
        ("alg-es256k", "ES256K", "malformed", alg(int(-47))),
        ("alg-rs256", "RS256", "malformed", alg(int(-257))),
        ("alg-text", "the algorithm as a text", "malformed", alg(text("ES256"))),
        ("alg-unprotected", "the algorithm in the unprotected header", "private", moved.seal()),
        ("alg-twice", "in both headers", "private", both.seal()),
        ("kid-shadowed", "another key id in the unprotected header", "private", shadowed.seal()),
        (
            "crit-unknown",
            "a critical header nobody knows",
            "malformed",
            craft().with(2, Cbor::Array(vec![int(99)])).seal(),
        ),
        ("x5chain", "a certificate chain brought along", "malformed", craft().with(33, bytes(vec![1; 64])).seal()),
    ]
}

fn one_form_only(parts: &Parts) -> Vec<Attack> {
    let craft = || parts.craft.clone();
    let mut reordered = craft();
    reordered.protected.swap(0, 1);
    let mut twice = craft();
    let first = twice.protected[0].clone();
    twice.protected.insert(1, first);
    let detached = {
        let mut bytes = vec![0xd2, 0x84];
        let protected = parts.craft.protected_bytes();
        cbor::write_head(2, protected.len() as u64, &mut bytes);
        bytes.extend(protected);
        bytes.extend([0xa0, 0xf6]);
        cbor::write_head(2, 64, &mut bytes);
        bytes.extend(&parts.good[parts.good.len() - 64..]);
        bytes
    };
    let big = Cbor::Tag(2, Box::new(bytes(vec![0xff; 40])));
    vec![
        ("header-reordered", "the header's keys in another order", "malformed", reordered.seal()),
        ("header-duplicate-key", "a key twice in the header", "malformed", twice.seal()),
        ("payload-detached", "no payload", "malformed", detached),
        ("iat-bignum", "a time of 320 bits", "malformed", craft().with_claim(6, big).seal()),
        ("iat-float", "a time that is not a number", "malformed", craft().with_claim(6, Cbor::Float(f64::NAN)).seal()),
        ("iat-text", "a time that is a text", "malformed", craft().with_claim(6, text("now")).seal()),
        (
            "issuer-path",
            "a signer called ../../etc/passwd",
            "malformed",
            craft().with_claim(1, text("../../etc/passwd")).seal(),
        ),
        ("issuer-crlf", "a signer with a line break", "malformed", craft().with_claim(1, text("acme\r\nX: y")).seal()),
        (
            "issuer-long",
            "a signer of 100,000 letters",
            "malformed",
            craft().with_claim(1, text("a".repeat(100_000))).seal(),
        ),
        ("content-type-unknown", "a kind nobody knows", "malformed", craft().with(3, text("application/cbor")).seal()),
        (
            "content-type-checkpoint",
            "a call that says it is a checkpoint",
            "malformed",
            craft().with(3, text("application/vnd.tallystick.checkpoint+cbor")).seal(),
        ),
        ("kid-short", "a key id of 31 bytes", "malformed", craft().with(4, bytes(vec![1; 31])).seal()),
        (
            "body-unknown-field",
            "a body with a field too many",
            "body",
            parts.body_changed(|body| add(body, "extra", int(1))),
        ),
        (
            "body-nested",
            "arguments 60 levels deep",
            "body|malformed",
            parts.body_changed(|body| add(body, "args", cbor::decode(&deep(15)).unwrap_or(Cbor::Null))),
        ),
        (
            "body-of-a-trigger",
            "a call under the name of a trigger",
            "body",
            craft().with(3, text(StatementKind::Trigger.content_type())).seal(),
        ),
        (
            "batch-bare",
            "a batch without its triggers",
            "batch-bare|body|batch-malformed",
            craft().with(3, text(StatementKind::Batch.content_type())).seal(),
        ),
        ("body-empty", "an empty body", "body", Craft { payload: vec![0xa0], ..craft() }.seal()),
        ("body-number", "a body that is a number", "body", Craft { payload: vec![1], ..craft() }.seal()),
    ]
}

fn seals_and_names(parts: &Parts) -> Vec<Attack> {
    let craft = |key: &SigningKey, issuer: &str, subject: &str, audience: &str| {
        Craft::new(key, issuer, subject, audience, parts.body.clone()).seal()
    };
    let (acme, mallory) = (&parts.acme.key, &parts.mallory);
    let mut der = vec![0x30, 0x44, 0x02, 0x20];
    der.extend([1; 32]);
    der.extend([0x02, 0x20]);
    der.extend([1; 32]);
    vec![
        ("payload-tampered", "another amount under the same seal", "seal", parts.tampered()),
        ("header-swapped", "another time under the same seal", "seal", parts.header_swapped()),
        ("signature-stolen", "her statement with his signature", "seal", parts.stolen()),
        ("signature-high-s", "the same signature as (r, n-s)", "seal", twin(&parts.good)),
        ("signature-zero", "64 zeros", "seal", parts.other_signature(&[0; 64])),
        ("signature-ones", "64 bytes 0xff", "seal", parts.other_signature(&[0xff; 64])),
        ("signature-short", "63 bytes", "malformed", parts.other_signature(&[1; 63])),
        ("signature-der", "DER instead of r and s", "malformed", parts.other_signature(&der)),
        (
            "unknown-signer",
            "a signer nobody registered",
            "unknown-signer",
            craft(mallory, "mallory", "accounts", "press-line"),
        ),
        (
            "impersonation",
            "a registered name with a key of one's own",
            "unknown-key",
            craft(mallory, "acme", "accounts", "press-line"),
        ),
        (
            "impersonation-agent",
            "the agent's name with a key of one's own",
            "unknown-key",
            craft(mallory, "agent-01", "accounts", "press-line"),
        ),
        ("cross-ledger", "sealed for another ledger", "wrong-ledger", craft(acme, "acme", "accounts", "other-line")),
        (
            "audience-prefix",
            "a ledger whose name begins like ours",
            "wrong-ledger",
            craft(acme, "acme", "accounts", "press-line-2"),
        ),
        ("audience-case", "our ledger in capitals", "wrong-ledger", craft(acme, "acme", "accounts", "PRESS-LINE")),
        ("audience-empty", "for no ledger", "wrong-ledger", craft(acme, "acme", "accounts", "")),
        (
            "subject-swapped",
            "about something else than its body",
            "subject",
            craft(acme, "acme", "registry", "press-line"),
        ),
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn every_bad_statement_is_refused_by_name_and_counted_and_leaves_no_trace() {
    let site = Site::new(LINE, None).await;
    let mut node = site.start_node().await;
    let parts = Parts::new(&site);
    let first = parts.acme.call(&site.node, "accounts", "transfer", None, &transfer()).await;
    // A party that is no more.
    let gone = parts.acme.call(&site.node, "registry", "revoke-party", None, &[("party", text("tina"))]).await;
    assert_eq!(gone.refusal, None);
    let before = site.node.get_json("/checkpoint").await.unwrap();

    let mut attacks = Attacks::on("statements");
    let all = [
        bytes_that_are_no_statement(&parts),
        algorithm_confusion(&parts),
        one_form_only(&parts),
        seals_and_names(&parts),
    ];
    for (name, sent, expected, statement) in all.into_iter().flatten() {
        attacks.tried(name, sent, expected, code(&site, &statement).await);
    }
    let revoked = parts.tina.seal("accounts", "transfer", None, &transfer());
    attacks.tried("revoked-signer", "a key that was revoked", "revoked", code(&site, &revoked).await);
    for (answer, count) in attacks.counts() {
        let counted = refused(&site, &answer).await;
        // What is refused before its first byte may cost its sender the line; then it asks once more.
        let most = if answer == "too-large" { 2 * count } else { count };
        let (count, most) = (f64::from(u32::try_from(count).unwrap()), f64::from(u32::try_from(most).unwrap()));
        assert!((count..=most).contains(&counted), "{answer} is counted {counted} times, not {count}");
    }
    // Roots of entries and state are what they were.
    assert_eq!(site.node.get_json("/checkpoint").await.unwrap(), before);

    // A replay is no fault: it gets the first receipt, byte for byte, and is no second entry.
    let again = site.node.submit(&first.statement).await.unwrap();
    assert_eq!((&again.receipt, again.entry, again.refusal), (&first.receipt, first.entry, first.refusal));
    assert!(Site::metric(&site.node, "tally_repeated_total", "").await > 0.5);
    attacks.tried("replay", "the same statement again", "first receipt", "first receipt");
    let next = parts.acme.call(&site.node, "accounts", "transfer", None, &transfer()).await;
    assert_eq!((next.entry, next.refusal), (gone.entry + 1, None), "an honest one goes in right behind");
    assert!(!node.log().contains("panicked"), "{}", node.tail());
    assert_eq!(node.terminate().await.code(), Some(0));
    attacks.finish(60);
}
