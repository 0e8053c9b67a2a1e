//! Lookup of user accounts of the host.

use std::collections::HashMap;
use std::ffi::CString;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use escher_launcher::ipc::wire::Identity;
use escher_protocol::{ApiError, Blob, ErrorCode, Text, User};
use nix::unistd;
use serde::{Deserialize, Serialize};

/// How long a result of the user database is cached. Every connection needs one, and the database may be
/// a directory service on the network.
const CACHE_TTL: Duration = Duration::from_secs(10);

/// Maximum number of cached results.
const MAX_CACHED: usize = 1024;

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

/// Looks accounts up, off the event loop, and caches them for [`CACHE_TTL`].
#[derive(Debug, Default)]
pub struct AccountCache {
    cached: Mutex<HashMap<u32, (Instant, Account)>>,
}

impl AccountCache {
    /// Returns the account with this uid, without a name if the database has no entry for it.
    ///
    /// # Errors
    /// `internal` if the database cannot be queried.
    pub async fn by_uid(&self, uid: u32) -> Result<Account, ApiError> {
        if let Some(account) = self.cached(uid) {
            return Ok(account);
        }
        let found = query(move || unistd::User::from_uid(uid.into())).await?;
        let account = match found {
            Some(entry) => with_login_groups(entry).await?,
            None => Account {
                user: User { uid, name: None },
                home: "/".into(),
                shell: DEFAULT_SHELL.into(),
                identity: None,
            },
        };
        self.cache(&account);
        Ok(account)
    }

    /// Returns the account with this login name. A name that looks like a uid is still a name.
    ///
    /// # Errors
    /// `unknown-user`, or `internal` if the database cannot be queried.
    pub async fn by_name(&self, name: &Text) -> Result<Account, ApiError> {
        let wanted = name.to_string();
        let name = wanted.clone();
        let found = if wanted.contains('\0') {
            None
        } else {
            query(move || unistd::User::from_name(&name)).await?
        };
        match found {
            // Some databases match names that differ, in case for example.
            Some(entry) if entry.name == wanted => with_login_groups(entry).await,
            _ => {
                let message = format!("there is no user {wanted:?} on this host");
                Err(ApiError::new(ErrorCode::UNKNOWN_USER, message))
            }
        }
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
            cached.insert(account.user.uid, (Instant::now(), account.clone()));
        }
    }
}

/// Completes an entry with the login groups of the user.
async fn with_login_groups(entry: unistd::User) -> Result<Account, ApiError> {
    let (name, gid) = (entry.name.clone(), entry.gid);
    let groups = query(move || {
        let name = CString::new(name).map_err(|_| nix::errno::Errno::EINVAL)?;
        unistd::getgrouplist(&name, gid)
    })
    .await?;
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

async fn query<T: Send + 'static>(
    lookup: impl FnOnce() -> nix::Result<T> + Send + 'static,
) -> Result<T, ApiError> {
    let failed = |reason: String| {
        let message = format!("the user database cannot be queried: {reason}");
        ApiError::new(ErrorCode::INTERNAL, message)
    };
    match tokio::task::spawn_blocking(lookup).await {
        Ok(answer) => answer.map_err(|errno| failed(errno.to_string())),
        Err(error) => Err(failed(error.to_string())),
    }
}
