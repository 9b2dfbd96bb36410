//! What the same machine does when it does nothing else: seals verified, blocks appended and synced.

use super::{BenchError, load::Statement};
use crate::testing::PlantFault;
use std::path::Path;
use std::time::Instant;
use tally_evidence::{SignedStatement, SigningKey};
use tally_journal::{Journal, Options};

/// Seals verified for the baseline.
const VERIFIED: usize = 20_000;
/// Syncs for the baseline.
const SYNCED: usize = 100;

/// Statements that were parsed, each with the key that sealed it.
type Parsed = (SignedStatement, SigningKey);

fn parsed(statements: &[Statement]) -> Result<Vec<Parsed>, BenchError> {
    let with_key = |parsed: SignedStatement| {
        let key = crate::testing::key_of(parsed.issuer.as_str()).map_err(PlantFault::from)?;
        Ok((parsed, key))
    };
    statements.iter().filter_map(|statement| SignedStatement::parse(statement).ok()).map(with_key).collect()
}

fn verified(parsed: &[Parsed]) -> usize {
    parsed.iter().filter(|(parsed, key)| parsed.seal_holds_under(key.public())).count()
}

/// Verifies each of these seals once on each of so many threads at a time; how many that were, and how many seconds it took.
pub(super) fn verify_on(threads: usize, statements: &[Statement]) -> Result<(usize, f64), BenchError> {
    let parsed = parsed(statements)?;
    let began = Instant::now();
    let held = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..threads).map(|_| scope.spawn(|| verified(&parsed))).collect();
        threads.into_iter().map(|thread| thread.join().map_err(|_| BenchError::Thread)).sum::<Result<usize, _>>()
    })?;
    Ok((held, began.elapsed().as_secs_f64()))
}

/// Seals alone, and parsing with seals, a second on one core.
pub(super) fn baseline_verify(statements: &[Statement]) -> Result<(f64, f64), BenchError> {
    let parsed = parsed(statements)?;
    let rounds = VERIFIED.div_ceil(parsed.len().max(1));
    let began = Instant::now();
    let mut held = 0;
    for _ in 0..rounds {
        held += verified(&parsed);
    }
    let verified = held as f64 / began.elapsed().as_secs_f64();
    let began = Instant::now();
    let mut admitted = 0;
    for _ in 0..rounds {
        let holds = |(statement, (_, key)): &(&Statement, &Parsed)| {
            SignedStatement::parse(statement).is_ok_and(|parsed| parsed.seal_holds_under(key.public()))
        };
        admitted += statements.iter().zip(&parsed).filter(holds).count();
    }
    Ok((verified, admitted as f64 / began.elapsed().as_secs_f64()))
}

/// Records of that size appended and synced a second.
pub(super) fn baseline_sync(dir: &Path, bytes: f64) -> Result<f64, BenchError> {
    let mut journal = Journal::open(dir, Options::default())?;
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // the size of a block: far below 2⁵³
    let record = vec![0xa5; bytes.max(1.0) as usize];
    let began = Instant::now();
    for _ in 0..SYNCED {
        journal.append(&record)?;
        journal.sync()?;
    }
    Ok(SYNCED as f64 / began.elapsed().as_secs_f64())
}
