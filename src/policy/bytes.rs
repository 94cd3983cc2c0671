//! A fuzzer makes bytes and learns from what they reach. Here bytes are read as a history of the
//! policy: its bounds, then one step after the other.
//!
//! Promise: every sequence of bytes is a history, and bytes that do not matter to one step do not
//! shift the next: a step is always three bytes, so that a part cut out or copied stays a part.

use super::model::Run;
use super::op::{Bounds, Op};

/// Bytes in front that choose the bounds.
const BOUNDS: usize = 4;
/// Bytes of one step: what, and two arguments.
const STEP: usize = 3;
/// Steps after which a history ends: each is compared with the whole oracle.
const MOST_STEPS: usize = 1000;

/// Plays the history, comparing after each step; then everything is answered and must end.
///
/// # Panics
///
/// If the policy breaks a rule.
pub(crate) fn play(bytes: &[u8]) {
    let (front, steps) = bytes.split_at(bytes.len().min(BOUNDS));
    let mut run = Run::new(bounds(front));
    for step in steps.chunks_exact(STEP).take(MOST_STEPS) {
        run.apply(op(step[0], step[1], step[2]));
    }
    run.finish();
}

fn bounds(front: &[u8]) -> Bounds {
    let at = |n: usize| front.get(n).copied().unwrap_or(0);
    Bounds {
        limit: 1 + usize::from(at(0) % 5),
        addresses: 1 + at(0) / 5 % 3,
        capacity: 1 + u32::from(at(1) % 3),
        min_idle: usize::from(at(1) / 3 % 3),
        max_connections: 1 + usize::from(at(2) % 7),
        uses: u64::from(at(2) / 7 % 5),
        health_check: at(3) % 2 == 1,
        notify: at(3) / 128 == 1,
        ttl: u64::from(at(3) / 2 % 8),
        elsewhere: usize::from(at(3) / 16 % 5).checked_sub(1),
    }
}

/// The step that three bytes mean. How often a step is meant is about what the drawn histories
/// have; draining, after which little happens, has one value in 256.
fn op(what: u8, first: u8, second: u8) -> Op {
    let (endpoint, any) = (usize::from(first % 3), usize::from(first));
    match what {
        255 => Op::Drain,
        _ => match what % 32 {
            0..5 => Op::Get(endpoint),
            5 => Op::TryGet(endpoint),
            6..8 => Op::Cancel(any),
            8..12 => Op::Put(any, true, second % 8 != 7),
            12 => Op::Put(any, false, true),
            13..21 => Op::Answer(any),
            21 => Op::Renew(endpoint),
            22..25 => Op::Refuse(any),
            25 => Op::Pass(u64::from(first) * 12 + u64::from(second)),
            27 => Op::Change(first % 32, !second.is_multiple_of(4)),
            28 => Op::Demand(endpoint, second.is_multiple_of(2)),
            26 => Op::Receive(any, usize::from(second)),
            29 => Op::Break(any),
            30 => Op::Stray(u32::from(first % 8), second % 8),
            _ if second.is_multiple_of(2) => {
                Op::Eject(endpoint, second / 2 % 32, u64::from(first) * 12)
            }
            _ => Op::Clear(endpoint),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Histories that the fuzzer found once, and the plainest ones.
    #[test]
    fn kept_histories_end() {
        let open_and_use = [
            &[0; BOUNDS][..],
            &[0, 0, 0],
            &[13, 0, 0].repeat(4),
            &[8, 0, 0],
        ];
        // The second get's opening waits for a slot, and is taken back.
        let parked = b"\x01\0\0\0\0\0\0\x20\x60\x59\x0a";
        // An opening's address is gone, and named again before its attempt's close has ended.
        let gone = b"\xa4#\x02\0\x80\0\0\0\0\0\xfb\x08`\x9a;\xb4ooo\x02\0\0\0\0\0\0\0\xfb\x08`\x9a;\xb4\
            ooo\x91\x9ao\x01\0\0\0\0\0\0\x04\x0812\x9291~oo\x01\0\0\x08\0$\xfb\xfb\x08`\x9a3\0\0\
            \x04oooo\x01\0\0\0\0\x03\0\x04\x0811198~oooo\x01\0\0\0\0\0\0\x04\x0811190~oo\x01\0\0\0\0\
            $\xfb\xfb\x08`\x9a3\0\0\x04oooo\x01\0\0\0\0\0\0\x04\x0811191~oo\x01\x0811\xcf\xdb\
            \x04\x04\xf7\x9fe\xcc\0\0\x04oooo\x01\0\0\0\0\x03\0\x9f\x04\x0811\x9a|\09";
        let kept: [&[u8]; 3] = [&open_and_use.concat(), parked, gone];
        let plain: [&[u8]; 3] = [b"", &[7, 7], &[255; 100]];
        let histories = plain.into_iter().chain(kept);
        histories.for_each(play);
    }

    #[test]
    fn every_step_can_be_meant() {
        let mut kinds: Vec<_> = (0..=255)
            .flat_map(|what| [op(what, 0, 0), op(what, 0, 1)])
            .map(|op| std::mem::discriminant(&op))
            .collect();
        let mut distinct = Vec::new();
        kinds.retain(|kind| {
            let new = !distinct.contains(kind);
            distinct.push(*kind);
            new
        });
        assert_eq!(kinds.len(), 16);
    }
}
