//! Metrics of the scheduler, counted from its start. See [`crate::metrics`].

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

use crate::metrics::{long_durations, short_durations};

/// Common outcomes, whose counters exist from the start: an increase of a counter that did not exist before goes
/// unnoticed by a query for a rate.
const COMMON_OUTCOMES: [(Status, Option<ErrorCode>); 6] = [
    (Status::Completed, None),
    (Status::Failed, Some(ErrorCode::EXIT_STATUS)),
    (Status::Failed, Some(ErrorCode::OOM_KILLED)),
    (Status::Cancelled, Some(ErrorCode::CANCELLED)),
    (Status::Timeout, Some(ErrorCode::TIMED_OUT)),
    (Status::Lost, Some(ErrorCode::LOST)),
];

/// The counters. Clones share them.
#[derive(Debug, Clone)]
pub(crate) struct SchedulerMetrics {
    since: Gauge<f64, AtomicU64>,
    submitted: Counter,
    refused: Family<RefusalLabels, Counter>,
    adopted: Counter,
    queue_wait: Histogram,
    launch: Histogram,
    run: Histogram,
    finished: Family<FinishedLabels, Counter>,
    kills: Family<Kill, Counter>,
    output: Family<Stream, Counter>,
    dropped: Counter,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RefusalLabels {
    error: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct FinishedLabels {
    status: &'static str,
    /// Empty, which equals no label, if there is no error.
    error: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Kill {
    /// `escher`: the kill ladder. `other`: anything else.
    by: &'static str,
    signal: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Stream {
    stream: &'static str,
}

impl SchedulerMetrics {
    /// Creates counters at zero, starting now.
    pub(super) fn new() -> Self {
        let counters = SchedulerMetrics {
            since: Gauge::default(),
            submitted: Counter::default(),
            refused: Family::default(),
            adopted: Counter::default(),
            queue_wait: long_durations(),
            launch: short_durations(),
            run: long_durations(),
            finished: Family::default(),
            kills: Family::default(),
            output: Family::default(),
            dropped: Counter::default(),
        };
        counters.since.set(seconds(Timestamp::now()));
        for (status, error) in COMMON_OUTCOMES {
            drop(
                counters
                    .finished
                    .get_or_create(&FinishedLabels::new(status, error)),
            );
        }
        for stream in [OutputStream::Stdout, OutputStream::Stderr] {
            drop(counters.output.get_or_create(&Stream::new(stream)));
        }
        counters
    }

    /// Counts an accepted submission.
    pub(super) fn count_submitted(&self) {
        self.submitted.inc();
    }

    /// Counts a refused submission.
    pub(crate) fn count_refused(&self, error: &ApiError) {
        let error = code_name(error.code);
        self.refused.get_or_create(&RefusalLabels { error }).inc();
    }

    /// Counts the adoption of a command of an earlier escherd.
    pub(super) fn count_adopted(&self) {
        self.adopted.inc();
    }

    /// Records how long an execution was queued.
    pub(super) fn observe_queue_wait(&self, waited: Duration) {
        self.queue_wait.observe(waited.as_secs_f64());
    }

    /// Records how long a launch took.
    pub(super) fn observe_launch(&self, took: Duration) {
        self.launch.observe(took.as_secs_f64());
    }

    /// Counts a finished execution.
    pub(super) fn count_finished(&self, record: &ExecutionRecord) {
        let outcome = record.outcome.as_ref();
        let error = outcome.and_then(|outcome| outcome.error.as_ref());
        let labels = FinishedLabels::new(record.status, error.map(|error| error.code));
        self.finished.get_or_create(&labels).inc();
        if let Some(outcome) = outcome {
            // The run time of a lost execution is unknown.
            if record.started_at.is_some() && record.status != Status::Lost {
                let ran = Duration::from_micros(outcome.duration_us);
                self.run.observe(ran.as_secs_f64());
            }
            self.count_kill(outcome);
            self.count_output(outcome);
        }
    }

    fn count_kill(&self, outcome: &Outcome) {
        let (by, signal) = match (outcome.ended_by_signal, outcome.exit) {
            (Some(signal), _) => ("escher", signal),
            (None, Exit::Signal { signal, .. }) => ("other", signal),
            (None, _) => return,
        };
        // Real-time signals have no names of their own.
        let signal = Signal::try_from(signal).map_or("SIGRT", Signal::as_str);
        self.kills.get_or_create(&Kill { by, signal }).inc();
    }

    fn count_output(&self, outcome: &Outcome) {
        let output = outcome.output;
        for (stream, bytes) in [
            (OutputStream::Stdout, output.stdout_bytes),
            (OutputStream::Stderr, output.stderr_bytes),
        ] {
            let stream = Stream::new(stream);
            self.output.get_or_create(&stream).inc_by(bytes);
        }
        self.dropped.inc_by(output.dropped_bytes);
    }

    /// Registers the counters.
    pub(crate) fn register(&self, registry: &mut Registry) {
        registry.register_with_unit(
            "start_time",
            "Start time of escherd, in seconds since 1970-01-01 UTC",
            Unit::Seconds,
            self.since.clone(),
        );
        registry.register(
            "executions_submitted",
            "Accepted executions",
            self.submitted.clone(),
        );
        registry.register(
            "submissions_refused",
            "Refused submissions, by error code",
            self.refused.clone(),
        );
        registry.register(
            "executions_adopted",
            "Commands of an earlier escherd that were adopted",
            self.adopted.clone(),
        );
        registry.register_with_unit(
            "queue_wait",
            "Time from submission, or the start of escherd, to launch",
            Unit::Seconds,
            self.queue_wait.clone(),
        );
        registry.register_with_unit(
            "launch_latency",
            "Time from launch to the report that the program runs",
            Unit::Seconds,
            self.launch.clone(),
        );
        registry.register_with_unit(
            "run_duration",
            "Run time of finished commands",
            Unit::Seconds,
            self.run.clone(),
        );
        registry.register(
            "executions_finished",
            "Finished executions, by final state and error code",
            self.finished.clone(),
        );
        registry.register(
            "kills",
            "Commands ended by a signal, by sender and last signal",
            self.kills.clone(),
        );
        registry.register_with_unit(
            "output",
            "Bytes written by finished commands",
            Unit::Bytes,
            self.output.clone(),
        );
        registry.register_with_unit(
            "output_dropped",
            "Bytes written by finished commands that are in no log",
            Unit::Bytes,
            self.dropped.clone(),
        );
    }
}

impl FinishedLabels {
    fn new(status: Status, error: Option<ErrorCode>) -> Self {
        FinishedLabels {
            status: status.name(),
            error: error.map_or("", code_name),
        }
    }
}

impl Stream {
    fn new(stream: OutputStream) -> Self {
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

    fn text(counters: &SchedulerMetrics) -> String {
        let mut registry = metrics::registry();
        counters.register(&mut registry);
        metrics::encode_text(&registry).unwrap()
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
    fn a_signal_of_the_kill_ladder_is_counted_as_eschers() {
        let counters = SchedulerMetrics::new();
        let died = |signal| Exit::Signal {
            signal,
            core_dumped: false,
        };
        counters.count_kill(&outcome(Exit::Code(0), Some(15)));
        counters.count_kill(&outcome(died(9), Some(9)));
        counters.count_kill(&outcome(died(11), None));
        counters.count_kill(&outcome(died(40), None));
        counters.count_kill(&outcome(Exit::Code(3), None));
        let text = text(&counters);
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
    fn counters_of_common_outcomes_exist_from_the_start() {
        let text = text(&SchedulerMetrics::new());
        for (status, error) in COMMON_OUTCOMES {
            let FinishedLabels { status, error } = FinishedLabels::new(status, error);
            let line = format!(
                r#"escher_executions_finished_total{{status="{status}",error="{error}"}} 0"#
            );
            assert!(text.contains(&line), "{line}\n{text}");
        }
    }
}
