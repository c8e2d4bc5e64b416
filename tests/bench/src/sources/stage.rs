//! A configuration folder of its own for one measurement, under `.local/bench`.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::hub::{self, Process};
use crate::throughput::Measure;
use crate::{Outcome, fresh_prefix};

/// How long a measurement may take before it is given up.
pub(super) const PATIENCE: Duration = Duration::from_secs(300);

/// The fields of `bench.Item` from columns that have the names and types of the benchmark's table.
pub(super) const TYPED: &str = "
      id: id
      code: ma
      full_name: ho_ten
      address: dia_chi
      birth_date: ngay_sinh
      received_at: at_time_zone(ngay_nop, 'Asia/Ho_Chi_Minh')
      updated_at: at_time_zone(cap_nhat, 'UTC')
      fee: le_phi
      amount: so_tien
      status: code('item-status', 'bench', trang_thai)
      visits: so_lan
      note: ghi_chu";

/// A folder with `hub.yaml`, the schemas and the systems of one measurement.
pub(super) struct Stage {
    /// The folder.
    pub(super) folder: PathBuf,
    /// The prefix of its topics, unused before.
    pub(super) prefix: String,
}

impl Stage {
    /// An empty one, in the place of an earlier one of the same name.
    pub(super) fn new(name: &str) -> Outcome<Self> {
        let folder = hub::root().join(".local/bench").join(name);
        if folder.exists() {
            fs::remove_dir_all(&folder)?;
        }
        fs::create_dir_all(folder.join("systems"))?;
        let config = hub::folder().join("config");
        fs::copy(config.join("hub.yaml"), folder.join("hub.yaml"))?;
        copy(&config.join("schemas"), &folder.join("schemas"))?;
        Ok(Self { folder, prefix: fresh_prefix(name) })
    }

    /// Writes a system with one stream of `entity`. `config` is YAML on one line or more, of two blanks; `map` is too, of six.
    pub(super) fn system(&self, name: &str, connector: &str, config: &str, source: &str, entity: &str, map: &str) -> Outcome<()> {
        let text = format!(
            "system: {name}\nconnector: {connector}\nconfig:\n{config}\nstreams:\n  - source: {source}\n    entity: {entity}\n    key: [id]\n    map:{map}\n"
        );
        Ok(fs::write(self.folder.join("systems").join(format!("{name}.yaml")), text)?)
    }

    /// Starts the hub on it.
    pub(super) fn start(&self, binary: &Path) -> Outcome<Process> {
        hub::start_in(binary, &self.folder, &self.prefix)
    }

    /// From the moment at which the hub begins to read its source to the last record in Kafka.
    pub(super) async fn first_reading(&self, binary: &Path, rows: i64) -> Outcome<Measure> {
        let process = self.start(binary)?;
        let started = hub::wait_reading(PATIENCE).await?;
        let measure = until_published(&process, started, rows).await?;
        process.stop().await?;
        Ok(measure)
    }
}

/// From `started` to the last of `rows` in Kafka; the CPU since the process began is told, for what it read before was nothing.
pub(super) async fn until_published(process: &Process, started: Instant, rows: i64) -> Outcome<Measure> {
    let ended = hub::wait_published(u64::try_from(rows)?, PATIENCE).await?;
    Ok(Measure { seconds: (ended - started).as_secs_f64(), cpu: process.cpu_seconds()?, peak_mb: process.peak_mb()? })
}

fn copy(from: &Path, to: &Path) -> Outcome<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            copy(&entry.path(), &target)?;
        } else {
            fs::copy(entry.path(), target)?;
        }
    }
    Ok(())
}
