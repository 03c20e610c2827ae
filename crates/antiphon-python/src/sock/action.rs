//! What an operation is to do: its arguments made ready, and one try of it.

use std::ffi::{c_int, c_void};

use pyo3::ffi;

use crate::event_loop::EventLoop;
use crate::ffi::raise::value_error;
use crate::ffi::{Instance, Owned, Result};
use crate::io_table::Direction;
use crate::names::names;

use super::buffer::{Data, View};
use super::operation::{Method, Request};
use super::socket::{Socket, as_size};
use super::{accept, by_method, connect, receive, send};

/// What a try needs, beside the socket.
pub enum Action {
    /// `recv(limit)`.
    Receive {
        /// The most bytes to receive.
        limit: usize,
    },
    /// `recv_into(room)`.
    ReceiveInto {
        /// Where to: a writable buffer, pinned during a try only, so that its owner may do with it what asyncio allows.
        room: Owned,
    },
    /// `recvfrom(limit)`.
    ReceiveFrom {
        /// The most bytes to receive.
        limit: usize,
    },
    /// `recvfrom_into(room, limit)`.
    ReceiveFromInto {
        /// Where to, as above.
        room: Owned,
        /// The most bytes to receive; no less than there must be room for.
        limit: usize,
    },
    /// `send` until nothing is left.
    SendAll {
        /// All of it.
        data: Data,
        /// How many bytes are gone already.
        sent: usize,
    },
    /// `accept()`.
    Accept,
    /// `connect(address)`.
    Connect {
        /// Where to.
        address: Owned,
        /// Whether the connection is being made.
        begun: bool,
    },
    /// The socket's own method of that name.
    Call {
        /// An interned name.
        method: &'static Owned,
        /// Its positional arguments, the first ones of these.
        arguments: [Option<Owned>; 2],
    },
    /// The socket's own `send` until nothing is left.
    SendAllByMethod {
        /// All of it.
        data: Owned,
        /// How many bytes are gone already.
        sent: usize,
    },
}

impl Action {
    /// Checks the socket and makes the arguments ready, in asyncio's order.
    ///
    /// # Errors
    /// `TypeError` for sockets of the `ssl` module; in debug mode, `ValueError` for sockets that block; whatever the
    /// socket's method would say of its arguments.
    #[inline]
    pub fn prepare(owner: &Instance<EventLoop>, method: Method, request: Request) -> Result<(Socket, Self)> {
        let socket = Socket::new(request.socket);
        socket.check_not_tls()?;
        if owner.debug() && !socket.is_non_blocking()? {
            return Err(value_error("the socket must be non-blocking"));
        }
        let action = if socket.is_plain() {
            Self::by_system_call(method, &socket, request.arguments)?
        } else {
            Self::by_method(method, request.arguments)?
        };
        Ok((socket, action))
    }

    fn by_system_call(method: Method, socket: &Socket, arguments: [Option<Owned>; 2]) -> Result<Self> {
        match (method, arguments) {
            (Method::Recv, [Some(asked), _]) => {
                Ok(Self::Receive { limit: receive::limit(socket, as_size(&asked)?, "recv")? })
            }
            (Method::RecvInto, [Some(room), _]) => Ok(Self::ReceiveInto { room }),
            (Method::RecvFrom, [Some(asked), _]) if accept::knows_family(socket.family()?) => {
                Ok(Self::ReceiveFrom { limit: receive::limit(socket, as_size(&asked)?, "recvfrom")? })
            }
            (Method::RecvFromInto, [Some(room), asked]) if accept::knows_family(socket.family()?) => {
                receive_from_into(room, asked)
            }
            (Method::SendAll, [Some(data), _]) => Ok(Self::SendAll { data: Data::new(data)?, sent: 0 }),
            (_, arguments) => Self::by_method(method, arguments),
        }
    }

