//! Sets of global transaction identifiers in the forms of both dialects.

use std::collections::BTreeMap;
use std::fmt;

/// MariaDB: the last transaction of each domain.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct MariaPosition {
    domains: BTreeMap<u32, (u32, u64)>,
}

/// MySQL: of each source the numbers that are there, as ranges that include both ends.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct MysqlSet {
    sources: BTreeMap<[u8; 16], Vec<(u64, u64)>>,
}

/// What was read by GTID.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Gtids {
    Maria(MariaPosition),
    Mysql(MysqlSet),
}

impl MariaPosition {
    /// Reads `0-1-5,1-2-7`.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let mut domains = BTreeMap::new();
        for part in text.split(',').map(str::trim).filter(|part| !part.is_empty()) {
            let mut numbers = part.split('-');
            let mut number = || numbers.next()?.parse::<u64>().ok();
            let (domain, server, sequence) = (number()?, number()?, number()?);
            domains.insert(u32::try_from(domain).ok()?, (u32::try_from(server).ok()?, sequence));
        }
        Some(Self { domains })
    }

    /// A transaction was read whole.
    pub(crate) fn add(&mut self, domain: u32, server: u32, sequence: u64) {
        self.domains.insert(domain, (server, sequence));
    }
}

impl fmt::Display for MariaPosition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (place, (domain, (server, sequence))) in self.domains.iter().enumerate() {
            let comma = if place > 0 { "," } else { "" };
            write!(f, "{comma}{domain}-{server}-{sequence}")?;
        }
        Ok(())
    }
}

impl MysqlSet {
    /// Reads `3e11fa47-71ca-11e1-9e33-c80aa9429562:1-5:11,…`.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let mut set = Self::default();
        for part in text.split(',').map(str::trim).filter(|part| !part.is_empty()) {
            let mut pieces = part.split(':');
            let source = uuid(pieces.next()?)?;
            for range in pieces {
                let (first, last) = range.split_once('-').unwrap_or((range, range));
                let (first, last) = (first.trim().parse().ok()?, last.trim().parse().ok()?);
                set.insert(source, first, last);
            }
        }
        Some(set)
    }

    /// A transaction was read whole.
    pub(crate) fn add(&mut self, source: [u8; 16], number: u64) {
        self.insert(source, number, number);
    }

    fn insert(&mut self, source: [u8; 16], mut first: u64, mut last: u64) {
        let ranges = self.sources.entry(source).or_default();
        // By far most often the next number of the last range.
        if let Some(end) = ranges.last_mut()
            && first == end.1 + 1
        {
            end.1 = last;
            return;
        }
        ranges.retain(|(from, to)| {
            let meets = *from <= last.saturating_add(1) && first <= to.saturating_add(1);
            if meets {
                (first, last) = (first.min(*from), last.max(*to));
            }
            !meets
        });
        let place = ranges.partition_point(|(from, _)| *from < first);
        ranges.insert(place, (first, last));
    }

    /// As COM_BINLOG_DUMP_GTID wants it.
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut bytes = (self.sources.len() as u64).to_le_bytes().to_vec();
        for (source, ranges) in &self.sources {
            bytes.extend_from_slice(source);
            bytes.extend_from_slice(&(ranges.len() as u64).to_le_bytes());
            for (first, last) in ranges {
                bytes.extend_from_slice(&first.to_le_bytes());
                // The end is exclusive there.
                bytes.extend_from_slice(&(last + 1).to_le_bytes());
            }
        }
        bytes
    }
}

impl fmt::Display for MysqlSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (place, (source, ranges)) in self.sources.iter().enumerate() {
            f.write_str(if place > 0 { "," } else { "" })?;
            f.write_str(&uuid_text(source))?;
            for (first, last) in ranges {
                if first == last { write!(f, ":{first}")? } else { write!(f, ":{first}-{last}")? }
            }
        }
        Ok(())
    }
}

impl fmt::Display for Gtids {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Maria(position) => position.fmt(f),
            Self::Mysql(set) => set.fmt(f),
        }
    }
}

fn uuid(text: &str) -> Option<[u8; 16]> {
    let digits: String = text.trim().chars().filter(|letter| *letter != '-').collect();
    let number = u128::from_str_radix(&digits, 16).ok().filter(|_| digits.len() == 32)?;
    Some(number.to_be_bytes())
}

/// A source of MySQL as text.
pub(crate) fn uuid_text(source: &[u8; 16]) -> String {
    let digits = format!("{:032x}", u128::from_be_bytes(*source));
    let part = |from: usize, to: usize| digits.get(from..to).unwrap_or_default();
    format!("{}-{}-{}-{}-{}", part(0, 8), part(8, 12), part(12, 16), part(16, 20), part(20, 32))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;

    const SOURCE: &str = "3e11fa47-71ca-11e1-9e33-c80aa9429562";

    #[test]
    fn a_position_of_mariadb_keeps_the_last_of_each_domain() {
        let mut position = MariaPosition::parse("1-2-7,0-1-5").unwrap();
        position.add(0, 3, 6);
        assert_eq!(position.to_string(), "0-3-6,1-2-7");
        assert_eq!(MariaPosition::parse("").unwrap().to_string(), "");
        assert!(MariaPosition::parse("0-1").is_none());
    }

    #[test]
    fn ranges_of_mysql_grow_together_in_whatever_order_they_come() {
        let mut set = MysqlSet::parse(&format!("{SOURCE}:1-5:11,\n{SOURCE}:8")).unwrap();
        assert_eq!(set.to_string(), format!("{SOURCE}:1-5:8:11"));
        let source = uuid(SOURCE).unwrap();
        for number in [7, 6, 12, 10, 9] {
            set.add(source, number);
        }
        assert_eq!(set.to_string(), format!("{SOURCE}:1-12"));
        let encoded = set.encode();
        assert_eq!((encoded.len(), encoded[0], encoded[24], encoded[32], encoded[40]), (48, 1, 1, 1, 13));
    }
}
