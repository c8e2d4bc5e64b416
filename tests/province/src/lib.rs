//! A one-stop shop (`mot-cua`) as messy as life: creates its database, fills it, changes it live, and knows in advance what must be refused.
//!
//! Every row is a function of (seed, index), so two runs with one seed give the same rows and any row can be made again without reading it.
//!
//! - [`create`] makes the database, its tables and the role of the hub
//! - [`fill`] loads it by `COPY`
//! - [`change`] inserts, updates and deletes in small transactions
//! - [`settle`] waits until a hub has confirmed all of it
//! - [`expect`] tells how many rows there are and which of them must be rejected, and why
//! - [`reconcile`] reads the topics back and holds them against the source
//!
//! What must be rejected is kept in the table `province.known_rejects`, which no publication holds.

mod calendar;
mod change;
mod copy;
mod create;
mod dice;
mod error;
mod expect;
mod fault;
mod fill;
mod reconcile;
mod rows;
mod settle;
mod tcvn3;
mod topics;
mod words;

pub use change::{Amount, ChangePlan, Changed, change};
pub use create::{Access, create};
pub use error::ProvinceError;
pub use expect::{Expectation, StreamExpectation, expect};
pub use fault::{Fault, Flaw};
pub use fill::{FillPlan, Filled, fill};
pub use reconcile::{Balance, RejectBalance, StreamBalance, reconcile};
pub use rows::{Agency, Citizen, Dossier, Step};
pub use settle::settle;
pub use topics::TopicAccess;
