//! A fuzzer is a crate of its own (`fuzz/`) and sees what is public. Under `cfg(fuzzing)` alone this
//! is public too, and is no part of the interface.

/// Plays bytes as a history of the pool's decisions against the oracle; a broken rule panics.
pub fn policy(bytes: &[u8]) {
    crate::policy::bytes::play(bytes);
}

/// Reads bytes as the system's files, environment and a name; a broken promise panics.
pub fn resolv_conf(bytes: &[u8]) {
    crate::dns::bytes::read(bytes);
}

/// Plays bytes as what the network does to a lookup; a broken promise panics.
pub fn dns_answer(bytes: &[u8]) {
    crate::dns::network::play(bytes);
}
