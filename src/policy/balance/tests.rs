use super::*;

fn address(last: u8) -> SocketAddr {
    SocketAddr::from(([127, 0, 0, last], 80))
}

fn wish(tried: &[SocketAddr], since: Tick) -> Wish<'_> {
    Wish {
        tried,
        since,
        beside: None,
        room: 16,
    }
}

fn addresses(n: u8) -> Addresses {
    let mut list = Addresses::default();
    list.replace(
        Tick::ZERO,
        &(1..=n).map(|n| Target::new(address(n))).collect::<Vec<_>>(),
        Tick::NEVER,
        true,
    );
    list
}

#[test]
fn the_address_with_the_fewest_connections_of_all_cores_is_picked() {
    let mut list = addresses(3);
    let mut rng = Rng::new(1);
    list.note_held(&[3, 1, 2]);
    assert_eq!(
        list.pick(Tick::ZERO, &wish(&[], Tick::NEVER), &mut rng),
        Some(address(2))
    );
    assert_eq!(
        list.pick(Tick::ZERO, &wish(&[address(2)], Tick::NEVER), &mut rng),
        Some(address(3))
    );
    let all = [address(1), address(2), address(3)];
    assert_eq!(
        list.pick(Tick::ZERO, &wish(&all, Tick::NEVER), &mut rng),
        None
    );
}

#[test]
fn ties_are_spread_over_all_of_them() {
    let list = addresses(4);
    let mut rng = Rng::new(1);
    let mut seen = [0; 5];
    for _ in 0..400 {
        if let Some(SocketAddr::V4(v4)) = list.pick(Tick::ZERO, &wish(&[], Tick::NEVER), &mut rng) {
            seen[v4.ip().octets()[3] as usize] += 1;
        }
    }
    assert!(seen[1..].iter().all(|&n| n > 50), "{seen:?}");
}

#[test]
fn c1_c10_c15_a_suspect_address_comes_last_and_is_probed_by_one_connect_at_a_time() {
    let mut list = addresses(2);
    let mut rng = Rng::new(1);
    list.note_held(&[0, 9]);
    list.dialing(address(1));
    list.failed(Tick::ZERO, address(1), &mut rng);
    assert_eq!(
        list.pick(Tick::ZERO, &wish(&[], Tick::NEVER), &mut rng),
        Some(address(2))
    );
    let later = Tick::ZERO.plus(SUSPECT_CAP * 2);
    assert_eq!(
        list.pick(later, &wish(&[], Tick::NEVER), &mut rng),
        Some(address(1))
    );
    list.dialing(address(1));
    assert_eq!(
        list.pick(later, &wish(&[], Tick::NEVER), &mut rng),
        Some(address(2))
    );
    list.succeeded(address(1));
    assert_eq!(
        list.pick(later, &wish(&[], Tick::NEVER), &mut rng),
        Some(address(1))
    );
}

#[test]
fn what_failed_for_another_opening_meanwhile_is_not_tried_again_until_it_is_good() {
    let mut list = addresses(2);
    let mut rng = Rng::new(1);
    let began = Tick::ZERO.plus(Duration::from_millis(5));
    let before = Tick::ZERO.plus(Duration::from_millis(4));
    list.failed(before, address(1), &mut rng);
    list.failed(began, address(2), &mut rng);
    assert_eq!(
        list.pick(began, &wish(&[], began), &mut rng),
        Some(address(1))
    );
    assert!(list.are_spent(&wish(&[address(1)], began)));
    list.succeeded(address(2));
    assert_eq!(
        list.pick(began, &wish(&[], began), &mut rng),
        Some(address(2))
    );
    assert!(!list.are_spent(&wish(&[address(1)], began)));
}

#[test]
fn a_new_answer_keeps_what_is_known_of_the_addresses_that_stay() {
    let mut list = addresses(2);
    let mut rng = Rng::new(1);
    list.dialing(address(2));
    list.failed(Tick::ZERO, address(2), &mut rng);
    list.replace(
        Tick::ZERO,
        &[address(2), address(7)].map(Target::new),
        Tick::NEVER,
        true,
    );
    assert_eq!(
        list.pick(Tick::ZERO, &wish(&[], Tick::NEVER), &mut rng),
        Some(address(7))
    );
}

#[test]
fn an_address_that_never_failed_is_not_suspect_while_it_is_dialed() {
    let mut list = addresses(2);
    let mut rng = Rng::new(1);
    list.note_held(&[0, 9]);
    list.dialing(address(1));
    assert_eq!(
        list.pick(Tick::ZERO, &wish(&[], Tick::NEVER), &mut rng),
        Some(address(1))
    );
}

#[test]
fn a_connect_counts_as_a_connection_until_it_fails() {
    let mut list = addresses(2);
    let mut rng = Rng::new(1);
    list.note_held(&[1, 2]);
    list.dialing(address(1));
    list.dialing(address(1));
    assert_eq!(
        list.pick(Tick::ZERO, &wish(&[], Tick::NEVER), &mut rng),
        Some(address(2))
    );
    list.failed(Tick::ZERO, address(1), &mut rng);
    list.failed(Tick::ZERO, address(1), &mut rng);
    let later = Tick::ZERO.plus(SUSPECT_CAP * 2);
    assert_eq!(
        list.pick(later, &wish(&[], Tick::NEVER), &mut rng),
        Some(address(1))
    );
}

