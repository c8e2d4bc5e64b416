//! `co_quan`: departments, districts and communes, their codes written in two styles.

use crate::fault::{Fault, Flaw};
use crate::rows::SourceRow;
use crate::words::{DEPARTMENTS, DISTRICTS};

/// One agency.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Agency {
    /// Its code as this system writes it.
    pub code: String,
    /// Its name.
    pub name: String,
    /// The code of the agency above it.
    pub parent: Option<String>,
    /// 1 province, 2 department or district, 3 commune.
    pub level: i32,
    /// Since when, `dd/MM/yyyy`.
    pub valid_from: String,
    flaw: Option<Flaw>,
}

/// All agencies of the province, in a fixed order.
#[derive(Clone, Debug)]
pub(crate) struct Directory {
    /// New-style codes of the agencies that take dossiers.
    codes: Vec<String>,
    rows: Vec<Agency>,
}

impl Directory {
    /// The province's directory; the same every time.
    pub(crate) fn new() -> Self {
        let mut directory = Self { codes: Vec::new(), rows: Vec::new() };
        directory.add("H09", "Ủy ban nhân dân tỉnh Bình Dương", None, 1);
        for (place, name) in DEPARTMENTS.iter().enumerate() {
            directory.add(&format!("H09.{:02}", place + 1), name, Some("H09"), 2);
        }
        for (place, (district, communes)) in DISTRICTS.iter().enumerate() {
            let code = format!("H09.{:02}", place + 31);
            directory.add(&code, &format!("Ủy ban nhân dân {district}"), Some("H09"), 2);
            for (number, commune) in communes.iter().enumerate() {
                directory.add(&format!("{code}.{:02}", number + 1), &format!("Ủy ban nhân dân {commune}, {district}"), Some(&code), 3);
            }
        }
        directory.add_flawed();
        directory
    }

    fn add(&mut self, code: &str, name: &str, parent: Option<&str>, level: i32) {
        let style = self.rows.len();
        self.rows.push(Agency {
            code: styled(code, style),
            name: name.to_owned(),
            parent: parent.map(|parent| styled(parent, style / 2)),
            level,
            valid_from: if style.is_multiple_of(7) { "1/7/2020".to_owned() } else { "22/07/2020".to_owned() },
            flaw: None,
        });
        if level > 1 {
            self.codes.push(code.to_owned());
        }
    }

    /// Left-overs of old imports, which no dossier names.
    fn add_flawed(&mut self) {
        let left_over = |code: &str, level, valid_from: &str, fault, column| Agency {
            code: code.to_owned(),
            name: "Đơn vị nhập từ hệ thống cũ".to_owned(),
            parent: Some("H09".to_owned()),
            level,
            valid_from: valid_from.to_owned(),
            flaw: Some(Flaw { fault, column }),
        };
        self.rows.push(left_over("H9.77", 2, "22/07/2020", Fault::BadAgencyCode, "ma_co_quan"));
        self.rows.push(left_over("H09.78", 7, "22/07/2020", Fault::UnknownCode, "cap"));
        self.rows.push(left_over("H09.79", 2, "31/02/2020", Fault::BadDate, "ngay_hieu_luc"));
    }

    pub(crate) fn rows(&self) -> &[Agency] {
        &self.rows
    }

    /// New-style codes of the agencies that take dossiers.
    pub(crate) fn codes(&self) -> &[String] {
        &self.codes
    }
}

/// `H09.15.03` in the style that `choice` says: new, or old (`000.03.15.H09`, right to left).
pub(crate) fn styled(code: &str, choice: usize) -> String {
    if choice.is_multiple_of(2) {
        return code.to_owned();
    }
    let mut parts: Vec<&str> = code.split('.').collect();
    while parts.len() < 3 {
        parts.push("00");
    }
    parts.reverse();
    format!("000.{}", parts.join("."))
}

impl SourceRow for Agency {
    const TABLE: &'static str = "public.co_quan";
    const COLUMNS: &'static [(&'static str, &'static str)] =
        &[("ma_co_quan", "text"), ("ten", "text"), ("ma_cha", "text"), ("cap", "int"), ("ngay_hieu_luc", "text")];

    fn values(&self) -> Vec<Option<String>> {
        vec![
            Some(self.code.clone()),
            Some(self.name.clone()),
            self.parent.clone(),
            Some(self.level.to_string()),
            Some(self.valid_from.clone()),
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
    use super::{Directory, styled};

    #[test]
    fn codes_are_written_in_both_styles() {
        assert_eq!(styled("H09", 1), "000.00.00.H09");
        assert_eq!(styled("H09.15", 1), "000.00.15.H09");
        assert_eq!(styled("H09.15.03", 1), "000.03.15.H09");
        assert_eq!(styled("H09.15.03", 2), "H09.15.03");
    }

    #[test]
    fn every_agency_has_a_code_of_its_own() {
        let directory = Directory::new();
        let mut codes: Vec<&str> = directory.rows().iter().map(|agency| agency.code.as_str()).collect();
        codes.sort_unstable();
        let all = codes.len();
        codes.dedup();
        assert_eq!(codes.len(), all);
    }
}
