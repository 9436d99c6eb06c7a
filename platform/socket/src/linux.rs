//! `getsockopt(TCP_INFO)`.

use std::{
    io,
    os::fd::{AsFd, AsRawFd},
};

use nix::libc;

use crate::{TcpFigures, parse};

/// The head of `struct tcp_info` that is read; kernels have longer ones and fill what they are given.
const LEN: usize = 224;

pub fn tcp_figures<S: AsFd>(socket: &S) -> io::Result<TcpFigures> {
    let mut info = [0u8; LEN];
    let mut len = LEN as libc::socklen_t;
    // SAFETY: the descriptor is open while it is borrowed, the kernel writes at most `len` bytes into `info` and tells
    // in `len` how many; any bytes are a valid `[u8; LEN]`.
    let done = unsafe {
        libc::getsockopt(
            socket.as_fd().as_raw_fd(),
            libc::IPPROTO_TCP,
            libc::TCP_INFO,
            info.as_mut_ptr().cast(),
            &mut len,
        )
    };
    if done != 0 {
        return Err(io::Error::last_os_error());
    }
    let given = (len as usize).min(LEN);
    parse(&info[..given]).ok_or_else(|| io::ErrorKind::InvalidData.into())
}
