//! The four tables of the one-stop shop, row by row.

mod agency;
mod citizen;
mod dossier;
mod step;

pub use agency::Agency;
pub(crate) use agency::Directory;
pub use citizen::Citizen;
pub use dossier::Dossier;
pub(crate) use dossier::{Stage, status_after};
pub use step::Step;

/// Purposes of dice, so that no two kinds of row share their chance.
pub(crate) mod purpose {
    pub(crate) const CITIZEN: u64 = 1;
    pub(crate) const CITIZEN_FLAW: u64 = 2;
    pub(crate) const DOSSIER: u64 = 3;
    pub(crate) const DOSSIER_FLAW: u64 = 4;
    pub(crate) const STEP: u64 = 5;
    pub(crate) const STEP_FLAW: u64 = 6;
    pub(crate) const CHANGE: u64 = 7;
}

/// A row as the database takes it.
pub(crate) trait SourceRow {
    /// Its table, `public.ho_so`.
    const TABLE: &'static str;
    /// Its columns with their types, in the order of [`SourceRow::values`].
    const COLUMNS: &'static [(&'static str, &'static str)];

    /// The text of each column, `None` for null.
    fn values(&self) -> Vec<Option<String>>;
    /// The text of its key.
    fn key(&self) -> String;
    /// The flaw that was put into it.
    fn flaw(&self) -> Option<crate::fault::Flaw>;
}
