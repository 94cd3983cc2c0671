//! A user can hand a buffer to the kernel and wants exactly that buffer back. The ring does not
//! know its type: [`OwnedBuf`] erases it and gives it back.
//!
//! Promise: from [`OwnedBuf::new`] until it is taken apart, the bytes stay where they are, because
//! `IoBuf` demands a pointer that is stable even when the value moves (it is an `unsafe` trait),
//! and nothing else can reach the buffer meanwhile. A box that a buffer was taken out of holds the
//! next one of its type: who writes buffer after buffer allocates nothing for that.

use std::any::Any;
use std::fmt;
#[cfg(test)]
use std::ops::Range;

use tokio_uring::buf::IoBuf;

/// A user's buffer on its way to the kernel and back.
pub(crate) struct OwnedBuf {
    /// An `Option` of the buffer's type, which is there.
    buf: Box<dyn Any>,
    start: *const u8,
    len: usize,
}

impl OwnedBuf {
    /// All initialised bytes of `buf`.
    pub(crate) fn new(buf: impl IoBuf) -> Self {
        Self::in_place(None, buf)
    }

    /// The same, in a box that [`downcast`](Self::downcast) has left, if it fits.
    pub(crate) fn in_place<B: IoBuf>(place: Option<EmptyBox>, buf: B) -> Self {
        let mut place = match place.map(|place| place.0.downcast::<Option<B>>()) {
            Some(Ok(place)) => place,
            _ => Box::new(None),
        };
        let buf = place.insert(buf);
        let (start, len) = (buf.stable_ptr(), buf.bytes_init());
        Self {
            buf: place,
            start,
            len,
        }
    }

    /// The part `range` of the initialised bytes of `buf`; what lies outside of them is left out.
    #[cfg(test)]
    pub(crate) fn with_range(buf: impl IoBuf, range: Range<usize>) -> Self {
        let all = Self::new(buf);
        let end = range.end.min(all.len);
        let begin = range.start.min(end);
        Self {
            start: all.start.wrapping_add(begin),
            len: end - begin,
            ..all
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

    /// The buffer as the type it had, and its box, or `self` unchanged if it had another type.
    pub(crate) fn downcast<B: IoBuf>(mut self) -> Result<(B, EmptyBox), Self> {
        let buf = self.buf.downcast_mut::<Option<B>>().and_then(Option::take);
        match buf {
            Some(buf) => Ok((buf, EmptyBox(self.buf))),
            None => Err(self),
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

/// The box of a buffer that was taken out of it.
#[derive(Debug)]
pub(crate) struct EmptyBox(Box<dyn Any>);

impl EmptyBox {
    #[cfg(test)]
    fn address(&self) -> *const u8 {
        (&raw const *self.0).cast()
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
        let (back, place) = owned.downcast::<Vec<u8>>().unwrap();
        assert_eq!((back.as_ptr(), &back[..]), (start, &b"some bytes"[..]));
        // Its box holds the next one, if that is of its type.
        let at = place.address();
        let owned = OwnedBuf::in_place(Some(place), back);
        assert_eq!((owned.as_ptr(), owned.len()), (start, 10));
        let (_back, place) = owned.downcast::<Vec<u8>>().unwrap();
        assert_eq!(place.address(), at);
        let owned = OwnedBuf::in_place(Some(place), "other");
        assert_eq!(owned.downcast::<&'static str>().unwrap().0, "other");
        assert!(OwnedBuf::new("").is_empty());
        let any = OwnedBuf::new("abc").into_any();
        assert_eq!(any.downcast_ref(), Some(&Some("abc")));
    }
}
