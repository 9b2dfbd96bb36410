//! A serial line.

use crate::error::Failure;
use std::time::Duration;
use tally_model::{Parity, SerialLine};
use tokio_serial::{DataBits, FlowControl, SerialPortBuilderExt, SerialStream, StopBits};

/// Above this speed the pause between frames is fixed (Modbus over Serial Line V1.02 §2.5.1.1).
const FAST_BAUD: u32 = 19_200;

/// That fixed pause, 1.75 ms.
const FAST_PAUSE: Duration = Duration::from_micros(1_750);

pub(super) fn open(line: &SerialLine) -> Result<SerialStream, Failure> {
    let SerialLine { path, baud, data_bits, parity, stop_bits } = line;
    let name = path.to_string_lossy();
    let port = tokio_serial::new(name.clone(), *baud)
        .data_bits(if *data_bits == 7 { DataBits::Seven } else { DataBits::Eight })
        .parity(match parity {
            Parity::None => tokio_serial::Parity::None,
            Parity::Even => tokio_serial::Parity::Even,
            Parity::Odd => tokio_serial::Parity::Odd,
        })
        .stop_bits(if *stop_bits == 2 { StopBits::Two } else { StopBits::One })
        .flow_control(FlowControl::None)
        .open_native_async();
    port.map_err(|fault| Failure::Line(format!("cannot open {name} with {baud} baud: {fault}")))
}

/// The silence that separates two RTU frames: 3.5 characters (Modbus over Serial Line V1.02 §2.5.1.1).
pub(crate) fn frame_pause(line: &SerialLine) -> Duration {
    if line.baud > FAST_BAUD { FAST_PAUSE } else { characters(line, 7) / 2 }
}

/// How long so many characters take on the line.
pub(crate) fn characters(line: &SerialLine, count: u32) -> Duration {
    let bits = u64::from(line.bits_per_character()) * u64::from(count);
    Duration::from_micros(bits * 1_000_000 / u64::from(line.baud.max(1)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use tally_model::{Endpoint, ModbusLine};

    #[test]
    fn pauses_are_those_of_the_standard() {
        let pause = |text: &str| match Endpoint::parse(text) {
            Ok(Endpoint::Modbus { line: ModbusLine::Rtu(serial), .. }) => frame_pause(&serial),
            other => panic!("{other:?}"),
        };
        // 3.5 characters of 11 bits.
        assert_eq!(pause("modbus+rtu:///dev/x?baud=9600"), Duration::from_micros(4_010));
        assert_eq!(pause("modbus+rtu:///dev/x?baud=19200"), Duration::from_micros(2_005));
        assert_eq!(pause("modbus+rtu:///dev/x?baud=115200"), Duration::from_micros(1_750));
    }
}
