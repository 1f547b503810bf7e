"""Runs in moto's environment: fills buckets through AWS's own client.

Usage: s3_client.py ENDPOINT ACCESS SECRET COMMANDS, a JSON list of [method, {arguments}].
"""

import json
import sys

import boto3  # type: ignore[import-not-found,import-untyped,unused-ignore]  # in its own environment


def main() -> None:
    """Do what is asked, and print the version of each object that was put."""
    endpoint, access, secret, commands = sys.argv[1:5]
    client = boto3.client(
        "s3",
        endpoint_url=endpoint,
        aws_access_key_id=access,
        aws_secret_access_key=secret,
        region_name="us-east-1",
        config=boto3.session.Config(s3={"addressing_style": "path"}),
    )
    print(
        json.dumps(
            [getattr(client, method)(**arguments).get("VersionId", "") for method, arguments in json.loads(commands)]
        )
    )


main()
