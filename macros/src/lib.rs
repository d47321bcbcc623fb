//! The `migrations!` macro of `rowhouse`, which re-exports it: embeds a folder of SQL migrations.
//!
//! What is embedded is decided when the program is compiled, and anything doubtful about the folder is a compile
//! error rather than a surprise at somebody's first start. Each refusal has a test below.

#![allow(clippy::disallowed_methods, reason = "runs when a program is compiled: no database is open")]

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use proc_macro2::TokenStream;
use quote::quote;
use syn::LitStr;

/// Embeds a folder of SQL migrations as `&'static [rowhouse::Migration]`, sorted by number.
///
/// The folder is relative to the package's `Cargo.toml` and is searched with its subfolders.
///
/// # Errors
/// Of the compiler: no such folder; a `.sql` file that is not named `V<number>__<name>.sql`, an unversioned one
/// (`U<number>__<name>.sql`) included; a number that is used twice, is 0, or does not fit 31 bits.
#[proc_macro]
pub fn migrations(input: proc_macro::TokenStream) -> proc_macro::TokenStream {
    let folder = syn::parse_macro_input!(input as LitStr);
    expand(&folder).unwrap_or_else(|error| error.to_compile_error()).into()
}

fn expand(folder: &LitStr) -> syn::Result<TokenStream> {
    let refuse = |message: String| syn::Error::new(folder.span(), message);
    let package = std::env::var_os("CARGO_MANIFEST_DIR")
        .ok_or_else(|| refuse("migrations! needs CARGO_MANIFEST_DIR, which cargo sets".to_owned()))?;
    let files = find(&PathBuf::from(package).join(folder.value())).map_err(refuse)?;
    let (names, paths): (Vec<_>, Vec<_>) = files.into_iter().map(|file| (file.name, file.path)).unzip();
    // The named constant gives an empty folder its type.
    Ok(quote! {{
        const MIGRATIONS: &[::rowhouse::Migration] = &[
            #(::rowhouse::Migration { name: #names, sql: ::core::include_str!(#paths) }),*
        ];
        MIGRATIONS
    }})
}

#[derive(Debug)]
struct File {
    name: String,
    path: String,
}

/// The migrations below a folder in the order of their numbers, or what is wrong with it.
fn find(folder: &Path) -> Result<Vec<File>, String> {
    if !folder.is_dir() {
        return Err(format!("there is no folder of migrations at {}", folder.display()));
    }
    let unreadable = |error| format!("could not look for migrations in {}: {error}", folder.display());
    let canonical = folder.canonicalize().map_err(unreadable)?;
    let mut files = BTreeMap::new();
    for path in sql_files(&canonical)? {
        let text = path.to_str().ok_or_else(|| format!("the path {} is not UTF-8", path.display()))?;
        let (name, number) = named(&path)?;
        let file = File { name: name.to_owned(), path: text.to_owned() };
        if let Some(other) = files.insert(number, file) {
            return Err(format!(
                "the number {number} is used twice: by {} and {}",
                other.path,
                path.display()
            ));
        }
    }
    Ok(files.into_values().collect())
}

/// The name of a migration without its ending, and its number; the rules of the library's Migrator, which would refuse
/// at run time.
fn named(path: &Path) -> Result<(&str, i32), String> {
    let stem = (path.extension() == Some("sql".as_ref())).then(|| path.file_stem()?.to_str()).flatten();
    let parts = stem.and_then(|stem| Some((stem, stem.split_at_checked(1)?)));
    let Some((stem, (kind, (number, label)))) =
        parts.and_then(|(stem, (kind, rest))| Some((stem, (kind, rest.split_once("__")?))))
    else {
        return Err(misnamed(path));
    };
    let letters = |c: char| c.is_alphabetic() || c.is_ascii_digit() || c == '_';
    if label.is_empty() || !label.chars().all(letters) {
        return Err(misnamed(path));
    }
    match kind {
        "V" => {}
        "U" => {
            return Err(format!(
                "{} is unversioned, and unversioned migrations have no place in an order: name it V<number>__<name>.sql",
                path.display()
            ));
        }
        _ => return Err(misnamed(path)),
    }
    let whole = number.bytes().all(|byte| byte.is_ascii_digit());
    match number.parse() {
        Ok(number) if whole && number > 0 => Ok((stem, number)),
        _ => Err(format!("{} has no whole number from 1 to 2147483647", path.display())),
    }
}

