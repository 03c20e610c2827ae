//! A TLS server and a client by rustls, which stands on the traits of `futures-io`. The certificate is made on the spot.

#![allow(clippy::print_stdout)] // it is what the program does

use antiphon::net::{TcpListener, TcpStream};
use antiphon::{GroupError, cancellable, task_group};
use futures_rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName};
use futures_rustls::rustls::{ClientConfig, RootCertStore, ServerConfig};
use futures_rustls::{TlsAcceptor, TlsConnector};
use futures_util::{AsyncReadExt, AsyncWriteExt};
use std::error::Error;
use std::sync::Arc;

type Outcome<T> = Result<T, Box<dyn Error>>;

/// A server and a client that trusts it.
fn configurations() -> Outcome<(ServerConfig, ClientConfig)> {
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()])?;
    let certificate: CertificateDer<'static> = made.cert.into();
    let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(made.signing_key.serialize_der()));
    let server =
        ServerConfig::builder().with_no_client_auth().with_single_cert(vec![certificate.clone()], key)?;
    let mut roots = RootCertStore::empty();
    roots.add(certificate)?;
    let client = ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
    Ok((server, client))
}

/// Sends back what one client says, in capitals.
async fn serve(listener: TcpListener, configuration: ServerConfig) -> Outcome<()> {
    let (stream, _peer) = listener.accept().await?;
    let mut stream = cancellable(TlsAcceptor::from(Arc::new(configuration)).accept(stream)).await??;
    let mut heard = String::new();
    stream.read_to_string(&mut heard).await?;
    stream.write_all(heard.to_uppercase().as_bytes()).await?;
    Ok(stream.close().await?)
}

#[antiphon::main]
async fn main() -> Result<(), GroupError> {
    task_group(async |group| -> Outcome<()> {
        let (server, client) = configurations()?;
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        group.spawn(serve(listener, server));

        let stream = TcpStream::connect(address).await?;
        let name = ServerName::try_from("localhost")?;
        let connecting = TlsConnector::from(Arc::new(client)).connect(name, stream);
        let mut stream = cancellable(connecting).await??;
        stream.write_all(b"hello over TLS").await?;
        stream.close().await?; // our side; the other one still answers
        let mut heard = String::new();
        stream.read_to_string(&mut heard).await?;
        let version = stream.get_ref().1.protocol_version();
        println!("{heard}, {}", version.map_or("?", |version| version.as_str().unwrap_or("?")));
        Ok(())
    })
    .await
}
