//! Whose SQL is spoken: names, literals, the clock, and the options that a driver needs to hand rows over one page at a time.

use schemars::JsonSchema;
use serde::Deserialize;

use crate::config::MarkKind;

/// The database behind the driver.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Dialect {
    /// Any other: standard SQL, and literals in the escapes of ODBC.
    Generic,
    /// PostgreSQL and its kin.
    Postgres,
    /// MariaDB and MySQL.
    Mysql,
    /// SQLite.
    Sqlite,
    /// Microsoft SQL Server and Azure SQL.
    SqlServer,
    /// Oracle.
    Oracle,
    /// IBM Db2.
    Db2,
}

/// Names as the session's database quotes them.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Quotes(pub(crate) Option<char>);

impl Quotes {
    /// One name.
    pub(crate) fn name(self, name: &str) -> String {
        match self.0 {
            Some(quote) => format!("{quote}{}{quote}", name.replace(quote, &format!("{quote}{quote}"))),
            None => name.to_owned(),
        }
    }

    /// `schema.table`, part by part.
    pub(crate) fn table(self, table: &str) -> String {
        table.split('.').map(|part| self.name(part)).collect::<Vec<_>>().join(".")
    }

    /// Several names.
    pub(crate) fn list(self, names: &[String]) -> String {
        names.iter().map(|name| self.name(name)).collect::<Vec<_>>().join(", ")
    }
}

impl Dialect {
    /// By what the driver says of its database (SQL_DBMS_NAME).
    pub(crate) fn of(dbms: &str) -> Self {
        let name = dbms.to_lowercase();
        let known = [
            ("postgres", Self::Postgres),
            ("mariadb", Self::Mysql),
            ("mysql", Self::Mysql),
            ("sqlite", Self::Sqlite),
            ("sql server", Self::SqlServer),
            ("oracle", Self::Oracle),
            ("db2", Self::Db2),
        ];
        known.iter().find(|(part, _)| name.contains(part)).map_or(Self::Generic, |(_, dialect)| *dialect)
    }

    /// By the name or path of a driver, where that says it.
    pub(crate) fn of_driver(driver: &str) -> Self {
        let name = driver.rsplit('/').next().unwrap_or(driver).to_lowercase();
        let known = [
            ("psqlodbc", Self::Postgres),
            ("postgres", Self::Postgres),
            ("maodbc", Self::Mysql),
            ("mariadb", Self::Mysql),
            ("myodbc", Self::Mysql),
            ("mysql", Self::Mysql),
            ("sqlite", Self::Sqlite),
            ("msodbcsql", Self::SqlServer),
            ("sql server", Self::SqlServer),
            ("freetds", Self::SqlServer),
            ("tdsodbc", Self::SqlServer),
            ("oracle", Self::Oracle),
            ("sqora", Self::Oracle),
            ("db2", Self::Db2),
        ];
        known.iter().find(|(part, _)| name.contains(part)).map_or(Self::Generic, |(_, dialect)| *dialect)
    }

