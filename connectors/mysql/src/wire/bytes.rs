//! Reads the numbers and texts of the protocol from bytes; never beyond their end.

use super::WireError;

/// What is not read yet of a packet or an event.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bytes<'a> {
    rest: &'a [u8],
}

const SHORT: WireError = WireError::Protocol("it is too short");

impl<'a> Bytes<'a> {
    pub(crate) fn new(rest: &'a [u8]) -> Self {
        Self { rest }
    }

    pub(crate) fn rest(&self) -> &'a [u8] {
        self.rest
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    pub(crate) fn take(&mut self, count: usize) -> Result<&'a [u8], WireError> {
        let (taken, rest) = self.rest.split_at_checked(count).ok_or(SHORT)?;
        self.rest = rest;
        Ok(taken)
    }

    /// A little-endian whole number of up to eight bytes.
    pub(crate) fn number(&mut self, bytes: usize) -> Result<u64, WireError> {
        Ok(little(self.take(bytes)?))
    }

    pub(crate) fn u8(&mut self) -> Result<u8, WireError> {
        Ok(self.take(1)?[0])
    }

    pub(crate) fn u16(&mut self) -> Result<u16, WireError> {
        Ok(self.number(2)? as u16)
    }

    pub(crate) fn u32(&mut self) -> Result<u32, WireError> {
        Ok(self.number(4)? as u32)
    }

    pub(crate) fn u64(&mut self) -> Result<u64, WireError> {
        self.number(8)
    }

    /// A number in the protocol's own packing; `None` is SQL null.
    pub(crate) fn packed(&mut self) -> Result<Option<u64>, WireError> {
        Ok(Some(match self.u8()? {
            0xfb => return Ok(None),
            0xfc => self.number(2)?,
            0xfd => self.number(3)?,
            0xfe => self.number(8)?,
            small => u64::from(small),
        }))
    }

    /// A length in the same packing.
    pub(crate) fn length(&mut self) -> Result<usize, WireError> {
        let length = self.packed()?.ok_or(WireError::Protocol("a length is null"))?;
        usize::try_from(length).map_err(|_| WireError::Protocol("a length is beyond memory"))
    }

    /// Bytes with their length before them; `None` is SQL null.
    pub(crate) fn text(&mut self) -> Result<Option<&'a [u8]>, WireError> {
        match self.packed()? {
            None => Ok(None),
            Some(length) => self.take(usize::try_from(length).unwrap_or(usize::MAX)).map(Some),
        }
    }

    /// Bytes up to a zero, which is passed.
    pub(crate) fn until_zero(&mut self) -> Result<&'a [u8], WireError> {
        let end = self.rest.iter().position(|byte| *byte == 0).ok_or(SHORT)?;
        let taken = self.take(end)?;
        self.take(1)?;
        Ok(taken)
    }
}

/// A little-endian whole number of up to eight bytes.
#[inline]
pub(crate) fn little(bytes: &[u8]) -> u64 {
    let mut wide = [0; 8];
    for (place, byte) in wide.iter_mut().zip(bytes) {
        *place = *byte;
    }
    u64::from_le_bytes(wide)
}

/// A big-endian whole number of up to eight bytes.
#[inline]
pub(crate) fn big(bytes: &[u8]) -> u64 {
    bytes.iter().take(8).fold(0, |number, byte| number << 8 | u64::from(*byte))
}
