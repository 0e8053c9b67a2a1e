use super::*;
use crate::commands::top::keys::Key;
use crate::commands::top::model::{Listing, Measurement, Update};
use crate::commands::top::samples::{STARTED_AT, pending, running};
use escher_client::{CurrentUsage, ExecutionRecord, OutputChunk, OutputItem, OutputStream};
use ratatui::Terminal;
use ratatui::backend::TestBackend;

const COLORS: Palette = Palette { has_colors: true };

/// Three executions, of which two run, ten seconds after their start.
fn model() -> Model {
    let import = ExecutionRecord {
        name: Some("nightly-import".into()),
        ..running(17)
    };
    let mut paused = running(18);
    paused.resources.paused = true;
    paused.user.uid = 1001;
    let mut model = Model::new();
    model.apply(Update::Listed(Listing {
        records: vec![pending(20), paused, import],
        is_truncated: false,
    }));
    let usage = |user_us, memory_bytes, io_written_bytes| CurrentUsage {
        memory_bytes: Some(memory_bytes),
        tasks: Some(3),
        user_us: Some(user_us),
        system_us: Some(0),
        io_read_bytes: Some(0),
        io_written_bytes: Some(io_written_bytes),
    };
    let usages = [
        (running(17).id, usage(15_030_000, 300 << 20, 45 << 20)),
        (running(18).id, usage(0, 4096, 0)),
    ];
    model.apply(Update::Measured(Measurement {
        usages: usages.into(),
        at: now(),
    }));
    press(&mut model, Key::Home);
    let output = OutputChunk {
        stream: OutputStream::Stdout,
        offset: 0,
        time_us: 0,
        data: "row 1\nrow 2 \x1b[2J\n".into(),
    };
    model.apply(Update::Output(running(17).id, OutputItem::Chunk(output)));
    model
}

fn press(model: &mut Model, key: Key) {
    model.apply(Update::Key(key));
}

fn now() -> Timestamp {
    Timestamp::from_micros(STARTED_AT.as_micros() + 10_000_000)
}

fn drawn(model: &Model, width: u16, height: u16, palette: Palette) -> Buffer {
    let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
    let draw_frame = |frame: &mut ratatui::Frame| draw(frame.buffer_mut(), model, now(), palette);
    terminal.draw(draw_frame).unwrap();
    terminal.backend().buffer().clone()
}

/// Returns the lines of a screen, without the blanks at their ends.
fn lines(model: &Model, width: u16, height: u16) -> Vec<String> {
    let buffer = drawn(model, width, height, COLORS);
    let symbols: Vec<&str> = buffer
        .content()
        .iter()
        .map(ratatui::buffer::Cell::symbol)
        .collect();
    let lines = symbols.chunks(width.into());
    lines
        .map(|line| line.concat().trim_end().to_owned())
        .collect()
}

#[test]
fn sixty_columns_have_what_identifies_an_execution_and_what_it_takes() {
    assert_eq!(
        lines(&model(), 60, 14),
        [
            "2 running, 1 pending  CPU 150.3%  memory 300.0 MiB  by CPU",
            "  NUMBER STATUS      CPU%     MEMORY    TIME COMMAND",
            ">     17 running    150.3  300.0 MiB     10s sleep 17",
            "      18 paused       0.0    4.0 KiB     10s sleep 18",
            "      20 pending        -          -       - sleep 20",
            "-- output of 17 (nightly-import) ---------------------------",
            "row 1",
            r"row 2 \x1b[2J",
            "",
            "",
            "",
            "",
            "",
            "q quit  ? help  c cancel  p pause  l output  P M T D N sort",
        ]
    );
}

#[test]
fn a_hundred_columns_have_disk_io_and_the_name_too() {
    assert_eq!(
        lines(&model(), 100, 14)[..5],
        [
            "2 running, 1 pending  CPU 150.3%  memory 300.0 MiB  by CPU",
            "  NUMBER NAME           STATUS      CPU%     MEMORY     READ/S    WRITE/S TASKS    TIME COMMAND",
            ">     17 nightly-import running    150.3  300.0 MiB    0 bytes    4.5 MiB     3     10s sleep 17",
            "      18 -              paused       0.0    4.0 KiB    0 bytes    0 bytes     3     10s sleep 18",
            "      20 -              pending        -          -          -          -     -       - sleep 20",
        ]
    );
}

#[test]
fn a_hundred_and_forty_columns_have_everything() {
    let lines = lines(&model(), 140, 14);
    assert_eq!(
        lines[1..3],
        [
            "  NUMBER NAME           USER STATUS      CPU%     MEMORY     READ/S    WRITE/S TASKS    TIME COMMAND",
            ">     17 nightly-import 1000 running    150.3  300.0 MiB    0 bytes    4.5 MiB     3     10s sleep 17",
        ]
    );
    assert!(lines[5].ends_with("---"), "{lines:?}");
    assert_eq!(lines[13], HINTS);
}

