use std::time::Duration;

use escher_client::protocol::Exit;
use escher_tests::samples;

use super::*;
use crate::args::color::ColorChoice;

fn shown(
    records: &[ExecutionRecord],
    columns: &[Column],
    choice: ColorChoice,
    width: Option<usize>,
) -> String {
    let now = records[0]
        .submitted_at
        .saturating_add(Duration::from_secs(62));
    let mut view = View::plain(now);
    view.style.has_color = choice == ColorChoice::Always;
    let list = ListView {
        columns,
        is_truncated: true,
        view: &view,
    };
    as_table(records, &list, width)
}

#[test]
fn without_a_terminal_nothing_is_truncated() {
    let mut record = samples::running_execution();
    record.name = Some("a\x1b[31m".into());
    let id = record.id.to_string();
    let shown = shown(&[record], &[], ColorChoice::Never, None);
    let lines: Vec<&str> = shown.lines().collect();
    assert_eq!(lines.len(), 2, "{shown}");
    assert!(lines[0].starts_with("NUMBER  ID "), "{shown}");
    assert!(lines[1].contains(&id[28..]), "{shown}");
    assert!(lines[1].contains(r"a\x1b[31m"), "{shown}");
    assert!(lines[1].contains("  1m  "), "{shown}");
    assert!(lines[1].ends_with("echo 'hello world'"), "{shown}");
}

#[test]
fn a_line_never_exceeds_the_terminal() {
    let mut record = samples::running_execution();
    record.name = Some("nächtliche-sicherung-der-datenbanken".into());
    for width in [40, 60, 80, 100, 140] {
        let shown = shown(
            std::slice::from_ref(&record),
            &[],
            ColorChoice::Never,
            Some(width),
        );
        let lines: Vec<&str> = shown.lines().collect();
        assert_eq!(lines.len(), 2, "{width}: {shown}");
        for line in lines {
            assert!(line.chars().count() <= width, "{width}: {shown}");
        }
    }
}

#[test]
fn a_paused_command_is_not_shown_as_running() {
    let mut record = samples::running_execution();
    let table = |record| shown(&[record], &[], ColorChoice::Never, None);
    assert!(table(record.clone()).contains("  running  "));
    record.resources.paused = true;
    let shown = table(record);
    assert!(
        shown.contains("  paused  ") && !shown.contains("running"),
        "{shown}"
    );
}

#[test]
fn the_exit_status_or_the_signal_is_shown() {
    let columns = [Column::Status, Column::Exit];
    let killed = Exit::Signal {
        signal: 11,
        core_dumped: true,
    };
    for (exit, expected) in [
        (Exit::Code(3), "STATUS  EXIT\nfailed  3\n"),
        (killed, "STATUS  EXIT\nfailed  SIGSEGV\n"),
        (Exit::Unknown, "STATUS  EXIT\nfailed  -\n"),
    ] {
        let record = samples::finished_execution(Status::Failed, exit, None, None);
        assert_eq!(
            shown(&[record], &columns, ColorChoice::Never, None),
            expected
        );
    }
}

#[test]
fn a_colour_says_nothing_that_the_text_does_not() {
    let record = samples::finished_execution(Status::Failed, Exit::Code(1), None, None);
    let coloured = shown(
        std::slice::from_ref(&record),
        &[],
        ColorChoice::Always,
        None,
    );
    assert!(coloured.contains("\x1b["), "{coloured:?}");
    assert!(coloured.contains("failed"), "{coloured}");
    let plain = shown(&[record], &[], ColorChoice::Never, None);
    assert!(!plain.contains('\x1b'), "{plain:?}");
}

#[test]
fn csv_has_the_names_of_the_columns_and_no_dashes() {
    let mut record = samples::running_execution();
    record.labels = vec![("a".into(), "b,c".into())];
    let columns = [Column::Number, Column::Exit, Column::Labels];
    let number = record.number;
    let view = View::plain(record.submitted_at);
    let list = ListView {
        columns: &columns,
        is_truncated: false,
        view: &view,
    };
    assert_eq!(
        as_csv(&[record], &list),
        format!("number,exit,labels\n{number},,\"a=b,c\"\n")
    );
}

#[test]
fn what_has_no_value_is_sorted_last_in_both_orders() {
    let named = |number, name: Option<&str>| {
        let mut record = samples::running_execution();
        record.number = number;
        record.name = name.map(Into::into);
        record
    };
    let now = samples::running_execution().submitted_at;
    let order = |key: &str| {
        let mut records = [named(1, Some("b")), named(2, None), named(10, Some("a"))];
        sort(&mut records, key.parse().unwrap(), now);
        records.map(|record| record.number)
    };
    assert_eq!(order("name"), [10, 1, 2]);
    assert_eq!(order("-name"), [1, 10, 2]);
    assert_eq!(order("number"), [1, 2, 10]);
}
