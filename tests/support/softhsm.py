"""SoftHSM2 as the PKCS #11 module of the tests, with tokens in a directory of their own."""

from __future__ import annotations

import os
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from tests.support.judges import require_module, require_program

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["PIN", "SoftHsm", "make_softhsm"]

PIN = "2468-not-a-default"
_MODULES = (
    "/usr/lib/softhsm/libsofthsm2.so",
    "/usr/lib64/pkcs11/libsofthsm2.so",
    "/usr/local/lib/softhsm/libsofthsm2.so",
)


@dataclass(frozen=True, slots=True)
class SoftHsm:
    """A directory of tokens. ``module`` finds them through ``environment``."""

    directory: Path
    module: str

    @property
    def tokens(self) -> Path:
        """Where the tokens are."""
        return self.directory / "tokens"

    @property
    def environment(self) -> Mapping[str, str]:
        """What a process that loads the module needs."""
        return {"SOFTHSM2_CONF": str(self.directory / "softhsm2.conf")}

    def add_token(self, label: str, *, pin: str = PIN) -> None:
        """Make a token with the user PIN ``pin``."""
        self.run(
            *("--init-token", "--free", "--label", label, "--so-pin", "13579135", "--pin", pin)
        )

    def run(self, *arguments: str) -> str:
        """Run softhsm2-util and return what it printed."""
        done = subprocess.run(
            [require_program("softhsm2-util", "softhsm2"), *arguments],
            env={**os.environ, **self.environment},
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    def write_pin(self, pin: str = PIN) -> Path:
        """Write a PIN as operators do; return the file."""
        path = self.directory / "pin"
        path.touch(mode=0o600)
        path.write_text(f"{pin}\n")
        return path


def make_softhsm(directory: Path) -> SoftHsm:
    """Make an empty directory of tokens. Skips, or fails, where SoftHSM2 isn't installed."""
    require_program("softhsm2-util", "softhsm2")
    require_module("pkcs11", "python-pkcs11")
    hsm = SoftHsm(directory, next(path for path in _MODULES if Path(path).exists()))
    hsm.tokens.mkdir(parents=True)
    (directory / "softhsm2.conf").write_text(
        f"directories.tokendir = {hsm.tokens}\nobjectstore.backend = file\nlog.level = ERROR\n"
    )
    return hsm
