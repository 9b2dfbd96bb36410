//! The mapping as text. Pure.

use std::collections::BTreeSet;
use std::fmt::Write;
use tally_connector_opcua::{FoundPoint, Survey};
use tally_mappings::reserved_point;
use tally_model::{DeviceId, OpcUaPolicy, Security, Unit};

/// Longest id of a point.
const ID_MAX: usize = 64;

/// What stands above the points.
pub struct Head<'a> {
    pub device: &'a DeviceId,
    pub url: &'a str,
    pub security: &'a Security,
    pub password_env: Option<&'a str>,
}

/// What servers call units, and their UCUM codes.
const UNITS: [(&str, &str); 14] = [
    ("°C", "Cel"),
    ("°F", "[degF]"),
    ("kWh", "kW.h"),
    ("Wh", "W.h"),
    ("rpm", "/min"),
    ("1/min", "/min"),
    ("min⁻¹", "/min"),
    ("Nm", "N.m"),
    ("l/min", "L/min"),
    ("m³/h", "m3/h"),
    ("m³", "m3"),
    ("m²", "m2"),
    ("°", "deg"),
    ("h", "h"),
];

/// A plant file with one device and every point that was found.
pub fn mapping(head: &Head<'_>, survey: &Survey) -> String {
    let mut text = String::new();
    let _infallible = write_head(&mut text, head, survey);
    let mut taken = BTreeSet::new();
    for point in &survey.points {
        let _infallible = write_point(&mut text, point, &mut taken);
    }
    text
}

fn write_head(text: &mut String, head: &Head<'_>, survey: &Survey) -> std::fmt::Result {
    let Head { device, url, security, password_env } = head;
    writeln!(text, "# Written by `tally browse {url}`: {} nodes looked at.", survey.nodes)?;
    writeln!(text, "# Keep what you need; give ids, units and ranges that your people understand.")?;
    writeln!(text, "plant: browsed\ndevices:\n  - id: {}\n    connect: {}", quoted(device.as_str()), quoted(url))?;
    let mut login = Vec::new();
    if security.policy != OpcUaPolicy::Best {
        login.push(format!("policy: {}", security.policy.word()));
    }
    if security.insecure {
        login.push("insecure: true".to_owned());
    }
    if let (Some(user), Some(variable)) = (&security.user, password_env) {
        login.push(format!("user: {}, password: {}", quoted(user), quoted(&format!("env:{variable}"))));
    }
    if !login.is_empty() {
        writeln!(text, "    security: {{{}}}", login.join(", "))?;
    }
    writeln!(text, "    every: 1s\n    points:")
}

fn write_point(text: &mut String, point: &FoundPoint, taken: &mut BTreeSet<String>) -> std::fmt::Result {
    write!(text, "      - {{id: {}, at: {}", id(&point.path, taken), quoted(&point.address))?;
    if let Some(encoding) = point.kind.as_deref().and_then(encoding) {
        write!(text, ", type: {encoding}")?;
    }
    match point.unit.as_deref().map(|unit| (unit, ucum(unit))) {
        Some((_, Some(code))) => writeln!(text, ", unit: {}}}", quoted(&code)),
        Some((unit, None)) => writeln!(text, "}} # unit on the server: {}", one_line(unit)),
        None => writeln!(text, "}}"),
    }
}

/// A text as YAML reads it back: JSON strings are YAML flow scalars (YAML 1.2 §1.3).
fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

fn one_line(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

/// The whole path, as far as it fits; with a number when somebody else has it already.
fn id(path: &[String], taken: &mut BTreeSet<String>) -> String {
    let plain = |c: char| if c.is_ascii_alphanumeric() { c } else { '_' };
    let whole: String = path.join("_").chars().map(plain).collect();
    // The end says more than the beginning.
    let mut base = whole[whole.len().saturating_sub(ID_MAX - 8)..].trim_matches('_').to_owned();
    if base.is_empty() || base.starts_with(|c: char| c.is_ascii_digit()) {
        base.insert_str(0, "p_");
    }
    if reserved_point(&base).is_some() {
        base.push_str("_value");
    }
    let mut name = base.clone();
    let mut number = 2_u32;
    while !taken.insert(name.clone()) {
        name = format!("{base}_{number}");
        number += 1;
    }
    name
}

/// The word of a mapping for a built-in type; the others say themselves what they are.
fn encoding(kind: &str) -> Option<&'static str> {
    Some(match kind {
        "Boolean" => "bool",
        "SByte" => "i8",
        "Byte" => "u8",
        "Int16" => "i16",
        "UInt16" => "u16",
        "Int32" => "i32",
        "UInt32" => "u32",
        "Int64" => "i64",
        "UInt64" => "u64",
        "Float" => "f32",
        "Double" => "f64",
        "String" | "LocalizedText" | "DateTime" => "text",
        _ => return None,
    })
}

/// The UCUM code of what the server calls its unit, when it is known or is one already.
fn ucum(unit: &str) -> Option<String> {
    let known = UNITS.into_iter().find(|(name, _)| *name == unit).map(|(_, code)| code);
    Unit::try_new(known.unwrap_or(unit)).ok().map(|unit| unit.as_str().to_owned())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn point(path: &[&str], address: &str, kind: &str, unit: Option<&str>) -> FoundPoint {
        FoundPoint {
            path: path.iter().map(|&name| name.to_owned()).collect(),
            address: address.to_owned(),
            kind: Some(kind.to_owned()),
            unit: unit.map(str::to_owned),
        }
    }

    #[test]
    fn the_mapping_written_is_a_mapping_that_can_be_read() {
        let long = "x".repeat(200);
        let points = vec![
            point(&["Spindle", "Load"], "nsu=urn:cnc;s=Spindle.Load", "Double", Some("°C")),
            point(&["Spindle.Load"], "nsu=urn:cnc;s=\"DB\".\"a b\"", "Int16", Some("splines per fortnight")),
            point(&["Spindle", "Axis", "1"], "nsu=urn:cnc;s=Axis#/1", "Float", None),
            point(&["3D", "Größe"], "nsu=http://x/y;i=7", "Boolean", None),
            point(&["status"], "nsu=urn:cnc;g=72962B91-FA75-4AE6-8D28-B404DC7DAF63", "Guid", None),
            point(&[&long, &long], "ns=3;s=back\\slash # and {brace}", "String", None),
            point(&["…"], "nsu=urn:cnc;s=a\nb", "UInt64", None),
        ];
        let survey = Survey { points, nodes: 12, is_cut: false };
        let device = DeviceId::try_new("cnc-02").unwrap();
        let security = Security { policy: OpcUaPolicy::None, user: Some("op: x".into()), ..Security::default() };
        let head = Head { device: &device, url: "opc.tcp://h:4840/a", security: &security, password_env: Some("PW") };
        let text = mapping(&head, &survey);
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("browsed.yaml");
        std::fs::write(&file, &text).unwrap();
        let plant =
            tally_mappings::load(&file, &|_| Some("secret".into())).map_err(|faults| format!("{faults}\n{text}"));
        let plant = plant.unwrap();
        let read = &plant.devices[0].points;
        assert_eq!(read.len(), survey.points.len());
        for (read, found) in read.iter().zip(&survey.points) {
            assert_eq!(read.address.to_string(), found.address);
        }
        assert_eq!((read[0].id.as_str(), read[0].unit.as_str()), ("Spindle_Load", "Cel"));
        assert_eq!(read[1].id.as_str(), "Spindle_Load_2");
        assert_eq!(plant.devices[0].security.user.as_deref(), Some("op: x"));
    }
}
