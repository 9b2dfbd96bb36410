//! The native contract `registry`: parties, devices, rules, contracts, and the genesis that begins it all.
//!
//! Who may: an admin (named in the genesis) registers and revokes anyone and deploys contracts; an organisation registers
//! and revokes its own people, agents and devices with keys, and registers devices and rules it owns.

mod bulk;
pub(crate) mod fingerprints;
mod founding;
pub(crate) mod history;
pub(crate) mod recovery;
mod retirement;
mod rotation;
mod transfer;
pub(crate) mod visibility;

use crate::args::Args;
use crate::codec::Record;
use crate::engine::{Contract, bad_argument};
use crate::records::{Deployed, Device, Founding, Party, Registered, RuleInForce, Skills};
use crate::run::Run;
use crate::{Refusal, StateRead, access, keys};
use tally_evidence::cbor::{self, bytes, int, text};
use tally_evidence::{CallBody, DeviceRecord, Hash, KeyId, PartyKind, PartyRecord, RuleRecord, sha256};
use tally_model::{DeviceId, PartyId};

pub(crate) use fingerprints::{check_fingerprints, differs};
pub(crate) use founding::genesis;

const ACTIONS: &str = "genesis, register-party, revoke-party, rotate-key, set-recovery, approve-recovery, set-visibility, register-device, \
     register-many, bind-device, offer-transfer, withdraw-offer, accept-transfer, report-fingerprint, register-rule, \
     withdraw-rule, deploy-contract, set-retirement, apply-retirement";

/// Who calls, and in which entry.
#[derive(Clone, Copy)]
pub(crate) struct By<'a> {
    pub entry: u64,
    pub signer: &'a PartyId,
    /// The key that sealed the call: the party's, or the one before while both hold.
    pub key: &'a KeyId,
    pub party: &'a Party,
}

pub(crate) fn call(run: &mut Run<'_, '_>, by: By<'_>, body: &CallBody) -> Result<(), Refusal> {
    let mut args = Args::new(&body.args);
    match body.action.as_str() {
        "register-party" => register_party(run, by, &mut args)?,
        "revoke-party" => revoke_party(run, by, &mut args)?,
        "rotate-key" => rotation::rotate(run, by, &mut args)?,
        "set-recovery" => recovery::set(run, by, &mut args)?,
        "approve-recovery" => recovery::approve(run, by, &mut args)?,
        "set-visibility" => visibility::set(run, by, &mut args)?,
        "register-device" => register_device(run, by, &mut args)?,
        "register-many" => bulk::register(run, by, &mut args)?,
        "bind-device" => transfer::bind(run, by, &mut args)?,
        "offer-transfer" => transfer::offer(run, by, &mut args)?,
        "withdraw-offer" => transfer::withdraw(run, by, &mut args)?,
        "accept-transfer" => transfer::accept(run, by, &mut args)?,
        "report-fingerprint" => fingerprints::report(run, by, &mut args)?,
        "register-rule" => register_rule(run, by, &mut args)?,
        "withdraw-rule" => withdraw_rule(run, by, &mut args)?,
        "deploy-contract" => deploy_contract(run, by, &mut args)?,
        "set-retirement" => retirement::set(run, by, &mut args)?,
        "apply-retirement" => retirement::apply(run, by, &mut args)?,
        other => {
            let (contract, known) = ("registry".to_owned(), ACTIONS.to_owned());
            return Err(Refusal::UnknownAction { contract, action: other.to_owned(), known });
        }
    }
    args.finish()
}

pub(crate) fn not_allowed(by: By<'_>, what: impl Into<String>, needs: impl Into<String>) -> Refusal {
    Refusal::NotAllowed { signer: by.signer.to_string(), what: what.into(), needs: needs.into() }
}

pub(crate) fn admins(run: &Run<'_, '_>) -> Result<Vec<PartyId>, Refusal> {
    let founding: Option<Founding> = run.load(keys::GENESIS)?;
    Ok(founding.map(|founding| founding.admins).unwrap_or_default())
}

/// Whether the signer may register or revoke `kind` of `firm`.
fn may_manage(run: &Run<'_, '_>, by: By<'_>, kind: PartyKind, firm: Option<&PartyId>) -> Result<bool, Refusal> {
    let own = by.party.kind == PartyKind::Organisation && firm == Some(by.signer);
    let manageable = matches!(kind, PartyKind::Person | PartyKind::Agent | PartyKind::Device);
    Ok(own && manageable || admins(run)?.contains(by.signer))
}

fn register_party(run: &mut Run<'_, '_>, by: By<'_>, args: &mut Args<'_>) -> Result<(), Refusal> {
    let record = Args::record("party", args.need("party")?, PartyRecord::from_cbor)?;
    may_register_party(run, by, &record)?;
    put_party(run, by.entry, &record)
}

