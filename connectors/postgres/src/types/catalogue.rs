//! Resolves type numbers by the server's own catalogue: domains to their base, enums, extension types.

use std::collections::HashMap;
use std::sync::Arc;

use hub_sdk::SourceError;
use tokio_postgres::{Client, Row};

use super::{ColumnType, Kind, NUMERIC, VARCHAR_HEADER, numeric_limits, quote_identifier};
use crate::client::classify;

/// Types of one database by number. Loaded once; load it again when a number is not in it.
#[derive(Clone, Debug, Default)]
pub struct Catalogue {
    types: HashMap<u32, TypeEntry>,
}

#[derive(Clone, Debug)]
struct TypeEntry {
    /// `format_type(oid, NULL)`.
    name: Arc<str>,
    base: u32,
    /// Modifier that a domain gives its base; -1 for none.
    typmod: i32,
    is_enum: bool,
    is_citext: bool,
    /// Output function, where a cast to text would not give the type's own form (`inet`).
    output: Option<Arc<str>>,
}

/// Every type but the row types of tables, domains followed down to their base.
const TYPES: &str = "
WITH RECURSIVE chain(oid, base, typmod) AS (
    SELECT t.oid, t.oid, -1 FROM pg_catalog.pg_type t LEFT JOIN pg_catalog.pg_class r ON r.oid = t.typrelid
    WHERE t.typtype <> 'c' OR r.relkind = 'c'
  UNION ALL
    SELECT c.oid, t.typbasetype, CASE WHEN t.typtypmod >= 0 THEN t.typtypmod ELSE c.typmod END
    FROM chain c JOIN pg_catalog.pg_type t ON t.oid = c.base WHERE t.typtype = 'd'
)
SELECT c.oid, pg_catalog.format_type(c.oid, NULL), c.base, c.typmod, b.typtype = 'e', b.typname = 'citext',
       CASE WHEN EXISTS (SELECT FROM pg_catalog.pg_cast k
                         WHERE k.castsource = b.oid AND k.casttarget = 'pg_catalog.text'::pg_catalog.regtype AND k.castmethod = 'f')
            THEN (SELECT pg_catalog.quote_ident(n.nspname) || '.' || pg_catalog.quote_ident(p.proname)
                  FROM pg_catalog.pg_proc p JOIN pg_catalog.pg_namespace n ON n.oid = p.pronamespace WHERE p.oid = b.typoutput)
       END
FROM chain c JOIN pg_catalog.pg_type b ON b.oid = c.base
WHERE b.typtype <> 'd'";

impl Catalogue {
    /// Reads the types of the database.
    ///
    /// # Errors
    /// What [`classify`] makes of the server's answer.
    pub async fn load(client: &Client) -> Result<Self, SourceError> {
        let doing = || "reading the types of the database";
        let rows = client.query(TYPES, &[]).await.map_err(|error| classify(doing(), error))?;
        let mut types = HashMap::with_capacity(rows.len());
        for row in &rows {
            let (oid, entry) = type_entry(row).map_err(|error| classify(doing(), error))?;
            types.insert(oid, entry);
        }
        Ok(Self { types })
    }

    /// Whether the number is known.
    #[must_use]
    pub fn knows(&self, oid: u32) -> bool {
        self.types.contains_key(&oid)
    }

    /// Resolves a column of a replication `Relation` message. An unknown number is taken for a row type: text.
    #[must_use]
    pub fn column(&self, name: &str, oid: u32, typmod: i32) -> ColumnType {
        let sql_type = match self.types.get(&oid) {
            Some(entry) => format_type(&entry.name, oid, typmod),
            None => format!("type {oid}"),
        };
        self.resolve(name, oid, typmod, &sql_type)
    }

