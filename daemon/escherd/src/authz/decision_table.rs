//! What each caller may do: all callers × all requests.

use super::*;
use escher_protocol::Text;

/// The user that escherd runs as in these tests.
const DAEMON_UID: u32 = 990;
const ALICE_UID: u32 = 4242;
const BOB_UID: u32 = 4243;

/// The largest uid that a user can have.
const LAST_UID: u32 = i32::MAX.unsigned_abs();

/// The gid and the groups of each connection, which differ from those of any login.
const GID: u32 = 70_007;
const GROUPS: [u32; 2] = [70_008, 70_009];

fn user(uid: u32, name: &str) -> User {
    User {
        uid,
        name: Some(name.into()),
    }
}

fn identity(uid: u32) -> Identity {
    Identity {
        uid,
        gid: GID,
        groups: GROUPS.into(),
    }
}

fn caller(uid: u32, name: &str, served_users: ServedUsers) -> Caller {
    Caller {
        credentials: PeerCredentials {
            uid,
            gid: GID,
            groups: GROUPS.into(),
            pid: 1,
        },
        account: Account {
            user: user(uid, name),
            home: "/home".into(),
            shell: "/bin/sh".into(),
            identity: (served_users == ServedUsers::All).then(|| identity(uid)),
        },
    }
}

fn authorizer(served_users: ServedUsers) -> Authorizer {
    Authorizer {
        own_uid: DAEMON_UID,
        ..Authorizer::new(served_users)
    }
}

fn callers() -> [Caller; 4] {
    [
        caller(0, "root", ServedUsers::All),
        caller(DAEMON_UID, "escherd", ServedUsers::All),
        caller(ALICE_UID, "alice", ServedUsers::All),
        caller(BOB_UID, "bob", ServedUsers::All),
    ]
}

/// Whom a command may run as: `-` denied, `?` no such user, `connection` with the groups of the caller's connection,
/// `login` with the login groups of the target. Neither alice nor bob has an account on the host.
#[tokio::test]
async fn whom_commands_may_run_as() {
    let authorizer = authorizer(ServedUsers::All);
    let name = |name: &str| RunAs::Name(Text::from(name));
    let targets = [
        RunAs::Caller,
        RunAs::Uid(0),
        name("root"),
        RunAs::Uid(ALICE_UID),
        name("alice"),
        RunAs::Uid(1),
    ];
    #[rustfmt::skip]
    let table = [
        //         itself        uid 0         root          uid of alice  alice         uid 1
        /* root */ ["connection", "connection", "connection", "?",          "?",          "login"],
        /* own */  ["connection", "-",          "-",          "-",          "-",          "-"],
        /* alice */["connection", "-",          "-",          "connection", "connection", "-"],
        /* bob */  ["connection", "-",          "-",          "-",          "-",          "-"],
    ];
    let has_first_account = unistd::User::from_uid(1.into()).unwrap().is_some();
    for (caller, row) in callers().iter().zip(table) {
        for (target, expected) in targets.iter().zip(row) {
            let expected = if expected == "login" && !has_first_account {
                "?"
            } else {
                expected
            };
            let found = match authorizer.authorize_submit(caller, target).await {
                Err(error) if error.code == ErrorCode::PERMISSION_DENIED => "-",
                Err(error) if error.code == ErrorCode::UNKNOWN_USER => "?",
                Err(error) => panic!("{error}"),
                Ok(permit) => {
                    let (submitter, account) = permit.into_parts();
                    assert_eq!(&submitter, caller.user(), "charged to the caller");
                    let own = identity(caller.credentials.uid);
                    let assumed = account.identity.as_ref().unwrap();
                    assert_eq!(assumed.uid, account.user.uid);
                    if *assumed == own {
                        "connection"
                    } else {
                        "login"
                    }
                }
            };
            assert_eq!(found, expected, "{} as {target:?}", caller.user());
        }
    }
}

/// Without root, the identity of escherd's only user is the one that commands have already.
#[tokio::test]
async fn whom_commands_may_run_as_without_root() {
    let served = ServedUsers::Only(ALICE_UID);
    let authorizer = authorizer(served);
    let alice = caller(ALICE_UID, "alice", served);
    for target in [
        RunAs::Caller,
        RunAs::Uid(ALICE_UID),
        RunAs::Name("alice".into()),
    ] {
        let permit = authorizer.authorize_submit(&alice, &target).await.unwrap();
        assert_eq!(permit.into_parts().1.identity, None);
    }
    for target in [
        RunAs::Uid(0),
        RunAs::Name("root".into()),
        RunAs::Uid(BOB_UID),
    ] {
        let error = authorizer
            .authorize_submit(&alice, &target)
            .await
            .unwrap_err();
        assert_eq!(error.code, ErrorCode::PERMISSION_DENIED, "{target:?}");
    }
    // An escherd in a user namespace has a root that cannot become others.
    let served = ServedUsers::Only(0);
    let root = caller(0, "root", served);
    let authorizer = Authorizer::new(served);
    let error = authorizer
        .authorize_submit(&root, &RunAs::Uid(1))
        .await
        .unwrap_err();
    let expected = match unistd::User::from_uid(1.into()).unwrap() {
        Some(_) => ErrorCode::PERMISSION_DENIED,
        None => ErrorCode::UNKNOWN_USER,
    };
    assert_eq!(error.code, expected);
}

