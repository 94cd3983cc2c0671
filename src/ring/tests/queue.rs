//! Queues that are too small.

use std::collections::HashMap;

use io_uring::IoUring;

use super::PATIENCE;
use crate::ring::kernel::{Cqe, Kernel};
use crate::ring::opcode;
use crate::ring::queue::{Class, Flush, Queue};

fn queue(entries: u32, completions: u32) -> Queue {
    let ring = IoUring::builder()
        .setup_cqsize(completions)
        .build(entries)
        .unwrap();
    Queue::new(Kernel::linux(ring))
}

#[allow(unsafe_code)]
fn push(queue: &mut Queue, numbers: impl IntoIterator<Item = u64>, class: Class) {
    let entries: Vec<_> = numbers
        .into_iter()
        .map(|number| opcode::nop().user_data(number))
        .collect();
    // SAFETY: the entries point at no memory.
    unsafe { queue.push(&entries, class) };
}

/// Reads completions until `count` came.
fn collect(queue: &mut Queue, count: usize) -> Vec<u64> {
    let mut all = Vec::new();
    while all.len() < count {
        let mut batch: Vec<Cqe> = Vec::new();
        queue.reap(&mut batch, 256);
        all.extend(batch.iter().map(|cqe| cqe.user_data));
        if batch.is_empty() {
            assert_eq!(queue.wait(1, PATIENCE), Flush::Done);
        }
    }
    all
}

#[test]
fn r5_a_queue_of_two_loses_nothing_and_keeps_the_order() {
    let mut queue = queue(2, 4096);
    push(&mut queue, [1], Class::Work);
    for number in 2..=1000 {
        push(&mut queue, [number], Class::Work);
    }
    let all = collect(&mut queue, 1000);
    assert!(all.iter().copied().eq(1..=1000));
    assert_eq!(queue.stats.sqes, 1000);
    assert!(queue.stats.enters <= 502);
}

#[test]
fn r6_completions_that_overflow_arrive() {
    let mut queue = queue(4, 4);
    for number in 1..=100 {
        push(&mut queue, [number], Class::Work);
    }
    let mut all = collect(&mut queue, 100);
    all.sort_unstable();
    assert!(all.iter().copied().eq(1..=100));
    assert!(queue.stats.overflows > 0);
}

#[test]
fn r5_a_chain_is_pushed_whole_although_one_entry_is_free() {
    let mut queue = queue(4, 64);
    push(&mut queue, [1, 2, 3], Class::Work);
    push(&mut queue, [4, 5], Class::Work);
    // The first three went to the kernel to make room, not the half of a chain.
    assert_eq!(queue.stats.sqes, 3);
    assert_eq!(queue.queued(), 2);
    assert_eq!(collect(&mut queue, 5), [1, 2, 3, 4, 5]);
}

#[test]
fn r5_r8_control_goes_ahead_of_work_when_the_kernel_takes_nothing() {
    let mut queue = queue(2, 64);
    let mut refuse = 1;
    queue.set_fault(Some(Box::new(move || {
        refuse -= 1;
        (refuse >= 0).then_some(libc::EAGAIN)
    })));
    push(&mut queue, [1, 2], Class::Work);
    push(&mut queue, [3], Class::Work);
    push(&mut queue, [4], Class::Work);
    push(&mut queue, [5], Class::Control);
    assert_eq!(queue.queued(), 5);
    assert_eq!(collect(&mut queue, 5), [1, 2, 5, 3, 4]);
}

#[test]
fn r2_r8_r9_a_push_asks_once_while_the_kernel_takes_nothing() {
    for errno in [libc::EAGAIN, libc::ENOMEM, libc::EINTR] {
        let mut queue = queue(2, 4096);
        queue.set_fault(Some(Box::new(move || Some(errno))));
        (1..=3).for_each(|number| push(&mut queue, [number], Class::Work));
        let asked = queue.stats.enters;
        (4..=1000).for_each(|number| push(&mut queue, [number], Class::Work));
        assert_eq!(queue.stats.enters, asked);
        // A submission asks again, and what follows it does not.
        assert_eq!(queue.flush(), Flush::Later);
        let asked_again = queue.stats.enters;
        assert!(asked_again > asked);
        push(&mut queue, [1001], Class::Work);
        assert_eq!(queue.stats.enters, asked_again);
        queue.set_fault(None);
        assert_eq!(queue.flush(), Flush::Later);
        while queue.flush() != Flush::Done {}
        let all = collect(&mut queue, 1001);
        assert!(all.iter().copied().eq(1..=1001));
    }
}

