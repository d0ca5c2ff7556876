#!/bin/sh
# Generates the Python client from Muster's proto files into the folder $1 (default: ./generated), with Debian's tools:
#   apt-get install protobuf-compiler protobuf-compiler-grpc libprotobuf-dev python3-grpcio python3-protobuf
# (python3-grpc-tools of Debian 12 refuses proto3 `optional`.)
set -eu
here=$(cd "$(dirname "$0")" && pwd)
proto=$here/../../proto
out=${1:-$here/generated}
mkdir -p "$out"
cd "$proto"
protoc -I. -I/usr/include --python_out="$out" --grpc_python_out="$out" \
    --plugin=protoc-gen-grpc_python="$(command -v grpc_python_plugin)" muster/v1/*.proto
echo "$out"
