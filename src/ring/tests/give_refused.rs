//! What stands between a connection that changes rings and its new one: who is asked too soon says so.

use std::io::Write;

use super::give::two;
use super::*;

#[test]
fn what_is_being_given_is_not_given_twice() {
    let (mut a, mut b) = two();
    let _peer = a.pair(key(0));
    assert!(b.expect(key(1)) && b.expect(key(2)));
    a.give_wait(key(0), &b, key(1)).unwrap();
    assert_eq!(a.give_wait(key(0), &b, key(2)), Err(libc::EBUSY));
    a.close_wait(key(0));
    for slot in [key(1), key(2)] {
        b.unexpect(slot);
        b.until(|_, event| matches!(event, Some(Event::Closed { key }) if key == slot));
    }
}

#[test]
fn r8_r9_what_the_kernel_has_not_taken_is_not_with_it() {
    for errno in [libc::EAGAIN, libc::EBUSY, libc::ENOMEM] {
        let (mut a, mut b) = two();
        let mut peer = a.pair(key(0));
        assert!(b.expect(key(1)));
        a.give_wait(key(0), &b, key(1)).unwrap();
        peer.write_all(b"rude").unwrap();
        assert!(b.adopt(key(1)));
        let until = b.queued_until_now();
        b.set_fault(Some(Box::new(move || Some(errno))));
        b.submit().unwrap();
        assert!(b.is_watching(key(1)) && b.is_refused() && !b.has_taken(until));
        b.set_fault(None);
        b.submit().unwrap();
        assert!(b.has_taken(until) && b.has_completions() && !b.is_refused());
        b.reap();
        assert!(!b.is_watching(key(1)));
        b.close_wait(key(1));
        a.close_wait(key(0));
    }
}