    fn by_method(method: Method, arguments: [Option<Owned>; 2]) -> Result<Self> {
        let names = names();
        let call = |method, arguments| Ok(Self::Call { method, arguments });
        match (method, arguments) {
            (Method::Accept, _) => Ok(Self::Accept),
            (Method::Connect, [Some(address), _]) => Ok(Self::Connect { address, begun: false }),
            (Method::SendAll, [Some(data), _]) => Ok(Self::SendAllByMethod { data, sent: 0 }),
            (Method::RecvFromInto, [Some(room), asked]) => {
                let asked = match asked {
                    Some(asked) if as_size(&asked)? != 0 => asked,
                    // SAFETY: F1; a living object.
                    _ => Owned::int(unsafe { ffi::PyObject_Size(room.as_ptr()) } as i64)?,
                };
                call(&names.recvfrom_into, [Some(room), Some(asked)])
            }
            (Method::Recv, arguments) => call(&names.recv, arguments),
            (Method::RecvInto, arguments) => call(&names.recv_into, arguments),
            (Method::RecvFrom, arguments) => call(&names.recvfrom, arguments),
            (_, arguments) => call(&names.sendto, arguments),
        }
    }

    /// Tries once. `None`: the call would block.
    #[inline]
    pub fn attempt(&mut self, owner: &Instance<EventLoop>, socket: &Socket) -> Result<Option<Owned>> {
        match self {
            Self::Receive { limit } => receive::bytes(owner, socket, *limit),
            Self::SendAll { data, sent } => send::rest(socket, data, sent),
            Self::ReceiveInto { room } => receive::into(socket, room),
            Self::ReceiveFrom { limit } => receive::bytes_from(owner, socket, *limit),
            Self::ReceiveFromInto { room, limit } => receive::into_from(socket, room, *limit),
            Self::Accept => accept::connection(socket),
            Self::Connect { address, begun } => connect::outcome(socket, address, begun),
            Self::SendAllByMethod { data, sent } => by_method::send_rest(socket, data, sent),
            Self::Call { method, arguments } => by_method::unless_blocking(match arguments {
                [Some(first), Some(second)] => socket.call(method, [first, second]),
                [Some(first), None] => socket.call(method, [first]),
                _ => socket.call(method, []),
            }),
        }
    }

    /// Visits what this refers to, for the collector.
    pub(super) fn traverse(&self, visit: ffi::visitproc, arg: *mut c_void) -> c_int {
        // SAFETY: called from a traverse slot with its own visitor.
        let visit_object = |object: &Owned| unsafe { visit(object.as_ptr(), arg) };
        match self {
            Self::Receive { .. } | Self::ReceiveFrom { .. } | Self::Accept => 0,
            Self::SendAll { data, .. } => data.traverse(visit, arg),
            Self::ReceiveInto { room: object }
            | Self::ReceiveFromInto { room: object, .. }
            | Self::Connect { address: object, .. }
            | Self::SendAllByMethod { data: object, .. } => visit_object(object),
            Self::Call { arguments, .. } => {
                arguments.iter().flatten().map(visit_object).find(|status| *status != 0).unwrap_or(0)
            }
        }
    }
}

/// `recvfrom_into`, where 0 or nothing asks for as much as there is room for now.
fn receive_from_into(room: Owned, asked: Option<Owned>) -> Result<Action> {
    let asked = asked.map_or(Ok(0), |asked| as_size(&asked))?;
    let limit = match usize::try_from(asked) {
        Ok(0) => View::writable(&room, "recvfrom_into")?.size(),
        Ok(asked) => asked,
        Err(_) => return Err(value_error("negative buffersize in recvfrom_into")),
    };
    Ok(Action::ReceiveFromInto { room, limit })
}

impl Method {
    /// Which readiness the operation waits for.
    pub fn direction(self) -> Direction {
        match self {
            Self::SendAll | Self::SendTo | Self::Connect => Direction::Write,
            _ => Direction::Read,
        }
    }
}
