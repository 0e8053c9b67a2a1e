//! Who may do what.
//!
//! A decision is a value: [`Gate`] turns a caller and a request into a [`SubmitPermit`] or a [`Scope`], which
//! nothing outside this module can make and without which the engine does nothing. The caller's identity
//! is what the kernel said when it connected.

mod accounts;

pub use accounts::{Account, Accounts};

use std::io;

use escher_launcher::ipc::wire::Identity;
use escher_launcher::os::peer_credentials::PeerCredentials;
use escher_protocol::{ApiError, Canceller, ErrorCode, RunAs, User};
use nix::unistd::{self, Gid};

/// Somebody with a connection.
#[derive(Debug, Clone)]
pub struct Caller {
    credentials: PeerCredentials,
    account: Account,
}

impl Caller {
    /// What the kernel would say of this process if it connected.
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

    /// The user behind it.
    #[must_use]
    pub fn user(&self) -> &User {
        &self.account.user
    }

    fn is_root(&self) -> bool {
        self.credentials.uid == 0
    }
}

/// Leave to run a command as [`SubmitPermit::account`].
#[derive(Debug)]
#[must_use]
pub struct SubmitPermit {
    submitter: User,
    account: Account,
}

impl SubmitPermit {
    /// Root's, for itself: for tests of what demands one.
    #[cfg(test)]
    pub(crate) fn of_root() -> Self {
        let user = User { uid: 0, name: None };
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

    /// Who asks, and as whom the command runs.
    #[must_use]
    pub fn into_parts(self) -> (User, Account) {
        (self.submitter, self.account)
    }
}

/// Leave to do what concerns everybody: to change settings, to clean up.
#[derive(Debug)]
#[must_use]
pub struct AdminPermit(());

impl AdminPermit {
    /// The host's own, which has sent a signal to this process: only root and its own user can (kill(2)).
    pub(crate) fn by_signal() -> Self {
        AdminPermit(())
    }
}

/// Which executions a caller may see and end: to it there are no others.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Scope {
    user: User,
    all: bool,
}

impl Scope {
    /// Root's, for tests of what demands one.
    #[cfg(test)]
    pub(crate) fn of_root() -> Self {
        Scope {
            user: User { uid: 0, name: None },
            all: true,
        }
    }

    /// Whether an execution that `submitter` asked for is among them.
    #[must_use]
    pub fn includes(&self, submitter: &User) -> bool {
        self.all || submitter.uid == self.user.uid
    }

    /// The only submitter whose executions are among them; `None`: everybody's are.
    #[must_use]
    pub fn submitter(&self) -> Option<u32> {
        (!self.all).then_some(self.user.uid)
    }

    /// Who will have done what is done in this scope.
    #[must_use]
    pub fn canceller(&self) -> Canceller {
        Canceller::User(self.user.clone())
    }
}

/// Decides. It knows the accounts of the host, and whom the launcher can start commands for.
#[derive(Debug)]
pub struct Gate {
    accounts: Accounts,
    reach: Reach,
}

/// For whom commands can be started.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reach {
    /// For everybody: the launcher is root.
    AllUsers,
    /// For this user alone, which is the launcher's own.
    Only(u32),
}

/// What the kernel reports for an id that has no number in this user namespace
/// (/proc/sys/kernel/overflowuid, user_namespaces(7)), unless it was configured differently.
const DEFAULT_OVERFLOW_UID: u32 = 65534;

impl Gate {
    /// A gate for a launcher with this reach.
    #[must_use]
    pub fn new(reach: Reach) -> Self {
        Gate {
            accounts: Accounts::default(),
            reach,
        }
    }

    /// For whom commands can be started.
    #[must_use]
    pub fn reach(&self) -> Reach {
        self.reach
    }

    /// Lets a peer in.
    ///
    /// # Errors
    /// When it may not use this escherd at all.
    pub async fn admit(&self, credentials: PeerCredentials) -> Result<Caller, ApiError> {
        let uid = credentials.uid;
        if uid == u32::MAX || uid == overflow_uid() {
            let message = format!("user id {uid} stands for a user that this host does not know");
            return Err(ApiError::new(ErrorCode::PERMISSION_DENIED, message));
        }
        if let Reach::Only(own) = self.reach
            && own != uid
        {
            let message =
                format!("this escherd serves the user with id {own} alone; you are {uid}");
            return Err(ApiError::new(ErrorCode::PERMISSION_DENIED, message)
                .with_hint("use the system's escherd, or start your own: escherd --user"));
        }
        let mut account = self.accounts.by_uid(uid).await?;
        account.identity = self.identity(Identity {
            uid,
            gid: credentials.gid,
            groups: credentials.groups.clone(),
        });
        Ok(Caller {
            credentials,
            account,
        })
    }

    /// Whether `caller` may run a command as `run_as`: everybody as itself, with the groups of its
    /// connection; root as anybody, with that user's login groups.
    ///
    /// # Errors
    /// `permission-denied`, or `unknown-user` (for root alone: to others the answer does not tell
    /// whether there is such a user).
    pub async fn submit(&self, caller: &Caller, run_as: &RunAs) -> Result<SubmitPermit, ApiError> {
        let submitter = caller.user().clone();
        let account = match run_as {
            RunAs::Caller => caller.account.clone(),
            other if is_self(caller, other) => caller.account.clone(),
            _ if !caller.is_root() => return Err(denied(caller, run_as)),
            RunAs::Name(name) => self.other_account(self.accounts.by_name(name).await?)?,
            RunAs::Uid(uid) => self.other_account(self.accounts.by_uid(*uid).await?)?,
        };
        Ok(SubmitPermit { submitter, account })
    }

