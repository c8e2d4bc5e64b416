//! `ho_so`: dossiers, with local status codes, dates as text, lost leading zeros and two styles of agency code.

use crate::calendar;
use crate::dice::Dice;
use crate::fault::{BROKEN_AGENCIES, BROKEN_IDS, Fault, Flaw, IMPOSSIBLE_DAYS, OLD_IDS, ONE_IN, flaw_of};
use crate::rows::agency::styled;
use crate::rows::{Citizen, Directory, SourceRow, purpose};
use crate::words::{CLAUSE, PROCEDURES};

const FLAWS: &[Flaw] = &[
    Flaw { fault: Fault::BadPersonalId, column: "so_cccd" },
    Flaw { fault: Fault::OldPersonalId, column: "so_cccd" },
    Flaw { fault: Fault::UnknownCode, column: "trang_thai" },
    Flaw { fault: Fault::UnknownCode, column: "kenh" },
    Flaw { fault: Fault::BadDate, column: "ngay_hen_tra" },
    Flaw { fault: Fault::BadAgencyCode, column: "ma_co_quan" },
    Flaw { fault: Fault::RequiredMissing, column: "ngay_nop" },
];

/// 2024-01-01; dossiers arrive over two years.
const FIRST_DAY: i64 = 19_723;
const DAYS: u64 = 730;

/// Status codes of this system, as often as they occur.
const STATUSES: &[&str] =
    &["MOI", "DTN", "DXL", "DXL", "BSHS", "CTR", "HT", "HT", "HT", "HT", "HT", "DTR", "DTR", "DTR", "DTR", "DTR", "DTR", "HUY", "TCT"];

/// When a dossier is looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stage {
    /// As the first load finds it, anywhere on its way.
    Loaded,
    /// As it is handed in.
    New,
}

/// One dossier.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dossier {
    /// Its number in the simulator, from 0.
    pub index: u64,
    /// `<agency>-yyMMdd-NNNN`.
    pub code: String,
    /// The applicant's identifier as stored.
    pub applicant: String,
    /// The agency's code as stored.
    pub agency: String,
    /// Code of the procedure.
    pub procedure: &'static str,
    /// Local status code.
    pub status: &'static str,
    /// Local channel code.
    pub channel: &'static str,
    /// Local time of receipt.
    pub received: Option<String>,
    /// `dd/MM/yyyy`.
    pub due: String,
    /// `dd/MM/yyyy`, once given back.
    pub returned: Option<String>,
    /// Fee in đồng.
    pub fee: Option<u64>,
    /// Softly deleted.
    pub deleted: bool,
    /// What it is about.
    pub summary: String,
    /// Seconds since 1970 of the last touch.
    pub updated: i64,
    flaw: Option<Flaw>,
}

impl Dossier {
    /// Dossier `index`, handed in by one of `citizens` people.
    pub(crate) fn at(seed: u64, index: u64, citizens: u64, directory: &Directory, stage: Stage) -> Self {
        let mut dice = Dice::of(seed, purpose::DOSSIER, index);
        let (agency_code, style, received) = place_and_time(&mut dice, directory);
        let day = received.div_euclid(86_400);
        let due = day + 3 + i64::try_from(dice.below(20)).unwrap_or(0);
        let (procedure, title) = dice.pick(PROCEDURES);
        let status = if stage == Stage::New { "MOI" } else { dice.pick(STATUSES) };
        let finished = matches!(status, "HT" | "DTR");
        let deleted = dice.percent(2) && stage == Stage::Loaded;
        let mut dossier = Self {
            index,
            code: code(&agency_code, style, day, index),
            applicant: as_spreadsheet(Citizen::true_personal_id(seed, dice.below(citizens)), &mut dice),
            agency: styled(&agency_code, style),
            procedure,
            status,
            channel: dice.pick(&["TT", "TT", "TT", "TN", "TN", "BC"]),
            received: Some(calendar::timestamp(received)),
            due: calendar::written(due),
            returned: finished.then(|| calendar::written(due - 2 + i64::try_from(dice.below(4)).unwrap_or(0))),
            fee: dice.percent(80).then(|| dice.below(60) * 5_000),
            deleted,
            summary: summary(title, &mut dice),
            updated: received + i64::try_from(dice.below(900_000)).unwrap_or(0),
            flaw: if deleted { None } else { Self::planned_flaw(seed, index) },
        };
        dossier.spoil(&mut dice);
        dossier
    }

    /// The flaw that dossier `index` is given unless it is deleted.
    pub(crate) fn planned_flaw(seed: u64, index: u64) -> Option<Flaw> {
        flaw_of(&mut Dice::of(seed, purpose::DOSSIER_FLAW, index), FLAWS, ONE_IN)
    }

    /// The same dossier without its flaw, as a clerk mends it: the flawed column's right value stands in for it.
    pub(crate) fn mended(column: &str) -> (&'static str, &'static str) {
        match column {
            "so_cccd" => ("so_cccd", "074085001234"),
            "trang_thai" => ("trang_thai", "DXL"),
            "kenh" => ("kenh", "TT"),
            "ngay_hen_tra" => ("ngay_hen_tra", "15/12/2025"),
            "ma_co_quan" => ("ma_co_quan", "H09.15"),
            _ => ("ngay_nop", "2025-06-02 08:30:00"),
        }
    }

