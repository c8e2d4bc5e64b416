//! A working day at the counter: small transactions that insert, update and delete.

use std::time::{Duration, Instant};

use indicatif::ProgressBar;
use tokio_postgres::types::ToSql;
use tokio_postgres::{Client, Config, Transaction};

use crate::create::connect;
use crate::dice::Dice;
use crate::error::{Doing as _, ProvinceError};
use crate::fault::Flaw;
use crate::rows::{Citizen, Directory, Dossier, SourceRow, Stage, Step, purpose, status_after};

/// When to stop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Amount {
    /// After so many row changes.
    Rows(u64),
    /// After so long.
    Time(Duration),
}

/// How much to change and how fast.
#[derive(Clone, Copy, Debug)]
pub struct ChangePlan {
    /// Row changes a second; `None` for as fast as the server takes them.
    pub rate: Option<f64>,
    /// When to stop.
    pub amount: Amount,
}

/// What was changed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Changed {
    /// Row changes, all tables.
    pub rows: u64,
    /// Transactions.
    pub transactions: u64,
    /// Rows written that must be rejected.
    pub flawed: u64,
}

/// Changes rows of a filled database until the plan's amount is reached; always at the end of a transaction.
///
/// # Errors
/// When the server refuses a statement or was never filled.
pub async fn change(config: &Config, plan: ChangePlan, bar: &ProgressBar) -> Result<Changed, ProvinceError> {
    let mut client = connect(config).await?;
    let mut counter = Counter::open(&client).await?;
    let started = Instant::now();
    let mut changed = Changed::default();
    while !is_enough(plan.amount, &changed, started.elapsed()) {
        let transaction = client.transaction().await.doing("beginning a transaction")?;
        counter.work(&transaction, &mut changed).await?;
        transaction.commit().await.doing("committing a transaction")?;
        changed.transactions += 1;
        bar.set_position(match plan.amount {
            Amount::Rows(_) => changed.rows,
            Amount::Time(_) => started.elapsed().as_secs(),
        });
        if let Some(rate) = plan.rate.filter(|rate| *rate > 0.0) {
            #[expect(clippy::cast_precision_loss, reason = "a pace, not an account")]
            let due = Duration::from_secs_f64(changed.rows as f64 / rate);
            tokio::time::sleep(due.saturating_sub(started.elapsed())).await;
        }
    }
    counter.close(&client).await?;
    Ok(changed)
}

fn is_enough(amount: Amount, changed: &Changed, elapsed: Duration) -> bool {
    match amount {
        Amount::Rows(rows) => changed.rows >= rows,
        Amount::Time(time) => elapsed >= time,
    }
}

/// The counter at which the changes happen.
struct Counter {
    seed: u64,
    /// Rows of the first load.
    dossiers: u64,
    citizens: u64,
    next_dossier: u64,
    next_citizen: u64,
    runs: u64,
    dice: Dice,
    directory: Directory,
}

impl Counter {
    async fn open(client: &Client) -> Result<Self, ProvinceError> {
        let statement = "SELECT seed, dossiers, citizens, next_dossier, next_citizen, runs FROM province.fill";
        let row = client.query_opt(statement, &[]).await.doing("reading what was loaded")?.ok_or(ProvinceError::NotFilled)?;
        let [seed, dossiers, citizens, next_dossier, next_citizen, runs] =
            [0, 1, 2, 3, 4, 5].map(|column| row.get::<_, i64>(column).cast_unsigned());
        let dice = Dice::of(seed, purpose::CHANGE, runs);
        Ok(Self { seed, dossiers, citizens, next_dossier, next_citizen, runs, dice, directory: Directory::new() })
    }

    async fn close(&self, client: &Client) -> Result<(), ProvinceError> {
        let values = [self.next_dossier, self.next_citizen, self.runs + 1].map(u64::cast_signed);
        let statement = "UPDATE province.fill SET next_dossier = $1, next_citizen = $2, runs = $3";
        client.execute(statement, &[&values[0], &values[1], &values[2]]).await.doing("noting what was changed")?;
        Ok(())
    }