#[test]
fn a_connect_that_succeeded_is_no_probe_any_more() {
    let mut list = addresses(2);
    let mut rng = Rng::new(1);
    list.note_held(&[0, 9]);
    list.dialing(address(1));
    list.succeeded(address(1));
    list.dialing(address(1));
    list.failed(Tick::ZERO, address(1), &mut rng);
    let later = Tick::ZERO.plus(SUSPECT_CAP * 2);
    assert_eq!(
        list.pick(later, &wish(&[], Tick::NEVER), &mut rng),
        Some(address(1))
    );
}

#[test]
fn the_pause_of_a_suspect_address_is_over_at_its_end() {
    let mut list = addresses(2);
    let mut rng = Rng::new(1);
    list.note_held(&[0, 9]);
    list.failed(Tick::ZERO, address(1), &mut rng);
    let end = list.list[0].suspect_until;
    assert_eq!(
        list.pick(end, &wish(&[], Tick::NEVER), &mut rng),
        Some(address(1))
    );
}

fn weighted(last: u8, priority: u16, weight: u16) -> Target {
    Target {
        address: address(last),
        priority,
        group: 0,
        weight,
    }
}

/// Where so many connections go that stay.
fn spread(targets: &[Target], connections: usize) -> Vec<usize> {
    let mut list = Addresses::default();
    list.replace(Tick::ZERO, targets, Tick::NEVER, true);
    let mut rng = Rng::new(1);
    let mut counts = vec![0; targets.len()];
    for _ in 0..connections {
        let wish = wish(&[], Tick::NEVER);
        let picked = list.pick(Tick::ZERO, &wish, &mut rng).unwrap();
        list.dialing(picked);
        list.succeeded(picked);
        counts[list.position(picked).unwrap()] += 1;
    }
    counts
}

#[test]
fn d35_connections_go_by_weight_within_a_priority() {
    let by_weight = [weighted(1, 7, 10), weighted(2, 7, 30), weighted(3, 7, 60)];
    assert_eq!(spread(&by_weight, 100), [10, 30, 60]);
    let lower_first = [weighted(1, 20, 100), weighted(2, 10, 1), weighted(3, 10, 1)];
    assert_eq!(spread(&lower_first, 100), [0, 50, 50]);
    let extreme = [weighted(1, 0, u16::MAX), weighted(2, 0, u16::MAX)];
    assert_eq!(spread(&extreme, 10), [5, 5]);
}

#[test]
fn d35_a_weight_of_zero_is_almost_never_chosen_unless_all_are() {
    let beside = [weighted(1, 0, 1), weighted(2, 0, 0)];
    assert_eq!(spread(&beside, 900), [900, 0]);
    assert_eq!(spread(&beside, 1001), [1000, 1]);
    let all = [weighted(1, 0, 0), weighted(2, 0, 0)];
    assert_eq!(spread(&all, 10), [5, 5]);
}

#[test]
fn d35_the_next_priority_is_used_when_all_of_the_lower_one_are_suspect_or_spent() {
    let mut list = Addresses::default();
    let targets = [weighted(1, 1, 1), weighted(2, 1, 1), weighted(3, 2, 1)];
    list.replace(Tick::ZERO, &targets, Tick::NEVER, true);
    let mut rng = Rng::new(1);
    list.note_held(&[50, 60, 0]);
    let first = |list: &Addresses, tried: &[SocketAddr], rng: &mut Rng| {
        list.pick(Tick::ZERO, &wish(tried, Tick::NEVER), rng)
    };
    assert_eq!(first(&list, &[], &mut rng), Some(address(1)));
    assert_eq!(first(&list, &[address(1)], &mut rng), Some(address(2)));
    let both = [address(1), address(2)];
    assert_eq!(first(&list, &both, &mut rng), Some(address(3)));
    list.failed(Tick::ZERO, address(1), &mut rng);
    assert_eq!(first(&list, &[], &mut rng), Some(address(2)));
    list.overdue(Tick::ZERO, address(2), &mut rng);
    assert_eq!(first(&list, &[], &mut rng), Some(address(3)));
    list.failed(Tick::ZERO, address(3), &mut rng);
    let suspects = first(&list, &[], &mut rng).unwrap();
    assert_ne!(
        suspects,
        address(3),
        "of those that all failed, the lower one"
    );
    list.succeeded(address(2));
    assert_eq!(first(&list, &[], &mut rng), Some(address(2)));
}

fn v6(last: u16) -> SocketAddr {
    ([0x2001, 0xdb8, 0, 0, 0, 0, 0, last], 80).into()
}

/// An address of the second group, as those of IPv4 are where IPv6 works.
fn second(last: u8) -> Target {
    Target {
        group: 1,
        ..weighted(last, 0, 1)
    }
}

