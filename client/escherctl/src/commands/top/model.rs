//! What `top` shows, and how it changes: without input, output or a clock.

use std::collections::HashMap;

use escher_client::{CurrentUsage, ExecutionId, ExecutionRecord, OutputItem, Status, Timestamp};

use super::bindings::{Command, Movement, command_of};
use super::keys::Key;
use super::log_tail::LogTail;
use super::rows::{Order, Row};

/// Something that has happened.
#[derive(Debug)]
pub(super) enum Update {
    /// The executions that run and wait.
    Listed(Listing),
    /// What the running ones use.
    Measured(Measurement),
    /// What became of an execution that is not listed any more; `None`: it was removed.
    LookedUp(ExecutionId, Option<Box<ExecutionRecord>>),
    /// Output of an execution.
    Output(ExecutionId, OutputItem),
    /// escherd is unavailable, or available again.
    Outage(bool),
    /// Something to tell: what an action has done, or why it has not.
    Message(String),
    Key(Key),
}

/// The executions that run and wait.
#[derive(Debug, Default)]
pub(super) struct Listing {
    pub(super) records: Vec<ExecutionRecord>,
    /// Whether there are more of them than are shown.
    pub(super) is_truncated: bool,
}

/// What running executions use at a time.
#[derive(Debug)]
pub(super) struct Measurement {
    pub(super) usages: HashMap<ExecutionId, CurrentUsage>,
    pub(super) at: Timestamp,
}

/// Something that the model wants done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Effect {
    /// Follow the output of this execution in place of another.
    Follow(Option<ExecutionId>),
    /// Find out what became of an execution.
    LookUp(ExecutionId),
    /// Do something to an execution, which people know by its number.
    Act(Action, ExecutionId, u64),
    /// Draw on a screen of which nothing is known.
    Redraw,
    Suspend,
    Quit,
}

/// What can be done to an execution.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Action {
    Cancel,
    Pause,
    Resume,
}

/// What takes the keys.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) enum Mode {
    #[default]
    Table,
    /// Any key leaves it.
    Help,
    /// Only `y` cancels the execution with this number.
    AskToCancel(ExecutionId, u64),
}

/// Everything that the screen depends on, besides its size and the time.
#[derive(Debug)]
pub(super) struct Model {
    /// In the order in which they are shown.
    pub(super) rows: Vec<Row>,
    pub(super) order: Order,
    /// The selected row, if there is any row.
    pub(super) selected: usize,
    pub(super) mode: Mode,
    /// Whether the output of the selected execution is shown, where there is room.
    pub(super) shows_log: bool,
    pub(super) log: LogTail,
    /// Until the next key.
    pub(super) message: Option<String>,
    pub(super) is_unavailable: bool,
    pub(super) is_truncated: bool,
    /// Whether escherd has answered.
    pub(super) is_listed: bool,
    /// How many rows a page has, as of the last drawing.
    pub(super) page_rows: usize,
    followed: Option<ExecutionId>,
}

impl Model {
    pub(super) fn new() -> Self {
        Model {
            rows: Vec::new(),
            order: Order::default(),
            selected: 0,
            mode: Mode::Table,
            shows_log: true,
            log: LogTail::default(),
            message: None,
            is_unavailable: false,
            is_truncated: false,
            is_listed: false,
            page_rows: 1,
            followed: None,
        }
    }

    /// Applies what has happened. Returns what is to be done about it.
    pub(super) fn apply(&mut self, update: Update) -> Vec<Effect> {
        let mut effects = match update {
            Update::Listed(listing) => self.list(listing),
            Update::Measured(measurement) => self.measure(&measurement),
            Update::LookedUp(id, record) => self.replace(id, record),
            Update::Output(id, item) => {
                // Output of the execution that was selected before may still arrive.
                if self.followed == Some(id) {
                    self.log.add(&item);
                }
                Vec::new()
            }
            Update::Outage(is_unavailable) => {
                self.is_unavailable = is_unavailable;
                Vec::new()
            }
            Update::Message(message) => {
                self.message = Some(message);
                Vec::new()
            }
            Update::Key(key) => self.press(key),
        };
        effects.extend(self.follow());
        effects
    }

    /// Returns the selected row.
    pub(super) fn selected_row(&self) -> Option<&Row> {
        self.rows.get(self.selected)
    }

    fn selected_id(&self) -> Option<ExecutionId> {
        self.selected_row().map(|row| row.record.id)
    }

    fn find(&mut self, id: ExecutionId) -> Option<&mut Row> {
        self.rows.iter_mut().find(|row| row.record.id == id)
    }

