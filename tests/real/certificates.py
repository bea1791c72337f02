"""Certificates made by OpenSSL, and the contexts of Python's ssl that present and verify them, for the TLS checks."""

import os
import ssl
import subprocess


def make_certificate(folder, kind, names="DNS:localhost"):
    """Writes a certificate that is not a CA's to a file, and its key to another one."""
    files = {name: os.path.join(folder, f"{kind[0]}-{name}.pem") for name in ("cert", "key")}
    config = os.path.join(folder, "config")
    with open(config, "w", encoding="utf-8") as file:
        file.write("[req]\ndistinguished_name = dn\n[dn]\n[own]\nbasicConstraints = critical, CA:FALSE\n"
                   f"subjectAltName = {names}\n")
    subprocess.run(["openssl", "req", "-x509", "-newkey", *kind, "-nodes", "-days", "2", "-subj", "/CN=localhost",
                    "-config", config, "-extensions", "own", "-keyout", files["key"], "-out", files["cert"]],
                   check=True, capture_output=True)
    return files


def make_ec_certificate(folder, names="DNS:localhost"):
    return make_certificate(folder, ["ec", "-pkeyopt", "ec_paramgen_curve:P-256"], names)


def server_context(files):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(files["cert"], files["key"])
    return context
