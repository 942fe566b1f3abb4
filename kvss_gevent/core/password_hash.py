"""Password hashes with scrypt (RFC 7914), as text `scrypt:N:R:P:salt:hash`, the last two in base64 (rule 12).

One hash costs 40 ms and 16 MiB. So passwords cannot be guessed quickly from a stolen file.
"""

import base64
import hashlib
import hmac
import secrets

N, R, P = 1 << 14, 8, 1
SALT_BYTES = 16
HASH_BYTES = 32
MAX_SCRYPT_BYTES = 64 << 20
MAX_PASSWORD_BYTES = 1024

NO_PASSWORD = f"scrypt:{N}:{R}:{P}:{'A' * 22}==:{'A' * 43}="
"""The hash of no password. The password of an unknown name is checked against it, so that both checks take as long."""


def hash_password(password: bytes) -> str:
    """Return the hash of a password, with a new salt. Raises ValueError for a password that AUTH cannot carry."""
    if not password or len(password) > MAX_PASSWORD_BYTES:
        raise ValueError(f"a password has 1 to {MAX_PASSWORD_BYTES} bytes")
    if b"\n" in password or b"\r" in password:
        raise ValueError("a password must not contain a line end, which ends a request")
    try:
        password.decode()
    except UnicodeDecodeError:
        raise ValueError("a password must be text in UTF-8, as each request is") from None
    salt = secrets.token_bytes(SALT_BYTES)
    digest = _scrypt(password, salt, N, R, P)
    return f"scrypt:{N}:{R}:{P}:{_base64(salt)}:{_base64(digest)}"


def verify_password(secret: str, password: bytes) -> bool:
    """Tell whether a password belongs to a hash; takes 40 ms of a processor in both cases."""
    _, n, r, p, salt, digest = secret.split(":")
    found = _scrypt(password[:MAX_PASSWORD_BYTES], base64.b64decode(salt), int(n), int(r), int(p))
    return hmac.compare_digest(found, base64.b64decode(digest))


def is_password_hash(secret: str) -> bool:
    """Tell whether a text is a hash that verify_password can use, with at most MAX_SCRYPT_BYTES of memory."""
    try:
        kind, n, r, p, salt, digest = secret.split(":")
        base64.b64decode(salt, validate=True)
        whole = len(base64.b64decode(digest, validate=True)) == HASH_BYTES
        cost, block, lanes = int(n), int(r), int(p)
        # More memory would let a wrong file stop the server. The other bounds are those of scrypt itself.
        fits = 128 * cost * block * lanes < MAX_SCRYPT_BYTES and min(cost - 1, block, lanes) > 0
        fits = fits and cost & (cost - 1) == 0 and cost.bit_length() <= 16 * block
    except ValueError:
        return False
    return kind == "scrypt" and whole and fits


def _scrypt(password: bytes, salt: bytes, n: int, r: int, p: int) -> bytes:
    return hashlib.scrypt(password, salt=salt, n=n, r=r, p=p, maxmem=2 * MAX_SCRYPT_BYTES, dklen=HASH_BYTES)


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode()