    /// Takes what runs and waits. An execution that is over goes, unless it is selected: then it stays until another
    /// is, so that its end and its last output can be seen.
    fn list(&mut self, listing: Listing) -> Vec<Effect> {
        self.is_listed = true;
        self.is_truncated = listing.is_truncated;
        let selected = self.selected_id();
        let mut earlier: HashMap<ExecutionId, Row> = self
            .rows
            .drain(..)
            .map(|row| (row.record.id, row))
            .collect();
        for record in listing.records {
            let row = match earlier.remove(&record.id) {
                Some(mut row) => {
                    row.update(record);
                    row
                }
                None => Row::new(record),
            };
            self.rows.push(row);
        }
        let mut effects = Vec::new();
        if let Some(over) = selected.and_then(|id| earlier.remove(&id)) {
            if !over.record.status.is_finished() {
                effects.push(Effect::LookUp(over.record.id));
            }
            self.rows.push(over);
        }
        self.sort(selected);
        effects
    }

    fn measure(&mut self, measurement: &Measurement) -> Vec<Effect> {
        let selected = self.selected_id();
        for row in &mut self.rows {
            if row.record.status == Status::Running
                && let Some(usage) = measurement.usages.get(&row.record.id)
            {
                row.measure(*usage, measurement.at);
            }
        }
        self.sort(selected);
        Vec::new()
    }

    fn replace(&mut self, id: ExecutionId, record: Option<Box<ExecutionRecord>>) -> Vec<Effect> {
        match (self.find(id), record) {
            (Some(row), Some(record)) => row.update(*record),
            (Some(_), None) => {
                self.rows.retain(|row| row.record.id != id);
                self.sort(None);
            }
            (None, _) => {}
        }
        Vec::new()
    }

    /// Sorts the rows. The selection stays at its execution, and at its place if that is gone.
    fn sort(&mut self, selected: Option<ExecutionId>) {
        self.order.sort(&mut self.rows);
        let place = selected.and_then(|id| self.rows.iter().position(|row| row.record.id == id));
        self.selected = place.unwrap_or(self.selected);
        self.selected = self.selected.min(self.rows.len().saturating_sub(1));
    }

    fn press(&mut self, key: Key) -> Vec<Effect> {
        self.message = None;
        match std::mem::take(&mut self.mode) {
            Mode::Table => command_of(key).map_or_else(Vec::new, |command| self.perform(command)),
            Mode::Help if key == Key::Ctrl('c') => vec![Effect::Quit],
            Mode::Help => Vec::new(),
            Mode::AskToCancel(id, number) if matches!(key, Key::Char('y' | 'Y')) => {
                vec![Effect::Act(Action::Cancel, id, number)]
            }
            Mode::AskToCancel(..) => {
                self.message = Some("not cancelled".to_owned());
                Vec::new()
            }
        }
    }

    fn perform(&mut self, command: Command) -> Vec<Effect> {
        match command {
            Command::Select(movement) => self.select(movement),
            Command::Cancel => {
                if let Some(record) = self.record_to_act_on() {
                    self.mode = Mode::AskToCancel(record.id, record.number);
                }
            }
            Command::PauseOrResume => {
                let effect = self.record_to_act_on().map(|record| {
                    let action = if record.resources.paused {
                        Action::Resume
                    } else {
                        Action::Pause
                    };
                    Effect::Act(action, record.id, record.number)
                });
                return effect.into_iter().collect();
            }
            Command::ShowOrHideLog => self.shows_log = !self.shows_log,
            Command::SortBy(by) => {
                self.order.by = by;
                self.sort(self.selected_id());
            }
            Command::ReverseOrder => {
                self.order.is_reversed = !self.order.is_reversed;
                self.sort(self.selected_id());
            }
            Command::Help => self.mode = Mode::Help,
            Command::Redraw => return vec![Effect::Redraw],
            Command::Suspend => return vec![Effect::Suspend],
            Command::Quit => return vec![Effect::Quit],
        }
        Vec::new()
    }

    /// Returns the selected execution, if it is not over. Else there is a message.
    fn record_to_act_on(&mut self) -> Option<&ExecutionRecord> {
        let record = &self.rows.get(self.selected)?.record;
        if record.status.is_finished() {
            self.message = Some(format!("{} is over", record.number));
            return None;
        }
        Some(record)
    }

    /// Moves the selection. What was selected and is over goes.
    fn select(&mut self, movement: Movement) {
        let last = self.rows.len().saturating_sub(1);
        let page = self.page_rows.max(1);
        let place = match movement {
            Movement::Up => self.selected.saturating_sub(1),
            Movement::Down => self.selected.saturating_add(1),
            Movement::PageUp => self.selected.saturating_sub(page),
            Movement::PageDown => self.selected.saturating_add(page),
            Movement::First => 0,
            Movement::Last => last,
        };
        self.selected = place.min(last);
        let selected = self.selected_id();
        self.rows
            .retain(|row| !row.record.status.is_finished() || Some(row.record.id) == selected);
        self.sort(selected);
    }

    /// Returns the effect of following another output than before.
    fn follow(&mut self) -> Option<Effect> {
        let wanted = self.selected_id().filter(|_| self.shows_log);
        if wanted == self.followed {
            return None;
        }
        self.followed = wanted;
        self.log = LogTail::default();
        Some(Effect::Follow(wanted))
    }
}

#[cfg(test)]
mod tests;
