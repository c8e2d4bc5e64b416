//! `cong_dan`: people, with names in two Unicode forms, genders in three notations and addresses in TCVN3.

use unicode_normalization::UnicodeNormalization as _;

use crate::calendar;
use crate::dice::Dice;
use crate::fault::{BROKEN_IDS, Fault, Flaw, IMPOSSIBLE_DAYS, OLD_IDS, ONE_IN, flaw_of};
use crate::rows::{SourceRow, purpose};
use crate::tcvn3;
use crate::words::{DISTRICTS, MEN, STREETS, SURNAMES, WOMEN};

const FLAWS: &[Flaw] = &[
    Flaw { fault: Fault::BadPersonalId, column: "so_cccd" },
    Flaw { fault: Fault::OldPersonalId, column: "so_cccd" },
    Flaw { fault: Fault::PersonalIdMismatch, column: "so_cccd" },
    Flaw { fault: Fault::BadDate, column: "ngay_sinh" },
    Flaw { fault: Fault::UnknownCode, column: "gioi_tinh" },
    Flaw { fault: Fault::UnknownCode, column: "dan_toc" },
    Flaw { fault: Fault::RequiredMissing, column: "ho_ten" },
];

/// 1945-01-01 and the number of days to 2006-12-31: people old enough to hand in a dossier.
const FIRST_BIRTHDAY: i64 = -9_131;
const BIRTHDAYS: u64 = 22_645;

/// One person.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Citizen {
    /// The row's number, from 1.
    pub id: u64,
    /// The personal identifier as stored.
    pub personal_id: String,
    /// The name as stored.
    pub name: Option<String>,
    /// `dd/MM/yyyy` as stored.
    pub born: String,
    /// One of the notations of this system.
    pub gender: &'static str,
    /// Code of the ethnicity.
    pub ethnicity: &'static str,
    /// Telephone.
    pub phone: Option<String>,
    /// Address, TCVN3 read as Latin-1.
    pub address: String,
    flaw: Option<Flaw>,
}

impl Citizen {
    /// The person of row `index`, from 0.
    #[must_use]
    pub fn at(seed: u64, index: u64) -> Self {
        let mut dice = Dice::of(seed, purpose::CITIZEN, index);
        let origin = Origin::throw(&mut dice, index);
        let given = if origin.woman { dice.pick(WOMEN) } else { dice.pick(MEN) };
        let name = format!("{} {given}", dice.pick(SURNAMES));
        let mut citizen = Self {
            id: index + 1,
            personal_id: origin.personal_id(),
            name: Some(as_typed(&name, &mut dice)),
            born: calendar::written(origin.birthday),
            gender: if origin.woman { dice.pick(&["Nữ", "Nữ", "0", "F"]) } else { dice.pick(&["Nam", "Nam", "1", "M"]) },
            ethnicity: if dice.percent(92) { "01" } else { dice.pick(&["02", "03", "04", "05", "06"]) },
            phone: dice.percent(85).then(|| format!("09{:08}", dice.below(100_000_000))),
            address: address(&mut dice),
            flaw: Self::planned_flaw(seed, index),
        };
        citizen.spoil(&origin, &mut dice);
        citizen
    }

    /// The true personal identifier of the person of row `index`, twelve digits, whatever the row says.
    #[must_use]
    pub fn true_personal_id(seed: u64, index: u64) -> String {
        Origin::throw(&mut Dice::of(seed, purpose::CITIZEN, index), index).personal_id()
    }

    /// The flaw that row `index` is given.
    #[must_use]
    pub fn planned_flaw(seed: u64, index: u64) -> Option<Flaw> {
        flaw_of(&mut Dice::of(seed, purpose::CITIZEN_FLAW, index), FLAWS, ONE_IN)
    }

    fn spoil(&mut self, origin: &Origin, dice: &mut Dice) {
        let Some(flaw) = self.flaw else { return };
        match (flaw.fault, flaw.column) {
            (Fault::BadPersonalId, _) => self.personal_id = dice.pick(BROKEN_IDS).to_owned(),
            (Fault::OldPersonalId, _) => self.personal_id = dice.pick(OLD_IDS).to_owned(),
            (Fault::PersonalIdMismatch, _) => self.personal_id = Origin { birthday: origin.birthday - 800, ..*origin }.personal_id(),
            (Fault::BadDate, _) => self.born = dice.pick(IMPOSSIBLE_DAYS).to_owned(),
            (Fault::UnknownCode, "dan_toc") => self.ethnicity = "98",
            (Fault::UnknownCode, _) => self.gender = "X",
            _ => self.name = None,
        }
    }
}

