//! Every interleaving of two cores at one question: each gets the answer, one asks.

use std::net::{IpAddr, SocketAddr};

use loom::future::block_on;
use loom::sync::Arc as LoomArc;
use loom::sync::atomic::{AtomicUsize, Ordering};
use loom::thread;

use super::*;
use crate::dns::{Kind, Records};
use crate::share::{Limits, Member, Registry};
use std::future::poll_fn;
use std::task::Poll;

const NOW: Tick = Tick::ZERO;

fn registry() -> Arc<Registry<&'static str>> {
    Arc::new(Registry::new(Limits {
        shards: 2,
        endpoints: 1,
        permits: 1,
        total: None,
        gauges: 0,
        counters: 0,
        stale: Duration::ZERO,
    }))
}

fn question() -> Question {
    Question {
        name: "a.test".into(),
        kind: Kind::A,
    }
}

fn heard(generation: u64) -> Heard {
    Heard {
        answer: Answer::Found {
            records: Records::Addresses([IpAddr::from([192, 0, 2, 1])].into()),
            ttl: Duration::from_secs(60),
            server: SocketAddr::from(([192, 0, 2, 53], 53)),
        },
        asked: NOW,
        generation,
    }
}

fn lease() -> Option<Tick> {
    Some(NOW.plus(Duration::from_secs(6)))
}

/// Joins until the answer is known, asking if it is this one's turn, and sleeps in between.
async fn resolve(
    registry: &Registry<&'static str>,
    member: &Member<&'static str>,
    asked: &AtomicUsize,
    generation: u64,
) {
    let (names, question) = (registry.names(), question());
    poll_fn(|cx| {
        loop {
            member.wake().register(cx.waker());
            member.wake().take();
            member.take_names();
            match names.join(NOW, &question, member.id(), lease()) {
                Turn::Known(_) => return Poll::Ready(()),
                Turn::Lead { .. } => {
                    asked.fetch_add(1, Ordering::Relaxed);
                    names.finish(NOW, &question, member.id(), heard(generation), 0);
                }
                // A lost notice is a deadlock here, and loom reports it.
                Turn::Follow { .. } => return Poll::Pending,
                Turn::Later { .. } => panic!("it may lead"),
            }
        }
    })
    .await;
}

fn bounded(model: impl Fn() + Send + Sync + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(3);
    builder.check(model);
}

#[test]
fn d26_two_cores_ask_once_and_both_hear_the_answer() {
    bounded(|| {
        let (registry, asked) = (registry(), LoomArc::new(AtomicUsize::new(0)));
        let other = {
            let (registry, asked) = (registry.clone(), asked.clone());
            let member = registry.join().unwrap();
            thread::spawn(move || block_on(resolve(&registry, &member, &asked, 0)))
        };
        let member = registry.join().unwrap();
        block_on(resolve(&registry, &member, &asked, 0));
        other.join().unwrap();
        assert_eq!(asked.load(Ordering::Relaxed), 1);
    });
}

#[test]
fn d27_k2_who_follows_a_core_that_ends_asks_in_its_stead() {
    bounded(|| {
        let (registry, asked) = (registry(), LoomArc::new(AtomicUsize::new(0)));
        let dying = {
            let registry = registry.clone();
            let member = registry.join().unwrap();
            thread::spawn(move || {
                // It leads, or follows, and ends without a word.
                let _turn = registry
                    .names()
                    .join(NOW, &question(), member.id(), lease());
                drop(member);
            })
        };
        let member = registry.join().unwrap();
        block_on(resolve(&registry, &member, &asked, 0));
        dying.join().unwrap();
        assert_eq!(asked.load(Ordering::Relaxed), 1);
        assert_eq!(registry.names().counts(), (1, 0));
    });
}

#[test]
fn d30_a_change_of_sources_in_between_loses_nobody() {
    bounded(|| {
        let (registry, asked) = (registry(), LoomArc::new(AtomicUsize::new(0)));
        let other = {
            let (registry, asked) = (registry.clone(), asked.clone());
            let member = registry.join().unwrap();
            // Still asks the old sources; what they say is its own.
            thread::spawn(move || {
                if let Turn::Lead { .. } =
                    registry
                        .names()
                        .join(NOW, &question(), member.id(), lease())
                {
                    asked.fetch_add(1, Ordering::Relaxed);
                    let names = registry.names();
                    names.finish(NOW, &question(), member.id(), heard(0), 0);
                }
            })
        };
        let member = registry.join().unwrap();
        registry.names().flush(1);
        block_on(resolve(&registry, &member, &asked, 1));
        other.join().unwrap();
        assert!(asked.load(Ordering::Relaxed) <= 2);
        assert_eq!(registry.names().counts().1, 0);
    });
}
