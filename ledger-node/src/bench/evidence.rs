//! Evidence files for whoever measures how fast they are checked: the ledger's floor knows nothing of the verifier.

use super::fast::{Receipts, run_fast};
use super::load::Load;
use super::{BenchError, BenchOptions, open};
use crate::testing::Plant;
use std::path::Path;
use tally_model::AgreementId;

/// Evidence files, without the readings behind the triggers, of `count` orders, each opened by a trigger about one of `devices` devices of one agent, from a ledger made
/// in `dir`.
///
/// # Errors
/// [`BenchError`].
pub fn evidence_files(dir: &Path, devices: usize, count: usize) -> Result<Vec<Vec<u8>>, BenchError> {
    let plant = Plant::new("bench", 1, devices)?;
    let lanes = Load::new(&plant, 1, devices).lanes(count, 1)?;
    let engine = open(dir, &plant, &BenchOptions::default())?;
    run_fast(&engine, lanes, Receipts::NotAskedFor)?;
    let files = (1..=count).map(|number| {
        let missing = || BenchError::Evidence(format!("mo-{number}"));
        let id = AgreementId::try_new(format!("mo-{number}")).map_err(|_| missing())?;
        let file = crate::api::evidence_of(&engine, &crate::api::Sight::operator(), &id, None)
            .map_err(|_| missing())?
            .ok_or_else(missing)?;
        Ok(file.encode())
    });
    let files = files.collect();
    engine.close();
    files
}

#[cfg(test)]
mod tests {
    use super::*;
    use tally_verifier::Step;

    #[test]
    fn each_file_holds() {
        let dir = tempfile::tempdir().unwrap();
        for file in evidence_files(dir.path(), 2, 5).unwrap() {
            let links = tally_verifier::verify(&file, None).links;
            // The plant's readings are made up: they alone are not in the file.
            let (broken, held): (Vec<_>, Vec<_>) = links.into_iter().partition(|link| !link.holds);
            assert!(held.len() > 10);
            assert!(broken.iter().all(|link| link.step == Step::Readings), "{broken:?}");
        }
    }
}
