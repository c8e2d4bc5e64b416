//! A CSV file that is delivered, to its last row in Kafka.

use std::fmt::Write as _;
use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;

use super::stage::Stage;
use super::{cpu_per_million, peak};
use crate::report::{Goal, Report, median};
use crate::{Outcome, RunOptions};

const MAP: &str = "
      id: CAST(id AS BIGINT)
      code: ma
      full_name: ho_ten
      address: dia_chi
      birth_date: CAST(ngay_sinh AS DATE)
      received_at: at_time_zone(CAST(ngay_nop AS TIMESTAMP), 'Asia/Ho_Chi_Minh')
      updated_at: at_time_zone(CAST(cap_nhat AS TIMESTAMP), 'UTC')
      fee: CAST(le_phi AS DECIMAL(14,2))
      amount: CAST(so_tien AS DECIMAL(18,4))
      status: code('item-status', 'bench', trang_thai)
      visits: CAST(so_lan AS INT)
      note: ghi_chu";

/// Rows a second, and rows a second of CPU, which is what one core can do: Avro and Kafka are in it.
pub(super) async fn run(binary: &Path, options: RunOptions, report: &mut Report) -> Outcome<()> {
    println!("files: a CSV file of {} rows", options.rows);
    let mut ours = Vec::new();
    for _ in 0..options.repeats {
        let stage = Stage::new("files")?;
        let folder = stage.folder.join("delivered");
        std::fs::create_dir_all(&folder)?;
        write(&folder.join("item.csv"), options.rows)?;
        let config = format!("  folder: {}\n  every_s: 0.05\n  streams: {{item: {{pattern: \"*.csv\", key: [id]}}}}", folder.display());
        stage.system("bench", "files", &config, "item", "bench.Item", MAP)?;
        let measure = stage.first_reading(binary, options.rows).await?;
        println!("    hub {:.2} s, cpu {:.2} s, peak {:.0} MB", measure.seconds, measure.cpu, measure.peak_mb);
        ours.push(measure);
        std::fs::remove_dir_all(&folder)?;
    }
    let rows = options.rows as f64;
    let seconds = median(ours.iter().map(|measure| measure.seconds).collect());
    report.add("files.csv.rate", rows / seconds, "rows/s", None, Goal::Told);
    let cpu = cpu_per_million(rows, &ours);
    report.add("files.csv.rate-per-core", 1e6 / cpu, "rows/s", None, Goal::AtLeast(300_000.0));
    report.add("files.csv.cpu", cpu, "s/M rows", None, Goal::Told);
    report.add("files.csv.peak-memory", peak(&ours), "MB", None, Goal::AtMost(128.0));
    Ok(())
}

/// The rows of the benchmark's table as a file.
fn write(path: &Path, rows: i64) -> Outcome<()> {
    let mut file = BufWriter::new(File::create(path)?);
    writeln!(file, "id,ma,ho_ten,dia_chi,ngay_sinh,ngay_nop,cap_nhat,le_phi,so_tien,trang_thai,so_lan,ghi_chu")?;
    let mut line = String::new();
    for i in 1..=rows {
        let name = ["Nguyễn Văn Trường", "Trần Thị Ngọc Ánh", "Lê Hoàng Phúc", "Phạm Quỳnh Như"][usize::try_from(i % 4)?];
        let status = ["MOI", "DXL", "HT", "DTR"][usize::try_from(i % 4)?];
        line.clear();
        write!(
            line,
            "{i},000.00.01.H09-{:06},{name},\"Số {}, đường Đại lộ Bình Dương, phường Phú Hòa, Thủ Dầu Một\",",
            i % 1_000_000,
            i % 500
        )?;
        write!(line, "{}-{:02}-{:02},", 1950 + i % 55, i % 12 + 1, i % 28 + 1)?;
        write!(line, "2024-01-{:02} {:02}:{:02}:{:02},", i % 28 + 1, i % 24, i % 60, i % 59)?;
        write!(line, "2024-06-{:02} {:02}:{:02}:{:02}.{:06},", i % 28 + 1, i % 24, i % 60, i % 59, i % 1_000_000)?;
        writeln!(
            line,
            "{}.50,{}.0001,{status},{},Hồ sơ đăng ký kinh doanh bổ sung giấy tờ lần {}",
            i % 500_000,
            i % 1_000_000,
            i % 100,
            i % 9
        )?;
        file.write_all(line.as_bytes())?;
    }
    file.into_inner()?.sync_all()?;
    Ok(())
}
