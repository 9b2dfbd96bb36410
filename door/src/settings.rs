//! Where to listen and with which certificates, as a settings file says it: `listen`, `listen_plain` and `tls` of node.yaml and
//! witness.yaml, `listen`, `listen_plain` and `listen_tls` of agent.yaml. As written, then checked; nothing is opened here.
//!
//! What others can reach needs TLS, or somebody who says that it does not.

use crate::Listen;
use serde::de::{Deserialize, Deserializer, SeqAccess, Visitor};
use serde_saphyr::{Location, Spanned};
use std::fmt;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use tally_tls::ServerTls;

/// Longest path of a socket in bytes: `sun_path` without its closing zero (unix(7)).
const SOCKET_PATH_BYTES_MAX: usize = 107;

const PLACES: &str = "write `unix:/run/tallystick/node.sock`, `tcp:127.0.0.1:7460` or `tls:10.0.0.5:7460`";

/// `listen` as written: one place, or a list of them.
#[derive(Debug)]
pub enum WrittenListen {
    /// A text.
    One(String),
    /// A list.
    Several(Vec<Spanned<String>>),
}

/// By hand, because an untagged enum loses the lines of what stands in it.
impl<'de> Deserialize<'de> for WrittenListen {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Places;
        impl<'de> Visitor<'de> for Places {
            type Value = WrittenListen;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a place to listen at, or a list of such")
            }

            fn visit_str<E>(self, place: &str) -> Result<WrittenListen, E> {
                Ok(WrittenListen::One(place.to_owned()))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut places: A) -> Result<WrittenListen, A::Error> {
                let mut several = Vec::new();
                while let Some(place) = places.next_element()? {
                    several.push(place);
                }
                Ok(WrittenListen::Several(several))
            }
        }
        deserializer.deserialize_any(Places)
    }
}

/// The certificates of `tls:` places, as written.
#[derive(Debug, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WrittenTls {
    certificate: PathBuf,
    key: PathBuf,
    client_ca: Option<PathBuf>,
    clients: Option<Spanned<String>>,
    crl: Option<PathBuf>,
}

/// All of it, as written.
#[derive(Debug)]
pub struct WrittenDoor<'a> {
    /// `listen`; the usual place without it.
    pub listen: Option<&'a Spanned<WrittenListen>>,
    /// `listen_plain`.
    pub plain: Option<&'a Spanned<String>>,
    /// Certificates.
    pub tls: Option<&'a WrittenTls>,
    /// What this file calls them: `tls`, or `listen_tls` where `tls` is for something else.
    pub tls_key: &'static str,
    /// Where to listen when nothing is said.
    pub usual: SocketAddr,
}

/// The same, checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Places {
    /// Where to listen.
    pub listen: Vec<Listen>,
    /// Certificates of `tls:` places.
    pub tls: Option<ServerTls>,
}

/// What is wrong with it.
#[derive(Debug, Clone, PartialEq)]
pub struct SettingFault {
    /// Where it stands.
    pub at: Location,
    /// The key, as `listen[1]`.
    pub key: String,
    /// What stands there.
    pub found: String,
    /// What is allowed.
    pub hint: String,
}

impl WrittenDoor<'_> {
    /// Checks it; paths begin at `folder`.
    ///
    /// # Errors
    /// Every fault.
    pub fn check(&self, folder: &Path) -> Result<Places, Vec<SettingFault>> {
        let mut checker = Checker { written: self, folder, faults: Vec::new() };
        let tls = self.tls.map(|tls| checker.tls(tls));
        let listen = checker.listen();
        if checker.faults.is_empty() { Ok(Places { listen, tls }) } else { Err(checker.faults) }
    }
}

struct Checker<'a> {
    written: &'a WrittenDoor<'a>,
    folder: &'a Path,
    faults: Vec<SettingFault>,
}

