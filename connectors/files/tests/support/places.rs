//! Places into which tests deliver: a folder, a real sshd, and moto's S3; each can be cut off and started anew.
#![allow(dead_code, reason = "not every test uses all of it")]

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use hub_conformance::Link;
use object_store::aws::{AmazonS3, AmazonS3Builder};
use object_store::{ObjectStore, ObjectStoreExt};
use serde_json::{Value, json};

use crate::scratch::{Scratch, deliver};

/// Where a test's files lie.
pub(crate) trait Place: Sized + Send + 'static {
    /// A place of its own, empty.
    fn start() -> impl Future<Output = Self> + Send;
    /// The part of the configuration that names it.
    fn config(&self) -> Value;
    /// The same, refused, and what may not be shown of it.
    fn refused(&self) -> (Value, &'static str);
    /// Delivers a file as a careful deliverer does.
    fn deliver(&self, name: &str, bytes: &[u8]) -> impl Future<Output = ()> + Send;
    /// A file as it lies there, where it does; `rejected/a.csv` for one that is put aside.
    fn content(&self, name: &str) -> impl Future<Output = Option<Vec<u8>>> + Send;
    /// Names of what lies there.
    fn names(&self) -> impl Future<Output = Vec<String>> + Send;
    /// Cuts it off.
    fn cut(&mut self);
    /// Mends that.
    fn mend(&mut self);
    /// Ends what serves it at once and starts that again.
    fn restart(&mut self) -> impl Future<Output = ()> + Send;
}

/// A folder of this machine.
pub(crate) struct Local {
    scratch: Scratch,
}

impl Local {
    /// Where the folder is when it can be reached.
    fn mounted(&self) -> PathBuf {
        self.scratch.path().join("nhan")
    }

    /// Where it is while the link is cut.
    fn lost(&self) -> PathBuf {
        self.scratch.path().join("mat_ket_noi")
    }

    fn present(&self) -> PathBuf {
        if self.mounted().exists() { self.mounted() } else { self.lost() }
    }
}

impl Place for Local {
    async fn start() -> Self {
        let place = Self { scratch: Scratch::new() };
        std::fs::create_dir(place.mounted()).unwrap();
        std::fs::write(place.scratch.path().join("tap_tin"), "079090000001;mật").unwrap();
        place
    }

    fn config(&self) -> Value {
        json!({"folder": self.mounted()})
    }

    /// A folder has no password: what must never be shown is what its files hold. The tests may run as root, to whom the
    /// system denies nothing but what cannot be: a folder in a file.
    fn refused(&self) -> (Value, &'static str) {
        (json!({"folder": self.scratch.path().join("tap_tin").join("nhan")}), "079090000001")
    }

    async fn deliver(&self, name: &str, bytes: &[u8]) {
        deliver(&self.present(), name, bytes);
    }

    async fn content(&self, name: &str) -> Option<Vec<u8>> {
        std::fs::read(self.present().join(name)).ok()
    }

    async fn names(&self) -> Vec<String> {
        names(&self.present())
    }

    fn cut(&mut self) {
        std::fs::rename(self.mounted(), self.lost()).unwrap();
    }

    fn mend(&mut self) {
        std::fs::rename(self.lost(), self.mounted()).unwrap();
    }

    async fn restart(&mut self) {
        self.cut();
        // Longer than many looks: a server that is back before anybody looked has cost nothing.
        tokio::time::sleep(Duration::from_secs(1)).await;
        self.mend();
    }
}

/// Ended when dropped.
struct Server(Child);

impl Drop for Server {
    fn drop(&mut self) {
        let _gone_already = self.0.kill();
        let _reaped = self.0.wait();
    }
}

