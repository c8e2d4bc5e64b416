//! `buoc_xu_ly`: the steps of each dossier, at most ten of them.

use crate::calendar;
use crate::dice::Dice;
use crate::fault::{Fault, Flaw, flaw_of};
use crate::rows::{Dossier, SourceRow, purpose};
use crate::words::STEPS;

/// Row numbers reserved for the steps of one dossier.
pub(crate) const PER_DOSSIER: u64 = 10;

const FLAWS: &[Flaw] =
    &[Flaw { fault: Fault::UnknownCode, column: "trang_thai" }, Flaw { fault: Fault::RequiredMissing, column: "ma_ho_so" }];

/// Steps are cleaner than what people type: one in a thousand is flawed.
const ONE_STEP_IN: u64 = 1_000;

/// One step of a dossier's way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    /// The row's number.
    pub id: u64,
    /// The dossier's code.
    pub dossier: Option<String>,
    /// Its place on the way, from 1.
    pub number: u64,
    /// What is done.
    pub name: &'static str,
    /// Who does it.
    pub officer: Option<String>,
    /// When it began.
    pub began: String,
    /// When it ended.
    pub ended: Option<String>,
    /// 0 waiting, 1 at work, 2 done, 9 sent back.
    pub status: u8,
    flaw: Option<Flaw>,
}

impl Step {
    /// How many steps a dossier has come so far.
    pub(crate) fn count(dossier: &Dossier) -> u64 {
        match dossier.status {
            "MOI" | "HUY" | "TCT" => 1,
            "DTN" => 2,
            "DTR" => 5,
            "HT" => 4,
            _ => 3,
        }
    }

    /// Step `number` (from 0) of `dossier`.
    pub(crate) fn at(seed: u64, dossier: &Dossier, number: u64) -> Self {
        let id = Self::id(dossier.index, number);
        let mut dice = Dice::of(seed, purpose::STEP, id);
        let began = dossier.updated + i64::try_from(number * 7_200 + dice.below(3_600)).unwrap_or(0);
        let last = number + 1 >= Self::count(dossier);
        let done = !last || matches!(dossier.status, "HT" | "DTR");
        let mut step = Self {
            id,
            dossier: Some(dossier.code.clone()),
            number: number + 1,
            name: STEPS[usize::try_from(number).unwrap_or(0) % STEPS.len()],
            officer: dice.percent(95).then(|| format!("CB{:05}", dice.below(3_000))),
            began: format!("{}+07", calendar::timestamp(began)),
            ended: done.then(|| format!("{}+07", calendar::timestamp(began + 5_400))),
            status: if done { 2 } else { dice.pick(&[0, 1, 1, 1, 9]) },
            flaw: if dossier.deleted { None } else { Self::planned_flaw(seed, dossier.index, number) },
        };
        step.spoil();
        step
    }

    /// The row's number of step `number` (from 0) of dossier `dossier`.
    pub(crate) fn id(dossier: u64, number: u64) -> u64 {
        dossier * PER_DOSSIER + number + 1
    }

    /// The flaw that a step is given.
    pub(crate) fn planned_flaw(seed: u64, dossier: u64, number: u64) -> Option<Flaw> {
        flaw_of(&mut Dice::of(seed, purpose::STEP_FLAW, Self::id(dossier, number)), FLAWS, ONE_STEP_IN)
    }

    /// The same step without a flaw.
    pub(crate) fn sound(seed: u64, dossier: &Dossier, number: u64) -> Self {
        let mut step = Self::at(seed, dossier, number);
        if step.flaw.take().is_some() {
            step.dossier = Some(dossier.code.clone());
            step.status = 1;
        }
        step
    }

    fn spoil(&mut self) {
        match self.flaw.map(|flaw| flaw.fault) {
            Some(Fault::UnknownCode) => self.status = 7,
            Some(_) => self.dossier = None,
            None => {}
        }
    }
}

impl SourceRow for Step {
    const TABLE: &'static str = "public.buoc_xu_ly";
    const COLUMNS: &'static [(&'static str, &'static str)] = &[
        ("id", "bigint"),
        ("ma_ho_so", "text"),
        ("thu_tu", "int"),
        ("ten_buoc", "text"),
        ("ma_can_bo", "text"),
        ("bat_dau", "timestamptz"),
        ("ket_thuc", "timestamptz"),
        ("trang_thai", "smallint"),
    ];

    fn values(&self) -> Vec<Option<String>> {
        vec![
            Some(self.id.to_string()),
            self.dossier.clone(),
            Some(self.number.to_string()),
            Some(self.name.to_owned()),
            self.officer.clone(),
            Some(self.began.clone()),
            self.ended.clone(),
            Some(self.status.to_string()),
        ]
    }

    fn key(&self) -> String {
        self.id.to_string()
    }

    fn flaw(&self) -> Option<Flaw> {
        self.flaw
    }
}