impl Checker<'_> {
    fn fault(&mut self, at: Location, key: String, found: String, hint: &str) {
        self.faults.push(SettingFault { at, key, found, hint: hint.to_owned() });
    }

    fn listen(&mut self) -> Vec<Listen> {
        let plain_is_allowed = self.plain_is_allowed();
        let Some(listen) = self.written.listen else { return vec![Listen::Tcp(self.written.usual)] };
        let mut places = Vec::new();
        match &listen.value {
            WrittenListen::One(text) => {
                self.take(&mut places, text, listen.referenced, "listen".to_owned(), plain_is_allowed);
            }
            WrittenListen::Several(list) if list.is_empty() => {
                let hint = "for example [\"tcp:127.0.0.1:7460\"]";
                self.fault(listen.referenced, "listen".to_owned(), "nowhere to listen".to_owned(), hint);
            }
            WrittenListen::Several(list) => {
                for (number, text) in list.iter().enumerate() {
                    self.take(&mut places, &text.value, text.referenced, format!("listen[{number}]"), plain_is_allowed);
                }
            }
        }
        places
    }

    fn plain_is_allowed(&mut self) -> bool {
        let Some(word) = self.written.plain else { return false };
        if word.value != "allowed" {
            let hint = "the only word is `allowed`; without it plain ports are local";
            self.fault(word.referenced, "listen_plain".to_owned(), format!("`{}`", word.value), hint);
        }
        word.value == "allowed"
    }

    /// One place more, or a fault.
    fn take(&mut self, places: &mut Vec<Listen>, text: &str, at: Location, key: String, plain_is_allowed: bool) {
        let tls = self.written.tls_key;
        let (found, hint) = match self.place(text) {
            Err(reason) => (format!("`{text}`: {reason}"), PLACES.to_owned()),
            Ok(place) if places.contains(&place) => (format!("`{text}` stands here twice"), "remove one".to_owned()),
            Ok(place) if place.is_open() && !plain_is_allowed => (
                format!("`{text}` can be reached from other machines without TLS"),
                format!(
                    "write `tls:` instead of `tcp:`, with certificates under `{tls}`; or, behind a proxy or a firewall that you \
                     trust, `listen_plain: allowed`"
                ),
            ),
            Ok(Listen::Tls(_)) if self.written.tls.is_none() => {
                (format!("`{text}` without certificates"), format!("write `{tls}: {{certificate: …, key: …}}` too"))
            }
            Ok(place) => return places.push(place),
        };
        self.fault(at, key, found, &hint);
    }

    fn place(&self, text: &str) -> Result<Listen, &'static str> {
        match text.split_once(':') {
            Some(("unix", "")) => Err("the path is missing"),
            Some(("unix", path)) => match self.folder.join(path) {
                path if path.as_os_str().len() > SOCKET_PATH_BYTES_MAX => {
                    Err("the path of a socket has at most 107 bytes")
                }
                path => Ok(Listen::Unix(path)),
            },
            Some(("tcp", place)) => address(place).map(Listen::Tcp),
            Some(("tls", place)) => address(place).map(Listen::Tls),
            _ => Err("it begins with none of `unix:`, `tcp:` and `tls:`"),
        }
    }

    fn tls(&mut self, written: &WrittenTls) -> ServerTls {
        let file = |path: &PathBuf| self.folder.join(path);
        ServerTls {
            certificate: file(&written.certificate),
            key: file(&written.key),
            client_ca: written.client_ca.as_ref().map(file),
            crl: written.crl.as_ref().map(file),
            is_optional: self.clients_are_optional(written),
        }
    }

    fn clients_are_optional(&mut self, written: &WrittenTls) -> bool {
        let Some(word) = &written.clients else { return false };
        let (found, hint) = match word.value.as_str() {
            "optional" => return true,
            "required" if written.client_ca.is_some() => return false,
            "required" => {
                ("clients need a certificate, and no authority is named".to_owned(), "write `client_ca: FILE` too")
            }
            found => (format!("`{found}`"), "`required` or `optional`"),
        };
        self.fault(word.referenced, format!("{}.clients", self.written.tls_key), found, hint);
        false
    }
}