    /// Keywords without which the driver would hold whole results in memory, invent lengths, make missing files, or let times
    /// depend on the zone of the session.
    pub(crate) fn options(self) -> &'static [(&'static str, &'static str)] {
        match self {
            Self::Postgres => &[
                ("UseDeclareFetch", "1"),
                ("Fetch", "2000"),
                ("UnknownsAsLongVarchar", "1"),
                ("BoolsAsChar", "0"),
                ("NumericAs", "12"),
                ("ByteaAsLongVarBinary", "1"),
                ("ConnSettings", "SET TIME ZONE 'UTC'"),
            ],
            Self::Mysql => &[("FORWARDONLY", "1"), ("NO_CACHE", "1"), ("CHARSET", "utf8mb4"), ("INITSTMT", "SET time_zone = '+00:00'")],
            Self::Sqlite => &[("NoCreat", "1"), ("Timeout", "10000"), ("BigInt", "1")],
            _ => &[],
        }
    }

    /// Whether a value can be longer than its column says.
    pub(crate) fn ignores_lengths(self) -> bool {
        matches!(self, Self::Sqlite)
    }

    /// Whether its driver gives UTF-8 for narrow text whatever the locale.
    pub(crate) fn gives_utf8(self) -> bool {
        matches!(self, Self::Postgres | Self::Mysql | Self::Sqlite)
    }

    /// Whether connections are to a file, and so cheap that none is kept between looks.
    pub(crate) fn is_file(self) -> bool {
        self == Self::Sqlite
    }

    /// Whether its driver loses numbers of single precision that are fetched as such: MariaDB's 3.1 gives 0 for some.
    pub(crate) fn breaks_singles(self) -> bool {
        self == Self::Mysql
    }

    /// A statement that says the version of the server.
    pub(crate) fn version(self) -> Option<&'static str> {
        match self {
            Self::Postgres => Some("SELECT current_setting('server_version')"),
            Self::Mysql => Some("SELECT VERSION()"),
            Self::Sqlite => Some("SELECT sqlite_version()"),
            Self::SqlServer => Some("SELECT CAST(SERVERPROPERTY('ProductVersion') AS varchar(64))"),
            Self::Oracle => Some("SELECT version FROM product_component_version WHERE ROWNUM = 1"),
            Self::Db2 => Some("SELECT service_level FROM TABLE(sysproc.env_get_inst_info())"),
            Self::Generic => None,
        }
    }

    /// A statement that says the time by the clock of the source, in the form of its timestamps.
    pub(crate) fn now(self) -> &'static str {
        match self {
            Self::Postgres => "SELECT CAST(CURRENT_TIMESTAMP AS timestamp)",
            Self::Mysql => "SELECT NOW(6)",
            Self::Sqlite => "SELECT strftime('%Y-%m-%d %H:%M:%f', 'now')",
            Self::SqlServer => "SELECT SYSDATETIME()",
            Self::Oracle => "SELECT LOCALTIMESTAMP FROM DUAL",
            Self::Db2 => "SELECT CURRENT TIMESTAMP FROM SYSIBM.SYSDUMMY1",
            Self::Generic => "SELECT CURRENT_TIMESTAMP",
        }
    }

    /// The largest watermark that its literal can say and that is not above this one. SQLite compares text, so the
    /// literal must be the start of every text of its second.
    pub(crate) fn floor(self, kind: MarkKind, mark: i128) -> i128 {
        let step = match (kind, self) {
            (MarkKind::Timestamp, Self::Sqlite) => 1_000_000_000,
            (MarkKind::Timestamp, Self::Generic) => 1_000_000,
            (MarkKind::Timestamp, Self::SqlServer) => 100,
            (MarkKind::Timestamp, Self::Oracle) => 1,
            (MarkKind::Timestamp, _) => 1_000,
            _ => 1,
        };
        mark.div_euclid(step) * step
    }

    /// A watermark in SQL: nanoseconds since 1970 for timestamps.
    pub(crate) fn literal(self, kind: MarkKind, mark: i128) -> String {
        match kind {
            MarkKind::Number => mark.to_string(),
            MarkKind::Rowversion => match self {
                Self::Postgres => format!("'\\x{:016x}'", mark.max(0)),
                Self::Mysql | Self::Sqlite | Self::Oracle | Self::Db2 => format!("X'{:016X}'", mark.max(0)),
                Self::SqlServer | Self::Generic => format!("0x{:016X}", mark.max(0)),
            },
            MarkKind::Timestamp => {
                let (day, time, nanos) = clock(mark);
                match self {
                    Self::Postgres | Self::Mysql | Self::Db2 => format!("TIMESTAMP '{day} {time}.{:06}'", nanos / 1_000),
                    Self::Oracle => format!("TIMESTAMP '{day} {time}.{nanos:09}'"),
                    Self::Sqlite => format!("'{day} {time}'"),
                    Self::SqlServer => format!("CAST('{day}T{time}.{:07}' AS datetime2(7))", nanos / 100),
                    Self::Generic => format!("{{ts '{day} {time}.{:03}'}}", nanos / 1_000_000),
                }
            }
        }
    }

    /// Ten bytes of a log sequence number in SQL.
    pub(crate) fn lsn(self, lsn: &[u8]) -> String {
        let hex: String = lsn.iter().map(|byte| format!("{byte:02X}")).collect();
        match self {
            Self::Postgres => format!("CAST('\\x{hex}' AS bytea)"),
            Self::Mysql | Self::Sqlite | Self::Oracle | Self::Db2 => format!("X'{hex}'"),
            Self::SqlServer | Self::Generic => format!("0x{hex}"),
        }
    }

    /// Text in SQL.
    pub(crate) fn text(self, text: &str) -> String {
        let prefix = if self == Self::SqlServer { "N" } else { "" };
        let plain = if self == Self::Mysql { text.replace('\\', "\\\\") } else { text.to_owned() };
        format!("{prefix}'{}'", plain.replace('\'', "''"))
    }
}

