"""XXH64, HKDF-SHA256 and AES-256-GCM in Python alone, for the golden vectors. Slow, and not safe against timing."""

import hashlib
import hmac
import struct

MASK = (1 << 64) - 1
P1, P2, P3, P4, P5 = (0x9E3779B185EBCA87, 0xC2B2AE3D27D4EB4F, 0x165667B19E3779F9, 0x85EBCA77C2B2AE63, 0x27D4EB2F165667C5)


def rotate(word, bits):
    return (word << bits | word >> (64 - bits)) & MASK


def lane(sum_, word):
    return rotate((sum_ + word * P2) & MASK, 31) * P1 & MASK


def xxh64(data, seed=0):
    at = 0
    if len(data) >= 32:
        lanes = [(seed + P1 + P2) & MASK, (seed + P2) & MASK, seed, (seed - P1) & MASK]
        while at + 32 <= len(data):
            lanes = [lane(sum_, word) for sum_, word in zip(lanes, struct.unpack_from("<4Q", data, at))]
            at += 32
        total = sum(rotate(sum_, bits) for sum_, bits in zip(lanes, (1, 7, 12, 18))) & MASK
        for sum_ in lanes:
            total = ((total ^ lane(0, sum_)) * P1 + P4) & MASK
    else:
        total = (seed + P5) & MASK
    total = (total + len(data)) & MASK
    while at + 8 <= len(data):
        total = (rotate(total ^ lane(0, struct.unpack_from("<Q", data, at)[0]), 27) * P1 + P4) & MASK
        at += 8
    if at + 4 <= len(data):
        total = (rotate(total ^ struct.unpack_from("<I", data, at)[0] * P1 & MASK, 23) * P2 + P3) & MASK
        at += 4
    for byte in data[at:]:
        total = rotate(total ^ byte * P5 & MASK, 11) * P1 & MASK
    total = (total ^ total >> 33) * P2 & MASK
    total = (total ^ total >> 29) * P3 & MASK
    return total ^ total >> 32


def hkdf(key, salt, info, size):
    secret = hmac.digest(salt, key, "sha256")
    made, last = b"", b""
    while len(made) < size:
        last = hmac.digest(secret, last + info + bytes([len(made) // 32 + 1]), "sha256")
        made += last
    return made[:size]


def times_two(byte):
    return (byte << 1 ^ (0x11B if byte & 0x80 else 0)) & 0xFF


def make_box():
    """The S-box of AES: the inverse in GF(2^8), then an affine map."""
    powers, byte = [], 1
    for _ in range(255):
        powers.append(byte)
        byte ^= times_two(byte)  # 3 generates the field
    box = [0x63]
    for value in range(1, 256):
        inverse = powers[(255 - powers.index(value)) % 255]
        bits = inverse
        for shift in range(1, 5):
            bits ^= (inverse << shift | inverse >> (8 - shift)) & 0xFF
        box.append(bits ^ 0x63)
    return box


BOX = make_box()


def expand(key):
    words = [list(key[at:at + 4]) for at in range(0, 32, 4)]
    constant = 1
    for number in range(8, 60):
        word = list(words[-1])
        if number % 8 == 0:
            word = [BOX[byte] for byte in word[1:] + word[:1]]
            word[0] ^= constant
            constant = times_two(constant)
        elif number % 8 == 4:
            word = [BOX[byte] for byte in word]
        words.append([one ^ other for one, other in zip(words[-8], word)])
    return [sum(words[at:at + 4], []) for at in range(0, 60, 4)]


def encrypt(keys, block):
    state = [one ^ other for one, other in zip(block, keys[0])]
    for number, key in enumerate(keys[1:], 1):
        state = [BOX[state[(at + 4 * (at % 4)) % 16]] for at in range(16)]
        if number < len(keys) - 1:
            mixed = []
            for column in range(0, 16, 4):
                a = state[column:column + 4]
                every = a[0] ^ a[1] ^ a[2] ^ a[3]
                mixed += [a[row] ^ every ^ times_two(a[row] ^ a[(row + 1) % 4]) for row in range(4)]
            state = mixed
        state = [one ^ other for one, other in zip(state, key)]
    return bytes(state)


def multiply(one, other):
    product = 0
    for bit in range(127, -1, -1):
        if other >> bit & 1:
            product ^= one
        one = one >> 1 ^ (0xE1 << 120 if one & 1 else 0)
    return product


def gcm(key, nonce, text, associated):
    """The sealed text and its tag."""
    keys = expand(key)
    blocks = -(-len(text) // 16)
    stream = b"".join(encrypt(keys, nonce + struct.pack(">I", number + 2)) for number in range(blocks))
    sealed = bytes(one ^ other for one, other in zip(text, stream))
    root = int.from_bytes(encrypt(keys, bytes(16)), "big")
    padded = b"".join(part + bytes(-len(part) % 16) for part in (associated, sealed))
    padded += struct.pack(">QQ", 8 * len(associated), 8 * len(sealed))
    total = 0
    for at in range(0, len(padded), 16):
        total = multiply(total ^ int.from_bytes(padded[at:at + 16], "big"), root)
    mask = encrypt(keys, nonce + b"\0\0\0\1")
    return sealed, bytes(one ^ other for one, other in zip(total.to_bytes(16, "big"), mask))


def self_test():
    """Known answers, so that two equal mistakes don't agree."""
    assert xxh64(b"") == 0xEF46DB3751D8E999 and xxh64(b"abc") == 0x44BC2CF5AD770999
    assert hkdf(b"\x0b" * 22, bytes(range(13)), bytes(range(0xF0, 0xFA)), 42).hex().startswith("3cb25f25faacd57a90434f64")
    assert gcm(bytes(32), bytes(12), bytes(16), b"") == (
        bytes.fromhex("cea7403d4d606b6e074ec5d3baf39d18"), bytes.fromhex("d0d1c8a799996bf0265b98b5d48ab919"))
