//! COSE Receipts (RFC 9942) of inclusion in the ledger's `RFC9162_SHA256` tree.
//!
//! ```text
//! 18([ protected: {1: -7, 4: kid, 15: {1: iss = ledger, 2: sub = the statement's sub}, 395: 1},
//!      unprotected: {396: {-1: [ bstr .cbor [tree size, leaf index, [path]] ]}},  payload: nil (the root),  signature ])
//! ```
//! The leaf entry is the 32-byte statement id. Receipts are deterministic: made again they are the same bytes.
//!
//! A receipt of consistency is the same with `396: {-2: [ bstr .cbor [old size, new size, [path]] ]}`, without `sub`, over the new
//! root.

use crate::cbor::{self, Cbor, int};
use crate::statement::labelled;
use crate::{
    Hash, KeyId, SIGNATURE_BYTES, SigningKey, StatementId, VerifyingKey, leaf_hash, root_from_consistency_path,
    root_from_path,
};
use coset::{CoseSign1, CoseSign1Builder, HeaderBuilder, TaggedCborSerializable, iana};

/// Header labels of RFC 9942 §2: verifiable data structure, its proofs, and the two kinds among them.
const VDS: i64 = 395;
const VDP: i64 = 396;
const INCLUSION: i64 = -1;
const CONSISTENCY: i64 = -2;
/// `RFC9162_SHA256` in the registry of RFC 9942 §7.2.2.
const RFC9162_SHA256: i64 = 1;

/// Why a receipt does not hold.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReceiptFault {
    /// Not a COSE Receipt in our shape.
    #[error("receipt: {0}")]
    Shape(&'static str),
    /// The inclusion path does not fit its place.
    #[error("receipt: the inclusion path does not fit leaf {index} of {size}")]
    Path {
        /// Leaf index.
        index: u64,
        /// Tree size.
        size: u64,
    },
    /// The consistency path does not lead from the known old root.
    #[error("receipt: the first {old} entries of these {size} are not the ones known before")]
    Inconsistent {
        /// Old size.
        old: u64,
        /// New size.
        size: u64,
    },
    /// The ledger's seal over the root does not hold.
    #[error("receipt: the ledger's seal does not hold over the root that the path leads to")]
    Seal,
}

/// Proof that a statement is in the ledger.
#[derive(Debug, Clone, PartialEq)]
pub struct Receipt {
    /// Which ledger (CWT `iss`).
    pub ledger: String,
    /// What the statement is about (CWT `sub`).
    pub subject: String,
    /// The ledger's key.
    pub key: KeyId,
    /// Tree size that the signed root covers. Not itself signed (RFC 9942): compare it with the checkpoint of that root.
    pub size: u64,
    /// Place of the statement.
    pub index: u64,
    /// Inclusion path, from the leaf up.
    pub path: Vec<Hash>,
    sign1: CoseSign1,
}

impl Receipt {
    /// Makes the receipt for leaf `index` of `size` with this path and root.
    #[must_use]
    pub fn issue(
        key: &SigningKey,
        ledger: &str,
        subject: &str,
        size: u64,
        index: u64,
        path: &[Hash],
        root: &Hash,
    ) -> Vec<u8> {
        Self::issue_with(key.public(), |message| key.sign(message), ledger, subject, size, index, path, root)
    }

    /// The same with the seal that `sign` makes with the private half of `key`. What is sealed is the root, with ledger and
    /// subject: receipts that share these three share their seal.
    #[must_use]
    #[allow(clippy::too_many_arguments)] // as `issue`, and two for the key
    pub fn issue_with(
        key: &VerifyingKey,
        sign: impl FnOnce(&[u8]) -> [u8; SIGNATURE_BYTES],
        ledger: &str,
        subject: &str,
        size: u64,
        index: u64,
        path: &[Hash],
        root: &Hash,
    ) -> Vec<u8> {
        let claims = Cbor::Map(vec![(int(1), cbor::text(ledger)), (int(2), cbor::text(subject))]);
        seal((key, sign), claims, (INCLUSION, [size, index], path), root)
    }

