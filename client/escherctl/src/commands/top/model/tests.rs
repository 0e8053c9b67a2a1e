use super::*;
use crate::commands::top::rows::SortKey;
use crate::commands::top::samples::{STARTED_AT, pending, running};
use escher_client::{OutputChunk, OutputStream};

fn listing(records: impl IntoIterator<Item = ExecutionRecord>) -> Update {
    Update::Listed(Listing {
        records: records.into_iter().collect(),
        is_truncated: false,
    })
}

/// A model that shows these executions, with the newest selected.
fn model(records: impl IntoIterator<Item = ExecutionRecord>) -> Model {
    let mut model = Model::new();
    model.apply(listing(records));
    model
}

fn press(model: &mut Model, key: Key) -> Vec<Effect> {
    model.apply(Update::Key(key))
}

fn id(number: u64) -> ExecutionId {
    running(number).id
}

fn numbers(model: &Model) -> Vec<u64> {
    model.rows.iter().map(|row| row.record.number).collect()
}

fn selected(model: &Model) -> Option<u64> {
    model.selected_row().map(|row| row.record.number)
}

/// Says that each execution has used so many seconds of CPU ten seconds after its start.
fn measured(seconds: &[(u64, u64)]) -> Update {
    let usage = |(number, seconds): &(u64, u64)| {
        let usage = CurrentUsage {
            user_us: Some(seconds * 1_000_000),
            system_us: Some(0),
            ..CurrentUsage::default()
        };
        (id(*number), usage)
    };
    Update::Measured(Measurement {
        usages: seconds.iter().map(usage).collect(),
        at: Timestamp::from_micros(STARTED_AT.as_micros() + 10_000_000),
    })
}

fn output(number: u64, text: &str) -> Update {
    let chunk = OutputChunk {
        stream: OutputStream::Stdout,
        offset: 0,
        time_us: 0,
        data: text.into(),
    };
    Update::Output(id(number), OutputItem::Chunk(chunk))
}

fn shown_log(model: &Model) -> Vec<String> {
    model.log.last(10).collect()
}

#[test]
fn the_selection_stays_at_its_execution_when_the_order_changes() {
    let mut model = model([running(3), running(2), pending(1)]);
    assert_eq!(
        (numbers(&model), selected(&model)),
        (vec![3, 2, 1], Some(3))
    );
    model.apply(measured(&[(2, 9), (3, 1)]));
    assert_eq!(
        (numbers(&model), selected(&model)),
        (vec![2, 3, 1], Some(3))
    );
    model.apply(listing([running(4), running(3), running(2), pending(1)]));
    assert_eq!(numbers(&model), [2, 3, 4, 1]);
    for (key, expected) in [
        (Key::Char('N'), vec![4, 3, 2, 1]),
        (Key::Char('R'), vec![1, 2, 3, 4]),
        (Key::Char('T'), vec![1, 2, 3, 4]),
        (Key::Char('I'), vec![4, 3, 2, 1]),
    ] {
        press(&mut model, key);
        assert_eq!(
            (numbers(&model), selected(&model)),
            (expected, Some(3)),
            "{key:?}"
        );
    }
    assert_eq!(model.order.by, SortKey::Time);
}

#[test]
fn the_selection_moves_within_the_table() {
    let mut model = model((1..=10).rev().map(running));
    model.page_rows = 4;
    for (key, expected) in [
        (Key::Up, 10),
        (Key::Down, 9),
        (Key::PageDown, 5),
        (Key::PageDown, 1),
        (Key::Down, 1),
        (Key::PageUp, 5),
        (Key::Home, 10),
        (Key::End, 1),
    ] {
        press(&mut model, key);
        assert_eq!(selected(&model), Some(expected), "{key:?}");
    }
    let mut nothing = Model::new();
    for key in [
        Key::Down,
        Key::End,
        Key::Char('c'),
        Key::Char('p'),
        Key::Char('l'),
    ] {
        assert_eq!(press(&mut nothing, key), []);
    }
}

#[test]
fn what_is_over_goes_unless_it_is_selected() {
    let mut model = model([running(3), running(2), running(1)]);
    assert_eq!(model.apply(listing([running(3), running(1)])), []);
    assert_eq!(numbers(&model), [3, 1]);
    let effects = model.apply(listing([running(1)]));
    assert_eq!(effects, [Effect::LookUp(id(3))]);
    assert_eq!((numbers(&model), selected(&model)), (vec![3, 1], Some(3)));
    let ended = ExecutionRecord {
        status: Status::Failed,
        ..running(3)
    };
    model.apply(Update::LookedUp(id(3), Some(Box::new(ended))));
    assert_eq!(model.selected_row().unwrap().state(), "failed");
    // It is looked up once, and cannot be acted on.
    assert_eq!(model.apply(listing([running(1)])), []);
    for key in [Key::Char('c'), Key::Char('p')] {
        assert_eq!(press(&mut model, key), []);
        assert_eq!(model.message.as_deref(), Some("3 is over"));
    }
    assert_eq!(press(&mut model, Key::Down), [Effect::Follow(Some(id(1)))]);
    assert_eq!(numbers(&model), [1]);
}

