//! A connection is given back with nothing unread while its receive is stopped, in every order: it is
//! watched again, and who waits for that is told once.

use super::*;

const PIECES: May = May {
    recv: &[0],
    pieces: 2,
    ..NOTHING
};

fn releasing(choices: &Rc<Choices>, may: May, buffers: u16, limit: usize) -> Run {
    let mut run = Run::bounded(choices, may, buffers, limit).opened();
    (run.reads, run.releases) = (true, true);
    run
}

#[test]
fn k14_r11_every_order_of_a_receive_that_is_bounded_read_and_released() {
    let may = May {
        pieces: 1,
        ..PIECES
    };
    every_order("bounded receive, release, close", may, |choices, may| {
        releasing(choices, may, 2, 5)
    });
}

#[test]
fn r11_k14_every_order_of_a_receive_that_finds_no_buffer_is_read_and_released() {
    let count = every_path(|choices| {
        let may = May {
            recv: &[],
            ..PIECES
        };
        releasing(choices, may, 1, 64).play();
    });
    println!("{count} orders");
    assert!(count > 1_000, "{count} orders are not all");
}

#[test]
fn r11_k14_what_is_read_in_its_turn_is_never_cancelled() {
    let count = every_path(|choices| {
        let mut run = releasing(choices, PIECES, 2, 5);
        run.eager = true;
        run.play();
    });
    println!("{count} orders");
    assert!(count > 1_000, "{count} orders are not all");
}
