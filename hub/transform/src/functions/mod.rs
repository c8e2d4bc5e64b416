//! The domain's functions for mappings: identifiers, dates, old encodings and codes of Vietnamese administration.
//!
//! Each is one row of a table: its documentation beside its rule. A value it refuses becomes null and its row a reject; under the name
//! `try_<function>` the value becomes null and nothing else happens, as with `TRY_CAST`. Null stays null, and so does blank text.

mod bound;
mod codes;
mod dates;
pub(crate) mod faults;
mod kernel;
mod legacy;
mod organisations;
mod people;
mod text;
mod zones;

use std::sync::Arc;

use datafusion_expr::ScalarUDF;

use bound::Unbound;
pub(crate) use bound::{Bound, BoundFunction};
pub use codes::{Code, CodeList, CodeListFault, CodeLists};
pub(crate) use codes::{CodeTable, Fast, Fnv};
pub use faults::Refusal;
pub(crate) use kernel::Refusals;
use kernel::{Rule, RuleFunction};
pub(crate) use zones::Zone;

/// What `hub functions` shows of a function.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FunctionDoc {
    /// Its name in mappings.
    pub name: &'static str,
    /// Name, arguments and result.
    pub signature: &'static str,
    /// What it does.
    pub does: &'static str,
    /// An expression and the text of its result.
    pub example: (&'static str, &'static str),
    /// Reason codes of the rows it refuses.
    pub codes: &'static [&'static str],
}

struct Entry {
    doc: FunctionDoc,
    /// `None`: looked up when the mapping is planned.
    rule: Option<Rule>,
}

/// The documentation of all functions, in the order in which people look for them.
pub fn catalogue() -> impl Iterator<Item = &'static FunctionDoc> {
    FUNCTIONS.iter().map(|entry| &entry.doc)
}

/// The names of all functions, without their `try_` forms.
pub(crate) fn names() -> impl Iterator<Item = &'static str> {
    FUNCTIONS.iter().map(|entry| entry.doc.name)
}

/// A function by the name that stands in a mapping.
pub(crate) fn find(name: &str) -> Option<Arc<ScalarUDF>> {
    let (plain, refusals) = split(name);
    let entry = FUNCTIONS.iter().find(|entry| entry.doc.name == plain)?;
    Some(Arc::new(match entry.rule {
        Some(rule) => ScalarUDF::new_from_impl(RuleFunction::new(name.to_owned(), entry.doc.signature, rule, refusals)),
        None => ScalarUDF::new_from_impl(Unbound::new(name.to_owned())),
    }))
}

/// The plain name and what becomes of refused values.
pub(crate) fn split(name: &str) -> (&str, Refusals) {
    name.strip_prefix("try_").map_or((name, Refusals::Report), |plain| (plain, Refusals::Ignore))
}