#[test]
fn what_was_removed_goes_and_the_selection_stays_at_its_place() {
    let mut model = model([running(3), running(2), running(1)]);
    press(&mut model, Key::Down);
    model.apply(listing([running(3), running(1)]));
    assert_eq!(selected(&model), Some(2));
    let effects = model.apply(Update::LookedUp(id(2), None));
    assert_eq!(effects, [Effect::Follow(Some(id(1)))]);
    assert_eq!((numbers(&model), selected(&model)), (vec![3, 1], Some(1)));
    // An answer that comes late is about nothing that is shown.
    model.apply(Update::LookedUp(id(2), Some(Box::new(running(2)))));
    assert_eq!(numbers(&model), [3, 1]);
}

#[test]
fn a_cancel_is_asked_for_and_only_y_confirms_it() {
    let mut model = model([running(2), running(1)]);
    for ask in [Key::Char('c'), Key::Char('k')] {
        for (answer, effects) in [
            (Key::Char('y'), vec![Effect::Act(Action::Cancel, id(2), 2)]),
            (Key::Char('Y'), vec![Effect::Act(Action::Cancel, id(2), 2)]),
            (Key::Char('n'), vec![]),
            (Key::Char('q'), vec![]),
            (Key::Ctrl('c'), vec![]),
            (Key::Enter, vec![]),
            (Key::Escape, vec![]),
        ] {
            assert_eq!(press(&mut model, ask), []);
            assert_eq!(model.mode, Mode::AskToCancel(id(2), 2));
            // What is asked about does not change with the order.
            model.apply(measured(&[(1, 9), (2, 1)]));
            assert_eq!(press(&mut model, answer), effects, "{answer:?}");
            assert_eq!(model.mode, Mode::Table);
        }
    }
}

#[test]
fn one_key_pauses_and_resumes() {
    let mut model = model([running(1)]);
    assert_eq!(
        press(&mut model, Key::Char('p')),
        [Effect::Act(Action::Pause, id(1), 1)]
    );
    let mut paused = running(1);
    paused.resources.paused = true;
    model.apply(listing([paused]));
    assert_eq!(
        press(&mut model, Key::Char('p')),
        [Effect::Act(Action::Resume, id(1), 1)]
    );
}

#[test]
fn the_output_of_the_selected_execution_is_followed_while_it_is_shown() {
    let mut model = Model::new();
    let effects = model.apply(listing([running(2), running(1)]));
    assert_eq!(effects, [Effect::Follow(Some(id(2)))]);
    model.apply(output(2, "two\n"));
    model.apply(output(1, "one\n"));
    assert_eq!(shown_log(&model), ["two"]);
    assert_eq!(press(&mut model, Key::Down), [Effect::Follow(Some(id(1)))]);
    assert_eq!(shown_log(&model), [""; 0]);
    model.apply(output(2, "late\n"));
    model.apply(output(1, "one\n"));
    assert_eq!(shown_log(&model), ["one"]);
    assert_eq!(press(&mut model, Key::Char('l')), [Effect::Follow(None)]);
    assert_eq!(press(&mut model, Key::Up), []);
    assert_eq!(press(&mut model, Key::Enter), [Effect::Follow(Some(id(2)))]);
}

#[test]
fn any_key_leaves_the_help() {
    let mut model = model([running(1)]);
    for key in [Key::Char('q'), Key::Escape, Key::Char('c')] {
        press(&mut model, Key::Char('?'));
        assert_eq!(model.mode, Mode::Help);
        assert_eq!(press(&mut model, key), []);
        assert_eq!(model.mode, Mode::Table);
    }
    press(&mut model, Key::F(1));
    assert_eq!(press(&mut model, Key::Ctrl('c')), [Effect::Quit]);
    for (key, effect) in [
        (Key::Char('q'), Effect::Quit),
        (Key::F(10), Effect::Quit),
        (Key::Ctrl('z'), Effect::Suspend),
        (Key::Ctrl('l'), Effect::Redraw),
    ] {
        assert_eq!(press(&mut model, key), [effect]);
    }
}

#[test]
fn a_message_stays_until_the_next_key() {
    let mut model = model([running(1)]);
    model.apply(Update::Message("1: ending".to_owned()));
    model.apply(listing([running(1)]));
    assert_eq!(model.message.as_deref(), Some("1: ending"));
    press(&mut model, Key::Char('x'));
    assert_eq!(model.message, None);
    model.apply(Update::Outage(true));
    assert!(model.is_unavailable);
    model.apply(Update::Outage(false));
    assert!(!model.is_unavailable);
}
