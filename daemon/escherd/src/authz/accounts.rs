//! Lookup of user accounts of the host.

use std::collections::HashMap;
use std::ffi::CString;
use std::fmt::Display;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use escher_launcher::ipc::wire::Identity;
use escher_protocol::{ApiError, Blob, ErrorCode, Text, User};
use nix::unistd;
use serde::{Deserialize, Serialize};
use tokio::sync::{Notify, watch};
use tokio::time::timeout;

use crate::blocking::BlockingPool;

/// How long a result of the user database is cached. Every connection needs one, and the database may be
/// a directory service on the network. For as long a new owner of a uid may be taken for the last one.
const CACHE_TTL: Duration = Duration::from_secs(10);

/// Maximum number of cached results.
const MAX_CACHED: usize = 1024;

/// Maximum number of look-ups at once. One that hangs keeps its thread, and delays nothing but
/// look-ups.
const MAX_LOOKUPS: usize = 16;

/// How long a client waits for a look-up.
const LOOKUP_TIMEOUT: Duration = Duration::from_secs(5);

/// Shell of a user without an entry in the database.
const DEFAULT_SHELL: &str = "/bin/sh";

/// A user account, with what is needed to run a command as its user.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Account {
    /// Uid and login name.
    pub user: User,
    /// Home directory; `/` for a user without an entry in the database.
    pub home: Blob,
    /// Login shell.
    pub shell: Blob,
    /// The credentials that a process has to assume; `None` if the launcher runs as that user already, or
    /// the user has no entry.
    pub identity: Option<Identity>,
}

/// Looks accounts up, off the event loop, and caches them for [`CACHE_TTL`]. Clones share the cache.
///
/// There is at most one look-up of a uid at a time, for which all who ask wait. So a user whose entry
/// hangs in a directory service keeps one thread, however often it connects.
#[derive(Debug, Clone)]
pub struct AccountCache {
    shared: Arc<SharedCache>,
    pool: BlockingPool,
}

#[derive(Debug, Default)]
struct SharedCache {
    cached: Mutex<HashMap<u32, (Instant, Account)>>,
    in_progress: Mutex<HashMap<u32, watch::Receiver<Option<LookupResult>>>>,
    name_changed: Notify,
}

type LookupResult = Result<Account, ApiError>;

impl Default for AccountCache {
    fn default() -> Self {
        AccountCache {
            shared: Arc::default(),
            pool: BlockingPool::new(MAX_LOOKUPS),
        }
    }
}

impl AccountCache {
    /// Returns the account with this uid, without a name if the database has no entry for it.
    ///
    /// # Errors
    /// `internal` if the database cannot be queried, `overloaded` if it does not answer in time.
    pub async fn by_uid(&self, uid: u32) -> Result<Account, ApiError> {
        self.by_uid_from(uid, look_up_uid).await
    }

    /// Waits until a uid is found to have another name than when it was looked up before. Not every
    /// change is noticed: the database reports none, and earlier results are not kept for ever.
    pub async fn name_changed(&self) {
        self.shared.name_changed.notified().await;
    }

    /// As [`AccountCache::by_uid`], with the look-up as an argument.
    async fn by_uid_from(
        &self,
        uid: u32,
        look_up: impl FnOnce(u32) -> LookupResult + Send + 'static,
    ) -> LookupResult {
        if let Some(account) = self.shared.cached(uid) {
            return Ok(account);
        }
        let mut progress = self.look_up_once(uid, look_up);
        let result = timeout(LOOKUP_TIMEOUT, progress.wait_for(Option::is_some)).await;
        match result {
            Ok(Ok(result)) => result
                .clone()
                .unwrap_or_else(|| Err(unavailable("no answer"))),
            Ok(Err(_)) => Err(unavailable("the look-up has failed")),
            Err(_) => Err(overdue()),
        }
    }

