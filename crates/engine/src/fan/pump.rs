//! The task that reads the log and gives every sink's view its part.
use std::sync::Arc;
use std::time::Duration;

use lakeward_core::{
    ChangeStream, Coverage, Error, ErrorKind, Position, Result, Source, SourceEvent, StartAt,
    TableSchema,
};
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, timeout};

use super::confirmed::least;
use super::view::View;

/// Events that wait for one sink. Each is at most a few MiB.
const EVENTS_MAX: usize = 4;

/// How long the log is opened late at the start so that all sinks can join first: each one that joins later makes it
/// be opened again.
const GATHER: Duration = Duration::from_millis(300);

/// How long a sink may take nothing before it loses its view. A commit of large tables can take seconds.
const STALL_MAX: Duration = Duration::from_secs(60);

/// A sink that wants the log.
pub(super) struct Join {
    pub(super) sink: usize,
    pub(super) from: StartAt,
    pub(super) known: Vec<Arc<TableSchema>>,
    pub(super) reply: Reply,
}

type Reply = oneshot::Sender<Result<mpsc::Receiver<Result<SourceEvent>>>>;

struct Follower {
    sink: usize,
    from: StartAt,
    view: View,
    events: mpsc::Sender<Result<SourceEvent>>,
    /// Of a sink that waits for the log to be opened.
    joining: Option<(Reply, mpsc::Receiver<Result<SourceEvent>>)>,
}

impl Follower {
    fn joining(join: Join) -> Self {
        let Join { sink, from, known, reply } = join;
        let (events, receiver) = mpsc::channel(EVENTS_MAX);
        let view = View::new(position(&from).clone(), &known);
        Self { sink, from, view, events, joining: Some((reply, receiver)) }
    }

    fn admit(&mut self) {
        if let Some((reply, receiver)) = self.joining.take() {
            let _ = reply.send(Ok(receiver));
        }
    }

    async fn refuse(mut self, error: &Error) {
        match self.joining.take() {
            Some((reply, _)) => {
                let _ = reply.send(Err(error.again()));
            }
            None => {
                send(&mut self, Err(error.again())).await;
            }
        }
    }
}

/// The task's state.
pub(crate) struct Pump {
    source: Arc<dyn Source>,
    sinks: usize,
    joins: mpsc::Receiver<Join>,
    waiting: Vec<Join>,
    gathered_by: Option<Instant>,
    followers: Vec<Follower>,
    stream: Option<Box<dyn ChangeStream>>,
}

enum Next {
    Join(Option<Join>),
    Event(Result<SourceEvent>),
    Gathered,
}

impl Pump {
    pub(super) fn new(source: Arc<dyn Source>, sinks: usize, joins: mpsc::Receiver<Join>) -> Self {
        Self {
            source,
            sinks,
            joins,
            waiting: Vec::new(),
            gathered_by: None,
            followers: Vec::new(),
            stream: None,
        }
    }

    /// Runs until no sink can join any more.
    pub(crate) async fn run(mut self) {
        loop {
            self.followers.retain(|follower| !follower.events.is_closed());
            if self.followers.is_empty() {
                self.stream = None;
            }
            if self.opening_is_due() {
                self.open().await;
                continue;
            }
            match self.next().await {
                Next::Join(None) => return,
                Next::Join(Some(join)) => self.join(join),
                Next::Event(Ok(event)) => self.hand_out(event).await,
                Next::Event(Err(error)) => self.fail(&error).await,
                Next::Gathered => self.gathered_by = None,
            }
        }
    }

    async fn next(&mut self) -> Next {
        let gathered = self.gathered_by;
        // Not biased: a log that always has something to say must not keep sinks from joining, nor the other way round.
        tokio::select! {
            join = self.joins.recv() => Next::Join(join),
            event = next_event(&mut self.stream) => Next::Event(event),
            () = wait_until(gathered) => Next::Gathered,
        }
    }

    /// A sink has one place: it joins again when it has lost the one it had.
    fn join(&mut self, join: Join) {
        self.followers.retain(|follower| follower.sink != join.sink);
        self.waiting.retain(|waiting| waiting.sink != join.sink);
        if self.followers.is_empty() && self.waiting.is_empty() {
            self.gathered_by = Some(Instant::now() + GATHER);
        }
        self.waiting.push(join);
    }

    /// Whether the log is to be opened now: sinks wait, all that may still come are there or late, and no transaction
    /// is half handed on.
    fn opening_is_due(&self) -> bool {
        let all_there = self.waiting.len() + self.followers.len() == self.sinks;
        let gathered = all_there || self.gathered_by.is_none();
        !self.waiting.is_empty()
            && gathered
            && self.followers.iter().all(|follower| follower.view.at_boundary())
    }

