//! Flags that several commands share, so that they mean the same everywhere.

use crate::answer::{Context, Fault};
use crate::commands::keys::open_key;
use clap::{Args, ValueEnum};
use std::path::PathBuf;
use tally_evidence::SealingKey;
use tally_ledger_client::{Access, Client, NodeAddress, Timeouts, read_token};
use tally_model::{PartyId, Tls};

/// How to reach the node; the same in every command.
#[derive(Debug, Clone, Args)]
pub struct NodeFlag {
    /// The ledger node: unix:/path/to/socket, tcp:host:port, or with TLS tls:host:port
    #[arg(long, global = true, value_name = "ADDRESS", env = "TALLY_NODE", value_parser = address, default_value = "unix:/run/tallystick/node.sock")]
    pub node: NodeAddress,
    /// Who we are.
    #[command(flatten)]
    pub shown: AccessFlags,
}

/// How we show a node or an agent who we are; the same in every command.
#[derive(Debug, Clone, Default, Args)]
pub struct AccessFlags {
    /// TLS: certificates of the authorities that may have signed the other side's (PEM)
    #[arg(
        long,
        global = true,
        value_name = "FILE",
        env = "TALLY_CA",
        help_heading = "Reaching node or agent over TLS"
    )]
    pub ca: Option<PathBuf>,
    /// TLS: our certificate with its chain (PEM)
    #[arg(
        long,
        global = true,
        value_name = "FILE",
        env = "TALLY_CERT",
        help_heading = "Reaching node or agent over TLS"
    )]
    pub cert: Option<PathBuf>,
    /// TLS: the key of --cert; without it, the file of --cert with the ending `.key`
    #[arg(
        long,
        global = true,
        value_name = "FILE",
        env = "TALLY_CERT_KEY",
        help_heading = "Reaching node or agent over TLS"
    )]
    pub cert_key: Option<PathBuf>,
    /// A file with our token, as `tally token add` showed it (mode 0600)
    #[arg(
        long,
        global = true,
        value_name = "FILE",
        env = "TALLY_TOKEN_FILE",
        help_heading = "Reaching node or agent over TLS"
    )]
    pub token: Option<PathBuf>,
}

impl AccessFlags {
    /// The file with the key of our certificate, when we have one.
    pub fn key_file(&self) -> Option<PathBuf> {
        self.cert.as_ref().map(|cert| self.cert_key.clone().unwrap_or_else(|| cert.with_extension("key")))
    }

    /// What a client brings along.
    ///
    /// # Errors
    /// When a file cannot be used.
    pub fn access(&self) -> Result<Access, Fault> {
        let key = self.key_file();
        if let Some(key) = &key {
            tally_tls::private_key(key)?;
        }
        let tls = Tls { ca: self.ca.clone(), pin: None, certificate: self.cert.clone(), key };
        let token = self.token.as_deref().map(read_token).transpose()?;
        Ok(Access { tls, token })
    }
}

impl NodeFlag {
    /// A client of the node, with the usual times.
    ///
    /// # Errors
    /// When a file cannot be used.
    pub fn client(&self) -> Result<Client, Fault> {
        self.client_with(Timeouts::default())
    }

    /// The same with other times.
    ///
    /// # Errors
    /// When a file cannot be used.
    pub fn client_with(&self, timeouts: Timeouts) -> Result<Client, Fault> {
        Ok(Client::with_timeouts(self.node.clone(), timeouts).with_access(self.shown.access()?))
    }
}

/// Where the agent is; the same in every command.
#[derive(Debug, Clone, Args)]
pub struct AgentFlag {
    /// The agent: unix:/path/to/socket, tcp:host:port, or with TLS tls:host:port
    #[arg(long, value_name = "ADDRESS", env = "TALLY_AGENT", value_parser = address, default_value = "unix:/run/tallystick/agent.sock")]
    pub agent: NodeAddress,
}

impl AgentFlag {
    /// A client of the agent, with the usual times.
    ///
    /// # Errors
    /// When a file cannot be used.
    pub fn client(&self, shown: &AccessFlags) -> Result<Client, Fault> {
        self.client_with(shown, Timeouts::default())
    }

    /// The same with other times. A token is for the node; the agent takes certificates only.
    ///
    /// # Errors
    /// When a file cannot be used.
    pub fn client_with(&self, shown: &AccessFlags, timeouts: Timeouts) -> Result<Client, Fault> {
        let client = Client::with_timeouts(self.agent.clone(), timeouts);
        match &self.agent {
            NodeAddress::Tls { .. } => Ok(client.with_access(Access { token: None, ..shown.access()? })),
            _ => Ok(client),
        }
    }
}

/// Who asks, and whom; the same in every command that seals a call.
#[derive(Debug, Clone, Args)]
pub struct CallerFlags {
    /// Who is asking
    #[arg(id = "as", long = "as", value_name = "PARTY")]
    pub party: String,
    /// Key of that party: a file (PKCS#8 PEM, mode 0600), or in a PKCS#11 token (pkcs11:token=…;object=…?module-path=…&pin-source=…)
    #[arg(long, value_name = "FILE|URI")]
    pub key: PathBuf,
    /// The node.
    #[command(flatten)]
    pub node: NodeFlag,
}

impl CallerFlags {
    /// Who seals, and with what.
    ///
    /// # Errors
    /// When the key cannot be read, or the name is none.
    pub fn signer(&self) -> Result<(PartyId, SealingKey), Fault> {
        let key = open_key(&self.key)?;
        Ok((PartyId::try_new(&self.party).context("--as")?, key))
    }

    /// A client of the node.
    ///
    /// # Errors
    /// When a file cannot be used.
    pub fn client(&self) -> Result<Client, Fault> {
        self.node.client()
    }
}

/// An address as people type it: the path of a socket may be relative to the current folder.
pub fn address(text: &str) -> Result<NodeAddress, String> {
    let absolute = match text.strip_prefix("unix:") {
        Some(path) if !path.starts_with('/') => {
            let path = std::path::absolute(path).map_err(|fault| format!("{path}: {fault}"))?;
            format!("unix:{}", path.display())
        }
        _ => text.to_owned(),
    };
    absolute.parse().map_err(|fault: tally_ledger_client::AddressFault| fault.to_string())
}

/// How an evidence, coverage or field file is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum FileForm {
    /// The small one, which all programs read
    Cbor,
    /// The same bytes in JSON, with what they say beside them (docs/formats/evidence-json.md)
    Json,
}
