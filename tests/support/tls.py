"""TLS contexts for tests: a certificate for localhost and 127.0.0.1 that signs itself."""

import pathlib
import ssl

FOLDER = pathlib.Path(__file__).parent


def tls_contexts() -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """Gives a server's context with the certificate and a client's that trusts it alone.

    The key is no secret: it stands beside this file. Both were made by
    `openssl req -x509 -newkey rsa:2048 -nodes -days 36500 -subj /CN=localhost`
    with the alternative names DNS:localhost and IP:127.0.0.1.
    """
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(FOLDER / "localhost-cert.pem", FOLDER / "localhost-key.pem")
    client = ssl.create_default_context(cafile=FOLDER / "localhost-cert.pem")
    return server, client
