//! What can be wrong with a simulated device, by its file (`faults:`) or by command, and how its server learns of it.
//!
//! A server asks the plant: [`PlantState::trouble`](crate::PlantState::trouble) before each answer or message, and
//! [`PlantState::now`](crate::PlantState::now) for the time of the device's clock. Frozen values and qualities need no
//! asking: [`PlantState::view`](crate::PlantState::view) has them worked in.

use std::fmt;
use std::time::{Duration, SystemTime};
use tally_model::{Endpoint, ModbusLine, Quality, parse_duration};

/// The longest a device may lie about its time: an epoch counter that wrapped is some 136 years off.
const CLOCK_OFF_MAX: Duration = Duration::from_secs(200 * 366 * 86_400);

/// One thing that can be wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Defect {
    /// It answers nothing and publishes nothing. A Modbus connection stays open, an OPC UA server is gone.
    Drop,
    /// It closes the connection instead of answering.
    HangUp,
    /// Everything it says comes this late.
    Delay(Duration),
    /// What it says is spoiled on the wire.
    Wire(WireFault),
    /// Its values stay what they are.
    Frozen,
    /// Its values are of this quality at best.
    Quality(Quality),
    /// Its clock is wrong by so much.
    Clock(ClockError),
    /// Another device was put in its place: it calls itself as its spare does.
    Exchanged,
}

/// How an answer is spoiled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WireFault {
    /// Every request gets this exception (Modbus Application Protocol V1.1b3 §7).
    Exception(u8),
    /// Bytes of another protocol instead of the answer.
    Garbage,
    /// The first half of the answer, then nothing.
    Half,
    /// An answer that carries something wrong.
    Wrong(Wrong),
}

/// What is wrong in an answer that is well-formed otherwise.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wrong {
    /// It names another unit.
    Unit,
    /// It answers another function.
    Function,
    /// It carries another transaction id (Modbus TCP and TLS).
    Transaction,
    /// Its protocol id is not 0 (Modbus TCP and TLS).
    Protocol,
    /// It carries one register or byte more than was asked for.
    Length,
    /// Its checksum is wrong (RTU and ASCII).
    Checksum,
}

/// How far a clock is off.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ClockError {
    /// Behind the true time rather than ahead of it.
    pub is_behind: bool,
    /// By how much.
    pub by: Duration,
}

/// A defect and whom it concerns.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Flaw {
    /// What is wrong.
    pub defect: Defect,
    /// Which signals; empty means all. Only for [`Defect::Frozen`] and [`Defect::Quality`].
    pub signals: Vec<String>,
}

/// A flaw with its time, as the file has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ScheduledFlaw {
    /// When it begins, counted from the start of the plant.
    pub at: Duration,
    /// How long it lasts; for ever without.
    pub lasts: Option<Duration>,
    /// After which time it begins anew.
    pub every: Option<Duration>,
    pub flaw: Flaw,
}

/// Everything about a device at this moment that its server must know.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Trouble {
    /// It says nothing.
    pub is_silent: bool,
    /// It closes connections.
    pub hangs_up: bool,
    /// What it says comes this late.
    pub delay: Duration,
    /// What it says is spoiled; the newest fault counts.
    pub wire: Option<WireFault>,
    /// Its clock is wrong; the newest fault counts.
    pub clock: ClockError,
    /// Its spare stands in its place.
    pub is_exchanged: bool,
}

impl Defect {
    /// The words, as written in a file and said in a command.
    pub const WORDS: &'static str = "drop, hang-up, delay TIME, exception CODE, garbage, half, \
                                     wrong unit|function|transaction|protocol|length|checksum, frozen, uncertain, bad, clock ±TIME, exchanged";

    /// Reads `what` and what belongs to it (`delay` and `2s`, `exception` and `6`).
    ///
    /// # Errors
    /// A sentence with what was found and what is allowed.
    pub fn parse(what: &str, of: Option<&str>) -> Result<Self, String> {
        let plain = |defect| match of {
            None => Ok(defect),
            Some(of) => Err(format!("`{what}` stands alone, it takes no `{of}`")),
        };
        let needs =
            |example: &str| of.ok_or_else(|| format!("`{what}` needs to know of what: for example `{example}`"));
        match what {
            "drop" => plain(Self::Drop),
            "hang-up" => plain(Self::HangUp),
            "garbage" => plain(Self::Wire(WireFault::Garbage)),
            "half" => plain(Self::Wire(WireFault::Half)),
            "frozen" => plain(Self::Frozen),
            "uncertain" => plain(Self::Quality(Quality::Uncertain)),
            "bad" => plain(Self::Quality(Quality::Bad)),
            "exchanged" => plain(Self::Exchanged),
            "delay" => parse_duration(needs("2s")?).map(Self::Delay).map_err(|fault| fault.to_string()),
            "exception" => exception(needs("6")?).map(|code| Self::Wire(WireFault::Exception(code))),
            "wrong" => wrong(needs("transaction")?).map(|wrong| Self::Wire(WireFault::Wrong(wrong))),
            "clock" => ClockError::parse(needs("-5min")?).map(Self::Clock),
            _ => Err(format!("`{what}` is no fault; there are: {}", Self::WORDS)),
        }
    }

