//! Modbus addresses as people write them.
//!
//! Two ways of counting exist (Modbus Application Protocol V1.1b3 §4.4): on the wire the first register is 0, in the data
//! model and in most manuals it is 1. Which one a number follows is never guessed from its size alone:
//!
//! | written | counts from | holding register with wire address 40 |
//! |---|---|---|
//! | table and number | the base, 0 unless said otherwise | `holding:40`, `HR40` (base 1: `holding:41`, `HR41`) |
//! | hexadecimal number | 0, always | `holding:0x28`, `HR0x28` |
//! | entity number, 5 or 6 digits | 1, always | `40041`, `400041`, `holding:40041`, `holding:400041` |
//! | table digit and `x` | 1, always | `4x41`, `4x00041` |
//!
//! Table words: `coil` `CO` `0x`, `discrete` `DI` `1x`, `input` `IR` `3x`, `holding` `HR` `4x`. A bit of a register follows
//! a dot: `40041.3`, the lowest is 0.

use crate::{Address, AddressFault, ModbusTable};

/// Where the numbers behind a table word begin.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize, serde::Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum AddressBase {
    /// The first register is 0, as on the wire.
    #[default]
    Zero,
    /// The first register is 1, as in many manuals.
    One,
}

const EXAMPLES: &str = "write for example `holding:40` (from 0), `HR40` (from 0), `40041` or `4x41` (from 1)";
const RANGE: &str = "the number is a whole number from 0 to 65535";

impl Address {
    /// Reads a Modbus address whose table numbers count from 0.
    ///
    /// # Errors
    /// [`AddressFault`] with the reason.
    pub fn parse_modbus(text: &str) -> Result<Self, AddressFault> {
        Self::parse_modbus_from(text, AddressBase::Zero)
    }

    /// Reads a Modbus address; `base` says where the numbers behind a table word begin. Entity numbers (`40041`,
    /// `4x41`) count from 1 and hexadecimal numbers from 0, whatever the base.
    ///
    /// # Errors
    /// [`AddressFault`] with the reason.
    pub fn parse_modbus_from(text: &str, base: AddressBase) -> Result<Self, AddressFault> {
        let fault = |reason: String| AddressFault { found: text.to_owned(), what: "a Modbus address", reason };
        let (whole, bit) = match text.split_once('.') {
            Some((whole, bit)) => (whole, Some(bit)),
            None => (text, None),
        };
        let (table, offset) = place(whole, base).map_err(fault)?;
        let bit = match bit {
            None => None,
            Some(_) if table.is_bits() => {
                return Err(fault("a coil or discrete input has no bits of its own".to_owned()));
            }
            Some(bit) => {
                Some(number(bit).filter(|bit| *bit < 16).ok_or_else(|| fault("bits are numbered 0 to 15".to_owned()))?)
            }
        };
        Ok(Self::Modbus { table, offset, bit: bit.and_then(|bit| u8::try_from(bit).ok()) })
    }
}

/// Table and wire address.
fn place(text: &str, base: AddressBase) -> Result<(ModbusTable, u16), String> {
    if let Some((word, digits)) = text.split_once(':') {
        let table = table_of_word(word).ok_or("the tables are `coil`, `discrete`, `input`, `holding`")?;
        return Ok((table, behind_word(table, digits, base)?));
    }
    if let Some((digit, digits)) = text.split_once(['x', 'X'])
        && let [digit] = digit.as_bytes()
        && let Some(table) = table_of_digit(*digit)
    {
        let number = number(digits).ok_or_else(|| format!("behind `x` comes a number from 1 to 65536; {EXAMPLES}"))?;
        return Ok((table, from_one(number)?));
    }
    if let Some(digits) = text.get(2..)
        && let Some(table) = text.get(..2).and_then(table_of_letters)
    {
        return Ok((table, behind_word(table, digits, base)?));
    }
    entity(text)
}

/// The number behind `holding:` or `HR`.
fn behind_word(table: ModbusTable, digits: &str, base: AddressBase) -> Result<u16, String> {
    if let Some(hexadecimal) = digits.strip_prefix("0x") {
        let plain = hexadecimal.bytes().all(|byte| byte.is_ascii_hexdigit());
        let number = u16::from_str_radix(hexadecimal, 16).ok().filter(|_| plain);
        return number.ok_or_else(|| "behind `0x` come one to four hexadecimal digits".to_owned());
    }
    let number = number(digits).ok_or(RANGE)?;
    // Entity numbers are recognised only in the table they belong to; coils have none with a leading digit.
    let first = model_base(table);
    if first > 0 {
        for first in [first * 10_000 + 1, first * 100_000 + 1] {
            let count = if first > 99_999 { 65_536 } else { 9_999 };
            if (first..first + count).contains(&number) {
                return from_one(number - first + 1);
            }
        }
    }
    match base {
        AddressBase::Zero => u16::try_from(number).map_err(|_| RANGE.to_owned()),
        AddressBase::One if number == 0 => {
            Err("this device counts from 1 (`base: one`), there is no number 0".to_owned())
        }
        AddressBase::One => from_one(number),
    }
}

/// `40041`, `400041`, `00041`, `000041`.
fn entity(text: &str) -> Result<(ModbusTable, u16), String> {
    let is_number = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    if !is_number {
        return Err(format!("no table is known by this name; {EXAMPLES}"));
    }
    let table = text.bytes().next().and_then(table_of_digit);
    match (text.len(), table, text.get(1..).and_then(number)) {
        (5 | 6, Some(table), Some(number)) => Ok((table, from_one(number)?)),
        (5 | 6, None, _) => Err(
            "entity numbers begin with 0 (coils), 1 (discrete inputs), 3 (input registers) or 4 (holding registers)"
                .to_owned(),
        ),
        _ => Err(format!("a number alone does not say which table; {EXAMPLES}")),
    }
}

