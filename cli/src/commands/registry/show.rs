//! `tally registry show ID [--at HEIGHT]`: what the node says is believed only as far as its proofs go.

use crate::answer::{Answer, Context, Fault, print_json};
use crate::commands::verify::read_key;
use crate::flags::NodeFlag;
use crate::show::word;
use crate::shutdown::runtime;
use clap::Args;
use serde_json::{Value, json};
use std::fmt::Write;
use std::path::PathBuf;
use tally_evidence::cbor::{self, Cbor};
use tally_evidence::{Checkpoint, StateProof, VerifyingKey};
use tally_ledger_client::{Client, RequestError};
use tally_model::Grade;

/// Arguments of `registry show`.
#[derive(Debug, Args)]
pub(super) struct ShowArgs {
    /// A party or a device; parties are looked for first
    #[arg(value_name = "ID")]
    id: String,
    /// At this height; now when not said
    #[arg(long, value_name = "HEIGHT")]
    at: Option<u64>,
    /// The device of this name, when a party has the same
    #[arg(long)]
    device: bool,
    /// The ledger's public key as you know it (SPKI PEM); without it the node's word is taken and shown
    #[arg(long, value_name = "FILE")]
    ledger_key: Option<PathBuf>,
    /// The node.
    #[command(flatten)]
    node: NodeFlag,
}

pub(super) fn run(args: &ShowArgs, json: bool) -> Result<Answer, Fault> {
    runtime()?.block_on(async {
        let client = args.node.client()?;
        let (is_party, said) = look_up(&client, &args.id, args.device, args.at).await?;
        let key = match &args.ledger_key {
            Some(file) => read_key(file)?,
            None => {
                let pem = String::from_utf8(client.get_bytes("/key.pem").await?).context("the node's key")?;
                VerifyingKey::from_pem(&pem).context("the node's key")?
            }
        };
        let proved = check(&said, is_party, args, &key);
        let is_proved = proved.is_ok();
        if json {
            let mut said = said;
            said["proved_at_height"] = json!(proved.as_ref().ok());
            said["fault"] = json!(proved.as_ref().err());
            print_json(&said)?;
        } else {
            print!("{}", render(&said, is_party, args, &proved));
        }
        Ok(is_proved.into())
    })
}

/// Whether it is a party, and what the node says of it.
pub(super) async fn look_up(
    client: &Client,
    id: &str,
    is_device: bool,
    at: Option<u64>,
) -> Result<(bool, Value), Fault> {
    let at = at.map_or_else(String::new, |at| format!("?at={at}"));
    if !is_device {
        match client.get_json(&format!("/registry/parties/{id}{at}")).await {
            Ok(said) => return Ok((true, said)),
            Err(RequestError::Refused { status: 404, .. }) => {}
            Err(error) => return Err(error.into()),
        }
    }
    let said = client.get_json(&format!("/registry/devices/{id}{at}")).await;
    Ok((false, said.context(format_args!("looking for {id}"))?))
}

fn bytes_of(value: &Value, what: &str) -> Result<Vec<u8>, String> {
    value
        .as_str()
        .and_then(|digits| hex::decode(digits).ok())
        .ok_or_else(|| format!("the node's {what} is not hexadecimal"))
}

/// One claim, proved: its value, or that there is none.
fn claimed(said: &Value, key: &[u8], checkpoint: &Checkpoint) -> Result<Option<Vec<u8>>, String> {
    let name = hex::encode(key);
    let claims = said["proof"]["claims"].as_array().map(Vec::as_slice).unwrap_or_default();
    let claim = claims.iter().find(|claim| claim["key"] == name.as_str());
    let claim = claim.ok_or_else(|| format!("the node does not prove {name}"))?;
    let value = if claim["value"].is_null() { None } else { Some(bytes_of(&claim["value"], "value")?) };
    let proof = StateProof::decode(&bytes_of(&claim["proof"], "proof")?).map_err(|fault| fault.to_string())?;
    proof.verify(&checkpoint.state, key, value.as_deref()).map_err(|fault| fault.to_string())?;
    Ok(value)
}

