//! Waits until everything committed so far has been confirmed by whoever reads the database's replication slots.

use std::time::{Duration, Instant};

use tokio_postgres::Config;

use crate::create::connect;
use crate::error::{Doing as _, ProvinceError};

/// How often the slots are looked at.
const PAUSE: Duration = Duration::from_millis(50);

/// Returns when each slot of the database has confirmed what was committed before the call: it is durable in Kafka then.
///
/// # Errors
/// [`ProvinceError::NotConfirmed`] after `patience`; also when the server refuses a statement.
pub async fn settle(config: &Config, patience: Duration) -> Result<Duration, ProvinceError> {
    let client = connect(config).await?;
    let started = Instant::now();
    let position: String =
        client.query_one("SELECT pg_current_wal_insert_lsn()::text", &[]).await.doing("reading the log's position")?.get(0);
    let statement = "SELECT count(*), coalesce(max(pg_wal_lsn_diff($1::text::pg_lsn, confirmed_flush_lsn)), 0)::bigint
        FROM pg_replication_slots WHERE database = current_database() AND NOT temporary";
    loop {
        let row = client.query_one(statement, &[&position]).await.doing("reading the replication slots")?;
        let (slots, behind): (i64, i64) = (row.get(0), row.get(1));
        if slots > 0 && behind <= 0 {
            return Ok(started.elapsed());
        }
        if started.elapsed() > patience {
            return Err(ProvinceError::NotConfirmed { slots: slots.cast_unsigned(), behind: behind.max(0).cast_unsigned() });
        }
        tokio::time::sleep(PAUSE).await;
    }
}
