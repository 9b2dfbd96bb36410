//! The node that is copied and followed, over HTTP. Nothing it says is believed here; what can be said of names and lengths without
//! looking into files is checked here.

use crate::api::{Listed, Listing};
use crate::retain::{kept::KeptName, snapshot};
use std::time::Duration;
use tally_evidence::cbor::{self, Cbor};
use tally_evidence::{Checkpoint, VerifyingKey};
use tally_journal::SegmentName;
use tally_ledger_client::{Access, Client, NodeAddress, RequestError, Timeouts};

/// Longest time for an answer; the source waits up to 20 s for a block.
const ANSWER_TIME: Duration = Duration::from_secs(30);
/// Pauses between tries when the source does not answer: a minute in all.
const PAUSES: [u64; 6] = [1, 2, 5, 10, 20, 20];

/// Why the source is of no use.
#[derive(Debug, thiserror::Error)]
pub enum SourceFault {
    /// It does not answer, or says no.
    #[error(transparent)]
    Request(#[from] RequestError),
    /// It says what cannot be.
    #[error("{address} says what cannot be: {what}")]
    Nonsense {
        /// Where.
        address: String,
        /// What is wrong.
        what: String,
    },
    /// Its checkpoint was not sealed by the key that the operator gave.
    #[error(
        "the checkpoint of {address} is not sealed by the key you named ({key}): {what}. It is another ledger's, or somebody between \
         alters what it says; compare the key with one you got on another way"
    )]
    Key {
        /// Where.
        address: String,
        /// Id of the key.
        key: String,
        /// What is wrong.
        what: String,
    },
}

/// A node that is copied or followed.
#[derive(Debug, Clone)]
pub struct Source {
    client: Client,
    pauses: &'static [u64],
}

impl Source {
    /// Does not connect yet.
    #[must_use]
    pub fn new(address: NodeAddress) -> Self {
        let timeouts = Timeouts { answer: ANSWER_TIME, ..Timeouts::default() };
        Self { client: Client::with_timeouts(address, timeouts), pauses: &PAUSES }
    }

    /// The same with a certificate or a token.
    #[must_use]
    pub fn with_access(mut self, access: Access) -> Self {
        self.client = self.client.with_access(access);
        self
    }

    /// The same; gives up at the first failure.
    #[must_use]
    pub const fn impatient(mut self) -> Self {
        self.pauses = &[];
        self
    }

    /// Where it is.
    #[must_use]
    pub fn address(&self) -> String {
        self.client.address().to_string()
    }

    /// Its last checkpoint, sealed by `key`.
    ///
    /// # Errors
    /// [`SourceFault`].
    pub async fn checkpoint(&self, key: &VerifyingKey) -> Result<Checkpoint, SourceFault> {
        let sealed = self.get("/checkpoint").await?;
        Checkpoint::open(&sealed, key).map_err(|fault| SourceFault::Key {
            address: self.address(),
            key: key.id().to_string(),
            what: fault.to_string(),
        })
    }

    /// What there is to copy of `ledger`: names that are names, in order, from block 0 on without a hole.
    pub(crate) async fn listing(&self, ledger: &str) -> Result<Listing, SourceFault> {
        let listing: Listing =
            serde_json::from_slice(&self.get("/copy").await?).map_err(|error| self.nonsense(error))?;
        check_listing(&listing, ledger).map_err(|what| self.nonsense(what))?;
        Ok(listing)
    }

    /// A piece of a file from `offset` on; empty behind its end.
    pub(crate) async fn piece(&self, folder: &str, name: &str, offset: u64) -> Result<Vec<u8>, SourceFault> {
        self.get(&format!("/copy/{folder}/{name}?offset={offset}")).await
    }

    /// Blocks from `from` on, as they lie in its log; none when there is none within `wait` seconds.
    pub(crate) async fn blocks(&self, from: u64, wait: u64) -> Result<Vec<Vec<u8>>, SourceFault> {
        let bytes = self.get(&format!("/copy/blocks?from={from}&wait={wait}")).await?;
        read_blocks(&bytes).map_err(|what| self.nonsense(what))
    }

    async fn get(&self, path: &str) -> Result<Vec<u8>, SourceFault> {
        let mut pauses = self.pauses.iter();
        loop {
            let error = match self.client.get_bytes(path).await {
                Err(error @ (RequestError::NoAnswer { .. } | RequestError::NotNow { .. })) => error,
                answered => return Ok(answered?),
            };
            let Some(pause) = pauses.next() else { return Err(error.into()) };
            tracing::warn!(%error, "asked again in {pause} s");
            tokio::time::sleep(Duration::from_secs(*pause)).await;
        }
    }

    fn nonsense(&self, what: impl ToString) -> SourceFault {
        SourceFault::Nonsense { address: self.address(), what: what.to_string() }
    }
}

