//! The `config:` section of a system that delivers files: parsing, defaults and the faults that can be told offline.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use hub_sdk::ConfigFault;
use schemars::JsonSchema;
use serde::Deserialize;

mod place;

pub use place::{S3Place, SftpPlace};

/// A place into which files are delivered. Unknown keys are refused.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct FilesConfig {
    /// The folder, local or mounted; a relative one starts at the configuration folder. Folders in it are not looked into.
    #[serde(default)]
    pub folder: Option<PathBuf>,
    /// A folder on an SFTP server, instead of `folder`.
    #[serde(default)]
    pub sftp: Option<SftpPlace>,
    /// A bucket of an S3-compatible store, instead of `folder`.
    #[serde(default)]
    pub s3: Option<S3Place>,
    /// Folder in which a file from afar, or one that is unpacked, lies while it is read, nameless and for the hub's user alone: the
    /// system's for temporary files unless given.
    #[serde(default)]
    pub spool: Option<PathBuf>,
    /// Seconds between two looks at the folder. A file is taken when it has not changed for one look.
    #[serde(default = "defaults::every_s")]
    pub every_s: f64,
    /// Sub-folder into which a file that cannot be read is moved, with a report beside it. Empty: such files stay where they are.
    #[serde(default = "defaults::aside")]
    pub aside: String,
    /// Largest JSON or XML document that is read, MiB unpacked: a document is held in memory whole. Other formats have no limit.
    #[serde(default = "defaults::document_mib")]
    pub document_mib: u64,
    /// The streams by name: which files belong to each, and how they are read.
    pub streams: BTreeMap<String, FileStream>,
}

/// The files of one stream, and how they are read.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct FileStream {
    /// Names of its files, with `*` for any letters and `?` for one: `dan_cu_*.csv`. Upper and lower case are the same.
    pub pattern: String,
    /// What the files hold.
    #[serde(default)]
    pub format: Format,
    /// How their text is encoded. A byte order mark of UTF-8 or UTF-16 wins over `utf-8`.
    #[serde(default)]
    pub encoding: Encoding,
    /// The character between two values of `csv`: found in the first lines unless given.
    #[serde(default)]
    pub delimiter: Option<char>,
    /// The character around values of `csv` and `tsv`.
    #[serde(default = "defaults::quote")]
    pub quote: char,
    /// The line of `csv` and `tsv`, or the row of `xlsx`, that holds the names of the columns, counted from 1; what comes before it is
    /// left out. 0: there is none. Unless given it is line 1, and in `xlsx` the first row that looks like one.
    #[serde(default)]
    pub header: Option<u64>,
    /// The sheet of `xlsx` by its name or its number, counted from 1: the first visible one unless given.
    #[serde(default)]
    pub sheet: Option<SheetChoice>,
    /// Where the rows of `json` and `xml` are: `/data/items`, `/Envelope/Body/row`. Empty: the document itself.
    #[serde(default)]
    pub rows: String,
    /// The columns of `fixed`, each with its place; of `csv`, `tsv` and `xlsx` without a header, their names in order.
    #[serde(default)]
    pub columns: Vec<FixedColumn>,
    /// `edxml`: the folder in which attachments are kept by their SHA-256, before their document is told; a relative one starts at the
    /// configuration folder. Nothing is ever deleted from it.
    #[serde(default)]
    pub attachments: Option<PathBuf>,
    /// The columns that identify a row. Needed by `whole`.
    #[serde(default)]
    pub key: Vec<String>,
    /// What a file means.
    #[serde(default)]
    pub mode: Mode,
    /// `whole`: a delivery that would delete more than this share of the known rows, in per cent, is held back until it is accepted.
    /// Fewer than 100 known rows are not guarded. 0: nothing is held back.
    #[serde(default = "defaults::shrink_guard")]
    pub shrink_guard: u8,
}

/// A sheet of a workbook.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum SheetChoice {
    /// By its place, from 1.
    Number(usize),
    /// By its name.
    Name(String),
}

/// One column that no header names.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct FixedColumn {
    /// Its name.
    pub name: String,
    /// `fixed`: its first character in the line, counted from 1.
    #[serde(default)]
    pub start: usize,
    /// `fixed`: how many characters it has. Blanks at its end are left out.
    #[serde(default)]
    pub width: usize,
}

/// What a file holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Format {
    /// Values between commas, semicolons, tabs or bars, with a header.
    #[default]
    Csv,
    /// The same between tabs.
    Tsv,
    /// One JSON document with a list of objects.
    Json,
    /// One JSON object a line.
    Ndjson,
    /// One XML document.
    Xml,
    /// Lines whose columns have fixed places.
    Fixed,
    /// A workbook of Excel, XLSX or XLS.
    #[serde(alias = "xls")]
    Xlsx,
    /// Apache Parquet, in its own types.
    Parquet,
    /// One official document (QCVN 102:2016/BTTTT) with its attachments, alone or in an archive with them.
    Edxml,
}

