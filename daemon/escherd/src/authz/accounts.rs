//! The host's user accounts.

use std::collections::HashMap;
use std::ffi::CString;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use escher_launcher::ipc::wire::Identity;
use escher_protocol::{ApiError, Blob, ErrorCode, Text, User};
use nix::unistd;
use serde::{Deserialize, Serialize};

/// How long an answer of the user database is believed. Each connection asks; the database may be a file,
/// or a directory service across the network.
const BELIEVED_FOR: Duration = Duration::from_secs(10);

/// Most answers that are kept.
const MAX_KEPT: usize = 1024;

/// Shell of a user without an entry in the database.
const DEFAULT_SHELL: &str = "/bin/sh";

/// A user as commands need it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Account {
    /// Number and login name.
    pub user: User,
    /// Home directory; `/` for a user without an entry in the database.
    pub home: Blob,
    /// Login shell.
    pub shell: Blob,
    /// What a process of the user has to become; `None` where there is nothing to become (the launcher
    /// is that user), or nothing known (a user without an entry).
    pub identity: Option<Identity>,
}

/// Looks accounts up, off the event loop, and remembers them for [`BELIEVED_FOR`].
#[derive(Debug, Default)]
pub struct Accounts {
    kept: Mutex<HashMap<u32, (Instant, Account)>>,
}

impl Accounts {
    /// The account with this number; one without a name where the database has none.
    ///
    /// # Errors
    /// When the database cannot be asked.
    pub async fn by_uid(&self, uid: u32) -> Result<Account, ApiError> {
        if let Some(account) = self.remembered(uid) {
            return Ok(account);
        }
        let found = ask(move || unistd::User::from_uid(uid.into())).await?;
        let account = match found {
            Some(entry) => account(entry).await?,
            None => Account {
                user: User { uid, name: None },
                home: "/".into(),
                shell: DEFAULT_SHELL.into(),
                identity: None,
            },
        };
        self.remember(&account);
        Ok(account)
    }

    /// The account with this login name, taken as a name whatever it looks like.
    ///
    /// # Errors
    /// `unknown-user`, or when the database cannot be asked.
    pub async fn by_name(&self, name: &Text) -> Result<Account, ApiError> {
        let wanted = name.to_string();
        let asked = wanted.clone();
        let found = if wanted.contains('\0') {
            None
        } else {
            ask(move || unistd::User::from_name(&asked)).await?
        };
        match found {
            // Some databases answer to what is not quite the name.
            Some(entry) if entry.name == wanted => account(entry).await,
            _ => {
                let message = format!("there is no user {wanted:?} on this host");
                Err(ApiError::new(ErrorCode::UNKNOWN_USER, message))
            }
        }
    }

    fn remembered(&self, uid: u32) -> Option<Account> {
        let kept = self.kept.lock().ok()?;
        let (since, account) = kept.get(&uid)?;
        (since.elapsed() < BELIEVED_FOR).then(|| account.clone())
    }

    fn remember(&self, account: &Account) {
        if let Ok(mut kept) = self.kept.lock() {
            if kept.len() >= MAX_KEPT {
                kept.clear();
            }
            kept.insert(account.user.uid, (Instant::now(), account.clone()));
        }
    }
}

/// An entry with the user's login groups.
async fn account(entry: unistd::User) -> Result<Account, ApiError> {
    let (name, gid) = (entry.name.clone(), entry.gid);
    let groups = ask(move || {
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

async fn ask<T: Send + 'static>(
    question: impl FnOnce() -> nix::Result<T> + Send + 'static,
) -> Result<T, ApiError> {
    let failed = |reason: String| {
        let message = format!("the user database cannot be asked: {reason}");
        ApiError::new(ErrorCode::INTERNAL, message)
    };
    match tokio::task::spawn_blocking(question).await {
        Ok(answer) => answer.map_err(|errno| failed(errno.to_string())),
        Err(error) => Err(failed(error.to_string())),
    }
}
