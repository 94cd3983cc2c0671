//! Parcels between shards: every way in which one can end.

use super::*;

type Posts = Arc<Mesh<&'static str, u32>>;

fn shard(index: usize) -> ShardId {
    ShardId::new(index, 1)
}

fn conn(index: u32) -> Key {
    Key::new(index, 0)
}

fn open(mesh: &Posts, index: usize) -> (Post<&'static str, u32>, Arc<Wake>) {
    let wake = Arc::new(Wake::new());
    let post = mesh.open(shard(index), &wake, Arc::new("there"), 2, 3);
    (post, wake)
}

type Heard = Option<(Key, Option<u32>)>;

fn taken(index: u32) -> Heard {
    Some((conn(index), None))
}

fn returned(index: u32, content: u32) -> Heard {
    Some((conn(index), Some(content)))
}

/// The next answer, whatever its number.
fn heard(post: &Post<&'static str, u32>) -> Heard {
    post.answer().map(|answer| (answer.conn, answer.returned))
}

#[cfg(not(ringpool_loom))]
mod by_hand {
    use super::*;

    #[test]
    fn a_parcel_arrives_and_its_giver_hears_that_it_was_taken() {
        let mesh = Posts::default();
        let ((giver, hears), (receiver, rings)) = (open(&mesh, 0), open(&mesh, 1));
        giver.send(shard(1), conn(7), 42).unwrap();
        assert!(rings.take() && !hears.is_pending());
        let parcel = receiver.receive().unwrap();
        assert_eq!((parcel.from(), parcel.content()), (shard(0), Some(&42)));
        assert_eq!(heard(&giver), None);
        assert_eq!(parcel.take(), Some(42));
        assert!(hears.take());
        assert_eq!(heard(&giver), taken(7));
        assert_eq!(heard(&giver), None);
    }

    #[test]
    fn an_answer_names_the_parcel_though_the_connection_went_twice() {
        let mesh = Posts::default();
        let ((giver, _), (receiver, _)) = (open(&mesh, 0), open(&mesh, 1));
        let numbers = [1, 2].map(|content| giver.send(shard(1), conn(7), content).unwrap());
        let parcels = [receiver.receive().unwrap(), receiver.receive().unwrap()];
        let [first, second] = parcels;
        drop(second);
        drop(first);
        let answers = [giver.answer().unwrap(), giver.answer().unwrap()];
        assert_eq!(answers.map(|it| it.number), [numbers[1], numbers[0]]);
    }

    #[test]
    fn x11_a_parcel_that_is_dropped_comes_back_whole() {
        let mesh = Posts::default();
        let ((giver, hears), (receiver, _)) = (open(&mesh, 0), open(&mesh, 1));
        giver.send(shard(1), conn(7), 42).unwrap();
        drop(receiver.receive());
        assert!(hears.take());
        assert_eq!(heard(&giver), returned(7, 42));
    }

    #[test]
    fn x4_a_full_mailbox_returns_the_parcel() {
        let mesh = Posts::default();
        let ((giver, _), (receiver, _)) = (open(&mesh, 0), open(&mesh, 1));
        for index in 0..3 {
            giver.send(shard(1), conn(index), index).unwrap();
        }
        assert_eq!(heard(&giver), returned(2, 2));
        assert_eq!(heard(&giver), None);
        assert_eq!(receiver.receive().unwrap().take(), Some(0));
        giver.send(shard(1), conn(2), 2).unwrap();
        assert_eq!(heard(&giver), taken(0));
    }

    #[test]
    fn x4_no_more_is_sent_than_answers_have_room() {
        let mesh = Posts::default();
        let ((giver, _), (_receiver, _)) = (open(&mesh, 0), open(&mesh, 1));
        for index in 0..3 {
            giver.send(shard(1), conn(index), index).unwrap();
        }
        assert_eq!(giver.send(shard(1), conn(3), 3), Err(3));
        assert!(heard(&giver).is_some());
        assert_eq!(giver.send(shard(1), conn(3), 3), Ok(3));
        assert_eq!(heard(&giver), returned(3, 3));
    }

    #[test]
    fn x13_what_a_closing_post_did_not_take_comes_back() {
        let mesh = Posts::default();
        let ((giver, hears), (receiver, _)) = (open(&mesh, 0), open(&mesh, 1));
        giver.send(shard(1), conn(7), 42).unwrap();
        drop(receiver);
        assert!(hears.take());
        assert_eq!(heard(&giver), returned(7, 42));
        giver.send(shard(1), conn(8), 43).unwrap();
        assert_eq!(heard(&giver), returned(8, 43));
        assert_eq!(mesh.address(shard(1)), None);
    }

