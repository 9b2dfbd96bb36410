//! The tree as a tiled log (C2SP tlog-tiles) under `/tlog`, so that mirrors, monitors and witnesses of others can follow it,
//! and proofs that it only grew. Entries of the log are the 32-byte statement ids.

use super::problem::Problem;
use super::{Api, on_disk};
use axum::extract::{Path, Query, State};
use axum::http::header;
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use tally_evidence::TreeNote;

/// Hashes of a full tile, entries of a full bundle.
const TILE: u64 = 256;
/// Levels of the tree that one tile spans.
const TILE_HEIGHT: u32 = 8;
/// A full tile never changes; a partial one of a given width does not either.
const FOR_EVER: (header::HeaderName, &str) = (header::CACHE_CONTROL, "public, max-age=31536000, immutable");
const HINT: &str =
    "tile/LEVEL/N, tile/LEVEL/N.p/WIDTH or tile/entries/N as in C2SP tlog-tiles, up to the size of the checkpoint";

/// `GET /tlog/checkpoint`: with witnesses the last one that enough of them signed, otherwise, and until there is one, the head's.
pub async fn checkpoint(State(api): State<Api>) -> Result<Response, Problem> {
    let headers = [(header::CONTENT_TYPE, "text/plain; charset=utf-8"), (header::CACHE_CONTROL, "no-cache")];
    if let Some((_, note)) = api.cosigning.witnesses.as_ref().and_then(|witnesses| witnesses.note()) {
        return Ok((headers, note.to_string()).into_response());
    }
    let head = api.engine.store().head().ok_or_else(|| Problem::not_now("starting", "no block yet", 1))?;
    let note =
        TreeNote { origin: api.engine.ledger().to_owned(), size: head.checkpoint.size, root: head.checkpoint.root };
    Ok((headers, api.engine.sign_note(&note)?).into_response())
}

/// `GET /tlog/tile/…`.
pub async fn tile(State(api): State<Api>, Path(path): Path<String>) -> Result<Response, Problem> {
    let asked = Asked::parse(&path).ok_or_else(|| Problem::bad_request("tile", format!("`{path}`"), HINT))?;
    let found = on_disk(&api.engine, move |engine| {
        let store = engine.store();
        let size = store.head().map_or(0, |head| head.checkpoint.size);
        Ok(match asked.level {
            Some(level) => store.tile_nodes(level * TILE_HEIGHT, asked.first, asked.width, size)?,
            None if asked.first + asked.width <= size => {
                let ids = store.ids(asked.first, asked.width)?;
                Some(ids.iter().flat_map(|id| [&[0, 32][..], &id.0].concat()).collect())
            }
            None => None,
        })
    })
    .await?;
    let bytes = found.ok_or_else(|| Problem::not_found("tile", format!("there is no tile `{path}` yet"), HINT))?;
    Ok(([(header::CONTENT_TYPE, "application/octet-stream"), FOR_EVER], bytes).into_response())
}

/// `GET /consistency/{old}?size=`: a receipt that the tree of `old` entries is the beginning of the one of `size`.
pub async fn consistency(
    State(api): State<Api>,
    Path(old): Path<String>,
    Query(to): Query<To>,
) -> Result<Response, Problem> {
    const HINT: &str = "two sizes, 1 at least, the first not above the second, that not above the size of /checkpoint";
    let wrong = |what: String| Problem::bad_request("size", what, HINT);
    let old: u64 = old.parse().map_err(|_| wrong(format!("`{old}`")))?;
    let engine = &api.engine;
    let head = engine.store().head().map_or(0, |head| head.checkpoint.size);
    let size = to.size.unwrap_or(head);
    let proof = on_disk(engine, move |engine| Ok(engine.store().consistency(old, size)?)).await?;
    let Some((path, root)) = proof else { return Err(wrong(format!("{old} to {size}"))) };
    let receipt = engine.sign_consistency(old, size, &path, &root)?;
    Ok(([(header::CONTENT_TYPE, "application/cose")], receipt).into_response())
}

/// Up to which size; the head's when not said.
#[derive(Deserialize)]
pub struct To {
    size: Option<u64>,
}

/// A tile, or a bundle of entries when it has no level.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Asked {
    level: Option<u32>,
    /// Its first hash on its level.
    first: u64,
    width: u64,
}

impl Asked {
    fn parse(path: &str) -> Option<Self> {
        let (level, rest) = path.split_once('/')?;
        let level = match level {
            "entries" => None,
            level => Some(canonical(level).filter(|level| *level < 64)?),
        };
        let (index, width) = match rest.split_once(".p/") {
            Some((index, width)) => (index, canonical(width).filter(|width| (1..TILE).contains(&u64::from(*width)))?),
            None => (rest, 256),
        };
        let first = tile_index(index)?.checked_mul(TILE)?;
        first.checked_add(TILE)?;
        Some(Self { level, first, width: width.into() })
    }
}

/// A decimal number without leading zeros.
fn canonical(digits: &str) -> Option<u32> {
    let number: u32 = digits.parse().ok()?;
    (number.to_string() == digits).then_some(number)
}

/// `x001/x234/067` is 1,234,067: three digits a part, all but the last behind an `x`, no part too many.
fn tile_index(path: &str) -> Option<u64> {
    let mut index: u64 = 0;
    let mut parts = path.split('/').peekable();
    let is_short = path.len() <= 3 || !path.starts_with("x000");
    while let Some(part) = parts.next() {
        let digits = if parts.peek().is_some() { part.strip_prefix('x')? } else { part };
        if digits.len() != 3 || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
            return None;
        }
        index = index.checked_mul(1_000)?.checked_add(digits.parse().ok()?)?;
    }
    is_short.then_some(index)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn asked(path: &str) -> Option<(Option<u32>, u64, u64)> {
        Asked::parse(path).map(|asked| (asked.level, asked.first, asked.width))
    }

    #[test]
    fn paths_are_as_c2sp_writes_them() {
        assert_eq!(asked("0/000"), Some((Some(0), 0, 256)));
        assert_eq!(asked("1/x001/x234/067"), Some((Some(1), 1_234_067 * 256, 256)));
        assert_eq!(asked("entries/x001/234.p/17"), Some((None, 1_234 * 256, 17)));
        for wrong in [
            "",
            "0",
            "0/",
            "0/0",
            "00/000",
            "64/000",
            "-1/000",
            "0/x001/x234",
            "0/001/234",
            "0/x000/001",
            "0/000.p/0",
            "0/000.p/256",
            "0/000.p/017",
            "0/0000",
            "entries",
            "entries/abc",
            "0/x999/x999/x999/x999/x999/x999/x999/999",
        ] {
            assert_eq!(asked(wrong), None, "{wrong}");
        }
    }

    proptest! {
        #[test]
        fn any_path_is_read_or_refused(path in "[0-9x/.pentris]{0,40}") {
            let _ = asked(&path);
        }
    }
}