    /// Reads a receipt strictly; nothing is trusted before [`Receipt::check`].
    ///
    /// # Errors
    /// [`ReceiptFault::Shape`].
    pub fn parse(bytes: &[u8]) -> Result<Self, ReceiptFault> {
        let (sign1, protected) = open(bytes)?;
        let (claims, key) = read_protected(&protected)?;
        let [ledger, subject] =
            labelled(&claims, [1, 2]).ok_or(ReceiptFault::Shape("CWT claims must be exactly iss and sub"))?;
        let (Some(ledger), Some(subject)) = (ledger.as_text(), subject.as_text()) else {
            return Err(ReceiptFault::Shape("iss and sub are texts"));
        };
        let (ledger, subject) = (ledger.to_owned(), subject.to_owned());
        let ([size, index], path) = read_proof(&sign1, INCLUSION)?;
        Ok(Self { ledger, subject, key, size, index, path, sign1 })
    }

    /// Checks that `statement` is in the ledger whose key is `key`; gives the tree root it was proved against.
    ///
    /// # Errors
    /// [`ReceiptFault::Path`] or [`ReceiptFault::Seal`].
    pub fn check(&self, statement: &StatementId, key: &VerifyingKey) -> Result<Hash, ReceiptFault> {
        let root = root_from_path(leaf_hash(&statement.0), self.index, self.size, &self.path)
            .ok_or(ReceiptFault::Path { index: self.index, size: self.size })?;
        let sealed = self.sign1.tbs_detached_data(&root, &[]);
        if self.key == key.id() && key.verify(&sealed, &self.sign1.signature) {
            Ok(root)
        } else {
            Err(ReceiptFault::Seal)
        }
    }
}

/// Proof that the ledger only grew: its first entries at a later size are the ones it had before.
#[derive(Debug, Clone, PartialEq)]
pub struct ConsistencyReceipt {
    /// Which ledger (CWT `iss`).
    pub ledger: String,
    /// The ledger's key.
    pub key: KeyId,
    /// Size of the tree known before.
    pub old: u64,
    /// Size of the tree whose root is signed.
    pub size: u64,
    /// Consistency path (RFC 9162 §2.1.4).
    pub path: Vec<Hash>,
    sign1: CoseSign1,
}

impl ConsistencyReceipt {
    /// Makes the receipt from `old` to `size` with this path and the root at `size`.
    #[must_use]
    pub fn issue(key: &SigningKey, ledger: &str, old: u64, size: u64, path: &[Hash], root: &Hash) -> Vec<u8> {
        let claims = Cbor::Map(vec![(int(1), cbor::text(ledger))]);
        seal((key.public(), |message: &[u8]| key.sign(message)), claims, (CONSISTENCY, [old, size], path), root)
    }

    /// Reads a receipt strictly; nothing is trusted before [`ConsistencyReceipt::check`].
    ///
    /// # Errors
    /// [`ReceiptFault::Shape`].
    pub fn parse(bytes: &[u8]) -> Result<Self, ReceiptFault> {
        let (sign1, protected) = open(bytes)?;
        let (claims, key) = read_protected(&protected)?;
        let [ledger] = labelled(&claims, [1]).ok_or(ReceiptFault::Shape("CWT claims must be exactly iss"))?;
        let ledger = ledger.as_text().ok_or(ReceiptFault::Shape("iss is a text"))?.to_owned();
        let ([old, size], path) = read_proof(&sign1, CONSISTENCY)?;
        Ok(Self { ledger, key, old, size, path, sign1 })
    }