/// Walks the versions as docs/formats/state.md says, *Who somebody was at a height*. Gives the height of the checkpoint.
fn check(said: &Value, is_party: bool, args: &ShowArgs, ledger: &VerifyingKey) -> Result<u64, String> {
    let sealed = bytes_of(&said["proof"]["checkpoint"], "checkpoint")?;
    let checkpoint = Checkpoint::open(&sealed, ledger).map_err(|fault| fault.to_string())?;
    let kind = if is_party { "party" } else { "device" };
    let size = size_then(said, args, (&checkpoint, ledger))?;
    // Nodes of before do not speak of it.
    if !said["visibility"].is_null() {
        check_visibility(said, (kind, &args.id), size, &checkpoint)?;
    }
    if !said["withheld"].is_null() {
        return Err(format!("{}; who may see it is proved", withheld(&said["withheld"])));
    }
    let place = |number: u64| tally_contracts::state_key(&format!("past:{kind}/{}/{number}", args.id));
    let past = |number: u64| -> Result<Option<Past>, String> {
        claimed(said, &place(number)?, &checkpoint)?.map(|value| Past::read(&value)).transpose()
    };
    let at = args.at.unwrap_or(u64::MAX);
    let is_over = |past: Option<Past>| past.is_some_and(|past| past.ended_at <= at);
    let holds = &said["holds"];
    let shown = match holds["version"].as_u64() {
        Some(number) => {
            let held = past(number)?.ok_or("the version is not there")?;
            if held.ended_at <= at || number > 1 && !is_over(past(number - 1)?) {
                return Err(format!("version {number} was not in force at height {at}"));
            }
            held.record
        }
        None => {
            let ended = said["versions"].as_array().map_or(0, |all| all.len() as u64).saturating_sub(1);
            if past(ended + 1)?.is_some() || ended > 0 && !is_over(past(ended)?) {
                return Err("it is not shown that the version of now was in force".to_owned());
            }
            let key = [if is_party { b"P" } else { b"d" }, args.id.as_bytes()].concat();
            claimed(said, &key, &checkpoint)?.ok_or("the record is not there")?
        }
    };
    if matches_shown(&shown, holds, is_party) {
        check_grade(said, is_party, args, (&checkpoint, size))?;
        Ok(checkpoint.height)
    } else {
        Err("what is shown is not what is proved".to_owned())
    }
}

/// How many entries there were at the height, as the checkpoint of that height says.
fn size_then(said: &Value, args: &ShowArgs, (newest, ledger): (&Checkpoint, &VerifyingKey)) -> Result<u64, String> {
    let Some(at) = args.at.filter(|at| *at < newest.height) else { return Ok(newest.size) };
    let then = Checkpoint::open(&bytes_of(&said["then"], "checkpoint of that height")?, ledger);
    let then = then.map_err(|fault| fault.to_string())?;
    if then.height != at || then.ledger != newest.ledger {
        return Err(format!("the node shows the checkpoint of height {}, not of {at}", then.height));
    }
    Ok(then.size)
}

/// Who might see it then: the rule in force, or the one before it, as far back as the height needs.
fn check_visibility(said: &Value, (kind, id): (&str, &str), size: u64, newest: &Checkpoint) -> Result<(), String> {
    let rule = |number: Option<u64>| -> Result<Option<(u64, u64, Value)>, String> {
        let number = number.map_or_else(String::new, |number| format!("/{number}"));
        let place = tally_contracts::state_key(&format!("visibility:{kind}/{id}{number}"))?;
        let value = claimed(said, &place, newest)?;
        value.map(|value| read_rule(&value).ok_or_else(|| "a rule cannot be read".to_owned())).transpose()
    };
    let mut held = rule(None)?;
    while let Some((number, ..)) = held.take_if(|(_, entry, _)| *entry >= size) {
        if number > 1 {
            held = Some(rule(Some(number - 1))?.ok_or("a rule is not there")?);
        }
    }
    let nobody_said = json!({"everyone": true, "parties": [], "roles": [], "by": null, "entry": null});
    said_is_proved("visibility", &said["visibility"], &held.map_or(nobody_said, |(.., shown)| shown))
}

