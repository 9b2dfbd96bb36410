//! Time-stamps (RFC 3161) with OpenSSL as the authority: what it signs we keep and check, what we keep it accepts, and whatever is
//! changed, too old, or from somebody else is named.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

use rcgen::{BasicConstraints, CertificateParams, CustomExtension, DnType, IsCa, Issuer, KeyPair, SignatureAlgorithm};
use serde_json::Value;
use std::io::{Read, Write};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::Command;
use tally_evidence::{Stamped, TimeStampToken, sha256};
use tally_model::Timestamp;
use tally_tests::{Process, root, tally_command};
use tally_verifier::timestamp::{TimestampFault, TimestampRequest, check_token, token_of_response};
use tally_verifier::{Reader, Step, TimeAuthorities, verify, verify_for};
use tempfile::TempDir;

const DIGEST: [u8; 32] = [7; 32];
/// extKeyUsage: timeStamping.
const FOR_TIME: &[u8] = &[0x30, 10, 6, 8, 0x2b, 6, 1, 5, 5, 7, 3, 8];
/// extKeyUsage: timeStamping, codeSigning.
const FOR_MORE: &[u8] = &[0x30, 20, 6, 8, 0x2b, 6, 1, 5, 5, 7, 3, 8, 6, 8, 0x2b, 6, 1, 5, 5, 7, 3, 3];

/// What an authority is like.
struct Kind {
    key: &'static SignatureAlgorithm,
    digest: &'static str,
    /// Digest of the certificate's name in the token.
    ess: &'static str,
    /// Purposes of its certificate, and whether they are critical.
    purposes: Option<(&'static [u8], bool)>,
    /// Last year of its certificate.
    until: i32,
}

const GOOD: Kind = Kind {
    key: &rcgen::PKCS_ECDSA_P256_SHA256,
    digest: "sha256",
    ess: "sha256",
    purposes: Some((FOR_TIME, true)),
    until: 2100,
};

/// A certification authority and a time-stamping authority under it, in a folder.
struct Authority(TempDir);

impl Authority {
    fn new(kind: &Kind) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        let (ca_key, key) = (KeyPair::generate().unwrap(), KeyPair::generate_for(kind.key).unwrap());
        let mut ca = CertificateParams::default();
        ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        ca.distinguished_name.push(DnType::CommonName, "Root of Time");
        std::fs::write(path("ca.pem"), ca.self_signed(&ca_key).unwrap().pem()).unwrap();
        let mut tsa = CertificateParams::default();
        tsa.distinguished_name.push(DnType::CommonName, "Clock of the Town");
        tsa.key_usages = vec![rcgen::KeyUsagePurpose::DigitalSignature];
        tsa.use_authority_key_identifier_extension = true;
        tsa.not_before = rcgen::date_time_ymd(2020, 1, 1);
        tsa.not_after = rcgen::date_time_ymd(kind.until, 1, 1);
        if let Some((purposes, critical)) = kind.purposes {
            let mut extension = CustomExtension::from_oid_content(&[2, 5, 29, 37], purposes.to_vec());
            extension.set_criticality(critical);
            tsa.custom_extensions = vec![extension];
        }
        let certificate = tsa.signed_by(&key, &Issuer::new(ca, ca_key)).unwrap();
        std::fs::write(path("tsa.pem"), certificate.pem()).unwrap();
        std::fs::write(path("tsa.key"), key.serialize_pem()).unwrap();
        std::fs::write(path("serial"), "01").unwrap();
        let settings = format!(
            "[tsa]\nserial = {}\ndefault_policy = 1.2.3.4.1\ndigests = sha256\naccuracy = secs:1, millisecs:500, microsecs:100\n\
             clock_precision_digits = 3\nordering = yes\ntsa_name = yes\ness_cert_id_chain = no\ness_cert_id_alg = {}\n\
             signer_digest = {}\n",
            path("serial").display(),
            kind.ess,
            kind.digest
        );
        std::fs::write(path("refusing.cnf"), settings.replace("digests = sha256", "digests = sha512")).unwrap();
        std::fs::write(path("tsa.cnf"), settings).unwrap();
        Self(folder)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn trusted(&self) -> TimeAuthorities {
        TimeAuthorities::from_pem(&std::fs::read(self.path("ca.pem")).unwrap()).unwrap()
    }

    /// TimeStampResp to a TimeStampReq.
    fn answer(&self, request: &[u8], settings: &str) -> Vec<u8> {
        std::fs::write(self.path("q.tsq"), request).unwrap();
        let (query, answer) = (self.path("q.tsq"), self.path("r.tsr"));
        let (settings, signer, key) = (self.path(settings), self.path("tsa.pem"), self.path("tsa.key"));
        let arguments = ["ts", "-reply", "-section", "tsa", "-queryfile"].map(Path::new);
        let more = [&query, Path::new("-config"), &settings, Path::new("-signer"), &signer];
        let rest = [Path::new("-inkey"), &key, Path::new("-out"), &answer];
        openssl(&[&arguments[..], &more, &rest].concat());
        std::fs::read(answer).unwrap()
    }