/// The account of another name may be that of the only user who is served.
#[test]
fn which_accounts_a_launcher_can_run_commands_as() {
    let account = |uid| Account {
        user: user(uid, "other"),
        home: "/home".into(),
        shell: "/bin/sh".into(),
        identity: Some(identity(uid)),
    };
    let run_as = |served, account| authorizer(served).other_account(account);
    let own = run_as(ServedUsers::Only(ALICE_UID), account(ALICE_UID)).unwrap();
    assert_eq!(own.identity, None, "the launcher has it already");
    let refused = run_as(ServedUsers::Only(ALICE_UID), account(BOB_UID)).unwrap_err();
    assert_eq!(refused.code, ErrorCode::PERMISSION_DENIED);
    let any = run_as(ServedUsers::All, account(BOB_UID)).unwrap();
    assert_eq!(any, account(BOB_UID));
    for served in [ServedUsers::All, ServedUsers::Only(BOB_UID)] {
        let no_entry = Account {
            identity: None,
            ..account(BOB_UID)
        };
        let unknown = run_as(served, no_entry).unwrap_err();
        assert_eq!(unknown.code, ErrorCode::UNKNOWN_USER);
    }
}

/// The uid that the kernel reports for all who are not mapped is nobody's.
#[test]
fn the_overflow_uid_is_that_of_the_kernel() {
    let kernel = std::fs::read_to_string("/proc/sys/kernel/overflowuid").unwrap();
    assert_eq!(overflow_uid().to_string(), kernel.trim());
}

#[test]
fn who_may_administer() {
    let authorizer = authorizer(ServedUsers::All);
    let may = callers().map(|caller| authorizer.authorize_admin(&caller).is_ok());
    assert_eq!(may, [true, true, false, false]);
    let [.., bob] = callers();
    let error = authorizer.authorize_admin(&bob).unwrap_err();
    assert_eq!(error.code, ErrorCode::PERMISSION_DENIED);
    assert!(error.message.starts_with("bob"), "{error}");
}

/// Whose executions each caller finds: columns and rows are the callers.
#[test]
fn whose_executions_a_caller_finds() {
    let authorizer = authorizer(ServedUsers::All);
    let table = [
        /* root */ [true, true, true, true],
        /* own */ [false, true, false, false],
        /* alice */ [false, false, true, false],
        /* bob */ [false, false, false, true],
    ];
    for (caller, row) in callers().iter().zip(table) {
        let scope = authorizer.scope(caller);
        let found = callers().map(|submitter| scope.includes(submitter.user()));
        assert_eq!(found, row, "{}", caller.user());
        let only = (caller.credentials.uid != 0).then_some(caller.user());
        assert_eq!(scope.submitter(), only);
        assert_eq!(scope.caller(), caller.user());
        assert_eq!(scope.canceller(), Canceller::User(caller.user().clone()));
    }
}

/// What the uid of alice has submitted under each name, for that uid with each name: rows are the
/// callers, columns the submitters. A uid that never had a name stays the same owner.
#[test]
fn a_uid_with_another_name_is_another_user() {
    let authorizer = authorizer(ServedUsers::All);
    let users = [Some("alice"), Some("bob"), None].map(|name| User {
        uid: ALICE_UID,
        name: name.map(Text::from),
    });
    let table = [
        /* alice */ [true, false, false],
        /* bob */ [false, true, false],
        /* none */ [false, false, true],
    ];
    for (user, row) in users.iter().zip(table) {
        let mut caller = caller(ALICE_UID, "", ServedUsers::All);
        caller.account.user = user.clone();
        let scope = authorizer.scope(&caller);
        let found = users.each_ref().map(|submitter| scope.includes(submitter));
        assert_eq!(found, row, "{user}");
        assert_eq!(scope.submitter(), Some(user));
    }
    let [root, ..] = callers();
    let scope = authorizer.scope(&root);
    assert!(users.iter().all(|submitter| scope.includes(submitter)));
}

