//! The arguments of a native call, taken one by one; what is left over is refused.

use crate::engine::bad_argument;
use crate::{Refusal, currency};
use std::collections::BTreeMap;
use tally_evidence::RegistrationFault;
use tally_evidence::cbor::Cbor;

/// Arguments not taken yet.
pub(crate) struct Args<'a> {
    args: &'a BTreeMap<String, Cbor>,
    known: Vec<&'static str>,
}

impl<'a> Args<'a> {
    pub(crate) fn new(args: &'a BTreeMap<String, Cbor>) -> Self {
        Self { args, known: Vec::new() }
    }

    pub(crate) fn take(&mut self, name: &'static str) -> Option<&'a Cbor> {
        self.known.push(name);
        self.args.get(name)
    }

    pub(crate) fn need(&mut self, name: &'static str) -> Result<&'a Cbor, Refusal> {
        self.take(name).ok_or_else(|| Refusal::MissingArgument { argument: name.to_owned() })
    }

    /// An id.
    pub(crate) fn parse<T: std::str::FromStr>(&mut self, name: &'static str, expected: &str) -> Result<T, Refusal> {
        let value = self.need(name)?;
        let parsed = value.as_text().and_then(|text| text.parse().ok());
        parsed.ok_or_else(|| bad_argument(name, value, expected))
    }

    /// An ISO 4217 code.
    pub(crate) fn currency(&mut self) -> Result<&'a str, Refusal> {
        let value = self.need("currency")?;
        let code = value.as_text().filter(|code| currency::minor_digits(code).is_some());
        code.ok_or_else(|| bad_argument("currency", value, "an ISO 4217 code such as `EUR`"))
    }

    /// An amount in minor units, above zero.
    pub(crate) fn amount(&mut self) -> Result<i64, Refusal> {
        let value = self.need("amount")?;
        let amount = value.as_integer().and_then(|amount| i64::try_from(amount).ok());
        let amount = amount.ok_or_else(|| bad_argument("amount", value, "a whole number of minor units"))?;
        if amount > 0 { Ok(amount) } else { Err(Refusal::BadAmount { amount }) }
    }

    /// An array, empty when absent.
    pub(crate) fn array(&mut self, name: &'static str) -> Result<&'a [Cbor], Refusal> {
        match self.take(name) {
            None => Ok(&[]),
            Some(Cbor::Array(items)) => Ok(items),
            Some(other) => Err(bad_argument(name, other, "a list")),
        }
    }

    /// A record in the evidence format.
    pub(crate) fn record<T>(
        name: &str,
        value: &Cbor,
        read: impl FnOnce(Cbor) -> Result<T, RegistrationFault>,
    ) -> Result<T, Refusal> {
        read(value.clone()).map_err(|fault| bad_argument(name, value, fault.to_string()))
    }

    pub(crate) fn finish(self) -> Result<(), Refusal> {
        match self.args.keys().find(|name| !self.known.contains(&name.as_str())) {
            Some(unknown) => Err(Refusal::UnknownArgument { argument: unknown.clone(), known: self.known.join(", ") }),
            None => Ok(()),
        }
    }
}

/// A map with text keys as arguments.
pub(crate) fn as_args(name: &str, value: &Cbor) -> Result<BTreeMap<String, Cbor>, Refusal> {
    let expected = || bad_argument(name, value, "a map with text keys");
    let Cbor::Map(pairs) = value else { return Err(expected()) };
    let pairs = pairs.iter().map(|(key, value)| Some((key.as_text()?.to_owned(), value.clone())));
    pairs.collect::<Option<_>>().ok_or_else(expected)
}