impl Format {
    /// Whether a file may grow at its end and stay the same before.
    pub(crate) fn grows(self) -> bool {
        matches!(self, Self::Csv | Self::Tsv | Self::Ndjson | Self::Fixed)
    }

    /// Endings of names that fit, for the members of an archive.
    pub(crate) fn endings(self) -> &'static [&'static str] {
        match self {
            Self::Csv => &[".csv", ".txt"],
            Self::Tsv => &[".tsv", ".tab", ".txt", ".csv"],
            Self::Json => &[".json"],
            Self::Ndjson => &[".ndjson", ".jsonl", ".json"],
            Self::Xml => &[".xml", ".edxml"],
            Self::Fixed => &[".txt", ".dat", ".fix"],
            Self::Xlsx => &[".xlsx", ".xlsm", ".xls"],
            Self::Parquet => &[".parquet", ".pq"],
            Self::Edxml => &[".edxml", ".xml"],
        }
    }
}

/// How text is encoded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Encoding {
    /// UTF-8, with or without a byte order mark; UTF-16 where a mark says so.
    #[default]
    #[serde(rename = "utf-8")]
    Utf8,
    /// UTF-16, low byte first.
    #[serde(rename = "utf-16le")]
    Utf16le,
    /// UTF-16, high byte first.
    #[serde(rename = "utf-16be")]
    Utf16be,
    /// Windows' Vietnamese code page. Its tone marks are letters of their own until a field receives them.
    #[serde(rename = "windows-1258")]
    Windows1258,
    /// TCVN3 (ABC) fonts: each byte is kept as the letter of its number, and the mapping converts with `from_tcvn3`.
    Tcvn3,
    /// VNI fonts: each byte is kept as the letter of its number, and the mapping converts with `from_vni`.
    Vni,
}

/// What a file means.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Mode {
    /// Its rows are new; the rows of the files before stay.
    #[default]
    Append,
    /// It holds all rows: what differs from the file before is inserted, updated and deleted.
    Whole,
}

impl FilesConfig {
    /// Folder for what is read from afar or unpacked.
    pub(crate) fn spool(&self) -> PathBuf {
        self.spool.clone().unwrap_or_else(std::env::temp_dir)
    }

    /// Time between two looks.
    pub(crate) fn every(&self) -> Duration {
        Duration::from_secs_f64(self.every_s.clamp(0.01, 86_400.0))
    }

    /// Every fault that can be found without looking at the folder, each with its place.
    pub(crate) fn faults(&self) -> Vec<ConfigFault> {
        let mut faults = Vec::new();
        let mut fault = |wrong: bool, pointer: &str, message: &str| {
            if wrong {
                faults.push(ConfigFault { pointer: pointer.to_owned(), message: message.to_owned() });
            }
        };
        let places = [self.folder.is_some(), self.sftp.is_some(), self.s3.is_some()].into_iter().filter(|is_given| *is_given).count();
        fault(places != 1, "", "needs exactly one of `folder`, `sftp` and `s3`");
        let is_empty = self.folder.as_ref().is_some_and(|folder| folder.as_os_str().is_empty());
        fault(is_empty, "/folder", "is empty; give the folder into which the files are delivered");
        for (field, message) in self.sftp.iter().flat_map(SftpPlace::faults) {
            fault(true, &format!("/sftp{field}"), message);
        }
        for (field, message) in self.s3.iter().flat_map(S3Place::faults) {
            fault(true, &format!("/s3{field}"), message);
        }
        fault(!(0.01..=86_400.0).contains(&self.every_s), "/every_s", "is out of range; use 0.01 to 86400 seconds, such as 60");
        fault(
            self.aside.contains(['/', '\\']) || self.aside == "..",
            "/aside",
            "is a path; give the name of one sub-folder, such as rejected",
        );
        fault(!(1..=2_048).contains(&self.document_mib), "/document_mib", "is out of range; use 1 to 2048, such as 64");
        fault(self.streams.is_empty(), "/streams", "is empty; name each stream with the pattern of its files");
        for (name, stream) in &self.streams {
            for (field, message) in stream.faults() {
                let name = hub_sdk::pointer_part(name);
                faults.push(ConfigFault { pointer: format!("/streams/{name}{field}"), message });
            }
        }
        faults
    }
}

impl FileStream {
    /// The line of the header in `csv` and `tsv`; 0 where there is none.
    pub(crate) fn header_line(&self) -> u64 {
        self.header.unwrap_or(1)
    }

