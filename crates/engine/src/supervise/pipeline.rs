//! A pipeline: one source into one or several sinks. Each sink has its own life; the log is read once for all.
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use lakeward_core::{Bytes, Env, Error, ErrorKind, Result, Retry, Sink, Source};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;

use crate::fan::SharedSource;
use crate::spec::PipelineOptions;

use super::command::{Command, RunEnd, RunMode};
use super::landing::{self, Context};
use super::status::{Phase, Statuses};

/// Orders that wait for one of several sinks.
const ORDERS_MAX: usize = 8;

/// When a stopped sink is tried again beside others that go on.
const TRY_AGAIN_AFTER: Duration = Duration::from_secs(10);

/// A sink of a pipeline.
pub struct Landing {
    /// The sink.
    pub sink: Arc<dyn Sink>,
    /// What it may know of the pipeline; its `state_dir` is its own.
    pub env: Env,
}

/// A pipeline: one source into its sinks.
pub struct Pipeline {
    source: Arc<dyn Source>,
    landings: Vec<Landing>,
    options: PipelineOptions,
    statuses: Arc<Statuses>,
}

impl Pipeline {
    /// A pipeline; nothing happens before [`run`](Self::run).
    pub fn new(source: Arc<dyn Source>, landings: Vec<Landing>, options: PipelineOptions) -> Self {
        let statuses = Arc::new(Statuses::of(landings.iter().map(|l| l.env.name.clone())));
        Self { source, landings, options, statuses }
    }

    /// How far its sinks are, now and while it runs.
    pub fn statuses(&self) -> Arc<Statuses> {
        Arc::clone(&self.statuses)
    }

    /// Runs it to its end. `take_over` fences a writer that is still alive. Of several sinks each goes on when another
    /// fails; the pipeline ends when all have ended.
    ///
    /// # Errors
    /// `Fenced` when another writer took over; errors that a person must settle, at once; errors that pass by
    /// themselves, when they lasted longer than `retry_limit`. Of several sinks' errors the first.
    pub async fn run(
        self,
        mode: RunMode,
        take_over: bool,
        control: mpsc::Receiver<Command>,
    ) -> Result<RunEnd> {
        match self.landings.len() {
            0 => Err(Error::new(ErrorKind::Bug, "a pipeline without a sink")),
            1 => self.run_one(mode, take_over, control).await,
            _ => self.run_several(mode, take_over, control).await,
        }
    }

    async fn run_one(
        self,
        mode: RunMode,
        take_over: bool,
        mut control: mpsc::Receiver<Command>,
    ) -> Result<RunEnd> {
        let (sources, options) = (vec![self.source], self.options);
        let mut contexts = contexts(sources, self.landings, &options, &self.statuses, mode);
        match contexts.pop() {
            Some(context) => landing::run(&context, take_over, &mut control).await,
            None => Err(Error::new(ErrorKind::Bug, "a pipeline without a sink")),
        }
    }

    async fn run_several(
        self,
        mode: RunMode,
        take_over: bool,
        mut control: mpsc::Receiver<Command>,
    ) -> Result<RunEnd> {
        // Orders that wait already must be there when the sinks begin: one whose log is gone looks once.
        let first: Vec<Command> = std::iter::from_fn(|| control.try_recv().ok()).collect();
        let n = self.landings.len();
        let mut options = self.options;
        options.memory = Bytes(options.memory.0 / n as u64);
        let (views, pump) = SharedSource::views(self.source, n);
        let mut helpers = JoinSet::new();
        helpers.spawn(pump.run());
        let mut dispatch = Dispatch::default();
        let contexts = contexts(views, self.landings, &options, &self.statuses, mode);
        let named: Vec<_> = contexts
            .into_iter()
            .map(|context| {
                let receiver = dispatch.add(&context.env.name, ORDERS_MAX + first.len());
                (context, receiver)
            })
            .collect();
        for command in first {
            dispatch.give(command).await;
        }
        let healthy = Arc::new(AtomicUsize::new(n));
        let mut sinks = JoinSet::new();
        for (context, receiver) in named {
            let beside = Beside { healthy: Arc::clone(&healthy), mode };
            sinks.spawn(beside.run(context, take_over, receiver));
        }
        helpers.spawn(dispatch.run(control));
        all_ends(&mut sinks).await
    }
}

/// One of several sinks.
struct Beside {
    /// How many sinks have neither ended nor stopped.
    healthy: Arc<AtomicUsize>,
    mode: RunMode,
}

impl Beside {
    /// Runs the sink. While another one goes on, a sink that has stopped is tried again now and then: whoever mends its
    /// lake need not disturb the others.
    async fn run(
        self,
        context: Context,
        take_over: bool,
        mut control: mpsc::Receiver<Command>,
    ) -> (String, Result<RunEnd>) {
        let name = context.env.name.clone();
        loop {
            let end = landing::run(&context, take_over, &mut control).await;
            let left = self.healthy.fetch_sub(1, Ordering::AcqRel) - 1;
            let last_error = end.as_ref().err().map(ToString::to_string);
            context.status.update(|s| (s.phase, s.last_error) = (Phase::Stopped, last_error));
            match end {
                Err(error) if left > 0 && self.may_be_mended(&error) => {
                    tracing::error!(sink = name, %error, remedy = error.remedy(), "this sink has stopped; the others go on, the log is kept for it, and it is tried again now and then");
                    if self.rest(&mut control).await {
                        return (name, Err(error));
                    }
                    self.healthy.fetch_add(1, Ordering::AcqRel);
                }
                end => {
                    context.status.update(|s| s.phase = Phase::Ended);
                    return (name, end);
                }
            }
        }
    }

