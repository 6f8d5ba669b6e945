#!/bin/sh
# The picture of the rooms in docs/architecture.md is what the sources include now.
cd "$(dirname "$0")/.." || exit 2
docs/tables/rooms.sh | cmp - docs/pictures/rooms.svg && exit 0
echo "docs/pictures/rooms.svg is old: docs/tables/rooms.sh >docs/pictures/rooms.svg"
exit 1
