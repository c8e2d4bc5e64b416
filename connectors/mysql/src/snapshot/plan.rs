//! Cuts a table into chunks by the first column of its key.

use super::key::Part;
use super::territory::Territory;
use crate::catalog::Table;
use crate::kind::{Kind, quoted};
use crate::wire::{Session, WireError};

/// Chunks of one table, at most: the checkpoint lists them.
const MOST_CHUNKS: u64 = 256;

/// The chunks of a table. One whose key cannot be compared here is a single one.
///
/// # Errors
/// The server cannot be asked.
pub(crate) async fn plan(session: &mut Session, table: &Table, chunk_rows: u64, workers: usize) -> Result<Territory, WireError> {
    let first = table.layout.key.first().and_then(|place| table.layout.columns.get(*place));
    let Some(first) = first.filter(|first| table.layout.is_sortable() && matches!(first.kind, Kind::Int { .. })) else {
        return Ok(Territory::unread(Vec::new()));
    };
    let name = quoted(&first.name);
    let sql = format!("SELECT MIN({name}), MAX({name}) FROM {}.{}", quoted(&table.database), quoted(&table.name));
    let row = session.one(&sql).await?.unwrap_or_default();
    let number = |place: usize| row.get(place).cloned().flatten().and_then(|text| text.parse::<i128>().ok());
    let (Some(least), Some(most)) = (number(0), number(1)) else { return Ok(Territory::unread(Vec::new())) };
    let rows = table.rows.unwrap_or(0);
    // Few rows are not worth several queries; many are shared by the workers whatever a chunk may hold.
    let shared = if rows >= 10_000 { workers as u64 * 2 } else { 1 };
    let chunks = rows.div_ceil(chunk_rows.max(1)).max(shared).clamp(1, MOST_CHUNKS);
    Ok(Territory::unread(bounds(least, most, i128::from(chunks)).into_iter().map(|bound| vec![Part::Number(bound)]).collect()))
}

/// The last keys of all chunks but the last one.
fn bounds(least: i128, most: i128, chunks: i128) -> Vec<i128> {
    let keys = most - least + 1;
    let chunks = chunks.min(keys);
    (1..chunks).map(|chunk| least + keys * chunk / chunks - 1).collect()
}

#[cfg(test)]
mod tests {
    use super::bounds;

    #[test]
    fn chunks_are_even_and_never_more_than_keys() {
        assert_eq!(bounds(1, 100, 4), [25, 50, 75]);
        assert_eq!(bounds(-5, -4, 9), [-5]);
        assert_eq!(bounds(7, 7, 3), []);
        assert_eq!(bounds(0, i128::from(u64::MAX), 2), [i128::from(i64::MAX)]);
    }
}