/// `docs/formats/state.md`, `visibility:`: its number, its entry, and what it says.
fn read_rule(value: &[u8]) -> Option<(u64, u64, Value)> {
    let Cbor::Array(items) = cbor::decode(value).ok()? else { return None };
    let [number, entry, by, to] = items.as_slice() else { return None };
    let uint = |value: &Cbor| u64::try_from(value.as_integer()?).ok();
    let (number, entry, by) = (uint(number)?, uint(entry)?, by.as_text()?);
    let texts = |list: &Cbor| -> Option<Vec<String>> {
        list.as_array()?.iter().map(|text| text.as_text().map(str::to_owned)).collect()
    };
    let (parties, roles) = match to.as_array().map(Vec::as_slice) {
        Some([parties, roles]) => (texts(parties)?, texts(roles)?),
        Some(_) => return None,
        None => (Vec::new(), Vec::new()),
    };
    let shown = json!({"everyone": to.is_null(), "parties": parties, "roles": roles, "by": by, "entry": entry});
    Some((number, entry, shown))
}

/// Whether a party was revoked at the height, or how far a device's evidence could go then: what stands in the first `size` entries
/// counts.
fn check_grade(
    said: &Value,
    is_party: bool,
    args: &ShowArgs,
    (newest, size): (&Checkpoint, u64),
) -> Result<(), String> {
    // What is no id of a party has no key of its own.
    let Ok(revocation) = tally_contracts::state_key(&format!("revoked:{}", args.id)) else { return Ok(()) };
    let entry =
        |value: Option<Vec<u8>>| value.and_then(|value| cbor::decode(&value).ok()?.as_integer()?.try_into().ok());
    let revoked: Option<u64> = entry(claimed(said, &revocation, newest)?);
    let is_revoked = revoked.is_some_and(|entry| entry < size);
    if is_party {
        return said_is_proved("revoked", &said["revoked"], &json!(is_revoked));
    }
    let past = claimed(said, &tally_contracts::state_key(&format!("past:party/{}/1", args.id))?, newest)?;
    let current = claimed(said, &[b"P", args.id.as_bytes()].concat(), newest)?;
    let is_sealing = past.or(current).and_then(|first| first_of_device(&first)).is_some_and(|entry| entry < size);
    let grade = if is_sealing && !is_revoked { Grade::Device } else { Grade::Agent };
    said_is_proved("grade", &said["grade"], &json!(grade.word()))
}

fn said_is_proved(what: &str, said: &Value, proved: &Value) -> Result<(), String> {
    if said == proved { Ok(()) } else { Err(format!("{what} is said to be {said}, and proved to be {proved}")) }
}

/// The entry that registered a party that is a device: of its first version that ended, or of the one in force.
fn first_of_device(value: &[u8]) -> Option<u64> {
    let Cbor::Array(items) = cbor::decode(value).ok()? else { return None };
    let record = cbor::decode(items.last()?.as_bytes()?).ok()?;
    let kind = record.as_map()?.iter().find(|(key, _)| key.as_text() == Some("kind"))?.1.as_text()? == "device";
    items.first()?.as_integer()?.try_into().ok().filter(|_| kind)
}

/// `docs/formats/state.md`, `past:`.
struct Past {
    ended_at: u64,
    record: Vec<u8>,
}

impl Past {
    fn read(value: &[u8]) -> Result<Self, String> {
        let unreadable = || "a version cannot be read".to_owned();
        let Ok(Cbor::Array(items)) = cbor::decode(value) else { return Err(unreadable()) };
        let [_, _, ended_at, _, Cbor::Bytes(record)] = items.as_slice() else { return Err(unreadable()) };
        let ended_at = ended_at.as_integer().and_then(|height| u64::try_from(height).ok());
        Ok(Self { ended_at: ended_at.ok_or_else(unreadable)?, record: record.clone() })
    }
}

