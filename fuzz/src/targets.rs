//! What is fuzzed: each target takes bytes and says in words what became of them.

use crate::{field, node, sealed, sensor, shown, site};

/// Inputs to begin with.
pub type Seeds = Vec<Vec<u8>>;

/// A parser of outside bytes.
#[derive(Debug, Clone, Copy)]
pub struct Target {
    /// Its name: the folder of its corpus.
    pub name: &'static str,
    /// Tries an input; says what became of it.
    pub run: fn(&[u8]) -> String,
    /// Real inputs, made by the writers of the product: the parser takes at least the first of them.
    pub seeds: fn() -> Seeds,
}

const fn target(name: &'static str, run: fn(&[u8]) -> String, seeds: fn() -> Seeds) -> Target {
    Target { name, run, seeds }
}

/// All of them; first those that people outside can reach most easily.
pub const TARGETS: &[Target] = &[
    target("statement", sealed::statement, sealed::statements),
    target("permit", sealed::permit, sealed::permits),
    target("evidence", shown::evidence, shown::evidence_files),
    target("mapping", site::mapping, site::mappings),
    target("modbus-frame", field::modbus_frame, field::modbus_frames),
    target("mqtt-payload", field::mqtt_payload, field::mqtt_payloads),
    target("mqtt-packets", field::mqtt_packets, field::mqtt_packet_seeds),
    target("sparkplug", field::sparkplug, field::sparkplug_seeds),
    target("sparkplug-command", field::sparkplug_command, field::sparkplug_commands),
    target("modbus-words", field::modbus_words, field::modbus_word_seeds),
    target("sensor-seal", sensor::sensor_seal, sensor::sensor_seals),
    target("sensor-claims", sensor::sensor_claims, sensor::sensor_claim_seeds),
    target("batch", sealed::batch, sealed::batches),
    target("trigger", sealed::trigger, sealed::triggers),
    target("call", sealed::call, sealed::calls),
    target("anchor", sealed::anchor, sealed::anchors),
    target("private", shown::private, shown::privates),
    target("verifier", shown::verifier, shown::verifiable),
    target("evidence-json", shown::evidence_json, shown::evidence_jsons),
    target("coverage", shown::coverage, shown::coverage_files),
    target("field-file", shown::field_file, shown::field_files),
    target("disclosure", shown::disclosure, shown::disclosures),
    target("receipt", shown::receipt, shown::receipts),
    target("checkpoint", shown::checkpoint, shown::checkpoints),
    target("outcome", shown::outcome, shown::outcomes),
    target("state-proof", shown::state_proof, shown::state_proofs),
    target("split", shown::split, shown::splits),
    target("note", shown::note, shown::notes),
    target("witness-name", shown::witness_name, shown::witness_names),
    target("time-stamp", shown::time_stamp, shown::time_stamps),
    target("reading", sensor::reading, sensor::readings),
    target("policy", sealed::policy, sealed::policies),
    target("rule", site::rule, site::rules),
    target("rule-expression", site::expression, site::expressions),
    target("sheet", site::sheet, site::sheets),
    target("genesis", site::genesis, site::geneses),
    target("simulator-yaml", site::simulator, site::simulators),
    target("contract", site::contract, site::contracts),
    target("block", node::block, node::blocks),
    target("kept-block", node::kept_block, node::kept_blocks),
    target("snapshot", node::a_snapshot, node::snapshots),
    target("witness-request", node::witness_request, node::witness_requests),
    target("token-file", node::token_file, node::token_files),
    target("certificate", node::certificate, node::certificates),
    target("certificate-request", node::certificate_request, node::certificate_requests),
    target("certificates-only", node::certificates_only, node::certificate_packs),
    target("node-yaml", node::node_yaml, node::node_yamls),
    target("witness-yaml", node::witness_yaml, node::witness_yamls),
    target("agent-yaml", node::agent_yaml, node::agent_yamls),
    target("command", node::command, node::commands),
    target("sql", node::sql, node::questions),
    target("address", field::addresses, field::address_seeds),
];