/// Waits until somebody listens.
fn listening(port: u16, server: &mut Server) {
    let started = Instant::now();
    while std::net::TcpStream::connect(("127.0.0.1", port)).is_err() {
        if let Some(status) = server.0.try_wait().unwrap() {
            panic!("the server ended ({status}); was tests/support/servers.sh run?");
        }
        assert!(started.elapsed() < Duration::from_secs(60), "the server does not start");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// A port that is free now and very likely still is a moment later.
fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

fn support(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/support").join(name)
}

/// Fetches the servers unless they are there.
fn fetched() {
    static ONCE: std::sync::Once = std::sync::Once::new();
    ONCE.call_once(|| assert!(Command::new(support("servers.sh")).status().unwrap().success(), "tests/support/servers.sh fails"));
}

fn names(folder: &Path) -> Vec<String> {
    std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
}

/// Password of the account.
pub(crate) const PASSWORD: &str = "mật khẩu bí mật";

/// A folder behind OpenSSH's sshd.
pub(crate) struct Remote {
    scratch: Scratch,
    port: u16,
    pub(crate) link: Link,
    server: Option<Server>,
}

impl Remote {
    fn folder(&self) -> PathBuf {
        self.scratch.path().join("nhan")
    }

    /// A file of sshd's, such as a key.
    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.scratch.path().join("sshd").join(name)
    }

    fn launch(&mut self) {
        let mut command = Command::new(support("sshd.sh"));
        command.arg(self.file("")).arg(self.port.to_string()).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let mut server = Server(command.spawn().unwrap());
        listening(self.port, &mut server);
        self.server = Some(server);
    }

    /// The fingerprint of the server's key, as its operator reads it.
    pub(crate) fn fingerprint(&self) -> String {
        let output = Command::new("ssh-keygen").arg("-lf").arg(self.file("host_key.pub")).output().unwrap();
        let line = String::from_utf8(output.stdout).unwrap();
        line.split(' ').nth(1).unwrap().to_owned()
    }

    /// How many connections sshd serves.
    pub(crate) fn connections(&self) -> usize {
        let pid = self.server.as_ref().unwrap().0.id();
        std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap().split_whitespace().count()
    }

    /// The section `sftp`.
    pub(crate) fn section(&self) -> Value {
        json!({"host": "127.0.0.1", "port": self.link.port, "user": "nhan", "password": PASSWORD, "host_key": self.fingerprint(), "folder": self.folder()})
    }
}

impl Place for Remote {
    async fn start() -> Self {
        fetched();
        let (scratch, port) = (Scratch::new(), free_port());
        let mut place = Self { link: Link::to(port, true).await, scratch, port, server: None };
        std::fs::create_dir(place.file("")).unwrap();
        std::fs::create_dir(place.folder()).unwrap();
        let open = std::os::unix::fs::PermissionsExt::from_mode(0o777);
        std::fs::set_permissions(place.folder(), open).unwrap();
        place.launch();
        place
    }

    fn config(&self) -> Value {
        json!({"sftp": self.section()})
    }

    fn refused(&self) -> (Value, &'static str) {
        let mut section = self.section();
        section["password"] = json!("sai mật khẩu");
        (json!({"sftp": section}), "sai mật khẩu")
    }

    async fn deliver(&self, name: &str, bytes: &[u8]) {
        deliver(&self.folder(), name, bytes);
    }

    async fn content(&self, name: &str) -> Option<Vec<u8>> {
        std::fs::read(self.folder().join(name)).ok()
    }

    async fn names(&self) -> Vec<String> {
        names(&self.folder())
    }

    fn cut(&mut self) {
        self.link.cut();
    }

    fn mend(&mut self) {
        self.link.mend();
    }

    async fn restart(&mut self) {
        // Those that serve a connection outlive the one that listens; they end with their connections.
        self.link.cut();
        self.server = None;
        self.launch();
        tokio::time::sleep(Duration::from_secs(1)).await;
        self.link.mend();
    }
}

/// A bucket of moto's S3.
pub(crate) struct Objects {
    scratch: Scratch,
    port: u16,
    pub(crate) link: Link,
    server: Option<Server>,
    client: AmazonS3,
    tls: bool,
}

impl Objects {
    fn folder(&self) -> PathBuf {
        self.scratch.path().join("kho")
    }

    /// A file of the server's, such as its certificate.
    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.scratch.path().join(name)
    }

    async fn start_with(tls: bool) -> Self {
        fetched();
        let (scratch, port) = (Scratch::new(), free_port());
        let mut client = AmazonS3Builder::new().with_bucket_name("kho").with_region("us-east-1").with_allow_http(true);
        let scheme = if tls { "https" } else { "http" };
        client = client.with_endpoint(format!("{scheme}://127.0.0.1:{port}")).with_access_key_id("khoa").with_secret_access_key("x");
        if tls {
            certificate(scratch.path());
            client = client.with_client_options(object_store::ClientOptions::new().with_allow_invalid_certificates(true));
        }
        let _set_already = rustls::crypto::ring::default_provider().install_default();
        let link = Link::to(port, true).await;
        let mut place = Self { link, scratch, port, server: None, client: client.build().unwrap(), tls };
        std::fs::create_dir_all(place.folder().join("nhan")).unwrap();
        place.launch();
        place
    }

    /// The same behind TLS, with an authority of its own.
    pub(crate) async fn start_tls() -> Self {
        Self::start_with(true).await
    }

    fn launch(&mut self) {
        let cache = std::env::var("XDG_CACHE_HOME").unwrap_or_else(|_| format!("{}/.cache", std::env::var("HOME").unwrap()));
        let mut command = Command::new(format!("{cache}/provincial-hub/moto/bin/python"));
        command.arg(support("s3.py")).arg(self.port.to_string()).arg(self.folder()).arg("khoa");
        if self.tls {
            command.arg(self.file("server.pem")).arg(self.file("server.key"));
        }
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let mut server = Server(command.spawn().unwrap());
        listening(self.port, &mut server);
        self.server = Some(server);
    }

    /// The section `s3`.
    pub(crate) fn section(&self) -> Value {
        let endpoint = format!("http{}://127.0.0.1:{}", if self.tls { "s" } else { "" }, self.link.port);
        json!({"endpoint": endpoint, "bucket": "kho", "prefix": "nhan", "access_key_id": "khoa", "secret_access_key": "bí mật của kho", "allow_http": !self.tls})
    }
}

