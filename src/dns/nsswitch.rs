//! The line `hosts:` of `nsswitch.conf` says whether the hosts file or the name servers are asked
//! first, among services that only the C library can load. [`SourceOrder`] is what of it can be
//! done here.
//!
//! Promise: no content makes it fail or panic; `files` and `dns` are asked at most once each; a
//! service that is passed over takes its `[...]` with it, and is named in a note.
//!
//! `resolve` (systemd-resolved) without `dns` is taken for `dns`: its name server is the one that
//! `resolv.conf` then names.

use super::conf::whole_lines;

/// How much of the file is read.
pub(crate) const MAX_LEN: usize = 64 * 1024;
const MAX_WORDS: usize = 64;
const MAX_SHOWN: usize = 32;

/// Where a name is looked up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Service {
    /// The hosts file.
    Files,
    /// The name servers.
    Dns,
}

/// One service, and after what it is the last.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Asked {
    pub(crate) service: Service,
    /// The service does not know the name, and no other is asked: `[NOTFOUND=return]`.
    pub(crate) ends_absent: bool,
    /// The service could not answer for now, and no other is asked: `[TRYAGAIN=return]`.
    pub(crate) ends_failed: bool,
}

/// The services in their order; at most one of each.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct SourceOrder {
    pub(crate) asked: Vec<Asked>,
}

impl Default for SourceOrder {
    /// `files dns`.
    fn default() -> Self {
        Self::of(&[Service::Files, Service::Dns])
    }
}

impl SourceOrder {
    /// These, each after all that came before failed.
    pub(crate) fn of(services: &[Service]) -> Self {
        let asked = services.iter().map(|&service| Asked::new(service));
        Self {
            asked: asked.collect(),
        }
    }

    /// Reads the content of an `nsswitch.conf`; also what has to be said of it.
    pub(crate) fn parse(bytes: &[u8]) -> (Self, Vec<String>) {
        let mut reader = Reader::default();
        let lines = whole_lines(bytes, MAX_LEN).split(|&byte| byte == b'\n');
        let mut lists = lines.filter_map(|line| {
            let line = str::from_utf8(line).ok()?.split('#').next()?;
            line.trim_ascii_start()
                .strip_prefix("hosts")?
                .trim_ascii_start()
                .strip_prefix(':')
        });
        match lists.next() {
            Some(list) => reader.list(list),
            None => return (Self::default(), Vec::new()),
        }
        reader.end()
    }

    /// Whether `service` is asked at all.
    pub(crate) fn has(&self, service: Service) -> bool {
        self.asked.iter().any(|asked| asked.service == service)
    }
}

impl Asked {
    fn new(service: Service) -> Self {
        Self {
            service,
            ends_absent: false,
            ends_failed: false,
        }
    }

    /// One `STATUS=action` or `!STATUS=action`; what is none says nothing.
    fn action(&mut self, text: &str) {
        let Some((status, action)) = text.split_once('=') else {
            return;
        };
        let ends = match action.to_ascii_lowercase().as_str() {
            "return" => true,
            "continue" => false,
            _ => return,
        };
        let (status, is_not) = match status.strip_prefix('!') {
            Some(status) => (status, true),
            None => (status, false),
        };
        let status = status.to_ascii_lowercase();
        let statuses = ["success", "notfound", "unavail", "tryagain"];
        if !statuses.contains(&status.as_str()) {
            return;
        }
        let meant = |other: &str| (status == other) != is_not;
        if meant("notfound") {
            self.ends_absent = ends;
        }
        if meant("tryagain") {
            self.ends_failed = ends;
        }
    }
}

#[derive(Default)]
struct Reader {
    asked: Vec<Asked>,
    resolve_is_dns: bool,
    passed_over: Vec<String>,
}

impl Reader {
    /// Services and, in brackets, what to do after them; both may touch.
    fn list(&mut self, mut list: &str) {
        let mut is_known = false;
        let mut words = list.split(|c: char| c.is_ascii_whitespace() || c == '[');
        self.resolve_is_dns = words.all(|word| word != "dns");
        for _ in 0..MAX_WORDS {
            list = list.trim_ascii_start();
            if let Some(rest) = list.strip_prefix('[') {
                let (actions, rest) = rest.split_once(']').unwrap_or((rest, ""));
                if let Some(last) = self.asked.last_mut().filter(|_| is_known) {
                    actions
                        .split_ascii_whitespace()
                        .for_each(|text| last.action(text));
                }
                list = rest;
                continue;
            }
            let end = list.find(|c: char| c.is_ascii_whitespace() || c == '[');
            let (word, rest) = list.split_at(end.unwrap_or(list.len()));
            if word.is_empty() {
                return;
            }
            is_known = self.service(word);
            list = rest;
        }
    }

    /// Whether it is one that is asked.
    fn service(&mut self, word: &str) -> bool {
        let service = match word {
            "files" => Service::Files,
            "dns" => Service::Dns,
            "resolve" if self.resolve_is_dns => Service::Dns,
            _ => {
                self.passed_over.push(word.to_owned());
                return false;
            }
        };
        let is_new = self.asked.iter().all(|asked| asked.service != service);
        if is_new {
            self.asked.push(Asked::new(service));
        }
        is_new
    }

