//! Lists and lookups, compared with a plain filter, and all query plans.

use std::collections::BTreeSet;

use proptest::prelude::*;
use proptest::sample::select;
use proptest::test_runner::{Config, TestRunner};

use escher_protocol::Target;
use escher_protocol::message::{Condition, Property};

use super::super::{expiry, lookup, newest, query, removable};
use super::*;
use crate::execution::Matcher;

/// Returns execution `number` of a mixed history in which the clock is once set back by an hour,
/// with its final status if it is finished.
fn sample(number: u64) -> (Submission, Option<Status>) {
    let mut one = submission(number);
    let names = [None, Some("nightly"), Some("build"), Some("1002x")];
    one.request.name = names[usize::try_from(number % 4).unwrap()].map(Into::into);
    one.submitter = user([1001, 1002, 0][usize::try_from(number / 4 % 3).unwrap()]);
    one.account.user = user([1001, 1002, 1003, 0][usize::try_from(number / 3 % 4).unwrap()]);
    if number.is_multiple_of(5) {
        // A user whose name is the uid of another.
        one.account.user = User {
            uid: 5,
            name: Some("1003".into()),
        };
    }
    for (key, every) in [("even", 2), ("third", 3)] {
        let value = (number % every).to_string();
        one.request.labels.push((key.into(), value.into()));
    }
    if number > 150 {
        one.submitted_at = Timestamp::from_micros(one.submitted_at.as_micros() - 60 * MINUTE);
    }
    let statuses = [
        Status::Completed,
        Status::Failed,
        Status::Cancelled,
        Status::Timeout,
        Status::Lost,
    ];
    let status = match number % 23 {
        22 => None,
        n => Some(statuses[usize::try_from(n % 7).unwrap().min(4)]),
    };
    (one, status)
}

const COUNT: u64 = 300;

fn sample_store() -> (TestStore, Vec<ExecutionRecord>) {
    let test = TestStore::new();
    let (mut changes, mut records) = (Vec::new(), Vec::new());
    for number in 1..=COUNT {
        let (one, status) = sample(number);
        changes.push(submitted(&one));
        if let Some(status) = status {
            changes.push(finished(&one, status));
            records.insert(0, record_of(&one, status));
        }
    }
    test.commit(changes);
    (test, records)
}

fn conditions() -> impl Strategy<Value = Condition> {
    let texts = select(vec![
        "status=completed",
        "status=failed",
        "status=lost",
        "status=running",
        "exit=3",
        "exit=0",
        "exit=143",
        "label.even=0",
        "label.even=1",
        "label.third=2",
        "label.third=?",
        "label.third=9",
        "name=nightly",
        "name=1002x",
        "name=none",
        "name=*x",
        "user=alice",
        "user=1002",
        "user=1003",
        "user=05",
        "user=?o*",
        "command=*1*",
    ]);
    let is_negated = proptest::bool::weighted(0.2);
    (texts, is_negated).prop_map(|(text, is_negated)| Condition {
        is_negated,
        ..text.parse().unwrap()
    })
}

fn selections() -> impl Strategy<Value = Selection> {
    let conditions = proptest::collection::vec(conditions(), 0..4);
    let time = || proptest::option::weighted(0.3, (0..COUNT + 10).prop_map(at));
    let all = proptest::bool::weighted(0.8);
    (all, conditions, time(), time()).prop_map(|(all, conditions, since, until)| Selection {
        filter: ListFilter {
            all,
            conditions,
            limit: 1,
        },
        since,
        until,
    })
}

/// Returns whether a finished execution matches, by the definition of [`Selection`]; what
/// a single condition means is tested with [`Matcher`].
fn matches(record: &ExecutionRecord, submitter: Option<u32>, selection: &Selection) -> bool {
    let is_met = |conditions: Vec<Condition>| {
        let of_these = Selection {
            filter: ListFilter {
                all: true,
                conditions,
                limit: 0,
            },
            ..Selection::default()
        };
        Matcher::new(&of_these).matches_record(record)
    };
    let filter = &selection.filter;
    let key = |condition: &Condition| {
        let text = condition.to_string();
        text.split(['!', '=']).next().unwrap().to_owned()
    };
    let (negated, wanted): (Vec<_>, Vec<_>) = filter
        .conditions
        .iter()
        .cloned()
        .partition(|condition| condition.is_negated);
    let has_end = |condition: &Condition| match condition.property {
        Property::Status(_) => !condition.is_negated,
        Property::Exit(_) => true,
        _ => false,
    };
    let keys: BTreeSet<String> = wanted.iter().map(key).collect();
    (filter.all || filter.conditions.iter().any(has_end))
        && submitter.is_none_or(|uid| record.submitted_by.uid == uid)
        && negated.into_iter().all(|condition| is_met(vec![condition]))
        && keys.iter().all(|of| {
            let of_key = wanted.iter().filter(|condition| key(condition) == *of);
            of_key.cloned().any(|condition| is_met(vec![condition]))
        })
        && selection
            .since
            .is_none_or(|since| record.submitted_at >= since)
        && selection
            .until
            .is_none_or(|until| record.submitted_at < until)
}