    fn may_be_mended(&self, error: &Error) -> bool {
        self.mode == RunMode::Follow && error.kind().retry() != Retry::Never
    }

    /// Whether the sink is to end instead of being tried again.
    async fn rest(&self, control: &mut mpsc::Receiver<Command>) -> bool {
        for _ in 0..TRY_AGAIN_AFTER.as_secs() {
            let told = landing::rest(control, Duration::from_secs(1)).await;
            if told || self.healthy.load(Ordering::Acquire) == 0 {
                return true;
            }
        }
        false
    }
}

fn contexts(
    sources: Vec<Arc<dyn Source>>,
    landings: Vec<Landing>,
    options: &PipelineOptions,
    statuses: &Statuses,
    mode: RunMode,
) -> Vec<Context> {
    let parts = sources.into_iter().zip(landings).zip(statuses.each());
    parts
        .map(|((source, Landing { sink, env }), status)| Context {
            source,
            sink,
            options: options.clone(),
            env,
            status: Arc::clone(status),
            mode,
        })
        .collect()
}

/// Waits for all sinks. The first error is the pipeline's, once the others have ended too.
async fn all_ends(sinks: &mut JoinSet<(String, Result<RunEnd>)>) -> Result<RunEnd> {
    let (mut end, mut failed) = (RunEnd::CaughtUp, None);
    while let Some(joined) = sinks.join_next().await {
        let (name, ended) = match joined {
            Ok(ended) => ended,
            Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
            Err(_) => continue,
        };
        match ended {
            Ok(RunEnd::Drained) => end = RunEnd::Drained,
            Ok(RunEnd::CaughtUp) => {}
            Err(error) => {
                failed.get_or_insert(error.with("sink", name));
            }
        }
    }
    failed.map_or(Ok(end), Err)
}

type Answer = oneshot::Receiver<Result<String>>;

/// Gives every order to every sink; their answers become one.
#[derive(Default)]
struct Dispatch {
    sinks: Vec<(String, mpsc::Sender<Command>)>,
    answers: JoinSet<()>,
}

impl Dispatch {
    fn add(&mut self, sink: &str, orders_max: usize) -> mpsc::Receiver<Command> {
        let (sender, receiver) = mpsc::channel(orders_max);
        self.sinks.push((sink.to_owned(), sender));
        receiver
    }

    async fn run(mut self, mut control: mpsc::Receiver<Command>) {
        while let Some(command) = control.recv().await {
            self.give(command).await;
            while self.answers.try_join_next().is_some() {}
        }
        // Whoever gave the orders is gone: as for a single sink, that means to finish.
        self.tell_all(|| Command::Drain).await;
        while self.answers.join_next().await.is_some() {}
    }

    async fn give(&mut self, command: Command) {
        match command {
            Command::Drain => self.tell_all(|| Command::Drain).await,
            Command::Abort => self.tell_all(|| Command::Abort).await,
            Command::Resync { table, reply } => {
                let order = |reply| Command::Resync { table: table.clone(), reply };
                self.ask_all(order, reply).await;
            }
            Command::Compact { table, reply } => {
                let order = |reply| Command::Compact { table: table.clone(), reply };
                self.ask_all(order, reply).await;
            }
        }
    }

    async fn tell_all(&self, command: impl Fn() -> Command) {
        for (_, sink) in &self.sinks {
            // One that has ended needs no order.
            let _ = sink.send(command()).await;
        }
    }

    async fn ask_all(
        &mut self,
        order: impl Fn(oneshot::Sender<Result<String>>) -> Command,
        reply: oneshot::Sender<Result<String>>,
    ) {
        let mut answers = Vec::new();
        for (name, sink) in &self.sinks {
            let (reply, answer) = oneshot::channel();
            let _ = sink.send(order(reply)).await;
            answers.push((name.clone(), answer));
        }
        self.answers.spawn(gather(answers, reply));
    }
}

/// One answer for all sinks: an error if any refused.
async fn gather(answers: Vec<(String, Answer)>, reply: oneshot::Sender<Result<String>>) {
    let mut texts = Vec::new();
    let mut failed = None;
    for (name, answer) in answers {
        match answer.await {
            Ok(Ok(text)) => texts.push(format!("{name}: {text}")),
            Ok(Err(error)) => {
                failed.get_or_insert(error.with("sink", name));
            }
            Err(_) => {
                let error = Error::new(ErrorKind::Unreachable, "the sink has stopped");
                failed.get_or_insert(error.with("sink", name));
            }
        }
    }
    let _ = reply.send(failed.map_or_else(|| Ok(texts.join("; ")), Err));
}
