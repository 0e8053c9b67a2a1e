//! The documentation of the store is correct: its queries run and give the answers shown.

use std::process::Command as Process;

use super::*;

const PAGE: &str = include_str!("../../../../../docs/store.md");

/// Returns the code blocks of the page in `language`.
fn blocks(language: &str) -> Vec<&'static str> {
    let fence = format!("```{language}\n");
    let blocks = PAGE.split(fence.as_str()).skip(1);
    blocks
        .map(|rest| rest.split("```").next().unwrap())
        .collect()
}

/// Returns a store with the executions that the page's answers show.
fn sample_store() -> TestStore {
    let test = TestStore::new();
    let mut changes = Vec::new();
    for (number, name, status, seconds, log_bytes) in [
        (1, "nightly", Status::Completed, 340, 91_000),
        (2, "deploy", Status::Failed, 12, 2_400),
        (3, "nightly", Status::Failed, 351, 120_000),
        (4, "report", Status::Timeout, 600, 0),
        (5, "nightly", Status::Completed, 338, 90_500),
    ] {
        let mut one = submission(number);
        one.request.name = Some(name.into());
        one.request.labels = vec![(
            "team".into(),
            if number % 2 == 0 { "web" } else { "data" }.into(),
        )];
        let mut record = record_of(&one, status);
        record.completed_at = Some(
            one.submitted_at
                .saturating_add(Duration::from_secs(seconds)),
        );
        let outcome = record.outcome.as_mut().unwrap();
        outcome.duration_us = seconds * 1_000_000;
        outcome.output.log_bytes = log_bytes;
        changes.extend([submitted(&one), finished_with(record)]);
    }
    test.commit(changes);
    test
}

/// Returns the answer to a query as sqlite3 prints it.
fn answer(database: &rusqlite::Connection, sql: &str) -> String {
    let mut statement = database.prepare(sql).unwrap();
    let columns = statement.column_count();
    let mut rows = statement.query([]).unwrap();
    let mut lines = String::new();
    while let Some(row) = rows.next().unwrap() {
        use rusqlite::types::ValueRef;
        let cells = (0..columns).map(|column| match row.get_ref(column).unwrap() {
            ValueRef::Null => String::new(),
            ValueRef::Integer(number) => number.to_string(),
            ValueRef::Real(number) => format!("{number:?}"),
            ValueRef::Text(text) | ValueRef::Blob(text) => {
                String::from_utf8_lossy(text).into_owned()
            }
        });
        lines += &cells.collect::<Vec<_>>().join("|");
        lines.push('\n');
    }
    lines
}

#[test]
fn the_queries_on_the_page_give_the_answers_shown() {
    let test = sample_store();
    let (queries, answers) = (blocks("sql"), blocks("text answer"));
    assert!(queries.len() >= 2 && queries.len() == answers.len());
    let database = rusqlite::Connection::open(test.path()).unwrap();
    for (sql, expected) in queries.into_iter().zip(answers) {
        assert_eq!(answer(&database, sql), expected, "{sql}");
        let by_sqlite3 = Process::new("sqlite3")
            .arg("-readonly")
            .arg(test.path())
            .arg(sql)
            .output();
        match by_sqlite3 {
            Ok(output) => assert_eq!(
                String::from_utf8_lossy(&output.stdout),
                expected,
                "{output:?}"
            ),
            Err(error) => assert_eq!(error.kind(), std::io::ErrorKind::NotFound),
        }
    }
}

#[test]
fn the_page_names_every_column_of_the_views() {
    let test = sample_store();
    let database = rusqlite::Connection::open(test.path()).unwrap();
    let mut views = database
        .prepare("SELECT name FROM sqlite_master WHERE type = 'view'")
        .unwrap();
    let names = views.query_map([], |row| row.get::<_, String>(0)).unwrap();
    for view in names.map(Result::unwrap) {
        assert!(PAGE.contains(&format!("`{view}`")), "{view}");
        let statement = database.prepare(&format!("SELECT * FROM {view}")).unwrap();
        for column in statement.column_names() {
            assert!(PAGE.contains(&format!("`{column}`")), "{view}.{column}");
        }
    }
}

#[tokio::test]
async fn vacuum_changes_nothing_in_a_store() {
    let test = sample_store();
    let before = test.all_records().await;
    test.store.close(DEADLINE).await.unwrap();
    let database = rusqlite::Connection::open(test.path()).unwrap();
    database.execute_batch("VACUUM").unwrap();
    drop(database);
    let test = TestStore::open_in(test.dir);
    assert_eq!(
        (test.quarantined.as_slice(), test.all_records().await),
        (&[][..], before)
    );
}