    /// One transaction's work.
    async fn work(&mut self, transaction: &Transaction<'_>, changed: &mut Changed) -> Result<(), ProvinceError> {
        match self.dice.below(1_000) {
            0..380 => self.move_on(transaction, changed).await,
            380..620 => self.hand_in(transaction, changed, None).await,
            620..720 => self.finish_step(transaction, changed).await,
            720..800 => self.move_house(transaction, changed).await,
            800..840 => self.register(transaction, changed).await,
            840..880 => self.delete_softly(transaction, changed).await,
            880..920 => self.delete_step(transaction, changed).await,
            920..950 => self.correct_code(transaction, changed).await,
            950..965 => self.delete(transaction, changed).await,
            965..985 => {
                let flaw = Dossier::some_flaw(&mut self.dice);
                self.hand_in(transaction, changed, Some(flaw)).await
            }
            _ => self.mend(transaction, changed).await,
        }
    }

    /// A sound dossier of the first load. Flawed ones are left alone: an update would be rejected once more.
    fn some_dossier(&mut self) -> Dossier {
        loop {
            let index = self.dice.below(self.dossiers);
            let dossier = Dossier::at(self.seed, index, self.citizens, &self.directory, Stage::Loaded);
            if dossier.flaw().is_none() {
                return dossier;
            }
        }
    }

    fn some_sound_step(&mut self) -> u64 {
        loop {
            let index = self.dice.below(self.dossiers);
            if Step::planned_flaw(self.seed, index, 0).is_none() {
                return Step::id(index, 0);
            }
        }
    }

    async fn move_on(&mut self, transaction: &Transaction<'_>, changed: &mut Changed) -> Result<(), ProvinceError> {
        let dossier = self.some_dossier();
        let status = status_after(&mut self.dice);
        let statement = "UPDATE public.ho_so SET trang_thai = $2, cap_nhat = now(),
            ngay_tra = CASE WHEN $2 IN ('HT', 'DTR') THEN to_char(now() AT TIME ZONE 'Asia/Ho_Chi_Minh', 'DD/MM/YYYY') END
            WHERE ma_ho_so = $1 AND NOT da_xoa";
        changed.rows += run(transaction, statement, &[&dossier.code, &status], "moving a dossier on").await?;
        let next = Step::count(&dossier) + 1;
        let step = Step::sound(self.seed, &dossier, next.min(9));
        let statement = "UPDATE public.buoc_xu_ly SET trang_thai = 1, bat_dau = now() WHERE id = $1";
        let again = run(transaction, statement, &[&step.id.cast_signed()], "taking a step up again").await?;
        changed.rows += again;
        if again == 0 {
            insert(transaction, &step, changed).await?;
        }
        Ok(())
    }

    async fn hand_in(&mut self, transaction: &Transaction<'_>, changed: &mut Changed, flaw: Option<Flaw>) -> Result<(), ProvinceError> {
        let mut dossier = Dossier::at(self.seed, self.next_dossier, self.citizens, &self.directory, Stage::New);
        self.next_dossier += 1;
        if let Some(flaw) = flaw.filter(|_| dossier.flaw().is_none()) {
            dossier = dossier.with_flaw(flaw, &mut self.dice);
        }
        insert(transaction, &dossier, changed).await?;
        insert(transaction, &Step::sound(self.seed, &dossier, 0), changed).await
    }

    async fn finish_step(&mut self, transaction: &Transaction<'_>, changed: &mut Changed) -> Result<(), ProvinceError> {
        let id = self.some_sound_step().cast_signed();
        let statement = "UPDATE public.buoc_xu_ly SET trang_thai = 2, ket_thuc = now() WHERE id = $1";
        changed.rows += run(transaction, statement, &[&id], "finishing a step").await?;
        Ok(())
    }

    async fn move_house(&mut self, transaction: &Transaction<'_>, changed: &mut Changed) -> Result<(), ProvinceError> {
        let citizen = loop {
            let index = self.dice.below(self.citizens);
            if Citizen::planned_flaw(self.seed, index).is_none() {
                break Citizen::at(self.seed, index);
            }
        };
        let phone = format!("03{:08}", self.dice.below(100_000_000));
        let address = Citizen::at(self.seed, self.dice.below(self.citizens)).address;
        let statement = "UPDATE public.cong_dan SET dia_chi = $2, dien_thoai = $3 WHERE id = $1";
        changed.rows += run(transaction, statement, &[&citizen.id.cast_signed(), &address, &phone], "moving a citizen").await?;
        Ok(())
    }

    async fn register(&mut self, transaction: &Transaction<'_>, changed: &mut Changed) -> Result<(), ProvinceError> {
        let citizen = Citizen::at(self.seed, self.next_citizen);
        self.next_citizen += 1;
        insert(transaction, &citizen, changed).await
    }

