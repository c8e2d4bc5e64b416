//! What the server's catalogue says of tables and columns, one query each. Takes no locks on the tables.

use hub_sdk::SourceError;
use tokio_postgres::{Client, Row};

use crate::client::classify;

/// How updates and deletes tell which row they concern (`pg_class.relreplident`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ReplicaIdentity {
    /// By the primary key, where there is one.
    Default,
    /// By the whole old row.
    Full,
    /// By a unique index.
    Index,
    /// Not at all.
    Nothing,
}

/// One table or partitioned table.
#[derive(Clone, Debug)]
pub(super) struct TableRow {
    pub(super) oid: u32,
    pub(super) schema: String,
    pub(super) name: String,
    pub(super) unlogged: bool,
    pub(super) identity: ReplicaIdentity,
    /// Columns of the replica identity's index, else of the primary key.
    pub(super) key: Vec<String>,
    /// Whether updates and deletes can be told: the identity has its columns.
    pub(super) identified: bool,
    /// A unique index over columns that are never null, which could serve as replica identity.
    pub(super) candidate: Option<String>,
    /// Partitions whose own replica identity differs from the table's or is unusable.
    pub(super) odd_partitions: Vec<String>,
    pub(super) may_use_schema: bool,
    pub(super) unreadable: Vec<String>,
    /// Whether a row-level policy applies to the role.
    pub(super) row_security: bool,
    pub(super) rows: Option<u64>,
    pub(super) bytes: Option<u64>,
    /// The role that is logged in, quoted.
    pub(super) role: String,
}

impl TableRow {
    /// Whether deletes and updates carry the whole state before.
    pub(super) fn full_images(&self) -> bool {
        self.identity == ReplicaIdentity::Full && self.odd_partitions.is_empty()
    }
}

/// One column, generated ones included.
#[derive(Clone, Debug)]
pub(super) struct ColumnRow {
    pub(super) table: u32,
    pub(super) name: String,
    pub(super) type_oid: u32,
    pub(super) typmod: i32,
    pub(super) sql_type: String,
    pub(super) nullable: bool,
    pub(super) generated: bool,
    pub(super) identity: bool,
    pub(super) comment: Option<String>,
    /// Values of an enum, in its order.
    pub(super) labels: Vec<String>,
    /// `schema.table(column)` that a single-column foreign key points to.
    pub(super) references: Option<String>,
}

/// `$1`: names of the wanted streams, null for all. Sizes come from the last VACUUM or ANALYZE: asking for the real ones
/// would wait for whoever has locked a table.
const TABLES: &str = "
WITH wanted AS (
    SELECT c.*, n.nspname
    FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
    WHERE c.relkind IN ('r', 'p') AND c.relpersistence <> 't'
      AND CASE WHEN $1::text[] IS NULL
          THEN NOT c.relispartition AND n.nspname NOT LIKE 'pg\\_%' AND n.nspname <> 'information_schema'
               AND NOT EXISTS (SELECT FROM pg_catalog.pg_depend d WHERE d.classid = 'pg_catalog.pg_class'::pg_catalog.regclass
                               AND d.objid = c.oid AND d.deptype = 'e')
          ELSE n.nspname || '.' || c.relname = ANY ($1)
               OR pg_catalog.quote_ident(n.nspname) || '.' || pg_catalog.quote_ident(c.relname) = ANY ($1) END
), leaf AS (
    SELECT w.oid AS root, l.oid, l.relname, l.relreplident, l.reltuples, l.relpages + coalesce(t.relpages, 0) AS pages,
           EXISTS (SELECT FROM pg_catalog.pg_index i WHERE i.indrelid = l.oid
                   AND CASE l.relreplident WHEN 'd' THEN i.indisprimary WHEN 'i' THEN i.indisreplident END) AS has_index
    FROM wanted w
    CROSS JOIN LATERAL pg_catalog.pg_partition_tree(w.oid) p
    JOIN pg_catalog.pg_class l ON l.oid = p.relid LEFT JOIN pg_catalog.pg_class t ON t.oid = l.reltoastrelid
    WHERE w.relkind = 'p' AND p.isleaf
  UNION ALL
    SELECT w.oid, w.oid, w.relname, w.relreplident, w.reltuples, w.relpages + coalesce(t.relpages, 0), NULL
    FROM wanted w LEFT JOIN pg_catalog.pg_class t ON t.oid = w.reltoastrelid WHERE w.relkind = 'r'
)
SELECT w.oid, w.nspname::text, w.relname::text, w.relpersistence = 'u', w.relreplident::text,
       coalesce(k.names, '{}'), w.relreplident = 'f' OR w.relreplident IN ('d', 'i') AND k.names IS NOT NULL,
       (SELECT pg_catalog.quote_ident(x.relname) FROM pg_catalog.pg_index u JOIN pg_catalog.pg_class x ON x.oid = u.indexrelid
        WHERE u.indrelid = w.oid AND u.indisunique AND u.indimmediate AND u.indpred IS NULL AND u.indexprs IS NULL
          AND NOT EXISTS (SELECT FROM pg_catalog.pg_attribute a WHERE a.attrelid = w.oid AND NOT a.attnotnull
                          AND a.attnum = ANY ((u.indkey::int2[])[0:u.indnkeyatts - 1]))
        ORDER BY u.indisprimary DESC, u.indnatts LIMIT 1),
       ARRAY(SELECT l.oid::pg_catalog.regclass::text FROM leaf l WHERE l.root = w.oid AND w.relkind = 'p'
             AND (l.relreplident <> w.relreplident OR l.relreplident IN ('d', 'i') AND NOT l.has_index) ORDER BY 1 LIMIT 5),
       pg_catalog.has_schema_privilege(w.relnamespace, 'USAGE'),
       ARRAY(SELECT x.oid::pg_catalog.regclass::text FROM (SELECT w.oid UNION SELECT l.oid FROM leaf l WHERE l.root = w.oid) x
             WHERE NOT pg_catalog.has_table_privilege(x.oid, 'SELECT') ORDER BY 1),
       w.relrowsecurity AND pg_catalog.row_security_active(w.oid),
       (SELECT pg_catalog.sum(l.reltuples)::float8 FROM leaf l WHERE l.root = w.oid AND l.reltuples >= 0),
       (SELECT pg_catalog.sum(l.pages)::float8 * pg_catalog.current_setting('block_size')::float8 FROM leaf l
        WHERE l.root = w.oid AND l.reltuples >= 0),
       pg_catalog.quote_ident(current_user)
