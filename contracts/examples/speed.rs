//! How long one input takes: `cargo run --release -p tally-contracts --example speed`.
//!
//! The base state is a `BTreeMap` in memory; a node adds what its index costs. One thread, no signatures, no disk. The best
//! block says what it costs when nobody else uses the machine.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs, dead_code)]

#[path = "../tests/common/mod.rs"]
mod common;

use common::{START, World, trigger_body};
use std::collections::BTreeMap;
use std::time::Instant;
use tally_contracts::{Block, Input, Kernel, Overlay};
use tally_model::{Timestamp, Value};

/// Orders that are open before the measuring begins, and inputs measured.
const OPEN_BEFORE: u64 = 20_000;
const MEASURED: u64 = 50_000;
/// Inputs per block.
const BLOCK: u64 = 1_000;

fn main() {
    let kernel = Kernel::new();
    let mut world = World::founded(&kernel);
    let rich = common::call_body("accounts", "issue", None, money());
    world.call(&kernel, "bank", &rich).unwrap();
    let mut number = 0;
    run(&kernel, &mut world, OPEN_BEFORE, &mut number, "report", "opening 20,000 orders");
    run(&kernel, &mut world, MEASURED, &mut number, "report", "trigger that opens an order");
    run(&kernel, &mut world, MEASURED, &mut number, "note", "trigger noted on an open order");
    run(&kernel, &mut world, MEASURED, &mut number, "door", "trigger that asks for nothing");
}

fn money() -> BTreeMap<String, tally_evidence::cbor::Cbor> {
    use tally_evidence::cbor::{int, text};
    [("owner", text("acme")), ("currency", text("EUR")), ("amount", int(9_000_000_000_000_i64))]
        .map(|(name, value)| (name.to_owned(), value))
        .into()
}

fn run(kernel: &Kernel, world: &mut World, count: u64, number: &mut u64, what: &str, words: &str) {
    let trigger = if what == "door" { "door-open" } else { "bearing-worn" };
    let template = trigger_body("press-01", trigger, 0, 0, Timestamp::from_micros(START), BTreeMap::new());
    let bodies: Vec<_> = (0..count)
        .map(|_| {
            let mut body = template.clone();
            body.number = *number;
            *number += 1;
            (body.readings.first, body.readings.last) = (*number, *number);
            let fault = if what == "note" { "f1".to_owned() } else { format!("f{number}") };
            if let Some(call) = &mut body.call {
                call.with.insert("fault".to_owned(), Value::Text(fault));
            }
            body
        })
        .collect();
    let signer = common::party("agent-01");
    let key = common::key_id("agent-01");
    let (mut spent, mut best, mut events) = (0.0, f64::MAX, 0);
    for chunk in bodies.chunks(usize::try_from(BLOCK).unwrap()) {
        let started = Instant::now();
        let block = Block { ledger: common::LEDGER.into(), height: 1, time: world.now };
        let mut overlay = Overlay::new(&world.state);
        for body in chunk {
            let input = Input::Trigger { entry: 1, signer: &signer, key, body };
            events += kernel.execute(&mut overlay, &block, &input).unwrap().len();
        }
        let changes = overlay.into_changes();
        let block_spent = started.elapsed().as_secs_f64();
        spent += block_spent;
        best = block_spent.min(best);
        for (key, value) in changes {
            match value {
                Some(value) => world.state.insert(key, value),
                None => world.state.remove(&key),
            };
        }
    }
    let (count, block) = (f64::from(u32::try_from(count).unwrap()), f64::from(u32::try_from(BLOCK).unwrap()));
    println!(
        "{words}: {:.2} µs each, {:.2} µs in the best block ({events} events)",
        spent * 1e6 / count,
        best * 1e6 / block
    );
}