#[test]
fn lists_equal_a_plain_filter() {
    let runtime = runtime();
    let (test, records) = sample_store();
    let mut runner = TestRunner::new(Config {
        cases: 600,
        failure_persistence: None,
        ..Config::default()
    });
    let submitter = select(vec![None, None, Some(1001), Some(0), Some(77)]);
    let before = prop_oneof![3 => Just(u64::MAX), 1 => 0..COUNT];
    let limit = select(vec![1, 3, 40, 1000]);
    let nonempty = std::cell::Cell::new(0);
    runner
        .run(
            &(submitter, selections(), before, limit),
            |(submitter, selection, before, limit)| {
                let expected: Vec<ExecutionRecord> = records
                    .iter()
                    .filter(|record| {
                        record.number < before && matches(record, submitter, &selection)
                    })
                    .take(limit)
                    .cloned()
                    .collect();
                nonempty.set(nonempty.get() + u32::from(!expected.is_empty()));
                let numbers: Vec<u64> = expected.iter().map(|record| record.number).collect();
                if let Some(oldest) = numbers.last() {
                    let range = oldest + 1..before;
                    let above =
                        test.store
                            .list(submitter.map(user), selection.clone(), range, 1000);
                    let above = runtime.block_on(above).unwrap().found;
                    prop_assert_eq!(&above[..], &expected[..expected.len() - 1]);
                }
                let store = &test.store;
                let listed = list_all(store, submitter, &selection, before, limit);
                prop_assert_eq!(runtime.block_on(listed), expected);
                let found = store.finished_numbers(submitter.map(user), selection, before, limit);
                prop_assert_eq!(runtime.block_on(found).unwrap().found, numbers);
                Ok(())
            },
        )
        .unwrap();
    let nonempty = nonempty.get();
    assert!(nonempty > 60, "only {nonempty} lists were not empty");
}

#[tokio::test]
async fn finds_executions_by_number_id_head_and_tail_within_the_scope() {
    let (test, _) = sample_store();
    let number_of = async |submitter: Option<u32>, text: &str| {
        let scope = LookupScope {
            submitter: submitter.map(user),
            names_of: None,
        };
        let found = test.store.find(scope, &text.into()).await.unwrap();
        found.map(|found| (found.number, found.record.is_some()))
    };
    let id_of = |number| id(number).to_string();
    // 1 is alice's, 4 bob's, 22 alice's and unfinished.
    assert_eq!(number_of(None, "1").await, Some((1, true)));
    assert_eq!(number_of(Some(1001), "1").await, Some((1, true)));
    assert_eq!(number_of(Some(1002), "1").await, None);
    assert_eq!(number_of(None, "22").await, Some((22, false)));
    assert_eq!(number_of(None, "301").await, None);
    assert_eq!(number_of(None, &u64::MAX.to_string()).await, None);
    assert_eq!(number_of(None, &id_of(4)).await, Some((4, true)));
    assert_eq!(
        number_of(None, &id_of(4).to_uppercase()).await,
        Some((4, true))
    );
    assert_eq!(number_of(Some(1001), &id_of(4)).await, None);
    let by_id = test
        .store
        .find(LookupScope::ALL, &Target::Id(id(22)))
        .await
        .unwrap()
        .unwrap();
    assert_eq!((by_id.number, by_id.id, by_id.record), (22, id(22), None));
    for number in [4, 22, 299] {
        let whole = id_of(number);
        for part in [
            &whole[..18],
            &whole[28..],
            &whole.replace('-', "")[..16],
            &whole[23..],
        ] {
            let found = number_of(None, part).await.map(|found| found.0);
            assert_eq!(found, Some(number), "{part}");
        }
        assert_eq!(number_of(Some(77), &whole[28..]).await, None);
    }
    assert_eq!(number_of(None, "").await, None);
}