    /// Opens the log where the sink with the least stands; all others pass over what they have. A sink whose part of the
    /// log is gone is told so, and the others go on without it.
    async fn open(&mut self) {
        self.gathered_by = None;
        self.stream = None;
        self.rewind().await;
        self.followers.extend(self.waiting.drain(..).map(Follower::joining));
        while let Some(first) = self.first() {
            let from = self.followers[first].from.clone();
            tracing::debug!(sinks = self.followers.len(), at = %position(&from), "the log is opened");
            match self.source.changes(from, &self.known()).await {
                Ok(stream) => {
                    self.stream = Some(stream);
                    return self.followers.iter_mut().for_each(Follower::admit);
                }
                Err(error) if error.kind() == ErrorKind::LogGone => {
                    self.followers.remove(first).refuse(&error).await;
                }
                Err(error) => return self.fail(&error).await,
            }
        }
    }

    /// The followers forget what they hold of open transactions: those come again whole.
    async fn rewind(&mut self) {
        for follower in &mut self.followers {
            for event in follower.view.rewind() {
                send(follower, Ok(event)).await;
            }
            let through = follower.view.through().clone();
            follower.from = StartAt::After(through);
        }
        self.followers.retain(|follower| !follower.events.is_closed());
    }

    /// The sink that stands furthest back.
    fn first(&self) -> Option<usize> {
        let source = &self.source;
        let covers = |p: &Position, at: &Position| source.covers(p, at);
        let least = least(self.followers.iter().map(|f| f.view.through()), &covers)?;
        self.followers.iter().position(|f| f.view.through() == least)
    }

    /// What is known of each table where the log is opened; of one that the sink with the least does not know, what
    /// another knows.
    fn known(&self) -> Vec<Arc<TableSchema>> {
        let covers = |p: &Position, at: &Position| self.source.covers(p, at) == Coverage::Covered;
        // Who covers few others stands further back.
        let rank = |f: &&Follower| {
            let behind = |other: &&Follower| covers(f.view.through(), other.view.through());
            self.followers.iter().filter(behind).count()
        };
        let mut followers: Vec<_> = self.followers.iter().collect();
        followers.sort_by_cached_key(rank);
        let mut known: Vec<Arc<TableSchema>> = Vec::new();
        for schema in followers.into_iter().flat_map(|f| f.view.known()) {
            let same =
                |k: &Arc<TableSchema>| k.table == schema.table && k.identity == schema.identity;
            if !known.iter().any(same) {
                known.push(Arc::clone(schema));
            }
        }
        known
    }

    async fn hand_out(&mut self, event: SourceEvent) {
        let source = Arc::clone(&self.source);
        let covers = move |p: &Position, at: &Position| source.covers(p, at);
        for follower in &mut self.followers {
            for event in follower.view.offer(event.clone(), &covers) {
                if !send(follower, Ok(event)).await {
                    break;
                }
            }
        }
    }

    /// The log broke: every sink learns it, and joins again when it has recovered.
    async fn fail(&mut self, error: &Error) {
        self.stream = None;
        for follower in std::mem::take(&mut self.followers) {
            follower.refuse(error).await;
        }
    }
}

/// Gives a sink an event. One that takes nothing for too long loses its view. Whether it still has it.
async fn send(follower: &mut Follower, event: Result<SourceEvent>) -> bool {
    if follower.events.is_closed() {
        return false;
    }
    match timeout(STALL_MAX, follower.events.send(event)).await {
        Ok(sent) => sent.is_ok(),
        Err(_) => {
            tracing::warn!(
                sink = follower.sink,
                "a sink takes nothing; the others go on without it"
            );
            // A channel of its own that nobody reads: closed at once.
            follower.events = mpsc::channel(1).0;
            false
        }
    }
}

async fn next_event(stream: &mut Option<Box<dyn ChangeStream>>) -> Result<SourceEvent> {
    match stream {
        Some(stream) => stream.next().await,
        None => std::future::pending().await,
    }
}

async fn wait_until(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}

fn position(from: &StartAt) -> &Position {
    match from {
        StartAt::Beginning(position) | StartAt::After(position) => position,
    }
}

/// What a sink is told that lost its view.
pub(super) fn left_behind() -> Error {
    Error::new(ErrorKind::Unreachable, "the log went on without this sink, which took nothing")
}
