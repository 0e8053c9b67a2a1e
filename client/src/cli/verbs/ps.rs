//! `ps`: what runs and what ran.

use escher_client::protocol::Text;
use escher_client::{ListFilter, Timestamp};

use crate::cli::Context;
use crate::cli::args::PsArgs;
use crate::cli::failure::Failure;
use crate::cli::render::{json, print, table};
use crate::cli::values::Filter;

pub(super) async fn ps(context: &Context, args: PsArgs) -> Result<u8, Failure> {
    let filter = filter(args)?;
    let client = context.connect().await?;
    let mut executions = client.list(filter).await?;
    let mut records = Vec::new();
    while let Some(record) = executions.next().await {
        let record = record?;
        if context.json {
            print(&json::line(&json::Execution::of_record(&record)))?;
        } else {
            records.push(record);
        }
    }
    if !context.json {
        print(&table::executions(&records, Timestamp::now()))?;
    }
    Ok(0)
}

fn filter(args: PsArgs) -> Result<ListFilter, Failure> {
    let mut filter = ListFilter {
        all: args.all,
        ..ListFilter::default()
    };
    for wanted in args.filters {
        match wanted {
            Filter::Status(status) => {
                // Who asks for finished ones need not say `-a` as well.
                filter.all |= status.is_finished();
                filter.statuses.push(status);
            }
            Filter::User(user) => set_once(&mut filter.user, user, "user")?,
            Filter::Name(name) => set_once(&mut filter.name, name, "name")?,
            Filter::Label(key, value) => filter.labels.push((key, value)),
        }
    }
    Ok(filter)
}

fn set_once(slot: &mut Option<Text>, value: Text, key: &str) -> Result<(), Failure> {
    match slot.replace(value) {
        None => Ok(()),
        Some(_) => Err(Failure::usage(
            format!("--filter {key}=… was given twice, and nothing can be both"),
            None,
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use escher_client::Status;

    fn of(all: bool, filters: &[&str]) -> Result<ListFilter, Failure> {
        let filters = filters.iter().map(|text| text.parse().unwrap()).collect();
        filter(PsArgs { all, filters })
    }

    #[test]
    fn filters_gather() {
        let filter = of(
            false,
            &["status=running", "user=alice", "label.a=b", "name=n"],
        )
        .unwrap();
        assert_eq!(filter.statuses, [Status::Running]);
        assert_eq!(filter.labels, [("a".into(), "b".into())]);
        assert!(!filter.all && filter.name.is_some() && filter.user.is_some());
        assert!(of(false, &["status=failed"]).unwrap().all);
        assert!(of(false, &["user=a", "user=b"]).is_err());
    }
}
