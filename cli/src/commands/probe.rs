//! `tally probe URL AT…`: what a live Modbus device says, as every type in every order side by side.

use crate::answer::{Answer, Context, Fault, print_json};
use crate::shutdown::runtime;
use clap::Args;
use serde_json::{Value as Json, json};
use std::path::PathBuf;
use tally_connector_api::LinkFault;
use tally_connector_modbus::{Identification, Readings, Session, identity, readings, texts};
use tally_model::{Address, AddressBase, Endpoint, ModbusTable, Outcome, Tls, parse_duration};

/// Arguments of `probe`.
#[derive(Debug, Args)]
#[command(after_help = "\
It reads only. Examples:
  tally probe modbus+tcp://10.0.0.7?unit=1 holding:16
  tally probe 'modbus+rtu:///dev/ttyUSB0?baud=9600&parity=none&unit=3' 40017 30001 coil:0
  tally probe modbus+tls://10.0.0.7 holding:16 --ca plant-ca.pem --certificate us.pem --key us.key")]
pub struct ProbeArgs {
    /// Where it is, as `connect:` in a mapping
    #[arg(value_name = "URL")]
    pub url: String,
    /// What to read, as `at:` in a mapping: `holding:16`, `HR16`, `40017`, `4x17`, `coil:0`
    #[arg(value_name = "AT")]
    pub at: Vec<String>,
    /// Registers or bits to read from each; fewer where the device has no more
    #[arg(long, value_name = "N", default_value_t = 4, value_parser = clap::value_parser!(u16).range(1..=125))]
    pub count: u16,
    /// Numbers behind `holding:` and `HR` begin with 1, not with 0
    #[arg(long)]
    pub from_one: bool,
    /// How long an answer may take
    #[arg(long, value_name = "TIME", default_value = "2s")]
    pub timeout: String,
    /// TLS: certificates of the authorities that may have signed the device's
    #[arg(long, value_name = "FILE")]
    pub ca: Option<PathBuf>,
    /// TLS: SHA-256 of the device's own certificate
    #[arg(long, value_name = "SHA256", conflicts_with = "ca")]
    pub pin: Option<String>,
    /// TLS: our certificate
    #[arg(long, value_name = "FILE", requires = "key")]
    pub certificate: Option<PathBuf>,
    /// TLS: the key of our certificate
    #[arg(long, value_name = "FILE", requires = "certificate")]
    pub key: Option<PathBuf>,
}

/// Names of identification objects (Modbus Application Protocol V1.1b3 §6.21).
const OBJECTS: [&str; 7] =
    ["vendor", "product code", "revision", "vendor URL", "product name", "model name", "user application"];

/// What one address says.
struct Probed {
    at: String,
    table: ModbusTable,
    words: Result<Vec<u16>, LinkFault>,
}

/// Answers no when any of the addresses could not be read.
pub fn run(args: &ProbeArgs, json: bool) -> Result<Answer, Fault> {
    let Endpoint::Modbus { line, unit } = Endpoint::parse(&args.url)? else {
        return Err(format!("`{}` is not Modbus; `tally probe` looks at Modbus devices", args.url).into());
    };
    let base = if args.from_one { AddressBase::One } else { AddressBase::Zero };
    let places = args.at.iter().map(|at| place(at, base)).collect::<Result<Vec<_>, _>>()?;
    let timeout = parse_duration(&args.timeout).context("--timeout")?;
    let tls = Tls {
        ca: args.ca.clone(),
        pin: args.pin.clone(),
        certificate: args.certificate.clone(),
        key: args.key.clone(),
    };
    let mut session = Session::new(&line, unit, &tls, timeout)?;
    let (objects, probed) = runtime()?.block_on(async {
        let mut probed = Vec::with_capacity(places.len());
        for (table, start) in places {
            // Some devices hang up at a function they do not know: what was asked for comes first.
            probed.push(read(&mut session, table, start, args.count).await);
        }
        (session.identify().await, probed)
    });
    if json {
        print_json(&json!({
            "device": args.url,
            "identification": as_json(objects.as_ref(), |objects| json!(objects)),
            "identity": objects.as_ref().ok().and_then(identity),
            "addresses": probed.iter().map(address_json).collect::<Vec<_>>(),
        }))?;
    } else {
        println!("{}", identity_text(&objects));
        if let Some(text) = objects.as_ref().ok().and_then(identity) {
            println!("in a mapping     checks: {{identity: {text:?}}}");
        }
        probed.iter().for_each(|probed| println!("\n{}", address_text(probed)));
    }
    let all_read = probed.iter().all(|probed| probed.words.is_ok());
    Ok(Answer::from(all_read && (!args.at.is_empty() || objects.is_ok())))
}

fn place(at: &str, base: AddressBase) -> Result<(ModbusTable, u16), Fault> {
    match Address::parse_modbus_from(at, base)? {
        Address::Modbus { table, offset, .. } => Ok((table, offset)),
        other => Err(format!("`{other}` is not a Modbus address").into()),
    }
}

