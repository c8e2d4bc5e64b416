//! Where functions tell which rows they refuse. Open only while one expression is evaluated, on that thread alone.
//!
//! A function returns null for a value it refuses and reports the row here; `normalise` opens the record around each evaluation.
//! `CASE` and `COALESCE` evaluate on filtered sub-batches, so a fault carries the length of the batch its row number is meant for.

use std::borrow::Cow;
use std::cell::RefCell;

/// Why a value is refused: a stable code and a message that never holds the value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// Stable reason code, kebab-case: `bad-date`.
    pub code: &'static str,
    /// What is wrong, in words.
    pub message: Cow<'static, str>,
}

impl Refusal {
    /// A refusal with a fixed message.
    #[must_use]
    pub const fn new(code: &'static str, message: &'static str) -> Self {
        Self { code, message: Cow::Borrowed(message) }
    }
}

/// One refused row of one function call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Fault {
    /// Rows of the batch that the function saw.
    pub(crate) rows: usize,
    /// The refused one.
    pub(crate) row: usize,
    /// Why.
    pub(crate) refusal: Refusal,
}

thread_local! {
    static OPEN: RefCell<Option<Vec<Fault>>> = const { RefCell::new(None) };
}

/// Runs `work` and returns what it gave together with the faults reported meanwhile.
pub(crate) fn collect<T>(work: impl FnOnce() -> T) -> (T, Vec<Fault>) {
    let outer = OPEN.with(|open| open.borrow_mut().replace(Vec::new()));
    let value = work();
    let faults = OPEN.with(|open| std::mem::replace(&mut *open.borrow_mut(), outer));
    (value, faults.unwrap_or_default())
}

/// Reports one refused row; without an open record it is dropped, the value stays null.
#[cold]
pub(crate) fn report(rows: usize, row: usize, refusal: Refusal) {
    OPEN.with(|open| {
        if let Some(faults) = open.borrow_mut().as_mut() {
            faults.push(Fault { rows, row, refusal });
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn faults_reach_the_innermost_open_record_only() {
        let refusal = Refusal::new("bad", "bad");
        report(1, 0, refusal.clone());
        let ((), outer) = collect(|| {
            report(4, 1, refusal.clone());
            let ((), inner) = collect(|| report(4, 2, refusal.clone()));
            assert_eq!(inner, [Fault { rows: 4, row: 2, refusal: refusal.clone() }]);
            report(4, 3, refusal.clone());
        });
        assert_eq!(outer.iter().map(|fault| fault.row).collect::<Vec<_>>(), [1, 3]);
    }
}