/// What is tried after the first IPv6 address.
fn pick_after(list: &Addresses, beside: Option<SocketAddr>, rng: &mut Rng) -> Option<SocketAddr> {
    let tried = [v6(1)];
    let wish = Wish {
        beside,
        room: 16,
        ..wish(&tried, Tick::NEVER)
    };
    list.pick(Tick::ZERO, &wish, rng)
}

#[test]
fn c7_beside_a_slow_address_comes_the_other_family_of_whatever_group() {
    let mut list = Addresses::default();
    let six = [v6(1), v6(2)].map(Target::new);
    let targets = [six[0], six[1], second(1)];
    list.replace(Tick::ZERO, &targets, Tick::NEVER, true);
    let mut rng = Rng::new(1);
    let pick = pick_after;
    assert_eq!(pick(&list, None, &mut rng), Some(v6(2)), "after a refusal");
    assert_eq!(pick(&list, Some(v6(1)), &mut rng), Some(address(1)));
    list.failed(Tick::ZERO, address(1), &mut rng);
    assert_eq!(
        pick(&list, Some(v6(1)), &mut rng),
        Some(v6(2)),
        "but not one that failed"
    );
}

#[test]
fn c7_d35_beside_a_slow_address_comes_its_own_priority_before_a_backup_of_the_other_family() {
    let mut list = Addresses::default();
    let six = [v6(1), v6(2)].map(Target::new);
    let targets = [six[0], six[1], second(1), weighted(2, 1, 1)];
    list.replace(Tick::ZERO, &targets, Tick::NEVER, true);
    let mut rng = Rng::new(1);
    list.note_held(&[0, 9, 9, 0]);
    let slow = Some(v6(1));
    assert_eq!(pick_after(&list, slow, &mut rng), Some(address(1)));
    list.failed(Tick::ZERO, address(1), &mut rng);
    assert_eq!(pick_after(&list, slow, &mut rng), Some(v6(2)));
    list.failed(Tick::ZERO, v6(2), &mut rng);
    assert_eq!(pick_after(&list, slow, &mut rng), Some(address(2)));
}

#[test]
fn c7_a_family_that_lost_comes_second_then_is_probed_by_one_connect_at_a_time() {
    let mut list = Addresses::default();
    let targets = [Target::new(v6(1)), Target::new(v6(2)), second(1)];
    list.replace(Tick::ZERO, &targets, Tick::NEVER, true);
    let mut rng = Rng::new(1);
    let first = |list: &Addresses, now, rng: &mut Rng| {
        let picked = list.pick(now, &wish(&[], Tick::NEVER), rng);
        picked.unwrap().is_ipv6()
    };
    // Losing to its own family says nothing about it.
    list.outrun(Tick::ZERO, v6(1), v6(2), &mut rng);
    assert!(first(&list, Tick::ZERO, &mut rng));
    list.outrun(Tick::ZERO, v6(1), address(1), &mut rng);
    assert!(!first(&list, Tick::ZERO, &mut rng));
    let later = Tick::ZERO.plus(SUSPECT_CAP * 2);
    assert!(first(&list, later, &mut rng));
    list.dialing(v6(1));
    assert!(!first(&list, later, &mut rng), "one probe");
    list.gave_up(v6(1));
    assert!(first(&list, later, &mut rng));
    list.dialing(v6(2));
    list.succeeded(v6(2));
    list.dialing(v6(1));
    assert!(first(&list, later, &mut rng), "the family works");
}

#[test]
fn an_address_that_is_overdue_is_suspect_but_not_spent() {
    let mut list = addresses(2);
    let mut rng = Rng::new(1);
    list.overdue(Tick::ZERO, address(1), &mut rng);
    let tried = [address(2)];
    let wish = wish(&tried, Tick::ZERO.plus(Duration::from_millis(1)));
    assert_eq!(list.pick(Tick::ZERO, &wish, &mut rng), Some(address(1)));
}

#[test]
fn d25_what_is_missing_keeps_its_share_and_takes_nothing_more() {
    let mut list = addresses(2);
    let two = [address(2), address(3)].map(Target::new);
    assert!(!list.replace(Tick::ZERO, &two, Tick::NEVER, true));
    let place = |takes| Place {
        share: WEIGHT_UNIT,
        takes,
        gives: true,
        is_backup: false,
    };
    let expected = [place(true), place(true), place(false)];
    assert_eq!(list.places(Tick::ZERO), expected);
    assert!(
        list.replace(Tick::ZERO, &two, Tick::NEVER, true),
        "one is gone"
    );
    assert_eq!(list.len(), 2);
}

#[test]
fn d36_no_more_addresses_are_kept_than_two_answers_have() {
    let mut list = Addresses::default();
    for turn in 0..10_u16 {
        let from = turn * 64;
        let targets: Vec<_> = (from..from + 64).map(|n| Target::new(v6(n))).collect();
        list.replace(Tick::ZERO, &targets, Tick::NEVER, false);
        assert!(list.len() <= MAX_KEPT);
        assert_eq!(list.position(v6(from)), Some(0));
    }
}
