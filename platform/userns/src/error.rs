//! Why there are no namespaces, told apart by what closed them.

use std::{fmt, io};

use nix::errno::Errno;

/// What was being done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    Enter,
    Map,
    Mount,
    Start,
}

impl fmt::Display for Stage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Enter => "enter a user namespace",
            Self::Map => "map this user into the user namespace",
            Self::Mount => "give the namespace its own files",
            Self::Start => "start the command",
        })
    }
}

#[derive(Debug, thiserror::Error)]
pub enum NamespaceError {
    #[error("user namespaces are closed on this host: user.max_user_namespaces is 0")]
    NoneAllowed,
    #[error("user namespaces are closed to users on this host: kernel.unprivileged_userns_clone is 0")]
    ClosedToUsers,
    #[error(
        "user namespaces without a profile are closed: kernel.apparmor_restrict_unprivileged_userns is 1"
    )]
    AppArmor,
    #[error("user namespaces are closed to this process, as in most containers")]
    Forbidden,
    #[error("cannot {stage}")]
    Failed {
        stage: Stage,
        #[source]
        source: io::Error,
    },
}

impl NamespaceError {
    /// `setting` reads a number below /proc/sys.
    pub(crate) fn unshare(errno: Errno, setting: &dyn Fn(&str) -> Option<u64>) -> Self {
        let is = |path: &str, value: u64| setting(path) == Some(value);
        match errno {
            Errno::ENOSPC | Errno::EPERM | Errno::EUSERS if is("user/max_user_namespaces", 0) => {
                Self::NoneAllowed
            }
            Errno::EPERM if is("kernel/unprivileged_userns_clone", 0) => Self::ClosedToUsers,
            Errno::EPERM | Errno::EACCES if is("kernel/apparmor_restrict_unprivileged_userns", 1) => {
                Self::AppArmor
            }
            Errno::EPERM | Errno::EACCES | Errno::ENOSYS => Self::Forbidden,
            other => Self::Failed { stage: Stage::Enter, source: other.into() },
        }
    }

    /// Whether AppArmor lets users have namespaces without rights in them: then everything after entering fails.
    pub fn is_apparmor_possible() -> bool {
        crate::kernel_setting("kernel/apparmor_restrict_unprivileged_userns") == Some(1)
    }

    /// What the administrator would have to do.
    pub fn hint(&self) -> &'static str {
        match self {
            Self::NoneAllowed => "sudo sysctl user.max_user_namespaces=10000",
            Self::ClosedToUsers => "sudo sysctl kernel.unprivileged_userns_clone=1",
            Self::AppArmor => "sudo sysctl kernel.apparmor_restrict_unprivileged_userns=0",
            Self::Forbidden => "the container has to be started with user namespaces allowed",
            Self::Failed { .. } => "the kernel log (`sudo dmesg`) may say more",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_lock_on_namespaces_is_named() {
        let with = |name: &'static str, value: u64| move |path: &str| (path == name).then_some(value);
        let error = NamespaceError::unshare(Errno::ENOSPC, &with("user/max_user_namespaces", 0));
        assert!(matches!(error, NamespaceError::NoneAllowed));
        let error = NamespaceError::unshare(Errno::EPERM, &with("kernel/unprivileged_userns_clone", 0));
        assert!(matches!(error, NamespaceError::ClosedToUsers));
        let apparmor = with("kernel/apparmor_restrict_unprivileged_userns", 1);
        assert!(matches!(NamespaceError::unshare(Errno::EPERM, &apparmor), NamespaceError::AppArmor));
        assert!(matches!(NamespaceError::unshare(Errno::EPERM, &|_| None), NamespaceError::Forbidden));
        assert!(!NamespaceError::NoneAllowed.hint().is_empty());
    }
}
