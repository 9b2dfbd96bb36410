//! Every input in the corpus, every seed, and what parsers of lengths and nestings fear: nothing may break.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tally_fuzz::{TARGETS, Target, corpus, dictionary, replay, replay_within};

/// As `cargo xtask fuzz` keeps it: `FILES_MAX` and `BYTES_MAX` there, and what once broke something besides.
const FILES_MAX: usize = 80;
const BYTES_MAX: usize = 300_000;
const ALL_BYTES_MAX: usize = 4_000_000;

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus")
}

#[test]
fn every_input_that_was_ever_kept_is_answered() {
    let (mut all, mut tried) = (0, 0);
    for target in TARGETS {
        let inputs = corpus(&folder(), target);
        for (file, input) in &inputs {
            replay(target, input).unwrap_or_else(|text| panic!("{}: {text}", file.display()));
        }
        let bytes: usize = inputs.iter().map(|(_, input)| input.len()).sum();
        assert!(
            inputs.len() <= FILES_MAX && bytes <= BYTES_MAX,
            "{}: {} files, {bytes} bytes",
            target.name,
            inputs.len()
        );
        (all, tried) = (all + bytes, tried + inputs.len());
    }
    assert!(all <= ALL_BYTES_MAX && tried >= 5 * TARGETS.len(), "{tried} inputs, {all} bytes");
}

#[test]
fn the_corpus_is_of_targets_that_exist() {
    let known: BTreeSet<_> = TARGETS.iter().map(|target| target.name.to_owned()).collect();
    assert_eq!(known.len(), TARGETS.len(), "two targets have one name");
    for found in std::fs::read_dir(folder()).unwrap() {
        let name = found.unwrap().file_name().into_string().unwrap();
        assert!(known.contains(&name), "no target is called {name}");
    }
}

/// So that mutation begins behind the first checks and not before them. Some targets try each type with each payload, most of which do
/// not fit.
#[test]
fn the_parser_takes_the_seeds_of_every_target() {
    let mut wrong = Vec::new();
    for target in TARGETS {
        let answers: Vec<_> = (target.seeds)().iter().map(|seed| replay(target, seed).unwrap()).collect();
        let taken = answers.iter().filter(|answer| answer.contains("taken")).count();
        let least = if matches!(target.name, "modbus-words" | "mqtt-payload") { 10 } else { answers.len().div_ceil(2) };
        if taken < least || !answers[0].contains("taken") {
            wrong.push(format!("{}: {taken} of {} seeds, first: {}", target.name, answers.len(), answers[0]));
        }
        if dictionary(target).is_empty() && !target.name.starts_with("modbus") {
            wrong.push(format!("{}: no words", target.name));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Nestings, lengths that lie, keys twice, an alias of itself, nothing.
fn bombs() -> Vec<Vec<u8>> {
    let long = |byte: u8| vec![byte; 20_000];
    let mut bombs: Vec<Vec<u8>> =
        [0x81, 0x9f, 0xa1, 0xbf, 0xc1, 0x5f, 0x30, b'[', b'{', b'(', b'-', b' ', 0].map(long).into();
    for head in [0x5b, 0x7b, 0x9b, 0xbb] {
        bombs.push([&[head][..], &u64::MAX.to_be_bytes(), b"x"].concat());
        bombs.push([&[head][..], &(1_u64 << 40).to_be_bytes(), b"x"].concat());
    }
    let texts: [&[u8]; 6] =
        [b"", b"a: &a [*a]\n", b"a: 1\na: 2\n", b"\xa2\x61a\x01\x61a\x02", b"\xff\xfe\0\0", b"{\"a\":1,\"a\":2}"];
    bombs.extend(texts.map(<[u8]>::to_vec));
    bombs
}

#[test]
fn nothing_breaks_on_nestings_and_lengths_that_lie() {
    for target in TARGETS {
        for bomb in bombs() {
            // Behind the bytes by which some targets choose how to read.
            for choice in [&[][..], &[0], &[1, 0, 7]] {
                let input = [choice, &bomb].concat();
                replay(target, &input)
                    .unwrap_or_else(|text| panic!("{} on {:?}…: {text}", target.name, &input[..8.min(input.len())]));
            }
        }
    }
}

#[test]
fn a_parser_that_panics_and_one_that_hangs_are_found() {
    fn breaks(bytes: &[u8]) -> String {
        assert!(bytes.len() < 3, "too long for it");
        String::new()
    }
    fn hangs(_: &[u8]) -> String {
        std::thread::sleep(Duration::from_millis(100));
        String::new()
    }
    let target = |run| Target { name: "broken", run, seeds: Vec::new };
    assert!(replay(&target(breaks), b"ab").is_ok());
    assert!(replay(&target(breaks), b"abc").unwrap_err().contains("too long for it"));
    assert!(replay_within(&target(hangs), b"", Duration::from_millis(50)).unwrap_err().contains("took"));
}
