//! A process that this one starts: it ends when this one does, it is ended by its id, and nobody
//! waits for it longer than a limit.

use std::ffi::OsStr;
use std::io::{BufRead as _, BufReader, Read as _};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::Duration;

use rustix::process::{Signal, set_parent_process_death_signal};

use crate::Outcome;

/// Called first by each process that is started here.
pub fn end_with_parent() -> Outcome<()> {
    Ok(set_parent_process_death_signal(Some(Signal::KILL))?)
}

/// Ours, started again, beneath `wrapper` if that is not empty.
pub fn again<S: AsRef<OsStr>>(wrapper: &[S]) -> Outcome<Command> {
    let this = std::env::current_exe()?;
    let Some((program, args)) = wrapper.split_first() else {
        return Ok(Command::new(this));
    };
    let mut command = Command::new(program);
    command.args(args).arg(this);
    Ok(command)
}

/// A process that is killed when this is dropped.
pub struct Process(Child);

impl Process {
    /// How many descriptors it has.
    pub fn descriptors(&self) -> Outcome<usize> {
        Ok(std::fs::read_dir(format!("/proc/{}/fd", self.0.id()))?.count())
    }

    pub fn start(mut command: Command) -> Outcome<(Self, ChildStdout)> {
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()?;
        let stdout = child.stdout.take().ok_or("a child without output")?;
        Ok((Self(child), stdout))
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended; its id is ours until it is waited for.
        let _ended = self.0.kill();
        let _reaped = self.0.wait();
    }
}

/// All that it prints, if it ends well in time.
pub fn output(command: Command, limit: Duration) -> Outcome<String> {
    let (mut process, mut stdout) = Process::start(command)?;
    let text = within(limit, move || {
        let mut text = String::new();
        stdout.read_to_string(&mut text).map(|_| text)
    })?;
    match process.0.wait()? {
        status if status.success() => Ok(text),
        status => Err(format!("it ended with {status}").into()),
    }
}

/// The first line that it prints; it goes on.
pub fn first_line(stdout: ChildStdout, limit: Duration) -> Outcome<String> {
    within(limit, move || {
        let mut line = String::new();
        BufReader::new(stdout).read_line(&mut line).map(|_| line)
    })
}

/// A read from a process that hangs would hang with it.
fn within(
    limit: Duration,
    read: impl FnOnce() -> std::io::Result<String> + Send + 'static,
) -> Outcome<String> {
    let (send, receive) = channel();
    std::thread::spawn(move || {
        // Nobody waits any more, then.
        let _late = send.send(read());
    });
    match receive.recv_timeout(limit) {
        Ok(text) => Ok(text?),
        Err(RecvTimeoutError::Timeout) => Err(format!("it took more than {limit:?}").into()),
        Err(RecvTimeoutError::Disconnected) => Err("its reader ended".into()),
    }
}
