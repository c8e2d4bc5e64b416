//! Folds source columns into canonical ones by a mapping that was checked and planned once. Same input, same output.
//!
//! [`plan`] turns a [`MappingSpec`] into a [`Mapping`] or tells everything that is wrong with it at once. [`Mapping::normalise`]
//! evaluates it column-wise over a batch; a row that an expression refuses becomes a [`Reject`], the rest go on.

mod bind;
mod context;
mod evaluate;
mod fault;
mod fit;
mod mapping;
mod names;
mod nfc;
mod plan;
mod resolve;
mod spec;
mod target;
#[cfg(test)]
mod tests;
mod unseen;

pub use context::general_functions;
pub use fault::MappingFault;
pub use mapping::{Mapping, NormaliseError, Reject, Selection, Sorted};
pub use nfc::is_nfc;
pub use plan::{PlanInput, plan};
pub use spec::{MappingSpec, Place, Sql};
pub use target::Target;
pub use unseen::{Unseen, check_unseen};
