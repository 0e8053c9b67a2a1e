use super::super::{State, outcome, sample};
use super::*;
use escher_protocol::message::ListFilter;
use escher_protocol::{Canceller, ExecutionRequest, Resources};

fn selection(all: bool, conditions: &[&str]) -> Selection {
    let conditions = conditions.iter().map(|text| text.parse().unwrap());
    let filter = ListFilter {
        all,
        conditions: conditions.collect(),
        limit: 0,
    };
    filter.into()
}

/// Returns an execution that has failed with this end.
fn execution(exit: Exit) -> Execution {
    let request = ExecutionRequest {
        name: Some("nightly".into()),
        labels: vec![("team".into(), "web".into()), ("tier".into(), "".into())],
        command: Command::Exec {
            argv: vec!["make".into(), "-j4".into(), "all tests".into()],
        },
        ..ExecutionRequest::default()
    };
    let mut end = outcome::withdrawn(Canceller::Host, Timestamp::from_micros(2));
    end.status = Status::Failed;
    end.outcome.exit = exit;
    let submission = sample::submission(1, request);
    Execution::in_state(submission, State::Finished(Box::new(end)))
}

fn check(execution: &Execution, all: bool, conditions: &[&str], expected: bool) {
    let selection = selection(all, conditions);
    let matcher = Matcher::new(&selection);
    let record = execution.record(Resources::default());
    let found = (matcher.matches(execution), matcher.matches_record(&record));
    assert_eq!(found, (expected, expected), "{conditions:?}");
}

#[test]
fn one_of_those_for_a_property_must_match_and_none_of_the_negated() {
    for (conditions, expected) in [
        (&[][..], true),
        (&["status=failed"], true),
        (&["status=lost"], false),
        (&["status=lost", "status=failed"], true),
        (&["status!=failed"], false),
        (&["name=night*", "name!=*old"], true),
        (&["name=night*", "name!=*ly"], false),
        (&["name=other", "name=nightly"], true),
        (&["user=alice"], true),
        (&["user=1001"], true),
        (&["user=01001"], false),
        (&["user=100?"], false),
        (&["user!=bob"], true),
        (&["user!=1001"], false),
        (&["exit=2"], true),
        (&["exit=1", "exit=2"], true),
        (&["exit!=0"], true),
        (&["exit!=2"], false),
        (&["command=make*"], true),
        (&["command=*-j4 all tests"], true),
        (&["command=make"], false),
        (&["command!=*deploy*"], true),
        (&["label.team=web"], true),
        (&["label.team=w*", "label.tier="], true),
        (&["label.team=db", "label.team=web"], true),
        (&["label.team=web", "label.zone=a"], false),
        (&["label.zone!=a"], true),
        (&["label.team!=web"], false),
        (&["label.team=web", "status=lost"], false),
    ] {
        check(&execution(Exit::Code(2)), true, conditions, expected);
    }
}

#[test]
fn what_has_no_exit_status_matches_no_condition_on_it() {
    let killed = Exit::Signal {
        signal: 9,
        core_dumped: false,
    };
    check(&execution(killed), false, &["exit=137"], true);
    check(&execution(killed), false, &["exit!=0"], true);
    check(&execution(Exit::Unknown), false, &["exit!=0"], false);
    check(&execution(Exit::Unknown), false, &["exit=0"], false);
}

#[test]
fn a_demand_for_an_end_includes_finished_executions() {
    use Status::{Completed, Failed, Lost, Pending, Running};
    for (all, conditions, expected) in [
        (false, &[][..], &[Pending, Running][..]),
        (false, &["status!=running"], &[Pending]),
        (false, &["status=failed", "status=lost"], &[Failed, Lost]),
        (false, &["status=running"], &[Running]),
        (true, &["status=completed", "status!=completed"], &[]),
        (
            true,
            &["status!=cancelled", "status!=timeout"],
            &[Pending, Running, Completed, Failed, Lost],
        ),
    ] {
        let selection = selection(all, conditions);
        assert_eq!(Matcher::new(&selection).statuses(), expected);
    }
    let by_exit = selection(false, &["exit=3"]);
    assert_eq!(Matcher::new(&by_exit).statuses().len(), Status::TABLE.len());
}

#[test]
fn only_texts_without_wildcards_are_looked_up_in_an_index() {
    let selection = selection(
        true,
        &[
            "name=a",
            "name=b",
            "name!=c",
            "user=x*",
            "label.k=v",
            "label.l=?",
        ],
    );
    let matcher = Matcher::new(&selection);
    assert_eq!(matcher.exact_names(), Some(vec!["a", "b"]));
    assert_eq!(matcher.exact_users(), None);
    let labels: Vec<_> = matcher.exact_labels().collect();
    assert_eq!(labels, [("k", vec!["v"])]);
    assert!(matcher.has_name_conditions(true), "c is excluded");
    assert!(matcher.has_label_conditions(Some("k")));
}

#[test]
fn login_names_are_neither_patterns_nor_uids() {
    let selection = selection(true, &["user=alice", "user!=bob", "user=17", "user=c*"]);
    let matcher = Matcher::new(&selection);
    assert_eq!(matcher.login_names().collect::<Vec<_>>(), ["alice", "bob"]);
}

/// Otherwise a search with costly patterns would hold up the others for as many rows as a cheap one.
#[test]
fn long_patterns_count_like_rows() {
    let long = format!("command={}", "*a".repeat(120));
    let cheap = selection(true, &["name=nightly", "status=failed"]);
    assert_eq!(Matcher::new(&cheap).effort(), 0);
    let costly = selection(true, &[&*long; 64]);
    assert_eq!(Matcher::new(&costly).effort(), 64 * 240 / 16 + 4);
}
