//! `tally enrol`: a key made here, its certificate from the plant's authority.

use crate::answer::{Answer, Context, Fault};
use crate::flags::address;
use crate::shutdown::runtime;
use clap::Args;
use std::path::PathBuf;
use tally_ca::{Request, enrol, reenrol, write_new};
use tally_ledger_client::{Access, Client, NodeAddress, read_token};
use tally_model::Tls;

/// Arguments of `enrol`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  tally enrol agent-01 --at tls:ca.plant:7480 --ca ca.pem --code agent-01.code -o tls
                              makes tls/agent-01.key here (it never leaves) and has tls/agent-01.pem signed
  tally enrol agent-01 --at tls:ca.plant:7480 --ca ca.pem --renew -o tls
                              the same key, a new certificate; shows the old one, needs no code. For a timer
  tally enrol agent-01 --csr -o tls
                              only the key and tls/agent-01.csr, for an authority that is asked by other means
Any server that speaks EST (RFC 7030) will do, not only `tally ca serve`.")]
pub struct EnrolArgs {
    /// The name to be certified, such as the agent's
    #[arg(value_name = "NAME")]
    pub name: String,
    /// The enrolment server
    #[arg(long, value_name = "tls:HOST:PORT", value_parser = address, required_unless_present = "csr")]
    pub at: Option<NodeAddress>,
    /// TLS: certificates of the authorities that may have signed the server's (PEM)
    #[arg(long, value_name = "FILE", env = "TALLY_CA")]
    pub ca: Option<PathBuf>,
    /// TLS: SHA-256 of the server's own certificate, when its authority is not known yet
    #[arg(long, value_name = "SHA256", conflicts_with = "ca")]
    pub pin: Option<String>,
    /// A file with the code of `tally ca invite` (mode 0600)
    #[arg(long, value_name = "FILE", required_unless_present_any = ["renew", "csr"])]
    pub code: Option<PathBuf>,
    /// Renew the certificate in --output, with its key
    #[arg(long, conflicts_with_all = ["code", "csr"])]
    pub renew: bool,
    /// Only write the request
    #[arg(long)]
    pub csr: bool,
    /// Where NAME.key and NAME.pem go, or are
    #[arg(short, long, value_name = "DIR", default_value = ".")]
    pub output: PathBuf,
}

pub fn run(args: &EnrolArgs) -> Result<Answer, Fault> {
    let file = |ending: &str| args.output.join(format!("{}.{ending}", args.name));
    let (key, certificate) = (file("key"), file("pem"));
    std::fs::create_dir_all(&args.output).context(args.output.display())?;
    let names = [args.name.clone()];
    let request = if key.exists() {
        // Also one that was left by an enrolment that did not get through.
        Request::of_key(&tally_keys::read_secret(&key)?, &names)?
    } else if args.renew {
        return Err(format!("{} is not there: enrol first, with --code", key.display()).into());
    } else {
        let request = Request::new(&names)?;
        write_new(&key, 0o600, &request.key_pem())?;
        request
    };
    if args.csr {
        write_new(&file("csr"), 0o644, &tally_ca::pem("CERTIFICATE REQUEST", request.der()))?;
        return Ok(Answer::Yes);
    }
    let Some(at) = &args.at else { return Err("--at says where the enrolment server is".into()) };
    if !args.renew && certificate.exists() {
        return Err(format!("{} exists; --renew replaces it", certificate.display()).into());
    }
    let own = args.renew.then(|| (certificate.clone(), key.clone()));
    let (shown, its_key) = own.map_or((None, None), |(certificate, key)| (Some(certificate), Some(key)));
    let tls = Tls { ca: args.ca.clone(), pin: args.pin.clone(), certificate: shown, key: its_key };
    let token = args.code.as_deref().map(read_token).transpose()?;
    let client = Client::new(at.clone()).with_access(Access { tls, token });
    let der = runtime()?.block_on(async {
        if args.renew { reenrol(&client, &request).await } else { enrol(&client, &request).await }
    })?;
    tally_ca::replace(&certificate, 0o644, &tally_ca::pem("CERTIFICATE", &der))?;
    let until = tally_tls::Expiring::read(&certificate)?;
    println!(
        "{}: {}, {} days left",
        certificate.display(),
        until.subject,
        until.left(super::token::unix_now()) / 86_400
    );
    Ok(Answer::Yes)
}