/// Day, time of day and nanoseconds of nanoseconds since 1970.
fn clock(mark: i128) -> (String, String, i128) {
    let (seconds, nanos) = (mark.div_euclid(1_000_000_000), mark.rem_euclid(1_000_000_000));
    let (days, second) = (seconds.div_euclid(86_400), seconds.rem_euclid(86_400));
    let (year, month, day) = civil(days);
    (format!("{year:04}-{month:02}-{day:02}"), format!("{:02}:{:02}:{:02}", second / 3600, second / 60 % 60, second % 60), nanos)
}

/// Year, month and day of a count of days since 1970, by the calendar of eras of 400 years that begin in March.
fn civil(days: i128) -> (i128, i128, i128) {
    let shifted = days + 719_468;
    let (era, day) = (shifted.div_euclid(146_097), shifted.rem_euclid(146_097));
    let year = (day - day / 1_460 + day / 36_524 - day / 146_096) / 365;
    let in_year = day - (365 * year + year / 4 - year / 100);
    let part = (5 * in_year + 2) / 153;
    let month = if part < 10 { part + 3 } else { part - 9 };
    (year + era * 400 + i128::from(month <= 2), month, in_year - (153 * part + 2) / 5 + 1)
}

/// Days since 1970 of a date; `None` where the calendar has no such day.
pub(crate) fn days(year: i64, month: i64, day: i64) -> Option<i64> {
    if !(1..=9999).contains(&year) || !(1..=12).contains(&month) || day < 1 {
        return None;
    }
    let is_leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    let length = match month {
        2 => 28 + i64::from(is_leap),
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    };
    if day > length {
        return None;
    }
    let shifted = if month <= 2 { year - 1 } else { year };
    let (era, in_era) = (shifted.div_euclid(400), shifted.rem_euclid(400));
    let in_year = (153 * (if month > 2 { month - 3 } else { month + 9 }) + 2) / 5 + day - 1;
    Some(era * 146_097 + in_era * 365 + in_era / 4 - in_era / 100 + in_year - 719_468)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;

    #[test]
    fn days_and_dates_agree_over_all_years() {
        let mut expected = days(1, 1, 1).unwrap();
        for year in 1..=9999 {
            for month in 1..=12 {
                for day in 1..=31 {
                    let Some(found) = days(year, month, day) else { continue };
                    assert_eq!(found, expected, "{year}-{month}-{day}");
                    assert_eq!(civil(i128::from(found)), (i128::from(year), i128::from(month), i128::from(day)));
                    expected += 1;
                }
            }
        }
        assert_eq!((days(1970, 1, 1), days(2000, 2, 29), days(1900, 2, 29), days(0, 0, 0)), (Some(0), Some(11_016), None, None));
    }

    #[test]
    fn a_watermark_is_written_in_each_dialect() {
        let mark = 1_709_251_199_123_456_789;
        let written = |dialect: Dialect| dialect.literal(MarkKind::Timestamp, mark);
        assert_eq!(written(Dialect::Postgres), "TIMESTAMP '2024-02-29 23:59:59.123456'");
        assert_eq!(written(Dialect::Oracle), "TIMESTAMP '2024-02-29 23:59:59.123456789'");
        assert_eq!(written(Dialect::SqlServer), "CAST('2024-02-29T23:59:59.1234567' AS datetime2(7))");
        assert_eq!(written(Dialect::Sqlite), "'2024-02-29 23:59:59'");
        assert_eq!(written(Dialect::Generic), "{ts '2024-02-29 23:59:59.123'}");
        assert_eq!(Dialect::SqlServer.literal(MarkKind::Rowversion, 2_001), "0x00000000000007D1");
        assert_eq!(Dialect::Sqlite.floor(MarkKind::Timestamp, mark), 1_709_251_199_000_000_000);
        assert_eq!(Dialect::SqlServer.lsn(&[0, 0, 0, 37, 0, 0, 1, 32, 0, 4]), "0x00000025000001200004");
    }

    #[test]
    fn names_are_quoted_part_by_part() {
        assert_eq!(Quotes(Some('"')).table("dbo.Hồ \"sơ\""), "\"dbo\".\"Hồ \"\"sơ\"\"\"");
        assert_eq!(Quotes(None).table("a.b"), "a.b");
    }
}
