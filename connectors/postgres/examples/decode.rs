//! Nanoseconds that a row of twelve cells takes from either wire form into Arrow columns:
//! `cargo run --release -p hub-connector-postgres --example decode`.
#![allow(clippy::unwrap_used, reason = "a measurement may panic")]

use std::sync::Arc;

use hub_connector_postgres::decode::{Cell, TableDecoder, Wire};
use hub_connector_postgres::types::{ColumnType, Kind};

fn column(name: &str, kind: Kind) -> ColumnType {
    ColumnType { name: name.into(), oid: 0, typmod: -1, sql_type: "whatever".into(), kind, select: Arc::from(name) }
}

/// A kind and one value of it.
type Sample<'a> = (Kind, &'a [u8]);

fn main() {
    let decimal = Kind::Decimal { precision: 14, scale: 2 };
    let forms: [(Wire, [Sample<'_>; 12]); 2] = [
        (
            Wire::Binary,
            [
                (Kind::Int8, &[0, 0, 0, 0, 0, 1, 2, 3]),
                (Kind::Text, "000.00.01.H09-250701-0001".as_bytes()),
                (Kind::Text, "Nguyễn Thị Ánh".as_bytes()),
                (Kind::Text, b"074190001234"),
                (Kind::Int4, &[0, 0, 0, 7]),
                (decimal, &[0, 2, 0, 1, 0, 0, 0, 2, 0, 15, 0x13, 0x88]),
                (decimal, &[0, 2, 0, 0, 0, 0, 0, 2, 0, 15, 0x13, 0x88]),
                (Kind::Date, &[0, 0, 0x24, 7]),
                (Kind::Timestamp, &[0, 2, 0, 0, 0, 1, 2, 3]),
                (Kind::TimestampTz, &[0, 2, 0, 0, 0, 1, 2, 3]),
                (Kind::Bool, &[1]),
                (Kind::Text, "Phường Phú Cường, Thủ Dầu Một".as_bytes()),
            ],
        ),
        (
            Wire::Text,
            [
                (Kind::Int8, b"16909060"),
                (Kind::Text, "000.00.01.H09-250701-0001".as_bytes()),
                (Kind::Text, "Nguyễn Thị Ánh".as_bytes()),
                (Kind::Text, b"074190001234"),
                (Kind::Int4, b"7"),
                (decimal, b"155000.00"),
                (decimal, b"15.50"),
                (Kind::Date, b"2025-07-01"),
                (Kind::Timestamp, b"2025-07-01 08:00:00.123456"),
                (Kind::TimestampTz, b"2025-07-01 08:00:00.123+00"),
                (Kind::Bool, b"t"),
                (Kind::Text, "Phường Phú Cường, Thủ Dầu Một".as_bytes()),
            ],
        ),
    ];
    for (wire, cells) in forms {
        let columns: Vec<_> = cells.iter().map(|(kind, _)| column("c", *kind)).collect();
        let mut decoder = TableDecoder::new(&columns, wire);
        let start = std::time::Instant::now();
        let rows = 800_000;
        for row in 1..=rows {
            for (place, (_, bytes)) in cells.iter().enumerate() {
                decoder.push(place, Cell::Bytes(bytes));
            }
            decoder.finish_row();
            if row % 8_000 == 0 {
                assert_eq!(decoder.finish().unwrap().1, Vec::new());
            }
        }
        println!("{wire:?}: {} ns per row of 12 columns", start.elapsed().as_nanos() / rows);
    }
}
