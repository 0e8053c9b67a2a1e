//! Authorization: which caller may do what.
//!
//! A decision is a value. [`Authorizer`] turns a caller and a request into a [`SubmitPermit`], an
//! [`AdminPermit`] or a [`Scope`]. Nothing outside this module can make one, so nothing is
//! submitted without a permit, and no execution is found outside of a scope. The identity of a
//! caller is the one that the kernel reported when it connected.

mod accounts;
#[cfg(test)]
mod decision_table;

pub use accounts::{Account, AccountCache};

use std::io;

use escher_launcher::ipc::wire::Identity;
use escher_launcher::os::peer_credentials::PeerCredentials;
use escher_protocol::{ApiError, Canceller, ErrorCode, RunAs, User};
use nix::unistd::{self, Gid};

/// An authenticated user of an engine: the peer of a connection, or this process itself.
#[derive(Debug, Clone)]
pub struct Caller {
    credentials: PeerCredentials,
    account: Account,
}

impl Caller {
    /// Returns the credentials that the kernel would report if this process connected.
    ///
    /// # Errors
    /// Those of getgroups(2).
    pub fn own_credentials() -> io::Result<PeerCredentials> {
        let mut groups: Vec<u32> = unistd::getgroups()?.into_iter().map(Gid::as_raw).collect();
        groups.sort_unstable();
        Ok(PeerCredentials {
            uid: unistd::geteuid().as_raw(),
            gid: unistd::getegid().as_raw(),
            groups,
            pid: unistd::getpid().as_raw(),
        })
    }

    /// Returns the caller's user.
    #[must_use]
    pub fn user(&self) -> &User {
        &self.account.user
    }

    fn is_root(&self) -> bool {
        self.credentials.uid == 0
    }
}

/// Permission to run a command as the user of an account.
#[derive(Debug)]
#[must_use]
pub struct SubmitPermit {
    submitter: User,
    account: Account,
}

impl SubmitPermit {
    /// Returns a permit for root to run a command as root, for tests.
    #[cfg(test)]
    pub(crate) fn for_root() -> Self {
        SubmitPermit::for_uid(0)
    }

    /// Returns a permit for a user to run a command as itself, for tests.
    #[cfg(test)]
    pub(crate) fn for_uid(uid: u32) -> Self {
        let user = User { uid, name: None };
        SubmitPermit {
            submitter: user.clone(),
            account: Account {
                user,
                home: "/".into(),
                shell: "/bin/sh".into(),
                identity: None,
            },
        }
    }

    /// Returns the submitter, and the account that the command runs as.
    #[must_use]
    pub fn into_parts(self) -> (User, Account) {
        (self.submitter, self.account)
    }
}

/// Permission for operations that affect every user, such as a reload or a cleanup.
#[derive(Debug)]
#[must_use]
pub struct AdminPermit(());

impl AdminPermit {
    /// Returns the permit for what a signal to this process asks for. The kernel lets only root and the
    /// process's own user send one (kill(2)).
    pub(crate) fn from_signal() -> Self {
        AdminPermit(())
    }
}

/// The executions that a caller may see and act on. To the caller, others do not exist.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Scope {
    user: User,
    includes_all: bool,
}

impl Scope {
    /// Returns the scope of root, for tests.
    #[cfg(test)]
    pub(crate) fn for_root() -> Self {
        Scope {
            user: User { uid: 0, name: None },
            includes_all: true,
        }
    }

    /// Returns the scope of a user other than root, for tests.
    #[cfg(test)]
    pub(crate) fn for_uid(uid: u32) -> Self {
        Scope {
            user: User { uid, name: None },
            includes_all: false,
        }
    }

    /// Returns whether the executions of `submitter` are in this scope. A user is a uid with a login
    /// name: what somebody has submitted is not inherited by the next owner of its uid.
    #[must_use]
    pub fn includes(&self, submitter: &User) -> bool {
        self.includes_all || *submitter == self.user
    }

    /// Returns the only submitter whose executions are in this scope; `None` if those of all are.
    #[must_use]
    pub fn submitter(&self) -> Option<&User> {
        (!self.includes_all).then_some(&self.user)
    }

    /// Returns the caller, whose executions a bare name means.
    #[must_use]
    pub fn caller(&self) -> &User {
        &self.user
    }

    /// Returns the canceller to record for a cancel in this scope.
    #[must_use]
    pub fn canceller(&self) -> Canceller {
        Canceller::User(self.user.clone())
    }
}

/// Makes the decisions, from the accounts of the host and the users that the launcher can serve.
#[derive(Debug)]
pub struct Authorizer {
    accounts: AccountCache,
    served_users: ServedUsers,
    /// The user that escherd runs as.
    own_uid: u32,
}

/// The users for whom commands can be started.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ServedUsers {
    /// Every user: the launcher runs as root.
    All,
    /// Only the user with this uid, which is the launcher's own.
    Only(u32),
}

