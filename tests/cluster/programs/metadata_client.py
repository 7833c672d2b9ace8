"""Asks 169.254.169.254 for its role's credentials, as IMDSv2 has it; prints the access key."""

from __future__ import annotations

import http.client
import json

ROLES = "/latest/meta-data/iam/security-credentials/"


def ask(method: str, path: str, **headers: str) -> tuple[int, str]:
    connection = http.client.HTTPConnection("169.254.169.254", timeout=20)
    connection.request(
        method, path, headers={name.replace("_", "-"): value for name, value in headers.items()}
    )
    answer = connection.getresponse()
    return answer.status, answer.read().decode()


assert ask("GET", ROLES)[0] == 401
status, token = ask("PUT", "/latest/api/token", X_aws_ec2_metadata_token_ttl_seconds="60")
assert status == 200, status
status, role = ask("GET", ROLES, X_aws_ec2_metadata_token=token)
assert status == 200, status
status, text = ask("GET", f"{ROLES}{role}", X_aws_ec2_metadata_token=token)
assert status == 200, status
print(json.loads(text)["AccessKeyId"])