fn read_blocks(bytes: &[u8]) -> Result<Vec<Vec<u8>>, String> {
    let Cbor::Array(items) = cbor::decode(bytes).map_err(|fault| fault.to_string())? else {
        return Err("its blocks are no list".to_owned());
    };
    items.into_iter().map(|item| item.into_bytes().map_err(|_| "a block is no byte string".to_owned())).collect()
}

fn check_listing(listing: &Listing, ledger: &str) -> Result<(), String> {
    if listing.tallystick_copy != 1 {
        return Err(format!("its list of files has version {}, this program knows 1", listing.tallystick_copy));
    }
    if listing.ledger != ledger {
        return Err(format!("its files are of the ledger `{}`, its checkpoint of `{ledger}`", listing.ledger));
    }
    let segments = listing.log.iter().map(|file| SegmentName::parse(&file.name).ok_or_else(|| foreign("log", file)));
    let segments = segments.collect::<Result<Vec<_>, _>>()?;
    if !segments.windows(2).all(|pair| pair[0] < pair[1]) {
        return Err("the files of its log are not in order".to_owned());
    }
    let first = segments.first().ok_or("it lists no file of the log")?.0;
    let mut covered = 0;
    for file in &listing.kept {
        let name = KeptName::parse(&file.name).ok_or_else(|| foreign("kept", file))?;
        if name.first != covered {
            return Err(format!("what is kept of blocks {covered} to {} is missing", name.first.wrapping_sub(1)));
        }
        covered = name.last.saturating_add(1);
    }
    if covered != first {
        return Err(format!("its log begins at block {first}, and what is kept ends before block {covered}"));
    }
    match &listing.snapshot[..] {
        [] if first == 0 => Ok(()),
        [file] if snapshot::height_of(&file.name).is_some_and(|height| height + 1 >= first) => Ok(()),
        [file] => Err(foreign("snapshot", file)),
        _ => Err("its log does not begin at block 0, and it lists not one snapshot".to_owned()),
    }
}

fn foreign(folder: &str, file: &Listed) -> String {
    format!("`{}` cannot be a file of `{folder}` here", file.name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn listing(log: &[u64], kept: &[(u64, u64)], snapshot: &[u64]) -> Listing {
        let listed = |name: String| Listed { name, bytes: 64 };
        Listing {
            tallystick_copy: 1,
            ledger: "press-line".to_owned(),
            key: String::new(),
            height: 9,
            log: log.iter().map(|first| listed(SegmentName(*first).to_string())).collect(),
            kept: kept.iter().map(|&(first, last)| listed(KeptName { first, last }.file())).collect(),
            snapshot: snapshot.iter().map(|height| listed(format!("{height:020}.snap"))).collect(),
        }
    }

    #[test]
    fn lists_without_holes_are_taken_and_no_others() {
        let good = |listing| check_listing(&listing, "press-line");
        good(listing(&[0, 5], &[], &[])).unwrap();
        good(listing(&[5, 8], &[(0, 1), (2, 4)], &[7])).unwrap();
        for (wrong, word) in [
            (listing(&[], &[], &[]), "no file"),
            (listing(&[5, 5], &[(0, 4)], &[7]), "in order"),
            (listing(&[5], &[(0, 1), (3, 4)], &[7]), "blocks 2 to 2"),
            (listing(&[5], &[(1, 4)], &[7]), "blocks 0 to 0"),
            (listing(&[5], &[(0, 3)], &[7]), "ends before block 4"),
            (listing(&[5], &[(0, 4)], &[]), "not one snapshot"),
            (listing(&[5], &[(0, 4)], &[3]), "cannot be"),
            (listing(&[0], &[], &[3, 4]), "not one snapshot"),
        ] {
            let said = good(wrong).unwrap_err();
            assert!(said.contains(word), "{word}: {said}");
        }
        assert!(check_listing(&listing(&[0], &[], &[]), "other").is_err());
        for path in ["../../etc/passwd", "00000000000000000000.seg/../x", ""] {
            let mut wrong = listing(&[0], &[], &[]);
            path.clone_into(&mut wrong.log[0].name);
            assert!(good(wrong).unwrap_err().contains("cannot be"), "{path}");
        }
    }

    proptest! {
        #[test]
        fn random_answers_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200), name in "\\PC{0,40}", at in 0..3_usize) {
            let _ = read_blocks(&bytes);
            let mut wrong = listing(&[5], &[(0, 4)], &[7]);
            let file = [&mut wrong.log, &mut wrong.kept, &mut wrong.snapshot].into_iter().nth(at).unwrap();
            file[0].name = name;
            let _ = check_listing(&wrong, "press-line");
        }
    }
}
