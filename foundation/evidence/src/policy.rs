//! The policy: what the owner of devices allows others to do with them. CDDL: `docs/formats/permit.cddl`.
//!
//! A policy without permissions (nobody in `who`, or no points) is the way to say that nothing is allowed any more.

use crate::cbor::{self, Cbor, CborFault, Fields, int, map, text};
use crate::permit::{ADDRESS_BYTES_MAX, Right, fault, right};
use std::collections::BTreeMap;
use std::time::Duration;
use tally_model::{DeviceId, PartyId, PointId, PolicyId, Timestamp, Value};

/// Most devices, clauses or points of one policy.
pub const POLICY_ITEMS_MAX: usize = 64;
/// Most permits within the period of a rate.
pub const RATE_MAX: u64 = 1_000;
/// Longest life of a permit: a day. What is allowed longer is asked for again.
pub const LASTS_MAX: Duration = Duration::from_secs(24 * 3600);
/// Longest name of a sender of commands, in bytes.
pub const SENDER_BYTES_MAX: usize = 256;
/// Minutes of a day.
const DAY: u16 = 24 * 60;

/// Whom a policy means. All that is said must hold; one clause suffices.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Who {
    /// This party.
    pub party: Option<PartyId>,
    /// Everybody of this firm, and the firm itself.
    pub firm: Option<PartyId>,
    /// Everybody with this skill (the role attribute of a person's registration).
    pub skill: Option<String>,
    /// A sender of commands that has no key of its own, as the device's agent names it (`mqtt:hmi-3`). A clause with it means
    /// requests that the agent makes for this sender, and no others; a clause without it means none of those.
    pub sender: Option<String>,
}

/// What is allowed on a point.
#[derive(Debug, Clone, PartialEq)]
pub struct Allowed {
    /// Where the point is, as in the mapping.
    pub address: String,
    /// What may be done.
    pub rights: Vec<Right>,
    /// Lowest and highest number that may be written, both included. Absent: any value.
    pub range: Option<(f64, f64)>,
}

impl Allowed {
    /// Whether the value lies within the range; a text or flag lies in none.
    #[must_use]
    pub fn takes(&self, value: &Value) -> bool {
        let number = if matches!(value, Value::Bool(_)) { None } else { value.as_f64() };
        self.range.is_none_or(|(low, high)| number.is_some_and(|number| low <= number && number <= high))
    }
}

/// What an owner allows.
#[derive(Debug, Clone, PartialEq)]
pub struct Policy {
    /// Its name among the owner's policies.
    pub id: PolicyId,
    /// On which devices.
    pub devices: Vec<DeviceId>,
    /// To whom.
    pub who: Vec<Who>,
    /// On which points what.
    pub points: BTreeMap<PointId, Allowed>,
    /// At most so many permits for one requester within so long.
    pub rate: Option<(u64, Duration)>,
    /// Only between these minutes of the day, UTC, the second excluded; over midnight when the first is later. A shift.
    pub hours: Option<(u16, u16)>,
    /// Only on these days, 1 Monday to 7 Sunday (ISO 8601), UTC; a shift over midnight belongs to the day it is asked on.
    pub days: Option<Vec<u8>>,
    /// Not before.
    pub from: Option<Timestamp>,
    /// Not after.
    pub until: Option<Timestamp>,
    /// Longest life of a permit.
    pub lasts: Duration,
}

