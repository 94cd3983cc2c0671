//! The board by hand, and under every interleaving of its writers and readers.

use super::*;

fn address(last: u8) -> SocketAddr {
    SocketAddr::from(([192, 0, 2, last], 80))
}

fn shard(index: usize) -> ShardId {
    ShardId::new(index, 1)
}

#[cfg(not(ringpool_loom))]
mod by_hand {
    use super::*;

    #[test]
    fn totals_sum_over_shards_in_the_order_asked() {
        let board = Board::new(4);
        board.opened(shard(0), address(1));
        board.opened(shard(3), address(1));
        board.opened(shard(3), address(2));
        let asked = [address(2), address(9), address(1)];
        assert_eq!(*board.totals(asked), [1, 0, 2]);
        board.closed(shard(3), address(1));
        assert_eq!(*board.totals(asked), [1, 0, 1]);
    }

    #[test]
    fn columns_tell_what_was_opened_and_what_is_open() {
        let board = Board::new(2);
        board.opened(shard(0), address(1));
        board.opened(shard(1), address(1));
        board.connected(address(1));
        board.connected(address(9));
        board.closed(shard(0), address(1));
        let column = Column {
            address: address(1),
            opened: 1,
            open: 1,
        };
        assert_eq!(board.columns(), [column]);
    }

    #[test]
    fn x2_a_close_too_many_is_not_a_negative_count() {
        let board = Board::new(1);
        board.opened(shard(0), address(1));
        board.closed(shard(0), address(1));
        board.closed(shard(0), address(1));
        board.closed(shard(0), address(2));
        assert_eq!(*board.totals([address(1), address(2)]), [0, 0]);
    }

    #[test]
    fn only_an_address_without_connections_makes_room() {
        let board = Board::new(2);
        for last in 0..MAX_ADDRESSES as u8 {
            board.opened(shard(0), address(last));
        }
        board.opened(shard(1), address(200));
        assert_eq!(*board.totals([address(200)]), [0]);
        board.closed(shard(0), address(7));
        board.opened(shard(1), address(200));
        assert_eq!(
            *board.totals([address(200), address(7), address(6)]),
            [1, 0, 1]
        );
    }

    #[test]
    fn x5_x6_a_dead_shards_counts_are_gone_and_stay_gone() {
        let board = Board::new(2);
        board.opened(shard(0), address(1));
        board.opened(shard(1), address(1));
        board.forget(shard(1));
        assert_eq!(*board.totals([address(1)]), [1]);
        board.opened(shard(1), address(1));
        assert_eq!(*board.totals([address(1)]), [1]);
        let heir = ShardId::new(1, 2);
        board.opened(heir, address(1));
        board.closed(shard(1), address(1));
        board.forget(shard(1));
        assert_eq!(*board.totals([address(1)]), [2]);
    }

    fn load(in_use: u32, millis: u64) -> Load {
        Load {
            in_use,
            latency: (millis > 0).then(|| Duration::from_millis(millis)),
        }
    }

    #[test]
    fn loads_sum_over_shards_and_latencies_are_weighed_by_connections() {
        let board = Board::new(3);
        let spots = [0, 1, 2].map(|n| board.opened(shard(n), address(1)).unwrap());
        board.opened(shard(1), address(1));
        board.opened(shard(1), address(1));
        board.publish_load(shard(0), spots[0], load(1, 10));
        board.publish_load(shard(1), spots[1], load(3, 2));
        board.publish_load(shard(2), spots[2], load(0, 0));
        let asked = [address(2), address(1)];
        assert_eq!(*board.loads(&asked), [Load::default(), load(4, 4)]);
        assert_eq!(*board.totals(asked), [0, 5]);
    }

    #[test]
    fn extremes_of_a_load_stay_in_their_range() {
        let board = Board::new(1);
        let spot = board.opened(shard(0), address(1)).unwrap();
        for (latency, shown) in [
            (Duration::ZERO, Duration::from_micros(1)),
            (Duration::MAX, Duration::from_micros(u32::MAX.into())),
        ] {
            let latency = Some(latency);
            board.publish_load(
                shard(0),
                spot,
                Load {
                    latency,
                    ..load(u32::MAX, 0)
                },
            );
            let seen = board.loads(&[address(1)])[0];
            assert_eq!((seen.in_use, seen.latency), (u32::MAX, Some(shown)));
        }
    }

    #[test]
    fn with_its_last_connection_a_shards_load_is_gone() {
        let board = Board::new(2);
        let spot = board.opened(shard(0), address(1)).unwrap();
        board.publish_load(shard(0), spot, load(1, 5));
        board.closed(shard(0), address(1));
        assert_eq!(*board.loads(&[address(1)]), [Load::default()]);
        // The column may have another address by now.
        board.publish_load(shard(0), spot, load(1, 5));
        assert_eq!(*board.loads(&[address(1)]), [Load::default()]);
    }

    fn since(nanos: u64) -> Option<Tick> {
        Some(Tick::from_nanos(nanos))
    }

    #[test]
    fn the_oldest_wait_elsewhere_is_that_of_any_other_shard() {
        let board = Board::new(3);
        assert_eq!(board.wait_elsewhere(shard(1)), None);
        board.publish_wait(shard(0), since(9));
        board.publish_wait(shard(2), since(4));
        assert_eq!(board.wait_elsewhere(shard(0)), since(4));
        assert_eq!(board.wait_elsewhere(shard(1)), since(4));
        assert_eq!(board.wait_elsewhere(shard(2)), since(9));
        board.publish_wait(shard(2), None);
        assert_eq!(board.wait_elsewhere(shard(1)), since(9));
        assert_eq!(board.wait_elsewhere(shard(0)), None);
    }