/// Whether the words that decide anything stand in the proved bytes: of a party its key, of a device agent, owner and site.
fn matches_shown(proved: &[u8], holds: &Value, is_party: bool) -> bool {
    let record = &holds["record"];
    let Ok(proved) = cbor::decode(proved) else { return false };
    let field = |map: &Cbor, name: &str| -> Option<Cbor> {
        map.as_map()?.iter().find(|(key, _)| key.as_text() == Some(name)).map(|(_, value)| value.clone())
    };
    let text = |value: Option<Cbor>| value.and_then(|value| value.into_text().ok());
    if is_party {
        // In force: [entry, record]; ended: the record itself.
        let inner = match &proved {
            Cbor::Array(items) => items.get(1).and_then(Cbor::as_bytes).and_then(|bytes| cbor::decode(bytes).ok()),
            other => Some(other.clone()),
        };
        let key = inner.and_then(|record| field(&record, "key")).and_then(|key| key.into_bytes().ok());
        return key.is_some_and(|key| record["key"] == hex::encode(key));
    }
    let (agent, owner, site) = match &proved {
        Cbor::Array(items) => {
            let item = |place: usize| items.get(place).cloned();
            (text(item(0)), text(item(1)), text(item(3)))
        }
        map => (text(field(map, "agent")), text(field(map, "owner")), text(field(map, "site"))),
    };
    record["agent"] == json!(agent) && record["owner"] == json!(owner) && record["site"] == json!(site)
}

fn render(said: &Value, is_party: bool, args: &ShowArgs, proved: &Result<u64, String>) -> String {
    let (holds, mut text) = (&said["holds"], String::new());
    let kind = if is_party { "party" } else { "device" };
    let at = args.at.map_or_else(|| "now".to_owned(), |at| format!("at height {at}"));
    let _ = writeln!(text, "{kind:<12} {}  {at}", args.id);
    let names: &[&str] = if is_party { &["kind", "name", "firm", "key_id"] } else { &["owner", "agent", "site"] };
    for name in names.iter().filter(|name| !holds["record"][**name].is_null()) {
        let _ = writeln!(text, "{name:<12} {}", word(&holds["record"][*name]));
    }
    if !holds["record"]["withheld"].is_null() {
        let what = if is_party { "key" } else { "site" };
        let _ = writeln!(text, "{what:<12} {}", withheld(&holds["record"]["withheld"]));
    }
    if said["visibility"]["everyone"] == false {
        let _ = writeln!(text, "{:<12} {}", "seen by", seen_by(&said["visibility"]));
    }
    text += &lasting(said);
    let _ = match proved {
        Err(fault) if !said["withheld"].is_null() => writeln!(text, "{:<12} {fault}", "proof"),
        Ok(height) => writeln!(text, "{:<12} by the state at height {height}", "proved"),
        Err(fault) => writeln!(text, "{:<12} DOES NOT HOLD: {fault}", "proof"),
    };
    text
}

/// Since when and until when it holds, and what it is good for.
fn lasting(said: &Value) -> String {
    let (holds, mut text) = (&said["holds"], String::new());
    let _ = writeln!(text, "{:<12} entry {}, height {}", "since", word(&holds["entry"]), word(&holds["from_height"]));
    if !holds["ended_at"].is_null() {
        let _ =
            writeln!(text, "{:<12} entry {}, height {}", "until", word(&holds["ended_by"]), word(&holds["ended_at"]));
    }
    if !holds["key_until"].is_null() {
        let _ = writeln!(text, "{:<12} {}", "key spoke to", word(&holds["key_until"]));
    }
    if said["revoked"] == true {
        let _ = writeln!(text, "{:<12} nothing it seals is taken any more", "REVOKED");
    }
    if !said["grade"].is_null() {
        let _ = writeln!(text, "{:<12} at most {}", "grade", word(&said["grade"]));
    }
    for print in said["fingerprints"].as_array().into_iter().flatten() {
        let expected = if print["expected"] == true { ", the one expected" } else { "" };
        let digest = word(&print["digest"]);
        let _ = writeln!(
            text,
            "{:<12} {digest} {} by {}{expected}",
            word(&print["kind"]),
            word(&print["version"]),
            word(&print["by"])
        );
    }
    text
}

fn withheld(rule: &Value) -> String {
    format!("withheld (policy of {}, entry {})", word(&rule["by"]), word(&rule["entry"]))
}

fn seen_by(rule: &Value) -> String {
    let list = |name: &str| rule[name].as_array().into_iter().flatten().map(word).collect::<Vec<_>>();
    let roles = list("roles").into_iter().map(|role| format!("role {role}"));
    let whom: Vec<_> = list("parties").into_iter().chain(roles).collect();
    let whom = if whom.is_empty() { "nobody else".to_owned() } else { whom.join(", ") };
    format!("{whom} (policy of {}, entry {})", word(&rule["by"]), word(&rule["entry"]))
}
