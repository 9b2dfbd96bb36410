//! Private fields through the real program: sealed by `tally call`, shown by `tally disclose` in a file that our verifier and the
//! Python one check, erased by `tally purge`; and a node that is killed while it purges.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

use serde_json::Value;
use std::path::{Path, PathBuf};
use tally_evidence::cbor::{int, text};
use tally_evidence::{CallBody, Commitment, FieldFile, Opening, Presented, SignedStatement};
use tally_ledger_client::{Client, SubmitError};
use tally_tests::{PATIENCE, Party, Process, Site, eventually, in_format, python, random, root, tally_command};
use tally_verifier::verify;
use tokio::process::Command;

/// Nothing else in any file says this.
const SECRET: &str = "wage of T. Muster, March";

async fn tally(site: &Site, arguments: &[&str]) -> (i32, Value, String) {
    let mut command = tally_command(arguments);
    command.arg("--json").env("TALLY_NODE", site.node.address().to_string()).current_dir(site.dir());
    let output = Process::run(command, PATIENCE).await;
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    (output.status.code().unwrap(), serde_json::from_slice(&output.stdout).unwrap_or_default(), said)
}

/// The files below `folder` in which the secret stands.
fn who_knows(folder: &Path, secret: &str) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let knows = |path: PathBuf| match path.is_dir() {
        true => who_knows(&path, secret),
        false => {
            let bytes = std::fs::read(&path).unwrap_or_default();
            let says = bytes.windows(secret.len()).any(|window| window == secret.as_bytes());
            says.then_some(path).into_iter().collect()
        }
    };
    entries.flat_map(knows).collect()
}

