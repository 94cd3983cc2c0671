//! In which order the addresses of a name are to be tried depends on where this host would send
//! from. The kernel is asked for that when a name was resolved, not when a connection is opened.
//!
//! Promise: one question per destination in [`FRESH`], however many names lead there; a bounded
//! number of answers is kept; with a single address nothing is asked.

use std::collections::HashMap;
use std::net::IpAddr;
use std::time::Duration;

use crate::dns::{self, Ranked};
use crate::host::Host;
use crate::time::Tick;

/// How long an answer is good: routes change seldom, and a wrong one costs an attempt, no more.
const FRESH: Duration = Duration::from_secs(5);
/// Answers kept: the addresses of a few large names.
const MAX_KEPT: usize = 256;

/// Source addresses that the kernel named lately.
#[derive(Debug, Default)]
pub(crate) struct Routes {
    known: HashMap<IpAddr, (Option<IpAddr>, Tick)>,
}

impl Routes {
    /// From which address this host would send to `to`.
    pub(super) fn source_of(&mut self, now: Tick, to: IpAddr, host: &Host) -> Option<IpAddr> {
        if let Some((source, until)) = self.known.get(&to)
            && now < *until
        {
            return *source;
        }
        if self.known.len() >= MAX_KEPT {
            self.known.clear();
        }
        let source = host.source_of(to);
        self.known.insert(to, (source, now.plus(FRESH)));
        source
    }

    /// The addresses in the order in which they are to be tried; those of equal preference are one
    /// group (RFC 6724).
    pub(crate) fn ranked(&mut self, now: Tick, host: &Host, addresses: &[IpAddr]) -> Vec<Ranked> {
        if let [ip] = *addresses {
            return vec![Ranked { ip, group: 0 }];
        }
        let sources: Vec<(IpAddr, Option<IpAddr>)> = addresses
            .iter()
            .map(|to| (*to, self.source_of(now, *to, host)))
            .collect();
        let source_of = |to| {
            let known = sources.iter().find(|(known, _)| *known == to);
            known.and_then(|(_, source)| *source)
        };
        dns::order(addresses, true, source_of)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_address_needs_no_order_and_equal_ones_are_one_group() {
        let mut routes = Routes::default();
        let loopback = |last| IpAddr::from([127, 0, 0, last]);
        let best = |ip| Ranked { ip, group: 0 };
        let single = routes.ranked(Tick::ZERO, &Host::Thread, &[loopback(1)]);
        assert_eq!(single, [best(loopback(1))]);
        assert!(routes.known.is_empty(), "nobody was asked");
        let both = [loopback(1), loopback(2)];
        let ranked = routes.ranked(Tick::ZERO, &Host::Thread, &both);
        assert_eq!(ranked, both.map(best));
        assert_eq!(routes.known.len(), 2);
    }

    #[test]
    fn an_answer_is_kept_for_a_while_and_not_without_bound() {
        let mut routes = Routes::default();
        let to = IpAddr::from([127, 0, 0, 1]);
        let other = IpAddr::from([127, 0, 0, 9]);
        routes
            .known
            .insert(to, (Some(other), Tick::ZERO.plus(FRESH)));
        let late = Tick::ZERO.plus(FRESH);
        let before = Tick::from_nanos(late.as_nanos() - 1);
        assert_eq!(routes.source_of(before, to, &Host::Thread), Some(other));
        assert_eq!(routes.source_of(late, to, &Host::Thread), Some(to));
        for n in 0..2 * MAX_KEPT {
            let to = IpAddr::from([127, 1, (n / 256) as u8, n as u8]);
            routes.known.insert(to, (None, late));
            routes.source_of(late, to, &Host::Thread);
            assert!(routes.known.len() <= MAX_KEPT + 1);
        }
    }
}
