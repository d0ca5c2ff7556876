//! Reading fixed-width little-endian fields off a slice, without a way to read past its end.

use super::Malformed;

pub(crate) struct Cursor<'a>(pub(crate) &'a [u8]);

impl<'a> Cursor<'a> {
    pub(crate) fn take(&mut self, length: usize) -> Result<&'a [u8], Malformed> {
        let (taken, rest) = self.0.split_at_checked(length).ok_or_else(|| Malformed::wrong("ends early"))?;
        self.0 = rest;
        Ok(taken)
    }

    pub(crate) fn array<const N: usize>(&mut self) -> Result<[u8; N], Malformed> {
        let (taken, rest) = self.0.split_first_chunk::<N>().ok_or_else(|| Malformed::wrong("ends early"))?;
        self.0 = rest;
        Ok(*taken)
    }

    pub(crate) fn u8(&mut self) -> Result<u8, Malformed> {
        self.array::<1>().map(|[byte]| byte)
    }

    pub(crate) fn u16(&mut self) -> Result<u16, Malformed> {
        self.array().map(u16::from_le_bytes)
    }

    pub(crate) fn u32(&mut self) -> Result<u32, Malformed> {
        self.array().map(u32::from_le_bytes)
    }

    pub(crate) fn u64(&mut self) -> Result<u64, Malformed> {
        self.array().map(u64::from_le_bytes)
    }

    pub(crate) fn end(&self) -> Result<(), Malformed> {
        if self.0.is_empty() { Ok(()) } else { Err(Malformed::wrong(format!("{} bytes too many", self.0.len()))) }
    }
}

/// 16-byte rows laid end to end.
pub(crate) fn rows16(bytes: &[u8]) -> Result<Vec<[u8; 16]>, Malformed> {
    let (rows, rest) = bytes.as_chunks::<16>();
    if rest.is_empty() { Ok(rows.to_vec()) } else { Err(Malformed::wrong("ids are not a multiple of 16 bytes")) }
}