/// `field_check.py` on the file and on copies with one wrong byte.
async fn theirs(file: &Path, key: &Path, flips: &[(usize, u8)]) -> Vec<Value> {
    let words: Vec<_> = flips.iter().map(|(at, mask)| format!("{at}:{mask}")).collect();
    let mut command = Command::new(python());
    command.arg(root().join("tests/interop/field_check.py")).arg(file).arg("--ledger-key").arg(key);
    command.args(["--json", "--flips", &words.join(",")]);
    let output = Process::run(command, 4 * PATIENCE).await;
    let said = serde_json::from_slice::<Value>(&output.stdout);
    said.unwrap_or_else(|fault| panic!("{fault}: {}", String::from_utf8_lossy(&output.stderr)))
        .as_array()
        .unwrap()
        .clone()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_field_is_sealed_shown_to_both_verifiers_and_purged() {
    let site = Site::of_one_press().await;
    let _node = site.start_node().await;
    let data = site.dir().join("node");
    let pay = ["call", "accounts", "transfer", "--as", "acme", "--key", "keys/acme.key", "--arg", "to=fixit"];
    let more = ["--arg", "amount=5", "--arg", "currency=EUR", "--private"];
    let remark = format!("remark={SECRET}");
    let (code, done, said) = tally(&site, &[&pay[..], &more, &[&remark]].concat()).await;
    assert_eq!(code, 0, "{said}");
    let entry = done["entry"].to_string();
    let sealed = site.node.get_bytes(&format!("/entries/{entry}/statement")).await.unwrap();
    let receipt = site.node.get_bytes(&format!("/entries/{entry}")).await.unwrap();
    // The sealed call has the digest, the node one file with the text, and nobody else anything.
    let call = CallBody::decode(&SignedStatement::parse(&sealed).unwrap().payload).unwrap();
    assert!(Commitment::of_argument(&call.args["remark"]).is_some(), "{call:?}");
    assert_eq!(who_knows(&data, SECRET).len(), 1);
    let (_, listed, _) = tally(&site, &["disclose", &entry]).await;
    assert_eq!((&listed["fields"][0]["field"], &listed["fields"][0]["state"]), (&"remark".into(), &"kept".into()));
    assert!(!listed.to_string().contains(SECRET));
    let (code, _, said) = tally(&site, &["disclose", &entry, "--field", "amount", "-o", "amount.field"]).await;
    assert!(code == 1 && said.contains("no private field `amount`"), "{said}");
    let twice = [&pay[..], &more, &[&remark, "--arg", "remark=in clear"]].concat();
    let (code, _, said) = tally(&site, &twice).await;
    assert!(code == 2 && said.contains("given twice"), "{said}");

    let file = site.outside().join("remark.field");
    let name = file.display().to_string();
    let (code, shown, said) = tally(&site, &["disclose", &entry, "--field", "remark", "--output", &name]).await;
    assert_eq!((code, &shown["shown"][0]), (0, &format!("remark = {SECRET:?}").into()), "{said}");
    check_both(&site, &file).await;
    as_json(&site, &entry, &file).await;

    let ask = |party: &'static str, key: &'static str| ["--as", party, "--key", key];
    let purge = ["purge", &entry, "--field", "remark", "--reason", "request of 21 November"];
    let (code, done, _) = tally(&site, &[&purge[..], &ask("tina", "keys/tina.key")].concat()).await;
    assert_eq!((code, &done["refusal"]), (1, &151.into()));
    let (code, _, said) = tally(&site, &[&purge[..], &ask("acme", "keys/acme.key")].concat()).await;
    assert_eq!((code, who_knows(&data, SECRET)), (0, Vec::new()), "{said}");
    let (code, _, said) = tally(&site, &["disclose", &entry, "--field", "remark", "-o", &name]).await;
    assert!(code == 1 && said.contains("purged by `acme`") && said.contains("request of 21 November"), "{said}");
    // What others hold still verifies, and the statement gets the receipt it got.
    assert!(verify(&std::fs::read(&file).unwrap(), Some(&site.ledger_key())).all_hold());
    assert_eq!(site.node.get_bytes(&format!("/entries/{entry}/statement")).await.unwrap(), sealed);
    assert_eq!(site.node.get_bytes(&format!("/entries/{entry}")).await.unwrap(), receipt);
    let gone = format!("purged:{entry}/remark");
    assert_eq!(tally(&site, &["ledger", "state", &gone, "--ledger-key", "keys/node.pub.pem"]).await.0, 0);
}

/// The same field for people: as `tally disclose` writes it and as `tally convert` makes it of the file, and back again.
async fn as_json(site: &Site, entry: &str, file: &Path) {
    let at = |name: &str| site.outside().join(name).display().to_string();
    let (shown, made, back) = (at("remark.json"), at("made.json"), at("back.field"));
    let ask = ["disclose", entry, "--field", "remark", "--format", "json", "--output", &shown];
    assert_eq!(tally(site, &ask).await.0, 0);
    let file = file.display().to_string();
    for (from, to) in [(&file, &made), (&made, &back)] {
        let (code, _, said) = tally(site, &["convert", from, "--output", to]).await;
        assert_eq!(code, 0, "{said}");
    }
    assert_eq!(std::fs::read(&shown).unwrap(), std::fs::read(&made).unwrap());
    assert_eq!(std::fs::read(&back).unwrap(), std::fs::read(&file).unwrap());
    let text = std::fs::read_to_string(&shown).unwrap();
    let json: Value = serde_json::from_str(&text).unwrap();
    let reads = &json["openings"][0]["reads"];
    assert_eq!((&reads[1], &reads[2]), (&SECRET.into(), &"remark".into()), "{json:#}");
    let (code, said, _) = tally(site, &["verify", &shown, "--ledger-key", "keys/node.pub.pem"]).await;
    assert_eq!((code, &said["holds"]), (0, &true.into()), "{said:#}");
    // Who is shown another text than the bytes say is told so.
    std::fs::write(&shown, text.replace(SECRET, "something else")).unwrap();
    let (code, said, _) = tally(site, &["verify", &shown, "--ledger-key", "keys/node.pub.pem"]).await;
    assert_eq!((code, &said["holds"]), (1, &false.into()), "{said:#}");
    let (code, said, _) = tally(site, &["convert", &shown, "--output", &back]).await;
    assert_eq!((code, &said["mismatches"][0]), (1, &"openings/0/reads/1".into()), "{said:#}");
}

/// The true file holds for both, and both name the same link in copies with one wrong byte.
async fn check_both(site: &Site, file: &Path) {
    let (bytes, key) = (std::fs::read(file).unwrap(), site.ledger_key());
    let (code, said, _) =
        tally(site, &["verify", &file.display().to_string(), "--ledger-key", "keys/node.pub.pem"]).await;
    assert_eq!((code, &said["holds"]), (0, &true.into()), "{said:#}");
    assert_eq!(as_private("field-file", &bytes).await, "yes");
    let opening = FieldFile::decode(&bytes).unwrap().openings.remove(0);
    let start = bytes.windows(opening.len()).position(|window| window == opening).unwrap();
    let mut next = random(20_261_122);
    let anywhere = (0..120).map(|_| usize::try_from(next()).unwrap() % bytes.len());
    // Every byte of the field itself, and of everything else some.
    let flips: Vec<_> = (start..start + opening.len()).chain(anywhere).map(|at| (at, 1 << (at % 8))).collect();
    let theirs = theirs(file, &site.dir().join("keys/node.pub.pem"), &flips).await;
    assert_eq!((&theirs[0]["holds"], theirs.len()), (&true.into(), flips.len() + 1), "{:#}", theirs[0]);
    for ((at, mask), theirs) in flips.into_iter().zip(&theirs[1..]) {
        let mut forged = bytes.clone();
        forged[at] ^= mask;
        let ours = verify(&forged, Some(&key));
        let ours = ours.first_broken().unwrap_or_else(|| panic!("ours accepts byte {at} ^ {mask}"));
        let links = theirs["links"].as_array().unwrap();
        let theirs = links.iter().find(|link| link["holds"] == false).unwrap_or_else(|| panic!("theirs accepts {at}"));
        let step = serde_json::to_value(ours.step).unwrap();
        assert_eq!(
            (&theirs["about"], &theirs["step"]),
            (&ours.about.clone().into(), &step),
            "byte {at}: {theirs} {ours:?}"
        );
    }
}

/// What a validator that is not ours says of these bytes as `top` of private.cddl.
async fn as_private(top: &str, bytes: &[u8]) -> String {
    in_format(top, &["private", "statement", "trigger", "call", "anchor", "batch"], bytes).await
}

/// Rounds of: seal a secret, ask for its purge, kill -9 the node somewhere in between or behind. After each start whoever was told that
/// it is purged finds it nowhere, and once the purge is in the ledger so does everybody.
#[tokio::test(flavor = "multi_thread")]
async fn a_node_killed_while_it_purges_ends_it_when_it_starts_again() {
    let site = Site::of_one_press().await;
    let data = site.dir().join("node");
    let acme = Party::of(&site, "acme");
    let mut next = random(7);
    let (mut told, mut ended_later) = (0, 0);
    let mut node = site.start_node().await;
    for round in 0..12 {
        let secret = format!("{SECRET}, round {round:02}");
        let entry = pay_with(&site.node, &acme, &secret).await;
        assert_eq!(who_knows(&data, &secret).len(), 1);
        let args = [("entry", int(entry)), ("field", text("remark")), ("reason", text("asked"))];
        let purge = acme.seal("privacy", "purge", None, &args);
        let client = site.node.clone();
        let sent = purge.clone();
        let asked = tokio::spawn(async move { client.submit(&sent).await.is_ok() });
        tokio::time::sleep(std::time::Duration::from_micros(next() % 9_000)).await;
        node.kill().await;
        let was_told = asked.await.unwrap();
        let was_there = !who_knows(&data, &secret).is_empty();
        assert!(!(was_told && was_there), "round {round}: told that it is gone, and it is there");
        node = site.start_node().await;
        let id = SignedStatement::parse(&purge).unwrap().id;
        let is_in = site.node.get_bytes(&format!("/entries/{id}")).await.is_ok();
        assert_eq!(who_knows(&data, &secret).is_empty(), is_in, "round {round}");
        told += u32::from(was_told);
        ended_later += u32::from(was_there && is_in);
        // Whoever got no answer asks again, with the same bytes.
        eventually("the purge", async || site.node.submit(&purge).await.ok()).await;
        assert_eq!(who_knows(&data, &secret), Vec::<PathBuf>::new());
    }
    eprintln!("told {told} of 12; ended after the restart {ended_later}");
    assert_eq!(who_knows(&data, SECRET), Vec::<PathBuf>::new());
    assert_eq!(node.terminate().await.code(), Some(0), "{}", node.tail());
}

/// A transfer with a private remark; its entry.
async fn pay_with(node: &Client, acme: &Party, secret: &str) -> u64 {
    let opening = Opening { salt: [3; 16], value: text(secret), name: "remark".into() }.encode();
    let remark = Commitment::to(&opening).to_argument();
    let args = [("to", text("fixit")), ("amount", int(1)), ("currency", text("EUR")), ("remark", remark)];
    let statement = acme.seal("accounts", "transfer", None, &args);
    assert_eq!(as_private("opening", &opening).await, "yes");
    let presented = Presented { statement, openings: vec![opening] }.encode().unwrap();
    let submitted = eventually("a transfer", async || match node.submit(&presented).await {
        Ok(submitted) => Some(submitted),
        Err(SubmitError::NotNow { .. } | SubmitError::NotFinal { .. }) => None,
        Err(refused) => panic!("{refused}"),
    });
    submitted.await.entry
}
