#!/usr/bin/env bash
# The API with curl: signs in, lists the homes, and prints the readings of one as they come.
# SMARTHOME_EMAIL=… SMARTHOME_PASSWORD=… ./curl.sh HOME_ID
set -euo pipefail
url=${SMARTHOME_URL:-http://127.0.0.1:4000/graphql}
json='content-type: application/json'

token=$(curl -s "$url" -H "$json" -d '{
  "query": "mutation($input: LoginInput!) { login(input: $input) { accessToken } }",
  "variables": {"input": {"email": "'"$SMARTHOME_EMAIL"'", "password": "'"$SMARTHOME_PASSWORD"'"}}
}' | sed -n 's/.*"accessToken":"\([^"]*\)".*/\1/p')

curl -s "$url" -H "$json" -H "authorization: Bearer $token" -d '{"query": "{ homes { id name } }"}'

curl -sN "$url" -H "$json" -H "authorization: Bearer $token" -H 'accept: text/event-stream' -d '{
  "query": "subscription($homeId: ID!) { homeTelemetry(homeId: $homeId) { id sensors { temperature } } }",
  "variables": {"homeId": "'"$1"'"}
}'
