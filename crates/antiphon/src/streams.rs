//! asyncio's streams: readers that know of lines and separators, writers that queue, servers that run a task per connection.

mod copy;
mod error;
mod lines;
mod open;
mod reader;
mod server;
mod write_queue;
mod writer;

pub use copy::copy;
pub use error::ReadError;
pub use lines::Lines;
pub use open::{
    TcpReader, TcpWriter, UnixReader, UnixWriter, open_connection, open_unix_connection, start_server,
    start_unix_server,
};
pub use reader::StreamReader;
pub use server::Server;
pub use writer::StreamWriter;