#[tokio::test]
async fn a_name_means_ones_own_execution_that_is_not_over_or_the_newest() {
    let (test, _) = sample_store();
    let mut seen = [0; 3];
    for (name, uid) in ["nightly", "build", "1002x", "Nightly"]
        .into_iter()
        .flat_map(|name| [1001, 1002, 0].map(|uid| (name, uid)))
    {
        let all = (1..=COUNT).rev().map(sample);
        let of_user: Vec<_> = all
            .filter(|(one, _)| one.submitter.uid == uid)
            .filter(|(one, _)| one.request.name.as_deref() == Some(name))
            .collect();
        let unfinished: Vec<_> = of_user.iter().filter(|(_, end)| end.is_none()).collect();
        let expected = match unfinished.as_slice() {
            [] => Ok(of_user.first().map(|(one, _)| one.number)),
            [(one, _)] => Ok(Some(one.number)),
            _ => Err(ErrorCode::AMBIGUOUS),
        };
        seen[unfinished.len().min(2)] += 1;
        let found = test.store.find_named(user(uid), name).await;
        let number = |found: Option<StoredExecution>| found.map(|found| found.number);
        let found = found.map(number).map_err(|error| error.code);
        assert_eq!(found, expected, "{name} of {uid}");
        // Root finds its own alone, like everybody.
        for submitter in [Some(uid), None] {
            let scope = LookupScope {
                submitter: submitter.map(user),
                names_of: Some(user(uid)),
            };
            let found = test.store.find(scope, &name.into()).await;
            let found = found.map(number).map_err(|error| error.code);
            assert_eq!(found, expected, "{name} of {uid} for {submitter:?}");
        }
    }
    assert!(seen.iter().all(|count| *count > 0), "{seen:?}");
    let nightly = test.store.find(LookupScope::ALL, &"nightly".into()).await;
    assert_eq!(nightly, Ok(None), "nobody's names");
}

#[tokio::test]
async fn several_unfinished_executions_of_a_name_are_ambiguous() {
    let test = TestStore::new();
    let named = |number| {
        let mut one = submission(number);
        one.request.name = Some("beef".into());
        one
    };
    let owner = named(1).submitter;
    let find = || test.store.find_named(owner.clone(), "beef");
    test.commit(submitted_and_finished(&named(1), Status::Completed));
    test.commit([submitted(&named(2))]);
    test.commit(submitted_and_finished(&named(3), Status::Failed));
    let found = find().await.unwrap().unwrap();
    assert_eq!((found.number, found.record), (2, None), "not the newest");
    test.commit((4..=12).map(|number| submitted(&named(number))));
    let error = find().await.unwrap_err();
    assert_eq!(error.code, ErrorCode::AMBIGUOUS);
    let listed: Vec<String> = (5..=12).map(|n| format!("{n} ({})", id(n))).collect();
    let message = format!(
        "\"beef\" is the name of several unfinished executions: {}",
        listed.join(", ")
    );
    assert_eq!(error.message.as_str(), message);
}

#[tokio::test]
async fn a_short_part_of_an_id_that_looks_like_a_name_is_of_ones_own_alone() {
    let test = TestStore::new();
    let mut one = submission(1);
    one.id = "01920f3e-6d2c-7c31-8f35-0d6cfeedfeed".parse().unwrap();
    test.commit([submitted(&one)]);
    let find = async |names_of: &User, text: &str| {
        let scope = LookupScope {
            submitter: None,
            names_of: Some(names_of.clone()),
        };
        let found = test.store.find(scope, &text.into()).await.unwrap();
        found.map(|found| found.number)
    };
    let (owner, other) = (&one.submitter, &user(one.submitter.uid + 1));
    assert_eq!(find(owner, "feed").await, Some(1));
    assert_eq!(find(other, "feed").await, None);
    assert_eq!(find(other, "feedfeed").await, Some(1));
    assert_eq!(find(other, "01920f3e").await, Some(1));
    assert_eq!(find(other, "0192").await, Some(1));
}