#[test]
fn r8_what_was_not_pushed_can_be_taken_back() {
    let mut queue = queue(2, 64);
    queue.set_fault(Some(Box::new(|| Some(libc::EBUSY))));
    push(&mut queue, [1, 2], Class::Work);
    push(&mut queue, [7, 7], Class::Work);
    push(&mut queue, [8], Class::Work);
    assert_eq!(queue.forget(7), [7, 7]);
    assert_eq!(queue.forget(2), [0u64; 0]);
    push(&mut queue, [9], Class::Control);
    push(&mut queue, [10, 11], Class::Work);
    assert_eq!(queue.forget_work(), [8, 10, 11]);
    assert_eq!(queue.queued(), 3);
    push(&mut queue, [12], Class::Work);
    queue.set_fault(None);
    while queue.flush() != Flush::Done {}
    assert_eq!(collect(&mut queue, 4), [1, 2, 9, 12]);
}

#[test]
fn r8_r9_passing_refusals_are_retried_and_lose_nothing() {
    for errno in [
        libc::EAGAIN,
        libc::EBUSY,
        libc::EINTR,
        libc::ETIME,
        libc::ENOMEM,
    ] {
        let mut queue = queue(2, 64);
        let mut calls = 0;
        queue.set_fault(Some(Box::new(move || {
            calls += 1;
            (calls % 2 == 1).then_some(errno)
        })));
        let mut seen: HashMap<u64, usize> = HashMap::new();
        for number in 1..=20 {
            push(&mut queue, [number], Class::Work);
        }
        while queue.flush() != Flush::Done {}
        for number in collect(&mut queue, 20) {
            *seen.entry(number).or_default() += 1;
        }
        assert_eq!(seen.len(), 20, "errno {errno}");
    }
}

#[test]
fn r7_other_refusals_end_the_ring() {
    for errno in [
        libc::EBADR,
        libc::EBADFD,
        libc::ENXIO,
        libc::EFAULT,
        libc::EINVAL,
        libc::EEXIST,
    ] {
        let mut queue = queue(2, 64);
        queue.set_fault(Some(Box::new(move || Some(errno))));
        push(&mut queue, [1], Class::Work);
        assert_eq!(queue.flush(), Flush::Dead(errno));
        queue.set_fault(None);
        assert_eq!(queue.flush(), Flush::Dead(errno));
        assert_eq!(queue.dead(), Some(errno));
    }
}

#[test]
fn r9_an_enter_that_never_succeeds_does_not_spin() {
    let mut queue = queue(2, 64);
    queue.set_fault(Some(Box::new(|| Some(libc::EINTR))));
    push(&mut queue, [1], Class::Work);
    assert_eq!(queue.flush(), Flush::Later);
    assert!(queue.stats.enters <= 64);
}

#[test]
fn r11_what_had_come_is_read_although_more_comes_all_the_time() {
    let mut queue = queue(4, 4096);
    let more = |queue: &mut Queue| {
        (0..300).for_each(|number| push(queue, [number], Class::Work));
        assert_eq!(queue.flush(), Flush::Done);
    };
    more(&mut queue);
    let come = queue.come_until_now().unwrap();
    for turn in 1..=2 {
        assert!(!queue.has_read(come));
        let mut batch: Vec<Cqe> = Vec::new();
        queue.reap(&mut batch, 256);
        assert_eq!((batch.len(), queue.has_read(come)), (256, turn == 2));
        more(&mut queue);
    }
    assert!(queue.has_completions());
}

#[test]
fn r6_r11_nothing_stands_for_what_the_kernel_keeps_aside() {
    let mut queue = queue(4, 4);
    (0..100).for_each(|number| push(&mut queue, [number], Class::Work));
    assert_eq!(queue.come_until_now(), None);
    collect(&mut queue, 100);
    assert_eq!(queue.come_until_now(), Some(100));
}
