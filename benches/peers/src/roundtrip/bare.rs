//! The limit: a loop over the ring that knows its connections by number and nothing else.

use std::net::TcpStream;

use super::line::{check, mark};
use super::{MEMORY, Meter, phases};
use crate::Outcome;
use crate::bare::{Bare, Done};
use crate::harness::{Figures, Settings};

pub fn run(settings: &Settings) -> Outcome<Figures> {
    let mut ring = Bare::new()?;
    let mut meter = Meter::new();
    let mut lanes = Vec::new();
    for _ in 0..settings.connections {
        let stream = TcpStream::connect(settings.server()?)?;
        stream.set_nodelay(true)?;
        lanes.push(ring.connect(stream, settings.bytes));
    }
    let mut done = Vec::with_capacity(settings.connections);
    for times in phases(settings) {
        meter.start();
        phase(&mut ring, &lanes, &mut done, settings.bytes, times)?;
    }
    let mut figures = meter.figures(settings);
    // Its messages lie in its connections; those of the others do not.
    figures.remove(MEMORY.name);
    Ok(figures)
}

/// `times` round trips on each lane, all lanes at once.
fn phase(
    ring: &mut Bare,
    lanes: &[usize],
    done: &mut Vec<Done>,
    bytes: usize,
    times: usize,
) -> Outcome<()> {
    let lane_count = lanes.iter().max().map_or(0, |most| most + 1);
    let mut made = vec![0; lane_count];
    for &lane in lanes {
        send(ring, lane, bytes, 0)?;
    }
    let mut busy = lanes.len();
    while busy > 0 {
        ring.turn(done)?;
        for &one in &*done {
            let lane = match one {
                Done::Received(lane, n) if usize::try_from(n) == Ok(bytes) => lane,
                other => return Err(format!("the server's answer was {other:?}").into()),
            };
            let echo = ring.buffer(lane).ok_or("there is no such lane")?;
            check(echo, bytes, made[lane])?;
            made[lane] += 1;
            match made[lane] < times {
                true => send(ring, lane, bytes, made[lane])?,
                false => busy -= 1,
            }
        }
    }
    Ok(())
}

fn send(ring: &mut Bare, lane: usize, bytes: usize, n: usize) -> Outcome<()> {
    mark(ring.buffer(lane).ok_or("there is no such lane")?, n);
    ring.send(lane, bytes, Some(bytes), None)
}
