"""A certificate authority for the length of a process."""
import functools
import ssl


@functools.cache
def contexts():
    """A server's context for localhost, and a client's that trusts it."""
    import trustme
    authority = trustme.CA()
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost").configure_cert(server)
    client = ssl.create_default_context()
    authority.configure_trust(client)
    return server, client
