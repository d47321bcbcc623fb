//! The built command, run on one home.

use std::path::Path;
use std::process::Command;

use serde_json::Value;

/// Runs `rowhouse --home HOME ARGUMENTS`; answers its exit code and what it wrote to both outputs.
pub(crate) fn rowhouse(home: &Path, arguments: &[&str]) -> (Option<i32>, String, String) {
    let output = Command::new(assert_cmd::cargo::cargo_bin("rowhouse"))
        .env_remove("ROWHOUSE_HOME")
        .arg("--home")
        .arg(home)
        .args(arguments)
        .output()
        .expect("the command runs");
    let text = |bytes| String::from_utf8(bytes).expect("UTF-8");
    (output.status.code(), text(output.stdout), text(output.stderr))
}

/// The same with `--json`; what it wrote to the standard output is one document.
pub(crate) fn document(home: &Path, arguments: &[&str]) -> (Option<i32>, Value) {
    let (code, stdout, stderr) = rowhouse(home, &[arguments, &["--json"]].concat());
    (code, serde_json::from_str(&stdout).unwrap_or_else(|error| panic!("{error}: {stdout}{stderr}")))
}
