//! Closing the logs of a former owner of a uid to the present one.
//!
//! An access control list lets the submitter of a command read its log, by uid. When the uid has got
//! another login name since, it would let somebody else in. The user database reports no changes. So
//! it is asked about the submitters of the history at the start, at each interval of the cleanup,
//! and when a connection shows that a name has changed.

use std::collections::{BTreeMap, HashMap};

use escher_launcher::ipc::wire::MAX_IDS_AT_ONCE;
use escher_protocol::{ApiError, User};
use tokio::sync::watch;
use tokio::time::sleep;
use tracing::{info, warn};

use crate::authz::AccountCache;
use crate::config::ReloadableSettings;
use crate::scheduler::{Scheduler, SchedulerHandle, Stopped};
use crate::store::Store;

/// Former owners, with the bytes of the logs that were closed.
type Closed = HashMap<User, u64>;

/// Closes logs whenever that may be necessary, until the engine stops.
pub(crate) async fn run(
    mut settings: watch::Receiver<ReloadableSettings>,
    accounts: AccountCache,
    scheduler: SchedulerHandle,
    store: Store,
) {
    let mut closed = Closed::new();
    loop {
        match close_logs(&mut closed, &accounts, &scheduler, &store).await {
            Ok(()) => {}
            Err(error) if error.code == ApiError::from(Stopped).code => return,
            Err(error) => warn!(%error, "cannot close the logs of former owners of a user id"),
        }
        let interval = settings.borrow_and_update().cleanup.interval;
        tokio::select! {
            changed = settings.changed() => if changed.is_err() {
                return;
            },
            () = accounts.name_changed() => {}
            () = sleep(interval) => {}
        }
    }
}

/// Closes the logs of all submitters whose uids have other owners, unless that was done before.
async fn close_logs(
    closed: &mut Closed,
    accounts: &AccountCache,
    scheduler: &SchedulerHandle,
    store: &Store,
) -> Result<(), ApiError> {
    let history: BTreeMap<_, _> = store.user_history().await?;
    closed.retain(|owner, _| history.contains_key(owner));
    for (owner, size) in history {
        if size.log_bytes == 0 || closed.get(&owner) == Some(&size.log_bytes) {
            continue;
        }
        // Asked again later if the database cannot answer.
        let Ok(account) = accounts.by_uid(owner.uid).await else {
            continue;
        };
        // A uid without a name has no new owner; its entry may be missing for a moment alone.
        if account.user.name.is_none() || account.user == owner {
            continue;
        }
        info!(uid = owner.uid, %owner, now = %account.user, "the user id has a new owner, to whom old logs are closed");
        let mut after = None;
        loop {
            let logs = store
                .kept_logs(owner.clone(), after, MAX_IDS_AT_ONCE)
                .await?;
            let (uid, ids) = (owner.uid, logs.ids);
            let revoke = move |scheduler: &mut Scheduler| scheduler.revoke_read(uid, ids);
            scheduler.post(revoke).await?;
            after = logs.next;
            if after.is_none() {
                break;
            }
        }
        closed.insert(owner, size.log_bytes);
    }
    Ok(())
}
