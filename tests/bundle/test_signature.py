import sys

import pytest

from trt_lane.bundle.signature import check_signature, sign
from trt_lane.errors import TrtLaneError
from trt_lane.sealed_json import seal, unseal

pytest.importorskip("cryptography", reason="cryptography is not installed")

from signing_keys import write_keys

MANIFEST = b'{"model": "ufld"}'


@pytest.fixture
def fleet(tmp_path):
    return write_keys(tmp_path, "fleet")


def test_what_a_trusted_key_signed_is_taken(fleet):
    key, public = fleet
    assert check_signature(MANIFEST, sign(MANIFEST, key), [public]) == "signed by fleet.pub"


def test_any_other_manifest_under_the_signature_is_refused(fleet):
    key, public = fleet
    signature = sign(MANIFEST, key)
    for i in range(len(MANIFEST)):
        changed = MANIFEST[:i] + bytes([MANIFEST[i] ^ 1]) + MANIFEST[i + 1 :]
        for trusted in ([public], []):
            with pytest.raises(TrtLaneError, match="wrong"):
                check_signature(changed, signature, trusted)


def test_every_flipped_byte_of_the_signature_is_refused(fleet):
    key, _ = fleet
    whole = sign(MANIFEST, key)
    for i in range(len(whole)):
        bad = whole[:i] + bytes([whole[i] ^ 4]) + whole[i + 1 :]
        with pytest.raises(TrtLaneError):
            check_signature(MANIFEST, bad, [])


def test_a_signature_by_another_key_is_refused_where_keys_are_given(fleet, tmp_path):
    other, _ = write_keys(tmp_path, "other")
    with pytest.raises(TrtLaneError, match="none of this vehicle's keys"):
        check_signature(MANIFEST, sign(MANIFEST, other), [fleet[1]])
    assert "an unknown key" in check_signature(MANIFEST, sign(MANIFEST, other), [])


def test_another_public_key_in_front_of_a_signature_does_not_help(fleet, tmp_path):
    other, _ = write_keys(tmp_path, "other")
    forged = unseal(sign(MANIFEST, other)) | {
        "public_key": unseal(sign(MANIFEST, fleet[0]))["public_key"]
    }
    with pytest.raises(TrtLaneError, match="wrong"):
        check_signature(MANIFEST, seal(forged), [fleet[1]])


def test_unsigned_is_taken_only_where_no_key_is_given(fleet):
    assert check_signature(MANIFEST, None, []) == "unsigned"
    with pytest.raises(TrtLaneError, match="not signed"):
        check_signature(MANIFEST, None, [fleet[1]])


def test_a_signature_is_for_bundles_only(fleet):
    """The signed text begins with its purpose: a raw signature of the manifest is not one."""
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    key = load_pem_private_key(fleet[0].read_bytes(), None)
    forged = unseal(sign(MANIFEST, fleet[0])) | {"signature": key.sign(MANIFEST).hex()}
    with pytest.raises(TrtLaneError, match="wrong"):
        check_signature(MANIFEST, seal(forged), [fleet[1]])


@pytest.mark.parametrize("text", ["", "not a key", "-----BEGIN PUBLIC KEY-----\nAAAA\n"])
def test_a_file_that_is_no_key_is_named(fleet, tmp_path, text):
    (tmp_path / "bad.pub").write_text(text)
    with pytest.raises(TrtLaneError, match=r"bad\.pub"):
        check_signature(MANIFEST, sign(MANIFEST, fleet[0]), [tmp_path / "bad.pub"])
    with pytest.raises(TrtLaneError, match=r"bad\.pub"):
        sign(MANIFEST, tmp_path / "bad.pub")


def test_without_cryptography_trusted_keys_refuse_and_none_says_so(fleet, monkeypatch):
    signature = sign(MANIFEST, fleet[0])
    name = "cryptography.hazmat.primitives.asymmetric.ed25519"
    monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(TrtLaneError, match="pip install cryptography"):
        check_signature(MANIFEST, signature, [fleet[1]])
    assert "not checked" in check_signature(MANIFEST, signature, [])
