#!/bin/sh
# Makes a certificate authority of your own, and a key and a certificate for each name.
#
#   sh certificates.sh FOLDER driver worker-1.example.org worker-2.example.org
#
# Give each machine ca.crt and its own NAME.crt and NAME.key, nothing else. ca.key can
# admit anyone: keep it off all of them.
set -eu
umask 077
folder=$1
shift
mkdir -p "$folder"
cd "$folder"
days=825
curve="-newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes"
if [ ! -e ca.key ]; then
  # Not quoted: several arguments.
  openssl req -x509 $curve -days "$days" -subj "/CN=fedtiny-tff workers" \
    -addext "keyUsage=critical,keyCertSign,cRLSign" -keyout ca.key -out ca.crt
fi
for name in "$@"; do
  openssl req $curve -subj "/CN=$name" -keyout "$name.key" -out "$name.csr"
  printf 'subjectAltName=DNS:%s\nextendedKeyUsage=serverAuth,clientAuth\n' "$name" \
    > "$name.ext"
  openssl x509 -req -in "$name.csr" -CA ca.crt -CAkey ca.key -CAcreateserial \
    -days "$days" -extfile "$name.ext" -out "$name.crt"
  rm "$name.csr" "$name.ext"
done
