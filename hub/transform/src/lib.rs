//! Turns source columns into canonical records and those into Avro: pure, synchronous, column-wise.
//!
//! No clock, no environment, no I/O (invariant 2 of ARCHITECTURE.md): the time is passed in.

pub mod audit;
mod avro;
pub mod encode;
pub mod envelope;
pub mod functions;
pub mod normalise;
pub mod reject;
pub mod schema;

pub use functions::CodeLists;
pub use schema::CanonicalSchema;