#[test]
fn a_state_has_a_colour_unless_colours_are_off_and_the_selected_row_a_marker() {
    let has_color = |palette| {
        let buffer = drawn(&model(), 60, 14, palette);
        buffer.content().iter().any(|cell| cell.fg != Color::Reset)
    };
    assert!(has_color(COLORS));
    let colorless = Palette { has_colors: false };
    assert!(!has_color(colorless));
    let buffer = drawn(&model(), 60, 14, COLORS);
    // The word `running`, and nothing beside it.
    let colored = |y: u16| -> Vec<u16> {
        let cells = (0..60).filter(|x| buffer[(*x, y)].fg != Color::Reset);
        cells.collect()
    };
    assert_eq!(colored(2), (9..18).collect::<Vec<_>>());
    assert_eq!(colored(4), [0; 0]);
}

#[test]
fn the_page_of_the_selected_row_is_shown() {
    let mut model = Model::new();
    model.apply(Update::Listed(Listing {
        records: (1..=9).map(running).collect(),
        is_truncated: true,
    }));
    press(&mut model, Key::Char('l'));
    let area = Rect::new(0, 0, 60, 7);
    assert_eq!(page_rows(area, &model), 4);
    let first_words = |model: &Model| -> Vec<String> {
        let lines = lines(model, 60, 7);
        let rows = lines[2..6].iter().map(|line| line[..8].to_owned());
        rows.collect()
    };
    assert!(lines(&model, 60, 7)[0].starts_with("9 running, 0 pending (and more)"));
    assert_eq!(
        first_words(&model),
        [">      9", "       8", "       7", "       6"]
    );
    for _ in 0..4 {
        press(&mut model, Key::Down);
    }
    assert_eq!(
        first_words(&model),
        [">      5", "       4", "       3", "       2"]
    );
    press(&mut model, Key::End);
    assert_eq!(
        lines(&model, 60, 7)[2],
        ">      1 running        -          -     10s sleep 1"
    );
}

#[test]
fn the_output_has_a_third_of_the_screen_and_what_the_rows_leave() {
    let area = |height| Rect::new(0, 0, 60, height);
    for (height, rows, shows_log, table, log) in [
        (24, 3, true, 4, 18),
        (24, 100, true, 14, 8),
        (24, 100, false, 22, 0),
        (12, 0, true, 2, 8),
        (12, 100, true, 6, 4),
        (11, 3, true, 9, 0),
        (2, 3, true, 0, 0),
        (0, 3, true, 0, 0),
    ] {
        let layout = Layout::new(area(height), rows, shows_log);
        let heights = (layout.table.height, layout.log.height);
        assert_eq!(heights, (table, log), "{height} {rows} {shows_log}");
    }
}

#[test]
fn every_size_can_be_drawn() {
    let mut model = model();
    for key in ["?", "c", "x"] {
        press(&mut model, Key::Char(key.chars().next().unwrap()));
        for (width, height) in [(1, 1), (1, 50), (2, 2), (8, 3), (300, 12), (20, 100)] {
            let _ = drawn(&model, width, height, COLORS);
        }
    }
}

#[test]
fn an_outage_a_question_and_a_message_are_said() {
    let mut model = model();
    press(&mut model, Key::Char('c'));
    assert_eq!(lines(&model, 60, 14)[13], "cancel 17? y/n: sleep 17");
    model.apply(Update::Outage(true));
    assert_eq!(
        lines(&model, 60, 14)[0],
        "escherd is unavailable: waiting for it, figures are old"
    );
    press(&mut model, Key::Char('n'));
    assert_eq!(lines(&model, 60, 14)[13], "not cancelled");
    model.apply(Update::Message("a\x1b[2J".to_owned()));
    assert_eq!(lines(&model, 60, 14)[13], r"a\x1b[2J");
    let mut nothing = Model::new();
    assert_eq!(lines(&nothing, 60, 14)[0], "asking escherd");
    assert_eq!(lines(&nothing, 60, 14)[2], "");
    nothing.apply(Update::Listed(Listing::default()));
    assert_eq!(lines(&nothing, 60, 14)[0], "0 running, 0 pending  by CPU");
    assert_eq!(lines(&nothing, 60, 14)[2], "  nothing runs or waits");
}

#[test]
fn the_help_names_every_key() {
    let mut model = model();
    press(&mut model, Key::Char('?'));
    let lines = lines(&model, 60, 24);
    assert_eq!(lines[1], "Keys (any key leaves this help)");
    for (line, binding) in lines[3..].iter().zip(BINDINGS) {
        assert!(
            line.starts_with(&format!("  {}", binding.shown_keys)),
            "{lines:?}"
        );
        assert!(line.ends_with(binding.description), "{lines:?}");
    }
}