    fn token(&self) -> Vec<u8> {
        let question = TimestampRequest::new(DIGEST, [0x85; 16]);
        question.token(&self.answer(&question.to_der().unwrap(), "tsa.cnf")).unwrap()
    }

    /// The TSTInfo of another authority's token, signed by this one, whom `openssl ts` would not let sign.
    fn sign(&self, token: &[u8]) -> Vec<u8> {
        std::fs::write(self.path("token"), token).unwrap();
        let path = |name: &str| self.path(name).display().to_string();
        let (token, info, signed, signer, key) =
            (path("token"), path("info"), path("signed"), path("tsa.pem"), path("tsa.key"));
        let read = ["cms", "-verify", "-noverify", "-inform", "DER", "-in", &token, "-out", &info];
        openssl(&read.map(Path::new));
        let tst_info = "1.2.840.113549.1.9.16.1.4";
        let options = [
            "cms",
            "-sign",
            "-binary",
            "-nodetach",
            "-cades",
            "-econtent_type",
            tst_info,
            "-outform",
            "DER",
            "-md",
            "sha256",
        ];
        let files = ["-in", &info, "-signer", &signer, "-inkey", &key, "-out", &signed];
        openssl(&[&options.map(Path::new)[..], &files.map(Path::new)].concat());
        std::fs::read(signed).unwrap()
    }

