//! What the same machine does when it does nothing else: seals verified, blocks appended and synced.

use super::{BenchError, load::Statement};
use crate::testing::PlantFault;
use std::path::Path;
use std::time::Instant;
use tally_evidence::SignedStatement;
use tally_journal::{Journal, Options};

/// Seals verified for the baseline.
const VERIFIED: usize = 20_000;
/// Syncs for the baseline.
const SYNCED: usize = 100;

/// Seals alone, and parsing with seals, a second on one core.
pub(super) fn baseline_verify(statements: &[Statement]) -> Result<(f64, f64), BenchError> {
    let parse = |statement: &Statement| SignedStatement::parse(statement).ok();
    let parsed: Vec<_> = statements.iter().filter_map(parse).collect();
    let keys = parsed.iter().map(|parsed| crate::testing::key_of(parsed.issuer.as_str()));
    let keys = keys.collect::<Result<Vec<_>, _>>().map_err(PlantFault::from)?;
    let rounds = VERIFIED.div_ceil(parsed.len().max(1));
    let began = Instant::now();
    let mut held = 0;
    for _ in 0..rounds {
        held += parsed.iter().zip(&keys).filter(|(parsed, key)| parsed.seal_holds_under(key.public())).count();
    }
    let verified = held as f64 / began.elapsed().as_secs_f64();
    let began = Instant::now();
    let mut admitted = 0;
    for _ in 0..rounds {
        let holds = |(statement, key): &(&Statement, &tally_evidence::SigningKey)| {
            parse(statement).is_some_and(|parsed| parsed.seal_holds_under(key.public()))
        };
        admitted += statements.iter().zip(&keys).filter(holds).count();
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