fn may_register_party(run: &Run<'_, '_>, by: By<'_>, record: &PartyRecord) -> Result<(), Refusal> {
    if may_manage(run, by, record.kind, record.firm.as_ref())? {
        return Ok(());
    }
    Err(not_allowed(by, format!("register `{}`", record.id), "an admin, or its firm"))
}

fn put_party(run: &mut Run<'_, '_>, entry: u64, record: &PartyRecord) -> Result<(), Refusal> {
    let id = &record.id;
    if run.state.get(&keys::party(id)).is_some() || id.as_str() == run.block.ledger {
        return Err(Refusal::AlreadyRegistered { what: format!("party `{id}`") });
    }
    if let Some(firm) = &record.firm {
        run.named(firm, &[PartyKind::Organisation, PartyKind::Regulator], "an organisation or regulator")?;
        if record.kind == PartyKind::Person {
            run.store(keys::person(firm, id), &Skills(record.skills.clone()));
        }
    }
    let party =
        Party { kind: record.kind, key: record.key.id(), firm: record.firm.clone(), revoked: false, previous: None };
    run.store(keys::party(id), &party);
    run.store(keys::party_record(id), &Registered { entry, bytes: cbor::encode(&record.to_cbor()) });
    let data = [("kind", text(record.kind.word())), ("key", bytes(party.key.0))];
    run.emit("registry.party-registered", id.as_str(), data);
    Ok(())
}

fn revoke_party(run: &mut Run<'_, '_>, by: By<'_>, args: &mut Args<'_>) -> Result<(), Refusal> {
    let id: PartyId = args.parse("party", "a party id")?;
    let mut party = run.named(&id, &[], "a party")?;
    let is_self = *by.signer == id;
    if !is_self && !may_manage(run, by, party.kind, party.firm.as_ref())? {
        return Err(not_allowed(by, format!("revoke `{id}`"), "an admin, its firm, or itself"));
    }
    let admins = admins(run)?;
    let mut others_left = false;
    for admin in admins.iter().filter(|admin| **admin != id) {
        others_left |= run.load::<Party>(&keys::party(admin))?.is_some_and(|party| !party.revoked);
    }
    if admins.contains(&id) && !others_left {
        return Err(not_allowed(by, format!("revoke `{id}`, the last admin"), "another admin, who is left"));
    }
    party.revoked = true;
    if let Some(firm) = &party.firm {
        run.state.delete(keys::person(firm, &id));
    }
    run.store(keys::party(&id), &party);
    run.store(keys::revocation(&id), &by.entry);
    access::revoke_all_of(run, by, &id)?;
    run.emit("registry.party-revoked", id.as_str(), [("by", text(by.signer.as_str()))]);
    Ok(())
}

fn register_device(run: &mut Run<'_, '_>, by: By<'_>, args: &mut Args<'_>) -> Result<(), Refusal> {
    let record = Args::record("device", args.need("device")?, DeviceRecord::from_cbor)?;
    may_register_device(by, &record)?;
    put_device(run, by.entry, &record)?;
    // Permits name the agent of before.
    access::revoke_all_on(run, by, &record.id)
}

fn may_register_device(by: By<'_>, record: &DeviceRecord) -> Result<(), Refusal> {
    if record.owner == *by.signer {
        return Ok(());
    }
    Err(not_allowed(by, format!("register device `{}`", record.id), format!("its owner `{}`", record.owner)))
}

/// The owner may register a device again with another agent; a device does not change hands this way.
fn put_device(run: &mut Run<'_, '_>, entry: u64, record: &DeviceRecord) -> Result<(), Refusal> {
    check_binding(run, record)?;
    let before: Option<Device> = run.load(&keys::device(&record.id))?;
    if let Some(before) = &before {
        if before.owner != record.owner || before.agent == record.agent {
            return Err(Refusal::AlreadyRegistered { what: format!("device `{}`", record.id) });
        }
        history::end_device(run, entry, &record.id, before)?;
        history::forget_readings(run, &record.id);
    }
    store_device(run, entry, record, "registry.device-registered");
    Ok(())
}

fn check_binding(run: &Run<'_, '_>, record: &DeviceRecord) -> Result<(), Refusal> {
    run.named(&record.agent, &[PartyKind::Agent], "an agent")?;
    run.named(&record.owner, &[PartyKind::Organisation], "an organisation").map(|_| ())
}

fn store_device(run: &mut Run<'_, '_>, entry: u64, record: &DeviceRecord, event: &str) {
    let DeviceRecord { id, agent, owner, site } = record.clone();
    let mut data = vec![("agent", text(agent.as_str())), ("owner", text(owner.as_str()))];
    data.extend(site.as_ref().map(|site| ("site", text(site.as_str()))));
    let data = data.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
    run.store(keys::device(&id), &Device { agent, owner, entry, site });
    run.emit_map(event, id.as_str(), data);
}

pub(crate) fn device(run: &Run<'_, '_>, id: &DeviceId) -> Result<Device, Refusal> {
    run.load(&keys::device(id))?.ok_or_else(|| Refusal::UnknownDevice { device: id.to_string() })
}