    /// Whether a fault of this name exists.
    pub(crate) fn is_word(what: &str) -> bool {
        Self::WORDS.split(", ").any(|words| words.split(' ').next() == Some(what))
    }

    /// Whether it concerns single signals.
    #[must_use]
    pub const fn is_of_signals(self) -> bool {
        matches!(self, Self::Frozen | Self::Quality(_))
    }

    /// Whether devices that are reached like this can have it.
    ///
    /// # Errors
    /// A sentence why not.
    pub fn check_for(self, endpoint: &Endpoint) -> Result<(), String> {
        let has_ids = match endpoint {
            Endpoint::Modbus { line, .. } => Some(matches!(line, ModbusLine::Tcp { .. } | ModbusLine::Tls { .. })),
            _ => None,
        };
        let reason = match (self, has_ids) {
            (Self::Clock(_), Some(_)) => "Modbus carries no times",
            (Self::Exchanged, None) => "only Modbus devices are asked what they call themselves (function 43/14)",
            (Self::Wire(WireFault::Exception(_)), None) => "exceptions are Modbus; write `what: bad`",
            (Self::Wire(WireFault::Wrong(_)), None) => {
                "only Modbus answers can be wrong like this; write `what: garbage`"
            }
            (Self::Wire(WireFault::Wrong(Wrong::Transaction | Wrong::Protocol)), Some(false)) => {
                "RTU and ASCII frames carry no such id"
            }
            (Self::Wire(WireFault::Wrong(Wrong::Checksum)), Some(true)) => "Modbus TCP frames carry no checksum",
            (Self::Wire(_) | Self::HangUp, None) if matches!(endpoint, Endpoint::OpcUa { .. }) => {
                "an OPC UA server can have `drop`, `delay`, `frozen`, `uncertain`, `bad` and `clock`"
            }
            (Self::HangUp, None) => "an MQTT sensor serves no connections; write `what: drop`",
            _ => return Ok(()),
        };
        Err(format!("`{self}` cannot happen there: {reason}"))
    }
}

fn exception(text: &str) -> Result<u8, String> {
    let code = text.parse::<u8>().ok().filter(|code| *code > 0);
    code.ok_or_else(|| format!("`{text}` is no exception code from 1 to 255"))
}

fn wrong(text: &str) -> Result<Wrong, String> {
    Ok(match text {
        "unit" => Wrong::Unit,
        "function" => Wrong::Function,
        "transaction" => Wrong::Transaction,
        "protocol" => Wrong::Protocol,
        "length" => Wrong::Length,
        "checksum" => Wrong::Checksum,
        _ => {
            return Err(format!(
                "`{text}` of an answer cannot be wrong; there are: unit, function, transaction, protocol, length, checksum"
            ));
        }
    })
}

impl ClockError {
    /// Reads `5min`, `+5min` (ahead) or `-5min` (behind).
    fn parse(text: &str) -> Result<Self, String> {
        let (is_behind, time) = match text.strip_prefix('-') {
            Some(time) => (true, time),
            None => (false, text.strip_prefix('+').unwrap_or(text)),
        };
        let by = parse_duration(time).map_err(|fault| fault.to_string())?;
        if by > CLOCK_OFF_MAX {
            return Err(format!("`{text}` is more than 200 years"));
        }
        Ok(Self { is_behind, by })
    }

    /// What a clock that is wrong like this shows instead of `truth`.
    #[must_use]
    pub fn shown(self, truth: SystemTime) -> SystemTime {
        let shown = if self.is_behind { truth.checked_sub(self.by) } else { truth.checked_add(self.by) };
        shown.unwrap_or(truth)
    }
}

impl Flaw {
    /// Whether it concerns this signal.
    pub(crate) fn is_of(&self, signal: &str) -> bool {
        self.signals.is_empty() || self.signals.iter().any(|named| named == signal)
    }
}

impl ScheduledFlaw {
    /// Whether its time is now.
    pub(crate) fn is_active(&self, now: Duration) -> bool {
        let Some(since) = now.checked_sub(self.at) else { return false };
        let since = match self.every {
            Some(every) if !every.is_zero() => {
                Duration::from_nanos(u64::try_from(since.as_nanos() % every.as_nanos()).unwrap_or(u64::MAX))
            }
            _ => since,
        };
        self.lasts.is_none_or(|lasts| since < lasts)
    }
}

impl Trouble {
    /// Everything that is wrong at once.
    pub(crate) fn of<'f>(flaws: impl Iterator<Item = &'f Flaw>) -> Self {
        flaws.fold(Self::default(), |trouble, flaw| match flaw.defect {
            Defect::Drop => Self { is_silent: true, ..trouble },
            Defect::HangUp => Self { hangs_up: true, ..trouble },
            Defect::Delay(time) => Self { delay: trouble.delay.max(time), ..trouble },
            Defect::Wire(fault) => Self { wire: Some(fault), ..trouble },
            Defect::Clock(clock) => Self { clock, ..trouble },
            Defect::Exchanged => Self { is_exchanged: true, ..trouble },
            Defect::Frozen | Defect::Quality(_) => trouble,
        })
    }
}

