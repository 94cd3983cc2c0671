//! `resolv.conf`, `nsswitch.conf`, the hosts file, the environment and a name, made of a fuzzer's
//! bytes: every value stays in its range, the search list is finite and asks for no special name.

#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| ringpool::fuzzing::resolv_conf(bytes));