    /// Answers `times` questions over HTTP; gives the URL.
    fn serve(self: &std::sync::Arc<Self>, times: usize, settings: &'static str) -> String {
        let (authority, listener) = (self.clone(), TcpListener::bind("127.0.0.1:0").unwrap());
        let url = format!("http://{}/tsr", listener.local_addr().unwrap());
        std::thread::spawn(move || {
            for _ in 0..times {
                let (mut stream, _) = listener.accept().unwrap();
                let (mut seen, mut piece) = (Vec::new(), [0; 1024]);
                let request = loop {
                    let read = stream.read(&mut piece).unwrap();
                    assert!(read > 0, "half a request");
                    seen.extend_from_slice(&piece[..read]);
                    let text = String::from_utf8_lossy(&seen).to_lowercase();
                    let Some(end) = seen.windows(4).position(|four| four == b"\r\n\r\n") else { continue };
                    assert!(text.starts_with("post /tsr http/1.1\r\n"), "{text}");
                    assert!(text.contains("content-type: application/timestamp-query\r\n"), "{text}");
                    let length = text.split("content-length: ").nth(1).unwrap().split("\r\n").next().unwrap();
                    if seen.len() - end - 4 == length.parse::<usize>().unwrap() {
                        break seen[end + 4..].to_vec();
                    }
                };
                let answer = authority.answer(&request, settings);
                let head = "HTTP/1.1 200 OK\r\nContent-Type: application/timestamp-reply\r\nContent-Length: ";
                stream.write_all(format!("{head}{}\r\n\r\n", answer.len()).as_bytes()).unwrap();
                stream.write_all(&answer).unwrap();
            }
        });
        url
    }
}

#[track_caller]
fn openssl(arguments: &[&Path]) -> String {
    let output = Command::new("openssl").args(arguments).output().expect("the program `openssl` (package openssl)");
    assert!(output.status.success(), "openssl {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn frozen(name: &str) -> PathBuf {
    root().join("tests/formats").join(name)
}

async fn tally(arguments: &[&str]) -> (Option<i32>, String) {
    Process::says(tally_command(arguments)).await
}

#[tokio::test]
async fn an_authority_over_http_puts_its_time_to_a_file() {
    let authority = std::sync::Arc::new(Authority::new(&GOOD));
    let url = authority.serve(3, "tsa.cnf");
    let (file, ca) = (authority.path("mo-1.tally"), authority.path("ca.pem").display().to_string());
    std::fs::copy(frozen("mo-1.tally"), &file).unwrap();
    let shown = file.display().to_string();
    let (code, said) = tally(&["timestamp", &shown, "--tsa", &url, "--tsa-ca", &ca]).await;
    assert!(code == Some(0) && said.contains("CN=Clock of the Town"), "{said}");

    let (code, said) = tally(&["verify", &shown, "--tsa-ca", &ca, "--json"]).await;
    let said: Value = serde_json::from_str(&said).unwrap();
    let stamp = &said["report"]["timestamp"];
    assert_eq!((code, &stamp["is_trusted"], &stamp["accuracy"]), (Some(0), &true.into(), &1_500_100.into()), "{stamp}");
    let (code, said) = tally(&["verify", &shown]).await;
    assert!(code == Some(0) && said.contains("NOT CHECKED    present, its authority was not checked"), "{said}");

    // OpenSSL accepts what we keep, over the file as it was.
    let token = Stamped::split(&std::fs::read(&file).unwrap()).unwrap().token.unwrap().der;
    std::fs::write(authority.path("kept"), token).unwrap();
    let (kept, plain) = (authority.path("kept"), frozen("mo-1.tally"));
    let arguments = [Path::new("ts"), Path::new("-verify"), Path::new("-token_in"), Path::new("-in"), &kept];
    let more = [Path::new("-data"), &plain, Path::new("-CAfile"), Path::new(&ca)];
    assert!(openssl(&[&arguments[..], &more].concat()).contains("Verification: OK"));

    // A second one only if it is meant; a file in JSON stays one.
    let (code, said) = tally(&["timestamp", &shown, "--tsa", &url]).await;
    assert!(code == Some(2) && said.contains("--replace"), "{said}");
    let json = authority.path("mo-1.json").display().to_string();
    assert_eq!(tally(&["convert", &shown, "-o", &json]).await.0, Some(0));
    let (code, said) = tally(&["timestamp", &json, "--tsa", &url, "--replace"]).await;
    assert!(code == Some(0) && said.contains("its authority was not checked"), "{said}");
    assert!(std::fs::read(&json).unwrap().starts_with(b"{"));
    assert_eq!(tally(&["verify", &json, "--tsa-ca", &ca]).await.0, Some(0));

    // An authority that the reader does not know: nothing is written.
    let strangers = Authority::new(&GOOD);
    let other = strangers.path("ca.pem").display().to_string();
    let before = std::fs::read(&json).unwrap();
    let (code, said) = tally(&["timestamp", &json, "--tsa", &url, "--replace", "--tsa-ca", &other]).await;
    assert!(code == Some(1) && said.contains("did not sign its certificate"), "{said}");
    assert_eq!(std::fs::read(&json).unwrap(), before);
    let (code, said) = tally(&["verify", &json, "--tsa-ca", &other]).await;
    assert!(code == Some(1) && said.contains("Does not hold: time-stamp"), "{said}");
}

#[tokio::test]
async fn question_and_answer_travel_on_a_stick() {
    let authority = std::sync::Arc::new(Authority::new(&GOOD));
    let path = |name: &str| authority.path(name).display().to_string();
    let (file, other) =
        (frozen("mo-1.tally").display().to_string(), frozen("mo-1-batched.tally").display().to_string());
    let (request, response, stamped, ca) = (path("mo-1.tsq"), path("mo-1.tsr"), path("stamped.tally"), path("ca.pem"));
    assert_eq!(tally(&["timestamp", &file, "--request", &request]).await.0, Some(0));
    std::fs::write(&response, authority.answer(&std::fs::read(&request).unwrap(), "tsa.cnf")).unwrap();
    let (code, said) = tally(&["timestamp", &other, "--response", &response, "-o", &stamped]).await;
    assert!(code == Some(1) && said.contains("about another digest") && !Path::new(&stamped).exists(), "{said}");
    assert_eq!(tally(&["timestamp", &file, "--response", &response, "-o", &stamped]).await.0, Some(0));
    assert_eq!(tally(&["verify", &stamped, "--tsa-ca", &ca]).await.0, Some(0));

    let url = authority.serve(1, "refusing.cnf");
    let (code, said) = tally(&["timestamp", &file, "--tsa", &url, "-o", &path("never")]).await;
    assert!(code == Some(1) && said.contains("rejection (2)") && said.contains("unsupported algorithm"), "{said}");
    let (code, said) = tally(&["timestamp", &file, "--tsa", "http://127.0.0.1:1/", "-o", &path("never")]).await;
    assert!(code == Some(2) && said.contains("asking http://127.0.0.1:1/"), "{said}");
    assert!(!authority.path("never").exists());
    let (code, said) = tally(&["verify", &stamped, "--tsa-ca", &request]).await;
    assert!(code == Some(2) && said.contains("no certificate (PEM) in the file"), "{said}");
}

#[test]
fn signatures_of_every_kind_that_counts() {
    for (key, digest, ess) in [
        (&rcgen::PKCS_ECDSA_P256_SHA256, "sha384", "sha1"),
        (&rcgen::PKCS_ECDSA_P384_SHA384, "sha384", "sha512"),
        (&rcgen::PKCS_ECDSA_P384_SHA384, "sha256", "sha256"),
        (&rcgen::PKCS_RSA_SHA256, "sha256", "sha1"),
        (&rcgen::PKCS_RSA_SHA256, "sha384", "sha256"),
        (&rcgen::PKCS_RSA_SHA256, "sha512", "sha384"),
    ] {
        let authority = Authority::new(&Kind { key, digest, ess, ..GOOD });
        let stamp = check_token(&authority.token(), &DIGEST, Some(&authority.trusted()));
        let stamp = stamp.unwrap_or_else(|fault| panic!("{digest} {ess}: {fault}"));
        assert_eq!((stamp.accuracy, stamp.authority.as_str()), (Some(1_500_100), "CN=Clock of the Town"));
        let age = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_micros();
        assert!(i64::try_from(age).unwrap() - stamp.at.as_micros() < 60_000_000);
    }
}

#[test]
fn what_is_no_time_stamp_is_named() {
    let authority = Authority::new(&GOOD);
    let token = authority.token();
    let check = |token: &[u8], trusted: &TimeAuthorities| check_token(token, &DIGEST, Some(trusted)).unwrap_err();
    assert_eq!(check_token(&token, &[8; 32], None), Err(TimestampFault::Imprint));
    assert!(check(&token, &Authority::new(&GOOD).trusted()).to_string().contains("did not sign its certificate"));
    let unknown = TimeAuthorities::from_pem(&std::fs::read(frozen("timestamped.tsa-ca.pem")).unwrap()).unwrap();
    assert!(check(&token, &unknown).to_string().contains("none of the authorities given"));
    let old = Authority::new(&Kind { until: 2025, ..GOOD });
    assert!(check(&old.token(), &old.trusted()).to_string().contains("had expired at the time it gives"));
    assert!(check_token(&old.token(), &DIGEST, None).is_ok_and(|stamp| !stamp.is_trusted));
    for purposes in [None, Some((FOR_TIME, false)), Some((FOR_MORE, true))] {
        let wrong = Authority::new(&Kind { purposes, ..GOOD });
        assert_eq!(check(&wrong.sign(&token), &wrong.trusted()), TimestampFault::Purpose);
    }
    // The same by an authority made for it.
    let other = Authority::new(&GOOD);
    assert!(check_token(&other.sign(&token), &DIGEST, Some(&other.trusted())).is_ok());
    let asked = TimestampRequest::new(DIGEST, [1; 16]);
    let answer = authority.answer(&TimestampRequest::new(DIGEST, [2; 16]).to_der().unwrap(), "tsa.cnf");
    assert_eq!(asked.token(&answer), Err(TimestampFault::Nonce));
    assert!(token_of_response(&answer, &DIGEST).is_ok());
    let refused = token_of_response(&authority.answer(&asked.to_der().unwrap(), "refusing.cnf"), &DIGEST);
    assert!(matches!(refused, Err(TimestampFault::Refused { .. })), "{refused:?}");
    assert!(matches!(token_of_response(b"<html>", &DIGEST), Err(TimestampFault::Form { .. })));
}

/// The frozen file: its authority's certificate may expire, the time-stamp stays good.
#[test]
fn every_flipped_byte_is_noticed() {
    let file = std::fs::read(frozen("timestamped.tally")).unwrap();
    let trusted = TimeAuthorities::from_pem(&std::fs::read(frozen("timestamped.tsa-ca.pem")).unwrap()).unwrap();
    let report = verify_for(&file, &Reader { time_authorities: Some(&trusted), ..Reader::default() });
    assert!(report.all_hold(), "{:?}", report.first_broken());
    let stamp = report.timestamp.unwrap();
    assert_eq!(stamp.at, Timestamp::parse_rfc3339("2026-11-21T21:08:58.632Z").unwrap());
    let stamped = Stamped::split(&file).unwrap();
    assert_eq!(stamped.content, std::fs::read(frozen("mo-1.tally")).unwrap());
    let der = stamped.token.clone().unwrap().der;
    let start = file.windows(der.len()).position(|bytes| bytes == der).unwrap();
    for place in 0..der.len() {
        let mut flipped = file.clone();
        flipped[start + place] ^= 1;
        assert!(!Stamped::split(&flipped).unwrap().token.unwrap().is_whole(), "byte {place}");
        if place % 50 == 0 {
            assert_eq!(
                verify(&flipped, None).first_broken().map(|link| link.step),
                Some(Step::Timestamp),
                "byte {place}"
            );
        }
        // On purpose, with the digest beside it made anew: what the token says stays, or it does not hold.
        let token = TimeStampToken::new(flipped[start..start + der.len()].to_vec());
        if let Ok(found) = check_token(&token.der, &sha256(&stamped.content), Some(&trusted)) {
            assert_eq!(found, stamp, "byte {place}");
        }
    }
    // The content: whatever else breaks, the time-stamp is not about it.
    let mut other = stamped;
    other.content = std::fs::read(frozen("mo-1-batched.tally")).unwrap();
    let report = verify(&other.encode().unwrap(), None);
    assert_eq!(report.first_broken().map(|link| link.step), Some(Step::Timestamp));
}
