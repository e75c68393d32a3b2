#!/bin/sh
# Ask a served tagger over REST with nothing but curl and base64.
#
#     sh examples/curl.sh song.wav localhost:8501
#
# Takes a WAV file of 16 bits, of any rate and channels. MODEL is another name than keras_tagger.
set -eu

file=$1
base="http://${2:-localhost:8501}/v1/models/${MODEL:-keras_tagger}"

# Readiness: 404 until a version is available.
curl --fail --silent --show-error --output /dev/null "$base/metadata"

# The body goes through a pipe: it is too long for a command line.
predict() {
    { printf '{"signature_name": "%s", "inputs": {"%s": [{"b64": "' "$1" "$2"; base64 <"$file" | tr -d '\n'; printf '"}]}}'; } |
        curl --fail-with-body --silent --show-error --header 'Content-Type: application/json' --data-binary @- "$base:predict"
    echo
}

# Scores in the order of the export's assets/tags.txt.
predict wav audio_bytes
