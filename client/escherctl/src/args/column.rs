//! Columns, order and format of lists of executions.

use std::str::FromStr;

use super::invalid_value::{InvalidValue, invalid};

/// A column of a list of executions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Column {
    Number,
    Id,
    Name,
    Status,
    Exit,
    Age,
    Time,
    User,
    Command,
    Submitted,
    Started,
    Ended,
    Labels,
    Key,
    Pid,
}

impl Column {
    /// Every column with its name on the command line.
    const TABLE: [(Column, &'static str); 15] = [
        (Column::Number, "number"),
        (Column::Id, "id"),
        (Column::Name, "name"),
        (Column::Status, "status"),
        (Column::Exit, "exit"),
        (Column::Age, "age"),
        (Column::Time, "time"),
        (Column::User, "user"),
        (Column::Command, "command"),
        (Column::Submitted, "submitted"),
        (Column::Started, "started"),
        (Column::Ended, "ended"),
        (Column::Labels, "labels"),
        (Column::Key, "key"),
        (Column::Pid, "pid"),
    ];

    /// Those that are shown unless others are chosen.
    pub(crate) const DEFAULT: [Column; 9] = [
        Column::Number,
        Column::Id,
        Column::Name,
        Column::Status,
        Column::Exit,
        Column::Age,
        Column::Time,
        Column::User,
        Column::Command,
    ];

    pub(crate) fn name(self) -> &'static str {
        let mut table = Self::TABLE.iter();
        table.find(|row| row.0 == self).map_or("", |row| row.1)
    }
}

impl FromStr for Column {
    type Err = InvalidValue;
    fn from_str(text: &str) -> Result<Self, InvalidValue> {
        let mut table = Self::TABLE.iter();
        match table.find(|row| row.1.eq_ignore_ascii_case(text)) {
            Some(row) => Ok(row.0),
            None => {
                let names = Self::TABLE.map(|row| row.1).join(", ");
                invalid(format!("expected one of {names}"))
            }
        }
    }
}

/// `--sort`: a column, and whether the order is reversed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct SortKey {
    pub(crate) column: Column,
    pub(crate) is_reversed: bool,
}

impl FromStr for SortKey {
    type Err = InvalidValue;
    fn from_str(text: &str) -> Result<Self, InvalidValue> {
        let (name, is_reversed) = match text.strip_prefix('-') {
            Some(name) => (name, true),
            None => (text, false),
        };
        Ok(SortKey {
            column: name.parse()?,
            is_reversed,
        })
    }
}

/// `--format`: how executions are listed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ListFormat {
    Table,
    Json,
    Csv,
}

impl FromStr for ListFormat {
    type Err = InvalidValue;
    fn from_str(text: &str) -> Result<Self, InvalidValue> {
        match text {
            "table" => Ok(ListFormat::Table),
            "json" => Ok(ListFormat::Json),
            "csv" => Ok(ListFormat::Csv),
            _ => invalid("expected table, json or csv"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_column_is_read_by_its_name() {
        for (column, name) in Column::TABLE {
            assert_eq!(name.parse(), Ok(column));
            assert_eq!(name.to_uppercase().parse(), Ok(column));
            assert_eq!(column.name(), name);
        }
        let error = "colour".parse::<Column>().unwrap_err().to_string();
        assert!(error.contains("number, id, name"), "{error}");
    }

    #[test]
    fn a_minus_reverses_the_order() {
        let key = |text: &str| {
            text.parse::<SortKey>()
                .map(|key| (key.column, key.is_reversed))
        };
        assert_eq!(key("age"), Ok((Column::Age, false)));
        assert_eq!(key("-time"), Ok((Column::Time, true)));
        assert!(key("--time").is_err());
    }
}
