//! Airbyte sources and Singer taps as child processes: their records become Arrow columns, their state goes into the checkpoint.
//!
//! # Concepts
//! A *run* is one start of the child, which reads all asked streams and ends. A *look* is what a run tells of one stream.
//! A stream is read *whole* (what differs is told, what is absent is deleted) or for its *changes* (the child is given the
//! state that it gave before). State moves in the Kafka transaction of the rows before it, so a crash repeats, never loses.
//!
//! `capture` runs and runs again; `run` is one run; `child` is the process with its limits and its end; `message` are the
//! two protocols; `stream` and `rows` turn records into columns.

mod ask;
mod board;
mod capture;
mod catalog;
mod child;
mod classify;
mod config;
mod connector;
mod folder;
mod limits;
mod lines;
mod message;
mod plan;
mod probe;
mod rows;
mod run;
mod schema;
mod scrub;
mod settings;
mod source;
mod spawn;
mod state;
mod stream;
mod window;

pub use config::{ExecConfig, ExecStream, Mode, Protocol, Settings};
pub use connector::Exec;
