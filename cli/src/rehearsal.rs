//! From a mapping to a simulation of it: every point gets a signal that says plausible things within its range, at the place
//! and in the form in which the mapping looks for it. Everything in a mapping can so be rehearsed on a laptop.
//!
//! What is elsewhere in the mapping (another host, a serial line under `/dev`) is simulated here; [`Rehearsal::moved`] says
//! where, and [`moved_mapping`] writes it into a copy of the mapping.

mod copy;
mod nodes;
mod places;
mod signals;

pub use copy::moved_mapping;

use places::Places;
use std::fmt::Write;
use std::path::Path;
use tally_mappings::Plant;
use tally_model::{DeviceId, DeviceSpec, Endpoint, ModbusLine, Secret};

/// A simulation of a plant.
pub struct Rehearsal {
    /// A simulator file.
    pub yaml: String,
    /// Devices that are simulated at another place than the mapping has them, and where.
    pub moved: Vec<(DeviceId, Endpoint)>,
    /// What the simulation cannot do like the real thing, for people.
    pub notes: Vec<String>,
}

/// What is chosen about a simulation.
pub struct Options<'o> {
    /// Where serial lines are linked unless the mapping has them outside `/dev`.
    pub folder: &'o Path,
    /// Whether its servers keep their certificates from run to run, beside the simulator file.
    pub keeps_certificates: bool,
    /// How a password is written into the simulator file: as it is, or as `env:NAME`.
    pub passwords: &'o dyn Fn(&Secret) -> String,
}

/// Makes a simulation of `plant`.
#[must_use]
pub fn rehearsal(plant: &Plant, options: &Options<'_>) -> Rehearsal {
    let mut rehearsal = Rehearsal { yaml: head(plant), moved: Vec::new(), notes: Vec::new() };
    let mut places = Places::new(options.folder);
    let served: Vec<(&DeviceSpec, Endpoint)> = plant
        .devices
        .iter()
        .filter_map(|device| match places.of(&device.endpoint) {
            Some(place) => Some((device, place)),
            None => {
                rehearsal.notes.push(format!("{} is a recording already, nothing is simulated for it", device.id));
                None
            }
        })
        .collect();
    if let Some(port) = broker(&served) {
        // A broker that runs already is told by the port being taken.
        let _ = writeln!(rehearsal.yaml, "broker: {port}          # remove this line when a broker runs there already");
    }
    rehearsal.yaml.push_str("devices:\n");
    for (device, place) in served {
        rehearsal.device(device, &place, options);
        if place != device.endpoint {
            rehearsal.moved.push((device.id.clone(), place));
        }
    }
    rehearsal.notes.extend(plant.rules.iter().filter_map(|rule| {
        rule.source().checks.as_ref()?.identity.as_ref()?;
        Some(format!(
            "{}: the simulated device calls itself what its key `identity` says, not what the mapping checks; its evidence is contradicted",
            rule.source().id
        ))
    }));
    rehearsal
}

/// Longest history the simulator keeps: a week.
const HISTORY_SECONDS_MAX: u64 = 7 * 86_400;

fn head(plant: &Plant) -> String {
    format!(
        "# A simulation of the mapping `{}`: every point has a signal within its range. Change what you like: the manual is\n\
         # docs/operator/simulator.md, and `faults:` makes things go wrong.\n",
        plant.name
    )
}

/// The port of the first MQTT device's broker, when it is on this computer. Devices of another port need a broker of their own.
fn broker(served: &[(&DeviceSpec, Endpoint)]) -> Option<u16> {
    served.iter().find_map(|(_, place)| match place {
        Endpoint::Mqtt(broker) => Some(broker.port),
        _ => None,
    })
}

impl Rehearsal {
    fn device(&mut self, device: &DeviceSpec, place: &Endpoint, options: &Options<'_>) {
        let mut lines = format!("  - id: {}\n    serve: {}\n", device.id, quoted(&place.to_string()));
        if *place != device.endpoint {
            let _ = writeln!(lines, "    # In the mapping it is at {}", device.endpoint);
        }
        if let Endpoint::Mqtt(_) = place {
            // Nobody wants to wait ten seconds for a rehearsal to begin.
            let _ = writeln!(lines, "    every: {}ms", device.every.as_millis().clamp(1, 1_000));
        }
        if let (Endpoint::OpcUa { .. }, Some(user), Some(password)) =
            (place, &device.security.user, &device.security.password)
        {
            let _ = writeln!(lines, "    users: {{{}: {}}}", quoted(user), quoted(&(options.passwords)(password)));
        }
        if let Endpoint::OpcUa { .. } = place {
            lines.push_str(&self.opcua(device));
        }
        let has_certificates =
            matches!(place, Endpoint::Modbus { line: ModbusLine::Tls { .. }, .. } | Endpoint::OpcUa { .. });
        if has_certificates && options.keeps_certificates {
            let _ = writeln!(lines, "    pki: {}", quoted(&format!("simulated-pki/{}", device.id)));
        }
        self.note(device, place);
        lines.push_str("    signals:\n");
        let (signals, notes) = signals::of(device);
        lines.push_str(&signals);
        self.notes.extend(notes);
        self.yaml.push_str(&lines);
    }
}

impl Rehearsal {
    /// What a rehearsal of this device is not.
    fn note(&mut self, device: &DeviceSpec, place: &Endpoint) {
        if let Endpoint::Modbus { line: ModbusLine::Tls { .. }, .. } = place {
            self.notes.push(format!(
                "{} is served with certificates of its own: write `security: {{ca: ca.pem, certificate: client.pem, key: \
                 client.key}}` with the files of the folder that the simulator names when it is ready",
                device.id
            ));
        }
        if let Endpoint::Mqtt(broker) = &device.endpoint
            && broker.is_tls
        {
            self.notes.push(format!(
                "{} is simulated without TLS: a rehearsal has no certificates of your broker",
                device.id
            ));
        }
        if !device.templates.is_empty() {
            self.notes.push(format!(
                "{}: topics with wildcards are not simulated, only what has a place of its own",
                device.id
            ));
        }
    }

    /// What the mapping needs of the server beyond its values: a history, a policy that is not offered by itself.
    fn opcua(&mut self, device: &DeviceSpec) -> String {
        let mut keys = Vec::new();
        if let Some(history) = device.opcua.history {
            keys.push(format!("history: {}s", history.as_secs().clamp(1, HISTORY_SECONDS_MAX)));
        }
        let policy = device.security.policy;
        if policy.is_deprecated() {
            keys.push(format!("policies: [{}]", policy.word()));
        }
        if device.security.user_certificate.is_some() {
            self.notes.push(format!(
                "{} is simulated without users by certificate: write `opcua: {{user_certificates: {{NAME: FILE}}}}`",
                device.id
            ));
        }
        if keys.is_empty() { String::new() } else { format!("    opcua: {{{}}}\n", keys.join(", ")) }
    }
}

/// A YAML scalar that means exactly this text: every JSON string is one.
fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

/// A password as the mapping has it: `env:NAME` when `text` names a variable with that value, else the password itself.
#[must_use]
pub fn password_as_written(password: &Secret, text: &str, variable: &dyn Fn(&str) -> Option<String>) -> String {
    let names = text.split("env:").skip(1).map(|rest| {
        let end = rest.find(|c: char| !(c.is_ascii_alphanumeric() || c == '_')).unwrap_or(rest.len());
        rest.get(..end).unwrap_or_default()
    });
    let mut known = names.filter(|name| variable(name).is_some_and(|value| value == password.reveal()));
    known.next().map_or_else(|| password.reveal().to_owned(), |name| format!("env:{name}"))
}