#[tokio::test]
async fn a_tail_with_leading_zeros_is_not_taken_for_a_number() {
    let test = TestStore::new();
    let mut other = submission(2);
    other.id = "01920f3e-6d2c-7c31-8f35-0d6c7e9b0001".parse().unwrap();
    test.commit([submitted(&submission(1)), submitted(&other)]);
    let found = test.store.find(LookupScope::ALL, &"0001".into()).await;
    let found = found.unwrap().unwrap();
    assert_eq!((found.number, found.id), (2, other.id));
    for text in ["001", "01", "+1"] {
        let found = test
            .store
            .find(LookupScope::ALL, &text.into())
            .await
            .unwrap();
        assert_eq!(found, None, "{text}");
    }
}

#[tokio::test]
async fn an_ambiguous_id_part_lists_at_most_eight_of_the_submitters_executions() {
    let (test, _) = sample_store();
    let scope = LookupScope {
        submitter: Some(user(1002)),
        names_of: Some(user(1002)),
    };
    let error = test.store.find(scope, &"01920F3e".into()).await;
    let error = error.unwrap_err();
    assert_eq!(error.code, ErrorCode::AMBIGUOUS);
    let named: Vec<u64> = (1..=COUNT)
        .filter(|number| number / 4 % 3 == 1)
        .take(8)
        .collect();
    let named: Vec<String> = named
        .iter()
        .map(|number| format!("{number} ({})", id(*number)))
        .collect();
    let message = format!(
        "\"01920f3e\" matches several executions: {}",
        named.join(", ")
    );
    assert_eq!(error.message.as_str(), message);
    assert_eq!(
        error.hint.as_deref(),
        Some("use the number, or more digits")
    );
}

#[tokio::test]
async fn readers_see_complete_transactions_while_the_writer_writes() {
    let test = TestStore::new();
    const PAIRS: usize = 400;
    let mut numbers = 1..;
    for ticket in 0..PAIRS as u64 {
        // Each pair is one call and so within one transaction.
        let both = [numbers.next().unwrap(), numbers.next().unwrap()]
            .map(|number| submitted_and_finished(&submission(number), Status::Completed));
        let entries = both
            .into_iter()
            .flatten()
            .map(|change| entry(ticket, change));
        test.store.write(entries.collect());
    }
    let (mut written, mut last) = (0, 0);
    while written < 4 * PAIRS {
        written += test.outcomes.recv_timeout(DEADLINE).unwrap().len();
        let records = test.all_records().await;
        assert!(records.len() % 2 == 0 && records.len() >= last);
        for (record, number) in records.iter().rev().zip(1..) {
            assert_eq!(record.number, number);
        }
        last = records.len();
    }
    assert_eq!(last, 2 * PAIRS);
}

/// Guards the choice of indexes: each statement is a search, and none needs a sort.
#[test]
fn no_query_scans_a_table_or_sorts() {
    let (test, _) = sample_store();
    let database = rusqlite::Connection::open(test.path()).unwrap();
    let kept_logs = vec![kept_logs::SELECT.to_owned()];
    let statements = [
        lookup::statements(),
        query::statements(),
        removable::statements(),
        kept_logs,
        vec![newest::SELECT.to_owned()],
    ]
    .concat();
    for sql in &statements {
        for step in plan(&database, sql) {
            // A count scans the result of its search.
            let is_scan = step.starts_with("SCAN") && !step.starts_with("SCAN (subquery");
            let is_slow = is_scan || step.contains("TEMP B-TREE");
            assert!(!is_slow, "{step} of {sql}");
        }
    }
    // Expiry reads nothing but the index, from where it stopped.
    for (sql, index) in [
        (expiry::RECORDS, "execution_submitter_completed"),
        (expiry::LOGS, "execution_submitter_log"),
    ] {
        let steps = plan(&database, sql);
        let search = format!(
            "SEARCH execution USING COVERING INDEX {index} (submitter_uid=? AND submitter_name=?"
        );
        assert!(
            matches!(steps.as_slice(), [only] if only.starts_with(&search)),
            "{steps:?}"
        );
    }
}

fn plan(database: &rusqlite::Connection, sql: &str) -> Vec<String> {
    let mut statement = database
        .prepare(&format!("EXPLAIN QUERY PLAN {sql}"))
        .unwrap();
    let values = vec![rusqlite::types::Value::Null; statement.parameter_count()];
    let rows = statement
        .query_map(rusqlite::params_from_iter(values), |row| row.get(3))
        .unwrap();
    rows.map(Result::unwrap).collect()
}
