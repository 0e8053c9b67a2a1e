//! Records `./demo` as a picture: a terminal in which its lines appear when it prints them.
//!
//! ```text
//! cargo run -p escher-tests --bin recording >docs/images/demo.svg
//! ```
//!
//! The picture is SVG. Each line is hidden until its time, so whatever shows no animations shows the end.

use std::fmt::Write as _;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// Columns of the terminal; longer lines are folded.
const COLUMNS: usize = 100;

/// Width of a column and height of a line, in the picture's units.
const COLUMN: f64 = 7.8;
const LINE: f64 = 19.0;

/// Space around the text, and above it for the title.
const MARGIN: f64 = 16.0;
const TITLE: f64 = 34.0;

/// Pause before the first line that is shown.
const LEAD: Duration = Duration::from_millis(800);

/// A line of the terminal, and when it appeared.
struct Line {
    text: String,
    after: Duration,
}

fn main() {
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let mut demo = Command::new("./demo")
        .current_dir(workspace)
        .stdout(Stdio::piped())
        .spawn()
        .expect("./demo");
    let mut lines = vec![Line {
        text: "$ ./demo".to_owned(),
        after: Duration::ZERO,
    }];
    let mut start = None;
    for text in BufReader::new(demo.stdout.take().unwrap()).lines() {
        let text = text.expect("UTF-8");
        // How long a build takes is of no interest.
        let Some(start) = start else {
            start = Some(Instant::now());
            continue;
        };
        let after = LEAD + Instant::now().duration_since(start);
        lines.extend(fold(&text).map(|text| Line { text, after }));
    }
    assert!(demo.wait().unwrap().success());
    println!("{}", picture(&lines));
}

/// Breaks a line where the terminal does.
fn fold(text: &str) -> impl Iterator<Item = String> {
    let characters: Vec<char> = text.chars().collect();
    let mut parts: Vec<String> = characters
        .chunks(COLUMNS)
        .map(|part| part.iter().collect())
        .collect();
    if parts.is_empty() {
        parts.push(String::new());
    }
    parts.into_iter()
}

/// Returns the colour of a line.
fn colour(text: &str) -> &'static str {
    if text.starts_with("$ ") {
        "#9ece6a"
    } else if text.contains("kill -9") {
        "#f7768e"
    } else if text.starts_with("escherctl: ") {
        "#e0af68"
    } else {
        "#c0caf5"
    }
}

fn picture(lines: &[Line]) -> String {
    let width = COLUMNS as f64 * COLUMN + 2.0 * MARGIN;
    let height = lines.len() as f64 * LINE + TITLE + MARGIN;
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width:.0} {height:.0}\" \
         font-family=\"ui-monospace, Menlo, Consolas, monospace\" font-size=\"13\">\n\
         <title>escher: a command goes on while its daemon is killed</title>\n\
         <rect width=\"{width:.0}\" height=\"{height:.0}\" rx=\"8\" fill=\"#1a1b26\"/>\n"
    );
    for (x, fill) in [(18, "#f7768e"), (38, "#e0af68"), (58, "#9ece6a")] {
        let _ = writeln!(
            svg,
            "<circle cx=\"{x}\" cy=\"17\" r=\"5\" fill=\"{fill}\"/>"
        );
    }
    for (index, line) in lines.iter().enumerate() {
        if line.text.is_empty() {
            continue;
        }
        let y = TITLE + LINE * (index as f64 + 0.8);
        let (fill, text) = (colour(&line.text), escape(&line.text));
        let seconds = line.after.as_secs_f64();
        let hidden = match line.after {
            Duration::ZERO => String::new(),
            _ => format!(
                "<set attributeName=\"opacity\" to=\"0\" begin=\"0s\" dur=\"{seconds:.2}s\"/>"
            ),
        };
        let _ = writeln!(
            svg,
            "<text x=\"{MARGIN}\" y=\"{y:.1}\" fill=\"{fill}\" xml:space=\"preserve\">{text}{hidden}</text>"
        );
    }
    svg + "</svg>"
}

/// Escapes what has a meaning in XML.
fn escape(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
}