/// The uid that the kernel reports by default for a user who is not mapped into this user namespace
/// (/proc/sys/kernel/overflowuid, user_namespaces(7)).
const DEFAULT_OVERFLOW_UID: u32 = 65534;

impl Authorizer {
    /// Creates an authorizer for a launcher that can serve these users.
    #[must_use]
    pub fn new(served_users: ServedUsers) -> Self {
        Authorizer {
            accounts: AccountCache::default(),
            served_users,
            own_uid: unistd::geteuid().as_raw(),
        }
    }

    /// Returns the users for whom commands can be started.
    #[must_use]
    pub fn served_users(&self) -> ServedUsers {
        self.served_users
    }

    /// Returns the accounts of the host.
    pub(crate) fn accounts(&self) -> AccountCache {
        self.accounts.clone()
    }

    /// Authenticates a peer that has connected.
    ///
    /// # Errors
    /// `permission-denied` if this escherd does not serve the user.
    pub async fn authenticate(&self, credentials: PeerCredentials) -> Result<Caller, ApiError> {
        let uid = credentials.uid;
        refuse_reserved_uid(uid)?;
        if uid == overflow_uid() {
            refuse_unless_mapped(uid, is_every_user_mapped())?;
        }
        if let ServedUsers::Only(own) = self.served_users
            && own != uid
        {
            let message =
                format!("this escherd serves only the user with id {own}; your user id is {uid}");
            return Err(ApiError::new(ErrorCode::PERMISSION_DENIED, message)
                .with_hint("use the system's escherd, or start your own: escherd --user"));
        }
        let mut account = self.accounts.by_uid(uid).await?;
        account.identity = self.identity_to_assume(Identity {
            uid,
            gid: credentials.gid,
            groups: credentials.groups.clone(),
        });
        Ok(Caller {
            credentials,
            account,
        })
    }

    /// Authorizes `caller` to run a command as `run_as`. Every user may run commands as itself, with the
    /// groups of its connection; root may run them as any user, with that user's login groups.
    ///
    /// # Errors
    /// `permission-denied`, or `unknown-user`. Only root gets the latter: for other callers the answer
    /// does not depend on whether the user exists.
    pub async fn authorize_submit(
        &self,
        caller: &Caller,
        run_as: &RunAs,
    ) -> Result<SubmitPermit, ApiError> {
        let submitter = caller.user().clone();
        let account = match run_as {
            RunAs::Caller => caller.account.clone(),
            other if is_self(caller, other) => caller.account.clone(),
            _ if !caller.is_root() => return Err(denied(caller, run_as)),
            RunAs::Name(name) => {
                let by_name = self.accounts.by_name(caller.credentials.uid, name);
                self.other_account(by_name.await?)?
            }
            RunAs::Uid(uid) => {
                refuse_reserved_uid(*uid)?;
                self.other_account(self.accounts.by_uid(*uid).await?)?
            }
        };
        Ok(SubmitPermit { submitter, account })
    }

    /// Returns the user that `user` names, if `caller` may know what that user does: itself; for root, everybody.
    ///
    /// # Errors
    /// `unknown-user`, which only root gets; `internal` if the user database cannot be queried.
    pub async fn visible_user(
        &self,
        caller: &Caller,
        user: &RunAs,
    ) -> Result<Option<User>, ApiError> {
        let account = match user {
            own if is_self(caller, own) => return Ok(Some(caller.user().clone())),
            _ if !caller.is_root() => return Ok(None),
            RunAs::Caller => return Ok(None),
            RunAs::Name(name) => self.accounts.by_name(caller.credentials.uid, name).await?,
            RunAs::Uid(uid) => self.accounts.by_uid(*uid).await?,
        };
        Ok(Some(account.user))
    }

    /// Authorizes `caller` for operations that affect every user: root, and the user that escherd runs
    /// as.
    ///
    /// # Errors
    /// `permission-denied`.
    pub fn authorize_admin(&self, caller: &Caller) -> Result<AdminPermit, ApiError> {
        let uid = caller.credentials.uid;
        if uid == 0 || uid == self.own_uid {
            return Ok(AdminPermit(()));
        }
        let message = format!(
            "{} may not do this: it affects the executions of every user",
            caller.user()
        );
        Err(ApiError::new(ErrorCode::PERMISSION_DENIED, message)
            .with_hint("run it as root, or as the user that escherd runs as"))
    }

    /// Returns the scope of `caller`: its own executions; for root, all.
    pub fn scope(&self, caller: &Caller) -> Scope {
        Scope {
            user: caller.user().clone(),
            includes_all: caller.is_root(),
        }
    }

    /// Returns the scope of all executions.
    pub fn unrestricted_scope(&self, _permit: &AdminPermit, caller: &Caller) -> Scope {
        Scope {
            user: caller.user().clone(),
            includes_all: true,
        }
    }