    fn faults(&self) -> Vec<(&'static str, String)> {
        let mut faults = Vec::new();
        let mut fault = |wrong: bool, field: &'static str, message: &str| {
            if wrong {
                faults.push((field, message.to_owned()));
            }
        };
        let is_delimited = matches!(self.format, Format::Csv | Format::Tsv);
        fault(self.pattern.is_empty(), "/pattern", "is empty; give the names of the files, such as dan_cu_*.csv");
        fault(self.pattern.contains('/'), "/pattern", "has a folder in it; it is compared with the names of files alone");
        fault(
            self.mode == Mode::Whole && self.key.is_empty(),
            "/key",
            "is empty; `mode: whole` compares rows by the columns that identify them",
        );
        fault(self.shrink_guard > 100, "/shrink_guard", "is a share in per cent; use 0 to 100, such as 50");
        let wrong = |letter: char| !letter.is_ascii() || letter == '\n' || letter == '\r';
        fault(self.delimiter.is_some_and(wrong), "/delimiter", "must be one ASCII character, such as \";\"");
        fault(self.delimiter.is_some() && self.format != Format::Csv, "/delimiter", "is for `format: csv` alone");
        fault(wrong(self.quote) || self.delimiter == Some(self.quote), "/quote", "must be one ASCII character other than the delimiter");
        fault(
            !self.rows.is_empty() && !matches!(self.format, Format::Json | Format::Xml),
            "/rows",
            "is for `format: json` and `xml` alone",
        );
        let is_fixed = self.format == Format::Fixed;
        fault(is_fixed && self.columns.is_empty(), "/columns", "is empty; `format: fixed` needs each column's name, start and width");
        let placeless = |column: &FixedColumn| column.start == 0 || column.width == 0;
        fault(is_fixed && self.columns.iter().any(placeless), "/columns", "start counts from 1 and width is at least 1");
        let is_sheet = self.format == Format::Xlsx;
        let is_headless = (is_delimited || is_sheet) && self.header == Some(0);
        fault(self.header.is_some() && !is_delimited && !is_sheet, "/header", "is for `format: csv`, `tsv` and `xlsx` alone");
        let is_edxml = self.format == Format::Edxml;
        fault(is_edxml && self.attachments.is_none(), "/attachments", "is missing; `format: edxml` keeps attachments in a folder");
        fault(!is_edxml && self.attachments.is_some(), "/attachments", "is for `format: edxml` alone");
        fault(self.sheet.is_some() && !is_sheet, "/sheet", "is for `format: xlsx` alone");
        fault(self.sheet == Some(SheetChoice::Number(0)), "/sheet", "counts from 1");
        fault(is_headless && self.columns.is_empty(), "/columns", "is empty; without a header the columns need names");
        fault(
            !self.columns.is_empty() && !is_fixed && !is_headless,
            "/columns",
            "is for `format: fixed`, or for `csv`, `tsv` and `xlsx` with `header: 0`",
        );
        let stray = self.key.iter().find(|key| !self.columns.iter().any(|column| column.name == **key));
        fault(!self.columns.is_empty() && stray.is_some(), "/key", "names a column that is not among `columns`");
        faults
    }
}

mod defaults {
    pub(super) fn every_s() -> f64 {
        60.0
    }
    pub(super) fn aside() -> String {
        "rejected".to_owned()
    }
    pub(super) fn document_mib() -> u64 {
        64
    }
    pub(super) fn shrink_guard() -> u8 {
        50
    }
    pub(super) fn quote() -> char {
        '"'
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use serde_json::json;

    use super::*;

    fn pointers(config: serde_json::Value) -> Vec<String> {
        serde_json::from_value::<FilesConfig>(config).unwrap().faults().into_iter().map(|fault| fault.pointer).collect()
    }

    #[test]
    fn every_fault_is_told_with_its_place() {
        assert!(pointers(json!({"folder": "a", "streams": {"s": {"pattern": "*.csv"}}})).is_empty());
        let streams = json!({
            "whole": {"pattern": "a/*.csv", "mode": "whole"},
            "fixed": {"pattern": "*.txt", "format": "fixed", "columns": [{"name": "a"}], "key": ["b"]},
            "json": {"pattern": "*.json", "format": "json", "delimiter": ";"},
            "bare": {"pattern": "*.csv", "header": 0, "rows": "/a"},
        });
        assert_eq!(
            pointers(json!({"folder": "", "every_s": 0, "aside": "a/b", "document_mib": 0, "streams": streams})),
            [
                "/folder",
                "/every_s",
                "/aside",
                "/document_mib",
                "/streams/bare/rows",
                "/streams/bare/columns",
                "/streams/fixed/columns",
                "/streams/fixed/key",
                "/streams/json/delimiter",
                "/streams/whole/pattern",
                "/streams/whole/key",
            ]
        );
    }
}
