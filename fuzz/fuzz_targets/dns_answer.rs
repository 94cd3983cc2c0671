//! A question to name servers that a fuzzer plays: answers over UDP and TCP, silence, failures.
//! Whatever they are, the lookup ends in time, and what it found belongs to the question.

#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| ringpool::fuzzing::dns_answer(bytes));