    /// Checks that the ledger whose root was `old_root` grew into the one that `key` signed; gives the new root.
    ///
    /// # Errors
    /// [`ReceiptFault::Inconsistent`] or [`ReceiptFault::Seal`].
    pub fn check(&self, old_root: Hash, key: &VerifyingKey) -> Result<Hash, ReceiptFault> {
        let led = root_from_consistency_path(self.old, self.size, old_root, &self.path);
        let root = led.filter(|(from, _)| *from == old_root).map(|(_, to)| to);
        let root = root.ok_or(ReceiptFault::Inconsistent { old: self.old, size: self.size })?;
        let sealed = self.sign1.tbs_detached_data(&root, &[]);
        if self.key == key.id() && key.verify(&sealed, &self.sign1.signature) {
            Ok(root)
        } else {
            Err(ReceiptFault::Seal)
        }
    }
}

/// A kind of proof, its two numbers and its path.
type Proof<'a> = (i64, [u64; 2], &'a [Hash]);

fn seal(
    (key, sign): (&VerifyingKey, impl FnOnce(&[u8]) -> [u8; SIGNATURE_BYTES]),
    claims: Cbor,
    (kind, [first, second], path): Proof<'_>,
    root: &Hash,
) -> Vec<u8> {
    let protected = HeaderBuilder::new()
        .algorithm(iana::Algorithm::ES256)
        .key_id(key.id().0.to_vec())
        .value(15, claims)
        .value(VDS, int(RFC9162_SHA256))
        .build();
    let path = path.iter().map(|hash| cbor::bytes(*hash)).collect();
    let proof = cbor::encode(&Cbor::Array(vec![int(first), int(second), Cbor::Array(path)]));
    let proofs = Cbor::Map(vec![(int(kind), Cbor::Array(vec![cbor::bytes(proof)]))]);
    CoseSign1Builder::new()
        .protected(protected)
        .unprotected(HeaderBuilder::new().value(VDP, proofs).build())
        .create_detached_signature(root, &[], |message| sign(message).to_vec())
        .build()
        .to_tagged_vec()
        .unwrap_or_default() // headers built from integers, texts and bytes always encode
}

/// The COSE_Sign1 with its protected header.
fn open(bytes: &[u8]) -> Result<(CoseSign1, Cbor), ReceiptFault> {
    cbor::decode(bytes).map_err(|_| ReceiptFault::Shape("not deterministic CBOR"))?;
    let sign1 = CoseSign1::from_tagged_slice(bytes).map_err(|_| ReceiptFault::Shape("not a COSE_Sign1"))?;
    if sign1.payload.is_some() {
        return Err(ReceiptFault::Shape("the payload must be detached"));
    }
    let protected = sign1.protected.original_data.as_deref().unwrap_or_default();
    let protected = cbor::decode(protected).map_err(|_| ReceiptFault::Shape("protected header is not CBOR"))?;
    Ok((sign1, protected))
}

/// CWT claims and key.
fn read_protected(protected: &Cbor) -> Result<(Cbor, KeyId), ReceiptFault> {
    let [alg, kid, claims, vds] = labelled(protected, [1, 4, 15, VDS])
        .ok_or(ReceiptFault::Shape("protected header must hold exactly alg, kid, CWT claims, vds"))?;
    if *alg != int(-7) || *vds != int(RFC9162_SHA256) {
        return Err(ReceiptFault::Shape("alg must be ES256 and vds RFC9162_SHA256"));
    }
    let kid = kid.as_bytes().and_then(|kid| kid.as_slice().try_into().ok()).map(KeyId);
    Ok((claims.clone(), kid.ok_or(ReceiptFault::Shape("kid is 32 bytes"))?))
}

