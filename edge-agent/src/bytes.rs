//! The little records that vault, outbox and receipts keep in their journals: fixed numbers little-endian, texts and
//! byte strings with their length in front. The journals check them; this only has to notice a foreign format.

use tally_model::Timestamp;

/// Appends to a record.
pub(crate) trait Put {
    fn put_u16(&mut self, number: u16);
    fn put_u32(&mut self, number: u32);
    fn put_u64(&mut self, number: u64);
    fn put_time(&mut self, time: Timestamp);
    /// At most 2³² − 1 bytes; a journal record is far shorter.
    fn put_bytes(&mut self, bytes: &[u8]);
}

impl Put for Vec<u8> {
    fn put_u16(&mut self, number: u16) {
        self.extend(number.to_le_bytes());
    }

    fn put_u32(&mut self, number: u32) {
        self.extend(number.to_le_bytes());
    }

    fn put_u64(&mut self, number: u64) {
        self.extend(number.to_le_bytes());
    }

    fn put_time(&mut self, time: Timestamp) {
        self.extend(time.as_micros().to_le_bytes());
    }

    fn put_bytes(&mut self, bytes: &[u8]) {
        self.put_u32(u32::try_from(bytes.len()).unwrap_or(u32::MAX));
        self.extend(bytes);
    }
}

/// Takes a record apart from the front; `None` when it is shorter than it should be.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Take<'a>(pub &'a [u8]);

impl<'a> Take<'a> {
    pub fn exact<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (taken, rest) = self.0.split_first_chunk::<N>()?;
        self.0 = rest;
        Some(*taken)
    }

    pub fn u8(&mut self) -> Option<u8> {
        self.exact().map(u8::from_le_bytes)
    }

    pub fn u16(&mut self) -> Option<u16> {
        self.exact().map(u16::from_le_bytes)
    }

    pub fn u32(&mut self) -> Option<u32> {
        self.exact().map(u32::from_le_bytes)
    }

    pub fn u64(&mut self) -> Option<u64> {
        self.exact().map(u64::from_le_bytes)
    }

    pub fn time(&mut self) -> Option<Timestamp> {
        self.exact().map(i64::from_le_bytes).map(Timestamp::from_micros)
    }

    pub fn bytes(&mut self) -> Option<&'a [u8]> {
        let length = usize::try_from(self.u32()?).ok()?;
        let (taken, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(taken)
    }

    /// A text that parses as `T`.
    pub fn parse<T: std::str::FromStr>(&mut self) -> Option<T> {
        std::str::from_utf8(self.bytes()?).ok()?.parse().ok()
    }

    /// `Some` when nothing is left.
    pub fn end(self) -> Option<()> {
        self.0.is_empty().then_some(())
    }
}
