//! One read of the log for several sinks.
//!
//! ```text
//!                        ┌─ view ─▶ sink a's session        (each with its own epochs, ledger and points)
//!  source's log ─▶ pump ─┤
//!                        └─ view ─▶ sink b's session        confirm: the least of both ─▶ source
//! ```
//! Each sink's session sees a [`SharedSource`], a source like any other. A sink that was away makes the log be opened
//! again where that sink stands; the others' views pass over what their sinks have. A sink that takes nothing for a
//! while loses its view and joins again later, so that it cannot hold the others back for ever.
//!
//! Deliberately absent: keeping the log for a sink that is away. The source does that, because nothing is confirmed
//! past the sink that has least.
mod confirmed;
mod pump;
mod shared;
mod view;

pub(crate) use shared::SharedSource;
