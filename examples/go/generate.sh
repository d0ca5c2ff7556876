#!/bin/sh
# Generates the Go client from Muster's proto files into ./gen, with buf (from npm) and the plugins that go.mod pins. Needs Go 1.26 and npm.
set -eu
cd "$(dirname "$0")"
npx --yes @bufbuild/buf@1.75.0 generate
