//! What a process of peerup asks of the operating system besides the network: private files and their locks,
//! who started it, which privileges it keeps, how it goes into the background, and what it tells systemd.
//!
//! Two facts shape this room. `sudo peerup up` is the normal way to start, so root often acts for somebody
//! else: files it writes go to whoever owns the place they are written to ([`files`]), and [`InvokingUser`]
//! says whose configuration is meant. And what parses packets from the network must not be root:
//! [`drop_privileges`] leaves a daemon `CAP_NET_ADMIN`, and a relay or a pairing host nothing.
//!
//! Nothing here decides policy, and nothing here is async.

mod descriptors;
mod detach;
pub mod files;
mod group;
mod interfaces;
pub mod notify;
mod privileges;
mod systemd;
mod unit;
mod user;

pub use descriptors::raise_descriptor_limit;
pub use detach::{Background, DetachError, ReadyError, announce, detach};
pub use group::{GroupError, UserGroup};
pub use interfaces::interface_addresses;
pub use privileges::{Held, Keep, PrivilegeError, Target, drop_privileges, has_net_admin};
pub use systemd::{Systemd, SystemdError};
pub use unit::{Role, Unit, UnitTextError};
pub use user::{InvokingUser, UserError, host_name, owner_name};
