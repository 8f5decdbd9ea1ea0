#!/usr/bin/env bash
# Creates the secrets that compose.yaml names, in docker/secrets. Existing files are kept.
set -euo pipefail
cd "$(dirname "$0")"
mkdir -p secrets
chmod 0700 secrets
cd secrets
# Only the folder is private: in a container each file is mounted alone and read by another user.
umask 022
create() { [ -s "$1" ] || openssl rand -hex 32 > "$1"; }
create postgres
create database
create jwt
create mqtt
create dynsec
# 32 bytes in base64 for AES-256.
[ -s encryption ] || openssl rand -base64 32 > encryption
[ -s database-url ] || echo "postgres://smarthome:$(cat database)@postgres/smarthome" > database-url