fn read_proof(sign1: &CoseSign1, kind: i64) -> Result<([u64; 2], Vec<Hash>), ReceiptFault> {
    const FAULT: ReceiptFault = ReceiptFault::Shape("unprotected header must hold exactly one proof of its kind");
    let (only_vdp, others) = (sign1.unprotected.rest.as_slice(), &sign1.unprotected);
    let [(label, proofs)] = only_vdp else { return Err(FAULT) };
    let no_others = HeaderBuilder::new().value(VDP, proofs.clone()).build() == *others;
    if *label != coset::Label::Int(VDP) || !no_others {
        return Err(FAULT);
    }
    let [proofs] = labelled(proofs, [kind]).ok_or(FAULT)?;
    let [Cbor::Bytes(proof)] = proofs.as_array().map(Vec::as_slice).unwrap_or_default() else { return Err(FAULT) };
    let Ok(Cbor::Array(proof)) = cbor::decode(proof) else { return Err(FAULT) };
    let [Cbor::Integer(first), Cbor::Integer(second), Cbor::Array(path)] = proof.as_slice() else { return Err(FAULT) };
    let path = path.iter().map(|hash| hash.as_bytes().and_then(|hash| hash.as_slice().try_into().ok()).ok_or(FAULT));
    let number = |number: &ciborium::value::Integer| u64::try_from(*number).map_err(|_| FAULT);
    Ok(([number(first)?, number(second)?], path.collect::<Result<_, _>>()?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Tree;
    use proptest::prelude::*;

    fn receipt() -> (SigningKey, StatementId, Vec<u8>, Hash) {
        let key = SigningKey::from_secret(&[5; 32]).unwrap();
        let mut tree = Tree::default();
        let ids: Vec<_> = (0..9u8).map(|n| StatementId([n; 32])).collect();
        ids.iter().for_each(|id| tree.push(leaf_hash(&id.0)));
        let path = tree.inclusion_path(4, 9).unwrap();
        let bytes = Receipt::issue(&key, "press-line", "press-01", 9, 4, &path, &tree.root());
        (key, ids[4], bytes, tree.root())
    }

    #[test]
    fn a_receipt_proves_its_statement_and_no_other() {
        let (key, id, bytes, root) = receipt();
        let receipt = Receipt::parse(&bytes).unwrap();
        assert_eq!(receipt.check(&id, key.public()), Ok(root));
        assert_eq!(receipt.check(&StatementId([0xff; 32]), key.public()), Err(ReceiptFault::Seal));
    }

    #[test]
    fn every_flipped_bit_is_noticed() {
        let (key, id, bytes, _) = receipt();
        for place in 0..bytes.len() * 8 {
            let mut forged = bytes.clone();
            forged[place / 8] ^= 1 << (place % 8);
            let Ok(receipt) = Receipt::parse(&forged) else { continue };
            // A path can fit several sizes, and RFC 9942 does not sign the size: readers compare it with the checkpoint.
            assert!(receipt.check(&id, key.public()).is_err() || receipt.size != 9, "bit {place}");
        }
    }

    #[test]
    fn a_receipt_of_consistency_holds_for_the_old_root_alone() {
        let key = SigningKey::from_secret(&[5; 32]).unwrap();
        let mut tree = Tree::default();
        (0..9u8).for_each(|n| tree.push(leaf_hash(&[n; 32])));
        for old in 1..=9 {
            let path = tree.consistency_path(old, 9).unwrap();
            let bytes = ConsistencyReceipt::issue(&key, "press-line", old, 9, &path, &tree.root());
            let receipt = ConsistencyReceipt::parse(&bytes).unwrap();
            let old_root = tree.root_at(old).unwrap();
            assert_eq!(receipt.check(old_root, key.public()), Ok(tree.root()));
            assert!(receipt.check([1; 32], key.public()).is_err());
            assert!(Receipt::parse(&bytes).is_err(), "it is no proof of inclusion");
            for place in 0..bytes.len() * 8 {
                let mut forged = bytes.clone();
                forged[place / 8] ^= 1 << (place % 8);
                let Ok(receipt) = ConsistencyReceipt::parse(&forged) else { continue };
                // As above: the sizes are not signed, the roots are.
                let holds = receipt.check(old_root, key.public()).is_ok();
                assert!(!holds || (receipt.old, receipt.size) != (old, 9), "from {old}, bit {place}");
            }
        }
    }

    proptest! {
        #[test]
        fn random_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _ = Receipt::parse(&bytes);
            let _ = ConsistencyReceipt::parse(&bytes);
        }
    }
}