    fn end(self) -> (SourceOrder, Vec<String>) {
        let mut notes = Vec::new();
        let has_dns = self.asked.iter().any(|asked| asked.service == Service::Dns);
        if self.resolve_is_dns && has_dns {
            notes.push("nsswitch.conf, hosts: `resolve` is taken for `dns`".to_owned());
        }
        if !self.passed_over.is_empty() {
            let shown = |word: &String| {
                let word: String = word.chars().take(MAX_SHOWN).collect();
                format!("`{}`", word.escape_debug())
            };
            let words: Vec<String> = self.passed_over.iter().map(shown).collect();
            let words = words.join(", ");
            notes.push(format!("nsswitch.conf, hosts: passed over {words}"));
        }
        if self.asked.is_empty() {
            notes.push("nsswitch.conf, hosts: nothing is left, `files dns` is used".to_owned());
            return (SourceOrder::default(), notes);
        }
        (SourceOrder { asked: self.asked }, notes)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// `F` and `D`, with `n` after one that ends when the name is absent, `t` when it failed.
    fn order(text: &str) -> String {
        let (order, _) = SourceOrder::parse(text.as_bytes());
        let show = |asked: &Asked| {
            let service = match asked.service {
                Service::Files => "F",
                Service::Dns => "D",
            };
            let absent = if asked.ends_absent { "n" } else { "" };
            let failed = if asked.ends_failed { "t" } else { "" };
            format!("{service}{absent}{failed}")
        };
        let shown: Vec<String> = order.asked.iter().map(show).collect();
        shown.join(" ")
    }

    #[test]
    fn the_order_of_real_files_is_understood() {
        let table = [
            ("", "F D"),
            ("passwd: files\n", "F D"),
            ("# hosts: dns\nhosts:\t\tfiles dns # dns files\n", "F D"),
            ("hosts: dns files\r\n", "D F"),
            (" hosts : dns\n", "D"),
            ("hosts: files\nhosts: dns\n", "F"),
            ("hosts: files dns files dns", "F D"),
            ("hosts: files [NOTFOUND=return] dns", "Fn D"),
            ("hosts: files[notfound=RETURN]dns", "Fn D"),
            ("hosts: dns [!UNAVAIL=return] files", "Dnt F"),
            (
                "hosts: dns [!UNAVAIL=return NOTFOUND=continue] files",
                "Dt F",
            ),
            ("hosts: dns [TRYAGAIN=return UNAVAIL=return] files", "Dt F"),
            ("hosts: dns [!TRYAGAIN=return] files", "Dn F"),
            (
                "hosts: files [SUCCESS=merge] [X=return] [NOTFOUND] dns",
                "F D",
            ),
            ("hosts: files [NOTFOUND=return", "Fn"),
            // Debian, Fedora, systemd.
            ("hosts: files mdns4_minimal [NOTFOUND=return] dns", "F D"),
            (
                "hosts: files myhostname resolve [!UNAVAIL=return] dns",
                "F D",
            ),
            (
                "hosts: mymachines resolve [!UNAVAIL=return] files myhostname",
                "Dnt F",
            ),
            ("hosts:", "F D"),
            ("hosts: db nis", "F D"),
        ];
        for (text, expected) in table {
            assert_eq!(order(text), expected, "{text}");
        }
    }

    #[test]
    fn what_is_passed_over_is_said_once() {
        let notes = |text: &str| SourceOrder::parse(text.as_bytes()).1;
        assert!(notes("hosts: files dns").is_empty());
        assert_eq!(
            notes("hosts: files mdns4_minimal [NOTFOUND=return] myhostname dns resolve"),
            ["nsswitch.conf, hosts: passed over `mdns4_minimal`, `myhostname`, `resolve`"]
        );
        assert_eq!(
            notes("hosts: resolve files"),
            ["nsswitch.conf, hosts: `resolve` is taken for `dns`"]
        );
        assert_eq!(
            notes("hosts: a\u{1b}[31m"),
            [
                "nsswitch.conf, hosts: passed over `a\\u{1b}`",
                "nsswitch.conf, hosts: nothing is left, `files dns` is used"
            ]
        );
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            SourceOrder::parse(&bytes);
        }

        #[test]
        fn each_service_comes_once(
            text in "(files|dns|resolve|mdns|\\[|\\]|!|NOTFOUND|UNAVAIL|=|return| |\n){0,60}",
        ) {
            let text = format!("hosts:{text}");
            let (order, _) = SourceOrder::parse(text.as_bytes());
            let files = order.asked.iter().filter(|asked| asked.service == Service::Files);
            let dns = order.asked.iter().filter(|asked| asked.service == Service::Dns);
            prop_assert!(files.count() <= 1 && dns.count() <= 1 && !order.asked.is_empty());
        }
    }
}
