//! What the scheduler counts, from its beginning on. See [`crate::metrics`].

use std::sync::atomic::AtomicU64;
use std::time::Duration;

use escher_protocol::{
    ApiError, ErrorCode, ExecutionRecord, Exit, Outcome, OutputStream, Status, Timestamp,
};
use nix::sys::signal::Signal;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Registry, Unit};

use crate::metrics::{moments, spans};

/// The usual ends. They are there from the first moment on: of a figure that was not there before, nobody can
/// tell that it has grown.
const USUAL_ENDS: [(Status, Option<ErrorCode>); 6] = [
    (Status::Completed, None),
    (Status::Failed, Some(ErrorCode::EXIT_STATUS)),
    (Status::Failed, Some(ErrorCode::OOM_KILLED)),
    (Status::Cancelled, Some(ErrorCode::CANCELLED)),
    (Status::Timeout, Some(ErrorCode::TIMED_OUT)),
    (Status::Lost, Some(ErrorCode::LOST)),
];

/// The figures. Clones share them.
#[derive(Debug, Clone)]
pub(crate) struct Figures {
    since: Gauge<f64, AtomicU64>,
    submitted: Counter,
    refused: Family<Refusal, Counter>,
    adopted: Counter,
    queue_wait: Histogram,
    launch: Histogram,
    run: Histogram,
    finished: Family<End, Counter>,
    kills: Family<Kill, Counter>,
    output: Family<Stream, Counter>,
    dropped: Counter,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Refusal {
    error: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct End {
    status: &'static str,
    /// Empty, which is as good as no label, where there is none.
    error: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Kill {
    /// `escher`: by the kill ladder. `other`: by anybody or anything else.
    by: &'static str,
    signal: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Stream {
    stream: &'static str,
}

impl Figures {
    /// All zero, since now.
    pub(super) fn new() -> Self {
        let figures = Figures {
            since: Gauge::default(),
            submitted: Counter::default(),
            refused: Family::default(),
            adopted: Counter::default(),
            queue_wait: spans(),
            launch: moments(),
            run: spans(),
            finished: Family::default(),
            kills: Family::default(),
            output: Family::default(),
            dropped: Counter::default(),
        };
        figures.since.set(seconds(Timestamp::now()));
        for (status, error) in USUAL_ENDS {
            drop(figures.finished.get_or_create(&End::new(status, error)));
        }
        for stream in [OutputStream::Stdout, OutputStream::Stderr] {
            drop(figures.output.get_or_create(&Stream::of(stream)));
        }
        figures
    }

    /// An execution was taken on.
    pub(super) fn submitted(&self) {
        self.submitted.inc();
    }

    /// An execution was not taken on.
    pub(crate) fn refused(&self, error: &ApiError) {
        let error = code_name(error.code);
        self.refused.get_or_create(&Refusal { error }).inc();
    }

    /// A command of an earlier escherd was taken over.
    pub(super) fn adopted(&self) {
        self.adopted.inc();
    }

    /// An execution goes to a shim after it has waited for so long.
    pub(super) fn launches(&self, waited: Duration) {
        self.queue_wait.observe(waited.as_secs_f64());
    }

    /// Its program runs, so long after.
    pub(super) fn launched(&self, took: Duration) {
        self.launch.observe(took.as_secs_f64());
    }

    /// An execution is over.
    pub(super) fn finished(&self, record: &ExecutionRecord) {
        let outcome = record.outcome.as_ref();
        let error = outcome.and_then(|outcome| outcome.error.as_ref());
        let end = End::new(record.status, error.map(|error| error.code));
        self.finished.get_or_create(&end).inc();
        if let Some(outcome) = outcome {
            // How long a lost one has run, nobody knows.
            if record.started_at.is_some() && record.status != Status::Lost {
                let ran = Duration::from_micros(outcome.duration_us);
                self.run.observe(ran.as_secs_f64());
            }
            self.killed(outcome);
            self.wrote(outcome);
        }
    }

    fn killed(&self, outcome: &Outcome) {
        let (by, signal) = match (outcome.ended_by_signal, outcome.exit) {
            (Some(signal), _) => ("escher", signal),
            (None, Exit::Signal { signal, .. }) => ("other", signal),
            (None, _) => return,
        };
        // Real-time signals have no names of their own.
        let signal = Signal::try_from(signal).map_or("SIGRT", Signal::as_str);
        self.kills.get_or_create(&Kill { by, signal }).inc();
    }

    fn wrote(&self, outcome: &Outcome) {
        let output = outcome.output;
        for (stream, bytes) in [
            (OutputStream::Stdout, output.stdout_bytes),
            (OutputStream::Stderr, output.stderr_bytes),
        ] {
            let stream = Stream::of(stream);
            self.output.get_or_create(&stream).inc_by(bytes);
        }
        self.dropped.inc_by(output.dropped_bytes);
    }

    /// Adds them to what is told.
    pub(crate) fn register(&self, registry: &mut Registry) {
        registry.register_with_unit(
            "start_time",
            "When escherd began to count, since 1970-01-01 UTC",
            Unit::Seconds,
            self.since.clone(),
        );
        registry.register(
            "executions_submitted",
            "Executions that were taken on",
            self.submitted.clone(),
        );
        registry.register(
            "submissions_refused",
            "Requests to run a command that were refused, by the error's code",
            self.refused.clone(),
        );
        registry.register(
            "executions_adopted",
            "Running commands of an earlier escherd that were taken over",
            self.adopted.clone(),
        );
        registry.register_with_unit(
            "queue_wait",
            "From an execution's submission, or escherd's start, until it went to a shim",
            Unit::Seconds,
            self.queue_wait.clone(),
        );
        registry.register_with_unit(
            "launch_latency",
            "From going to a shim until the program was known to run",
            Unit::Seconds,
            self.launch.clone(),
        );
        registry.register_with_unit(
            "run_duration",
            "How long commands have run, at their ends",
            Unit::Seconds,
            self.run.clone(),
        );
        registry.register(
            "executions_finished",
            "Executions that are over, by final state and the error's code",
            self.finished.clone(),
        );
        registry.register(
            "kills",
            "Commands ended by a signal, by whose it was and the last one",
            self.kills.clone(),
        );
        registry.register_with_unit(
            "output",
            "What commands have written, at their ends",
            Unit::Bytes,
            self.output.clone(),
        );
        registry.register_with_unit(
            "output_dropped",
            "What commands have written that is in no log, at their ends",
            Unit::Bytes,
            self.dropped.clone(),
        );
    }
}

impl End {
    fn new(status: Status, error: Option<ErrorCode>) -> Self {
        End {
            status: status.name(),
            error: error.map_or("", code_name),
        }
    }
}

impl Stream {
    fn of(stream: OutputStream) -> Self {
        let stream = stream.name();
        Stream { stream }
    }
}

fn code_name(code: ErrorCode) -> &'static str {
    code.name().unwrap_or("unknown")
}

#[expect(clippy::cast_precision_loss, reason = "good for centuries")]
fn seconds(time: Timestamp) -> f64 {
    time.as_micros() as f64 / 1e6
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics;

    fn text(figures: &Figures) -> String {
        let mut registry = metrics::registry();
        figures.register(&mut registry);
        metrics::text(&registry).unwrap()
    }

    fn outcome(exit: Exit, ended_by_signal: Option<i32>) -> Outcome {
        Outcome {
            exit,
            error: None,
            ended_by_signal,
            duration_us: 0,
            usage: escher_protocol::Usage::default(),
            output: escher_protocol::OutputTotals::default(),
            leftovers: escher_protocol::Leftovers::None,
        }
    }

    #[test]
    fn a_signal_of_the_ladder_is_eschers_whatever_came_of_it() {
        let figures = Figures::new();
        let died = |signal| Exit::Signal {
            signal,
            core_dumped: false,
        };
        figures.killed(&outcome(Exit::Code(0), Some(15)));
        figures.killed(&outcome(died(9), Some(9)));
        figures.killed(&outcome(died(11), None));
        figures.killed(&outcome(died(40), None));
        figures.killed(&outcome(Exit::Code(3), None));
        let text = text(&figures);
        let kills = text.lines().filter(|line| line.contains("kills_total"));
        assert_eq!(kills.count(), 4);
        for line in [
            r#"escher_kills_total{by="escher",signal="SIGTERM"} 1"#,
            r#"escher_kills_total{by="escher",signal="SIGKILL"} 1"#,
            r#"escher_kills_total{by="other",signal="SIGSEGV"} 1"#,
            r#"escher_kills_total{by="other",signal="SIGRT"} 1"#,
        ] {
            assert!(text.contains(line), "{line}\n{text}");
        }
    }

    #[test]
    fn the_usual_ends_are_there_before_anything_has_ended() {
        let text = text(&Figures::new());
        for (status, error) in USUAL_ENDS {
            let End { status, error } = End::new(status, error);
            let line = format!(
                r#"escher_executions_finished_total{{status="{status}",error="{error}"}} 0"#
            );
            assert!(text.contains(&line), "{line}\n{text}");
        }
    }
}
