//! The pool's decisions, without I/O, clock, `unsafe` or async.

pub(crate) mod event;