/// Whose quota and names a caller may ask for: `-` nobody's, `?` no such user. alice has no account on the host.
#[tokio::test]
async fn which_users_a_caller_may_know_of() {
    let authorizer = authorizer(ServedUsers::All);
    let name = |name: &str| RunAs::Name(Text::from(name));
    let targets = [
        RunAs::Caller,
        RunAs::Uid(0),
        name("root"),
        RunAs::Uid(ALICE_UID),
        name("alice"),
    ];
    #[rustfmt::skip]
    let table = [
        //          itself uid 0  root   uid 4242 alice
        /* root */  ["0",    "0", "0", "4242", "?"],
        /* own */   ["990",  "-", "-", "-",    "-"],
        /* alice */ ["4242", "-", "-", "4242", "4242"],
        /* bob */   ["4243", "-", "-", "-",    "-"],
    ];
    for (caller, row) in callers().iter().zip(table) {
        for (target, expected) in targets.iter().zip(row) {
            let found = match authorizer.visible_user(caller, target).await {
                Ok(Some(user)) => user.uid.to_string(),
                Ok(None) => "-".to_owned(),
                Err(error) => {
                    assert_eq!(error.code, ErrorCode::UNKNOWN_USER);
                    "?".to_owned()
                }
            };
            assert_eq!(found, expected, "{target:?} for {}", caller.user());
        }
    }
}

#[test]
fn an_administrator_may_act_on_all_executions_in_its_own_name() {
    let authorizer = authorizer(ServedUsers::All);
    let [_, own, alice, _] = callers();
    let permit = authorizer.authorize_admin(&own).unwrap();
    let scope = authorizer.unrestricted_scope(&permit, &own);
    assert!(scope.includes(alice.user()));
    assert_eq!(scope.submitter(), None);
    assert_eq!(scope.canceller(), Canceller::User(own.user().clone()));
}

#[tokio::test]
async fn whom_an_escherd_serves() {
    let peer = |uid| PeerCredentials {
        uid,
        gid: GID,
        groups: GROUPS.into(),
        pid: 1,
    };
    for (served, uid, is_served) in [
        (ServedUsers::All, 0, true),
        (ServedUsers::All, ALICE_UID, true),
        (ServedUsers::All, LAST_UID, true),
        (ServedUsers::All, LAST_UID + 1, false),
        (ServedUsers::All, u32::MAX - 1, false),
        (ServedUsers::All, u32::MAX, false),
        (ServedUsers::All, overflow_uid(), is_every_user_mapped()),
        (ServedUsers::Only(ALICE_UID), ALICE_UID, true),
        (ServedUsers::Only(ALICE_UID), BOB_UID, false),
        (ServedUsers::Only(ALICE_UID), 0, false),
    ] {
        let authorizer = authorizer(served);
        assert_eq!(authorizer.served_users(), served);
        match authorizer.authenticate(peer(uid)).await {
            Ok(caller) => {
                assert!(is_served, "{uid} by {served:?}");
                assert_eq!(caller.user().uid, uid);
                let expected = (served == ServedUsers::All).then(|| identity(uid));
                assert_eq!(caller.account.identity, expected);
            }
            Err(error) => {
                assert!(!is_served, "{uid} by {served:?}: {error}");
                assert_eq!(error.code, ErrorCode::PERMISSION_DENIED);
            }
        }
    }
}

/// Uids that are negative for programs that keep them in an `int` are nobody's, for root either.
#[tokio::test]
async fn no_command_runs_as_a_reserved_uid() {
    let [root, ..] = callers();
    let authorizer = authorizer(ServedUsers::All);
    for uid in [LAST_UID + 1, u32::MAX - 1, u32::MAX] {
        let refused = authorizer.authorize_submit(&root, &RunAs::Uid(uid)).await;
        let error = refused.unwrap_err();
        assert_eq!(error.code, ErrorCode::PERMISSION_DENIED);
        assert!(error.message.contains(&uid.to_string()), "{error}");
    }
}

#[test]
fn the_own_credentials_are_those_of_the_process() {
    let own = Caller::own_credentials().unwrap();
    let (uid, gid) = (unistd::geteuid().as_raw(), unistd::getegid().as_raw());
    assert_eq!((own.uid, own.gid), (uid, gid));
    assert_eq!(own.pid, unistd::getpid().as_raw());
    assert!(own.groups.is_sorted());
}

#[test]
fn a_refusal_names_the_caller_and_the_wanted_user() {
    let [.., bob] = callers();
    for (wanted, shown) in [
        (RunAs::Uid(0), "bob may not run commands as \"0\""),
        (
            RunAs::Name("root".into()),
            "bob may not run commands as \"root\"",
        ),
        (RunAs::Caller, "bob may not run commands as \"bob\""),
    ] {
        assert_eq!(&*denied(&bob, &wanted).message, shown);
    }
}

#[tokio::test]
async fn names_that_look_like_uids_or_paths_are_names() {
    let [root, ..] = callers();
    let authorizer = authorizer(ServedUsers::All);
    for name in ["0", "0x0", "../../bin/cp", "#0", "-1", "4294967295", ""] {
        let target = RunAs::Name(name.into());
        let refused = authorizer.authorize_submit(&root, &target).await;
        assert_eq!(
            refused.unwrap_err().code,
            ErrorCode::UNKNOWN_USER,
            "{name:?}"
        );
    }
}
