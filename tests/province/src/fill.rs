//! Loads the system by `COPY` and notes which rows must be rejected.

use indicatif::ProgressBar;
use tokio_postgres::{Client, Config};

use crate::copy::{Copied, copy};
use crate::create::connect;
use crate::error::{Doing as _, ProvinceError};
use crate::rows::{Citizen, Directory, Dossier, SourceRow, Stage, Step};

/// How much to load.
#[derive(Clone, Copy, Debug)]
pub struct FillPlan {
    /// Which province: the same seed gives the same rows.
    pub seed: u64,
    /// Dossiers; citizens and steps follow from it.
    pub dossiers: u64,
}

impl FillPlan {
    fn citizens(self) -> u64 {
        (self.dossiers * 3 / 5).max(1)
    }

    /// Rows of all tables, roughly.
    #[must_use]
    pub fn rows(self) -> u64 {
        self.citizens() + self.dossiers * 9 / 2
    }
}

/// Rows loaded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Filled {
    /// Rows of all tables.
    pub rows: u64,
    /// Those that must be rejected.
    pub flawed: u64,
}

/// Fills a database that [`crate::create`] has made.
///
/// # Errors
/// When the server refuses a statement, as it does when the tables are filled already.
pub async fn fill(config: &Config, plan: FillPlan, bar: &ProgressBar) -> Result<Filled, ProvinceError> {
    let client = connect(config).await?;
    let directory = Directory::new();
    let (seed, citizens) = (plan.seed, plan.citizens());
    let dossier = |index| Dossier::at(seed, index, citizens, &directory, Stage::Loaded);
    let steps = (0..plan.dossiers).flat_map(|index| {
        let dossier = dossier(index);
        (0..Step::count(&dossier)).map(move |number| Step::at(seed, &dossier, number))
    });

    client.batch_execute("BEGIN").await.doing("beginning the load")?;
    let mut filled = Filled::default();
    load::<crate::Agency>(&client, directory.rows().iter().cloned(), bar, &mut filled).await?;
    load(&client, (0..citizens).map(|index| Citizen::at(seed, index)), bar, &mut filled).await?;
    load(&client, (0..plan.dossiers).map(dossier), bar, &mut filled).await?;
    load(&client, steps, bar, &mut filled).await?;
    remember(&client, plan).await?;
    client.batch_execute("COMMIT; ANALYZE").await.doing("committing the load")?;
    Ok(filled)
}

async fn load<R: SourceRow>(
    client: &Client,
    rows: impl Iterator<Item = R>,
    bar: &ProgressBar,
    filled: &mut Filled,
) -> Result<(), ProvinceError> {
    bar.set_message(R::TABLE);
    let copied = copy(client, rows, bar).await?;
    note_rejects(client, R::TABLE, &copied).await?;
    filled.rows += copied.rows;
    filled.flawed += copied.flawed.len() as u64;
    Ok(())
}

async fn note_rejects(client: &Client, table: &str, copied: &Copied) -> Result<(), ProvinceError> {
    let keys: Vec<&str> = copied.flawed.iter().map(|(key, ..)| key.as_str()).collect();
    let reasons: Vec<&str> = copied.flawed.iter().map(|(_, reason, _)| *reason).collect();
    let columns: Vec<&str> = copied.flawed.iter().map(|(.., column)| *column).collect();
    let statement = "INSERT INTO province.known_rejects (stream, key, reason, source_column, live)
        SELECT $1, key, reason, source_column, false FROM unnest($2::text[], $3::text[], $4::text[]) AS noted (key, reason, source_column)";
    client.execute(statement, &[&table, &keys, &reasons, &columns]).await.doing("noting which rows must be rejected")?;
    Ok(())
}

async fn remember(client: &Client, plan: FillPlan) -> Result<(), ProvinceError> {
    let [seed, dossiers, citizens] = [plan.seed, plan.dossiers, plan.citizens()].map(u64::cast_signed);
    let statement = "INSERT INTO province.fill VALUES ($1, $2, $3, $2, $3, 0)";
    client.execute(statement, &[&seed, &dossiers, &citizens]).await.doing("noting what was loaded")?;
    Ok(())
}
