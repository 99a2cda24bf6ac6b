//! A real redis-server, where one is installed, to be compared with. It has no port and no files but a socket.

use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use super::{eventually, guard};

/// A redis-server in a process of its own, which ends with its test.
#[derive(Debug)]
pub(crate) struct RedisServer {
    child: Child,
    socket: PathBuf,
}

impl RedisServer {
    /// Starts a server whose socket is in `folder`; `None` if there is no redis-server on this machine.
    pub(crate) fn start(folder: &Path) -> Option<Self> {
        let socket = folder.join("redis.sock");
        let child = Command::new("redis-server")
            .args(["--port", "0", "--save", "", "--appendonly", "no", "--unixsocket"])
            .arg(&socket)
            .arg("--dir")
            .arg(folder)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .spawn()
            .ok()?;
        guard::watch(child.id());
        let server = Self { child, socket };
        eventually("redis-server listens", || UnixStream::connect(&server.socket).is_ok());
        Some(server)
    }

    /// A connection to it.
    pub(crate) fn connect(&self) -> UnixStream {
        UnixStream::connect(&self.socket).expect("it listens")
    }
}

impl Drop for RedisServer {
    fn drop(&mut self) {
        // It may have ended before.
        let _ = self.child.kill();
        let _ = self.child.wait();
        guard::release(self.child.id());
    }
}