fn needs_owner(run: &Run<'_, '_>, by: By<'_>, id: &DeviceId, what: &str) -> Result<(), Refusal> {
    let owner = device(run, id)?.owner;
    if owner == *by.signer {
        return Ok(());
    }
    Err(not_allowed(by, format!("{what} for device `{id}`"), format!("its owner `{owner}`")))
}

fn register_rule(run: &mut Run<'_, '_>, by: By<'_>, args: &mut Args<'_>) -> Result<(), Refusal> {
    let record = Args::record("rule", args.need("rule")?, RuleRecord::from_cbor)?;
    needs_owner(run, by, &record.rule.device, "register a rule")?;
    put_rule(run, by.entry, &record)
}

fn put_rule(run: &mut Run<'_, '_>, entry: u64, record: &RuleRecord) -> Result<(), Refusal> {
    let (rule, digest) = (&record.rule, record.digest());
    device(run, &rule.device)?;
    let key = keys::rule(&rule.device, &rule.id, &digest);
    if run.state.get(&key).is_some() {
        return Err(Refusal::AlreadyRegistered { what: format!("rule {} of `{}`", KeyText(&digest), rule.id) });
    }
    let call = rule.call.as_ref();
    let call = call.map(|call| (call.contract.clone(), call.action.clone(), call.with.keys().cloned().collect()));
    run.store(key, &RuleInForce(call));
    run.store(keys::rule_record(&rule.device, &digest), &Registered { entry, bytes: record.bytes.clone() });
    let data = [("trigger", text(rule.id.as_str())), ("rule", bytes(digest))];
    run.emit("registry.rule-registered", rule.device.as_str(), data);
    Ok(())
}

/// A rule withdrawn gives no triggers any more; its bytes stay for the evidence of earlier ones.
fn withdraw_rule(run: &mut Run<'_, '_>, by: By<'_>, args: &mut Args<'_>) -> Result<(), Refusal> {
    let id: DeviceId = args.parse("device", "a device id")?;
    let value = args.need("rule")?;
    let digest: Option<Hash> = value.as_bytes().and_then(|digest| digest.as_slice().try_into().ok());
    let digest = digest.ok_or_else(|| bad_argument("rule", value, "the 32 bytes of a rule's digest"))?;
    needs_owner(run, by, &id, "withdraw a rule")?;
    let registered: Option<Registered> = run.load(&keys::rule_record(&id, &digest))?;
    let rule = registered.and_then(|registered| tally_evidence::decode_rule(&registered.bytes).ok());
    let in_force = rule.filter(|rule| run.state.get(&keys::rule(&id, &rule.id, &digest)).is_some());
    let Some(rule) = in_force else {
        let (trigger, rule) = ("any".to_owned(), KeyText(&digest).to_string());
        return Err(Refusal::RuleNotRegistered { device: id.to_string(), trigger, rule });
    };
    run.state.delete(keys::rule(&id, &rule.id, &digest));
    let data = [("trigger", text(rule.id.as_str())), ("rule", bytes(digest))];
    run.emit("registry.rule-withdrawn", id.as_str(), data);
    Ok(())
}

fn deploy_contract(run: &mut Run<'_, '_>, by: By<'_>, args: &mut Args<'_>) -> Result<(), Refusal> {
    let value = args.need("text")?;
    let yaml = value.as_text().ok_or_else(|| bad_argument("text", value, "the YAML text of a contract"))?;
    if !admins(run)?.contains(by.signer) {
        return Err(not_allowed(by, "deploy a contract", "an admin"));
    }
    put_contract(run, by.entry, yaml)
}

/// The new version holds for agreements opened from now on; running ones keep theirs.
fn put_contract(run: &mut Run<'_, '_>, entry: u64, yaml: &str) -> Result<(), Refusal> {
    let contract = Contract::from_yaml(yaml).map_err(|faults| Refusal::ContractFaulty {
        faults: faults.len(),
        first: faults.first().map_or_else(String::new, ToString::to_string),
    })?;
    let (name, version) = (&contract.name, contract.version);
    let before: Option<Deployed> = run.load(&keys::contract(name))?;
    if before.is_some_and(|before| before.version >= version) {
        return Err(Refusal::AlreadyRegistered { what: format!("contract `{name}` version {version} or later") });
    }
    let deployed = Deployed { version, digest: sha256(yaml.as_bytes()), entry };
    run.store(keys::contract(name), &deployed);
    run.store(keys::contract_version(name, version), &deployed);
    run.state.put(keys::contract_text(&deployed.digest), yaml.to_owned().to_bytes());
    let data = [("version", int(version)), ("digest", bytes(deployed.digest))];
    run.emit("registry.contract-deployed", name.as_str(), data);
    Ok(())
}

/// A digest as text.
pub(crate) struct KeyText<'a>(pub &'a Hash);

impl std::fmt::Display for KeyText<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}