/// Fewer than `count` where the table ends, or where the device refuses the rest.
async fn read(session: &mut Session, table: ModbusTable, start: u16, count: u16) -> Probed {
    let at = Address::Modbus { table, offset: start, bit: None }.to_string();
    let room = u16::MAX - start;
    let mut count = if room < count { room.saturating_add(1) } else { count };
    loop {
        let words = session.read(table, start, count).await;
        match words {
            Err(LinkFault::Refused(_)) if count > 1 => count /= 2,
            words => return Probed { at, table, words },
        }
    }
}

fn identity_text(objects: &Result<Identification, LinkFault>) -> String {
    match objects {
        Err(fault) => format!("does not say what it is ({fault})"),
        Ok(objects) if objects.is_empty() => "says nothing about itself".to_owned(),
        Ok(objects) => {
            let name =
                |id: u8| OBJECTS.get(usize::from(id)).map_or_else(|| format!("object {id}"), |&name| name.into());
            let lines = objects.iter().map(|(id, text)| format!("{:<16} {}", name(*id), printable(text)));
            lines.collect::<Vec<_>>().join("\n")
        }
    }
}

fn address_text(probed: &Probed) -> String {
    let Probed { at, table, words } = probed;
    match words {
        Err(fault) => format!("{at}  {fault}"),
        Ok(bits) if table.is_bits() => {
            format!("{at}  {}", bits.iter().map(|bit| if *bit == 0 { "0" } else { "1" }).collect::<Vec<_>>().join(" "))
        }
        Ok(registers) => {
            let tables = readings(registers).iter().map(table_text).collect::<String>();
            let texts = texts(registers).into_iter().map(|(encoding, order, text)| {
                format!("\n  {} {}  \"{}\"", encoding.word(), order.word(), printable(&text))
            });
            format!("{at}  {}{tables}{}", hexadecimal(registers), texts.collect::<String>())
        }
    }
}

/// One width: a line for each order, a column for each type.
fn table_text(readings: &Readings) -> String {
    let head: Vec<String> = readings.types.iter().map(|encoding| encoding.word().to_owned()).collect();
    let lines = readings.lines.iter().map(|line| (line.order.word(), line.values.iter().map(cell).collect()));
    let rows: Vec<(&str, Vec<String>)> = [("", head)].into_iter().chain(lines).collect();
    let columns = rows.iter().map(|(_, cells)| cells.len()).max().unwrap_or(0);
    let width = |column: usize| rows.iter().filter_map(|(_, cells)| cells.get(column)).map(String::len).max();
    let widths: Vec<usize> = (0..columns).map(|column| width(column).unwrap_or(0)).collect();
    let row = |(order, cells): &(&str, Vec<String>)| {
        let cells = cells.iter().zip(&widths).map(|(cell, width)| format!("  {cell:>width$}")).collect::<String>();
        format!("\n  {order:<8}{cells}")
    };
    format!("\n  {}:{}", hexadecimal(&readings.registers), rows.iter().map(row).collect::<String>())
}

/// A number short enough to compare; very large and very small ones with an exponent.
fn cell(outcome: &Outcome) -> String {
    match outcome {
        Err(_) => "-".to_owned(),
        Ok(tally_model::Value::Float(number)) if *number != 0.0 && !(1e-4..1e9).contains(&number.abs()) => {
            format!("{number:.4e}")
        }
        Ok(value) => value.to_string(),
    }
}

fn hexadecimal(registers: &[u16]) -> String {
    registers.iter().map(|word| format!("{word:04x}")).collect::<Vec<_>>().join(" ")
}

fn address_json(probed: &Probed) -> Json {
    let meaning = as_json(probed.words.as_ref(), |words| {
        if probed.table.is_bits() {
            return json!({"bits": words.iter().map(|bit| *bit != 0).collect::<Vec<_>>()});
        }
        let readings = readings(words);
        let values = readings.iter().flat_map(|readings| {
            readings.lines.iter().flat_map(|line| {
                readings.types.iter().zip(&line.values).map(|(encoding, value)| {
                    let reason = value.as_ref().err().map(ToString::to_string);
                    json!({"type": encoding, "order": line.order, "value": value.as_ref().ok(), "no_value": reason})
                })
            })
        });
        let texts = texts(words).into_iter();
        let texts = texts.map(|(encoding, order, text)| json!({"type": encoding, "order": order, "value": text}));
        json!({"registers": words, "values": values.collect::<Vec<_>>(), "texts": texts.collect::<Vec<_>>()})
    });
    json!({"at": probed.at, "found": meaning})
}

fn as_json<T>(found: Result<&T, &LinkFault>, show: impl FnOnce(&T) -> Json) -> Json {
    match found {
        Ok(found) => show(found),
        Err(fault) => json!({"fault": fault.to_string(), "class": fault.class()}),
    }
}

/// A device's own words do not move the cursor.
fn printable(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
}
