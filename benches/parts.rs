//! What the parts cost that no user reaches by themselves: the policy's decisions, the cores' board,
//! permits and hand-over, an operation's number. One thread, everything in its cache.
//!
//! ```sh
//! cargo bench --features bench --bench parts -- --quick
//! ```

use std::hint::black_box;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use ringpool::bench::{Handover, OneBoard, OneEndpoint, OneLimit, there_and_back};

fn policy(c: &mut Criterion) {
    let mut group = c.benchmark_group("policy");
    let mut one = OneEndpoint::new(4, 16);
    group.bench_function("get and put of an idle connection", |b| {
        b.iter(|| black_box(one.hit()));
    });
    let mut one = OneEndpoint::new(4, 0);
    // The first one also asks for the addresses.
    let first = one.life();
    let facts = one.life();
    assert_eq!(first, facts + 1);
    group.throughput(Throughput::Elements(facts));
    group.bench_function("events of a connection's life", |b| {
        b.iter(|| black_box(one.life()));
    });
    let mut one = OneEndpoint::new(4, 16);
    group.throughput(Throughput::Elements(2));
    group.bench_function("events of another core's demand", |b| {
        b.iter(|| one.demand());
    });
    for addresses in [4, 64] {
        let mut one = OneEndpoint::new(addresses, 16);
        group.throughput(Throughput::Elements(1));
        let id = BenchmarkId::new("event: the same addresses again", addresses);
        group.bench_function(id, |b| b.iter(|| one.resolved()));
    }
    group.finish();
}

fn board(c: &mut Criterion) {
    let mut group = c.benchmark_group("board");
    for cores in [2, 8, 64, 128] {
        for addresses in [4, 16, 128] {
            let board = OneBoard::new(cores, addresses);
            assert!(board.totals().iter().all(|held| *held as usize == cores));
            let id = format!("{cores} cores, {addresses} addresses");
            group.bench_function(BenchmarkId::new("totals of all addresses", id), |b| {
                b.iter(|| board.totals());
            });
        }
        let mut board = OneBoard::new(cores, 1);
        let of = |what| BenchmarkId::new(what, format!("{cores} cores"));
        group.bench_function(of("load and wait written"), |b| b.iter(|| board.write()));
        group.bench_function(of("waits of the others read"), |b| {
            b.iter(|| black_box(&board).is_awaited());
        });
    }
    group.finish();
}

fn permits(c: &mut Criterion) {
    let mut group = c.benchmark_group("permits");
    for cores in [2, 64] {
        let limit = OneLimit::new(cores);
        let id = BenchmarkId::new("taken and given back", format!("{cores} cores"));
        group.bench_function(id, |b| b.iter(|| limit.take_and_give_back()));
    }
    let mut handover = Handover::default();
    assert_eq!((handover.once(), handover.once()), (1, 2));
    group.bench_function("hand-over: claim, permit, parcel, answer", |b| {
        b.iter(|| handover.once());
    });
    group.finish();
}

fn token(c: &mut Criterion) {
    c.bench_function("token written and read", |b| {
        b.iter(|| there_and_back(black_box(77)));
    });
}

criterion_group!(parts, policy, board, permits, token);
criterion_main!(parts);
