//! The page about the store says what is true: its examples run and answer as it says.

use std::process::Command as Process;

use super::*;

const PAGE: &str = include_str!("../../../../../docs/store.md");

/// The code blocks of the page in `language`.
fn blocks(language: &str) -> Vec<&'static str> {
    let fence = format!("```{language}\n");
    let blocks = PAGE.split(fence.as_str()).skip(1);
    blocks
        .map(|rest| rest.split("```").next().unwrap())
        .collect()
}

/// A store in which something has happened.
fn bed() -> Bed {
    let bed = Bed::new();
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
        let mut record = ended(&one, status);
        record.completed_at = Some(
            one.submitted_at
                .saturating_add(Duration::from_secs(seconds)),
        );
        let outcome = record.outcome.as_mut().unwrap();
        outcome.duration_us = seconds * 1_000_000;
        outcome.output.log_bytes = log_bytes;
        changes.extend([submitted(&one), over(record)]);
    }
    bed.commit(changes);
    bed
}

/// The answer as sqlite3 prints it.
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
fn the_examples_of_the_page_answer_as_it_says() {
    let bed = bed();
    let (questions, answers) = (blocks("sql"), blocks("text answer"));
    assert!(questions.len() >= 2 && questions.len() == answers.len());
    let database = rusqlite::Connection::open(bed.path()).unwrap();
    for (sql, expected) in questions.into_iter().zip(answers) {
        assert_eq!(answer(&database, sql), expected, "{sql}");
        let by_program = Process::new("sqlite3")
            .arg("-readonly")
            .arg(bed.path())
            .arg(sql)
            .output();
        match by_program {
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
fn every_column_of_the_views_is_on_the_page() {
    let bed = bed();
    let database = rusqlite::Connection::open(bed.path()).unwrap();
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
async fn a_store_that_an_operator_has_compacted_is_the_same_store() {
    let bed = bed();
    let before = bed.all().await;
    bed.store.close(DEADLINE).await.unwrap();
    let database = rusqlite::Connection::open(bed.path()).unwrap();
    database.execute_batch("VACUUM").unwrap();
    drop(database);
    let bed = Bed::on(bed.dir);
    assert_eq!((bed.notices.as_slice(), bed.all().await), (&[][..], before));
}
