//! Makes the system's database anew: tables, the role of the hub, and the notes of this simulator.

use tokio_postgres::{Client, Config, NoTls};

use crate::error::{Doing as _, ProvinceError};

/// The tables as the vendor of a one-stop shop would have made them.
const TABLES: &str = "
CREATE TABLE public.co_quan (
    ma_co_quan text PRIMARY KEY, ten text, ma_cha text, cap int, ngay_hieu_luc text);
CREATE TABLE public.cong_dan (
    id bigint PRIMARY KEY, so_cccd text, ho_ten text, ngay_sinh text, gioi_tinh text, dan_toc text, dien_thoai text, dia_chi text);
-- Citizens are published under their personal identifier, which is not the key here: deletes and updates must carry it.
ALTER TABLE public.cong_dan REPLICA IDENTITY FULL;
CREATE TABLE public.ho_so (
    ma_ho_so text PRIMARY KEY, so_cccd text, ma_co_quan text, thu_tuc text, trang_thai text, kenh text, ngay_nop timestamp,
    ngay_hen_tra text, ngay_tra text, le_phi numeric(14,2), da_xoa boolean NOT NULL DEFAULT false, trich_yeu text, cap_nhat timestamptz);
-- Long summaries are stored apart and uncompressed: updates of such rows leave the value out of the WAL.
ALTER TABLE public.ho_so ALTER COLUMN trich_yeu SET STORAGE EXTERNAL;
CREATE TABLE public.buoc_xu_ly (
    id bigint PRIMARY KEY, ma_ho_so text, thu_tu int, ten_buoc text, ma_can_bo text, bat_dau timestamptz, ket_thuc timestamptz,
    trang_thai smallint);
COMMENT ON COLUMN public.cong_dan.dia_chi IS 'TCVN3';
COMMENT ON COLUMN public.ho_so.trang_thai IS 'MOI DTN DXL BSHS CTR HT DTR HUY TCT';
CREATE SCHEMA province;
CREATE TABLE province.fill (
    seed bigint NOT NULL, dossiers bigint NOT NULL, citizens bigint NOT NULL, next_dossier bigint NOT NULL, next_citizen bigint NOT NULL,
    runs bigint NOT NULL);
CREATE TABLE province.known_rejects (
    number bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, stream text NOT NULL, key text NOT NULL, reason text NOT NULL,
    source_column text NOT NULL, live boolean NOT NULL, mended boolean NOT NULL DEFAULT false);
CREATE INDEX ON province.known_rejects (stream, mended);
";

/// The role that the hub comes as.
#[derive(Clone)]
pub struct Access {
    /// Its name.
    pub role: String,
    /// Its password; not shown by `Debug`.
    pub password: String,
}

impl std::fmt::Debug for Access {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Access").field("role", &self.role).finish_non_exhaustive()
    }
}

/// Drops the database that `config` names, with its replication slots, and makes it anew. `config` must be a superuser's.
///
/// # Errors
/// When the server refuses a statement or `config` names no database.
pub async fn create(config: &Config, access: Option<&Access>) -> Result<(), ProvinceError> {
    let database = config.get_dbname().ok_or(ProvinceError::NoDatabase)?.to_owned();
    let mut maintenance = config.clone();
    maintenance.dbname("postgres");
    let server = connect(&maintenance).await?;
    drop_slots(&server, &database).await?;
    for statement in [
        format!("DROP DATABASE IF EXISTS {} WITH (FORCE)", identifier(&database)),
        format!("CREATE DATABASE {} TEMPLATE template0 ENCODING 'UTF8'", identifier(&database)),
    ] {
        server.batch_execute(&statement).await.doing(format!("making database {database} anew"))?;
    }
    let client = connect(config).await?;
    client.batch_execute(TABLES).await.doing("creating the tables")?;
    if let Some(access) = access {
        grant(&client, access, &database).await?;
    }
    Ok(())
}

/// Connects; the connection is driven by a task of its own until the client is dropped.
pub(crate) async fn connect(config: &Config) -> Result<Client, ProvinceError> {
    let (client, connection) = config.connect(NoTls).await.doing("connecting to PostgreSQL")?;
    // Its errors come back through the client's own calls.
    tokio::spawn(async move {
        let _ = connection.await;
    });
    Ok(client)
}

/// A database with a slot cannot be dropped, and a slot in use cannot either: its reader is ended first.
async fn drop_slots(server: &Client, database: &str) -> Result<(), ProvinceError> {
    let doing = format!("dropping the replication slots of database {database}");
    let end = "SELECT pg_terminate_backend(active_pid, 10000) FROM pg_replication_slots WHERE database = $1 AND active_pid IS NOT NULL";
    server.query(end, &[&database]).await.doing(&doing)?;
    let drop = "SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots WHERE database = $1";
    server.query(drop, &[&database]).await.doing(&doing)?;
    Ok(())
}

/// What the hub needs: to read the tables, to replicate, and to make its publication, for which PostgreSQL wants the tables' owner.
async fn grant(client: &Client, access: &Access, database: &str) -> Result<(), ProvinceError> {
    let (role, owner) = (identifier(&access.role), "mot_cua_owner");
    let statement = format!(
        "DO $$ BEGIN
            IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = {role_text}) THEN CREATE ROLE {role}; END IF;
            IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = '{owner}') THEN CREATE ROLE {owner}; END IF;
        END $$;
        ALTER ROLE {role} LOGIN REPLICATION INHERIT PASSWORD {password};
        ALTER TABLE public.co_quan OWNER TO {owner};
        ALTER TABLE public.cong_dan OWNER TO {owner};
        ALTER TABLE public.ho_so OWNER TO {owner};
        ALTER TABLE public.buoc_xu_ly OWNER TO {owner};
        GRANT {owner} TO {role};
        GRANT CREATE ON DATABASE {database} TO {role};",
        role_text = literal(&access.role),
        password = literal(&access.password),
        database = identifier(database),
    );
    client.batch_execute(&statement).await.doing(format!("giving role {} its rights", access.role))
}

fn identifier(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

fn literal(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}
