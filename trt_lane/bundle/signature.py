"""Ed25519 signatures of bundles: who made them, where a vehicle cares to know.

Keys are PEM files as OpenSSL writes them:
    openssl genpkey -algorithm ed25519 -out fleet.key
    openssl pkey -in fleet.key -pubout -out fleet.pub
"""

from __future__ import annotations

from collections.abc import Iterable
from importlib import import_module
from pathlib import Path
from typing import Any

from trt_lane.errors import TrtLaneError
from trt_lane.sealed_json import seal, unseal

SCHEMA = 1
# In front of what is signed, so that no signature made for another purpose fits.
_PURPOSE = b"trt_lane bundle manifest 1\n"


def sign(manifest: bytes, key_file: Path) -> bytes:
    """signature.json of a manifest, by the private key of that file."""
    ed25519 = _load()
    key = _read_key(key_file, "load_pem_private_key", ed25519.Ed25519PrivateKey, password=None)
    return seal(
        {
            "schema": SCHEMA,
            "public_key": _raw(key.public_key()).hex(),
            "signature": key.sign(_PURPOSE + manifest).hex(),
        }
    )


def check_signature(manifest: bytes, signature: bytes | None, trusted: Iterable[Path]) -> str:
    """Refuse a manifest that none of the trusted keys signed.

    Args:
        manifest: its bytes.
        signature: signature.json, or None for an unsigned bundle.
        trusted: public key files. None at all: unsigned bundles and unknown signers are accepted,
            but a signature that is there must be right.

    Returns:
        What was found, for people.

    Raises:
        TrtLaneError: the signature is missing, wrong, by somebody else, or cannot be checked.
    """
    files = list(trusted)
    if signature is None:
        if files:
            raise TrtLaneError(
                "the bundle is not signed, and this vehicle takes only what its keys signed "
                f"({', '.join(f.name for f in files)}); make it with `make bundle SIGN=KEY`"
            )
        return "unsigned"
    try:
        values = unseal(signature)
        public, given = bytes.fromhex(values["public_key"]), bytes.fromhex(values["signature"])
        sound = values["schema"] == SCHEMA and len(public) == 32 and len(given) == 64
    except (ValueError, KeyError, TypeError):
        sound = False
    if not sound:
        raise TrtLaneError("the bundle's signature is damaged; copy or make the bundle again")
    name = public.hex()[:16]
    try:
        ed25519 = _load()
    except TrtLaneError:
        if files:
            raise
        return f"signed by {name}…, not checked: no package cryptography here"
    keys = {f: _read_key(f, "load_pem_public_key", ed25519.Ed25519PublicKey) for f in files}
    by = next((f for f, key in keys.items() if _raw(key) == public), None)
    if files and by is None:
        raise TrtLaneError(
            f"the bundle is signed by {name}…, none of this vehicle's keys "
            f"({', '.join(f.name for f in files)}); ask who made it"
        )
    try:
        ed25519.Ed25519PublicKey.from_public_bytes(public).verify(given, _PURPOSE + manifest)
    except Exception as error:  # InvalidSignature, or a point that is none
        raise TrtLaneError(
            f"the bundle's signature is wrong ({type(error).__name__}); do not install it"
        ) from None
    return f"signed by {by.name}" if by else f"signed by {name}…, an unknown key"


def check_public_key(path: Path) -> None:
    """Refuse a file that is not an Ed25519 public key."""
    _read_key(path, "load_pem_public_key", _load().Ed25519PublicKey)


def _load() -> Any:
    try:
        return import_module("cryptography.hazmat.primitives.asymmetric.ed25519")
    except ImportError as error:
        raise TrtLaneError(
            f"signatures need the package cryptography ({error}); run: pip install cryptography"
        ) from None


def _raw(public_key: Any) -> bytes:
    """The 32 bytes of a public key; `public_bytes_raw` is younger than a vehicle's package."""
    kinds = import_module("cryptography.hazmat.primitives.serialization")
    return public_key.public_bytes(kinds.Encoding.Raw, kinds.PublicFormat.Raw)


def _read_key(path: Path, loader: str, kind: type, **options: Any) -> Any:
    serialization = import_module("cryptography.hazmat.primitives.serialization")
    try:
        key = getattr(serialization, loader)(path.read_bytes(), **options)
    except Exception as error:  # OSError, ValueError, UnsupportedAlgorithm, a password wanted
        raise TrtLaneError(f"cannot read the key {path}: {error}") from None
    if not isinstance(key, kind):
        raise TrtLaneError(f"{path} is {type(key).__name__}; expected an Ed25519 key in PEM")
    return key
