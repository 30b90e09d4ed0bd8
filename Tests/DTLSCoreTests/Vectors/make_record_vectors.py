#!/usr/bin/env python3
"""Writes RecordVectors.swift: what DTLS 1.2 makes of known keys and plaintexts, computed without this library.

    pip install cryptography
    python3 Tests/DTLSCoreTests/Vectors/make_record_vectors.py

Written from the RFCs alone, on Python's hmac and the AEAD ciphers of the package `cryptography`:

    RFC 5246 section 5              PRF, with SHA-256 or SHA-384
    RFC 5246 section 6.3            key block; no MAC keys, as all ciphers here are AEAD ciphers
    RFC 5246 section 6.2.3.3        additional data; RFC 6347 section 4.1: its seq_num is epoch and sequence number
    RFC 5288, RFC 6655, RFC 7251    nonces of GCM and CCM, tags of 16 and (CCM_8) 8 bytes
    RFC 7905                        nonces of ChaCha20-Poly1305
    RFC 9146 sections 4 and 5.3     records with a Connection ID
    RFC 5705 section 4              exported keying material

The output depends on nothing but this file: whatever is random in an association is SHA-256 of a label here. Every
vector has a master secret of its own, so that no key ever meets a nonce twice. All records are of epoch 1.

Before anything is written, the functions are held against published vectors and every record is opened again.
"""

import hashlib
import hmac
import itertools
import pathlib
import struct
from dataclasses import dataclass

from cryptography.hazmat.primitives.ciphers.aead import AESCCM, AESGCM, ChaCha20Poly1305

VERSION = bytes([0xFE, 0xFD])
EPOCH = 1
ALERT, HANDSHAKE, APPLICATION_DATA, TLS12_CID = 21, 22, 23, 25
EXPLICIT_NONCE_LENGTH = 8


@dataclass(frozen=True)
class Cipher:
    name: str
    digest: str
    key_length: int
    iv_length: int
    tag_length: int
    aead: object  # key -> an object with encrypt(nonce, data, associated_data) and decrypt

    @property
    def explicit_nonce_length(self):
        return 0 if self.iv_length == 12 else EXPLICIT_NONCE_LENGTH


def ccm(tag_length):
    return lambda key: AESCCM(key, tag_length=tag_length)


CIPHERS = [
    Cipher("aes128gcm", "SHA256", 16, 4, 16, AESGCM),
    Cipher("aes256gcm", "SHA384", 32, 4, 16, AESGCM),
    Cipher("aes128ccm", "SHA256", 16, 4, 16, ccm(16)),
    Cipher("aes256ccm", "SHA256", 32, 4, 16, ccm(16)),
    Cipher("aes128ccm8", "SHA256", 16, 4, 8, ccm(8)),
    Cipher("aes256ccm8", "SHA256", 32, 4, 8, ccm(8)),
    Cipher("chacha20poly1305", "SHA256", 32, 12, 16, ChaCha20Poly1305),
]


