//! An HTTP server and a client, both hyper's, in one program; the server is cancelled when the client has what it wanted.

#![allow(clippy::print_stdout)] // it is what the program does

use antiphon::hyper::{HyperIo, HyperTimer};
use antiphon::net::{TcpListener, TcpStream};
use antiphon::{GroupError, cancellable, task_group};
use http_body_util::{BodyExt, Empty, Full};
use hyper::body::{Bytes, Incoming};
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use std::convert::Infallible;
use std::error::Error;
use std::net::SocketAddr;

type Outcome<T> = Result<T, Box<dyn Error>>;

/// Answers `/square/N` with the square of N.
async fn answer(request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
    let number = request.uri().path().strip_prefix("/square/").and_then(|number| number.parse::<u32>().ok());
    let (status, text) = match number {
        Some(number) => (StatusCode::OK, (u64::from(number) * u64::from(number)).to_string()),
        None => (StatusCode::NOT_FOUND, "no such page".to_owned()),
    };
    let mut response = Response::new(Full::from(text));
    *response.status_mut() = status;
    Ok(response)
}

/// Serves until it is cancelled, and its connections with it.
async fn serve(listener: TcpListener) -> Result<(), GroupError> {
    task_group(async |connections| -> Outcome<()> {
        loop {
            let (stream, _peer) = listener.accept().await?;
            let connection = hyper::server::conn::http1::Builder::new()
                .timer(HyperTimer)
                .serve_connection(HyperIo::new(stream), service_fn(answer));
            connections.spawn(async move { Outcome::Ok(cancellable(connection).await??) });
        }
    })
    .await
}

async fn get(address: SocketAddr, path: &str) -> Outcome<String> {
    task_group(async |group| -> Outcome<String> {
        let stream = TcpStream::connect(address).await?;
        let (mut sender, connection) = hyper::client::conn::http1::handshake(HyperIo::new(stream)).await?;
        let connection = group.spawn(async move { Outcome::Ok(cancellable(connection).await??) });
        let request = Request::get(path).header("host", address.to_string()).body(Empty::<Bytes>::new())?;
        let response = sender.send_request(request).await?;
        let status = response.status();
        let body = response.into_body().collect().await?.to_bytes();
        connection.cancel(); // it would be kept for the next request
        Ok(format!("{status}: {}", String::from_utf8_lossy(&body)))
    })
    .await
    .map_err(Into::into)
}

#[antiphon::main]
async fn main() -> Result<(), GroupError> {
    task_group(async |group| -> Outcome<()> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let server = group.spawn(serve(listener));
        for path in ["/square/12", "/square/4294967295", "/cube/3"] {
            println!("{path} {}", get(address, path).await?);
        }
        server.cancel();
        Ok(())
    })
    .await
}
