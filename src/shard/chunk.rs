//! A received piece is read where the kernel put it, or where a layer above the kernel (or a
//! cancelled read) left it; the reader should not care which.

use std::fmt;
use std::ops::Deref;

use crate::ring;

/// A received piece of the stream. It derefs to the bytes; the kernel's buffer goes back to the
/// kernel when the chunk is dropped, so do not keep chunks for long.
pub struct Chunk {
    bytes: Bytes,
}

enum Bytes {
    Kernel(ring::Chunk),
    Owned { bytes: Vec<u8>, start: usize },
}

impl Chunk {
    pub(crate) fn kernel(chunk: ring::Chunk) -> Self {
        Self {
            bytes: Bytes::Kernel(chunk),
        }
    }

    pub(crate) fn owned(bytes: Vec<u8>) -> Self {
        Self {
            bytes: Bytes::Owned { bytes, start: 0 },
        }
    }

    /// Drops the first `n` bytes, or all if there are fewer.
    pub fn advance(&mut self, n: usize) {
        let n = n.min(self.len());
        match &mut self.bytes {
            Bytes::Kernel(chunk) => chunk.advance(n),
            Bytes::Owned { start, .. } => *start += n,
        }
    }
}

impl Deref for Chunk {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match &self.bytes {
            Bytes::Kernel(chunk) => chunk,
            Bytes::Owned { bytes, start } => &bytes[*start..],
        }
    }
}

impl AsRef<[u8]> for Chunk {
    fn as_ref(&self) -> &[u8] {
        self
    }
}

impl fmt::Debug for Chunk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Chunk({} bytes)", self.len())
    }
}