/// What a person was born with; the personal identifier follows from it.
#[derive(Clone, Copy)]
struct Origin {
    woman: bool,
    birthday: i64,
    serial: u64,
}

impl Origin {
    fn throw(dice: &mut Dice, index: u64) -> Self {
        let woman = dice.percent(50);
        let birthday = FIRST_BIRTHDAY + i64::try_from(dice.below(BIRTHDAYS)).unwrap_or(0);
        // 7,919 and 1,000,000 have no common divisor: no two of the first million people share a serial.
        Self { woman, birthday, serial: (index * 7_919 + 104_729) % 1_000_000 }
    }

    /// Province of registration (074), century and gender, year, serial.
    fn personal_id(&self) -> String {
        let year = calendar::year(self.birthday);
        let century = if year < 2000 { 0 } else { 2 } + u8::from(self.woman);
        format!("074{century}{:02}{:06}", year % 100, self.serial)
    }
}

/// A name as clerks type it: sometimes decomposed, sometimes in capitals, sometimes with a blank too many.
fn as_typed(name: &str, dice: &mut Dice) -> String {
    match dice.below(100) {
        0..15 => name.nfd().collect(),
        15..35 => name.to_uppercase(),
        35..40 => format!(" {} ", name.replace(' ', "  ")),
        40..45 => name.to_uppercase().nfd().collect(),
        _ => name.to_owned(),
    }
}

fn address(dice: &mut Dice) -> String {
    let (district, communes) = dice.pick(DISTRICTS);
    let house = dice.below(900) + 1;
    tcvn3::encode(&format!("Số {house} {}, phường {}, {district}, Bình Dương", dice.pick(STREETS), dice.pick(communes)))
}

impl SourceRow for Citizen {
    const TABLE: &'static str = "public.cong_dan";
    const COLUMNS: &'static [(&'static str, &'static str)] = &[
        ("id", "bigint"),
        ("so_cccd", "text"),
        ("ho_ten", "text"),
        ("ngay_sinh", "text"),
        ("gioi_tinh", "text"),
        ("dan_toc", "text"),
        ("dien_thoai", "text"),
        ("dia_chi", "text"),
    ];

    fn values(&self) -> Vec<Option<String>> {
        vec![
            Some(self.id.to_string()),
            Some(self.personal_id.clone()),
            self.name.clone(),
            Some(self.born.clone()),
            Some(self.gender.to_owned()),
            Some(self.ethnicity.to_owned()),
            self.phone.clone(),
            Some(self.address.clone()),
        ]
    }

    fn key(&self) -> String {
        self.id.to_string()
    }

    fn flaw(&self) -> Option<Flaw> {
        self.flaw
    }
}

#[cfg(test)]
mod tests {
    use super::Citizen;

    #[test]
    fn a_person_is_the_same_every_time() {
        assert_eq!(Citizen::at(7, 12_345), Citizen::at(7, 12_345));
    }

    #[test]
    fn a_sound_row_stores_the_true_identifier() {
        let sound = (0..).map(|index| Citizen::at(7, index)).find(|citizen| citizen.flaw.is_none()).unwrap();
        assert_eq!(sound.personal_id, Citizen::true_personal_id(7, sound.id - 1));
        assert_eq!(sound.personal_id.len(), 12);
    }

    #[test]
    fn about_half_a_percent_are_flawed() {
        let flawed = (0..100_000).filter(|&index| Citizen::planned_flaw(7, index).is_some()).count();
        assert!((400..600).contains(&flawed), "{flawed}");
    }

    #[test]
    fn no_two_people_share_an_identifier() {
        let mut ids: Vec<String> = (0..20_000).map(|index| Citizen::true_personal_id(7, index)).collect();
        ids.sort_unstable();
        ids.dedup();
        assert_eq!(ids.len(), 20_000);
    }
}