    /// Resolves a column whose type the server has already written out.
    pub(crate) fn resolve(&self, name: &str, oid: u32, typmod: i32, sql_type: &str) -> ColumnType {
        let entry = self.types.get(&oid);
        let kind = entry.map_or_else(|| Kind::of_builtin(oid, typmod).unwrap_or(Kind::Opaque), |entry| entry.kind(typmod));
        let quoted = quote_identifier(name);
        let select = match (kind, entry.and_then(|entry| entry.output.as_deref())) {
            (Kind::Opaque, Some(output)) => format!("pg_catalog.textin({output}({quoted}))"),
            (Kind::Opaque, None) => format!("{quoted}::pg_catalog.text"),
            _ => quoted,
        };
        ColumnType { name: name.into(), oid, typmod, sql_type: sql_type.into(), kind, select: select.into() }
    }
}

impl TypeEntry {
    fn kind(&self, typmod: i32) -> Kind {
        if self.is_enum || self.is_citext {
            return Kind::Text;
        }
        let typmod = if self.typmod >= 0 { self.typmod } else { typmod };
        Kind::of_builtin(self.base, typmod).unwrap_or(Kind::Opaque)
    }
}

fn type_entry(row: &Row) -> Result<(u32, TypeEntry), tokio_postgres::Error> {
    let entry = TypeEntry {
        name: row.try_get::<_, &str>(1)?.into(),
        base: row.try_get(2)?,
        typmod: row.try_get(3)?,
        is_enum: row.try_get(4)?,
        is_citext: row.try_get(5)?,
        output: row.try_get::<_, Option<&str>>(6)?.map(Into::into),
    };
    Ok((row.try_get(0)?, entry))
}

/// The columns of one table that its stream carries, in order: all but generated ones.
///
/// # Errors
/// What [`classify`] makes of the server's answer; no columns where the table is not there.
pub async fn load_columns(client: &Client, catalogue: &Catalogue, table: u32) -> Result<Vec<ColumnType>, SourceError> {
    const COLUMNS: &str = "
        SELECT attname, atttypid, atttypmod, pg_catalog.format_type(atttypid, atttypmod)
        FROM pg_catalog.pg_attribute
        WHERE attrelid = $1 AND attnum > 0 AND NOT attisdropped AND attgenerated = '' ORDER BY attnum";
    let doing = || format!("reading the columns of table {table}");
    let rows = client.query(COLUMNS, &[&table]).await.map_err(|error| classify(doing(), error))?;
    rows.iter()
        .map(|row| Ok(catalogue.resolve(row.try_get(0)?, row.try_get(1)?, row.try_get(2)?, row.try_get(3)?)))
        .collect::<Result<_, _>>()
        .map_err(|error| classify(doing(), error))
}

/// A type with its modifier, as near to `format_type` as needs no server.
fn format_type(name: &str, oid: u32, typmod: i32) -> String {
    match oid {
        NUMERIC => match numeric_limits(typmod) {
            Some((precision, scale)) => format!("{name}({precision},{scale})"),
            None => name.to_owned(),
        },
        1042 | 1043 if typmod >= VARCHAR_HEADER => format!("{name}({})", typmod - VARCHAR_HEADER),
        // bit, varbit
        1560 | 1562 if typmod >= 0 => format!("{name}({typmod})"),
        // time, timestamp, timestamptz, timetz
        1083 | 1114 | 1184 | 1266 if typmod >= 0 => match name.split_once(' ') {
            Some((first, rest)) => format!("{first}({typmod}) {rest}"),
            None => format!("{name}({typmod})"),
        },
        _ => name.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modifiers_are_written_as_the_server_writes_them() {
        assert_eq!(format_type("numeric", NUMERIC, ((14 << 16) | 2) + 4), "numeric(14,2)");
        assert_eq!(format_type("numeric", NUMERIC, -1), "numeric");
        assert_eq!(format_type("character varying", 1043, 24), "character varying(20)");
        assert_eq!(format_type("timestamp without time zone", 1114, 3), "timestamp(3) without time zone");
    }
}
