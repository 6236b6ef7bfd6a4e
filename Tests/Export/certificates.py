"""Certificates and keys for the tests, made by certtool: an authority, a server, clients, and wrong ones."""

import pathlib
import shutil
import ssl
import subprocess

from harness import Skip

AUTHORITY = "ca\ncert_signing_key\ncrl_signing_key\nexpiration_days = 30\n"
SERVER = "dns_name = localhost\ntls_www_server\nsigning_key\nexpiration_days = 30\n"
CLIENT = "tls_www_client\nsigning_key\nexpiration_days = 30\n"
EXPIRED = 'dns_name = localhost\ntls_www_server\nsigning_key\nactivation_date = "2020-01-01 00:00:00"\nexpiration_date = "2020-02-01 00:00:00"\n'


class Authority:
    """An authority of its own folder, and what it has signed."""

    def __init__(self, folder, name="authority"):
        if not shutil.which("certtool"):
            raise Skip("certtool isn't installed: scripts/setup.sh test")
        self.folder = folder / name
        self.folder.mkdir()
        self.name = name
        self.key, self.certificate = self.folder / "ca-key.pem", self.folder / "ca-cert.pem"
        self._key(self.key)
        self._tool("--generate-self-signed", "--load-privkey", self.key, "--template", self._template(name, AUTHORITY),
                   "--outfile", self.certificate)
        self.sign("server", SERVER)

    def sign(self, name, kind):
        """Makes NAME-cert.pem and NAME-key.pem."""
        certificate, key = self.folder / f"{name}-cert.pem", self.folder / f"{name}-key.pem"
        self._key(key)
        self._tool("--generate-certificate", "--load-privkey", key, "--load-ca-certificate", self.certificate,
                   "--load-ca-privkey", self.key, "--template", self._template(name, kind), "--outfile", certificate)
        return certificate, key

    def withdraw(self, certificate):
        self._tool("--generate-crl", "--load-ca-privkey", self.key, "--load-ca-certificate", self.certificate,
                   "--load-certificate", certificate, "--template", self._template("crl", "crl_next_update = 30\ncrl_number = 1\n"),
                   "--outfile", self.folder / "ca-crl.pem")

    def context(self, client=None, version=None):
        """What a client of Python's needs."""
        context = ssl.create_default_context(cafile=self.certificate)
        if client:
            context.load_cert_chain(*client)
        if version:
            context.set_ciphers("DEFAULT@SECLEVEL=0")
            context.minimum_version = context.maximum_version = version
        return context

    def _key(self, path):
        self._tool("--generate-privkey", "--key-type", "ecdsa", "--outfile", path)

    def _template(self, name, text):
        path = self.folder / f"{name}.template"
        path.write_text(f'cn = "{name}"\n{text}')
        return path

    def _tool(self, *words):
        result = subprocess.run(["certtool", *map(str, words)], capture_output=True, text=True, timeout=60)
        assert result.returncode == 0, result.stderr


def copy_of(authority, folder):
    """A folder of certificates to spoil."""
    return pathlib.Path(shutil.copytree(authority.folder, folder / "spoilt"))