    /// Whether `caller` may do what concerns everybody: root, and the user that escherd runs as.
    ///
    /// # Errors
    /// `permission-denied`.
    pub fn administer(&self, caller: &Caller) -> Result<AdminPermit, ApiError> {
        let uid = caller.credentials.uid;
        if uid == 0 || uid == unistd::geteuid().as_raw() {
            return Ok(AdminPermit(()));
        }
        let message = format!(
            "{} may not do this: it concerns everybody's executions",
            caller.user()
        );
        Err(ApiError::new(ErrorCode::PERMISSION_DENIED, message)
            .with_hint("root may, and the user that escherd runs as"))
    }

    /// What `caller` may see and end: its own executions; root all.
    pub fn scope(&self, caller: &Caller) -> Scope {
        Scope {
            user: caller.user().clone(),
            all: caller.is_root(),
        }
    }

    /// What `caller` may see and end by a permit: everything.
    pub fn scope_of_all(&self, _permit: &AdminPermit, caller: &Caller) -> Scope {
        Scope {
            user: caller.user().clone(),
            all: true,
        }
    }

    fn other_account(&self, mut account: Account) -> Result<Account, ApiError> {
        let Some(identity) = account.identity.take() else {
            let message = format!("user {} has no account on this host", account.user);
            return Err(ApiError::new(ErrorCode::UNKNOWN_USER, message));
        };
        account.identity = match self.reach {
            Reach::Only(own) if own != identity.uid => {
                let message = format!("this escherd can run commands as user id {own} alone");
                return Err(ApiError::new(ErrorCode::PERMISSION_DENIED, message));
            }
            _ => self.identity(identity),
        };
        Ok(account)
    }

    /// What the launcher has to become: nothing, where it can only be itself.
    fn identity(&self, identity: Identity) -> Option<Identity> {
        (self.reach == Reach::AllUsers).then_some(identity)
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
        .with_hint("leave out --user to run it as yourself, or ask as root")
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

#[cfg(test)]
mod tests {
    use super::*;

    fn peer(uid: u32) -> PeerCredentials {
        PeerCredentials {
            uid,
            gid: 7,
            groups: vec![8, 9],
            pid: 1,
        }
    }

    async fn caller(gate: &Gate, uid: u32) -> Caller {
        gate.admit(peer(uid)).await.unwrap()
    }

    fn code<T: std::fmt::Debug>(result: Result<T, ApiError>) -> ErrorCode {
        result.unwrap_err().code
    }

    #[tokio::test]
    async fn ids_that_stand_for_nobody_are_refused() {
        let gate = Gate::new(Reach::AllUsers);
        for uid in [u32::MAX, overflow_uid()] {
            assert_eq!(
                code(gate.admit(peer(uid)).await),
                ErrorCode::PERMISSION_DENIED
            );
        }
    }

    /// Everybody × every way to name a target, against the rule in one line: root, or itself.
    #[tokio::test]
    async fn only_root_runs_commands_as_others() {
        let gate = Gate::new(Reach::AllUsers);
        for uid in [0, 4242, 4243] {
            let caller = caller(&gate, uid).await;
            for target in [0, 4242] {
                let permit = gate.submit(&caller, &RunAs::Uid(target)).await;
                let allowed = uid == target || (uid == 0 && target == 0);
                match permit {
                    Ok(permit) => assert!(allowed && permit.account.user.uid == target),
                    Err(error) if uid == 0 => assert_eq!(error.code, ErrorCode::UNKNOWN_USER),
                    Err(error) => assert_eq!(error.code, ErrorCode::PERMISSION_DENIED),
                }
            }
        }
    }

    #[tokio::test]
    async fn the_caller_keeps_the_groups_of_its_connection() {
        let gate = Gate::new(Reach::AllUsers);
        let caller = caller(&gate, 4242).await;
        let (_, account) = gate
            .submit(&caller, &RunAs::Caller)
            .await
            .unwrap()
            .into_parts();
        let expected = Identity {
            uid: 4242,
            gid: 7,
            groups: vec![8, 9],
        };
        assert_eq!(account.identity, Some(expected));
        assert_eq!(&*account.home, b"/");
    }

    #[tokio::test]
    async fn names_that_look_like_numbers_or_paths_are_names() {
        let gate = Gate::new(Reach::AllUsers);
        let root = caller(&gate, 0).await;
        for name in ["0", "0x0", "../../bin/cp", "#0", "-1", "4294967295", ""] {
            let permit = gate.submit(&root, &RunAs::Name(name.into())).await;
            assert_eq!(code(permit), ErrorCode::UNKNOWN_USER, "{name:?}");
        }
    }

    #[tokio::test]
    async fn an_escherd_without_root_serves_its_own_user_alone() {
        let gate = Gate::new(Reach::Only(4242));
        assert_eq!(
            code(gate.admit(peer(4243)).await),
            ErrorCode::PERMISSION_DENIED
        );
        assert_eq!(
            code(gate.admit(peer(0)).await),
            ErrorCode::PERMISSION_DENIED
        );
        let own = caller(&gate, 4242).await;
        let (_, account) = gate
            .submit(&own, &RunAs::Caller)
            .await
            .unwrap()
            .into_parts();
        assert_eq!(account.identity, None, "the launcher is that user already");
    }

    #[tokio::test]
    async fn scopes_hold_ones_own_executions_and_for_root_all() {
        let gate = Gate::new(Reach::AllUsers);
        let user = |uid| User { uid, name: None };
        let own = gate.scope(&caller(&gate, 4242).await);
        assert!(own.includes(&user(4242)) && !own.includes(&user(4243)) && !own.includes(&user(0)));
        let all = gate.scope(&caller(&gate, 0).await);
        assert!(all.includes(&user(4242)));
    }
}
