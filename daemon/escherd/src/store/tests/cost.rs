//! What the largest legal requests cost, in instructions of SQLite's virtual machine.

use escher_protocol::Text;
use escher_protocol::execution::{MAX_LABELS, MAX_NAME_BYTES};
use escher_protocol::message::{Condition, MAX_CONDITIONS, Property};
use rusqlite::StatementStatus;

use super::super::apply::StoreTransaction;
use super::super::damage::DamageMarker;
use super::super::readers::Snapshot;
use super::super::{connection, lookup, query};
use super::*;
use crate::execution::check_selection;

/// Most instructions of one query, which take some milliseconds.
const MAX_INSTRUCTIONS: i32 = 400_000;

/// Executions in the history, each with as many labels as it may have.
const COUNT: u64 = 400;

/// Returns a text of the greatest length that ends in `text`.
fn longest(text: &str) -> Text {
    format!("{text:x>MAX_NAME_BYTES$}").into()
}

fn label(number: usize) -> (Text, Text) {
    (longest(&number.to_string()), longest("value"))
}

/// Returns an execution that has all labels but one, a different one in each.
fn labelled(number: u64) -> Submission {
    let mut one = submission(number);
    let missing = usize::try_from(number).unwrap() % (MAX_CONDITIONS - 2);
    one.request.name = Some(longest("name"));
    one.request.labels = (0..MAX_LABELS).map(label).collect();
    one.request.labels[missing].1 = longest("other");
    one
}

/// Returns a filter that has as many conditions as it may have, with texts at their limit, and that no
/// execution matches although every one of its conditions is met by most.
fn largest() -> Selection {
    let on_labels = (0..MAX_CONDITIONS - 2).map(|number| {
        let (key, value) = label(number);
        Property::Label(key, value)
    });
    let others = [
        Property::Name(longest("name")),
        Property::User("alice".into()),
    ];
    let selection = Selection {
        filter: ListFilter {
            all: true,
            conditions: on_labels.chain(others).map(Condition::is).collect(),
            limit: 0,
        },
        since: Some(at(1)),
        until: Some(at(COUNT + 1)),
    };
    assert_eq!(check_selection(&selection), Ok(()));
    selection
}

/// Returns the instructions that `statements` have executed on a connection since the last call.
fn instructions(database: &rusqlite::Connection, statements: &[String]) -> i32 {
    let steps = statements.iter().map(|sql| {
        let statement = database.prepare_cached(sql).unwrap();
        statement.reset_status(StatementStatus::VmStep)
    });
    steps.sum()
}

#[test]
fn the_largest_filter_reads_the_history_once_and_in_blocks() {
    let test = TestStore::new();
    let all = (1..=COUNT).map(labelled);
    test.commit(all.flat_map(|one| submitted_and_finished(&one, Status::Completed)));
    let mut reader = connection::reader(&test.path()).unwrap();
    let snapshot = Snapshot {
        connection: reader.transaction().unwrap(),
        damage: &DamageMarker::new(&test.path()),
    };
    let statements = query::statements();
    let selection = largest();
    for submitter in [None, Some(&user(1001))] {
        let (mut next, mut pages, mut total) = (Some(u64::MAX), 0, 0);
        while let Some(before) = next {
            let page = query::list(&snapshot, submitter, &selection, 0..before, 256).unwrap();
            assert_eq!(page.found, []);
            let cost = instructions(&snapshot.connection, &statements);
            assert!(cost < MAX_INSTRUCTIONS, "a block took {cost} instructions");
            next = page.next;
            pages += 1;
            total += cost;
        }
        assert!(pages > 1, "a block does not read all of it");
        // Each execution has 64 rows, and a row takes some tens of instructions.
        let each = total / i32::try_from(COUNT).unwrap();
        assert!(each < 64 * 100, "{each} instructions for each execution");
    }
}

/// Every row of an index was read before the first was compared, 256 of each.
#[test]
fn many_values_of_one_label_are_read_in_blocks_too() {
    let test = TestStore::new();
    let value = |number: u64| format!("v{number}");
    let all = (1..=1000).map(|number| {
        let mut one = submission(number);
        let label = ("k".into(), value(number % 64).as_str().into());
        one.request.labels = vec![label];
        one
    });
    test.commit(all.flat_map(|one| submitted_and_finished(&one, Status::Completed)));
    let mut reader = connection::reader(&test.path()).unwrap();
    let snapshot = Snapshot {
        connection: reader.transaction().unwrap(),
        damage: &DamageMarker::new(&test.path()),
    };
    let any = (0..64).map(|number| Property::Label("k".into(), value(number).as_str().into()));
    let mut selection = select_all();
    selection.filter.conditions = any.map(Condition::is).collect();
    let page = query::list(&snapshot, None, &selection, 0..u64::MAX, 256).unwrap();
    assert_eq!(page.found.len(), 256);
    let cost = instructions(&snapshot.connection, &query::statements());
    assert!(cost < MAX_INSTRUCTIONS, "a block took {cost} instructions");
}

