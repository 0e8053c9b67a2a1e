//! End-to-end tests of the real programs, a module per subject.
//!
//! All run in one process, in parallel. What a test may not change for others, `escher_tests` says.

mod adoption;
mod cli;
mod completions;
mod config_check;
mod configuration;
mod crash;
mod crashtest;
mod daemon_lifecycle;
mod debug_log;
mod disks;
mod doctor;
mod embedding;
mod ending;
mod exit_statuses;
mod filters;
mod following;
mod growth;
mod handshake;
mod harness;
mod history;
mod identity;
mod interrupts;
mod journal;
mod keeper;
mod keys;
mod launch_attempts;
mod launcher_versions;
mod library;
mod limits;
mod manual_pages;
mod metrics;
mod output;
mod oversized;
mod package;
mod protocol_abuse;
mod queue;
mod real_build;
mod reload;
mod resources;
mod ride_through;
mod settings;
mod start_failures;
mod stdin;
mod units;