    /// Returns the progress of the look-up of `uid`, which is begun unless there is one.
    fn look_up_once(
        &self,
        uid: u32,
        look_up: impl FnOnce(u32) -> LookupResult + Send + 'static,
    ) -> watch::Receiver<Option<LookupResult>> {
        let mut in_progress = self.shared.in_progress();
        if let Some(progress) = in_progress.get(&uid) {
            return progress.clone();
        }
        let (finish, progress) = watch::channel(None);
        in_progress.insert(uid, progress.clone());
        let (shared, pool) = (Arc::clone(&self.shared), self.pool.clone());
        // A task of its own: it goes on if the client that asked first disconnects.
        tokio::spawn(async move {
            let result = pool.run(uid, move |_| look_up(uid)).await;
            let result = result.unwrap_or_else(|error| Err(unavailable(error)));
            if let Ok(account) = &result {
                shared.cache(account);
            }
            shared.in_progress().remove(&uid);
            finish.send_replace(Some(result));
        });
        progress
    }

    /// Returns the account with this login name, on behalf of the user `caller`. A name that looks like
    /// a uid is still a name.
    ///
    /// # Errors
    /// `unknown-user`; `internal` if the database cannot be queried, `overloaded` if it does not answer
    /// in time.
    pub async fn by_name(&self, caller: u32, name: &Text) -> Result<Account, ApiError> {
        let name = name.to_string();
        let looking_up = self.pool.run(caller, move |_| look_up_name(&name));
        match timeout(LOOKUP_TIMEOUT, looking_up).await {
            Ok(result) => result.unwrap_or_else(|error| Err(unavailable(error))),
            Err(_) => Err(overdue()),
        }
    }
}

impl SharedCache {
    fn in_progress(&self) -> MutexGuard<'_, HashMap<u32, watch::Receiver<Option<LookupResult>>>> {
        self.in_progress
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    fn cached(&self, uid: u32) -> Option<Account> {
        let cached = self.cached.lock().ok()?;
        let (since, account) = cached.get(&uid)?;
        (since.elapsed() < CACHE_TTL).then(|| account.clone())
    }

    fn cache(&self, account: &Account) {
        if let Ok(mut cached) = self.cached.lock() {
            if cached.len() >= MAX_CACHED {
                cached.clear();
            }
            let now = (Instant::now(), account.clone());
            let before = cached.insert(account.user.uid, now);
            if before.is_some_and(|(_, before)| before.user != account.user) {
                self.name_changed.notify_one();
            }
        }
    }
}

fn look_up_uid(uid: u32) -> LookupResult {
    match unistd::User::from_uid(uid.into()).map_err(unavailable)? {
        Some(entry) => with_login_groups(entry),
        None => Ok(Account {
            user: User { uid, name: None },
            home: "/".into(),
            shell: DEFAULT_SHELL.into(),
            identity: None,
        }),
    }
}

fn look_up_name(name: &str) -> LookupResult {
    let found = if name.contains('\0') {
        None
    } else {
        unistd::User::from_name(name).map_err(unavailable)?
    };
    account_named(found, name)
}

/// Completes the entry that the database has found by `name`.
fn account_named(found: Option<unistd::User>, name: &str) -> LookupResult {
    match found {
        // Some databases match names that differ, in case for example.
        Some(entry) if entry.name == name => with_login_groups(entry),
        _ => {
            let message = format!("there is no user {name:?} on this host");
            Err(ApiError::new(ErrorCode::UNKNOWN_USER, message))
        }
    }
}

/// Completes an entry with the login groups of the user.
fn with_login_groups(entry: unistd::User) -> LookupResult {
    let gid = entry.gid;
    let name = CString::new(entry.name.as_str()).map_err(unavailable)?;
    let groups = unistd::getgrouplist(&name, gid).map_err(unavailable)?;
    Ok(Account {
        user: User {
            uid: entry.uid.as_raw(),
            name: Some(entry.name.into()),
        },
        home: entry.dir.into_os_string().into(),
        shell: entry.shell.into_os_string().into(),
        identity: Some(Identity {
            uid: entry.uid.as_raw(),
            gid: gid.as_raw(),
            groups: groups.into_iter().map(unistd::Gid::as_raw).collect(),
        }),
    })
}

fn unavailable(reason: impl Display) -> ApiError {
    let message = format!("the user database cannot be queried: {reason}");
    ApiError::new(ErrorCode::INTERNAL, message)
}