def pseudorandom(label, count):
    """Bytes for an input: SHA-256 of the label and of a counter, cut to length."""
    blocks = (hashlib.sha256(f"swift-dtls {label} {index}".encode()).digest() for index in range(count // 32 + 1))
    return b"".join(blocks)[:count]


def prf(digest, secret, label, seed, count):
    """RFC 5246 section 5: P_hash(secret, label + seed)."""

    def hmac_hash(data):
        return hmac.new(secret, data, digest.lower()).digest()

    seed = label.encode("ascii") + seed
    output, a = b"", seed
    while len(output) < count:
        a = hmac_hash(a)
        output += hmac_hash(a + seed)
    return output[:count]


def key_block(cipher, master_secret, client_random, server_random):
    """RFC 5246 section 6.3; here the server's random stands first."""
    count = 2 * (cipher.key_length + cipher.iv_length)
    return prf(cipher.digest, master_secret, "key expansion", server_random + client_random, count)


def write_keys(cipher, block, from_client):
    """The key and the IV of one direction: client_write_key, server_write_key, client_write_IV, server_write_IV."""
    side = 0 if from_client else 1
    ivs = 2 * cipher.key_length
    key = block[side * cipher.key_length :][: cipher.key_length]
    return key, block[ivs + side * cipher.iv_length :][: cipher.iv_length]


def epoch_and_sequence(sequence):
    return struct.pack(">Q", EPOCH << 48 | sequence)


def nonce(cipher, iv, explicit):
    """`explicit` are the eight bytes of epoch and sequence number, whether or not they are sent as the nonce."""
    if cipher.explicit_nonce_length:
        return iv + explicit
    return bytes(left ^ right for left, right in zip(iv, bytes(4) + explicit, strict=True))


def additional_data(content_type, sequence, cid, plaintext_length):
    length = struct.pack(">H", plaintext_length)
    if not cid:
        return epoch_and_sequence(sequence) + bytes([content_type]) + VERSION + length
    start = bytes([0xFF] * 8 + [TLS12_CID, len(cid), TLS12_CID])
    return start + VERSION + epoch_and_sequence(sequence) + cid + length


def seal(cipher, key, iv, content_type, sequence, cid, padding, content):
    """A whole record, header included."""
    assert cid or not padding, "only records with a Connection ID can be padded"
    plaintext = content + bytes([content_type]) + bytes(padding) if cid else content
    explicit = epoch_and_sequence(sequence)
    sealed = cipher.aead(key).encrypt(
        nonce(cipher, iv, explicit), plaintext, additional_data(content_type, sequence, cid, len(plaintext))
    )
    fragment = explicit[: cipher.explicit_nonce_length] + sealed
    outer_type = TLS12_CID if cid else content_type
    return bytes([outer_type]) + VERSION + explicit + cid + struct.pack(">H", len(fragment)) + fragment


def unseal(cipher, key, iv, cid_length, record):
    """The way back, from the record's own bytes alone: (content type, sequence number, CID, padding, content)."""
    header, fragment = record[: 13 + cid_length], record[13 + cid_length :]
    outer_type, version, epoch, high, low = struct.unpack(">B2sHHL", header[:11])
    cid, (length,) = header[11:-2], struct.unpack(">H", header[-2:])
    assert version == VERSION and epoch == EPOCH and length == len(fragment)
    assert (outer_type == TLS12_CID) == bool(cid_length)
    sequence = high << 32 | low

    sent = cipher.explicit_nonce_length
    explicit, sealed = fragment[:sent] or header[3:11], fragment[sent:]
    associated = additional_data(outer_type, sequence, cid, len(sealed) - cipher.tag_length)
    plaintext = cipher.aead(key).decrypt(nonce(cipher, iv, explicit), sealed, associated)
    if not cid:
        return outer_type, sequence, cid, 0, plaintext
    inner = plaintext.rstrip(b"\0")
    return inner[-1], sequence, cid, len(plaintext) - len(inner), inner[:-1]


def export(digest, master_secret, client_random, server_random, label, context, count):
    """RFC 5705 section 4. A context of no bytes is not the same as none."""
    seed = client_random + server_random
    if context is not None:
        seed += struct.pack(">H", len(context)) + context
    return prf(digest, master_secret, label, seed, count)


def check_published_vectors():
    """The PRF vectors of the TLS working group's list, msg03416; SP 800-38C example 3; GCM test case 4; RFC 8439."""

    def check(actual, expected):
        assert actual.hex() == expected, f"{actual.hex()} is not {expected}"

    from_hex = bytes.fromhex
    check(
        prf(
            "SHA256",
            from_hex("9bbe436ba940f017b17652849a71db35"),
            "test label",
            from_hex("a0ba9f936cda311827a6f796ffd5198c"),
            100,
        ),
        "e3f229ba727be17b8d122620557cd453c2aab21d07c3d495329b52d4e61edb5a6b301791e90d35c9c9a46b4e14baf9af"
        "0fa022f7077def17abfd3797c0564bab4fbc91666e9def9b97fce34f796789baa48082d122ee42c5a72e5a5110fff701"
        "87347b66",
    )
    check(
        prf(
            "SHA384",
            from_hex("b80b733d6ceefcdc71566ea48e5567df"),
            "test label",
            from_hex("cd665cf6a8447dd6ff8b27555edb7465"),
            148,
        ),
        "7b0c18e9ced410ed1804f2cfa34a336a1c14dffb4900bb5fd7942107e81c83cde9ca0faa60be9fe34f82b1233c9146a0"
        "e534cb400fed2700884f9dc236f80edd8bfa961144c9e8d792eca722a7b32fc3d416d473ebc2c5fd4abfdad05d918425"
        "9b5bf8cd4d90fa0d31e2dec479e4f1a26066f2eea9a69236a3e52655c9e9aee691c8f3a26854308d5eaa3be85e099070"
        "3d73e56f",
    )
    check(
        AESCCM(bytes(range(0x40, 0x50)), tag_length=8).encrypt(
            bytes(range(0x10, 0x1C)), bytes(range(0x20, 0x38)), bytes(range(0x14))
        ),
        "e3b201a9f5b71a7a9b1ceaeccd97e70b6176aad9a4428aa5484392fbc1b09951",
    )
    check(
        AESGCM(from_hex("feffe9928665731c6d6a8f9467308308")).encrypt(
            from_hex("cafebabefacedbaddecaf888"),
            from_hex(
                "d9313225f88406e5a55909c5aff5269a86a7a9531534f7da2e4c303d8a318a721c3c0c95956809532fcf0e2449a6b525"
                "b16aedf5aa0de657ba637b39"
            ),
            from_hex("feedfacedeadbeeffeedfacedeadbeefabaddad2"),
        )[-16:],
        "5bc94fbc3221a5db94fae95ae7121a47",
    )
    check(
        ChaCha20Poly1305(bytes(range(0x80, 0xA0))).encrypt(
            from_hex("070000004041424344454647"),
            b"Ladies and Gentlemen of the class of '99: If I could offer you only one tip for the future, "
            b"sunscreen would be it.",
            from_hex("50515253c0c1c2c3c4c5c6c7"),
        )[-16:],
        "1ae10b594f09e26a7e902ecbd0600691",
    )


SIZES = [0, 1, 15, 16, 17, 100, 1200]
SEQUENCES = [0, 1, 255, 2**32 + 5, 2**48 - 1]
CID_LENGTHS = [1, 4, 8, 32]
PADDINGS = [0, 1, 31]


def cases():
    """What is sealed with each cipher: (from client, kind of content, sequence number, CID length, padding)."""
    for index, size in enumerate(SIZES):
        yield True, size, SEQUENCES[index % 5], 0, 0
        yield False, size, SEQUENCES[(index + 2) % 5], 0, 0
    yield True, "close_notify", SEQUENCES[3], 0, 0
    yield False, "close_notify", 2, 0, 0
    yield True, "Finished", 0, 0, 0
    yield False, "Finished", 1, 0, 0
    # One of the contents is all zeros: where it ends, only the type between it and the padding says.
    contents = [100, "close_notify", 17, "Finished", 0, 16, "close_notify", 1, "zeros", 15, 100, "Finished"]
    for index, (cid_length, padding) in enumerate(itertools.product(CID_LENGTHS, PADDINGS)):
        yield index % 2 == 0, contents[index], SEQUENCES[index % 5], cid_length, padding


def content_of(kind, label):
    """(content type, description, bytes)"""
    if kind == "close_notify":
        return ALERT, kind, bytes([1, 0])
    if kind == "Finished":
        header = struct.pack(">L", 20 << 24 | 12) + struct.pack(">H", 4) + bytes(3) + (12).to_bytes(3, "big")
        return HANDSHAKE, kind, header + pseudorandom(f"{label} verify_data", 12)
    if kind == "zeros":
        return APPLICATION_DATA, "16 zeros", bytes(16)
    return APPLICATION_DATA, "1 byte" if kind == 1 else f"{kind} bytes", pseudorandom(f"{label} content", kind)


def swift(value):
    if value is None:
        return "nil"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, bytes):
        return f'"{value.hex()}"'
    return f'"{value}"' if isinstance(value, str) else str(value)


def swift_call(name, arguments):
    return f"{name}({', '.join(f'{key}: {swift(value)}' for key, value in arguments.items())})"


def association(label):
    return {
        "masterSecret": pseudorandom(f"{label} master secret", 48),
        "clientRandom": pseudorandom(f"{label} client random", 32),
        "serverRandom": pseudorandom(f"{label} server random", 32),
    }


def record_vectors(cipher):
    for from_client, kind, sequence, cid_length, padding in cases():
        name = f"{'client' if from_client else 'server'}, {content_of(kind, '')[1]}, sequence number {sequence}"
        if cid_length:
            name += f", CID of {cid_length}, padding of {padding}"
        label = f"{cipher.name}, {name}"
        content_type, _, content = content_of(kind, label)
        cid = pseudorandom(f"{label} CID", cid_length)

        secrets = association(label)
        block = key_block(cipher, *secrets.values())
        key, iv = write_keys(cipher, block, from_client)
        record = seal(cipher, key, iv, content_type, sequence, cid, padding, content)
        assert unseal(cipher, key, iv, cid_length, record) == (content_type, sequence, cid, padding, content), label
        yield {
            "cipher": cipher.name,
            "name": name,
            **secrets,
            "keyBlock": block,
            "fromClient": from_client,
            "contentType": content_type,
            "sequence": sequence,
            "cid": cid,
            "padding": padding,
            "plaintext": content,
            "record": record,
        }


def exporter_vectors():
    for digest in ["SHA256", "SHA384"]:
        secrets = association(f"exporter {digest}")
        for label, context, count in [
            ("EXTRACTOR-dtls_srtp", None, 60),
            ("EXPERIMENTAL-test", None, 32),
            ("EXPERIMENTAL-test", b"", 32),
            ("EXPERIMENTAL-test", pseudorandom(f"exporter {digest} context", 5), 32),
            ("EXPERIMENTAL-test", None, 100),
            ("EXPERIMENTAL-test", pseudorandom(f"exporter {digest} context", 5), 100),
        ]:
            output = export(digest, *secrets.values(), label, context, count)
            yield {"digest": digest, **secrets, "label": label, "context": context, "output": output}


HEADER = """\
// swift-format-ignore-file
// Made by make_record_vectors.py, which says how. Change that, not this.

/// A DTLS 1.2 record of epoch 1, and all that it is made of. Bytes are in hexadecimal.
struct RecordVector {
    let cipher: String
    let name: String
    let masterSecret, clientRandom, serverRandom: String
    /// client_write_key, server_write_key, client_write_IV, server_write_IV
    let keyBlock: String
    let fromClient: Bool
    /// The real type, where there is a Connection ID.
    let contentType: UInt8
    /// The 48 bits after the epoch.
    let sequence: UInt64
    /// Empty: none.
    let cid: String
    /// How many zeros follow the real type.
    let padding: Int
    /// The content alone: without real type and padding.
    let plaintext: String
    /// The whole record, header included.
    let record: String
}

/// Keying material as in RFC 5705. Bytes are in hexadecimal.
struct ExporterVector {
    let digest: String
    let masterSecret, clientRandom, serverRandom: String
    /// As text, not in hexadecimal.
    let label: String
    /// `nil` is no context, which is not the same as an empty one.
    let context: String?
    let output: String
}

enum RecordVectors {
"""


def main():
    check_published_vectors()
    names = ", ".join(cipher.name for cipher in CIPHERS)
    text = HEADER + f"    static let all: [RecordVector] = [{names}].flatMap {{ $0 }}\n"
    for cipher in CIPHERS:
        vectors = list(record_vectors(cipher))
        assert len({vector["name"] for vector in vectors}) == len(vectors)
        text += f"\n    private static let {cipher.name}: [RecordVector] = [\n"
        text += "".join(f"        {swift_call('RecordVector', vector)},\n" for vector in vectors)
        text += "    ]\n"
    text += "\n    static let exports: [ExporterVector] = [\n"
    text += "".join(f"        {swift_call('ExporterVector', vector)},\n" for vector in exporter_vectors())
    text += "    ]\n}\n"
    pathlib.Path(__file__).with_name("RecordVectors.swift").write_text(text, encoding="ascii", newline="\n")


if __name__ == "__main__":
    main()