const FUNCTIONS: &[Entry] = &[
    Entry {
        doc: FunctionDoc {
            name: "code",
            signature: "code(list text, system text, value text) -> text",
            does: "The canonical code for a system's own one, from schemas/codes/<list>.csv; list and system are constants. code(list, value) takes the mapping's own system. The system 'code' means the canonical codes themselves.",
            example: ("code('dossier-status', 'mot-cua', '3')", "returned"),
            codes: &["unknown-code"],
        },
        rule: None,
    },
    Entry {
        doc: FunctionDoc {
            name: "personal_id",
            signature: "personal_id(text [, birth_date, gender text]) -> text",
            does: "A personal ID of 12 digits; zeros lost by a spreadsheet are restored where province, century and year allow it. With date of birth and gender it is held against them.",
            example: ("personal_id('74190000001')", "074190000001"),
            codes: &["bad-personal-id", "old-personal-id", "personal-id-mismatch", "bad-date", "unknown-gender"],
        },
        rule: Some(Rule::TextOrWide(people::personal_id, people::personal_id_of)),
    },
    Entry {
        doc: FunctionDoc {
            name: "tax_code",
            signature: "tax_code(text) -> text",
            does: "A tax or enterprise code: 10 digits with their check digit, with branch as 0300588569-001, or the 12 digits of a household business. Lost zeros are restored.",
            example: ("tax_code('300588569')", "0300588569"),
            codes: &["bad-tax-code"],
        },
        rule: Some(Rule::Text(organisations::tax_code)),
    },
    Entry {
        doc: FunctionDoc {
            name: "agency_code",
            signature: "agency_code(text) -> text",
            does: "An agency's identifier, left to right; the right-to-left form of before 2020 is turned round.",
            example: ("agency_code('000.01.15.H09')", "H09.15.01"),
            codes: &["bad-agency-code"],
        },
        rule: Some(Rule::Text(organisations::agency_code)),
    },
    Entry {
        doc: FunctionDoc {
            name: "dossier_code",
            signature: "dossier_code(text) -> text",
            does: "A dossier's code as printed on its receipt, <agency>-YYMMDD-NNNN, without blanks and in capitals.",
            example: ("dossier_code('h09.15-240305-0012 ')", "H09.15-240305-0012"),
            codes: &["bad-dossier-code"],
        },
        rule: Some(Rule::Text(organisations::dossier_code)),
    },
    Entry {
        doc: FunctionDoc {
            name: "commune_code",
            signature: "commune_code(text) -> text",
            does: "A commune's code of 5 digits, lost zeros restored.",
            example: ("commune_code('1')", "00001"),
            codes: &["bad-commune-code"],
        },
        rule: Some(Rule::Text(organisations::commune_code)),
    },
    Entry {
        doc: FunctionDoc {
            name: "insurance_card",
            signature: "insurance_card(text) -> text",
            does: "A health insurance card of 15 characters, or the 10 digits of newer cards.",
            example: ("insurance_card('dn 4 74 0123456789')", "DN4740123456789"),
            codes: &["bad-insurance-card"],
        },
        rule: Some(Rule::Text(people::insurance_card)),
    },
    Entry {
        doc: FunctionDoc {
            name: "gender",
            signature: "gender(text [, male text, female text]) -> text",
            does: "male, female or other from Nam, Nữ, Khác, M, F …; numbers mean different things in different systems, so give the source's own values for the two.",
            example: ("gender('0', '1', '0')", "female"),
            codes: &["unknown-gender"],
        },
        rule: Some(Rule::TextOrWide(people::gender, people::gender_by)),
    },
    Entry {
        doc: FunctionDoc {
            name: "vn_phone",
            signature: "vn_phone(text) -> text",
            does: "A Vietnamese telephone number as +84…; mobile numbers of 11 digits get their form of 2018.",
            example: ("vn_phone('0168 123 4567')", "+84381234567"),
            codes: &["bad-phone"],
        },
        rule: Some(Rule::Text(people::vn_phone)),
    },
    Entry {
        doc: FunctionDoc {
            name: "vn_date",
            signature: "vn_date(text) -> date",
            does: "A date written dd/MM/yyyy, d-M-yyyy, dd.MM.yyyy, yyyy-MM-dd, yyyyMMdd or as a spreadsheet's serial. MM/yyyy and yyyy give the first day; vn_date_precision tells.",
            example: ("vn_date('5/3/2024')", "2024-03-05"),
            codes: &["bad-date"],
        },
        rule: Some(Rule::Date(dates::vn_date)),
    },
    Entry {
        doc: FunctionDoc {
            name: "vn_date_precision",
            signature: "vn_date_precision(text) -> text",
            does: "How much of a date is known: day, month or year.",
            example: ("vn_date_precision('07/1954')", "month"),
            codes: &["bad-date"],
        },
        rule: Some(Rule::Text(dates::vn_date_precision)),
    },
    Entry {
        doc: FunctionDoc {
            name: "vn_timestamp",
            signature: "vn_timestamp(text) -> timestamp",
            does: "A local date with time: dd/MM/yyyy HH:mm[:ss] (SA and CH are understood), yyyy-MM-dd HH:mm[:ss[.ffffff]], yyyyMMddHHmmss or a spreadsheet's serial.",
            example: ("vn_timestamp('05/03/2024 08:30 CH')", "2024-03-05T20:30:00"),
            codes: &["bad-timestamp", "bad-date"],
        },
        rule: Some(Rule::Timestamp(dates::vn_timestamp)),
    },
    Entry {
        doc: FunctionDoc {
            name: "at_time_zone",
            signature: "at_time_zone(timestamp, zone text) -> timestamp with time zone",
            does: "The instant of a local time in a time zone; the zone is a constant, an IANA name or an offset.",
            example: ("at_time_zone(vn_timestamp('05/03/2024 08:30'), 'Asia/Ho_Chi_Minh')", "2024-03-05T01:30:00Z"),
            codes: &["no-such-time"],
        },
        rule: None,
    },
    Entry {
        doc: FunctionDoc {
            name: "proper_name",
            signature: "proper_name(text) -> text",
            does: "A person's name with a capital for each word and single blanks; words of mixed case stay.",
            example: ("proper_name('NGUYỄN VĂN  TRƯỜNG')", "Nguyễn Văn Trường"),
            codes: &[],
        },
        rule: Some(Rule::Text(text::proper_name)),
    },
    Entry {
        doc: FunctionDoc {
            name: "from_tcvn3",
            signature: "from_tcvn3(text) -> text",
            does: "Text of TCVN3 (ABC) bytes that were taken for Latin-1 or Windows-1252. Names typed in a capital font (.VnTimeH) come out small: wrap them in upper or proper_name.",
            example: ("from_tcvn3('Hµ Néi')", "Hà Nội"),
            codes: &[],
        },
        rule: Some(Rule::Text(legacy::from_tcvn3)),
    },
    Entry {
        doc: FunctionDoc {
            name: "from_vni",
            signature: "from_vni(text) -> text",
            does: "Text of VNI-Windows bytes that were taken for Latin-1 or Windows-1252.",
            example: ("from_vni('Haø Noäi')", "Hà Nội"),
            codes: &[],
        },
        rule: Some(Rule::Text(legacy::from_vni)),
    },
    Entry {
        doc: FunctionDoc {
            name: "nfc",
            signature: "nfc(text) -> text",
            does: "Text in composed Unicode (NFC), for comparisons; what a field receives is composed anyway.",
            example: ("nfc('Hà Nội')", "Hà Nội"),
            codes: &[],
        },
        rule: Some(Rule::Text(text::nfc)),
    },
    Entry {
        doc: FunctionDoc {
            name: "blank_to_null",
            signature: "blank_to_null(text) -> text",
            does: "Null for text of blanks alone; other text stays as it is.",
            example: ("coalesce(blank_to_null('  '), 'none')", "none"),
            codes: &[],
        },
        rule: Some(Rule::Text(text::blank_to_null)),
    },
    Entry {
        doc: FunctionDoc {
            name: "only_digits",
            signature: "only_digits(text) -> text",
            does: "The digits of a text; null where it has none.",
            example: ("only_digits('số 12/3')", "123"),
            codes: &[],
        },
        rule: Some(Rule::Text(text::only_digits)),
    },
];
