//! A user can hand a buffer to the kernel and wants exactly that buffer back. The ring does not
//! know its type: [`OwnedBuf`] erases it and gives it back.
//!
//! Promise: from [`OwnedBuf::new`] until it is taken apart, the bytes stay where they are, because
//! `IoBuf` demands a pointer that is stable even when the value moves (it is an `unsafe` trait),
//! and nothing else can reach the buffer meanwhile.

use std::any::Any;
use std::fmt;
use std::ops::Range;

use tokio_uring::buf::IoBuf;

/// A user's buffer on its way to the kernel and back.
pub(crate) struct OwnedBuf {
    buf: Box<dyn Any>,
    start: *const u8,
    len: usize,
}

impl OwnedBuf {
    /// All initialised bytes of `buf`.
    pub(crate) fn new(buf: impl IoBuf) -> Self {
        let all = 0..buf.bytes_init();
        Self::with_range(buf, all)
    }

    /// The part `range` of the initialised bytes of `buf`; what lies outside of them is left out.
    pub(crate) fn with_range(buf: impl IoBuf, range: Range<usize>) -> Self {
        let end = range.end.min(buf.bytes_init());
        let begin = range.start.min(end);
        let buf = Box::new(buf);
        Self {
            start: buf.stable_ptr().wrapping_add(begin),
            len: end - begin,
            buf,
        }
    }

    /// How many bytes there are to send.
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// Whether there is nothing to send.
    #[cfg(test)]
    pub(crate) fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The buffer as the type it had, or `self` unchanged if it had another.
    pub(crate) fn downcast<B: IoBuf>(self) -> Result<B, Self> {
        let Self { buf, start, len } = self;
        match buf.downcast::<B>() {
            Ok(buf) => Ok(*buf),
            Err(buf) => Err(Self { buf, start, len }),
        }
    }

    /// The buffer as it was given.
    #[cfg(test)]
    pub(crate) fn into_any(self) -> Box<dyn Any> {
        self.buf
    }

    /// Where the bytes to send start.
    pub(super) fn as_ptr(&self) -> *const u8 {
        self.start
    }
}

impl fmt::Debug for OwnedBuf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "OwnedBuf({} bytes)", self.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_buffer_comes_back() {
        let buf = b"some bytes".to_vec();
        let start = buf.as_ptr();
        let owned = OwnedBuf::with_range(buf, 5..100);
        assert_eq!(owned.len(), 5);
        assert_eq!(owned.as_ptr(), start.wrapping_add(5));
        let owned = owned.downcast::<&'static str>().unwrap_err();
        let back = owned.downcast::<Vec<u8>>().unwrap();
        assert_eq!((back.as_ptr(), &back[..]), (start, &b"some bytes"[..]));
        assert!(OwnedBuf::new("").is_empty());
        let any = OwnedBuf::new("abc").into_any();
        assert_eq!(any.downcast_ref::<&'static str>(), Some(&"abc"));
    }
}
