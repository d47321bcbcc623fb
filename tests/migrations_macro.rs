//! `migrations!` embeds a folder's files by number, under their names, with their text as it is in the file.

const SAMPLE: &[rowhouse::Migration] = rowhouse::migrations!("tests/fixtures/migrations_sample");

#[test]
fn the_files_come_in_the_order_of_their_numbers() {
    let names: Vec<_> = SAMPLE.iter().map(|migration| migration.name).collect();
    assert_eq!(names, ["V1__page", "V2__fetched_at", "V10__page_by_fetched_at"]);
}

#[test]
fn the_text_is_the_files_own() {
    assert_eq!(SAMPLE[1].sql, include_str!("fixtures/migrations_sample/V2__fetched_at.sql"));
}

#[test]
fn a_domain_takes_them() {
    let domain = rowhouse::Domain::new("cache").migrations(SAMPLE);
    assert_eq!(domain.name(), "cache");
}