    #[test]
    fn x13_a_post_in_the_middle_of_closing_takes_nothing() {
        let mesh = Posts::default();
        let ((giver, _), (receiver, _)) = (open(&mesh, 0), open(&mesh, 1));
        let parcel = {
            giver.send(shard(1), conn(7), 42).unwrap();
            receiver.receive().unwrap()
        };
        drop(receiver);
        assert_eq!(heard(&giver), None);
        drop(parcel);
        assert_eq!(heard(&giver), returned(7, 42));
    }

    #[test]
    fn x5_an_answer_for_a_shard_that_has_left_is_nobodys() {
        let mesh = Posts::default();
        let ((giver, _), (receiver, _)) = (open(&mesh, 0), open(&mesh, 1));
        giver.send(shard(1), conn(7), 42).unwrap();
        giver.send(shard(1), conn(8), 43).unwrap();
        drop(giver);
        assert_eq!(receiver.receive().unwrap().take(), Some(42));
        drop(receiver.receive());
        assert!(receiver.receive().is_none());
    }

    #[test]
    fn x6_what_was_for_a_shard_that_left_does_not_reach_its_heir() {
        let mesh = Posts::default();
        let ((giver, _), (old, wake)) = (open(&mesh, 0), open(&mesh, 1));
        let heir = ShardId::new(1, 2);
        let post = mesh.open(heir, &wake, Arc::new("elsewhere"), 2, 2);
        // Late, but this must not close its heir's.
        drop(old);
        assert_eq!(mesh.address(heir).as_deref(), Some(&"elsewhere"));
        assert_eq!(mesh.address(shard(1)), None);
        giver.send(shard(1), conn(7), 42).unwrap();
        assert!(post.receive().is_none());
        assert_eq!(heard(&giver), returned(7, 42));
    }

    #[test]
    fn x13_a_receiver_that_panics_returns_what_it_has_and_what_waits() {
        let mesh = Posts::default();
        let (giver, _) = open(&mesh, 0);
        let (receiver, _) = open(&mesh, 1);
        giver.send(shard(1), conn(1), 41).unwrap();
        giver.send(shard(1), conn(2), 42).unwrap();
        let thread = std::thread::spawn(move || {
            let parcel = receiver.receive();
            assert!(parcel.is_none(), "as it was meant to");
        });
        assert!(thread.join().is_err());
        assert_eq!(heard(&giver), returned(1, 41));
        assert_eq!(heard(&giver), returned(2, 42));
        assert_eq!(mesh.address(shard(1)), None);
    }
}

#[cfg(ringpool_loom)]
mod model {
    use std::future::poll_fn;
    use std::task::Poll;

    use loom::{future, thread};

    use super::*;

    /// Sleeps until the one answer that is due has come. A lost one is a deadlock, which loom
    /// reports.
    fn answer(post: &Post<&'static str, u32>, wake: &Wake) -> Heard {
        let found = future::block_on(poll_fn(|cx| {
            loop {
                wake.register(cx.waker());
                let answer = heard(post);
                if answer.is_some() {
                    return Poll::Ready(answer);
                }
                if !wake.take() {
                    return Poll::Pending;
                }
            }
        }));
        assert!(post.answer().is_none(), "two answers");
        found
    }

    #[test]
    fn x10_a_parcel_that_is_taken_wakes_its_giver() {
        let mut model = loom::model::Builder::new();
        model.preemption_bound = Some(3);
        model.check(|| {
            let mesh = Posts::default();
            let ((giver, wake), (receiver, _)) = (open(&mesh, 0), open(&mesh, 1));
            giver.send(shard(1), conn(7), 42).unwrap();
            let other = thread::spawn(move || receiver.receive().and_then(Parcel::take));
            assert_eq!(answer(&giver, &wake), taken(7));
            assert_eq!(other.join().unwrap(), Some(42));
        });
    }

    #[test]
    fn x13_a_parcel_against_the_end_of_its_receiver_is_answered_once() {
        let mut model = loom::model::Builder::new();
        model.preemption_bound = Some(3);
        model.check(|| {
            let mesh = Posts::default();
            let ((giver, wake), (receiver, _)) = (open(&mesh, 0), open(&mesh, 1));
            let other = thread::spawn(move || receiver.receive().and_then(Parcel::take));
            giver.send(shard(1), conn(7), 42).unwrap();
            let took = answer(&giver, &wake) == taken(7);
            assert_eq!(other.join().unwrap().is_some(), took);
        });
    }

    #[test]
    fn x5_a_parcel_against_the_end_of_its_giver_is_taken_or_gone() {
        loom::model(|| {
            let mesh = Posts::default();
            let ((giver, _), (receiver, _)) = (open(&mesh, 0), open(&mesh, 1));
            giver.send(shard(1), conn(7), 42).unwrap();
            let other = thread::spawn(move || drop(giver));
            assert_eq!(receiver.receive().and_then(Parcel::take), Some(42));
            other.join().unwrap();
        });
    }
}