/// Names are not looked up: what a name means may change, and with it who can reach us. This machine's own is the same everywhere.
fn address(text: &str) -> Result<SocketAddr, &'static str> {
    let local = text.strip_prefix("localhost:").and_then(|port| port.parse().ok());
    match local {
        Some(port) => Ok((Ipv4Addr::LOCALHOST, port).into()),
        None => text.parse().map_err(|_| "an address and a port are needed, not a name"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, serde::Deserialize)]
    struct File {
        listen: Option<Spanned<WrittenListen>>,
        listen_plain: Option<Spanned<String>>,
        listen_tls: Option<WrittenTls>,
    }

    fn check(text: &str) -> Result<Places, Vec<SettingFault>> {
        let file: File = serde_saphyr::from_str(text).unwrap();
        let door = WrittenDoor {
            listen: file.listen.as_ref(),
            plain: file.listen_plain.as_ref(),
            tls: file.listen_tls.as_ref(),
            tls_key: "listen_tls",
            usual: ([127, 0, 0, 1], 7460).into(),
        };
        door.check(Path::new("/etc/plant"))
    }

    #[test]
    fn one_place_a_list_or_the_usual() {
        assert_eq!(check("a: 1").unwrap().listen, [Listen::Tcp(([127, 0, 0, 1], 7460).into())]);
        assert_eq!(check("listen: unix:a.sock").unwrap().listen, [Listen::Unix("/etc/plant/a.sock".into())]);
        let text = "listen: [tcp:localhost:1, \"tls:[::]:2\"]\nlisten_tls: {certificate: a.pem, key: /k/a.key, client_ca: ca.pem}";
        let places = check(text).unwrap();
        assert_eq!(places.listen, [Listen::Tcp(([127, 0, 0, 1], 1).into()), Listen::Tls("[::]:2".parse().unwrap())]);
        let tls = places.tls.unwrap();
        assert_eq!((tls.certificate, tls.key), ("/etc/plant/a.pem".into(), "/k/a.key".into()));
        assert_eq!((tls.client_ca, tls.is_optional), (Some("/etc/plant/ca.pem".into()), false));
        assert!(check("listen: tcp:0.0.0.0:1\nlisten_plain: allowed").is_ok());
    }

    #[test]
    fn each_slip_has_its_line_and_key() {
        let files = "certificate: a.pem, key: a.key";
        for (text, line, key, found) in [
            ("\nlisten: tcp:10.0.0.5:1", 2, "listen", "without TLS"),
            ("listen:\n  - unix:a\n  - tls:0.0.0.0:1", 3, "listen[1]", "without certificates"),
            ("listen: [unix:a, unix:a]", 1, "listen[1]", "twice"),
            ("listen: []", 1, "listen", "nowhere"),
            ("listen: http:1", 1, "listen", "begins with none"),
            ("listen: tcp:plant:1", 1, "listen", "not a name"),
            ("listen: 'unix:'", 1, "listen", "missing"),
            ("a: 1\nlisten_plain: yes", 2, "listen_plain", "yes"),
            (&format!("listen_tls: {{{files}, clients: required}}"), 1, "listen_tls.clients", "no authority"),
            (&format!("listen_tls: {{{files}, clients: some}}"), 1, "listen_tls.clients", "`some`"),
            (&format!("listen: unix:/{}", "x".repeat(107)), 1, "listen", "107 bytes"),
        ] {
            let faults = check(text).unwrap_err();
            assert_eq!((faults.len(), faults[0].at.line(), faults[0].key.as_str()), (1, line, key), "{text}");
            assert!(faults[0].found.contains(found), "{text}: {faults:?}");
        }
    }
}