/// An authority and a certificate of it for 127.0.0.1.
fn certificate(folder: &Path) {
    let script = "openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=CA -keyout ca.key -out ca.pem \
                  && openssl req -newkey rsa:2048 -nodes -subj /CN=127.0.0.1 -keyout server.key -out server.csr \
                  && printf 'subjectAltName=IP:127.0.0.1\\nbasicConstraints=CA:FALSE' > ext \
                  && openssl x509 -req -in server.csr -CA ca.pem -CAkey ca.key -CAcreateserial -days 2 -extfile ext -out server.pem";
    let made = Command::new("sh").args(["-c", script]).current_dir(folder).output().unwrap();
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
}

impl Place for Objects {
    async fn start() -> Self {
        Self::start_with(false).await
    }

    fn config(&self) -> Value {
        json!({"s3": self.section()})
    }

    fn refused(&self) -> (Value, &'static str) {
        let mut section = self.section();
        section["access_key_id"] = json!("khoa_khac");
        (json!({"s3": section}), "bí mật của kho")
    }

    async fn deliver(&self, name: &str, bytes: &[u8]) {
        // What moto holds is gone when it starts anew, unless it lies in its folder.
        std::fs::write(self.folder().join("nhan").join(name), bytes).unwrap();
        self.client.put(&format!("nhan/{name}").into(), bytes.to_vec().into()).await.unwrap();
    }

    async fn content(&self, name: &str) -> Option<Vec<u8>> {
        let answer = self.client.get(&format!("nhan/{name}").into()).await.ok()?;
        Some(answer.bytes().await.unwrap().to_vec())
    }

    async fn names(&self) -> Vec<String> {
        let listed = self.client.list_with_delimiter(Some(&"nhan".into())).await.unwrap();
        listed.objects.iter().map(|object| object.location.filename().unwrap().to_owned()).collect()
    }

    fn cut(&mut self) {
        self.link.cut();
    }

    fn mend(&mut self) {
        self.link.mend();
    }

    async fn restart(&mut self) {
        self.server = None;
        tokio::time::sleep(Duration::from_secs(8)).await;
        self.launch();
    }
}
