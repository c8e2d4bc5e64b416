//! Days as people write them. Days are counted from 1970-01-01.

/// Day, month and year of a day number (Howard Hinnant's `civil_from_days`).
fn civil(days: i64) -> (i64, i64, i64) {
    let shifted = days + 719_468;
    let era = shifted.div_euclid(146_097);
    let day_of_era = shifted.rem_euclid(146_097);
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    (day, month, year)
}

/// `dd/MM/yyyy`, as the one-stop shop stores its dates.
pub(crate) fn written(days: i64) -> String {
    let (day, month, year) = civil(days);
    format!("{day:02}/{month:02}/{year:04}")
}

/// `yyMMdd`, as in a dossier's code.
pub(crate) fn compact(days: i64) -> String {
    let (day, month, year) = civil(days);
    format!("{:02}{month:02}{day:02}", year % 100)
}

/// The year of a day.
pub(crate) fn year(days: i64) -> i64 {
    civil(days).2
}

/// `yyyy-MM-dd HH:mm:ss` of a number of seconds since 1970-01-01 00:00:00, as PostgreSQL reads it.
pub(crate) fn timestamp(seconds: i64) -> String {
    let (day, month, year) = civil(seconds.div_euclid(86_400));
    let rest = seconds.rem_euclid(86_400);
    format!("{year:04}-{month:02}-{day:02} {:02}:{:02}:{:02}", rest / 3_600, rest / 60 % 60, rest % 60)
}

#[cfg(test)]
mod tests {
    use super::{compact, timestamp, written, year};

    #[test]
    fn days_are_written_as_in_vietnam() {
        assert_eq!(written(0), "01/01/1970");
        assert_eq!(written(19_782), "29/02/2024");
        assert_eq!(written(-1), "31/12/1969");
        assert_eq!(compact(20_089), "250101");
        assert_eq!(year(20_088), 2024);
        assert_eq!(timestamp(20_089 * 86_400 + 3_661), "2025-01-01 01:01:01");
    }
}
