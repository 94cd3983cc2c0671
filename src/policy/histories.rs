//! Random histories, drawn by `proptest`, which reduces those that fail.

use proptest::prelude::*;

use super::model::Run;
use super::op::{Bounds, Op};

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        12 => (0..3_usize).prop_map(Op::Get),
        2 => (0..3_usize).prop_map(Op::TryGet),
        4 => (0..64_usize).prop_map(Op::Cancel),
        12 => (0..64_usize, prop::bool::weighted(0.8), prop::bool::weighted(0.8))
            .prop_map(|(i, clean, watched)| Op::Put(i, clean, watched)),
        30 => (0..64_usize).prop_map(Op::Answer),
        8 => (0..64_usize).prop_map(Op::Refuse),
        8 => (0..3_000_u64).prop_map(Op::Pass),
        2 => (0..3_usize, any::<bool>()).prop_map(|(i, on)| Op::Demand(i, on)),
        1 => (0..3_usize).prop_map(Op::Renew),
        3 => (0..64_usize).prop_map(Op::Break),
        1 => (0..3_usize).prop_map(Op::Clear),
        3 => (0..32_u8, prop::bool::weighted(0.8)).prop_map(|(bits, fresh)| Op::Change(bits, fresh)),
        3 => (0..8_u32, 0..8_u8).prop_map(|(i, what)| Op::Stray(i, what)),
        3 => (0..8_usize, 0..8_usize).prop_map(|(i, address)| Op::Receive(i, address)),
        3 => (0..3_usize, 0..32_u8, 0..3_000_u64).prop_map(|(i, bits, ms)| Op::Eject(i, bits, ms)),
        1 => Just(Op::Drain),
    ]
}

/// Gets and returns at the same moment.
fn use_op() -> impl Strategy<Value = Op> {
    prop_oneof![
        4 => (0..2_usize).prop_map(Op::Get),
        1 => (0..2_usize).prop_map(Op::TryGet),
        5 => (0..64_usize).prop_map(|i| Op::Put(i, true, true)),
        2 => (0..64_usize).prop_map(Op::Answer),
    ]
}

fn bounds() -> impl Strategy<Value = Bounds> {
    let permits = (1..6_usize, 1..4_u8, 1..4_u32);
    let limits = (0..3_usize, 1..8_usize, 0..5_u64);
    let cores = prop::option::of(0..4_usize);
    let told = (any::<bool>(), any::<bool>());
    let rest = (told, 0..8_u64, cores);
    (permits, limits, rest).prop_map(|(permits, limits, (told, ttl, elsewhere))| Bounds {
        limit: permits.0,
        addresses: permits.1,
        capacity: permits.2,
        min_idle: limits.0,
        max_connections: limits.1,
        uses: limits.2,
        health_check: told.0,
        notify: told.1,
        ttl,
        elsewhere,
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn every_history_keeps_the_rules_and_ends(
        ops in prop::collection::vec(op(), 1..300),
        bounds in bounds(),
        drains in prop::bool::weighted(0.2),
    ) {
        let mut run = Run::new(bounds);
        for op in ops {
            if drains || !matches!(op, Op::Drain) {
                run.apply(op);
            }
        }
        run.finish();
    }

    #[test]
    fn nobody_can_tell_what_is_in_the_hand(
        ops in prop::collection::vec(prop_oneof![2 => op(), 3 => use_op()], 1..300),
        bounds in bounds(),
    ) {
        let capacity = bounds.capacity.min(2);
        let bounds = Bounds { min_idle: 0, notify: false, capacity, ..bounds };
        let (mut with, mut without) = (Run::new(bounds), Run::new(bounds));
        for (step, op) in ops.into_iter().enumerate() {
            with.apply(op.clone());
            without.apply(op);
            without.empty_hand();
            prop_assert_eq!(with.told(), without.told());
            if step % 32 == 31 {
                prop_assert_eq!(with.state(), without.state());
            }
        }
        prop_assert_eq!(with.state(), without.state());
        with.finish();
        without.finish();
    }
}
