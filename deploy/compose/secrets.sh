#!/bin/sh
# Makes what docker-compose.yml reads from ./secrets. What is there already stays: run it again when one is missing.
set -eu
cd "$(dirname "$0")/../.."
mkdir -p secrets
# Containers run as users of their own and must read their secrets; on this machine only the folder's owner gets in.
chmod 700 secrets
umask 022

random() { od -An -vtx1 -N24 /dev/urandom | tr -d ' \n'; }
made=0
put() {
    if [ ! -s "secrets/$1" ]; then
        printf '%s\n' "$2" > "secrets/$1.new" && mv "secrets/$1.new" "secrets/$1"
        made=1
    fi
}
put caller_key "mgw_$(random)"
put admin_token "$(random)"
put postgres_password "$(random)"
put redis_password "$(random)"
put grafana_password "$(random)"
put database_url "postgresql://gateway:$(cat secrets/postgres_password)@postgres/gateway"
put redis_url "redis://:$(cat secrets/redis_password)@valkey:6379/0"
[ "$made" = 1 ] && echo "made secrets/; callers send what is in secrets/caller_key, Grafana's admin what is in secrets/grafana_password"
exit 0