    async fn delete_softly(&mut self, transaction: &Transaction<'_>, changed: &mut Changed) -> Result<(), ProvinceError> {
        let code = self.some_dossier().code;
        let statement = "UPDATE public.ho_so SET da_xoa = true, cap_nhat = now() WHERE ma_ho_so = $1 AND NOT da_xoa";
        changed.rows += run(transaction, statement, &[&code], "deleting a dossier softly").await?;
        Ok(())
    }

    async fn delete_step(&mut self, transaction: &Transaction<'_>, changed: &mut Changed) -> Result<(), ProvinceError> {
        let id = self.some_sound_step().cast_signed();
        changed.rows += run(transaction, "DELETE FROM public.buoc_xu_ly WHERE id = $1", &[&id], "deleting a step").await?;
        Ok(())
    }

    /// The key itself changes: the dossier was numbered in the wrong year.
    async fn correct_code(&mut self, transaction: &Transaction<'_>, changed: &mut Changed) -> Result<(), ProvinceError> {
        let old = self.some_dossier().code;
        let new = format!("{old}0");
        let statement = "UPDATE public.ho_so SET ma_ho_so = $2, cap_nhat = now() WHERE ma_ho_so = $1 AND NOT da_xoa
            AND NOT EXISTS (SELECT FROM public.ho_so AS other WHERE other.ma_ho_so = $2)";
        changed.rows += run(transaction, statement, &[&old, &new], "correcting a dossier's code").await?;
        Ok(())
    }

    async fn delete(&mut self, transaction: &Transaction<'_>, changed: &mut Changed) -> Result<(), ProvinceError> {
        let code = self.some_dossier().code;
        changed.rows += run(transaction, "DELETE FROM public.ho_so WHERE ma_ho_so = $1", &[&code], "deleting a dossier").await?;
        Ok(())
    }

    /// A clerk mends a dossier that was rejected: it must be published now.
    async fn mend(&mut self, transaction: &Transaction<'_>, changed: &mut Changed) -> Result<(), ProvinceError> {
        let place = self.dice.below(50).cast_signed();
        let statement = "SELECT number, key, source_column FROM province.known_rejects
            WHERE stream = 'public.ho_so' AND NOT mended ORDER BY number LIMIT 1 OFFSET $1";
        let Some(note) = transaction.query_opt(statement, &[&place]).await.doing("choosing a dossier to mend")? else {
            return Ok(());
        };
        let (number, key, flawed): (i64, String, String) = (note.get(0), note.get(1), note.get(2));
        let (column, value) = Dossier::mended(&flawed);
        let kind = Dossier::COLUMNS.iter().find(|(name, _)| *name == column).map_or("text", |(_, kind)| kind);
        let statement = format!("UPDATE public.ho_so SET {column} = $2::text::{kind} WHERE ma_ho_so = $1");
        changed.rows += run(transaction, &statement, &[&key, &value], "mending a dossier").await?;
        run(transaction, "UPDATE province.known_rejects SET mended = true WHERE number = $1", &[&number], "noting it").await?;
        Ok(())
    }
}

async fn run(transaction: &Transaction<'_>, statement: &str, values: &[&(dyn ToSql + Sync)], doing: &str) -> Result<u64, ProvinceError> {
    transaction.execute(statement, values).await.doing(doing)
}

/// Inserts a row and, when it is flawed, notes that it must be rejected.
async fn insert<R: SourceRow>(transaction: &Transaction<'_>, row: &R, changed: &mut Changed) -> Result<(), ProvinceError> {
    let names: Vec<&str> = R::COLUMNS.iter().map(|(name, _)| *name).collect();
    let places: Vec<String> = R::COLUMNS.iter().enumerate().map(|(place, (_, kind))| format!("${}::text::{kind}", place + 1)).collect();
    let statement = format!("INSERT INTO {} ({}) VALUES ({})", R::TABLE, names.join(", "), places.join(", "));
    let values = row.values();
    let values: Vec<&(dyn ToSql + Sync)> = values.iter().map(|value| value as &(dyn ToSql + Sync)).collect();
    changed.rows += run(transaction, &statement, &values, &format!("inserting into {}", R::TABLE)).await?;
    if let Some(flaw) = row.flaw() {
        let note = "INSERT INTO province.known_rejects (stream, key, reason, source_column, live) VALUES ($1, $2, $3, $4, true)";
        let values: [&(dyn ToSql + Sync); 4] = [&R::TABLE, &row.key(), &flaw.fault.reason(), &flaw.column];
        run(transaction, note, &values, "noting that a row must be rejected").await?;
        changed.flawed += 1;
    }
    Ok(())
}