FROM wanted w LEFT JOIN LATERAL (
    SELECT pg_catalog.array_agg(a.attname::text ORDER BY p.place) AS names
    FROM (SELECT i.* FROM pg_catalog.pg_index i
          WHERE i.indrelid = w.oid AND CASE WHEN w.relreplident = 'i' THEN i.indisreplident ELSE i.indisprimary END) i
    CROSS JOIN LATERAL pg_catalog.unnest((i.indkey::int2[])[0:i.indnkeyatts - 1]) WITH ORDINALITY p(attnum, place)
    JOIN pg_catalog.pg_attribute a ON a.attrelid = w.oid AND a.attnum = p.attnum
) k ON true
ORDER BY w.nspname, w.relname";

const COLUMNS: &str = "
SELECT a.attrelid, a.attname::text, a.atttypid, a.atttypmod, pg_catalog.format_type(a.atttypid, a.atttypmod), NOT a.attnotnull,
       a.attgenerated <> '', a.attidentity <> '', pg_catalog.col_description(a.attrelid, a.attnum),
       ARRAY(SELECT e.enumlabel::text FROM pg_catalog.pg_enum e WHERE e.enumtypid = a.atttypid ORDER BY e.enumsortorder LIMIT 30),
       (SELECT n.nspname || '.' || r.relname || '(' || f.attname || ')'
        FROM pg_catalog.pg_constraint k
        JOIN pg_catalog.pg_class r ON r.oid = k.confrelid JOIN pg_catalog.pg_namespace n ON n.oid = r.relnamespace
        JOIN pg_catalog.pg_attribute f ON f.attrelid = r.oid AND f.attnum = k.confkey[1]
        WHERE k.conrelid = a.attrelid AND k.contype = 'f' AND k.conkey = ARRAY[a.attnum] ORDER BY k.conname LIMIT 1)
FROM pg_catalog.pg_attribute a
WHERE a.attrelid = ANY ($1) AND a.attnum > 0 AND NOT a.attisdropped
ORDER BY a.attrelid, a.attnum";

pub(super) async fn tables(client: &Client, only: Option<&[&str]>) -> Result<Vec<TableRow>, SourceError> {
    let fail = |error| classify("reading the tables of the database", error);
    let rows = client.query(TABLES, &[&only]).await.map_err(fail)?;
    rows.iter().map(table_row).collect::<Result<_, _>>().map_err(fail)
}

pub(super) async fn columns(client: &Client, tables: &[u32]) -> Result<Vec<ColumnRow>, SourceError> {
    let fail = |error| classify("reading the columns of the tables", error);
    let rows = client.query(COLUMNS, &[&tables]).await.map_err(fail)?;
    rows.iter().map(column_row).collect::<Result<_, _>>().map_err(fail)
}

fn table_row(row: &Row) -> Result<TableRow, tokio_postgres::Error> {
    let figure = |value: Option<f64>| value.filter(|value| *value >= 0.0).map(|value| value as u64);
    Ok(TableRow {
        oid: row.try_get(0)?,
        schema: row.try_get(1)?,
        name: row.try_get(2)?,
        unlogged: row.try_get(3)?,
        identity: match row.try_get(4)? {
            "f" => ReplicaIdentity::Full,
            "i" => ReplicaIdentity::Index,
            "n" => ReplicaIdentity::Nothing,
            _ => ReplicaIdentity::Default,
        },
        key: row.try_get(5)?,
        identified: row.try_get(6)?,
        candidate: row.try_get(7)?,
        odd_partitions: row.try_get(8)?,
        may_use_schema: row.try_get(9)?,
        unreadable: row.try_get(10)?,
        row_security: row.try_get(11)?,
        rows: figure(row.try_get(12)?),
        bytes: figure(row.try_get(13)?),
        role: row.try_get(14)?,
    })
}

fn column_row(row: &Row) -> Result<ColumnRow, tokio_postgres::Error> {
    Ok(ColumnRow {
        table: row.try_get(0)?,
        name: row.try_get(1)?,
        type_oid: row.try_get(2)?,
        typmod: row.try_get(3)?,
        sql_type: row.try_get(4)?,
        nullable: row.try_get(5)?,
        generated: row.try_get(6)?,
        identity: row.try_get(7)?,
        comment: row.try_get(8)?,
        labels: row.try_get(9)?,
        references: row.try_get(10)?,
    })
}
