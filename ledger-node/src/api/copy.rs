//! What another node needs to begin and to follow: files as they lie in the data folder, and blocks as they lie in the log. Who
//! takes them believes none of it and checks all of it (`follow`).

use super::problem::Problem;
use super::{Api, on_disk};
use crate::engine::Engine;
use crate::retain::{kept, snapshot};
use crate::store::CommitError;
use axum::Json;
use axum::extract::{Path, Query, State};
use axum::http::header;
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::time::Duration;
use tally_evidence::cbor::{self, Cbor};
use tally_journal::SegmentName;

/// Bytes of a file, or of blocks, in one answer. 64 such answers are made at once at most.
pub const PIECE_BYTES: usize = 1 << 20;
/// Longest time an answer waits for a block that is not there yet; below the client's patience and that of the API itself.
const WAIT_MAX: Duration = Duration::from_secs(20);
const LOG: &str = "log";
const HINT: &str = "GET /copy lists the files; take the list anew when one of them has gone meanwhile";

/// What there is to copy.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Listing {
    /// 1.
    pub tallystick_copy: u32,
    /// The ledger.
    pub ledger: String,
    /// Id of its key, hexadecimal.
    pub key: String,
    /// Height of its last block.
    pub height: u64,
    /// Segments of the log, oldest first; of the last one what is synced by now.
    pub log: Vec<Listed>,
    /// What is kept of pruned segments.
    pub kept: Vec<Listed>,
    /// The newest snapshot, when segments were pruned.
    pub snapshot: Vec<Listed>,
}

/// A file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Listed {
    /// Its name in its folder.
    pub name: String,
    /// Its bytes.
    pub bytes: u64,
}

/// `GET /copy`.
pub async fn list(State(api): State<Api>) -> Result<Json<Listing>, Problem> {
    on_disk(&api.engine, |engine| listing(engine).map(Json)).await
}

fn listing(engine: &Engine) -> Result<Listing, Problem> {
    let store = engine.store();
    let data = store.folder().ok_or_else(no_folder)?;
    // The snapshot first: the log must reach beyond it. Kept files last: what is pruned meanwhile is kept before it goes.
    let snapshots = snapshot::list(data).map_err(|fault| Problem::internal(&fault))?;
    let height = store.head().ok_or_else(|| Problem::not_now("starting", "no block yet", 1))?.checkpoint.height;
    let segments = store.segments();
    let first = segments.first().map_or(0, |segment| segment.0);
    let log = segments.into_iter().map(|(first, bytes)| Listed { name: SegmentName(first).to_string(), bytes });
    let listed = |folder: &str, name: String| {
        let length = std::fs::metadata(data.join(folder).join(&name)).map(|meta| meta.len());
        length.map(|bytes| Listed { name, bytes }).map_err(|error| Problem::internal(&error))
    };
    let kept = kept::list(data).map_err(|fault| Problem::internal(&fault))?;
    let kept = kept.into_iter().filter(|name| name.last < first).map(|name| listed(kept::FOLDER, name.file()));
    let newest = snapshots.into_iter().filter(|_| first > 0).take(1);
    let newest = newest.filter_map(|(_, file)| Some(file.file_name()?.to_str()?.to_owned()));
    Ok(Listing {
        tallystick_copy: 1,
        ledger: engine.ledger().to_owned(),
        key: engine.key().id().to_string(),
        height,
        log: log.collect(),
        kept: kept.collect::<Result<_, _>>()?,
        snapshot: newest.map(|name| listed(snapshot::FOLDER, name)).collect::<Result<_, _>>()?,
    })
}

fn no_folder() -> Problem {
    Problem::not_found("file", "this ledger has no data folder", HINT)
}

/// Where in a file.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Piece {
    #[serde(default)]
    offset: u64,
}

/// `GET /copy/{folder}/{name}?offset=`: up to [`PIECE_BYTES`] of a file from there; nothing behind its end.
pub async fn file(
    State(api): State<Api>,
    Path((folder, name)): Path<(String, String)>,
    Query(Piece { offset }): Query<Piece>,
) -> Result<Response, Problem> {
    let bytes = on_disk(&api.engine, move |engine| {
        let missing = || Problem::not_found("file", format!("there is no `{folder}/{name}`"), HINT);
        let is_ours = match folder.as_str() {
            LOG => SegmentName::parse(&name).is_some(),
            kept::FOLDER => kept::KeptName::parse(&name).is_some(),
            snapshot::FOLDER => snapshot::height_of(&name).is_some(),
            _ => false,
        };
        // A name is a name, never a path.
        let data = engine.store().folder().filter(|_| is_ours).ok_or_else(missing)?;
        let end = match SegmentName::parse(&name).filter(|_| folder == LOG) {
            // Of the one that is being written what is synced.
            Some(segment) => {
                engine.store().segments().into_iter().find(|found| found.0 == segment.0).map(|found| found.1)
            }
            None => std::fs::metadata(data.join(&folder).join(&name)).ok().map(|meta| meta.len()),
        };
        let left = usize::try_from(end.ok_or_else(missing)?.saturating_sub(offset)).unwrap_or(usize::MAX);
        let mut bytes = vec![0; left.min(PIECE_BYTES)];
        let read = File::open(data.join(&folder).join(&name)).and_then(|file| file.read_exact_at(&mut bytes, offset));
        match read {
            Ok(()) => Ok(bytes),
            // Pruned meanwhile.
            Err(error) if error.kind() == io::ErrorKind::NotFound => Err(missing()),
            Err(error) => Err(Problem::internal(&error)),
        }
    })
    .await?;
    Ok(([(header::CONTENT_TYPE, "application/octet-stream")], bytes).into_response())
}

/// Which blocks.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct From {
    from: u64,
    /// Seconds to wait for the first of them.
    #[serde(default)]
    wait: u64,
}

/// `GET /copy/blocks?from=&wait=`: blocks from there on as the log has them, an array of byte strings, about [`PIECE_BYTES`] in all;
/// none when there is none yet.
pub async fn blocks(State(api): State<Api>, Query(From { from, wait }): Query<From>) -> Result<Response, Problem> {
    let mut heads = api.engine.store().watch_head();
    let is_there = heads.wait_for(|head| head.as_ref().is_some_and(|head| head.checkpoint.height >= from));
    tokio::select! {
        _ = tokio::time::timeout(Duration::from_secs(wait).min(WAIT_MAX), is_there) => {}
        () = api.stop.cancelled() => {}
    }
    let blocks = on_disk(&api.engine, move |engine| {
        let end = engine.store().head().map_or(0, |head| head.checkpoint.height + 1);
        let (mut blocks, mut bytes) = (Vec::new(), 0);
        for height in from..end {
            let record = match engine.store().block_record(height) {
                Err(CommitError::Pruned(pruned)) => return Err(Problem::pruned(&pruned)),
                record => record.map_err(|error| Problem::internal(&error))?,
            };
            bytes += record.len();
            blocks.push(cbor::bytes(record));
            if bytes >= PIECE_BYTES {
                break;
            }
        }
        Ok(blocks)
    })
    .await?;
    Ok(([(header::CONTENT_TYPE, "application/cbor")], cbor::encode(&Cbor::Array(blocks))).into_response())
}
