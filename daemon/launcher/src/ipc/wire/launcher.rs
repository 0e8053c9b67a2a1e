//! Messages between escherd and the launcher.

use escher_protocol::{
    Blob, Controllers, ExecutionId, Leftovers, Parts, Rlimit, RlimitResource, Text,
};
use serde::{Deserialize, Serialize};

/// A message from escherd to the launcher.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum LauncherRequest {
    /// Fork shims and send a [`LauncherReply::Shim`] for each.
    Fork {
        /// How many.
        count: u32,
    },
    /// Delete files of executions. Answered by one [`LauncherReply::FilesDeleted`].
    DeleteFiles {
        /// Which files.
        files: ExecutionFiles,
        /// Of which executions, at most [`MAX_IDS_AT_ONCE`].
        ids: Vec<ExecutionId>,
    },
    /// Take from a user what the access control lists of logs and indexes allow it (acl(5)). Answered
    /// by one [`LauncherReply::ReadRevoked`].
    RevokeRead {
        /// Which user.
        uid: u32,
        /// The logs of which executions, at most [`MAX_IDS_AT_ONCE`].
        ids: Vec<ExecutionId>,
    },
    /// Kill all processes in the cgroup of an execution whose shim has died, and remove the cgroup.
    /// Answered by one [`LauncherReply::CgroupKilled`].
    KillCgroup {
        /// Which execution.
        id: ExecutionId,
    },
}

/// The directories of a launcher and its shims. They stand on the launcher's command line: an escherd
/// that somebody else controls cannot have root write anywhere else.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Directories {
    /// Directory of the logs.
    pub log_dir: Blob,
    /// Parent of the directory of the exit records.
    pub state_dir: Blob,
    /// Parent of the directory of the shims' sockets.
    pub runtime_dir: Blob,
}

/// The launcher's first message. Its layout never changes, so that escherd can say which version a
/// launcher has when it refuses it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LauncherHello {
    /// [`WIRE_VERSION`](super::WIRE_VERSION) of the launcher and its shims.
    pub version: u16,
    /// The launcher's process id.
    pub pid: u32,
    /// The launcher's user: 0 can start commands as anybody, another only as itself.
    pub uid: u32,
    /// The launcher's directories, or why it cannot use them.
    pub directories: Result<Directories, Text>,
    /// What the launcher can do.
    pub abilities: Abilities,
    /// What later versions add.
    pub parts: Parts,
}

/// What a launcher can do.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Abilities {
    /// Release of the launcher's program.
    pub program: Text,
    /// What it can do in the directory of the logs.
    pub log_dir: LogDirAbilities,
    /// Which resources the launcher can limit and measure; `None`: commands have no cgroups.
    pub cgroups: Option<Controllers>,
    /// What a command gets that sets no [`ProcessLimits`](escher_protocol::ProcessLimits).
    pub process: ProcessDefaults,
}

/// Limits and priorities of the processes of a command that sets none: what the launcher has inherited,
/// as far as it cannot or must not change that.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProcessDefaults {
    /// The nice value.
    pub nice: i32,
    /// The adjustment of the out-of-memory score.
    pub oom_score_adjust: i32,
    /// The hard limit of each resource, in the order of [`RlimitResource::TABLE`].
    pub hard_limits: [u64; RlimitResource::TABLE.len()],
}

impl Default for ProcessDefaults {
    fn default() -> Self {
        ProcessDefaults {
            nice: 0,
            oom_score_adjust: 0,
            hard_limits: [Rlimit::INFINITY; RlimitResource::TABLE.len()],
        }
    }
}

impl ProcessDefaults {
    /// Returns the hard limit of a resource.
    #[must_use]
    pub fn hard_limit(&self, resource: RlimitResource) -> u64 {
        self.hard_limits[resource as usize]
    }
}

/// What a launcher and its shims can do in the directory of the logs.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogDirAbilities {
    /// Whether the file system can free the space of the beginning of a file (fallocate(2)), which
    /// [`WhenLogFull::ForgetOldest`](super::WhenLogFull::ForgetOldest) needs.
    pub punches_holes: bool,
}

/// Most executions in one [`LauncherRequest::DeleteFiles`] or [`LauncherRequest::RevokeRead`], so
/// that it fits into a packet.
pub const MAX_IDS_AT_ONCE: usize = 1024;

/// Files that an execution leaves behind.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum ExecutionFiles {
    /// The log and its index.
    Log,
    /// The exit record of an attempt.
    ExitRecord {
        /// Which attempt.
        attempt: u32,
    },
    /// The socket of a shim that died after it had claimed this attempt.
    Claim {
        /// Which attempt.
        attempt: u32,
    },
}

/// A message from the launcher to escherd.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum LauncherReply {
    /// The first message.
    Hello(Box<LauncherHello>),
    /// A shim is ready. Its socket comes with the packet (`SCM_RIGHTS`).
    Shim {
        /// The shim's process id; [`LauncherReply::ShimDied`] names the shim by it.
        pid: u32,
    },
    /// A shim could not be forked; ask again later.
    ForkFailed {
        /// Why (errno(3)).
        errno: i32,
    },
    /// A shim that was not done has died: it was killed, or has failed. Sent once the processes
    /// that it left behind are gone, or have turned out to be unkillable.
    ShimDied {
        /// The process id of [`LauncherReply::Shim`].
        pid: u32,
        /// What became of the processes of its command.
        leftovers: Leftovers,
    },
    /// The answer to [`LauncherRequest::DeleteFiles`].
    FilesDeleted {
        /// As in the request.
        files: ExecutionFiles,
        /// The executions of the request that have no such file any more.
        ids: Vec<ExecutionId>,
    },
    /// The answer to [`LauncherRequest::RevokeRead`].
    ReadRevoked {
        /// As in the request.
        uid: u32,
        /// The executions of the request that have no log any more which a list allows this user to
        /// read.
        ids: Vec<ExecutionId>,
    },
    /// The answer to [`LauncherRequest::KillCgroup`].
    CgroupKilled {
        /// As in the request.
        id: ExecutionId,
        /// What became of the processes.
        leftovers: Leftovers,
    },
}
