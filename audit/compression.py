"""Records made small: zlib with a dictionary of what nearly every record says.

The dictionary is kept in the file, so that a later program with another one still reads it.
"""

from __future__ import annotations

import zlib

DICTIONARY = (
    b'"remedy":"add to spec.containers[0].resources.limits"use set "message":"is not pinned by digest; tag '
    b'"deny_after":"exception":"recreated":true"ignored":"not a model pod""error":"tidewaiter: "governance":'
    b'"patch":[{"op":"add","path":"/metadata/annotations","value":{"tidewaiter.dev/"}},{"op":"replace","path":"/spec/'
    b'containers/0/env","value":[{"name":"","value":""}]},{"op":"add","path":"/spec/securityContext","value":{'
    b'"runAsNonRoot":true,"seccompProfile":{"type":"RuntimeDefault"}}},{"op":"add","path":"/spec/tolerations","value":'
    b'[{"effect":"NoSchedule","key":"nvidia.com/gpu","operator":"Exists"}]},{"op":"add","path":"/spec/containers/0/'
    b'resources","value":{"limits":{"cpu":"4","memory":"16Gi","nvidia.com/gpu":"1"},"requests":{}}},{"op":"add",'
    b'"path":"/spec/initContainers","value":[{"image":"@sha256:","securityContext":{"allowPrivilegeEscalation":false,'
    b'"capabilities":{"drop":["ALL"]},"readOnlyRootFilesystem":true}}],"livenessProbe":"readinessProbe":"startupProbe":'
    b'"httpGet":{"path":"/v2/health/ready","port":8000},"periodSeconds":"failureThreshold":"volumeMounts":'
    b'{"allowed":true,"approval":{"age_seconds":0.0,"approvers":[""],"freshness":"fresh","registry":"","state":'
    b'"approved"},"digest":"sha256:","dry_run":false,"environment":"production","findings":[{"action":"warn",'
    b'"container":"","message":"","path":"spec.containers[0]","remedy":"","rule":""},{"action":"deny","container":"",'
    b'"message":""}],"group":"","groups":["system:serviceaccounts","system:serviceaccounts:kube-system",'
    b'"system:authenticated"],"id":"-","injections":[{"changes":["set ","add "],"mutator":"","preview":false},{"chang'
    b'es":[""],"mutator":"","preview":false}],"kind":"Pod","latency_ms":0.,"model":{"digest":"","name":"","uri":"","version"'
    b':""},"name":"","namespace":"","operation":"CREATE","policy_revision":"","previous":"0123456789abcdef","rec'
    b'ognised":"triton","replica":"tidewaiter-","schema":"tidewaiter.dev/decision/v1","sequence":1,"subresource":"",'
    b'"time":"2026-01-01T00:00:00.000Z","tolerated":0,"uid":"","user":"system:serviceaccount:kube-system:replicaset-controller"'
    b',"verdict":"allowed","webhook":"validate","workload":"inference","hash":"'
)


class Codec:
    """Compresses and expands with one dictionary."""

    def __init__(self, dictionary: bytes = DICTIONARY) -> None:
        self._compressor = zlib.compressobj(level=6, wbits=-15, zdict=dictionary)
        self._expander = zlib.decompressobj(wbits=-15, zdict=dictionary)

    def compress(self, line: bytes) -> bytes:
        """The small form."""
        fresh = self._compressor.copy()
        return fresh.compress(line) + fresh.flush()

    def expand(self, body: bytes) -> bytes:
        """The line; raises ``ValueError`` where the bytes are damaged."""
        fresh = self._expander.copy()
        try:
            line = fresh.decompress(body)
        except zlib.error:
            raise ValueError("its bytes are damaged") from None
        if not fresh.eof or fresh.unused_data:
            raise ValueError("its bytes are damaged")
        return line
