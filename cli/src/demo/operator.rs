//! The plant's OPC UA operator: looks at certificates the agent has set aside, and trusts them. In a real plant a
//! person compares the thumbprint first; the demo says what it did.

use super::screen::Screen;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// Moves new certificates from `pki/rejected` to `pki/trusted`, as `docs/operator` says, until stopped.
pub fn trust_new_certificates(pki: PathBuf, screen: Screen, stop: CancellationToken) {
    tokio::spawn(async move {
        while !stop.is_cancelled() {
            for name in trust_all(&pki) {
                screen.say("operator", &format!("trusts the certificate of {name} (the agent had set it aside)"));
            }
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    });
}

fn trust_all(pki: &Path) -> Vec<String> {
    let (rejected, trusted) = (pki.join("rejected"), pki.join("trusted"));
    let Ok(entries) = std::fs::read_dir(&rejected) else { return Vec::new() };
    if std::fs::create_dir_all(&trusted).is_err() {
        return Vec::new();
    }
    let moved = entries.flatten().filter_map(|entry| {
        let name = entry.file_name();
        // A file that cannot be moved now is seen again in 200 ms.
        std::fs::rename(entry.path(), trusted.join(&name)).ok()?;
        Some(name.to_string_lossy().into_owned())
    });
    moved.collect()
}
