//! From `--filter` to a filter.

use escher_client::ListFilter;
use escher_client::protocol::Text;

use crate::args::values::Filter;
use crate::failure::Failure;

/// `filter` with all that is `wanted` beyond it.
pub(crate) fn narrow(mut filter: ListFilter, wanted: Vec<Filter>) -> Result<ListFilter, Failure> {
    for wanted in wanted {
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

    fn of(filters: &[&str]) -> Result<ListFilter, Failure> {
        let filters = filters.iter().map(|text| text.parse().unwrap()).collect();
        narrow(ListFilter::default(), filters)
    }

    #[test]
    fn filters_gather() {
        let filter = of(&["status=running", "user=alice", "label.a=b", "name=n"]).unwrap();
        assert_eq!(filter.statuses, [Status::Running]);
        assert_eq!(filter.labels, [("a".into(), "b".into())]);
        assert!(!filter.all && filter.name.is_some() && filter.user.is_some());
        assert!(of(&["status=failed"]).unwrap().all);
        assert!(of(&["user=a", "user=b"]).is_err());
    }
}
