//! The `migrations!` macro of `rowhouse`, which re-exports it: embeds a folder of SQL migrations.
//!
//! What is embedded is decided when the program is compiled, and anything doubtful about the folder is a compile
//! error rather than a surprise at somebody's first start. Each refusal has a test below.

#![allow(clippy::disallowed_methods, reason = "runs when a program is compiled: no database is open")]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use proc_macro2::TokenStream;
use quote::quote;
use refinery_core::{MigrationType, find_migration_files, parse_migration_name};
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
    let found: BTreeSet<PathBuf> = find_migration_files(folder, MigrationType::Sql)
        .map_err(|error| format!("could not look for migrations in {}: {error}", folder.display()))?
        .collect();
    let canonical = folder
        .canonicalize()
        .map_err(|error| format!("could not look for migrations in {}: {error}", folder.display()))?;
    // refinery only logs a misnamed file, and a macro has no log: its schema would silently be missing.
    if let Some(stray) = sql_files(&canonical)?.into_iter().find(|path| !found.contains(path)) {
        return Err(misnamed(&stray));
    }

    let mut files = BTreeMap::new();
    for path in found {
        let name = path.file_stem().and_then(|stem| stem.to_str()).ok_or_else(|| misnamed(&path))?;
        match name.as_bytes().first() {
            Some(b'V') => {}
            Some(b'U') => {
                return Err(format!(
                    "{} is unversioned, and unversioned migrations have no place in an order: name it V<number>__<name>.sql",
                    path.display()
                ));
            }
            _ => return Err(misnamed(&path)),
        }
        let number = match parse_migration_name(name) {
            Ok((_, number, _)) if number > 0 => i64::from(number),
            _ => return Err(format!("{} has no whole number from 1 to 2147483647", path.display())),
        };
        let text = path.to_str().ok_or_else(|| format!("the path {} is not UTF-8", path.display()))?;
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
