#!/usr/bin/env python3
"""Starts a backup, watches it to its end, and reads the recovery point: over mutual TLS, with a generated client.

    examples/python/generate.sh generated
    muster context export tls
    PYTHONPATH=generated /usr/bin/python3 examples/python/backup.py --endpoint 127.0.0.1:7400 --tls tls orders-db

The request id makes the call safe to repeat: sent twice, it is the same backup. The exit code is 0 only where the backup
succeeded and the controller lists its point.
"""

import argparse
import pathlib
import sys
import time
import uuid

import grpc
from muster.v1 import fault_pb2, operation_pb2, operation_service_pb2, operation_service_pb2_grpc
from muster.v1 import recovery_service_pb2, recovery_service_pb2_grpc, repository_service_pb2, repository_service_pb2_grpc

ENDED = (
    operation_pb2.OPERATION_STATE_SUCCEEDED,
    operation_pb2.OPERATION_STATE_FAILED,
    operation_pb2.OPERATION_STATE_CANCELLED,
)
PATIENCE_SECONDS = 120


def connect(endpoint, tls):
    """A channel on which both sides prove who they are."""
    folder = pathlib.Path(tls)
    credentials = grpc.ssl_channel_credentials(
        root_certificates=(folder / "ca.pem").read_bytes(),
        private_key=(folder / "key.pem").read_bytes(),
        certificate_chain=(folder / "cert.pem").read_bytes(),
    )
    return grpc.secure_channel(endpoint, credentials)


def told(error):
    """What failed, and what to do next: from the `muster.v1.Fault` in the status's details (google.rpc.Status)."""
    for key, value in error.trailing_metadata() or ():
        at = value.find(b"type.googleapis.com/muster.v1.Fault") if key == "grpc-status-details-bin" else -1
        if at >= 0:
            fault = fault_pb2.Fault()
            # An Any is field 1 (the URL), then field 2: tag 0x12, a length as a varint, the message.
            rest = value[at + len(b"type.googleapis.com/muster.v1.Fault") + 1 :]
            length = shift = used = 0
            while True:
                byte = rest[used]
                length |= (byte & 0x7F) << shift
                used, shift = used + 1, shift + 7
                if byte < 0x80:
                    break
            fault.ParseFromString(rest[used : used + length])
            return f"{fault.message}. HINT: {fault.hint}"
    return error.details()


def patiently(call):
    """Repeats a call that is safe to repeat while the controller cannot be reached."""
    until = time.monotonic() + PATIENCE_SECONDS
    while True:
        try:
            return call()
        except grpc.RpcError as error:
            if error.code() != grpc.StatusCode.UNAVAILABLE or time.monotonic() > until:
                raise
            time.sleep(0.5)


def watch(channel, operation):
    """Follows an operation to its end, also through restarts of the controller: from the last transition that was seen."""
    operations = operation_service_pb2_grpc.OperationServiceStub(channel)
    while operation.state not in ENDED:
        request = operation_service_pb2.OperationServiceWatchRequest(id=operation.id, after_event=operation.last_event)
        try:
            for update in operations.Watch(request):
                if update.HasField("event"):
                    operation = update.event.operation
                    print(f"{update.event.number}: {update.event.text}", flush=True)
                else:
                    progress = update.progress.progress
                    print(f"   {progress.phase}: {progress.bytes_done} of {progress.bytes_total} bytes", flush=True)
        except grpc.RpcError as error:
            if error.code() != grpc.StatusCode.UNAVAILABLE:
                raise
            time.sleep(0.5)
        get = operation_service_pb2.OperationServiceGetRequest(id=operation.id)
        operation = patiently(lambda: operations.Get(get)).operation
    return operation


def main():
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--endpoint", default="127.0.0.1:7400")
    arguments.add_argument("--tls", required=True, help="the folder that `muster context export` wrote")
    arguments.add_argument("component")
    given = arguments.parse_args()
    with connect(given.endpoint, given.tls) as channel:
        recovery = recovery_service_pb2_grpc.RecoveryServiceStub(channel)
        request = recovery_service_pb2.BackupRequest(component=given.component, label="from Python", request_id=uuid.uuid4().hex)
        accepted = patiently(lambda: recovery.Backup(request)).operation
        again = patiently(lambda: recovery.Backup(request)).operation
        if again.id != accepted.id:
            sys.exit(f"one request id gave two operations: {accepted.id}, {again.id}")
        operation = watch(channel, accepted)
        if operation.state != operation_pb2.OPERATION_STATE_SUCCEEDED:
            sys.exit(f"{operation.id} {operation_pb2.OperationState.Name(operation.state)}: {operation.fault.message}. HINT: {operation.fault.hint}")
        repositories = repository_service_pb2_grpc.RepositoryServiceStub(channel)
        points = repositories.ListPoints(repository_service_pb2.ListPointsRequest(component=given.component)).points
        point = next((point for point in points if point.id == operation.backup.point_id), None)
        if point is None:
            sys.exit(f"the controller does not list point {operation.backup.point_id}")
        print(f"point {point.id} of {point.component}/{point.instance}: restores {point.bytes_total} bytes, added {point.bytes_stored}")


if __name__ == "__main__":
    try:
        main()
    except grpc.RpcError as error:
        sys.exit(f"{error.code().name}: {told(error)}")
