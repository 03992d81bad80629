#!/usr/bin/env bash
# Runs the tests of remotes against a Ceph object gateway (radosgw), all of it on loopback.
#
#   bash tests/interop/ceph_s3.sh [FOLDER]      about 5 minutes, 350 MB, Debian 12, not in CI
#
# The packages are unpacked into FOLDER (default /tmp/stemma-ceph), not installed; one monitor, one
# storage daemon in memory and one gateway run until the tests end, and are stopped by their ids.
set -euo pipefail
FOLDER=${1:-/tmp/stemma-ceph}
PROJECT=$(cd "$(dirname "$0")/../.." && pwd)
ROOT=$FOLDER/root DATA=$FOLDER/run PORT=17380

if [ ! -x "$ROOT/usr/bin/radosgw" ]; then
  mkdir -p "$FOLDER/debs/partial" "$ROOT"
  apt-get install -y -qq --no-install-recommends --download-only \
    -o Dir::Cache::archives="$FOLDER/debs/" radosgw ceph-mon ceph-osd ceph-common
  for package in "$FOLDER"/debs/*.deb; do dpkg -x "$package" "$ROOT"; done
fi

rm -rf "$DATA"
mkdir -p "$DATA/mon" "$DATA/osd" "$DATA/out"
LIBRARIES=$ROOT/usr/lib/x86_64-linux-gnu
FSID=$(cat /proc/sys/kernel/random/uuid)
cat > "$DATA/ceph.conf" <<C
[global]
fsid = $FSID
mon initial members = a
mon host = [v2:127.0.0.1:17300,v1:127.0.0.1:17301]
public addr = 127.0.0.1
cluster addr = 127.0.0.1
ms bind ipv6 = false
osd pool default size = 1
osd pool default min size = 1
osd pool default pg num = 8
osd crush chooseleaf type = 0
osd max object name len = 256
osd objectstore = memstore
memstore device bytes = 4294967296
mon allow pool size one = true
mon data = $DATA/mon
osd data = $DATA/osd
keyring = $DATA/keyring
run dir = $DATA/out
crash dir = $DATA/out
admin socket = $DATA/out/\$name.asok
pid file = $DATA/out/\$name.pid
log file = $DATA/out/\$name.log
plugin dir = $LIBRARIES/ceph
erasure code dir = $LIBRARIES/ceph/erasure-code
osd class dir = $LIBRARIES/rados-classes
[client.rgw]
rgw frontends = beast endpoint=127.0.0.1:$PORT
C

# Ceph's own libraries must not reach the Python that runs the tests.
ceph() {
  local program=$1
  shift
  LD_LIBRARY_PATH=$ROOT/lib/x86_64-linux-gnu:$LIBRARIES:$ROOT/usr/lib:$LIBRARIES/ceph \
    PYTHONPATH=$ROOT/usr/lib/python3/dist-packages "$ROOT/usr/bin/$program" "$@"
}
PIDS=()
start() {
  local program=$1
  shift
  LD_LIBRARY_PATH=$ROOT/lib/x86_64-linux-gnu:$LIBRARIES:$ROOT/usr/lib:$LIBRARIES/ceph \
    "$ROOT/usr/bin/$program" -c "$DATA/ceph.conf" -f "$@" > "$DATA/out/$program.txt" 2>&1 &
  PIDS+=($!)
}
trap 'kill "${PIDS[@]}" 2> /dev/null || true; wait' EXIT

ceph ceph-authtool --create-keyring "$DATA/keyring" --gen-key -n mon. --cap mon 'allow *'
for name in client.admin client.rgw osd.0; do
  ceph ceph-authtool "$DATA/keyring" --gen-key -n $name --cap mon 'allow *' --cap osd 'allow *'
done
ceph monmaptool --create --fsid "$FSID" \
  --addv a "[v2:127.0.0.1:17300,v1:127.0.0.1:17301]" "$DATA/monmap"
ceph ceph-mon --mkfs -i a --monmap "$DATA/monmap" --keyring "$DATA/keyring" -c "$DATA/ceph.conf"
start ceph-mon -i a
sleep 3
OSD=$(cat /proc/sys/kernel/random/uuid)
LD_LIBRARY_PATH=$ROOT/lib/x86_64-linux-gnu:$LIBRARIES:$ROOT/usr/lib:$LIBRARIES/ceph \
  PYTHONPATH=$ROOT/usr/lib/python3/dist-packages \
  /usr/bin/python3 "$ROOT/usr/bin/ceph" -c "$DATA/ceph.conf" osd new "$OSD"
ceph ceph-osd -i 0 --mkfs --osd-uuid "$OSD" -c "$DATA/ceph.conf"
start ceph-osd -i 0
sleep 4
ceph radosgw-admin -c "$DATA/ceph.conf" -n client.rgw user create --uid=stemma \
  --display-name=stemma --access-key=test --secret=testtesttest > "$DATA/out/user.json"
start radosgw -n client.rgw
sleep 8

cd "$PROJECT"
STEMMA_TEST_S3_ENDPOINT=http://127.0.0.1:$PORT STEMMA_TEST_S3_KEY=test:testtesttest \
  .venv/bin/python -m pytest -p no:cacheprovider -q -k "CloudBackend or s3" \
  tests/contract/test_blob_backends.py tests/e2e/test_remotes.py
