//! The user's own resolver: its code runs as a task of the core, with nothing borrowed and a
//! deadline, and its panics are contained.

use std::rc::Rc;
use std::sync::Arc;

use crate::dns::{Answer, Question, Records};
use crate::error::{Error, ErrorKind, Result};
use crate::resolver::{Answered, Resolve};
use crate::shard::Shard;
use crate::shard::core::Core;
use crate::shard::deferred::Call;
use crate::time::Tick;

impl Core {
    /// Has the user's resolver asked once nothing is borrowed.
    pub(super) fn call_resolver(
        &mut self,
        question: Question,
        resolver: Arc<dyn Resolve>,
        deadline: Tick,
    ) {
        self.deferred.calls.push_back(Call::Resolve {
            question,
            resolver,
            deadline,
        });
    }
}

impl Shard {
    /// Starts the user's resolver as a task.
    pub(in crate::shard) fn ask_resolver(
        &self,
        question: Question,
        resolver: Arc<dyn Resolve>,
        deadline: Tick,
    ) {
        let Some(shard) = self.me.upgrade() else {
            return;
        };
        let (asked, host) = (question.clone(), self.host().clone());
        let task = self.host().spawn(async move {
            let mut report = Report {
                shard,
                question: asked,
                is_done: false,
            };
            let name = report.question.name.clone();
            let answered = host.until(deadline, resolver.resolve(&name)).await;
            report.is_done = true;
            report.tell(answer(answered, &name));
        });
        self.enter(|core| core.resolver_runs(&question, task));
    }
}

/// Tells the core if the task ends without an answer: by a panic, or because it was aborted.
struct Report {
    shard: Rc<Shard>,
    question: Question,
    is_done: bool,
}

impl Report {
    fn tell(&self, answer: Answer) {
        self.shard
            .enter(|core| core.resolver_answered(&self.question, answer));
    }
}

impl Drop for Report {
    fn drop(&mut self) {
        if self.is_done {
            return;
        }
        let named = |error| named(error, &self.question.name);
        if std::thread::panicking() {
            self.shard.count_panic(true);
            let text = "the resolver of the configuration panicked";
            let error = Error::new(ErrorKind::Panicked, text);
            return self.tell(Answer::Failed(named(error)));
        }
        let text = "the task that asks the resolver of the configuration was ended";
        let error = named(Error::new(ErrorKind::NotOnShard, text));
        self.shard
            .enter(|core| core.resolver_dropped(&self.question, error));
    }
}

fn answer(answered: Option<Result<Answered>>, host: &str) -> Answer {
    // Nobody's address: it did not come from a server.
    let server = ([0, 0, 0, 0], 0).into();
    match answered {
        Some(Ok(answered)) if answered.is_empty() => Answer::NoData {
            ttl: Some(answered.ttl()),
            server,
        },
        Some(Ok(answered)) => Answer::Found {
            ttl: answered.ttl(),
            records: Records::Given(Arc::new(answered)),
            server,
        },
        Some(Err(error)) => Answer::Failed(named(error, host)),
        None => {
            let text = "the resolver of the configuration has not answered in time";
            Answer::Failed(named(Error::new(ErrorKind::Resolve, text), host))
        }
    }
}

fn named(error: Error, host: &str) -> Error {
    error.context(format!("resolving {host}"))
}
