//! One connection, and the deadline for reading an answer.
//!
//! hyper limits the time in which a client must send its request. This file limits the time in which it must
//! read the answer. Forked children close the sockets of connections: see
//! [`descriptors`](super::descriptors).

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Sleep, sleep};

use super::crowd::Member;
use super::descriptors::Guarded;
use super::listener::{ReadWrite, Stream};

#[derive(Debug)]
pub(super) struct Connection {
    socket: Guarded<Stream>,
    member: Arc<Member>,
    write_timeout: Duration,
    /// Set at the first write that has to wait, and cleared when the answer is complete. A client that reads
    /// a byte now and then does not extend it.
    write_deadline: Option<Pin<Box<Sleep>>>,
}

impl Connection {
    pub(super) fn new(socket: Guarded<Stream>, member: Arc<Member>, write_timeout: Duration) -> Self {
        Self { socket, member, write_timeout, write_deadline: None }
    }

    fn poll_socket<T>(
        &mut self,
        context: &mut Context<'_>,
        write: impl FnOnce(Pin<&mut dyn ReadWrite>, &mut Context<'_>) -> Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        let written = write(self.socket.get_mut()?.as_pin(), context);
        if written.is_ready() {
            return written;
        }
        let write_timeout = self.write_timeout;
        let deadline = self.write_deadline.get_or_insert_with(|| Box::pin(sleep(write_timeout)));
        match deadline.as_mut().poll(context) {
            Poll::Ready(()) => Poll::Ready(Err(io::ErrorKind::TimedOut.into())),
            Poll::Pending => Poll::Pending,
        }
    }
}

impl AsyncRead for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.socket.get_mut()?.as_pin().poll_read(context, buffer)
    }
}

impl AsyncWrite for Connection {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.poll_socket(context, |socket, context| socket.poll_write(context, bytes))
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.poll_socket(context, |socket, context| socket.poll_write_vectored(context, slices))
    }

    /// Lets hyper write the rendered body without copying it.
    fn is_write_vectored(&self) -> bool {
        true
    }

    /// hyper flushes when it has written all its data.
    fn poll_flush(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.write_deadline = None;
        self.member.is_written();
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.socket.get_mut()?.as_pin().poll_shutdown(context)
    }
}
