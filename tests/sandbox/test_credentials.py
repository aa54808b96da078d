import base64

import yaml

from dynawatt.sandbox.credentials import kubeconfig, new_tokens, signing_key_pem, token_file, write_private


def test_signing_keys_are_well_formed_and_new_each_time():
    keys = [signing_key_pem() for _ in range(2)]
    assert keys[0] != keys[1]
    der = base64.b64decode("".join(keys[0].splitlines()[1:-1]))
    assert der[:2] == bytes([0x30, len(der) - 2])
    assert max(map(len, keys[0].splitlines())) <= 64


def test_every_user_has_a_token_of_its_own():
    tokens = new_tokens()
    rows = [line.split(",") for line in token_file(tokens).splitlines()]
    assert [row[0] for row in rows] == list(tokens.values())
    assert len(set(tokens.values())) == len(tokens)
    assert {row[1] for row in rows if row[3] == ""} == {"system:kube-scheduler", "sandbox-prometheus"}


def test_kubeconfig_holds_everything():
    content = yaml.safe_load(kubeconfig(server="https://127.0.0.1:1", certificate=b"PEM", user="u", token="t"))
    cluster = content["clusters"][0]["cluster"]
    assert cluster == {"server": "https://127.0.0.1:1", "certificate-authority-data": base64.b64encode(b"PEM").decode()}
    assert content["users"][0] == {"name": "u", "user": {"token": "t"}}
    assert content["current-context"] == content["contexts"][0]["name"]


def test_secrets_are_private_and_rewritten_as_a_whole(tmp_path):
    path = tmp_path / "pki" / "secret"
    write_private(path, "a longer first content")
    write_private(path, "short")
    assert path.read_text() == "short"
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.parent.stat().st_mode & 0o777 == 0o700