    fn other_account(&self, mut account: Account) -> Result<Account, ApiError> {
        let Some(identity) = account.identity.take() else {
            let message = format!("user {} has no account on this host", account.user);
            return Err(ApiError::new(ErrorCode::UNKNOWN_USER, message));
        };
        account.identity = match self.served_users {
            ServedUsers::Only(own) if own != identity.uid => {
                let message = format!("this escherd can run commands only as user id {own}");
                return Err(ApiError::new(ErrorCode::PERMISSION_DENIED, message));
            }
            _ => self.identity_to_assume(identity),
        };
        Ok(account)
    }

    /// Returns the identity that a command's process has to assume; `None` if it has it already.
    fn identity_to_assume(&self, identity: Identity) -> Option<Identity> {
        (self.served_users == ServedUsers::All).then_some(identity)
    }
}

fn is_self(caller: &Caller, run_as: &RunAs) -> bool {
    match run_as {
        RunAs::Caller => true,
        RunAs::Uid(uid) => *uid == caller.credentials.uid,
        RunAs::Name(name) => caller.user().name.as_ref() == Some(name),
    }
}

fn denied(caller: &Caller, run_as: &RunAs) -> ApiError {
    let wanted = match run_as {
        RunAs::Caller => caller.user().to_string(),
        RunAs::Name(name) => name.to_string(),
        RunAs::Uid(uid) => uid.to_string(),
    };
    let message = format!("{} may not run commands as {wanted:?}", caller.user());
    ApiError::new(ErrorCode::PERMISSION_DENIED, message)
        .with_hint("omit --user to run it as yourself, or run escherctl as root")
}

/// Refuses uids that no user can have. Those over `i32::MAX` are negative for programs that keep a uid
/// as an `int`, and -1 means "no change" to system calls (setresuid(2)), so that a command could run as
/// somebody else.
fn refuse_reserved_uid(uid: u32) -> Result<(), ApiError> {
    if i32::try_from(uid).is_ok() {
        return Ok(());
    }
    let message = format!(
        "user id {uid} is reserved: those of users end at {}",
        i32::MAX
    );
    Err(ApiError::new(ErrorCode::PERMISSION_DENIED, message))
}

/// Whether every user has a uid in this process's user namespace, as in that of the host. Then the
/// kernel reports the overflow uid for nobody but its user.
fn is_every_user_mapped() -> bool {
    static IS_MAPPED: std::sync::OnceLock<bool> = std::sync::OnceLock::new();
    *IS_MAPPED.get_or_init(|| {
        let map = std::fs::read_to_string("/proc/self/uid_map").unwrap_or_default();
        maps_every_uid(&map)
    })
}

/// Reads a map of uids (user_namespaces(7)): lines of the first uid inside, the first outside, and their
/// number.
fn maps_every_uid(map: &str) -> bool {
    let counts = map.lines().filter_map(|line| {
        let count = line.split_ascii_whitespace().nth(2)?;
        count.parse::<u64>().ok()
    });
    // There is no user with the highest uid, -1.
    counts.sum::<u64>() >= u64::from(u32::MAX)
}

fn overflow_uid() -> u32 {
    static UID: std::sync::OnceLock<u32> = std::sync::OnceLock::new();
    *UID.get_or_init(|| {
        std::fs::read_to_string("/proc/sys/kernel/overflowuid")
            .ok()
            .and_then(|text| text.trim().parse().ok())
            .unwrap_or(DEFAULT_OVERFLOW_UID)
    })
}

/// Refuses the uid that stands for every user without an own one in this user namespace, unless all have one.
fn refuse_unless_mapped(uid: u32, is_every_user_mapped: bool) -> Result<(), ApiError> {
    if is_every_user_mapped {
        return Ok(());
    }
    let message = format!("user id {uid} may be anybody in this user namespace");
    Err(ApiError::new(ErrorCode::PERMISSION_DENIED, message)
        .with_hint("connect from outside of the namespace, or map this user in it"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_uid_that_no_user_can_have_is_refused() {
        let last = i32::MAX.unsigned_abs();
        assert_eq!(refuse_reserved_uid(last), Ok(()));
        for uid in [last + 1, u32::MAX] {
            let error = refuse_reserved_uid(uid).unwrap_err();
            assert_eq!(error.code, ErrorCode::PERMISSION_DENIED);
            let message = format!("user id {uid} is reserved: those of users end at {last}");
            assert_eq!(*error.message, *message);
        }
    }

    #[test]
    fn a_uid_that_stands_for_many_users_is_refused() {
        assert_eq!(refuse_unless_mapped(65_534, true), Ok(()));
        let error = refuse_unless_mapped(65_534, false).unwrap_err();
        assert_eq!(error.code, ErrorCode::PERMISSION_DENIED);
        assert_eq!(
            &*error.message,
            "user id 65534 may be anybody in this user namespace"
        );
    }

    #[test]
    fn the_overflow_uid_is_a_user_only_where_every_user_is_mapped() {
        for (map, expected) in [
            ("         0          0 4294967295\n", true),
            ("0 100000 65536\n", false),
            ("0 0 65534\n65534 65534 4294901761\n", true),
            ("", false),
        ] {
            assert_eq!(maps_every_uid(map), expected, "{map}");
        }
    }
}
