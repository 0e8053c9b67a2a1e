//! A uid with another login name is another user: it inherits neither executions nor keys.

use super::*;

/// All owners of one uid: two with a name, and one without.
fn owners() -> [User; 3] {
    [Some("alice"), Some("carol"), None].map(|name| User {
        uid: 1001,
        name: name.map(Into::into),
    })
}

/// The number of the execution that the owner with this index has submitted.
fn number_of(owner: usize) -> u64 {
    u64::try_from(owner).unwrap() + 1
}

/// A store with a finished execution of each owner, all with the same name and key.
fn store_of_owners() -> TestStore {
    let test = TestStore::new();
    for (index, owner) in owners().into_iter().enumerate() {
        let mut one = submission(number_of(index));
        one.submitter = owner;
        one.request.name = Some("nightly".into());
        one.request.key = Some("k".into());
        let mut record = record_of(&one, Status::Completed);
        record.outcome.as_mut().unwrap().output.log_bytes = 7;
        test.commit([submitted(&one), finished_with(record)]);
    }
    test
}

#[tokio::test]
async fn an_owner_finds_its_own_executions_alone() {
    let test = store_of_owners();
    for (index, owner) in owners().into_iter().enumerate() {
        let number = number_of(index);
        let scope = LookupScope {
            submitter: Some(owner.clone()),
            names_of: Some(owner.clone()),
        };
        for other in 1..=3 {
            let id = id(other).to_string();
            for text in [&other.to_string(), &id, &id[28..]] {
                let found = test.store.find(scope.clone(), &text.into()).await;
                let found = found.unwrap().map(|found| found.number);
                assert_eq!(found, (other == number).then_some(other), "{text}: {owner}");
            }
        }
        let named = test.store.find_named(owner.clone(), "nightly").await;
        assert_eq!(named.unwrap().unwrap().number, number);
        let mut by_user = select_all();
        by_user.filter.conditions = vec!["name=nightly".parse().unwrap()];
        for selection in [select_all(), by_user] {
            let submitter = || Some(owner.clone());
            let (range, all) = (0..u64::MAX, selection.clone());
            let listed = test.store.list(submitter(), all, range, 10).await.unwrap();
            let listed: Vec<u64> = listed.found.iter().map(|record| record.number).collect();
            assert_eq!(listed, [number]);
            let found = test
                .store
                .finished_numbers(submitter(), selection, u64::MAX, 10);
            assert_eq!(found.await.unwrap().found, [number]);
        }
    }
}

#[tokio::test]
async fn an_owner_has_its_own_keys_and_totals() {
    let test = store_of_owners();
    for (index, owner) in owners().into_iter().enumerate() {
        let mut again = submission(10 + number_of(index));
        again.submitter = owner;
        again.request.key = Some("k".into());
        let taken = CommitOutcome::KeyTaken {
            id: id(number_of(index)),
            number: number_of(index),
            is_same_request: false,
        };
        assert_eq!(test.write([submitted(&again)]), [taken]);
    }
    let test = test.reopen().await;
    let history = test.store.user_history().await.unwrap();
    assert_eq!(history.len(), 3);
    test.commit([Change::Removed { numbers: vec![2] }]);
    let left = test.store.user_history().await.unwrap();
    let [alice, carol, nobody] = owners();
    assert_eq!(left.get(&carol), None);
    for owner in [alice, nobody] {
        assert_eq!(
            (left[&owner], left[&owner].executions),
            (history[&owner], 1)
        );
    }
    // What is removed frees its key.
    let mut again = submission(20);
    again.submitter = carol;
    again.request.key = Some("k".into());
    test.commit([submitted(&again)]);
}

#[tokio::test]
async fn the_kept_logs_of_an_owner_are_listed_page_by_page() {
    let test = store_of_owners();
    let [alice, carol, nobody] = owners();
    for number in 4..=7 {
        let mut one = submission(number);
        one.submitter = alice.clone();
        let mut record = record_of(&one, Status::Completed);
        record.outcome.as_mut().unwrap().output.log_bytes = number % 2;
        test.commit([submitted(&one), finished_with(record)]);
    }
    for limit in 1..=4 {
        let (mut found, mut after) = (Vec::new(), None);
        loop {
            let page = test.store.kept_logs(alice.clone(), after, limit).await;
            let page = page.unwrap();
            assert!(page.ids.len() <= limit);
            found.extend(page.ids);
            after = page.next;
            if after.is_none() {
                break;
            }
        }
        assert_eq!(found, [1, 5, 7].map(id), "pages of {limit}");
    }
    for (owner, number) in [(carol, 2), (nobody, 3)] {
        let logs = test.store.kept_logs(owner, None, 10).await.unwrap();
        assert_eq!(logs.ids, [id(number)]);
    }
}