impl Policy {
    /// The policy's bytes.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut fields = vec![
            ("policy", text(self.id.as_str())),
            ("devices", Cbor::Array(self.devices.iter().map(|device| text(device.as_str())).collect())),
            ("who", Cbor::Array(self.who.iter().map(encode_who).collect())),
            ("points", map(self.points.iter().map(|(point, allowed)| (point.as_str(), encode_allowed(allowed))))),
            ("lasts", int(micros(self.lasts))),
        ];
        let pair = |first: Cbor, second: Cbor| Cbor::Array(vec![first, second]);
        fields.extend(self.rate.map(|(count, period)| ("rate", pair(int(count), int(micros(period))))));
        fields.extend(self.hours.map(|(from, to)| ("hours", pair(int(from), int(to)))));
        let days = self.days.as_ref();
        fields.extend(days.map(|days| ("days", Cbor::Array(days.iter().map(|day| int(*day)).collect()))));
        fields.extend(self.from.map(|from| ("from", int(from.as_micros()))));
        fields.extend(self.until.map(|until| ("until", int(until.as_micros()))));
        cbor::encode(&map(fields))
    }

    /// Reads a policy strictly; what it says makes sense.
    ///
    /// # Errors
    /// [`CborFault`], with what is allowed instead.
    pub fn decode(policy: &[u8]) -> Result<Self, CborFault> {
        let mut fields = Fields::decode(policy)?;
        let time = |value: Option<Cbor>, name| {
            let read = |value| number::<i64>(&value).map(Timestamp::from_micros).ok_or_else(|| fault(name, "µs"));
            value.map(read).transpose()
        };
        let policy = Self {
            id: fields.parse("policy", "a policy id")?,
            devices: few(fields.array("devices")?, "devices", |id| id.as_text()?.parse().ok())?,
            who: few(fields.array("who")?, "who", |who| decode_who(who.clone()).ok())?,
            points: decode_points(fields.fields("points")?)?,
            rate: fields.take("rate").map(|rate| decode_rate(&rate)).transpose()?,
            hours: fields.take("hours").map(|hours| decode_hours(&hours)).transpose()?,
            days: fields.take("days").map(|days| decode_days(&days)).transpose()?,
            from: time(fields.take("from"), "from")?,
            until: time(fields.take("until"), "until")?,
            lasts: decode_lasts(fields.int("lasts")?)?,
        };
        fields.finish()?;
        Ok(policy)
    }

    /// Whether it allows nothing: to nobody, on no device, or no right.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.devices.is_empty() || self.who.is_empty() || self.points.values().all(|allowed| allowed.rights.is_empty())
    }

    /// Until when the shift around `now` lasts; `None` outside of it. A policy without hours and days has no shift: `Some` far
    /// future.
    #[must_use]
    pub fn shift_end(&self, now: Timestamp) -> Option<Timestamp> {
        const MINUTE: i64 = 60_000_000;
        const DAY_MICROS: i64 = DAY as i64 * MINUTE;
        let midnight = now.as_micros().div_euclid(DAY_MICROS).checked_mul(DAY_MICROS)?;
        // 1970-01-01 was a Thursday.
        let weekday = (midnight / DAY_MICROS + 3).rem_euclid(7) + 1;
        if self.days.as_ref().is_some_and(|days| !days.iter().any(|day| i64::from(*day) == weekday)) {
            return None;
        }
        let Some((from, to)) = self.hours else {
            let end = if self.days.is_some() { midnight.saturating_add(DAY_MICROS) } else { i64::MAX };
            return Some(Timestamp::from_micros(end));
        };
        let minute = |minute: u16| midnight.saturating_add(i64::from(minute) * MINUTE);
        let (from, to) = (minute(from), minute(to));
        let at = now.as_micros();
        let end = match from < to {
            true => (from..to).contains(&at).then_some(to),
            false if at >= from => Some(to.saturating_add(DAY_MICROS)),
            false => (at < to).then_some(to),
        };
        end.map(Timestamp::from_micros)
    }
}

/// Whether a text can name a sender of commands: 1 to [`SENDER_BYTES_MAX`] bytes, no control characters.
#[must_use]
pub fn is_sender(name: &str) -> bool {
    !name.is_empty() && name.len() <= SENDER_BYTES_MAX && !name.chars().any(char::is_control)
}