/// A search with costly patterns holds up others no longer than a cheap one.
#[test]
fn costly_patterns_make_blocks_smaller() {
    let test = TestStore::new();
    let all = (1..=COUNT).map(submission);
    test.commit(all.flat_map(|one| submitted_and_finished(&one, Status::Completed)));
    let mut reader = connection::reader(&test.path()).unwrap();
    let snapshot = Snapshot {
        connection: reader.transaction().unwrap(),
        damage: &DamageMarker::new(&test.path()),
    };
    let costly = Property::Command("*a".repeat(MAX_NAME_BYTES / 2).as_str().into());
    let mut selection = select_all();
    selection.filter.conditions = vec![Condition::is(costly); MAX_CONDITIONS];
    let page = query::list(&snapshot, None, &selection, 0..u64::MAX, 256).unwrap();
    assert_eq!(page.found, []);
    let examined = COUNT + 1 - page.next.unwrap();
    assert!(examined < 20, "{examined} in one block");
}

#[test]
fn a_list_is_as_cheap_with_many_matches_as_with_few() {
    let test = TestStore::new();
    let all = (1..=COUNT).map(submission);
    test.commit(all.flat_map(|one| submitted_and_finished(&one, Status::Completed)));
    let mut reader = connection::reader(&test.path()).unwrap();
    let snapshot = Snapshot {
        connection: reader.transaction().unwrap(),
        damage: &DamageMarker::new(&test.path()),
    };
    let cost_of = |limit| {
        let page = query::list(&snapshot, None, &select_all(), 0..u64::MAX, limit).unwrap();
        assert_eq!(page.found.len(), limit);
        instructions(&snapshot.connection, &query::statements())
    };
    let (one, hundred) = (cost_of(1), cost_of(100));
    assert!(one < 1000 && hundred < 100 * 100, "{one}, {hundred}");
}

#[tokio::test]
async fn a_head_that_most_ids_have_is_not_searched_to_its_end() {
    let test = TestStore::new();
    test.commit((1..=9000).map(|number| submitted(&submission(number))));
    // A user without any execution.
    let scope = LookupScope {
        submitter: Some(user(77)),
        names_of: Some(user(77)),
    };
    let error = test
        .store
        .find(scope.clone(), &"0192".into())
        .await
        .unwrap_err();
    assert_eq!(error.code, ErrorCode::AMBIGUOUS);
    assert_eq!(
        error.message.as_str(),
        "\"0192\" is a part of too many ids to search all of them"
    );
    let mut reader = connection::reader(&test.path()).unwrap();
    let snapshot = Snapshot {
        connection: reader.transaction().unwrap(),
        damage: &DamageMarker::new(&test.path()),
    };
    for reference in [
        "0192".to_owned(),
        "9".repeat(512),
        longest("name").to_string(),
    ] {
        let _ = lookup::find(&snapshot, &scope, &reference.as_str().into());
        let cost = instructions(&snapshot.connection, &lookup::statements());
        assert!(cost < MAX_INSTRUCTIONS, "{reference}: {cost} instructions");
    }
}

#[test]
fn a_removal_costs_the_same_for_each_execution() {
    let dir = tempfile::tempdir().unwrap();
    let (opened, _) = super::super::open::open(&store_path(dir.path()), SETTINGS).unwrap();
    let database = &opened.connection;
    let (mut state, mut users) = (opened.state, opened.users);
    let mut changes = StoreTransaction {
        connection: database,
        state: &mut state,
        users: &mut users,
    };
    for number in 1..=COUNT {
        for change in submitted_and_finished(&labelled(number), Status::Completed) {
            let outcome = changes.apply(&entry(0, change)).unwrap();
            assert!(outcome.is_committed(), "{outcome:?}");
        }
    }
    let statements = super::super::finish::removal_statements();
    let mut cost_of = |numbers: std::ops::RangeInclusive<u64>| {
        let numbers: Vec<u64> = numbers.collect();
        let count = i32::try_from(numbers.len()).unwrap();
        changes.remove_all(&numbers).unwrap();
        instructions(database, &statements) / count
    };
    let (first, rest) = (cost_of(1..=1), cost_of(2..=COUNT));
    assert!(first < 5000 && rest < 5000, "{first}, {rest}");
}