impl fmt::Display for Defect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Drop => f.write_str("drop"),
            Self::HangUp => f.write_str("hang-up"),
            Self::Delay(time) => write!(f, "delay {time:?}"),
            Self::Wire(WireFault::Exception(code)) => write!(f, "exception {code}"),
            Self::Wire(WireFault::Garbage) => f.write_str("garbage"),
            Self::Wire(WireFault::Half) => f.write_str("half"),
            Self::Wire(WireFault::Wrong(wrong)) => write!(f, "wrong {}", format!("{wrong:?}").to_lowercase()),
            Self::Frozen => f.write_str("frozen"),
            Self::Exchanged => f.write_str("exchanged"),
            Self::Quality(quality) => write!(f, "{}", format!("{quality:?}").to_lowercase()),
            Self::Clock(ClockError { is_behind, by }) => {
                write!(f, "clock {}{by:?}", if *is_behind { "-" } else { "+" })
            }
        }
    }
}

impl fmt::Display for Flaw {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.defect)?;
        if self.signals.is_empty() { Ok(()) } else { write!(f, " on {}", self.signals.join(" ")) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn faults_are_read_from_words_and_shown_in_them() {
        for (what, of, shown) in [
            ("drop", None, "drop"),
            ("delay", Some("2s"), "delay 2s"),
            ("exception", Some("6"), "exception 6"),
            ("wrong", Some("transaction"), "wrong transaction"),
            ("bad", None, "bad"),
            ("exchanged", None, "exchanged"),
            ("clock", Some("-5min"), "clock -300s"),
            ("clock", Some("1s"), "clock +1s"),
        ] {
            assert_eq!(Defect::parse(what, of).unwrap().to_string(), shown);
        }
        for (what, of, why) in [
            ("fire", None, "is no fault; there are: drop"),
            ("delay", None, "needs to know of what"),
            ("delay", Some("soon"), "is not a duration"),
            ("drop", Some("5s"), "stands alone"),
            ("exception", Some("0"), "1 to 255"),
            ("exception", Some("256"), "1 to 255"),
            ("wrong", Some("weather"), "there are: unit"),
            ("clock", Some("-300000d"), "200 years"),
        ] {
            let fault = Defect::parse(what, of).unwrap_err();
            assert!(fault.contains(why), "{what} {of:?}: {fault}");
        }
    }

    #[test]
    fn what_a_protocol_cannot_have_is_refused() {
        let check =
            |url: &str, what: &str, of| Defect::parse(what, of).unwrap().check_for(&Endpoint::parse(url).unwrap());
        assert!(check("modbus+tcp://h", "wrong", Some("transaction")).is_ok());
        assert!(check("modbus+rtu:///tmp/x", "wrong", Some("transaction")).is_err());
        assert!(check("modbus+tcp://h", "wrong", Some("checksum")).is_err());
        assert!(check("modbus+ascii+tcp://h", "wrong", Some("checksum")).is_ok());
        assert!(check("modbus+tcp://h", "clock", Some("1s")).is_err());
        assert!(check("opc.tcp://h", "clock", Some("1s")).is_ok());
        assert!(check("opc.tcp://h", "delay", Some("1s")).is_ok());
        assert!(check("opc.tcp://h", "exception", Some("2")).is_err());
        assert!(check("mqtt://h", "hang-up", None).is_err());
        assert!(check("mqtt://h", "bad", None).is_ok());
        assert!(
            check("modbus+rtu:///tmp/x", "exchanged", None).is_ok() && check("opc.tcp://h", "exchanged", None).is_err()
        );
    }

    #[test]
    fn a_clock_is_wrong_in_both_directions() {
        let truth = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000);
        let error = |text| ClockError::parse(text).unwrap();
        assert_eq!(error("10s").shown(truth), truth + Duration::from_secs(10));
        assert_eq!(error("-10s").shown(truth), truth - Duration::from_secs(10));
        assert_eq!(ClockError::default().shown(truth), truth);
    }

    #[test]
    fn faults_come_go_and_come_again() {
        let seconds = Duration::from_secs;
        let flaw = Flaw { defect: Defect::Drop, signals: Vec::new() };
        let once = ScheduledFlaw { at: seconds(10), lasts: Some(seconds(5)), every: None, flaw };
        let active =
            |flaw: &ScheduledFlaw| (0..60).filter(|second| flaw.is_active(seconds(*second))).collect::<Vec<_>>();
        assert_eq!(active(&once), [10, 11, 12, 13, 14]);
        let again = ScheduledFlaw { lasts: Some(seconds(2)), every: Some(seconds(20)), ..once.clone() };
        assert_eq!(active(&again), [10, 11, 30, 31, 50, 51]);
        let for_ever = ScheduledFlaw { at: seconds(58), lasts: None, ..once };
        assert_eq!(active(&for_ever), [58, 59]);
    }
}