fn table_of_word(word: &str) -> Option<ModbusTable> {
    match word {
        "coil" => Some(ModbusTable::Coil),
        "discrete" => Some(ModbusTable::Discrete),
        "input" => Some(ModbusTable::Input),
        "holding" => Some(ModbusTable::Holding),
        letters => table_of_letters(letters),
    }
}

fn table_of_letters(letters: &str) -> Option<ModbusTable> {
    match letters {
        "CO" => Some(ModbusTable::Coil),
        "DI" => Some(ModbusTable::Discrete),
        "IR" => Some(ModbusTable::Input),
        "HR" => Some(ModbusTable::Holding),
        _ => None,
    }
}

const fn table_of_digit(digit: u8) -> Option<ModbusTable> {
    match digit {
        b'0' => Some(ModbusTable::Coil),
        b'1' => Some(ModbusTable::Discrete),
        b'3' => Some(ModbusTable::Input),
        b'4' => Some(ModbusTable::Holding),
        _ => None,
    }
}

const fn model_base(table: ModbusTable) -> u32 {
    match table {
        ModbusTable::Coil => 0,
        ModbusTable::Discrete => 1,
        ModbusTable::Input => 3,
        ModbusTable::Holding => 4,
    }
}

/// Digits only: no sign, no blanks, at most six.
fn number(digits: &str) -> Option<u32> {
    let plain = !digits.is_empty() && digits.len() <= 6 && digits.bytes().all(|byte| byte.is_ascii_digit());
    digits.parse().ok().filter(|_| plain)
}

fn from_one(number: u32) -> Result<u16, String> {
    let offset = number.checked_sub(1).and_then(|offset| u16::try_from(offset).ok());
    offset.ok_or_else(|| "counted from 1 the numbers are 1 to 65536".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> Address {
        Address::parse_modbus(text).unwrap_or_else(|fault| panic!("{fault}"))
    }

    fn from_one(text: &str) -> Result<Address, AddressFault> {
        Address::parse_modbus_from(text, AddressBase::One)
    }

    #[test]
    fn one_register_in_all_its_spellings() {
        let register = Address::Modbus { table: ModbusTable::Holding, offset: 40, bit: None };
        for text in [
            "holding:40",
            "HR40",
            "HR:40",
            "holding:0x28",
            "HR0x28",
            "40041",
            "400041",
            "4x41",
            "4X41",
            "4x00041",
            "holding:40041",
            "holding:400041",
        ] {
            assert_eq!(at(text), register, "{text}");
        }
        for text in ["holding:41", "HR41", "holding:0x28", "40041", "400041", "4x41", "holding:40041"] {
            assert_eq!(from_one(text).unwrap(), register, "{text} from one");
        }
    }

    #[test]
    fn every_table_has_its_words_and_digits() {
        for (texts, table) in [
            (["coil:4", "CO4", "00005", "000005", "0x5"], ModbusTable::Coil),
            (["discrete:4", "DI4", "10005", "100005", "1x5"], ModbusTable::Discrete),
            (["input:4", "IR4", "30005", "300005", "3x5"], ModbusTable::Input),
            (["holding:4", "HR4", "40005", "400005", "4x5"], ModbusTable::Holding),
        ] {
            for text in texts {
                assert_eq!(at(text), Address::Modbus { table, offset: 4, bit: None }, "{text}");
            }
        }
        assert_eq!(at("holding:65535"), at("465536"));
        assert_eq!(at("holding:0x9c50"), Address::Modbus { table: ModbusTable::Holding, offset: 40_016, bit: None });
    }

    #[test]
    fn bits_follow_a_dot() {
        let bit = Address::Modbus { table: ModbusTable::Input, offset: 3, bit: Some(15) };
        for text in ["input:3.15", "IR3.15", "30004.15", "3x4.15"] {
            assert_eq!(at(text), bit, "{text}");
        }
    }

    #[test]
    fn what_is_no_address_says_why() {
        for (text, why) in [
            ("16", "does not say which table"),
            ("register:1", "the tables are"),
            ("holding:x", "whole number"),
            ("holding:70000", "whole number"),
            ("holding:-1", "whole number"),
            ("holding:+1", "whole number"),
            ("holding:0x", "hexadecimal"),
            ("holding:0x12345", "hexadecimal"),
            ("coil:1.2", "no bits"),
            ("00002.1", "no bits"),
            ("input:3.16", "0 to 15"),
            ("input:3.", "0 to 15"),
            ("20001", "entity numbers begin"),
            ("40000", "1 to 65536"),
            ("465537", "1 to 65536"),
            ("4x0", "1 to 65536"),
            ("4x", "behind `x`"),
            ("HR", "whole number"),
            ("Hr40", "no table"),
            ("", "no table"),
            ("äö", "no table"),
        ] {
            let fault = Address::parse_modbus(text).unwrap_err();
            assert!(fault.reason.contains(why), "{text}: {}", fault.reason);
        }
        assert!(from_one("holding:0").unwrap_err().reason.contains("counts from 1"));
        assert_eq!(from_one("holding:65536").unwrap(), at("holding:65535"));
    }

    #[test]
    fn an_address_is_read_back_as_it_is_shown() {
        for text in ["holding:0", "holding:40016", "input:65535.3", "coil:10001", "discrete:10005"] {
            let address = Address::parse_modbus(text).unwrap();
            assert_eq!(Address::parse_modbus(&address.to_string()).unwrap(), address, "{text}");
        }
    }
}