    #[test]
    fn x5_x6_a_dead_shards_load_and_waiters_are_gone_and_stay_gone() {
        let board = Board::new(2);
        let spot = board.opened(shard(0), address(1)).unwrap();
        board.publish_load(shard(0), spot, load(1, 1));
        board.publish_wait(shard(0), since(1));
        board.forget(shard(0));
        let heir = ShardId::new(0, 2);
        assert_eq!(board.opened(heir, address(1)), Some(spot));
        board.publish_load(heir, spot, load(2, 3));
        board.publish_wait(heir, since(4));
        board.publish_load(shard(0), spot, load(1, 1));
        board.publish_wait(shard(0), since(1));
        board.forget(shard(0));
        assert_eq!(board.opened(shard(0), address(1)), None);
        assert_eq!(*board.loads(&[address(1)]), [load(2, 3)]);
        assert_eq!(board.wait_elsewhere(shard(1)), since(4));
    }

    #[test]
    fn names_that_come_and_go_leave_no_cells() {
        let board = Board::new(2);
        for round in 0..4_u8 {
            for last in 0..MAX_ADDRESSES as u8 {
                let address = SocketAddr::from(([192, 0, round, last], 80));
                board.opened(shard(0), address).unwrap();
                board.closed(shard(0), address);
            }
        }
        assert_eq!(board.columns().len(), MAX_ADDRESSES);
        assert!(board.columns().iter().all(|column| column.open == 0));
    }
}

#[cfg(ringpool_loom)]
mod model {
    use std::sync::Arc;

    use loom::thread;

    use super::*;

    #[test]
    fn x9_two_writers_and_a_reader_never_miscount() {
        loom::model(|| {
            let board = Arc::new(Board::new(2));
            let writer = {
                let board = board.clone();
                thread::spawn(move || {
                    let shard = ShardId::new(0, 1);
                    board.opened(shard, address(1)).unwrap();
                    board.closed(shard, address(1));
                })
            };
            board.opened(ShardId::new(1, 1), address(1));
            let total = board.totals(&[address(1)])[0];
            assert!(total == 1 || total == 2);
            writer.join().unwrap();
            assert_eq!(*board.totals(&[address(1)]), [1]);
        });
    }

    #[test]
    fn a_column_is_not_taken_from_an_address_that_is_being_opened() {
        let mut model = loom::model::Builder::new();
        model.preemption_bound = Some(3);
        model.check(|| {
            let board = Arc::new(Board::new(2));
            board.opened(ShardId::new(1, 1), address(1));
            board.opened(ShardId::new(1, 1), address(2));
            board.closed(ShardId::new(1, 1), address(2));
            let writer = {
                let board = board.clone();
                thread::spawn(move || board.opened(shard(0), address(2)).is_some())
            };
            board.opened(ShardId::new(1, 1), address(3));
            writer.join().unwrap();
            // One column was free: exactly one of the two got it, and neither counts as the other.
            let totals = board.totals(&[address(1), address(2), address(3)]);
            assert!(*totals == [1, 1, 0] || *totals == [1, 0, 1]);
        });
    }

    fn in_use(count: u32) -> Load {
        Load {
            in_use: count,
            ..Load::default()
        }
    }

    #[test]
    fn x9_a_load_that_is_written_without_a_lock_never_shows_at_another_address() {
        let mut model = loom::model::Builder::new();
        model.preemption_bound = Some(3);
        model.check(|| {
            let board = Arc::new(Board::new(2));
            board.opened(shard(1), address(2)).unwrap();
            let writer = {
                let board = board.clone();
                thread::spawn(move || {
                    // Not if the other one was faster.
                    if let Some(spot) = board.opened(shard(0), address(1)) {
                        board.publish_load(shard(0), spot, in_use(1));
                        board.closed(shard(0), address(1));
                    }
                })
            };
            // There is room for two: this takes the column of the first one only when that is free.
            let got = board.opened(shard(1), address(3)).is_some();
            let seen = board.loads(&[address(1), address(3)]);
            assert!(seen[0].in_use <= 1);
            assert_eq!(seen[1].in_use, 0);
            assert_eq!(board.totals(&[address(3)])[0], u32::from(got));
            writer.join().unwrap();
        });
    }

    #[test]
    fn x9_x6_a_reader_meets_writers_and_a_shard_that_leaves() {
        let mut model = loom::model::Builder::new();
        model.preemption_bound = Some(3);
        model.check(|| {
            let board = Arc::new(Board::new(2));
            let writer = {
                let board = board.clone();
                thread::spawn(move || {
                    let spot = board.opened(shard(0), address(1)).unwrap();
                    board.publish_load(shard(0), spot, in_use(7));
                    board.forget(shard(0));
                    let heir = ShardId::new(0, 2);
                    let spot = board.opened(heir, address(1)).unwrap();
                    board.publish_load(heir, spot, in_use(9));
                })
            };
            let seen = board.loads(&[address(1)])[0].in_use;
            assert!([0, 7, 9].contains(&seen), "{seen}");
            writer.join().unwrap();
            assert_eq!(board.loads(&[address(1)])[0].in_use, 9);
            assert_eq!(*board.totals(&[address(1)]), [1]);
        });
    }
}
