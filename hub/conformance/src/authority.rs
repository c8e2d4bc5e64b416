//! Certificates for tests, made by `openssl`.

use std::path::Path;
use std::process::Command;

/// Makes an authority (`NAME.pem`, `NAME.key`) in a folder, and a certificate for `localhost` signed by it (`server.crt`, `server.key`).
pub fn authority(folder: &Path, name: &str) {
    std::fs::write(folder.join("san"), "subjectAltName=DNS:localhost\nbasicConstraints=critical,CA:FALSE\n").unwrap();
    let key = "-newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes";
    for step in [
        format!("req -x509 {key} -days 2 -subj /CN={name} -keyout {name}.key -out {name}.pem"),
        format!("req {key} -subj /CN=localhost -keyout server.key -out server.csr"),
        format!("x509 -req -in server.csr -CA {name}.pem -CAkey {name}.key -CAcreateserial -days 2 -extfile san -out server.crt"),
    ] {
        let output = Command::new("openssl").args(step.split(' ')).current_dir(folder).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }
}
