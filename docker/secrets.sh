#!/usr/bin/env bash
# Makes the secrets that compose.yaml names, in docker/secrets. What is there stays.
set -euo pipefail
cd "$(dirname "$0")"
mkdir -p -m 0700 secrets
cd secrets
# The folder is closed, the files are open: in a container each is alone, and read by a user of its own.
umask 022
make_one() { [ -s "$1" ] || openssl rand -hex 32 > "$1"; }
make_one postgres
make_one database
make_one jwt
make_one mqtt
make_one dynsec
# 32 bytes in base64, as AES-256 wants them.
[ -s encryption ] || openssl rand -base64 32 > encryption
[ -s database-url ] || echo "postgres://smarthome:$(cat database)@postgres/smarthome" > database-url