    /// Gives it one more flaw on purpose; a dossier made with [`Stage::New`] may then be refused.
    pub(crate) fn with_flaw(mut self, flaw: Flaw, dice: &mut Dice) -> Self {
        self.flaw = Some(flaw);
        self.spoil(dice);
        self
    }

    /// A flaw that dossiers have, by chance.
    pub(crate) fn some_flaw(dice: &mut Dice) -> Flaw {
        dice.pick(FLAWS)
    }

    fn spoil(&mut self, dice: &mut Dice) {
        let Some(flaw) = self.flaw else { return };
        match (flaw.fault, flaw.column) {
            (Fault::BadPersonalId, _) => self.applicant = dice.pick(BROKEN_IDS).to_owned(),
            (Fault::OldPersonalId, _) => self.applicant = dice.pick(OLD_IDS).to_owned(),
            (Fault::UnknownCode, "kenh") => self.channel = "FAX",
            (Fault::UnknownCode, _) => self.status = "XLL",
            (Fault::BadDate, _) => self.due = dice.pick(IMPOSSIBLE_DAYS).to_owned(),
            (Fault::BadAgencyCode, _) => self.agency = dice.pick(BROKEN_AGENCIES).to_owned(),
            _ => self.received = None,
        }
    }
}

/// The status that follows, for a dossier that moves on.
pub(crate) fn status_after(dice: &mut Dice) -> &'static str {
    dice.pick(&["DTN", "DXL", "DXL", "BSHS", "CTR", "HT", "DTR"])
}

fn place_and_time(dice: &mut Dice, directory: &Directory) -> (String, usize, i64) {
    let codes = directory.codes();
    let place = usize::try_from(dice.below(codes.len() as u64)).unwrap_or(0);
    let style = usize::from(dice.percent(60));
    let day = FIRST_DAY + i64::try_from(dice.below(DAYS)).unwrap_or(0);
    let second = 7 * 3_600 + i64::try_from(dice.below(10 * 3_600)).unwrap_or(0);
    (codes[place].clone(), style, day * 86_400 + second)
}

/// The sequence counts over the whole system here, so it overflows its four digits, as it does in life.
fn code(agency: &str, style: usize, day: i64, index: u64) -> String {
    format!("{}-{}-{:04}", styled(agency, style), calendar::compact(day), index + 1)
}

/// One identifier in ten went through a spreadsheet, which took it for a number.
fn as_spreadsheet(id: String, dice: &mut Dice) -> String {
    if dice.percent(10) { id.trim_start_matches('0').to_owned() } else { id }
}

/// One summary in two thousand is so long that PostgreSQL stores it apart.
fn summary(title: &str, dice: &mut Dice) -> String {
    let (district, communes) = dice.pick(crate::words::DISTRICTS);
    let short = format!("{title} tại {}, {district}", dice.pick(communes));
    if dice.once_in(2_000) { format!("{short}.{}", CLAUSE.repeat(20)) } else { short }
}

impl SourceRow for Dossier {
    const TABLE: &'static str = "public.ho_so";
    const COLUMNS: &'static [(&'static str, &'static str)] = &[
        ("ma_ho_so", "text"),
        ("so_cccd", "text"),
        ("ma_co_quan", "text"),
        ("thu_tuc", "text"),
        ("trang_thai", "text"),
        ("kenh", "text"),
        ("ngay_nop", "timestamp"),
        ("ngay_hen_tra", "text"),
        ("ngay_tra", "text"),
        ("le_phi", "numeric(14,2)"),
        ("da_xoa", "boolean"),
        ("trich_yeu", "text"),
        ("cap_nhat", "timestamptz"),
    ];

    fn values(&self) -> Vec<Option<String>> {
        vec![
            Some(self.code.clone()),
            Some(self.applicant.clone()),
            Some(self.agency.clone()),
            Some(self.procedure.to_owned()),
            Some(self.status.to_owned()),
            Some(self.channel.to_owned()),
            self.received.clone(),
            Some(self.due.clone()),
            self.returned.clone(),
            self.fee.map(|fee| format!("{fee}.00")),
            Some(self.deleted.to_string()),
            Some(self.summary.clone()),
            Some(format!("{}+07", calendar::timestamp(self.updated))),
        ]
    }

    fn key(&self) -> String {
        self.code.clone()
    }

    fn flaw(&self) -> Option<Flaw> {
        self.flaw
    }
}

#[cfg(test)]
mod tests {
    use super::{Directory, Dossier, Stage};

    #[test]
    fn a_deleted_dossier_is_never_flawed() {
        let directory = Directory::new();
        let loaded = (0..20_000).map(|index| Dossier::at(7, index, 10_000, &directory, Stage::Loaded));
        assert!(loaded.filter(|dossier| dossier.deleted).all(|dossier| dossier.flaw.is_none()));
    }

    #[test]
    fn a_tenth_of_the_identifiers_lost_their_zero() {
        let directory = Directory::new();
        let short = (0..10_000)
            .map(|index| Dossier::at(7, index, 10_000, &directory, Stage::Loaded))
            .filter(|dossier| dossier.applicant.len() == 11)
            .count();
        assert!((900..1_100).contains(&short), "{short}");
    }
}
