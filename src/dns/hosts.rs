//! The hosts file is edited by hand and by programs, and may hold anything. [`Hosts`] keeps the
//! lines that make sense.
//!
//! Promise: no content makes it fail or panic; at most 4 MiB are read, to the last whole line;
//! names compare without regard to case; the addresses of a name are those of all its lines, in
//! their order, each once.

use std::collections::HashMap;
use std::net::IpAddr;

use super::conf::whole_lines;
use crate::resolver::{MAX_ADDRESSES, NameTable};

/// How much of the file is read.
pub(crate) const MAX_LEN: usize = 4 * 1024 * 1024;
const MAX_NAME_LEN: usize = 253;

/// Names and addresses of a hosts file.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Hosts {
    /// By the name in lower case.
    addresses: HashMap<Box<str>, Vec<IpAddr>>,
}

impl Hosts {
    /// Reads the content of a hosts file.
    pub(crate) fn parse(bytes: &[u8]) -> Self {
        let mut hosts = Self::default();
        for line in whole_lines(bytes, MAX_LEN).split(|&byte| byte == b'\n') {
            hosts.line(line);
        }
        hosts
    }

    /// The names of a table, as if a file listed them.
    pub(crate) fn of_table(table: &NameTable) -> Self {
        let names = table.iter();
        let addresses = names.map(|(name, addresses)| (name.into(), addresses.to_vec()));
        Self {
            addresses: addresses.collect(),
        }
    }

    /// The addresses of `host`; none if the file does not mention it.
    pub(crate) fn lookup(&self, host: &str) -> &[IpAddr] {
        let found = match host.bytes().any(|byte| byte.is_ascii_uppercase()) {
            true => self.addresses.get(&*host.to_ascii_lowercase()),
            false => self.addresses.get(host),
        };
        found.map_or(&[], Vec::as_slice)
    }

    fn line(&mut self, line: &[u8]) {
        let line = line.split(|&byte| byte == b'#').next().unwrap_or(line);
        let mut words = line
            .split(u8::is_ascii_whitespace)
            .filter(|word| !word.is_empty())
            .filter_map(|word| str::from_utf8(word).ok());
        // A link-local address with a zone does not parse: without its zone it leads nowhere.
        let Some(address) = words.next().and_then(|word| word.parse().ok()) else {
            return;
        };
        for name in words {
            let name = name.strip_suffix('.').unwrap_or(name);
            if name.is_empty() || name.len() > MAX_NAME_LEN || name.contains('\0') {
                continue;
            }
            let name = name.to_ascii_lowercase().into_boxed_str();
            let addresses = self.addresses.entry(name).or_default();
            if addresses.len() < MAX_ADDRESSES && !addresses.contains(&address) {
                addresses.push(address);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn addresses(texts: &[&str]) -> Vec<IpAddr> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    #[test]
    fn lines_of_one_name_are_merged_in_order_and_without_doubles() {
        let hosts = Hosts::parse(
            b"# comment\n127.0.0.1\tlocalhost db  # the database\r\n::1 localhost\n\
              127.0.0.1 LOCALHOST\n  192.0.2.7 Db.Example. db\n",
        );
        assert_eq!(hosts.lookup("localhost"), addresses(&["127.0.0.1", "::1"]));
        assert_eq!(hosts.lookup("DB"), addresses(&["127.0.0.1", "192.0.2.7"]));
        assert_eq!(hosts.lookup("db.example"), addresses(&["192.0.2.7"]));
        assert!(hosts.lookup("the").is_empty());
        assert!(hosts.lookup("example").is_empty());
    }

    #[test]
    fn d31_lines_that_make_no_sense_are_passed_over() {
        let hosts = Hosts::parse(
            b"\xef\xbb\xbf192.0.2.1 first\nnonsense\n192.0.2 short\n\xff\xfe 1\n192.0.2.2\n\
              fe80::1%lo0 zoned\n192.0.2.3 \xff good \0\n192.0.2.4 last",
        );
        assert_eq!(hosts.lookup("first"), addresses(&["192.0.2.1"]));
        assert_eq!(hosts.lookup("good"), addresses(&["192.0.2.3"]));
        assert_eq!(hosts.lookup("last"), addresses(&["192.0.2.4"]));
        assert_eq!(hosts.addresses.len(), 3);
    }

    #[test]
    fn d31_a_huge_file_is_cut_after_a_whole_line() {
        let mut file = b"192.0.2.1 early\n".repeat(MAX_LEN / 16 - 1);
        file.extend_from_slice(b"192.0.2.2 e\n192.0.2.3 across-the-edge\n192.0.2.4 late\n");
        let hosts = Hosts::parse(&file);
        assert_eq!(hosts.lookup("e"), addresses(&["192.0.2.2"]));
        assert!(hosts.lookup("across-the-edge").is_empty());
        assert!(hosts.lookup("across-").is_empty());
        assert!(hosts.lookup("late").is_empty());
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            Hosts::parse(&bytes);
        }
    }
}
