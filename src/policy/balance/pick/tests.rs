use std::time::Duration;

use super::*;
use crate::balance::Weights;
use crate::policy::event::Busy;

const MS: Duration = Duration::from_millis(1);

fn address(last: u8) -> SocketAddr {
    SocketAddr::from(([127, 0, 0, last], 80))
}

/// Addresses with the weights given.
fn addresses(balance: Balance, weights: &[u16]) -> Addresses {
    let mut list = Addresses::default();
    list.set_balance(balance);
    let target = |(last, weight): (u8, &u16)| Target {
        weight: *weight,
        ..Target::new(address(last))
    };
    let targets: Vec<Target> = (1..).zip(weights).map(target).collect();
    list.replace(Tick::ZERO, &targets, Tick::NEVER, true);
    list
}

/// Where the next connects go, each of which stays.
fn connects(list: &mut Addresses, count: usize, rng: &mut Rng) -> Vec<u8> {
    let wish = Wish {
        tried: &[],
        since: Tick::NEVER,
        beside: None,
        room: 16,
    };
    let one = |_| {
        let address = list.pick(Tick::ZERO, &wish, rng).unwrap();
        list.dialing(address);
        list.succeeded(address);
        match address {
            SocketAddr::V4(v4) => v4.ip().octets()[3],
            SocketAddr::V6(_) => 0,
        }
    };
    (0..count).map(one).collect()
}

fn count(of: u8, all: &[u8]) -> usize {
    all.iter().filter(|one| **one == of).count()
}

#[test]
fn round_robin_takes_each_in_turn_whatever_it_holds_and_weighs() {
    let mut list = addresses(Balance::RoundRobin, &[9, 1, 4]);
    list.note_held(&[0, 7, 3]);
    let order = connects(&mut list, 9, &mut Rng::new(1));
    for of in 1..=3 {
        assert_eq!(count(of, &order[..3]), 1, "{order:?}");
    }
    assert_eq!(order[..3], order[3..6]);
    assert_eq!(order[..3], order[6..]);
}

#[test]
fn cores_have_turns_in_an_order_of_their_own() {
    let order = |seed| {
        let mut list = addresses(Balance::RoundRobin, &[1; 4]);
        connects(&mut list, 4, &mut Rng::new(seed))
    };
    let first: Vec<u8> = (0..100).map(|seed| order(seed)[0]).collect();
    assert!((1..=4).all(|of| count(of, &first) > 10), "{first:?}");
}

#[test]
fn an_address_that_comes_has_the_next_turn() {
    let mut list = addresses(Balance::RoundRobin, &[1; 2]);
    let mut rng = Rng::new(1);
    connects(&mut list, 5, &mut rng);
    let targets = [1, 2, 3].map(|last| Target::new(address(last)));
    list.replace(Tick::ZERO, &targets, Tick::NEVER, true);
    assert_eq!(connects(&mut list, 1, &mut rng), [3]);
}

#[test]
fn connections_are_as_the_weights() {
    let mut srv = addresses(Balance::LeastConnections, &[1, 3]);
    let order = connects(&mut srv, 400, &mut Rng::new(1));
    assert_eq!((count(1, &order), count(2, &order)), (100, 300));

    let given = Weights::from([(address(1), 4), (address(9), 50)]);
    let mut own = addresses(Balance::Weighted(given), &[1, 1]);
    let order = connects(&mut own, 500, &mut Rng::new(1));
    assert_eq!((count(1, &order), count(2, &order)), (400, 100));
}

#[test]
fn of_two_addresses_the_less_busy_one_is_taken() {
    let mut rng = Rng::new(1);
    let mut list = addresses(Balance::PowerOfTwo, &[1, 1]);
    let busy = |uses, millis| Busy {
        uses,
        latency: Some(MS * millis),
    };
    list.note_busy(&[busy(3, 5), busy(1, 5)]);
    assert_eq!(connects(&mut list, 1, &mut rng), [2]);
    // Three users of the fast one are less than one of the slow one.
    list.note_busy(&[busy(3, 5), busy(1, 50)]);
    assert_eq!(connects(&mut list, 1, &mut rng), [1]);
    // What nobody has tried is.
    list.note_busy(&[busy(0, 1), Busy::default()]);
    assert_eq!(connects(&mut list, 1, &mut rng), [2]);
    // Twice the weight, twice the work.
    let mut list = addresses(Balance::PowerOfTwo, &[3, 1]);
    list.note_busy(&[busy(3, 5), busy(1, 5)]);
    assert_eq!(connects(&mut list, 1, &mut rng), [1]);
}

#[test]
fn the_busiest_of_all_is_never_taken_and_the_others_are() {
    let mut list = addresses(Balance::PowerOfTwo, &[1; 4]);
    let busy = |uses| Busy {
        uses,
        latency: Some(MS),
    };
    list.note_busy(&[busy(1), busy(2), busy(3), busy(4)]);
    let order = connects(&mut list, 600, &mut Rng::new(1));
    let counts = [1, 2, 3, 4].map(|of| count(of, &order));
    // Pairs are drawn evenly: the first wins three of six, the second two, the third one.
    assert!((250..350).contains(&counts[0]), "{counts:?}");
    assert!((150..250).contains(&counts[1]), "{counts:?}");
    assert!((60..140).contains(&counts[2]), "{counts:?}");
    assert_eq!(counts[3], 0);
}

#[test]
fn who_dials_an_address_will_use_it() {
    let mut list = addresses(Balance::PowerOfTwo, &[1, 1]);
    let busy = Busy {
        uses: 0,
        latency: Some(MS),
    };
    list.note_busy(&[busy, busy]);
    list.dialing(address(1));
    assert_eq!(connects(&mut list, 1, &mut Rng::new(1)), [2]);
}

#[test]
fn c1_c15_no_balance_takes_an_address_that_failed_before_a_good_one() {
    let given = Balance::Weighted(Weights::from([(address(1), 100)]));
    for balance in [
        Balance::LeastConnections,
        Balance::PowerOfTwo,
        Balance::RoundRobin,
        given,
    ] {
        let mut list = addresses(balance, &[1, 1]);
        let mut rng = Rng::new(1);
        list.dialing(address(1));
        list.failed(Tick::ZERO, address(1), &mut rng);
        list.dialing(address(2));
        assert_eq!(connects(&mut list, 3, &mut rng), [2, 2, 2]);
    }
}