/// State key of an owner's policy.
#[must_use]
pub fn policy_state_key(owner: &PartyId, policy: &PolicyId) -> Vec<u8> {
    [&b"A"[..], owner.as_str().as_bytes(), &[0], policy.as_str().as_bytes()].concat()
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

fn number<T: TryFrom<i128>>(value: &Cbor) -> Option<T> {
    T::try_from(i128::from(value.as_integer()?)).ok()
}

fn few<T>(items: Vec<Cbor>, name: &str, read: impl Fn(&Cbor) -> Option<T>) -> Result<Vec<T>, CborFault> {
    if items.len() > POLICY_ITEMS_MAX {
        return Err(fault(name, "a list of at most 64"));
    }
    let expected = "a list of device ids, or of {party, firm, skill, sender} with at least one of them";
    items.iter().map(|item| read(item).ok_or_else(|| fault(name, expected))).collect()
}

fn encode_who(who: &Who) -> Cbor {
    let mut fields = Vec::new();
    fields.extend(who.party.as_ref().map(|party| ("party", text(party.as_str()))));
    fields.extend(who.firm.as_ref().map(|firm| ("firm", text(firm.as_str()))));
    fields.extend(who.skill.as_ref().map(|skill| ("skill", text(skill.clone()))));
    fields.extend(who.sender.as_ref().map(|sender| ("sender", text(sender.clone()))));
    map(fields)
}

/// Somebody must be meant: an empty clause would mean everybody.
fn decode_who(who: Cbor) -> Result<Who, CborFault> {
    let mut fields = Fields::new(who, "who")?;
    let party = |name: Option<String>| {
        name.map(|name| PartyId::try_new(name).map_err(|_| fault("who", "a party id"))).transpose()
    };
    let who = Who {
        party: party(fields.text_opt("party")?)?,
        firm: party(fields.text_opt("firm")?)?,
        skill: fields.text_opt("skill")?,
        sender: fields.text_opt("sender")?,
    };
    fields.finish()?;
    if who.sender.as_deref().is_some_and(|sender| !is_sender(sender)) {
        return Err(fault("sender", "a name of 1 to 256 bytes without control characters"));
    }
    if who == Who::default() { Err(fault("who", "at least one of party, firm, skill, sender")) } else { Ok(who) }
}

fn encode_allowed(allowed: &Allowed) -> Cbor {
    let mut fields = vec![
        ("at", text(allowed.address.clone())),
        ("may", Cbor::Array(allowed.rights.iter().map(|right| text(right.word())).collect())),
    ];
    let range = |(low, high)| ("range", Cbor::Array(vec![Cbor::Float(low), Cbor::Float(high)]));
    fields.extend(allowed.range.map(range));
    map(fields)
}

fn decode_points(points: Fields) -> Result<BTreeMap<PointId, Allowed>, CborFault> {
    let points = points.rest();
    if points.len() > POLICY_ITEMS_MAX {
        return Err(fault("points", "a map of at most 64"));
    }
    let read = |(name, allowed): (String, Cbor)| {
        let point = PointId::try_new(name).map_err(|_| fault("points", "a map by point id"))?;
        Ok((point, decode_allowed(Fields::new(allowed, "point")?)?))
    };
    points.into_iter().map(read).collect()
}

fn decode_allowed(mut fields: Fields) -> Result<Allowed, CborFault> {
    let words = fields.array("may")?;
    let word = |item: &Cbor| right(item.as_text().unwrap_or_default());
    let mut rights = words.iter().map(word).collect::<Result<Vec<_>, _>>()?;
    let count = rights.len();
    rights.dedup();
    let address = fields.text("at")?;
    let range = fields.take("range").map(|range| decode_range(&range)).transpose()?;
    fields.finish()?;
    if address.is_empty() || address.len() > ADDRESS_BYTES_MAX {
        return Err(fault("at", "an address of 1 to 512 bytes"));
    }
    // Once each, in the order read, write, call: one meaning, one form.
    if rights.len() != count || !rights.is_sorted() {
        return Err(fault("may", "some of read, write, call, in this order"));
    }
    Ok(Allowed { address, rights, range })
}

fn decode_range(range: &Cbor) -> Result<(f64, f64), CborFault> {
    let expected = "two finite numbers as floats, the lower first";
    match range.as_array().map(Vec::as_slice) {
        Some([Cbor::Float(low), Cbor::Float(high)]) if low.is_finite() && high.is_finite() && low <= high => {
            Ok((*low, *high))
        }
        _ => Err(fault("range", expected)),
    }
}

fn decode_rate(rate: &Cbor) -> Result<(u64, Duration), CborFault> {
    let expected = "1 to 1000 permits, and a period of at most 31 days in µs";
    let read = || match rate.as_array()?.as_slice() {
        [count, period] => Some((number::<u64>(count)?, Duration::from_micros(number::<u64>(period)?))),
        _ => None,
    };
    let longest = Duration::from_secs(31 * 24 * 3600);
    let fits =
        |(count, period): &(u64, Duration)| (1..=RATE_MAX).contains(count) && !period.is_zero() && *period <= longest;
    read().filter(fits).ok_or_else(|| fault("rate", expected))
}

fn decode_hours(hours: &Cbor) -> Result<(u16, u16), CborFault> {
    let read = || match hours.as_array()?.as_slice() {
        [from, to] => Some((number::<u16>(from)?, number::<u16>(to)?)),
        _ => None,
    };
    let fits = |(from, to): &(u16, u16)| *from < DAY && *to < DAY && from != to;
    read().filter(fits).ok_or_else(|| fault("hours", "two different minutes of the day, 0 to 1439, UTC"))
}

fn decode_days(days: &Cbor) -> Result<Vec<u8>, CborFault> {
    let read = || days.as_array()?.iter().map(number::<u8>).collect::<Option<Vec<_>>>();
    let rises = |days: &Vec<u8>| days.windows(2).all(|pair| pair[0] < pair[1]);
    let fits = |days: &Vec<u8>| rises(days) && days.iter().all(|day| (1..=7).contains(day)) && !days.is_empty();
    read().filter(fits).ok_or_else(|| fault("days", "rising days, 1 Monday to 7 Sunday"))
}

fn decode_lasts(micros: u64) -> Result<Duration, CborFault> {
    let lasts = Duration::from_micros(micros);
    let fits = !lasts.is_zero() && lasts <= LASTS_MAX;
    if fits { Ok(lasts) } else { Err(fault("lasts", "more than nothing, at most a day, in µs")) }
}

#[cfg(test)]
mod tests;
