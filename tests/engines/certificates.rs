//! Certificates of the test's own, made by `openssl`.
#![allow(clippy::disallowed_methods, reason = "files of the test's own, none of them a database")]

use std::path::Path;
use std::process::Command;

/// In this folder: `server.pem` and `server.key`, for the name `localhost`; `right.pem`, who signed it, and `wrong.pem`, who
/// did not.
pub fn make(folder: &Path) {
    for name in ["right", "wrong"] {
        openssl(
            folder,
            &format!(
                "req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN={name} -keyout {name}.key -out {name}.pem"
            ),
        );
    }
    openssl(folder, "req -newkey rsa:2048 -nodes -subj /CN=localhost -keyout server.key -out server.csr");
    std::fs::write(folder.join("names"), "subjectAltName=DNS:localhost").expect("a file");
    openssl(
        folder,
        "x509 -req -in server.csr -CA right.pem -CAkey right.key -CAcreateserial -days 2 -extfile names -out server.pem",
    );
}

fn openssl(folder: &Path, arguments: &str) {
    let done =
        Command::new("openssl").current_dir(folder).args(arguments.split(' ')).output().expect("openssl");
    assert!(done.status.success(), "{arguments}: {}", String::from_utf8_lossy(&done.stderr));
}
