#!/bin/bash
# Moves the secrets of ../.env into jarvis-secretsd, and makes new ones for those that are not worth keeping.
# Stays under its old name for runbooks that call it: `secretsctl import-env` does the work, migrate_secrets.map says
# what becomes of each variable. Options are passed on (--dry-run, --backup FILE --replace …).
set -euo pipefail

export JARVIS_SECRETS_URL=${JARVIS_SECRETS_URL:-http://127.0.0.1:8081}
export JARVIS_CLIENT_ID=${JARVIS_CLIENT_ID:-admin}

map=$(dirname "${BASH_SOURCE[0]}")/migrate_secrets.map

if ! command -v secretsctl >/dev/null; then
    echo "secretsctl is not on the PATH: install jarvis-secretsd first" >&2
    exit 1
fi

echo "Migrating secrets to jarvis-secretsd..."
echo ""
secretsctl import-env ../.env --map "$map" --yes \
    --require HOME_ASSISTANT_TOKEN --require HOME_ASSISTANT_URL --require BRAVE_API_KEY --require TAVILY_API_KEY "$@"

for option in "$@"; do
    case $option in -n | --dry-run) exit 0 ;; esac
done

echo ""
echo "Secret migration complete!"
echo ""
echo "Verifying secrets..."
secretsctl ls | tail -n +2 | wc -l

echo ""
echo "IMPORTANT: Update the database password manually. It is not shown here; fetch it where it is needed:"
echo "   { printf \"ALTER USER jarvis PASSWORD '\"; secretsctl get postgres_password; printf \"';\"; } |"
echo "       docker-compose exec -T postgres psql -U jarvis -d jarvis_db"
