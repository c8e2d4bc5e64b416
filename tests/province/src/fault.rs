//! The flaws that are put into rows on purpose, each with the reason for which the hub must refuse the row.

use crate::dice::Dice;

/// One row in so many is given a flaw: 0.5 %.
pub(crate) const ONE_IN: u64 = 200;

/// Why the hub must refuse a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Fault {
    /// A code that no code list knows.
    UnknownCode,
    /// A day that no calendar has.
    BadDate,
    /// Twelve characters that are no personal identifier.
    BadPersonalId,
    /// Nine digits of the old identity card.
    OldPersonalId,
    /// A personal identifier that belongs to somebody born in another year.
    PersonalIdMismatch,
    /// No agency's code.
    BadAgencyCode,
    /// A value that the canonical schema requires is absent.
    RequiredMissing,
}

/// A fault in one canonical field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Flaw {
    /// Why it is refused.
    pub fault: Fault,
    /// The source column that carries it.
    pub column: &'static str,
}

impl Fault {
    /// The reason code as it stands in the rejects topic; kept in step with hub/transform.
    #[must_use]
    pub fn reason(self) -> &'static str {
        match self {
            Self::UnknownCode => "unknown-code",
            Self::BadDate => "bad-date",
            Self::BadPersonalId => "bad-personal-id",
            Self::OldPersonalId => "old-personal-id",
            Self::PersonalIdMismatch => "personal-id-mismatch",
            Self::BadAgencyCode => "bad-agency-code",
            Self::RequiredMissing => "required-missing",
        }
    }
}

/// The flaw of a row, if it is to have one: one of `flaws`, once in `times`.
pub(crate) fn flaw_of(dice: &mut Dice, flaws: &[Flaw], times: u64) -> Option<Flaw> {
    dice.once_in(times).then(|| dice.pick(flaws))
}

/// A day that does not exist, as a hurried clerk types it.
pub(crate) const IMPOSSIBLE_DAYS: &[&str] = &["31/02/1990", "30/02/2025", "32/01/2024", "15/13/2024", "31/04/2025"];

/// Personal identifiers that are none: a letter among the digits, a digit too many, no province.
pub(crate) const BROKEN_IDS: &[&str] = &["07419900123O", "0740850012345", "099085001234", "07409900I234"];

/// Old identity card numbers, nine digits.
pub(crate) const OLD_IDS: &[&str] = &["280123456", "281987654", "280555123"];

/// Codes of agencies that are none.
pub(crate) const BROKEN_AGENCIES: &[&str] = &["H9.15", "000.00.1A.H09", "SO-XAY-DUNG"];