fn overdue() -> ApiError {
    let seconds = LOOKUP_TIMEOUT.as_secs();
    let message = format!("the user database has not answered for {seconds} seconds");
    ApiError::new(ErrorCode::OVERLOADED, message)
        .with_hint("check the directory service of this host: `getent passwd` asks it, too")
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc;

    use tokio::sync::oneshot;

    fn account(uid: u32) -> Account {
        Account {
            user: User { uid, name: None },
            home: "/".into(),
            shell: DEFAULT_SHELL.into(),
            identity: None,
        }
    }

    #[tokio::test]
    async fn a_change_of_the_name_of_a_uid_is_noticed() {
        let accounts = AccountCache::default();
        let named = |uid, name: &str| Account {
            user: User {
                uid,
                name: Some(name.into()),
            },
            ..account(uid)
        };
        let is_noticed = async || {
            tokio::select! {
                biased;
                () = accounts.name_changed() => true,
                () = std::future::ready(()) => false,
            }
        };
        for same in [account(1), account(2), account(1)] {
            accounts.shared.cache(&same);
            assert!(!is_noticed().await);
        }
        for other in [named(1, "alice"), named(1, "bob"), account(1)] {
            accounts.shared.cache(&other);
            assert!(is_noticed().await);
            assert!(!is_noticed().await, "once");
        }
    }

    #[tokio::test]
    async fn a_look_up_that_hangs_keeps_one_thread_however_often_its_user_connects() {
        let accounts = AccountCache::default();
        let (end, gate) = mpsc::channel::<()>();
        let (started, has_started) = oneshot::channel();
        let mut waiting = vec![accounts.look_up_once(1, move |uid| {
            let _ = started.send(());
            let _ = gate.recv();
            Ok(account(uid))
        })];
        has_started.await.unwrap();
        for _ in 0..10 * MAX_LOOKUPS {
            let again = |_| panic!("a second look-up of the same user");
            waiting.push(accounts.look_up_once(1, again));
        }
        // Other users have all threads but that one.
        let other = accounts.by_uid_from(2, |uid| Ok(account(uid))).await;
        assert_eq!(other.unwrap(), account(2));
        end.send(()).unwrap();
        for mut progress in waiting {
            let result = progress.wait_for(Option::is_some).await.unwrap().clone();
            assert_eq!(result, Some(Ok(account(1))));
        }
        let cached = accounts.by_uid_from(1, |_| panic!("it is cached"));
        assert_eq!(cached.await.unwrap(), account(1));
    }

    #[test]
    fn an_entry_is_that_of_the_name_to_the_letter() {
        let root = || unistd::User::from_uid(0.into()).unwrap();
        let entry = root().expect("every host has root");
        let account = account_named(root(), &entry.name).unwrap();
        assert_eq!(account, look_up_uid(0).unwrap());
        let identity = account.identity.unwrap();
        assert_eq!((account.user.uid, identity.uid), (0, 0));
        assert_eq!(identity.gid, entry.gid.as_raw());
        assert!(identity.groups.contains(&identity.gid));
        let other_case = entry.name.to_uppercase();
        for found in [root(), None] {
            let error = account_named(found, &other_case).unwrap_err();
            assert_eq!(error.code, ErrorCode::UNKNOWN_USER);
        }
    }

    #[test]
    fn results_are_cached_for_their_time_and_up_to_their_number() {
        let shared = SharedCache::default();
        let last = u32::try_from(MAX_CACHED).unwrap() - 1;
        for uid in 0..=last {
            shared.cache(&account(uid));
        }
        for uid in [0, last] {
            assert_eq!(
                shared.cached(uid),
                Some(account(uid)),
                "there is room for all"
            );
        }
        shared.cache(&account(last + 1));
        assert_eq!(shared.cached(0), None, "the cache was full");
        assert_eq!(shared.cached(last + 1), Some(account(last + 1)));
        let long_ago = Instant::now().checked_sub(CACHE_TTL).unwrap();
        let expired = (long_ago, account(7));
        shared.cached.lock().unwrap().insert(7, expired);
        assert_eq!(shared.cached(7), None, "it may have changed since");
    }
}
