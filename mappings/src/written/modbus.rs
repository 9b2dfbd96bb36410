//! `modbus:` of a device or data sheet.

use schemars::JsonSchema;
use serde::Deserialize;
use tally_model::AddressBase;

/// What Modbus devices differ in.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct ModbusWritten {
    /// Where the numbers behind `holding:`, `HR` and the like begin in this file: `zero` (as on the wire, default) or
    /// `one`. Entity numbers (`40041`, `4x41`) always begin with 1.
    pub base: Option<AddressBase>,
    /// Least time between an answer and the next question, 0s to 10s; default 0s.
    pub pause: Option<String>,
    /// Wait after connecting before the first question, 0s to 10s; default 0s.
    pub pause_after_connect: Option<String>,
    /// A connection idle for longer is opened anew before it is used, 100ms to 1h; default: it is trusted.
    pub idle_max: Option<String>,
    /// How often a question is repeated when the device says that it is busy, 0 to 10; default 0.
    #[schemars(range(min = 0, max = 10))]
    pub busy_retries: Option<u8>,
    /// RTU and ASCII: how long an answer may still come after its timeout, 0s to 60s; default `timeout`.
    pub late_max: Option<String>,
    /// Most bits in one request, 1 to 2000; default 2000.
    #[schemars(range(min = 1, max = 2000))]
    pub bits_per_request_max: Option<u16>,
    /// How often the device is asked what it calls itself (function 43/14), 1s to 24h; also after each new connection. Default: never;
    /// 10min where `checks` of the device has `identity`.
    pub identify: Option<String>,
    /// Addresses no request may touch, as in `at:`: `holding:100-119`, `40101-40120`, `coil:7`.
    #[serde(default)]
    pub forbidden: Vec<String>,
}
