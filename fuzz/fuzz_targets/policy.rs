//! The pool's decisions under histories that a fuzzer makes. After every step an oracle and a
//! recount of every figure agree with the policy; at the end everything is answered and ends.

#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| ringpool::fuzzing::policy(bytes));
