#!/usr/bin/env bash
# Certificates for MQTT over TLS, made with OpenSSL: for the authority, the broker, the server, and each device that
# authenticates by certificate.
#
#   tls.sh DIR ca                             the authority: ca.key, ca.crt (keep ca.key away from the broker)
#   tls.sh DIR broker NAME[,NAME|ADDRESS…]    server.key, server.crt for the names devices connect to
#   tls.sh DIR client NAME                    a client whose MQTT user name is NAME: smarthome_backend, or
#                                             {home key}/{device key}; in clients/NAME.key and .crt
#   tls.sh DIR revoke NAME                    revokes a client's certificate: ca.crl
#   tls.sh DIR crl                            renews ca.crl before it expires
#
# Validity in days: CA_DAYS, DAYS, CRL_DAYS.
set -euo pipefail
umask 077

usage() { sed -n '2,13s/^# \{0,1\}//p' "$0" >&2; exit 2; }
[ $# -ge 2 ] || usage
dir=$1 what=$2 name=${3:-}
CA_DAYS=${CA_DAYS:-3650} DAYS=${DAYS:-825} CRL_DAYS=${CRL_DAYS:-30}
mkdir -p "$dir/clients"
cd "$dir"

# Elliptic curves: small enough for an ESP32, and faster than RSA.
key() { openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out "$1" 2> /dev/null; }

# sign NAME FILE EXTENSIONS: a request of that key, signed by the authority.
sign() {
    printf '%s\n' "basicConstraints=critical,CA:false" "keyUsage=critical,digitalSignature" \
        "authorityKeyIdentifier=keyid" "subjectKeyIdentifier=hash" "$3" > "$2.ext"
    # A / in a name separates fields, unless it is escaped.
    openssl req -new -key "$2.key" -subj "/CN=${1//\//\\/}" -utf8 -out "$2.csr"
    openssl x509 -req -in "$2.csr" -CA ca.crt -CAkey ca.key -set_serial "0x00$(openssl rand -hex 15)" \
        -days "$DAYS" -sha256 -extfile "$2.ext" -out "$2.crt" 2> /dev/null
    rm -f "$2.csr" "$2.ext"
}

# OpenSSL's list of revoked certificates.
crl() {
    touch index.txt
    [ -f crlnumber ] || echo 01 > crlnumber
    printf '%s\n' "[ca]" "default_ca=x" "[x]" "database=index.txt" "crlnumber=crlnumber" "default_md=sha256" > ca.cnf
    openssl ca -config ca.cnf -keyfile ca.key -cert ca.crt "$@" 2> /dev/null
    openssl ca -config ca.cnf -keyfile ca.key -cert ca.crt -gencrl -crldays "$CRL_DAYS" -out ca.crl 2> /dev/null
    rm -f ca.cnf
    chmod a+r ca.crl
}

has_authority() { [ -f ca.key ] || { echo "there is no authority in $dir: tls.sh $dir ca" >&2; exit 1; }; }
# A + or # in a name would be a wildcard in the access rules.
is_name() {
    local key='[A-Za-z0-9][A-Za-z0-9_.-]{0,63}'
    [[ $name =~ ^$key(/$key)?$ ]] || { echo "not a user name: $name" >&2; exit 1; }
}
is_new() { [ ! -e "$1" ] || { echo "$dir/$1 is there already: move it away first" >&2; exit 1; }; }

case $what in
ca)
    is_new ca.key
    key ca.key
    # Each authority has a unique name, which distinguishes its revocation list after it is replaced.
    openssl req -new -x509 -key ca.key -sha256 -days "$CA_DAYS" \
        -subj "/CN=smarthome MQTT authority $(openssl rand -hex 4)" \
        -addext "basicConstraints=critical,CA:true,pathlen:0" -addext "keyUsage=critical,keyCertSign,cRLSign" \
        -out ca.crt
    crl -updatedb
    chmod a+r ca.crt
    ;;
broker)
    [ -n "$name" ] || usage
    has_authority
    is_new server.key
    names=""
    for one in ${name//,/ }; do
        case $one in
        *:* | *[0-9].[0-9]*.[0-9]*.[0-9]*) names+=",IP:$one" ;;
        *) names+=",DNS:$one" ;;
        esac
    done
    key server.key
    sign "${name%%,*}" server "subjectAltName=${names#,}"$'\n'"extendedKeyUsage=serverAuth"
    chmod a+r server.crt
    ;;
client)
    [ -n "$name" ] || usage
    is_name
    has_authority
    is_new "clients/$name.key"
    mkdir -p "$(dirname "clients/$name")"
    key "clients/$name.key"
    sign "$name" "clients/$name" "extendedKeyUsage=clientAuth"
    ;;
revoke)
    [ -n "$name" ] || usage
    is_name
    has_authority
    crl -revoke "clients/$name.crt"
    ;;
crl)
    has_authority
    crl -updatedb
    ;;
*) usage ;;
esac
