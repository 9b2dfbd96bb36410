//! Enrolment over real sockets: with our client, with openssl and curl, and by those who may not.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

use std::net::SocketAddr;
use std::path::Path;
use std::process::{Command, Output};
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};
use tally_ca::{Authority, CA_DAYS, CaFault, Est, Request, enrol, reenrol, routes, write_new};
use tally_door::{Bound, Door, Listen, Secure};
use tally_ledger_client::{Access, Client, RequestError};
use tally_model::{Secret, Tls};
use tally_tls::{CertificateFacts, ServerTls};
use tokio_util::sync::CancellationToken;

fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()
}

fn names(name: &str) -> Vec<String> {
    vec![name.to_owned()]
}

struct Served {
    dir: tempfile::TempDir,
    authority: Authority,
    port: u16,
    stop: CancellationToken,
}

impl Served {
    async fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join("ca");
        let authority = Authority::init(&folder, "Plant CA", CA_DAYS, now()).unwrap();
        authority.issue_into(&folder, &["server".to_owned(), "localhost".to_owned()], 30, now()).unwrap();
        let files = ServerTls {
            certificate: folder.join("server.pem"),
            key: folder.join("server.key"),
            client_ca: Some(folder.join("ca.pem")),
            is_optional: true,
            crl: None,
        };
        let door = Door { secure: Some(Secure::open(files).unwrap()), ..Door::default() };
        let here: SocketAddr = ([127, 0, 0, 1], 0).into();
        let bound = Bound::bind(&[Listen::Tls(here)], door).await.unwrap();
        let Listen::Tls(place) = bound.places()[0].clone() else { panic!("no TLS") };
        let est = Arc::new(Est::new(Authority::open(&folder).unwrap(), 365).unwrap());
        let stop = CancellationToken::new();
        tokio::spawn(bound.serve(routes(est), stop.clone()));
        Self { dir, authority, port: place.port(), stop }
    }

    fn ca(&self) -> std::path::PathBuf {
        self.authority.dir().join("ca.pem")
    }

    fn client(&self, code: Option<&str>, certificate: Option<(&Path, &Path)>) -> Client {
        let (certificate, key) = certificate.map(|(one, two)| (one.to_owned(), two.to_owned())).unzip();
        let tls = Tls { ca: Some(self.ca()), pin: None, certificate, key };
        let token = code.map(|code| Secret::new(code.to_owned()));
        Client::new(format!("tls:localhost:{}", self.port).parse().unwrap()).with_access(Access { tls, token })
    }

    fn invite(&self, name: &str) -> String {
        Est::invite(&self.authority, name, now(), now() + 60).unwrap()
    }
}

fn refusal(refused: Result<Vec<u8>, CaFault>) -> String {
    match refused {
        Err(CaFault::Asked(RequestError::Refused { status, code, .. })) => format!("{status} {code}"),
        other => panic!("{other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_code_gets_one_certificate_in_its_name_and_the_certificate_gets_the_next() {
    let served = Served::new().await;
    let request = Request::new(&names("agent-01")).unwrap();
    let code = served.invite("agent-01");
    let der = enrol(&served.client(Some(&code), None), &request).await.unwrap();
    assert_eq!(CertificateFacts::of(&der).unwrap().names, ["agent-01"]);

    // Used up, made up, missing, made for another name.
    let other = Request::new(&names("agent-02")).unwrap();
    assert_eq!(refusal(enrol(&served.client(Some(&code), None), &request).await), "401 code");
    assert_eq!(refusal(enrol(&served.client(Some("tally_00"), None), &request).await), "401 code");
    assert_eq!(refusal(enrol(&served.client(None, None), &request).await), "401 code");
    let code = served.invite("agent-03");
    assert_eq!(refusal(enrol(&served.client(Some(&code), None), &other).await), "403 name");
    assert_eq!(refusal(reenrol(&served.client(None, None), &request).await), "401 certificate");

    // With what it has it gets the next one, in its own name only.
    let [certificate, key] = ["pem", "key"].map(|ending| served.dir.path().join(format!("agent-01.{ending}")));
    write_new(&certificate, 0o644, &tally_ca::pem("CERTIFICATE", &der)).unwrap();
    write_new(&key, 0o600, &request.key_pem()).unwrap();
    let known = served.client(None, Some((&certificate, &key)));
    let next = reenrol(&known, &request).await.unwrap();
    assert_ne!(next, der);
    assert_eq!(refusal(reenrol(&known, &other).await), "403 name");
    served.stop.cancel();
}

fn tool(program: &str, arguments: &[&str]) -> Output {
    let run = Command::new(program).args(arguments).output();
    run.unwrap_or_else(|fault| panic!("{program}: {fault}; apt-get install openssl curl"))
}

#[tokio::test(flavor = "multi_thread")]
async fn openssl_and_curl_enrol_as_the_standard_says() {
    let served = Served::new().await;
    let (dir, ca, port) = (served.dir.path().to_owned(), served.ca().display().to_string(), served.port);
    let code = served.invite("plc-7");
    let done = tokio::task::spawn_blocking(move || {
        let at = |name: &str| dir.join(name).display().to_string();
        let curl = |path: &str, more: &[&str]| {
            let url = format!("https://localhost:{port}/.well-known/est/{path}");
            tool("curl", &[&["-sS", "--fail", "--noproxy", "*", "--cacert", &ca, &url], more].concat())
        };
        let key = [
            "req",
            "-new",
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:prime256v1",
            "-nodes",
            "-subj",
            "/CN=plc-7",
        ];
        let made = tool(
            "openssl",
            &[&key[..], &["-keyout", &at("plc.key"), "-outform", "DER", "-out", &at("plc.der")]].concat(),
        );
        assert!(made.status.success(), "{made:?}");
        tool("openssl", &["base64", "-in", &at("plc.der"), "-out", &at("plc.b64")]);
        let shown = curl("cacerts", &[]);
        std::fs::write(at("ca.p7.b64"), &shown.stdout).unwrap();
        let body = format!("@{}", at("plc.b64"));
        let user = format!("plc-7:{code}");
        let head = ["-u", &user, "-H", "Content-Type: application/pkcs10", "--data-binary", &body];
        let enrolled = curl("simpleenroll", &head);
        assert!(enrolled.status.success(), "{enrolled:?}");
        std::fs::write(at("plc.p7.b64"), &enrolled.stdout).unwrap();
        for (packed, out) in [("ca.p7.b64", "ca.txt"), ("plc.p7.b64", "plc.pem")] {
            let der = format!("{packed}.der");
            tool("openssl", &["base64", "-d", "-A", "-in", &at(packed), "-out", &at(&der)]);
            let read =
                tool("openssl", &["pkcs7", "-inform", "DER", "-in", &at(&der), "-print_certs", "-out", &at(out)]);
            assert!(read.status.success(), "{packed}: {read:?}");
        }
        let verified = tool("openssl", &["verify", "-CAfile", &ca, "-purpose", "sslclient", &at("plc.pem")]);
        // The same code again, and no code.
        let again = curl("simpleenroll", &head);
        (verified, again)
    });
    let (verified, again) = done.await.unwrap();
    assert!(String::from_utf8_lossy(&verified.stdout).contains("OK"), "{verified:?}");
    assert!(!again.status.success() && String::from_utf8_lossy(&again.stderr).contains("401"), "{again:?}");
    served.stop.cancel();
}