/// Every `.sql` file below a folder, whatever its name, except hidden ones (editors leave some).
fn sql_files(folder: &Path) -> Result<Vec<PathBuf>, String> {
    let unreadable = |error| format!("could not read the folder {}: {error}", folder.display());
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).map_err(unreadable)? {
        let entry = entry.map_err(unreadable)?;
        let path = entry.path();
        if entry.file_type().map_err(unreadable)?.is_dir() {
            files.extend(sql_files(&path)?);
        } else if path.extension().is_some_and(|ending| ending.eq_ignore_ascii_case("sql"))
            && !entry.file_name().as_encoded_bytes().starts_with(b".")
        {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}

fn misnamed(path: &Path) -> String {
    format!("{} is not named V<number>__<name>.sql, with letters, digits and _ in the name", path.display())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folder(files: &[&str]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().expect("a folder");
        for file in files {
            let path = folder.path().join(file);
            fs::create_dir_all(path.parent().expect("a parent")).expect("a subfolder");
            fs::write(path, "SELECT 1;").expect("a file");
        }
        folder
    }

    fn names(files: &[&str]) -> Result<Vec<String>, String> {
        let folder = folder(files);
        Ok(find(folder.path())?.into_iter().map(|file| file.name).collect())
    }

    #[test]
    fn numbers_order_the_files_and_other_files_are_left_alone() {
        let found =
            names(&["V10__c.sql", "V2__b.sql", "sub/V1__a.sql", ".gitkeep", "notes.md", ".#V2__b.sql"]);
        assert_eq!(found.expect("a good folder"), ["V1__a", "V2__b", "V10__c"]);
        assert_eq!(names(&[".gitkeep"]).expect("an empty folder"), Vec::<String>::new());
    }

    #[test]
    fn what_could_surprise_at_run_time_is_refused() {
        for (files, message) in [
            (&["V1__a.sql", "V01__b.sql"][..], "the number 1 is used twice"),
            (&["U1__a.sql"], "is unversioned"),
            (&["V1_a.sql"], "is not named"),
            (&["v1__a.sql"], "is not named"),
            (&["V1__a.SQL"], "is not named"),
            (&["sub/init.sql"], "is not named"),
            (&["|1__a.sql"], "is not named"),
            (&["V1.5__a.sql"], "has no whole number"),
            (&["V0__a.sql"], "has no whole number"),
            (&["V99999999999__a.sql"], "has no whole number"),
        ] {
            let error = names(files).expect_err(message);
            assert!(error.contains(message), "{files:?}: {error}");
        }
    }

    #[test]
    fn a_missing_folder_is_named() {
        let error = find(Path::new("/no/such/migrations")).expect_err("no folder");
        assert_eq!(error, "there is no folder of migrations at /no/such/migrations");
    }

    #[test]
    fn an_error_becomes_a_compile_error_and_a_folder_becomes_a_slice() {
        let span = proc_macro2::Span::call_site();
        let error = expand(&LitStr::new("no_such_folder", span)).expect_err("no folder");
        assert!(error.to_compile_error().to_string().contains("compile_error !"));
        let folder = folder(&["V1__a.sql"]);
        let path = folder.path().to_str().expect("UTF-8");
        let expanded = expand(&LitStr::new(path, span)).expect("a good folder").to_string();
        assert!(expanded.contains(r#"name : "V1__a""#) && expanded.contains("include_str !"), "{expanded}");
    }
}
