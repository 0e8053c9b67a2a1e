//! Which service manager runs this escherd, so that advice names the right commands.

use super::systemd;

/// What has started this escherd.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ServiceManager {
    /// systemd, for the whole host.
    System,
    /// The service manager of one user (`systemd --user`).
    User,
    /// A person or another program.
    None,
}

impl ServiceManager {
    /// Returns that of this process.
    #[must_use]
    pub fn current() -> Self {
        // Set by a user's service manager alone (systemd.exec(5)).
        let is_of_user = std::env::var_os("MANAGERPID").is_some();
        Self::of(systemd::is_notifiable(), is_of_user)
    }

    fn of(is_notifiable: bool, is_of_user: bool) -> Self {
        match (is_notifiable, is_of_user) {
            (false, _) => ServiceManager::None,
            (true, false) => ServiceManager::System,
            (true, true) => ServiceManager::User,
        }
    }

    /// Returns how to restart escherd.
    pub(crate) fn restart(self) -> &'static str {
        match self {
            ServiceManager::System => "run `systemctl restart escherd`",
            ServiceManager::User => "run `systemctl --user restart escherd`",
            ServiceManager::None => "stop escherd and start it again",
        }
    }

    /// Returns how to change escherd's unit.
    pub(crate) fn edit(self) -> &'static str {
        match self {
            ServiceManager::User => "`systemctl --user edit escherd`",
            ServiceManager::System | ServiceManager::None => "`systemctl edit escherd`",
        }
    }

    /// Returns where escherd's log is.
    pub(crate) fn log(self) -> &'static str {
        match self {
            ServiceManager::System => "`journalctl -u escherd`",
            ServiceManager::User => "`journalctl --user -u escherd`",
            ServiceManager::None => "escherd's standard error",
        }
    }

    /// Returns where the logs of escherd and its launcher are, which may be a service of its own.
    pub(crate) fn log_with_launcher(self, is_launcher_service: bool) -> &'static str {
        match (self, is_launcher_service) {
            (ServiceManager::System, true) => "`journalctl -u escherd -u escher-launcher`",
            // A launcher that escherd has started logs where escherd does.
            _ => self.log(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_manager_of_a_user_is_told_from_that_of_the_system() {
        assert_eq!(ServiceManager::of(true, false), ServiceManager::System);
        assert_eq!(ServiceManager::of(true, true), ServiceManager::User);
        // A terminal that a user's manager has started passes its variables on.
        assert_eq!(ServiceManager::of(false, true), ServiceManager::None);
    }
}
