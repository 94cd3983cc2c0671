//! Connections of a runtime that has no pool, on a stack.

use std::cell::RefCell;
use std::rc::Rc;

use crate::Outcome;

/// A connection.
pub trait Line: 'static {
    /// Sends the message and receives as many bytes into it.
    fn echo(&mut self, message: Vec<u8>) -> impl Future<Output = Outcome<Vec<u8>>>;
}

/// The idle ones.
pub type Shelf<L> = Rc<RefCell<Vec<L>>>;

pub fn shelf<L>(lines: Vec<L>) -> Shelf<L> {
    Rc::new(RefCell::new(lines))
}

pub async fn client<L: Line>(shelf: Shelf<L>, bytes: usize, times: usize) -> Outcome<()> {
    let mut message = vec![0; bytes];
    for n in 0..times {
        let taken = shelf.borrow_mut().pop();
        let mut line = taken.ok_or("no connection is left")?;
        mark(&mut message, n);
        message = line.echo(message).await?;
        check(&message, bytes, n)?;
        shelf.borrow_mut().push(line);
    }
    Ok(())
}

/// Makes a message differ from the one before.
pub fn mark(message: &mut [u8], n: usize) {
    if let [first, .., last] = message {
        (*first, *last) = (n as u8, !(n as u8));
    }
}

pub fn check(echo: &[u8], bytes: usize, n: usize) -> Outcome<()> {
    match echo {
        [first, .., last] if (*first, *last) == (n as u8, !(n as u8)) && echo.len() == bytes => {
            Ok(())
        }
        _ => Err("the echo is not what was sent".into()),
    }
}
