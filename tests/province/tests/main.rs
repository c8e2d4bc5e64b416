//! The simulator against a real PostgreSQL: what it says of its rows is so. Needs `make up`.
#![allow(clippy::unwrap_used, reason = "a failing test may panic")]

use hub_tests_province::{Amount, ChangePlan, Expectation, FillPlan, change, create, expect, fill};
use indicatif::ProgressBar;
use tokio_postgres::{Client, Config, NoTls};

fn server(database: &str) -> Config {
    let port = std::env::var("HUB_PG_PORT").map_or(15_432, |port| port.parse().unwrap());
    let mut config = Config::new();
    config.host("127.0.0.1").port(port).user("postgres").dbname(database);
    config
}

async fn worked(database: &str, seed: u64, changes: u64) -> (Config, Expectation) {
    let config = server(database);
    create(&config, None).await.unwrap();
    fill(&config, FillPlan { seed, dossiers: 4_000 }, &ProgressBar::hidden()).await.unwrap();
    let plan = ChangePlan { rate: None, amount: Amount::Rows(changes) };
    change(&config, plan, &ProgressBar::hidden()).await.unwrap();
    let found = expect(&config).await.unwrap();
    (config, found)
}

async fn client(config: &Config) -> Client {
    let (client, connection) = config.connect(NoTls).await.unwrap();
    tokio::spawn(connection);
    client
}

#[tokio::test]
async fn the_same_seed_makes_the_same_province() {
    let (_, first) = worked("province_same_1", 11, 600).await;
    let (_, second) = worked("province_same_2", 11, 600).await;
    let (_, other) = worked("province_same_3", 12, 600).await;
    assert_eq!(first, second);
    assert_ne!(first.streams, other.streams);
}

#[tokio::test]
async fn every_row_that_must_be_rejected_is_there_and_wrong_in_one_way() {
    let (config, found) = worked("province_flaws", 7, 600).await;
    let client = client(&config).await;
    let dossiers = &found.streams["public.ho_so"];
    let keys: Vec<&String> = dossiers.rejected.values().flatten().collect();
    assert!(keys.len() > 10, "{}", keys.len());
    let statement = "SELECT count(*) FROM ho_so WHERE ma_ho_so = ANY($1) AND NOT da_xoa AND 1 =
          (ngay_nop IS NULL)::int + (trang_thai = 'XLL')::int + (kenh = 'FAX')::int
        + (so_cccd !~ '^0?74[0-3][0-9]{8}$')::int + (ma_co_quan !~ '^(H09|000)\\.[0-9.]+(H09)?$')::int
        + (ngay_hen_tra ~ '^(31/02|30/02|32/|31/04|../13)')::int";
    let flawed: i64 = client.query_one(statement, &[&keys]).await.unwrap().get(0);
    assert_eq!(usize::try_from(flawed).unwrap(), keys.len());
    let all: i64 = client.query_one("SELECT count(*) FROM ho_so WHERE NOT da_xoa", &[]).await.unwrap().get(0);
    assert_eq!(all.cast_unsigned(), dossiers.captured);
    assert_eq!(dossiers.published + keys.len() as u64, dossiers.captured);
}

#[tokio::test]
async fn a_day_at_the_counter_inserts_updates_and_deletes() {
    let (config, found) = worked("province_day", 7, 1_500).await;
    let client = client(&config).await;
    let count = async |statement: &str| client.query_one(statement, &[]).await.unwrap().get::<_, i64>(0);
    assert!(count("SELECT count(*) FROM ho_so WHERE cap_nhat > now() - interval '1 hour'").await > 0, "updates");
    assert!(count("SELECT next_dossier - dossiers FROM province.fill").await > 0, "inserts");
    assert!(count("SELECT count(*) FROM province.known_rejects WHERE live").await > 0, "flawed rows");
    assert!(count("SELECT count(*) FROM province.known_rejects WHERE mended").await > 0, "mended rows");
    assert!(found.streams["public.ho_so"].rows < count("SELECT next_dossier FROM province.fill").await.cast_unsigned(), "deletes");
}
